//! `sidetone doctor`: how well this host is set up for media, and what to do about it. It only looks.

mod cpu;
mod kernel;
mod ladder;
mod network;
mod report;

use std::process::ExitCode;

use engine::config::{DeviceKind, EngineConfig, WaitPolicy};
use signaling::config::Plan;
use xdp::host::machine::Capability;
use xdp::host::{Interface, Machine};

use self::report::Report;
use crate::placing;

/// Looks at everything and prints it.
pub(crate) fn run(plan: &Plan, json: bool) -> ExitCode {
    let interface = plan.engine.af_xdp.interface.as_deref();
    let interface = interface.map(|name| Interface::read(name).map_err(|error| error.to_string()));
    let machine = Machine::read();
    // As a run would have it.
    let node = interface.as_ref().and_then(|interface| interface.as_ref().ok()?.node);
    let placing = placing::place(&plan.engine, &plan.signaling_cpus, &machine, node);
    let facts = Facts {
        engine: EngineConfig { media_cpus: placing.media, ..plan.engine.clone() },
        signaling_cpus: plan.signaling_cpus.clone(),
        max_calls: plan.call.max_calls,
        machine,
        interface,
    };
    let report = facts.report();
    if json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.text());
    }
    if report.has_problem() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What the checks look at.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    engine: EngineConfig,
    signaling_cpus: Vec<usize>,
    max_calls: usize,
    machine: Machine,
    /// The one that is configured.
    interface: Option<Result<Interface, String>>,
}

impl Facts {
    fn report(&self) -> Report {
        let (device, refused) = ladder::choose(self);
        let mut checks = kernel::checks(self);
        checks.extend(network::checks(self));
        checks.extend(cpu::checks(self));
        Report {
            device: device.name(),
            refused: refused.into_iter().map(|(device, reason)| (device.name(), reason)).collect(),
            checks,
        }
    }

    /// Whether this is meant to be a server for media: then what only pays there counts.
    fn is_server(&self) -> bool {
        self.interface.is_some() || self.is_pinned()
    }

    fn is_pinned(&self) -> bool {
        !self.engine.media_cpus.is_empty()
    }

    /// Whether BPF is wanted by name.
    fn wants_bpf(&self) -> bool {
        matches!(self.engine.device, DeviceKind::AfXdp | DeviceKind::SkLookup) || self.interface.is_some()
    }

    fn is_busy(&self) -> bool {
        self.engine.wait == WaitPolicy::Busy
    }

    fn workers(&self) -> usize {
        self.engine.workers()
    }

    /// The memory of all AF_XDP frames, in bytes.
    fn frame_bytes(&self) -> u64 {
        (self.workers() * self.engine.af_xdp.frames) as u64 * 2048
    }

    /// The capabilities that a device by BPF lacks; empty also if they are not known.
    fn missing_for(&self, device: DeviceKind) -> Vec<&'static str> {
        let has = |capability| self.machine.has(capability) != Some(false);
        let all = has(Capability::SysAdmin);
        // Only the XDP program reads a packet where the packet says.
        let reads_packets = device == DeviceKind::AfXdp;
        [
            (Capability::Bpf, all),
            (Capability::Perfmon, all || !reads_packets),
            (Capability::NetAdmin, false),
            (Capability::NetRaw, false),
        ]
        .into_iter()
        .filter(|&(capability, instead)| !has(capability) && !instead)
        .map(|(capability, _)| capability.name())
        .collect()
    }
}

/// CPU numbers as people write them.
fn numbers<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
