//! The socket: datagrams in, replies out, and who may ask.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use socket2::{Domain, Protocol, Type};
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::cache::{Key, Known, ReplyCache};
use super::command::Command;
use super::counters::{CommandCounters, NgCounters};
use super::message;
use super::options::Options;
use super::responder::Responder;
use super::statistics;
use super::table::{Job, Shared};
use super::value::Dictionary;
use crate::call::CallContext;
use crate::exchange::ExchangeCounters;

/// How NG is served.
#[derive(Clone, Debug, Default)]
pub struct NgConfig {
    /// The local address; `None` serves nobody.
    pub bind: Option<SocketAddr>,
    /// Who may ask. Empty is this host only.
    pub allow: Vec<IpNet>,
    /// How long a deleted call lives on unless the command says otherwise.
    pub delete_delay: Duration,
}

/// A bound socket that nobody reads yet.
#[derive(Debug)]
pub struct NgListener {
    socket: UdpSocket,
    local: SocketAddr,
    config: NgConfig,
}

/// The running server. Dropping it ends it; its calls go on until they are told otherwise.
#[derive(Debug)]
pub struct NgServer {
    receiving: JoinHandle<()>,
    socket: Arc<Socket>,
}

/// The socket with what it remembers.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    cache: Mutex<ReplyCache>,
    shared: Arc<Shared>,
    allow: Vec<IpNet>,
    running: Arc<Semaphore>,
    local: SocketAddr,
    started: Instant,
}

impl NgListener {
    /// Binds the socket; `None` when the configuration turns NG off.
    ///
    /// # Errors
    /// When the address is in use or not this host's; says which flag to change.
    pub fn bind(config: NgConfig) -> io::Result<Option<Self>> {
        let Some(address) = config.bind else { return Ok(None) };
        let open = || {
            let socket =
                socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            // As large as the system allows: bursts of proxies that restart.
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            UdpSocket::from_std(socket.into())
        };
        let socket = open().map_err(|error| {
            let text =
                format!("cannot listen for NG on {address}: {error}; choose another address with --ng-bind");
            io::Error::new(error.kind(), text)
        })?;
        let local = socket.local_addr()?;
        Ok(Some(Self { socket, local, config }))
    }

    /// The address, with the port that was chosen for 0.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves; media never goes to a control socket of `context` or to this one.
    #[must_use]
    pub fn serve(self, context: &CallContext) -> NgServer {
        let mut control = context.config.control_addresses.clone();
        control.push(self.local);
        let shared = Arc::new(Shared::new(context, self.config.delete_delay, control));
        let socket = Arc::new(Socket {
            socket: self.socket,
            cache: Mutex::new(ReplyCache::new(Instant::now())),
            shared,
            allow: self.config.allow,
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            local: self.local,
            started: Instant::now(),
        });
        let receiving = tokio::spawn(Arc::clone(&socket).receive());
        NgServer { receiving, socket }
    }
}

impl NgServer {
    /// What was done.
    #[must_use]
    pub fn counters(&self) -> Arc<NgCounters> {
        Arc::clone(&self.socket.shared.counters)
    }

    /// What came of the descriptions.
    #[must_use]
    pub fn exchanges(&self) -> Arc<ExchangeCounters> {
        Arc::clone(&self.socket.shared.relaying.counters)
    }

    /// The address, with the port that was chosen for 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local
    }

    /// What was done by command.
    #[must_use]
    pub fn commands(&self) -> Arc<CommandCounters> {
        Arc::clone(&self.socket.shared.commands)
    }

    /// Asks for the number of calls, as long as the server lives.
    pub fn calls(&self) -> impl Fn() -> usize + Send + Sync + use<> {
        let shared = Arc::downgrade(&self.socket.shared);
        move || shared.upgrade().map_or(0, |shared| shared.len())
    }
}

impl Drop for NgServer {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

impl Socket {
    async fn receive(self: Arc<Self>) {
        let mut buffer = vec![0; 65_536];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, source)) => {
                    if let Some(datagram) = buffer.get(..length) {
                        self.handle(datagram, source);
                    }
                }
                // ICMP errors of earlier replies surface here and say nothing about this socket.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    fn handle(self: &Arc<Self>, datagram: &[u8], source: SocketAddr) {
        let counters = &self.shared.counters;
        if !is_allowed(&self.allow, source.ip()) {
            return counters.forbidden.increment();
        }
        counters.received.increment();
        let received = Instant::now();
        let Some((cookie, payload)) = message::split_cookie(datagram).filter(|_| source.port() != 0) else {
            return counters.without_cookie.increment();
        };
        let key = Key { source, cookie: cookie.into() };
        let (known, expired) = self.cache().look_up(&key, received);
        if let Some(expired) = expired {
            // It may hold a hundred thousand replies.
            tokio::task::spawn_blocking(move || drop(expired));
        }
        match known {
            Known::New => {}
            Known::Running => return counters.duplicates_running.increment(),
            Known::Done(reply) => {
                counters.duplicates.increment();
                return self.transmit(source, &reply);
            }
        }
        let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() else {
            counters.overloaded.increment();
            return self.forget(&key);
        };
        match message::parse(payload) {
            Ok((encoding, dictionary)) => {
                let responder = Responder::new(Arc::clone(self), key, encoding, received, permit);
                self.execute(&dictionary, responder);
            }
            Err((encoding, error)) => {
                counters.malformed.increment();
                let responder = Responder::new(Arc::clone(self), key, encoding, received, permit);
                responder.fail(&error.to_string());
            }
        }
    }

    fn execute(&self, dictionary: &Dictionary, responder: Responder) {
        let counters = &self.shared.counters;
        let Some(name) = dictionary.value("command").and_then(|name| name.lossy()) else {
            counters.malformed.increment();
            return responder.fail("Dictionary contains no key \"command\"");
        };
        let command = match Command::parse(&name) {
            Ok(command) => command,
            Err(error) => {
                counters.unknown_commands.increment();
                return responder.fail(&error.to_string());
            }
        };
        let responder = responder.of(command);
        if command == Command::Ping {
            return responder.pong();
        }
        let options = Box::new(Options::read(dictionary));
        counters.ignored_keys.add(options.ignored_count);
        counters.interfaces_ignored.add(options.interfaces.len() as u64);
        if options.ignored_count > 0 {
            tracing::debug!(
                call_id = options.call_id,
                command = command.name(),
                ignored = ?options.ignored,
                "keys or flags that have no effect"
            );
        }
        match command {
            Command::List => match usize::try_from(options.limit.unwrap_or(DEFAULT_LIMIT)) {
                Ok(limit) => {
                    let calls = self.shared.call_ids(limit.min(MOST_LISTED));
                    responder.succeed(Dictionary::default().with("calls", calls));
                }
                Err(_) => responder.fail("invalid limit, must be >= 0"),
            },
            Command::Statistics => {
                let uptime = self.started.elapsed();
                responder.succeed(statistics::report(&self.shared, uptime));
            }
            _ => Arc::clone(&self.shared).dispatch(Job { command, options, responder }),
        }
    }

    /// Sends a reply and keeps it for those who ask again.
    pub(super) fn answer(&self, key: &Key, reply: Arc<[u8]>) {
        let copies = self.cache().finish(key, Arc::clone(&reply));
        for _ in 0..copies {
            self.transmit(key.source, &reply);
        }
    }

    pub(super) fn forget(&self, key: &Key) {
        self.cache().forget(key);
    }

    pub(super) fn counters(&self) -> &NgCounters {
        &self.shared.counters
    }

    pub(super) fn commands(&self) -> &CommandCounters {
        &self.shared.commands
    }

    /// A full socket loses the reply as the network might; it is in the cache when it is asked for again.
    fn transmit(&self, to: SocketAddr, reply: &[u8]) {
        if self.socket.try_send_to(reply, to).is_err() {
            self.shared.counters.transmit_errors.increment();
        }
    }

    fn cache(&self) -> MutexGuard<'_, ReplyCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `source` is in one of the networks; without any, whether it is this host.
pub(crate) fn is_allowed(allow: &[IpNet], source: IpAddr) -> bool {
    let source = source.to_canonical();
    if allow.is_empty() {
        source.is_loopback()
    } else {
        allow.iter().any(|network| network.contains(&source))
    }
}

const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Commands at once; further ones are dropped, and sent again by who needs them.
const MAX_RUNNING: usize = 4096;
/// Call-ids in the answer to a `list` without a limit.
const DEFAULT_LIMIT: i64 = 32;
const MOST_LISTED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_only_this_host_may_ask() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(is_allowed(&[], ip("127.0.0.9")) && is_allowed(&[], ip("::1")));
        assert!(is_allowed(&[], ip("::ffff:127.0.0.1")));
        assert!(!is_allowed(&[], ip("192.0.2.1")));
        let list = ["192.0.2.0/24".parse().expect("a network")];
        assert!(is_allowed(&list, ip("192.0.2.7")) && is_allowed(&list, ip("::ffff:192.0.2.7")));
        assert!(!is_allowed(&list, ip("127.0.0.1")) && !is_allowed(&list, ip("198.51.100.1")));
    }
}
