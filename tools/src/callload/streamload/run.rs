//! Start, run, verdict.

use std::{
    net::TcpListener,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, anyhow, ensure};

use super::{
    backend::Backend,
    options::StreamOptions,
    report,
    server::{Server, Setup},
    stats::StreamStats,
};
use crate::callload::run::drive;

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
            agent: String::new(),
            tables: String::new(),
        })?),
        None => None,
    };
    let target = server.as_ref().map_or_else(|| options.target.clone(), Server::target);
    let calls = options.callload(target);
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
            let backend = Backend::new(listener, config, places, settle_ns, !options.no_bot, stats)?;
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
