//! The words that a key of `[media]` may have.

use serde::Deserialize;

/// How packets come in and go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The best that this host and this version allow.
    #[default]
    Auto,
    /// AF_XDP.
    AfXdp,
    /// One socket per worker by sk_lookup.
    SkLookup,
    /// io_uring.
    IoUring,
    /// Kernel UDP sockets.
    Udp,
}

impl Device {
    /// The word in the configuration.
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

/// Which table of kernels works on samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Simd {
    /// The fastest that this CPU runs.
    #[default]
    Auto,
    /// Plain code, for any CPU.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with the AVX-512 of Ice Lake and Zen 4.
    Avx512,
    /// AArch64.
    Neon,
}

impl Simd {
    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }
}

/// What a worker does while there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// Never sleeps.
    Busy,
    /// Spins a little, then sleeps.
    #[default]
    Adaptive,
    /// Sleeps.
    Sleep,
}

/// Whose packets to believe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The SDP address at once, another one (NAT) after some packets in sequence; then locked.
    #[default]
    Latch,
    /// The SDP address only.
    Strict,
}

/// Whether keys are tones in the audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InbandDtmf {
    /// Heard and sent if the peer has no telephone-events.
    #[default]
    Auto,
    /// Heard from every peer; sent if the peer has no telephone-events.
    Always,
    /// Neither.
    Off,
}

/// An audio codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

/// Whether something that not every host has is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// Where it can be had.
    #[default]
    Auto,
    /// Not even then.
    Never,
    /// It must be there.
    Require,
}

/// How the packets of a call come to the queue of its worker, with AF_XDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steering {
    /// By rules, else by the hash, else by chance.
    #[default]
    Auto,
    /// By rules of the network interface.
    Rules,
    /// By ports chosen after its receive hash.
    Hash,
    /// By chance.
    Off,
}

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    /// In the driver if it can, else in the kernel's receive path.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the kernel's receive path.
    Generic,
}
