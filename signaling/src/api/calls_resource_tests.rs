//! The calls resource over a real socket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::ai::Secret;
use serde_json::Value;

use super::tests::{Server, exchange, server_with, summary};
use crate::apps::AgentConfig;
use crate::call::{CallRequest, CallSummary};

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const SID: &str = "CAfedcba9876543210fedcba9876543210";

/// An agent that has a token, in a file of its own.
fn agent(name: &str, account: &str, token: &str) -> AgentConfig {
    let file = std::env::temp_dir().join(format!("sidetone-token-{}-{name}-{token}", std::process::id()));
    std::fs::write(&file, format!("{token}\n")).expect("written");
    let sales = "sip:+4930123@pbx.example.com".parse().expect("a target");
    AgentConfig {
        name: name.into(),
        url: "ws://127.0.0.1:9/".into(),
        account_sid: account.into(),
        signing_token: Some(Secret::File(file)),
        transfers: [("sales".to_owned(), sales)].into(),
        ..AgentConfig::default()
    }
}

fn of_agent(name: &str, sid: &str) -> CallSummary {
    CallSummary { agent: Some(name.into()), call_sid: Some(sid.into()), ..summary() }
}

/// Asks as `user:password` with a form, if there is one.
async fn ask(
    server: &Server,
    account: &str,
    sid: &str,
    user: Option<&str>,
    form: Option<&str>,
) -> (u16, Value) {
    let method = if form.is_some() { "POST" } else { "GET" };
    let user =
        user.map(|user| format!("Authorization: Basic {}\r\n", BASE64.encode(user))).unwrap_or_default();
    let form = form.unwrap_or_default();
    let answer = exchange(
        server,
        &format!(
            "{method} /2010-04-01/Accounts/{account}/Calls/{sid}.json HTTP/1.1\r\nHost: localhost\r\n{user}\
             Connection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    )
    .await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON in {answer}")))
}

#[tokio::test]
async fn the_resource_is_off_without_a_token() {
    let server = server_with(9, Vec::new()).await;
    let (status, error) = ask(&server, ACCOUNT, SID, Some("a:b"), None).await;
    assert_eq!(status, 404);
    assert!(
        error["message"].as_str().is_some_and(|message| message.contains("signing_token_env")),
        "{error}"
    );
}

#[tokio::test]
async fn only_who_knows_the_token_sees_the_accounts_calls() {
    let other = "ACffffffffffffffffffffffffffffffff";
    let server = server_with(9, vec![agent("bot", ACCOUNT, "secret"), agent("other", other, "word")]).await;
    let entry = server.calls.admit(of_agent("bot", SID)).expect("room");
    let right = format!("{ACCOUNT}:secret");
    for user in [
        None,
        Some("x:y"),
        Some(&*format!("{ACCOUNT}:word")),
        Some(&*format!("{other}:secret")),
        Some("secret"),
    ] {
        let (status, error) = ask(&server, ACCOUNT, SID, user, None).await;
        assert_eq!((status, &error["code"]), (401, &20003.into()), "{user:?}");
    }
    let (status, call) = ask(&server, ACCOUNT, SID, Some(&right), None).await;
    assert_eq!(status, 200, "{call}");
    assert_eq!(
        (&call["sid"], &call["account_sid"], &call["status"]),
        (&SID.into(), &ACCOUNT.into(), &"in-progress".into())
    );
    assert_eq!(call["uri"], format!("/2010-04-01/Accounts/{ACCOUNT}/Calls/{SID}.json"));
    // The other account's token is good for its own calls only.
    let (status, _) = ask(&server, other, SID, Some(&format!("{other}:word")), None).await;
    assert_eq!(status, 404);
    drop(entry);
    let (status, error) = ask(&server, ACCOUNT, SID, Some(&right), None).await;
    assert_eq!((status, &error["code"]), (404, &20404.into()));
}

#[tokio::test]
async fn a_call_is_ended_and_transferred() {
    let server = server_with(9, vec![agent("bot", ACCOUNT, "secret")]).await;
    let mut entry = server.calls.admit(of_agent("bot", SID)).expect("room");
    let user = format!("{ACCOUNT}:secret");
    let (status, call) = ask(&server, ACCOUNT, SID, Some(&user), Some("Status=completed&Unknown=1")).await;
    assert_eq!((status, &call["status"]), (200, &"completed".into()));
    assert!(matches!(entry.next_request().await, CallRequest::HangUp));

    let dial = "Twiml=%3CResponse%3E%3CDial%3E%2B4930123%3C%2FDial%3E%3C%2FResponse%3E";
    let (status, call) = ask(&server, ACCOUNT, SID, Some(&user), Some(dial)).await;
    assert_eq!((status, &call["status"]), (200, &"in-progress".into()));
    let CallRequest::Transfer(target) = entry.next_request().await else { panic!("a transfer") };
    assert_eq!(target.as_str(), "sip:+4930123@pbx.example.com");

    for (form, expected) in [
        ("Twiml=%3CResponse%3E%3CDial%3E%2B1900%3C%2FDial%3E%3C%2FResponse%3E", "agents.bot.transfers"),
        ("Twiml=%3CResponse%3E%3CPlay%3Ex%3C%2FPlay%3E%3C%2FResponse%3E", "through its stream"),
        ("Url=https%3A%2F%2Fexample.com", "send it as Twiml"),
        ("Status=busy", "completed or canceled"),
        ("", "one of them only"),
    ] {
        let (status, error) = ask(&server, ACCOUNT, SID, Some(&user), Some(form)).await;
        assert_eq!(status, 400, "{form}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(expected)), "{form}: {error}");
    }
}
