//! The sockets: who may connect, how many at once, how long they may take.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::ai::LineConfig;
use engine::ai::dialect::LineProtocol;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tracing::{debug, warn};

use super::config::{AsteriskConfig, AudioSocketConfig, ChanWebSocketConfig};
use super::counters::AsteriskCounters;
use super::upgrade::{self, Invitation};
use crate::apps::{self, Apps, SocketCall};
use crate::call::{CallContext, Quiet};
use crate::ng::is_allowed;

/// Bound sockets that nobody reads yet.
#[derive(Debug)]
pub struct AsteriskListener {
    audiosocket: Option<(TcpListener, AudioSocketConfig)>,
    chan_websocket: Option<(TcpListener, ChanWebSocketConfig)>,
    silence_timeout: Duration,
}

/// The running listeners. Dropping them ends them; calls go on.
#[derive(Debug)]
pub struct AsteriskServer {
    tasks: Vec<JoinHandle<()>>,
    counters: Arc<AsteriskCounters>,
}

/// What both listeners need.
#[derive(Debug)]
struct Shared {
    context: Arc<CallContext>,
    apps: Arc<Apps>,
    counters: Arc<AsteriskCounters>,
    /// Places for connections that have not introduced their call.
    places: Arc<Semaphore>,
    silence_timeout: Duration,
}

/// One listener.
#[derive(Clone, Debug)]
enum Door {
    AudioSocket(Arc<AudioSocketConfig>),
    ChanWebSocket(Arc<ChanWebSocketConfig>),
}

impl AsteriskListener {
    /// Binds what the configuration names; `None` if that is nothing.
    ///
    /// # Errors
    /// When an address is in use or not this host's; says which key to change.
    pub async fn bind(config: AsteriskConfig) -> io::Result<Option<Self>> {
        let mut listener =
            Self { audiosocket: None, chan_websocket: None, silence_timeout: config.silence_timeout };
        if let Some(config) = config.audiosocket {
            listener.audiosocket = Some((listen(config.bind, "audiosocket.bind").await?, config));
        }
        if let Some(config) = config.chan_websocket {
            listener.chan_websocket = Some((listen(config.bind, "chan_websocket.bind").await?, config));
        }
        Ok((!listener.local_addrs().is_empty()).then_some(listener))
    }

    /// Where it listens, with the ports that were chosen for 0.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<(LineProtocol, SocketAddr)> {
        let audiosocket =
            self.audiosocket.as_ref().map(|(listener, _)| (LineProtocol::AudioSocket, listener));
        let websocket =
            self.chan_websocket.as_ref().map(|(listener, _)| (LineProtocol::ChanWebSocket, listener));
        let all = audiosocket.into_iter().chain(websocket);
        all.filter_map(|(protocol, listener)| Some((protocol, listener.local_addr().ok()?))).collect()
    }

    /// Serves, within a tokio runtime.
    #[must_use]
    pub fn serve(self, context: &Arc<CallContext>, apps: &Arc<Apps>) -> AsteriskServer {
        let counters = Arc::<AsteriskCounters>::default();
        let shared = Arc::new(Shared {
            context: Arc::clone(context),
            apps: Arc::clone(apps),
            counters: Arc::clone(&counters),
            places: Arc::new(Semaphore::new(MOST_INTRODUCING)),
            silence_timeout: self.silence_timeout,
        });
        let audiosocket =
            self.audiosocket.map(|(listener, config)| (listener, Door::AudioSocket(Arc::new(config))));
        let websocket =
            self.chan_websocket.map(|(listener, config)| (listener, Door::ChanWebSocket(Arc::new(config))));
        let doors = audiosocket.into_iter().chain(websocket);
        let tasks = doors.map(|(listener, door)| tokio::spawn(Arc::clone(&shared).accept(listener, door)));
        AsteriskServer { tasks: tasks.collect(), counters }
    }
}

impl AsteriskServer {
    /// What was done.
    #[must_use]
    pub fn counters(&self) -> Arc<AsteriskCounters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for AsteriskServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn listen(address: SocketAddr, key: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let text = format!("cannot listen on {address}: {error}; choose another address in {key}");
        io::Error::new(error.kind(), text)
    })
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: TcpListener, door: Door) {
        loop {
            let (tcp, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors: give others time to close theirs.
                    if let Some(suppressed) = NOT_ACCEPTED.allows(Instant::now()) {
                        warn!(%error, suppressed, "a connection is not accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let allow = match &door {
                Door::AudioSocket(config) => &config.allow,
                Door::ChanWebSocket(config) => &config.allow,
            };
            if !is_allowed(allow, remote.ip()) {
                self.counters.forbidden.increment();
                continue;
            }
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                self.counters.crowded.increment();
                continue;
            };
            self.counters.accepted.increment();
            tokio::spawn(Arc::clone(&self).introduce(tcp, remote, door.clone(), place));
        }
    }

    /// A connection becomes a call, or ends. The place is free again then.
    async fn introduce(
        self: Arc<Self>,
        tcp: TcpStream,
        remote: SocketAddr,
        door: Door,
        _place: OwnedSemaphorePermit,
    ) {
        let (tcp, protocol, invitation, answer) = match &door {
            Door::AudioSocket(_) => (tcp, LineProtocol::AudioSocket, Invitation::default(), false),
            Door::ChanWebSocket(config) => {
                let Some((tcp, invitation)) = self.upgrade(tcp, config).await else { return };
                (tcp, LineProtocol::ChanWebSocket, invitation, config.answer)
            }
        };
        let config = LineConfig {
            silence_timeout: self.silence_timeout,
            answer,
            start_timeout: INTRODUCTION,
            ..LineConfig::new(protocol)
        };
        let Ok(tcp) = tcp.into_std() else { return };
        let (start, line) = match self.context.media.ai().accept_line(tcp, config).await {
            Ok(introduced) => introduced,
            Err(error) => {
                self.counters.not_introduced.increment();
                if let Some(suppressed) = NOT_INTRODUCED.allows(Instant::now()) {
                    warn!(%error, %remote, via = protocol.name(), suppressed, "a connection is no call");
                }
                return;
            }
        };
        self.counters.calls.increment();
        let (user, to) = match &door {
            Door::AudioSocket(config) => {
                let user = config.users.get(&start.id).unwrap_or(&config.user).clone();
                (user.clone(), user)
            }
            Door::ChanWebSocket(_) => (invitation.user, invitation.to),
        };
        // What the URL says comes before what the channel has set.
        let mut parameters = invitation.parameters;
        parameters.extend(start.variables.iter().cloned());
        let (from, from_name) = (invitation.from, invitation.from_name);
        let call = SocketCall { protocol, remote, start, line, user, from, from_name, to, parameters };
        apps::take_socket(&self.context, &self.apps, call);
    }

    /// The WebSocket upgrade; `None` if it is refused or broken.
    async fn upgrade(&self, tcp: TcpStream, config: &ChanWebSocketConfig) -> Option<(TcpStream, Invitation)> {
        let mut invitation = Err(StatusCode::BAD_REQUEST);
        // Its type is the library's.
        #[expect(clippy::result_large_err, reason = "the callback's type is that of the library")]
        let decide = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            let full = self.context.table.len() >= self.context.table.max_calls();
            invitation = upgrade::read(config, request);
            if invitation.is_ok() && (full || self.context.table.is_draining()) {
                invitation = Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            match &invitation {
                Ok(_) => Ok(upgrade::accepted(request, response)),
                Err(status) => Err(upgrade::refused(*status)),
            }
        };
        let upgraded = timeout(INTRODUCTION, tokio_tungstenite::accept_hdr_async(tcp, decide)).await;
        match (upgraded, invitation) {
            // Bytes behind the request are refused by the library, so nothing is left in its buffer.
            (Ok(Ok(socket)), Ok(invitation)) => Some((socket.into_inner(), invitation)),
            (Ok(_), Err(status)) if status != StatusCode::BAD_REQUEST => {
                self.counters.upgrades_refused.increment();
                if let Some(suppressed) = NOT_INTRODUCED.allows(Instant::now()) {
                    warn!(%status, suppressed, "a WebSocket upgrade is refused; see chan_websocket in the configuration");
                }
                None
            }
            (broken, _) => {
                self.counters.upgrades_broken.increment();
                debug!(in_time = broken.is_ok(), "a WebSocket upgrade is broken");
                None
            }
        }
    }
}

/// Connections that have not introduced their call. That takes a moment, and those that take longer make no room for others
/// than themselves.
const MOST_INTRODUCING: usize = 256;
/// How long the upgrade may take, and then the introduction.
const INTRODUCTION: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

static NOT_ACCEPTED: Quiet = Quiet::warnings();
static NOT_INTRODUCED: Quiet = Quiet::warnings();
