//! A device that counts what the worker's thread allocates.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use xdp::{
    Device, DeviceCounters, Doorbell, Flow, FlowCounters, Full, Handle, Outgoing, PortIndex, Unpromoted,
};

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
    fn open(&mut self, local: SocketAddr) -> std::io::Result<PortIndex> {
        self.inner.open(local)
    }
    fn local_address(&self, port: PortIndex) -> Option<SocketAddr> {
        self.inner.local_address(port)
    }
    fn close(&mut self, port: PortIndex) {
        self.inner.close(port);
    }
    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>) {
        self.inner.connect(port, remote);
    }
    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        self.inner.receive(budget, handle)
    }
    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        self.inner.transmit(write)
    }
    fn flush(&mut self) {
        self.inner.flush();
        self.tally.allocations.store(allocations(), Ordering::Release);
        self.tally.frees.store(frees(), Ordering::Release);
        self.tally.turns.fetch_add(1, Ordering::AcqRel);
    }
    fn promote(&mut self, port: PortIndex, flow: &Flow) -> Result<(), Unpromoted> {
        self.inner.promote(port, flow)
    }
    fn demote(&mut self, port: PortIndex) -> Option<FlowCounters> {
        self.inner.demote(port)
    }
    fn flow_counters(&self, port: PortIndex) -> Option<FlowCounters> {
        self.inner.flow_counters(port)
    }
    fn wait(&mut self, timeout: Duration) {
        self.inner.wait(timeout);
    }
    fn doorbell(&self) -> Doorbell {
        self.inner.doorbell()
    }
    fn counters(&self) -> Arc<DeviceCounters> {
        self.inner.counters()
    }
    fn name(&self) -> &'static str {
        "audited"
    }
}
