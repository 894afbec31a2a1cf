//! Next hops on hosts made of network namespaces: what the kernel's tables say is what devices are told.

mod netns;

use std::net::{IpAddr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use netns::{Cable, Host, Options};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use xdp::bpf::{Assembler, Mode, Program, ProgramKind, Register::R0};
use xdp::netlink::Netlink;
use xdp::next_hop::{NextHop, NextHops, Way};
use xdp::wire::MacAddress;

/// Longer than anything here takes; what must be quick is quick or the device uses the kernel meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn command(host: &Host, line: &str) {
    let mut words = line.split(' ');
    let program = words.next().expect("a program");
    let output = host.command(program).args(words).stdin(Stdio::null()).output().expect("ip runs");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Has the kernel's reachability run so fast that a test sees it.
fn hasten(host: &Host) {
    host.run(|| {
        for family in ["ipv4", "ipv6"] {
            let set = |name: &str, value: &str| {
                let path = format!("/proc/sys/net/{family}/neigh/{}/{name}", host.interface);
                std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
            };
            set("base_reachable_time_ms", "1000");
            set("delay_first_probe_time", "1");
            set("retrans_time_ms", "100");
            set("gc_stale_time", "1");
        }
    });
}

fn start(host: &Host) -> NextHops {
    host.run(|| NextHops::start(&host.interface, &[])).expect("the interface is there")
}

/// Looks up until the answer is as wanted.
fn until(hops: &NextHops, remote: IpAddr, what: &str, wanted: impl Fn(&Way) -> bool) -> Way {
    let start = Instant::now();
    loop {
        let answer = hops.lookup(remote);
        if wanted(&answer.way) {
            return answer.way;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {remote} is still {answer:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn until_known(hops: &NextHops, remote: IpAddr, mac: [u8; 6]) -> NextHop {
    let wanted = |way: &Way| matches!(way, Way::Known(hop) if hop.hop.destination_mac == MacAddress(mac));
    match until(hops, remote, &format!("{}", MacAddress(mac)), wanted) {
        Way::Known(hop) => hop,
        other => panic!("{other:?}"),
    }
}

fn until_elsewhere(hops: &NextHops, remote: IpAddr) {
    until(hops, remote, "elsewhere", |way| *way == Way::Elsewhere);
}

/// Waits for an answer that was given with `generation` to be void.
fn until_changed(hops: &NextHops, generation: u64) {
    let start = Instant::now();
    while hops.generation() == generation {
        assert!(start.elapsed() < PATIENCE, "nothing has changed");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_host_on_the_link_is_known_by_its_own_mac() {
    let Some(cable) = Cable::or_skip("a_host_on_the_link_is_known_by_its_own_mac", Options::default()) else {
        return;
    };
    let hops = start(&cable.near);
    assert!(hops.is_alive() && hops.is_up());
    assert_eq!((hops.mac(), hops.mtu()), (MacAddress(cable.near.mac), 1500));
    for ipv6 in [false, true] {
        let hop = until_known(&hops, cable.far.ip(ipv6), cable.far.mac);
        assert_eq!(hop.hop.source_mac, MacAddress(cable.near.mac));
        assert_eq!((hop.hop.vlan, hop.interface), (None, hops.interface()));
        assert_eq!(hop.source, Some(cable.near.ip(ipv6)));
    }
    // The same host by an IPv4-mapped address.
    let mapped = IpAddr::V6(cable.far.ipv4.to_ipv6_mapped());
    assert!(matches!(hops.lookup(mapped).way, Way::Known(_)));
}

#[test]
fn what_lies_behind_a_gateway_is_sent_to_the_gateway() {
    let test = "what_lies_behind_a_gateway_is_sent_to_the_gateway";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let hops = start(&cable.near);
    let distant = [ip("203.0.113.7"), ip("2001:db8:ffff::7")];
    for (remote, ipv6) in distant.into_iter().zip([false, true]) {
        until_elsewhere(&hops, remote);
        let generation = hops.lookup(remote).generation;
        command(&cable.near, &format!("ip route add default via {}", cable.far.ip(ipv6)));
        until_changed(&hops, generation);
        until_known(&hops, remote, cable.far.mac);
    }
    // Another gateway on the same link: an address with a MAC that an administrator gave it.
    let near = &cable.near;
    command(near, &format!("ip neigh add 198.18.0.9 lladdr 02:00:00:00:00:09 dev {}", near.interface));
    let generation = hops.lookup(distant[0]).generation;
    command(near, "ip route replace default via 198.18.0.9");
    until_changed(&hops, generation);
    until_known(&hops, distant[0], [2, 0, 0, 0, 0, 9]);
    // A host route beats it.
    command(near, "ip route add unreachable 203.0.113.7");
    until_elsewhere(&hops, distant[0]);
    command(near, "ip route del unreachable 203.0.113.7");
    until_known(&hops, distant[0], [2, 0, 0, 0, 0, 9]);
}

#[test]
fn what_is_not_through_the_interface_is_for_the_kernel() {
    let test = "what_is_not_through_the_interface_is_for_the_kernel";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let near = &cable.near;
    command(near, "ip link add other0 type veth peer name other1");
    command(near, "ip addr add 192.0.2.1/24 dev other0");
    command(near, "ip link set other0 up");
    command(near, "ip link set other1 up");
    let hops = start(near);
    // Another interface, this host itself by each of its addresses, nowhere, everyone, a group.
    let elsewhere = ["192.0.2.77", "198.18.0.1", "127.0.0.1", "192.0.2.1", "203.0.113.1", "198.18.0.255"];
    for remote in elsewhere.into_iter().chain(["224.0.1.1", "::1", "2001:db8::1", "ff02::1"]) {
        until_elsewhere(&hops, ip(remote));
    }
    // A route that moves over to the other interface and back.
    until_known(&hops, cable.far.ip(false), cable.far.mac);
    command(near, &format!("ip route add {} dev other0", cable.far.ipv4));
    until_elsewhere(&hops, cable.far.ip(false));
    command(near, &format!("ip route del {} dev other0", cable.far.ipv4));
    until_known(&hops, cable.far.ip(false), cable.far.mac);
}

#[test]
fn a_host_that_nobody_has_is_asked_for_and_then_left_to_the_kernel() {
    let test = "a_host_that_nobody_has_is_asked_for_and_then_left_to_the_kernel";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    hasten(&cable.near);
    let hops = start(&cable.near);
    for (absent, ipv6) in [(ip("198.18.0.200"), false), (ip("2001:db8::200"), true)] {
        let generation = hops.generation();
        assert_eq!(hops.lookup(absent).way, Way::Unknown);
        until_elsewhere(&hops, absent);
        // It comes to life: the next time that it is asked for it answers.
        let len = if ipv6 { "64 nodad" } else { "24" };
        command(&cable.far, &format!("ip addr add {absent}/{len} dev {}", cable.far.interface));
        until_known(&hops, absent, cable.far.mac);
        assert!(hops.generation() != generation);
    }
}

#[test]
fn a_neighbour_with_a_new_mac_is_found_without_a_word_from_it() {
    let test = "a_neighbour_with_a_new_mac_is_found_without_a_word_from_it";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    hasten(&cable.near);
    let hops = start(&cable.near);
    let new = [2, 0, 0, 0, 0, 0x22];
    for ipv6 in [false, true] {
        until_known(&hops, cable.far.ip(ipv6), cable.far.mac);
    }
    let generation = hops.generation();
    // Setting an address while the interface is up announces nothing (arp_notify is off).
    command(&cable.far, &format!("ip link set {} address 02:00:00:00:00:22", cable.far.interface));
    for ipv6 in [false, true] {
        until_known(&hops, cable.far.ip(ipv6), new);
    }
    assert!(hops.generation() != generation);
}

#[test]
fn a_neighbour_is_kept_fresh_although_the_kernel_sees_no_traffic() {
    let test = "a_neighbour_is_kept_fresh_although_the_kernel_sees_no_traffic";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    hasten(&cable.near);
    let hops = start(&cable.near);
    let remotes = [false, true].map(|ipv6| cable.far.ip(ipv6));
    for remote in remotes {
        until_known(&hops, remote, cable.far.mac);
    }
    let refreshed = hops.counters().next_hop_refreshed.value();
    let start = Instant::now();
    // The kernel's entries go stale after a second, are verified, flushed, found again: devices never see it.
    while start.elapsed() < Duration::from_secs(4) {
        for remote in remotes {
            assert!(matches!(hops.lookup(remote).way, Way::Known(_)), "{remote}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for remote in remotes {
        command(&cable.near, &format!("ip neigh del {remote} dev {}", cable.near.interface));
    }
    while hops.counters().next_hop_refreshed.value() < refreshed + 4 {
        assert!(start.elapsed() < PATIENCE, "nobody is asked");
        for remote in remotes {
            assert!(matches!(hops.lookup(remote).way, Way::Known(_)), "{remote}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_interface_that_goes_down_is_left_and_found_again() {
    let test = "an_interface_that_goes_down_is_left_and_found_again";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let (near, far) = (&cable.near, &cable.far);
    let hops = start(near);
    let remote = far.ip(false);
    // Our own end, and the carrier.
    for end in [near, far] {
        until_known(&hops, remote, far.mac);
        let generation = hops.lookup(remote).generation;
        command(end, &format!("ip link set {} down", end.interface));
        until_changed(&hops, generation);
        until_elsewhere(&hops, remote);
        assert!(hops.is_alive());
        command(end, &format!("ip link set {} up", end.interface));
        until_known(&hops, remote, far.mac);
    }
}

#[test]
fn another_mtu_and_another_mac_of_our_own_are_told() {
    let test = "another_mtu_and_another_mac_of_our_own_are_told";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let near = &cable.near;
    let hops = start(near);
    until_known(&hops, cable.far.ip(false), cable.far.mac);
    let generation = hops.generation();
    command(near, &format!("ip link set {} mtu 1400", near.interface));
    until_changed(&hops, generation);
    let start = Instant::now();
    while hops.mtu() != 1400 {
        assert!(start.elapsed() < PATIENCE, "still {}", hops.mtu());
        std::thread::sleep(Duration::from_millis(1));
    }
    command(near, &format!("ip link set {} address 02:00:00:00:00:11", near.interface));
    let new = MacAddress([2, 0, 0, 0, 0, 0x11]);
    until(
        &hops,
        cable.far.ip(false),
        "by the new MAC",
        |way| matches!(way, Way::Known(hop) if hop.hop.source_mac == new),
    );
    assert_eq!(hops.mac(), new);
}

#[test]
fn an_address_that_is_taken_away_changes_the_answers() {
    let test = "an_address_that_is_taken_away_changes_the_answers";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let near = &cable.near;
    command(near, &format!("ip addr add 198.18.0.77/24 dev {}", near.interface));
    command(near, &format!("sysctl -qw net.ipv4.conf.{}.promote_secondaries=1", near.interface));
    let hops = start(near);
    let hop = until_known(&hops, cable.far.ip(false), cable.far.mac);
    assert_eq!(hop.source, Some(near.ip(false)));
    let generation = hops.generation();
    command(near, &format!("ip addr del {}/24 dev {}", near.ipv4, near.interface));
    until_changed(&hops, generation);
    let second = Some(ip("198.18.0.77"));
    until(
        &hops,
        cable.far.ip(false),
        "by the second address",
        |way| matches!(way, Way::Known(hop) if hop.source == second),
    );
}

#[test]
fn an_interface_that_is_gone_is_dead() {
    let Some(cable) = Cable::or_skip("an_interface_that_is_gone_is_dead", Options::default()) else { return };
    let hops = start(&cable.near);
    until_known(&hops, cable.far.ip(false), cable.far.mac);
    let generation = hops.generation();
    command(&cable.near, &format!("ip link del {}", cable.near.interface));
    until_changed(&hops, generation);
    let start = Instant::now();
    while hops.is_alive() {
        assert!(start.elapsed() < PATIENCE, "still alive");
        std::thread::sleep(Duration::from_millis(1));
    }
    until_elsewhere(&hops, cable.far.ip(false));
}

#[test]
fn an_interface_without_the_program_that_is_expected_is_dead() {
    let test = "an_interface_without_the_program_that_is_expected_is_dead";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let hops = start(&cable.near);
    until_known(&hops, cable.far.ip(false), cable.far.mac);
    // No such program is attached.
    hops.expect_program(u32::MAX);
    let start = Instant::now();
    while hops.is_alive() {
        assert!(start.elapsed() < PATIENCE, "still alive");
        std::thread::sleep(Duration::from_millis(1));
    }
    until_elsewhere(&hops, cable.far.ip(false));
}

#[test]
fn a_received_frame_fills_a_missing_entry_only() {
    let test = "a_received_frame_fills_a_missing_entry_only";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let hops = start(&cable.near);
    let learned = MacAddress([2, 0, 0, 0, 0, 0x33]);
    // Nobody answers for it, but a frame of it came.
    let silent = ip("198.18.0.200");
    assert_eq!(hops.lookup(silent).way, Way::Unknown);
    let start = Instant::now();
    loop {
        hops.learn(silent, MacAddress([1, 0, 0x5e, 0, 0, 1]));
        hops.learn(silent, learned);
        match hops.lookup(silent).way {
            Way::Unknown => assert!(start.elapsed() < PATIENCE, "not learned"),
            Way::Known(hop) => break assert_eq!(hop.hop.destination_mac, learned),
            Way::Elsewhere => panic!("it is on the link"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(hops.counters().next_hop_learned.value(), 1);
    // What the kernel knows is believed instead, at once and for good.
    command(
        &cable.near,
        &format!("ip neigh replace {silent} lladdr 02:00:00:00:00:44 dev {}", cable.near.interface),
    );
    until_known(&hops, silent, [2, 0, 0, 0, 0, 0x44]);
    hops.learn(silent, learned);
    until_known(&hops, cable.far.ip(false), cable.far.mac);
    until_known(&hops, silent, [2, 0, 0, 0, 0, 0x44]);
    assert_eq!(hops.counters().next_hop_learned.value(), 1);
}

#[test]
fn more_peers_than_there_is_room_for_are_all_answered() {
    let test = "more_peers_than_there_is_room_for_are_all_answered";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    command(&cable.near, &format!("ip route add 10.0.0.0/8 via {}", cable.far.ipv4));
    let hops = start(&cable.near);
    until_known(&hops, ip("10.0.0.1"), cable.far.mac);
    let remote = |number: u32| IpAddr::from((0x0a01_0000 + number).to_be_bytes());
    for first in (0..xdp::next_hop::MAX_PEERS as u32 + 2000).step_by(500) {
        for number in first..first + 500 {
            let _ = hops.lookup(remote(number));
        }
        for number in first..first + 500 {
            until_known(&hops, remote(number), cable.far.mac);
        }
    }
    assert!(hops.counters().next_hop_evicted.value() > 0);
}

/// The link-local address of a host's interface.
fn link_local(host: &Host) -> IpAddr {
    host.run(|| {
        let mut netlink = Netlink::new().expect("a socket");
        let is_ours = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let start = Instant::now();
        loop {
            let addresses = netlink.addresses().expect("a dump");
            if let Some(address) = addresses.iter().find(|address| is_ours(address.ip)) {
                return address.ip;
            }
            assert!(start.elapsed() < PATIENCE, "every interface has one");
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

#[test]
fn link_local_hosts_and_gateways_are_found_on_the_interface() {
    let test = "link_local_hosts_and_gateways_are_found_on_the_interface";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let (near, gateway) = (&cable.near, link_local(&cable.far));
    command(near, &format!("ip -6 route add default via {gateway} dev {}", near.interface));
    // IPv4 by a router that has no IPv4 (RFC 5549).
    command(near, &format!("ip route add 10.0.0.0/8 via inet6 {gateway} dev {}", near.interface));
    let hops = start(near);
    for remote in [gateway, ip("2001:db8:ffff::7"), ip("10.1.2.3")] {
        until_known(&hops, remote, cable.far.mac);
    }
}

#[test]
fn a_way_that_depends_on_the_source_is_known_if_all_sources_agree() {
    let test = "a_way_that_depends_on_the_source_is_known_if_all_sources_agree";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let (near, remote) = (&cable.near, ip("203.0.113.7"));
    command(near, &format!("ip neigh add 198.18.0.9 lladdr 02:00:00:00:00:09 dev {}", near.interface));
    command(near, &format!("ip route add default via {}", cable.far.ipv4));
    command(near, "ip route add default via 198.18.0.9 table 100");
    let hops = start(near);
    until_known(&hops, remote, cable.far.mac);
    assert!(!hops.is_by_source());
    command(near, &format!("ip rule add from {} table 100", near.ipv4));
    let hop = until_known(&hops, remote, [2, 0, 0, 0, 0, 9]);
    // Of no use for a port on all addresses: the kernel would send from there by another way.
    assert_eq!(hop.source, None);
    assert!(hops.is_by_source());
    assert!(hops.lead_from(near.ipv4.into()) && !hops.lead_from(ip("198.51.100.1")));
    // Another source goes another way.
    command(near, &format!("ip addr add 198.18.0.77/24 dev {}", near.interface));
    until_elsewhere(&hops, remote);
    command(near, "ip rule add from 198.18.0.77 table 100");
    until_known(&hops, remote, [2, 0, 0, 0, 0, 9]);
    command(near, "ip rule del from 198.18.0.77 table 100");
    command(near, &format!("ip rule del from {} table 100", near.ipv4));
    until_known(&hops, remote, cable.far.mac);
    assert!(!hops.is_by_source());
    assert!(hops.lead_from(ip("198.51.100.1")));
}

#[test]
fn a_storm_of_routes_is_survived_and_the_last_word_counts() {
    let test = "a_storm_of_routes_is_survived_and_the_last_word_counts";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let near = &cable.near;
    command(near, &format!("ip route add default via {}", cable.far.ipv4));
    command(near, &format!("ip neigh add 198.18.0.9 lladdr 02:00:00:00:00:09 dev {}", near.interface));
    let hops = start(near);
    let remotes: Vec<_> = (1..=200u8).map(|last| IpAddr::from([203, 0, 113, last])).collect();
    for remote in &remotes {
        until_known(&hops, *remote, cable.far.mac);
    }
    let mut batch = String::new();
    for number in 0..20_000u32 {
        let network = std::net::Ipv4Addr::from(0x0a00_0000 + number);
        batch += &format!("route add {network}/32 via {}\n", cable.far.ipv4);
    }
    batch += "route replace default via 198.18.0.9\n";
    let file = std::env::temp_dir().join(format!("sidetone-routes-{}", std::process::id()));
    std::fs::write(&file, batch).expect("a temporary file");
    command(near, &format!("ip -batch {}", file.display()));
    let _ = std::fs::remove_file(file);
    for remote in &remotes {
        until_known(&hops, *remote, [2, 0, 0, 0, 0, 9]);
    }
}

#[test]
fn without_privilege_the_kernel_s_own_packets_make_a_neighbour_known() {
    let test = "without_privilege_the_kernel_s_own_packets_make_a_neighbour_known";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let (near, remote) = (&cable.near, cable.far.ip(false));
    let hops = near.run(|| {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).expect("anyone may give them up");
        NextHops::start(&near.interface, &[]).expect("reading is free")
    });
    let start = Instant::now();
    while hops.counters().next_hop_errors.value() == 0 {
        assert_eq!(hops.lookup(remote).way, Way::Unknown);
        assert!(start.elapsed() < PATIENCE, "nobody refuses");
        std::thread::sleep(Duration::from_millis(1));
    }
    // What a device does with a datagram whose way is unknown.
    near.run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", (remote, 4000))).expect("sent");
    until_known(&hops, remote, cable.far.mac);
}

#[test]
fn a_program_is_watched_from_when_it_is_expected() {
    let test = "a_program_is_watched_from_when_it_is_expected";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    if let Err(error) = xdp::bpf::probe() {
        netns::skip(test, &error.to_string());
        return;
    }
    let hops = start(&cable.near);
    let (attached, id) = cable.near.run(|| {
        let mut assembler = Assembler::new();
        assembler.mov(R0, 2).exit();
        let program = Program::load("pass", ProgramKind::Xdp, &assembler.build().expect("two instructions"));
        let attached = program.expect("loads").attach(hops.interface(), Mode::Generic).expect("attaches");
        let link = Netlink::new().and_then(|mut netlink| netlink.link(hops.interface())).expect("an answer");
        let link = link.expect("it is there");
        let id = link.programs.into_iter().find(|id| *id != 0).expect("a program");
        assert!(link.has_program(id));
        (attached, id)
    });
    hops.expect_program(id);
    std::thread::sleep(Duration::from_millis(300));
    until_known(&hops, cable.far.ip(false), cable.far.mac);
    assert!(hops.is_alive());
    let generation = hops.generation();
    drop(attached);
    until_changed(&hops, generation);
    let start = Instant::now();
    while hops.is_alive() {
        assert!(start.elapsed() < PATIENCE, "still alive");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let error = NextHops::start("nosuch0", &[]).expect_err("there is none");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().contains("nosuch0"), "{error}");
}

#[test]
fn a_vlan_of_the_interface_is_sent_with_its_tag() {
    let test = "a_vlan_of_the_interface_is_sent_with_its_tag";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let (near, far) = (&cable.near, &cable.far);
    let add = format!("link add link {} name tagged0 type vlan id 100", near.interface);
    if !near.command("ip").args(add.split(' ')).output().expect("ip runs").status.success() {
        netns::note(test, "this kernel has no VLAN devices (CONFIG_VLAN_8021Q)");
        return;
    }
    command(near, "ip addr add 192.0.2.1/24 dev tagged0");
    command(near, "ip link set tagged0 up");
    command(far, &format!("ip link add link {} name tagged0 type vlan id 100", far.interface));
    command(far, "ip addr add 192.0.2.2/24 dev tagged0");
    command(far, "ip link set tagged0 up");
    let hops = start(near);
    let hop = until_known(&hops, ip("192.0.2.2"), far.mac);
    assert_eq!((hop.hop.vlan, hop.interface), (Some(100), hops.interface()));
}
