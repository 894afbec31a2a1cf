//! A whole frame: from Ethernet to the payload.

use std::net::SocketAddr;
use std::ops::Range;

use super::checksum::{Sum, UdpChecksum};
use super::ethernet::{EtherType, Ethernet};
use super::ipv4::{self, Ipv4};
use super::ipv6::{self, Ipv6};
use super::udp::{self, Udp};
use super::{MacAddress, Reject};

/// What the headers of a received datagram say. It borrows nothing, so that the payload may be changed in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpFrame {
    /// Who shall get it. A network card that listens to all passes on what is for others.
    pub destination_mac: MacAddress,
    /// Who sent it on this wire.
    pub source_mac: MacAddress,
    /// The tag, if there is one (see [`Ethernet::vlan`]).
    pub vlan: Option<u16>,
    /// Who sent it. A link-local IPv6 address has no scope: the interface is the caller's knowledge.
    pub source: SocketAddr,
    /// Who shall get it.
    pub destination: SocketAddr,
    /// The differentiated services field.
    pub traffic_class: u8,
    /// What the checksum is.
    pub checksum: UdpChecksum,
    /// Where the UDP payload is in the frame.
    pub payload: Range<usize>,
}

impl UdpFrame {
    /// Checks a whole frame, checksums included.
    ///
    /// # Errors
    /// [`Reject`].
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, Reject> {
        let ethernet = Ethernet::parse(frame)?;
        let (header_bytes, traffic_class, source, destination, pseudo_header, udp) =
            match ethernet.ether_type() {
                EtherType::Ipv4 => {
                    let ip = Ipv4::parse(ethernet.payload())?;
                    let (source, destination) = (ip.source(), ip.destination());
                    (
                        ipv4::HEADER_BYTES,
                        ip.traffic_class(),
                        source.into(),
                        destination.into(),
                        ipv4::pseudo_header(source, destination),
                        Udp::parse(ip.payload())?,
                    )
                }
                EtherType::Ipv6 => {
                    let ip = Ipv6::parse(ethernet.payload())?;
                    let (source, destination) = (ip.source(), ip.destination());
                    (
                        ipv6::HEADER_BYTES,
                        ip.traffic_class(),
                        source.into(),
                        destination.into(),
                        ipv6::pseudo_header(source, destination),
                        Udp::parse(ip.payload())?,
                    )
                }
            };
        let ipv6 = ethernet.ether_type() == EtherType::Ipv6;
        let pseudo_header = pseudo_header.plus(Sum::of_word(udp.len()));
        let checksum = UdpChecksum::verify(udp.checksum(), pseudo_header, udp.datagram(), ipv6)?;
        let start = ethernet.header_bytes() + header_bytes;
        Ok(Self {
            destination_mac: ethernet.destination(),
            source_mac: ethernet.source(),
            vlan: ethernet.vlan(),
            source: SocketAddr::new(source, udp.source_port()),
            destination: SocketAddr::new(destination, udp.destination_port()),
            traffic_class,
            checksum,
            payload: start + udp::HEADER_BYTES..start + udp.datagram().len(),
        })
    }
}
