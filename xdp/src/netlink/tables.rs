//! What the kernel's tables hold, each read from one message.

use std::net::IpAddr;

use super::message::{self, Attributes, ip, u16_at, u32_at};
use crate::wire::MacAddress;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index, unique in its namespace while it exists.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; `None` for what is not Ethernet.
    pub mac: Option<MacAddress>,
    /// Whether it is switched on and has a carrier.
    pub up: bool,
    /// The largest packet without its Ethernet header, in bytes.
    pub mtu: u32,
    /// The interface below, if it is a VLAN of it.
    pub vlan: Option<VlanLink>,
    /// The identifiers of the XDP programs on it; 0 is none.
    pub programs: [u32; 4],
}

/// What a VLAN interface is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanLink {
    /// The interface that carries the tagged frames.
    pub parent: u32,
    /// The VLAN identifier.
    pub id: u16,
}

impl Link {
    /// Whether a program is attached, in whatever mode.
    #[must_use]
    pub fn has_program(&self, id: u32) -> bool {
        id != 0 && self.programs.contains(&id)
    }

    /// Reads what follows the netlink header of RTM_NEWLINK.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (header, attributes) = body.split_first_chunk::<{ message::LINK_BYTES }>()?;
        if header[0] != message::AF_UNSPEC {
            // A bridge's view of its ports.
            return None;
        }
        let flags = u32_at(header, 8)?;
        let wanted = message::IFF_UP | message::IFF_LOWER_UP;
        let mut link = Self {
            index: u32_at(header, 4)?,
            name: String::new(),
            mac: None,
            up: flags & wanted == wanted,
            mtu: 0,
            vlan: None,
            programs: [0; 4],
        };
        let (mut parent, mut foreign, mut vlan_id) = (None, false, None);
        for (kind, value) in Attributes::new(attributes) {
            match kind {
                message::IFLA_IFNAME => {
                    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                    link.name = String::from_utf8_lossy(name).into_owned();
                }
                message::IFLA_ADDRESS => link.mac = mac(value),
                message::IFLA_MTU => link.mtu = u32_at(value, 0)?,
                message::IFLA_LINK => parent = u32_at(value, 0),
                message::IFLA_LINK_NETNSID => foreign = true,
                message::IFLA_LINKINFO => vlan_id = vlan(value),
                message::IFLA_XDP => {
                    for (kind, value) in Attributes::new(value) {
                        let at = message::IFLA_XDP_PROG_IDS.iter().position(|id| *id == kind);
                        if let Some(program) = at.and_then(|at| link.programs.get_mut(at)) {
                            *program = u32_at(value, 0).unwrap_or(0);
                        }
                    }
                }
                _ => {}
            }
        }
        if !foreign && let (Some(parent), Some(id)) = (parent, vlan_id) {
            link.vlan = Some(VlanLink { parent, id });
        }
        Some(link)
    }

    /// How many frames it could not transmit (`tx_dropped` of struct rtnl_link_stats64), if the message says so.
    pub(super) fn parse_transmit_dropped(body: &[u8]) -> Option<u64> {
        let attributes = body.get(message::LINK_BYTES..)?;
        let mut found = Attributes::new(attributes).filter(|(kind, _)| *kind == message::IFLA_STATS64);
        let (_, statistics) = found.next()?;
        statistics.get(56..)?.first_chunk().copied().map(u64::from_ne_bytes)
    }

    /// The index of an interface that is gone, from the body of RTM_DELLINK.
    pub(super) fn parse_gone(body: &[u8]) -> Option<u32> {
        let header = body.first_chunk::<{ message::LINK_BYTES }>()?;
        (header[0] == message::AF_UNSPEC).then(|| u32_at(header, 4)).flatten()
    }
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface's index.
    pub interface: u32,
    /// The address.
    pub ip: IpAddr,
    /// The length of its network's prefix, in bits.
    pub prefix_len: u8,
}

impl Address {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (header, attributes) = body.split_first_chunk::<{ message::ADDRESS_BYTES }>()?;
        let (mut local, mut address) = (None, None);
        for (kind, value) in Attributes::new(attributes) {
            match kind {
                message::IFA_LOCAL => local = ip(value),
                message::IFA_ADDRESS => address = ip(value),
                _ => {}
            }
        }
        // On a point-to-point interface IFA_ADDRESS is the peer's.
        Some(Self { interface: u32_at(header, 4)?, ip: local.or(address)?, prefix_len: header[1] })
    }
}

/// The way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through an interface.
    Through {
        /// The interface's index.
        interface: u32,
        /// The router; `None` if the destination is on the link itself.
        gateway: Option<IpAddr>,
        /// The address that the kernel would send from.
        source: Option<IpAddr>,
    },
    /// It is this host.
    Local,
    /// Multicast, broadcast, or in a tunnel: for the kernel to send.
    Kernel,
    /// There is none, or it is forbidden.
    Unreachable,
}

impl Route {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (header, attributes) = body.split_first_chunk::<{ message::ROUTE_BYTES }>()?;
        match header[7] {
            message::RTN_UNICAST => {}
            message::RTN_LOCAL => return Some(Self::Local),
            message::RTN_BROADCAST | message::RTN_ANYCAST | message::RTN_MULTICAST => {
                return Some(Self::Kernel);
            }
            _ => return Some(Self::Unreachable),
        }
        let (mut interface, mut gateway, mut source) = (None, None, None);
        for (kind, value) in Attributes::new(attributes) {
            match kind {
                message::RTA_OIF => interface = u32_at(value, 0),
                message::RTA_GATEWAY => gateway = ip(value),
                // The family in two bytes, then the address: IPv4 by an IPv6 router (RFC 5549).
                message::RTA_VIA => gateway = ip(value.get(2..)?),
                message::RTA_PREFSRC => source = ip(value),
                message::RTA_ENCAP | message::RTA_ENCAP_TYPE => return Some(Self::Kernel),
                _ => {}
            }
        }
        Some(Self::Through { interface: interface?, gateway, source })
    }
}

/// What the kernel knows of a host on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link's index.
    pub interface: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC, if it is known.
    pub mac: Option<MacAddress>,
    /// How sure that is.
    pub state: NeighbourState,
}

/// The states of neighbour unreachability detection (RFC 4861 section 7.3.2; linux/neighbour.h), IPv4 too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Being asked for.
    Incomplete,
    /// Confirmed within the last half minute or so.
    Reachable,
    /// Not confirmed for a while; nobody asks.
    Stale,
    /// Not confirmed for a while; asked soon (DELAY) or now (PROBE).
    Verifying,
    /// It does not answer.
    Failed,
    /// By an administrator or by the kind of link; never asked for.
    Fixed,
}

impl Neighbour {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (header, attributes) = body.split_first_chunk::<{ message::NEIGHBOUR_BYTES }>()?;
        if ![message::AF_INET, message::AF_INET6].contains(&header[0]) {
            // A bridge's forwarding table.
            return None;
        }
        let state = match u16_at(header, 8)? {
            0x02 => NeighbourState::Reachable,
            0x04 => NeighbourState::Stale,
            0x08 | 0x10 => NeighbourState::Verifying,
            0x20 => NeighbourState::Failed,
            0x40 | 0x80 | 0xc0 => NeighbourState::Fixed,
            _ => NeighbourState::Incomplete,
        };
        let (mut address, mut lladdr) = (None, None);
        for (kind, value) in Attributes::new(attributes) {
            match kind {
                message::NDA_DST => address = ip(value),
                message::NDA_LLADDR => lladdr = mac(value),
                _ => {}
            }
        }
        let valid = !matches!(state, NeighbourState::Incomplete | NeighbourState::Failed);
        let mac = lladdr.filter(|mac| valid && mac.is_unicast());
        Some(Self { interface: u32_at(header, 4)?, ip: address?, mac, state })
    }
}

fn mac(value: &[u8]) -> Option<MacAddress> {
    Some(MacAddress(value.try_into().ok()?))
}

/// The identifier of IFLA_LINKINFO of a VLAN interface.
fn vlan(info: &[u8]) -> Option<u16> {
    let (mut is_vlan, mut id) = (false, None);
    for (kind, value) in Attributes::new(info) {
        match kind {
            message::IFLA_INFO_KIND => is_vlan = value.split(|byte| *byte == 0).next() == Some(b"vlan"),
            message::IFLA_INFO_DATA => {
                let found = Attributes::new(value).find(|(kind, _)| *kind == message::IFLA_VLAN_ID);
                id = found.and_then(|(_, value)| u16_at(value, 0));
            }
            _ => {}
        }
    }
    id.filter(|_| is_vlan)
}
