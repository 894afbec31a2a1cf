//! Pipecat, a voice-agent framework that others wrote, as the agent behind a call.

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::audio::{align_in_parts, rms, share_at, silence, tone};
use support::baresip::speech;
use support::phone::{Dial, Phone};
use support::pipecat::Pipecat;
use support::server::{Server, Setup};
use support::wav::decode_mu_law;
use support::within;

/// How a dialect looks to Pipecat.
struct Wire {
    dialect: &'static str,
    path: &'static str,
    /// More keys of the agent.
    agent: &'static str,
    /// The event that answers a mark, and where it has the name.
    mark: (&'static str, &'static str),
    /// The event of a key, and where it has the digit.
    key: (&'static str, &'static str),
    /// The event that confirms a clear, if there is one.
    cleared: Option<&'static str>,
}

const TWILIO: Wire = Wire {
    dialect: "twilio",
    path: "/ws",
    agent: "",
    mark: ("mark", "/mark/name"),
    key: ("dtmf", "/dtmf/digit"),
    cleared: None,
};
const TELNYX: Wire = Wire { dialect: "telnyx", ..TWILIO };
const EXOTEL: Wire = Wire { dialect: "exotel", ..TWILIO };
const PLIVO: Wire =
    Wire { dialect: "plivo", mark: ("playedStream", "/name"), cleared: Some("clearedAudio"), ..TWILIO };
const VONAGE: Wire = Wire {
    dialect: "vonage",
    path: "/vonage?rate=16000",
    mark: ("websocket:notify", "/payload/name"),
    key: ("websocket:dtmf", "/digit"),
    cleared: Some("websocket:cleared"),
    ..TWILIO
};

#[test]
fn audio_keys_marks_and_clear_work_at_8_khz() {
    let Some(pipecat) = Pipecat::start(8000) else { return };
    let server = server(&pipecat, &TWILIO);
    let phone = call(&server);
    starts_as_the_protocol_says(&pipecat);
    echoes(&phone, Duration::from_millis(700));
    a_mark_comes_back(&phone, &pipecat, &TWILIO);
    clear_empties_the_queue(&phone);
    a_burst_is_played_in_real_time(&phone, &pipecat, &TWILIO);
    caller_audio_has_no_gaps(&pipecat);
    pipecat_ends_the_call(&phone);
}

#[test]
fn audio_works_at_16_khz_with_odd_payloads() {
    let Some(pipecat) = Pipecat::start(16_000) else { return };
    let server = server(&pipecat, &TWILIO);
    let phone = call(&server);
    // Pipecat resamples and sends irregular payloads; its resampler adds to the delay.
    echoes(&phone, Duration::from_millis(1200));
    clear_empties_the_queue(&phone);
    pipecat_ends_the_call(&phone);
}

#[test]
fn telnyx_at_8_and_16_khz() {
    everything_works(&TELNYX);
}

#[test]
fn plivo_at_8_and_16_khz() {
    everything_works(&PLIVO);
}

#[test]
fn vonage_at_8_and_16_khz() {
    everything_works(&VONAGE);
}

#[test]
fn exotel_at_8_and_16_khz() {
    everything_works(&EXOTEL);
}

/// What Pipecat can do in a dialect, with its pipeline at the telephone's rate and at twice that.
fn everything_works(wire: &Wire) {
    for (rate_hz, longest_delay) in [(8000, 700), (16_000, 1200)] {
        let Some(pipecat) = Pipecat::start(rate_hz) else { return };
        let server = server(&pipecat, wire);
        let phone = call(&server);
        // Resampling to Vonage's rate and back adds to the delay too.
        echoes(&phone, Duration::from_millis(longest_delay + if wire.path == VONAGE.path { 500 } else { 0 }));
        a_mark_comes_back(&phone, &pipecat, wire);
        clear_empties_the_queue(&phone);
        if let Some(cleared) = wire.cleared {
            assert_eq!(pipecat.received(cleared).len(), 1, "{cleared}");
        }
        a_burst_is_played_in_real_time(&phone, &pipecat, wire);
        pipecat_ends_the_call(&phone);
        assert!(within(Duration::from_secs(5), || server.calls().is_empty()), "the call is gone");
    }
}

#[test]
fn the_callers_bye_is_told_by_stop_and_close() {
    let Some(pipecat) = Pipecat::start(8000) else { return };
    let server = server(&pipecat, &TWILIO);
    let phone = call(&server);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(phone.hang_up(), Some(200));
    assert!(within(Duration::from_secs(5), || !pipecat.received("stop").is_empty()), "stop comes");
    let finished =
        || pipecat.log().iter().any(|entry| entry["event"] == "disconnected" || entry["event"] == "finished");
    assert!(within(Duration::from_secs(5), finished), "the WebSocket is closed");
    let all: Vec<Value> = pipecat.log().into_iter().filter(|entry| entry["dir"] == "in").collect();
    assert_eq!(all.last().expect("messages came")["msg"]["event"], "stop", "nothing after stop");
    assert!(within(Duration::from_secs(5), || server.calls().is_empty()), "the call is gone");
}

/// Pipecat's own `auto_hang_up`, which asks Twilio's calls resource to complete the call.
#[test]
fn pipecat_hangs_up_by_the_calls_resource() {
    let Some(pipecat) = Pipecat::start_with_rest(8000) else { return };
    let mut setup = Setup::new(&format!(
        "[agents.pipecat]\nurl = \"{}\"\naccount_sid = \"{ACCOUNT}\"\nsigning_token_env = \"CALLS_TOKEN\"\n\
         [[routes]]\nregex = '\\d+'\napp = \"agent\"\nagent = \"pipecat\"\n",
        pipecat.url("/ws")
    ));
    setup.environment.push(("CALLS_TOKEN".to_owned(), "s3cret".to_owned()));
    let server = Server::start(&setup);
    pipecat.tell_rest(&format!("http://{}", server.http), ACCOUNT, "s3cret");
    let phone = call(&server);
    starts(&pipecat);
    pipecat_ends_the_call(&phone);
    let done = || pipecat.output().contains("Successfully terminated Twilio call CA");
    assert!(within(Duration::from_secs(5), done), "{}", pipecat.output());
    assert!(within(Duration::from_secs(5), || server.calls().is_empty()), "the call is gone");
}

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

fn server(pipecat: &Pipecat, wire: &Wire) -> Server {
    Server::start(&Setup::new(&format!(
        "[agents.pipecat]\nurl = \"{}\"\ndialect = \"{}\"\n{}sip_headers = [\"X-Campaign\"]\n\
         [agents.pipecat.parameters]\nlanguage = \"en\"\ncaller = \"{{from}}\"\n\
         [[routes]]\nregex = '\\d+'\napp = \"agent\"\nagent = \"pipecat\"\n",
        pipecat.url(wire.path),
        wire.dialect,
        wire.agent
    )))
}

fn call(server: &Server) -> Phone {
    let mut dial = Dial::new(server.sip, "4930123");
    dial.headers = vec!["X-Campaign: spring".to_owned()];
    Phone::dial_with(dial).expect("the call is answered")
}

/// `connected`, then `start` with the parameters and headers that the configuration chose.
fn starts_as_the_protocol_says(pipecat: &Pipecat) {
    starts(pipecat);
    let log = pipecat.log();
    let start = log.iter().find(|entry| entry["event"] == "start").expect("seen above");
    assert_eq!(start["kind"], "twilio", "{start}");
    let text = start["call"].to_string();
    assert!(text.contains("MZ") && text.contains("CA"), "the ids: {text}");
    assert!(text.contains("\"language\":\"en\""), "the custom parameter: {text}");
    assert!(text.contains("spring"), "the SIP header: {text}");
}

fn starts(pipecat: &Pipecat) {
    let upgraded = || pipecat.log().iter().any(|entry| entry["event"] == "start");
    assert!(within(Duration::from_secs(5), upgraded), "Pipecat understood the start");
}

/// The caller hears the own speech, as loud as it was, soon after it was said.
fn echoes(phone: &Phone, longest_delay: Duration) {
    std::thread::sleep(Duration::from_millis(800));
    let before = phone.audio().len();
    let speech = speech();
    phone.play(&speech);
    assert!(within(Duration::from_secs(10), || phone.has_spoken()));
    std::thread::sleep(longest_delay + Duration::from_millis(300));
    let heard = phone.audio();
    let heard = &heard[before.min(heard.len())..];
    let found = align_in_parts(&speech, heard);
    assert!(found.correlation > 0.9, "{found:?}");
    let copy = &heard[found.offset..(found.offset + speech.len()).min(heard.len())];
    let ratio = rms(copy) / rms(&speech);
    assert!((0.8..1.25).contains(&ratio), "loudness changed by {ratio}");
    // Both ends are counted in audio, so a busy machine does not matter much.
    let delay = Duration::from_millis(found.offset as u64 / 8);
    assert!(delay < longest_delay, "the echo took {delay:?}");
}

/// Key 1: Pipecat sends a mark, we send it back.
fn a_mark_comes_back(phone: &Phone, pipecat: &Pipecat, wire: &Wire) {
    let before = pipecat.received(wire.mark.0).len();
    phone.press('1');
    assert!(
        within(Duration::from_secs(3), || pipecat.received(wire.mark.0).len() > before),
        "the mark comes back"
    );
    let at = |entry: &Value, pointer: &str| entry["msg"].pointer(pointer).cloned();
    let key = pipecat.received(wire.key.0).pop().expect("the key");
    assert_eq!(at(&key, wire.key.1), Some("1".into()));
    let mark = pipecat.received(wire.mark.0).pop().expect("a mark");
    assert_eq!(at(&mark, wire.mark.1), Some("m1".into()), "{mark}");
}

/// Key 5 makes Pipecat talk for 10 s, key * makes it send `clear`: the tone stops at once.
fn clear_empties_the_queue(phone: &Phone) {
    let before = phone.heard_count();
    phone.press('5');
    let is_tone = |packet: &support::rtp::Heard| {
        let samples: Vec<i16> = packet.payload.iter().map(|&byte| decode_mu_law(byte)).collect();
        rms(&samples) > 1000.0 && share_at(440.0, &samples) > 0.8
    };
    let tone_packets = || phone.heard()[before..].iter().filter(|packet| is_tone(packet)).count();
    assert!(within(Duration::from_secs(5), || tone_packets() > 40), "the tone is heard");
    let pressed = Instant::now();
    phone.press('*');
    std::thread::sleep(Duration::from_millis(1500));
    let heard = phone.heard();
    let last = heard.iter().rev().find(|packet| is_tone(packet)).expect("the tone was heard").at;
    // The key takes 100 ms to press and is known at its first packet; Pipecat answers in milliseconds.
    let took = last.saturating_duration_since(pressed);
    assert!(took < Duration::from_millis(400), "the tone went on for {took:?}");
}

/// Key 9: 3 s of audio in one burst, then a mark, which comes back when the audio was played.
fn a_burst_is_played_in_real_time(phone: &Phone, pipecat: &Pipecat, wire: &Wire) {
    let before = pipecat.received(wire.mark.0).len();
    let from = phone.audio().len();
    phone.press('9');
    assert!(
        within(Duration::from_secs(6), || pipecat.received(wire.mark.0).len() > before),
        "the mark comes back"
    );
    let log = pipecat.log();
    let sent = log.iter().rev().find(|entry| entry["mark"].is_string()).expect("the mark was sent");
    let returned = pipecat.received(wire.mark.0).pop().expect("a mark");
    let took = returned["t"].as_f64().expect("a time") - sent["t"].as_f64().expect("a time");
    assert!((2.94..3.25).contains(&took), "the mark of 3 s of audio came back after {took} s");
    std::thread::sleep(Duration::from_millis(300));
    let heard = phone.audio();
    let found = align_in_parts(&tone(440.0, 2900, 8000.0), &heard[from..]);
    assert!(found.correlation > 0.9, "3 s of tone without gaps: {found:?}");
    // And then nothing but the echo of silence.
    let after = &heard[(from + found.offset + 8 * 3100).min(heard.len())..];
    assert!(rms(after) < 100.0, "{}", rms(after));
}

/// Media from us is clocked: chunks count up, timestamps rise by 20 ms, 160 bytes each.
fn caller_audio_has_no_gaps(pipecat: &Pipecat) {
    let media = pipecat.received("media");
    assert!(media.len() > 200, "{} media messages", media.len());
    let number = |entry: &Value, field: &str| -> u64 {
        entry["msg"]["media"][field].as_str().expect("numbers are strings").parse().expect("a number")
    };
    for pair in media.windows(2) {
        assert_eq!(number(&pair[1], "chunk"), number(&pair[0], "chunk") + 1);
        assert_eq!(number(&pair[1], "timestamp"), number(&pair[0], "timestamp") + 20);
        assert_eq!(pair[1]["msg"]["media"]["payload"], 160);
    }
    let first = media.first().expect("not empty")["t"].as_f64().expect("a time");
    let last = media.last().expect("not empty")["t"].as_f64().expect("a time");
    let expected = (media.len() - 1) as f64 * 0.02;
    assert!((last - first - expected).abs() < 0.2, "{} s for {expected} s of audio", last - first);
}

/// Key #: Pipecat closes the WebSocket, we hang up.
fn pipecat_ends_the_call(phone: &Phone) {
    assert!(phone.ended().is_none());
    phone.play(&silence(100));
    phone.press('#');
    assert!(within(Duration::from_secs(5), || phone.ended().is_some()), "BYE comes when the agent has gone");
}
