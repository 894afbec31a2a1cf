//! Connecting AI streams to backends that are absent, unwilling or not what they should be.

mod ai_support;

use std::sync::Arc;
use std::time::Duration;

use ai_support::{Bot, connect, eventually, listen, meta, soon};
use engine::ai::{AiConfig, AiCounters, AiRuntime, ConnectError, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn runtime() -> (AiRuntime, Arc<AiCounters>) {
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let counters = runtime.counters();
    (runtime, counters)
}

/// A server that answers every upgrade with `answer`, then keeps the connection.
async fn server(answer: &'static str) -> (String, tokio::task::JoinHandle<()>) {
    let (listener, address) = listen().await;
    let task = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = tcp.read(&mut request).await;
            let _ = tcp.write_all(answer.as_bytes()).await;
            kept.push(tcp);
        }
    });
    (format!("ws://{address}/stream?token=secret"), task)
}

async fn refusal(answer: &'static str) -> (ConnectError, Arc<AiCounters>) {
    let (runtime, counters) = runtime();
    let (url, _task) = server(answer).await;
    let config = AiConfig { connect_window: Duration::from_millis(700), ..AiConfig::new(url) };
    let error = connect(&runtime, config).await.expect_err("refused");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(counters.connect_failed.value(), 1);
    assert_eq!(runtime.streams(), 0);
    (error, counters)
}

#[tokio::test]
async fn refused_connection_is_tried_again_until_the_window_ends() {
    let (runtime, counters) = runtime();
    let (listener, address) = listen().await;
    drop(listener);
    let config =
        AiConfig { connect_window: Duration::from_millis(900), ..AiConfig::new(format!("ws://{address}")) };
    let error = connect(&runtime, config).await.expect_err("refused");
    assert!(matches!(&error, ConnectError::Unreachable { .. }), "{error}");
    assert!((2..=4).contains(&counters.connect_attempts.value()), "{}", counters.connect_attempts.value());
    assert_eq!(counters.connect_refused.value(), counters.connect_attempts.value());
}

#[tokio::test]
async fn backend_that_starts_a_little_later_is_reached() {
    let (runtime, counters) = runtime();
    let (listener, address) = listen().await;
    drop(listener);
    let config =
        AiConfig { connect_window: ai_support::PATIENCE, ..AiConfig::new(format!("ws://{address}")) };
    let late = async {
        eventually("an attempt", || counters.connect_refused.value() > 0).await;
        let listener = TcpListener::bind(address).await.expect("the same port");
        Bot::accept(&listener).await
    };
    let (opened, mut bot) = tokio::join!(connect(&runtime, config), late);
    opened.expect("a stream");
    assert_eq!(bot.event().await["event"], "connected");
    assert_eq!(counters.connected.value(), 1);
}

#[tokio::test]
async fn server_error_is_tried_again() {
    let (error, counters) = refusal("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await;
    assert!(matches!(error, ConnectError::Refused { status: 500, .. }), "{error}");
    assert!(counters.connect_attempts.value() >= 2);
}

#[tokio::test]
async fn client_errors_are_final() {
    for (answer, expected) in [
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 401),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404),
        ("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 429),
    ] {
        let (error, counters) = refusal(answer).await;
        let ConnectError::Refused { status, retry_after, .. } = error else { panic!("{error}") };
        assert_eq!(status, expected);
        assert_eq!(retry_after, (status == 429).then_some(Duration::from_secs(7)));
        assert_eq!(counters.connect_attempts.value(), 1);
        assert_eq!(counters.connect_http_status.value(), 1);
    }
}

#[tokio::test]
async fn redirect_is_reported_and_not_followed() {
    let (error, counters) =
        refusal("HTTP/1.1 302 Found\r\nLocation: ws://192.0.2.1/evil\r\nContent-Length: 0\r\n\r\n").await;
    let ConnectError::Redirected { status: 302, location, .. } = &error else { panic!("{error}") };
    assert_eq!(location, "ws://192.0.2.1/evil");
    assert_eq!((counters.connect_attempts.value(), counters.connect_redirected.value()), (1, 1));
}

#[tokio::test]
async fn answers_that_are_no_upgrade_are_final() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bad\r\n\r\n",
    ] {
        let (error, counters) = refusal(answer).await;
        assert!(matches!(error, ConnectError::Handshake { .. }), "{error}");
        assert_eq!(counters.connect_handshake.value(), 1);
    }
}

#[tokio::test]
async fn upgrade_that_is_never_answered_times_out() {
    let (error, counters) = refusal("").await;
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
    assert_eq!(counters.connect_timeout.value(), 1);
}

#[tokio::test]
async fn connection_closed_during_the_upgrade_is_tried_again() {
    let (runtime, counters) = runtime();
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            drop(tcp)
        }
    });
    let config =
        AiConfig { connect_window: Duration::from_millis(700), ..AiConfig::new(format!("ws://{address}")) };
    let error = connect(&runtime, config).await.expect_err("closed");
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(counters.connect_attempts.value() >= 2);
}

#[tokio::test]
async fn endless_answer_is_cut() {
    let (runtime, _) = runtime();
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = tcp.write_all(b"HTTP/1.1 101 Switching Protocols\r\n").await;
                while tcp.write_all(&[b'x'; 4096]).await.is_ok() {}
            });
        }
    });
    let config =
        AiConfig { connect_window: Duration::from_secs(2), ..AiConfig::new(format!("ws://{address}")) };
    let error = connect(&runtime, config).await.expect_err("no upgrade");
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error}");
}

#[tokio::test]
async fn abandoned_attempt_ends() {
    let (runtime, _) = runtime();
    let (url, _task) = server("").await;
    let config = AiConfig { connect_window: ai_support::PATIENCE, ..AiConfig::new(url) };
    let attempt = tokio::time::timeout(Duration::from_millis(200), runtime.connect(config, meta())).await;
    assert!(attempt.is_err());
    eventually("the attempt's end", || runtime.streams() == 0).await;
}

#[tokio::test]
async fn upgrade_carries_the_configured_header_fields() {
    let (runtime, _) = runtime();
    let (listener, address) = listen().await;
    let mut token = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut token, b"12345\n").expect("written");
    let secret = || Some(Secret::File(token.path().to_owned()));
    let config = AiConfig {
        authorization: secret(),
        auth_token: secret(),
        headers: vec![("X-Tenant".into(), "acme".into())],
        connect_window: Duration::from_secs(5),
        ..AiConfig::new(format!("ws://{address}/a?b=c"))
    };
    let server = async {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        let mut request = vec![0; 4096];
        let len = tcp.read(&mut request).await.expect("a request");
        let _ = tcp.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
        String::from_utf8_lossy(&request[..len]).to_ascii_lowercase()
    };
    let (opened, request) = tokio::join!(connect(&runtime, config), server);
    assert!(opened.is_err());
    assert!(request.starts_with("get /a?b=c http/1.1\r\n"), "{request}");
    for line in ["authorization: bearer 12345\r\n", "x-tenant: acme\r\n", "x-twilio-signature: "] {
        assert!(request.contains(line), "{line} in {request}");
    }
}

/// A TLS server with a certificate for `name`, and the PEM of its authority.
async fn tls_server(name: &str) -> (String, tempfile::NamedTempFile, tokio::task::JoinHandle<()>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let mut pem = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut pem, made.cert.pem().as_bytes()).expect("written");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a server");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listen().await;
    let task = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let Ok(mut socket) = tokio_tungstenite::accept_async(tls).await else { return };
                while let Some(Ok(message)) = futures_util::StreamExt::next(&mut socket).await {
                    if message.is_text() && futures_util::SinkExt::send(&mut socket, message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (format!("wss://127.0.0.1:{}/", address.port()), pem, task)
}

#[tokio::test]
async fn tls_works_with_a_trusted_certificate_only() {
    let (runtime, counters) = runtime();
    let (url, pem, _task) = tls_server("bot.example.com").await;
    let trusted = AiConfig { extra_ca: Some(pem.path().to_owned()), ..AiConfig::new(url.clone()) };

    let named = AiConfig { tls_server_name: Some("bot.example.com".into()), ..trusted.clone() };
    let (_port, _session) = connect(&runtime, named.clone()).await.expect("a stream");
    // The server sends everything back, and it has no `event` that means anything to us.
    eventually("messages through TLS", || counters.unknown_event.value() >= 2).await;

    let wrong_name = connect(&runtime, trusted).await.expect_err("refused");
    assert!(matches!(wrong_name, ConnectError::Tls { .. }), "{wrong_name}");
    let unknown = connect(&runtime, AiConfig { extra_ca: None, ..named }).await.expect_err("refused");
    assert!(matches!(unknown, ConnectError::Tls { .. }), "{unknown}");
    assert_eq!((counters.connect_tls.value(), counters.connect_attempts.value()), (2, 3));
}

#[tokio::test]
async fn streams_are_spread_over_the_threads() {
    let cpu = 0;
    let runtime = AiRuntime::start(&[cpu, cpu]).expect("a runtime");
    assert_eq!(runtime.doorbells().len(), 2);
    let (listener, address) = listen().await;
    let mut kept = Vec::new();
    for _ in 0..4 {
        let config = AiConfig::new(format!("ws://{address}"));
        let (opened, bot) = tokio::join!(connect(&runtime, config), Bot::accept(&listener));
        kept.push((opened.expect("a stream"), bot));
    }
    let threads: Vec<u8> = kept.iter().map(|((port, _), _)| port.thread()).collect();
    assert_eq!(threads, [0, 1, 0, 1]);
}

#[test]
fn cpu_that_does_not_exist_is_an_error() {
    for cpu in [1000, 1_000_000] {
        let error = AiRuntime::start(&[cpu]).expect_err("no such CPU");
        assert!(error.to_string().contains(&cpu.to_string()), "{error}");
    }
}

#[tokio::test]
async fn unusable_url_is_an_error_that_says_so() {
    let (runtime, counters) = runtime();
    let error =
        soon("an error", runtime.connect(AiConfig::new("http://h/"), meta())).await.expect_err("refused");
    assert!(error.to_string().contains("not ws or wss"), "{error}");
    assert_eq!(counters.connect_attempts.value(), 0);
}
