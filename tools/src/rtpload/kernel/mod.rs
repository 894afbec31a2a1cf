//! Sending and receiving inside the kernel, on one end of a veth cable: a program that is run on live frames
//! (BPF_PROG_TEST_RUN) writes each packet when it is due, and an XDP program on the same interface checks what comes
//! back and drops it. Together they take about a third of a microsecond a packet, so one core saturates a relay that
//! forwards inside the kernel.
//!
//! The other end must take frames from programs: it has an XDP program or `ethtool -K .. gro on`. Both ends leave
//! checksums to nobody: `ethtool -K .. tx off`.

mod emit;
mod generator;
mod layout;
mod receiver;

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use xdp::bpf::{Ingress, Link, Mode, Program, ProgramKind};

use self::layout::{FRACTION_BITS, Maps, control, counts, frame_bytes};
use super::check::Received;
use super::flow::Flow;
use super::link;
use super::plan::{Outcome, Plan};
use super::slots::Slots;
use super::watch::Watched;
use crate::callload::clock;

/// Both programs, the receiver's attached.
pub(super) struct Kernel {
    maps: Maps,
    generator: Program,
    _receiver: Link,
    ingress: Ingress,
    template: Vec<u8>,
    payload_bytes: usize,
}

impl Kernel {
    pub(super) fn open(interface: &str, flows: &[Flow], payload_bytes: usize) -> anyhow::Result<Self> {
        let (index, own_mac) = link::interface(interface)?;
        let relay = link::v4(flows[0].relay)?;
        ensure!(
            flows.iter().all(|flow| flow.relay.ip() == *relay.ip()),
            "--via kernel sends to one address only"
        );
        let mac = link::neighbour(*relay.ip())?;
        let maps = Maps::new(flows, payload_bytes)?;
        let ports = flows.iter().map(|flow| flow.sink.port());
        let ports = (ports.clone().min().unwrap_or(0), ports.max().unwrap_or(0));
        let receiver = Program::load(
            "rtpload_receive",
            ProgramKind::Xdp,
            &receiver::program(&maps, ports, payload_bytes)?,
        )?;
        let link = receiver.attach(index, Mode::Native)?;
        let code = generator::program(&maps, [own_mac, mac], payload_bytes)?;
        let generator = Program::load("rtpload_send", ProgramKind::Xdp, &code)?;
        let ingress = Ingress { interface: index, queue: 0 };
        let template = vec![0; frame_bytes(payload_bytes)];
        Ok(Self { maps, generator, _receiver: link, ingress, template, payload_bytes })
    }

    /// Runs a plan, as [`super::transport::run`], all of it in one call into the kernel.
    pub(super) fn run(&mut self, plan: Plan, watched: &[u32]) -> anyhow::Result<Outcome> {
        let maps = &self.maps;
        maps.clear();
        let start_ns = clock::now_ns() + START_NS;
        let planned_ns = plan.due_ns(plan.packets());
        let longest_ns = 4 * planned_ns + LONGEST_DELAY_NS;
        let step = (plan.interval_ns << FRACTION_BITS) / u64::from(plan.flows);
        let slot_bits = Slots::bits(longest_ns);
        for (word, value) in [
            (control::NUMBER, 0),
            (control::FLOW, 0),
            (control::FLOWS, plan.flows.into()),
            (control::INDEX, plan.first_index.into()),
            (control::WARM, plan.warm_index().into()),
            (control::STEP, step),
            (control::LEAST_STEP, least_step(step)),
            (control::DUE, start_ns << FRACTION_BITS),
            (control::LAST, start_ns + longest_ns),
            (control::TOTAL, plan.packets()),
            (control::START, start_ns),
            (control::SLOT_BITS, slot_bits.into()),
            (control::MOVED, 0),
            (control::BURST_MOST, 0),
            (control::BURST_BEGUN, 0),
            (control::BURST, 0),
            (control::SOONEST, 0),
            (control::CORE, u64::MAX),
            (control::SIGN, 0),
        ] {
            maps.set_control(word, value);
        }
        let mut cores = Watched::new(watched);
        cores.look();
        // Each call costs a grace period of RCU, tens of milliseconds: all in one.
        let time_ns = planned_ns + START_NS;
        let repeat = u32::try_from(plan.packets() + time_ns / generator::PATIENCE_NS).unwrap_or(u32::MAX);
        let batch = (BATCH_NS * u64::from(plan.flows) / plan.interval_ns).clamp(1, MOST_BATCH) as u32;
        loop {
            match self.generator.run_live(&self.template, self.ingress, repeat, batch) {
                // By a signal: the program knows how far it is.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                ran => break ran.context("the generator's program cannot be run on live frames")?,
            }
        }
        cores.look();
        self.drain();
        Ok(self.outcome(plan, slot_bits, cores.cores()))
    }

    /// Waits until nothing has come for a while: a relay that lagged behind has seconds of packets in its buffers.
    fn drain(&self) {
        let (mut last, mut quiet) = (0, 0);
        for _ in 0..800 {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.maps.count(counts::UNIQUE) + self.maps.count(counts::WRONG);
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
            if quiet == 15 {
                return;
            }
        }
    }

    fn outcome(&self, plan: Plan, slot_bits: u32, watched_cores: Option<f64>) -> Outcome {
        let maps = &self.maps;
        let number = maps.control(control::NUMBER);
        let unique = maps.count(counts::UNIQUE);
        Outcome {
            plan,
            sent: number.saturating_sub(plan.warm_packets()),
            send_errors: 0,
            unsent: plan.packets() - number,
            own_drops: 0,
            received: Received {
                unique,
                duplicate: maps.count(counts::DUPLICATE),
                reordered: maps.count(counts::REORDERED),
                wrong: maps.count(counts::WRONG),
                stray: maps.count(counts::STRAY),
                rtcp: maps.count(counts::RTCP),
                untimed: maps.count(counts::UNTIMED),
                bad_checksum: maps.count(counts::BAD_CHECKSUM),
                bytes: unique * (12 + self.payload_bytes as u64),
            },
            silent: maps.silent(plan.flows),
            account: maps.slots(slot_bits).account(),
            lateness: layout::histogram(&maps.lateness),
            moved_ns: maps.control(control::MOVED),
            largest_burst: maps.control(control::BURST_MOST),
            watched_cores,
        }
    }
}

/// Who is behind catches up at twice the rate, which no ring of the relay's host minds; near what a core can do, where generator and receiver
/// take turns, at four times.
const fn least_step(step: u64) -> u64 {
    if step >> FRACTION_BITS >= DENSE_NS { step / 2 } else { step / 4 }
}

/// 0.6 million packets/s.
const DENSE_NS: u64 = 1_667;
/// Making the frames takes that long at most.
const START_NS: u64 = 50_000_000;
/// After four times the plan and so much more the run is given up: who is held up all the time does not come to an end.
const LONGEST_DELAY_NS: u64 = 2_000_000_000;
/// Frames leave together if they are due within that time.
const BATCH_NS: u64 = 10_000;
const MOST_BATCH: u64 = 32;
