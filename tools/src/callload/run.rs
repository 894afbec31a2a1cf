//! Start, progress, Ctrl-C, verdict.

use std::{
    fs::File,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow, ensure};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

use super::{
    call::{Call, MediaSockets},
    clock,
    g711::Law,
    marker::SplitMix,
    net::{PortRange, SipTransport, route_to},
    options::{Codec, Options, Transport},
    report::Report,
    sender::Speech,
    sip::{UacConfig, host_port, resolve_by_name},
    speech,
    stats::Stats,
    worker::{Plan, Progress, Worker},
};

/// Runs the load that `options` describe and prints the report.
///
/// # Errors
/// When the run cannot start (target, ports, files) or the SIP transport breaks.
pub fn run(options: Options) -> anyhow::Result<ExitCode> {
    let report = drive(&options, |_| Ok(()), progress_line)?;
    report.write(&options)?;
    Ok(report.exit_code(&options))
}

/// Runs the load. `prepare` sees every worker before it starts, `line` writes the progress of a second from the
/// figures now and a second ago.
pub(super) fn drive(
    options: &Options,
    prepare: impl Fn(&mut Worker) -> anyhow::Result<()>,
    line: impl Fn(u64, &Progress, &Progress) -> String,
) -> anyhow::Result<Report> {
    let (user, host) = host_port(&options.target)
        .ok_or_else(|| anyhow!("--target {} is not sip:USER@HOST[:PORT]", options.target))?;
    let destination = resolve_by_name(&options.target).ok_or_else(|| anyhow!("no address for {host}"))?;
    let request_uri = if user.is_empty() { format!("sip:{host}") } else { format!("sip:{user}@{host}") };
    let local = match options.local {
        Some(local) => local,
        None => route_to(destination)?,
    };
    ensure!(
        local.is_ipv4() == destination.is_ipv4(),
        "--local {local} and {destination} are of different families"
    );
    raise_file_limit();
    let samples = options.wav.as_deref().map_or_else(|| Ok(speech::generated()), speech::from_wav)?;
    let speech = Arc::new(Speech::new(&samples));
    let signals = signals()?;
    let threads = options.threads.min(options.calls);
    let mut workers = Vec::new();
    for part in 0..threads {
        let parts = (part, threads);
        let mut worker = worker(options, &request_uri, destination, local, &speech, parts)?;
        prepare(&mut worker)?;
        workers.push(worker);
    }
    let stop = AtomicBool::new(false);
    let progress: Vec<Mutex<Progress>> = workers.iter().map(|_| Mutex::new(Progress::default())).collect();
    // A moment for the threads to start, so that their schedules begin together.
    let start_ns = clock::now_ns() + 20_000_000;
    let stats = thread::scope(|scope| {
        let running: Vec<_> = workers
            .into_iter()
            .zip(&progress)
            .map(|(worker, progress)| {
                let stop = &stop;
                scope.spawn(move || worker.run(start_ns, stop, progress))
            })
            .collect();
        let done = || running.iter().all(|r| r.is_finished());
        watch(options, start_ns, &signals, &stop, &progress, done, line)?;
        let mut total = Stats::new();
        for worker in running {
            let stats = worker.join().map_err(|_| anyhow!("a worker thread panicked"))??;
            total.add(&stats);
        }
        anyhow::Ok(total)
    })?;
    Ok(Report::new(options, destination, local, stats, start_ns))
}

fn worker(
    options: &Options,
    request_uri: &str,
    destination: SocketAddr,
    local: IpAddr,
    speech: &Arc<Speech>,
    (part, parts): (u32, u32),
) -> anyhow::Result<Worker> {
    let sip = match options.transport {
        Transport::Udp => SipTransport::open_udp(local)?,
        Transport::Tcp => SipTransport::open_tcp(destination)?,
    };
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let config = Arc::new(UacConfig {
        request_uri: request_uri.to_owned(),
        destination,
        local: sip.local()?,
        transport: match options.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        },
        from_user: options.from.clone(),
        run: SplitMix(since_epoch ^ u64::from(std::process::id()) << 32 ^ u64::from(part)).next(),
        answer_timeout_ns: options.answer_timeout.as_nanos() as u64,
    });
    let share = |whole: u64| whole / u64::from(parts) + u64::from(whole % u64::from(parts) > u64::from(part));
    let mut ports = PortRange::new(local, options.ports, part, parts);
    let calls = (0..share(u64::from(options.calls)))
        .map(|_| {
            let media = if options.no_rtp {
                None
            } else {
                let (rtp, rtcp) = ports.bind_pair()?;
                let local = rtp.local_addr()?;
                Some(MediaSockets { rtp, rtcp, local, dropped: 0 })
            };
            Ok(Call::new(Arc::clone(&config), Arc::clone(speech), media))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let rate = match options.ramp {
        Some(ramp) if !ramp.is_zero() => f64::from(options.calls) / ramp.as_secs_f64(),
        Some(_) => 1e6,
        None => options.rate,
    };
    let repeats = options.hold.is_some() || options.no_rtp;
    let usual = if repeats { u64::MAX } else { u64::from(options.calls) };
    let total = options.total.unwrap_or(usual);
    let plan = Plan {
        with_rtp: !options.no_rtp,
        laws: match options.codec {
            Codec::Pcmu => vec![Law::Pcmu],
            Codec::Pcma => vec![Law::Pcma],
            Codec::Both => vec![Law::Pcmu, Law::Pcma],
        },
        digits: options.dtmf.clone(),
        marker_every: options.marker_ms.div_ceil(20),
        interval_ns: (1e9 * f64::from(parts) / rate) as u64,
        total: share(total),
        hold_ns: options.hold.map(|hold| hold.as_nanos() as u64),
        duration_ns: options.duration.as_nanos() as u64,
        linger_ns: options.linger_ms * 1_000_000,
        late_ms: options.late_ms,
        stamp: options.stamp,
    };
    Worker::new(plan, config, Arc::clone(speech), calls, sip, (part as usize, parts as usize))
}

/// Prints progress until the workers are done. The first Ctrl-C ends the calls with BYE, the second leaves at once.
fn watch(
    options: &Options,
    start_ns: u64,
    signals: &SignalFd,
    stop: &AtomicBool,
    progress: &[Mutex<Progress>],
    done: impl Fn() -> bool,
    line: impl Fn(u64, &Progress, &Progress) -> String,
) -> anyhow::Result<()> {
    let mut csv = options.csv.as_ref().map(File::create).transpose().context("cannot write --csv")?;
    let mut before = Progress::default();
    let mut second = 0;
    while !done() {
        thread::sleep(Duration::from_millis(50));
        while let Ok(Some(_)) = signals.read_signal() {
            if stop.swap(true, Ordering::Relaxed) {
                return Err(anyhow!("left without ending the calls"));
            }
            eprintln!("ending the calls; once more to leave at once");
        }
        let elapsed_s = clock::now_ns().saturating_sub(start_ns + 30_000_000) / 1_000_000_000;
        if elapsed_s <= second {
            continue;
        }
        second = elapsed_s;
        let now = add(progress);
        if !options.quiet {
            let line = line(second, &now, &before);
            // With the report on standard output nothing else may go there.
            eprintln!("{line}");
        }
        if let Some(csv) = &mut csv {
            write_csv(csv, second, &now).context("cannot write --csv")?;
        }
        before = now;
    }
    Ok(())
}

fn add(progress: &[Mutex<Progress>]) -> Progress {
    let mut sum = Progress::default();
    for part in progress {
        let part = *part.lock().expect("workers do not panic with it");
        sum.counters.add(&part.counters);
        sum.active += part.active;
        sum.late_packets += part.late_packets;
        // Several workers: the worse one.
        sum.latency_p50_ms = sum.latency_p50_ms.max(part.latency_p50_ms);
        sum.latency_p99_ms = sum.latency_p99_ms.max(part.latency_p99_ms);
    }
    sum
}

fn progress_line(second: u64, now: &Progress, before: &Progress) -> String {
    let (c, b) = (&now.counters, &before.counters);
    format!(
        "{second:>5} s  calls {} (+{}, failed {})  rtp out {}/s in {}/s  lost {} reordered {} dup {}  \
         audio latency p50 {:.1} p99 {:.1} ms  own late {}",
        now.active,
        c.calls_answered - b.calls_answered,
        c.calls_failed,
        c.rtp_sent - b.rtp_sent,
        c.rtp_received - b.rtp_received,
        c.rtp_lost.max(c.rtp_lost_in_sequence),
        c.rtp_reordered,
        c.rtp_duplicate,
        now.latency_p50_ms,
        now.latency_p99_ms,
        now.late_packets,
    )
}

fn write_csv(out: &mut impl Write, second: u64, now: &Progress) -> io::Result<()> {
    let counters = now.counters.each();
    if second == 1 {
        let names: Vec<_> = counters.iter().map(|(name, _)| *name).collect();
        writeln!(out, "second,active,audio_latency_p50_ms,audio_latency_p99_ms,{}", names.join(","))?;
    }
    let values: Vec<_> = counters.iter().map(|(_, value)| value.to_string()).collect();
    writeln!(
        out,
        "{second},{},{},{},{}",
        now.active,
        now.latency_p50_ms,
        now.latency_p99_ms,
        values.join(",")
    )
}

/// SIGINT and SIGTERM as something to read, in this thread and all it starts.
fn signals() -> anyhow::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGINT);
    mask.add(Signal::SIGTERM);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Two sockets a call pass the usual soft limit of 1,024 files; the hard limit is ours to use.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
