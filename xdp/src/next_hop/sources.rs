//! The addresses of the interface while rules choose by the source, for workers to read.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::table;

/// Written by one thread, followed by a new generation. An address that is read while it is written is at worst none of
/// the interface's, and asked about again.
#[derive(Debug)]
pub(super) struct Sources {
    wanted: AtomicBool,
    /// IPv4 as mapped IPv6: upper and lower half; zero where there is none.
    list: [[AtomicU64; 2]; 2 * MAX_SOURCES],
}

impl Sources {
    pub(super) fn new() -> Self {
        let none = || [AtomicU64::new(0), AtomicU64::new(0)];
        Self { wanted: AtomicBool::new(false), list: std::array::from_fn(|_| none()) }
    }

    /// `None` if the source does not matter.
    pub(super) fn publish(&self, sources: Option<&[IpAddr]>) {
        let mut list = sources.unwrap_or_default().iter();
        for [upper, lower] in &self.list {
            let halves = list.next().map_or((0, 0), |ip| table::halves(table::key(*ip)));
            upper.store(halves.0, Ordering::Relaxed);
            lower.store(halves.1, Ordering::Relaxed);
        }
        self.wanted.store(sources.is_some(), Ordering::Release);
    }

    pub(super) fn matter(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    pub(super) fn have(&self, source: IpAddr) -> bool {
        let wanted = table::halves(table::key(source));
        let mut list = self.list.iter();
        list.any(|[upper, lower]| (upper.load(Ordering::Relaxed), lower.load(Ordering::Relaxed)) == wanted)
    }
}

/// Addresses of one family that are asked for if rules choose by the source.
pub(super) const MAX_SOURCES: usize = 16;
