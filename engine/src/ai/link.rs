//! One connection to an AI backend: its codec, its formats, and whether it is alive.

mod farewell;
mod faults;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, timeout_at};

use super::carrier::{CarrierError, Close, Received, Socket};
use super::config::AiConfig;
use super::connect::{ConnectError, Target};
use super::convert::Converter;
use super::counters::AiCounters;
use super::dialect::{AudioFormat, Codec, Decoded, Formats, Incoming, Kind, Outbox, Outgoing, StreamStart};
use super::events::{MAX_NAME_CHARS, MAX_TEXT_CHARS, clean};
use super::histograms::AiHistograms;
use super::session::AiFailure;
use super::uplink::{Item, Uplink};
use crate::time::Duration;

use self::faults::{Fault, Faults};

/// A session that is set up. Everything that touches the socket is in here.
pub(super) struct Link {
    socket: Socket,
    codec: Box<dyn Codec>,
    formats: Formats,
    line: AudioFormat,
    to_backend: Converter,
    /// None if the bot's audio is of a kind that cannot be converted.
    to_line: Option<Converter>,
    /// What is to be written next.
    outbox: Outbox,
    /// How much of it the socket has taken.
    written: usize,
    decoded: Decoded,
    /// The position of the caller's first audio on this connection: the backend counts from there.
    epoch: Option<u64>,
    next_ping: Instant,
    /// Pings sent since the backend was last heard.
    unanswered_pings: u32,
    /// Since when the socket takes nothing.
    stalled_since: Option<Instant>,
    ping_interval: Duration,
    write_stall: Duration,
    faults: Faults,
    counters: Arc<AiCounters>,
    histograms: Arc<AiHistograms>,
    /// The place of its backend among the configured ones.
    pub(super) index: usize,
    pub(super) stream_sid: String,
    /// How long it took to be ready.
    pub(super) took: Duration,
    pub(super) ready_at: Instant,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinkEnd {
    /// The backend sent a close frame.
    Closed {
        code: u16,
        reason: String,
    },
    Failed(AiFailure),
}

impl Link {
    /// Connects, and waits until the session is set up: all within [`AiConfig::connect_window`].
    pub(super) async fn open(
        config: &AiConfig,
        index: usize,
        start: StreamStart,
        public_tls: &Arc<rustls::ClientConfig>,
        counters: &Arc<AiCounters>,
        histograms: &Arc<AiHistograms>,
    ) -> Result<Self, ConnectError> {
        let begun = Instant::now();
        let target = {
            let (config, public_tls) = (config.clone(), Arc::clone(public_tls));
            tokio::task::spawn_blocking(move || Target::new(&config, &public_tls))
                .await
                .map_err(|_| ConnectError::Shutdown)??
        };
        let socket = target.connect(config, counters).await?;
        let stream_sid = start.stream_sid.clone();
        let mut codec = config.dialect.codec(start);
        let (mut outbox, mut decoded) = (Outbox::default(), Decoded::default());
        codec.open(&mut outbox);
        decoded.events.extend(outbox.take_events());
        // Until the session is set up, nothing is converted.
        let to_backend = Converter::new(config.line, config.line)
            .ok_or_else(|| ConnectError::Config(format!("the line's format is {:?}", config.line)))?;
        let mut link = Self {
            socket,
            codec,
            formats: Formats::default(),
            to_backend,
            to_line: None,
            line: config.line,
            outbox,
            written: 0,
            decoded,
            epoch: None,
            next_ping: begun + config.ping_interval,
            unanswered_pings: 0,
            stalled_since: None,
            ping_interval: config.ping_interval,
            write_stall: config.write_stall,
            faults: Faults::new(Arc::clone(counters)),
            counters: Arc::clone(counters),
            histograms: Arc::clone(histograms),
            index,
            stream_sid,
            took: Duration::ZERO,
            ready_at: begun,
        };
        let waited = timeout_at(begun + config.connect_window, poll_fn(|cx| link.poll_session(cx))).await;
        let url = target.shown;
        let set_up = match waited {
            Err(_) => Err(ConnectError::Timeout { url, waited: begun.elapsed() }),
            Ok(Err(LinkEnd::Closed { code, reason })) => Err(ConnectError::Closed { url, code, reason }),
            Ok(Err(LinkEnd::Failed(AiFailure::Rejected { code, text }))) => {
                Err(ConnectError::Rejected { url, code, text })
            }
            Ok(Err(LinkEnd::Failed(failure))) => {
                Err(ConnectError::Closed { url, code: 1006, reason: failure.to_string() })
            }
            Ok(Ok(())) => Ok(()),
        };
        if let Err(error) = set_up.and_then(|()| link.agree(config)) {
            counters.connect_rejected.increment();
            tokio::spawn(async move { link.close(Close::NORMAL).await });
            return Err(error);
        }
        link.ready_at = Instant::now();
        link.took = link.ready_at - begun;
        histograms.connect.record(link.took);
        Ok(link)
    }

    /// The formats hold now.
    fn agree(&mut self, config: &AiConfig) -> Result<(), ConnectError> {
        self.formats = self.codec.formats();
        let converters = Converter::new(config.line, self.formats.caller)
            .zip(Converter::new(self.formats.bot, config.line));
        let Some((to_backend, to_line)) = converters else {
            return Err(ConnectError::Config(format!(
                "the AI backend's audio is {:?}, which cannot be converted; configure 8, 16, 24 or 48 kHz",
                self.formats
            )));
        };
        (self.to_backend, self.to_line) = (to_backend, Some(to_line));
        Ok(())
    }

    /// Ready when the backend says that the session is set up. What else it says meanwhile is kept.
    fn poll_session(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkEnd>> {
        loop {
            let events = &mut self.decoded.events;
            if let Some(ready) = events.iter().position(|event| *event == Incoming::Ready) {
                events.remove(ready);
                return Poll::Ready(Ok(()));
            }
            if let Some(failure) = events.iter().find_map(fatal) {
                return Poll::Ready(Err(LinkEnd::Failed(failure)));
            }
            if events.len() > MAX_EARLY_EVENTS || self.decoded.audio.len() > MAX_EARLY_BYTES {
                let reason = "it said too much before the session was ready".into();
                return Poll::Ready(Err(LinkEnd::Failed(AiFailure::Protocol(reason))));
            }
            if let Poll::Ready(end) = self.poll_send(cx, || None) {
                return Poll::Ready(Err(end));
            }
            match self.poll_message(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Writes what waits, until nothing is left or the socket is full. Ready only at the connection's end.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, uplink: &mut Uplink) -> Poll<LinkEnd> {
        self.poll_send(cx, || uplink.pop())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, mut next: impl FnMut() -> Option<Item>) -> Poll<LinkEnd> {
        loop {
            if let Poll::Ready(ready) = self.socket.poll_ready(cx) {
                if let Err(error) = ready {
                    return self.write_failed(&error);
                }
            } else {
                self.stalled_since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            }
            let mut queued_at = None;
            if self.outbox.is_empty() {
                match next() {
                    Some(item) => queued_at = self.encode(&item),
                    None => return self.poll_flush(cx),
                }
            }
            self.stalled_since = None;
            let sent = match self.outbox.messages().nth(self.written) {
                Some((kind, message)) => self.socket.start_send(kind, message),
                None => Ok(()),
            };
            self.written += 1;
            if self.written >= self.outbox.messages().count() {
                self.outbox.clear();
                self.written = 0;
            }
            if let Err(error) = sent {
                return self.write_failed(&error);
            }
            if let Some(at) = queued_at {
                self.histograms.uplink_latency.record(monotonic_now().saturating_duration_since(at));
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        match self.socket.poll_flush(cx) {
            Poll::Pending => {
                self.stalled_since.get_or_insert_with(Instant::now);
                Poll::Pending
            }
            Poll::Ready(Err(error)) => self.write_failed(&error),
            Poll::Ready(Ok(())) => {
                self.stalled_since = None;
                Poll::Pending
            }
        }
    }

    /// Adds the messages for an item to the outbox; returns when a worker queued it, if it is audio.
    fn encode(&mut self, item: &Item) -> Option<crate::time::Instant> {
        if let (Item::Audio { at, .. }, Outgoing::Audio { timestamp, audio }) = (item, item.outgoing()) {
            let epoch = *self.epoch.get_or_insert(timestamp);
            let timestamp = timestamp.saturating_sub(epoch);
            let audio = self.to_backend.convert(audio);
            self.codec.encode(Outgoing::Audio { timestamp, audio }, &mut self.outbox);
            return Some(*at);
        }
        self.codec.encode(item.outgoing(), &mut self.outbox);
        None
    }

    /// A backend that closes says so to whoever reads; its close frame is worth more than the write error
    /// that comes with it.
    fn write_failed(&mut self, error: &CarrierError) -> Poll<LinkEnd> {
        use futures_util::FutureExt as _;
        while let Some(received) = self.socket.next().now_or_never().flatten() {
            match received {
                Ok(Received::Close(close)) => return Poll::Ready(closed(close)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Poll::Ready(LinkEnd::Failed(AiFailure::Lost(error.to_string())))
    }

    /// Reads one message; its meaning is added to [`Link::take_decoded`], and its answers to what is written
    /// next. Returns how many bytes it was.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, LinkEnd>> {
        let received = match self.socket.poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => {
                return Poll::Ready(Err(LinkEnd::Failed(AiFailure::Lost("end of stream".into()))));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(read_failed(error))),
            Poll::Ready(Some(Ok(received))) => received,
        };
        self.unanswered_pings = 0;
        self.counters.messages_received.increment();
        match received {
            Received::Message(kind, message) => {
                self.decode(kind, &message);
                Poll::Ready(Ok(message.len()))
            }
            Received::Alive => Poll::Ready(Ok(0)),
            Received::Close(close) => Poll::Ready(Err(closed(close))),
        }
    }

    fn decode(&mut self, kind: Kind, message: &[u8]) {
        let result = self.codec.decode(kind, message, &mut self.decoded);
        if std::mem::take(&mut self.decoded.wrong_stream) {
            self.faults.count(Fault::WrongStream);
        }
        if !self.outbox.append(&mut self.decoded.replies, MAX_REPLY_BYTES) {
            self.faults.count(Fault::Replies);
        }
        if let Err(ignored) = result {
            self.faults.count(Fault::Ignored(ignored));
        }
    }

    /// What was decoded. Give it back by [`Link::reuse`].
    pub(super) fn take_decoded(&mut self) -> Decoded {
        std::mem::take(&mut self.decoded)
    }

    pub(super) fn reuse(&mut self, mut decoded: Decoded) {
        decoded.clear(KEPT_AUDIO_BYTES);
        self.decoded = decoded;
    }

    /// Bot audio as the line carries it.
    pub(super) fn bot_audio<'a>(&'a mut self, audio: &'a [u8]) -> &'a [u8] {
        self.to_line.as_mut().map_or(&[], |to_line| to_line.convert(audio))
    }

    /// Queued bot audio was dropped: what comes has nothing to do with it.
    pub(super) fn flushed(&mut self) {
        if let Some(to_line) = &mut self.to_line {
            to_line.reset();
        }
    }

    /// The bot's audio is of another kind from now on.
    pub(super) fn change_bot_format(&mut self, format: AudioFormat) {
        if format != self.formats.bot || self.to_line.is_none() {
            self.formats.bot = format;
            self.to_line = Converter::new(format, self.line);
            if self.to_line.is_none() {
                tracing::warn!(
                    ?format,
                    "the AI backend's audio cannot be converted and is dropped; let it send 8, 16, 24 or 48 kHz"
                );
            }
        }
    }

    pub(super) fn formats(&self) -> Formats {
        self.formats
    }

    /// Pings, and gives up a backend that is dead or does not read.
    pub(super) fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        let now = Instant::now();
        if self.stalled_since.is_some_and(|since| now.duration_since(since) >= self.write_stall) {
            return Poll::Ready(LinkEnd::Failed(AiFailure::WriteStalled));
        }
        if now < self.next_ping {
            return Poll::Pending;
        }
        if self.unanswered_pings >= MAX_UNANSWERED_PINGS {
            return Poll::Ready(LinkEnd::Failed(AiFailure::PingTimeout));
        }
        self.next_ping = now + self.ping_interval;
        if let Poll::Ready(Ok(())) = self.socket.poll_ready(cx) {
            match self.socket.start_ping() {
                Ok(asked) => self.unanswered_pings += u32::from(asked),
                Err(error) => return self.write_failed(&error),
            }
        }
        Poll::Pending
    }
}

/// The failure that an event is.
pub(super) fn fatal(event: &Incoming) -> Option<AiFailure> {
    match event {
        Incoming::Error { fatal: true, code, text } => {
            Some(AiFailure::Rejected { code: clean(code, MAX_NAME_CHARS), text: clean(text, MAX_TEXT_CHARS) })
        }
        _ => None,
    }
}

fn closed(close: Close) -> LinkEnd {
    LinkEnd::Closed { code: close.code, reason: close.reason }
}

fn read_failed(error: CarrierError) -> LinkEnd {
    LinkEnd::Failed(match error {
        CarrierError::TooLarge(reason) => AiFailure::MessageTooLarge(reason),
        CarrierError::Protocol(reason) => AiFailure::Protocol(reason),
        CarrierError::Lost(reason) => AiFailure::Lost(reason),
    })
}

/// The clock that workers stamp audio with: CLOCK_MONOTONIC.
pub(super) fn monotonic_now() -> crate::time::Instant {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    crate::time::Instant::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

const MAX_UNANSWERED_PINGS: u32 = 2;
/// Decoding memory kept between messages.
const KEPT_AUDIO_BYTES: usize = 16 * 1024;
/// Answers that may wait for a backend that does not read.
const MAX_REPLY_BYTES: usize = 256 * 1024;
/// What a backend may say before its session is ready.
const MAX_EARLY_EVENTS: usize = 1000;
const MAX_EARLY_BYTES: usize = 4 << 20;
