//! SIPp as the caller: signalling as the RFCs say, message by message. The scenarios in tests/sipp assert on
//! contents; what they cannot see (media, the agent's side) is checked here.

mod support;

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use support::agent::Agent;
use support::audio::{key, silence};
use support::baresip::speech;
use support::pcap;
use support::rtp::{Header, telephone_event};
use support::server::{Server, Setup};
use support::sipp::Scenario;
use support::wav::{encode_a_law, encode_mu_law};
use support::{present, program, within};

#[test]
fn a_basic_call_over_udp() {
    run("basic", "echo", &[]);
}

#[test]
fn a_basic_call_over_tcp() {
    run("basic", "echo", &["-t", "t1"]);
}

#[test]
fn a_basic_call_over_ipv6() {
    if !program("sipp") || !present("IPv6 on loopback", UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()) {
        return;
    }
    let mut setup = Setup::new(ROUTES);
    setup.sip_ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let server = Server::start(&setup);
    Scenario::new("basic_ipv6", server.sip).user("echo").passes();
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    run("late_offer", "echo", &[]);
}

#[test]
fn cancel_ends_a_call_that_is_not_answered_yet() {
    run("cancel", "stalled", &["-pause_msg_ign"]);
}

#[test]
fn hold_and_resume_change_the_direction() {
    run("hold", "echo", &[]);
}

#[test]
fn a_reinvite_moves_media_and_changes_the_codec() {
    run("move_media", "echo", &[]);
}

#[test]
fn update_holds_and_refreshes() {
    run("update", "echo", &[]);
}

#[test]
fn options_tells_what_we_can() {
    run("options", "echo", &[]);
}

#[test]
fn an_unknown_method_is_refused_with_allow() {
    run("unknown_method", "echo", &[]);
}

#[test]
fn a_codec_we_do_not_have_is_refused_with_a_warning() {
    run("wrong_codec", "echo", &[]);
}

#[test]
fn an_offer_without_media_is_refused() {
    run("no_audio", "echo", &[]);
}

#[test]
fn a_body_that_is_no_sdp_is_refused() {
    run("bad_sdp", "echo", &[]);
}

#[test]
fn a_body_of_another_type_is_refused_with_accept() {
    run("unsupported_body", "echo", &[]);
}

#[test]
fn unusable_media_lines_are_refused_with_port_0() {
    run("several_media", "echo", &[]);
}

#[test]
fn a_user_without_route_is_not_found() {
    run("not_found", "nobody", &[]);
}

#[test]
fn a_rejecting_route_gives_its_own_status_and_reason() {
    run("rejected", "rejected", &[]);
}

#[test]
fn an_agent_that_refuses_makes_503_with_retry_after() {
    run("unavailable", "refusing", &[]);
}

#[test]
fn bye_outside_of_a_call_is_answered_481() {
    run("unknown_dialog", "echo", &[]);
}

#[test]
fn a_required_extension_we_do_not_have_is_named() {
    run("require_unknown", "echo", &[]);
}

#[test]
fn ringing_is_reliable_where_the_caller_requires_it() {
    run("prack", "echo", &[]);
}

#[test]
fn a_session_interval_below_90_seconds_is_refused_and_refreshes_are_answered() {
    run("timer_too_small", "echo", &[]);
}

#[test]
fn we_refresh_the_session_at_half_of_its_interval() {
    run_for("timer_refresh", "echo", &[], 75);
}

#[test]
fn a_session_without_refresh_ends_with_bye() {
    run_for("timer_expiry", "echo", &[], 90);
}

#[test]
fn repeated_requests_are_one_call() {
    run("retransmissions", "echo", &["-nr"]);
}

#[test]
fn a_lost_ack_repeats_the_answer_then_ends_the_call() {
    run_for("lost_ack", "echo", &["-nr"], 60);
}

#[test]
fn keys_by_rtp_reach_the_agent_once_each() {
    if !play("dtmf_rfc4733", "rtp-keys") {
        return;
    }
    assert_eq!(keys(&BACKENDS.rtp_keys), ["4", "2", "#"]);
}

#[test]
fn keys_as_tones_reach_the_agent_once_each() {
    if !play("dtmf_inband", "tone-keys") {
        return;
    }
    assert_eq!(keys(&BACKENDS.tone_keys), ["4", "2", "2", "#", "D"]);
}

#[test]
fn keys_by_info_reach_the_agent_once_each() {
    if run("dtmf_info", "info-keys", &[]).is_none() {
        return;
    }
    assert_eq!(keys(&BACKENDS.info_keys), ["5", "7"]);
}

#[test]
fn played_rtp_is_heard_by_the_agent() {
    if !play("pcap", "listening") {
        return;
    }
    let media = BACKENDS.listening.events("media");
    let heard: Vec<i16> = media
        .iter()
        .flat_map(|(_, message)| support::agent::payload(message))
        .map(support::wav::decode_mu_law)
        .collect();
    let found = support::audio::align_in_parts(&speech(), &heard);
    assert!(found.correlation > 0.95, "{found:?} over {} messages", media.len());
}

#[test]
fn played_rtp_is_echoed_packet_by_packet() {
    if !can_play_captures() {
        return;
    }
    // A server of its own, so that its counters are of this call only.
    let server = Server::start(&Setup::new(ROUTES));
    Scenario::new("pcap", server.sip).user("echo").folder(captures()).passes();
    let packets = speech().len().div_ceil(160) as f64;
    let received = server.metric(RECEIVED, "").unwrap_or(0.0);
    let sent = server.metric(SENT, "").unwrap_or(0.0);
    assert!(received >= packets, "{received} of {packets} packets arrived");
    assert!(sent >= packets, "{sent} packets sent back for {packets}");
}

#[test]
fn draining_refuses_new_calls_and_keeps_running_ones() {
    if !program("sipp") {
        return;
    }
    let server = Server::start(&Setup::new(&format!("{ROUTES}\n[drain]\ntimeout = \"5s\"\n")));
    let call = support::phone::Phone::dial(server.sip, "echo").expect("the call is answered");
    server.signal("TERM");
    assert!(within(Duration::from_secs(3), || server.get("/readyz").is_none_or(|(status, _)| status == 503)));
    Scenario::new("options_draining", server.sip).user("echo").passes();
    Scenario::new("invite_draining", server.sip).user("echo").passes();
    assert!(call.ended().is_none(), "the running call was kept");
    let heard = call.heard_count();
    assert!(within(Duration::from_secs(2), || call.heard_count() > heard + 25), "its media goes on");
    assert!(within(Duration::from_secs(10), || call.ended().is_some()), "then it is ended with BYE");
    assert_eq!(server.wait(Duration::from_secs(10)), Some(0));
}

/// The backends of the shared server; they live as long as the test process.
struct Backends {
    rtp_keys: Agent,
    tone_keys: Agent,
    info_keys: Agent,
    listening: Agent,
    refusing: Agent,
    stalled: Agent,
}

static BACKENDS: LazyLock<Backends> = LazyLock::new(|| {
    let listening = || Agent::start(|call| call.listen(|_, _| {}));
    Backends {
        rtp_keys: listening(),
        tone_keys: listening(),
        info_keys: listening(),
        listening: listening(),
        refusing: Agent::raw(drop),
        // Takes the connection and never says a word.
        stalled: Agent::raw(|stream| {
            std::thread::sleep(Duration::from_secs(60));
            drop(stream);
        }),
    }
});

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

fn shared() -> Arc<Server> {
    Server::shared(&SHARED, || {
        let agents = [
            ("rtp-keys", &BACKENDS.rtp_keys),
            ("tone-keys", &BACKENDS.tone_keys),
            ("info-keys", &BACKENDS.info_keys),
            ("listening", &BACKENDS.listening),
            ("refusing", &BACKENDS.refusing),
            ("stalled", &BACKENDS.stalled),
        ];
        let mut config = format!("[calls]\nanswer_delay = \"200ms\"\n{ROUTES}");
        for (name, agent) in agents {
            config += &format!(
                "[agents.{name}]\nurl = \"{}\"\nconnect_timeout = \"10s\"\n\
                 [[routes]]\nmatch = \"{name}\"\napp = \"agent\"\nagent = \"{name}\"\n",
                agent.url()
            );
        }
        Setup::new(&config)
    })
}

/// Runs a scenario against the shared server; `None` if SIPp is missing (a visible skip).
fn run(scenario: &str, user: &str, arguments: &[&str]) -> Option<Arc<Server>> {
    run_for(scenario, user, arguments, 30)
}

fn run_for(scenario: &str, user: &str, arguments: &[&str], seconds: u64) -> Option<Arc<Server>> {
    if !program("sipp") {
        return None;
    }
    let server = shared();
    let scenario = Scenario::new(scenario, server.sip).user(user).arguments(arguments);
    scenario.limit(Duration::from_secs(seconds)).passes();
    Some(server)
}

/// Runs a scenario that plays a capture; false if that cannot be done here (a visible skip).
fn play(scenario: &str, user: &str) -> bool {
    if !can_play_captures() {
        return false;
    }
    let server = shared();
    Scenario::new(scenario, server.sip).user(user).folder(captures()).passes();
    true
}

/// SIPp plays captures through a raw socket.
fn can_play_captures() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0").trim();
    let raw = u64::from_str_radix(capabilities, 16).is_ok_and(|bits| bits >> CAP_NET_RAW & 1 == 1);
    program("sipp") && present("the right to open raw sockets (run as root)", raw)
}

/// The captures that the scenarios play: a second of silence and keys, speech.
fn captures() -> std::path::PathBuf {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_captures(folder.path());
        folder
    });
    FOLDER.path().to_owned()
}

fn write_captures(folder: &Path) {
    let mut header =
        Header { payload_type: 0, marker: true, sequence_number: 1, timestamp: 0, ssrc: 0x5157_0001 };
    let mut packets = Vec::new();
    let mut tick = 0u32;
    let mut push = |header: &mut Header, payload_type: u8, timestamp: u32, payload: &[u8]| {
        let at = Duration::from_millis(20) * tick;
        packets.push((at, Header { payload_type, timestamp, ..*header }.packet(payload)));
        header.marker = false;
        header.sequence_number += 1;
        tick += 1;
        tick * 160
    };
    let mut now = 0;
    for key in ['4', '2', '#'] {
        for _ in 0..10 {
            now = push(&mut header, 0, now, &[0xFF; 160]);
        }
        let start = now;
        for payload in telephone_event(key) {
            header.marker = payload[2..] == [0, 160];
            now = push(&mut header, 101, start, &payload);
        }
    }
    for _ in 0..10 {
        now = push(&mut header, 0, now, &[0xFF; 160]);
    }
    pcap::write(&folder.join("keys.pcap"), &packets);

    pcap::write(&folder.join("speech.pcap"), &audio(&speech(), 0, encode_mu_law));

    // Keys at an ordinary pace, held for long and hardly touched, with speech before and after them.
    let speech = &speech()[..8000];
    let mut tones = [silence(200), speech.to_vec(), silence(100)].concat();
    for (name, ms) in [('4', 100), ('2', 60), ('2', 700), ('#', 50), ('D', 100)] {
        tones.extend([key(name, ms, 4000.0), silence(73)].concat());
    }
    tones.extend([speech.to_vec(), silence(200)].concat());
    pcap::write(&folder.join("tones.pcap"), &audio(&tones, 8, encode_a_law));
}

/// Packets of 20 ms and when they are sent.
fn audio(samples: &[i16], payload_type: u8, encode: fn(i16) -> u8) -> Vec<(Duration, Vec<u8>)> {
    let packet = |(block, index): (&[i16], u16)| {
        let mut payload: Vec<u8> = block.iter().map(|&sample| encode(sample)).collect();
        payload.resize(160, encode(0));
        let timestamp = u32::from(index) * 160;
        let header = Header { payload_type, marker: index == 0, sequence_number: index, timestamp, ssrc: 7 };
        (Duration::from_millis(20) * u32::from(index), header.packet(&payload))
    };
    samples.chunks(160).zip(0u16..).map(packet).collect()
}

fn keys(agent: &Agent) -> Vec<String> {
    let digits = agent.events("dtmf");
    digits.iter().map(|(_, message)| message["dtmf"]["digit"].as_str().unwrap_or("?").to_owned()).collect()
}

const CAP_NET_RAW: u32 = 13;
const RECEIVED: &str = "sidetone_device_received_datagrams_total";
const SENT: &str = "sidetone_device_transmitted_datagrams_total";

const ROUTES: &str = r#"
[[routes]]
match = "echo"
app = "echo"
[[routes]]
match = "rejected"
app = "reject"
status = 603
reason = "Not today"
"#;
