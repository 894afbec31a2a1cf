//! Facts about machines: recorded file trees, and network namespaces whose settings are known.

mod netns;

use std::collections::BTreeMap;
use std::path::PathBuf;

use netns::{Cable, Options};
use xdp::host::ethtool::{Channels, Ethtool};
use xdp::host::link::{self, Attached};
use xdp::host::machine::{Capability, HugePages, Settings};
use xdp::host::rss::Rss;
use xdp::host::steering::{PortQueue, Steering};
use xdp::host::{Interface, Machine};

/// A recorded tree, unpacked: each file after a line with its path.
struct Tree(PathBuf);

impl Tree {
    fn unpack(name: &str, recorded: &str) -> Self {
        let root = std::env::temp_dir().join(format!("sidetone-host-{}-{name}", std::process::id()));
        for file in recorded.split("== ").filter(|file| !file.is_empty()) {
            let (path, text) = file.split_once('\n').expect("a path and a text");
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        Self(root)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_server_with_two_nodes_is_read_from_its_files() {
    let tree = Tree::unpack("two-nodes", include_str!("host/two-nodes.txt"));
    let machine = Machine::read_below(&tree.0);
    let expected = Machine {
        kernel: "6.12.30-amd64".into(),
        virtual_machine: Some(false),
        cpus: vec![0, 1, 2, 3],
        isolated: vec![1, 3],
        nodes: BTreeMap::from([(0, vec![0, 2]), (1, vec![1, 3])]),
        siblings: BTreeMap::from([(0, vec![0, 2]), (1, vec![1, 3]), (2, vec![0, 2]), (3, vec![1, 3])]),
        governors: BTreeMap::from([(0, "schedutil".into()), (1, "performance".into())]),
        clock_source: Some("tsc".into()),
        hugepages: Some(HugePages { size_kib: 2048, total: 512, free: 480 }),
        capabilities: Some(0xc0_0000_3000),
        settings: Settings {
            unprivileged_bpf_disabled: Some(2),
            bpf_jit_enable: Some(1),
            io_uring_disabled: Some(0),
            reserved_ports: Some(vec![20_000..=29_999, 40_000..=40_000]),
            ephemeral_ports: Some(32_768..=60_999),
            rmem_max: Some(212_992),
            netdev_budget: Some(300),
            rt_runtime_us: Some(950_000),
        },
        ..Machine::default()
    };
    assert_eq!(machine, expected);
    assert_eq!(machine.kernel_version(), Some((6, 12)));
    assert_eq!(machine.node_of(3), Some(1));
    for (capability, has) in [
        (Capability::NetAdmin, true),
        (Capability::NetRaw, true),
        (Capability::Bpf, true),
        (Capability::SysAdmin, false),
        (Capability::IpcLock, false),
        (Capability::SysNice, false),
    ] {
        assert_eq!(machine.has(capability), Some(has), "{}", capability.name());
    }

    let interface = Interface::read_below(&tree.0, "enp193s0");
    assert_eq!((interface.index, interface.up, interface.mtu), (4, true, Some(1500)));
    assert_eq!((interface.speed, interface.node), (Some(100_000), Some(1)));
    let interrupts: Vec<_> =
        interface.interrupts.iter().map(|one| (one.number, &*one.name, &*one.cpus)).collect();
    // Not those of the other port of the same card, and not the card's own.
    assert_eq!(interrupts, [(65, "ice-enp193s0-TxRx-0", &[1][..]), (66, "ice-enp193s0-TxRx-1", &[2])]);
}

#[test]
fn a_tree_without_any_file_is_a_machine_of_which_nothing_is_known() {
    let tree = Tree::unpack("empty", "== proc/none\n");
    assert_eq!(Machine::read_below(&tree.0), Machine::default());
    assert_eq!(Machine::default().has(Capability::Bpf), None);
    let interface = Interface::read_below(&tree.0, "eth0");
    assert_eq!(interface, Interface { name: "eth0".into(), ..Interface::default() });
}

#[test]
fn this_machine_can_be_read() {
    let machine = Machine::read();
    assert!(machine.kernel_version().is_some_and(|version| version >= (5, 0)), "{}", machine.kernel);
    assert!(!machine.cpus.is_empty() && !machine.allowed.is_empty());
    assert!(machine.capabilities.is_some() && machine.settings.ephemeral_ports.is_some());
    assert!(Interface::names().iter().any(|name| name == "lo"));
    let loopback = Interface::read("lo").expect("there is always one");
    assert_eq!((loopback.index, loopback.attached), (1, Some(Attached::None)));
    assert!(!loopback.features.is_empty());
    assert!(Interface::read("st-none").is_err());
}

#[test]
fn the_driver_of_a_cable_is_asked() {
    let test = "the_driver_of_a_cable_is_asked";
    let Some(cable) = Cable::or_skip(test, Options { queues: 3, checksums: false }) else { return };
    let name = &cable.near.interface;
    cable.near.run(|| {
        let interface = Interface::read(name).expect("the cable");
        assert_eq!(interface.driver.as_ref().map(|driver| &*driver.name), Some("veth"));
        assert_eq!(interface.channels, Some(Channels { receive: 3, receive_max: 3, combined: false }));
        assert_eq!(interface.attached, Some(Attached::None));
        if let Some(xdp) = interface.xdp {
            assert!(xdp.native && xdp.redirect && !xdp.zero_copy);
        }
        let checksums = interface.feature("tx-checksum-ip-generic").expect("veth has it");
        assert!(checksums.on && checksums.switchable);
        assert!(interface.feature("rx-ntuple-filter").is_none_or(|feature| !feature.on));
        assert!(interface.rss.expect("asked").is_err(), "veth has no receive hash");
        assert_eq!(link::attached(interface.index).expect("a link"), Attached::None);
        assert!(Rss::read(&Ethtool::new().expect("a socket"), "st-none").is_err());
    });
    cable.near.ethtool(&["-K", name, "tx", "off"]).expect("switched");
    cable.near.run(|| {
        let features = Ethtool::new().expect("a socket").features(name).expect("the cable");
        assert!(!features["tx-checksum-ip-generic"].on);
    });
}

#[test]
fn a_cable_takes_no_rules_and_says_so() {
    let Some(cable) =
        Cable::or_skip("a_cable_takes_no_rules_and_says_so", Options { queues: 2, ..Options::default() })
    else {
        return;
    };
    cable.near.run(|| {
        let wanted =
            [PortQueue { ports: 20_000..=24_999, queue: 0 }, PortQueue { ports: 25_000..=29_999, queue: 1 }];
        let ethtool = Ethtool::new().expect("a socket");
        let error = Steering::set(ethtool, &cable.near.interface, &wanted).expect_err("veth has no rules");
        assert_eq!(error.raw_os_error(), Some(95), "{error}");
    });
}
