//! Serves one AI stream: moves audio and events between its connection and the rings, keeps it connected, and
//! ends it when it must.
//!
//! One task does everything by polling, so that reading never waits for writing: a backend that does not
//! read can still be heard, and one that floods is read in slices with other streams in between, and no faster than
//! [`Allowance`] says.

mod incoming;
mod playout;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use self::playout::{Cause, Clear, Goodbye, Turn};
use super::allowance::Allowance;
use super::backend::Backend;
use super::config::AiConfig;
use super::counters::AiCounters;
use super::dialect::{AudioFormat, QueueStatus};
use super::events::{Events, clean};
use super::figures::Record;
use super::filler::Filler;
use super::histograms::AiHistograms;
use super::history::History;
use super::items::Items;
use super::link::{Link, LinkEnd, monotonic_now};
use super::session::{AiCommand, AiEnd, AiFailure, AiNotice};
use super::supervisor::{Supervisor, Supplied};
use super::uplink::{Item, Uplink};
use crate::time::Duration;

pub(super) struct Pump {
    /// None while there is no backend.
    link: Option<Link>,
    supervisor: Supervisor,
    backend: Backend,
    uplink: Uplink,
    items: Items,
    filler: Filler,
    history: History,
    events: Events,
    commands: mpsc::Receiver<AiCommand>,
    record: Arc<Mutex<Record>>,
    counters: Arc<AiCounters>,
    histograms: Arc<AiHistograms>,
    line: AudioFormat,
    max_audio_blocks: usize,
    drain_limit: Duration,
    tick: Interval,
    /// Clears that the worker has not reported yet.
    clears: VecDeque<Clear>,
    /// Marks of a connection that is gone, which nobody wants to hear of.
    stale_marks: usize,
    /// Calls of functions whose results are no longer wanted.
    cancelled: VecDeque<String>,
    /// The item whose audio came last.
    item: u32,
    /// How full the queue is, as the backend may ask.
    status: QueueStatus,
    /// The backend hears the caller.
    caller_speaks: bool,
    /// We do.
    caller_is_heard: bool,
    turn: Turn,
    /// When the first connection was, on the worker's clock.
    ready_at: crate::time::Instant,
    /// The bot wants the call to end, or to go elsewhere.
    goodbye: Option<Goodbye>,
    /// The backend is gone for good, and its last words are being played.
    finishing: Option<Finishing>,
    overflow_logged: bool,
    /// How much may be read.
    allowance: Allowance,
}

struct Finishing {
    end: LinkEnd,
    until: Instant,
}

enum End {
    /// The call has ended, or signalling wants the stream to.
    Stopped,
    Lost(LinkEnd),
}

/// What a pump is made of.
pub(super) struct PumpParts {
    pub(super) link: Link,
    pub(super) supervisor: Supervisor,
    pub(super) backend: Backend,
    pub(super) events: Events,
    pub(super) commands: mpsc::Receiver<AiCommand>,
    pub(super) record: Arc<Mutex<Record>>,
    pub(super) counters: Arc<AiCounters>,
    pub(super) histograms: Arc<AiHistograms>,
}

impl Pump {
    pub(super) fn new(config: &AiConfig, parts: PumpParts) -> Self {
        let PumpParts { link, supervisor, backend, events, commands, record, counters, histograms } = parts;
        let period = (config.ping_interval / 2).min(config.write_stall / 4).clamp(MIN_TICK, MAX_TICK);
        let mut tick = interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let max_audio_blocks = (config.max_outbound.as_millis() / 20).clamp(1, 500) as usize;
        let filler = config.reconnect.as_ref().and_then(|policy| policy.filler.as_deref());
        let pump = Self {
            uplink: Uplink::new(config.line, max_audio_blocks, Arc::clone(&counters)),
            items: Items::new(link.formats().bot, config.line),
            filler: filler.map(|samples| Filler::new(samples, config.line)).unwrap_or_default(),
            history: History::default(),
            link: Some(link),
            supervisor,
            backend,
            events,
            commands,
            record,
            counters,
            histograms,
            line: config.line,
            max_audio_blocks,
            drain_limit: config.drain_limit,
            tick,
            clears: VecDeque::new(),
            stale_marks: 0,
            cancelled: VecDeque::new(),
            item: 0,
            status: QueueStatus {
                high_at: config.latency.limit,
                low_at: config.latency.limit * 4 / 5,
                ..QueueStatus::default()
            },
            caller_speaks: false,
            caller_is_heard: false,
            turn: Turn::default(),
            ready_at: monotonic_now(),
            goodbye: None,
            finishing: None,
            overflow_logged: false,
            allowance: Allowance::new(monotonic_now()),
        };
        let took = pump.link.as_ref().map_or(Duration::ZERO, |link| link.took);
        pump.record(|record| record.figures.connect = took);
        if let Some(fallback) = pump.supervisor.fallback() {
            pump.events.notice(AiNotice::Reconnected { fallback: Some(fallback) });
        }
        pump
    }

    /// Serves the stream to its end.
    pub(super) async fn run(mut self) {
        // What the backend said while its session was set up.
        let early = self.take_decoded();
        let end = match early {
            Err(end) => End::Lost(end),
            Ok(()) => std::future::poll_fn(|cx| self.poll_serve(cx)).await,
        };
        self.note_losses();
        match end {
            End::Stopped => {
                self.counters.stopped.increment();
                self.push_interrupted(u64::MAX, false);
                self.events.end(AiEnd::Stopped);
                if let Some(link) = self.link.take() {
                    link.say_goodbye(self.uplink).await;
                }
            }
            End::Lost(end) => {
                let end = match end {
                    LinkEnd::Closed { code, reason } => AiEnd::Closed { code, reason },
                    LinkEnd::Failed(failure) => AiEnd::Failed(failure),
                };
                tracing::info!(?end, "the AI stream ended");
                self.events.end(end);
                if let Some(link) = self.link.take() {
                    link.say_goodbye(self.uplink).await;
                }
            }
        }
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.backend.shared.waker.register(cx.waker());
        if self.backend.is_ended() || self.backend.shared.stop.load(Ordering::Acquire) {
            self.take_reports();
            return Poll::Ready(End::Stopped);
        }
        while let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
            self.obey(command);
        }
        self.take_reports();
        if let Poll::Ready(end) = self.poll_supply(cx) {
            return Poll::Ready(end);
        }
        if let Poll::Ready(end) = self.poll_link(cx)
            && let Some(end) = self.lost(end)
        {
            return Poll::Ready(end);
        }
        self.backend.top_up();
        self.look_at_queue();
        if let Some(finishing) = &self.finishing
            && (!self.backend.is_speaking() || Instant::now() >= finishing.until)
        {
            return Poll::Ready(End::Lost(finishing.end.clone()));
        }
        while self.tick.poll_tick(cx).is_ready() {
            if let Some(link) = &mut self.link
                && let Poll::Ready(end) = link.poll_deadlines(cx)
                && let Some(end) = self.lost(end)
            {
                return Poll::Ready(end);
            }
            self.note_losses();
            // What is due by time is looked at again.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Moves what can be moved. Ready only at the connection's end.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        // First what is due to the backend, so that a flood from it cannot delay caller audio; then what it
        // says; then the answers to that.
        let Some(link) = &mut self.link else { return Poll::Pending };
        if let Poll::Ready(end) = link.poll_write(cx, &mut self.uplink) {
            return Poll::Ready(end);
        }
        if let Poll::Ready(end) = self.poll_read(cx) {
            return Poll::Ready(end);
        }
        self.backend.top_up();
        let Some(link) = &mut self.link else { return Poll::Pending };
        link.poll_write(cx, &mut self.uplink)
    }

    /// Reads a slice of what has come. Ready only at the connection's end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        let mut slice = self.allowance.slice(monotonic_now);
        if slice == 0 {
            // The next tick looks again.
            if self.allowance.hold_up() {
                self.counters.reading_held_up.increment();
            }
            return Poll::Pending;
        }
        while slice > 0 {
            let Some(link) = &mut self.link else { return Poll::Pending };
            let len = match link.poll_message(cx) {
                Poll::Pending => {
                    self.allowance.catch_up();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(len)) => len,
                Poll::Ready(Err(end)) => return Poll::Ready(end),
            };
            slice = slice.saturating_sub(self.allowance.spend(len));
            if let Err(end) = self.take_decoded() {
                return Poll::Ready(end);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes a connection that was made, or the news that there is none.
    fn poll_supply(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let caller_speaks = self.caller_speaks || self.caller_is_heard;
        let silent = !self.backend.is_speaking() && !caller_speaks && self.goodbye.is_none();
        let history = &self.history;
        match self.supervisor.poll(cx, silent, || history.texts()) {
            Poll::Pending => {}
            Poll::Ready(Supplied::Recovered(link)) => {
                self.counters.reconnected.increment();
                self.adopt(*link);
            }
            Poll::Ready(Supplied::Renewed(link)) => {
                self.counters.renewed.increment();
                if let Some(old) = self.link.take() {
                    tokio::spawn(old.say_goodbye(Uplink::new(self.line, 1, Arc::clone(&self.counters))));
                }
                self.forget_connection();
                self.adopt(*link);
            }
            Poll::Ready(Supplied::GivenUp { lost, error }) => {
                self.counters.given_up.increment();
                tracing::warn!(lost, error, "the AI stream broke for good");
                return Poll::Ready(End::Lost(LinkEnd::Failed(AiFailure::GivenUp { lost, error })));
            }
        }
        Poll::Pending
    }

    /// Goes on with another connection.
    fn adopt(&mut self, link: Link) {
        tracing::info!(
            stream_sid = link.stream_sid,
            fallback = self.supervisor.fallback(),
            "AI stream connected again"
        );
        self.uplink.limit(self.max_audio_blocks);
        self.items = Items::new(link.formats().bot, self.line);
        self.link = Some(link);
        // What was interrupted meanwhile was nothing of this backend's.
        self.uplink.forget_connection();
        // Not while the last words of the old backend are still being played.
        if self.filler.stop().is_some_and(|start| self.playout() >= start) {
            self.clear(Cause::Filler);
        }
        self.record(|record| record.figures.reconnects += 1);
        self.events.notice(AiNotice::Reconnected { fallback: self.supervisor.fallback() });
        if let Err(end) = self.take_decoded() {
            self.lost(end);
        }
    }

    /// The connection is over: whether the stream is too.
    fn lost(&mut self, end: LinkEnd) -> Option<End> {
        self.count(&end);
        tracing::warn!(%end, queued_bytes = self.backend.queued(), "the connection to the AI backend is over");
        if let Some(link) = self.link.take() {
            let end = end.clone();
            tokio::spawn(async move { link.retire(&end).await });
        }
        self.forget_connection();
        if self.goodbye.is_none() && self.supervisor.recover(&end, self.history.texts()) {
            self.uplink.limit(self.max_audio_blocks.min(OUTAGE_BLOCKS));
            let reason = clean(&end.to_string(), super::events::MAX_TEXT_CHARS);
            self.events.notice(AiNotice::Reconnecting { reason });
            return None;
        }
        let in_order = matches!(&end, LinkEnd::Closed { code: 1000 | 1001 | 1005, .. });
        if in_order || self.goodbye.is_some() {
            self.finishing = Some(Finishing { end, until: Instant::now() + self.drain_limit });
            return None;
        }
        Some(End::Lost(end))
    }

    /// What belongs to the connection that is gone. What it said is played on.
    fn forget_connection(&mut self) {
        self.uplink.forget_connection();
        self.items = Items::new(self.line, self.line);
        self.stale_marks = self.backend.waiting_marks();
        self.item = 0;
        self.caller_speaks = false;
        self.backend.begin_utterance();
        self.backend.end_utterance();
        self.pause(false);
    }

    fn count(&self, end: &LinkEnd) {
        let counters = &self.counters;
        match end {
            LinkEnd::Closed { .. } => &counters.closed_by_peer,
            LinkEnd::Failed(AiFailure::Protocol(_)) => &counters.protocol_error,
            LinkEnd::Failed(AiFailure::MessageTooLarge(_)) => &counters.message_too_large,
            LinkEnd::Failed(AiFailure::PingTimeout) => &counters.ping_timeout,
            LinkEnd::Failed(AiFailure::WriteStalled) => &counters.write_stalled,
            LinkEnd::Failed(AiFailure::Rejected { .. }) => &counters.rejected,
            LinkEnd::Failed(_) => &counters.lost,
        }
        .increment();
    }

    /// Does what signalling wants.
    fn obey(&mut self, command: AiCommand) {
        match command {
            AiCommand::Mute(muted) => self.uplink.mute(muted),
            AiCommand::Pause(paused) => self.pause(paused),
            AiCommand::Interrupt => self.clear(Cause::Ours),
            AiCommand::Goodbye(request) => self.say_goodbye(request),
            AiCommand::Say { from, text, respond } => {
                self.history.add(from, &text);
                self.uplink.push(Item::Text { from, text, respond });
            }
            AiCommand::ToolResult(result) => match self.cancelled.iter().position(|id| *id == result.id) {
                Some(cancelled) => drop(self.cancelled.remove(cancelled)),
                None => self.uplink.push(Item::ToolResult(result)),
            },
        }
    }

    /// Keeps what is queued, or plays on.
    fn pause(&mut self, paused: bool) {
        self.status.paused = paused;
        if paused {
            self.backend.pause();
        } else {
            self.backend.resume();
        }
    }

    fn record(&self, write: impl FnOnce(&mut Record)) {
        write(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

const MIN_TICK: Duration = Duration::from_millis(20);
const MAX_TICK: Duration = Duration::from_millis(250);
/// Caller audio of an outage that the next backend hears: one second.
const OUTAGE_BLOCKS: usize = 50;
