//! Calls to an AI backend: a WebSocket server in this process that speaks Twilio Media Streams.

mod call_support;

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use call_support::{House, PATIENCE, Phone};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sidetone_signaling::apps::{
    AgentConfig, AppConfig, AppsConfig, DemoAgent, OnClose, RouteRule, UserPattern,
};
use sidetone_signaling::call::CallConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// A backend that waits for calls.
struct Backend(TcpListener);

/// One AI stream, as the backend has it.
struct Conversation {
    socket: WebSocketStream<TcpStream>,
    stream_sid: String,
    start: Value,
}

impl Backend {
    async fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    fn url(&self) -> String {
        format!("ws://{}/media", self.0.local_addr().expect("an address"))
    }

    async fn accept(&self) -> Conversation {
        let (stream, _) =
            timeout(PATIENCE, self.0.accept()).await.expect("a connection in time").expect("accepted");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a WebSocket");
        assert_eq!(next(&mut socket, "connected").await["protocol"], "Call");
        let start = next(&mut socket, "start").await["start"].clone();
        let stream_sid = start["streamSid"].as_str().expect("a stream").to_owned();
        Conversation { socket, stream_sid, start }
    }
}

/// The next message with this event; others are skipped.
async fn next(socket: &mut WebSocketStream<TcpStream>, event: &str) -> Value {
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect(event).expect(event).expect(event);
        if let Message::Text(text) = message {
            let value: Value = serde_json::from_str(text.as_str()).expect("JSON");
            if value["event"] == event {
                return value;
            }
        }
    }
}

impl Conversation {
    async fn next(&mut self, event: &str) -> Value {
        next(&mut self.socket, event).await
    }

    async fn send(&mut self, mut message: Value) {
        message["streamSid"] = self.stream_sid.clone().into();
        self.socket.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// Says something loud for so long.
    async fn speak(&mut self, milliseconds: usize) {
        let audio: Vec<u8> =
            (0..milliseconds * 8).map(|index| if index / 4 % 2 == 0 { 0x10 } else { 0x90 }).collect();
        self.send(json!({"event": "media", "media": {"payload": BASE64.encode(audio)}})).await;
    }
}

fn agent(url: String) -> AgentConfig {
    AgentConfig { name: "bot".into(), url, connect_timeout: Duration::from_secs(3), ..AgentConfig::default() }
}

async fn open(agent: AgentConfig) -> House {
    let route = RouteRule { user: UserPattern::Exact("bot".into()), app: AppConfig::Agent("bot".into()) };
    House::open(AppsConfig { agents: vec![agent], routes: vec![route] }, CallConfig::default()).await
}

/// A prompt of 400 ms.
fn prompt() -> PathBuf {
    let path = std::env::temp_dir().join(format!("sidetone-prompt-{}.wav", std::process::id()));
    let mut file =
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x07\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data".to_vec();
    file.extend(3200_u32.to_le_bytes());
    file.extend((0..3200).map(|index| if index / 4 % 2 == 0 { 0x10 } else { 0x90 }));
    std::fs::write(&path, file).expect("a WAV file");
    path
}

#[tokio::test]
async fn caller_and_backend_hear_each_other() {
    let backend = Backend::listen().await;
    let parameters =
        vec![("caller".to_owned(), "{from}".to_owned()), ("tenant".to_owned(), "acme".to_owned())];
    let house = open(AgentConfig {
        custom_parameters: parameters,
        sip_headers: vec!["X-Trunk".into(), "X-Absent".into()],
        ..agent(backend.url())
    })
    .await;
    let mut phone = Phone::new(&house, "bot").await;
    let offer = phone.offer("");
    phone.request("INVITE", "Content-Type: application/sdp\r\nX-Trunk: north\r\n", &offer).await;
    let mut bot = backend.accept().await;
    let told = &bot.start["customParameters"];
    assert_eq!(
        (&told["caller"], &told["tenant"], &told["X-Trunk"]),
        (&json!("1234567"), &json!("acme"), &json!("north"))
    );
    assert!(told.get("X-Absent").is_none(), "{told}");
    let answer = phone.final_response().await;
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    phone.ack(None).await;

    phone.talk(answer.media(), 20).await;
    let loud = async {
        loop {
            let media = bot.next("media").await;
            let audio = BASE64.decode(media["media"]["payload"].as_str().expect("audio")).expect("base64");
            if audio.iter().any(|byte| byte & 0x7F < 0x60) {
                return;
            }
        }
    };
    timeout(PATIENCE, loud).await.expect("the caller is heard");

    bot.speak(300).await;
    bot.send(json!({"event": "mark", "mark": {"name": "said"}})).await;
    phone.hears_audio().await;
    assert_eq!(bot.next("mark").await["mark"]["name"], "said");

    phone.request("INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=5\r\nDuration=160\r\n").await;
    assert_eq!(phone.final_response().await.status(), Some(200));
    assert_eq!(bot.next("dtmf").await["dtmf"]["digit"], "5");

    let calls = house.context.table.list();
    assert_eq!((calls[0].app, calls[0].agent.as_deref()), ("agent", Some("bot")));
    phone.bye().await;
    bot.next("stop").await;
    house.is_quiet().await;
    assert_eq!(house.context.counters().digits_info.value(), 1);
}

#[tokio::test]
async fn backend_that_closes_hangs_up_after_its_goodbye() {
    let backend = Backend::listen().await;
    let house = open(agent(backend.url())).await;
    let mut phone = Phone::new(&house, "bot").await;
    let talk = async {
        let mut bot = backend.accept().await;
        bot.next("media").await;
        bot.speak(1500).await;
        bot.socket.close(None).await.expect("closed");
        // The close handshake ends when the other side has answered.
        while let Some(Ok(_)) = bot.socket.next().await {}
    };
    let call = async {
        let media = phone.call().await.media();
        phone.send_rtp(media, &[0xFF; 160]).await;
        phone.hears_audio().await;
        let begun = Instant::now();
        let bye = phone.house_request("BYE").await;
        (bye, begun.elapsed())
    };
    let ((), (bye, spoken)) = tokio::join!(talk, call);
    assert!(bye.header("Reason").is_some_and(|reason| reason.contains("cause=16")), "{bye:?}");
    assert!(spoken > Duration::from_millis(900), "the goodbye was cut after {spoken:?}");
    house.is_quiet().await;
    assert_eq!(house.context.counters().ended_by_backend.value(), 1);
}

#[tokio::test]
async fn backend_that_vanishes_ends_the_call_with_the_fallback_prompt() {
    let backend = Backend::listen().await;
    let config = AgentConfig {
        fallback_prompt: Some(prompt()),
        on_close: OnClose::PlayFallback,
        ..agent(backend.url())
    };
    let house = open(config).await;
    let mut phone = Phone::new(&house, "bot").await;
    let talk = async {
        let mut bot = backend.accept().await;
        bot.next("media").await;
    };
    let call = async {
        let media = phone.call().await.media();
        phone.send_rtp(media, &[0xFF; 160]).await;
        phone.hears_audio().await;
        phone.house_request("BYE").await;
    };
    tokio::join!(talk, call);
    house.is_quiet().await;
    let counters = house.context.counters();
    assert_eq!((counters.fallback_prompts.value(), counters.ended_by_app.value()), (1, 1));
}

#[tokio::test]
async fn caller_is_told_to_retry_when_the_backend_cannot_be_reached() {
    let nobody = Backend::listen().await.url();
    let house = open(AgentConfig { connect_timeout: Duration::from_millis(600), ..agent(nobody) }).await;
    let mut phone = Phone::new(&house, "bot").await;
    let offer = phone.offer("");
    phone.invite(Some(&offer)).await;
    let refused = phone.final_response().await;
    phone.ack(None).await;
    assert_eq!((refused.status(), refused.header("Retry-After")), (Some(503), Some("10")), "{refused:?}");
    house.is_quiet().await;
    assert_eq!(house.context.counters().ai_connect_failed.value(), 1);
}

#[tokio::test]
async fn fallback_prompt_is_played_when_the_backend_cannot_be_reached() {
    let nobody = Backend::listen().await.url();
    let config = AgentConfig {
        connect_timeout: Duration::from_millis(600),
        fallback_prompt: Some(prompt()),
        ..agent(nobody)
    };
    let house = open(config).await;
    let mut phone = Phone::new(&house, "bot").await;
    phone.call().await;
    phone.hears_audio().await;
    phone.house_request("BYE").await;
    house.is_quiet().await;
}

#[tokio::test]
async fn caller_hears_ringing_while_the_backend_is_slow_and_may_give_up() {
    let backend = Backend::listen().await;
    let house = open(agent(backend.url())).await;
    let mut phone = Phone::new(&house, "bot").await;
    let offer = phone.offer("");
    phone.invite(Some(&offer)).await;
    // The connection is accepted by the kernel, and nobody answers the upgrade.
    while phone.message().await.status() != Some(180) {}
    phone.request("CANCEL", "", "").await;
    while phone.message().await.status() != Some(487) {}
    phone.ack(None).await;
    house.is_quiet().await;
}

#[tokio::test]
async fn key_in_rtp_reaches_the_backend() {
    let backend = Backend::listen().await;
    let house = open(agent(backend.url())).await;
    let mut phone = Phone::new(&house, "bot").await;
    let (mut bot, answer) = tokio::join!(backend.accept(), phone.call());
    phone.talk(answer.media(), 10).await;
    phone.press(answer.media(), 11).await;
    phone.talk(answer.media(), 5).await;
    assert_eq!(bot.next("dtmf").await["dtmf"]["digit"], "#");
    phone.bye().await;
    house.is_quiet().await;
}

#[tokio::test]
async fn backend_that_talks_nonsense_costs_its_own_call_only() {
    let backend = Backend::listen().await;
    let house = open(agent(backend.url())).await;
    let mut well = Phone::new(&house, "bot").await;
    let (mut good, _) = tokio::join!(backend.accept(), well.call());
    let mut ill = Phone::new(&house, "bot").await;
    let (mut bad, _) = tokio::join!(backend.accept(), ill.call());

    for garbage in ["", "{", "[]", "{\"event\":5}", "{\"event\":\"media\",\"media\":{\"payload\":\"%%%\"}}"] {
        bad.socket.send(Message::text(garbage)).await.expect("sent");
    }
    bad.socket.send(Message::binary(vec![0xFF; 1000])).await.expect("sent");
    bad.speak(200).await;
    ill.hears_audio().await;
    // Above the limit; the connection may break before all of it is written.
    let _ = bad.socket.send(Message::text("x".repeat(10 << 20))).await;
    let bye = ill.house_request("BYE").await;
    assert!(bye.header("Reason").is_some_and(|reason| reason.contains("cause=41")), "{bye:?}");

    good.speak(200).await;
    well.hears_audio().await;
    assert!(well.requests.is_empty(), "{:?}", well.requests);
    well.bye().await;
    house.is_quiet().await;
    assert_eq!(house.context.media.ai().counters().message_too_large.value(), 1);
}

#[tokio::test]
async fn caller_on_hold_keeps_the_backend() {
    let backend = Backend::listen().await;
    let house = open(agent(backend.url())).await;
    let mut phone = Phone::new(&house, "bot").await;
    let (mut bot, answer) = tokio::join!(backend.accept(), phone.call());
    phone.talk(answer.media(), 10).await;
    let offer = phone.offer("a=sendonly\r\n");
    assert_eq!(phone.reinvite(&offer).await.status(), Some(200));
    let offer = phone.offer("");
    assert_eq!(phone.reinvite(&offer).await.status(), Some(200));
    bot.speak(300).await;
    phone.hears_audio().await;
    phone.bye().await;
    bot.next("stop").await;
    house.is_quiet().await;
}

#[tokio::test]
async fn demo_agent_greets_stops_when_talked_over_and_repeats() {
    let demo = DemoAgent::start().expect("a demo agent");
    let house = open(agent(demo.url.clone())).await;
    let mut phone = Phone::new(&house, "bot").await;
    let media = phone.call().await.media();
    phone.hears_audio().await;

    let loud: Vec<u8> = (0..160).map(|index| if index / 4 % 2 == 0 { 0x10 } else { 0x90 }).collect();
    let begun = Instant::now();
    let (mut quiet, mut stopped, mut repeated) = (0, false, false);
    for frame in 0_u32..500 {
        phone.send_rtp(media, if frame < 60 { &loud } else { &[0xFF; 160] }).await;
        while let Some((_, payload)) = phone.hear_until(begun + Duration::from_millis(20) * (frame + 1)).await
        {
            let silent = payload.iter().all(|byte| byte & 0x7F >= 0x60);
            quiet = if silent { quiet + 1 } else { 0 };
            stopped |= quiet >= 10;
            repeated |= stopped && frame > 60 && !silent;
        }
        if repeated {
            break;
        }
    }
    assert!(stopped, "the greeting goes on while the caller talks");
    assert!(repeated, "the caller hears nothing back");
    phone.bye().await;
    house.is_quiet().await;
}
