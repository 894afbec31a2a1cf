//! The media between two parties whose descriptions we pass on: offers and answers in, relays of the engine and
//! descriptions with our addresses out. Proxies ask for it by NG, bridged calls are made of it.
//!
//! ```text
//! description of one party -> Description::check, apply -> relays made, changed, ended (Exchange)
//!                          -> Description::write        -> description for the other party
//! ```
#![deny(clippy::indexing_slicing)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use engine::stream::SourcePolicy;

use crate::call::CallConfig;
use crate::media::{Media, MediaAddresses, MediaError, is_on_every_address};
use crate::sdp::offer_answer::LocalMedia;

mod describe;
mod loops;
pub(crate) mod sdp;
mod slot;
mod wishes;

pub(crate) use describe::{Description, ports};
use loops::Loops;
use sdp::BodyError;
pub(crate) use slot::{Exchange, Leg, Patience, Slot};
pub use wishes::{CodecOptions, Replace, RtcpMux, Transport, Wishes};

xdp::counters! {
    /// What came of descriptions that were passed on.
    pub struct ExchangeCounters {
        relays: "Relays that were made",
        relays_failed: "Relays that could not be made",
        codecs_refused: "Codecs left out because their transcoding is not served",
        ice_removed: "Descriptions whose ICE attributes were left out",
        loops_refused: "Descriptions refused because media would come back to this server for ever",
        forbidden_targets: "Descriptions refused because media would go to our own control sockets or to nobody",
    }
}

/// What all exchanges of one kind share.
#[derive(Debug)]
pub(crate) struct Relaying {
    pub(crate) media: Media,
    pub(crate) addresses: MediaAddresses,
    pub(crate) counters: Arc<ExchangeCounters>,
    pub(crate) patience: Patience,
    /// Where packets go if nobody says any address.
    pub(crate) hint: IpAddr,
    loops: Loops,
    source_policy: SourcePolicy,
    local: LocalMedia,
}

impl Relaying {
    /// `control` are our own control sockets, where media must not go.
    pub(crate) fn new(config: &CallConfig, media: &Media, control: Vec<SocketAddr>) -> Self {
        let local = LocalMedia {
            control_addresses: control,
            own_addresses: config.media_addresses.clone(),
            ..LocalMedia::default()
        };
        Self {
            media: media.clone(),
            addresses: MediaAddresses::new(&config.media_addresses),
            counters: Arc::default(),
            patience: Patience { media: config.media_timeout, hold: config.hold_timeout },
            hint: Ipv4Addr::LOCALHOST.into(),
            loops: Loops::default(),
            source_policy: config.source_policy,
            local,
        }
    }

    /// Whether media must not go there.
    pub(crate) fn is_forbidden(&self, target: SocketAddr) -> bool {
        self.local.forbids(target) || is_on_every_address(&self.local.control_addresses, target)
    }

    /// Ports that are no longer ours.
    pub(crate) fn forget_ports(&self, ports: &[SocketAddr]) {
        self.loops.remove(ports.iter().copied());
    }
}

/// Why a description cannot be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    Body(BodyError),
    NotServed(&'static str),
    ForbiddenTarget(SocketAddr),
    NoAddress { ipv6: bool },
    Loop,
    Media(MediaError),
}

impl From<BodyError> for ExchangeError {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<MediaError> for ExchangeError {
    fn from(error: MediaError) -> Self {
        Self::Media(error)
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(error) => error.fmt(f),
            Self::NotServed(what) => write!(f, "{what} is not served by this version: plain RTP only"),
            Self::ForbiddenTarget(target) => write!(f, "Media to {target} is refused"),
            Self::NoAddress { ipv6 } => {
                let family = if *ipv6 { "IPv6" } else { "IPv4" };
                write!(f, "There is no {family} media address; see --media-address")
            }
            Self::Loop => f.write_str("Media would come back to this server for ever"),
            // Proxies take the next node for these two.
            Self::Media(MediaError::NoPort | MediaError::Socket { .. }) => f.write_str("Ran out of ports"),
            Self::Media(MediaError::NoSlot | MediaError::Overloaded) => {
                f.write_str("Parallel session limit reached")
            }
            Self::Media(error) => error.fmt(f),
        }
    }
}
