//! Where the peer wants its media, and whether it may be sent there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::{Attribute, MediaDescription, SessionDescription};
use super::{LocalMedia, Refusal};

/// Where the peer wants its media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// Whether the media address is of IP6.
    pub(super) ipv6: bool,
    /// `None` if it must not be sent to (the hold of RFC 2543: `c=IN IP4 0.0.0.0`).
    pub(super) rtp: Option<SocketAddr>,
    /// `None` sends no RTCP.
    pub(super) rtcp: Option<SocketAddr>,
    /// The peer offers or accepts RTCP on the RTP port.
    pub(super) rtcp_mux: bool,
}

/// The addresses of one media description.
pub(super) fn remote(
    description: &SessionDescription,
    media: &MediaDescription,
    local: &LocalMedia,
) -> Result<Remote, Refusal> {
    let address = description.connection_of(media).and_then(|connection| connection.address());
    let address = address.ok_or(Refusal::AddressFormat)?;
    if !local.families.contains(address.is_ipv6()) {
        return Err(Refusal::AddressFormat);
    }
    let rtcp_mux = media.attributes.contains(&Attribute::RtcpMux);
    if address.is_unspecified() {
        return Ok(Remote { ipv6: address.is_ipv6(), rtp: None, rtcp: None, rtcp_mux });
    }
    let rtp = SocketAddr::new(address, media.port);
    let rtcp = if rtcp_mux { Some(rtp) } else { rtcp(media, rtp) };
    for target in [Some(rtp), rtcp].into_iter().flatten() {
        if is_forbidden(target, local) {
            return Err(Refusal::ForbiddenAddress);
        }
    }
    Ok(Remote { ipv6: address.is_ipv6(), rtp: Some(rtp), rtcp, rtcp_mux })
}

/// `a=rtcp` (RFC 3605), else the next port. Port 0 and another family mean no RTCP.
fn rtcp(media: &MediaDescription, rtp: SocketAddr) -> Option<SocketAddr> {
    let said = media.attributes.iter().find_map(|attribute| match attribute {
        Attribute::Rtcp { port, address } => Some((*port, address.unwrap_or_else(|| rtp.ip()))),
        _ => None,
    });
    let (port, address) = match said {
        Some(said) => said,
        None => (rtp.port().checked_add(1)?, rtp.ip()),
    };
    (port != 0 && address.is_ipv6() == rtp.is_ipv6() && !address.is_unspecified())
        .then_some(SocketAddr::new(address, port))
}

impl LocalMedia {
    /// Whether media must not go to an address: a group, nobody, or our own control ports.
    #[must_use]
    pub fn forbids(&self, target: SocketAddr) -> bool {
        is_forbidden(target, self)
    }
}

/// The reflection guard: nobody may make us send media to a group, to nobody, or to our own control ports.
fn is_forbidden(target: SocketAddr, local: &LocalMedia) -> bool {
    let address = target.ip().to_canonical();
    let reserved = match address {
        // 0/8 "this network", 240/4 reserved, and the broadcast address in it (RFC 6890).
        IpAddr::V4(address) => address.octets()[0] == 0 || address.octets()[0] >= 240,
        // An IPv4 address in disguise, and link-local addresses, which mean nothing without their link.
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let disguised = target.is_ipv6() && address.is_ipv4();
    let own = local.control_addresses.iter().any(|control| {
        let here = control.ip() == address
            // By way of a router that knows us, too.
            || local.own_addresses.contains(&address)
            || control.ip().is_unspecified() && address.is_loopback();
        control.port() == target.port() && here
    });
    reserved || disguised || own || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Audio per packet to send: what the peer asks for, in steps of 10 ms from 10 to 60, within its maximum.
pub(super) fn ptime(description: &SessionDescription, media: &MediaDescription, ours: Duration) -> Duration {
    let find = |wanted: fn(&Attribute) -> Option<u16>| {
        media.attributes.iter().find_map(wanted).or_else(|| description.attributes.iter().find_map(wanted))
    };
    let ptime = find(|attribute| match attribute {
        Attribute::Ptime(milliseconds) => Some(*milliseconds),
        _ => None,
    });
    let most = find(|attribute| match attribute {
        Attribute::MaxPtime(milliseconds) => Some(*milliseconds),
        _ => None,
    });
    let wanted = ptime.map_or(ours, |milliseconds| Duration::from_millis(milliseconds.into()));
    let allowed = most.map_or(wanted, |most| wanted.min(Duration::from_millis(most.into())));
    let tens = (allowed.as_millis() / 10).clamp(1, 6);
    Duration::from_millis(10) * tens as u32
}
