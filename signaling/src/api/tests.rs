//! The API over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use engine::Engine;
use engine::ai::AiRuntime;
use engine::config::{DeviceKind, EngineConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::access::{AccessConfig, Gate, TokenRules, VerifyingKey, sign};
use crate::apps::{AgentConfig, Apps, AppsConfig};
use crate::call::{CallState, CallSummary, CallTable, HangUp};
use crate::event::{Events, EventsConfig, Reach, SenderConfig};
use crate::media::Media;
use crate::model::{Access, Moment, Role, Tenant, TenantId};
use crate::sip::{SipConfig, SipEndpoint};
use crate::store::Store;
use crate::store::testing::{self, TestStore};
use crate::telemetry::{Phase, Readiness, Registry};
use crate::trunk::{TrunkConfig, Trunks, UnknownCallers};

pub(super) struct Server {
    http: HttpServer,
    readiness: Arc<Readiness>,
    pub(super) calls: CallTable,
    pub(super) media: Media,
    pub(super) store: TestStore,
    pub(super) events: Events,
    pub(super) trunks: Trunks,
    /// Without it no trunk could register.
    _sip: SipEndpoint,
}

impl Server {
    pub(super) fn address(&self) -> SocketAddr {
        self.http.local_addr()
    }
}

pub(super) async fn server(connections: usize) -> Server {
    server_with(connections, Vec::new()).await
}

pub(super) async fn server_with(connections: usize, agents: Vec<AgentConfig>) -> Server {
    let readiness = Arc::new(Readiness::default());
    let metrics = Arc::new(Registry::default());
    metrics.register(|out| out.counter("sidetone_test", "A test", &[], 3u64));
    let calls = CallTable::new(10);
    let media = media();
    let store = testing::sqlite().await;
    let (control, sip) = control((*store).clone()).await;
    let (trunks, events) = (control.trunks.clone(), control.events.clone());
    let api = Api {
        readiness: Arc::clone(&readiness),
        metrics,
        calls: calls.clone(),
        apps: Arc::new(Apps::load(AppsConfig { agents, routes: Vec::new() }).expect("apps")),
        media: media.clone(),
        store: (*store).clone(),
        allowed_hosts: vec!["voice.example.com".to_owned()],
        control,
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = HttpListener::bind(any).await.expect("a free port");
    let http = listener.serve(connections, api.router());
    Server { http, readiness, calls, media, store, events, trunks, _sip: sip }
}

/// Tokens are made by [`token`]; there are the tenants `default`, `acme` and `other`.
async fn control(store: Store) -> (Control, SipEndpoint) {
    let mut transaction = store.begin().await.expect("a transaction");
    for name in ["acme", "other"] {
        let (id, now) = (TenantId(name.to_owned()), Moment::now());
        let tenant = Tenant { id, name: name.to_owned(), active: true, created_at: now, changed_at: now };
        transaction.add_tenant(&tenant).await.expect("added");
    }
    transaction.commit().await.expect("kept");
    let keys = vec![VerifyingKey::secret(SECRET).expect("long enough")];
    let config = SipConfig { bind: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..SipConfig::default() };
    let (sip, _) = SipEndpoint::start(config).await.expect("a free port");
    let config = TrunkConfig {
        node: "node".to_owned(),
        unknown_callers: UnknownCallers::Accept,
        realm: "sidetone".to_owned(),
        poll: Duration::from_millis(50),
    };
    let trunks = Trunks::start(store.clone(), sip.handle(), config).await.expect("a new store");
    let gate = Gate::new(AccessConfig { keys, ..AccessConfig::default() }, store.clone()).expect("a gate");
    let reach = Reach::new(vec!["127.0.0.1/32".parse().expect("a network")]);
    let sender = SenderConfig { reach, ..EventsConfig::default().sender };
    let events = Events::start(store, EventsConfig { sender, ..EventsConfig::default() }).expect("started");
    (
        Control {
            gate: Arc::new(gate),
            events,
            trunks,
            outbound: None,
            batches: crate::apps::Batches::default(),
        },
        sip,
    )
}

/// A token for [`server`].
pub(super) fn token(tenant: &str, role: Role) -> String {
    let access = Access { subject: "alice".to_owned(), tenant: TenantId(tenant.to_owned()), role };
    sign(SECRET, &TokenRules::default(), &access, 600).expect("a good secret")
}

const SECRET: &[u8] = b"a secret of the tests, 32 bytes at least";

/// An engine that never opens a port.
fn media() -> Media {
    let config = EngineConfig { device: DeviceKind::Udp, streams_per_worker: 2, ..EngineConfig::default() };
    let (engine, events) = Engine::start(config).expect("the engine starts");
    Media::start(engine, events, AiRuntime::start(&[]).expect("AI threads")).expect("a doorbell")
}

#[tokio::test]
async fn the_device_in_use_is_named_for_each_worker() {
    let server = server(4).await;
    let (status, body) = request(&server, "GET", "/v1/device").await;
    assert_eq!(status, 200);
    let device: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(device["started"], "udp", "{device}");
    assert_eq!(device["workers"][0], serde_json::json!({ "worker": 0, "device": "udp" }));
    assert!(device["interface"].is_null() && device["taken"].is_null(), "{device}");
    assert_eq!(device["refused"], serde_json::json!([]));
}

pub(super) fn summary() -> CallSummary {
    CallSummary {
        identity: crate::call::Identity::default(),
        id: 0,
        call_id: "a84b4c76e66710@192.0.2.1".into(),
        call_sid: None,
        from: "*********56".into(),
        to: "agent".into(),
        app: "agent",
        agent: Some("demo".into()),
        via: crate::call::CallVia::Sip,
        state: CallState::Answered,
        since: SystemTime::now(),
        answered: None,
        codec: Some(engine::stream::Codec::Pcmu),
        remote_sip: "192.0.2.1:5060".parse().ok(),
        remote_rtp: None,
        local_rtp: None,
        gathered: None,
    }
}

/// Sends raw text and reads what comes until the server closes.
pub(super) async fn exchange(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.http.local_addr()).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    let _ = read.expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status and the body of one request.
pub(super) async fn request(server: &Server, method: &str, path: &str) -> (u16, String) {
    request_as(server, method, path, "localhost").await
}

async fn request_as(server: &Server, method: &str, path: &str, host: &str) -> (u16, String) {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = exchange(server, &head).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status.unwrap_or_else(|| panic!("no status in {answer:?}")), body)
}

#[tokio::test]
async fn health_is_good_and_readiness_follows_the_phase() {
    let server = server(9).await;
    assert_eq!(request(&server, "GET", "/healthz").await, (200, "{\"status\":\"ok\"}".into()));
    for (phase, status, reason) in [
        (Phase::Starting, 503, "starting"),
        (Phase::Serving, 200, "ready"),
        (Phase::Draining, 503, "draining"),
    ] {
        server.readiness.enter(phase);
        let (found, body) = request(&server, "GET", "/readyz").await;
        assert_eq!(found, status);
        assert!(body.contains(reason), "{body}");
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let server = server(9).await;
    let head = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let answer = exchange(&server, head).await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.ends_with("# TYPE sidetone_test_total counter\nsidetone_test_total 3\n"), "{answer}");
}

#[tokio::test]
async fn calls_are_listed_shown_and_ended() {
    let server = server(9).await;
    let empty: serde_json::Value =
        serde_json::from_str(&request(&server, "GET", "/v1/calls").await.1).expect("JSON");
    assert_eq!(empty, serde_json::json!({ "calls": [], "count": 0, "max": 10 }));

    let entry = server.calls.admit(summary()).expect("room");
    let listed: serde_json::Value =
        serde_json::from_str(&request(&server, "GET", "/v1/calls").await.1).expect("JSON");
    assert_eq!(listed["count"], 1);
    let call = &listed["calls"][0];
    assert_eq!((call["state"].as_str(), call["codec"].as_str()), (Some("answered"), Some("PCMU")));
    assert_eq!(call["id"], entry.id());

    let path = format!("/v1/calls/{}", entry.id());
    assert_eq!(request(&server, "GET", &path).await.0, 200);
    assert_eq!(request(&server, "DELETE", &path).await.0, 202);
    assert_eq!(entry.hang_up().await, HangUp::Operator);
    drop(entry);
    assert_eq!(request(&server, "GET", &path).await.0, 404);
    assert_eq!(request(&server, "DELETE", &path).await.0, 404);
    assert_eq!(request(&server, "GET", "/v1/calls/x%2e%2e").await.0, 404);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_what_there_is() {
    let server = server(9).await;
    assert_eq!(request(&server, "GET", "/nothing").await.0, 404);
    assert_eq!(request(&server, "POST", "/v1/calls").await.0, 405);
    assert_eq!(request(&server, "OPTIONS", "/v1/calls/1").await.0, 405, "no cross-origin request is invited");
    let (status, index) = request(&server, "GET", "/").await;
    assert_eq!(status, 200);
    for path in ["/healthz", "/readyz", "/metrics", "/v1/calls"] {
        assert!(index.contains(path), "{path} is missing in {index}");
    }
}

#[tokio::test]
async fn request_for_another_host_is_refused() {
    let server = server(9).await;
    for host in ["127.0.0.1:8080", "[::1]", "voice.example.com"] {
        assert_eq!(request_as(&server, "GET", "/v1/calls", host).await.0, 200, "{host}");
    }
    assert_eq!(request_as(&server, "GET", "/v1/calls", "evil.example.net").await.0, 421);
    assert!(exchange(&server, "GET /healthz HTTP/1.0\r\n\r\n").await.contains(" 400 "));
}

#[tokio::test]
async fn half_sent_requests_block_nobody() {
    let server = server(256).await;
    let mut hanging = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.http.local_addr()).await.expect("connected");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").await.expect("sent");
        hanging.push(stream);
    }
    assert_eq!(request(&server, "GET", "/healthz").await.0, 200);
}

#[tokio::test]
async fn garbage_is_answered_or_closed() {
    let server = server(9).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(500));
    let body =
        "DELETE /v1/calls/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n";
    for garbage in ["\0\u{1}\u{2}\r\n\r\n", "INVITE sip:x SIP/2.0\r\n\r\n", &long, &many, body] {
        let answer = exchange(&server, garbage).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(request(&server, "GET", "/healthz").await.0, 200);
}

#[tokio::test]
async fn clients_beyond_the_limit_are_closed_and_the_rest_served() {
    let server = server(1).await;
    let mut first = TcpStream::connect(server.http.local_addr()).await.expect("connected");
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.expect("served");
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(exchange(&server, "").await, "");
    drop(first);
    // The place is free as soon as the server has seen the end of the first.
    let mut attempts = 0;
    while !exchange(&server, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .contains("200")
    {
        attempts += 1;
        assert!(attempts < 500, "the place was never given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn address_in_use_names_the_flag() {
    let server = server(1).await;
    let again = HttpListener::bind(server.http.local_addr()).await;
    let error = again.expect_err("in use").to_string();
    assert!(error.contains("--http-bind"), "{error}");
}

/// A request with a token and perhaps a body: the status, the headers and what came.
pub(super) async fn ask(
    server: &Server,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&serde_json::Value>,
) -> (u16, String, serde_json::Value) {
    let body = body.map(ToString::to_string);
    let entity = body.as_ref().map_or_else(String::new, |body| {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let end = if body.is_some() { "" } else { "\r\n" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{entity}{end}"
    );
    let answer = exchange(server, &request).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    (status, head.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

/// A whole body, which is no JSON.
pub(super) async fn body(server: &Server, path: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(server.http.local_addr()).await.expect("connected");
    // HTTP/1.0 has no chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    timeout(Duration::from_secs(20), stream.read_to_string(&mut answer))
        .await
        .expect("in time")
        .expect("read");
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

#[tokio::test]
async fn the_api_lets_in_who_has_a_token_and_nobody_else() {
    let server = server(9).await;
    let answer =
        exchange(&server, "GET /api/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("www-authenticate: Bearer realm=\"sidetone\"\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/problem+json"), "{answer}");
    let (status, _, me) = ask(&server, "GET", "/api/me/", &token("acme", Role::Viewer), None).await;
    assert_eq!((status, &me["tenant"], &me["role"]), (200, &"acme".into(), &"viewer".into()), "{me}");
    let (status, head, problem) = ask(&server, "POST", "/api/me", &token("acme", Role::Viewer), None).await;
    assert_eq!((status, &problem["status"]), (405, &405.into()), "{problem}");
    assert!(head.to_ascii_lowercase().contains("allow: get"), "{head}");
    assert_eq!(ask(&server, "GET", "/api/nothing", &token("acme", Role::Viewer), None).await.0, 404);
    assert_eq!(ask(&server, "GET", "/api/nothing", "x.y.z", None).await.0, 401);
}

#[tokio::test]
async fn the_document_and_its_page_are_there_for_everybody() {
    let server = server(9).await;
    let (status, document) = request(&server, "GET", "/openapi.json").await;
    let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!((status, &document["openapi"]), (200, &"3.1.0".into()));
    assert!(document["paths"]["/api/me"]["get"]["responses"]["401"].is_object(), "{document}");
    let (status, page) = request(&server, "GET", "/docs").await;
    assert_eq!(status, 200);
    assert!(page.contains("<base href=\"/docs/\">"), "{page}");
    for file in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        assert_eq!(request(&server, "GET", &format!("/docs/{file}")).await.0, 200, "{file}");
    }
    assert!(request(&server, "GET", "/docs/swagger-initializer.js").await.1.contains("/openapi.json"));
    assert_eq!(request(&server, "GET", "/docs/..%2f..%2fetc%2fpasswd").await.0, 404);
}
