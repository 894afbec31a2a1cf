//! Runs of the load generator.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::network::Host;
use super::subject::NG_PORT;

/// How a relay is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// PCMU on both sides.
    Relay,
    /// PCMU on one side, PCMA on the other.
    Transcode,
}

/// The generator on the parties' host.
pub(super) struct Generator<'a> {
    pub(super) program: &'a Path,
    pub(super) parties: &'a Host,
    pub(super) relay: &'a Host,
    pub(super) scratch: &'a Path,
    pub(super) quick: bool,
    /// Length of a run in a search.
    pub(super) step: Duration,
    /// Whether the relay takes calls by NG; else it sends everything back.
    pub(super) speaks_ng: bool,
}

/// What came of one run of it.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    /// Calls that were really offered.
    pub(super) calls: f64,
    /// Processor time of the relay and its host's receiver, in cores.
    pub(super) cores: Option<f64>,
    /// Microseconds: p50, p99, p99.9.
    pub(super) latency_us: [f64; 3],
    pub(super) loss_percent: f64,
    /// Lost or too late to be played.
    pub(super) useless_percent: f64,
    pub(super) intact: bool,
    pub(super) left_out_percent: f64,
    pub(super) all_loss_percent: f64,
    pub(super) trusted: bool,
}

/// The answer to a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Calls that were really offered.
    pub(super) calls: f64,
    /// Slots that were left out because the generator was held up, and what was lost with them.
    pub(super) left_out_percent: f64,
    pub(super) all_loss_percent: f64,
    /// Whether the generator was held up no more than it may be.
    pub(super) trusted: bool,
}

impl From<&Loaded> for Found {
    fn from(loaded: &Loaded) -> Self {
        Self {
            calls: loaded.calls,
            left_out_percent: loaded.left_out_percent,
            all_loss_percent: loaded.all_loss_percent,
            trusted: loaded.trusted,
        }
    }
}

impl Generator<'_> {
    /// The largest number of calls that loses less than 0.1 %, from flows of at most `set_up` calls.
    pub(super) fn search(&self, work: Work, set_up: u32, most: u32, guess: u32) -> anyhow::Result<Found> {
        let precision = (100.0 * self.precision()).to_string();
        let confirm = self.confirmations().to_string();
        let [most, guess] = [most, guess].map(|number| number.to_string());
        let step = self.step.as_secs_f64().to_string();
        let options = [
            "--rate-of",
            &most,
            "--guess",
            &guess,
            "--precision",
            &precision,
            "--step",
            &step,
            "--confirm",
            &confirm,
        ];
        let report = self.run("search", work, set_up.min(most.parse()?), &options, &[])?;
        let intact =
            report["confirmed"]["received"]["wrong"] == 0 && report["confirmed"]["received"]["stray"] == 0;
        anyhow::ensure!(intact, "packets came back wrong: {}", report["confirmed"]["received"]);
        let figure = |name: &str| {
            report[name].as_f64().with_context(|| format!("rtpload's report does not say {name}"))
        };
        Ok(Found {
            calls: figure("largest")?,
            left_out_percent: 100.0 * figure("left_out")? / figure("slots")?.max(1.0),
            all_loss_percent: figure("all_loss_percent")?,
            trusted: report["trusted"] == true,
        })
    }

    /// How close a search comes.
    pub(super) const fn precision(&self) -> f64 {
        if self.quick { 0.08 } else { 0.03 }
    }

    /// Runs that confirm what a search has found.
    pub(super) const fn confirmations(&self) -> u32 {
        if self.quick { 1 } else { 3 }
    }

    /// So many calls for a while.
    pub(super) fn load(
        &self,
        work: Work,
        set_up: u32,
        calls: u32,
        duration: Duration,
        watched: &[u32],
    ) -> anyhow::Result<Loaded> {
        let [rate, duration] = [f64::from(calls), duration.as_secs_f64()].map(|number| number.to_string());
        let options = ["--rate-of", &rate, "--duration", &duration, "--warmup", "0.3"];
        let report = self.run("run", work, set_up.min(calls), &options, watched)?;
        let figure = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64);
        let us = |name: &str| figure(&format!("/latency/{name}")).unwrap_or(f64::NAN);
        let count = |name: &str| figure(&format!("/received/{name}")).unwrap_or(f64::NAN);
        Ok(Loaded {
            calls: figure("/offered_calls").context("rtpload's report does not say what was offered")?,
            cores: figure("/watched_cores"),
            latency_us: ["p50_us", "p99_us", "p99_9_us"].map(us),
            loss_percent: figure("/loss_percent").unwrap_or(100.0),
            useless_percent: figure("/useless_percent").unwrap_or(100.0),
            left_out_percent: 100.0 * figure("/instrument/left_out").unwrap_or(0.0)
                / figure("/instrument/slots").unwrap_or(0.0).max(1.0),
            all_loss_percent: figure("/all_loss_percent").unwrap_or(100.0),
            intact: count("wrong") + count("stray") + count("duplicate") == 0.0,
            trusted: report["instrument"]["trusted"] == true,
        })
    }

    fn run(
        &self,
        command: &str,
        work: Work,
        calls: u32,
        options: &[&str],
        watched: &[u32],
    ) -> anyhow::Result<Value> {
        let json = self.scratch.join("rtpload.json");
        let log = self.scratch.join("rtpload.log");
        let _ = fs::remove_file(&json);
        let (option, relay) = if self.speaks_ng {
            ("--ng", SocketAddr::from((self.relay.ip, NG_PORT)).to_string())
        } else {
            ("--reflector", self.relay.ip.to_string())
        };
        let codecs = match work {
            Work::Relay => "pcmu",
            Work::Transcode => "pcmu-pcma",
        };
        let core = self.parties.core.to_string();
        let [program, report] = [self.program, &json].map(|path| path.to_str().unwrap_or_default());
        let calls = calls.to_string();
        let mut arguments =
            vec!["chrt", "-f", "30", "taskset", "-c", &core, program, command, option, &relay];
        arguments.extend(["--via", "kernel", "--interface", &self.parties.interface, "--codecs", codecs]);
        arguments.extend(["--calls", &calls, "--json", report]);
        arguments.extend(options);
        let watched: Vec<String> = watched.iter().map(ToString::to_string).collect();
        watched.iter().for_each(|process| arguments.extend(["--watch", process]));
        let output = File::create(&log)?;
        let mut child = self
            .parties
            .command(&arguments)
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(output)
            .spawn()
            .context("cannot start rtpload")?;
        let until = Instant::now() + LONGEST;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > until {
                child.kill()?;
                child.wait()?;
                bail!("rtpload did not end within {} s", LONGEST.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        match fs::read_to_string(&json) {
            Ok(text) => serde_json::from_str(&text).context("rtpload's report is no JSON"),
            Err(_) => {
                let text = fs::read_to_string(&log).unwrap_or_default();
                bail!("rtpload ended with {status}: {}", text.lines().last().unwrap_or_default())
            }
        }
    }
}

const LONGEST: Duration = Duration::from_secs(90);
