//! Calls by a socket: our dialects that act as Asterisk dial the lines that accept them, with a bot behind.

mod ai_support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ai_support::{Bot, PATIENCE, Worker, eventually, listen, meta, payload, ramp, soon};
use engine::ai::dialect::{AgentSettings, AudioFormat, Dialect, Formats, LineProtocol, LineStart};
use engine::ai::{
    AiConfig, AiEvent, AiRequest, AiRuntime, AiSession, LineApp, LineConfig, LineEnd, LineError, LineEvent,
    SocketLine,
};
use engine::command::Digit;
use engine::player::Player;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// Codes that survive the way over 16 bits: all but the negative zero.
fn codes(len: usize) -> Vec<u8> {
    ramp(len).into_iter().map(|code| if code == 0x7f { 0xff } else { code }).collect()
}

fn uuid() -> Vec<u8> {
    [&[0x01, 0, 16][..], &[7; 16]].concat()
}

fn config(protocol: LineProtocol) -> LineConfig {
    LineConfig { start_timeout: Duration::from_secs(10), ..LineConfig::new(protocol) }
}

/// Takes the next connection as a call.
async fn accept(
    runtime: &AiRuntime,
    listener: &TcpListener,
    config: LineConfig,
) -> Result<(LineStart, SocketLine), LineError> {
    let (mut tcp, _) = soon("a connection", listener.accept()).await.expect("a connection");
    if config.protocol == LineProtocol::ChanWebSocket {
        #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
        let take = |request: &Request, mut response: Response| {
            assert_eq!(request.headers()["sec-websocket-protocol"], "media");
            response.headers_mut().insert("sec-websocket-protocol", "media".parse().expect("a value"));
            Ok(response)
        };
        let upgrade = tokio_tungstenite::accept_hdr_async(tcp, take);
        tcp = soon("the upgrade", upgrade).await.expect("an upgrade").into_inner();
    }
    soon("the introduction", runtime.accept_line(tcp.into_std().expect("a socket"), config)).await
}

/// Asterisk, which is the test's worker; the line; and the bot that the line is connected to.
struct Rig {
    runtime: AiRuntime,
    asterisk: Worker,
    session: AiSession,
    line: SocketLine,
    bot: Bot,
}

impl Rig {
    async fn open(protocol: LineProtocol, format: Option<AudioFormat>) -> Self {
        let runtime = AiRuntime::start(&[]).expect("a runtime");
        let (listener, address) = listen().await;
        let mut asterisk = match protocol {
            LineProtocol::AudioSocket => AiConfig::new(format!("tcp://{address}")),
            LineProtocol::ChanWebSocket => AiConfig::new(format!("ws://{address}/media")),
        };
        asterisk.dialect = match protocol {
            LineProtocol::AudioSocket => Dialect::AudioSocket,
            LineProtocol::ChanWebSocket => Dialect::Asterisk,
        };
        let formats = format.map(|format| Formats { caller: format, bot: format });
        asterisk.settings = Arc::new(AgentSettings { formats, ..AgentSettings::default() });
        let config = config(protocol);
        let (dialled, accepted) =
            tokio::join!(runtime.connect(asterisk, meta()), accept(&runtime, &listener, config));
        let (port, session) = dialled.expect("Asterisk's side");
        let (start, line) = accepted.expect("a call");
        assert!(start.id.len() == 36 || start.id.len() == 32, "{start:?}");
        let (listener, address) = listen().await;
        let backend = AiConfig::new(format!("ws://{address}/stream"));
        let (opened, mut bot) = tokio::join!(runtime.connect(backend, meta()), Bot::accept(&listener));
        let (port_of_bot, _session) = opened.expect("a stream");
        assert_eq!(bot.event().await["event"], "connected");
        assert_eq!(bot.event().await["event"], "start");
        line.attach(LineApp::Ai(Box::new(port_of_bot))).expect("attached");
        Self { asterisk: Worker::new(port, &runtime), runtime, session, line, bot }
    }

    /// Asterisk's side by its clock, with `said` from the caller and silence after it, until `enough` of what is heard.
    async fn until(&mut self, said: &[u8], mut enough: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut said = said.chunks(160);
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        soon("what is to be heard", async {
            while !enough(&heard) {
                clock.tick().await;
                let mut block = [0xff; 160];
                if let Some(piece) = said.next() {
                    block[..piece.len()].copy_from_slice(piece);
                }
                heard.extend(self.asterisk.say(&block));
            }
        })
        .await;
        heard
    }
}

fn holds(heard: &[u8], part: &[u8]) -> bool {
    heard.windows(part.len()).any(|window| window == part)
}

async fn ended(line: &mut SocketLine) -> LineEnd {
    soon("the line's end", async {
        loop {
            match line.next_event().await {
                Some(LineEvent::Ended(end, _)) => return end,
                Some(_) => {}
                None => panic!("the end was told already"),
            }
        }
    })
    .await
}

/// Both protocols, in the formats that differ.
fn ways() -> Vec<(LineProtocol, Option<AudioFormat>)> {
    vec![
        (LineProtocol::AudioSocket, None),
        (LineProtocol::ChanWebSocket, None),
        (LineProtocol::ChanWebSocket, Some(AudioFormat::l16(8_000))),
    ]
}

#[tokio::test]
async fn audio_goes_both_ways_sample_for_sample_and_marks_are_answered_when_played() {
    for (protocol, format) in ways() {
        let mut rig = Rig::open(protocol, format).await;
        let said = codes(4000);
        rig.bot.say(&said).await;
        rig.bot.mark("end").await;
        let question = codes(3200);
        let heard = rig.until(&question, |heard| holds(heard, &said)).await;
        assert!(holds(&heard, &said), "{protocol:?} {format:?}");
        // What the caller said is in what the bot was sent before the mark came back, or soon after.
        let mut arrived = Vec::new();
        let mut marked = false;
        soon("the caller's audio and the mark", async {
            while !marked || !holds(&arrived, &question) {
                let event = rig.bot.event().await;
                match event["event"].as_str() {
                    Some("media") => arrived.extend(payload(&event)),
                    Some("mark") => {
                        assert_eq!(event["mark"]["name"], "end");
                        marked = true;
                    }
                    _ => {}
                }
            }
        })
        .await;
        let counters = rig.runtime.line_counters();
        assert_eq!(counters.messages_ignored.value() + counters.errors_reported.value(), 0);
    }
}

#[tokio::test]
async fn keys_reach_the_bot_and_a_hang_up_of_either_side_ends_the_call() {
    for (protocol, format) in ways() {
        let mut rig = Rig::open(protocol, format).await;
        let digit = Digit::from_char('7').expect("a key");
        rig.asterisk.port.push_digit(0, digit, Duration::from_millis(100));
        rig.until(&[], |heard| heard.len() > 160 || protocol == LineProtocol::ChanWebSocket).await;
        assert_eq!(rig.bot.event_named("dtmf").await["dtmf"]["digit"], "7");
        let event = soon("the key", rig.line.next_event()).await;
        assert_eq!(event, Some(LineEvent::Digit(digit)));
        // The caller hangs up: the bot is told, and the line.
        drop(rig.asterisk);
        rig.bot.event_named("stop").await;
        assert_eq!(ended(&mut rig.line).await, LineEnd::CallerHungUp);
        assert!(rig.line.next_event().await.is_none() && rig.line.hang_up().is_err());
        eventually("nothing is left", || rig.runtime.streams() == 0).await;

        let mut rig = Rig::open(protocol, format).await;
        rig.line.hang_up().expect("taken");
        assert_eq!(ended(&mut rig.line).await, LineEnd::HungUp);
        let request = soon("Asterisk hears of it", async {
            loop {
                let event = tokio::select! {
                    event = rig.session.next_event() => event.expect("an event"),
                    () = sleep(Duration::from_millis(20)) => {
                        rig.asterisk.frame();
                        continue;
                    }
                };
                match event {
                    AiEvent::Request(request) => return Some(request),
                    AiEvent::Ended(end) => {
                        assert!(end.is_normal(), "{end:?}");
                        return None;
                    }
                    AiEvent::Notice(_) => {}
                }
            }
        })
        .await;
        assert!(request.is_none() || matches!(request, Some(AiRequest::HangUp { .. })), "{request:?}");
        rig.bot.event_named("stop").await;
        drop(rig.asterisk);
        eventually("nothing is left", || rig.runtime.streams() == 0).await;
    }
}

#[tokio::test]
async fn a_clear_silences_the_line_and_empties_asterisks_queue() {
    for (protocol, format) in ways() {
        let mut rig = Rig::open(protocol, format).await;
        rig.bot.say(&codes(80_000)).await;
        rig.until(&[], |heard| heard.len() > 4_000).await;
        rig.bot.clear().await;
        rig.bot.mark("after").await;
        // Ten seconds were queued, and the mark comes at once.
        let began = Instant::now();
        let marked = rig.bot.event_named("mark").await;
        assert_eq!(marked["mark"]["name"], "after");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        if protocol == LineProtocol::ChanWebSocket {
            eventually("FLUSH_MEDIA", || rig.runtime.counters().clears.value() >= 2).await;
        }
        let said = codes(1600);
        rig.bot.say(&said).await;
        rig.until(&[], |heard| holds(heard, &said)).await;
    }
}

#[tokio::test]
async fn echo_and_recordings_work_as_they_do_by_rtp() {
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let (listener, address) = listen().await;
    let dialling = TcpStream::connect(address);
    let (peer, _) = (dialling.await.expect("a connection"), ());
    let mut peer = peer;
    peer.write_all(&uuid()).await.expect("sent");
    let (_, mut line) = accept(&runtime, &listener, config(LineProtocol::AudioSocket)).await.expect("a call");
    line.attach(LineApp::Echo).expect("attached");
    sleep(Duration::from_millis(100)).await;
    // 16 kHz, so that the silence before is told from what comes back.
    let speech: Vec<u8> = codes(640);
    let frame = [&[0x12, 0x02, 0x80][..], &speech].concat();
    peer.write_all(&frame).await.expect("sent");
    read_until(&mut peer, &frame).await;

    let samples: Arc<[i16]> = Arc::from(vec![8_031; 800]);
    line.attach(LineApp::Player(Box::new(Player::new(samples, false)))).expect("attached");
    let finished = soon("the recording's end", line.next_event()).await;
    let Some(LineEvent::PlayFinished(report)) = finished else { panic!("{finished:?}") };
    assert!(report.complete && report.played_samples == 800, "{report:?}");
    // Keys are tones.
    line.press(Digit::from_char('5').expect("a key"), Duration::from_millis(100)).expect("taken");
    line.attach(LineApp::Silence).expect("attached");
    peer.write_all(&[0, 0, 0]).await.expect("sent");
    assert_eq!(ended(&mut line).await, LineEnd::CallerHungUp);
}

async fn read_until(peer: &mut TcpStream, part: &[u8]) {
    let mut heard = Vec::new();
    soon("what is to come", async {
        while !holds(&heard, part) {
            let mut bytes = [0; 4096];
            let read = peer.read(&mut bytes).await.expect("the connection lasts");
            assert!(read > 0, "closed early");
            heard.extend_from_slice(&bytes[..read]);
        }
    })
    .await;
}

/// A peer by hand, its call accepted or not.
async fn by_hand(
    runtime: &AiRuntime,
    change: impl FnOnce(&mut LineConfig),
    first: &[u8],
) -> (TcpStream, Result<(LineStart, SocketLine), LineError>) {
    let (listener, address) = listen().await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    // Else it takes the kernel long to be full.
    socket.set_recv_buffer_size(4096).expect("a size");
    let mut peer = socket.connect(address).await.expect("a connection");
    peer.write_all(first).await.expect("sent");
    let mut config = config(LineProtocol::AudioSocket);
    change(&mut config);
    let accepted = accept(runtime, &listener, config).await;
    (peer, accepted)
}

#[tokio::test]
async fn who_introduces_no_call_is_left_and_costs_nothing() {
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let half_open = by_hand(&runtime, |config| config.start_timeout = Duration::from_millis(200), &[]).await;
    assert_eq!(half_open.1.err(), Some(LineError::Timeout(Duration::from_millis(200))));
    let short = |config: &mut LineConfig| config.start_timeout = Duration::from_millis(300);
    let part = by_hand(&runtime, short, &uuid()[..10]).await;
    assert!(matches!(part.1, Err(LineError::Timeout(_))));
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0x10, 0, 2, 0, 0], &[0x01, 0, 1, 9]] {
        let (_peer, accepted) = by_hand(&runtime, short, garbage).await;
        let Err(refused) = accepted else { panic!("{garbage:?} is no call") };
        let known = matches!(&refused, LineError::Ended(LineEnd::Protocol(_)) | LineError::Timeout(_));
        assert!(known, "{garbage:?}: {refused:?}");
    }
    let (_peer, accepted) = by_hand(&runtime, short, &[0, 0, 0]).await;
    assert_eq!(accepted.err(), Some(LineError::Ended(LineEnd::CallerHungUp)));
    // Errors for ever are no introduction.
    let (_peer, accepted) = by_hand(&runtime, |_| (), &[0xff, 0, 0].repeat(100)).await;
    assert!(matches!(accepted, Err(LineError::Ended(LineEnd::Protocol(_)))));
    eventually("nothing is left", || runtime.streams() == 0).await;
    assert_eq!(runtime.line_counters().not_started.value(), 7);
}

#[tokio::test]
async fn a_peer_that_never_reads_is_given_up() {
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let stall = Duration::from_millis(500);
    let (peer, accepted) = by_hand(&runtime, |config| config.write_stall = stall, &uuid()).await;
    let (_, mut line) = accepted.expect("a call");
    let samples: Arc<[i16]> = Arc::from(vec![1_000; 8_000]);
    line.attach(LineApp::Player(Box::new(Player::new(samples, true)))).expect("attached");
    // The receiver's window is what the kernel gives it; a wider format fills it sooner.
    let mut peer = peer;
    for _ in 0..3 {
        let frame = [&[0x16, 0x07, 0x80][..], &[1; 1920]].concat();
        peer.write_all(&frame).await.expect("sent");
    }
    let end = timeout(PATIENCE * 3, async {
        loop {
            if let Some(LineEvent::Ended(end, _)) = line.next_event().await {
                return end;
            }
        }
    });
    let end = end.await.expect("it is given up");
    assert!(matches!(end, LineEnd::Stalled | LineEnd::Lost(_)), "{end:?}");
    drop(peer);
    eventually("nothing is left", || runtime.streams() == 0).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_and_one_that_changes_its_mind_are_given_up() {
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let (_peer, accepted) =
        by_hand(&runtime, |config| config.silence_timeout = Duration::from_millis(300), &uuid()).await;
    let (_, mut line) = accepted.expect("a call");
    assert_eq!(ended(&mut line).await, LineEnd::Silent);
    let (mut peer, accepted) = by_hand(&runtime, |_| (), &uuid()).await;
    let (_, mut line) = accepted.expect("a call");
    let flips: Vec<u8> = [[0x10, 0, 2, 1, 1], [0x12, 0, 2, 1, 1]].concat().repeat(20);
    peer.write_all(&flips).await.expect("sent");
    assert!(matches!(ended(&mut line).await, LineEnd::Protocol(_)));
    // A frame that never gets whole, and the end in its middle.
    let (mut peer, accepted) = by_hand(&runtime, |_| (), &uuid()).await;
    let (_, mut line) = accepted.expect("a call");
    peer.write_all(&[0x10, 0xff, 0xff, 1, 2, 3]).await.expect("sent");
    drop(peer);
    assert!(matches!(ended(&mut line).await, LineEnd::Lost(_)));
    eventually("nothing is left", || runtime.streams() == 0).await;
}

#[tokio::test]
async fn a_flood_is_held_back_and_the_next_call_notices_nothing() {
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let (peer, accepted) = by_hand(&runtime, |_| (), &uuid()).await;
    let (_, mut flooded) = accepted.expect("a call");
    let frame = [&[0x10, 0x01, 0x40][..], &[3; 320]].concat();
    let (mut reader, mut writer) = peer.into_split();
    let flood = tokio::spawn(async move {
        let many = frame.repeat(100);
        let mut sent = 0u64;
        while writer.write_all(&many).await.is_ok() {
            sent += many.len() as u64;
            if sent > 64 << 20 {
                break;
            }
        }
        sent
    });
    let drain = tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while reader.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    });
    let (mut peer, accepted) = by_hand(&runtime, |_| (), &uuid()).await;
    let (_, mut line) = accepted.expect("a call");
    line.attach(LineApp::Echo).expect("attached");
    let speech = [&[0x12, 0x02, 0x80][..], &codes(640)].concat();
    for _ in 0..25 {
        peer.write_all(&speech).await.expect("sent");
        read_until(&mut peer, &speech).await;
    }
    flooded.hang_up().expect("taken");
    assert_eq!(ended(&mut flooded).await, LineEnd::HungUp);
    let sent = flood.await.expect("no panic");
    // Real time is 16 kB a second, two seconds ahead are allowed, and the kernel's buffers hold some.
    assert!(sent < 48 << 20, "{sent} bytes were taken");
    drain.abort();
    peer.write_all(&[0, 0, 0]).await.expect("sent");
    assert_eq!(ended(&mut line).await, LineEnd::CallerHungUp);
    eventually("nothing is left", || runtime.streams() == 0).await;
}

#[tokio::test]
async fn a_websocket_that_floods_with_texts_or_sends_too_much_at_once_is_survived() {
    use futures_util::SinkExt as _;
    use tokio_tungstenite::tungstenite::Message;
    for huge in [false, true] {
        let runtime = AiRuntime::start(&[]).expect("a runtime");
        let (listener, address) = listen().await;
        let peer = async {
            use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
            let mut request = format!("ws://{address}/media").into_client_request().expect("a request");
            request.headers_mut().insert("sec-websocket-protocol", "media".parse().expect("a value"));
            let tcp = TcpStream::connect(address).await.expect("a connection");
            let (mut socket, _) = tokio_tungstenite::client_async(request, tcp).await.expect("an upgrade");
            let start = json!({ "event": "MEDIA_START", "format": "ulaw", "optimal_frame_size": 160 });
            socket.send(Message::text(start.to_string())).await.expect("sent");
            socket
        };
        let (mut peer, accepted) =
            tokio::join!(peer, accept(&runtime, &listener, config(LineProtocol::ChanWebSocket)));
        let (_, mut line) = accepted.expect("a call");
        if huge {
            peer.send(Message::binary(vec![0; 100_000])).await.expect("sent");
            assert!(matches!(ended(&mut line).await, LineEnd::Protocol(_)));
        } else {
            for _ in 0..500 {
                peer.send(Message::text("WHAT")).await.expect("sent");
            }
            eventually("they are counted", || runtime.line_counters().messages_ignored.value() == 500).await;
            drop(line);
        }
        eventually("nothing is left", || runtime.streams() == 0).await;
    }
}

#[tokio::test]
async fn a_dropped_listener_and_a_dropped_line_end_their_connections() {
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let (mut peer, accepted) = by_hand(&runtime, |_| (), &uuid()).await;
    drop(accepted.expect("a call"));
    let mut last = Vec::new();
    soon("the end", peer.read_to_end(&mut last)).await.expect("an orderly end");
    assert_eq!(last[last.len() - 3..], [0, 0, 0], "AudioSocket's hang-up");
    let (listener, address): (TcpListener, SocketAddr) = listen().await;
    let mut peer = TcpStream::connect(address).await.expect("a connection");
    let waiting = accept(&runtime, &listener, config(LineProtocol::AudioSocket));
    assert!(timeout(Duration::from_millis(200), waiting).await.is_err(), "it waits for a UUID");
    let mut last = Vec::new();
    soon("the end", peer.read_to_end(&mut last)).await.expect("an orderly end");
    eventually("nothing is left", || runtime.streams() == 0).await;
}
