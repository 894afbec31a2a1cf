//! TCP with the frames of Asterisk's AudioSocket, either side: type, length (big endian), payload.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::sockopt;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Bytes;

use super::super::dialect::{AudioSocketFrames, Kind};
use super::{CarrierError, Close, Received};
use crate::time::Duration;

pub(in super::super) struct AudioSocket {
    tcp: TcpStream,
    incoming: AudioSocketFrames,
    /// The frame that the socket has not taken yet: `outgoing[written..]`.
    outgoing: Vec<u8>,
    written: usize,
    hung_up: bool,
    closing: bool,
    ended: bool,
}

impl AudioSocket {
    /// `silence` is how long the kernel tries to reach the other host before the connection is over.
    ///
    /// There is no ping, and an application that has nothing to say sends nothing: so what tells a dead host is our own audio,
    /// which goes out all the time and is never acknowledged.
    pub(in super::super) fn new(
        tcp: TcpStream,
        max_message_bytes: usize,
        silence: Duration,
    ) -> io::Result<Self> {
        let millis = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX).max(1);
        sockopt::set_tcp_user_timeout(&tcp, millis)?;
        // On hold nothing goes out.
        sockopt::set_socket_keepalive(&tcp, true)?;
        let seconds = Duration::from_secs(u64::from(millis.div_ceil(1000)));
        sockopt::set_tcp_keepidle(&tcp, seconds)?;
        sockopt::set_tcp_keepintvl(&tcp, seconds)?;
        Ok(Self {
            tcp,
            incoming: AudioSocketFrames::new(max_message_bytes),
            outgoing: Vec::new(),
            written: 0,
            hung_up: false,
            closing: false,
            ended: false,
        })
    }

    /// The connection, before anything was read or written.
    pub(in super::super) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        while let Some(rest) = self.outgoing.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.tcp).poll_write(cx, rest)).map_err(lost)? {
                0 => return Poll::Ready(Err(lost(io::ErrorKind::WriteZero.into()))),
                written => self.written += written,
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// A text message means nothing here.
    pub(super) fn start_send(&mut self, kind: Kind, message: &[u8]) -> Result<(), CarrierError> {
        if kind == Kind::Text || self.closing {
            return Ok(());
        }
        self.hung_up |= message.first() == Some(&HANG_UP);
        let taken = match self.tcp.try_write(message) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(lost(error)),
        };
        self.outgoing.extend_from_slice(message.get(taken..).unwrap_or_default());
        Ok(())
    }

    pub(super) fn start_close(&mut self) -> Result<(), CarrierError> {
        if !self.hung_up {
            self.start_send(Kind::Binary, &[HANG_UP, 0, 0])?;
        }
        self.closing = true;
        Ok(())
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError>> {
        ready!(self.poll_ready(cx))?;
        if self.closing {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx)).map_err(lost)?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received, CarrierError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match self.incoming.cut() {
                Ok(Some(frame)) => {
                    let frame = Bytes::copy_from_slice(frame);
                    return Poll::Ready(Some(Ok(Received::Message(Kind::Binary, frame))));
                }
                Ok(None) => {}
                Err(length) => {
                    return self.end(Err(CarrierError::TooLarge(format!("a frame of {length} bytes"))));
                }
            }
            let mut scratch = [0; READ_BYTES];
            let mut into = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut into)) {
                Err(error) => return self.end(Err(lost(error))),
                Ok(()) if !into.filled().is_empty() => self.incoming.push(into.filled()),
                Ok(()) if self.closing => self.ended = true,
                Ok(()) if self.incoming.is_empty() => {
                    // An application ends its part by closing (`res_audiosocket`).
                    return self
                        .end(Ok(Received::Close(Close { code: Close::NORMAL, reason: String::new() })));
                }
                Ok(()) => {
                    return self.end(Err(CarrierError::Lost("closed in the middle of a frame".into())));
                }
            }
        }
    }

    fn end(&mut self, last: Result<Received, CarrierError>) -> Poll<Option<Result<Received, CarrierError>>> {
        self.ended = true;
        Poll::Ready(Some(last))
    }

    /// Reads bytes past everything else: how many, 0 at the end.
    pub(super) async fn skip(&mut self) -> usize {
        let mut scratch = [0; READ_BYTES];
        self.tcp.read(&mut scratch).await.unwrap_or(0)
    }
}

fn lost(error: io::Error) -> CarrierError {
    CarrierError::Lost(error.to_string())
}

const HANG_UP: u8 = 0;
const READ_BYTES: usize = 4096;

#[cfg(test)]
#[path = "audiosocket_tests.rs"]
mod tests;
