//! Registration with a SIP server (RFC 3261 10.2): told where to send our calls, over and over.

mod machine;
mod task;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use super::digest::Credentials;
use super::incoming::Transport;

/// An account at a SIP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The server's host name or address.
    pub server: String,
    /// Its port, if not 5060.
    pub port: Option<u16>,
    /// How it is reached.
    pub transport: Transport,
    /// The user part of the address of record.
    pub user: String,
    /// The user part of our Contact, which calls are told apart by, if not `user`.
    pub contact_user: Option<String>,
    /// The name that is shown.
    pub display_name: Option<String>,
    /// What to answer when the server asks who we are.
    pub credentials: Option<Credentials>,
    /// How long a registration is asked to hold.
    pub expires: Duration,
    /// The host of the address of record, if not `server`.
    pub domain: Option<String>,
    /// What requests pass first: a URI such as `sip:192.0.2.1:5060;lr`, or `host[:port]`.
    pub outbound_proxy: Option<String>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            server: String::new(),
            port: None,
            transport: Transport::Udp,
            user: String::new(),
            contact_user: None,
            display_name: None,
            credentials: None,
            expires: Duration::from_secs(3600),
            domain: None,
            outbound_proxy: None,
        }
    }
}

/// How a registration stands, in the words that operators of switches know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegistrationState {
    /// UNREGED: nothing was tried, or it was taken back.
    Unregistered,
    /// TRYING: a request is on its way.
    Trying,
    /// REGED: calls come to us.
    Registered,
    /// FAILED: the server said no in a way that trying again does not mend (403, 404, a wrong password); it is tried again
    /// only slowly.
    Failed,
    /// FAIL_WAIT: it failed and will be tried again.
    FailWait,
    /// EXPIRED: it held, and could not be renewed in time.
    Expired,
}

impl RegistrationState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Unregistered, Self::Trying, Self::Registered, Self::Failed, Self::FailWait, Self::Expired];

    /// The familiar word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unregistered => "UNREGED",
            Self::Trying => "TRYING",
            Self::Registered => "REGED",
            Self::Failed => "FAILED",
            Self::FailWait => "FAIL_WAIT",
            Self::Expired => "EXPIRED",
        }
    }
}

/// How a registration stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationStatus {
    /// How it stands.
    pub state: RegistrationState,
    /// Why it failed last, until it succeeds.
    pub cause: Option<String>,
    /// Since when it stands so.
    pub since: SystemTime,
    /// How long the server lets it hold.
    pub expires: Option<Duration>,
    /// What our requests to it are to pass (RFC 3608), for [`super::Target::with_routes`].
    pub service_route: Vec<String>,
    /// The address that answered last.
    pub remote: Option<SocketAddr>,
}

/// A running registration. Dropping it ends the renewals; [`Registration::end`] takes it back, too.
#[derive(Debug)]
pub struct Registration {
    status: watch::Receiver<RegistrationStatus>,
    ending: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Registration {
    /// How it stands now, and each change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<RegistrationStatus> {
        self.status.clone()
    }

    /// Takes the registration back and waits for the server's answer, at most 2 s.
    pub async fn end(mut self) {
        self.ending.cancel();
        // A server that does not answer forgets us by itself.
        let _ = tokio::time::timeout(GOODBYE, &mut self.task).await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

const GOODBYE: Duration = Duration::from_secs(2);
