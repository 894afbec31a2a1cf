//! A WebSocket backend whose behaviour a test writes as a closure.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// A backend on a port of its own. Its threads end with their connections, or with the test process.
pub(crate) struct Agent {
    address: SocketAddr,
    received: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl Agent {
    /// Runs `behaviour` for every WebSocket that connects.
    pub(crate) fn start(behaviour: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        let address = accept(move |stream| {
            let _ = stream.set_nodelay(true);
            let Ok(socket) = tungstenite::accept(stream) else { return };
            let mut conversation =
                Conversation { socket, stream_sid: String::new(), received: Arc::clone(&log) };
            behaviour(&mut conversation);
        });
        Self { address, received }
    }

    /// Runs `behaviour` for every TCP connection, for backends that speak no WebSocket.
    pub(crate) fn raw(behaviour: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self { address: accept(behaviour), received: Arc::default() }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/media", self.address)
    }

    /// Messages received so far on all connections, with their times.
    pub(crate) fn received(&self) -> Vec<(Instant, Value)> {
        self.received.lock().expect("lock").clone()
    }

    /// The received messages of one event.
    pub(crate) fn events(&self, event: &str) -> Vec<(Instant, Value)> {
        self.received().into_iter().filter(|(_, message)| message["event"] == event).collect()
    }
}

fn accept(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// One WebSocket as the backend sees it.
pub(crate) struct Conversation {
    socket: WebSocket<TcpStream>,
    stream_sid: String,
    received: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl Conversation {
    /// The next message as JSON; `None` when the other side has closed or nothing came in time.
    pub(crate) fn next(&mut self, limit: Duration) -> Option<Value> {
        let end = Instant::now() + limit;
        loop {
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.socket.get_ref().set_read_timeout(Some(left)).ok()?;
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).expect("our messages are JSON");
                    if let Some(sid) = message["streamSid"].as_str() {
                        sid.clone_into(&mut self.stream_sid);
                    }
                    self.received.lock().expect("lock").push((Instant::now(), message.clone()));
                    return Some(message);
                }
                Ok(Message::Close(_)) => {
                    // Its reading ends with an error once the answer is out.
                    self.received.lock().expect("lock").push((Instant::now(), json!({"event": "closed"})));
                    let _ = self.socket.flush();
                    return None;
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Reads until the other side closes; `each` sees every message.
    pub(crate) fn listen(&mut self, mut each: impl FnMut(&mut Self, &Value)) {
        while let Some(message) = self.next(Duration::from_secs(60)) {
            each(self, &message);
        }
    }

    /// Reads and keeps messages for a while.
    pub(crate) fn listen_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.next(left).is_none() && Instant::now() < end {
                return;
            }
        }
    }

    /// Waits for `connected` and `start`; the start message.
    pub(crate) fn start(&mut self) -> Value {
        let connected = self.next(Duration::from_secs(5)).expect("connected comes");
        assert_eq!(connected["event"], "connected", "the first message");
        let start = self.next(Duration::from_secs(5)).expect("start comes");
        assert_eq!(start["event"], "start", "the second message");
        start
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.send_raw(Message::text(message.to_string()));
    }

    pub(crate) fn send_raw(&mut self, message: Message) {
        let _ = self.socket.send(message);
    }

    /// Sends mu-law audio of any length as one message.
    pub(crate) fn say(&mut self, mu_law: &[u8]) {
        let payload = base64::engine::general_purpose::STANDARD.encode(mu_law);
        self.send(&json!({"event": "media", "streamSid": self.stream_sid, "media": {"payload": payload}}));
    }

    pub(crate) fn mark(&mut self, name: &str) {
        self.send(&json!({"event": "mark", "streamSid": self.stream_sid, "mark": {"name": name}}));
    }

    pub(crate) fn clear(&mut self) {
        self.send(&json!({"event": "clear", "streamSid": self.stream_sid}));
    }

    /// Closes as RFC 6455 says.
    pub(crate) fn close(&mut self) {
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
        while self.next(Duration::from_secs(2)).is_some() {}
    }
}

/// The mu-law bytes of a `media` message.
pub(crate) fn payload(message: &Value) -> Vec<u8> {
    let text = message["media"]["payload"].as_str().expect("a payload");
    base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
}
