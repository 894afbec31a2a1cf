//! Serves one tap: from the ring to the WebSocket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use rtrb::Consumer;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::Instrument as _;

use super::align::{Aligned, Aligner};
use super::{TapBlock, TapId, TapPort, TapShared};
use crate::ai::carrier::{CarrierError, Close, Received, Socket};
use crate::ai::config::{AiConfig, CallMeta};
use crate::ai::connect::{ConnectError, Target};
use crate::ai::counters::AiCounters;
use crate::ai::dialect::{Outbox, StreamStart, TapDialect, TapTracks, TapWire};
use crate::ai::runtime::AiRuntime;
use crate::ai::supervisor::hex;
use crate::time::{Duration, Instant};

/// Who listens, and to what.
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// How to reach the listener; its dialect is not looked at.
    pub listener: AiConfig,
    /// What it understands.
    pub dialect: TapDialect,
    /// What it hears.
    pub tracks: TapTracks,
}

/// How a tap ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TapEnd {
    /// By [`TapHandle::stop`], or because the call is over; what had come was sent.
    Stopped,
    /// The listener closed.
    Closed {
        /// RFC 6455 section 7.4; 1005 if there was none.
        code: u16,
    },
    /// The connection broke, or the listener does not read.
    Failed(String),
}

/// What a tap has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapFigures {
    /// Blocks of 20 ms sent.
    pub sent: u64,
    /// Pieces that found no room between the worker and its AI thread.
    pub overflow: u64,
    /// Blocks of 20 ms dropped because the listener reads too slowly.
    pub stale: u64,
    /// Pieces that came when their turn was over.
    pub late: u64,
}

/// Sees and ends a tap, from anywhere.
#[derive(Clone, Debug)]
pub struct TapHandle {
    id: TapId,
    shared: Arc<TapShared>,
}

/// A running tap. Dropping it leaves the tap running until its port is dropped.
#[derive(Debug)]
pub struct TapSession {
    handle: TapHandle,
    end: oneshot::Receiver<TapEnd>,
}

impl TapHandle {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> TapId {
        self.id
    }

    /// Ends the tap within about 20 ms. The port is still to be taken out of the call.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }

    /// What it has done so far.
    #[must_use]
    pub fn figures(&self) -> TapFigures {
        TapFigures {
            sent: self.shared.sent.load(Ordering::Relaxed),
            overflow: self.shared.overflow.load(Ordering::Relaxed),
            stale: self.shared.stale.load(Ordering::Relaxed),
            late: self.shared.late.load(Ordering::Relaxed),
        }
    }
}

impl TapSession {
    /// A handle to see and end it.
    #[must_use]
    pub fn handle(&self) -> TapHandle {
        self.handle.clone()
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> TapId {
        self.handle.id
    }

    /// As [`TapHandle::figures`].
    #[must_use]
    pub fn figures(&self) -> TapFigures {
        self.handle.figures()
    }

    /// Waits for the end. May be dropped and called again, until it has answered.
    pub async fn ended(&mut self) -> TapEnd {
        (&mut self.end).await.unwrap_or_else(|_| TapEnd::Failed("the tap's task ended early".to_owned()))
    }
}

impl AiRuntime {
    /// Connects to a listener. The port is for `Command::AddTap`.
    ///
    /// # Errors
    /// When the configuration cannot work, or the listener cannot be reached within [`AiConfig::connect_window`].
    pub async fn tap(
        &self,
        config: TapConfig,
        meta: CallMeta,
    ) -> Result<(Box<TapPort>, TapSession), ConnectError> {
        let TapConfig { mut listener, dialect, tracks } = config;
        listener.dialect = dialect.of_the_handshake();
        let wire =
            TapWire::new(dialect, tracks, stream_start(&listener, &meta)?).map_err(ConnectError::Config)?;
        let id = TapId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        let (port, ring, shared) = TapPort::pair(id, tracks);
        let (opened, open) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let session = TapSession { handle: TapHandle { id, shared: Arc::clone(&shared) }, end: ended };
        let (counters, public_tls) = (self.counters(), self.public_tls());
        let span = tracing::info_span!("tap", call_id = meta.call_id, tap = id.0);
        let task = async move {
            let mut opened = opened;
            let target = tokio::task::spawn_blocking(move || (Target::new(&listener, &public_tls), listener));
            let socket = async {
                let (target, listener) = target.await.map_err(|_| ConnectError::Shutdown)?;
                let socket = target?.connect(&listener, &counters).await?;
                Ok((socket, listener))
            };
            let (socket, listener) = tokio::select! {
                socket = socket => match socket {
                    Ok(socket) => socket,
                    Err(error) => {
                        let _ = opened.send(Err(error));
                        return;
                    }
                },
                () = opened.closed() => return,
            };
            let _ = opened.send(Ok(()));
            let pump = TapPump::new(socket, ring, wire, tracks, shared, &listener, counters);
            let _ = end.send(pump.run().await);
        };
        self.spawn(task.instrument(span))?;
        open.await.unwrap_or(Err(ConnectError::Shutdown))?;
        Ok((port, session))
    }
}

fn stream_start(listener: &AiConfig, meta: &CallMeta) -> Result<StreamStart, ConnectError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| ConnectError::Config(error.to_string()))?;
    let account_sid = match listener.account_sid.as_str() {
        "" => format!("AC{}", "0".repeat(32)),
        configured => configured.to_owned(),
    };
    let expand = |(name, template): (&String, &String)| (name.clone(), meta.expand(template));
    Ok(StreamStart {
        stream_sid: format!("MZ{}", hex(&random)),
        call_sid: meta.call_sid(),
        account_sid,
        call_id: meta.call_id.clone(),
        from: meta.from_number.clone(),
        from_name: meta.from_name.clone(),
        to: meta.to_number.clone(),
        custom_parameters: listener.custom_parameters.iter().map(expand).collect(),
        ..StreamStart::default()
    })
}

struct TapPump {
    socket: Socket,
    ring: Consumer<TapBlock>,
    aligner: Aligner,
    wire: TapWire,
    shared: Arc<TapShared>,
    counters: Arc<AiCounters>,
    queue: VecDeque<Aligned>,
    most_queued: usize,
    outbox: Outbox,
    written: usize,
    tick: Interval,
    write_stall: Duration,
    stalled_since: Option<tokio::time::Instant>,
}

impl TapPump {
    fn new(
        socket: Socket,
        ring: Consumer<TapBlock>,
        mut wire: TapWire,
        tracks: TapTracks,
        shared: Arc<TapShared>,
        listener: &AiConfig,
        counters: Arc<AiCounters>,
    ) -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut outbox = Outbox::default();
        wire.open(&mut outbox);
        Self {
            socket,
            ring,
            aligner: Aligner::new(tracks),
            wire,
            shared,
            counters,
            queue: VecDeque::new(),
            most_queued: (listener.max_outbound.as_millis() / TICK.as_millis()).clamp(1, 500) as usize,
            outbox,
            written: 0,
            tick,
            write_stall: listener.write_stall,
            stalled_since: None,
        }
    }

    async fn run(mut self) -> TapEnd {
        tracing::info!("tap open");
        let end = std::future::poll_fn(|cx| self.poll_serve(cx)).await;
        if end == TapEnd::Stopped {
            let _ = timeout(GOODBYE, self.say_goodbye()).await;
        }
        tracing::info!(?end, "tap ended");
        end
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<TapEnd> {
        while self.tick.poll_tick(cx).is_ready() {}
        let over = self.shared.stop.load(Ordering::Acquire) || self.ring.is_abandoned();
        self.collect();
        if over {
            return Poll::Ready(TapEnd::Stopped);
        }
        if let Poll::Ready(error) = self.poll_write(cx) {
            return Poll::Ready(TapEnd::Failed(error.to_string()));
        }
        if self.stalled_since.is_some_and(|since| since.elapsed() >= self.write_stall) {
            self.counters.write_stalled.increment();
            return Poll::Ready(TapEnd::Failed("the listener stopped reading".to_owned()));
        }
        for _ in 0..MESSAGES_PER_TURN {
            match self.socket.poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(Received::Close(Close { code, .. })))) => {
                    return Poll::Ready(TapEnd::Closed { code });
                }
                // A listener is not heard.
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(TapEnd::Failed(error.to_string())),
                Poll::Ready(None) => return Poll::Ready(TapEnd::Failed("end of stream".to_owned())),
            }
        }
        // More of it waits for the next tick.
        Poll::Pending
    }

    /// Moves what has come to the queue.
    fn collect(&mut self) {
        while let Ok(block) = self.ring.pop() {
            self.aligner.push(&block);
        }
        let now = monotonic_now();
        while let Some(aligned) = self.aligner.pop(now) {
            self.queue.push_back(aligned);
            if self.queue.len() > self.most_queued {
                // Late audio is worth less than fresh audio.
                self.queue.pop_front();
                self.shared.stale.fetch_add(1, Ordering::Relaxed);
                self.counters.tap_blocks_stale.increment();
            }
        }
        self.shared.late.store(self.aligner.late(), Ordering::Relaxed);
    }

    /// Writes until nothing is left or the socket is full. Ready only when it broke.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<CarrierError> {
        loop {
            let is_idle = self.outbox.is_empty() && self.queue.is_empty();
            let step = if is_idle { self.socket.poll_flush(cx) } else { self.socket.poll_ready(cx) };
            match step {
                Poll::Pending => {
                    self.stalled_since.get_or_insert_with(tokio::time::Instant::now);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(())) => self.stalled_since = None,
            }
            if self.outbox.is_empty() {
                let Some(aligned) = self.queue.pop_front() else { return Poll::Pending };
                self.encode(&aligned);
            }
            if let Some((kind, message)) = self.outbox.messages().nth(self.written)
                && let Err(error) = self.socket.start_send(kind, message)
            {
                return Poll::Ready(error);
            }
            self.written += 1;
            if self.written >= self.outbox.messages().count() {
                self.outbox.clear();
                self.written = 0;
            }
        }
    }

    fn encode(&mut self, aligned: &Aligned) {
        let [inbound, outbound] = &aligned.tracks;
        self.wire.audio(aligned.position, inbound, outbound, &mut self.outbox);
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        self.counters.tap_blocks_sent.increment();
    }

    /// Sends what has come, and closes.
    async fn say_goodbye(&mut self) -> Result<(), CarrierError> {
        let waiting: Vec<Aligned> =
            self.queue.drain(..).chain(std::iter::from_fn(|| self.aligner.pop_rest())).collect();
        for aligned in &waiting {
            self.encode(aligned);
        }
        self.wire.stop(&mut self.outbox);
        for (kind, message) in self.outbox.messages().skip(self.written) {
            self.socket.send(kind, message).await?;
        }
        self.socket.close(Close::NORMAL).await?;
        self.socket.read_out().await
    }
}

/// The workers' clock.
fn monotonic_now() -> Instant {
    let now = clock_gettime(ClockId::Monotonic);
    Instant::from_nanos(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
const TICK: Duration = Duration::from_millis(20);
const GOODBYE: Duration = Duration::from_secs(1);
const MESSAGES_PER_TURN: usize = 64;
