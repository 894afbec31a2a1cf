//! AI backends that refuse, close, vanish, talk nonsense or talk too much: their own call gets the right
//! end, others notice nothing.

mod support;

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use serde_json::json;
use support::agent::Agent;
use support::audio::{align_in_parts, rms};
use support::baresip::speech;
use support::bystander::Bystander;
use support::phone::Phone;
use support::server::{Server, Setup};
use support::wav::encode_mu_law;
use support::{fixture, within};

#[test]
fn a_backend_that_refuses_is_answered_by_the_fallback_prompt_and_bye() {
    let server = shared();
    let phone = Phone::dial(server.sip, "refusing").expect("the call is answered for the prompt");
    assert!(within(Duration::from_secs(12), || phone.ended().is_some()), "BYE comes after the prompt");
    let found = align_in_parts(&speech(), &phone.audio());
    assert!(found.correlation > 0.95, "the fallback prompt is heard: {found:?}");
}

#[test]
fn a_backend_that_refuses_without_fallback_is_answered_503() {
    let server = shared();
    for user in ["refusing-bare", "nobody-there", "http-403"] {
        let refusal =
            Phone::dial(server.sip, user).err().flatten().unwrap_or_else(|| panic!("{user} is refused"));
        assert_eq!(refusal.status(), Some(503), "{user}: {refusal:?}");
        let after =
            refusal.header("Retry-After").unwrap_or_else(|| panic!("{user}: Retry-After: {refusal:?}"));
        assert!(after.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{user}: {after}");
    }
    assert!(server.metric_like("connect") > 0.0, "counted:\n{}", server.metrics_like("ai"));
}

#[test]
fn a_backend_that_closes_in_mid_call_ends_it_after_its_audio() {
    let server = shared();
    let phone = Phone::dial(server.sip, "closing").expect("the call is answered");
    assert!(within(Duration::from_secs(10), || phone.ended().is_some()), "BYE comes");
    let found = align_in_parts(&speech(), &phone.audio());
    assert!(found.correlation > 0.95, "what it said before is heard to the end: {found:?}");
}

#[test]
fn a_backend_that_vanishes_ends_its_call_only() {
    let server = shared();
    let bystander = Bystander::start(server.sip, 10);
    let phone = Phone::dial(server.sip, "vanishing").expect("the call is answered");
    assert!(within(Duration::from_secs(10), || phone.ended().is_some()), "BYE comes");
    bystander.finish().is_below(0.005);
}

#[test]
fn garbage_from_a_backend_is_counted_and_the_call_goes_on() {
    let server = shared();
    let bystander = Bystander::start(server.sip, 10);
    let phone = Phone::dial(server.sip, "garbage").expect("the call is answered");
    std::thread::sleep(Duration::from_secs(3));
    assert!(phone.ended().is_none(), "garbage does not end a call");
    let found = align_in_parts(&speech(), &phone.audio());
    assert!(found.correlation > 0.95, "what is good in between is heard: {found:?}");
    assert!(BACKENDS.garbage.events("media").len() > 100, "caller audio goes on");
    assert_eq!(phone.hang_up(), Some(200));
    bystander.finish().is_below(0.005);
    assert!(
        server.metric_like("malformed")
            + server.metric_like("binary")
            + server.metric_like("unknown")
            + server.metric_like("ignored")
            > 0.0,
        "counted:\n{}",
        server.metrics_like("ai")
    );
}

#[test]
fn ten_megabytes_at_once_harm_nobody() {
    let server = shared();
    let bystander = Bystander::start(server.sip, 15);
    let memory = server.resident_bytes();
    let phones: Vec<Phone> = ["ten-megabytes", "one-huge-frame"]
        .into_iter()
        .map(|user| Phone::dial(server.sip, user).expect("the call is answered"))
        .collect();
    std::thread::sleep(Duration::from_secs(5));
    // The audio of the first is within reason and is played; the second broke the limit of a message.
    assert!(rms(&phones[0].audio()) > 100.0, "audio in small messages is played");
    for phone in &phones {
        let _ = phone.hang_up();
    }
    drop(phones);
    bystander.finish().is_below(0.005);
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < 40 << 20, "memory grew by {grown} bytes");
}

#[test]
fn a_backend_that_never_reads_costs_no_memory_and_no_other_call() {
    let server = shared();
    let bystander = Bystander::start(server.sip, 12);
    let phone = Phone::dial(server.sip, "deaf").expect("the call is answered");
    let memory = server.resident_bytes();
    std::thread::sleep(Duration::from_secs(8));
    let _ = phone.hang_up();
    assert!(server.resident_bytes().saturating_sub(memory) < 16 << 20);
    bystander.finish().is_below(0.005);
}

/// The backends of the shared server.
struct Backends {
    list: Vec<(&'static str, Agent, &'static str)>,
    garbage: Agent,
}

static BACKENDS: LazyLock<Backends> = LazyLock::new(|| {
    let said: Vec<u8> = speech().iter().map(|&sample| encode_mu_law(sample)).collect();
    let again = said.clone();
    let garbage = Agent::start(move |call| {
        call.start();
        for nonsense in [
            "",
            "{",
            "null",
            "[]",
            "\"media\"",
            "{\"event\":7}",
            "{\"event\":\"dance\"}",
            "{\"event\":\"media\"}",
        ] {
            call.send_raw(tungstenite::Message::text(nonsense));
        }
        call.send(&json!({"event": "media", "media": {"payload": "not base64 !!"}}));
        call.send(&json!({"event": "media", "media": {"payload": 12}}));
        call.send(&json!({"event": "mark"}));
        call.send(&json!({"event": "clear", "streamSid": "MZ0000"}));
        call.send_raw(tungstenite::Message::binary(vec![0u8; 5000]));
        call.send_raw(tungstenite::Message::text("[".repeat(50_000)));
        // Odd sizes are no garbage: payloads are a stream of bytes.
        for piece in again.chunks(601) {
            call.say(piece);
        }
        call.listen(|_, _| {});
    });
    let list = vec![
        ("refusing", Agent::raw(drop), FALLBACK),
        ("refusing-bare", Agent::raw(drop), ""),
        (
            "http-403",
            Agent::raw(|mut stream| {
                let mut buffer = [0; 2048];
                let _ = stream.read(&mut buffer);
                let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
            }),
            "",
        ),
        (
            "closing",
            Agent::start(move |call| {
                call.start();
                call.say(&said);
                call.close();
            }),
            "",
        ),
        (
            "vanishing",
            Agent::start(|call| {
                call.start();
                call.listen_for(Duration::from_millis(700));
            }),
            "",
        ),
        (
            "ten-megabytes",
            Agent::start(|call| {
                call.start();
                for _ in 0..10 << 10 {
                    call.say(&[0x20; 768]);
                }
                call.listen(|_, _| {});
            }),
            "",
        ),
        (
            "one-huge-frame",
            Agent::start(|call| {
                call.start();
                call.say(&vec![0x20; 8 << 20]);
                call.listen(|_, _| {});
            }),
            "",
        ),
        (
            "deaf",
            Agent::start(|call| {
                call.start();
                std::thread::sleep(Duration::from_secs(20));
            }),
            "",
        ),
    ];
    Backends { list, garbage }
});

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

fn shared() -> Arc<Server> {
    Server::shared(&SHARED, || {
        let mut config = ECHO.to_owned();
        let mut add = |name: &str, url: &str, more: &str| {
            let more = more.replace("PROMPT", &fixture("fixtures/caller.wav").display().to_string());
            config += &format!(
                "[agents.{name}]\nurl = \"{url}\"\nconnect_timeout = \"3s\"\n{more}\n\
                 [[routes]]\nmatch = \"{name}\"\napp = \"agent\"\nagent = \"{name}\"\n"
            );
        };
        for (name, agent, more) in &BACKENDS.list {
            add(name, &agent.url(), more);
        }
        add("garbage", &BACKENDS.garbage.url(), "");
        // Port 9 (discard) is closed everywhere.
        add("nobody-there", "ws://127.0.0.1:9/media", "");
        Setup::new(&config)
    })
}

const FALLBACK: &str = "fallback_prompt = \"PROMPT\"";

const ECHO: &str = "[[routes]]\nmatch = \"echo\"\napp = \"echo\"\n";
