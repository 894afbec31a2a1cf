//! The AI backend of all calls: a WebSocket server that the worker polls every tick, and what it hears.
//!
//! Arrival times are the kernel's, for TCP (the last segment of what was read) as for RTP, so polling costs nothing.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{setsockopt, sockopt},
};
use serde_json::Value;

use super::{
    bot::{Bot, Say},
    encoding::{base64, from_base64},
    interruption::Interruption,
    stats::StreamStats,
    uplink::Uplink,
    websocket::{Message, WebSocket},
};
use crate::callload::{clock, marker::SplitMix, net::ReceiveBuffer, sip::UacConfig, tap::Tap};

pub(super) struct Backend {
    listener: TcpListener,
    ready: Epoll,
    buffer: ReceiveBuffer,
    connections: HashMap<u64, Connection>,
    next_id: u64,
    config: Arc<UacConfig>,
    places: Vec<Place>,
    settle_ns: u64,
    talk: Talk,
    stats: Arc<Mutex<StreamStats>>,
}

struct Connection {
    socket: TcpStream,
    websocket: WebSocket,
    stream_sid: String,
    place: Option<usize>,
}

/// The call of a place.
struct Place {
    number: u64,
    connection: Option<u64>,
    uplink: Uplink,
    bot: Option<Bot>,
    interruption: Option<Interruption>,
}

/// What the bots do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Talk {
    Never,
    InTurns,
    UntilInterrupted,
}

impl Backend {
    pub(super) fn new(
        listener: TcpListener,
        config: Arc<UacConfig>,
        places: usize,
        settle_ns: u64,
        talk: Talk,
        stats: Arc<Mutex<StreamStats>>,
    ) -> anyhow::Result<Self> {
        listener.set_nonblocking(true)?;
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        ready.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        let place =
            || Place { number: 0, connection: None, uplink: Uplink::new(0), bot: None, interruption: None };
        Ok(Self {
            listener,
            ready,
            buffer: ReceiveBuffer::new(),
            connections: HashMap::new(),
            next_id: LISTENER + 1,
            config,
            places: (0..places).map(|_| place()).collect(),
            settle_ns,
            talk,
            stats,
        })
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
                    let stream_sid = String::new();
                    self.connections.insert(id, Connection { socket, websocket, stream_sid, place: None });
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
                self.broken(id);
                return false;
            }
        };
        if connection.websocket.handle_bytes(&self.buffer.bytes[..len]).is_err() {
            self.broken(id);
            return false;
        }
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return false };
            match connection.websocket.poll() {
                Ok(None) => return connection.flush().is_ok(),
                Ok(Some(Message::Text(text))) => self.handle_text(id, &text, arrival_ns),
                Ok(Some(Message::Binary(_))) => self.count(|stats| stats.messages_wrong += 1),
                Ok(Some(Message::Close)) => {
                    let _ = connection.flush();
                    return false;
                }
                Err(_) => {
                    self.broken(id);
                    return false;
                }
            }
        }
    }

    fn handle_text(&mut self, id: u64, text: &str, arrival_ns: u64) {
        let message: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let (Some(connection), Ok(mut stats)) = (self.connections.get_mut(&id), self.stats.lock()) else {
            return;
        };
        let place = connection.place.and_then(|place| self.places.get_mut(place));
        match (message["event"].as_str(), place) {
            (Some("connected" | "stop"), _) => {}
            (Some("start"), _) => {
                connection.stream_sid = message["streamSid"].as_str().unwrap_or_default().to_owned();
                let parameters = message["start"]["customParameters"].as_object();
                let number = parameters
                    .into_iter()
                    .flat_map(|parameters| parameters.values())
                    .find_map(|value| self.config.call_number(value.as_str()?));
                let at = number.map(|number| (number % self.places.len() as u64) as usize);
                match at.filter(|&at| Some(self.places[at].number) == number) {
                    Some(at) => {
                        stats.streams_started += 1;
                        connection.place = Some(at);
                        self.places[at].connection = Some(id);
                    }
                    None => stats.streams_unknown += 1,
                }
            }
            (Some("media"), Some(place)) => {
                let media = &message["media"];
                let audio = media["payload"].as_str().and_then(from_base64);
                let timestamp = media["timestamp"].as_str().and_then(|text| text.parse().ok());
                match (audio, timestamp) {
                    (Some(audio), Some(timestamp)) => {
                        place.uplink.handle_media(&audio, timestamp, arrival_ns, &mut stats);
                    }
                    _ => stats.messages_wrong += 1,
                }
            }
            (Some("mark"), Some(place)) => {
                let name = message["mark"]["name"].as_str();
                if let (Some(bot), Some(name)) = (&mut place.bot, name) {
                    bot.handle_mark(name, arrival_ns, &mut stats);
                }
            }
            (Some("media" | "mark" | "dtmf"), _) => {}
            _ => stats.messages_wrong += 1,
        }
    }

    /// Lets the bots talk.
    fn talk(&mut self) {
        let Ok(mut stats) = self.stats.lock() else { return };
        for place in &mut self.places {
            let Some(connection) = place.connection.and_then(|id| self.connections.get_mut(&id)) else {
                continue;
            };
            // Read for each one: what goes out before takes time too.
            let now_ns = clock::now_ns();
            let says = match (&mut place.bot, &mut place.interruption) {
                (Some(bot), _) => bot.poll(now_ns, &mut stats),
                (None, Some(interruption)) => interruption.poll(now_ns, &mut stats),
                (None, None) => continue,
            };
            for say in &says {
                let text = json_of(say, &connection.stream_sid);
                connection.websocket.send(&text);
            }
            if !says.is_empty() {
                let _ = connection.flush();
            }
        }
    }

    fn broken(&self, id: u64) {
        let running = self.connections.get(&id).is_some_and(|connection| connection.place.is_some());
        self.count(|stats| stats.streams_broken += u64::from(running));
    }

    fn count(&self, counted: impl FnOnce(&mut StreamStats)) {
        if let Ok(mut stats) = self.stats.lock() {
            counted(&mut stats);
        }
    }
}

impl Tap for Backend {
    fn poll(&mut self, offset_ns: i64) -> anyhow::Result<()> {
        let mut events = [EpollEvent::empty(); 128];
        // Level-triggered, one read each: whoever has more comes again. Bounded, so that RTP keeps its schedule.
        for _ in 0..8 {
            let count = match self.ready.wait(&mut events, EpollTimeout::ZERO) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                Err(error) => return Err(error).context("cannot ask for WebSocket data"),
            };
            for event in &events[..count] {
                if event.data() == LISTENER {
                    self.accept()?;
                } else if !self.receive(event.data(), offset_ns) {
                    // Closing the socket takes it out of the epoll set.
                    self.connections.remove(&event.data());
                }
            }
            if count < events.len() {
                break;
            }
        }
        self.talk();
        Ok(())
    }

    fn placed(&mut self, at: usize, number: u64) {
        let begin_ns = clock::now_ns() + self.settle_ns;
        let seed = SplitMix(self.config.run ^ number).next();
        // Spread over a second, so that the bots do not talk in step.
        let first_ns = begin_ns + seed % 1_000_000_000;
        let bot = (self.talk == Talk::InTurns).then(|| Bot::new(seed, first_ns));
        let interruption = (self.talk == Talk::UntilInterrupted).then(|| Interruption::new(seed, first_ns));
        let uplink = Uplink::new(begin_ns);
        self.places[at] = Place { number, connection: None, uplink, bot, interruption };
    }

    fn sent(&mut self, at: usize, index: i64, payload: &[u8], sent_ns: u64) {
        if let Some(interruption) = &mut self.places[at].interruption {
            interruption.handle_sent(payload, sent_ns);
        }
        if let Ok(mut stats) = self.stats.lock() {
            self.places[at].uplink.handle_sent(index, payload, sent_ns, &mut stats);
        }
    }

    fn received(&mut self, at: usize, payload: &[u8], arrival_ns: u64) {
        if let (Some(bot), Ok(mut stats)) = (&mut self.places[at].bot, self.stats.lock()) {
            bot.handle_heard(payload, arrival_ns, &mut stats);
        }
        if let Some(interruption) = &mut self.places[at].interruption {
            interruption.handle_heard(payload, arrival_ns);
        }
    }

    fn ended(&mut self, at: usize) {
        self.places[at].bot = None;
        self.places[at].interruption = None;
    }
}

impl Connection {
    fn flush(&mut self) -> io::Result<()> {
        let outgoing = &mut self.websocket.outgoing;
        while !outgoing.is_empty() {
            match self.socket.write(outgoing) {
                Ok(written) => drop(outgoing.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The message of Media Streams for it.
fn json_of(say: &Say, stream_sid: &str) -> String {
    match say {
        Say::Audio(audio) => {
            let mut text = format!(r#"{{"event":"media","streamSid":"{stream_sid}","media":{{"payload":""#);
            base64(audio, &mut text);
            text.push_str(r#""}}"#);
            text
        }
        Say::Mark(name) => {
            format!(r#"{{"event":"mark","streamSid":"{stream_sid}","mark":{{"name":"{name}"}}}}"#)
        }
        Say::Clear => format!(r#"{{"event":"clear","streamSid":"{stream_sid}"}}"#),
    }
}

const LISTENER: u64 = 0;
