//! How much of what a backend says is read: as much as a queue can hold at once, then many times what can be played. The
//! rest waits at the backend, by TCP, and costs the other streams of its thread no time.

use crate::time::{Duration, Instant};

/// A bucket of bytes that fills up with time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Below zero after a message that was longer than what was left.
    left: i64,
    filled: Instant,
    held_up: bool,
}

impl Allowance {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST_BYTES, filled: now, held_up: false }
    }

    /// How much may be read before others get their turn. The clock is asked only when little is left.
    pub(super) fn slice(&mut self, now: impl FnOnce() -> Instant) -> usize {
        if self.left < SLICE_BYTES {
            let now = now();
            let since = now.saturating_duration_since(self.filled).min(FILL_TIME);
            self.left = (self.left + since.as_micros() as i64 * BYTES_PER_MS / 1000).min(BURST_BYTES);
            self.filled = now;
        }
        self.left.clamp(0, SLICE_BYTES) as usize
    }

    /// A message of so many bytes was read: what it takes of a slice.
    pub(super) fn spend(&mut self, len: usize) -> usize {
        let cost = len + MESSAGE_COST_BYTES;
        self.left -= cost as i64;
        cost
    }

    /// There was no slice left. True the first time since everything had been read.
    pub(super) fn hold_up(&mut self) -> bool {
        !std::mem::replace(&mut self.held_up, true)
    }

    /// Everything that came has been read.
    pub(super) fn catch_up(&mut self) {
        self.held_up = false;
    }
}

/// Two minutes of audio in messages of 20 ms.
const BURST_BYTES: i64 = 8 << 20;
/// Fifteen times what such messages take in real time.
const BYTES_PER_MS: i64 = 1 << 10;
const FILL_TIME: Duration = Duration::from_millis((BURST_BYTES / BYTES_PER_MS) as u64);
const SLICE_BYTES: i64 = 64 << 10;
/// What a message costs besides its bytes, so that many tiny ones use it up too.
const MESSAGE_COST_BYTES: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of `len` bytes read within a time, by one who looks again and again.
    fn read_in(allowance: &mut Allowance, from_ms: u64, time_ms: u64, len: usize) -> usize {
        let mut read = 0;
        for us in (from_ms * 1000..(from_ms + time_ms) * 1000).step_by(50) {
            loop {
                let mut slice = allowance.slice(|| Instant::from_nanos(us * 1000));
                if slice == 0 {
                    break;
                }
                while slice > 0 {
                    slice = slice.saturating_sub(allowance.spend(len));
                    read += 1;
                }
            }
        }
        read
    }

    #[test]
    fn what_a_queue_can_hold_is_read_at_once() {
        let mut allowance = Allowance::new(Instant::ZERO);
        let two_minutes = read_in(&mut allowance, 0, 1, 300);
        assert!((6_000..7_000).contains(&two_minutes), "{two_minutes}");
        assert_eq!(read_in(&mut allowance, 0, 1, 300), 0);
    }

    #[test]
    fn a_flood_is_read_at_a_steady_pace_whatever_its_messages_are() {
        for len in [0, 300, 64 << 10, 1 << 20] {
            let mut allowance = Allowance::new(Instant::ZERO);
            read_in(&mut allowance, 0, 1, len);
            let bytes = read_in(&mut allowance, 1, 10_000, len) * (len + MESSAGE_COST_BYTES);
            let expected = 10_000 * BYTES_PER_MS as usize;
            // A message is read whole.
            assert!(bytes.abs_diff(expected) <= len + (64 << 10), "{len}: {bytes}");
        }
    }

    #[test]
    fn a_pause_fills_it_again_and_is_held_up_anew() {
        let mut allowance = Allowance::new(Instant::ZERO);
        let first = read_in(&mut allowance, 0, 1, 300);
        assert!(allowance.hold_up() && !allowance.hold_up());
        allowance.catch_up();
        assert_eq!(read_in(&mut allowance, 3_600_000, 1, 300), first);
        assert!(allowance.hold_up());
    }
}
