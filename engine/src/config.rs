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

/// How a worker waits when there is nothing to do (architecture D6).
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
    /// How workers wait.
    pub wait: WaitPolicy,
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

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            media_cpus: Vec::new(),
            stream_cpus: Vec::new(),
            media_ports: 20_000..=29_999,
            device: DeviceKind::Auto,
            wait: WaitPolicy::Adaptive,
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
