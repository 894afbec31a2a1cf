//! What the engine needs to know to start. The defaults run on a laptop.

use std::ops::RangeInclusive;

use crate::time::Duration;

/// Which [`xdp::Device`] the workers use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// The best that this host allows.
    #[default]
    Auto,
    /// AF_XDP sockets.
    AfXdp,
    /// One socket per worker behind an sk_lookup program.
    SkLookup,
    /// io_uring.
    IoUring,
    /// Kernel UDP sockets.
    Udp,
}

impl DeviceKind {
    /// The name used in configuration, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::AfXdp => "af_xdp",
            Self::SkLookup => "sk_lookup",
            Self::IoUring => "io_uring",
            Self::Udp => "udp",
        }
    }
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl std::str::FromStr for DeviceKind {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        [Self::Auto, Self::AfXdp, Self::SkLookup, Self::IoUring, Self::Udp]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or(UnknownDevice)
    }
}

/// No device has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such device: use auto, af_xdp, sk_lookup, io_uring or udp")]
pub struct UnknownDevice;

/// How a worker waits when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitPolicy {
    /// Never sleeps; for an isolated core.
    Busy,
    /// Spins a little, then waits in the device until the next deadline.
    #[default]
    Adaptive,
    /// Always waits in the device.
    Sleep,
}

/// Whether something that not every host has is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// Where it can be had.
    #[default]
    Auto,
    /// Not even then.
    Never,
    /// Without it the engine does not start.
    Require,
}

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver if it can, else in the kernel's receive path.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the kernel's receive path, with any driver: slower.
    Generic,
}

/// How the packets of a call come to the queue of the worker that owns it, with [`DeviceKind::AfXdp`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortSteering {
    /// By rules, else by the hash, else by chance.
    #[default]
    Auto,
    /// Rules of the network interface (n-tuple filters) send each worker's ports to one of its queues.
    Rules,
    /// The ports of calls are chosen by the receive hash of the network interface.
    Hash,
    /// By chance: what comes to another worker is handed over.
    Off,
}

/// For [`DeviceKind::AfXdp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfXdpConfig {
    /// The network interface; without one there is no AF_XDP, because a program on an interface is nothing to be put
    /// there unasked.
    pub interface: Option<String>,
    /// The receive queues to take, dealt to the workers in turn; empty takes all.
    pub queues: Vec<u32>,
    /// Where the program runs.
    pub mode: XdpMode,
    /// Whether frames are shared with the driver instead of copied.
    pub zero_copy: Want,
    /// Frames per worker, of 2 KiB.
    pub frames: usize,
    /// Descriptors in each of a socket's rings; a power of two.
    pub ring: usize,
    /// Whether frames are in huge pages.
    pub hugepages: Want,
    /// Whether a worker drives the driver's queue itself instead of leaving it to interrupts.
    pub busy_poll: bool,
    /// Packets per second from one source that no call knows, before the rest is dropped in the driver; 0 takes any
    /// number.
    pub flood_limit: u32,
    /// UDP ports that are not media (SIP) whose senders fall under the flood limit, too.
    pub guarded_ports: Vec<u16>,
}

impl AfXdpConfig {
    /// Which of `workers` owns a receive queue; `None` if media does not come in there. Queues are dealt in turn.
    #[must_use]
    pub fn owner(&self, queue: u32, workers: usize) -> Option<usize> {
        let place = if self.queues.is_empty() {
            queue as usize
        } else {
            self.queues.iter().position(|&listed| listed == queue)?
        };
        place.checked_rem(workers)
    }
}

impl Default for AfXdpConfig {
    fn default() -> Self {
        Self {
            interface: None,
            queues: Vec::new(),
            mode: XdpMode::Auto,
            zero_copy: Want::Auto,
            frames: 8192,
            ring: 2048,
            hugepages: Want::Auto,
            busy_poll: false,
            flood_limit: 0,
            guarded_ports: Vec::new(),
        }
    }
}

/// Whether keys are tones in the audio (ITU-T Q.23).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InbandDtmf {
    /// Heard and sent if the peer has no telephone-events.
    #[default]
    Auto,
    /// Heard from every peer; sent if the peer has no telephone-events.
    Always,
    /// Neither.
    Off,
}

/// How to start an [`crate::Engine`].
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// One worker per entry, pinned to that CPU; empty starts one unpinned worker per two CPUs (at least one).
    pub media_cpus: Vec<usize>,
    /// One AI stream thread per entry, pinned to that CPU; empty starts one unpinned thread.
    pub stream_cpus: Vec<usize>,
    /// The UDP ports for RTP and RTCP, partitioned among the workers.
    pub media_ports: RangeInclusive<u16>,
    /// The device.
    pub device: DeviceKind,
    /// For AF_XDP.
    pub af_xdp: AfXdpConfig,
    /// How the packets of a call come to its worker's queue.
    pub steering: PortSteering,
    /// Whether relays that need no look at their payload are left to the kernel, with devices that can.
    pub kernel_relay: bool,
    /// How workers wait.
    pub wait: WaitPolicy,
    /// How long a loaded worker that waits adaptively lets packets gather instead of waking for each; zero does not.
    pub tick: Duration,
    /// The real-time priority of workers (SCHED_FIFO, 1 to 99).
    pub priority: Option<u8>,
    /// Whether all memory of the process stays in RAM (mlockall).
    pub lock_memory: bool,
    /// Streams per worker; memory for their slots is taken at start.
    pub streams_per_worker: usize,
    /// Relays per worker; memory for their slots is taken at start.
    pub relays_per_worker: usize,
    /// Commands that may wait per worker.
    pub command_ring: usize,
    /// Events that may wait per worker.
    pub event_ring: usize,
    /// Datagrams taken per loop.
    pub receive_budget: usize,
    /// How long media may go to an address that never answered (reflection guard).
    pub silent_peer_limit: Duration,
    /// Whether keys are tones in the audio.
    pub inband_dtmf: InbandDtmf,
}

impl EngineConfig {
    /// How many workers there will be.
    #[must_use]
    pub fn workers(&self) -> usize {
        if self.media_cpus.is_empty() {
            std::thread::available_parallelism().map_or(1, |cpus| cpus.get() / 2).max(1)
        } else {
            self.media_cpus.len()
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            media_cpus: Vec::new(),
            stream_cpus: Vec::new(),
            media_ports: 20_000..=29_999,
            device: DeviceKind::Auto,
            af_xdp: AfXdpConfig::default(),
            steering: PortSteering::default(),
            kernel_relay: true,
            wait: WaitPolicy::Adaptive,
            tick: Duration::from_millis(1),
            priority: None,
            lock_memory: false,
            streams_per_worker: 4096,
            relays_per_worker: 16_384,
            command_ring: 1024,
            event_ring: 4096,
            receive_budget: 256,
            silent_peer_limit: Duration::from_secs(10),
            inband_dtmf: InbandDtmf::default(),
        }
    }
}
