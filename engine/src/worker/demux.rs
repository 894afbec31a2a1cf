//! From a local port to the stream or relay that owns it, by one array look-up.

use xdp::PortIndex;

use crate::relay::Side;
use crate::stream::Component;

/// Whose port it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A stream's slot.
    Stream(u32, Component),
    /// A relay's slot.
    Relay(u32, Side, Component),
}

/// See the module's documentation. Its memory is taken once, four bytes per port.
#[derive(Debug)]
pub(super) struct Demux {
    owners: Box<[u32]>,
}

impl Demux {
    pub(super) fn new(ports: usize) -> Self {
        Self { owners: vec![NOBODY; ports].into() }
    }

    /// Gives a port to its owner; false if the device numbers its ports too high.
    #[must_use]
    pub(super) fn insert(&mut self, port: PortIndex, owner: Owner) -> bool {
        let Some(place) = self.owners.get_mut(port.0 as usize) else { return false };
        *place = pack(owner);
        true
    }

    pub(super) fn remove(&mut self, port: PortIndex) {
        if let Some(owner) = self.owners.get_mut(port.0 as usize) {
            *owner = NOBODY;
        }
    }

    /// Whose port it is.
    #[inline]
    pub(super) fn owner(&self, port: PortIndex) -> Option<Owner> {
        let &packed = self.owners.get(port.0 as usize)?;
        (packed != NOBODY).then(|| unpack(packed))
    }
}

/// Slots are below 2^20, so nobody's number is no owner's.
const NOBODY: u32 = u32::MAX;
const RTCP: u32 = 1;
const RELAY: u32 = 2;
const SIDE_B: u32 = 4;
const SLOT_SHIFT: u32 = 3;

fn pack(owner: Owner) -> u32 {
    let rtcp = |component| if component == Component::Rtcp { RTCP } else { 0 };
    match owner {
        Owner::Stream(slot, component) => slot << SLOT_SHIFT | rtcp(component),
        Owner::Relay(slot, side, component) => {
            let side = if side == Side::B { SIDE_B } else { 0 };
            slot << SLOT_SHIFT | RELAY | side | rtcp(component)
        }
    }
}

fn unpack(packed: u32) -> Owner {
    let component = if packed & RTCP == 0 { Component::Rtp } else { Component::Rtcp };
    let slot = packed >> SLOT_SHIFT;
    if packed & RELAY == 0 {
        Owner::Stream(slot, component)
    } else {
        Owner::Relay(slot, if packed & SIDE_B == 0 { Side::A } else { Side::B }, component)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_names_its_owner_until_it_is_removed() {
        let mut demux = Demux::new(2);
        let slots = [0, 7, (1 << 20) - 1];
        let owners = slots.into_iter().flat_map(|slot| {
            [Component::Rtp, Component::Rtcp].into_iter().flat_map(move |component| {
                let relay = |side| Owner::Relay(slot, side, component);
                [Owner::Stream(slot, component), relay(Side::A), relay(Side::B)]
            })
        });
        for owner in owners {
            assert!(demux.insert(PortIndex(1), owner));
            assert_eq!(demux.owner(PortIndex(1)), Some(owner));
        }
        assert_eq!(demux.owner(PortIndex(0)), None);
        demux.remove(PortIndex(1));
        assert_eq!(demux.owner(PortIndex(1)), None);
    }

    #[test]
    fn a_port_beyond_the_table_is_refused() {
        let mut demux = Demux::new(2);
        assert!(!demux.insert(PortIndex(2), Owner::Stream(7, Component::Rtp)));
        demux.remove(PortIndex(u32::MAX));
        assert_eq!(demux.owner(PortIndex(u32::MAX)), None);
    }
}
