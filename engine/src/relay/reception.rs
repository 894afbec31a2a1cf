//! What is known of one party's packets, in one cache line: RFC 3550 appendices A.1 (sequence), A.3 (loss) and A.8
//! (jitter), in user space and in the kernel as one account.

use super::kernel::KernelCounters;
use crate::rtp::{CLOCK_RATE_HZ, Header, TICK_NANOS};
use crate::time::{Duration, Instant};

/// The part that every packet writes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Reception {
    /// Bit `n` says that `highest - n` has come.
    seen: u128,
    /// Packets of every source, and their bytes with headers.
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) last_seen: Instant,
    /// Extended sequence numbers of the present source: its first and its highest.
    base: u32,
    highest: u32,
    pub(super) timestamp: u32,
    transit: u32,
    /// Sixteenths of a timestamp unit (appendix A.8).
    jitter_x16: u32,
    /// What would follow a number that was too far off.
    after_jump: u16,
    state: State,
}

/// What there is already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// No source.
    #[default]
    Nothing,
    /// A source, but nothing to measure jitter from.
    Source,
    /// All.
    Transit,
    /// All, and the last number was too far off.
    Jumped,
}

/// The part that only the unusual writes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct History {
    /// Packets that are not of the present source's account; negative for numbers that are, but were refused.
    outside: i64,
    /// Losses of the sources before.
    lost_before: i64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    /// Another SSRC of the same party, and the number that proves it.
    contender: Option<(u32, u16)>,
    /// Packets that were not sent on, and their bytes.
    pub(super) withheld_packets: u64,
    pub(super) withheld_bytes: u64,
    /// Packets that the kernel has forwarded.
    pub(super) in_kernel_packets: u64,
    /// The highest number that came up lately although the kernel forwards.
    beside: Option<(u16, Instant)>,
}

impl Reception {
    /// Takes the packet of the present source that follows the last; nothing else is needed for that. False, and
    /// nothing done, for any other.
    #[inline]
    pub(super) fn take_next(&mut self, now: Instant, header: &Header, len: usize) -> bool {
        let is_next = header.sequence_number.0 == (self.highest as u16).wrapping_add(1);
        if !is_next || self.state == State::Jumped {
            return false;
        }
        self.count(now, header, len);
        self.highest = self.highest.wrapping_add(1);
        self.seen = self.seen << 1 | 1;
        self.measure_jitter(now, header.timestamp);
        true
    }

    /// Takes a packet of the present source.
    pub(super) fn take(&mut self, now: Instant, header: &Header, len: usize, history: &mut History) {
        if !self.take_next(now, header, len) {
            self.count(now, header, len);
            self.place(header.sequence_number.0, history);
            self.measure_jitter(now, header.timestamp);
        }
    }

    /// Takes a packet that begins a source, or may be of another one. Returns whether its SSRC is the present one's.
    pub(super) fn take_other(
        &mut self,
        now: Instant,
        header: &Header,
        len: usize,
        is_new: bool,
        history: &mut History,
    ) -> bool {
        self.count(now, header, len);
        let number = header.sequence_number.0;
        let proven = history.contender == Some((header.ssrc, number));
        if self.state == State::Nothing || is_new || proven {
            self.restart(number, history);
            return true;
        }
        history.contender = Some((header.ssrc, number.wrapping_add(1)));
        history.outside += 1;
        false
    }

    /// Takes a packet that came up although the kernel forwards this direction; where it belongs is seen when the
    /// kernel's figures are known.
    pub(super) fn take_beside(&mut self, now: Instant, header: &Header, len: usize, history: &mut History) {
        self.count(now, header, len);
        let number = header.sequence_number.0;
        // One that was overtaken says nothing new.
        let is_behind = |highest: u16| number.wrapping_sub(highest).cast_signed() < 0;
        if !history.beside.is_some_and(|(highest, at)| is_behind(highest) && now - at < BESIDE_COUNTS) {
            history.beside = Some((number, now));
        }
    }

    /// A packet of the source that was refused, so that it does not count as lost.
    pub(super) fn pass_over(&mut self, number: u16, history: &mut History) {
        if self.state != State::Nothing {
            history.outside -= 1;
            self.place(number, history);
        }
    }

    /// Adds what the kernel has forwarded since it was told to.
    pub(super) fn absorb(&mut self, kernel: &KernelCounters, ssrc: &mut u32, history: &mut History) {
        let beside = history.beside.take();
        if kernel.packets == 0 {
            if let Some((number, _)) = beside {
                self.advance(number);
            }
            return;
        }
        let is_same = self.state != State::Nothing && *ssrc == kernel.ssrc;
        let ahead = kernel.first_sequence.wrapping_sub(self.highest as u16).cast_signed();
        let span = kernel.highest_sequence.wrapping_sub(u32::from(kernel.first_sequence));
        let is_near = ahead > -MAX_MISORDER && ahead < MAX_DROPOUT.cast_signed();
        if is_same && is_near {
            let reached = self.highest.wrapping_add_signed(i32::from(ahead)).wrapping_add(span);
            if reached.wrapping_sub(self.highest).cast_signed() > 0 {
                self.highest = reached;
            }
        } else {
            self.lost_into(history);
            history.outside = self.packets as i64;
            self.base = FIRST_CYCLE + u32::from(kernel.first_sequence);
            self.highest = self.base.wrapping_add(span);
            if !is_same {
                // Where in between the new source began is not known: it is counted from now on.
                history.outside += kernel.packets as i64 - 1;
                self.base = self.highest;
                *ssrc = kernel.ssrc;
            }
        }
        self.packets += kernel.packets;
        self.bytes += kernel.bytes;
        history.in_kernel_packets += kernel.packets;
        if kernel.packets >= ENOUGH_FOR_JITTER {
            self.jitter_x16 = kernel.jitter_x16;
        }
        let kernel_seen = kernel.last_seen.unwrap_or(Instant::ZERO);
        // What came up long before the kernel's last packet says nothing about what is highest now.
        if let Some((number, at)) = beside
            && kernel_seen.saturating_duration_since(at) < BESIDE_COUNTS
        {
            self.advance(number);
        }
        self.last_seen = self.last_seen.max(kernel_seen);
        (self.seen, self.state) = (1, State::Source);
    }

    /// Packets that never came (appendix A.3).
    pub(super) fn lost(&self, history: &History) -> i64 {
        if self.state == State::Nothing {
            return history.lost_before;
        }
        let expected = i64::from(self.highest.wrapping_sub(self.base)) + 1;
        history.lost_before + expected - (self.packets as i64 - history.outside)
    }

    /// Interarrival jitter.
    pub(super) fn jitter(&self) -> Duration {
        Duration::from_nanos(u64::from(self.jitter_x16) * TICK_NANOS / 16)
    }

    /// The highest sequence number of the present source.
    pub(super) fn last_sequence(&self) -> Option<u16> {
        (self.state != State::Nothing).then_some(self.highest as u16)
    }

    fn count(&mut self, now: Instant, header: &Header, len: usize) {
        self.packets += 1;
        self.bytes += len as u64;
        self.last_seen = now;
        self.timestamp = header.timestamp;
    }

    /// Any number but the next.
    fn place(&mut self, number: u16, history: &mut History) {
        let ahead = number.wrapping_sub(self.highest as u16);
        let behind = 0u16.wrapping_sub(ahead);
        if ahead == 0 {
            history.duplicates += 1;
        } else if ahead < MAX_DROPOUT {
            self.highest = self.highest.wrapping_add(u32::from(ahead));
            self.seen = self.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            self.forget_jump();
        } else if behind <= MAX_MISORDER.unsigned_abs() {
            let bit = 1u128 << behind;
            if self.seen & bit == 0 {
                history.reordered += 1;
            } else {
                history.duplicates += 1;
            }
            self.seen |= bit;
        } else if self.state == State::Jumped && self.after_jump == number {
            self.restart(number, history);
        } else {
            history.outside += 1;
            (self.state, self.after_jump) = (State::Jumped, number.wrapping_add(1));
        }
    }

    /// Another packet was the highest, if it was.
    fn advance(&mut self, number: u16) {
        let ahead = number.wrapping_sub(self.highest as u16);
        if self.state != State::Nothing && ahead < MAX_DROPOUT {
            self.highest = self.highest.wrapping_add(u32::from(ahead));
            self.seen = 1;
            self.state = State::Source;
        }
    }

    /// The packet just counted is the first of a new account.
    fn restart(&mut self, number: u16, history: &mut History) {
        if self.state != State::Nothing {
            // It is no part of the account that ends.
            history.outside += 1;
            self.lost_into(history);
        }
        history.outside = self.packets as i64 - 1;
        history.contender = None;
        self.base = FIRST_CYCLE + u32::from(number);
        (self.highest, self.seen, self.jitter_x16) = (self.base, 1, 0);
        self.state = State::Source;
    }

    fn lost_into(&mut self, history: &mut History) {
        history.lost_before = self.lost(history);
    }

    fn forget_jump(&mut self) {
        if self.state == State::Jumped {
            self.state = State::Transit;
        }
    }

    fn measure_jitter(&mut self, now: Instant, timestamp: u32) {
        if self.state == State::Jumped {
            return;
        }
        let transit = ((now.as_nanos() / TICK_NANOS) as u32).wrapping_sub(timestamp);
        let before = std::mem::replace(&mut self.transit, transit);
        if self.state == State::Source {
            self.state = State::Transit;
            return;
        }
        let distance = transit.wrapping_sub(before).cast_signed().unsigned_abs();
        // A timestamp that jumps is a new timeline, not jitter.
        if distance < CLOCK_RATE_HZ {
            self.jitter_x16 = self.jitter_x16 + distance - ((self.jitter_x16 + 8) >> 4);
        }
    }
}

/// A gap that is still believed to be loss.
const MAX_DROPOUT: u16 = 3000;
/// How late a packet may come and still be of the same line.
const MAX_MISORDER: i16 = 100;
/// So that numbers before the first have a place.
const FIRST_CYCLE: u32 = 1 << 16;
/// Jitter is a mean over sixteen packets.
const ENOUGH_FOR_JITTER: u64 = 16;
const BESIDE_COUNTS: Duration = Duration::from_secs(1);

const _: () = assert!(size_of::<Reception>() == 64, "one cache line");

#[cfg(test)]
mod tests;
