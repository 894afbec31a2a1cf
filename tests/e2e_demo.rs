//! What works without any configuration: the echo and the demo agent, measured packet by packet.

mod support;

use std::time::{Duration, Instant};

use support::audio::{align_in_parts, rms, tone};
use support::baresip::speech;
use support::bystander::Bystander;
use support::phone::Phone;
use support::server::{Server, Setup};
use support::wav::decode_mu_law;
use support::within;

#[test]
fn echo_returns_every_packet_unchanged_and_soon() {
    let server = Server::start(&Setup::new(""));
    let call = Bystander::start(server.sip, 5);
    let calls = server.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0]["app"], "echo");
    let harm = call.finish();
    harm.is_below(0.005);
    assert!(within(Duration::from_secs(3), || server.calls().is_empty()));
}

#[test]
fn the_demo_agent_repeats_what_was_said_after_a_pause() {
    let server = Server::start(&Setup::new(""));
    let phone = Phone::dial(server.sip, "agent").expect("the call is answered");
    greeting_ends(&phone);
    let from = phone.audio().len();
    phone.play(&speech());
    assert!(within(Duration::from_secs(15), || {
        let heard = phone.audio();
        heard.len() > from + speech().len() + 8 * 2500
            && align_in_parts(&speech(), &heard[from..]).correlation > 0.9
    }));
    assert_eq!(phone.hang_up(), Some(200));
}

#[test]
fn the_demo_agent_falls_silent_when_talked_over() {
    let server = Server::start(&Setup::new(""));
    let phone = Phone::dial(server.sip, "agent").expect("the call is answered");
    assert!(within(Duration::from_secs(5), || loud_packets(&phone) > 40), "the greeting is heard");
    // A voice-like sound from its first sample on, unlike anything the agent says by itself.
    let spoke = Instant::now();
    phone.play(&tone(300.0, 1500, 9000.0));
    std::thread::sleep(Duration::from_millis(1400));
    let last = phone.heard().iter().rev().find(|packet| is_loud(&packet.payload)).map(|packet| packet.at);
    let took = last.expect("the greeting was heard").saturating_duration_since(spoke);
    println!("the greeting stopped {took:?} after the caller began");
    assert!(took < Duration::from_millis(600), "the greeting went on for {took:?}");
    assert_eq!(phone.hang_up(), Some(200));
}

#[test]
fn the_callers_hang_up_frees_everything() {
    let server = Server::start(&Setup::new(""));
    for user in ["agent", "echo"] {
        let phone = Phone::dial(server.sip, user).expect("the call is answered");
        assert_eq!(server.calls().len(), 1);
        assert_eq!(phone.hang_up(), Some(200));
        assert!(within(Duration::from_secs(3), || server.calls().is_empty()), "{user}: the call is gone");
        let heard = phone.heard_count();
        std::thread::sleep(Duration::from_millis(300));
        assert!(phone.heard_count() <= heard + 1, "{user}: no media after BYE");
    }
    let streams = || server.metric("sidetone_worker_streams", "").expect("a metric");
    assert!(within(Duration::from_secs(3), || streams() == 0.0), "{} streams are left", streams());
}

#[test]
fn hold_stops_media_and_resume_brings_it_back() {
    let server = Server::start(&Setup::new(""));
    let phone = Phone::dial(server.sip, "echo").expect("the call is answered");
    assert!(within(Duration::from_secs(3), || phone.heard_count() > 20));
    let offer = |direction: &str| support::sip::sdp(phone.media_address(), direction);
    let held = phone.request("INVITE", &[], &offer("sendonly")).expect("an answer");
    assert_eq!(held.status(), Some(200));
    std::thread::sleep(Duration::from_millis(200));
    let heard = phone.heard_count();
    std::thread::sleep(Duration::from_millis(500));
    assert!(phone.heard_count() <= heard + 1, "{} packets came on hold", phone.heard_count() - heard);
    let resumed = phone.request("INVITE", &[], &offer("sendrecv")).expect("an answer");
    assert_eq!(resumed.status(), Some(200));
    let heard = phone.heard_count();
    assert!(within(Duration::from_secs(2), || phone.heard_count() > heard + 20), "media comes back");
    assert_eq!(phone.hang_up(), Some(200));
}

#[test]
fn media_follows_a_reinvite_to_another_port() {
    let server = Server::start(&Setup::new(""));
    let phone = Phone::dial(server.sip, "echo").expect("the call is answered");
    assert!(within(Duration::from_secs(3), || phone.heard_count() > 20));
    let other = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    other.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    let address = other.local_addr().expect("bound");
    let answer = phone.request("INVITE", &[], &support::sip::sdp(address, "sendrecv")).expect("an answer");
    assert_eq!(answer.status(), Some(200));
    // The phone speaks from its old port no more; the new one has to be spoken to without having spoken.
    phone.mute(true);
    let mut buffer = [0; 2048];
    let mut came = 0;
    while came < 20 && other.recv_from(&mut buffer).is_ok() {
        came += 1;
    }
    assert_eq!(came, 20, "media follows to the new port");
    let heard = phone.heard_count();
    std::thread::sleep(Duration::from_millis(300));
    assert!(phone.heard_count() <= heard + 1, "nothing goes to the old port");
    assert_eq!(phone.hang_up(), Some(200));
}

/// Waits until a second of silence follows the greeting.
fn greeting_ends(phone: &Phone) {
    assert!(within(Duration::from_secs(5), || loud_packets(phone) > 40), "the greeting is heard");
    let quiet = || {
        let heard = phone.heard();
        heard.iter().rev().take(50).all(|packet| !is_loud(&packet.payload))
    };
    assert!(within(Duration::from_secs(15), quiet), "the greeting ends");
}

fn loud_packets(phone: &Phone) -> usize {
    phone.heard().iter().filter(|packet| is_loud(&packet.payload)).count()
}

fn is_loud(payload: &[u8]) -> bool {
    let samples: Vec<i16> = payload.iter().map(|&byte| decode_mu_law(byte)).collect();
    rms(&samples) > 150.0
}
