//! Listeners of calls on a real worker and at real WebSocket servers: they hear both sides exactly, and the calls do
//! not notice.
#![expect(clippy::disallowed_methods, reason = "tests of the real loop run in real time")]

mod relay_device;
mod relay_support;
mod rig;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::ai::dialect::{TapDialect, TapTracks};
use engine::ai::tap::{TapConfig, TapEnd, TapPort, TapSession};
use engine::ai::{AiConfig, AiRuntime, CallMeta};
use engine::codec::Law;
use engine::command::{Command, Tapped};
use engine::config::EngineConfig;
use engine::event::Event;
use engine::relay::Relay;
use engine::stream::{App, Stream};
use engine::{Engine, EngineEvents};
use futures_util::StreamExt as _;
use relay_device::KernelDevice;
use relay_support::between;
use rig::{Network, Phone, add, add_relay, config, next_event, poll_for, start};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

/// A WebSocket server that keeps what it is sent.
struct Listener {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Message>>>,
}

impl Listener {
    /// One that `reads`, or takes the connection and nothing more.
    fn start(reads: bool) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        let heard = Arc::<Mutex<Vec<Message>>>::default();
        let keep = Arc::clone(&heard);
        std::thread::spawn(move || {
            runtime().block_on(async move {
                socket.set_nonblocking(true).expect("a socket");
                let socket = tokio::net::TcpListener::from_std(socket).expect("a socket");
                let (tcp, _) = socket.accept().await.expect("a connection");
                let mut websocket =
                    tokio_tungstenite::accept_hdr_async(tcp, agree).await.expect("an upgrade");
                if !reads {
                    std::future::pending::<()>().await;
                }
                while let Some(Ok(message)) = websocket.next().await {
                    keep.lock().expect("no panic").push(message);
                }
            });
        });
        Self { address, heard }
    }

    fn messages(&self) -> Vec<Message> {
        self.heard.lock().expect("no panic").clone()
    }

    /// What a track of Twilio's messages said, silence left out.
    fn track(&self, track: &str) -> Vec<u8> {
        let media = self.events().into_iter().filter(|event| event["media"]["track"] == track);
        let payload = media.flat_map(|event| {
            BASE64.decode(event["media"]["payload"].as_str().expect("a payload")).expect("base64")
        });
        payload.filter(|&byte| byte != Law::Mu.silence()).collect()
    }

    fn events(&self) -> Vec<Value> {
        let text =
            |message: &Message| message.to_text().ok().and_then(|text| serde_json::from_str(text).ok());
        self.messages().iter().filter_map(text).collect()
    }

    /// What binary messages said.
    fn samples(&self) -> Vec<i16> {
        let binary = self.messages().into_iter().filter(Message::is_binary);
        let bytes: Vec<u8> = binary.flat_map(|message| message.into_data().to_vec()).collect();
        bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
    }

    fn closed(&self) -> bool {
        self.messages().last().is_some_and(Message::is_close)
    }
}

/// Takes whatever subprotocol is offered.
#[expect(clippy::result_large_err, reason = "the library's own type")]
fn agree(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if let Some(offered) = request.headers().get(PROTOCOL) {
        response.headers_mut().insert(PROTOCOL, offered.clone());
    }
    Ok(response)
}

const PROTOCOL: &str = "Sec-WebSocket-Protocol";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn tap(
    ai: &AiRuntime,
    listener: &Listener,
    (dialect, tracks): (TapDialect, TapTracks),
) -> (Box<TapPort>, TapSession) {
    let mut config = AiConfig::new(format!("ws://{}/listen", listener.address));
    config.write_stall = Duration::from_millis(500);
    let config = TapConfig { listener: config, dialect, tracks };
    let meta = CallMeta { call_id: "a84b4c76e66710@192.0.2.1".into(), ..CallMeta::default() };
    runtime().block_on(ai.tap(config, meta)).unwrap_or_else(|error| panic!("{error}"))
}

fn detach(engine: &Engine, events: &mut EngineEvents, call: Tapped, session: &TapSession) {
    engine.send(Command::RemoveTap { call, tap: session.id() }).expect("room");
    loop {
        if let Event::TapDetached { call: of, tap } = next_event(events) {
            assert_eq!((of, tap.id()), (call, session.id()));
            return;
        }
    }
}

fn ended(session: &mut TapSession) -> TapEnd {
    runtime()
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), session.ended()).await })
        .expect("an end")
}

/// 20 ms of audio that is like no other, without the two bytes of silence.
fn audio(side: usize, packet: usize) -> [u8; 160] {
    std::array::from_fn(|n| {
        let byte = (n * 31 + packet * 7 + side * 101) as u8;
        if matches!(byte, 0xff | 0x7f) { 0x80 } else { byte }
    })
}

fn said(side: usize, packets: std::ops::Range<usize>) -> Vec<u8> {
    packets.flat_map(|packet| audio(side, packet)).collect()
}

fn decoded(audio: &[u8]) -> Vec<i16> {
    let mut pcm = vec![0; audio.len()];
    Law::Mu.decode(audio, &mut pcm);
    pcm
}

/// Both speak at a call's pace.
fn talk(phones: &mut [Phone; 2], packets: std::ops::Range<usize>) {
    let begin = std::time::Instant::now();
    for (n, packet) in packets.enumerate() {
        for (side, phone) in phones.iter_mut().enumerate() {
            phone.say(&audio(side, packet));
        }
        std::thread::sleep((Duration::from_millis(20) * (n as u32 + 1)).saturating_sub(begin.elapsed()));
        phones.iter_mut().for_each(Phone::listen);
    }
    poll_for(Duration::from_millis(100), || {
        phones.iter_mut().for_each(Phone::listen);
        None::<()>
    });
}

/// Each heard all that the other said: every bit, once, in order, and with the other's own header.
fn assert_undisturbed(phones: &[Phone; 2], packets: usize) {
    for side in 0..2 {
        let (speaker, hearer) = (&phones[1 - side], &phones[side]);
        assert_eq!(hearer.heard_rtp.len(), packets, "none lost, none twice");
        for (n, packet) in hearer.heard_rtp.iter().enumerate() {
            assert_eq!(packet[8..12], speaker.ssrc().to_be_bytes());
            assert_eq!(packet[2..4], (100 + n as u16).to_be_bytes());
            assert_eq!(packet[12..], audio(1 - side, n));
        }
    }
}

struct RelayedCall {
    engine: Engine,
    events: EngineEvents,
    phones: [Phone; 2],
    call: Tapped,
}

fn relayed_call(
    config: EngineConfig,
    network: &Network,
    device: Box<dyn xdp::Device>,
    in_kernel: bool,
) -> RelayedCall {
    let (engine, mut events) = start(config, device);
    let mut phones = [Phone::new(network), Phone::new(network)];
    let mut parameters = between(Some(phones[0].rtp_address), Some(phones[1].rtp_address));
    parameters.in_kernel = in_kernel;
    let (id, locals) = add_relay(&engine, &mut events, Relay::new(parameters));
    for (phone, local) in phones.iter_mut().zip(locals) {
        phone.peer = Some(local);
    }
    RelayedCall { engine, events, phones, call: Tapped::Relay(id) }
}

#[test]
fn several_listeners_of_a_relay_hear_every_sample_of_both_sides() {
    let network = Network::Loopback(Default::default());
    let ai = AiRuntime::start(&[]).expect("a runtime");
    let mut it = relayed_call(config(8), &network, network.device(), false);
    // Before anybody listens.
    talk(&mut it.phones, 0..10);
    let wanted = [
        (TapDialect::Twilio, TapTracks::Both),
        (TapDialect::Raw, TapTracks::Both),
        (TapDialect::Jambonz, TapTracks::Mix),
        (TapDialect::Raw, TapTracks::Outbound),
    ];
    let listeners = wanted.map(|_| Listener::start(true));
    let mut sessions = Vec::new();
    for (listener, wanted) in listeners.iter().zip(wanted) {
        let (port, session) = tap(&ai, listener, wanted);
        it.engine.send(Command::AddTap { call: it.call, tap: port }).expect("room");
        sessions.push(session);
    }
    // The fifth is one too many, and goes back.
    let fifth = Listener::start(true);
    let (port, _fifth_session) = tap(&ai, &fifth, wanted[0]);
    it.engine.send(Command::AddTap { call: it.call, tap: port }).expect("room");
    poll_for(Duration::from_secs(10), || {
        matches!(next_event(&mut it.events), Event::TapDetached { .. }).then_some(())
    })
    .expect("the fifth goes back");

    talk(&mut it.phones, 10..70);
    for session in &sessions {
        detach(&it.engine, &mut it.events, it.call, session);
    }
    // When nobody listens any more.
    talk(&mut it.phones, 70..80);
    assert_undisturbed(&it.phones, 80);

    for (session, listener) in sessions.iter_mut().zip(&listeners) {
        assert_eq!(ended(session), TapEnd::Stopped);
        assert_eq!(session.figures().overflow, 0);
        poll_for(Duration::from_secs(10), || listener.closed().then_some(())).expect("a goodbye");
    }
    let [twilio, stereo, mix, outbound] = &listeners;
    let sides = [said(0, 10..70), said(1, 10..70)];
    assert_eq!(twilio.track("inbound"), sides[0]);
    assert_eq!(twilio.track("outbound"), sides[1]);
    let events = twilio.events();
    assert_eq!((&events[0]["event"], &events[1]["event"]), (&"connected".into(), &"start".into()));
    assert_eq!(events.last().expect("messages")["event"], "stop");
    let numbers =
        events.iter().skip(1).map(|event| event["sequenceNumber"].as_str().expect("a number").to_owned());
    assert!(numbers.eq((1..events.len()).map(|n| n.to_string())), "every message is numbered");
    let stereo = stereo.samples();
    for (side, said) in sides.iter().enumerate() {
        let channel: Vec<i16> =
            stereo.iter().skip(side).step_by(2).copied().filter(|&sample| sample != 0).collect();
        assert_eq!(channel, decoded(said));
    }
    let outbound: Vec<i16> = outbound.samples().into_iter().filter(|&sample| sample != 0).collect();
    assert_eq!(outbound, decoded(&sides[1]));
    assert_eq!(mix.events()[0]["mixType"], "mixed");
    // The sum of all samples is kept by adding, wherever one side lies against the other, unless it is clipped.
    assert!(mix.samples().len() >= 60 * 160);
}

#[test]
fn a_listener_that_never_reads_is_given_up_and_the_call_goes_on() {
    let network = Network::Loopback(Default::default());
    let ai = AiRuntime::start(&[]).expect("a runtime");
    let mut it = relayed_call(config(8), &network, network.device(), false);
    let (deaf, good) = (Listener::start(false), Listener::start(true));
    let (deaf_port, mut deaf_session) = tap(&ai, &deaf, (TapDialect::Twilio, TapTracks::Both));
    let (good_port, good_session) = tap(&ai, &good, (TapDialect::Twilio, TapTracks::Both));
    for tap in [deaf_port, good_port] {
        it.engine.send(Command::AddTap { call: it.call, tap }).expect("room");
    }
    let mut packets = 0;
    let end = loop {
        talk(&mut it.phones, packets..packets + 50);
        packets += 50;
        let ended = runtime()
            .block_on(async { tokio::time::timeout(Duration::from_millis(1), deaf_session.ended()).await });
        match ended {
            Ok(end) => break end,
            Err(_) => assert!(packets < 5_000, "given up in time"),
        }
    };
    assert_eq!(end, TapEnd::Failed("the listener stopped reading".into()));
    // It may stay where it is: nothing more happens to it.
    talk(&mut it.phones, packets..packets + 10);
    assert_undisturbed(&it.phones, packets + 10);
    detach(&it.engine, &mut it.events, it.call, &deaf_session);
    detach(&it.engine, &mut it.events, it.call, &good_session);
    poll_for(Duration::from_secs(10), || good.closed().then_some(())).expect("a goodbye");
    assert_eq!(good.track("inbound"), said(0, 0..packets + 10));
    assert_eq!(good.track("outbound"), said(1, 0..packets + 10));
}

#[test]
fn a_relay_in_the_kernel_comes_back_for_a_listener_and_goes_there_again() {
    let network = Network::Loopback(Default::default());
    let ai = AiRuntime::start(&[]).expect("a runtime");
    let (device, _kernel) = KernelDevice::new(network.device());
    let mut it = relayed_call(config(8), &network, Box::new(device), true);
    let counters = Arc::clone(&it.engine.worker_counters()[0]);
    let mut packets = 0;
    let mut talk_until = |phones: &mut [Phone; 2], done: &dyn Fn() -> bool| {
        while !done() {
            talk(phones, packets..packets + 10);
            packets += 10;
            assert!(packets < 2_000, "in time");
        }
        packets
    };
    talk_until(&mut it.phones, &|| counters.flows_promoted.value() == 2);
    let listener = Listener::start(true);
    let (port, mut session) = tap(&ai, &listener, (TapDialect::Twilio, TapTracks::Both));
    it.engine.send(Command::AddTap { call: it.call, tap: port }).expect("room");
    poll_for(Duration::from_secs(10), || (counters.flows_demoted.value() == 2).then_some(()))
        .expect("taken back");
    let first = talk_until(&mut it.phones, &|| true);
    let mut more = 0;
    let last = talk_until(&mut it.phones, &|| session.figures().sent > 20);
    more += last - first;
    assert!(more > 0);
    detach(&it.engine, &mut it.events, it.call, &session);
    let all = talk_until(&mut it.phones, &|| counters.flows_promoted.value() == 4);
    assert_undisturbed(&it.phones, all);
    assert_eq!(ended(&mut session), TapEnd::Stopped);
    poll_for(Duration::from_secs(10), || listener.closed().then_some(())).expect("a goodbye");
    assert_eq!(listener.track("inbound"), said(0, first..last));
    assert_eq!(listener.track("outbound"), said(1, first..last));
}

#[test]
fn listeners_of_a_stream_hear_what_it_hears_and_what_it_sends() {
    let network = Network::Loopback(Default::default());
    let ai = AiRuntime::start(&[]).expect("a runtime");
    let (engine, mut events) = start(config(8), network.device());
    let mut phone = Phone::new(&network);
    let (id, local) = add(&engine, &mut events, Stream::new(phone.parameters()));
    phone.peer = Some(local);
    engine.send(Command::Attach { id, app: App::Echo }).expect("room");
    let listener = Listener::start(true);
    let (port, mut session) = tap(&ai, &listener, (TapDialect::Twilio, TapTracks::Both));
    engine.send(Command::AddTap { call: Tapped::Stream(id), tap: port }).expect("room");
    for packet in 0..60 {
        phone.say(&audio(0, packet));
        std::thread::sleep(Duration::from_millis(20));
        phone.listen();
    }
    // The call's end is the tap's, too: the port goes with the stream.
    engine.send(Command::RemoveStream { id }).expect("room");
    loop {
        if let Event::StreamRemoved { stream, .. } = next_event(&mut events) {
            drop(stream);
            break;
        }
    }
    assert_eq!(ended(&mut session), TapEnd::Stopped);
    poll_for(Duration::from_secs(10), || listener.closed().then_some(())).expect("a goodbye");
    phone.listen();
    let echoed: Vec<u8> = phone.heard_rtp.iter().flat_map(|packet| packet[12..].to_vec()).collect();
    // Concealment may have said the other zero of mu-law.
    let echoed: Vec<u8> = echoed.into_iter().filter(|byte| !matches!(byte, 0xff | 0x7f)).collect();
    let outbound = listener.track("outbound");
    assert!(outbound.len() >= 40 * 160, "{}", outbound.len());
    // What was sent before the listener came is not heard by it.
    assert!(echoed.ends_with(&outbound), "{} of {}", outbound.len(), echoed.len());
    assert_eq!(listener.track("inbound"), outbound, "an echo");
}
