//! Lines that strangers can cause, at a bounded rate.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a few lines of one kind through and then one at a time; the others are counted.
#[derive(Debug)]
pub(crate) struct Quiet {
    burst: u32,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: u32,
    next: Option<Instant>,
    suppressed: u64,
}

impl Quiet {
    /// `burst` lines at once, and one more each `interval`.
    pub(crate) const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, state: Mutex::new(State { left: burst, next: None, suppressed: 0 }) }
    }

    /// Warnings: what goes wrong once may go wrong for every call.
    pub(crate) const fn warnings() -> Self {
        Self::new(10, Duration::from_secs(60))
    }

    /// Whether a line may be written now, and how many were left out since the last.
    pub(crate) fn allows(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = *state.next.get_or_insert(now + self.interval);
        while now >= next && state.left < self.burst {
            state.left += 1;
            next += self.interval;
        }
        state.next = Some(if now >= next { now + self.interval } else { next });
        if state.left == 0 {
            state.suppressed += 1;
            return None;
        }
        state.left -= 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_passes_and_then_one_line_at_a_time() {
        let quiet = Quiet::new(3, Duration::from_secs(60));
        let start = Instant::now();
        let lines =
            |at: Instant, tries: usize| (0..tries).filter_map(|_| quiet.allows(at)).collect::<Vec<_>>();
        assert_eq!(lines(start, 1000), [0, 0, 0]);
        assert!(lines(start + Duration::from_secs(59), 10).is_empty());
        assert_eq!(lines(start + Duration::from_secs(61), 10), [1007]);
        assert_eq!(lines(start + Duration::from_secs(3600), 10), [9, 0, 0], "no more than the burst");
        assert!(lines(start + Duration::from_secs(3630), 10).is_empty());
    }
}
