//! Everything that is counted, as Prometheus metrics.

use std::time::{Instant, SystemTime};

use engine::WorkerCounters;
use engine::ai::{AiCounters, AiHistograms};
use signaling::access::AccessCounters;
use signaling::asterisk::AsteriskCounters;
use signaling::call::CallTable;
use signaling::exchange::ExchangeCounters;
use signaling::media::Media;
use signaling::ng::command::Command;
use signaling::ng::{CommandCounters, NgCounters};
use signaling::record::Recorder;
use signaling::sip::{RegistrationState, SipCounters, SipLoad};
use signaling::telemetry::{Exposition, Labels, Phase, collect_process};
use xdp::af_xdp::Interface;

/// The process itself.
pub(crate) fn process(out: &mut Exposition, started: (SystemTime, Instant), phase: Phase) {
    collect_process(out, env!("CARGO_PKG_VERSION"), started);
    let ready = u64::from(phase == Phase::Serving);
    out.gauge("sidetone_ready", "1 while new calls are taken, 0 while starting or draining", &[], ready);
}

/// The writing of call records.
pub(crate) fn records(out: &mut Exposition, recorder: &Recorder) {
    recorder.counters().for_each(|name, help, value| match name {
        // Counted in whole numbers, told in the unit that Prometheus wants.
        "commit_microseconds" => {
            out.counter("sidetone_records_commit_seconds", help, &[], value as f64 / 1e6);
        }
        _ => out.counter(&format!("sidetone_records_{name}"), help, &[], value),
    });
    recorder.collect_calls(out);
    let waiting = recorder.waiting() as u64;
    out.gauge("sidetone_records_waiting", "Changes of call records that wait to be written", &[], waiting);
    let spooled = recorder.spool_bytes();
    let help = "Bytes of call records that wait in a file because the store does not take them";
    out.gauge("sidetone_records_spool_bytes", help, &[], spooled);
}

/// Workers, devices and AI streams.
pub(crate) fn media(out: &mut Exposition, media: &Media) {
    let engine = media.engine();
    for (worker, counters) in engine.worker_counters().iter().enumerate() {
        worker_counters(out, &[("worker", &worker.to_string())], counters);
    }
    let kernels = [("kernels", engine::simd::kernels().name)];
    out.gauge("sidetone_simd_info", "The kernels that work on samples; always 1", &kernels, 1u64);
    let device = engine.device().name;
    for (worker, counters) in engine.device_counters().iter().enumerate() {
        let worker = worker.to_string();
        let labels = [("worker", worker.as_str()), ("device", device)];
        counters.for_each(|name, help, value| {
            out.counter(&format!("sidetone_device_{name}"), help, &labels, value)
        });
    }
    for (worker, device) in engine.devices_in_use().into_iter().enumerate() {
        let labels = [("worker", &*worker.to_string()), ("device", device)];
        out.gauge("sidetone_device_in_use", "The device that the worker uses now; always 1", &labels, 1u64);
    }
    if let Some(interface) = engine.interface() {
        of_interface(out, interface);
    }
    engine
        .port_counters()
        .for_each(|name, help, value| out.counter(&format!("sidetone_ports_{name}"), help, &[], value));
    for (worker, streams) in engine.streams().into_iter().enumerate() {
        let labels = [("worker", &*worker.to_string())];
        out.gauge("sidetone_worker_streams", "Streams that the worker has", &labels, streams);
    }
    media
        .counters()
        .for_each(|name, help, value| out.counter(&format!("sidetone_media_{name}"), help, &[], value));
    ai(out, &media.ai().counters(), &media.ai().histograms());
    let lines = media.ai().line_counters();
    lines.for_each(|name, help, value| out.counter(&format!("sidetone_line_{name}"), help, &[], value));
}

/// The interface of AF_XDP: what its program has done, and the thread that knows the next hops.
fn of_interface(out: &mut Exposition, interface: &Interface) {
    let labels = [("interface", interface.taken().interface.as_str())];
    // A kernel that does not tell now tells the next time.
    if let Ok(counters) = interface.program_counters() {
        counters
            .for_each(|name, help, value| out.counter(&format!("sidetone_xdp_{name}"), help, &labels, value));
    }
    interface
        .next_hop_counters()
        .for_each(|name, help, value| out.counter(&format!("sidetone_{name}"), help, &labels, value));
}

fn worker_counters(out: &mut Exposition, labels: Labels<'_>, counters: &WorkerCounters) {
    counters.for_each(|name, help, value| {
        if !name.starts_with("deadlines") {
            out.counter(&format!("sidetone_worker_{name}"), help, labels, value);
        }
    });
    let count = counters.deadlines.value();
    let up_to = [
        (0.000_25, &counters.deadlines_late_250us),
        (0.001, &counters.deadlines_late_1ms),
        (0.004, &counters.deadlines_late_4ms),
        (0.016, &counters.deadlines_late_16ms),
    ]
    .map(|(bound, later)| (bound, count.saturating_sub(later.value())));
    let sum = counters.deadlines_late_nanos.value() as f64 / 1e9;
    let help = "How late streams were served after their deadline, in seconds";
    out.histogram("sidetone_worker_tick_lateness_seconds", help, labels, up_to, count, sum);
}

fn ai(out: &mut Exposition, counters: &AiCounters, histograms: &AiHistograms) {
    counters.for_each(|name, help, value| out.counter(&format!("sidetone_ai_{name}"), help, &[], value));
    histograms.for_each(|name, help, buckets| {
        let name = format!("sidetone_ai_{name}_seconds");
        out.histogram(&name, help, &[], buckets.up_to(), buckets.count(), buckets.sum());
    });
}

/// The SIP endpoint.
pub(crate) fn sip(out: &mut Exposition, counters: &SipCounters, load: SipLoad) {
    counters.for_each(|name, help, value| out.counter(&format!("sidetone_sip_{name}"), help, &[], value));
    out.gauge("sidetone_sip_dialogs", "Dialogs, from INVITE to the end of BYE", &[], load.calls);
    out.gauge("sidetone_sip_unacknowledged", "Calls whose ACK has not come", &[], load.unacknowledged);
    let help = "Transactions, running and remembered for retransmissions";
    out.gauge("sidetone_sip_transactions", help, &[], load.transactions);
    out.gauge("sidetone_sip_tcp_connections", "Open TCP connections", &[], load.tcp_connections);
}

/// The account at a SIP server: 1 for the state that it is in.
pub(crate) fn registration(out: &mut Exposition, state: RegistrationState) {
    for known in RegistrationState::ALL {
        let help = "1 for the state that the registration at the SIP server is in, else 0";
        let value = u64::from(known == state);
        out.gauge("sidetone_sip_registration", help, &[("state", known.name())], value);
    }
}

/// The gate of the API.
pub(crate) fn access(out: &mut Exposition, counters: &AccessCounters) {
    counters.for_each(|name, help, value| out.counter(&format!("sidetone_access_{name}"), help, &[], value));
}

/// The NG protocol.
pub(crate) fn ng(
    out: &mut Exposition,
    (counters, exchanges): (&NgCounters, &ExchangeCounters),
    commands: &CommandCounters,
    calls: usize,
) {
    counters.for_each(|name, help, value| out.counter(&format!("sidetone_ng_{name}"), help, &[], value));
    exchanges.for_each(|name, help, value| out.counter(&format!("sidetone_ng_{name}"), help, &[], value));
    out.gauge("sidetone_ng_calls_running", "Calls that a proxy relays through us now", &[], calls);
    for command in Command::ALL {
        let labels = [("command", command.name())];
        let figures = commands.of(command);
        let help = "Commands that failed";
        out.counter("sidetone_ng_command_errors", help, &labels, figures.errors.value());
        let help = "From a command's arrival to its reply, in seconds";
        let (count, sum) = (figures.count.value(), figures.sum().as_secs_f64());
        out.histogram("sidetone_ng_command_seconds", help, &labels, figures.buckets(), count, sum);
    }
}

/// Asterisk that dials us.
pub(crate) fn asterisk(out: &mut Exposition, counters: &AsteriskCounters) {
    counters
        .for_each(|name, help, value| out.counter(&format!("sidetone_asterisk_{name}"), help, &[], value));
}

/// The calls.
pub(crate) fn calls(out: &mut Exposition, calls: &CallTable) {
    let counters = calls.counters();
    counters.for_each(|name, help, value| out.counter(&format!("sidetone_calls_{name}"), help, &[], value));
    out.gauge("sidetone_calls", "Calls that run now", &[], calls.len());
    out.gauge("sidetone_calls_max", "Calls allowed at once", &[], calls.max_calls());
    let setup = calls.setup_time();
    let buckets = setup.buckets().map(|(bound, count)| (bound.as_secs_f64(), count));
    let help = "From INVITE to 200, in seconds";
    let sum = setup.sum().as_secs_f64();
    out.histogram("sidetone_call_setup_seconds", help, &[], buckets, setup.count(), sum);
}
