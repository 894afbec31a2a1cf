//! Runs a registration: sends what the rules say, by the endpoint's own sockets, so that calls come back the same way.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::machine::{Machine, Then};
use super::{Account, Registration, RegistrationState, RegistrationStatus};
use crate::sip::core::{Core, random, random_token};
use crate::sip::message::Message;
use crate::sip::resolver::Hop;
use crate::sip::transport::Flow;

impl Core {
    /// Starts a registration.
    pub(in crate::sip) fn register(self: &Arc<Self>, account: Account) -> Registration {
        let unregistered = RegistrationStatus {
            state: RegistrationState::Unregistered,
            cause: None,
            since: SystemTime::now(),
            expires: None,
            service_route: Vec::new(),
            remote: None,
        };
        let (sender, status) = watch::channel(unregistered);
        let ending = CancellationToken::new();
        let runner = Runner { core: Arc::clone(self), status: sender, ending: ending.clone(), way: None };
        Registration { status, ending, task: self.tasks.spawn(runner.run(account)) }
    }
}

struct Runner {
    core: Arc<Core>,
    status: watch::Sender<RegistrationStatus>,
    ending: CancellationToken,
    /// What answered last. A connection is held, for calls come back by it.
    way: Option<(Hop, Flow)>,
}

impl Runner {
    async fn run(mut self, account: Account) {
        let mut machine = Machine::new(account, Instant::now(), random_token(), random_token());
        loop {
            let (ending, shutdown) = (self.ending.clone(), self.core.ending.clone());
            tokio::select! {
                () = ending.cancelled() => break,
                () = shutdown.cancelled() => break,
                () = self.wait(&mut machine) => {}
            }
            tokio::select! {
                () = ending.cancelled() => break,
                () = shutdown.cancelled() => break,
                () = self.attempt(&mut machine) => {}
            }
            self.tell(&machine);
        }
        if let Some(request) = machine.goodbye(&random_token()) {
            self.say_goodbye(&mut machine, request).await;
        }
        self.tell(&machine);
    }

    /// Until the next request is due. Meanwhile the way is kept open, through a NAT, too (RFC 5626 3.5.1, and as is
    /// usual over UDP); when a connection breaks, another one is made soon.
    async fn wait(&mut self, machine: &mut Machine) {
        loop {
            let Some((_, flow)) = &self.way else {
                return tokio::time::sleep_until(machine.next().into()).await;
            };
            tokio::select! {
                () = tokio::time::sleep_until(machine.next().into()) => return,
                () = tokio::time::sleep(KEEPALIVE) => flow.send(b"\r\n\r\n".to_vec()),
                () = flow.closed() => {
                    self.way = None;
                    machine.hurry(Instant::now());
                }
            }
        }
    }

    /// One registration, with its challenges.
    async fn attempt(&mut self, machine: &mut Machine) {
        for _ in 0..MOST_REQUESTS {
            let request = machine.request(&random_token());
            self.tell(machine);
            let Some((response, contact)) = self.send(machine, request).await else {
                machine.unreachable(Instant::now(), spread());
                return;
            };
            if machine.handle_response(Instant::now(), &response, &contact, spread()) == Then::Wait {
                return;
            }
        }
        let endless = Message::response(482, "The server asks without end");
        machine.handle_response(Instant::now(), &endless, "", spread());
    }

    async fn say_goodbye(&mut self, machine: &mut Machine, request: Message) {
        let mut request = Some(request);
        for _ in 0..MOST_REQUESTS {
            let Some(next) = request.take() else { return };
            let Some((response, contact)) = self.send(machine, next).await else { return };
            if !matches!(response.status(), 401 | 407)
                || machine.handle_response(Instant::now(), &response, &contact, 0.0) == Then::Wait
            {
                return;
            }
            request = machine.goodbye(&random_token());
        }
    }

    /// Sends a request to one address of the server after the other, the one that answered last first (RFC 3263 4.3).
    /// The final response, and the Contact that was sent.
    async fn send(&mut self, machine: &Machine, request: Message) -> Option<(Message, String)> {
        let core = self.core.clone();
        let mut hops = core.hops(&machine.target().ok()?).await;
        if let Some((last, _)) =
            self.way.as_ref().filter(|(last, flow)| flow.is_open() && hops.contains(last))
        {
            hops.retain(|hop| hop != last);
            hops.insert(0, last.clone());
        }
        let mut refused = None;
        let count = hops.len();
        for (index, hop) in hops.into_iter().enumerate() {
            let known = self.way.take().filter(|(last, flow)| *last == hop && flow.is_open());
            let flow = match known {
                Some((_, flow)) => Some(flow),
                None => core.flow_of(&hop).await,
            };
            let Some(flow) = flow else {
                core.resolver.note_failure(&hop, Instant::now());
                continue;
            };
            let request = core.addressed(request.clone(), &flow, machine.contact_user());
            let contact = request.header("Contact").unwrap_or_default().to_owned();
            let transaction = core.transactions.new_client(&request, &flow)?;
            // The last address gets the whole time that a transaction has.
            let patience = core.config.t1 * if index + 1 < count { 16 } else { 65 };
            match tokio::time::timeout(patience, transaction.run()).await {
                Ok(Ok(response)) if response.status() == 503 => {
                    core.resolver.note_failure(&hop, Instant::now());
                    refused = Some((response, contact));
                }
                Ok(Ok(response)) => {
                    core.resolver.note_success(&hop);
                    self.way = Some((hop, flow));
                    return Some((response, contact));
                }
                Ok(Err(_)) | Err(_) => core.resolver.note_failure(&hop, Instant::now()),
            }
        }
        refused
    }

    fn tell(&self, machine: &Machine) {
        self.status.send_if_modified(|status| {
            let changed = status.state != machine.state;
            let remote = self.way.as_ref().map(|(hop, _)| hop.address);
            let differs = changed
                || status.cause != machine.cause
                || status.expires != machine.granted
                || status.service_route != machine.service_route
                || status.remote != remote;
            status.remote = remote;
            status.service_route.clone_from(&machine.service_route);
            if changed {
                status.since = SystemTime::now();
            }
            status.state = machine.state;
            status.cause.clone_from(&machine.cause);
            status.expires = machine.granted;
            differs
        });
    }
}

/// Anything from 0 to 1.
fn spread() -> f64 {
    (random() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The first, and answers to challenges and intervals that are too brief.
const MOST_REQUESTS: usize = 5;
/// Below what NATs and firewalls forget after.
const KEEPALIVE: Duration = Duration::from_secs(25);
