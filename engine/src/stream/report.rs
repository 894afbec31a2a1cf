//! RTCP of one stream: when to report, what to say, what the peer said (RFC 3550 sections 6.3 and 6.4).

use super::receive::Receiver;
use super::send::Sender;
use crate::rtp::rtcp::{Compound, CompoundWriter, Packet, ReportBlock, SenderInfo};
use crate::rtp::rtcp::{first_interval, report_interval};
use crate::rtp::{RejectReason, TICK_NANOS};
use crate::time::{Duration, Instant, WallClock};

/// The reports of one stream.
#[derive(Debug)]
pub(super) struct Reports {
    canonical_name: [u8; CANONICAL_NAME_BYTES],
    random: u64,
    wall: WallClock,
    next: Option<Instant>,
    due: bool,
    bye: bool,
    /// RTP packets sent when the last report went out, for the choice between SR and RR.
    packets_at_report: u64,
    round_trip: Option<Duration>,
    remote_lost: i64,
    remote_jitter: Duration,
}

impl Reports {
    /// `random` makes the CNAME (RFC 7022: it says nothing about the user) and the intervals.
    pub(super) fn new(random: u64) -> Self {
        let mut name = [0; CANONICAL_NAME_BYTES];
        let mut state = random;
        for byte in &mut name {
            state = next_random(state);
            *byte = b"0123456789abcdef"[(state >> 60) as usize];
        }
        Self {
            canonical_name: name,
            random: state,
            wall: WallClock::default(),
            next: None,
            due: false,
            bye: false,
            packets_at_report: 0,
            round_trip: None,
            remote_lost: 0,
            remote_jitter: Duration::ZERO,
        }
    }

    /// Starts the interval to the first report.
    pub(super) fn start(&mut self, now: Instant, wall: WallClock) {
        self.wall = wall;
        self.random = next_random(self.random);
        self.next = Some(now + first_interval(self.random >> 32));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.next.is_some_and(|next| next <= now) {
            self.due = true;
            self.random = next_random(self.random);
            self.next = Some(now + report_interval(self.random >> 32));
        }
    }

    /// The stream ends; the last report says BYE if anybody has heard of us at all (section 6.3.7).
    pub(super) fn close(&mut self, sender: &Sender) {
        self.next = None;
        self.due = false;
        self.bye = sender.packets() > 0;
    }

    /// Whether [`Reports::write`] has something to say; asked once per report.
    pub(super) fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.due) | self.bye
    }

    /// Writes SR or RR, SDES and perhaps BYE.
    pub(super) fn write(
        &mut self,
        now: Instant,
        last_tick: Instant,
        sender: &Sender,
        receiver: &mut Receiver,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let ssrc = sender.ssrc();
        let block = receiver.take_report(now);
        let writer = CompoundWriter::new(buffer);
        // A sender is who has sent since the report before (section 6.4).
        let writer = if sender.packets() > self.packets_at_report {
            let since_tick = (now.saturating_duration_since(last_tick).as_nanos() as u64 / TICK_NANOS) as u32;
            let info = SenderInfo {
                ntp: self.ntp(now),
                rtp_timestamp: sender.timestamp().wrapping_add(since_tick),
                packets: sender.packets() as u32,
                octets: sender.bytes() as u32,
            };
            writer.sender_report(ssrc, &info, block.as_ref())
        } else {
            writer.receiver_report(ssrc, block.as_ref())
        };
        self.packets_at_report = sender.packets();
        let writer = writer.canonical_name(ssrc, &self.canonical_name);
        if std::mem::take(&mut self.bye) { writer.bye(ssrc).finish() } else { writer.finish() }
    }

    /// Takes a compound packet of the believed peer; returns whether the source that is heard left.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        datagram: &[u8],
        own_ssrc: u32,
        receiver: &mut Receiver,
    ) -> Result<bool, RejectReason> {
        let mut left = false;
        for packet in Compound::parse(datagram)?.packets() {
            match packet {
                Packet::SenderReport { ssrc, info, blocks } => {
                    receiver.handle_sender_report(now, ssrc, info.middle_of_ntp());
                    blocks.iter().for_each(|block| self.handle_block(now, own_ssrc, &block));
                }
                Packet::ReceiverReport { blocks, .. } => {
                    blocks.iter().for_each(|block| self.handle_block(now, own_ssrc, &block));
                }
                Packet::Bye { sources } => left |= receiver.ssrc().is_some_and(|ssrc| sources.contains(ssrc)),
                Packet::SourceDescription => {}
            }
        }
        Ok(left)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn fill(&self, statistics: &mut super::StreamStatistics) {
        statistics.round_trip = self.round_trip;
        statistics.remote_lost_packets = self.remote_lost;
        statistics.remote_jitter = self.remote_jitter;
    }

    fn handle_block(&mut self, now: Instant, own_ssrc: u32, block: &ReportBlock) {
        if block.ssrc != own_ssrc {
            return;
        }
        self.remote_lost = i64::from(block.cumulative_lost);
        self.remote_jitter = Duration::from_nanos(u64::from(block.jitter) * TICK_NANOS);
        let middle_of_ntp = (self.ntp(now) >> 16) as u32;
        if let Some(units) = block.round_trip(middle_of_ntp).filter(|&units| units < LONGEST_ROUND_TRIP) {
            self.round_trip = Some(Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16));
        }
    }

    /// Seconds since 1900 and their fraction (section 4).
    fn ntp(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.wall.at).as_nanos() as u64;
        let unix = self.wall.unix_nanos.saturating_add(since);
        let seconds = (unix / 1_000_000_000).wrapping_add(SECONDS_1900_TO_1970);
        let fraction = ((unix % 1_000_000_000) << 32) / 1_000_000_000;
        seconds << 32 | fraction
    }
}

/// SplitMix64.
pub(super) fn next_random(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 96 bits in hexadecimal (RFC 7022 section 4.2).
const CANONICAL_NAME_BYTES: usize = 24;
const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
/// A minute: a peer that says more is confused or lies.
const LONGEST_ROUND_TRIP: u32 = 60 << 16;
