//! The server's side of one WebSocket (RFC 6455), without I/O: bytes in, messages out, and the other way round.

use super::encoding::{base64, sha1};

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Message {
    Text(String),
    Binary(Vec<u8>),
    Close,
}

/// One connection, from its HTTP upgrade on.
#[derive(Default)]
pub(in super::super) struct WebSocket {
    incoming: Vec<u8>,
    /// To be written to the socket.
    pub(in super::super) outgoing: Vec<u8>,
    open: bool,
    fragments: Option<(u8, Vec<u8>)>,
}

struct Frame {
    finished: bool,
    opcode: u8,
    payload: Vec<u8>,
}

impl WebSocket {
    /// Takes bytes as they come. The error is a sentence; the connection is of no use after it.
    pub(in super::super) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.incoming.extend_from_slice(bytes);
        if !self.open {
            let Some(end) = self.incoming.windows(4).position(|four| four == b"\r\n\r\n") else {
                return if self.incoming.len() > MAX_HEAD { Err("the upgrade is too long") } else { Ok(()) };
            };
            let head = String::from_utf8_lossy(&self.incoming[..end]).into_owned();
            self.incoming.drain(..end + 4);
            let key = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
                .ok_or("no WebSocket upgrade")?
                .1
                .trim();
            let mut accept = String::new();
            base64(&sha1(format!("{key}{GUID}").as_bytes()), &mut accept);
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            self.outgoing.extend_from_slice(answer.as_bytes());
            self.open = true;
        }
        Ok(())
    }

    /// The next message, pings being answered on the way.
    pub(in super::super) fn poll(&mut self) -> Result<Option<Message>, &'static str> {
        loop {
            if !self.open {
                return Ok(None);
            }
            let Some(Frame { finished, opcode, payload }) = self.frame()? else { return Ok(None) };
            match opcode {
                0x8 => {
                    self.write(0x8, &payload);
                    return Ok(Some(Message::Close));
                }
                0x9 => self.write(0xa, &payload),
                0xa => {}
                0x0..=0x2 => {
                    let (kind, mut whole) = self.fragments.take().unwrap_or((opcode, Vec::new()));
                    whole.extend_from_slice(&payload);
                    if !finished {
                        self.fragments = Some((kind, whole));
                    } else if kind == 1 {
                        let text = String::from_utf8(whole).map_err(|_| "a text message is not UTF-8")?;
                        return Ok(Some(Message::Text(text)));
                    } else {
                        return Ok(Some(Message::Binary(whole)));
                    }
                }
                _ => return Err("an unknown WebSocket opcode"),
            }
        }
    }

    /// Queues a text message.
    pub(in super::super) fn send(&mut self, text: &str) {
        self.write(0x1, text.as_bytes());
    }

    /// Queues a binary message.
    pub(in super::super) fn send_binary(&mut self, bytes: &[u8]) {
        self.write(0x2, bytes);
    }

    fn frame(&mut self) -> Result<Option<Frame>, &'static str> {
        let bytes = &self.incoming;
        let [first, second, ..] = bytes[..] else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err("a client's frame is not masked");
        }
        let (len, mut at) = match second & 0x7f {
            126 if bytes.len() >= 4 => (usize::from(bytes[2]) << 8 | usize::from(bytes[3]), 4),
            126 => return Ok(None),
            127 => return Err("a frame of more than 64 KiB"),
            short => (usize::from(short), 2),
        };
        let Some(mask) = bytes.get(at..at + 4).and_then(|mask| <[u8; 4]>::try_from(mask).ok()) else {
            return Ok(None);
        };
        at += 4;
        let Some(masked) = bytes.get(at..at + len) else { return Ok(None) };
        let payload = masked.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
        self.incoming.drain(..at + len);
        Ok(Some(Frame { finished: first & 0x80 != 0, opcode: first & 0x0f, payload }))
    }

    fn write(&mut self, opcode: u8, payload: &[u8]) {
        self.outgoing.push(0x80 | opcode);
        match payload.len() {
            len @ 0..126 => self.outgoing.push(len as u8),
            len @ 126..65_536 => {
                self.outgoing.push(126);
                self.outgoing.extend((len as u16).to_be_bytes());
            }
            len => {
                self.outgoing.push(127);
                self.outgoing.extend((len as u64).to_be_bytes());
            }
        }
        self.outgoing.extend_from_slice(payload);
    }
}

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const MAX_HEAD: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        if payload.len() < 126 {
            frame.push(0x80 | payload.len() as u8);
        } else {
            frame.push(0x80 | 126);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ [1, 2, 3, 4][i % 4]));
        frame
    }

    #[test]
    fn the_handshake_of_rfc_6455_and_messages_cut_anywhere() {
        let long = "x".repeat(300);
        let mut bytes = b"GET / HTTP/1.1\r\nsec-websocket-KEY: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".to_vec();
        bytes.extend(masked(0x81, b"hello"));
        bytes.extend(masked(0x01, b"he"));
        bytes.extend(masked(0x89, b"ping"));
        bytes.extend(masked(0x80, b"llo"));
        bytes.extend(masked(0x81, long.as_bytes()));
        bytes.extend(masked(0x88, &[3, 232]));
        for step in [1, 7, bytes.len()] {
            let (mut socket, mut messages) = (WebSocket::default(), Vec::new());
            for piece in bytes.chunks(step) {
                socket.handle_bytes(piece).unwrap();
                while let Some(message) = socket.poll().unwrap() {
                    messages.push(message);
                }
            }
            let text = |text: &str| Message::Text(text.to_owned());
            assert_eq!(messages, [text("hello"), text("hello"), text(&long), Message::Close]);
            let written = String::from_utf8_lossy(&socket.outgoing).into_owned();
            assert!(written.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{written}");
            assert!(socket.outgoing.ends_with(b"\x8a\x04ping\x88\x02\x03\xe8"), "pong and close");
        }
    }

    #[test]
    fn an_unmasked_frame_is_an_error() {
        let mut socket = WebSocket { open: true, ..WebSocket::default() };
        socket.handle_bytes(&[0x81, 1, b'x']).unwrap();
        assert!(socket.poll().is_err());
    }

    #[test]
    fn long_messages_carry_their_length() {
        for len in [125, 126, 65_535, 65_536] {
            let mut socket = WebSocket::default();
            socket.send(&"x".repeat(len));
            let head = match len {
                125 => vec![0x81, 125],
                126 => vec![0x81, 126, 0, 126],
                65_535 => vec![0x81, 126, 255, 255],
                _ => vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0],
            };
            assert!(socket.outgoing.starts_with(&head));
            assert_eq!(socket.outgoing.len(), head.len() + len);
        }
    }
}
