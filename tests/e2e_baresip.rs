//! baresip, a real phone: what it hears is the right speech.

mod support;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use support::audio::{align, align_in_parts, rms, silence};
use support::baresip::{Baresip, speech};
use support::ports::free_loopback_port;
use support::server::{Server, Setup};
use support::wav::decode_mu_law;
use support::{fixture, program};

/// The instrument itself: baresip, its recordings and the correlation, without a line of ours in the path.
#[test]
fn baresip_hears_its_own_speech_from_sipps_echo() {
    if !program("baresip") || !program("sipp") {
        return;
    }
    let port = free_loopback_port();
    let mut sipp = Command::new("sipp")
        .args(["-sn", "uas", "-rtp_echo", "-i", "127.0.0.1", "-p", &port.to_string()])
        .args(["-mp", &free_loopback_port().to_string(), "-m", "1", "-nostdin", "-timeout", "30"])
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sipp starts");
    std::thread::sleep(Duration::from_millis(500));
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let recording = Baresip::call(server, "echo", &spoken(), PCMU).recording(LIMIT);
    let _ = sipp.kill();
    let _ = sipp.wait();
    let found = align_in_parts(&speech(), &recording.heard);
    assert!(found.correlation > 0.95, "{found:?}\n{}", recording.log);
}

#[test]
fn echo_returns_the_callers_speech() {
    if !program("baresip") {
        return;
    }
    echo_returns_speech_in_one_piece(PCMU);
}

#[test]
fn echo_returns_the_callers_speech_in_a_law() {
    if !program("baresip") {
        return;
    }
    let log = echo_returns_speech_in_one_piece("audio_codecs=PCMA/8000/1");
    assert!(log.contains("Set audio decoder: PCMA"), "{log}");
}

/// Calls `echo`; the recorded return audio is the speech, whole. A busy machine makes the phone itself stumble,
/// and then a jitter buffer rightly moves audio by a frame: such a call is placed again, twice at most.
fn echo_returns_speech_in_one_piece(account: &str) -> String {
    let server = shared();
    let mut tried = Vec::new();
    for _ in 0..3 {
        let recording = Baresip::call(server.sip, "echo", &spoken(), account).recording(LIMIT);
        let found = align(&speech(), &recording.heard);
        eprintln!("echo to baresip: {found:?}");
        if found.correlation > 0.95 {
            return recording.log;
        }
        tried.push(found);
    }
    panic!("not one call of three returned the speech: {tried:?}");
}

#[test]
fn a_played_file_is_heard_from_its_start_to_its_end() {
    if !program("baresip") {
        return;
    }
    let server = shared();
    let recording = Baresip::call(server.sip, "play", &silence(8000), PCMU).recording(LIMIT);
    let found = align_in_parts(&speech(), &recording.heard);
    assert!(found.correlation > 0.95, "{found:?}\n{}", recording.log);
    assert!(recording.heard.len() < 8 * 7000, "the call ends after the file, not with the caller");
}

#[test]
fn the_demo_agent_greets_then_repeats_what_it_heard() {
    if !program("baresip") {
        return;
    }
    let server = shared();
    let greeting = greeting();
    let mut microphone = silence(greeting.len() / 8 + 1500);
    microphone.extend(speech());
    microphone.extend(silence(speech().len() / 8 + 4000));
    let recording = Baresip::call(server.sip, "agent", &microphone, PCMU).recording(LIMIT);
    let greeted = align_in_parts(&greeting, &recording.heard);
    assert!(greeted.correlation > 0.95, "greeting: {greeted:?}\n{}", recording.log);
    let rest = &recording.heard[(greeted.offset + greeting.len()).min(recording.heard.len())..];
    let repeated = align_in_parts(&speech(), rest);
    assert!(repeated.correlation > 0.9, "repetition: {repeated:?}\n{}", recording.log);
}

#[test]
fn the_demo_agent_stops_when_the_caller_talks_over_it() {
    if !program("baresip") {
        return;
    }
    let server = shared();
    let greeting = greeting();
    // The caller begins half a second into the greeting.
    let mut microphone = silence(500);
    microphone.extend(speech());
    microphone.extend(silence(2000));
    let recording = Baresip::call(server.sip, "agent", &microphone, PCMU).recording(LIMIT);
    let head = &greeting[..4000.min(greeting.len())];
    let start = align(head, &recording.heard[..recording.heard.len().min(8 * 4000)]);
    assert!(start.correlation > 0.9, "the greeting begins: {start:?}\n{}", recording.log);
    // From 0.8 s after the caller has begun until the caller has ended (then the repetition comes).
    let silent = 8 * 1300..8 * 500 + speech().len();
    let missed = greeting.get(silent.clone()).expect("the greeting is longer than the caller's words");
    let heard = &recording.heard[start.offset + silent.start..start.offset + silent.end];
    assert!(rms(missed) > 500.0, "the greeting is not silent there");
    assert!(rms(heard) < rms(missed) / 10.0, "{} heard where the greeting has {}", rms(heard), rms(missed));
}

/// The prompt that the demo agent ships, without the silence around it.
fn greeting() -> Vec<i16> {
    let bytes = std::fs::read(fixture("../assets/demo-greeting.ulaw")).expect("the shipped greeting");
    bytes.into_iter().map(decode_mu_law).collect()
}

/// A second of silence, the speech, and time for it to come back.
fn spoken() -> Vec<i16> {
    let mut samples = silence(1000);
    samples.extend(speech());
    samples.extend(silence(1500));
    samples
}

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

fn shared() -> Arc<Server> {
    Server::shared(&SHARED, || {
        Setup::new(&format!(
            "[[routes]]\nmatch = \"echo\"\napp = \"echo\"\n\
             [[routes]]\nmatch = \"agent\"\napp = \"agent\"\nagent = \"demo\"\n\
             [[routes]]\nmatch = \"play\"\napp = \"play\"\nfile = \"{}\"\n",
            fixture("fixtures/caller.wav").display()
        ))
    })
}

const PCMU: &str = "audio_codecs=PCMU/8000/1";
const LIMIT: Duration = Duration::from_secs(60);
