//! How often somebody may try a bad token.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Bad tokens by source address: a bucket of attempts for each, which fills up again.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    sources: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    used: f64,
    at: Instant,
}

impl Bucket {
    fn used(&self, now: Instant) -> f64 {
        (self.used - now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND).max(0.0)
    }
}

impl Attempts {
    /// When the next attempt may come from there, in seconds; nothing if it may come now.
    pub(super) fn wait(&self, source: IpAddr, now: Instant) -> Option<u32> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let over = sources.get(&network(source))?.used(now) - (BURST - 1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds")]
        (over > 0.0).then(|| (over / PER_SECOND).ceil().max(1.0) as u32)
    }

    /// A bad token came from there.
    pub(super) fn failed(&self, source: IpAddr, now: Instant) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let source = network(source);
        if sources.len() >= SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, bucket| bucket.used(now) > 0.0);
            if sources.len() >= SOURCES {
                // So many at once are no mistake of anybody; the oldest is the one to forget.
                let oldest = sources.iter().min_by_key(|(_, bucket)| bucket.at).map(|(source, _)| *source);
                oldest.map(|oldest| sources.remove(&oldest));
            }
        }
        let bucket = sources.entry(source).or_insert(Bucket { used: 0.0, at: now });
        *bucket = Bucket { used: (bucket.used(now) + 1.0).min(BURST), at: now };
    }
}

/// Who has one IPv6 address has 2^64 of them.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(source) => {
            let [a, b, c, d, ..] = source.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

/// Bad tokens at once.
const BURST: f64 = 20.0;
/// And after that.
const PER_SECOND: f64 = 1.0 / 3.0;
/// Addresses remembered.
const SOURCES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_source_may_fail_some_times_and_then_slowly_and_others_are_not_concerned() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let [one, two]: [IpAddr; 2] =
            ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().expect("an address"));
        for _ in 0..20 {
            assert_eq!(attempts.wait(one, start), None);
            attempts.failed(one, start);
        }
        assert_eq!(attempts.wait(one, start), Some(3));
        assert_eq!(attempts.wait(two, start), None);
        assert_eq!(attempts.wait(one, start + Duration::from_secs(4)), None);
        let [one, two]: [IpAddr; 2] =
            ["2001:db8::1", "2001:db8::ffff:2"].map(|text| text.parse().expect("an address"));
        (0..20).for_each(|_| attempts.failed(one, start));
        assert!(attempts.wait(two, start).is_some(), "the same network");
    }

    #[test]
    fn only_so_many_sources_are_remembered() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        for number in 0..10_000_u32 {
            attempts.failed(IpAddr::from(number.to_be_bytes()), start + Duration::from_micros(number.into()));
        }
        assert_eq!(attempts.sources.lock().expect("no panic").len(), SOURCES);
    }
}
