//! Start-up in order, the life of the process, and its end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use engine::Engine;
use engine::ai::AiRuntime;
use signaling::access::{self, Gate};
use signaling::api::{Api, Control, HttpListener, HttpServer};
use signaling::apps::{self, Apps, Batches, DemoAgent, Directory, Outbound};
use signaling::asterisk::AsteriskListener;
use signaling::call::{CallContext, CallTable};
use signaling::config::{Plan, Simd};
use signaling::event::Events;
use signaling::media::Media;
use signaling::ng::NgListener;
use signaling::record::{Recorder, RecorderConfig};
use signaling::route::UserPattern;
use signaling::sip::SipEndpoint;
use signaling::store::Store;
use signaling::telemetry::{
    Phase, Readiness, Registry, open_files_wanted, raise_open_files_limit, start_log,
};
use signaling::trunk::Trunks;
use tokio::runtime::Runtime;
use xdp::host::{Interface, Machine};

use crate::metrics;
use crate::placing::{self, Placing};
use crate::signals::Signals;
use crate::trunks;
use crate::watch;

/// Runs until a signal ends it.
pub(crate) fn run(mut plan: Plan) -> ExitCode {
    if let Err(error) = start_log(&plan.log.level, plan.log.format) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    let placing = place(&mut plan);
    if !placing.rest.is_empty() {
        // Everything but media starts from this thread, and is where it is.
        if let Err(error) = xdp::thread::pin(&placing.rest) {
            tracing::warn!(%error, "signalling cannot keep away from the media CPUs");
        }
    }
    match control_runtime(&plan.signaling_cpus) {
        Ok(runtime) => match runtime.block_on(serve(plan)) {
            Ok(()) => {
                // What still runs here belongs to peers that do not answer.
                runtime.shutdown_timeout(Duration::from_secs(1));
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!("cannot start: {error:#}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            tracing::error!("cannot start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Chooses the CPUs of threads and says which.
fn place(plan: &mut Plan) -> Placing {
    let machine = Machine::read();
    let interface = plan.engine.af_xdp.interface.as_deref();
    let node = interface.and_then(|name| Interface::read(name).ok()).and_then(|interface| interface.node);
    let placing = placing::place(&plan.engine, &plan.signaling_cpus, &machine, node);
    plan.engine.media_cpus.clone_from(&placing.media);
    for note in &placing.notes {
        tracing::info!("{note}");
    }
    for warning in &placing.warnings {
        tracing::warn!("{warning}");
    }
    placing
}

/// The threads for everything but media: on `cpus`, one each, or wherever there is room.
fn control_runtime(cpus: &[usize]) -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("control");
    if !cpus.is_empty() {
        check_cpus(cpus).context("cannot use the CPUs of --signaling-cpus")?;
        builder.worker_threads(cpus.len());
        let (cpus, next) = (cpus.to_vec(), AtomicUsize::new(0));
        builder.on_thread_start(move || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            // Those for blocking work come and go: on any of them.
            let own = cpus.get(index).map_or(&*cpus, std::slice::from_ref);
            // They were there a moment ago.
            let _ = xdp::thread::pin(own);
        });
    }
    builder.build().context("no threads")
}

/// Whether all of `cpus` can be used, by a thread that only tries.
fn check_cpus(cpus: &[usize]) -> Result<()> {
    let cpus = cpus.to_vec();
    let tried = std::thread::spawn(move || {
        cpus.iter().find_map(|&cpu| xdp::thread::pin(&[cpu]).err().map(|error| (cpu, error)))
    });
    match tried.join() {
        Ok(None) => Ok(()),
        Ok(Some((cpu, error))) => {
            Err(error).with_context(|| format!("CPU {cpu} does not exist or this process may not use it"))
        }
        Err(_) => anyhow::bail!("no thread to try them with"),
    }
}

async fn serve(mut plan: Plan) -> Result<()> {
    let started = (SystemTime::now(), Instant::now());
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sidetone starts");
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    check_open_files(plan.call.max_calls);
    std::fs::create_dir_all(&plan.data_dir).with_context(|| {
        format!("cannot make the data folder {}; choose another with --data-dir", plan.data_dir.display())
    })?;

    let readiness = Arc::new(Readiness::default());
    let registry = Arc::new(Registry::default());
    {
        let readiness = Arc::clone(&readiness);
        registry.register(move |out| metrics::process(out, started, readiness.phase()));
    }

    let store = Store::open(&plan.store).await?;
    tracing::info!(place = plan.store.place(), "the store is open");
    let keeping_small = tokio::spawn(store.clone().keep_small(plan.retention));

    let recording = RecorderConfig { data_dir: plan.data_dir.clone(), spool_bytes: plan.spool_bytes };
    let recorder = Recorder::start(&store, &recording, &readiness).await?;
    {
        let recorder = recorder.clone();
        registry.register(move |out| metrics::records(out, &recorder));
    }
    let gate = Gate::new(plan.access.clone(), store.clone()).context("see [access]")?;
    let gate = Arc::new(gate);
    first_key(&store, &plan).await?;
    let forgetting = tokio::spawn(signaling::api::forget_old(store.clone()));
    {
        let gate = Arc::clone(&gate);
        registry.register(move |out| metrics::access(out, gate.counters()));
    }

    let deliveries = Events::start(store.clone(), plan.events.clone()).context("see [events]")?;
    {
        let deliveries = deliveries.clone();
        registry.register(move |out| deliveries.expose(out));
    }

    choose_kernels(plan.simd)?;
    let ai = AiRuntime::start(&plan.engine.stream_cpus)
        .context("cannot start the AI stream threads; see --stream-cpus")?;
    let (engine, events) = Engine::start_with(plan.engine.clone(), ai.doorbells())
        .context("cannot start the media engine; see --media-cpus, --media-ports and --device")?;
    log_device(&engine);
    for warning in engine.warnings() {
        tracing::warn!("{warning}");
    }
    // Not before the media threads have started from this one: who is not pinned may be where its parent may.
    if !plan.signaling_cpus.is_empty() {
        xdp::thread::pin(&plan.signaling_cpus).context("cannot use the CPUs of --signaling-cpus")?;
    }
    let media = Media::start(engine, events, ai).context("cannot watch the media engine")?;

    // Only when a route leads there; it ends when this function does.
    let _demo = match plan.demo_agent_mut() {
        Some(agent) => {
            let demo = DemoAgent::start().context("cannot start the demo agent on 127.0.0.1")?;
            agent.url.clone_from(&demo.url);
            Some(demo)
        }
        None => None,
    };
    let apps = {
        let config = plan.apps.clone();
        let loaded = tokio::task::spawn_blocking(move || Apps::load(config)).await?;
        Arc::new(loaded.context("cannot load the apps")?)
    };

    let (sip, incoming) = SipEndpoint::start(plan.sip.clone())
        .await
        .context("cannot start SIP; choose another address with --sip-bind")?;
    let sip = Arc::new(sip);
    plan.call.control_addresses = sip.local_addrs().into_iter().map(|(_, address)| address).collect();
    // HTTP's own address is only known once it listens, and SDP must not point there either.
    let http_listener = HttpListener::bind(plan.http.bind.0).await?;
    plan.call.control_addresses.push(http_listener.local_addr());
    let ng_listener = NgListener::bind(plan.ng.clone())?;
    if let Some(listener) = &ng_listener {
        plan.call.control_addresses.push(listener.local_addr());
    }
    let asterisk_listener = AsteriskListener::bind(plan.asterisk.clone()).await?;
    let asterisk_addresses =
        asterisk_listener.as_ref().map(AsteriskListener::local_addrs).unwrap_or_default();
    plan.call.control_addresses.extend(asterisk_addresses.iter().map(|(_, address)| *address));
    plan.trunks.node = trunks::node(&plan.data_dir);
    let trunks = Trunks::start(store.clone(), sip.handle(), plan.trunks.clone())
        .await
        .context("cannot read the trunks")?;
    {
        let trunks = trunks.clone();
        registry.register(move |out| trunks::metrics(out, &trunks));
    }
    let context = CallContext::new(plan.call.clone(), media.clone());
    let ng = ng_listener.map(|listener| listener.serve(&context));
    register_metrics(&registry, &media, &sip, &context.table);
    let outbound = Arc::new(
        Outbound::new(
            Arc::clone(&context),
            Arc::clone(&apps),
            sip.handle(),
            sip.local_addrs().first().map_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5060)), |(_, at)| *at),
            Directory::new(store.clone()),
        )
        .with_records(recorder.clone())
        .with_events(deliveries.clone())
        .with_trunks(trunks.clone())
        .with_account(plan.registration.clone())
        .with_prompts(plan.data_dir.join("prompts")),
    );
    let api = Api {
        readiness: Arc::clone(&readiness),
        metrics: Arc::clone(&registry),
        calls: context.table.clone(),
        apps: Arc::clone(&apps),
        media: media.clone(),
        store: store.clone(),
        allowed_hosts: plan.http.allowed_hosts.clone(),
        control: Control {
            gate,
            events: deliveries.clone(),
            trunks: trunks.clone(),
            outbound: Some(Arc::clone(&outbound)),
            batches: Batches::default(),
        },
    };
    let http = http_listener.serve(plan.http.connections, api.router());
    let asterisk = asterisk_listener.map(|listener| listener.serve(&context, &apps));
    let taking = tokio::spawn(apps::serve(
        Arc::clone(&context),
        apps,
        recorder.clone(),
        trunks.clone(),
        Some(outbound),
        incoming,
    ));
    let watching = tokio::spawn(watch::devices(media.clone()));
    readiness.enter(Phase::Serving);
    if let Some(ng) = &ng {
        tracing::info!(address = %ng.local_addr(), "listening for NG");
        let (counters, exchanges) = (ng.counters(), ng.exchanges());
        let (commands, calls) = (ng.commands(), ng.calls());
        registry.register(move |out| metrics::ng(out, (&counters, &exchanges), &commands, calls()));
    }
    for (protocol, address) in asterisk_addresses {
        tracing::info!(%address, "listening for {}", protocol.name());
    }
    if let Some(asterisk) = &asterisk {
        let counters = asterisk.counters();
        registry.register(move |out| metrics::asterisk(out, &counters));
    }
    greet(&plan, &sip, &http);
    let registration = plan.registration.take().map(|account| {
        let registration = sip.register(account);
        tokio::spawn(watch::registration(registration.status()));
        let status = registration.status();
        registry.register(move |out| metrics::registration(out, status.borrow().state));
        registration
    });

    let reason = signals.end().await;
    readiness.enter(Phase::Draining);
    sip.set_draining(true);
    drain(&context.table, plan.drain_timeout, reason, &mut signals).await;

    if let Some(registration) = registration {
        registration.end().await;
    }
    trunks.shutdown().await;
    taking.abort();
    watching.abort();
    drop((http, ng, asterisk));
    if let Some(sip) = Arc::into_inner(sip) {
        sip.shutdown().await;
    }
    media.shutdown().await;
    deliveries.shutdown().await;
    keeping_small.abort();
    forgetting.abort();
    recorder.flush(RECORDS_PATIENCE).await;
    store.close().await;
    tracing::info!("sidetone ends");
    Ok(())
}

/// Tells the first admin how to come in.
async fn first_key(store: &Store, plan: &Plan) -> Result<()> {
    let first = access::first_key(store, &plan.data_dir).await.context("cannot make the first API key")?;
    let Some(first) = first else { return Ok(()) };
    match &first.file {
        Ok(file) => {
            tracing::info!(file = %file.display(), "the first start has made a token for an admin of the API")
        }
        Err(error) => tracing::warn!(%error, "the token for an admin of the API cannot be written to a file"),
    }
    // Once, for who has just installed this; `sidetone token` makes another one when it is lost.
    tracing::info!("admin token, shown only now: {}", first.text.expose());
    Ok(())
}

/// Lets calls end by themselves until `patience` is over or the operator asks again, then ends them.
async fn drain(calls: &CallTable, patience: Duration, reason: &str, signals: &mut Signals) {
    tracing::info!(
        calls = calls.len(),
        timeout_s = patience.as_secs_f64(),
        "{reason}: no new calls are taken; running calls may end by themselves, a second signal ends them at once"
    );
    let cut = tokio::select! {
        cut = calls.drain(patience) => cut,
        reason = signals.end() => {
            tracing::info!(calls = calls.len(), "{reason} again: ending all calls");
            calls.drain(Duration::ZERO).await
        }
    };
    tracing::info!(cut, "all calls have ended");
}

fn register_metrics(registry: &Registry, media: &Media, sip: &Arc<SipEndpoint>, calls: &CallTable) {
    let media = media.clone();
    registry.register(move |out| metrics::media(out, &media));
    // The endpoint ends when the process wants it to, not when the last reader of metrics is gone.
    let sip = Arc::downgrade(sip);
    registry.register(move |out| {
        if let Some(sip) = sip.upgrade() {
            metrics::sip(out, sip.counters(), sip.load());
        }
    });
    let calls = calls.clone();
    registry.register(move |out| metrics::calls(out, &calls));
}

/// Says where everything is and what to call.
fn greet(plan: &Plan, sip: &SipEndpoint, http: &HttpServer) {
    for (transport, address) in sip.local_addrs() {
        tracing::info!(%address, transport = transport.name(), "listening for SIP");
    }
    tracing::info!("health, metrics and API: http://{}", reachable(http.local_addr()));
    let Some((_, address)) = sip.local_addrs().into_iter().next() else { return };
    let host = plan.sip.advertised.clone().unwrap_or_else(|| reachable(address).to_string());
    let users: Vec<String> = plan
        .apps
        .routes
        .iter()
        .filter_map(|route| match &route.user {
            UserPattern::Exact(user) => Some(format!("sip:{user}@{host}")),
            UserPattern::Matching(_) => None,
        })
        .take(5)
        .collect();
    if !users.is_empty() {
        tracing::info!("ready: call {}", users.join(" or "));
    } else {
        tracing::info!("ready: {} routes", plan.apps.routes.len());
    }
}

/// An address to type in: the loopback one where we listen on all.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Says which device was taken, and why not a better one.
fn log_device(engine: &Engine) {
    let device = engine.device();
    tracing::info!(device = device.name, workers = engine.worker_counters().len(), "media engine runs");
    if let Some(taken) = &device.taken {
        tracing::info!("{taken}");
    }
    tracing::info!("media ports are chosen {}", device.ports);
    for (kind, reason) in &device.refused {
        tracing::info!(device = %kind, "better device not used: {reason}");
    }
}

/// Settles on a table of kernels before any thread asks for one, and says which and why.
fn choose_kernels(simd: Simd) -> Result<()> {
    if simd != Simd::Auto {
        engine::simd::select(simd.name()).context("cannot use what --simd names")?;
    }
    let why = if simd == Simd::Auto { "the fastest of this CPU" } else { "as configured" };
    let available: Vec<&str> = engine::simd::available().map(|kernels| kernels.name).collect();
    tracing::info!(
        kernels = engine::simd::kernels().name,
        available = available.join(", "),
        "kernels chosen: {why}"
    );
    Ok(())
}

/// Raises the limit of open files as far as it goes, and says when that is not far enough.
fn check_open_files(max_calls: usize) {
    let limit = raise_open_files_limit();
    let wanted = open_files_wanted(max_calls);
    if limit < wanted {
        tracing::warn!(
            limit,
            wanted,
            "the limit of open files is too low for calls.max {max_calls}; raise it (ulimit -n, LimitNOFILE=) or lower calls.max"
        );
    }
}

/// How long the last call records may take to reach the disk.
const RECORDS_PATIENCE: Duration = Duration::from_secs(5);
