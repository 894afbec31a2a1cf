//! RFC 6455 as a client, by tungstenite.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Bytes, Message, Utf8Bytes, error::ProtocolError};

use super::super::dialect::Kind;
use super::{CarrierError, Close, Received};

/// A byte stream to the backend.
pub(in super::super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

pub(in super::super) struct WebSocket(WebSocketStream<Box<dyn Transport>>);

impl WebSocket {
    pub(in super::super) fn new(stream: WebSocketStream<Box<dyn Transport>>) -> Self {
        Self(stream)
    }

    pub(in super::super) fn config(max_message_bytes: usize) -> WebSocketConfig {
        let mut config = WebSocketConfig::default();
        config.read_buffer_size = READ_BUFFER_BYTES;
        // Every message goes to the socket at once; what does not go is kept in our own bounded queue.
        config.write_buffer_size = 0;
        config.max_write_buffer_size = WRITE_BUFFER_BYTES;
        config.max_message_size = Some(max_message_bytes);
        config.max_frame_size = Some(max_message_bytes);
        config
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(failed)
    }

    pub(super) fn start_send(&mut self, kind: Kind, message: &[u8]) -> Result<(), CarrierError> {
        let bytes = Bytes::copy_from_slice(message);
        self.start(match kind {
            // Codecs write UTF-8.
            Kind::Text => Message::Text(Utf8Bytes::try_from(bytes).unwrap_or_default()),
            Kind::Binary => Message::Binary(bytes),
        })
    }

    pub(super) fn start_ping(&mut self) -> Result<(), CarrierError> {
        self.start(Message::Ping(Bytes::new()))
    }

    pub(super) fn start_close(&mut self, code: u16) -> Result<(), CarrierError> {
        self.start(Message::Close(Some(CloseFrame { code: code.into(), reason: "".into() })))
    }

    fn start(&mut self, message: Message) -> Result<(), CarrierError> {
        Pin::new(&mut self.0).start_send(message).map_err(failed)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(failed)
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received, CarrierError>>> {
        Pin::new(&mut self.0).poll_next(cx).map(|message| {
            Some(message?.map_err(failed).map(|message| match message {
                Message::Text(text) => Received::Message(Kind::Text, text.into()),
                Message::Binary(bytes) => Received::Message(Kind::Binary, bytes),
                Message::Close(frame) => Received::Close(closed(frame)),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Received::Alive,
            }))
        })
    }

    /// Reads bytes past everything else: how many, 0 at the end.
    pub(super) async fn skip(&mut self) -> usize {
        let mut scratch = [0; 4096];
        self.0.get_mut().read(&mut scratch).await.unwrap_or(0)
    }
}

fn closed(frame: Option<CloseFrame>) -> Close {
    match frame {
        Some(frame) => Close {
            code: frame.code.into(),
            reason: frame.reason.chars().filter(|c| !c.is_control()).collect(),
        },
        // RFC 6455 section 7.1.5: no status code.
        None => Close { code: Close::NO_STATUS, reason: String::new() },
    }
}

fn failed(error: tungstenite::Error) -> CarrierError {
    match error {
        tungstenite::Error::Capacity(error) => CarrierError::TooLarge(error.to_string()),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            CarrierError::Lost("closed without a close frame".into())
        }
        tungstenite::Error::Protocol(error) => CarrierError::Protocol(error.to_string()),
        tungstenite::Error::Utf8(error) => CarrierError::Protocol(error),
        other => CarrierError::Lost(other.to_string()),
    }
}

const READ_BUFFER_BYTES: usize = 16 * 1024;
const WRITE_BUFFER_BYTES: usize = 64 * 1024;
