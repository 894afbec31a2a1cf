//! An HTTP server that receives webhooks and behaves as it is told.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::SigningSecret;

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Takes,
    Answers(u16),
    Redirects,
    Hangs,
    /// Takes it, and sends its answer's body one byte at a time without an end.
    Drips,
    /// Takes it, and sends an endless body as fast as it can.
    Floods,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) id: String,
    pub(super) timestamp: i64,
    pub(super) signature: String,
    pub(super) content_type: String,
    pub(super) body: Bytes,
    pub(super) mood: Mood,
}

impl Taken {
    pub(super) fn event(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// As a receiver checks it.
    pub(super) fn is_signed_with(&self, secret: &str) -> bool {
        let secret = SigningSecret::parse(secret).expect("a secret");
        secret.sign(&self.id, self.timestamp, &self.body) == self.signature
    }
}

#[derive(Default)]
struct Book {
    moods: Mutex<Vec<Mood>>,
    taken: Mutex<Vec<Taken>>,
    requests: AtomicUsize,
}

pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    book: Arc<Book>,
    serving: JoinHandle<()>,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::default()).await
    }

    /// On another loopback address.
    pub(super) async fn start_on(ip: IpAddr, port: u16) -> Self {
        Self::start_at(SocketAddr::new(ip, port), Arc::default()).await
    }

    async fn start_at(address: SocketAddr, book: Arc<Book>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let router = Router::new().fallback(take).with_state(Arc::clone(&book));
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { address, book, serving }
    }

    /// Ends it; what it has taken is kept for the next one on the same port.
    pub(super) async fn restart(self, down: Duration) -> Self {
        self.serving.abort();
        let _ = self.serving.await;
        tokio::time::sleep(down).await;
        Self::start_at(self.address, self.book).await
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook?a=b", self.address)
    }

    /// What the next requests meet; the last mood stays.
    pub(super) fn moods(&self, moods: &[Mood]) {
        let mut moods = moods.to_vec();
        moods.reverse();
        *self.book.moods.lock().expect("no panic") = moods;
    }

    pub(super) fn requests(&self) -> usize {
        self.book.requests.load(Ordering::SeqCst)
    }

    /// Everything that came, with what was done with it.
    pub(super) fn all(&self) -> Vec<Taken> {
        self.book.taken.lock().expect("no panic").clone()
    }

    /// What it has taken, in order, without what it refused.
    pub(super) fn taken(&self) -> Vec<Taken> {
        let mut all = self.all();
        all.retain(|taken| matches!(taken.mood, Mood::Takes | Mood::Drips | Mood::Floods));
        all
    }

    /// The events of each subject in the order in which they were first taken.
    pub(super) fn lanes(&self) -> BTreeMap<String, Vec<String>> {
        let mut lanes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for taken in self.taken() {
            let lane = lanes.entry(taken.event()["subject"].as_str().expect("text").to_owned()).or_default();
            if !lane.contains(&taken.id) {
                lane.push(taken.id);
            }
        }
        lanes
    }
}

async fn take(State(book): State<Arc<Book>>, headers: HeaderMap, body: Bytes) -> Response {
    book.requests.fetch_add(1, Ordering::SeqCst);
    let mood = {
        let mut moods = book.moods.lock().expect("no panic");
        match moods.len() {
            0 => Mood::Takes,
            1 => moods[0],
            _ => moods.pop().expect("two"),
        }
    };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    book.taken.lock().expect("no panic").push(Taken {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp").parse().unwrap_or(0),
        signature: text("webhook-signature"),
        content_type: text("content-type"),
        body,
        mood,
    });
    match mood {
        Mood::Takes => StatusCode::NO_CONTENT.into_response(),
        Mood::Answers(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        Mood::Redirects => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "http://127.0.0.1:1/elsewhere")])
                .into_response()
        }
        Mood::Hangs => std::future::pending().await,
        Mood::Drips => {
            let bytes = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
            });
            Body::from_stream(bytes).into_response()
        }
        Mood::Floods => {
            let bytes = stream::unfold((), |()| async {
                tokio::task::yield_now().await;
                Some((Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 16_384])), ()))
            });
            Body::from_stream(bytes).into_response()
        }
    }
}
