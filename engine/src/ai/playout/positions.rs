//! Positions in the stream of bot audio, and what of it was never played.

use std::collections::VecDeque;
use std::ops::Range;

/// Every sample that was taken for playing has a position, whatever becomes of it. The worker counts only those
/// that came to its ring; this translates, and keeps the spans that were not played.
#[derive(Debug, Default)]
pub(in crate::ai) struct Positions {
    /// Samples left out before they came to the ring: where in the ring they would have been, and how many. In
    /// order; those that the playout has not passed.
    left_out: VecDeque<(u64, u64)>,
    /// How many there were before those.
    passed: u64,
    /// Spans that are never played, in order, apart from each other.
    skipped: VecDeque<Range<u64>>,
    /// Where the playout stood at the last report.
    playout: u64,
}

impl Positions {
    /// The position of the ring's sample at `ring`.
    pub(in crate::ai) fn of(&self, ring: u64) -> u64 {
        ring + self.passed + self.sum(|at| at <= ring)
    }

    /// As [`Positions::of`], from the side of what was before it.
    fn before(&self, ring: u64) -> u64 {
        ring + self.passed + self.sum(|at| at < ring)
    }

    fn sum(&self, counts: impl Fn(u64) -> bool) -> u64 {
        self.left_out.iter().take_while(|(at, _)| counts(*at)).map(|(_, samples)| samples).sum()
    }

    /// `samples` at `ring`, which were not in the ring yet, are left out.
    pub(in crate::ai) fn leave_out(&mut self, ring: u64, samples: u64) {
        if samples == 0 {
            return;
        }
        self.skip(self.of(ring)..self.of(ring + samples - 1) + 1);
        let mut total = samples;
        // What was left out among them comes to the same place, what was behind them moves up.
        self.left_out.retain_mut(|(at, earlier)| {
            if (ring..ring + samples).contains(at) {
                total += *earlier;
                return false;
            }
            if *at >= ring + samples {
                *at -= samples;
            }
            true
        });
        let place = self.left_out.partition_point(|(at, _)| *at < ring);
        match self.left_out.get_mut(place) {
            Some((at, earlier)) if *at == ring => *earlier += total,
            _ => self.left_out.insert(place, (ring, total)),
        }
    }

    /// The worker did not play what was in the ring.
    pub(in crate::ai) fn skip_ring(&mut self, span: Range<u64>) {
        self.skip(self.before(span.start)..self.before(span.end));
    }

    /// The playout stood at `ring`; returns the position.
    pub(in crate::ai) fn reach(&mut self, ring: u64) -> u64 {
        let position = self.before(ring);
        while let Some(&(_, samples)) = self.left_out.front().filter(|(at, _)| *at < ring) {
            self.left_out.pop_front();
            self.passed += samples;
        }
        self.playout = self.playout.max(position);
        position
    }

    /// How many samples of a span had been played at the last report. Exact as long as fewer than
    /// [`MAX_SKIPPED`] spans were left out since.
    pub(in crate::ai) fn played(&self, span: Range<u64>) -> u64 {
        let end = span.end.min(self.playout);
        let skipped = self.skipped.iter().map(|skipped| overlap(skipped, &(span.start..end)));
        end.saturating_sub(span.start).saturating_sub(skipped.sum())
    }

    fn skip(&mut self, mut span: Range<u64>) {
        if span.is_empty() {
            return;
        }
        let first = self.skipped.partition_point(|known| known.end < span.start);
        let last = self.skipped.partition_point(|known| known.start <= span.end);
        for known in self.skipped.drain(first..last.max(first)) {
            span = span.start.min(known.start)..span.end.max(known.end);
        }
        self.skipped.insert(first, span);
        if self.skipped.len() > MAX_SKIPPED {
            self.skipped.pop_front();
        }
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

/// Spans that are remembered.
const MAX_SKIPPED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// A model that keeps one entry per sample.
        #[test]
        fn positions_equal_a_list_of_samples(
            steps in proptest::collection::vec((0u8..4, 0u64..60, 1u64..40), 1..60)
        ) {
            let mut positions = Positions::default();
            // The samples in and before the ring, by position; how many the worker took; what became of them.
            let (mut queue, mut next, mut written, mut taken) = (Vec::<u64>::new(), 0u64, 0usize, 0usize);
            let mut played = std::collections::BTreeSet::<u64>::new();
            for (kind, at, len) in steps {
                match kind {
                    0 => {
                        queue.extend(next..next + len);
                        next += len;
                    }
                    1 => written = (written + len as usize).min(queue.len()),
                    2 => {
                        let from = (written + at as usize).min(queue.len());
                        let to = (from + len as usize).min(queue.len());
                        positions.leave_out(from as u64, (to - from) as u64);
                        queue.drain(from..to);
                    }
                    _ => {
                        let to = (taken + len as usize).min(written);
                        if at < 20 {
                            positions.skip_ring(taken as u64..to as u64);
                        } else {
                            played.extend(&queue[taken..to]);
                        }
                        taken = to;
                        positions.reach(taken as u64);
                    }
                }
                for (ring, &position) in queue.iter().enumerate().skip(taken) {
                    proptest::prop_assert_eq!(positions.of(ring as u64), position);
                }
                for span in [0..next, next / 3..next / 2, next / 2..next + 5] {
                    let expected = played.range(span.clone()).count() as u64;
                    proptest::prop_assert_eq!(positions.played(span), expected);
                }
            }
        }
    }
}
