//! Runs a registration: sends what the rules say, by the endpoint's own sockets, so that calls come back the same way.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::machine::{Machine, Then};
use super::{Account, Registration, RegistrationState, RegistrationStatus};
use crate::sip::core::{Core, random, random_token};
use crate::sip::message::Message;
use crate::sip::transport::Flow;

impl Core {
    /// Starts a registration.
    pub(in crate::sip) fn register(self: &Arc<Self>, account: Account) -> Registration {
        let unregistered = RegistrationStatus {
            state: RegistrationState::Unregistered,
            cause: None,
            since: SystemTime::now(),
            expires: None,
        };
        let (sender, status) = watch::channel(unregistered);
        let ending = CancellationToken::new();
        let runner = Runner { core: Arc::clone(self), status: sender, ending: ending.clone() };
        Registration { status, ending, task: self.tasks.spawn(runner.run(account)) }
    }
}

struct Runner {
    core: Arc<Core>,
    status: watch::Sender<RegistrationStatus>,
    ending: CancellationToken,
}

impl Runner {
    async fn run(self, account: Account) {
        let mut machine = Machine::new(account, Instant::now(), random_token(), random_token());
        loop {
            tokio::select! {
                () = self.ending.cancelled() => break,
                () = self.core.ending.cancelled() => break,
                () = tokio::time::sleep_until(machine.next().into()) => {}
            }
            tokio::select! {
                () = self.ending.cancelled() => break,
                () = self.core.ending.cancelled() => break,
                () = self.attempt(&mut machine) => {}
            }
            self.tell(&machine);
        }
        if let Some(request) = machine.goodbye(&random_token()) {
            self.say_goodbye(&mut machine, request).await;
        }
        self.tell(&machine);
    }

    /// One registration, with its challenges.
    async fn attempt(&self, machine: &mut Machine) {
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

    async fn say_goodbye(&self, machine: &mut Machine, request: Message) {
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

    /// Sends a request; the final response, and the Contact that was sent.
    async fn send(&self, machine: &Machine, request: Message) -> Option<(Message, String)> {
        let flow: Flow = self.core.flow_to(&machine.server()?).await?;
        let request = self.core.addressed(request, &flow, machine.contact_user());
        let contact = request.header("Contact").unwrap_or_default().to_owned();
        let transaction = self.core.transactions.new_client(&request, &flow)?;
        let response = transaction.run().await;
        // RFC 3261 17.1.2.2: nothing came within 64 * T1.
        let silent = response.status() == 408 && response.header("Via").is_none();
        (!silent).then_some((response, contact))
    }

    fn tell(&self, machine: &Machine) {
        self.status.send_if_modified(|status| {
            let changed = status.state != machine.state;
            let differs = changed || status.cause != machine.cause || status.expires != machine.granted;
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
