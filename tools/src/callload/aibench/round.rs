//! One number of calls against one backend, from its start to its end.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::{Map, Value, json};

use super::{
    options::AiBenchOptions,
    processor::{Thread, memory_mib, peak_memory_mib, pin, ran_ns, threads, unpin},
};
use crate::callload::{
    Codec, Options,
    histogram::Histogram,
    run::drive,
    stamp::Finder,
    streamload::server::{Server, Setup},
    tap::Tap,
};

/// Ten short calls beside those that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// Of the same kind.
    Good,
    /// Whose backends misbehave, each in its own way.
    Bad,
}

impl Beside {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Good => "beside good",
            Self::Bad => "beside bad",
        }
    }
}

/// What a round is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) calls: u32,
    /// Lines of the agent's configuration.
    pub(super) agent: String,
    /// The backend is Pipecat, not ours.
    pub(super) pipecat: bool,
    pub(super) beside: Option<Beside>,
    pub(super) settle: Duration,
    pub(super) duration: Duration,
}

/// What was measured of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Calls that were answered.
    pub(super) calls: f64,
    /// Calls whose audio really reached the backend, by the number of messages: fewer if the machine did not keep up.
    pub(super) carried: f64,
    /// Shares of a core.
    pub(super) media: f64,
    pub(super) stream: f64,
    pub(super) others: f64,
    pub(super) peer: f64,
    pub(super) memory_mib: f64,
    /// What is added on the way up, in ms: p50, p99, p99.9.
    pub(super) added_ms: [f64; 3],
    /// There and back, in ms, the bot's cushion included: p50, p99.
    pub(super) back_ms: [f64; 2],
    pub(super) messages_per_s: f64,
    /// Packets that did not reach the peer, or not come back.
    pub(super) lost_up: u64,
    pub(super) lost_down: u64,
    pub(super) failed: u64,
    /// What the backend of the calls beside tells of itself.
    pub(super) beside: Value,
    /// What sidetone counted of its AI streams, by names.
    pub(super) counted: Vec<(String, u64)>,
    /// Why the generator cannot be trusted.
    pub(super) doubts: Vec<String>,
}

impl Outcome {
    pub(super) fn holds(&self, p99_ms: f64) -> bool {
        self.lost_up + self.lost_down + self.failed == 0 && self.is_whole() && self.added_ms[1] < p99_ms
    }

    /// Whether all calls were carried, so that processor time means something.
    pub(super) fn is_whole(&self) -> bool {
        self.carried >= 0.98 * self.calls && self.failed == 0
    }

    /// Everything, as a round of this name.
    pub(super) fn json(&self, what: &str) -> Value {
        let counted: Map<String, Value> =
            self.counted.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "what": what, "calls": self.calls, "carried": self.carried, "media": self.media, "stream": self.stream,
            "others": self.others, "peer": self.peer, "memory_mib": self.memory_mib, "added_ms": self.added_ms,
            "back_ms": self.back_ms, "messages_per_s": self.messages_per_s, "lost_up": self.lost_up,
            "lost_down": self.lost_down, "failed": self.failed, "doubts": self.doubts, "beside": self.beside,
            "counted": counted,
        })
    }

    pub(super) fn line(&self) -> String {
        format!(
            "{:>5.0} calls, {:.0} carried: media {:.3}, AI {:.3}, others {:.3}, peer {:.3} cores; added {:.2} / {:.2} / {:.2} ms, back {:.1} / {:.1} ms; lost {} up, {} down; failed {}{}",
            self.calls,
            self.carried,
            self.media,
            self.stream,
            self.others,
            self.peer,
            self.added_ms[0],
            self.added_ms[1],
            self.added_ms[2],
            self.back_ms[0],
            self.back_ms[1],
            self.lost_up,
            self.lost_down,
            self.failed,
            if self.doubts.is_empty() { String::new() } else { format!(" ({})", self.doubts.join("; ")) },
        )
    }
}

/// Runs it.
pub(super) fn measure(options: &AiBenchOptions, plan: &Plan) -> anyhow::Result<Outcome> {
    // What is started here may run where it likes.
    unpin()?;
    let mut backend = if plan.pipecat { Backend::pipecat(options)? } else { Backend::ours(options)? };
    let mut beside = plan.beside.map(|kind| Backend::beside(options, kind)).transpose()?;
    let more = beside.as_ref().map(|beside| beside.agent()).unwrap_or_default();
    let server = Server::start(&Setup {
        binary: &options.sidetone,
        url: backend.url.clone(),
        ports: options.server_ports,
        calls: plan.calls + CALLS_BESIDE,
        media: format!(
            "cpus = \"{}\"\nstream_cpus = \"{}\"\nwait = \"sleep\"\n",
            options.media_cpu, options.stream_cpu
        ),
        agent: plan.agent.clone(),
        tables: format!("[signaling]\ncpus = \"{}\"\n{more}", options.generator_cpu()),
    })?;
    // The generator's threads inherit it.
    pin(0, options.generator_cpu())?;
    let ramp = Duration::from_secs_f64(f64::from(plan.calls) / options.rate);
    let (low, high) = options.ports;
    ensure!(high - low > 3 * PORTS_BESIDE, "--ports are too few");
    let load = Options {
        target: server.target(),
        calls: plan.calls,
        rate: options.rate,
        duration: ramp + plan.settle + plan.duration + AFTER,
        codec: Codec::Pcmu,
        ports: (low, high - 2 * PORTS_BESIDE),
        marker_ms: 0,
        stamp: true,
        quiet: true,
        from: "bench-ai".to_owned(),
        ..<Options as clap::Parser>::parse_from(["bench-ai"])
    };
    let load_beside = Options {
        target: server.target().replace("agent@", "beside@"),
        calls: CALLS_BESIDE,
        hold: Some(HOLD_BESIDE),
        ports: (high - 2 * PORTS_BESIDE + 1, high),
        rate: f64::from(CALLS_BESIDE),
        ..load.clone()
    };
    let back = Arc::new(Mutex::new(Back::default()));
    let process = server.process();
    let (report, seen) = thread::scope(|scope| {
        let watched = scope.spawn(|| watch(process, &mut backend, &back, ramp + plan.settle, plan.duration));
        let driven =
            plan.beside.map(|_| scope.spawn(|| drive(&load_beside, |_| Ok(()), |_, _, _| String::new())));
        let report = drive(
            &load,
            |worker| {
                let places = plan.calls as usize;
                worker.set_tap(Box::new(Returned {
                    back: Arc::clone(&back),
                    finders: vec![Finder::default(); places],
                }));
                Ok(())
            },
            |_, _, _| String::new(),
        );
        // How those calls fared is not the question; that they were placed is.
        let driven = driven.map(|driven| driven.join());
        let beside = driven.transpose().map_err(|_| anyhow!("the generator of the calls beside panicked"));
        (report.and_then(|report| beside?.transpose().map(|_| report)), watched.join())
    });
    let seen = seen.map_err(|_| anyhow!("the watcher panicked"))?;
    let report = report.with_context(|| server.last_log())?;
    let seen = seen.with_context(|| server.last_log())?;
    let metrics = server.fetch("/metrics").context("cannot read the metrics of sidetone")?;
    let memory_mib = if plan.beside.is_some() { peak_memory_mib(process) } else { seen.memory_mib };
    let told = beside.as_mut().map(Backend::report).transpose()?.unwrap_or_default();
    let counters = &report.stats().counters;
    ensure!(
        counters.calls_answered > 0,
        "no call was answered: {:?}\n{}",
        report.stats().failures,
        server.last_log()
    );
    let calls = counters.calls_answered as f64;
    // Nobody counts Pipecat's messages; and it plays what came late in its own way.
    let (carried, lost_down) = if plan.pipecat {
        (calls, 0)
    } else {
        ((seen.messages_per_s / MESSAGES_PER_S).min(calls), seen.lost_down)
    };
    Ok(Outcome {
        calls,
        carried,
        lost_down,
        memory_mib,
        beside: told,
        counted: counted(&metrics),
        failed: u64::from(plan.calls).saturating_sub(counters.calls_placed)
            + counters.calls_failed
            + counters.calls_ended_by_peer,
        doubts: report.doubts().to_vec(),
        ..seen
    })
}

/// Looks when everything runs, and again when that has lasted.
fn watch(
    process: u32,
    backend: &mut Backend,
    back: &Mutex<Back>,
    before: Duration,
    length: Duration,
) -> anyhow::Result<Outcome> {
    thread::sleep(before);
    let locked = || back.lock().map_err(|_| anyhow!("the generator panicked"));
    backend.report()?;
    *locked()? = Back { measuring: true, ..Back::default() };
    let (first, first_peer, begun) = (threads(process)?, backend.ran_ns()?, Instant::now());
    thread::sleep(length);
    let (last, last_peer, elapsed) = (threads(process)?, backend.ran_ns()?, begun.elapsed());
    let peer = backend.report()?;
    let back = std::mem::take(&mut *locked()?);
    let share = |ns: u64| ns as f64 / elapsed.as_nanos() as f64;
    let media = media_threads(&last);
    ensure!(!media.is_empty(), "sidetone has no media thread by a known name: {:?}", names(&last));
    let of = |chosen: &dyn Fn(&Thread) -> bool, threads: &[Thread]| {
        threads.iter().filter(|thread| chosen(thread)).map(|thread| thread.ran_ns).sum::<u64>()
    };
    let is_media = |thread: &Thread| media.contains(&thread.id);
    let is_other = |thread: &Thread| !is_media(thread) && !thread.name.starts_with(AI_THREAD);
    let number = |path: &str| peer.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    Ok(Outcome {
        media: share(of(&is_media, &last) - of(&is_media, &first)),
        stream: share(ran_ns(&last, AI_THREAD) - ran_ns(&first, AI_THREAD)),
        others: share(of(&is_other, &last).saturating_sub(of(&is_other, &first))),
        peer: share(last_peer - first_peer),
        memory_mib: memory_mib(process),
        added_ms: ["/added/p50_ms", "/added/p99_ms", "/added/p99_9_ms"].map(number),
        // No stamp survives another rate.
        back_ms: [50.0, 99.0]
            .map(|share| if back.latency.len() > 0 { back.latency.ms(share) } else { f64::NAN }),
        messages_per_s: number("/messages") / elapsed.as_secs_f64(),
        lost_up: peer["missing"].as_u64().unwrap_or(0) + peer["broken"].as_u64().unwrap_or(0),
        lost_down: back.missing,
        ..Outcome::default()
    })
}

/// The media workers, by the names that sidetone gives its threads.
fn media_threads(threads: &[Thread]) -> Vec<i32> {
    threads.iter().filter(|thread| thread.name.starts_with(MEDIA_THREAD)).map(|thread| thread.id).collect()
}

fn names(threads: &[Thread]) -> Vec<&str> {
    threads.iter().map(|thread| thread.name.as_str()).collect()
}

/// What the callers hear.
struct Back {
    measuring: bool,
    latency: Histogram,
    missing: u64,
}

impl Default for Back {
    fn default() -> Self {
        Self { measuring: false, latency: Histogram::new(), missing: 0 }
    }
}

struct Returned {
    back: Arc<Mutex<Back>>,
    finders: Vec<Finder>,
}

impl Tap for Returned {
    fn poll(&mut self, _: i64) -> anyhow::Result<()> {
        Ok(())
    }

    fn placed(&mut self, at: usize, _: u64) {
        self.finders[at] = Finder::default();
    }

    fn sent(&mut self, _: usize, _: i64, _: &[u8], _: u64) {}

    fn received(&mut self, at: usize, payload: &[u8], arrival_ns: u64) {
        let Ok(mut back) = self.back.lock() else { return };
        self.finders[at].feed(payload, |found| {
            if back.measuring {
                back.latency.record_ns(arrival_ns.saturating_sub(found.stamp.sent_ns));
                back.missing += u64::from(found.missing);
            }
        });
    }

    fn ended(&mut self, _: usize) {}
}

/// Who serves the streams; ended when dropped.
struct Backend {
    child: Child,
    answers: Option<BufReader<std::process::ChildStdout>>,
    url: String,
}

impl Backend {
    fn ours(options: &AiBenchOptions) -> anyhow::Result<Self> {
        Self::own(options, "--peer")
    }

    fn beside(options: &AiBenchOptions, kind: Beside) -> anyhow::Result<Self> {
        match kind {
            Beside::Good => Self::own(options, "--peer"),
            // It is another machine's: it gets the processor time that nobody else wants.
            Beside::Bad => Self::start(
                options,
                Command::new("chrt").args(["--idle", "0"]).arg(this_program()?),
                "--hostile",
            ),
        }
    }

    /// Tables of the configuration that make it the backend of the calls beside.
    fn agent(&self) -> String {
        format!(
            "[agents.beside]\nurl = \"{}\"\nconnect_timeout = \"2s\"\nreconnect = {{ attempts = 5 }}\n\
             [[routes]]\nmatch = \"beside\"\napp = \"agent\"\nagent = \"beside\"\n",
            self.url
        )
    }

    /// This program again.
    fn own(options: &AiBenchOptions, role: &str) -> anyhow::Result<Self> {
        Self::start(options, &mut Command::new(this_program()?), role)
    }

    fn start(options: &AiBenchOptions, command: &mut Command, role: &str) -> anyhow::Result<Self> {
        let mut child = command
            .args([role, "127.0.0.1:0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the peer")?;
        pin_all(child.id(), options.peer_cpu())?;
        let mut answers = BufReader::new(child.stdout.take().context("the peer has no output")?);
        let mut address = String::new();
        answers.read_line(&mut address)?;
        ensure!(!address.trim().is_empty(), "the peer did not start");
        Ok(Self { child, answers: Some(answers), url: format!("ws://{}/", address.trim()) })
    }

    fn pipecat(options: &AiBenchOptions) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let script = Path::new("tests/pipecat/pipecat_echo.py");
        ensure!(script.exists(), "{} is missing: start in the project's folder", script.display());
        let mut child = Command::new(&options.pipecat)
            .arg(script)
            .args(["--port", &port.to_string(), "--rate", "8000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", options.pipecat.display()))?;
        let until = Instant::now() + PIPECAT_START;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if child.try_wait()?.is_some() || Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                bail!("Pipecat did not start");
            }
            thread::sleep(Duration::from_millis(100));
        }
        pin_all(child.id(), options.peer_cpu())?;
        Ok(Self { child, answers: None, url: format!("ws://127.0.0.1:{port}/ws") })
    }

    /// What ours counted since the last time.
    fn report(&mut self) -> anyhow::Result<Value> {
        let (Some(answers), Some(stdin)) = (&mut self.answers, &mut self.child.stdin) else {
            return Ok(Value::Null);
        };
        stdin.write_all(b"\n").context("the peer has ended")?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        serde_json::from_str(&line).context("the peer has ended")
    }

    fn ran_ns(&self) -> anyhow::Result<u64> {
        Ok(ran_ns(&threads(self.child.id())?, ""))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}

fn pin_all(process: u32, cpu: usize) -> anyhow::Result<()> {
    threads(process)?.iter().try_for_each(|thread| pin(thread.id, cpu))
}

/// What sidetone has counted of its AI streams and is not 0.
fn counted(metrics: &str) -> Vec<(String, u64)> {
    let values = metrics.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("sidetone_ai_")?.rsplit_once(' ')?;
        let name = name.strip_suffix("_total")?;
        Some((name.to_owned(), value.parse::<f64>().ok()? as u64)).filter(|(_, value)| *value > 0)
    });
    values.collect()
}

/// Calls beside those that are measured.
const CALLS_BESIDE: u32 = 10;
/// How long each lasts, the next one following it.
const HOLD_BESIDE: Duration = Duration::from_secs(9);
const PORTS_BESIDE: u16 = 20;
/// Calls go on for so long behind what is measured.
const AFTER: Duration = Duration::from_millis(700);
const PIPECAT_START: Duration = Duration::from_secs(90);
/// Of each call.
const MESSAGES_PER_S: f64 = 50.0;
const AI_THREAD: &str = "ai-";
const MEDIA_THREAD: &str = "media";
