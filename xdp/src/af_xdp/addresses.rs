//! The addresses of this host, as the program must know them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crate::next_hop::AddressKeeper;
use crate::program::PortTable;
use crate::wire::MacAddress;

/// What the program was told.
#[derive(Debug)]
pub(super) struct Addresses {
    ports: Arc<PortTable>,
    told: Vec<IpAddr>,
    mac: Option<MacAddress>,
}

impl Addresses {
    pub(super) const fn new(ports: Arc<PortTable>) -> Self {
        Self { ports, told: Vec::new(), mac: None }
    }
}

impl AddressKeeper for Addresses {
    /// Tells the program what has changed. Addresses of all interfaces count, for this host answers for each of them on
    /// every interface.
    fn addresses_are(&mut self, now: &[IpAddr], mac: MacAddress) -> io::Result<()> {
        let renewed = self.mac != Some(mac);
        for gone in self.told.extract_if(.., |told| !now.contains(told)) {
            self.ports.remove_address(gone)?;
        }
        for ip in now.iter().copied().filter(|ip| !ip.is_loopback()) {
            let known = self.told.contains(&ip);
            if renewed || !known {
                self.ports.set_address(ip, mac.0)?;
            }
            if !known {
                self.told.push(ip);
            }
        }
        self.mac = Some(mac);
        Ok(())
    }
}
