//! The calls resource of Twilio's REST API, as far as bots that were written for Twilio use it: one running call is
//! shown, ended or sent elsewhere. Open only to who knows the signing token of the call's agent.

mod twiml;
mod view;

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::ai::Secret;
use serde::Deserialize;
use serde_json::json;

use self::twiml::Instruction;
pub use self::twiml::fuzz_twiml;
use super::routes::Api;
use crate::apps::AgentConfig;
use crate::call::{CallRequest, CallState, CallSummary};

/// The one path of the resource.
pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/2010-04-01/Accounts/{account}/Calls/{call}", routing::get(show).post(update))
}

/// What a bot may want of a call. Names that we do not know are ignored, as Twilio does.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Update {
    status: Option<String>,
    twiml: Option<String>,
    url: Option<String>,
}

/// `GET /2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}.json`
async fn show(
    State(api): State<Arc<Api>>,
    Path((account, call)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    match find(&api, &account, &call, &headers).await {
        Ok(found) => Json(view::call(&found.summary, &account)).into_response(),
        Err(refusal) => refusal,
    }
}

/// `POST /2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}.json`
async fn update(
    State(api): State<Arc<Api>>,
    Path((account, call)): Path<(String, String)>,
    headers: HeaderMap,
    form: Result<Form<Update>, FormRejection>,
) -> Response {
    let found = match find(&api, &account, &call, &headers).await {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    let Ok(Form(update)) = form else {
        return error(
            StatusCode::BAD_REQUEST,
            20001,
            "send the parameters as application/x-www-form-urlencoded",
        );
    };
    let request = match wanted(&update) {
        Ok(Instruction::HangUp) => CallRequest::HangUp,
        Ok(Instruction::Transfer(whom)) => match found.agent.transfer_target(&whom) {
            Some(target) => CallRequest::Transfer(target.clone()),
            None => {
                let message = format!(
                    "calls are only transferred to places of the configuration; add this one to agents.{}.transfers",
                    found.agent.name
                );
                return error(StatusCode::BAD_REQUEST, 13223, &message);
            }
        },
        Err(refusal) => return error(StatusCode::BAD_REQUEST, 21218, &refusal),
    };
    let ends = matches!(request, CallRequest::HangUp);
    if !api.calls.request(found.summary.id, request) {
        return error(StatusCode::CONFLICT, 21220, "the call is ending, or has too many requests waiting");
    }
    let state = if ends { CallState::Ending } else { found.summary.state };
    Json(view::call(&CallSummary { state, ..found.summary }, &account)).into_response()
}

/// What an update asks for.
fn wanted(update: &Update) -> Result<Instruction, String> {
    match (update.status.as_deref(), &update.twiml, &update.url) {
        (Some("completed" | "canceled"), None, None) => Ok(Instruction::HangUp),
        (None, Some(text), None) => twiml::read(text),
        (None, None, Some(_)) => {
            Err("Url is not supported: this server fetches no TwiML; send it as Twiml".to_owned())
        }
        (Some(_), None, None) => Err("Status must be completed or canceled".to_owned()),
        _ => Err("send Status=completed or Twiml, and one of them only".to_owned()),
    }
}

struct Found {
    summary: CallSummary,
    agent: AgentConfig,
}

/// The call, if the request proves that it knows the token of the account and the call is the account's.
async fn find(api: &Api, account: &str, call: &str, headers: &HeaderMap) -> Result<Found, Response> {
    let agents: Vec<AgentConfig> =
        api.apps.agent_configs().filter(|agent| agent.signing_token.is_some()).cloned().collect();
    if agents.is_empty() {
        return Err(error(
            StatusCode::NOT_FOUND,
            20404,
            "the calls resource is off; give an agent a signing_token_env or signing_token_file to switch it on",
        ));
    }
    let credentials = credentials(headers);
    let wanted = account.to_owned();
    let mine = move || {
        let (name, password) = credentials?;
        let mut mine = agents;
        // All are looked at, so that the time tells nothing.
        mine.retain(|agent| {
            let token = agent.signing_token.as_ref().and_then(read);
            let is_mine = token.is_some_and(|token| equal(&token, &password));
            is_mine & (agent.account() == wanted) & (name == wanted)
        });
        Some(mine)
    };
    // A token may be in a file.
    let mine = tokio::task::spawn_blocking(mine).await.ok().flatten().unwrap_or_default();
    if mine.is_empty() {
        let mut refusal = error(StatusCode::UNAUTHORIZED, 20003, "Authenticate");
        let challenge = header::HeaderValue::from_static("Basic realm=\"calls\"");
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return Err(refusal);
    }
    let sid = call.strip_suffix(".json").unwrap_or(call);
    let summary = api.calls.call_by_sid(sid);
    summary
        .and_then(|summary| {
            let agent = mine.into_iter().find(|agent| summary.agent.as_ref() == Some(&agent.name))?;
            Some(Found { summary, agent })
        })
        .ok_or_else(|| error(StatusCode::NOT_FOUND, 20404, "there is no such call now"))
}

/// RFC 7617.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(encoded.trim()).ok()?).ok()?;
    text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

fn read(secret: &Secret) -> Option<String> {
    let text = match secret {
        Secret::Env(name) => std::env::var(name).ok()?,
        Secret::File(path) => std::fs::read_to_string(path).ok()?,
    };
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// In a time that depends on the lengths only.
fn equal(one: &str, other: &str) -> bool {
    let differ = one.bytes().zip(other.bytes()).fold(0, |differ, (one, other)| differ | (one ^ other));
    one.len() == other.len() && differ == 0
}

/// An error as Twilio's libraries read it.
fn error(status: StatusCode, code: u32, message: &str) -> Response {
    let body = json!({ "status": status.as_u16(), "code": code, "message": message, "more_info": "" });
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(status: Option<&str>, twiml: Option<&str>, url: Option<&str>) -> Result<Instruction, String> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        wanted(&Update { status: owned(status), twiml: owned(twiml), url: owned(url) })
    }

    #[test]
    fn an_update_asks_for_one_thing() {
        assert_eq!(update(Some("completed"), None, None), Ok(Instruction::HangUp));
        assert_eq!(update(Some("canceled"), None, None), Ok(Instruction::HangUp));
        assert_eq!(update(None, Some("<Response><Hangup/></Response>"), None), Ok(Instruction::HangUp));
        assert!(update(Some("busy"), None, None).is_err());
        assert!(update(None, None, None).is_err());
        assert!(update(Some("completed"), Some("<Response/>"), None).is_err());
        assert!(update(None, None, Some("https://example.com/")).is_err_and(|error| error.contains("Twiml")));
    }

    #[test]
    fn passwords_are_compared_whole() {
        assert!(equal("secret", "secret"));
        for other in ["", "secre", "secrets", "Secret", "secreT"] {
            assert!(!equal("secret", other), "{other}");
        }
    }

    #[test]
    fn credentials_are_a_name_and_a_password() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            credentials(&headers)
        };
        assert_eq!(of("Basic QUMxOmE6Yg=="), Some(("AC1".into(), "a:b".into())));
        for bad in ["Bearer QUMxOmE6Yg==", "Basic", "Basic %%%", "Basic QUMx", "Basic gICA"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
