//! So many at once, and so many per second.

use std::time::Instant;

/// A bucket that fills by itself.
#[derive(Debug)]
pub(super) struct Limit {
    per_second: f64,
    at_once: f64,
    left: f64,
    filled: Option<Instant>,
}

impl Limit {
    pub(super) const fn new(per_second: f64, at_once: f64) -> Self {
        Self { per_second, at_once, left: at_once, filled: None }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = self.filled.map_or(0.0, |filled| now.saturating_duration_since(filled).as_secs_f64());
        self.filled = Some(now);
        self.left = (self.left + passed * self.per_second).min(self.at_once);
        let takes = self.left >= 1.0;
        if takes {
            self.left -= 1.0;
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_takes_no_more_than_the_rate() {
        let start = Instant::now();
        let mut limit = Limit::new(10.0, 5.0);
        assert_eq!((0..100).filter(|_| limit.take(start)).count(), 5);
        let taken = (0..10_000_u64).filter(|&ms| limit.take(start + Duration::from_millis(ms))).count();
        assert!((98..=102).contains(&taken), "{taken}");
        assert_eq!((0..100).filter(|_| limit.take(start + Duration::from_secs(60))).count(), 5);
    }
}
