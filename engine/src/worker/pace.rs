//! Whether a worker is woken by each packet or looks once per tick. Under load a wake-up per packet costs more than
//! the packet; a tick costs up to a millisecond of delay, which a quiet worker need not have.

use crate::time::{Duration, Instant};

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    since: Instant,
    datagrams: u64,
    is_loaded: bool,
    /// Zero never ticks.
    tick: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant, tick: Duration) -> Self {
        Self { since: now, datagrams: 0, is_loaded: false, tick }
    }

    /// A turn has taken so many datagrams.
    pub(super) fn note(&mut self, now: Instant, datagrams: usize) {
        self.datagrams += datagrams as u64;
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= WINDOW {
            let per_ms = u128::from(self.datagrams) * 1_000_000 / elapsed.as_nanos();
            self.is_loaded = per_ms >= if self.is_loaded { QUIET_PER_MS } else { LOADED_PER_MS };
            (self.since, self.datagrams) = (now, 0);
        }
    }

    /// When to look next, whatever comes before; `None` if a packet is to wake the worker.
    pub(super) fn next_tick(&self, now: Instant) -> Option<Instant> {
        let tick = self.tick.as_nanos() as u64;
        // On a grid, so that what a turn takes does not add up.
        (self.is_loaded && tick > 0).then(|| Instant::from_nanos((now.as_nanos() / tick + 1) * tick))
    }
}

/// How long is looked at to tell how loaded a worker is.
const WINDOW: Duration = Duration::from_millis(4);
/// From so many datagrams per millisecond on a worker is loaded, until there are fewer than the other.
const LOADED_PER_MS: u128 = 32;
const QUIET_PER_MS: u128 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    /// Turns of 100 us, for so many milliseconds.
    fn run(pace: &mut Pace, start_ms: u64, milliseconds: u64, datagrams_per_ms: usize) {
        for n in 1..=milliseconds * 10 {
            let now = Instant::from_nanos((start_ms * 10 + n) * 100_000);
            pace.note(now, if n % 10 == 0 { datagrams_per_ms } else { 0 });
        }
    }

    #[test]
    fn a_loaded_worker_ticks_and_a_quiet_one_is_woken() {
        let mut pace = Pace::new(Instant::ZERO, TICK);
        let ticks = |pace: &Pace| pace.next_tick(Instant::from_nanos(7_300_000));
        run(&mut pace, 0, 20, 20);
        assert_eq!(ticks(&pace), None);
        run(&mut pace, 20, 20, 40);
        assert_eq!(ticks(&pace), Some(Instant::from_millis(8)));
        // A little less is not quiet yet.
        run(&mut pace, 40, 20, 20);
        assert!(ticks(&pace).is_some());
        run(&mut pace, 60, 20, 10);
        assert_eq!(ticks(&pace), None);
    }

    #[test]
    fn a_single_burst_does_not_make_a_worker_tick() {
        let mut pace = Pace::new(Instant::ZERO, TICK);
        pace.note(Instant::from_millis(4), 100);
        assert_eq!(pace.next_tick(Instant::from_millis(4)), None);
        pace.note(Instant::from_millis(4000), 1000);
        assert_eq!(pace.next_tick(Instant::from_millis(4000)), None);
    }
}
