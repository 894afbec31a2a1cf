//! What changes in the kernel's tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{self, Attributes, Message, Messages, ip};
use super::tables::{Address, Link, Neighbour};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interface is new or has changed.
    Link(Link),
    /// The interface with this index is gone.
    LinkGone(u32),
    /// An address was added to an interface or has changed.
    Address(Address),
    /// An address was taken from an interface.
    AddressGone(Address),
    /// Routes to this network were added, changed or removed.
    Routes(Prefix),
    /// The rules that choose among routing tables have changed.
    Rules,
    /// A neighbour is new or has changed.
    Neighbour(Neighbour),
    /// The kernel has forgotten a neighbour.
    NeighbourGone(Neighbour),
    /// Changes were lost because they came too fast: everything may be different.
    Lost,
}

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    ip: IpAddr,
    len: u8,
}

impl Prefix {
    /// A network by one of its addresses and the number of leading bits that all have in common.
    #[must_use]
    pub const fn new(ip: IpAddr, len: u8) -> Self {
        Self { ip, len }
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let differing = match (self.ip, ip) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (ours.to_bits() ^ theirs.to_bits()).leading_zeros(),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits() ^ theirs.to_bits()).leading_zeros(),
            _ => return false,
        };
        differing >= self.len.into()
    }
}

/// The changes that a datagram from the kernel tells, in order; what is of no interest is left out.
pub fn events(datagram: &[u8]) -> impl Iterator<Item = Event> + '_ {
    Messages::new(datagram).filter_map(|message| event(&message))
}

fn event(message: &Message<'_>) -> Option<Event> {
    let body = message.body;
    Some(match message.kind {
        message::NEWLINK => Event::Link(Link::parse(body)?),
        message::DELLINK => Event::LinkGone(Link::parse_gone(body)?),
        message::NEWADDR => Event::Address(Address::parse(body)?),
        message::DELADDR => Event::AddressGone(Address::parse(body)?),
        message::NEWROUTE | message::DELROUTE => Event::Routes(prefix(body)?),
        message::NEWRULE | message::DELRULE => Event::Rules,
        message::NEWNEIGH => Event::Neighbour(Neighbour::parse(body)?),
        message::DELNEIGH => Event::NeighbourGone(Neighbour::parse(body)?),
        _ => return None,
    })
}

fn prefix(body: &[u8]) -> Option<Prefix> {
    let (header, attributes) = body.split_first_chunk::<{ message::ROUTE_BYTES }>()?;
    // The default route has no destination.
    let all = match header[0] {
        message::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        message::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let destination = Attributes::new(attributes).find(|(kind, _)| *kind == message::RTA_DST);
    let ip = match destination {
        Some((_, value)) => ip(value)?,
        None => all,
    };
    Some(Prefix::new(ip, header[1]))
}
