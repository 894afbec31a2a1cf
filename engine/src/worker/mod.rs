//! The worker: one thread, one device, the streams that live on it, and the loop.
//!
//! ```text
//! read the clock once
//! at most 64 commands -> at most `receive_budget` datagrams (if late, as often as 16 times, because what came
//! meanwhile is for the frames that are overdue) -> at most 1024 deadlines
//! each stream that had input: its packets into the device, its events into the ring, its next deadline
//! flush the device, wake AI threads, flush events, wait until the next deadline
//! ```
//!
//! How it waits is the policy's matter: `busy` does not, `sleep` waits in the device, and `adaptive` does that too
//! while it is quiet, but looks once per tick (`pace`) when much comes.
//!
//! After its start the loop neither allocates nor frees, but for a stream that panicked.

mod affinity;
mod clock;
mod counters;
mod demux;
mod outbox;
mod pace;
mod relays;
mod streams;
mod wheel;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rtrb::{Consumer, Producer};
use xdp::{Device, Doorbell};

use self::pace::Pace;
use self::streams::Streams;
use crate::command::Command;
use crate::config::WaitPolicy;
use crate::engine::StartError;
use crate::event::Event;
use crate::time::Duration;

pub(crate) use self::affinity::{Seat, lock_memory};
pub use self::counters::WorkerCounters;

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) device: Box<dyn Device>,
    pub(crate) commands: Consumer<Command>,
    pub(crate) events: Producer<Event>,
    pub(crate) event_doorbell: Doorbell,
    pub(crate) ai_doorbells: Arc<[Doorbell]>,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) streams: usize,
    pub(crate) relays: usize,
    pub(crate) kernel_relay: bool,
    pub(crate) receive_budget: usize,
    pub(crate) wait: WaitPolicy,
    pub(crate) tick: Duration,
}

/// See the module's documentation.
pub(crate) struct Worker {
    streams: Streams,
    commands: Consumer<Command>,
    stop: Arc<AtomicBool>,
    receive_budget: usize,
    wait: WaitPolicy,
    pace: Pace,
}

/// Starts a worker's thread and waits until it runs on its seat; also says what of the seat was refused.
pub(crate) fn spawn(
    index: usize,
    seat: Seat,
    worker: Worker,
) -> Result<(JoinHandle<()>, Option<String>), StartError> {
    let (started, start) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("media-{index}"))
        .spawn(move || {
            let seated = seat.take();
            let runs = seated.is_ok();
            if started.send(seated).is_ok() && runs {
                worker.run();
            }
        })
        .map_err(|source| StartError::Thread { worker: index, source })?;
    match (start.recv(), seat.cpu) {
        (Ok(Ok(refused)), _) => {
            let warning = refused.zip(seat.priority);
            Ok((thread, warning.map(|(error, priority)| affinity::refused_priority(priority, &error))))
        }
        (Ok(Err(source)), Some(cpu)) => Err(StartError::NoSuchCpu { cpu, source }),
        (Ok(Err(source)), None) => Err(StartError::Thread { worker: index, source }),
        (Err(_), _) => Err(StartError::Thread { worker: index, source: std::io::ErrorKind::Other.into() }),
    }
}

impl Worker {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { commands, stop, receive_budget, wait, tick, .. } = parts;
        let streams = Streams::new(streams::Parts {
            device: parts.device,
            events: parts.events,
            event_doorbell: parts.event_doorbell,
            ai_doorbells: parts.ai_doorbells,
            counters: parts.counters,
            streams: parts.streams,
            relays: parts.relays,
            kernel_relay: parts.kernel_relay,
            now: clock::now(),
        });
        Self { streams, commands, stop, receive_budget, wait, pace: Pace::new(clock::now(), tick) }
    }

    fn run(mut self) {
        while self.turn() {}
        self.streams.remove_all(clock::now());
        // The control side may be waiting for this thread instead of taking events.
        for _ in 0..LAST_WAITS {
            if self.streams.flush() == 0 {
                break;
            }
            self.streams.device.wait(Duration::from_millis(1));
        }
    }

    /// One turn of the loop; false after the last.
    fn turn(&mut self) -> bool {
        let now = clock::now();
        let mut go_on = !self.stop.load(Ordering::Acquire);
        let mut commands = 0;
        // A worker that cannot answer takes no more questions.
        while commands < COMMANDS_PER_TURN && self.streams.kept_answers() == 0 {
            let Ok(command) = self.commands.pop() else { break };
            commands += 1;
            go_on &= self.streams.handle_command(now, command);
        }
        let mut datagrams = self.streams.receive(now, self.receive_budget);
        let mut all_datagrams = datagrams;
        for _ in 1..LATE_RECEIVES {
            if datagrams < self.receive_budget || !self.streams.is_late(now) {
                break;
            }
            datagrams = self.streams.receive(now, self.receive_budget);
            all_datagrams += datagrams;
        }
        self.pace.note(now, all_datagrams);
        let deadlines = self.streams.handle_deadlines(now, DEADLINES_PER_TURN);
        self.streams.settle_touched();
        let kept = self.streams.flush();
        let counters = &self.streams.counters;
        counters.loops.increment();
        counters.commands.add(commands as u64);

        let all_done = commands < COMMANDS_PER_TURN
            && datagrams < self.receive_budget
            && deadlines < DEADLINES_PER_TURN
            && !self.streams.has_touched();
        if go_on && all_done && self.wait != WaitPolicy::Busy {
            let longest = if kept > 0 { Duration::from_millis(1) } else { LONGEST_WAIT };
            self.wait(longest);
        }
        go_on
    }

    fn wait(&mut self, longest: Duration) {
        // The turn itself took time: a second look at the clock, or the next deadline is late by that much.
        let now = clock::now();
        let until = self.streams.next_deadline().unwrap_or(now + longest);
        let timeout = until.saturating_duration_since(now).min(longest);
        if self.wait == WaitPolicy::Adaptive {
            if timeout < SPIN {
                return;
            }
            if let Some(tick) = self.pace.next_tick(now) {
                self.streams.counters.ticks.increment();
                // What a device does before it sleeps (telling a driver of new frames) is due all the same.
                self.streams.device.wait(Duration::ZERO);
                return clock::sleep_until(tick.min(now + timeout));
            }
        }
        if !timeout.is_zero() {
            self.streams.counters.waits.increment();
            self.streams.device.wait(timeout);
        }
    }
}

/// Commands per turn; more stay in the ring.
const COMMANDS_PER_TURN: usize = 64;

/// How often a late worker receives before it meets its deadlines.
const LATE_RECEIVES: usize = 16;

/// Deadlines per turn; more are met in the next one.
const DEADLINES_PER_TURN: usize = 1024;

/// A deadline nearer than this is not worth a sleep: the kernel's timers are late by about as much.
const SPIN: Duration = Duration::from_micros(50);

/// A worker without deadlines looks around as often as this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How many milliseconds a worker that ends waits for room for its last events.
const LAST_WAITS: usize = 1000;
