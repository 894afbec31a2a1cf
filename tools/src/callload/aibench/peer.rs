//! The backend that only counts and echoes: one thread, one epoll, no clock of its own.
//!
//! It knows its peers' messages by their first bytes: Twilio's `media` comes back as Twilio's, OpenAI's
//! `input_audio_buffer.append` as an audio delta, a binary message as it is.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
};

use anyhow::Context as _;
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{setsockopt, sockopt},
};
use serde_json::{Value, json};

use crate::callload::{
    clock,
    histogram::Histogram,
    net::ReceiveBuffer,
    stamp::Finder,
    streamload::{
        encoding::from_base64,
        websocket::{Message, WebSocket},
    },
};

/// Serves until standard input ends.
pub(super) fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?);
    let (ask, asked) = mpsc::channel();
    std::thread::spawn(move || {
        io::stdin().lock().lines().map_while(Result::ok).try_for_each(|_| ask.send(()))
    });
    let mut peer = Peer::new(listener)?;
    loop {
        match asked.try_recv() {
            Ok(()) => println!("{}", peer.report()),
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
        }
        peer.turn()?;
    }
}

struct Peer {
    listener: TcpListener,
    ready: Epoll,
    buffer: ReceiveBuffer,
    connections: HashMap<u64, Connection>,
    next_id: u64,
    counts: Counts,
    /// Packet left to message arrived.
    added: Histogram,
}

#[derive(Default)]
struct Counts {
    messages: u64,
    echoed: u64,
    stamped: u64,
    missing: u64,
    broken: u64,
    unread: u64,
}

struct Connection {
    socket: TcpStream,
    websocket: WebSocket,
    finder: Finder,
    stream_sid: String,
}

impl Peer {
    fn new(listener: TcpListener) -> anyhow::Result<Self> {
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        ready.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self {
            listener,
            ready,
            buffer: ReceiveBuffer::new(),
            connections: HashMap::new(),
            next_id: LISTENER + 1,
            counts: Counts::default(),
            added: Histogram::new(),
        })
    }

    /// What was counted since the last time.
    fn report(&mut self) -> Value {
        let Counts { messages, echoed, stamped, missing, broken, unread } = std::mem::take(&mut self.counts);
        let report = json!({
            "connections": self.connections.len(), "messages": messages, "echoed": echoed, "stamped": stamped,
            "missing": missing, "broken": broken, "unread": unread, "added": self.added.json(),
        });
        self.added.reset();
        report
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let count = match self.ready.wait(&mut events, EpollTimeout::from(50u8)) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => return Ok(()),
            Err(error) => return Err(error).context("cannot wait"),
        };
        let offset_ns = clock::realtime_offset_ns();
        for event in &events[..count] {
            if event.data() == LISTENER {
                self.accept()?;
            } else if !self.receive(event.data(), offset_ns) {
                self.connections.remove(&event.data());
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(true)?;
                    socket.set_nodelay(true)?;
                    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
                    let id = self.next_id;
                    self.next_id += 1;
                    self.ready.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, id))?;
                    let websocket = WebSocket::default();
                    let (finder, stream_sid) = (Finder::default(), String::new());
                    self.connections.insert(id, Connection { socket, websocket, finder, stream_sid });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error).context("cannot accept a WebSocket connection"),
            }
        }
    }

    /// Reads once. False when the connection is over.
    fn receive(&mut self, id: u64, offset_ns: i64) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let (len, arrival_ns) = match self.buffer.receive_stream(&connection.socket, offset_ns) {
            Ok(Some((0, _))) => return false,
            Ok(Some(received)) => received,
            Ok(None) => return true,
            Err(_) => {
                self.counts.broken += 1;
                return false;
            }
        };
        let mut whole = connection.websocket.handle_bytes(&self.buffer.bytes[..len]).is_ok();
        while whole {
            match connection.websocket.poll() {
                Ok(None) => break,
                Ok(Some(Message::Close)) => {
                    let _ = connection.socket.write(&connection.websocket.outgoing);
                    return false;
                }
                Ok(Some(message)) => {
                    self.counts.messages += 1;
                    connection.answer(message, arrival_ns, &mut self.counts, &mut self.added);
                }
                Err(_) => whole = false,
            }
        }
        whole &= connection.flush(&mut self.counts).is_ok();
        self.counts.broken += u64::from(!whole);
        whole
    }
}

impl Connection {
    fn answer(&mut self, message: Message, arrival_ns: u64, counts: &mut Counts, added: &mut Histogram) {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(bytes) => {
                counts.echoed += 1;
                return self.websocket.send_binary(&bytes);
            }
            Message::Close => return,
        };
        if let Some(payload) =
            text.starts_with(r#"{"event":"media""#).then(|| value(&text, r#""payload":""#)).flatten()
        {
            let audio = from_base64(payload).unwrap_or_default();
            self.finder.feed(&audio, |found| {
                counts.stamped += 1;
                counts.missing += u64::from(found.missing);
                added.record_ns(arrival_ns.saturating_sub(found.stamp.sent_ns));
            });
            let sid = &self.stream_sid;
            let echo =
                format!(r#"{{"event":"media","streamSid":"{sid}","media":{{"payload":"{payload}"}}}}"#);
            self.websocket.send(&echo);
            counts.echoed += 1;
        } else if text.contains(r#""type":"input_audio_buffer.append""#) {
            if let Some(audio) = value(&text, r#""audio":""#) {
                self.websocket.send(&format!(
                    r#"{{"type":"response.output_audio.delta","event_id":"e","response_id":"r","item_id":"i","output_index":0,"content_index":0,"delta":"{audio}"}}"#
                ));
                counts.echoed += 1;
            }
        } else if text.contains(r#""type":"session.update""#) {
            self.websocket.send(r#"{"type":"session.updated","event_id":"e","session":{"id":"s"}}"#);
        } else if text.contains(r#""event":"start""#) {
            self.stream_sid = value(&text, r#""streamSid":""#).unwrap_or_default().to_owned();
        }
    }

    /// What the socket does not take is thrown away and counted: the far end does not read.
    fn flush(&mut self, counts: &mut Counts) -> io::Result<()> {
        let outgoing = &mut self.websocket.outgoing;
        while !outgoing.is_empty() {
            match self.socket.write(outgoing) {
                Ok(written) => drop(outgoing.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    counts.unread += 1;
                    return if outgoing.len() < MOST_UNREAD { Ok(()) } else { Err(error) };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The string behind a key, which holds no escape in what it is used for.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let begin = text.find(key)? + key.len();
    text[begin..].split_once('"').map(|(value, _)| value)
}

const LISTENER: u64 = 0;
const MOST_UNREAD: usize = 1 << 20;
