//! From the command line to the report.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use super::flow::{self, Flow};
use super::forward;
use super::kernel::Kernel;
use super::ng::{Call, Client, Wanted};
use super::options::{Command, Load, Options, RunOptions, SearchOptions, Via};
use super::plan::{Outcome, Plan};
use super::report;
use super::search::{Purpose, Step, Verdict, largest};
use super::sockets::Sockets;
use super::transport;
use super::xdp::Xdp;

/// Does what the command line says.
///
/// # Errors
/// What keeps it from starting, as a sentence.
pub fn run(options: Options) -> anyhow::Result<ExitCode> {
    match options.command {
        Command::Run(options) => run_once(&options),
        Command::Search(options) => search(&options),
        Command::Forward(options) => forward::run(&options),
    }
}

fn run_once(options: &RunOptions) -> anyhow::Result<ExitCode> {
    let mut session = Session::begin(&options.load)?;
    let outcome = session.run(session.most_calls(), options.warmup, options.duration);
    session.end()?;
    let outcome = outcome?;
    let missed = options.expect_loss_below.map(|bound| report::missed(&outcome, bound));
    let mut text = report::text(&outcome);
    missed.iter().flatten().for_each(|missed| text.push_str(&format!("MISSED     {missed}\n")));
    let mut json = outcome.json();
    json["missed"] = json!(missed);
    report::write(&options.load, &text, json)?;
    Ok(report::exit_code(&outcome, missed.as_deref()))
}

fn search(options: &SearchOptions) -> anyhow::Result<ExitCode> {
    let mut session = Session::begin(&options.load)?;
    let most = session.most_calls();
    let (mut steps, mut last) = (Vec::new(), None);
    let guess = options.guess.unwrap_or(most / 2);
    let found = largest(most, guess, options.precision / 100.0, |calls, purpose| {
        let runs = match purpose {
            Purpose::Look => 1,
            Purpose::Confirm => options.confirm,
        };
        let mut step = Step::default();
        for _ in 0..runs {
            let outcome = session.run_trusted(calls, options.step)?;
            if !options.load.quiet {
                eprintln!("{}", line(&outcome));
            }
            step.add(outcome);
        }
        let good = step.is_good(options.loss);
        let loss = step.loss_percent();
        steps.push(step.json(calls, good));
        last = Some(step);
        Ok(if good { Verdict::Good } else { Verdict::Bad(loss) })
    });
    session.end()?;
    let found = found?;
    let Some((step, outcome)) = last.and_then(|step| Some((step.clone(), step.last?))) else {
        bail!("no run was made")
    };
    // The answer was the last to be tried, to confirm it. It counts as what was really offered.
    let offered = if found > 0 { step.offered_calls() } else { 0.0 };
    let text = format!(
        "{}\nlargest    {offered:.1} calls offered ({found} wanted) of {most} tried; left out {} of {} slots, {:.4} % lost with them\n",
        report::text(&outcome),
        step.left_out,
        step.slots,
        step.all_loss_percent()
    );
    let json = json!({
        "largest": offered, "wanted": found, "tried": most, "steps": steps, "confirmed": outcome.json(),
        "slots": step.slots, "left_out": step.left_out, "all_loss_percent": step.all_loss_percent(),
        "trusted": step.trusted, "too_slow": step.too_slow,
    });
    report::write(&options.load, &text, json)?;
    Ok(if found > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(outcome: &Outcome) -> String {
    let doubts = outcome.doubts();
    let doubt = doubts.first().map_or_else(String::new, |doubt| format!("; {doubt}"));
    format!(
        "{:>6} calls, offered {:>8.1}  {:>8.4} % lost or late  p99 {:>8.0} us  left out {} of {}{doubt}",
        outcome.plan.calls,
        outcome.offered_calls(),
        outcome.useless_percent(),
        outcome.account.latency.us(99.0),
        outcome.account.left_out,
        outcome.account.slots
    )
}

/// Calls that are set up, and what sends for them.
struct Session {
    load: Load,
    ng: Option<(Client, Vec<Call>)>,
    flows: Vec<Flow>,
    sender: Sender,
    next_index: u32,
}

enum Sender {
    Sockets(Sockets),
    Xdp(Xdp),
    Kernel(Kernel),
}

impl Session {
    fn begin(load: &Load) -> anyhow::Result<Self> {
        let (ng, flows) = match (load.ng, &load.flows) {
            (Some(server), _) => {
                let mut client = Client::connect(server)?;
                client.ping(Duration::from_secs(5))?;
                let local = match load.local {
                    Some(local) => local,
                    None => client.local()?.ip(),
                };
                let (calls, flows) = set_up(&mut client, load, local)?;
                (Some((client, calls)), flows)
            }
            (None, Some(file)) => (None, flow::read(file)?),
            (None, None) => (None, reflected(load)?),
        };
        ensure!(
            flows.iter().all(|flow| flow.local.is_ipv4() == flow.relay.is_ipv4()),
            "flows mix IPv4 and IPv6"
        );
        let interface = load.interface.as_deref().context("--via kernel and xdp need --interface");
        let sender = match load.via {
            Via::Sockets => Sender::Sockets(Sockets::open(&flows, load.payload)?),
            Via::Xdp => Sender::Xdp(Xdp::open(interface?, &flows, load.payload)?),
            Via::Kernel => Sender::Kernel(Kernel::open(interface?, &flows, load.payload)?),
        };
        let mut session = Self { load: load.clone(), ng, flows, sender, next_index: 0 };
        if session.ng.is_some() {
            session.greet()?;
        }
        Ok(session)
    }

    /// A few packets of each flow at a rate that no relay minds: it learns who is who before the load comes.
    fn greet(&mut self) -> anyhow::Result<()> {
        let calls = self.flows.len() as u32 / 2;
        let interval_ns = (u64::from(calls) * 2 * GREETING_NS).max(20_000_000);
        let plan = Plan { interval_ns, ..self.plan(calls, GREETINGS, 1) };
        self.next_index += GREETINGS + 1;
        self.run_plan(plan, &[]).map(drop)
    }

    /// What a run offers at most.
    fn most_calls(&self) -> u32 {
        self.load.rate_of.unwrap_or(self.flows.len() as u32 / 2)
    }

    fn plan(&self, calls: u32, warm_rounds: u32, rounds: u32) -> Plan {
        let active = calls.min(self.flows.len() as u32 / 2);
        Plan {
            flows: active * 2,
            calls,
            interval_ns: (self.load.interval * 1e6 * f64::from(active) / f64::from(calls)) as u64,
            payload_bytes: self.load.payload,
            first_index: self.next_index,
            warm_rounds,
            rounds,
        }
    }

    fn run(&mut self, calls: u32, warmup: Duration, duration: Duration) -> anyhow::Result<Outcome> {
        let interval_ns = self.plan(calls, 0, 1).interval_ns as f64;
        let rounds = |time: Duration| (time.as_nanos() as f64 / interval_ns).round() as u32;
        let plan = self.plan(calls, rounds(warmup), rounds(duration).max(1));
        // What of this run is still on its way during the next is told from it by its index.
        self.next_index += plan.warm_rounds + plan.rounds;
        let watched = std::mem::take(&mut self.load.watch);
        let outcome = self.run_plan(plan, &watched);
        self.load.watch = watched;
        outcome
    }

    fn run_plan(&mut self, plan: Plan, watched: &[u32]) -> anyhow::Result<Outcome> {
        let quiet = self.load.quiet;
        let progress = |line: String| {
            if !quiet {
                eprintln!("{line}");
            }
        };
        match &mut self.sender {
            Sender::Sockets(sockets) => Ok(transport::run(sockets, &self.flows, plan, watched, progress)),
            Sender::Xdp(xdp) => Ok(transport::run(xdp, &self.flows, plan, watched, progress)),
            Sender::Kernel(kernel) => kernel.run(plan, watched),
        }
    }

    /// Repeats a run that this program spoiled itself; if all are, the one that is spoiled least counts.
    fn run_trusted(&mut self, calls: u32, duration: Duration) -> anyhow::Result<Outcome> {
        let mut best = self.run(calls, SETTLE, duration)?;
        for _ in 0..2 {
            if !best.is_spoiled() {
                break;
            }
            let again = self.run(calls, SETTLE, duration)?;
            if !again.is_spoiled() || again.account.left_out_share() < best.account.left_out_share() {
                best = again;
            }
        }
        Ok(best)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let Some((client, calls)) = &mut self.ng else { return Ok(()) };
        client.delete(calls).context("the calls could not be deleted")
    }
}

/// Where the parties of a call are. They share a few ports: the first half is for parties A, the second for B.
fn parties(load: &Load, local: IpAddr, call: u32) -> anyhow::Result<[SocketAddr; 2]> {
    let ports = load.ports.unwrap_or(if load.via == Via::Sockets { 4 } else { 8_192 });
    let half = u32::from(ports / 2);
    ensure!(u32::from(load.port) + 4 * half <= 65_536, "--port and --ports go beyond 65535");
    let port = |party: u32| load.port + (2 * (call % half) + 2 * party * half) as u16;
    Ok([0, 1].map(|party| SocketAddr::new(local, port(party))))
}

/// Flows to a host that sends everything back.
fn reflected(load: &Load) -> anyhow::Result<Vec<Flow>> {
    let reflector = load.reflector.context("give --ng, --flows or --reflector")?;
    let local = match load.local {
        Some(local) => local,
        None => Client::connect(SocketAddr::new(reflector, 9))?.local()?.ip(),
    };
    let locals =
        (0..load.calls).map(|call| parties(load, local, call)).collect::<anyhow::Result<Vec<_>>>()?;
    let [law, other] = load.codecs.laws();
    ensure!(law == other, "a host that sends everything back does not transcode");
    let flows = flow::reflected(locals.into_iter().flatten(), reflector, law);
    ensure!(flows.len() as u32 == 2 * load.calls, "there are too few ports for so many calls");
    Ok(flows)
}

/// Sets up the calls.
fn set_up(client: &mut Client, load: &Load, local: IpAddr) -> anyhow::Result<(Vec<Call>, Vec<Flow>)> {
    let laws = load.codecs.laws();
    let ptime_ms = (load.payload as f64 / 8.0).max(1.0) as u32;
    let wanted: Vec<Wanted> = (0..load.calls)
        .map(|call| Ok(Wanted { parties: parties(load, local, call)?, laws, ptime_ms }))
        .collect::<anyhow::Result<_>>()?;
    let calls = client.set_up(&wanted)?;
    let flows = wanted
        .iter()
        .zip(&calls)
        .flat_map(|(wanted, call)| Flow::pair(wanted.parties, call.relay, laws))
        .collect();
    Ok((calls, flows))
}

/// Packets of each flow before everything else, and the time between them.
const GREETINGS: u32 = 3;
const GREETING_NS: u64 = 25_000;
/// What begins a run does not count: caches and learning.
const SETTLE: Duration = Duration::from_millis(300);
