//! Everything in turn.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    bystanders, hostile,
    options::AiBenchOptions,
    peer,
    processor::cpus,
    report::Report,
    round::{Outcome, Plan, measure},
};

/// Measures what the command line says and prints the table and the ratios.
///
/// # Errors
/// What is missing, as a sentence.
pub fn run(options: &AiBenchOptions) -> anyhow::Result<ExitCode> {
    if let Some(address) = options.peer {
        peer::serve(address)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(address) = options.hostile {
        hostile::serve(address)?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        options.sidetone.exists(),
        "{} is missing: cargo build --release -p sidetone",
        options.sidetone.display()
    );
    let most = [options.media_cpu, options.stream_cpu, options.peer_cpu(), options.generator_cpu()]
        .into_iter()
        .max();
    ensure!(most < Some(cpus()), "there are only {} CPUs", cpus());
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files is not known")?;
    // Everybody inherits it.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);

    if options.bystanders > 0 {
        return bystanders::run(options);
    }
    let bench = Bench { options, begun: Instant::now() };
    let mut report = Report::new(options);
    for _ in 0..if options.quick { 1 } else { options.repeats } {
        // In turn, so that what the machine does meanwhile meets all.
        report.add("streams", bench.narrow(options.calls));
        if !options.wide.is_empty() {
            report.add("wide", bench.wide());
        }
        if options.pipecat.exists() {
            report.add("pipecat", bench.pipecat());
        }
    }
    if !options.quick {
        report.most = bench.search(report.outcomes("streams"));
    }
    let busy = report.outcomes("streams").iter().any(|outcome| !outcome.is_whole());
    if busy {
        report.failures.push((
            "streams",
            "not all calls were carried: try on an idle machine, or fewer calls".to_owned(),
        ));
    }
    report.print();
    if let Some(path) = &options.write {
        report.write(path)?;
    }
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", report.json()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    for (what, why) in &report.failures {
        eprintln!("bench-ai: {what}: {why}");
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Bench<'a> {
    options: &'a AiBenchOptions,
    begun: Instant,
}

impl Bench<'_> {
    fn narrow(&self, calls: u32) -> anyhow::Result<Outcome> {
        self.round("PCMU", &self.plan(calls, String::new()))
    }

    fn wide(&self) -> anyhow::Result<Outcome> {
        self.round("wide", &self.plan(self.options.wide_calls, format!("{}\n", self.options.wide.trim())))
    }

    fn pipecat(&self) -> anyhow::Result<Outcome> {
        self.round("Pipecat", &Plan { pipecat: true, ..self.plan(self.options.pipecat_calls, String::new()) })
    }

    fn plan(&self, calls: u32, agent: String) -> Plan {
        let shorter = |duration: Duration| if self.options.quick { duration / 2 } else { duration };
        let (settle, duration) = (shorter(self.options.settle), shorter(self.options.duration));
        Plan { calls, agent, settle, duration, ..Plan::default() }
    }

    fn round(&self, what: &str, plan: &Plan) -> anyhow::Result<Outcome> {
        let outcome = measure(self.options, plan);
        let told = match &outcome {
            Ok(outcome) => outcome.line(),
            Err(error) => format!("{error:#}"),
        };
        println!("{:>4.0} s  {what:<8} {told}", self.begun.elapsed().as_secs_f64());
        outcome
    }

    /// The most calls that hold, to five per cent.
    fn search(&self, known: &[Outcome]) -> Option<u32> {
        let holds = |outcome: &Outcome| outcome.holds(self.options.hold_p99_ms);
        let begin = self.options.calls;
        let mut range = Range { most: self.options.most, ..Range::default() };
        // What was measured before is the first try: half of its repeats must have held.
        range.put(begin, 2 * known.iter().filter(|outcome| holds(outcome)).count() > known.len());
        for _ in 0..MOST_TRIES {
            let Some(calls) = range.next() else { break };
            range.put(calls, self.narrow(calls).is_ok_and(|outcome| holds(&outcome)));
        }
        range.good
    }
}

/// Between the most calls that held and the fewest that did not.
#[derive(Clone, Copy, Debug, Default)]
struct Range {
    good: Option<u32>,
    bad: Option<u32>,
    /// No more than this is tried.
    most: u32,
}

impl Range {
    fn put(&mut self, calls: u32, holds: bool) {
        if holds {
            self.good = self.good.max(Some(calls));
        } else {
            self.bad = Some(self.bad.map_or(calls, |bad| bad.min(calls)));
        }
    }

    /// Up by a third or down by half until both ends are known, then the middle.
    fn next(&self) -> Option<u32> {
        match (self.good, self.bad) {
            (Some(good), Some(bad)) => (bad > good + good / 20).then(|| good.midpoint(bad)),
            (Some(good), None) => (good < self.most).then(|| (good + good / 3).clamp(good + 1, self.most)),
            (None, Some(bad)) => (bad > LEAST).then(|| (bad / 2).max(LEAST)),
            (None, None) => None,
        }
    }
}

const MOST_TRIES: u32 = 8;
const LEAST: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(begin: u32, most: u32, truth: u32) -> (Option<u32>, u32) {
        let (mut range, mut tries) = (Range { most, ..Range::default() }, 0);
        range.put(begin, begin <= truth);
        while let Some(calls) = range.next() {
            range.put(calls, calls <= truth);
            tries += 1;
            assert!(tries <= MOST_TRIES, "{begin} {truth}");
        }
        (range.good, tries)
    }

    #[test]
    fn the_most_calls_are_found_from_both_sides() {
        for truth in [150, 480, 700, 999, 1_000, 1_200, 1_730, 1_999] {
            let (good, _) = found(1_000, 2_000, truth);
            let good = good.unwrap_or_else(|| panic!("nothing for {truth}"));
            assert!(good <= truth && truth - good <= good / 20 + 1, "{good} for {truth}");
        }
        assert_eq!(found(1_000, 2_000, 5_000).0, Some(2_000));
        assert_eq!(found(20, 100, 0).0, None);
    }
}
