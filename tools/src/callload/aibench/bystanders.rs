//! What ten calls whose backends misbehave do to ninety beside them, in turn with a hundred good ones.

use std::{fmt::Write as _, path::Path, process::ExitCode, thread, time::Instant};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{
    hostile::Behaviour,
    options::AiBenchOptions,
    round::{Beside, Outcome, Plan, measure},
};
use crate::figures::{median, put_between, spread};

/// A repeat: the same with good calls beside, and with bad ones.
struct Pair {
    good: Outcome,
    bad: Outcome,
}

type Side = fn(&Pair) -> &Outcome;

/// Measures all repeats, each of both kinds, and prints them.
pub(super) fn run(options: &AiBenchOptions) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let mut pairs: Vec<Pair> = Vec::new();
    for repeat in 0..if options.quick { 1 } else { options.repeats } {
        let one = |beside| {
            let shorter = if options.quick { 2 } else { 1 };
            let plan = Plan {
                calls: options.bystanders,
                beside: Some(beside),
                settle: options.settle / shorter,
                duration: options.duration / shorter,
                ..Plan::default()
            };
            let outcome = measure(options, &plan)?;
            println!("{:>4.0} s  {:<15} {}", begun.elapsed().as_secs_f64(), beside.title(), outcome.line());
            // What the last ones left behind in the kernel is over.
            thread::sleep(options.settle / 10);
            anyhow::Ok(outcome)
        };
        // Each is as often the first as the other.
        let pair = if repeat % 2 == 0 {
            let good = one(Beside::Good)?;
            Pair { good, bad: one(Beside::Bad)? }
        } else {
            let bad = one(Beside::Bad)?;
            Pair { good: one(Beside::Good)?, bad }
        };
        pairs.push(pair);
    }
    println!("\n{}", table(options, &pairs));
    for (name, value) in ratios(&pairs) {
        println!("RATIO {name} {value:.2}");
    }
    if let Some(path) = &options.write {
        let ratios: Vec<String> =
            ratios(&pairs).iter().map(|(name, value)| format!("`{name}` {value:.2}")).collect();
        put_between(
            path,
            BEGIN,
            END,
            &format!("{}\nFigures: {}.\n", table(options, &pairs), ratios.join(", ")),
        )?;
    }
    if let Some(path) = &options.json {
        write_json(path, &pairs)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The 99th percentile beside good calls by that beside bad ones: 1 if nothing is different, less if it is worse.
fn ratios(pairs: &[Pair]) -> Vec<(&'static str, f64)> {
    let of = |figure: fn(&Outcome) -> f64| {
        median(&pairs.iter().map(|pair| figure(&pair.good) / figure(&pair.bad)).collect::<Vec<_>>())
    };
    let all = [
        ("bystanders_p99", of(|outcome| outcome.added_ms[1])),
        ("bystanders_back_p99", of(|outcome| outcome.back_ms[1])),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn table(options: &AiBenchOptions, pairs: &[Pair]) -> String {
    let mut text = format!(
        "| {} calls beside ten | carried | added, ms: p50 | p99 | p99.9 | there and back, ms: p50 | p99 | lost up, down | media thread, cores | AI thread, cores | most memory, MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        options.bystanders
    );
    let kinds: [(&str, Side); 2] =
        [("that are good", |pair| &pair.good), ("whose backends misbehave", |pair| &pair.bad)];
    for (title, of) in kinds {
        let each = |figure: &dyn Fn(&Outcome) -> f64, digits: usize| {
            spread(&pairs.iter().map(|pair| figure(of(pair))).collect::<Vec<_>>(), digits)
        };
        let sum = |figure: fn(&Outcome) -> u64| pairs.iter().map(|pair| figure(of(pair))).sum::<u64>();
        let _ = writeln!(
            text,
            "| {title} | {} | {} | {} | {} | {} | {} | {}, {} | {} | {} | {} |",
            each(&|o| o.carried, 0),
            each(&|o| o.added_ms[0], 2),
            each(&|o| o.added_ms[1], 2),
            each(&|o| o.added_ms[2], 2),
            each(&|o| o.back_ms[0], 1),
            each(&|o| o.back_ms[1], 1),
            sum(|o| o.lost_up),
            sum(|o| o.lost_down),
            each(&|o| o.media, 3),
            each(&|o| o.stream, 3),
            each(&|o| o.memory_mib, 0),
        );
    }
    let last = pairs.last().map(|pair| &pair.bad);
    let connections = |behaviour: &Behaviour| {
        let count = last.and_then(|bad| bad.beside["connections"][behaviour.name()].as_u64()).unwrap_or(0);
        format!("{} {count}", behaviour.name())
    };
    let kinds: Vec<String> = Behaviour::ALL.iter().map(connections).collect();
    let _ = writeln!(text, "\nConnections of each kind in the last round: {}.", kinds.join(", "));
    let counted: Vec<String> = last
        .map(|bad| bad.counted.iter().map(|(name, value)| format!("`{name}` {value}")).collect())
        .unwrap_or_default();
    let _ = writeln!(text, "Counted in it: {}.", counted.join(", "));
    let doubts =
        pairs.iter().flat_map(|pair| [&pair.good, &pair.bad]).filter(|o| !o.doubts.is_empty()).count();
    if doubts > 0 {
        let _ = writeln!(text, "Rounds in which the generator did not keep its own schedule: {doubts}.");
    }
    text
}

fn write_json(path: &Path, pairs: &[Pair]) -> anyhow::Result<()> {
    let rounds = pairs.iter().flat_map(|pair| [("good", &pair.good), ("bad", &pair.bad)]);
    let rounds: Vec<Value> = rounds.map(|(beside, outcome)| outcome.json(beside)).collect();
    let ratios: Map<String, Value> =
        ratios(pairs).into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    std::fs::write(path, format!("{:#}\n", json!({ "rounds": rounds, "ratios": ratios })))
        .with_context(|| format!("cannot write {}", path.display()))
}

const BEGIN: &str = "<!-- bystanders:begin -->";
const END: &str = "<!-- bystanders:end -->";
