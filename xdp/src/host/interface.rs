//! One network interface.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::ethtool::{Channels, Coalescing, Driver, Ethtool, Feature, Rings};
use super::link::{self, Attached, XdpFeatures};
use super::rss::Rss;
use super::text::{Root, list};

/// A network interface and how it is set up. `None`: the driver or the kernel does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// The largest packet, in bytes.
    pub mtu: Option<u32>,
    /// In Mbit/s.
    pub speed: Option<u32>,
    /// The driver.
    pub driver: Option<Driver>,
    /// The NUMA node of its slot.
    pub node: Option<usize>,
    /// The XDP program on it.
    pub attached: Option<Attached>,
    /// What the driver can do for XDP.
    pub xdp: Option<XdpFeatures>,
    /// Queues.
    pub channels: Option<Channels>,
    /// Descriptors per queue.
    pub rings: Option<Rings>,
    /// Interrupts.
    pub coalescing: Option<Coalescing>,
    /// How packets are dealt to queues, or why that cannot be foretold.
    pub rss: Option<Result<Rss, &'static str>>,
    /// Offloads and filters by name.
    pub features: BTreeMap<String, Feature>,
    /// Its interrupts.
    pub interrupts: Vec<Interrupt>,
    /// Interrupts are put off while a thread polls (`napi_defer_hard_irqs`), so many times.
    pub deferred_interrupts: Option<u32>,
}

/// An interrupt of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// Its name, such as `ice-eth0-TxRx-3`.
    pub name: String,
    /// The CPUs that it may come to.
    pub cpus: Vec<usize>,
}

impl Interface {
    /// The interface of this name in the network namespace of the calling thread.
    ///
    /// # Errors
    /// There is none.
    pub fn read(name: &str) -> io::Result<Self> {
        let index = rustix::net::netdevice::name_to_index(
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?,
            name,
        )?;
        let files = Self::read_below(Path::new("/"), name);
        let ethtool = Ethtool::new()?;
        Ok(Self {
            index,
            driver: ethtool.driver(name).ok(),
            attached: link::attached(index).ok(),
            xdp: link::xdp_features(index).ok(),
            channels: ethtool.channels(name).ok(),
            rings: ethtool.rings(name).ok(),
            coalescing: ethtool.coalescing(name).ok(),
            rss: Some(Rss::read(&ethtool, name)),
            features: ethtool.features(name).unwrap_or_default(),
            ..files
        })
    }

    /// What the files below `root` say of it.
    #[must_use]
    pub fn read_below(root: &Path, name: &str) -> Self {
        let root = Root::new(root);
        let folder = format!("sys/class/net/{name}");
        Self {
            name: name.to_owned(),
            index: root.number(&format!("{folder}/ifindex")).unwrap_or(0),
            // Bit 0 is IFF_UP.
            up: root
                .text(&format!("{folder}/flags"))
                .and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok())
                .is_some_and(|flags| flags & 1 == 1),
            mtu: root.number(&format!("{folder}/mtu")),
            // -1: unknown.
            speed: root.number(&format!("{folder}/speed")),
            node: root.number(&format!("{folder}/device/numa_node")),
            interrupts: interrupts(&root, name),
            deferred_interrupts: root.number(&format!("{folder}/napi_defer_hard_irqs")),
            ..Self::default()
        }
    }

    /// Whether a feature is on; `None` if the driver does not have it.
    #[must_use]
    pub fn feature(&self, name: &str) -> Option<Feature> {
        self.features.get(name).copied()
    }

    /// The names of all interfaces.
    #[must_use]
    pub fn names() -> Vec<String> {
        Root::new(Path::new("/")).names("sys/class/net")
    }
}

/// The interrupts of a device: those of its bus, and those that bear the interface's name.
fn interrupts(root: &Root, interface: &str) -> Vec<Interrupt> {
    let device = format!("sys/class/net/{interface}/device");
    // The interrupts of a virtio device are those of the PCI device above it.
    let of_bus: Vec<String> = ["msi_irqs", "../msi_irqs"]
        .iter()
        .flat_map(|folder| root.names(&format!("{device}/{folder}")))
        .collect();
    let table = root.text("proc/interrupts").unwrap_or_default();
    let mut found: Vec<Interrupt> = table
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let (number, name) = (number.trim(), rest.split_whitespace().last()?);
            let ours = of_bus.iter().any(|known| known == number)
                || name.split(['-', '@', ':', '/']).any(|part| part == interface);
            let affinity =
                |file| root.text(&format!("proc/irq/{number}/{file}")).filter(|text| !text.is_empty());
            let cpus = affinity("effective_affinity_list").or_else(|| affinity("smp_affinity_list"));
            ours.then_some(Interrupt {
                number: number.parse().ok()?,
                name: name.to_owned(),
                cpus: list(&cpus.unwrap_or_default()),
            })
        })
        .collect();
    // Its own, if some bear its name: a device may have others for control.
    if found.iter().any(|interrupt| interrupt.name.contains("input") || interrupt.name.contains("TxRx")) {
        found.retain(|interrupt| !interrupt.name.contains("config") && !interrupt.name.contains("output"));
    }
    found
}
