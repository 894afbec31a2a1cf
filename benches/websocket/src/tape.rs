//! A connection in memory: each reading gives one message's bytes, as a socket that is read once per message does, and
//! what is written is counted and forgotten.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Default)]
pub(crate) struct Tape {
    frame: Vec<u8>,
    /// Readings left, of one frame each.
    left: u64,
    at: usize,
    pub(crate) writes: u64,
    pub(crate) written: u64,
    first: Vec<u8>,
}

impl Tape {
    /// Gives this message's frame as a server sends it, so many times.
    pub(crate) fn of(message: &[u8], times: u64) -> Self {
        let mut frame = vec![0x81];
        match message.len() {
            short @ 0..126 => frame.push(short as u8),
            long => {
                frame.push(126);
                frame.extend((long as u16).to_be_bytes());
            }
        }
        frame.extend(message);
        Self { frame, left: times, ..Self::default() }
    }

    /// What the first message to be written became, unmasked.
    pub(crate) fn first_message(&self) -> Option<Vec<u8>> {
        let (&[0x81, second], rest) = self.first.split_first_chunk::<2>()? else { return None };
        assert_eq!(second & 0x80, 0x80, "a client masks");
        let (length, rest) = match second & 0x7f {
            126 => rest
                .split_first_chunk::<2>()
                .map(|(length, rest)| (u16::from_be_bytes(*length) as usize, rest))?,
            short => (short as usize, rest),
        };
        let (key, rest) = rest.split_first_chunk::<4>()?;
        Some(rest.get(..length)?.iter().enumerate().map(|(at, byte)| byte ^ key[at & 3]).collect())
    }
}

impl AsyncRead for Tape {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at == self.frame.len() {
            self.at = 0;
        }
        if self.at == 0 {
            if self.left == 0 {
                return Poll::Pending;
            }
            self.left -= 1;
        }
        let some = into.remaining().min(self.frame.len() - self.at);
        into.put_slice(&self.frame[self.at..self.at + some]);
        self.at += some;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tape {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes += 1;
        self.written += bytes.len() as u64;
        if self.first.len() < 4096 {
            self.first.extend(bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        let mut length = 0;
        for part in parts {
            length += part.len();
            if self.first.len() < 4096 {
                self.first.extend(&**part);
            }
        }
        self.written += length as u64;
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
