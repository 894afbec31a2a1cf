//! How many new INVITEs one source may send (a token bucket per address, in a bounded table).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Buckets by source address. IPv6 sources count by /64, which is what one subscriber has.
#[derive(Debug)]
pub(super) struct InviteRate {
    per_second: f64,
    burst: f64,
    capacity: usize,
    buckets: HashMap<IpAddr, Bucket>,
    /// Shared by all sources that find the table full.
    overflow: Bucket,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl InviteRate {
    pub(super) fn new(now: Instant, per_second: u32, burst: u32, capacity: usize) -> Self {
        let burst = f64::from(burst.max(1));
        let overflow = Bucket { tokens: burst, filled: now };
        Self { per_second: f64::from(per_second), burst, capacity, buckets: HashMap::new(), overflow }
    }

    /// Takes a token of this source; `false` when it has none left.
    pub(super) fn take(&mut self, now: Instant, source: IpAddr) -> bool {
        if self.per_second == 0.0 {
            return true;
        }
        let (rate, burst) = (self.per_second, self.burst);
        let source = prefix(source);
        if !self.buckets.contains_key(&source) && self.buckets.len() >= self.capacity {
            self.buckets.retain(|_, bucket| !bucket.is_full(now, rate, burst));
            if self.buckets.len() >= self.capacity {
                return self.overflow.take(now, rate, burst);
            }
        }
        self.buckets.entry(source).or_insert(Bucket { tokens: burst, filled: now }).take(now, rate, burst)
    }
}

impl Bucket {
    pub(super) fn new(now: Instant, burst: f64) -> Self {
        Self { tokens: burst, filled: now }
    }

    fn level(&self, now: Instant, rate: f64, burst: f64) -> f64 {
        let elapsed: Duration = now.saturating_duration_since(self.filled);
        (self.tokens + elapsed.as_secs_f64() * rate).min(burst)
    }

    fn is_full(&self, now: Instant, rate: f64, burst: f64) -> bool {
        self.level(now, rate, burst) >= burst
    }

    pub(super) fn take(&mut self, now: Instant, rate: f64, burst: f64) -> bool {
        self.tokens = self.level(now, rate, burst);
        self.filled = now;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

/// The bytes of large requests whose transactions are remembered, by source. Counting messages alone would let
/// a few thousand of 64 kB fill the memory. The same rule as for [`Unacknowledged`] keeps one source from
/// taking the room of all.
#[derive(Debug)]
pub(super) struct HeldBytes {
    keep: Duration,
    total: usize,
    per_source: HashMap<IpAddr, usize>,
    taken: VecDeque<(Instant, IpAddr, usize)>,
}

impl HeldBytes {
    /// Every request counts for `keep`.
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, total: 0, per_source: HashMap::new(), taken: VecDeque::new() }
    }

    pub(super) fn take(&mut self, now: Instant, source: IpAddr, bytes: usize) -> bool {
        if bytes == 0 {
            return true;
        }
        self.forget(now);
        let source = prefix(source);
        let own = self.per_source.get(&source).copied().unwrap_or(0) + bytes;
        let left = HELD_BYTES.saturating_sub(self.total);
        let granted = bytes <= left && (own <= FEW_BYTES || own <= left.saturating_sub(HELD_BYTES / 5));
        if granted {
            self.per_source.insert(source, own);
            self.total += bytes;
            self.taken.push_back((now, source, bytes));
        }
        granted
    }

    fn forget(&mut self, now: Instant) {
        while let Some(&(at, source, bytes)) = self.taken.front()
            && now.saturating_duration_since(at) >= self.keep
        {
            self.taken.pop_front();
            self.total -= bytes;
            if let Some(own) = self.per_source.get_mut(&source) {
                *own -= bytes;
                if *own == 0 {
                    self.per_source.remove(&source);
                }
            }
        }
    }
}

/// All large requests together, beyond what is ordinary in each.
const HELD_BYTES: usize = 16 << 20;
/// Always granted to a source, if there is any room: one of the largest messages.
const FEW_BYTES: usize = 64 << 10;

/// The calls whose caller has not shown with an ACK that it is there, by source.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    total: usize,
    per_source: HashMap<IpAddr, usize>,
}

impl Unacknowledged {
    /// Takes a place. A source that holds more than a few may have no more than are left for all others,
    /// and never the last fifth, which flooding sources so leave to those who call now and then.
    pub(super) fn take(&mut self, source: IpAddr, cap: usize) -> bool {
        let own = self.per_source.get(&prefix(source)).copied().unwrap_or(0);
        let left = cap.saturating_sub(self.total);
        let granted = left > 0 && (own < FEW || own < left.saturating_sub(cap / 5));
        if granted {
            *self.per_source.entry(prefix(source)).or_default() += 1;
            self.total += 1;
        }
        granted
    }

    pub(super) fn release(&mut self, source: IpAddr) {
        if let Some(own) = self.per_source.get_mut(&prefix(source)) {
            *own -= 1;
            self.total -= 1;
            if *own == 0 {
                self.per_source.remove(&prefix(source));
            }
        }
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }
}

const FEW: usize = 4;

fn prefix(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_burst_is_taken_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut rate = InviteRate::new(start, 10, 5, 8);
        assert_eq!((0..20).filter(|_| rate.take(start, v4(1))).count(), 5);
        let later = start + Duration::from_millis(350);
        assert_eq!((0..20).filter(|_| rate.take(later, v4(1))).count(), 3);
        assert!(rate.take(start, v4(2)), "another source is not affected");
    }

    #[test]
    fn the_table_never_grows_beyond_its_capacity() {
        let start = Instant::now();
        let mut rate = InviteRate::new(start, 1, 2, 4);
        let granted = (0..=255).filter(|last| rate.take(start, v4(*last))).count();
        assert_eq!(rate.buckets.len(), 4);
        assert_eq!(granted, 4 + 2, "the rest shares one bucket");
        let rested = start + Duration::from_secs(60);
        assert!(rate.take(rested, v4(200)));
        assert_eq!(rate.buckets.len(), 1, "rested sources made room");
    }

    #[test]
    fn flooding_sources_leave_room_for_others() {
        let mut calls = Unacknowledged::default();
        assert_eq!((0..1000).filter(|_| calls.take(v4(1), 1000)).count(), 400);
        for source in 2..=20 {
            while calls.take(v4(source), 1000) {}
        }
        for source in 100..=125 {
            assert!(calls.take(v4(source), 1000), "somebody else still gets in");
        }
        let before = calls.total();
        calls.release(v4(1));
        assert_eq!(calls.total(), before - 1);
        for source in 0..=255 {
            for _ in 0..1000 {
                calls.release(v4(source));
            }
        }
        assert_eq!((calls.total(), calls.per_source.len()), (0, 0));
    }

    #[test]
    fn large_requests_of_one_source_leave_room_for_others_and_are_forgotten() {
        let start = Instant::now();
        let mut held = HeldBytes::new(Duration::from_secs(64));
        let granted = (0..1000).filter(|_| held.take(start, v4(1), 60_000)).count();
        assert!((50..200).contains(&granted), "{granted}");
        for source in 2..=20 {
            while held.take(start, v4(source), 60_000) {}
        }
        assert!(held.total <= HELD_BYTES);
        assert!(held.take(start, v4(200), 30_000), "somebody else's large one");
        assert!(held.take(start, v4(1), 0), "ordinary ones always");
        assert!(held.take(start + Duration::from_secs(64), v4(1), 60_000));
        assert_eq!((held.total, held.taken.len(), held.per_source.len()), (60_000, 1, 1));
    }

    #[test]
    fn neighbours_in_one_ipv6_prefix_share_a_bucket() {
        let start = Instant::now();
        let mut rate = InviteRate::new(start, 1, 1, 4);
        assert!(rate.take(start, "2001:db8::1".parse().unwrap()));
        assert!(!rate.take(start, "2001:db8::2".parse().unwrap()));
        assert!(rate.take(start, "2001:db8:0:1::1".parse().unwrap()));
    }
}
