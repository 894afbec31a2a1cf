//! Kamailio with its rtpengine module in front of two SIPp phones; their audio goes through us.

mod support;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::ng::{Ng, Process, rtpengine};
use support::ports::{free_loopback_port, free_sipp_media_port};
use support::server::{Server, Setup};
use support::{fixture, program, within};

#[test]
fn a_call_through_kamailio_has_its_media_relayed_by_us() {
    if !all_present() {
        return;
    }
    let server = Server::start(&Setup::new(""));
    calls_through_kamailio(server.ng);
    assert_eq!(server.metric("sidetone_ng_calls_total", ""), Some(1.0));
    assert_eq!(server.metric("sidetone_ng_calls_deleted_total", ""), Some(1.0));
    assert_eq!(server.metric("sidetone_ng_relays_total", ""), Some(1.0), "the new offer kept its relay");
    assert_eq!(
        server.metric("sidetone_ng_ignored_keys_total", ""),
        Some(0.0),
        "all that Kamailio sends is known"
    );
    assert_eq!(server.metric("sidetone_ng_command_errors_total", ""), Some(0.0));
    assert!(within(Duration::from_secs(5), || server.calls().is_empty()));
}

#[test]
fn the_same_call_has_its_media_relayed_by_the_fields_server() {
    if all_present()
        && let Some((_process, address)) = rtpengine()
    {
        calls_through_kamailio(address);
    }
}

fn all_present() -> bool {
    program("kamailio") && program("sipp")
}

fn calls_through_kamailio(ng: SocketAddr) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (proxy, callee) = (free_loopback_port(), free_loopback_port());
    // A tone; echoed, it comes back through the relay.
    let tone: Vec<u8> = (0..16_000u32).map(|at| (at * 37 % 251) as u8).collect();
    std::fs::write(at("speech.ul"), tone).expect("written");
    let _kamailio = kamailio(folder.path(), proxy, callee, ng);
    let _callee = sipp(folder.path(), "uas", callee, &["-rtp_echo"]);
    let mut client = Ng::new(ng);
    assert_eq!(client.command("ping", json!({}))["result"], "pong");
    let mut caller = sipp(folder.path(), "uac", free_loopback_port(), &[&format!("127.0.0.1:{proxy}")]);
    let mut last = Value::Null;
    let flows = within(Duration::from_secs(15), || {
        let calls = client.command("list", json!({}));
        let Some(call_id) = calls["calls"][0].as_str() else { return false };
        last = client.command("query", json!({"call-id": call_id}));
        let tags = last["tags"].as_object().cloned().unwrap_or_default();
        tags.len() == 2 && tags.values().all(|party| received(party) >= 25)
    });
    let log = || {
        let read = |name| std::fs::read_to_string(at(name)).unwrap_or_default();
        ["uac.errors", "uac.stderr", "uas.errors", "uas.stderr", "kamailio.log"].map(read).join("\n")
    };
    assert!(flows, "no audio both ways through the relay: {last}\n{}", log());
    let ended = within(Duration::from_secs(20), || caller.0.try_wait().expect("asked").is_some());
    let status = caller.0.try_wait().expect("asked").and_then(|status| status.code());
    assert!(ended && status == Some(0), "the caller ended with {status:?}\n{}", log());
    let gone = within(Duration::from_secs(5), || client.command("list", json!({}))["calls"] == json!([]));
    assert!(gone, "BYE ended the relay");
}

fn received(party: &Value) -> u64 {
    party.pointer("/medias/0/streams/0/stats/packets").and_then(Value::as_u64).unwrap_or(0)
}

/// The proxy; it forwards all calls to the callee.
fn kamailio(folder: &Path, port: u16, callee: u16, ng: SocketAddr) -> Process {
    let values = [("NEXT_HOP", format!("127.0.0.1:{callee}")), ("NG_ADDRESS", ng.to_string())];
    support::kamailio::start(folder, "kamailio.cfg", port, &values)
}

/// A phone that makes or takes one call.
fn sipp(folder: &Path, name: &str, port: u16, arguments: &[&str]) -> Process {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let media = free_sipp_media_port(ip);
    let file = |suffix: &str| folder.join(format!("{name}.{suffix}"));
    let child = Command::new("sipp")
        .arg("-sf")
        .arg(fixture(&format!("proxies/{name}.xml")))
        .args(["-m", "1", "-nostdin", "-timeout_error", "-timeout", "30", "-s", "callee"])
        .args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", &port.to_string(), "-mp", &media.to_string()])
        .args(["-trace_err", "-error_file", &file("errors").display().to_string()])
        .args(arguments)
        .env("TERM", "dumb")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(File::create(file("screen")).expect("a file"))
        .stderr(File::create(file("stderr")).expect("a file"))
        .spawn()
        .expect("sipp starts");
    Process(child)
}
