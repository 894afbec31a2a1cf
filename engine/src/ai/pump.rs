//! Serves one AI stream: moves messages between its WebSocket and the rings, and ends it when it must.
//!
//! One task does everything by polling, so that reading never waits for writing: a backend that does not
//! read can still be heard, and one that floods is read in slices with other streams in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use super::backend::Backend;
use super::carrier::{CarrierError, Close, Received, Socket};
use super::config::AiConfig;
use super::counters::AiCounters;
use super::dialect::{Codec, Decoded, Ignored, Incoming, Kind, Outbox};
use super::session::{AiEnd, AiEvent, AiFailure};
use super::uplink::Uplink;
use crate::time::Duration;

pub(super) struct Pump {
    socket: Socket,
    backend: Backend,
    codec: Box<dyn Codec>,
    uplink: Uplink,
    events: mpsc::Sender<AiEvent>,
    counters: Arc<AiCounters>,
    limits: Limits,
    tick: Interval,
    next_ping: Instant,
    /// Pings sent since the backend was last heard.
    unanswered_pings: u32,
    /// Since when the socket takes nothing.
    stalled_since: Option<Instant>,
    /// The kinds of faults already logged for this stream; further ones are only counted.
    logged: Vec<Fault>,
    /// What is to be written next.
    outbox: Outbox,
    /// How much of it the socket has taken.
    written: usize,
    decoded: Decoded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Ignored(Ignored),
    WrongStream,
    Overflow,
}

#[derive(Clone, Copy)]
struct Limits {
    ping_interval: Duration,
    write_stall: Duration,
    drain: Duration,
}

enum End {
    /// The call has ended, or signalling wants the stream to.
    Stopped,
    /// The backend sent a close frame.
    Closed {
        code: u16,
        reason: String,
    },
    Failed(AiFailure),
}

impl Pump {
    pub(super) fn new(
        socket: Socket,
        backend: Backend,
        mut codec: Box<dyn Codec>,
        config: &AiConfig,
        counters: Arc<AiCounters>,
        events: mpsc::Sender<AiEvent>,
    ) -> Self {
        let limits = Limits {
            ping_interval: config.ping_interval,
            write_stall: config.write_stall,
            drain: config.drain_limit,
        };
        let period = (limits.ping_interval / 2).min(limits.write_stall / 4).clamp(MIN_TICK, MAX_TICK);
        let mut tick = interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let max_audio_blocks = (config.max_outbound.as_millis() / 20).clamp(1, 500) as usize;
        let mut outbox = Outbox::default();
        codec.open(&mut outbox);
        Self {
            uplink: Uplink::new(max_audio_blocks, Arc::clone(&counters)),
            socket,
            backend,
            codec,
            events,
            counters,
            limits,
            tick,
            next_ping: Instant::now() + limits.ping_interval,
            unanswered_pings: 0,
            stalled_since: None,
            logged: Vec::new(),
            outbox,
            written: 0,
            decoded: Decoded::default(),
        }
    }

    /// Serves the stream to its end.
    pub(super) async fn run(mut self) {
        let end = std::future::poll_fn(|cx| self.poll_serve(cx)).await;
        match end {
            End::Stopped => {
                self.counters.stopped.increment();
                self.report(AiEnd::Stopped);
                self.stop().await;
            }
            End::Closed { code, reason } => {
                self.counters.closed_by_peer.increment();
                tracing::info!(
                    code,
                    reason,
                    queued_bytes = self.backend.queued(),
                    "the AI backend closed the stream"
                );
                // Answers the close frame; the carrier has queued it.
                let _ = timeout(CLOSE_TIMEOUT, self.socket.flush()).await;
                let event = AiEnd::Closed { code, reason };
                if event.is_normal() {
                    let _ = timeout(self.limits.drain, std::future::poll_fn(|cx| self.poll_drain(cx))).await;
                }
                self.report(event);
            }
            End::Failed(failure) => {
                tracing::warn!(%failure, "the AI stream broke");
                let code = match failure {
                    AiFailure::Protocol(_) => {
                        self.counters.protocol_error.increment();
                        Some(Close::PROTOCOL)
                    }
                    AiFailure::MessageTooLarge(_) => {
                        self.counters.message_too_large.increment();
                        Some(Close::TOO_LARGE)
                    }
                    AiFailure::PingTimeout => {
                        self.counters.ping_timeout.increment();
                        Some(Close::AWAY)
                    }
                    AiFailure::WriteStalled => {
                        self.counters.write_stalled.increment();
                        None
                    }
                    AiFailure::Lost(_) | AiFailure::Internal => {
                        self.counters.lost.increment();
                        None
                    }
                };
                self.report(AiEnd::Failed(failure));
                let Self { socket, backend, .. } = self;
                // The port reads closed from here on; the courtesies to the peer come after.
                drop(backend);
                if let Some(code) = code {
                    close_broken(socket, code).await;
                }
            }
        }
    }

    fn report(&self, end: AiEnd) {
        // Nobody may be listening any more.
        let _ = self.events.try_send(AiEvent::Ended(end));
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.backend.shared.waker.register(cx.waker());
        if self.backend.is_ended() || self.backend.shared.stop.load(Ordering::Acquire) {
            return Poll::Ready(End::Stopped);
        }
        while let Some(report) = self.backend.poll() {
            self.uplink.push(report);
        }
        // First what is due to the backend, so that a flood from it cannot delay caller audio; then what it
        // says; then the answers to that.
        if let Poll::Ready(end) = self.poll_write(cx) {
            return Poll::Ready(end);
        }
        if let Poll::Ready(end) = self.poll_read(cx) {
            return Poll::Ready(end);
        }
        self.backend.top_up();
        if let Poll::Ready(end) = self.poll_write(cx) {
            return Poll::Ready(end);
        }
        while self.tick.poll_tick(cx).is_ready() {
            if let Poll::Ready(end) = self.poll_deadlines(cx) {
                return Poll::Ready(end);
            }
        }
        Poll::Pending
    }

    /// Writes until nothing is left or the socket is full. Ready only at the stream's end.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let step = if self.uplink.is_empty() && self.outbox.is_empty() {
                self.socket.poll_flush(cx)
            } else {
                self.socket.poll_ready(cx)
            };
            match step {
                Poll::Pending => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return self.write_failed(&error),
                Poll::Ready(Ok(())) => self.stalled_since = None,
            }
            let mut queued_at = None;
            if self.outbox.is_empty() {
                match self.uplink.pop(&mut *self.codec, &mut self.outbox) {
                    Some(at) => queued_at = at,
                    None => return Poll::Pending,
                }
            }
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
                self.counters.record_uplink_latency(monotonic_now().saturating_duration_since(at));
            }
        }
    }

    /// A backend that closes says so to whoever reads; its close frame is worth more than the write error
    /// that comes with it.
    fn write_failed(&mut self, error: &CarrierError) -> Poll<End> {
        use futures_util::FutureExt as _;
        while let Some(received) = self.socket.next().now_or_never().flatten() {
            match received {
                Ok(Received::Close(close)) => return Poll::Ready(closed(close)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Poll::Ready(End::Failed(AiFailure::Lost(error.to_string())))
    }

    /// Reads a slice of what has come. Ready only at the stream's end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut budget = READ_BUDGET_BYTES;
        while budget > 0 {
            let received = match self.socket.poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    return Poll::Ready(End::Failed(AiFailure::Lost("end of stream".into())));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(read_failed(error)),
                Poll::Ready(Some(Ok(received))) => received,
            };
            self.unanswered_pings = 0;
            self.counters.messages_received.increment();
            budget = budget.saturating_sub(MESSAGE_COST_BYTES);
            match received {
                Received::Message(kind, message) => {
                    budget = budget.saturating_sub(message.len());
                    self.take(kind, &message);
                }
                Received::Close(close) => return Poll::Ready(closed(close)),
                Received::Alive => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take(&mut self, kind: Kind, message: &[u8]) {
        let result = self.codec.decode(kind, message, &mut self.decoded);
        if self.decoded.wrong_stream {
            self.counters.wrong_stream.increment();
            self.log_once(Fault::WrongStream);
        }
        let mut at = 0;
        for event in std::mem::take(&mut self.decoded.events) {
            match event {
                Incoming::Audio { len, .. } => {
                    let audio = self.decoded.audio.get(at..at + len).unwrap_or_default();
                    at += len;
                    if self.backend.queue_audio(audio) > 0 {
                        self.log_once(Fault::Overflow);
                    }
                }
                Incoming::Mark(name) => {
                    if let Some(name) = self.backend.queue_mark(name) {
                        self.uplink.push_mark(name, true);
                    }
                }
                Incoming::Clear => self.backend.clear(),
                _ => {}
            }
        }
        if let Err(ignored) = result {
            match ignored {
                Ignored::UnknownEvent => self.counters.unknown_event.increment(),
                Ignored::BadJson => self.counters.bad_json.increment(),
                Ignored::MediaWithoutPayload => self.counters.media_without_payload.increment(),
                Ignored::BadBase64 => self.counters.bad_base64.increment(),
                Ignored::MarkWithoutName => self.counters.mark_without_name.increment(),
                Ignored::BinaryFrame => self.counters.binary_frame.increment(),
                Ignored::TextFrame => self.counters.text_frame.increment(),
                Ignored::Stale => self.counters.stale_audio.increment(),
                Ignored::Refused => self.counters.refused.increment(),
            }
            self.log_once(Fault::Ignored(ignored));
        }
        self.decoded.clear(KEPT_AUDIO_BYTES);
    }

    fn log_once(&mut self, fault: Fault) {
        if self.logged.contains(&fault) {
            return;
        }
        self.logged.push(fault);
        match fault {
            Fault::Overflow => tracing::warn!(
                queued_bytes = self.backend.queued(),
                "the AI backend sent more audio than may be queued; the newest is dropped"
            ),
            Fault::WrongStream => tracing::warn!("the AI backend names another stream; obeyed all the same"),
            Fault::Ignored(reason) => {
                tracing::warn!(
                    ?reason,
                    "ignored a message of the AI backend; more of these are only counted"
                );
            }
        }
    }

    /// Pings, and gives up a backend that is dead or does not read.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let now = Instant::now();
        if self.stalled_since.is_some_and(|since| now.duration_since(since) >= self.limits.write_stall) {
            return Poll::Ready(End::Failed(AiFailure::WriteStalled));
        }
        if now < self.next_ping {
            return Poll::Pending;
        }
        if self.unanswered_pings >= MAX_UNANSWERED_PINGS {
            return Poll::Ready(End::Failed(AiFailure::PingTimeout));
        }
        self.next_ping = now + self.limits.ping_interval;
        if let Poll::Ready(Ok(())) = self.socket.poll_ready(cx) {
            match self.socket.start_ping() {
                Ok(asked) => self.unanswered_pings += u32::from(asked),
                Err(error) => return self.write_failed(&error),
            }
        }
        Poll::Pending
    }

    /// Plays on what is queued after the backend has gone. Ready when that is over.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.backend.shared.waker.register(cx.waker());
        while self.backend.poll().is_some() {}
        self.backend.top_up();
        let stop = self.backend.is_ended() || self.backend.shared.stop.load(Ordering::Acquire);
        if stop || !self.backend.is_speaking() {
            return Poll::Ready(());
        }
        while self.tick.poll_tick(cx).is_ready() {}
        Poll::Pending
    }

    /// Says `stop` and closes. What the backend still sends is read and thrown away.
    async fn stop(mut self) {
        while let Some(report) = self.backend.poll() {
            self.uplink.push(report);
        }
        self.uplink.push_stop();
        let goodbye = async {
            while self.uplink.pop(&mut *self.codec, &mut self.outbox).is_some() {}
            for (kind, bytes) in self.outbox.messages().skip(self.written) {
                self.socket.send(kind, bytes).await?;
            }
            self.socket.close(Close::NORMAL).await?;
            while let Some(received) = self.socket.next().await {
                received?;
            }
            Ok::<_, CarrierError>(())
        };
        match timeout(CLOSE_TIMEOUT, goodbye).await {
            Ok(Ok(())) => tracing::debug!("the AI stream is closed"),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the AI backend did not wait for the end of the stream")
            }
            Err(_) => tracing::debug!("the AI backend did not answer the close in time"),
        }
    }
}

/// Tells a backend that broke the rules why the stream ends. What it still sends is read for a moment:
/// closing a socket with unread data resets it, and the close frame would be lost.
async fn close_broken(mut socket: Socket, code: u16) {
    let _ = timeout(CLOSE_TIMEOUT, async {
        if socket.close(code).await.is_ok() {
            socket.discard().await;
        }
    })
    .await;
}

fn closed(close: Close) -> End {
    End::Closed { code: close.code, reason: close.reason }
}

fn read_failed(error: CarrierError) -> End {
    End::Failed(match error {
        CarrierError::TooLarge(reason) => AiFailure::MessageTooLarge(reason),
        CarrierError::Protocol(reason) => AiFailure::Protocol(reason),
        CarrierError::Lost(reason) => AiFailure::Lost(reason),
    })
}

/// The clock that workers stamp audio with: CLOCK_MONOTONIC.
fn monotonic_now() -> crate::time::Instant {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    crate::time::Instant::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

const MIN_TICK: Duration = Duration::from_millis(20);
const MAX_TICK: Duration = Duration::from_millis(250);
const MAX_UNANSWERED_PINGS: u32 = 2;
/// How long the end of a stream may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// What is read before other streams get their turn.
const READ_BUDGET_BYTES: usize = 256 * 1024;
/// What a message costs besides its bytes, so that many tiny ones use up the budget too.
const MESSAGE_COST_BYTES: usize = 1024;
/// Decoding memory kept between messages.
const KEPT_AUDIO_BYTES: usize = 16 * 1024;
