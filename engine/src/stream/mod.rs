//! A stream: one RTP session with one remote party (RFC 3550), its codec, its clock and the app that
//! hears and feeds it. Sans-IO.
//!
//! ```text
//!  handle_packet -> source filter -> sequence -> jitter buffer --+           +--> RTP -> poll_transmit
//!        |               |                          DTMF --------+--> App ---+
//!        +-> RTCP        +-> strangers, counted     handle_timeout, each ptime
//! ```
//!
//! After any input or mutator the owner drains [`Stream::poll_transmit`] and [`Stream::poll_event`] and
//! reads [`Stream::poll_timeout`]. One timeout makes at most two frames; a worker that is late catches up two
//! by two, and one that is very late moves the timeline instead. A frame whose audio is late by a few milliseconds
//! waits for it, and those after it keep their time.

mod frame;
mod keys;
mod parameters;
mod receive;
mod refusal;
mod report;
mod send;
mod taps;

use std::net::SocketAddr;

use crate::ai::AiPort;
use crate::command::Digit;
use crate::config::InbandDtmf;
use crate::dtmf::DtmfSender;
use crate::jitter::FrameClock;
use crate::player::Player;
use crate::rtp::{self, Packet};
use crate::source::{Permission, SilentPeerGuard, SourceFilter, Verdict};
use crate::time::{Duration, Instant, WallClock};
use frame::AiEar;
use keys::{ToldKeys, ToneReceiver, ToneSender};
use receive::{Payload, Receiver};
use report::Reports;
use send::Sender;

pub use crate::codec::Codec;
pub use crate::source::SourcePolicy;
pub use parameters::{Direction, Format, Formats, StreamParameters, TelephoneEventFormat};
pub use refusal::{Refusal, Refusals};

/// Which of a stream's two local ports a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Media, and with `rtcp_mux` RTCP too.
    Rtp,
    /// RTCP on its own port.
    Rtcp,
}

/// One packet to send, already written to the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From which local port.
    pub component: Component,
    /// To whom.
    pub remote: SocketAddr,
    /// How many bytes of the buffer.
    pub len: usize,
}

/// What the caller hears, and who hears the caller.
#[derive(Debug, Default)]
pub enum App {
    /// Silence, and nobody listens.
    #[default]
    Silence,
    /// The caller hears themselves.
    Echo,
    /// Recorded audio.
    Player(Box<Player>),
    /// An AI backend.
    Ai(Box<AiPort>),
}

/// What was really played of something queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayoutReport {
    /// Samples handed to RTP.
    pub played_samples: u64,
    /// Where in all that was queued the playout stood. More than what was played, if some was left out.
    pub position: u64,
    /// The RTP timestamp of the moment: that of the sample at `position`, had it been played now.
    pub rtp_timestamp: u32,
    /// Whether everything was played.
    pub complete: bool,
}

/// A stream's figures. Cumulative since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamStatistics {
    /// RTP packets accepted.
    pub received_packets: u64,
    /// Their payload bytes.
    pub received_bytes: u64,
    /// Packets that never came (RFC 3550 appendix A.3).
    pub lost_packets: i64,
    /// Packets that came twice.
    pub duplicate_packets: u64,
    /// Packets that came after a later one.
    pub reordered_packets: u64,
    /// Packets that came after their turn to be played.
    pub late_packets: u64,
    /// Packets refused, by any reason.
    pub refused_packets: u64,
    /// Packets from strangers.
    pub stranger_packets: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter: Duration,
    /// Round-trip time from the last receiver report, if any.
    pub round_trip: Option<Duration>,
    /// RTP packets sent.
    pub sent_packets: u64,
    /// Their payload bytes.
    pub sent_bytes: u64,
    /// What the peer's last receiver report says it lost.
    pub remote_lost_packets: i64,
    /// The peer's interarrival jitter.
    pub remote_jitter: Duration,
    /// Frames that concealment made up.
    pub concealed_frames: u64,
    /// Audio in the jitter buffer now.
    pub jitter_buffer: Duration,
    /// DTMF digits received, as telephone-events or as tones.
    pub digits_received: u64,
    /// Those of them that were tones.
    pub digits_inband: u64,
    /// Digits that were not told because they had come in another way, or from us.
    pub digits_repeated: u64,
    /// Why packets were refused.
    pub refusals: Refusals,
}

/// What happened in a stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// The source of the media is locked.
    Latched(SocketAddr),
    /// The peer pressed and released a key.
    Dtmf {
        /// The key.
        digit: Digit,
        /// How long it was down.
        duration: Duration,
        /// It came as tones in the audio.
        inband: bool,
    },
    /// The player is done.
    PlayFinished(PlayoutReport),
    /// No packet for too long.
    MediaTimeout,
    /// RTCP BYE arrived.
    RemoteBye,
}

/// What a stream needs to know beside what was negotiated.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// How long media may go to an address from which nothing ever came.
    pub silent_peer_limit: Duration,
    /// Whether keys are tones in the audio.
    pub inband_dtmf: InbandDtmf,
    /// Makes SSRC, first sequence number and timestamp, and RTCP intervals; random if `None`. For tests.
    pub seed: Option<u64>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { silent_peer_limit: Duration::from_secs(10), inband_dtmf: InbandDtmf::default(), seed: None }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Stream {
    parameters: StreamParameters,
    filter: SourceFilter,
    receiver: Receiver,
    sender: Sender,
    inband_dtmf: InbandDtmf,
    tones: ToneReceiver,
    dtmf_sender: DtmfSender,
    tone_sender: ToneSender,
    told: ToldKeys,
    reports: Reports,
    /// Where valid RTCP came from last.
    rtcp_source: Option<SocketAddr>,
    app: App,
    ear: AiEar,
    taps: crate::ai::tap::Taps,
    player_reported: bool,
    ai_wakeup: Option<u8>,
    events: Events,
    refusals: Refusals,
    digits_received: u64,
    digits_inband: u64,
    digits_repeated: u64,
    now: Instant,
    last_tick: Instant,
    /// `None` before the start and after the end.
    next_tick: Option<Instant>,
    /// Until when the frame that is due waits for its audio.
    waiting: Option<Instant>,
    /// When overdue frames go on, so that they are no burst.
    resume: Option<Instant>,
    last_align: Option<Instant>,
    last_heard: Instant,
    silence_reported: bool,
}

impl Stream {
    /// Makes a stream with all the memory it will ever need, about 40 kB.
    #[must_use]
    pub fn new(parameters: StreamParameters) -> Box<Self> {
        Self::with_options(parameters, StreamOptions::default())
    }

    /// The same with options.
    #[must_use]
    pub fn with_options(parameters: StreamParameters, options: StreamOptions) -> Box<Self> {
        let seed = options.seed.unwrap_or_else(random_seed);
        let numbers = report::next_random(seed);
        let ssrc = (report::next_random(numbers) >> 32) as u32;
        let (sequence, timestamp) = ((numbers >> 48) as u16, numbers as u32);
        let guard = SilentPeerGuard::new(options.silent_peer_limit, parameters.remote_rtp);
        Box::new(Self {
            filter: SourceFilter::new(parameters.source_policy, parameters.remote_rtp),
            parameters,
            receiver: Receiver::new(),
            sender: Sender::new(ssrc, sequence, timestamp, guard),
            inband_dtmf: options.inband_dtmf,
            tones: ToneReceiver::new(),
            dtmf_sender: DtmfSender::new(),
            tone_sender: ToneSender::default(),
            told: ToldKeys::default(),
            reports: Reports::new(seed.rotate_left(32)),
            rtcp_source: None,
            app: App::Silence,
            ear: AiEar::new(),
            taps: Default::default(),
            player_reported: false,
            ai_wakeup: None,
            events: Events::default(),
            refusals: Refusals::default(),
            digits_received: 0,
            digits_inband: 0,
            digits_repeated: 0,
            now: Instant::ZERO,
            last_tick: Instant::ZERO,
            next_tick: None,
            waiting: None,
            resume: None,
            last_align: None,
            last_heard: Instant::ZERO,
            silence_reported: false,
        })
    }

    /// Starts the clocks. Called once by the worker when the sockets are open.
    pub fn start(&mut self, now: Instant, wall: WallClock) {
        (self.now, self.last_tick, self.last_heard) = (now, now, now);
        self.next_tick = Some(now + self.frame_duration());
        self.reports.start(now, wall);
    }

    /// A packet came from `remote`.
    pub fn handle_packet(&mut self, now: Instant, on: Component, remote: SocketAddr, packet: &mut [u8]) {
        self.now = now;
        let Some(next_tick) = self.next_tick else { return self.refusals.add(Refusal::NotRunning) };
        let is_rtcp = on == Component::Rtcp || (self.parameters.rtcp_mux && rtp::is_rtcp(packet));
        let taken = if is_rtcp {
            self.handle_rtcp(now, remote, packet)
        } else {
            self.handle_rtp(now, remote, packet, next_tick)
        };
        if let Err(refusal) = taken {
            self.refusals.add(refusal);
        }
    }

    /// The deadline of [`Stream::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.reports.handle_timeout(now);
        if self.resume.is_some_and(|resume| now < resume) {
            return;
        }
        self.resume = None;
        for _ in 0..FRAMES_PER_TIMEOUT {
            let Some(tick) = self.next_tick.filter(|&tick| tick <= now) else { return };
            self.waiting = self.patience(now, tick);
            if self.waiting.is_some() {
                return;
            }
            self.run_frame(tick);
            let samples = self.frame_samples();
            let slew = self.receiver.slew(tick, samples);
            let next = (tick + self.frame_duration()).as_nanos().saturating_add_signed(slew);
            self.last_tick = tick;
            self.next_tick = Some(Instant::from_nanos(next));
        }
        if let Some(tick) = self.next_tick.filter(|&tick| tick <= now) {
            if now - tick <= CATCH_UP {
                self.resume = Some(now + self.frame_duration() / 2);
                return;
            }
            let frame = self.frame_duration().as_nanos() as u64;
            let missed = (now - tick).as_nanos() as u64 / frame + 1;
            self.skip_frames(tick, missed);
            self.next_tick = Some(Instant::from_nanos(tick.as_nanos() + missed * frame));
        }
    }

    /// Where the peer said that it receives RTP, which is as a rule where it sends from.
    pub(crate) fn remote_rtp(&self) -> Option<SocketAddr> {
        self.parameters.remote_rtp
    }

    /// Applies a new offer/answer outcome.
    pub fn update(&mut self, now: Instant, parameters: StreamParameters) {
        self.now = now;
        let before = std::mem::replace(&mut self.parameters, parameters);
        if self.filter.retarget(parameters.source_policy, parameters.remote_rtp) {
            self.sender.retarget(parameters.remote_rtp);
            self.rtcp_source = None;
        }
        if before.direction.receives() != parameters.direction.receives() {
            self.receiver.hold();
            self.last_heard = now;
            self.silence_reported = false;
        }
    }

    /// Replaces the app and returns the former one. A player that was not done is reported first.
    pub fn attach(&mut self, now: Instant, app: App) -> App {
        self.now = now;
        if let Some(report) = self.player_report() {
            self.push_event(StreamEvent::PlayFinished(report));
        }
        self.player_reported = false;
        self.ear.clear();
        std::mem::replace(&mut self.app, app)
    }

    /// Ends the stream: queues RTCP BYE for the last `poll_transmit`.
    pub fn close(&mut self, now: Instant) {
        self.now = now;
        if let Some(report) = self.player_report() {
            self.push_event(StreamEvent::PlayFinished(report));
        }
        (self.next_tick, self.waiting, self.resume) = (None, None, None);
        self.reports.close(&self.sender);
    }

    /// Writes the next packet to send to `buffer` (at least [`xdp::MAX_DATAGRAM_BYTES`]).
    #[must_use]
    pub fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        if let Some((remote, len)) = self.sender.poll(buffer) {
            return Some(Transmit { component: Component::Rtp, remote, len });
        }
        if !self.reports.take_due() {
            return None;
        }
        let (rtp, remote) = (self.rtp_destination()?, self.rtcp_destination()?);
        for remote in [rtp, remote] {
            if self.sender.may_send_to(self.now, remote) != Permission::Granted {
                return None;
            }
        }
        let len = self.reports.write(self.now, self.last_tick, &self.sender, &mut self.receiver, buffer)?;
        let component = if self.parameters.rtcp_mux { Component::Rtp } else { Component::Rtcp };
        Some(Transmit { component, remote, len })
    }

    /// The next thing that happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<StreamEvent> {
        self.events.pop()
    }

    /// When to call [`Stream::handle_timeout`] next: the next frame, or a report before that.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let tick = self.waiting.or(self.next_tick).max(self.resume);
        match (tick, self.reports.next()) {
            (Some(tick), Some(report)) => Some(tick.min(report)),
            (tick, report) => tick.or(report),
        }
    }

    /// The index of the AI thread to wake because its stream has something to read, once.
    #[must_use]
    pub fn take_ai_wakeup(&mut self) -> Option<u8> {
        self.ai_wakeup.take()
    }

    /// The locked source of media.
    #[must_use]
    pub fn latched(&self) -> Option<SocketAddr> {
        self.filter.locked()
    }

    /// The locked source once no other packet can change it, for [`xdp::Device::connect`].
    #[must_use]
    pub fn settled(&self) -> Option<SocketAddr> {
        self.filter.locked().filter(|_| self.filter.is_settled(self.now))
    }

    /// Whether RTCP shares the RTP port, so that no second port is opened.
    #[must_use]
    pub fn rtcp_mux(&self) -> bool {
        self.parameters.rtcp_mux
    }

    /// The figures now.
    #[must_use]
    pub fn statistics(&self) -> StreamStatistics {
        let mut statistics = StreamStatistics {
            refused_packets: self.refusals.packets(),
            stranger_packets: self.refusals.count(Refusal::Stranger),
            sent_packets: self.sender.packets(),
            sent_bytes: self.sender.bytes(),
            digits_received: self.digits_received,
            digits_inband: self.digits_inband,
            digits_repeated: self.digits_repeated,
            refusals: self.refusals,
            ..StreamStatistics::default()
        };
        self.receiver.fill(&mut statistics, self.next_tick);
        self.reports.fill(&mut statistics);
        statistics
    }

    fn handle_rtp(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        datagram: &[u8],
        next_tick: Instant,
    ) -> Result<(), Refusal> {
        let packet = Packet::parse(datagram)?;
        let header = packet.header();
        let Some(payload) = Payload::of(header.payload_type, &self.parameters) else {
            if self.filter.is_source(remote) {
                self.receiver.handle_useless(&header);
            }
            return Err(Refusal::PayloadType);
        };
        if !self.parameters.direction.receives() {
            if !self.filter.is_source(remote) {
                return Err(Refusal::Stranger);
            }
            self.handle_heard(now, remote);
            self.receiver.handle_useless(&header);
            return Err(Refusal::NotReceiving);
        }
        let verdict = self.filter.judge(now, remote, &header);
        match verdict {
            Verdict::Believed => {}
            Verdict::Locked => self.push_event(StreamEvent::Latched(remote)),
            Verdict::Learning => return Err(Refusal::Learning),
            Verdict::Stranger => return Err(Refusal::Stranger),
        }
        let clock = FrameClock { next: next_tick, samples: self.frame_samples() };
        let restart = verdict == Verdict::Locked;
        // A worker that is late reads late, too; but what it reads is in time for the frame that is due.
        let arrived = if self.waiting.is_some() { now } else { now.min(next_tick) };
        let received = self.receiver.handle_packet(now, arrived, &packet, payload, clock, restart)?;
        self.handle_heard(now, remote);
        if self.waiting.is_some() && !self.receiver.is_short(now, clock.samples) {
            self.waiting = Some(now);
        }
        if let Some(moment) = received.align {
            self.align(now, moment);
        }
        for digit in received.digits.into_iter().flatten() {
            self.handle_digit(digit);
        }
        Ok(())
    }

    fn handle_rtcp(&mut self, now: Instant, remote: SocketAddr, datagram: &[u8]) -> Result<(), Refusal> {
        if !self.filter.believes_rtcp(remote, self.parameters.remote_rtcp) {
            return Err(Refusal::RtcpStranger);
        }
        let left = self.reports.handle_packet(now, datagram, self.sender.ssrc(), &mut self.receiver)?;
        self.rtcp_source = Some(remote);
        // Reports prove that somebody is there, but only at the host that they come from: signalling may have
        // named one host for RTCP and another, who never asked for it, for media.
        let media = self.rtp_destination().map(|media| media.ip().to_canonical());
        if media.is_none_or(|media| media == remote.ip().to_canonical()) {
            self.handle_heard(now, remote);
        }
        if left {
            self.push_event(StreamEvent::RemoteBye);
        }
        Ok(())
    }

    /// Moves the tick so that a packet waits no longer than it must; not again and again, because each
    /// move may bring one frame forward.
    fn align(&mut self, now: Instant, moment: Instant) {
        let recently = self.last_align.is_some_and(|last| now.saturating_duration_since(last) < ALIGN_PAUSE);
        if !recently && self.next_tick.is_some() {
            self.last_align = Some(now);
            (self.next_tick, self.waiting, self.resume) = (Some(moment), None, None);
            self.receiver.align();
        }
    }

    /// Until when the frame of `tick` shall wait for audio that is late, if it shall: rather than make audio
    /// up and play the real one after it, send a packet that is late by as much.
    fn patience(&self, now: Instant, tick: Instant) -> Option<Instant> {
        let until = tick + PATIENCE.min(self.frame_duration() / 2);
        let hears = matches!(self.app, App::Echo | App::Ai(_)) && self.parameters.direction.receives();
        (hears && now < until && self.receiver.is_short(now, self.frame_samples())).then_some(until)
    }

    fn handle_heard(&mut self, now: Instant, remote: SocketAddr) {
        self.last_heard = now;
        self.silence_reported = false;
        self.sender.handle_heard(remote);
    }

    /// Symmetric RTP (RFC 4961): back to the source once it is known.
    fn rtp_destination(&self) -> Option<SocketAddr> {
        self.parameters.remote_rtp.map(|signalled| self.filter.locked().unwrap_or(signalled))
    }

    fn rtcp_destination(&self) -> Option<SocketAddr> {
        let signalled = self.parameters.remote_rtcp?;
        if self.parameters.rtcp_mux {
            return self.rtp_destination();
        }
        let behind_nat = match (self.filter.locked(), self.parameters.remote_rtp) {
            (Some(locked), Some(rtp)) => locked.ip() != rtp.ip().to_canonical(),
            _ => false,
        };
        let port = self.filter.locked().and_then(|locked| locked.port().checked_add(1));
        match (self.rtcp_source, self.filter.locked(), port) {
            (Some(source), ..) => Some(source),
            (None, Some(locked), Some(port)) if behind_nat => Some(SocketAddr::new(locked.ip(), port)),
            // Another host than that of the media has to speak first.
            _ => self.parameters.remote_rtp.filter(|rtp| rtp.ip() == signalled.ip()).and(Some(signalled)),
        }
    }

    fn push_event(&mut self, event: StreamEvent) {
        // What a call may wait for finds room whatever the peer has sent.
        let vital = matches!(event, StreamEvent::PlayFinished(_) | StreamEvent::MediaTimeout);
        if !self.events.push(event, if vital { 0 } else { Events::RESERVED }) {
            self.refusals.add(Refusal::QueueFull);
        }
    }
}

/// A bounded queue of events.
#[derive(Debug, Default)]
struct Events {
    queue: [Option<StreamEvent>; Self::CAPACITY],
    first: usize,
    count: usize,
}

impl Events {
    const CAPACITY: usize = 16;
    const RESERVED: usize = 4;

    /// False if no more than `reserved` places are left.
    fn push(&mut self, event: StreamEvent, reserved: usize) -> bool {
        if self.count + reserved >= Self::CAPACITY {
            return false;
        }
        self.queue[(self.first + self.count) % Self::CAPACITY] = Some(event);
        self.count += 1;
        true
    }

    fn pop(&mut self) -> Option<StreamEvent> {
        let event = self.queue[self.first].take()?;
        self.first = (self.first + 1) % Self::CAPACITY;
        self.count -= 1;
        Some(event)
    }
}

fn random_seed() -> u64 {
    getrandom::u64().expect("the operating system gives random numbers")
}

const FRAMES_PER_TIMEOUT: usize = 2;
/// Frames overdue by more are not sent any more.
const CATCH_UP: Duration = Duration::from_millis(160);
const ALIGN_PAUSE: Duration = Duration::from_secs(1);
/// The most that a frame waits for late audio.
const PATIENCE: Duration = Duration::from_millis(10);
