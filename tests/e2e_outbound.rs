//! Calls that we make: failing carriers and the next trunk, bridged calls with audio, batches.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::audio::{rms, tone};
use support::phone::Phone;
use support::ports::free_loopback_port;
use support::server::{Server, Setup, exchange};
use support::{fixture, program, within};

#[test]
fn a_call_goes_on_to_the_next_trunk_in_time_and_the_attempts_tell_the_story() {
    if !program("sipp") {
        return;
    }
    let api = Api::start();
    // A carrier that says nothing, one that is full, and one that answers.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (full, good) = (Sipp::start(&["-sf", &scenario("carrier_full")]), Sipp::start(&["-sn", "uas"]));
    api.trunk("silent", silent.local_addr().expect("bound").port());
    api.trunk("full", full.port);
    api.trunk("good", good.port);
    let route = json!({"name": "all", "pattern": r"^(\d+)$", "rewrite": "00$1", "setup_timeout_ms": 700,
        "trunks": [{"trunk_id": "silent"}, {"trunk_id": "full"}, {"trunk_id": "good"}]});
    api.made("/api/routes", &route);
    let decision = api.ask("POST", "/api/routes/test", Some(&json!({"to_number": "123 456"}))).1;
    assert_eq!(decision["candidates"][2]["trunk_id"], "good", "{decision}");
    assert_eq!(decision["candidates"][2]["number"], "00123456");

    let call = api.made("/api/calls/initiate", &json!({"to_number": "123456", "app": "echo"}));
    let path = format!("/api/calls/{}", call["call_id"].as_str().expect("an id"));
    let answered = || api.ask("GET", &path, None).1["state"] == "answered";
    assert!(within(Duration::from_secs(15), answered), "{}", api.ask("GET", &path, None).1);
    assert_eq!(api.ask("POST", &format!("{path}/hangup"), None).0, 202);
    assert!(within(Duration::from_secs(15), || !api.ask("GET", &path, None).1["ended"].is_null()));
    let ended = api.ask("GET", &path, None).1["ended"].clone();
    let attempts: Vec<_> = ended["attempts"].as_array().expect("attempts").iter().collect();
    let told: Vec<(&str, i64)> = attempts
        .iter()
        .map(|attempt| {
            (attempt["target"].as_str().unwrap_or_default(), attempt["status"].as_i64().unwrap_or(0))
        })
        .collect();
    assert_eq!(told, [("silent", 408), ("full", 503), ("good", 200)], "{ended}");
    assert!(attempts[0]["duration_ms"].as_i64().is_some_and(|ms| (700..10_000).contains(&ms)), "{ended}");
    assert_eq!((&ended["state"], &ended["status"]), (&json!("completed"), &json!(200)));
}

#[test]
fn a_busy_callee_is_not_called_by_another_trunk() {
    if !program("sipp") {
        return;
    }
    let api = Api::start();
    let (busy, good) = (Sipp::start(&["-sf", &scenario("carrier_busy")]), Sipp::start(&["-sn", "uas"]));
    api.trunk("busy", busy.port);
    api.trunk("good", good.port);
    let trunks = json!([{"trunk_id": "busy"}, {"trunk_id": "good"}]);
    api.made("/api/routes", &json!({"name": "all", "pattern": ".*", "trunks": trunks}));
    let call = api.made("/api/calls/initiate", &json!({"to_number": "1", "app": "echo"}));
    let path = format!("/api/calls/{}", call["call_id"].as_str().expect("an id"));
    assert!(within(Duration::from_secs(15), || !api.ask("GET", &path, None).1["ended"].is_null()));
    let ended = api.ask("GET", &path, None).1["ended"].clone();
    assert_eq!((&ended["state"], &ended["status"]), (&json!("busy"), &json!(486)), "{ended}");
    assert_eq!(ended["attempts"].as_array().map(Vec::len), Some(1), "{ended}");
}

#[test]
fn a_bridged_call_carries_audio_both_ways_and_ends_on_both_sides() {
    // The callee is another process of ours, which sends back what it hears.
    let callee = Server::start(&Setup::new(""));
    let api = Api::start();
    let uri = format!("sip:echo@{}", callee.sip);
    api.made("/api/numbers", &json!({"number": "5551", "destination": {"type": "uri", "uri": uri}}));
    let phone = Phone::dial(api.server.sip, "5551").ok().expect("it is answered");
    phone.play(&tone(700.0, 1_500, 8_000.0));
    assert!(within(Duration::from_secs(15), || rms(&phone.audio()) > 500.0), "nothing came back");
    assert!(within(Duration::from_secs(5), || callee.calls().len() == 1));
    let active = api.ask("GET", "/api/calls/active", None).1;
    assert_eq!((&active["count"], &active["calls"][0]["app"]), (&json!(1), &json!("bridge")), "{active}");
    drop(phone);
    assert!(within(Duration::from_secs(10), || callee.calls().is_empty()), "the callee's side goes on");
    assert!(within(Duration::from_secs(10), || api.ask("GET", "/api/calls/active", None).1["count"] == 0));
}

#[test]
fn a_hundred_calls_of_a_batch_are_made_a_few_at_a_time() {
    if !program("sipp") {
        return;
    }
    let api = Api::start();
    let callees = Sipp::start(&["-sf", &scenario("carrier_busy")]);
    let numbers: Vec<String> = (0..100).map(|n| format!("sip:{n}@127.0.0.1:{}", callees.port)).collect();
    let batch = json!({"numbers": numbers, "calls_per_second": 100, "concurrency": 10, "app": "echo"});
    let batch = api.made("/api/calls/batches", &batch);
    let path = format!("/api/calls/batches/{}", batch["id"].as_str().expect("an id"));
    let over = || api.ask("GET", &path, None).1["state"] == "done";
    assert!(within(Duration::from_secs(60), over), "{}", api.ask("GET", &path, None).1);
    let progress = api.ask("GET", &path, None).1;
    assert_eq!((&progress["started"], &progress["busy"]), (&json!(100), &json!(100)), "{progress}");
}

/// A server and its first token.
struct Api {
    server: Server,
    token: String,
}

impl Api {
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a folder").keep();
        let mut setup = Setup::new("");
        setup.flags = vec!["--data-dir".to_owned(), data.display().to_string()];
        let server = Server::start(&setup);
        let token = std::fs::read_to_string(data.join("admin-token")).expect("the first token");
        Self { server, token: token.trim().to_owned() }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(ToString::to_string);
        let headers = [("Authorization", format!("Bearer {}", self.token))];
        let answer = exchange(self.server.http, method, path, &headers, body.as_deref());
        let (status, text) = answer.expect("the API answers");
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    fn made(&self, path: &str, body: &Value) -> Value {
        let (status, made) = self.ask("POST", path, Some(body));
        assert_eq!(status, 201, "{path}: {made}");
        made
    }

    fn trunk(&self, name: &str, port: u16) {
        let trunk = json!({"trunk_id": name, "name": name, "provider": "sipp", "proxy_address": "127.0.0.1",
            "proxy_port": port, "register": false, "active": true});
        self.made("/api/trunks", &trunk);
    }
}

/// SIPp as a carrier.
struct Sipp {
    child: Child,
    port: u16,
}

impl Sipp {
    fn start(arguments: &[&str]) -> Self {
        let port = free_loopback_port();
        let folder = tempfile::tempdir().expect("a folder").keep();
        let child = Command::new("sipp")
            .args(arguments)
            .args(["-i", "127.0.0.1", "-p", &port.to_string(), "-nostdin"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sipp starts");
        let there = SocketAddr::from(([127, 0, 0, 1], port));
        assert!(within(Duration::from_secs(10), || UdpSocket::bind(there).is_err()), "sipp does not listen");
        Self { child, port }
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn scenario(name: &str) -> String {
    fixture("sipp").join(name).with_extension("xml").display().to_string()
}
