//! Whose packets are believed and where media may go, for streams and relays alike.

mod address;
mod filter;
mod guard;

pub(crate) use address::{Address, is_forbidden};
pub(crate) use filter::{SourceFilter, Verdict};
pub(crate) use guard::{Permission, SilentPeerGuard};

/// How a stream decides whose packets it believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourcePolicy {
    /// Symmetric RTP: the negotiated address is believed at once; another one only after several
    /// in-sequence packets of one SSRC. Then the source is locked until signalling changes the remote
    /// address.
    #[default]
    Latch,
    /// Only the negotiated address.
    Strict,
}
