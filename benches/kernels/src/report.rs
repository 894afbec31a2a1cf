//! What the comparison prints and writes.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use criterion::Criterion;
use engine::simd;

use crate::pair::{Outcome, Pair};
use crate::peers;

const BEGIN: &str = "<!-- kernels:begin -->";
const END: &str = "<!-- kernels:end -->";

/// `RATIO name value` for machines, and a line for people above it.
pub fn print(outcome: &Outcome) {
    let name = outcome.name;
    let Some(times) = &outcome.times else {
        println!("WRONG {name}: {}", outcome.check.as_ref().err().map_or("", String::as_str));
        return;
    };
    if let Ok(how) = &outcome.check {
        println!("{name}: {how}");
    }
    let listed = |sides: &[(String, f64)]| -> String {
        sides.iter().map(|(side, time)| format!(", {side} {} ns", digits(*time))).collect()
    };
    println!(
        "{name}: ours {} ns{}; goal {}{}",
        digits(times.ours),
        listed(&times.theirs),
        outcome.goal,
        if times.ratio < outcome.goal { "  GOAL MISSED" } else { "" }
    );
    println!("RATIO {name} {}", digits(times.ratio));
}

/// Ours by instruction set, without a ratio.
pub fn print_tables(outcome: &Outcome) {
    let times: Vec<String> =
        outcome.tables.iter().map(|(table, time)| format!("{table} {} ns", digits(*time))).collect();
    if !times.is_empty() {
        println!("{}: {}", outcome.name, times.join(", "));
    }
}

/// Puts the table between the markers of a document.
pub fn write(path: &str, outcomes: &[Outcome]) -> Result<(), String> {
    replace(Path::new(path), BEGIN, END, &table(outcomes))
}

/// Replaces what stands between two markers.
pub fn replace(path: &Path, begin: &str, end: &str, text: &str) -> Result<(), String> {
    let old = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let (head, rest) = old.split_once(begin).ok_or_else(|| format!("no {begin}"))?;
    let (_, tail) = rest.split_once(end).ok_or_else(|| format!("no {end} behind {begin}"))?;
    let new = format!("{head}{begin}\n{text}\n{end}{tail}");
    std::fs::write(path, new).map_err(|error| error.to_string())
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "\n| kernel | ours, ns | theirs, ns | peer | ratio | goal |\n|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let Some(times) = &outcome.times else {
            let _ = writeln!(text, "| {} | **wrong result** | | | | {} |", outcome.name, outcome.goal);
            continue;
        };
        let (peer, theirs) = &times.theirs[times.peer];
        let ratio = digits(times.ratio);
        let ratio = if times.ratio < outcome.goal { format!("**{ratio}, missed**") } else { ratio };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {peer} | {ratio} | {} |",
            outcome.name,
            digits(times.ours),
            digits(*theirs),
            outcome.goal
        );
    }
    let names: Vec<&str> = simd::available().map(|kernels| kernels.name).collect();
    let _ = write!(text, "\nOurs by instruction set, ns:\n\n| kernel | {} |\n|---|", names.join(" | "));
    text.push_str(&"---|".repeat(names.len()));
    text.push('\n');
    for outcome in outcomes {
        if outcome.tables.is_empty() {
            continue;
        }
        let _ = write!(text, "| {} |", outcome.name);
        for name in &names {
            let time = outcome.tables.iter().find(|(table, _)| table == name).map(|(_, time)| digits(*time));
            let _ = write!(text, " {} |", time.unwrap_or_default());
        }
        text.push('\n');
    }
    let _ = write!(
        text,
        "\nKernel table in use: {}. Peers: Debian 12's spandsp 0.0.6, speexdsp 1.2.1, {}.\n",
        simd::kernels().name,
        peers::versions()
    );
    text
}

/// Three significant digits.
pub fn digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let above = value.abs().log10().floor() as i32;
    let decimals = usize::try_from(2 - above).unwrap_or(0);
    let rounded = if above > 2 {
        let unit = 10f64.powi(above - 2);
        (value / unit).round() * unit
    } else {
        value
    };
    grouped(&format!("{rounded:.decimals$}"))
}

/// Commas between thousands.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// Absolute times of every side with criterion's statistics.
pub fn criterion(pairs: Vec<Pair>) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .sample_size(30)
        .without_plots();
    for mut pair in pairs {
        if let Err(why) = (pair.check)() {
            println!("WRONG {}: {why}", pair.name);
            continue;
        }
        let mut group = criterion.benchmark_group(pair.name);
        group.throughput(criterion::Throughput::Elements(pair.frames as u64));
        group.bench_function("ours", |bencher| bencher.iter(|| (pair.ours.run)()));
        for side in pair.theirs.iter_mut() {
            let name = side.name.clone();
            group.bench_function(name, |bencher| bencher.iter(|| (side.run)()));
        }
        group.finish();
    }
}
