//! Call records in the store: kill -9 in the middle of calls loses no record of a call that was answered.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::ports::{free_loopback_port, free_sipp_media_port};
use support::postgres::Postgres;
use support::server::{Server, Setup};
use support::{fixture, present, program, within};

#[test]
fn kill_9_under_calls_loses_no_answered_call_with_sqlite() {
    if program("sipp") {
        kill_9_loses_nothing("");
    }
}

#[test]
fn kill_9_under_calls_loses_no_answered_call_with_postgresql() {
    if program("sipp") && present("postgres", Postgres::is_here()) {
        let postgres = Postgres::start(true);
        kill_9_loses_nothing(&format!("url = \"{}\"\n", postgres.url("postgres")));
    }
}

fn kill_9_loses_nothing(store: &str) {
    let data = tempfile::tempdir().expect("a folder");
    let data_dir = data.path().join("data");
    let config = format!("data_dir = \"{}\"\n[store]\n{store}", data_dir.display());
    let setup = Setup { media_ports: 1_000, ..Setup::new(&config) };
    let mut answered = BTreeSet::new();
    for (round, seconds) in [1.7, 2.9].into_iter().enumerate() {
        let server = Server::start(&setup);
        let log = data.path().join(format!("answered-{round}"));
        let mut calls = calls(&server, &log);
        std::thread::sleep(Duration::from_secs_f64(seconds));
        server.kill();
        let over = within(Duration::from_secs(60), || calls.try_wait().expect("asked").is_some());
        if !over {
            let _ = calls.kill();
        }
        let seen = answered_in(&log);
        // At 50 per second.
        assert!(seen.len() >= 40, "only {} calls were answered before the end", seen.len());
        answered.extend(seen);
    }
    let server = Server::start(&setup);
    let records = records(&server, &data_dir);
    let recorded: BTreeSet<&str> =
        records.iter().filter_map(|record| record["sip_call_id"].as_str()).collect();
    let missing: Vec<_> = answered.iter().filter(|call| !recorded.contains(call.as_str())).collect();
    assert!(
        missing.is_empty(),
        "{} of {} answered calls have no record: {missing:?}",
        missing.len(),
        answered.len()
    );
    let mut interrupted = 0;
    for record in &records {
        if !record["sip_call_id"].as_str().is_some_and(|call| answered.contains(call)) {
            continue;
        }
        assert!(record["answered_at"].is_string() && record["ended_at"].is_string(), "{record}");
        match record["state"].as_str() {
            Some("interrupted") => interrupted += 1,
            Some("completed") => {
                assert_eq!(record["hangup_side"], "caller", "{record}");
                assert_eq!((&record["codec"], &record["app"]), (&"PCMU".into(), &"echo".into()), "{record}");
            }
            _ => panic!("answered, and then {record}"),
        }
    }
    // Calls last a second, and fifty begin in each.
    assert!(interrupted >= 40, "{interrupted} calls were interrupted by two kills");
    let ids: BTreeSet<&str> = records.iter().filter_map(|record| record["id"].as_str()).collect();
    assert_eq!(ids.len(), records.len(), "no record twice");
    println!("{} answered, {} records, {interrupted} interrupted", answered.len(), records.len());
}

/// Fifty calls per second to the echo, of which each notes its Call-ID when it is answered.
fn calls(server: &Server, log: &Path) -> Child {
    let ip = server.sip.ip();
    let folder = log.with_extension("sipp");
    std::fs::create_dir(&folder).expect("a folder");
    Command::new("sipp")
        .arg("-sf")
        .arg(fixture("sipp/answered_log.xml"))
        .args(["-s", "echo", "-r", "50", "-m", "400", "-l", "400", "-nostdin", "-recv_timeout", "3000"])
        .args(["-timeout", "25", "-max_retrans", "3"])
        .args(["-p", &free_loopback_port().to_string(), "-mp", &free_sipp_media_port(ip).to_string()])
        .args(["-i", &ip.to_string(), "-trace_logs", "-log_file"])
        .arg(log)
        .arg(server.sip.to_string())
        .env("TERM", "dumb")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sipp starts")
}

fn answered_in(log: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(log).expect("SIPp's log");
    text.lines()
        .filter_map(|line| line.split_once("ANSWERED ").map(|(_, call)| call.trim().to_owned()))
        .collect()
}

fn records(server: &Server, data_dir: &Path) -> Vec<Value> {
    let token = std::fs::read_to_string(data_dir.join("admin-token")).expect("the first token");
    let mut records = Vec::new();
    let mut path = "/api/calls/cdr?limit=500".to_owned();
    loop {
        let (status, body) = server.get_with(&path, token.trim()).expect("an answer");
        assert_eq!(status, 200, "{body}");
        let page: Value = serde_json::from_str(&body).expect("JSON");
        records.extend(page["items"].as_array().expect("items").iter().cloned());
        let Some(next) = page["next"].as_str() else { return records };
        path = format!("/api/calls/cdr?limit=500&cursor={next}");
    }
}
