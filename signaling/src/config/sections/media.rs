//! `[media]`.

use serde::Deserialize;

use super::super::choices::{Codec, Device, InbandDtmf, Simd, Source, Steering, Wait, Want, XdpMode};
use super::super::machine::{CpuList, InterfaceName, Priority, QueueList};
use super::super::types::{MediaAddress, PortRange, Span};

/// `[media]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    /// What SDP says; empty takes the address that the INVITE came in on.
    pub address: Vec<MediaAddress>,
    /// UDP ports for RTP and RTCP.
    pub ports: PortRange,
    /// How packets come in and go out.
    pub device: Device,
    /// The network interface for AF_XDP.
    pub interface: Option<InterfaceName>,
    /// Its receive queues for media; empty takes all.
    pub queues: QueueList,
    /// Where the XDP program runs.
    pub xdp_mode: XdpMode,
    /// Whether frames are shared with the driver.
    pub zero_copy: Want,
    /// AF_XDP frames per worker, of 2 KiB.
    pub frames: usize,
    /// Descriptors in each ring of an AF_XDP socket; a power of two.
    pub ring: usize,
    /// Whether AF_XDP frames are in huge pages.
    pub hugepages: Want,
    /// Whether workers drive the driver's queues themselves.
    pub busy_poll: bool,
    /// Packets per second from one source that no call knows; 0 takes any number.
    pub flood_limit: u32,
    /// Whether SIP over UDP falls under `flood_limit`, too.
    pub flood_limit_sip: bool,
    /// How the packets of a call come to its worker's queue (AF_XDP).
    pub steering: Steering,
    /// Whether relays that need no look at their payload are left to the kernel.
    pub kernel_relay: bool,
    /// Which kernels work on samples.
    pub simd: Simd,
    /// One pinned worker per CPU; empty takes one unpinned worker per two CPUs.
    pub cpus: CpuList,
    /// One pinned AI stream thread per CPU; empty takes one unpinned thread.
    pub stream_cpus: CpuList,
    /// What a worker does while there is nothing to do.
    pub wait: Wait,
    /// How long a loaded adaptive worker lets packets gather; `0ms` does not.
    pub tick: Span,
    /// The real-time priority of workers (SCHED_FIFO), 1 to 99 or `off`.
    pub priority: Priority,
    /// Whether all memory of the process stays in RAM.
    pub lock_memory: bool,
    /// Calls per worker; their memory is taken at start.
    pub streams_per_worker: usize,
    /// Relays (of the NG port) per worker; their slots are made at start.
    pub relays_per_worker: usize,
    /// Datagrams taken per loop of a worker.
    pub receive_budget: usize,
    /// Commands that may wait for a worker.
    pub command_ring: usize,
    /// Events that may wait from a worker.
    pub event_ring: usize,
    /// How long media goes to an address that never answered.
    pub silent_peer_limit: Span,
    /// Whose packets to believe.
    pub source: Source,
    /// Whether keys are tones in the audio.
    pub inband_dtmf: InbandDtmf,
    /// Codecs, most preferred first.
    pub codecs: Vec<Codec>,
    /// Audio per packet if the peer does not say, 10 to 60 ms.
    pub ptime: Span,
    /// A call without media for this long is ended; `0s` never.
    pub timeout: Span,
    /// The same on hold.
    pub hold_timeout: Span,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            address: Vec::new(),
            ports: PortRange(20_000..=29_999),
            device: Device::Auto,
            interface: None,
            queues: QueueList::default(),
            xdp_mode: XdpMode::Auto,
            zero_copy: Want::Auto,
            frames: 8192,
            ring: 2048,
            hugepages: Want::Auto,
            busy_poll: false,
            flood_limit: 0,
            flood_limit_sip: false,
            steering: Steering::Auto,
            kernel_relay: true,
            simd: Simd::Auto,
            cpus: CpuList::default(),
            stream_cpus: CpuList::default(),
            wait: Wait::Adaptive,
            tick: Span(std::time::Duration::from_millis(1)),
            priority: Priority::default(),
            lock_memory: false,
            streams_per_worker: 4096,
            relays_per_worker: 16_384,
            receive_budget: 256,
            command_ring: 1024,
            event_ring: 4096,
            silent_peer_limit: Span::seconds(10),
            source: Source::Latch,
            inband_dtmf: InbandDtmf::Auto,
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            ptime: Span(std::time::Duration::from_millis(20)),
            timeout: Span::seconds(60),
            hold_timeout: Span::seconds(3600),
        }
    }
}
