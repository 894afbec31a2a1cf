//! Webhooks and the stream of events over real sockets.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::tests::{Server, exchange, server, token};
use crate::model::{Event, EventKind, Role, TenantId};

/// One request with a body; the status and what came back.
async fn ask(server: &Server, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(server, &head).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

async fn emit(server: &Server, tenant: &str, kind: EventKind) -> String {
    let event = Event::new(&TenantId(tenant.to_owned()), kind, "call-1", json!({}));
    let mut transaction = server.store.begin().await.expect("a transaction");
    transaction.emit(&event).await.expect("told");
    transaction.commit().await.expect("committed");
    event.id.to_string()
}

/// An HTTP server that takes webhooks, and the ids that come there.
async fn receiver() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    let (sender, ids) = mpsc::unbounded_channel();
    let take = async |State(sender): State<mpsc::UnboundedSender<String>>, headers: HeaderMap| {
        let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let _ = sender.send(id);
        StatusCode::OK
    };
    let router = Router::new().fallback(take).with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_made_changed_tested_and_deleted() {
    let server = server(16).await;
    let (url, mut ids) = receiver().await;
    let admin = token("acme", Role::TenantAdmin);
    let wanted = json!({ "url": url, "kinds": ["call.ended"], "description": "ours" });
    let (status, made) = ask(&server, &admin, "POST", "/api/webhooks", Some(wanted)).await;
    assert_eq!(status, 201, "{made}");
    assert!(made["secret"].as_str().expect("a secret").starts_with("whsec_"));
    assert_eq!(
        (&made["kinds"], &made["active"], &made["tenant"]),
        (&json!(["call.ended"]), &json!(true), &json!("acme"))
    );
    let path = format!("/api/webhooks/{}", made["id"].as_str().expect("an id"));

    let (status, shown) = ask(&server, &admin, "GET", &path, None).await;
    assert_eq!((status, shown.get("secret"), &shown["url"]), (200, None, &json!(url)));
    let (_, list) = ask(&server, &admin, "GET", "/api/webhooks?limit=1", None).await;
    assert_eq!((list["items"].as_array().map(Vec::len), list.get("next")), (Some(1), None), "{list}");

    let (status, tested) = ask(&server, &admin, "POST", &format!("{path}/test"), None).await;
    assert_eq!(
        (status, &tested["delivered"], &tested["status"]),
        (200, &json!(true), &json!(200)),
        "{tested}"
    );
    assert!(timeout(Duration::from_secs(20), ids.recv()).await.is_ok_and(|id| id.is_some()));

    emit(&server, "acme", EventKind::CallAnswered).await;
    emit(&server, "other", EventKind::CallEnded).await;
    let ended = emit(&server, "acme", EventKind::CallEnded).await;
    let came = timeout(Duration::from_secs(20), ids.recv()).await.expect("in time");
    assert_eq!(came.as_deref(), Some(ended.as_str()), "only what it wants of its tenant");

    let range = json!({ "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z" });
    let (status, queued) = ask(&server, &admin, "POST", &format!("{path}/replay"), Some(range.clone())).await;
    assert_eq!((status, &queued["queued"]), (202, &json!(1)), "{queued}");
    let came = timeout(Duration::from_secs(20), ids.recv()).await.expect("in time");
    assert_eq!(came.as_deref(), Some(ended.as_str()));
    let turned = json!({ "from": range["to"], "to": range["from"] });
    let (status, problem) = ask(&server, &admin, "POST", &format!("{path}/replay"), Some(turned)).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("to")));

    let (status, rotated) = ask(&server, &admin, "POST", &format!("{path}/secret"), None).await;
    assert_eq!(status, 200);
    assert_ne!(rotated["secret"], made["secret"]);
    let (status, for_calls) = ask(&server, &admin, "POST", "/api/webhooks/calls/secret", None).await;
    assert!(status == 200 && for_calls["secret"].is_string());
    let off = json!({ "active": false, "kinds": [] });
    let (status, changed) = ask(&server, &admin, "PATCH", &path, Some(off)).await;
    assert_eq!((status, &changed["active"], &changed["kinds"]), (200, &json!(false), &json!([])));
    assert_eq!(changed["description"], "ours");

    // Nobody else's business.
    let (other, viewer) = (token("other", Role::TenantAdmin), token("acme", Role::Operator));
    for (who, method, expected) in [(&other, "GET", 404), (&other, "DELETE", 404), (&viewer, "GET", 403)] {
        assert_eq!(ask(&server, who, method, &path, None).await.0, expected, "{method}");
    }
    for sub in ["test", "secret"] {
        assert_eq!(ask(&server, &other, "POST", &format!("{path}/{sub}"), None).await.0, 404, "{sub}");
    }
    let (status, _) = ask(&server, &other, "POST", &format!("{path}/replay"), Some(range)).await;
    assert_eq!(status, 404);
    assert_eq!(ask(&server, &admin, "DELETE", &path, None).await.0, 204);
    assert_eq!(ask(&server, &admin, "GET", &path, None).await.0, 404);
    assert_eq!(ask(&server, &admin, "POST", "/api/webhooks/dead/none.at-all/replay", None).await.0, 404);
    let (status, dead) = ask(&server, &admin, "GET", "/api/webhooks/dead", None).await;
    assert_eq!((status, &dead["items"]), (200, &json!([])));

    let (_, audit) = ask(&server, &admin, "GET", "/api/audit?action=webhook.", None).await;
    assert!(!audit.to_string().contains("whsec_"), "{audit}");
    let actions: Vec<_> =
        audit["items"].as_array().expect("a list").iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions.len(), 6, "{actions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_webhooks_are_refused_with_the_field_and_nothing_is_kept() {
    let server = server(16).await;
    let admin = token("acme", Role::TenantAdmin);
    let long = format!("https://example.com/{}", "a".repeat(3_000));
    for (wanted, field) in [
        (json!({ "url": "http://127.0.0.2/" }), "url"),
        (json!({ "url": "http://169.254.169.254/latest" }), "url"),
        (json!({ "url": "http://[::ffff:10.0.0.1]/" }), "url"),
        (json!({ "url": "http://2130706434/" }), "url"),
        (json!({ "url": "file:///etc/passwd" }), "url"),
        (json!({ "url": "https://user:secret@example.com/" }), "url"),
        (json!({ "url": "https://example.com/\r\nX: y" }), "url"),
        (json!({ "url": long }), "url"),
        (json!({}), "url"),
        (json!({ "url": 7 }), "url"),
        (json!({ "url": "https://example.com/", "kinds": ["call.nothing"] }), "kinds[0]"),
        (json!({ "url": "https://example.com/", "description": "a".repeat(201) }), "description"),
        (json!({ "url": "https://example.com/", "secret": "whsec_" }), "secret"),
    ] {
        let (status, problem) = ask(&server, &admin, "POST", "/api/webhooks", Some(wanted.clone())).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{wanted}: {problem}");
        assert!(!problem.to_string().contains("secret@"), "{problem}");
    }
    let (_, list) = ask(&server, &admin, "GET", "/api/webhooks", None).await;
    assert_eq!(list["items"], json!([]));
}

/// Opens the stream; `Err` has the status of a refusal.
async fn open(
    server: &Server,
    query: &str,
    headers: &[(&'static str, String)],
) -> Result<WebSocketStream<TcpStream>, u16> {
    let address = server.address();
    let mut request = format!("ws://{address}/api/events{query}").into_client_request().expect("a request");
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a value"));
    }
    let stream = TcpStream::connect(address).await.expect("connected");
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// The id of the next event; the close reason if it was closed.
async fn next(socket: &mut WebSocketStream<TcpStream>) -> String {
    loop {
        let message = timeout(Duration::from_secs(20), socket.next()).await.expect("in time");
        match message {
            Some(Ok(Message::Text(text))) => {
                let event: Value = serde_json::from_str(&text).expect("JSON");
                return event["id"].as_str().expect("an id").to_owned();
            }
            Some(Ok(Message::Close(frame))) => {
                return frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("{error}"),
            None => panic!("closed without a reason"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_over_a_websocket_and_go_on_after_the_last_one_seen() {
    let server = server(16).await;
    let header = |tenant: &str| [("authorization", format!("Bearer {}", token(tenant, Role::Viewer)))];
    let mut all = open(&server, "", &header("acme")).await.expect("open");
    let mut ends = open(&server, "?kinds=call.ended,trunk.state", &header("acme")).await.expect("open");
    let first = emit(&server, "acme", EventKind::CallRinging).await;
    emit(&server, "other", EventKind::CallEnded).await;
    let second = emit(&server, "acme", EventKind::CallEnded).await;
    assert_eq!(next(&mut all).await, first);
    assert_eq!(next(&mut all).await, second);
    assert_eq!(next(&mut ends).await, second);
    drop(all);
    let third = emit(&server, "acme", EventKind::CallInitiated).await;

    // As a browser does it.
    let token = token("acme", Role::Viewer);
    let offer = [("sec-websocket-protocol", format!("sidetone.events, bearer.{token}"))];
    let mut again = open(&server, &format!("?after={first}"), &offer).await.expect("open");
    assert_eq!(next(&mut again).await, second);
    assert_eq!(next(&mut again).await, third);
    // What a client says is of no interest, as long as it is little.
    again.send(Message::text("hello")).await.expect("sent");
    let fourth = emit(&server, "acme", EventKind::CallInitiated).await;
    assert_eq!(next(&mut again).await, fourth);

    for (query, headers, status) in [
        ("".to_owned(), Vec::new(), 401),
        ("".to_owned(), vec![("authorization", "Bearer nonsense".to_owned())], 401),
        ("?kinds=call.nothing".to_owned(), header("acme").to_vec(), 422),
        ("?after=nothing".to_owned(), header("acme").to_vec(), 422),
        (format!("?after={first}"), header("other").to_vec(), 422),
    ] {
        assert_eq!(open(&server, &query, &headers).await.err(), Some(status), "{query}");
    }
    let plain = format!(
        "GET /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    assert!(exchange(&server, &plain).await.starts_with("HTTP/1.1 400 "));

    server.events.shutdown().await;
    assert!(next(&mut again).await.contains("this server ends"));
}
