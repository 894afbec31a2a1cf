//! A device that forwards by itself what it is told to, as the kernel does: a model of the XDP program around a
//! device in memory.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use xdp::{Device, Flow, FlowCounters, Handle, Outgoing, PortIndex, Unpromoted};

/// What a test sets and sees.
#[derive(Default)]
pub struct Kernel {
    /// Nobody asks any more.
    pub has_none: AtomicBool,
    /// No way to the receiver.
    pub has_no_route: AtomicBool,
    pub asked: AtomicUsize,
    pub promoted: AtomicUsize,
    pub demoted: AtomicUsize,
    /// Datagrams forwarded without the worker.
    pub forwarded: AtomicU64,
    /// The last remote of each port that was connected, by local port; 0 for anybody.
    pub connected: Mutex<HashMap<u16, Option<SocketAddr>>>,
    /// Connecting this local port panics.
    pub mine: AtomicUsize,
    pub flows: Mutex<Vec<Flow>>,
}

pub struct KernelDevice {
    inner: Box<dyn Device>,
    kernel: Arc<Kernel>,
    flows: HashMap<u32, (Flow, FlowCounters)>,
}

impl KernelDevice {
    pub fn new(inner: Box<dyn Device>) -> (Self, Arc<Kernel>) {
        let kernel = Arc::<Kernel>::default();
        (Self { inner, kernel: Arc::clone(&kernel), flows: HashMap::new() }, kernel)
    }
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn forward(
    flow: &Flow,
    counters: &mut FlowCounters,
    remote: SocketAddr,
    payload: &mut [u8],
) -> Option<Option<Outgoing>> {
    if remote != flow.source {
        counters.strangers += 1;
        return Some(None);
    }
    let is_rtcp = payload.len() > 1 && (192..=223).contains(&payload[1]);
    if payload.len() < 12
        || payload[0] >> 6 != 2
        || is_rtcp
        || !flow.payload_types.contains(payload[1] & 0x7F)
    {
        return None;
    }
    let number = u16::from_be_bytes([payload[2], payload[3]]);
    if counters.packets == 0 {
        (counters.first_sequence, counters.highest_sequence) = (number, number.into());
    }
    let ahead = number.wrapping_sub(counters.highest_sequence as u16);
    if ahead < 3000 {
        counters.highest_sequence += u32::from(ahead);
    }
    counters.packets += 1;
    counters.bytes += payload.len() as u64;
    counters.last_seen = Some(now());
    counters.ssrc = u32::from_be_bytes([payload[8], payload[9], payload[10], payload[11]]);
    let sequence = number.wrapping_add(flow.rewriting.sequence_offset);
    payload[2..4].copy_from_slice(&sequence.to_be_bytes());
    if let Some(ssrc) = flow.rewriting.ssrc {
        payload[8..12].copy_from_slice(&ssrc.to_be_bytes());
    }
    Some(Some(Outgoing { path: flow.path, len: payload.len() }))
}

impl Device for KernelDevice {
    crate::rig::pass_on!(open local_address transmit flush wait rest);

    fn close(&mut self, port: PortIndex) {
        assert!(!self.flows.contains_key(&port.0), "closed while it was promoted");
        self.inner.close(port);
    }

    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>) {
        let local = self.inner.local_address(port).expect("an open port").port();
        assert_ne!(usize::from(local), self.kernel.mine.load(Ordering::Acquire), "the mine goes off");
        self.kernel.connected.lock().expect("no panic").insert(local, remote);
        self.inner.connect(port, remote);
    }

    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        let Self { inner, kernel, flows } = self;
        inner.receive(budget, &mut |datagram| {
            if let Some((flow, counters)) = flows.get_mut(&datagram.port.0)
                && let Some(done) = forward(flow, counters, datagram.remote, datagram.payload)
            {
                kernel.forwarded.fetch_add(u64::from(done.is_some()), Ordering::AcqRel);
                return done;
            }
            handle(datagram)
        })
    }

    fn promote(&mut self, port: PortIndex, flow: &Flow) -> Result<(), Unpromoted> {
        self.kernel.asked.fetch_add(1, Ordering::AcqRel);
        if self.kernel.has_none.load(Ordering::Acquire) {
            return Err(Unpromoted::Device);
        }
        if self.kernel.has_no_route.load(Ordering::Acquire) {
            return Err(Unpromoted::Route);
        }
        assert!(
            self.inner.local_address(port).is_some() && self.inner.local_address(flow.path.port).is_some()
        );
        let before = self.flows.insert(port.0, (*flow, FlowCounters::default()));
        assert!(before.is_none(), "promoted twice");
        self.kernel.promoted.fetch_add(1, Ordering::AcqRel);
        self.kernel.flows.lock().expect("no panic").push(*flow);
        Ok(())
    }

    fn demote(&mut self, port: PortIndex) -> Option<FlowCounters> {
        let (_, counters) = self.flows.remove(&port.0)?;
        self.kernel.demoted.fetch_add(1, Ordering::AcqRel);
        Some(counters)
    }

    fn flow_counters(&self, port: PortIndex) -> Option<FlowCounters> {
        self.flows.get(&port.0).map(|(_, counters)| *counters)
    }
}
