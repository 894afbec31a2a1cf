//! What bots want of their calls: a realtime model with tools, in this process.

mod call_support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use call_support::{House, Message as Sip, PATIENCE, Phone};
use engine::ai::dialect::{AgentSettings, Dialect, Tool};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sidetone_signaling::apps::{
    AgentConfig, AppConfig, AppsConfig, OnClose, RouteRule, ToolAction, ToolConfig, UserPattern,
};
use sidetone_signaling::call::{CallConfig, CallRequest};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// A model that waits for calls.
struct Model(TcpListener);

/// One session with it.
struct Session(WebSocketStream<TcpStream>);

impl Model {
    async fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    fn url(&self) -> String {
        format!("ws://{}/v1/realtime", self.0.local_addr().expect("an address"))
    }

    async fn accept(&self) -> Session {
        let (stream, _) =
            timeout(PATIENCE, self.0.accept()).await.expect("a connection in time").expect("accepted");
        let mut session = Session(tokio_tungstenite::accept_async(stream).await.expect("a WebSocket"));
        session.send(json!({ "type": "session.created", "event_id": "e0", "session": {} })).await;
        let update = session.next("session.update").await;
        session
            .send(json!({ "type": "session.updated", "event_id": "e1", "session": update["session"] }))
            .await;
        session
    }
}

impl Session {
    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// The next message of this type; others are skipped.
    async fn next(&mut self, kind: &str) -> Value {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.expect(kind).expect(kind).expect(kind);
            if let Message::Text(text) = message {
                let value: Value = serde_json::from_str(text.as_str()).expect("JSON");
                if value["type"] == kind {
                    return value;
                }
            }
        }
    }

    async fn call(&mut self, id: &str, name: &str, arguments: Value) {
        self.send(json!({
            "type": "response.function_call_arguments.done", "event_id": "e", "response_id": "r1", "item_id": "i1",
            "output_index": 0, "call_id": id, "name": name, "arguments": arguments.to_string(),
        }))
        .await;
    }

    /// The result of a call, once it is told.
    async fn result(&mut self, id: &str) -> Value {
        loop {
            let item = self.next("conversation.item.create").await["item"].clone();
            if item["type"] == "function_call_output" {
                assert_eq!(item["call_id"], id);
                return serde_json::from_str(item["output"].as_str().expect("a string")).expect("JSON");
            }
        }
    }

    /// Says something loud for so long.
    async fn speak(&mut self, milliseconds: usize) {
        let audio: Vec<u8> =
            (0..milliseconds * 8).map(|index| if index / 4 % 2 == 0 { 0x10 } else { 0x90 }).collect();
        self.send(json!({
            "type": "response.output_audio.delta", "event_id": "e", "response_id": "r1", "item_id": "i0",
            "output_index": 0, "content_index": 0, "delta": BASE64.encode(audio),
        }))
        .await;
    }
}

fn agent(url: String) -> AgentConfig {
    let tool = |name: &str, action| ToolConfig { name: name.into(), action };
    let tools = vec![
        tool("end_call", ToolAction::HangUp),
        tool("transfer_call", ToolAction::Transfer { target: None }),
        tool("send_dtmf", ToolAction::SendDtmf),
        tool("hold", ToolAction::Hold),
        tool("record", ToolAction::Record),
    ];
    let told = tools.iter().map(|tool| Tool { name: tool.name.clone(), ..Tool::default() }).collect();
    let sales = "sip:sales@pbx.example.com".parse().expect("a target");
    AgentConfig {
        name: "bot".into(),
        url,
        dialect: Dialect::OpenAi,
        settings: AgentSettings { tools: told, ..AgentSettings::default() },
        tools,
        transfers: [("sales".to_owned(), sales)].into(),
        connect_timeout: Duration::from_secs(3),
        ..AgentConfig::default()
    }
}

async fn open(agents: Vec<AgentConfig>) -> House {
    let route = RouteRule { user: UserPattern::Exact("bot".into()), app: AppConfig::Agent("bot".into()) };
    House::open(AppsConfig { agents, routes: vec![route] }, CallConfig::default()).await
}

/// A call that has been answered, and its bot.
async fn connected(model: &Model, house: &House) -> (Phone, Session) {
    let mut phone = Phone::new(house, "bot").await;
    let (session, answer) = tokio::join!(model.accept(), phone.call());
    phone.send_rtp(answer.media(), &[0xFF; 160]).await;
    (phone, session)
}

async fn notify(phone: &mut Phone, fragment: &str) {
    let headers = "Event: refer\r\nSubscription-State: terminated\r\nContent-Type: message/sipfrag\r\n";
    phone.request("NOTIFY", headers, fragment).await;
    assert_eq!(phone.final_response().await.status(), Some(200));
}

fn refers_to_sales(refer: &Sip) {
    assert_eq!(refer.header("Refer-To"), Some("<sip:sales@pbx.example.com>"), "{refer:?}");
}

#[tokio::test]
async fn a_bot_that_ends_the_call_is_heard_to_the_end() {
    let model = Model::listen().await;
    let house = open(vec![agent(model.url())]).await;
    let (mut phone, mut bot) = connected(&model, &house).await;
    bot.speak(1500).await;
    phone.hears_audio().await;
    let begun = Instant::now();
    bot.call("c1", "end_call", json!({ "reason": "all said" })).await;
    let bye = phone.house_request("BYE").await;
    assert!(bye.header("Reason").is_some_and(|reason| reason.contains("cause=16")), "{bye:?}");
    assert!(begun.elapsed() > Duration::from_millis(900), "the goodbye was cut after {:?}", begun.elapsed());
    house.is_quiet().await;
    let counters = house.context.counters();
    assert_eq!((counters.ended_by_backend.value(), counters.ai_tools.value()), (1, 1));
}

#[tokio::test]
async fn a_transfer_goes_to_a_configured_place_and_ends_our_part() {
    let model = Model::listen().await;
    let house = open(vec![agent(model.url())]).await;
    let (mut phone, mut bot) = connected(&model, &house).await;
    bot.call("c1", "transfer_call", json!({ "target": "sip:fraud@evil.example.net" })).await;
    let refused = bot.result("c1").await;
    assert_eq!(refused, json!({ "error": "there is no such target; there are: sales" }));
    bot.call("c2", "transfer_call", json!({ "target": "sales" })).await;
    refers_to_sales(&phone.house_request("REFER").await);
    notify(&mut phone, "SIP/2.0 200 OK\r\n").await;
    phone.house_request("BYE").await;
    house.is_quiet().await;
    let counters = house.context.counters();
    assert_eq!((counters.ended_by_transfer.value(), counters.ai_requests_refused.value()), (1, 1));
}

#[tokio::test]
async fn a_transfer_that_fails_is_told_and_the_call_goes_on() {
    let model = Model::listen().await;
    let house = open(vec![agent(model.url())]).await;
    let (mut phone, mut bot) = connected(&model, &house).await;
    bot.call("c1", "transfer_call", json!({ "target": "sales" })).await;
    phone.house_request("REFER").await;
    notify(&mut phone, "SIP/2.0 486 Busy Here\r\n").await;
    let told = bot.result("c1").await;
    assert_eq!(told, json!({ "error": "the target did not take the call: 486 Busy Here" }));
    bot.speak(300).await;
    phone.hears_audio().await;
    phone.bye().await;
    house.is_quiet().await;
}

#[tokio::test]
async fn every_tool_gets_a_result() {
    let model = Model::listen().await;
    let house = open(vec![agent(model.url())]).await;
    let (mut phone, mut bot) = connected(&model, &house).await;
    let ok = json!({ "result": "ok" });
    for (id, name, arguments, expected) in [
        ("c1", "look_up", json!({}), None),
        ("c2", "hold", json!({ "on": true }), Some(&ok)),
        ("c3", "hold", json!({ "on": false }), Some(&ok)),
        ("c4", "record", json!({ "command": "start" }), None),
        ("c5", "send_dtmf", json!({ "digits": "call me" }), None),
        ("c6", "send_dtmf", json!("no object"), None),
        ("c7", "send_dtmf", json!({ "digits": "1,#" }), Some(&ok)),
    ] {
        bot.call(id, name, arguments).await;
        let result = bot.result(id).await;
        match expected {
            Some(expected) => assert_eq!(result, *expected, "{name}"),
            None => assert!(result["error"].is_string(), "{name}: {result}"),
        }
    }
    // The keys 1 and #, as events of RFC 4733.
    let due = Instant::now() + PATIENCE;
    let mut keys = Vec::new();
    while !keys.contains(&11) {
        let (payload_type, payload) = phone.hear_until(due).await.expect("keys in time");
        if payload_type == 101 && keys.last() != payload.first() {
            keys.extend(payload.first());
        }
    }
    assert_eq!(keys, [1, 11]);
    phone.bye().await;
    house.is_quiet().await;
    assert_eq!(house.context.counters().ai_recordings_refused.value(), 1);
}

#[tokio::test]
async fn a_caller_on_hold_hears_nothing_until_they_are_taken_back() {
    let model = Model::listen().await;
    let house = open(vec![agent(model.url())]).await;
    let (mut phone, mut bot) = connected(&model, &house).await;
    bot.call("c1", "hold", json!({ "on": true })).await;
    bot.result("c1").await;
    bot.speak(600).await;
    let due = Instant::now() + Duration::from_millis(500);
    while let Some((payload_type, payload)) = phone.hear_until(due).await {
        let silent = payload.iter().all(|byte| byte & 0x7F >= 0x60);
        assert!(payload_type != 0 || silent, "the bot is heard on hold");
    }
    bot.call("c2", "hold", json!({ "on": false })).await;
    bot.result("c2").await;
    phone.hears_audio().await;
    phone.bye().await;
    house.is_quiet().await;
}

#[tokio::test]
async fn requests_from_outside_wait_for_the_bots_last_word() {
    let model = Model::listen().await;
    let house = open(vec![agent(model.url())]).await;
    let (mut phone, mut bot) = connected(&model, &house).await;
    let call = house.context.table.list().remove(0);
    assert!(call.call_sid.as_ref().is_some_and(|sid| sid.len() == 34 && sid.starts_with("CA")), "{call:?}");
    assert!(house.context.table.ai_figures(call.id).await.is_some());
    bot.speak(1200).await;
    phone.hears_audio().await;
    let begun = Instant::now();
    assert!(house.context.table.request(call.id, CallRequest::HangUp));
    phone.house_request("BYE").await;
    assert!(begun.elapsed() > Duration::from_millis(700), "cut after {:?}", begun.elapsed());
    house.is_quiet().await;

    let (mut phone, _bot) = connected(&model, &house).await;
    let call = house.context.table.list().remove(0);
    let sales = "sip:sales@pbx.example.com".parse().expect("a target");
    assert!(house.context.table.request(call.id, CallRequest::Transfer(sales)));
    refers_to_sales(&phone.house_request("REFER").await);
    notify(&mut phone, "SIP/2.0 200 OK\r\n").await;
    phone.house_request("BYE").await;
    house.is_quiet().await;
}

#[tokio::test]
async fn a_lost_bot_is_followed_by_a_transfer() {
    let model = Model::listen().await;
    let operator = "sip:operator@pbx.example.com".parse().expect("a target");
    let config = AgentConfig { on_failure: Some(OnClose::Transfer(operator)), ..agent(model.url()) };
    let house = open(vec![config]).await;
    let (mut phone, bot) = connected(&model, &house).await;
    drop(bot);
    let refer = phone.house_request("REFER").await;
    assert_eq!(refer.header("Refer-To"), Some("<sip:operator@pbx.example.com>"));
    notify(&mut phone, "SIP/2.0 200 OK\r\n").await;
    phone.house_request("BYE").await;
    house.is_quiet().await;
    assert_eq!(house.context.counters().ended_by_transfer.value(), 1);
}

#[tokio::test]
async fn a_fallback_agent_answers_when_the_first_cannot_be_reached() {
    let nobody = Model::listen().await.url();
    let model = Model::listen().await;
    let first = AgentConfig {
        connect_timeout: Duration::from_millis(600),
        fallback_agents: vec!["second".into()],
        ..agent(nobody)
    };
    let second = AgentConfig { name: "second".into(), ..agent(model.url()) };
    let house = open(vec![first, second]).await;
    let (mut phone, mut bot) = connected(&model, &house).await;
    bot.speak(300).await;
    phone.hears_audio().await;
    assert_eq!(house.context.table.list()[0].agent.as_deref(), Some("second"));
    phone.bye().await;
    house.is_quiet().await;
    assert_eq!(house.context.counters().ai_fallbacks.value(), 1);
}
