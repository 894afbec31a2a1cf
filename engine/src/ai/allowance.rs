//! How much of what a backend says is read: as much as a queue can hold at once, then many times what can be played. The
//! rest waits at the backend, by TCP, and costs the other streams of its thread no time.

use super::link::monotonic_now;
use crate::time::{Duration, Instant};

/// A bucket of bytes that fills up with time: a megabyte per second, fifteen times what audio in messages of 20 ms takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Below zero after a message that was longer than what was left.
    left: i64,
    filled: Instant,
    burst: i64,
    held_up: bool,
}

impl Allowance {
    /// A full one, for a stream.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST_BYTES, filled: now, burst: BURST_BYTES, held_up: false }
    }

    /// For the end of a connection, where a backend is only read so that it is not cut off in the middle of a word.
    pub(super) fn at_the_end(now: Instant) -> Self {
        Self { left: LAST_BYTES, burst: LAST_BYTES, ..Self::new(now) }
    }

    /// Waits until there is a slice, and lets others have their turn before it.
    pub(super) async fn next_slice(&mut self) -> usize {
        tokio::task::yield_now().await;
        loop {
            match self.slice(monotonic_now) {
                0 => tokio::time::sleep(PAUSE).await,
                slice => return slice,
            }
        }
    }

    /// How much may be read before others get their turn. The clock is asked only when little is left.
    pub(super) fn slice(&mut self, now: impl FnOnce() -> Instant) -> usize {
        if self.left < SLICE_BYTES {
            // A byte per microsecond; what is less than one is not forgotten.
            let gained = now().saturating_duration_since(self.filled).as_micros().min(1 << 40) as u64;
            self.filled += Duration::from_micros(gained);
            self.left = (self.left + gained as i64).min(self.burst);
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
/// What may be on its way when a connection ends.
const LAST_BYTES: i64 = 1 << 20;
const PAUSE: Duration = Duration::from_millis(10);
const SLICE_BYTES: i64 = 16 << 10;
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
        // What a millisecond adds is no message more.
        assert!(read_in(&mut allowance, 1, 1, 300) <= 1);
    }

    #[test]
    fn a_flood_is_read_at_a_steady_pace_whatever_its_messages_are() {
        for len in [0, 300, 64 << 10, 1 << 20] {
            let mut allowance = Allowance::new(Instant::ZERO);
            read_in(&mut allowance, 0, 1, len);
            let bytes = read_in(&mut allowance, 1, 10_000, len) * (len + MESSAGE_COST_BYTES);
            let expected = 10_000_000_usize;
            // Messages are read whole, at both ends.
            assert!(bytes.abs_diff(expected) <= 2 * (len + (17 << 10)), "{len}: {bytes}");
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
