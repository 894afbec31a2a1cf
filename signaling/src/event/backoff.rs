//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double up to a limit, each shortened by up to a half so that many do not come at once.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// How often it failed since it worked.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) const fn worked(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait now.
    pub(super) fn failed(&mut self) -> Duration {
        let wait = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        jittered(wait)
    }
}

/// Half of `wait` to all of it.
pub(super) fn jittered(wait: Duration) -> Duration {
    // Without random numbers the waits are equal, which is worse and still right.
    let share = getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX));
    wait.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_again_when_it_works() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for most in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = backoff.failed();
            let most = Duration::from_secs(most);
            assert!(wait >= most / 2 && wait <= most, "{wait:?} of {most:?}");
        }
        for _ in 0..100 {
            assert!(backoff.failed() <= Duration::from_secs(60));
        }
        backoff.worked();
        assert_eq!(backoff.failures(), 0);
        assert!(backoff.failed() <= Duration::from_secs(1));
    }
}
