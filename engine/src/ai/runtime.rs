//! The threads that serve AI streams: one single-threaded tokio runtime each, woken by workers through a
//! doorbell.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use slab::Slab;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::Instrument as _;
use xdp::Doorbell;

use super::backend::Backend;
use super::config::{AiConfig, CallMeta};
use super::connect::{ConnectError, public_tls};
use super::counters::AiCounters;
use super::events::Events;
use super::histograms::AiHistograms;
use super::port::{AiPort, PortConfig};
use super::pump::{Pump, PumpParts};
use super::session::{AiSession, COMMANDS};
use super::shared::Shared;
use super::socket_line::LineCounters;
use super::supervisor::{Source, Supervisor};
use crate::time::Duration;

/// The AI threads. Dropping it ends them, streams included.
#[derive(Debug)]
pub struct AiRuntime {
    threads: Vec<AiThread>,
    counters: Arc<AiCounters>,
    lines: Arc<LineCounters>,
    histograms: Arc<AiHistograms>,
    public_tls: Arc<rustls::ClientConfig>,
}

#[derive(Debug)]
struct AiThread {
    handle: Handle,
    doorbell: Doorbell,
    streams: Arc<Streams>,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    join: Option<JoinHandle<()>>,
}

/// The streams of one thread. Workers never take the lock.
#[derive(Debug, Default)]
struct Streams {
    entries: Mutex<Slab<Arc<Shared>>>,
    /// Streams and attempts to connect.
    load: AtomicUsize,
}

/// A place in the load of a thread.
struct Place(Arc<Streams>);

impl Place {
    fn take(streams: &Arc<Streams>) -> Self {
        streams.load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(streams))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that the doorbell's listener looks at.
struct Entry {
    streams: Arc<Streams>,
    key: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.streams.lock().try_remove(self.key);
    }
}

impl Streams {
    fn lock(&self) -> std::sync::MutexGuard<'_, Slab<Arc<Shared>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, shared: Arc<Shared>) -> Entry {
        Entry { key: self.lock().insert(shared), streams: Arc::clone(self) }
    }

    fn wake_dirty(&self) {
        for (_, shared) in self.lock().iter() {
            if shared.dirty.swap(false, Ordering::AcqRel) {
                shared.waker.wake();
            }
        }
    }

    fn stop_all(&self) {
        for (_, shared) in self.lock().iter() {
            shared.stop.store(true, Ordering::Release);
            shared.waker.wake();
        }
    }
}

impl AiRuntime {
    /// Starts one thread per entry, pinned to that CPU; one unpinned thread if there is none.
    ///
    /// # Errors
    /// When a thread, a runtime or an eventfd cannot be had, or a CPU does not exist.
    pub fn start(stream_cpus: &[usize]) -> io::Result<Self> {
        let cpus: Vec<Option<usize>> =
            if stream_cpus.is_empty() { vec![None] } else { stream_cpus.iter().copied().map(Some).collect() };
        if cpus.len() > usize::from(u8::MAX) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than 255 AI stream threads"));
        }
        let threads = cpus.into_iter().enumerate().map(|(index, cpu)| AiThread::start(index, cpu));
        Ok(Self {
            threads: threads.collect::<io::Result<_>>()?,
            counters: Arc::default(),
            lines: Arc::default(),
            histograms: Arc::default(),
            public_tls: Arc::new(public_tls().map_err(io::Error::other)?),
        })
    }

    /// Connects to a backend and starts the stream: it is there when its session is set up. Made before the
    /// call is answered: what the backend says waits in the port until a worker pulls it. A backend that cannot
    /// be had is followed by the first of [`AiConfig::fallbacks`] that can.
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Errors
    /// When the backend cannot be reached within [`AiConfig::connect_window`], or says no, and so do the
    /// fallbacks; the last one's error.
    pub async fn connect(
        &self,
        config: AiConfig,
        meta: CallMeta,
    ) -> Result<(AiPort, AiSession), ConnectError> {
        let loads = self.threads.iter().map(|thread| thread.streams.load.load(Ordering::Relaxed));
        let index = loads.enumerate().min_by_key(|(_, load)| *load).map_or(0, |(index, _)| index);
        let thread = self.threads.get(index).ok_or(ConnectError::Shutdown)?;
        let place = Place::take(&thread.streams);
        let (result, wait) = oneshot::channel();
        let stream = Opening {
            config,
            meta,
            port: PortConfig { thread: index as u8, ..PortConfig::default() },
            doorbell: thread.doorbell.clone(),
            counters: Arc::clone(&self.counters),
            histograms: Arc::clone(&self.histograms),
            public_tls: Arc::clone(&self.public_tls),
        };
        let span = tracing::info_span!(
            "ai_stream",
            call_id = stream.meta.call_id,
            stream_sid = tracing::field::Empty
        );
        thread.handle.spawn(stream.open_and_serve(place, result).instrument(span));
        wait.await.unwrap_or(Err(ConnectError::Shutdown))
    }

    /// Runs a task on the least busy thread, where it counts as a stream.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), ConnectError> {
        let load = |thread: &&AiThread| thread.streams.load.load(Ordering::Relaxed);
        let thread = self.threads.iter().min_by_key(load).ok_or(ConnectError::Shutdown)?;
        let place = Place::take(&thread.streams);
        thread.handle.spawn(async move {
            task.await;
            drop(place);
        });
        Ok(())
    }

    /// TLS with the public authorities.
    pub(super) fn public_tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.public_tls)
    }

    /// The doorbells of the threads, in the order of [`AiPort::thread`]. A worker rings one after it pushed
    /// to, or pulled from, a port of that thread.
    #[must_use]
    pub fn doorbells(&self) -> Vec<Doorbell> {
        self.threads.iter().map(|thread| thread.doorbell.clone()).collect()
    }

    /// What the streams have counted.
    #[must_use]
    pub fn counters(&self) -> Arc<AiCounters> {
        Arc::clone(&self.counters)
    }

    /// What calls by sockets have counted.
    #[must_use]
    pub fn line_counters(&self) -> Arc<LineCounters> {
        Arc::clone(&self.lines)
    }

    /// How long things took in the streams.
    #[must_use]
    pub fn histograms(&self) -> Arc<AiHistograms> {
        Arc::clone(&self.histograms)
    }

    /// How many streams there are, attempts included.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.threads.iter().map(|thread| thread.streams.load.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for AiRuntime {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.stop.take();
        }
        for thread in &mut self.threads {
            if let Some(join) = thread.join.take() {
                let _ = join.join();
            }
        }
    }
}

impl AiThread {
    fn start(index: usize, cpu: Option<usize>) -> io::Result<Self> {
        // Streams that have much to read come again at once; workers' bells and sockets are looked at in between, not
        // only after 61 of their turns.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .event_interval(TURNS_BETWEEN_EVENTS)
            .global_queue_interval(TURNS_BETWEEN_EVENTS)
            .build()?;
        let handle = runtime.handle().clone();
        let doorbell = Doorbell::new()?;
        let streams = Arc::new(Streams::default());
        let (stop, stopped) = oneshot::channel();
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let bell = {
            let _context = runtime.enter();
            #[expect(
                deprecated,
                reason = "its replacement is unsafe; a Doorbell owns its eventfd and never swaps it"
            )]
            AsyncFd::with_interest(doorbell.clone(), Interest::READABLE)?
        };
        let (thread_streams, name) = (Arc::clone(&streams), format!("ai-{index}"));
        let join = std::thread::Builder::new().name(name).spawn(move || {
            let pinned = cpu.map_or(Ok(()), pin);
            let fine = pinned.is_ok();
            let _ = started.send(pinned);
            if fine {
                runtime.block_on(listen(bell, &thread_streams, stopped));
            }
        })?;
        start.recv().unwrap_or_else(|_| Err(io::Error::other("the AI thread ended at once")))?;
        Ok(Self { handle, doorbell, streams, stop: Some(stop), join: Some(join) })
    }
}

const TURNS_BETWEEN_EVENTS: u32 = 16;

/// Wakes the pumps that workers have written to, until the runtime is dropped.
async fn listen(bell: AsyncFd<Doorbell>, streams: &Streams, mut stopped: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            ready = bell.readable() => {
                let Ok(mut ready) = ready else { return };
                // Clear, hear, look: in this order no ring is missed.
                ready.clear_ready();
                bell.get_ref().hear();
                streams.wake_dirty();
            }
            _ = &mut stopped => break,
        }
    }
    streams.stop_all();
    let _ = timeout(SHUTDOWN_GRACE, async {
        while !streams.lock().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn pin(cpu: usize) -> io::Result<()> {
    xdp::thread::pin(&[cpu]).map_err(|error| {
        let message = format!("CPU {cpu} does not exist or this process may not use it");
        io::Error::new(error.kind(), message)
    })
}

/// A stream that is not open yet.
struct Opening {
    config: AiConfig,
    meta: CallMeta,
    port: PortConfig,
    doorbell: Doorbell,
    counters: Arc<AiCounters>,
    histograms: Arc<AiHistograms>,
    public_tls: Arc<rustls::ClientConfig>,
}

type Opened = Result<(AiPort, AiSession), ConnectError>;

impl Opening {
    async fn open_and_serve(self, place: Place, mut result: oneshot::Sender<Opened>) {
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = result.closed() => return,
        };
        match opened {
            Err(error) => {
                tracing::warn!(%error, "cannot open an AI stream");
                drop(place);
                let _ = result.send(Err(error));
            }
            Ok((port, backend, session, pump)) => {
                let streams = Arc::clone(&place.0);
                let _entry = streams.enter(Arc::clone(&backend));
                tracing::Span::current().record("stream_sid", session.stream_sid());
                tracing::info!("AI stream open");
                self.counters.connected.increment();
                // A caller that has gone drops the port, and the pump says goodbye to the backend.
                let _ = result.send(Ok((port, session)));
                pump.run().await;
            }
        }
    }

    async fn open(&self) -> Result<(AiPort, Arc<Shared>, AiSession, Pump), ConnectError> {
        let source = Arc::new(Source::new(
            self.config.clone(),
            self.meta.clone(),
            Arc::clone(&self.public_tls),
            Arc::clone(&self.counters),
            Arc::clone(&self.histograms),
        ));
        let link = source.first().await?;
        let port_config = PortConfig {
            cushion: self.config.cushion,
            cushion_limit: self.config.cushion_limit,
            max_queue: self.config.max_queue.max(MIN_QUEUE),
            line: self.config.line,
            barge_in: self.config.barge_in,
            latency: self.config.latency,
            ..self.port.clone()
        };
        let (port, backend): (AiPort, Backend) =
            AiPort::pair(&port_config, self.doorbell.clone(), Arc::clone(&self.counters));
        let shared = Arc::clone(&backend.shared);
        let (events, receiver) = Events::channel(Arc::clone(&self.counters));
        let (sender, commands) = mpsc::channel(COMMANDS);
        let record = Arc::default();
        let stream_sid = link.stream_sid.clone();
        let session = AiSession::new(Arc::clone(&shared), receiver, sender, Arc::clone(&record), stream_sid);
        let parts = PumpParts {
            supervisor: Supervisor::new(source, &link),
            link,
            backend,
            events,
            commands,
            record,
            counters: Arc::clone(&self.counters),
            histograms: Arc::clone(&self.histograms),
        };
        Ok((port, shared, session, Pump::new(&self.config, parts)))
    }
}

/// The protocol's minimum for queued bot audio.
const MIN_QUEUE: Duration = Duration::from_secs(60);
/// How long streams may take to end when the runtime does.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(1500);
