//! From a local port to the stream that owns it, by one array look-up.

use xdp::PortIndex;

use crate::stream::Component;

/// See the module's documentation. Its memory is taken once.
#[derive(Debug)]
pub(super) struct Demux {
    owners: Box<[Option<(u32, Component)>]>,
}

impl Demux {
    pub(super) fn new(ports: usize) -> Self {
        Self { owners: vec![None; ports].into() }
    }

    /// Gives a port to a stream's slot; false if the device numbers its ports too high.
    #[must_use]
    pub(super) fn insert(&mut self, port: PortIndex, slot: u32, component: Component) -> bool {
        let Some(owner) = self.owners.get_mut(port.0 as usize) else { return false };
        *owner = Some((slot, component));
        true
    }

    pub(super) fn remove(&mut self, port: PortIndex) {
        if let Some(owner) = self.owners.get_mut(port.0 as usize) {
            *owner = None;
        }
    }

    /// Whose port it is.
    pub(super) fn owner(&self, port: PortIndex) -> Option<(u32, Component)> {
        *self.owners.get(port.0 as usize)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_names_its_stream_until_it_is_removed() {
        let mut demux = Demux::new(2);
        assert!(demux.insert(PortIndex(1), 7, Component::Rtcp));
        assert_eq!(demux.owner(PortIndex(1)), Some((7, Component::Rtcp)));
        assert_eq!(demux.owner(PortIndex(0)), None);
        demux.remove(PortIndex(1));
        assert_eq!(demux.owner(PortIndex(1)), None);
    }

    #[test]
    fn a_port_beyond_the_table_is_refused() {
        let mut demux = Demux::new(2);
        assert!(!demux.insert(PortIndex(2), 7, Component::Rtp));
        demux.remove(PortIndex(u32::MAX));
        assert_eq!(demux.owner(PortIndex(u32::MAX)), None);
    }
}
