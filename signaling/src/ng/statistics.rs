//! The figures of the whole server, for `statistics`.

use std::time::Duration;

use super::command::Command;
use super::table::Shared;
use super::value::{Dictionary, Value};

/// The reply to `statistics`; packets and bytes are in the metrics.
pub(super) fn report(shared: &Shared, uptime: Duration) -> Dictionary {
    let counters = &shared.counters;
    let sessions = shared.len() as u64;
    let current = Dictionary::default()
        .with("sessionsown", sessions)
        .with("sessionsforeign", 0u64)
        .with("sessionstotal", sessions);
    let total = Dictionary::default()
        .with("uptime", uptime.as_secs())
        .with("managedsessions", counters.calls.value())
        .with("rejectedsessions", counters.calls_refused.value())
        .with("timeoutsessions", counters.calls_timed_out.value())
        .with("silenttimeoutsessions", 0u64)
        .with("finaltimeoutsessions", 0u64)
        .with("offertimeoutsessions", 0u64)
        .with("regularterminatedsessions", counters.calls_deleted.value())
        .with("forcedterminatedsessions", counters.calls_ended.value());
    let mut totals = Dictionary::default();
    let mut errors = 0;
    for command in Command::ALL {
        let figures = shared.commands.of(command);
        let short = if command == Command::Statistics { "stats" } else { command.name() };
        totals.push(format!("{short}count"), figures.count.value());
        totals.push(format!("{short}duration"), format!("{:.6}", figures.sum().as_secs_f64()));
        errors += figures.errors.value();
    }
    totals.push("errorcount", errors);
    let control = Dictionary::default().with("proxies", Vec::<Value>::new()).with("totals", totals);
    let statistics = Dictionary::default()
        .with("currentstatistics", current)
        .with("totalstatistics", total)
        .with("controlstatistics", control);
    Dictionary::default().with("statistics", statistics)
}
