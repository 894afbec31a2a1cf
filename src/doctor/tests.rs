//! A server that is set up badly, and the same one well.

use std::collections::BTreeMap;

use engine::config::{AfXdpConfig, Want, XdpMode};
use xdp::host::ethtool::{Channels, Coalescing, Driver, Feature, HashFields, ReceiveHash, Rings};
use xdp::host::interface::Interrupt;
use xdp::host::link::{Attached, XdpFeatures};
use xdp::host::machine::{HugePages, Limits, Settings};
use xdp::host::rss::Rss;

use super::report::Status;
use super::*;

fn rss(ports: bool) -> Result<Rss, &'static str> {
    let fields = HashFields { addresses: true, ports };
    Rss::new(ReceiveHash { key: vec![0x6d; 52], table: (0..4).collect(), toeplitz: true }, fields, fields)
}

/// Two sockets of four cores, and a NIC on the second; nothing has been done to it.
fn untouched() -> Facts {
    let machine = Machine {
        kernel: "6.12.30".into(),
        virtual_machine: Some(false),
        cpus: (0..16).collect(),
        allowed: (0..16).collect(),
        nodes: [(0, vec![0, 1, 2, 3, 8, 9, 10, 11]), (1, vec![4, 5, 6, 7, 12, 13, 14, 15])].into(),
        siblings: (0..16).map(|cpu| (cpu, vec![cpu % 8, cpu % 8 + 8])).collect(),
        governors: (0..16).map(|cpu| (cpu, "schedutil".to_owned())).collect(),
        clock_source: Some("hpet".into()),
        hugepages: Some(HugePages { size_kib: 2048, total: 0, free: 0 }),
        limits: Limits {
            locked_bytes: Some(128 << 20),
            open_files: Some(1 << 20),
            real_time_priority: Some(0),
        },
        // CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW.
        capabilities: Some(1 << 39 | 1 << 38 | 1 << 12 | 1 << 13),
        settings: Settings {
            io_uring_disabled: Some(0),
            bpf_jit_enable: Some(1),
            reserved_ports: Some(Vec::new()),
            ephemeral_ports: Some(32_768..=60_999),
            rmem_max: Some(212_992),
            netdev_budget: Some(300),
            rt_runtime_us: Some(950_000),
            ..Settings::default()
        },
        ..Machine::default()
    };
    let switched = |on| Feature { on, switchable: true };
    let interface = Interface {
        name: "eth0".into(),
        index: 2,
        up: true,
        mtu: Some(9000),
        speed: Some(25_000),
        driver: Some(Driver { name: "ice".into(), firmware: "4.40".into(), bus: "0000:c1:00.0".into() }),
        node: Some(1),
        attached: Some(Attached::None),
        xdp: Some(XdpFeatures { native: true, redirect: true, redirect_target: true, zero_copy: true }),
        channels: Some(Channels { receive: 16, receive_max: 16, combined: true }),
        rings: Some(Rings { receive: 512, receive_max: 8160, transmit: 512, transmit_max: 8160 }),
        coalescing: Some(Coalescing { receive_us: 50, receive_frames: 0, adaptive: true }),
        rss: Some(rss(false)),
        features: BTreeMap::from([
            ("rx-ntuple-filter".to_owned(), switched(false)),
            ("rx-lro".to_owned(), switched(true)),
            ("rx-gro-list".to_owned(), switched(true)),
        ]),
        interrupts: (0..3)
            .map(|queue| Interrupt {
                number: 65 + queue,
                name: format!("ice-eth0-TxRx-{queue}"),
                cpus: vec![0],
            })
            .collect(),
        deferred_interrupts: Some(0),
    };
    let af_xdp = AfXdpConfig { interface: Some("eth0".into()), ..AfXdpConfig::default() };
    let engine = EngineConfig {
        media_cpus: vec![3, 4, 12],
        wait: WaitPolicy::Busy,
        priority: Some(50),
        lock_memory: true,
        af_xdp,
        ..EngineConfig::default()
    };
    Facts { engine, signaling_cpus: vec![3], max_calls: 2000, machine, interface: Some(Ok(interface)) }
}

fn found<'a>(report: &'a Report, id: &str) -> &'a report::Check {
    report.checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no check {id}"))
}

#[test]
fn every_fault_of_a_server_is_found_with_its_command() {
    let report = untouched().report();
    let mut faults = String::new();
    for check in report.checks.iter().filter(|check| check.status != Status::Ok) {
        let advice = check.fix.as_deref().or(check.note.as_deref()).unwrap_or("-");
        faults += &format!("{} {}: {} => {advice}\n", check.status.name(), check.id, check.found);
    }
    let expected = "\
warning locked_memory: 131072 KiB; media.lock_memory wants no limit => ulimit -l unlimited
warning real_time: SCHED_FIFO 50 is not allowed => ulimit -r 50
warning real_time_share: 950000 us of each second (kernel.sched_rt_period_us) => sysctl -w kernel.sched_rt_runtime_us=-1
warning hugepages: 0 free of 2048 KiB, frames take 24 => sysctl -w vm.nr_hugepages=24
warning receive_buffer: at most 208 KiB (net.core.rmem_max) => sysctl -w net.core.rmem_max=8388608
warning mtu: 9000 => ip link set dev eth0 mtu 1500
warning queues: 16 of 16 receive queues, 3 workers => ethtool -L eth0 combined 3
warning receive_hash: ports of UDP packets are not hashed: all packets of a peer come to one queue => \
ethtool -N eth0 rx-flow-hash udp4 sdfn && ethtool -N eth0 rx-flow-hash udp6 sdfn
warning ntuple: off => ethtool -K eth0 ntuple on
warning rings: 512 to receive, 512 to transmit => ethtool -G eth0 rx 2048 tx 2048
warning lro: on => ethtool -K eth0 lro off
warning udp_gro: rx-gro-list is on => ethtool -K eth0 rx-gro-list off
warning coalescing: 50 us or 0 frames, adaptive => ethtool -C eth0 adaptive-rx off rx-usecs 20
warning interrupts: 65 on CPU 0; 66 on CPU 0; 67 on CPU 0 => echo 3 > /proc/irq/65/smp_affinity_list; \
echo 4 > /proc/irq/66/smp_affinity_list; echo 12 > /proc/irq/67/smp_affinity_list
warning numa: eth0 is on node 1, media CPU 3 are not => name CPUs of 4,5,6,7,12,13,14,15 with --media-cpus
warning cpu_sharing: CPU 3 also for signalling or AI streams => \
name other CPUs: --signaling-cpus 0,1,2,5,6,7,8,9,10,11,13,14,15 --stream-cpus 0,1,2,5,6,7,8,9,10,11,13,14,15
warning isolation: no CPU is isolated => add isolcpus=managed_irq,domain,3,4,12 to the kernel command line and boot
warning tickless: no CPU => add nohz_full=3,4,12 rcu_nocbs=3,4,12 to the kernel command line and boot
warning siblings: media CPU 4,12 share cores => name only some of 0,1,2,3,4,5,6,7 with --media-cpus
warning governor: schedutil on CPU 3 and 2 more => cpupower frequency-set -g performance
warning clock: hpet => echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource
";
    assert_eq!(faults, expected, "{}", report.text());
    assert_eq!(report.device, "af_xdp");
    assert!(!report.has_problem());
}

#[test]
fn a_server_that_is_set_up_well_has_no_fault() {
    let mut facts = untouched();
    facts.engine.media_cpus = vec![5, 6];
    facts.signaling_cpus = vec![0, 1];
    let machine = &mut facts.machine;
    machine.isolated = vec![5, 6];
    machine.tickless = vec![5, 6];
    machine.governors = BTreeMap::from([(5, "performance".into()), (6, "performance".into())]);
    machine.clock_source = Some("tsc".into());
    machine.hugepages = Some(HugePages { size_kib: 2048, total: 64, free: 64 });
    machine.capabilities = Some(u64::MAX);
    machine.settings.rt_runtime_us = Some(-1);
    machine.settings.rmem_max = Some(8 << 20);
    let Some(Ok(interface)) = &mut facts.interface else { unreachable!("it has one") };
    interface.mtu = Some(1500);
    interface.channels = Some(Channels { receive: 2, receive_max: 16, combined: true });
    interface.rings = Some(Rings { receive: 2048, receive_max: 8160, transmit: 2048, transmit_max: 8160 });
    interface.coalescing = Some(Coalescing { receive_us: 20, receive_frames: 0, adaptive: false });
    interface.rss = Some(rss(true));
    interface.features =
        BTreeMap::from([("rx-ntuple-filter".into(), Feature { on: true, switchable: true })]);
    interface.interrupts.truncate(2);
    for (interrupt, cpu) in interface.interrupts.iter_mut().zip([5, 6]) {
        interrupt.cpus = vec![cpu];
    }
    let report = facts.report();
    let faults: Vec<_> = report.checks.iter().filter(|check| check.status != Status::Ok).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(report.refused.is_empty());
}

#[test]
fn what_cannot_work_is_a_problem() {
    let mut facts = untouched();
    facts.engine.device = DeviceKind::AfXdp;
    facts.machine.limits.locked_bytes = Some(8 << 20);
    facts.engine.af_xdp.mode = XdpMode::Native;
    facts.engine.af_xdp.zero_copy = Want::Require;
    facts.engine.af_xdp.hugepages = Want::Require;
    facts.engine.af_xdp.queues = vec![0, 40];
    facts.engine.media_cpus = vec![99];
    let Some(Ok(interface)) = &mut facts.interface else { unreachable!("it has one") };
    interface.xdp = Some(XdpFeatures::default());
    interface.up = false;
    let report = facts.report();
    for id in [
        "device",
        "locked_memory",
        "hugepages",
        "interface",
        "xdp_mode",
        "zero_copy",
        "mtu",
        "queue_numbers",
        "media_cpus",
    ] {
        let check = found(&report, id);
        assert_eq!(check.status, Status::Problem, "{check:#?}");
        assert!(check.fix.is_some() || check.note.is_some(), "{check:#?}");
    }
    assert!(report.has_problem());
}

#[test]
fn the_ladder_goes_down_for_the_reasons_it_tells() {
    let mut facts = untouched();
    facts.machine.capabilities = Some(0);
    let (device, refused) = ladder::choose(&facts);
    assert_eq!(device, DeviceKind::IoUring);
    let reasons: Vec<_> = refused.iter().map(|(_, reason)| reason.as_str()).collect();
    let [xdp, lookup] =
        ["CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW", "CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW"]
            .map(|missing| format!("this process lacks {missing}"));
    assert_eq!(reasons, [xdp, lookup], "sk_lookup reads no packets");
    facts.machine.settings.io_uring_disabled = Some(2);
    facts.machine.kernel = "5.4.0".into();
    let (device, refused) = ladder::choose(&facts);
    assert_eq!(device, DeviceKind::Udp);
    let reasons: Vec<_> = refused.into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(
        reasons,
        ["5.10", "5.9", "6.0"].map(|least| format!("Linux 5.4.0 is older than {least}")),
        "the kernel comes before privileges"
    );
    let Some(Ok(interface)) = &mut facts.interface else { unreachable!("it has one") };
    interface.attached = Some(Attached::Native);
    assert!(ladder::choose(&facts).1[0].1.contains("has an XDP program already"));
}
