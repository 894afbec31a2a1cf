//! The figures at the end, for people and for JSON, and the exit code.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::options::Load;
use super::plan::Outcome;

/// Writes a report where it was asked for.
pub(super) fn write(load: &Load, text: &str, mut json: Value) -> anyhow::Result<()> {
    json["tool"] = json!("rtpload");
    json["version"] = json!(env!("CARGO_PKG_VERSION"));
    json["relay"] = json!(load.ng.map(|ng| ng.to_string()));
    let to_stdout = load.json.as_deref() == Some(Path::new("-"));
    if let Some(path) = &load.json {
        let json = serde_json::to_string_pretty(&json)?;
        if to_stdout {
            println!("{json}");
        } else {
            std::fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    if to_stdout {
        eprint!("{text}");
    } else {
        print!("{text}");
    }
    Ok(())
}

/// One run, for people.
pub(super) fn text(outcome: &Outcome) -> String {
    let (plan, received) = (&outcome.plan, &outcome.received);
    let (seconds, account) = (outcome.seconds(), &outcome.account);
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| writeln!(text, "{args}").expect("a string takes it");
    line(format_args!(
        "\n{} calls, {} flows, {seconds:.1} s: offered {:.0}/s ({:.1} calls), received {:.0}/s",
        plan.calls,
        plan.flows,
        outcome.offered_per_s(),
        outcome.offered_calls(),
        received.unique as f64 / seconds.max(1e-9)
    ));
    line(format_args!(
        "packets    sent {}, received {}, all lost {} ({:.4} %), reordered {}, duplicate {}, wrong {} (checksum {}), stray {}, rtcp {}, silent flows {}",
        outcome.sent,
        received.unique,
        outcome.all_lost(),
        outcome.all_loss_percent(),
        received.reordered,
        received.duplicate,
        received.wrong,
        received.bad_checksum,
        received.stray,
        received.rtcp,
        outcome.silent
    ));
    line(format_args!(
        "account    sent {}, lost {} ({:.4} %); left out {} of {} slots: the instrument was held up ({:.1} ms, longest {:.1} ms)",
        account.sent,
        outcome.lost(),
        outcome.loss_percent(),
        account.left_out,
        account.slots,
        account.held_ns as f64 / 1e6,
        account.longest_held_ns as f64 / 1e6,
    ));
    line(format_args!(
        "\n{:<10}{:>10} {:>10} {:>10} {:>10} {:>10}  {:>10}",
        "us", "p50", "p90", "p99", "p99.9", "max", "count"
    ));
    line(format_args!("{:<10}{}", "latency", account.latency.line()));
    line(format_args!("{:<10}{}", "lateness", outcome.lateness.line()));
    if let Some(cores) = outcome.watched_cores {
        let per_thousand = cores * 1_000.0 / outcome.offered_calls().max(1e-9);
        line(format_args!("watched    {cores:.3} cores, {per_thousand:.3} for 1,000 calls"));
    }
    let doubts = outcome.doubts();
    let burst = match outcome.largest_burst {
        0 => String::new(),
        packets => format!("; at most {packets} packets within 0.1 ms"),
    };
    line(format_args!(
        "instrument {}, schedule moved on by {:.1} ms{burst}",
        if doubts.is_empty() { "kept its rate" } else { "WAS THE BOTTLENECK" },
        outcome.moved_ns as f64 / 1e6,
    ));
    doubts.iter().for_each(|doubt| line(format_args!("           {doubt}")));
    text
}

/// What is wrong with a run by the bound that was given.
pub(super) fn missed(outcome: &Outcome, loss_below: f64) -> Vec<String> {
    let mut missed = Vec::new();
    let loss = outcome.loss_percent();
    if loss >= loss_below || outcome.received.unique == 0 {
        missed.push(format!("{loss:.4} % lost, below {loss_below} % expected"));
    }
    if !outcome.is_intact() {
        missed.push("packets were wrong, strays or duplicates".to_owned());
    }
    missed
}

/// By what was missed and whether that can be judged.
pub(super) fn exit_code(outcome: &Outcome, missed: Option<&[String]>) -> ExitCode {
    match missed {
        None => ExitCode::SUCCESS,
        Some(_) if !outcome.doubts().is_empty() => ExitCode::from(3),
        Some([]) => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}
