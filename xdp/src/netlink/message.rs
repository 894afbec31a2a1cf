//! The form of routing netlink: headers, attributes, and the numbers of linux/rtnetlink.h, neighbour.h and if_link.h.

use std::net::IpAddr;

/// A request being put together.
#[derive(Debug)]
pub(super) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    pub(super) const fn new(kind: u16, flags: u16) -> Self {
        Self { kind, flags: flags | REQUEST, body: Vec::new() }
    }

    pub(super) const fn flags(&self) -> u16 {
        self.flags
    }

    /// Adds the fixed header that follows, a multiple of four bytes.
    pub(super) fn put(mut self, header: &[u8]) -> Self {
        self.body.extend_from_slice(header);
        self
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let len = ATTRIBUTE_BYTES + value.len();
        self.body.extend_from_slice(&(len as u16).to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(ALIGNMENT), 0);
        self
    }

    pub(super) fn ip(self, kind: u16, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.attribute(kind, &ip.octets()),
            IpAddr::V6(ip) => self.attribute(kind, &ip.octets()),
        }
    }

    pub(super) fn finish(self, sequence: u32) -> Vec<u8> {
        let len = (HEADER_BYTES + self.body.len()) as u32;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.body.len());
        bytes.extend(len.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        // The port is the kernel's to know.
        bytes.extend([0; 4]);
        bytes.extend(self.body);
        bytes
    }
}

/// struct ndmsg.
pub(super) fn neighbour_header(interface: u32, ip: IpAddr, flags: u8) -> [u8; NEIGHBOUR_BYTES] {
    let [a, b, c, d] = interface.to_ne_bytes();
    [family(ip), 0, 0, 0, a, b, c, d, 0, 0, flags, 0]
}

pub(super) const fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// The messages of a datagram, up to the first whose length is impossible.
#[derive(Clone, Copy, Debug)]
pub(super) struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    pub(super) const fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let rest = std::mem::take(&mut self.0);
        let header = rest.first_chunk::<HEADER_BYTES>()?;
        let len = u32_at(header, 0)? as usize;
        let body = rest.get(HEADER_BYTES..len)?;
        self.0 = rest.get(len.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some(Message { kind: u16_at(header, 4)?, sequence: u32_at(header, 8)?, body })
    }
}

/// The attributes after a fixed header, up to the first whose length is impossible.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let rest = std::mem::take(&mut self.0);
        let len = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & KIND_MASK;
        let value = rest.get(ATTRIBUTE_BYTES..len)?;
        self.0 = rest.get(len.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// An address by its length.
pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(*value.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*value.first_chunk::<16>()?)),
        _ => None,
    }
}

pub(super) const HEADER_BYTES: usize = 16;
const ATTRIBUTE_BYTES: usize = 4;
const ALIGNMENT: usize = 4;
/// Without the marks "nested" and "network byte order".
const KIND_MASK: u16 = 0x3fff;

/// struct ifinfomsg, ifaddrmsg, rtmsg, ndmsg.
pub(super) const LINK_BYTES: usize = 16;
pub(super) const ADDRESS_BYTES: usize = 8;
pub(super) const ROUTE_BYTES: usize = 12;
pub(super) const NEIGHBOUR_BYTES: usize = 12;

const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const CREATE: u16 = 0x400;

pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;
pub(super) const NEWLINK: u16 = 16;
pub(super) const DELLINK: u16 = 17;
pub(super) const GETLINK: u16 = 18;
pub(super) const NEWADDR: u16 = 20;
pub(super) const DELADDR: u16 = 21;
pub(super) const GETADDR: u16 = 22;
pub(super) const NEWROUTE: u16 = 24;
pub(super) const DELROUTE: u16 = 25;
pub(super) const GETROUTE: u16 = 26;
pub(super) const NEWNEIGH: u16 = 28;
pub(super) const DELNEIGH: u16 = 29;
pub(super) const GETNEIGH: u16 = 30;
pub(super) const NEWRULE: u16 = 32;
pub(super) const DELRULE: u16 = 33;
pub(super) const GETRULE: u16 = 34;

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// Link, neighbour, and of both families address, route and rule.
pub(super) const GROUPS: u32 = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18;

pub(super) const IFF_UP: u32 = 1 << 0;
pub(super) const IFF_LOWER_UP: u32 = 1 << 16;
pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_STATS64: u16 = 23;
pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_EXT_MASK: u16 = 29;
pub(super) const IFLA_LINK_NETNSID: u16 = 37;
pub(super) const IFLA_XDP: u16 = 43;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
pub(super) const IFLA_VLAN_ID: u16 = 1;
/// The program, then those of the driver, generic and hardware modes.
pub(super) const IFLA_XDP_PROG_IDS: [u16; 4] = [4, 5, 6, 7];
pub(super) const SKIP_STATISTICS: u32 = 1 << 3;

pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;

pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_SRC: u16 = 2;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_VIA: u16 = 18;
pub(super) const RTA_ENCAP_TYPE: u16 = 21;
pub(super) const RTA_ENCAP: u16 = 22;
pub(super) const RTN_UNICAST: u8 = 1;
pub(super) const RTN_LOCAL: u8 = 2;
pub(super) const RTN_BROADCAST: u8 = 3;
pub(super) const RTN_ANYCAST: u8 = 4;
pub(super) const RTN_MULTICAST: u8 = 5;

pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
pub(super) const NTF_USE: u8 = 1;
