//! The network interface of media.

use engine::config::{Want, XdpMode};
use xdp::host::Interface;
use xdp::host::link::Attached;

use super::report::{Check, Status};
use super::{Facts, numbers};

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let why = "AF_XDP belongs to one network interface; its packets miss the kernel's network stack";
    let interface = match &facts.interface {
        None => {
            let found = "none is named, so there is no AF_XDP";
            let check = Check::new("interface", why, Status::Warning, found);
            return vec![
                check.note("name it with --interface NAME; `ip -brief link` lists them").for_bare_metal(true),
            ];
        }
        Some(Err(error)) => {
            let named = facts.engine.af_xdp.interface.as_deref().unwrap_or_default();
            let check = Check::new("interface", why, Status::Problem, format!("{named}: {error}"));
            return vec![check.note("name it with --interface NAME; `ip -brief link` lists them")];
        }
        Some(Ok(interface)) => interface,
    };
    let mut checks = vec![summary(interface, why), program(interface), xdp_mode(facts, interface)];
    checks.extend([zero_copy(facts, interface), mtu(facts, interface), queues(facts, interface)]);
    checks.extend(queue_numbers(facts, interface));
    checks.extend(hash(facts, interface));
    checks.push(rules(interface));
    checks.push(rings(interface));
    checks.extend(checksums(interface));
    checks.extend(merging(interface));
    checks.extend(vlan(interface));
    checks.push(coalescing(facts, interface));
    checks.extend(interrupts(facts, interface));
    checks.extend(node(facts, interface));
    checks
}

fn is_veth(interface: &Interface) -> bool {
    interface.driver.as_ref().is_some_and(|driver| driver.name == "veth")
}

fn summary(interface: &Interface, why: &'static str) -> Check {
    let name = &interface.name;
    let mut found = name.clone();
    if let Some(driver) = &interface.driver {
        found.push_str(&format!(", driver {}", driver.name));
        if !driver.bus.is_empty() {
            found.push_str(&format!(" at {}", driver.bus));
        }
    }
    if let Some(speed) = interface.speed {
        found.push_str(&format!(", {speed} Mbit/s"));
    }
    if interface.up {
        Check::new("interface", why, Status::Ok, found)
    } else {
        Check::new("interface", why, Status::Problem, format!("{found}, down"))
            .fix(format!("ip link set {name} up"))
    }
}

fn program(interface: &Interface) -> Check {
    let why = "an interface has room for one XDP program; AF_XDP cannot start beside another one (EBUSY)";
    let (status, found) = match interface.attached {
        None => (Status::Unknown, "cannot be read"),
        Some(Attached::None) => (Status::Ok, "none yet"),
        // Ours, if it runs.
        Some(Attached::Native) => {
            (Status::Warning, "one in the driver; fine if it is sidetone's, which runs")
        }
        Some(Attached::Generic) => {
            (Status::Warning, "one in the kernel's receive path; fine if it is sidetone's, which runs")
        }
        Some(Attached::Offloaded | Attached::Several) => (Status::Warning, "several, or one in the hardware"),
    };
    Check::new("xdp_program", why, status, found).fix(format!("ip link set dev {} xdp off", interface.name))
}

fn xdp_mode(facts: &Facts, interface: &Interface) -> Check {
    let why = "in the driver a program runs before the kernel makes a packet of its own of each frame: two to three times \
               as many packets per CPU";
    let wanted = facts.engine.af_xdp.mode;
    let (status, found) = match (interface.xdp, wanted) {
        (_, XdpMode::Generic) => (Status::Warning, "generic, as configured (media.xdp_mode)"),
        (None, _) => {
            (Status::Unknown, "the kernel does not say (before 6.3) whether the driver runs XDP programs")
        }
        (Some(xdp), _) if xdp.native => (Status::Ok, "the driver runs XDP programs"),
        (Some(_), XdpMode::Native) => {
            (Status::Problem, "the driver runs no XDP programs and media.xdp_mode is native")
        }
        (Some(_), XdpMode::Auto) => (Status::Warning, "the driver runs no XDP programs: generic"),
    };
    Check::new("xdp_mode", why, status, found)
        .note("media.xdp_mode = \"auto\"; docs/tuning.md names drivers that run them")
}

fn zero_copy(facts: &Facts, interface: &Interface) -> Check {
    let why = "without zero-copy the kernel copies every frame in and makes a packet of its own for every frame out";
    let (status, found) = match (interface.xdp, facts.engine.af_xdp.zero_copy) {
        (_, Want::Never) => (Status::Ok, "not wanted (media.zero_copy)"),
        (None, _) => (Status::Unknown, "the kernel does not say (before 6.3)"),
        (Some(xdp), _) if xdp.zero_copy => (Status::Ok, "the driver can"),
        (Some(_), Want::Require) => (Status::Problem, "the driver cannot and media.zero_copy is require"),
        // Nothing is to be done about it: no driver of a virtual cable ever can.
        (Some(_), Want::Auto) => (Status::Ok, "the driver cannot: frames are copied"),
    };
    Check::new("zero_copy", why, status, found).note("media.zero_copy = \"auto\"")
}

fn mtu(facts: &Facts, interface: &Interface) -> Check {
    let why =
        "a driver takes an XDP program only if the largest frame fits a page, with room before and after it";
    let Some(mtu) = interface.mtu else { return Check::new("mtu", why, Status::Unknown, "cannot be read") };
    let status = match mtu {
        0..=LARGEST_MTU => Status::Ok,
        _ if facts.engine.af_xdp.mode == XdpMode::Native => Status::Problem,
        _ if facts.engine.af_xdp.mode == XdpMode::Generic => Status::Ok,
        _ => Status::Warning,
    };
    Check::new("mtu", why, status, mtu.to_string())
        .fix(format!("ip link set dev {} mtu 1500", interface.name))
}

/// Measured with veth: 3498 is taken, 3520 is not. Drivers with smaller buffers take less.
const LARGEST_MTU: u32 = 3498;

/// The queues that media may come in on.
fn media_queues(facts: &Facts, interface: &Interface) -> Option<Vec<u32>> {
    let there = interface.channels?.receive;
    Some(match &*facts.engine.af_xdp.queues {
        [] => (0..there).collect(),
        queues => queues.to_vec(),
    })
}

fn queues(facts: &Facts, interface: &Interface) -> Check {
    let why = "a worker owns queues; one without a queue gets its packets through another worker, copied, and a queue that \
               nobody owns is left to the kernel";
    let workers = facts.workers();
    let (Some(channels), Some(queues)) = (interface.channels, media_queues(facts, interface)) else {
        return Check::new("queues", why, Status::Unknown, "the driver does not say");
    };
    let count = channels.receive;
    let shown = format!("{count} of {} receive queues, {workers} workers", channels.receive_max);
    let kind = if channels.combined { "combined" } else { "rx" };
    let fix = |wanted: usize| format!("ethtool -L {} {kind} {wanted}", interface.name);
    if facts.engine.af_xdp.queues.is_empty() || queues.len() == count as usize {
        let (status, wanted) = if queues.len() == workers {
            (Status::Ok, workers)
        } else if queues.len() > workers {
            // Several queues per worker work, but each costs a look per turn.
            (if queues.len().is_multiple_of(workers) { Status::Ok } else { Status::Warning }, workers)
        } else {
            (Status::Warning, workers.min(channels.receive_max as usize))
        };
        if status != Status::Ok && wanted == queues.len() {
            let found = format!("{shown}: no more queues to be had");
            return Check::new("queues", why, status, found)
                .note(format!("name {} CPUs with --media-cpus", channels.receive_max));
        }
        return Check::new("queues", why, status, shown).fix(fix(wanted));
    }
    // Only some of them: the others' packets never come to a worker.
    let others = numbers(&(0..count).filter(|queue| !queues.contains(queue)).collect::<Vec<_>>());
    let found = format!(
        "{shown}; media only from queue {} (media.queues), the kernel has {others}",
        numbers(&queues)
    );
    Check::new("queues", why, Status::Warning, found)
        .fix(format!(
            "ethtool -X {} start {} equal {}",
            interface.name,
            queues.iter().min().copied().unwrap_or(0),
            queues.len()
        ))
        .note("or rules that send media ports to those queues: ethtool -N")
}

fn queue_numbers(facts: &Facts, interface: &Interface) -> Option<Check> {
    let why = "a queue that does not exist cannot be bound";
    let count = interface.channels?.receive;
    let missing: Vec<u32> =
        facts.engine.af_xdp.queues.iter().copied().filter(|&queue| queue >= count).collect();
    let check =
        Check::new("queue_numbers", why, Status::Problem, format!("there is no queue {}", numbers(&missing)));
    let highest = missing.iter().max().copied()?;
    Some(check.fix(format!("ethtool -L {} combined {}", interface.name, highest + 1)))
}

fn hash(facts: &Facts, interface: &Interface) -> Option<Check> {
    let why = "where the hash is known, ports are chosen so that a call's packets come to its own worker's queue; else they \
               are handed over, copied and counted";
    if interface.channels.is_some_and(|channels| channels.receive < 2) || facts.workers() < 2 {
        return Some(Check::new(
            "receive_hash",
            why,
            Status::Ok,
            "one queue or one worker: nothing to choose",
        ));
    }
    let name = &interface.name;
    Some(match interface.rss.as_ref()? {
        Ok(rss) => {
            let found = format!("Toeplitz over addresses and ports, to queue {}", numbers(&rss.queues()));
            Check::new("receive_hash", why, Status::Ok, found)
        }
        Err(reason) if reason.contains("ports") => Check::new("receive_hash", why, Status::Warning, *reason)
            .fix(format!(
                "ethtool -N {name} rx-flow-hash udp4 sdfn && ethtool -N {name} rx-flow-hash udp6 sdfn"
            )),
        Err(reason) if reason.contains("Toeplitz") => {
            Check::new("receive_hash", why, Status::Warning, *reason)
                .fix(format!("ethtool -X {name} hfunc toeplitz"))
        }
        // Nothing is to be done with such a driver.
        Err(reason) => Check::new("receive_hash", why, Status::Unknown, *reason),
    })
}

fn rules(interface: &Interface) -> Check {
    let why =
        "with rules in the device each port range goes to its worker's queue, whatever the peer's address";
    let (status, found) = match interface.feature("rx-ntuple-filter") {
        Some(feature) if feature.on => (Status::Ok, "on"),
        Some(feature) if feature.switchable => (Status::Warning, "off"),
        _ => (Status::Ok, "the driver takes none"),
    };
    Check::new("ntuple", why, status, found).fix(format!("ethtool -K {} ntuple on", interface.name))
}

fn rings(interface: &Interface) -> Check {
    let why =
        "the ring holds what arrives while the worker is away; 1,000 calls are 100 packets in a millisecond";
    let Some(rings) = interface.rings else {
        let (status, found) = if is_veth(interface) {
            (Status::Ok, "256 per queue, as veth has it: at most 256 packets per tick")
        } else {
            (Status::Unknown, "the driver does not say")
        };
        return Check::new("rings", why, status, found);
    };
    let found = format!("{} to receive, {} to transmit", rings.receive, rings.transmit);
    let wanted = |max: u32| max.min(2048);
    let status =
        if rings.receive < wanted(rings.receive_max).min(1024) { Status::Warning } else { Status::Ok };
    Check::new("rings", why, status, found).fix(format!(
        "ethtool -G {} rx {} tx {}",
        interface.name,
        wanted(rings.receive_max),
        wanted(rings.transmit_max)
    ))
}

/// With veth kernel senders leave the checksum to a device that is never there.
fn checksums(interface: &Interface) -> Option<Check> {
    if !is_veth(interface) {
        return None;
    }
    let why = "kernel sockets leave UDP checksums unfinished on veth; whoever receives by AF_XDP, or forwards, sees wrong ones \
               (sidetone takes unfinished ones for good, other programs drop them)";
    let on = interface.feature("tx-checksum-ip-generic").is_some_and(|feature| feature.on);
    let (status, found) = if on {
        (Status::Warning, "unfinished (tx checksum offload is on)")
    } else {
        (Status::Ok, "complete")
    };
    Some(
        Check::new("checksums", why, status, found)
            .fix(format!("ethtool -K {} tx off", interface.name))
            .note("and the same for the other end of the cable"),
    )
}

/// Offloads that make one large packet of several.
fn merging(interface: &Interface) -> Vec<Check> {
    let is_on = |name| interface.feature(name).is_some_and(|feature| feature.on);
    let name = &interface.name;
    let mut checks = Vec::new();
    let why = "packets that the device merged are no longer those that were sent; drivers refuse XDP with it";
    let lro = is_on("rx-lro");
    let (status, found) = if lro { (Status::Warning, "on") } else { (Status::Ok, "off") };
    checks.push(Check::new("lro", why, status, found).fix(format!("ethtool -K {name} lro off")));
    let why = "merged UDP packets reach kernel sockets late and need another way to be received";
    let udp_gro = ["rx-udp-gro-forwarding", "rx-gro-list"].into_iter().find(|feature| is_on(feature));
    if let Some(feature) = udp_gro {
        checks.push(
            Check::new("udp_gro", why, Status::Warning, format!("{feature} is on"))
                .fix(format!("ethtool -K {name} {feature} off")),
        );
    }
    if is_veth(interface) {
        let why = "frames that a program redirects into a veth are only delivered if the receiving end has GRO or a program";
        let (status, found) = if is_on("rx-gro") { (Status::Ok, "on") } else { (Status::Warning, "off") };
        checks.push(Check::new("veth_gro", why, status, found).fix(format!("ethtool -K {name} gro on")));
    }
    checks
}

fn vlan(interface: &Interface) -> Option<Check> {
    let why = "the device takes VLAN tags out of frames before the XDP program sees them; tagged media then looks untagged";
    let prefix = format!("{}.", interface.name);
    let tagged = Interface::names().into_iter().find(|name| name.starts_with(&prefix))?;
    let on = interface.feature("rx-vlan-hw-parse").is_some_and(|feature| feature.on);
    let (status, found) = if on {
        (Status::Warning, format!("stripped by the device, and there is {tagged}"))
    } else {
        (Status::Ok, format!("left in frames, for {tagged}"))
    };
    Some(Check::new("vlan", why, status, found).fix(format!("ethtool -K {} rxvlan off", interface.name)))
}

fn coalescing(facts: &Facts, interface: &Interface) -> Check {
    let why = "interrupts that wait delay packets; too many of them take the CPU from media";
    let apart = is_veth(interface);
    let Some(coalescing) = interface.coalescing else {
        let status = if apart { Status::Ok } else { Status::Unknown };
        return Check::new("coalescing", why, status, "the driver does not say").for_bare_metal(apart);
    };
    let shown = format!(
        "{} us or {} frames{}",
        coalescing.receive_us,
        coalescing.receive_frames,
        if coalescing.adaptive { ", adaptive" } else { "" }
    );
    let wanted_us = if facts.is_busy() { 20 } else { 50 };
    let status = match coalescing {
        _ if apart
            || coalescing.receive_us == 0 && coalescing.receive_frames == 0 && !coalescing.adaptive =>
        {
            Status::Ok
        }
        _ if coalescing.adaptive || coalescing.receive_us > 250 => Status::Warning,
        _ => Status::Ok,
    };
    Check::new("coalescing", why, status, shown)
        .fix(format!("ethtool -C {} adaptive-rx off rx-usecs {wanted_us}", interface.name))
}

fn interrupts(facts: &Facts, interface: &Interface) -> Option<Check> {
    let why = "a queue's interrupt, and the kernel's work for it, belongs on its worker's CPU or one that shares its cache, \
               not on one CPU for all";
    let interrupts = &interface.interrupts;
    if interrupts.is_empty() {
        return None;
    }
    let shown: Vec<String> = interrupts
        .iter()
        .take(8)
        .map(|interrupt| format!("{} on CPU {}", interrupt.number, numbers(&interrupt.cpus)))
        .collect();
    let more = interrupts.len().saturating_sub(8);
    let shown = shown.join("; ") + &if more > 0 { format!("; {more} more") } else { String::new() };
    let media = &facts.engine.media_cpus;
    if media.is_empty() {
        return Some(Check::new("interrupts", why, Status::Ok, shown));
    }
    // The queues' interrupts in order, dealt to the workers as the queues are.
    let wrong: Vec<String> = interrupts
        .iter()
        .enumerate()
        .filter_map(|(queue, interrupt)| {
            let cpu = media.get(queue % media.len())?;
            let near = facts.machine.siblings.get(cpu).is_some_and(|same_core| {
                !interrupt.cpus.is_empty() && interrupt.cpus.iter().all(|cpu| same_core.contains(cpu))
            });
            let fine = near || interrupt.cpus == [*cpu];
            (!fine).then(|| format!("echo {cpu} > /proc/irq/{}/smp_affinity_list", interrupt.number))
        })
        .collect();
    let status = if wrong.is_empty() { Status::Ok } else { Status::Warning };
    Some(
        Check::new("interrupts", why, status, shown)
            .fix(wrong.join("; "))
            .note("and stop irqbalance, which would move them again: systemctl disable --now irqbalance"),
    )
}

fn node(facts: &Facts, interface: &Interface) -> Option<Check> {
    let why =
        "a worker on another NUMA node than the interface reads every frame across the link between sockets";
    let machine = &facts.machine;
    if machine.nodes.len() < 2 {
        return None;
    }
    let node = interface.node?;
    let media = &facts.engine.media_cpus;
    let far: Vec<usize> = media
        .iter()
        .copied()
        .filter(|&cpu| machine.node_of(cpu).is_some_and(|of_cpu| of_cpu != node))
        .collect();
    let cpus = numbers(machine.nodes.get(&node).map_or(&[][..], |cpus| cpus));
    let check = if far.is_empty() {
        Check::new("numa", why, Status::Ok, format!("{} is on node {node}, CPU {cpus}", interface.name))
    } else {
        let found = format!("{} is on node {node}, media CPU {} are not", interface.name, numbers(&far));
        Check::new("numa", why, Status::Warning, found)
    };
    Some(check.note(format!("name CPUs of {cpus} with --media-cpus")))
}
