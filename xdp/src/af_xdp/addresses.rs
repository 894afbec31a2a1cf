//! The addresses of this host, as the program must know them.

use std::io;
use std::net::IpAddr;

use crate::netlink::Netlink;
use crate::program::XdpProgram;
use crate::wire::MacAddress;

/// What the program was told.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    told: Vec<IpAddr>,
    mac: Option<MacAddress>,
}

impl Addresses {
    /// Whether the program was told this MAC.
    pub(super) fn know(&self, mac: MacAddress) -> bool {
        self.mac == Some(mac)
    }

    /// Tells the program what has changed. Addresses of all interfaces count, for this host answers for each of them on
    /// every interface.
    pub(super) fn refresh(
        &mut self,
        netlink: &mut Netlink,
        program: &XdpProgram,
        mac: MacAddress,
    ) -> io::Result<()> {
        let now: Vec<IpAddr> = netlink
            .addresses()?
            .into_iter()
            .map(|address| address.ip)
            .filter(|ip| !ip.is_loopback())
            .collect();
        let renewed = self.mac != Some(mac);
        for gone in self.told.extract_if(.., |told| !now.contains(told)) {
            program.remove_address(gone)?;
        }
        for ip in now {
            let known = self.told.contains(&ip);
            if renewed || !known {
                program.set_address(ip, mac.0)?;
            }
            if !known {
                self.told.push(ip);
            }
        }
        self.mac = Some(mac);
        Ok(())
    }
}
