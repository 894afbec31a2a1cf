//! A device that counts what the worker's thread allocates.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use xdp::Device;

use crate::counting::{allocations, frees};
use crate::rig::poll_for;

/// What the worker's thread has allocated and freed, as of its last turn.
#[derive(Default)]
pub struct Tally {
    allocations: AtomicU64,
    frees: AtomicU64,
    pub turns: AtomicU64,
}

impl Tally {
    pub fn read(&self) -> (u64, u64) {
        (self.allocations.load(Ordering::Acquire), self.frees.load(Ordering::Acquire))
    }

    /// Waits until the worker has taken the tally of a whole later turn.
    pub fn settle(&self) {
        let turns = self.turns.load(Ordering::Acquire);
        let later = || (self.turns.load(Ordering::Acquire) > turns + 1).then_some(());
        poll_for(Duration::from_secs(5), later).expect("the worker goes on");
    }
}

/// A device that takes the tally of the thread it is driven by.
pub struct Audited {
    pub inner: Box<dyn Device>,
    pub tally: Arc<Tally>,
}

impl Device for Audited {
    crate::rig::pass_on!(open local_address close connect receive transmit flows wait rest);

    fn flush(&mut self) {
        self.inner.flush();
        self.tally.allocations.store(allocations(), Ordering::Release);
        self.tally.frees.store(frees(), Ordering::Release);
        self.tally.turns.fetch_add(1, Ordering::AcqRel);
    }
}
