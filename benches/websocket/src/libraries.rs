//! The same two loops with each library: write messages as a client, read messages as a client.

use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::tape::Tape;

pub(crate) const NAMES: [&str; 7] =
    ["bare", "tungstenite", "tokio-websockets", "fastwebsockets", "soketto", "sockudo-ws", "yawc"];

/// What a loop did: messages' bytes seen, and calls of the connection's write.
pub(crate) struct Done {
    pub(crate) bytes: u64,
    pub(crate) writes: u64,
    pub(crate) first: Option<Vec<u8>>,
}

/// Writes the message so many times, each flushed by itself.
pub(crate) fn write(name: &str, message: &[u8], times: u64) -> Done {
    let tape = match name {
        "bare" => {
            let mut tape = Tape::default();
            let mut buffer = Vec::with_capacity(4096);
            let mut cx = Context::from_waker(Waker::noop());
            for n in 0..times {
                buffer.clear();
                frame(message, n as u32 | 1, &mut buffer);
                let sent = Pin::new(&mut tape).poll_write(&mut cx, &buffer);
                assert!(matches!(sent, Poll::Ready(Ok(_))));
            }
            tape
        }
        "tungstenite" => now(async {
            let mut socket = tungstenite(Tape::default()).await;
            sink(&mut socket, message, times, |bytes| {
                tokio_tungstenite::tungstenite::Message::Text(bytes.try_into().expect("UTF-8"))
            })
            .await;
            std::mem::take(socket.get_mut())
        }),
        "tokio-websockets" => now(async {
            let mut tape = Tape::default();
            let mut socket = tokio_websockets::ClientBuilder::new().take_over(&mut tape);
            sink(&mut socket, message, times, |bytes| tokio_websockets::Message::text(text(bytes))).await;
            drop(socket);
            tape
        }),
        "fastwebsockets" => now(async {
            let mut socket = fast(Tape::default());
            let mut copy = Vec::new();
            for _ in 0..times {
                // It masks in place, so a copy it must be.
                copy.clear();
                copy.extend_from_slice(message);
                let payload = fastwebsockets::Payload::BorrowedMut(&mut copy);
                socket.write_frame(fastwebsockets::Frame::text(payload)).await.expect("written");
                socket.flush().await.expect("flushed");
            }
            socket.into_inner()
        }),
        "soketto" => now(async {
            let mut tape = Tape::default();
            let (mut sender, _receiver) =
                soketto::connection::Builder::new((&mut tape).compat(), soketto::connection::Mode::Client)
                    .finish();
            for _ in 0..times {
                sender.send_text(std::str::from_utf8(message).expect("UTF-8")).await.expect("sent");
                sender.flush().await.expect("flushed");
            }
            drop((sender, _receiver));
            tape
        }),
        "sockudo-ws" => now(async {
            let mut tape = Tape::default();
            let mut socket = sockudo(&mut tape);
            sink(&mut socket, message, times, sockudo_ws::Message::Text).await;
            drop(socket);
            tape
        }),
        "yawc" => now(async {
            let mut tape = Tape::default();
            let mut socket = yawc(&mut tape);
            sink(&mut socket, message, times, yawc::Frame::text).await;
            drop(socket);
            tape
        }),
        _ => unreachable!("one of NAMES"),
    };
    Done { bytes: tape.written, writes: tape.writes, first: tape.first_message() }
}

/// Reads so many messages; each is one reading of the connection.
pub(crate) fn read(name: &str, message: &[u8], times: u64) -> Done {
    let mut tape = Tape::of(message, times);
    let bytes = match name {
        "bare" => {
            let mut buffer = vec![0; 16 * 1024];
            let mut cx = Context::from_waker(Waker::noop());
            let mut seen = 0;
            for _ in 0..times {
                let mut into = tokio::io::ReadBuf::new(&mut buffer);
                assert!(Pin::new(&mut tape).poll_read(&mut cx, &mut into).is_ready());
                let payload = &into.filled()[4..];
                seen += black_box(std::str::from_utf8(payload).expect("UTF-8")).len() as u64;
            }
            seen
        }
        "tungstenite" => now(async {
            let mut socket = tungstenite(tape).await;
            stream(&mut socket, times, |message| message.expect("a message").len()).await
        }),
        "tokio-websockets" => now(async {
            let mut socket = tokio_websockets::ClientBuilder::new().take_over(tape);
            stream(&mut socket, times, |message| message.expect("a message").as_text().expect("text").len())
                .await
        }),
        "fastwebsockets" => now(async {
            let mut socket = fastwebsockets::FragmentCollector::new(fast(tape));
            let mut seen = 0;
            for _ in 0..times {
                let frame = socket.read_frame().await.expect("a frame");
                seen += black_box(&frame.payload).len() as u64;
            }
            seen
        }),
        "soketto" => now(async {
            let (_sender, mut receiver) =
                soketto::connection::Builder::new(tape.compat(), soketto::connection::Mode::Client).finish();
            let mut seen = 0;
            let mut into = Vec::new();
            for _ in 0..times {
                into.clear();
                receiver.receive_data(&mut into).await.expect("a message");
                seen += black_box(std::str::from_utf8(&into).expect("UTF-8")).len() as u64;
            }
            seen
        }),
        "sockudo-ws" => now(async {
            let mut socket = sockudo(tape);
            stream(&mut socket, times, |message| match message.expect("a message") {
                sockudo_ws::Message::Text(text) => text.len(),
                other => panic!("{other:?}"),
            })
            .await
        }),
        "yawc" => now(async {
            let mut socket = yawc(tape);
            stream(&mut socket, times, |frame: yawc::Frame| {
                std::str::from_utf8(frame.payload()).expect("UTF-8").len()
            })
            .await
        }),
        _ => unreachable!("one of NAMES"),
    };
    Done { bytes, writes: 0, first: None }
}

/// Everything is ready at once, or the library waits for what does not come.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..1000 {
        if let Poll::Ready(done) = future.as_mut().poll(&mut cx) {
            return done;
        }
    }
    panic!("stuck");
}

async fn sink<M, S: Sink<M> + Unpin>(socket: &mut S, message: &[u8], times: u64, make: impl Fn(Bytes) -> M)
where
    S::Error: std::fmt::Debug,
{
    for _ in 0..times {
        // The codec's buffer is its own: the message is a copy.
        socket.send(make(Bytes::copy_from_slice(message))).await.expect("sent");
    }
}

async fn stream<S: Stream + Unpin>(
    socket: &mut S,
    times: u64,
    mut length: impl FnMut(S::Item) -> usize,
) -> u64 {
    let mut seen = 0;
    for _ in 0..times {
        seen += black_box(length(socket.next().await.expect("a message"))) as u64;
    }
    seen
}

pub(crate) async fn tungstenite<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
) -> tokio_tungstenite::WebSocketStream<S> {
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
    // As the product has it.
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = 16 * 1024;
    config.write_buffer_size = 0;
    config.max_write_buffer_size = 64 * 1024;
    tokio_tungstenite::WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await
}

pub(crate) fn fast<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> fastwebsockets::WebSocket<S> {
    fastwebsockets::WebSocket::after_handshake(stream, fastwebsockets::Role::Client)
}

fn sockudo<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> sockudo_ws::WebSocketStream<S> {
    let config = sockudo_ws::Config::builder().compression(sockudo_ws::Compression::Disabled).build();
    sockudo_ws::WebSocketStream::client(stream, config)
}

fn yawc<S: AsyncRead + AsyncWrite + Unpin + Send>(stream: S) -> yawc::WebSocket<S> {
    yawc::WebSocket::from_stream(stream, yawc::Role::Client, yawc::Options::default()).expect("a socket")
}

fn text(bytes: Bytes) -> String {
    String::from_utf8(bytes.into()).expect("UTF-8")
}

/// A masked text frame, the payload masked where it lies.
pub(crate) fn frame(message: &[u8], key: u32, into: &mut Vec<u8>) {
    into.extend([0x81, 0x80 | 126]);
    into.extend((message.len() as u16).to_be_bytes());
    let key = key.wrapping_mul(0x9e37_79b9).to_ne_bytes();
    into.extend(key);
    let start = into.len();
    into.extend_from_slice(message);
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (chunks, rest) = into[start..].as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(key.into_iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}
