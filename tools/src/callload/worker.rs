//! The thread that runs calls: one timer tick, everything due, everything received, again.
//!
//! The tick is 500 us and packets are scheduled on it: call i sends in slot i mod 40 of every 20 ms. RTP sockets do
//! not wake the thread (their kernel timestamps say when packets came), SIP does.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    time::{TimeSpec, TimeValLike as _},
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use super::{
    call::{Call, Phase},
    clock,
    g711::Law,
    marker::SplitMix,
    net::{ReceiveBuffer, SipTransport},
    sdp,
    sender::{Sender, Speech},
    sip::{Message, Output, StartLine, UacConfig, reply_no_call},
    stats::{Counters, Stats},
    tap::Tap,
};

/// What a worker is to do.
pub(super) struct Plan {
    pub(super) with_rtp: bool,
    pub(super) laws: Vec<Law>,
    pub(super) digits: String,
    /// In packets; 0 for none.
    pub(super) marker_every: u64,
    pub(super) interval_ns: u64,
    pub(super) total: u64,
    pub(super) hold_ns: Option<u64>,
    pub(super) duration_ns: u64,
    pub(super) linger_ns: u64,
    pub(super) late_ms: u64,
    /// Packets carry their send time.
    pub(super) stamp: bool,
}

/// What the progress line shows of a worker.
#[derive(Clone, Copy, Default)]
pub(super) struct Progress {
    pub(super) counters: Counters,
    pub(super) active: u64,
    pub(super) latency_p50_ms: f64,
    pub(super) latency_p99_ms: f64,
    pub(super) late_packets: u64,
}

pub(super) struct Worker {
    plan: Plan,
    config: Arc<UacConfig>,
    speech: Arc<Speech>,
    calls: Vec<Call>,
    /// Calls by the slot of the 20 ms they send in.
    wheel: Vec<Vec<usize>>,
    sip: SipTransport,
    /// Timer and SIP; waited for.
    wake: Epoll,
    timer: TimerFd,
    /// RTP and RTCP; only asked.
    rtp_ready: Epoll,
    buffer: ReceiveBuffer,
    outputs: Vec<Output>,
    stats: Stats,
    tap: Option<Box<dyn Tap>>,
    seed: u64,
    placed: u64,
    next_call_ns: u64,
    first_free: usize,
    stopping: bool,
}

impl Worker {
    /// `part` of `parts` spreads the send slots of several workers.
    pub(super) fn new(
        plan: Plan,
        config: Arc<UacConfig>,
        speech: Arc<Speech>,
        calls: Vec<Call>,
        sip: SipTransport,
        (part, parts): (usize, usize),
    ) -> anyhow::Result<Self> {
        let wake = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        wake.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        wake.add(&sip, EpollEvent::new(EpollFlags::EPOLLIN, SIP))?;
        let rtp_ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (index, media) in calls.iter().enumerate().filter_map(|(i, call)| Some((i, call.media.as_ref()?)))
        {
            rtp_ready.add(&media.rtp, EpollEvent::new(EpollFlags::EPOLLIN, index as u64 * 2))?;
            rtp_ready.add(&media.rtcp, EpollEvent::new(EpollFlags::EPOLLIN, index as u64 * 2 + 1))?;
        }
        let mut wheel = vec![Vec::new(); SLOTS];
        (0..calls.len()).for_each(|i| wheel[(i * parts + part) % SLOTS].push(i));
        Ok(Self {
            seed: config.run,
            plan,
            config,
            speech,
            calls,
            wheel,
            sip,
            wake,
            timer,
            rtp_ready,
            buffer: ReceiveBuffer::new(),
            outputs: Vec::new(),
            stats: Stats::new(),
            tap: None,
            placed: 0,
            next_call_ns: 0,
            first_free: 0,
            stopping: false,
        })
    }

    pub(super) fn config(&self) -> &Arc<UacConfig> {
        &self.config
    }

    /// Lets `tap` see every packet.
    pub(super) fn set_tap(&mut self, tap: Box<dyn Tap>) {
        self.tap = Some(tap);
    }

    /// Runs until every call is over. `start_ns` is the common beginning of all workers.
    pub(super) fn run(
        mut self,
        start_ns: u64,
        stop: &AtomicBool,
        progress: &Mutex<Progress>,
    ) -> anyhow::Result<Stats> {
        self.next_call_ns = start_ns;
        let period = TimeSpec::from_duration(Duration::from_nanos(TICK_NS));
        let first = TimeSpec::nanoseconds(start_ns as i64);
        self.timer.set(Expiration::IntervalDelayed(first, period), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        let (mut tick, mut next_second_ns) = (0u64, start_ns + SECOND_NS);
        let mut events = [EpollEvent::empty(); 4];
        loop {
            let count = match self.wake.wait(&mut events, EpollTimeout::from(100u8)) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                Err(error) => return Err(error).context("cannot wait for events"),
            };
            if events[..count].iter().any(|event| event.data() == TIMER) {
                let _ = self.timer.wait();
            }
            let offset_ns = clock::realtime_offset_ns();
            self.receive_sip(offset_ns)?;
            if let Some(tap) = &mut self.tap {
                tap.poll(offset_ns)?;
            }
            if self.plan.with_rtp {
                self.receive_rtp(offset_ns)?;
            }
            let now_ns = clock::now_ns();
            if now_ns < start_ns {
                continue;
            }
            while start_ns + tick * TICK_NS <= now_ns {
                self.send_rtp(start_ns + tick * TICK_NS, tick);
                tick += 1;
                if tick % TIMEOUT_TICKS == 0 {
                    self.handle_timeouts(clock::now_ns());
                }
            }
            if !self.stopping && (stop.load(Ordering::Relaxed) || now_ns >= start_ns + self.plan.duration_ns)
            {
                self.stop(now_ns);
            }
            self.place_calls(now_ns);
            self.sip.flush().context("SIP transport failed")?;
            if now_ns >= next_second_ns {
                next_second_ns += SECOND_NS;
                self.report(progress);
            }
            let all_placed = self.stopping || self.placed >= self.plan.total;
            if all_placed && self.calls.iter().all(|call| call.phase == Phase::Free) {
                self.report(progress);
                return Ok(self.stats);
            }
        }
    }

    fn place_calls(&mut self, now_ns: u64) {
        while !self.stopping && self.placed < self.plan.total && now_ns >= self.next_call_ns {
            let free = (self.first_free..self.calls.len())
                .chain(0..self.first_free)
                .find(|&at| self.calls[at].phase == Phase::Free && self.calls[at].uac.is_over());
            let Some(at) = free else { return };
            self.first_free = (at + 1) % self.calls.len();
            // No debt beyond 10 ms: a stall must not become a burst of calls.
            self.next_call_ns =
                (self.next_call_ns + self.plan.interval_ns).max(now_ns.saturating_sub(10_000_000));
            // The number names the place: number mod places.
            let places = self.calls.len() as u64;
            let number = (self.calls[at].number / places + 1) * places + at as u64;
            self.placed += 1;
            self.stats.counters.calls_placed += 1;
            let seed = SplitMix(self.seed ^ number).next();
            let sender =
                Sender::new(Arc::clone(&self.speech), seed, self.plan.marker_every, &self.plan.digits);
            let offer = self.offer(at, number, 1, &self.plan.laws, "sendrecv");
            let call = &mut self.calls[at];
            let now_ns = clock::now_ns();
            call.begin(now_ns, number, sender);
            call.stamped = self.plan.stamp;
            if let Some(tap) = &mut self.tap {
                tap.placed(at, number);
            }
            call.uac.start(now_ns, number, &offer, &mut self.outputs);
            self.handle_outputs(at, now_ns);
        }
    }

    fn offer(&self, at: usize, session: u64, version: u32, laws: &[Law], mode: &str) -> String {
        // Without RTP the offer still needs a port; 9 is discard.
        let discard = std::net::SocketAddr::new(self.config.local.ip(), 9);
        let local = self.calls[at].media.as_ref().map_or(discard, |media| media.local);
        sdp::write(local, session, version, laws, mode)
    }

    fn receive_sip(&mut self, offset_ns: i64) -> anyhow::Result<()> {
        // Bounded, so that a flood cannot stop the RTP schedule.
        for _ in 0..256 {
            let received = self.sip.receive(&mut self.buffer, offset_ns).context("SIP transport failed")?;
            let Some((bytes, source, arrival_ns)) = received else { return Ok(()) };
            let Some(message) = Message::parse(&bytes) else {
                // Keep-alives (RFC 5626) are no messages.
                self.stats.counters.sip_unexpected +=
                    u64::from(bytes.iter().any(|b| !b.is_ascii_whitespace()));
                continue;
            };
            let number = message.header("call-id").and_then(|id| self.config.call_number(id));
            let at = number.map(|number| (number % self.calls.len() as u64) as usize);
            let at = at.filter(|&at| Some(self.calls[at].number) == number);
            match (at, &message.start) {
                (Some(at), StartLine::Response(..)) => {
                    self.calls[at].uac.handle_response(arrival_ns, &message, &mut self.outputs);
                    self.handle_outputs(at, arrival_ns);
                }
                (Some(at), StartLine::Request(..)) => {
                    self.calls[at].uac.handle_request(source, message, &mut self.outputs);
                    self.handle_outputs_from(at, arrival_ns, source);
                }
                (None, start) => {
                    self.stats.counters.sip_unexpected += 1;
                    if matches!(start, StartLine::Request(method, _) if method != "ACK") {
                        let _ = self.sip.send(source, &reply_no_call(&message));
                    }
                }
            }
        }
        Ok(())
    }

    fn handle_outputs(&mut self, at: usize, now_ns: u64) {
        self.handle_outputs_from(at, now_ns, self.config.destination);
    }

    /// `now_ns` is when the cause came; `source` where an offer came from.
    fn handle_outputs_from(&mut self, at: usize, now_ns: u64, source: std::net::SocketAddr) {
        while !self.outputs.is_empty() {
            let outputs = std::mem::take(&mut self.outputs);
            for output in outputs {
                self.handle_output(at, now_ns, source, output);
            }
        }
    }

    fn handle_output(&mut self, at: usize, now_ns: u64, source: std::net::SocketAddr, output: Output) {
        let call = &mut self.calls[at];
        match output {
            Output::Send(to, bytes) => {
                if self.sip.send(to, &bytes).is_err() {
                    self.stats.counters.sip_unexpected += 1;
                }
            }
            Output::Ringing => {
                if !std::mem::replace(&mut call.ringing, true) {
                    self.stats.ringing.record_ns(now_ns.saturating_sub(call.invite_ns));
                }
            }
            Output::Answered(answer) => self.handle_answer(at, now_ns, &answer),
            Output::Offered(message) => self.handle_offer(at, source, &message),
            Output::Failed(reason) => {
                // A call that we gave up ourselves when the run ended did not fail.
                if call.phase != Phase::Leaving {
                    self.stats.fail(reason);
                }
                call.phase = Phase::Free;
            }
            Output::Ended { by_peer, clean } => {
                if matches!(call.phase, Phase::Talking | Phase::Lingering) {
                    call.finish_media(now_ns, false, &mut self.stats);
                }
                if let Some(tap) = &mut self.tap {
                    tap.ended(at);
                }
                if by_peer {
                    self.stats.counters.calls_ended_by_peer += 1;
                } else if clean {
                    self.stats.counters.calls_ended_cleanly += 1;
                    self.stats.teardown.record_ns(now_ns.saturating_sub(call.bye_ns));
                }
                call.phase = Phase::Free;
            }
            Output::Retransmitted => self.stats.counters.sip_retransmissions += 1,
            Output::RepeatedAnswer => self.stats.counters.sip_repeated_answers += 1,
        }
    }

    fn handle_answer(&mut self, at: usize, now_ns: u64, answer: &str) {
        let call = &mut self.calls[at];
        let remote = if self.plan.with_rtp { sdp::parse(answer).map(Some) } else { Ok(None) };
        match remote {
            Ok(remote) => {
                self.stats.counters.calls_answered += 1;
                self.stats.last_answer_ns = now_ns;
                self.stats.setup.record_ns(now_ns.saturating_sub(call.invite_ns));
                if let Some(remote) = remote {
                    call.adopt(remote);
                }
                call.phase = Phase::Talking;
                call.until_ns = match self.plan.hold_ns {
                    Some(hold_ns) => now_ns + hold_ns,
                    None if self.plan.with_rtp && !self.stopping => u64::MAX,
                    None => now_ns,
                };
                if !self.plan.with_rtp && call.until_ns <= now_ns {
                    self.leave(at, now_ns);
                }
            }
            Err(reason) => {
                self.stats.fail(reason.to_owned());
                call.phase = Phase::Leaving;
                call.uac.hang_up(now_ns, &mut self.outputs);
            }
        }
    }

    fn handle_offer(&mut self, at: usize, source: std::net::SocketAddr, message: &Message) {
        let parsed = sdp::parse(&message.body);
        let call = &mut self.calls[at];
        call.sdp_version += 1;
        let mut mode = "sendrecv";
        if let Ok(remote) = parsed {
            mode = match (remote.send, remote.receive) {
                (true, true) => "sendrecv",
                (true, false) => "sendonly",
                (false, true) => "recvonly",
                (false, false) => "inactive",
            };
            call.adopt(remote);
        }
        let (number, version, law) = (call.number, call.sdp_version, call.law());
        let laws = if parsed.is_ok() { vec![law] } else { self.plan.laws.clone() };
        let answer = self.offer(at, number, version, &laws, mode);
        self.calls[at].uac.answer_offer(source, message, &answer, &mut self.outputs);
    }

    fn receive_rtp(&mut self, offset_ns: i64) -> anyhow::Result<()> {
        let mut events = [EpollEvent::empty(); 128];
        // Level-triggered, one datagram an event: whoever has more comes again. Bounded like SIP.
        for _ in 0..64 {
            let count = match self.rtp_ready.wait(&mut events, EpollTimeout::ZERO) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                Err(error) => return Err(error).context("cannot ask for RTP"),
            };
            for event in &events[..count] {
                let at = (event.data() / 2) as usize;
                let call = &mut self.calls[at];
                let Some(media) = &mut call.media else { continue };
                let is_rtcp = event.data() % 2 == 1;
                let socket = if is_rtcp { &media.rtcp } else { &media.rtp };
                let Some(received) = self.buffer.receive(socket, offset_ns).context("cannot receive RTP")?
                else {
                    continue;
                };
                if is_rtcp {
                    self.stats.counters.rtcp_received += 1;
                    continue;
                }
                if let Some(dropped) = received.dropped {
                    self.stats.counters.instrument_drops += u64::from(dropped.wrapping_sub(media.dropped));
                    media.dropped = dropped;
                }
                self.stats.counters.user_timestamps += u64::from(!received.kernel_time);
                let datagram = &self.buffer.bytes[..received.len];
                let audio = call.handle_rtp(
                    received.arrival_ns,
                    received.source,
                    datagram,
                    &self.speech,
                    &mut self.stats,
                );
                if let (Some(tap), Some(audio)) = (&mut self.tap, audio) {
                    tap.received(at, audio, received.arrival_ns);
                }
            }
            if count < events.len() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn send_rtp(&mut self, due_ns: u64, tick: u64) {
        for &at in &self.wheel[tick as usize % SLOTS] {
            let call = &mut self.calls[at];
            if call.phase == Phase::Talking {
                let sent = call.send(due_ns, &mut self.stats);
                if let (Some(tap), Some(sent)) = (&mut self.tap, sent) {
                    tap.sent(at, sent.index, sent.payload(), sent.sent_ns);
                }
            }
        }
    }

    fn handle_timeouts(&mut self, now_ns: u64) {
        for at in 0..self.calls.len() {
            let call = &mut self.calls[at];
            match call.phase {
                Phase::Talking if now_ns >= call.until_ns => self.linger(at, now_ns),
                Phase::Lingering if now_ns >= call.until_ns => self.leave(at, now_ns),
                Phase::Setup if now_ns >= call.until_ns => {
                    call.phase = Phase::Leaving;
                    call.bye_ns = now_ns;
                    call.uac.hang_up(now_ns, &mut self.outputs);
                    self.handle_outputs(at, now_ns);
                }
                _ => {}
            }
            let call = &mut self.calls[at];
            if !call.uac.is_over() {
                call.uac.handle_timeout(now_ns, &mut self.outputs);
                self.handle_outputs(at, now_ns);
            }
        }
    }

    fn linger(&mut self, at: usize, now_ns: u64) {
        let call = &mut self.calls[at];
        call.phase = Phase::Lingering;
        call.until_ns = now_ns + if self.plan.with_rtp { self.plan.linger_ns } else { 0 };
    }

    fn leave(&mut self, at: usize, now_ns: u64) {
        let call = &mut self.calls[at];
        if self.plan.with_rtp {
            call.finish_media(now_ns, true, &mut self.stats);
        }
        if let Some(tap) = &mut self.tap {
            tap.ended(at);
        }
        call.phase = Phase::Leaving;
        call.bye_ns = clock::now_ns();
        call.uac.hang_up(now_ns, &mut self.outputs);
        self.handle_outputs(at, now_ns);
    }

    /// The run is over: calls end one after the other within a second, because a burst of BYEs would overflow the
    /// far end's SIP socket.
    fn stop(&mut self, now_ns: u64) {
        self.stopping = true;
        let apart_ns = self.plan.interval_ns.min(SECOND_NS / self.calls.len() as u64);
        for at in 0..self.calls.len() {
            match self.calls[at].phase {
                Phase::Talking => {
                    let until_ns = now_ns + at as u64 * apart_ns;
                    self.calls[at].until_ns = self.calls[at].until_ns.min(until_ns);
                }
                // An answer that is on its way is the shorter end: SIP has no CANCEL before a provisional response.
                Phase::Setup => self.calls[at].until_ns = now_ns + SECOND_NS,
                Phase::Free | Phase::Lingering | Phase::Leaving => {}
            }
        }
    }

    fn report(&mut self, progress: &Mutex<Progress>) {
        for call in self.calls.iter().filter(|call| call.phase == Phase::Talking) {
            call.sample_jitter(&mut self.stats);
        }
        let snapshot = Progress {
            counters: self.stats.counters,
            active: self
                .calls
                .iter()
                .filter(|call| matches!(call.phase, Phase::Talking | Phase::Lingering))
                .count() as u64,
            latency_p50_ms: self.stats.recent_latency.ms(50.0),
            latency_p99_ms: self.stats.recent_latency.ms(99.0),
            late_packets: self.stats.lateness.above_ms(self.plan.late_ms),
        };
        self.stats.recent_latency.reset();
        *progress.lock().expect("the progress printer does not panic") = snapshot;
    }
}

const TICK_NS: u64 = 500_000;
const SLOTS: usize = 40;
/// SIP timers and phases are looked at every 5 ms.
const TIMEOUT_TICKS: u64 = 10;
const SECOND_NS: u64 = 1_000_000_000;
const TIMER: u64 = 0;
const SIP: u64 = 1;
