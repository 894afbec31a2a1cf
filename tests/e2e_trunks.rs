//! Trunks at a real SIP server: many at once, its restart, lost answers, a wrong password, and its calls.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::audio::tone;
use support::ng::Process;
use support::phone::Phone;
use support::ports::free_loopback_port;
use support::server::{Server, Setup, exchange};
use support::{kamailio, program, within};

#[test]
fn two_hundred_trunks_register_at_once_and_again_after_the_carrier_was_restarted() {
    // A tenth of the requests gets no answer.
    let Some(mut carrier) = Carrier::start("10") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let api = Api::start(data.path(), "");
    for number in 0..TRUNKS {
        let (status, made) = api.ask("POST", "/api/trunks", Some(&trunk(&carrier, number, "secret")));
        assert_eq!(status, 201, "{made}");
    }
    assert!(within(Duration::from_secs(40), || api.registered() == TRUNKS), "{}", api.states());
    let status = api.get("/api/trunks/t7/status");
    assert_eq!((&status["state"], &status["ping"]), (&json!("REGED"), &json!("UP")), "{status}");
    assert!(status["expires_s"].as_u64().is_some_and(|seconds| seconds == 30), "{status}");
    let metric = |api: &Api| api.server.metric("sip_trunk_registration_status", "provider=\"carrier\"");
    assert_eq!(metric(&api), Some(1.0));
    drop(api);

    // All of them at once, by a new process.
    let started = Instant::now();
    let api = Api::start(data.path(), "");
    assert!(within(Duration::from_secs(40), || api.registered() == TRUNKS), "{}", api.states());
    let took = started.elapsed();
    println!("{TRUNKS} trunks registered in {took:?}, the start of the process included");

    carrier.stop();
    assert!(within(Duration::from_secs(90), || api.states().contains("EXPIRED")), "{}", api.states());
    assert!(within(Duration::from_secs(30), || metric(&api) == Some(0.0)));
    carrier.run();
    assert!(within(Duration::from_secs(120), || api.registered() == TRUNKS), "{}", api.states());
    assert!(within(Duration::from_secs(30), || metric(&api) == Some(1.0)));
}

#[test]
fn a_wrong_password_is_failed_with_403_and_a_new_one_registers_at_once() {
    let Some(carrier) = Carrier::start("0") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let api = Api::start(data.path(), "");
    assert_eq!(api.ask("POST", "/api/trunks", Some(&trunk(&carrier, 1, "wrong"))).0, 201);
    let stands = || api.get("/api/trunks/t1/status");
    assert!(within(Duration::from_secs(10), || stands()["state"] == "FAILED"), "{}", stands());
    assert_eq!(stands()["cause"], "403 Forbidden");
    let printed = api.command(&["gateway", "status", "t1"]);
    assert!(printed.contains("FAILED") && printed.contains("403 Forbidden"), "{printed}");
    assert!(!api.server.log().contains("wrong"), "the password is in the log");

    assert_eq!(api.ask("PUT", "/api/trunks/t1", Some(r#"{"password":"secret"}"#)).0, 200);
    assert!(within(Duration::from_secs(5), || stands()["state"] == "REGED"), "{}", stands());
    assert_eq!(api.command(&["gateway", "status", "t1"]).split_whitespace().nth(1), Some("REGED"));
    let off = api.ask("POST", "/api/trunks/t1/deactivate", None).1;
    assert_eq!(off["state"], "DOWN", "{off}");
    // Its binding is taken back: calls to it find nobody.
    let proxy = ([127, 0, 0, 1], carrier.port).into();
    let gone = within(Duration::from_secs(5), || {
        Phone::dial(proxy, "t1").err().flatten().and_then(|response| response.status()) == Some(404)
    });
    assert!(gone);
}

#[test]
fn calls_come_in_by_their_trunk_and_within_its_limits() {
    let Some(carrier) = Carrier::start("0") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let api = Api::start(data.path(), "[sip]\nunknown_callers = \"reject\"\n");
    for number in 1..=2 {
        assert_eq!(api.ask("POST", "/api/trunks", Some(&trunk(&carrier, number, "secret"))).0, 201);
    }
    assert_eq!(api.ask("PUT", "/api/trunks/t1", Some(r#"{"max_concurrent_calls":1}"#)).0, 200);
    assert!(within(Duration::from_secs(10), || api.registered() == 2), "{}", api.states());
    let proxy = ([127, 0, 0, 1], carrier.port).into();
    let phone =
        Phone::dial(proxy, "t1").unwrap_or_else(|refusal| panic!("{refusal:?}\n{}", api.server.log()));
    phone.play(&tone(1000.0, 1000, 8000.0));
    assert!(within(Duration::from_secs(5), || phone.heard_count() > 30), "the echo is heard");
    let status = api.get("/api/trunks/t1/status");
    assert_eq!(status["active_calls"], 1, "{status}");
    let refused = Phone::dial(proxy, "t1").err().flatten().and_then(|response| response.status());
    // Our 503 says nothing of the carrier itself, so it tells its caller 500 (RFC 3261 section 16.7).
    assert_eq!(refused, Some(500), "one call at once");
    let other = Phone::dial(proxy, "t2").expect("the other trunk has room");
    assert_eq!(other.hang_up(), Some(200));
    assert_eq!(phone.hang_up(), Some(200));
    assert!(within(Duration::from_secs(5), || api.get("/api/trunks/t1/status")["active_calls"] == 0));
    assert!(Phone::dial(proxy, "t1").is_ok(), "there is room again");
    // By no trunk: from elsewhere, which is refused.
    assert_eq!(api.ask("PUT", "/api/trunks/t1", Some(r#"{"allowed_ips":["192.0.2.1"]}"#)).0, 200);
    assert_eq!(api.ask("PUT", "/api/trunks/t2", Some(r#"{"allowed_ips":["192.0.2.1"]}"#)).0, 200);
    for (server, user) in [(proxy, "t1"), (api.server.sip, "t1")] {
        let refused = Phone::dial(server, user).err().flatten().and_then(|response| response.status());
        assert_eq!(refused, Some(403), "{user} at {server}");
    }
}

const TRUNKS: usize = 200;

fn trunk(carrier: &Carrier, number: usize, password: &str) -> String {
    json!({
        "trunk_id": format!("t{number}"), "provider": "carrier", "proxy_address": "127.0.0.1",
        "proxy_port": carrier.port, "username": format!("t{number}"), "password": password,
        "realm": "example.com", "register_expires_s": 30, "options_ping_s": 5, "active": true
    })
    .to_string()
}

/// Kamailio as a carrier.
struct Carrier {
    folder: tempfile::TempDir,
    port: u16,
    loss: &'static str,
    process: Option<Process>,
}

impl Carrier {
    /// One that leaves `loss` percent of the registrations unanswered; `None` if there is no Kamailio here.
    fn start(loss: &'static str) -> Option<Self> {
        if !program("kamailio") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut carrier = Self { folder, port: free_loopback_port(), loss, process: None };
        carrier.run();
        Some(carrier)
    }

    fn run(&mut self) {
        let values =
            [("REALM", "example.com".into()), ("PASSWORD", "secret".into()), ("LOSS", self.loss.into())];
        self.process = Some(kamailio::start(self.folder.path(), "carrier.cfg", self.port, &values));
    }

    fn stop(&mut self) {
        self.process = None;
    }
}

/// A running server with a token for its API.
struct Api {
    server: Server,
    token: String,
}

impl Api {
    fn start(data: &Path, config: &str) -> Self {
        let mut setup = Setup::new(&format!("{config}[[routes]]\nregex = \".*\"\napp = \"echo\"\n"));
        setup.flags.extend(["--data-dir".to_owned(), data.display().to_string()]);
        let server = Server::start(&setup);
        let token = std::fs::read_to_string(data.join("admin-token")).expect("the first token");
        Self { server, token: token.trim().to_owned() }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
        let headers = [("Authorization", format!("Bearer {}", self.token))];
        let (status, body) = exchange(self.server.http, method, path, &headers, body).expect("an answer");
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).1
    }

    fn states(&self) -> String {
        let all = self.get("/api/trunks/status?limit=500");
        let items = all["items"].as_array().cloned().unwrap_or_default();
        let one = |item: &Value| format!("{} {} {}", item["trunk_id"], item["state"], item["cause"]);
        items.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    fn registered(&self) -> usize {
        self.states().matches("\"REGED\"").count()
    }

    /// What a subcommand of ours prints.
    fn command(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new(support::server::binary())
            .args(arguments)
            .args(["--api", &format!("http://{}", self.server.http), "--token", &self.token])
            .output()
            .expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}
