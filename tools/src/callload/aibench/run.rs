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

    /// The most calls of those tried that hold: up in steps from the first number, or down.
    fn search(&self, known: &[Outcome]) -> Option<u32> {
        let holds = |outcome: &Outcome| outcome.holds(self.options.hold_p99_ms);
        let begin = self.options.calls;
        let is_up = known.iter().any(holds);
        let steps = if is_up { [1.25, 1.5, 1.75, 2.0] } else { [0.75, 0.5, 0.35, 0.25] };
        let mut most = is_up.then_some(begin);
        for step in steps {
            let calls = (f64::from(begin) * step) as u32;
            if calls > self.options.most || calls == 0 {
                break;
            }
            match (self.narrow(calls).is_ok_and(|outcome| holds(&outcome)), is_up) {
                (true, true) => most = Some(calls),
                (true, false) => return Some(calls),
                (false, true) => break,
                (false, false) => {}
            }
        }
        most
    }
}
