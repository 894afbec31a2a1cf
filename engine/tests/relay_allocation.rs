//! A worker with relays neither allocates nor frees after its start: counted by the allocator on the worker's own
//! thread, through packets of every kind, promotion and demotion, and every command.
#![expect(clippy::disallowed_methods, reason = "tests of the real loop run in real time")]

mod audited;
mod counting;
mod relay_device;
mod relay_support;
mod rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use audited::{Audited, Tally};
use engine::command::{Command, RelayId};
use engine::config::EngineConfig;
use engine::event::Event;
use engine::relay::{Relay, RelayParameters, RelayUpdate};
use engine::{Engine, EngineEvents};
use relay_device::KernelDevice;
use relay_support::between;
use rig::{Network, Phone, add_relay, config, poll_for, start};

struct Call {
    id: RelayId,
    phones: [Phone; 2],
    parameters: RelayParameters,
}

#[test]
fn a_worker_with_relays_neither_allocates_nor_frees_while_it_runs() {
    const CALLS: usize = 20;
    let network = Network::Udp;
    let tally = Arc::<Tally>::default();
    let (device, kernel) = KernelDevice::new(network.device());
    // The model writes down what it is asked, in memory of its own, so it is asked nothing new here.
    kernel.has_none.store(true, Ordering::Release);
    let device = Audited { inner: Box::new(device), tally: Arc::clone(&tally) };
    let (engine, mut events) = start(EngineConfig { relays_per_worker: 64, ..config(256) }, Box::new(device));
    let mut calls: Vec<_> = (0..CALLS)
        .map(|number| {
            let mut phones = [Phone::new(&network), Phone::new(&network)];
            let mut parameters = between(Some(phones[0].rtp_address), Some(phones[1].rtp_address));
            for (leg, phone) in parameters.legs.iter_mut().zip(&phones) {
                leg.remote_rtcp = Some(phone.rtcp_address);
            }
            parameters.in_kernel = true;
            parameters.media_timeout = Duration::from_millis(500);
            parameters.taps.telephone_events = true;
            parameters.taps.inband_dtmf = number % 2 == 1;
            let (id, locals) = add_relay(&engine, &mut events, Relay::new(parameters));
            for (phone, local) in phones.iter_mut().zip(locals) {
                phone.peer = Some(local);
            }
            Call { id, phones, parameters }
        })
        .collect();
    talk(&mut calls, 25);
    every_command(&engine, &mut events, &mut calls);
    let before = tally.read();
    let counters = Arc::clone(&engine.worker_counters()[0]);
    let (packets_before, commands_before) = (counters.packets_relays.value(), counters.commands.value());
    let mut turn = 0;
    while counters.packets_relays.value() - packets_before < 10_000 {
        talk(&mut calls, 25);
        every_command(&engine, &mut events, &mut calls);
        turn += 1;
        assert!(turn < 60, "packets are lost: {} arrived", counters.packets_relays.value() - packets_before);
    }
    tally.settle();
    let (allocations, frees) = tally.read();
    println!(
        "{} datagrams relayed, {} commands, {} allocations, {} frees",
        counters.packets_relays.value() - packets_before,
        counters.commands.value() - commands_before,
        allocations - before.0,
        frees - before.1,
    );
    assert_eq!((allocations - before.0, frees - before.1), (0, 0));
    assert!(counters.commands.value() > commands_before + 10);
    let heard: usize = calls.iter().flat_map(|call| &call.phones).map(|phone| phone.heard_rtp.len()).sum();
    assert!(heard > 9_000, "{heard} packets were relayed");
}

/// All phones speak, press a key, send something broken and listen, at a call's pace.
fn talk(calls: &mut [Call], packets: u32) {
    let start = Instant::now();
    for packet in 1..=packets {
        for phone in calls.iter_mut().flat_map(|call| &mut call.phones) {
            match packet {
                10 => phone.say_as(101, true, &[5, 0x80, 3, 32]),
                11 => phone.say_as(99, true, &[1; 20]),
                12 => phone.report(),
                _ => phone.speak(0x2a),
            }
        }
        std::thread::sleep((Duration::from_millis(20) * packet).saturating_sub(start.elapsed()));
        calls.iter_mut().flat_map(|call| &mut call.phones).for_each(Phone::listen);
    }
}

/// Sends one of every command, with a whole life of a relay.
fn every_command(engine: &Engine, events: &mut EngineEvents, calls: &mut [Call]) {
    let call = &mut calls[0];
    let id = call.id;
    call.parameters.taps.inband_dtmf = !call.parameters.taps.inband_dtmf;
    engine.send(Command::UpdateRelay { id, update: RelayUpdate::new(call.parameters) }).expect("room");
    engine.send(Command::QueryRelay { id, report: Box::default() }).expect("room");
    let (short, _) = add_relay(engine, events, Relay::new(between(None, None)));
    engine.send(Command::RemoveRelay { id: short }).expect("room");
    engine.send(Command::QueryRelay { id: short, report: Box::default() }).expect("room");
    let last = poll_for(Duration::from_secs(10), || match events.poll() {
        Some(Event::RelayUnknown { id, .. }) => Some(id),
        _ => None,
    });
    assert_eq!(last, Some(short));
}
