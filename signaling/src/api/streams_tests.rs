//! Listeners by the API: over a real socket, of a real stream, at a real WebSocket server.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::tests::{Server, exchange, request, server, summary};
use crate::media::MediaStream;
use crate::sdp::offer_answer::{LocalMedia, offer};

async fn post(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(server, &request).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    (status, serde_json::from_str(body).expect("JSON"))
}

async fn streams(server: &Server) -> Value {
    let (status, body) = request(server, "GET", "/v1/calls/1/streams").await;
    assert_eq!(status, 200);
    serde_json::from_str(&body).expect("JSON")
}

async fn add_stream(server: &Server) -> MediaStream {
    let parameters = offer(&LocalMedia::default(), None).stream;
    server.media.add_stream(IpAddr::V4(Ipv4Addr::LOCALHOST), parameters).await.expect("a stream")
}

#[tokio::test]
async fn a_listener_is_begun_seen_and_ended() {
    let server = server(9).await;
    let entry = server.calls.admit(summary()).expect("room");
    assert_eq!(request(&server, "GET", "/v1/calls/1/streams").await.0, 404, "no media yet");
    let stream = add_stream(&server).await;
    entry.set_stream(Some(stream.handle()));

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    let heard = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let mut websocket = tokio_tungstenite::accept_async(tcp).await.expect("an upgrade");
        let mut heard = Vec::new();
        while let Some(Ok(message)) = websocket.next().await {
            heard.extend(message.to_text().ok().and_then(|text| serde_json::from_str::<Value>(text).ok()));
        }
        heard
    });
    let (status, begun) =
        post(&server, "/v1/calls/1/streams", &json!({"url": url, "track": "inbound"})).await;
    assert_eq!(
        (status, &begun["dialect"], &begun["track"]),
        (201, &json!("twilio"), &json!("inbound")),
        "{begun}"
    );
    let listed = streams(&server).await;
    assert_eq!((&listed["count"], &listed["streams"][0]["id"]), (&json!(1), &begun["id"]));
    // What is heard of a caller who says nothing is silence.
    while streams(&server).await["streams"][0]["sent_ms"].as_u64() < Some(100) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let path = format!("/v1/calls/1/streams/{}", begun["id"]);
    assert_eq!(request(&server, "DELETE", &path).await.0, 202);
    let heard = heard.await.expect("no panic");
    assert_eq!(heard[1]["start"]["tracks"], json!(["inbound"]));
    assert_eq!(heard[2]["media"]["track"], "inbound");
    assert_eq!(heard.last().expect("messages")["event"], "stop");
    while streams(&server).await["count"] != 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(request(&server, "DELETE", &path).await.0, 404);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_reason() {
    let server = server(9).await;
    let entry = server.calls.admit(summary()).expect("room");
    let stream = add_stream(&server).await;
    entry.set_stream(Some(stream.handle()));
    let nobody = "ws://127.0.0.1:1/";
    for (path, body, expected) in [
        ("/v1/calls/2/streams", json!({"url": nobody}), 404),
        ("/v1/calls/1/streams", json!({}), 400),
        ("/v1/calls/1/streams", json!({"url": nobody, "colour": "blue"}), 400),
        ("/v1/calls/1/streams", json!({"url": nobody, "track": "left"}), 400),
        ("/v1/calls/1/streams", json!({"url": nobody, "track": "mix"}), 400),
        ("/v1/calls/1/streams", json!({"url": "http://127.0.0.1/"}), 400),
        ("/v1/calls/1/streams", json!({"url": nobody}), 502),
    ] {
        let (status, answer) = post(&server, path, &body).await;
        assert_eq!(status, expected, "{body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|reason| !reason.is_empty()));
    }
    assert_eq!(streams(&server).await["count"], 0);
}
