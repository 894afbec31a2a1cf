//! Asterisk dials sidetone: another sidetone in the role of Asterisk, its SIP phone, and a fake OpenAI behind the one that was
//! dialled.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use support::audio::{align_in_parts, rms, silence, tone};
use support::phone::Phone;
use support::ports::free_loopback_port;
use support::server::{Server, Setup};
use support::vendors::Fakes;
use support::wav::decode_mu_law;
use support::within;

const SOON: Duration = Duration::from_secs(20);
const UUID: [u8; 16] =
    [0x40, 0x32, 0x5e, 0xc2, 0x5e, 0xfd, 0x4b, 0xd3, 0x80, 0x5f, 0x53, 0x57, 0x6e, 0x58, 0x1d, 0x13];

/// The server that is dialled, and where.
struct Dialled {
    server: Server,
    audiosocket: SocketAddr,
    websocket: SocketAddr,
}

impl Dialled {
    fn start(config: &str) -> Self {
        let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_loopback_port()));
        let (audiosocket, websocket) = (address(), address());
        let mut setup = Setup::new(&format!(
            "{config}\n[audiosocket]\nbind = \"{audiosocket}\"\n\
             users = {{ \"40325EC2-5EFD-4BD3-805F-53576E581D13\" = \"echo\" }}\n\
             [chan_websocket]\nbind = \"{websocket}\"\ntoken_env = \"TOKEN\"\n"
        ));
        setup.environment.push(("TOKEN".to_owned(), "word".to_owned()));
        Self { server: Server::start(&setup), audiosocket, websocket }
    }

    fn echo() -> Self {
        Self::start(
            "[calls]\nmax = 2\n[[routes]]\nmatch = \"echo\"\napp = \"echo\"\n\
             [[routes]]\nmatch = \"agent\"\napp = \"echo\"\n",
        )
    }

    /// The status of an upgrade, and what comes with it.
    fn upgrade(&self, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(self.websocket).expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a time-out");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: media\r\n{header}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let mut bytes = [0; 1024];
        while !answer.ends_with(b"\r\n\r\n") {
            match stream.read(&mut bytes) {
                Ok(read) if read > 0 => answer.extend_from_slice(&bytes[..read]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A call by AudioSocket that has introduced itself.
    fn dial(&self, uuid: [u8; 16]) -> TcpStream {
        let mut stream = TcpStream::connect(self.audiosocket).expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a time-out");
        stream.write_all(&[&[1, 0, 16][..], &uuid].concat()).expect("sent");
        stream
    }
}

/// Reads frames until one of this type; its payload. `None` at the end of the connection.
fn frame(stream: &mut TcpStream, wanted: impl Fn(u8, &[u8]) -> bool) -> Option<Vec<u8>> {
    loop {
        let mut header = [0; 3];
        stream.read_exact(&mut header).ok()?;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([header[1], header[2]]))];
        stream.read_exact(&mut payload).ok()?;
        if wanted(header[0], &payload) {
            return Some(payload);
        }
    }
}

#[test]
fn a_phone_behind_asterisk_talks_to_openai_and_interrupts_it() {
    for dialect in ["asterisk", "audiosocket"] {
        let Some(fakes) = Fakes::start() else { return };
        let dialled = Dialled::start(&format!(
            "[log]\nredact = false\n[agents.bot]\ndialect = \"openai\"\nurl = \"{}\"\nauth_token_file = \"{}\"\n\
             [[routes]]\nmatch = \"agent\"\napp = \"agent\"\nagent = \"bot\"\n\
             [[routes]]\nmatch = \"echo\"\napp = \"echo\"\n",
            fakes.openai(""),
            fakes.token_path().display()
        ));
        let url = match dialect {
            "asterisk" => format!("ws://{}/media/agent?from=%2B4930123&to=100", dialled.websocket),
            _ => format!("tcp://{}", dialled.audiosocket),
        };
        let mut asterisk = Setup::new(&format!(
            "[agents.app]\ndialect = \"{dialect}\"\nurl = \"{url}\"\nauth_token_env = \"TOKEN\"\n\
             [[routes]]\nregex = '\\d+'\napp = \"agent\"\nagent = \"app\"\n"
        ));
        asterisk.environment.push(("TOKEN".to_owned(), "word".to_owned()));
        let asterisk = Server::start(&asterisk);
        let phone = Phone::dial(asterisk.sip, "4930123").expect("the call is answered");
        assert!(within(SOON, || !fakes.messages("out", "session.updated").is_empty()), "the session");
        let calls = dialled.server.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        let via = if dialect == "asterisk" { "chan_websocket" } else { "audiosocket" };
        assert_eq!(
            (&calls[0]["via"], &calls[0]["app"], &calls[0]["agent"]),
            (&via.into(), &"agent".into(), &"bot".into())
        );
        if dialect == "asterisk" {
            assert_eq!((&calls[0]["from"], &calls[0]["to"]), (&"+4930123".into(), &"100".into()));
        }
        let question = tone(700.0, 400, 8000.0);
        phone.play(&question);
        assert!(within(SOON, || rms(&phone.audio()) > 50.0), "the answer is heard");
        let arrived: Vec<i16> = fakes.caller(1).iter().map(|&byte| decode_mu_law(byte)).collect();
        let found = align_in_parts(&question, &arrived);
        assert!(found.correlation > 0.95, "{dialect}: the question arrives: {found:?}");
        std::thread::sleep(Duration::from_millis(1200));
        phone.play(&tone(700.0, 300, 8000.0));
        let truncated = || fakes.messages("out", "conversation.item.truncated");
        assert!(within(SOON, || !truncated().is_empty()), "{dialect}: it is interrupted");
        let truncated = truncated().remove(0);
        let item = fakes.item(truncated["item_id"].as_str().expect("an id"));
        let end_ms = truncated["audio_end_ms"].as_u64().expect("an integer") as usize;
        std::thread::sleep(Duration::from_millis(500));
        let said: Vec<i16> = item.iter().map(|&byte| decode_mu_law(byte)).collect();
        // The other sidetone is half a second at most behind: what it had queued is dropped with the rest.
        let sure = end_ms.saturating_sub(500) * 8;
        let audio = phone.audio();
        let found = align_in_parts(&said[..sure], &audio);
        assert!(found.correlation > 0.9, "{dialect}: up to {end_ms} ms: {found:?}");
        // By AudioSocket what Asterisk has it plays; there is no word to drop it.
        let next = &audio[(found.offset + end_ms * 8 + 4000).min(audio.len())..];
        assert!(next.len() < 400 || rms(&next[..next.len().min(1600)]) < 50.0, "{dialect}: silence after it");
        phone.play(&silence(100));
        assert_eq!(phone.hang_up(), Some(200));
        assert!(within(SOON, || dialled.server.calls().is_empty()), "{dialect}: the call is over");
        let closed = || fakes.log().iter().any(|entry| entry["event"] == "closed");
        assert!(within(SOON, closed), "the WebSocket is closed");
        assert_eq!(fakes.faults(), [] as [Value; 0]);
        let log = dialled.server.log();
        assert!(log.contains("cause=\"caller hung up\""), "{dialect}:\n{log}");
        assert_eq!(dialled.server.metric("sidetone_line_messages_ignored_total", ""), Some(0.0));
    }
}

#[test]
fn a_uuid_chooses_the_user_and_the_api_hangs_up() {
    let dialled = Dialled::echo();
    let mut asterisk = dialled.dial(UUID);
    assert!(within(SOON, || dialled.server.calls().first().is_some_and(|call| call["state"] == "answered")));
    let speech = [&[0x12, 0x02, 0x80][..], &[5; 640]].concat();
    asterisk.write_all(&speech).expect("sent");
    let echo = frame(&mut asterisk, |kind, payload| kind == 0x12 && payload.iter().any(|&byte| byte != 0));
    assert_eq!(echo.as_deref(), Some(&[5; 640][..]));
    let calls = dialled.server.calls();
    assert_eq!(calls[0]["call_id"], "40325ec2-5efd-4bd3-805f-53576e581d13");
    assert_eq!((&calls[0]["app"], &calls[0]["to"]), (&"echo".into(), &"echo".into()));
    let id = &calls[0]["id"];
    let mut api = TcpStream::connect(dialled.server.http).expect("a connection");
    write!(api, "DELETE /v1/calls/{id} HTTP/1.0\r\nHost: {}\r\n\r\n", dialled.server.http).expect("sent");
    assert!(frame(&mut asterisk, |kind, _| kind == 0).is_some(), "the hang-up");
    assert!(frame(&mut asterisk, |_, _| true).is_none(), "and the end");
    assert!(within(SOON, || dialled.server.calls().is_empty()));
}

#[test]
fn calls_beyond_the_limit_and_in_a_drain_are_hung_up() {
    let dialled = Dialled::echo();
    let mut calls = [dialled.dial(UUID), dialled.dial([1; 16])];
    assert!(within(SOON, || dialled.server.calls().len() == 2));
    assert!(frame(&mut dialled.dial([2; 16]), |kind, _| kind == 0).is_some(), "a third is hung up");
    let full = dialled.upgrade("/media?token=word", "");
    assert!(
        full.starts_with("HTTP/1.1 503 ") && full.to_ascii_lowercase().contains("retry-after: 10"),
        "{full}"
    );
    // At the end of a drain (2 s in tests) the rest is ended, too.
    dialled.server.signal("TERM");
    for call in &mut calls {
        assert!(frame(call, |kind, _| kind == 0).is_some(), "hung up");
    }
}

#[test]
fn only_who_may_is_upgraded() {
    let dialled = Dialled::echo();
    for (path, header, status) in [
        ("/media", "Authorization: Bearer word\r\n", "101"),
        ("/media/", "Authorization: Basic dTp3b3Jk\r\n", "101"),
        ("/media/echo?token=word", "", "101"),
        ("/media", "", "401"),
        ("/media?token=Word", "", "401"),
        ("/media?token=word", "Authorization: Bearer no\r\n", "401"),
        ("/media", "Authorization: Basic !!\r\n", "401"),
        ("/mediax?token=word", "", "404"),
        ("/media/a/b?token=word", "", "404"),
        ("/?token=word", "", "404"),
    ] {
        let answer = dialled.upgrade(path, header);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {header}: {answer}");
        let takes = answer.to_ascii_lowercase().contains("sec-websocket-protocol: media");
        assert_eq!(takes, status == "101", "{answer}");
    }
    // Those that were upgraded have introduced no call, and left.
    assert!(within(SOON, || dialled.server.metric("sidetone_asterisk_not_introduced_total", "") == Some(3.0)));
    assert_eq!(dialled.server.metric("sidetone_asterisk_upgrades_refused_total", ""), Some(7.0));
    assert!(!dialled.server.log().contains("word"), "no token in the log");
    // A request that never ends, and one that is none.
    let mut slow = TcpStream::connect(dialled.websocket).expect("a connection");
    slow.write_all(b"GET /media HTTP/1.1\r\n").expect("sent");
    let mut garbage = TcpStream::connect(dialled.websocket).expect("a connection");
    garbage.write_all(&[0; 64]).expect("sent");
    assert!(
        within(SOON, || dialled.server.metric("sidetone_asterisk_upgrades_broken_total", "") == Some(2.0))
    );
    assert!(dialled.server.calls().is_empty());
}
