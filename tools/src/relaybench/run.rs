//! Everything in turn.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Uid;

use super::neighbours::{self, Neighbours};
use super::network::Cable;
use super::options::Options;
use super::report::{Figures, Report};
use super::rtpload::{Found, Generator, Loaded, Work};
use super::subject::{Pace, Programs, Running, Subject, Wait, start};
use crate::rtpload::search::{Purpose, Verdict, largest};

/// Measures what the command line says and prints the table and the ratios.
///
/// # Errors
/// What is missing, as a sentence.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if let Some(core) = options.guard {
        return neighbours::guard(core);
    }
    check(options)?;
    let scratch = tempfile::tempdir().context("cannot make a folder for logs")?;
    let cable = Cable::new(&options.name, options.core)?;
    // Dropped before the cable: what is put back is what was there.
    let alone = !options.with_neighbours && options.most.is_none();
    let _neighbours = alone.then(|| Neighbours::move_off(options.core)).transpose()?;
    let bench = Bench {
        options,
        cable: &cable,
        scratch: scratch.path(),
        calls_by_files: calls_by_files(),
        begun: Instant::now(),
    };
    let subjects = if options.only.is_empty() { Subject::ALL.to_vec() } else { options.only.clone() };
    let mut report = Report::new(&subjects);
    let effort = |subject: Subject| Part::of(subject, bench.is_coarse()).map(Part::effort).sum::<f64>();
    let (mut done, all) =
        (0.0, f64::from(options.repeats) * subjects.iter().copied().map(effort).sum::<f64>());
    for repeat in 0..options.repeats {
        // Each time another one begins: what warms up the machine does so for all.
        for turn in 0..subjects.len() {
            let subject = subjects[(turn + repeat as usize) % subjects.len()];
            bench.measure(subject, &mut report);
            done += effort(subject);
            let elapsed_s = bench.begun.elapsed().as_secs_f64();
            println!("{elapsed_s:>4.0} s, about {:.0} s to go", elapsed_s * (all - done) / done);
        }
    }
    let text = report.table();
    println!("\n{text}");
    report.ratios().iter().for_each(|(name, value)| println!("RATIO {name} {value:.2}"));
    if let Some(path) = &options.write {
        ensure!(options.most.is_none(), "with --most nothing is measured that could be written");
        report.write(path)?;
    }
    for (subject, why) in &report.notes {
        println!("NOTE {}: {why}", subject.title());
    }
    for (subject, why) in &report.failures {
        eprintln!("bench-relay: {}: {why}", subject.title());
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(options: &Options) -> anyhow::Result<()> {
    ensure!(Uid::effective().is_root(), "network namespaces and XDP programs need root: run it as root");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ensure!(
        cores >= 2 && options.core + 1 < cores,
        "it takes two cores, one for the relay and the next for the parties"
    );
    for (program, package) in [
        ("ip", "iproute2"),
        ("ethtool", "ethtool"),
        ("taskset", "util-linux"),
        ("chrt", "util-linux"),
        ("rtpengine", "rtpengine-daemon"),
    ] {
        let there =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(there.is_ok(), "{program} is missing: apt-get install {package}");
    }
    for program in [&options.rtpload, &options.sidetone] {
        ensure!(program.exists(), "{} is missing: cargo build --release --workspace", program.display());
    }
    super::network::run(&["chrt", "-f", "30", "true"]).context("real-time priority is not permitted")?;
    xdp::bpf::probe().context("XDP programs cannot be loaded")
}

/// A relay has two sockets for each party of a call.
fn calls_by_files() -> u32 {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 250 };
    // The relays inherit it.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    u32::try_from(hard.saturating_sub(300) / 4).unwrap_or(u32::MAX).min(9_000)
}

struct Bench<'a> {
    options: &'a Options,
    cable: &'a Cable,
    scratch: &'a Path,
    calls_by_files: u32,
    begun: Instant,
}

impl Bench<'_> {
    /// All figures of one relay; what fails is told and leaves a gap, and the others go on.
    fn measure(&self, subject: Subject, report: &mut Report) {
        let mut failed = Vec::new();
        let mut notes = Vec::new();
        let figures = report.figures(subject);
        for part in Part::of(subject, self.is_coarse()) {
            let result = match part {
                Part::Calls => self.calls(subject, figures, &mut notes),
                Part::Latency => self.latency(subject, figures),
                Part::Cost => self.cost(subject, figures),
                Part::Flows => self.flows(subject, figures, &mut notes),
                Part::Transcoding => self.transcode(subject, figures, &mut notes),
            };
            if let Err(error) = result {
                failed.push(format!("{}: {error:#}", part.title()));
            }
        }
        figures.fill_up();
        println!("{:<36} {}", subject.title(), figures.last_line());
        failed.iter().for_each(|why| println!("{:<36} {why}", ""));
        report.failures.extend(failed.into_iter().map(|why| (subject, why)));
        report.notes.extend(notes.into_iter().map(|why| (subject, why)));
    }

    /// The most calls without loss.
    fn calls(&self, subject: Subject, figures: &mut Figures, notes: &mut Vec<String>) -> anyhow::Result<()> {
        let guess = known(&figures.calls).unwrap_or_else(|| subject.guess());
        self.moderate()?;
        let mut relay = self.start(subject, Wait::Adaptive)?;
        let (set_up, most) = (self.set_up(guess * 2), self.most(guess * 3));
        let found = self.generator(subject).search(Work::Relay, set_up, most, self.most(guess));
        relay.ensure_alive()?;
        let found = found.map_err(|error| relay.blame(&error))?;
        ensure!(found.calls > 0.0, "not one call without loss");
        note(Part::Calls, found, notes);
        figures.calls.push(found.calls);
        figures.left_out_percent.push(found.left_out_percent);
        figures.all_loss_percent.push(found.all_loss_percent);
        figures.set_up = set_up;
        Ok(())
    }

    /// Packets one by one, as latency is on a line that is not full.
    fn latency(&self, subject: Subject, figures: &mut Figures) -> anyhow::Result<()> {
        let calls = known(&figures.calls).context("it is not known how many calls there can be")?;
        self.cable.moderate(Duration::ZERO)?;
        let wait = if subject == Subject::AfXdp { Wait::Busy } else { Wait::Adaptive };
        let relay = self.start(subject, wait)?;
        let loaded = self.load(subject, (calls / 2).max(1), &[]).map_err(|error| relay.blame(&error))?;
        figures.latency_us.push(loaded.latency_us);
        Ok(())
    }

    /// Processor time at a fixed load.
    fn cost(&self, subject: Subject, figures: &mut Figures) -> anyhow::Result<()> {
        self.moderate()?;
        let relay = self.start(subject, Wait::Sleep)?;
        let watched = [relay.process(), self.cable.relay.receiver()?];
        let loaded = self.load(subject, self.most(FIXED_CALLS), &watched)?;
        let cores = loaded.cores.context("the relay's processor time is not known")?;
        figures.cores_per_thousand.push(cores * 1_000.0 / loaded.calls);
        Ok(())
    }

    /// A run at a fixed load; again if the generator did not keep its schedule.
    fn load(&self, subject: Subject, calls: u32, watched: &[u32]) -> anyhow::Result<Loaded> {
        let generator = self.generator(subject);
        let run = || generator.load(Work::Relay, self.set_up(calls), calls, self.duration(), watched);
        let mut loaded = run()?;
        for _ in 0..2 {
            if loaded.trusted && loaded.loss_percent < 1.0 {
                break;
            }
            loaded = run()?;
        }
        ensure!(loaded.intact, "packets came back wrong");
        ensure!(loaded.loss_percent < 1.0, "{:.2} % lost at {calls} calls", loaded.loss_percent);
        Ok(loaded)
    }

    /// What a packet costs with few flows and with many, at the same kind of load: the most that is not lost.
    fn flows(&self, subject: Subject, figures: &mut Figures, notes: &mut Vec<String>) -> anyhow::Result<()> {
        self.moderate()?;
        let guess = known(&figures.calls).unwrap_or_else(|| subject.guess());
        let mut costs = [f64::NAN; FLOWS.len()];
        for (flows, cost) in FLOWS.into_iter().zip(&mut costs) {
            let set_up = (flows / 2).min(self.calls_by_files);
            let last = figures.calls.last().copied().filter(|calls| calls.is_finite());
            let calls = if let Some(calls) = last.filter(|_| figures.set_up == set_up) {
                // That was measured already.
                calls
            } else {
                let relay = self.start(subject, Wait::Adaptive)?;
                let found = self.generator(subject).search(Work::Relay, set_up, guess * 3, guess);
                let found = found.map_err(|error| relay.blame(&error))?;
                ensure!(found.calls > 0.0, "not one call without loss from {flows} flows");
                note(Part::Flows, found, notes);
                found.calls
            };
            *cost = 1e9 / (calls * PACKETS_PER_CALL);
        }
        figures.flow_costs_ns.push(costs);
        Ok(())
    }

    /// Each number of calls has a relay of its own: what rtpengine converts behind an overload stays late, also in new calls.
    fn transcode(
        &self,
        subject: Subject,
        figures: &mut Figures,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        self.moderate()?;
        let first = if subject == Subject::Rtpengine { 300 } else { 5_000 };
        let guess = known(&figures.transcoded).unwrap_or(first);
        let generator = self.generator(subject);
        let mut last = None;
        let found =
            largest(self.most(guess * 3), self.most(guess), generator.precision(), |calls, purpose| {
                let mut relay = self.start(subject, Wait::Adaptive)?;
                let duration = match purpose {
                    Purpose::Look => generator.step,
                    Purpose::Confirm => generator.step * generator.confirmations(),
                };
                let run = || generator.load(Work::Transcode, self.set_up(calls), calls, duration, &[]);
                let mut loaded = run();
                if loaded.as_ref().is_ok_and(|loaded| !loaded.trusted) {
                    loaded = run();
                }
                relay.ensure_alive()?;
                let loaded = loaded.map_err(|error| relay.blame(&error))?;
                let percent = if loaded.intact { loaded.useless_percent } else { 100.0 };
                last = Some(Found::from(&loaded));
                Ok(if percent < LOSS_PERCENT { Verdict::Good } else { Verdict::Bad(percent) })
            })?;
        // The answer was the last to be tried, to confirm it.
        let found = last.filter(|_| found > 0).context("not one transcoded call without loss")?;
        note(Part::Transcoding, found, notes);
        figures.transcoded.push(found.calls);
        Ok(())
    }

    /// Cards gather packets under load; so does this cable.
    fn moderate(&self) -> anyhow::Result<()> {
        self.cable.moderate(Duration::from_micros(self.options.moderation))
    }

    fn start(&self, subject: Subject, wait: Wait) -> anyhow::Result<Running> {
        let programs = Programs { sidetone: &self.options.sidetone, rtpload: &self.options.rtpload };
        start(subject, &self.cable.relay, programs, Pace { wait, tick: &self.options.tick }, self.scratch)
    }

    fn generator(&self, subject: Subject) -> Generator<'_> {
        Generator {
            program: &self.options.rtpload,
            parties: &self.cable.parties,
            relay: &self.cable.relay,
            scratch: self.scratch,
            quick: self.is_coarse(),
            step: Duration::from_millis(if self.options.most.is_some() { 100 } else { 600 }),
            speaks_ng: subject.speaks_ng(),
        }
    }

    fn is_coarse(&self) -> bool {
        self.options.quick || self.options.most.is_some()
    }

    fn duration(&self) -> Duration {
        Duration::from_millis(match (self.options.most, self.options.quick) {
            (Some(_), _) => 100,
            (None, true) => 600,
            (None, false) => 1_500,
        })
    }

    /// Calls to set up for so many.
    fn set_up(&self, calls: u32) -> u32 {
        self.most(calls).min(self.calls_by_files)
    }

    fn most(&self, calls: u32) -> u32 {
        calls.min(self.options.most.unwrap_or(u32::MAX))
    }
}

/// A figure of a relay, or a few that go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Calls,
    Latency,
    Cost,
    Flows,
    Transcoding,
}

impl Part {
    /// What is measured of a relay.
    fn of(subject: Subject, coarse: bool) -> impl Iterator<Item = Self> {
        let all = [Self::Calls, Self::Latency, Self::Cost, Self::Flows, Self::Transcoding];
        all.into_iter().filter(move |part| match part {
            Self::Calls | Self::Latency => true,
            // It looks for frames all the time.
            Self::Cost => subject != Subject::Ceiling,
            Self::Flows => !coarse && matches!(subject, Subject::AfXdp | Subject::InKernel),
            Self::Transcoding => matches!(subject, Subject::Rtpengine | Subject::AfXdp),
        })
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Latency => "latency",
            Self::Cost => "processor time",
            Self::Flows => "flows",
            Self::Transcoding => "transcoding",
        }
    }

    /// How long it takes, about, in runs of a second.
    const fn effort(self) -> f64 {
        match self {
            Self::Calls | Self::Transcoding => 12.0,
            Self::Latency | Self::Cost => 3.0,
            Self::Flows => 24.0,
        }
    }
}

/// The newest value of all repeats.
fn known(values: &[f64]) -> Option<u32> {
    values.iter().rev().find(|value| value.is_finite()).map(|&value| (value as u32).max(1))
}

fn note(part: Part, found: Found, notes: &mut Vec<String>) {
    if !found.trusted {
        notes.push(format!(
            "{}: {:.0} is not to be trusted, the generator was held up too often (left out {:.0} % of the slots)",
            part.title(),
            found.calls,
            found.left_out_percent
        ));
    }
}

/// Flows that a packet's cost is compared at; the limit on open files may make the last one fewer.
pub(super) const FLOWS: [u32; 3] = [100, 1_000, 10_000];
/// Each second, both ways.
const PACKETS_PER_CALL: f64 = 100.0;
/// What is lost or too late is less.
const LOSS_PERCENT: f64 = 0.1;
/// Processor time is compared at so many calls: what every relay can do.
const FIXED_CALLS: u32 = 800;
