//! What `streamload` adds to the report of `callload`.

use std::{fmt::Write as _, process::ExitStatus, sync::Mutex};

use serde_json::{Map, Value, json};

use super::{options::StreamOptions, stats::StreamStats};
use crate::callload::{report::Addition, worker::Progress};

/// The progress of a second.
pub(super) fn progress_line(
    second: u64,
    now: &Progress,
    before: &Progress,
    stats: &Mutex<StreamStats>,
) -> String {
    let Ok(stats) = stats.lock() else { return String::new() };
    format!(
        "{second:>5} s  calls {} (failed {})  streams {}  rtp out {}/s in {}/s  uplink found {} missing {}, beyond the \
         packet time p50 {:.2} p99 {:.2} ms  utterances {} gaps {}  own late {}",
        now.active,
        now.counters.calls_failed,
        stats.streams_started,
        now.counters.rtp_sent - before.counters.rtp_sent,
        now.counters.rtp_received - before.counters.rtp_received,
        stats.uplink_found,
        stats.uplink_missing,
        stats.uplink_added.ms(50.0),
        stats.uplink_added.ms(99.0),
        stats.utterances,
        stats.bot_gaps,
        now.late_packets
    )
}

/// Figures, and the verdict on them. `ended` is how the started server ended.
pub(super) fn addition(options: &StreamOptions, stats: &StreamStats, ended: Option<ExitStatus>) -> Addition {
    let counters: Map<String, Value> =
        stats.counters().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let histograms: Map<String, Value> =
        stats.histograms().into_iter().map(|(name, h)| (name.to_owned(), h.json())).collect();
    let mut doubts = Vec::new();
    if stats.clock_errors > 0 {
        doubts.push(format!("{} packets arrived before they left: the clocks disagree", stats.clock_errors));
    }
    Addition {
        tool: "streamload",
        text: text(options, stats),
        json: json!({
            "counters": counters, "histograms": histograms,
            "uplink_loss_percent": uplink_loss_percent(stats),
            "uplink_on_boundary_percent": share(stats.uplink_on_boundary, stats.uplink_found),
        }),
        histograms: stats.histograms().into_iter().map(|(name, h)| (name, h.clone())).collect(),
        asked: options.check_uplink_p99_below.is_some()
            || options.expect_uplink_loss_below.is_some()
            || options.max_bot_gaps.is_some()
            || options.check_barge_in_p99_below.is_some(),
        missed: missed(options, stats, ended),
        doubts,
    }
}

fn missed(options: &StreamOptions, stats: &StreamStats, ended: Option<ExitStatus>) -> Vec<String> {
    let mut missed = Vec::new();
    if stats.streams_started == 0 {
        missed.push(if stats.streams_unknown > 0 {
            "no WebSocket named its call: the agent needs parameters = { call_id = \"{call_id}\" }".to_owned()
        } else {
            "no WebSocket came: the agent's url must name --listen".to_owned()
        });
    }
    if let Some(bound) = options.check_uplink_p99_below {
        let added = &stats.uplink_added;
        if added.len() == 0 {
            missed.push("no packet was found in the uplink".to_owned());
        } else if added.ms(99.0) >= bound {
            missed.push(format!(
                "uplink p99 {:.3} ms beyond the packet time, below {bound} ms expected",
                added.ms(99.0)
            ));
        }
    }
    if let Some(bound) = options.expect_uplink_loss_below {
        let loss = uplink_loss_percent(stats);
        if loss >= bound || stats.uplink_found == 0 {
            missed.push(format!("{loss:.4} % of the caller's audio missing, below {bound} % expected"));
        }
    }
    if let Some(bound) = options.check_barge_in_p99_below {
        let (p99, ignored) = (stats.barge_in.ms(99.0), stats.barge_ins_ignored);
        if stats.barge_ins == 0 || ignored > 0 || p99 >= bound {
            missed.push(format!(
                "{} interruptions, {ignored} ignored, p99 {p99:.1} ms to the bot's last packet, below {bound} ms expected",
                stats.barge_ins
            ));
        }
    }
    if let Some(bound) = options.max_bot_gaps.filter(|&bound| stats.bot_gaps > bound) {
        missed.push(format!("{} gaps in bot audio, {bound} tolerated", stats.bot_gaps));
    }
    if let Some(status) = ended.filter(|status| !status.success()) {
        missed.push(format!("the started server ended with {status}"));
    }
    missed
}

fn uplink_loss_percent(stats: &StreamStats) -> f64 {
    share(stats.uplink_missing, stats.uplink_found + stats.uplink_missing)
}

fn share(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / (whole as f64).max(1.0)
}

fn text(options: &StreamOptions, stats: &StreamStats) -> String {
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| writeln!(text, "{args}").expect("a string takes it");
    line(format_args!(
        "\nstreams    started {}, unknown {}, broken {}, wrong messages {}",
        stats.streams_started, stats.streams_unknown, stats.streams_broken, stats.messages_wrong
    ));
    line(format_args!(
        "uplink     {} messages, timestamp jumps {}; packets found {} ({:.1} % end where a message ends), missing {} \
         ({:.4} %), silent {}, realignments {}",
        stats.uplink_messages,
        stats.uplink_timestamp_jumps,
        stats.uplink_found,
        share(stats.uplink_on_boundary, stats.uplink_found),
        stats.uplink_missing,
        uplink_loss_percent(stats),
        stats.uplink_silent,
        stats.uplink_realignments
    ));
    line(format_args!(
        "bot        utterances {} ({} complete), samples heard {}, missing {}, wrong {}, gaps {}",
        stats.utterances,
        stats.utterances_complete,
        stats.bot_samples,
        stats.bot_samples_missing,
        stats.bot_samples_wrong,
        stats.bot_gaps
    ));
    line(format_args!(
        "marks      echoed {}, lost {}, before their audio {}; clears {}, packets of old audio after them {}",
        stats.marks_echoed, stats.marks_lost, stats.marks_early, stats.clears, stats.clear_packets
    ));
    line(format_args!(
        "\n{:<19}{:>9} {:>9} {:>9} {:>9} {:>9}  {:>9}",
        "ms", "p50", "p90", "p99", "p99.9", "max", "count"
    ));
    for (name, histogram) in stats.histograms() {
        line(format_args!("{:<19}{}", name.replace('_', " "), histogram.line()));
    }
    if options.barge_in {
        let per = stats.barge_in_packets as f64 / (stats.barge_ins as f64).max(1.0);
        writeln!(
            text,
            "barge-in   {} interruptions, ignored {}; {per:.2} packets with bot audio after the first of the caller's, at most two for {:.2} %\n\
             FIGURE barge_in_p50_ms {:.1}\nFIGURE barge_in_p99_ms {:.1}",
            stats.barge_ins,
            stats.barge_ins_ignored,
            share(stats.barge_ins_within_two_packets, stats.barge_ins),
            stats.barge_in.ms(50.0),
            stats.barge_in.ms(99.0)
        )
        .expect("a string takes it");
    }
    text
}
