//! A backend written by hand, and a worker driven by the test, for the AI stream tests.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod realtime;

use std::net::SocketAddr;
use std::time::Duration;

use engine::Doorbell;
use engine::ai::{AiConfig, AiEnd, AiEvent, AiPort, AiRuntime, AiSession, CallMeta, ConnectError};
use engine::time::Instant;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

pub(crate) fn meta() -> CallMeta {
    CallMeta {
        call_id: "a84b4c76e66710@192.0.2.1".into(),
        from_number: "+4930123".into(),
        to_number: "agent".into(),
        ..CallMeta::default()
    }
}

/// A WebSocket that leads nowhere.
pub(crate) async fn loose_end() -> WebSocketStream<TcpStream> {
    use tokio_tungstenite::tungstenite::protocol::Role;
    let (listener, address) = listen().await;
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    drop(far);
    WebSocketStream::from_raw_socket(near.expect("a connection"), Role::Server, None).await
}

/// The audio of a Twilio message.
pub(crate) fn payload(media: &Value) -> Vec<u8> {
    use base64::Engine as _;
    let payload = media["media"]["payload"].as_str().expect("a payload");
    base64::engine::general_purpose::STANDARD.decode(payload).expect("base64")
}

/// The backend's end of a stream.
pub(crate) struct Bot {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Bot {
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (tcp, _) = soon("a connection", listener.accept()).await.expect("a connection");
        tcp.set_nodelay(true).expect("no delay");
        // A server that is offered a subprotocol takes it (RFC 6455 section 4.2.2).
        #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
        let take = |request: &Request, mut response: Response| {
            if let Some(subprotocol) = request.headers().get("Sec-WebSocket-Protocol") {
                response.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol.clone());
            }
            Ok(response)
        };
        let upgrade = tokio_tungstenite::accept_hdr_async(tcp, take);
        Self { socket: soon("the upgrade", upgrade).await.expect("an upgrade") }
    }

    /// The next binary message; texts are skipped.
    pub(crate) async fn binary(&mut self) -> Vec<u8> {
        soon("a binary message", async {
            loop {
                if let Message::Binary(bytes) = self.message().await {
                    return bytes.to_vec();
                }
            }
        })
        .await
    }

    /// The next text message, of whatever form; audio is skipped.
    pub(crate) async fn text(&mut self) -> String {
        soon("a text message", async {
            loop {
                if let Message::Text(text) = self.message().await {
                    return text.to_string();
                }
            }
        })
        .await
    }

    /// The next text message as JSON; audio is skipped.
    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("JSON")
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.expect("sent");
    }

    /// As [`Bot::accept`], with the subprotocol `media`.
    #[expect(clippy::result_large_err, reason = "tungstenite's callback")]
    pub(crate) async fn accept_media(listener: &TcpListener) -> Self {
        use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
        let (tcp, _) = soon("a connection", listener.accept()).await.expect("a connection");
        let answer = |request: &Request, mut response: Response| {
            if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
                response.headers_mut().insert("sec-websocket-protocol", protocol.clone());
            }
            Ok(response)
        };
        let upgrade = tokio_tungstenite::accept_hdr_async(tcp, answer);
        Self { socket: soon("the upgrade", upgrade).await.expect("an upgrade") }
    }

    pub(crate) async fn message(&mut self) -> Message {
        soon("a message", self.socket.next()).await.expect("a message").expect("a message")
    }

    /// The next text message.
    pub(crate) async fn event(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a text message: {other:?}"),
            }
        }
    }

    /// The next message with this event; others are skipped.
    pub(crate) async fn event_named(&mut self, name: &str) -> Value {
        soon(name, async {
            loop {
                let event = self.event().await;
                if event["event"] == name {
                    return event;
                }
            }
        })
        .await
    }

    /// The next message of this type; others are skipped.
    pub(crate) async fn typed(&mut self, name: &str) -> Value {
        soon(name, async {
            loop {
                let event = self.event().await;
                if event["type"] == name {
                    return event;
                }
            }
        })
        .await
    }

    pub(crate) async fn close_frame(&mut self) -> Option<CloseFrame> {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame;
            }
        }
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("sent");
    }

    pub(crate) async fn say(&mut self, audio: &[u8]) {
        use base64::Engine as _;
        let payload = base64::engine::general_purpose::STANDARD.encode(audio);
        self.send(json!({"event": "media", "streamSid": "x", "media": {"payload": payload}})).await;
    }

    pub(crate) async fn mark(&mut self, name: &str) {
        self.send(json!({"event": "mark", "mark": {"name": name}})).await;
    }

    pub(crate) async fn clear(&mut self) {
        self.send(json!({"event": "clear"})).await;
    }
}

/// A worker: pushes and pulls one frame at a time, by the test's will and not by a clock.
pub(crate) struct Worker {
    pub(crate) port: AiPort,
    doorbell: Doorbell,
    frames: u64,
}

impl Worker {
    pub(crate) fn new(port: AiPort, runtime: &AiRuntime) -> Self {
        let doorbell = runtime.doorbells()[usize::from(port.thread())].clone();
        Self { port, doorbell, frames: 0 }
    }

    /// One frame of 20 ms: caller audio up, bot audio down.
    pub(crate) fn frame(&mut self) -> Vec<u8> {
        self.say(&[0x7e; 160])
    }

    /// As [`Worker::frame`], with this from the caller.
    pub(crate) fn say(&mut self, audio: &[u8; 160]) -> Vec<u8> {
        let timestamp = self.frames * 160;
        self.frames += 1;
        self.port.push_audio(Instant::from_millis(self.frames * 20), timestamp, audio);
        let mut frame = [0; 160];
        let len = self.port.pull(Instant::from_millis(self.frames * 20), timestamp as u32, &mut frame);
        self.doorbell.ring();
        frame[..len].to_vec()
    }

    /// Frames until `enough` says so about the bot audio heard so far. Faster than real time, in steps that
    /// let the other threads keep up.
    pub(crate) async fn hear_until(&mut self, mut enough: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let mut heard = Vec::new();
        soon("the bot audio", async {
            while !enough(&heard) {
                let frame = self.frame();
                if frame.is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                heard.extend(frame);
            }
        })
        .await;
        heard
    }

    pub(crate) async fn frames(&mut self, count: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        for _ in 0..count {
            heard.extend(self.frame());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        heard
    }

    /// Waits until the bot's audio is there.
    pub(crate) async fn wait_for_audio(&self) {
        soon("bot audio", async {
            while !self.port.is_speaking() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

/// A running stream with both its ends.
pub(crate) struct Call {
    pub(crate) runtime: AiRuntime,
    pub(crate) worker: Worker,
    pub(crate) session: AiSession,
    pub(crate) bot: Bot,
}

impl Call {
    pub(crate) async fn open(change: impl FnOnce(&mut AiConfig)) -> Self {
        let (listener, address) = listen().await;
        let mut config = AiConfig::new(format!("ws://{address}/stream"));
        change(&mut config);
        let runtime = AiRuntime::start(&[]).expect("a runtime");
        let (opened, bot) = tokio::join!(runtime.connect(config, meta()), Bot::accept(&listener));
        let (port, session) = opened.expect("a stream");
        Self { worker: Worker::new(port, &runtime), runtime, session, bot }
    }

    /// Skips `connected` and `start`.
    pub(crate) async fn started() -> Self {
        let mut call = Self::open(|_| ()).await;
        assert_eq!(call.bot.event().await["event"], "connected");
        assert_eq!(call.bot.event().await["event"], "start");
        call
    }

    pub(crate) async fn end(&mut self) -> AiEnd {
        loop {
            let event = soon("the end of the stream", self.session.next_event()).await.expect("an event");
            if let AiEvent::Ended(end) = event {
                return end;
            }
        }
    }
}

pub(crate) async fn connect(
    runtime: &AiRuntime,
    config: AiConfig,
) -> Result<(AiPort, AiSession), ConnectError> {
    soon("the connection or its failure", runtime.connect(config, meta())).await
}

/// Counters are written by another thread.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) fn ramp(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}
