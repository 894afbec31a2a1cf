//! What may be asked for when a description is passed on.

use std::net::IpAddr;

/// What is wanted of the media between two parties. The default changes nothing but addresses.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// `received from`: where the SIP message came from.
    pub received_from: Option<IpAddr>,
    /// Flag `SIP source address`: media goes there and not where SDP says.
    pub sip_source_address: bool,
    /// `media address`: what SDP is to name.
    pub media_address: Option<IpAddr>,
    /// `address family` of the receiving side: whether IPv6.
    pub ipv6: Option<bool>,
    /// `transport protocol`.
    pub transport: Option<Transport>,
    /// What `ICE`, `WebRTC`, `OSRTP` or a transport need that this version does not serve.
    pub unserved: Option<&'static str>,
    /// `rtcp-mux`.
    pub rtcp_mux: RtcpMux,
    /// `replace`.
    pub replace: Replace,
    /// `codec`.
    pub codec: CodecOptions,
    /// `ptime` in milliseconds, towards the receiver of an offer.
    pub ptime: Option<u16>,
    /// Flag `asymmetric`: the source of media is not learned.
    pub asymmetric: bool,
    /// Flag `strict source`: other sources than the negotiated one are not believed.
    pub strict_source: bool,
    /// Flag `full rtcp attribute`.
    pub full_rtcp_attribute: bool,
    /// Flag `no rtcp attribute`.
    pub no_rtcp_attribute: bool,
    /// Flag `original sendrecv`.
    pub original_direction: bool,
}

/// `transport protocol`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Written in the m-lines to the receiver.
    Protocol(&'static str),
    /// `accept`: an answer's protocol is passed on.
    Accept,
}

/// `rtcp-mux`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtcpMux {
    /// Written though not offered.
    pub offer: bool,
    /// The receiver has no other choice.
    pub require: bool,
    /// Not written though offered.
    pub demux: bool,
    /// Accepted to the offerer whatever the answerer says.
    pub accept: bool,
    /// Not accepted to the offerer.
    pub reject: bool,
}

/// `replace`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replace {
    /// The address of `o=` becomes ours.
    pub origin: bool,
    /// All of `o=` stays as first sent to a receiver.
    pub origin_full: bool,
    /// `s=` stays as first sent.
    pub session_name: bool,
    /// The version of `o=` counts what we send.
    pub version: bool,
    /// The version of `o=` grows every time.
    pub always_increment: bool,
    /// The user of `o=` stays as first sent.
    pub username: bool,
    /// A zero address of the sender becomes a real one of ours.
    pub zero_address: bool,
}

/// `codec`: names such as `PCMU`, `PCMU/8000`, or `all`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodecOptions {
    /// Not written to the receiver.
    pub strip: Vec<String>,
    /// Kept though all are stripped.
    pub except: Vec<String>,
    /// Put back after a strip, in this order.
    pub offer: Vec<String>,
    /// Not written to the receiver but still accepted from the sender.
    pub mask: Vec<String>,
    /// Added for the receiver.
    pub transcode: Vec<String>,
    /// Accepted from the sender even if the receiver refuses them.
    pub accept: Vec<String>,
}

impl CodecOptions {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
