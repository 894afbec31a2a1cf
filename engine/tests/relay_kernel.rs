//! Relays that the kernel takes over: when, what it is told, and that no packet and no figure is lost by it.
#![expect(clippy::disallowed_methods, reason = "tests of the real loop run in real time")]

mod relay_device;
mod relay_support;
mod rig;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::command::{Command, RelayId};
use engine::event::Event;
use engine::relay::{
    Conversion, FlowChange, KernelCounters, Relay, RelayEvent, RelayFormat, RelayFormats, RelayParameters,
    RelayStatistics, RelayUpdate, Rewriting, Side,
};
use engine::stream::{Direction, Refusal};
use engine::{Engine, EngineEvents};
use relay_device::{Kernel, KernelDevice};
use relay_support::{
    Party, between, events as telephone_events, formats, ms, parameters, talking, untouched,
};
use rig::{Network, Phone, add_relay, config, next_event, poll_for, start};
use xdp::PayloadTypes;

fn in_kernel() -> RelayParameters {
    RelayParameters { in_kernel: true, ..parameters() }
}

fn wanted(relay: &Relay) -> [bool; 2] {
    Side::BOTH.map(|side| matches!(relay.poll_flow(side), Some(FlowChange::Promote(_))))
}

#[test]
fn a_relay_is_promoted_when_both_are_known_and_answered_and_nobody_listens() {
    let (relay, [a, b]) = talking(in_kernel());
    assert_eq!(wanted(&relay), [true, true]);
    let Some(FlowChange::Promote(flow)) = relay.poll_flow(Side::A) else { panic!("wanted") };
    assert_eq!((flow.source, flow.destination), (a.at, b.at));
    assert_eq!(flow.payload_types, 1 | 1 << 8 | 1 << 101);

    // Payload types that are not listed go on as they are, if they go on.
    let mut parameters = in_kernel();
    let mut anything = RelayFormats::default();
    anything.others = true;
    parameters.legs[0].receive = anything;
    let (relay, _) = talking(parameters);
    let Some(FlowChange::Promote(flow)) = relay.poll_flow(Side::A) else { panic!("wanted") };
    assert_eq!(flow.payload_types, u128::MAX);

    let refused: [fn(&mut RelayParameters); 6] = [
        |parameters| parameters.in_kernel = false,
        |parameters| parameters.taps.inband_dtmf = true,
        |parameters| parameters.legs[0].direction = Direction::SendOnly,
        |parameters| parameters.legs[1].direction = Direction::Inactive,
        |parameters| parameters.legs[1].remote_rtp = None,
        |parameters| parameters.legs[0].remote_rtp = Some(relay_support::address("192.0.2.1:5000")),
    ];
    for (n, change) in refused.into_iter().enumerate() {
        let mut parameters = in_kernel();
        let (mut relay, [mut a, mut b]) = talking(parameters);
        change(&mut parameters);
        relay.update(ms(10), &mut RelayUpdate::new(parameters));
        let _ = a.say(&mut relay, ms(20), &[1; 160]);
        let _ = b.say(&mut relay, ms(20), &[1; 160]);
        assert_eq!(wanted(&relay), [false, false], "{n}");
    }
    // Only one party has spoken.
    let mut relay = Relay::new(in_kernel());
    let [mut a, _] = Party::both();
    a.say(&mut relay, ms(0), &[1; 160]).expect("relayed");
    assert_eq!(wanted(&relay), [false, false]);
}

#[test]
fn what_is_converted_or_told_stays_in_user_space() {
    let mut parameters = in_kernel();
    let renamed = RelayFormat { send: 97, ..untouched(96) };
    let from_to = RelayFormat {
        receive: 8,
        send: 0,
        conversion: Conversion::Law { from: engine::codec::Law::A, to: engine::codec::Law::Mu },
    };
    parameters.legs[0].receive = formats(&[untouched(0), renamed, from_to, telephone_events(101)]);
    parameters.taps.telephone_events = true;
    let (mut relay, [mut a, _]) = talking(parameters);
    let Some(FlowChange::Promote(flow)) = relay.poll_flow(Side::A) else { panic!("wanted") };
    assert_eq!(flow.payload_types, 1, "only payload type 0");
    relay.handle_promoted(Side::A, flow);
    assert_eq!(relay.poll_flow(Side::A), None);
    // The party goes over to what is converted: the kernel has nothing to do.
    a.header.payload_type = 8;
    for _ in 0..10 {
        assert_eq!(relay.poll_flow(Side::A), None, "a few packets are not a change");
        let (_, got) = a.say(&mut relay, ms(20), &[0xD5; 160]).expect("relayed in user space");
        assert_eq!((got[1], got[12]), (0, 0xFE));
    }
    assert!(relay.take_news(Side::A));
    assert_eq!(relay.poll_flow(Side::A), Some(FlowChange::Demote));
    relay.handle_demoted(Side::A, Some(KernelCounters::default()));
    assert_eq!(relay.poll_flow(Side::A), None);
    a.header.payload_type = 0;
    a.say(&mut relay, ms(40), &[0xD5; 160]).expect("relayed");
    assert_eq!(relay.poll_flow(Side::A), None, "it is not followed to and fro");
    let again = relay.poll_timeout().expect("another try");
    relay.handle_timeout(again, [None; 2]);
    assert!(matches!(relay.poll_flow(Side::A), Some(FlowChange::Promote(_))));
}

#[test]
fn a_learned_source_is_promoted_only_when_it_can_no_longer_be_disputed() {
    let parameters = RelayParameters {
        in_kernel: true,
        ..between(
            Some(relay_support::address("10.0.0.9:4000")),
            Some(relay_support::address(relay_support::PARTY_B)),
        )
    };
    let mut relay = Relay::new(parameters);
    relay.start(ms(0));
    let [mut a, mut b] = Party::both();
    for n in 0..5 {
        let _ = a.say(&mut relay, ms(n * 20), &[1; 160]);
        let _ = b.say(&mut relay, ms(n * 20), &[1; 160]);
    }
    assert_eq!(wanted(&relay), [false, false]);
    while relay.poll_event().is_some() {}
    let settled = relay.poll_timeout().expect("a deadline");
    relay.handle_timeout(settled, [None; 2]);
    assert_eq!(wanted(&relay), [true, true]);
}

#[test]
fn silence_is_what_the_kernel_has_not_seen_either() {
    let mut parameters = in_kernel();
    parameters.media_timeout = Duration::from_secs(5);
    let (mut relay, _) = talking(parameters);
    for side in Side::BOTH {
        let Some(FlowChange::Promote(flow)) = relay.poll_flow(side) else { panic!("wanted") };
        relay.handle_promoted(side, flow);
    }
    let seen = |at| Some(KernelCounters { packets: 9, last_seen: Some(at), ..KernelCounters::default() });
    assert_eq!(relay.poll_timeout(), Some(ms(5000)));
    relay.handle_timeout(ms(5000), [seen(ms(4900)), seen(ms(100))]);
    assert_eq!(relay.poll_event(), None);
    assert_eq!(relay.poll_timeout(), Some(ms(9900)));
    relay.handle_timeout(ms(9900), [seen(ms(4900)), seen(ms(100))]);
    assert_eq!(relay.poll_event(), Some(RelayEvent::MediaTimeout));
    // From now on it has to be seen in user space who speaks again.
    assert_eq!(relay.poll_flow(Side::A), Some(FlowChange::Demote));
}

struct Call {
    engine: Engine,
    events: EngineEvents,
    kernel: Arc<Kernel>,
    phones: [Phone; 2],
    parameters: RelayParameters,
    id: RelayId,
}

impl Call {
    fn new(change: impl FnOnce(&mut RelayParameters), prepare: impl FnOnce(&Kernel)) -> Self {
        let network = Network::Loopback(Default::default());
        let (device, kernel) = KernelDevice::new(network.device());
        prepare(&kernel);
        let (engine, mut events) = start(config(8), Box::new(device));
        let mut phones = [Phone::new(&network), Phone::new(&network)];
        let mut parameters = between(Some(phones[0].rtp_address), Some(phones[1].rtp_address));
        parameters.in_kernel = true;
        for (leg, phone) in parameters.legs.iter_mut().zip(&phones) {
            leg.remote_rtcp = Some(phone.rtcp_address);
        }
        change(&mut parameters);
        let (id, locals) = add_relay(&engine, &mut events, Relay::new(parameters));
        for (phone, local) in phones.iter_mut().zip(locals) {
            phone.peer = Some(local);
        }
        Self { engine, events, kernel, phones, parameters, id }
    }

    fn talk(&mut self, packets: usize) {
        for n in 0..packets {
            self.phones.iter_mut().for_each(|phone| phone.speak(n as u8));
            std::thread::sleep(Duration::from_millis(1));
            self.phones.iter_mut().for_each(Phone::listen);
        }
        std::thread::sleep(Duration::from_millis(30));
        self.phones.iter_mut().for_each(Phone::listen);
    }

    fn query(&mut self) -> RelayStatistics {
        self.engine
            .send(Command::QueryRelay { id: self.id, report: Box::default() })
            .expect("room in the ring");
        loop {
            if let Event::RelayReport { report, .. } = next_event(&mut self.events) {
                return *report;
            }
        }
    }

    fn update(&mut self) {
        let update = RelayUpdate::new(self.parameters);
        self.engine.send(Command::UpdateRelay { id: self.id, update }).expect("room in the ring");
        while !matches!(next_event(&mut self.events), Event::RelayUpdated { .. }) {}
    }

    fn promoted(&self) -> usize {
        self.kernel.promoted.load(Ordering::Acquire)
    }
}

#[test]
fn no_packet_is_lost_or_doubled_and_no_figure_jumps_whatever_changes() {
    let mut call = Call::new(|_| {}, |_| {});
    let mut spoken = 0;
    for turn in 0..20 {
        call.talk(10);
        spoken += 10;
        let report = call.query();
        for side in &report.sides {
            assert_eq!((side.received_packets, side.sent_packets), (spoken, spoken), "turn {turn}");
            assert_eq!(
                (side.received_bytes, side.lost_packets, side.duplicate_packets),
                (spoken * 172, 0, 0)
            );
            assert_eq!(side.last_sequence, Some(99 + spoken as u16));
            assert_eq!(side.in_kernel, turn % 4 != 3, "turn {turn}");
            assert!(side.last_packet_age.expect("one came") < Duration::from_secs(2));
        }
        // A tap comes every fourth turn, goes with the next, and otherwise nothing changes.
        call.parameters.taps.inband_dtmf = turn % 4 == 2;
        call.update();
    }
    let in_kernel = call.query().sides[0].in_kernel_packets;
    assert!(in_kernel > 100 && in_kernel < spoken, "{in_kernel}");
    assert_eq!(call.kernel.forwarded.load(Ordering::Acquire), in_kernel * 2);
    for (to, from) in [(0, 1), (1, 0)] {
        let ssrc = call.phones[from].ssrc().to_be_bytes();
        let mut numbers = HashMap::new();
        for packet in &call.phones[to].heard_rtp {
            assert_eq!(packet[8..12], ssrc);
            *numbers.entry([packet[2], packet[3]]).or_insert(0) += 1;
        }
        assert_eq!(numbers.len() as u64, spoken);
        assert!(numbers.values().all(|&times| times == 1));
    }
    call.engine.send(Command::RemoveRelay { id: call.id }).expect("room in the ring");
    let last = loop {
        if let Event::RelayRemoved { relay, .. } = next_event(&mut call.events) {
            break relay.last_statistics();
        }
    };
    assert_eq!((last.sides[0].received_packets, last.sides[0].in_kernel), (spoken, false));
    assert_eq!(call.promoted(), call.kernel.demoted.load(Ordering::Acquire));
    let counters = &call.engine.worker_counters()[0];
    assert_eq!(counters.flows_promoted.value(), call.promoted() as u64);
    assert_eq!(counters.flows_demoted.value(), call.promoted() as u64);
}

#[test]
fn the_kernel_is_told_what_to_take_and_the_rest_comes_up() {
    let rewriting = Rewriting { ssrc: Some(0x0BAD_CAFE), sequence_offset: 7, timestamp_offset: 0 };
    let mut call = Call::new(
        |parameters| {
            parameters.taps.telephone_events = true;
            parameters.legs[0].rewriting = rewriting;
        },
        |_| {},
    );
    call.talk(20);
    {
        let flows = call.kernel.flows.lock().expect("no panic");
        assert_eq!(flows.len(), 2);
        assert!(flows.iter().all(|flow| flow.payload_types == PayloadTypes(1 | 1 << 8)));
        assert!(flows.iter().any(|flow| flow.rewriting.ssrc == Some(0x0BAD_CAFE)));
    }
    // One stream for the other party, by whomever it is relayed.
    let numbers: Vec<u16> =
        call.phones[1].heard_rtp.iter().map(|packet| u16::from_be_bytes([packet[2], packet[3]])).collect();
    assert_eq!(numbers, (107..127).collect::<Vec<u16>>());
    assert!(call.phones[1].heard_rtp.iter().all(|packet| packet[8..12] == 0x0BAD_CAFEu32.to_be_bytes()));
    call.phones.iter_mut().for_each(Phone::report);
    // A key, in place of audio.
    let start = call.phones[0].timestamp;
    for step in 1..=7u16 {
        let duration = (160 * step.min(5)).to_be_bytes();
        let end = if step > 4 { 0x80 } else { 0 };
        call.phones[0].timestamp = start;
        call.phones[0].say_as(101, step == 1, &[5, end, duration[0], duration[1]]);
        std::thread::sleep(Duration::from_millis(2));
    }
    call.talk(20);
    let told = poll_for(Duration::from_secs(5), || match call.events.poll() {
        Some(Event::Relay { event: RelayEvent::Dtmf { side: Side::A, digit, .. }, .. }) => {
            Some(digit.as_char())
        }
        _ => None,
    });
    assert_eq!(told, Some('5'));
    let side = call.query().sides[0];
    assert_eq!((side.received_packets, side.lost_packets, side.digits), (47, 0, 1));
    assert!(side.in_kernel && side.in_kernel_packets >= 20, "{side:?}");
    assert_eq!(side.received_rtcp_packets, 1);
    assert!(call.phones.iter().all(|phone| phone.heard_rtcp_type(200)));
    assert_eq!(call.phones[1].heard_rtp.len(), 47);
}

#[test]
fn strangers_that_the_kernel_drops_are_counted() {
    let mut relay = talking(in_kernel()).0;
    let Some(FlowChange::Promote(flow)) = relay.poll_flow(Side::A) else { panic!("wanted") };
    relay.handle_promoted(Side::A, flow);
    let kernel = KernelCounters { strangers: 17, ..KernelCounters::default() };
    assert_eq!(relay.statistics(ms(9), [Some(kernel), None]).sides[0].stranger_packets, 17);
    relay.handle_demoted(Side::A, Some(kernel));
    let side = relay.statistics(ms(9), [None; 2]).sides[0];
    assert_eq!((side.stranger_packets, side.refusals.count(Refusal::Stranger)), (17, 17));
}

#[test]
fn a_device_that_cannot_is_asked_once() {
    let mut call = Call::new(|_| {}, |kernel| kernel.has_none.store(true, Ordering::Release));
    for _ in 0..3 {
        call.talk(5);
        call.update();
    }
    assert_eq!((call.kernel.asked.load(Ordering::Acquire), call.promoted()), (1, 0));
    assert!(!call.query().sides[0].in_kernel);
    assert_eq!(call.phones[0].heard_rtp.len(), 15);
}

#[test]
fn a_route_that_is_not_known_yet_is_asked_for_again() {
    let mut call = Call::new(|_| {}, |kernel| kernel.has_no_route.store(true, Ordering::Release));
    call.talk(20);
    let asked = call.kernel.asked.load(Ordering::Acquire);
    assert_eq!((asked, call.promoted()), (2, 0), "once for each direction, not with every packet");
    call.kernel.has_no_route.store(false, Ordering::Release);
    poll_for(Duration::from_secs(5), || (call.promoted() == 2).then_some(())).expect("promoted in the end");
    call.talk(5);
    let side = call.query().sides[1];
    assert_eq!((side.received_packets, side.in_kernel, side.in_kernel_packets), (25, true, 5));
}

#[test]
fn a_relay_that_is_removed_much_later_is_not_promoted_again() {
    let mut call = Call::new(|_| {}, |_| {});
    call.talk(5);
    // Longer than a direction stays in user space after the kernel gave it back.
    std::thread::sleep(Duration::from_millis(1100));
    call.engine.send(Command::RemoveRelay { id: call.id }).expect("room in the ring");
    while !matches!(next_event(&mut call.events), Event::RelayRemoved { .. }) {}
    assert_eq!((call.promoted(), call.kernel.demoted.load(Ordering::Acquire)), (2, 2));
}

#[test]
fn a_flow_that_the_kernel_leaves_to_us_for_long_is_told_anew() {
    let (mut relay, [mut a, _]) = talking(in_kernel());
    let Some(FlowChange::Promote(flow)) = relay.poll_flow(Side::A) else { panic!("wanted") };
    relay.handle_promoted(Side::A, flow);
    for n in 1..500 {
        assert!(a.say(&mut relay, ms(n * 20), &[1; 160]).is_some());
        assert_eq!(relay.poll_flow(Side::A), None);
    }
    let _ = relay.take_news(Side::A);
    assert!(a.say(&mut relay, ms(10_000), &[1; 160]).is_some());
    assert!(relay.take_news(Side::A));
    assert_eq!(relay.poll_flow(Side::A), Some(FlowChange::Demote));
    relay.handle_demoted(Side::A, Some(KernelCounters::default()));
    let side = relay.statistics(ms(10_000), [None; 2]).sides[0];
    assert_eq!((side.received_packets, side.lost_packets, side.last_sequence), (501, 0, Some(600)));
}

#[test]
fn the_flow_goes_from_party_to_party() {
    let mut call = Call::new(|_| {}, |_| {});
    call.talk(5);
    let flows = call.kernel.flows.lock().expect("no panic");
    let remotes: Vec<SocketAddr> = flows.iter().map(|flow| flow.path.remote).collect();
    assert!(call.phones.iter().all(|phone| remotes.contains(&phone.rtp_address)));
    assert_ne!(flows[0].path.port, flows[1].path.port);
}
