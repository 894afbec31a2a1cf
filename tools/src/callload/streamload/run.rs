//! Start, run, verdict.

use std::{
    net::TcpListener,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, anyhow, ensure};
use hound::{SampleFormat, WavSpec, WavWriter};
use tempfile::NamedTempFile;

use super::{
    backend::{Backend, Talk},
    interruption,
    options::StreamOptions,
    report,
    server::{Server, Setup},
    stats::StreamStats,
};
use crate::callload::{run::drive, speech::RATE_HZ};

/// Places the calls that `options` describe, serves their AI backend and prints the report.
///
/// # Errors
/// When the run cannot start (server, target, ports, files) or the SIP transport breaks.
pub fn run(options: StreamOptions) -> anyhow::Result<ExitCode> {
    ensure!(
        options.start.is_some() || options.listen.port() != 0,
        "--listen needs a port, since the agent's url names it; only --start takes port 0"
    );
    let listener = TcpListener::bind(options.listen)
        .with_context(|| format!("cannot listen on {}: choose another --listen", options.listen))?;
    let address = listener.local_addr()?;
    let server = match &options.start {
        Some(binary) => Some(Server::start(&Setup {
            binary,
            url: format!("ws://{address}/"),
            ports: options.server_ports,
            calls: options.calls,
            media: String::new(),
            agent: if options.barge_in {
                "barge_in = { mode = \"engine\" }\n".to_owned()
            } else {
                String::new()
            },
            tables: String::new(),
        })?),
        None => None,
    };
    let target = server.as_ref().map_or_else(|| options.target.clone(), Server::target);
    // Kept until the end of the run.
    let spoken = options.barge_in.then(voice).transpose()?;
    let wav = spoken.as_ref().map(|file| file.path().to_owned()).or_else(|| options.wav.clone());
    let calls = options.callload(target, wav);
    let stats = Arc::new(Mutex::new(StreamStats::new()));
    let settle_ns = options.settle.as_nanos() as u64;
    // There is one worker, so this is used once.
    let listener = Mutex::new(Some(listener));
    let driven = drive(
        &calls,
        |worker| {
            let listener = listener.lock().ok().and_then(|mut listener| listener.take());
            let listener = listener.ok_or_else(|| anyhow!("one worker has the backend"))?;
            let config = Arc::clone(worker.config());
            let places = options.calls as usize;
            let stats = Arc::clone(&stats);
            let talk = match (options.barge_in, options.no_bot) {
                (true, _) => Talk::UntilInterrupted,
                (false, false) => Talk::InTurns,
                (false, true) => Talk::Never,
            };
            let backend = Backend::new(listener, config, places, settle_ns, talk, stats)?;
            worker.set_tap(Box::new(backend));
            Ok(())
        },
        |second, now, before| report::progress_line(second, now, before, &stats),
    );
    // Also when the run failed: nothing stays behind.
    let server = server.map(|server| server.stop(&options)).transpose();
    let mut report = driven?;
    let ended = server?;
    let stats = stats.lock().map_err(|_| anyhow!("the backend panicked"))?.clone();
    report.add(report::addition(&options, &stats, ended));
    report.write(&calls)?;
    Ok(report.exit_code(&calls))
}

/// What callers who interrupt say, as a file.
fn voice() -> anyhow::Result<NamedTempFile> {
    let file = tempfile::Builder::new().suffix(".wav").tempfile().context("cannot make a temporary file")?;
    let spec =
        WavSpec { channels: 1, sample_rate: RATE_HZ, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut writer = WavWriter::create(file.path(), spec).context("cannot write the callers' voice")?;
    interruption::speech().into_iter().try_for_each(|sample| writer.write_sample(sample))?;
    writer.finalize()?;
    Ok(file)
}
