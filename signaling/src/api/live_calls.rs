//! `/api/calls`: calls are made, seen, and told what to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use engine::ai::dialect::Dialect;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::{Json, Path};
use super::numbers::{parse, text};
use super::problem::Problem;
use super::routes::Api;
use crate::apps::{AppConfig, Ended, Originate, OriginateError, Wish};
use crate::call::{CallRequest, CallSummary, Control, ControlError, Gather, Gathered};
use crate::model::{Direction, Id, Moment, Role};
use crate::sip::TransferTarget;

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(initiate))
        .routes(routes!(active))
        .routes(routes!(one))
        .routes(routes!(hang_up))
        .routes(routes!(transfer))
        .routes(routes!(hold))
        .routes(routes!(unhold))
        .routes(routes!(mute))
        .routes(routes!(unmute))
        .routes(routes!(play))
        .routes(routes!(dtmf))
        .routes(routes!(gather))
}

/// A call to make. What answers it here is `agent`, `app` or `ai_handler_url`; without any of them the agent named
/// `default`, or else the first of the configuration.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(super) struct Initiate {
    /// Whom to call: a number, or a `sip:` URI.
    #[serde(alias = "phone_number")]
    #[schema(max_length = 256)]
    pub(super) to_number: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub(super) how: How,
}

/// How calls are made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(super) struct How {
    /// The calling number; the trunk's own if not given.
    #[schema(max_length = 128)]
    from_number: Option<String>,
    /// The trunk to take; else the routes decide.
    #[schema(max_length = 64)]
    trunk: Option<String>,
    /// The same by its other name.
    #[schema(max_length = 64)]
    gateway: Option<String>,
    /// What answers: `echo`, `wait` (silence, for calls that are driven through this API), or what the configuration's
    /// routes have under this name.
    #[schema(max_length = 128)]
    app: Option<String>,
    /// The agent of the configuration that answers.
    #[schema(max_length = 128)]
    agent: Option<String>,
    /// An agent that only this call has: `ws://` or `wss://`, spoken to as Twilio's media streams do.
    #[schema(max_length = 1024)]
    ai_handler_url: Option<String>,
    /// Kept with the call, and told to the agent.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// How long it may ring, in seconds.
    #[schema(minimum = 1, maximum = 600)]
    timeout: Option<u32>,
    /// Where events of this call are sent as well.
    #[schema(max_length = 1024)]
    webhook_url: Option<String>,
    /// What is not known.
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: BTreeMap<String, serde_json::Value>,
}

/// A call that was begun.
#[derive(Debug, Serialize, ToSchema)]
struct Begun {
    /// Names the call, and its record.
    call_id: Id,
    /// `initiated`.
    status: &'static str,
}

/// A call that runs, or ended not long ago.
#[derive(Debug, Serialize, ToSchema)]
struct LiveCall {
    /// Names the leg, and its record.
    call_id: Id,
    /// The same for all legs of a bridged call.
    call: Id,
    /// Who called whom.
    direction: Direction,
    /// `ringing`, `answered`, `held` or `ending`; `completed`, `failed`, `busy`, `no_answer` or `cancelled` when it is over.
    state: String,
    /// The calling number.
    from_number: String,
    /// The called number.
    to_number: String,
    /// The trunk that carries it.
    trunk: Option<String>,
    /// What runs in it.
    app: Option<String>,
    /// The agent, if that is one.
    agent: Option<String>,
    /// The Call-ID.
    sip_call_id: Option<String>,
    /// What is sent.
    codec: Option<String>,
    /// When it began.
    started_at: Moment,
    /// When it was answered.
    answered_at: Option<Moment>,
    /// The keys that were collected last.
    gathered: Option<Gathered>,
    /// How it ended.
    ended: Option<Ended>,
}

/// Calls that run.
#[derive(Debug, Serialize, ToSchema)]
struct ActiveCalls {
    /// How many.
    count: usize,
    /// Oldest first.
    calls: Vec<LiveCall>,
}

/// Where to transfer to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Transfer {
    /// A `sip:`, `sips:` or `tel:` URI.
    #[schema(max_length = 512)]
    target: String,
}

/// What to play.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Play {
    /// The name of a recording: that of a WAV file in the folder `prompts` of the data folder, with or without `.wav`.
    /// Nothing ends what plays.
    #[schema(max_length = 100)]
    file: Option<String>,
    /// Again and again.
    #[serde(default)]
    repeat: bool,
}

/// Keys to press.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Dtmf {
    /// `0` to `9`, `*`, `#`, `A` to `D`; a comma pauses for half a second.
    #[schema(min_length = 1, max_length = 128)]
    digits: String,
}

/// Keys to collect.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct GatherWish {
    /// Ends when there are so many.
    #[serde(default = "GatherWish::most")]
    #[schema(minimum = 1, maximum = 64)]
    max_digits: u32,
    /// Ends with one of these keys.
    #[serde(default = "GatherWish::hash")]
    #[schema(max_length = 16)]
    terminators: String,
    /// How long to wait for the first key, in milliseconds.
    #[serde(default = "GatherWish::first")]
    #[schema(minimum = 100, maximum = 600_000)]
    first_timeout_ms: u32,
    /// How long to wait for each further key, in milliseconds.
    #[serde(default = "GatherWish::further")]
    #[schema(minimum = 100, maximum = 60_000)]
    digit_timeout_ms: u32,
}

impl GatherWish {
    const fn most() -> u32 {
        16
    }

    fn hash() -> String {
        "#".to_owned()
    }

    const fn first() -> u32 {
        10_000
    }

    const fn further() -> u32 {
        4_000
    }
}

impl How {
    /// The call to make, but for whom.
    pub(super) fn originate(self, api: &Api, caller: &Caller) -> Result<Originate, Problem> {
        if let Some(field) = self.unknown.keys().next() {
            return Err(Problem::invalid(field.as_str(), "is not a field of this request"));
        }
        let outbound = api.control.outbound()?;
        let (trunk, gateway) = (self.trunk, self.gateway);
        if trunk.is_some() && gateway.is_some() {
            return Err(Problem::invalid("gateway", "is another name of trunk; give one of them"));
        }
        let wish = match (self.agent, self.app, self.ai_handler_url) {
            (Some(agent), None, None) => Wish::App(AppConfig::Agent(agent)),
            (None, Some(app), None) => match app.as_str() {
                "echo" => Wish::App(AppConfig::Echo),
                "wait" => Wish::Wait,
                name => match api.apps.app(name) {
                    Some(app) => Wish::App(app.clone()),
                    None => {
                        return Err(Problem::invalid(
                            "app",
                            "must be echo, wait, or what a route of the configuration names",
                        ));
                    }
                },
            },
            (None, None, Some(url)) => {
                check_url("ai_handler_url", &url, &["ws", "wss"])?;
                Wish::Handler(url, Dialect::Twilio)
            }
            (None, None, None) => match outbound.default_agent() {
                Some(agent) => Wish::App(AppConfig::Agent(agent)),
                None => return Err(Problem::invalid("app", "is needed: the configuration has no agent")),
            },
            _ => return Err(Problem::invalid("app", "give one of app, agent and ai_handler_url")),
        };
        if self.variables.len() > MOST_VARIABLES {
            return Err(Problem::invalid("variables", format!("must be at most {MOST_VARIABLES}")));
        }
        for (name, value) in &self.variables {
            let field = "variables";
            if name.is_empty()
                || name.len() > 64
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            {
                return Err(Problem::invalid(field, "names must have 1 to 64 letters, digits, - _ and ."));
            }
            text(field, value, 256)?;
        }
        if self.timeout.is_some_and(|seconds| !(1..=600).contains(&seconds)) {
            return Err(Problem::invalid("timeout", "must be 1 to 600 seconds"));
        }
        if let Some(url) = &self.webhook_url {
            check_url("webhook_url", url, &["http", "https"])?;
        }
        Ok(Originate {
            tenant: caller.tenant().clone(),
            from: self.from_number.unwrap_or_default(),
            to: String::new(),
            trunk: trunk.or(gateway),
            wish,
            timeout: self.timeout.map(|seconds| Duration::from_secs(seconds.into())),
            variables: self.variables,
            webhook_url: self.webhook_url,
        })
    }
}

/// Begins a call and answers at once; how it goes is told by events, and by `GET /api/calls/{id}`.
#[utoipa::path(post, path = "/api/calls/initiate", tag = "calls", operation_id = "initiate_call", request_body = Initiate,
    responses((status = 201, body = Begun)))]
async fn initiate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(wanted): Json<Initiate>,
) -> Result<(StatusCode, Json<Begun>), Problem> {
    caller.require(Role::Operator)?;
    let to = wanted.to_number.ok_or_else(|| Problem::invalid("to_number", "is needed"))?;
    let call = Originate { to, ..wanted.how.originate(&api, &caller)? };
    let target = call.to.clone();
    let call_id = api.control.outbound()?.originate(call).await.map_err(not_made)?;
    // Who calls whom is no secret from who may read the log.
    let entry =
        caller.entry("call.initiate", call_id.to_string()).after(&serde_json::json!({ "to_number": target }));
    let mut transaction = api.store.begin().await?;
    transaction.audit(&entry).await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(Begun { call_id, status: "initiated" })))
}

/// The tenant's calls that run.
#[utoipa::path(get, path = "/api/calls/active", tag = "calls", operation_id = "list_active_calls",
    responses((status = 200, body = ActiveCalls)))]
async fn active(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<ActiveCalls>, Problem> {
    caller.require(Role::Viewer)?;
    let ours = |call: &CallSummary| call.identity.tenant == *caller.tenant();
    let calls: Vec<LiveCall> = api.calls.list().into_iter().filter(ours).map(LiveCall::of).collect();
    Ok(Json(ActiveCalls { count: calls.len(), calls }))
}

/// A call that runs, or that we made and that ended not long ago; `/api/calls/cdr` has all that ended.
#[utoipa::path(get, path = "/api/calls/{id}", tag = "calls", operation_id = "show_call",
    params(("id" = Id, Path, description = "The call's id")), responses((status = 200, body = LiveCall)))]
async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<LiveCall>, Problem> {
    caller.require(Role::Viewer)?;
    if let Ok(call) = find(&api, &caller, &id) {
        return Ok(Json(LiveCall::of(call)));
    }
    let id = parse(&id)?;
    let ended = api.control.outbound.as_ref().and_then(|outbound| outbound.recent().call(id));
    match ended.filter(|ended| ended.tenant == *caller.tenant()) {
        Some(ended) => Ok(Json(LiveCall::ended(&ended))),
        None => Err(Problem::no_such("call", id)),
    }
}

/// Ends a call.
#[utoipa::path(post, path = "/api/calls/{id}/hangup", tag = "calls", operation_id = "hang_up_call",
    params(("id" = Id, Path, description = "The call's id")), responses((status = 202)))]
async fn hang_up(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::Operator)?;
    let call = find(&api, &caller, &id)?;
    if api.calls.hang_up(call.id) { Ok(StatusCode::ACCEPTED) } else { Err(Problem::no_such("call", id)) }
}

/// Asks the peer to call somebody else instead of us (REFER).
#[utoipa::path(post, path = "/api/calls/{id}/transfer", tag = "calls", operation_id = "transfer_call",
    params(("id" = Id, Path, description = "The call's id")), request_body = Transfer, responses((status = 202)))]
async fn transfer(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(wanted): Json<Transfer>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::Operator)?;
    let call = find(&api, &caller, &id)?;
    let target: TransferTarget =
        wanted.target.parse().map_err(|_| Problem::invalid("target", "must be a sip:, sips: or tel: URI"))?;
    if call.answered.is_none() {
        return Err(Problem::conflict("the call is not answered yet"));
    }
    if api.calls.request(call.id, CallRequest::Transfer(target)) {
        return Ok(StatusCode::ACCEPTED);
    }
    Err(Problem::conflict("the call has too much to do already, or is just ending"))
}

/// Puts the peer on hold.
#[utoipa::path(post, path = "/api/calls/{id}/hold", tag = "calls", operation_id = "hold_call",
    params(("id" = Id, Path, description = "The call's id")), responses((status = 204)))]
async fn hold(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    control(&api, &caller, &id, Control::Hold(true)).await
}

/// Takes the peer back from hold.
#[utoipa::path(post, path = "/api/calls/{id}/unhold", tag = "calls", operation_id = "unhold_call",
    params(("id" = Id, Path, description = "The call's id")), responses((status = 204)))]
async fn unhold(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    control(&api, &caller, &id, Control::Hold(false)).await
}

/// What the peer says reaches nobody any more.
#[utoipa::path(post, path = "/api/calls/{id}/mute", tag = "calls", operation_id = "mute_call",
    params(("id" = Id, Path, description = "The call's id")), responses((status = 204)))]
async fn mute(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    control(&api, &caller, &id, Control::Mute(true)).await
}

/// What the peer says is heard again.
#[utoipa::path(post, path = "/api/calls/{id}/unmute", tag = "calls", operation_id = "unmute_call",
    params(("id" = Id, Path, description = "The call's id")), responses((status = 204)))]
async fn unmute(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    control(&api, &caller, &id, Control::Mute(false)).await
}

/// Plays a recording to the peer, or ends what plays.
#[utoipa::path(post, path = "/api/calls/{id}/play", tag = "calls", operation_id = "play_to_call",
    params(("id" = Id, Path, description = "The call's id")), request_body = Play, responses((status = 204)))]
async fn play(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(wanted): Json<Play>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::Operator)?;
    find(&api, &caller, &id)?;
    let wish = match wanted.file {
        None => Control::StopPlaying,
        Some(name) => {
            let samples = api.control.outbound()?.recording(&name).await;
            let samples = samples.map_err(|error| Problem::invalid("file", error))?;
            Control::Play { samples, repeat: wanted.repeat }
        }
    };
    control(&api, &caller, &id, wish).await
}

/// Presses keys at the peer's side.
#[utoipa::path(post, path = "/api/calls/{id}/dtmf", tag = "calls", operation_id = "press_keys",
    params(("id" = Id, Path, description = "The call's id")), request_body = Dtmf, responses((status = 204)))]
async fn dtmf(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(wanted): Json<Dtmf>,
) -> Result<StatusCode, Problem> {
    control(&api, &caller, &id, Control::Press(wanted.digits)).await
}

/// Collects keys that the peer presses; the call shows them as `gathered` when there are enough.
#[utoipa::path(post, path = "/api/calls/{id}/gather", tag = "calls", operation_id = "gather_keys",
    params(("id" = Id, Path, description = "The call's id")), request_body = GatherWish, responses((status = 204)))]
async fn gather(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(wanted): Json<GatherWish>,
) -> Result<StatusCode, Problem> {
    caller.require(Role::Operator)?;
    let within = |field: &str, value: u32, low: u32, high: u32| {
        let fits = (low..=high).contains(&value);
        if fits { Ok(()) } else { Err(Problem::invalid(field, format!("must be {low} to {high}"))) }
    };
    within("max_digits", wanted.max_digits, 1, 64)?;
    within("first_timeout_ms", wanted.first_timeout_ms, 100, 600_000)?;
    within("digit_timeout_ms", wanted.digit_timeout_ms, 100, 60_000)?;
    let is_key = |key: char| key.is_ascii_digit() || matches!(key, '*' | '#' | 'A'..='D');
    if wanted.terminators.len() > 16 || !wanted.terminators.chars().all(is_key) {
        return Err(Problem::invalid("terminators", "must be at most 16 of the keys 0 to 9, *, #, A to D"));
    }
    let wish = Gather {
        max_digits: wanted.max_digits as usize,
        terminators: wanted.terminators,
        first_timeout: Duration::from_millis(wanted.first_timeout_ms.into()),
        digit_timeout: Duration::from_millis(wanted.digit_timeout_ms.into()),
    };
    control(&api, &caller, &id, Control::Gather(wish)).await
}

/// The tenant's call of that id, while it runs.
pub(super) fn find(api: &Api, caller: &Caller, id: &str) -> Result<CallSummary, Problem> {
    let leg = parse(id)?;
    let call = api.calls.call_by_leg(leg).filter(|call| call.identity.tenant == *caller.tenant());
    call.ok_or_else(|| Problem::no_such("call", leg))
}

async fn control(api: &Api, caller: &Caller, id: &str, wish: Control) -> Result<StatusCode, Problem> {
    caller.require(Role::Operator)?;
    let call = find(api, caller, id)?;
    if call.answered.is_none() {
        return Err(Problem::conflict("the call is not answered yet"));
    }
    let (reply, done) = oneshot::channel();
    if !api.calls.request(call.id, CallRequest::Control(wish, reply)) {
        return Err(Problem::conflict("the call has too much to do already, or is just ending"));
    }
    match timeout(PATIENCE, done).await {
        Ok(Ok(Ok(()))) => Ok(StatusCode::NO_CONTENT),
        Ok(Ok(Err(error @ (ControlError::NotWithThisApp(_) | ControlError::NotNow(_))))) => {
            Err(Problem::conflict(error.to_string()))
        }
        Ok(Ok(Err(ControlError::Invalid(detail)))) => Err(Problem::unprocessable(detail)),
        Ok(Ok(Err(ControlError::Failed(detail)))) => Err(Problem::bad_gateway(detail)),
        Ok(Err(_)) => Err(Problem::conflict("the call ended meanwhile")),
        Err(_) => Err(Problem::bad_gateway("the peer did not answer in time")),
    }
}

pub(super) fn not_made(error: OriginateError) -> Problem {
    match error {
        OriginateError::Invalid { field, reason } => Problem::invalid(field, reason),
        OriginateError::NoRoute { reason, .. } => {
            Problem::unavailable(format!("{reason}; POST /api/routes/test explains it"))
        }
        error @ OriginateError::Full => Problem::unavailable(error.to_string()),
        OriginateError::Store(error) => error.into(),
    }
}

fn check_url(field: &str, url: &str, schemes: &[&str]) -> Result<(), Problem> {
    text(field, url, 1024)?;
    let parsed: Option<axum::http::Uri> = url.parse().ok();
    let usable = parsed.is_some_and(|uri| {
        uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
            && uri
                .authority()
                .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
    });
    if usable {
        return Ok(());
    }
    Err(Problem::invalid(
        field,
        format!("must be an address that begins with {}://, without a password", schemes.join(":// or ")),
    ))
}

impl LiveCall {
    fn of(call: CallSummary) -> Self {
        let identity = call.identity;
        Self {
            call_id: identity.leg,
            call: identity.call,
            direction: identity.direction,
            state: call.state.name().to_owned(),
            from_number: identity.from,
            to_number: identity.to,
            trunk: identity.trunk,
            app: Some(call.app.to_owned()),
            agent: call.agent,
            sip_call_id: Some(call.call_id).filter(|id| !id.is_empty()),
            codec: call.codec.map(|codec| codec.name().to_owned()),
            started_at: call.since.into(),
            answered_at: call.answered.map(Into::into),
            gathered: call.gathered,
            ended: None,
        }
    }

    fn ended(ended: &Ended) -> Self {
        let state = serde_json::to_value(ended.state).ok();
        Self {
            call_id: ended.id,
            call: ended.id,
            direction: Direction::Outbound,
            state: state.and_then(|state| state.as_str().map(str::to_owned)).unwrap_or_default(),
            from_number: ended.from.clone(),
            to_number: ended.to.clone(),
            trunk: ended.attempts.last().map(|attempt| attempt.target.clone()),
            app: None,
            agent: None,
            sip_call_id: None,
            codec: None,
            started_at: ended.started_at,
            answered_at: ended.answered_at,
            gathered: None,
            ended: Some(ended.clone()),
        }
    }
}

/// How long a call may take for what it is asked.
const PATIENCE: Duration = Duration::from_secs(8);
const MOST_VARIABLES: usize = 32;
