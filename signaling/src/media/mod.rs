//! The one way to make media: streams of the engine as values that tasks own and await.
//!
//! ```text
//! call -> Media::add_stream -> MediaStream { update, attach, send_dtmf, statistics, next_event, remove }
//!                                  | commands, with back-pressure          ^ events, a bounded channel each
//!                                  v                                       |
//!                               Engine (workers) -> EngineEvents -> one task that listens to the doorbell
//! ```
//! Memory that workers give back (apps, streams) is dropped here, off the media threads.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::ai::tap::TapId;
use engine::ai::{AiConfig, AiRuntime, AiSession, CallMeta, ConnectError};
use engine::command::{Command, Digit, RelayId, StreamId, Tapped};
use engine::stream::{App, PlayoutReport, Stream, StreamParameters, StreamStatistics};
use engine::{AddStreamError, CommandRingFull, Engine, EngineEvents};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

mod address;
mod dispatch;
mod relay;
mod stream;
mod tap;

pub use address::{MediaAddress, MediaAddresses};
pub(crate) use address::{is_local, is_on_every_address};
use relay::RelayRegistration;

pub use relay::{MediaRelay, RelayEvent, RelayHandle};
pub use stream::{MediaStream, StreamHandle};
pub use tap::{MediaTap, TapError};

xdp::counters! {
    /// What the facade has done.
    pub struct MediaCounters {
        streams_added: "Streams that started",
        streams_failed: "Streams that could not be started",
        ports_in_use: "Media ports that another process had",
        streams_removed: "Streams that ended",
        streams_panicked: "Streams whose code panicked: bugs to report",
        relays_added: "Relays that started",
        relays_failed: "Relays that could not be started",
        relays_removed: "Relays that ended",
        relays_panicked: "Relays whose code panicked: bugs to report",
        commands_delayed: "Commands that waited for room in a worker's ring",
        commands_refused: "Commands given up because a worker's ring stayed full",
        events_dropped: "Events dropped because their call did not read them",
        events_unclaimed: "Events of streams that nobody owned any more",
    }
}

/// What happens in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaEvent {
    /// The source of the caller's media is known.
    Latched(SocketAddr),
    /// The caller pressed a key.
    Dtmf {
        /// The key.
        digit: Digit,
        /// How long it was down.
        duration: Duration,
        /// It came as tones in the audio.
        inband: bool,
    },
    /// A player is done, or was replaced.
    PlayFinished(PlayoutReport),
    /// No media came for the negotiated time.
    Timeout,
    /// The peer sent RTCP BYE.
    RemoteBye,
    /// The stream is gone: its code panicked, or the engine was shut down.
    Lost,
}

/// Why a stream could not be made or told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// Every worker has as many streams as it was started for.
    #[error("every media worker is full: raise streams_per_worker or relays_per_worker, or media_cpus")]
    NoSlot,
    /// No media port is free.
    #[error("no media port is free: widen media_ports")]
    NoPort,
    /// Ports were tried and none could be opened.
    #[error("no media socket could be opened on {address}: {error}; check --media-address and --media-ports")]
    Socket {
        /// The local address.
        address: IpAddr,
        /// The operating system's error.
        error: io::ErrorKind,
    },
    /// A worker does not take commands.
    #[error("the media worker does not keep up with its commands")]
    Overloaded,
    /// The stream is gone, or the engine is.
    #[error("the stream or the engine has ended")]
    Ended,
}

/// The media engine, as calls use it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Media {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    ai: AiRuntime,
    streams: Mutex<HashMap<StreamId, Registration>>,
    relays: Mutex<HashMap<RelayId, RelayRegistration>>,
    /// By the number of the tap.
    taps: Mutex<BTreeMap<u64, MediaTap>>,
    /// What to remove as soon as its worker takes the command.
    removals: Mutex<Vec<Removal>>,
    /// Wakes the dispatching task for `removals`, and to see that the facade is gone.
    wake: Arc<Notify>,
    counters: Arc<MediaCounters>,
}

/// What is to be removed.
#[derive(Clone, Copy, Debug)]
enum Removal {
    Stream(StreamId),
    Relay(RelayId),
    Tap(Tapped, TapId),
}

impl Removal {
    const fn command(self) -> Command {
        match self {
            Self::Stream(id) => Command::RemoveStream { id },
            Self::Relay(id) => Command::RemoveRelay { id },
            Self::Tap(call, tap) => Command::RemoveTap { call, tap },
        }
    }
}

/// Who waits for what of a stream.
#[derive(Debug)]
struct Registration {
    local: SocketAddr,
    events: mpsc::Sender<MediaEvent>,
    added: Option<oneshot::Sender<Added>>,
    reports: Vec<oneshot::Sender<StreamStatistics>>,
    removed: Option<oneshot::Sender<StreamStatistics>>,
}

impl Media {
    /// Takes the engine over and listens to its events on the current tokio runtime.
    ///
    /// # Errors
    /// When the doorbell cannot be watched.
    pub fn start(engine: Engine, events: EngineEvents, ai: AiRuntime) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            engine,
            ai,
            streams: Mutex::default(),
            relays: Mutex::default(),
            taps: Mutex::default(),
            removals: Mutex::default(),
            wake: Arc::default(),
            counters: Arc::default(),
        });
        dispatch::spawn(&shared, events)?;
        Ok(Self { shared })
    }

    /// Starts a stream on a free port of `local_ip`. A port that another process has is skipped, up to 20
    /// times.
    ///
    /// # Errors
    /// See [`MediaError`].
    pub async fn add_stream(
        &self,
        local_ip: IpAddr,
        parameters: StreamParameters,
    ) -> Result<MediaStream, MediaError> {
        let added = self.try_add_stream(local_ip, parameters).await;
        let counters = &self.shared.counters;
        if added.is_ok() {
            counters.streams_added.increment()
        } else {
            counters.streams_failed.increment()
        }
        added
    }

    async fn try_add_stream(
        &self,
        local_ip: IpAddr,
        parameters: StreamParameters,
    ) -> Result<MediaStream, MediaError> {
        let deadline = Instant::now() + COMMAND_PATIENCE;
        let mut stream = Stream::with_options(parameters, self.shared.engine.stream_options());
        let mut last = io::ErrorKind::Other;
        for _ in 0..PORT_ATTEMPTS {
            let (id, local, events, added) = loop {
                match self.shared.register(local_ip, stream) {
                    Ok(registered) => break registered,
                    Err(AddStreamError::CommandRingFull(back)) if Instant::now() < deadline => {
                        stream = back;
                        self.shared.counters.commands_delayed.increment();
                        sleep(COMMAND_PAUSE).await;
                    }
                    Err(AddStreamError::CommandRingFull(_)) => return Err(MediaError::Overloaded),
                    Err(AddStreamError::NoSlot(_)) => return Err(MediaError::NoSlot),
                    Err(AddStreamError::NoPort(_)) => return Err(MediaError::NoPort),
                    Err(AddStreamError::ShutDown(_)) => return Err(MediaError::Ended),
                }
            };
            // From here on the stream is removed if this is not awaited to its end.
            let handle = MediaStream::new(Arc::clone(&self.shared), id, local, events);
            match timeout(ANSWER_PATIENCE, added).await {
                Ok(Ok(Ok(()))) => return Ok(handle),
                Ok(Ok(Err((error, back)))) => {
                    handle.forget();
                    stream = back;
                    last = error;
                    if error != io::ErrorKind::AddrInUse {
                        break;
                    }
                    self.shared.counters.ports_in_use.increment();
                }
                Ok(Err(_)) => return Err(MediaError::Ended),
                Err(_) => return Err(MediaError::Overloaded),
            }
        }
        Err(MediaError::Socket { address: local_ip, error: last })
    }

    /// Connects to an AI backend; attach the app to a stream, and keep the session to hear of its end.
    ///
    /// # Errors
    /// When the backend cannot be reached, or says no.
    pub async fn connect_ai(
        &self,
        config: AiConfig,
        meta: CallMeta,
    ) -> Result<(App, AiSession), ConnectError> {
        let (port, session) = self.shared.ai.connect(config, meta).await?;
        Ok((App::Ai(Box::new(port)), session))
    }

    /// The runtime of the AI streams, for its counters.
    #[must_use]
    pub fn ai(&self) -> &AiRuntime {
        &self.shared.ai
    }

    /// The engine, for its counters.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// The facade's counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<MediaCounters> {
        &self.shared.counters
    }

    /// How many streams there are, counting those that are just starting or ending.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shared.streams().len()
    }

    /// Whether media sent to `remote` would arrive at a stream of ours: two of them, or one alone, could keep
    /// each other alive forever. `own` are addresses of this host that sockets are not bound to (NAT).
    #[must_use]
    pub fn receives_at(&self, remote: SocketAddr, own: &[IpAddr]) -> bool {
        let ip = remote.ip().to_canonical();
        let of_port = |local: &SocketAddr| local.port() == remote.port();
        let locals: Vec<_> =
            self.shared.streams().values().map(|stream| stream.local).filter(of_port).collect();
        locals.iter().any(|local| {
            local.ip().to_canonical() == ip
                || own.contains(&ip)
                || local.ip().is_unspecified() && is_local(ip)
        })
    }

    /// Ends all streams with RTCP BYE, all relays and all workers, and waits for them.
    pub async fn shutdown(&self) {
        let shared = Arc::clone(&self.shared);
        // A worker answers within a tick, but joining threads is not for the async threads.
        let _ = tokio::task::spawn_blocking(move || shared.engine.shutdown()).await;
    }
}

/// Whether a stream's sockets could be opened; if not, the stream comes back.
type Added = Result<(), (io::ErrorKind, Box<Stream>)>;

type Registered = (StreamId, SocketAddr, mpsc::Receiver<MediaEvent>, oneshot::Receiver<Added>);

impl Shared {
    /// Adds a stream and who hears of it in one step, so that its first event finds it.
    fn register(&self, local_ip: IpAddr, stream: Box<Stream>) -> Result<Registered, AddStreamError> {
        let mut streams = self.streams();
        let (id, local) = self.engine.add_stream(local_ip, stream)?;
        let (events, event_receiver) = mpsc::channel(EVENTS_PER_STREAM);
        let (added, added_receiver) = oneshot::channel();
        let registration =
            Registration { local, events, added: Some(added), reports: Vec::new(), removed: None };
        streams.insert(id, registration);
        Ok((id, local, event_receiver, added_receiver))
    }

    /// Sends a command, waiting a little while the worker's ring is full.
    async fn send(&self, mut command: Command) -> Result<(), MediaError> {
        let deadline = Instant::now() + COMMAND_PATIENCE;
        loop {
            match self.engine.send(command) {
                Ok(()) => return Ok(()),
                Err(CommandRingFull(back)) if Instant::now() < deadline => command = *back,
                Err(CommandRingFull(_)) => {
                    self.counters.commands_refused.increment();
                    return Err(MediaError::Overloaded);
                }
            }
            self.counters.commands_delayed.increment();
            sleep(COMMAND_PAUSE).await;
        }
    }

    /// Removes a stream or relay without waiting: now, or as soon as its worker takes the command.
    fn remove_later(&self, removal: Removal) {
        if self.engine.send(removal.command()).is_err() {
            self.removals.lock().unwrap_or_else(PoisonError::into_inner).push(removal);
            self.wake.notify_one();
        }
    }

    fn relays(&self) -> MutexGuard<'_, HashMap<RelayId, RelayRegistration>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<StreamId, Registration>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// How many ports are tried before a stream is given up.
const PORT_ATTEMPTS: usize = 20;
/// Events that may wait for one call's task; it reads them at once unless something is badly wrong.
const EVENTS_PER_STREAM: usize = 64;
/// How long a command may wait for room in a worker's ring.
const COMMAND_PATIENCE: Duration = Duration::from_secs(1);
const COMMAND_PAUSE: Duration = Duration::from_millis(2);
/// How long a worker may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
