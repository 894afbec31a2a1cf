//! One trunk in use: its settings of now, what it carries and how it stands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::admission::Gate;
use super::identify::{Known, TrunkKey};
use super::ping::Health;
use crate::model::{
    Event, EventKind, Moment, PingState, Secret, Trunk, TrunkState, TrunkStatus, TrunkTransport,
};
use crate::sip::{Account, Address, Credentials, InvalidAddress, Target, Transport};
use crate::store::KeptState;

/// A trunk and its password, as they were read last.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) trunk: Arc<Trunk>,
    pub(super) password: Option<Secret>,
    /// Why there is none though one is kept.
    pub(super) unreadable: Option<String>,
}

/// One trunk in use.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) key: TrunkKey,
    pub(super) gate: Arc<Gate>,
    pub(super) contact_user: String,
    settings: RwLock<Arc<Settings>>,
    standing: Mutex<Standing>,
    /// Where its proxy is.
    proxies: RwLock<Vec<IpNet>>,
}

/// How it stands.
#[derive(Debug)]
struct Standing {
    state: TrunkState,
    since: Moment,
    cause: Option<String>,
    expires_s: Option<u64>,
    health: Health,
}

/// A change of how a trunk stands, to be kept and told.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) key: TrunkKey,
    pub(super) kept: KeptState,
    pub(super) event: Event,
}

impl Live {
    pub(super) fn new(settings: Settings) -> Self {
        let trunk = &settings.trunk;
        let key = TrunkKey { tenant: trunk.tenant.clone(), trunk_id: trunk.trunk_id.clone() };
        Self {
            gate: Arc::new(Gate::new(trunk.max_concurrent_calls, trunk.calls_per_second_limit)),
            contact_user: contact_user(&key),
            key,
            standing: Mutex::new(Standing {
                state: TrunkState::Unregistered,
                since: Moment::now(),
                cause: None,
                expires_s: None,
                health: Health::default(),
            }),
            settings: RwLock::new(Arc::new(settings)),
            proxies: RwLock::default(),
        }
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn trunk(&self) -> Arc<Trunk> {
        Arc::clone(&self.settings().trunk)
    }

    /// New settings; limits hold from now on.
    pub(super) fn set(&self, settings: Settings) {
        let trunk = &settings.trunk;
        self.gate.limit(trunk.max_concurrent_calls, trunk.calls_per_second_limit);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Says where the proxy is; whether that is new.
    pub(super) fn set_proxies(&self, mut found: Vec<IpNet>) -> bool {
        found.sort_unstable();
        found.dedup();
        let mut proxies = self.proxies.write().unwrap_or_else(PoisonError::into_inner);
        // A name that does not resolve for a moment is still where it was.
        if found.is_empty() || *proxies == found {
            return false;
        }
        *proxies = found;
        true
    }

    /// What its calls are known by; `None` if it takes none.
    pub(super) fn known(&self) -> Option<Known> {
        let trunk = self.trunk();
        let login = [&trunk.username, &trunk.auth_user];
        trunk.supports_inbound.then(|| Known {
            key: self.key.clone(),
            contact_user: self.contact_user.clone(),
            logins: login.into_iter().flatten().cloned().collect(),
            auth_method: trunk.auth_method,
            networks: match (trunk.allowed_ips.is_empty(), trunk.auth_method.wants_address()) {
                (false, _) => trunk.allowed_ips.clone(),
                (true, true) => self.proxies.read().unwrap_or_else(PoisonError::into_inner).clone(),
                // By password alone: from anywhere.
                (true, false) => Vec::new(),
            },
        })
    }

    /// Takes how its registration stands; what to keep and tell, if that is news.
    pub(super) fn stand(
        &self,
        state: TrunkState,
        cause: Option<String>,
        expires_s: Option<u64>,
    ) -> Option<Change> {
        let mut standing = self.standing();
        let before = standing.state;
        let is_news = before != state || standing.cause != cause;
        if before != state {
            standing.since = Moment::now();
        }
        (standing.state, standing.cause, standing.expires_s) = (state, cause, expires_s);
        // Trying takes a moment, over and over; what comes of it is told.
        (is_news && state != TrunkState::Trying).then(|| self.change(&standing, before))
    }

    /// Takes an answer to OPTIONS, or its absence; what to keep and tell, if that changes its health.
    pub(super) fn heard(&self, answer: Option<Duration>) -> Option<Change> {
        let mut standing = self.standing();
        let before = standing.state;
        standing.health.heard(answer).then(|| self.change(&standing, before))
    }

    /// How long its last answer to OPTIONS took.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.standing().health.latency()
    }

    /// Its health is not asked for any more.
    pub(super) fn forget_health(&self) {
        self.standing().health = Health::default();
    }

    fn change(&self, standing: &Standing, before: TrunkState) -> Change {
        let trunk = self.trunk();
        let kept = standing.kept();
        let data = json!({
            "trunk_id": trunk.trunk_id,
            "provider": trunk.provider,
            "state": kept.state.name(),
            "previous": before.name(),
            "cause": kept.cause,
            "expires_s": kept.expires_s,
            "ping": kept.ping.name(),
        });
        let event = Event::new(&self.key.tenant, EventKind::TrunkState, &self.key.trunk_id, data);
        Change { key: self.key.clone(), kept, event }
    }

    pub(super) fn state(&self) -> TrunkState {
        self.standing().state
    }

    pub(super) fn ping(&self) -> PingState {
        self.standing().health.state()
    }

    pub(super) fn status(&self, node: &str) -> TrunkStatus {
        let kept = self.standing().kept();
        status(&self.trunk(), KeptState { node: Some(node.to_owned()), ..kept }, self.gate.running())
    }

    /// Why no call can go out by it now.
    pub(super) fn unusable(&self) -> Option<String> {
        let standing = self.standing();
        let trunk = self.trunk();
        if !trunk.supports_outbound {
            return Some("it does not take outbound calls (supports_outbound)".to_owned());
        }
        if standing.health.state() == PingState::Down {
            return Some("it does not answer OPTIONS".to_owned());
        }
        // By one that registers elsewhere, or has just begun to, calls may go out all the same.
        match standing.state {
            TrunkState::Failed | TrunkState::FailWait | TrunkState::Expired => {
                let cause = standing.cause.as_deref().unwrap_or("not registered");
                Some(format!("{}: {cause}", standing.state.name()))
            }
            _ => None,
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn kept(&self) -> KeptState {
        KeptState {
            state: self.state,
            since: self.since,
            cause: self.cause.clone(),
            expires_s: self.expires_s,
            ping: self.health.state(),
            ping_ms: self.health.latency().map(|latency| latency.as_secs_f64() * 1000.0),
            node: None,
        }
    }
}

impl Settings {
    /// What to register; `None` if it does not.
    pub(super) fn account(&self, contact_user: &str) -> Option<Account> {
        let trunk = &self.trunk;
        let user = trunk.username.clone().filter(|_| trunk.register)?;
        Some(Account {
            server: trunk.proxy_address.clone(),
            port: trunk.proxy_port,
            transport: transport(trunk.transport),
            domain: trunk.from_domain.clone(),
            outbound_proxy: trunk.outbound_proxy.clone(),
            contact_user: Some(contact_user.to_owned()),
            user,
            display_name: trunk.display_name.clone(),
            credentials: self.credentials(),
            expires: Duration::from_secs(trunk.register_expires_s.into()),
        })
    }

    /// What to answer when the carrier asks who we are.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        let trunk = &self.trunk;
        let user = trunk.auth_user.clone().or_else(|| trunk.username.clone())?;
        let password = self.password.as_ref()?.reveal().to_owned();
        Some(Credentials { user, password, realm: trunk.realm.clone() })
    }

    /// Where its calls go.
    pub(super) fn target(&self) -> Result<Target, InvalidAddress> {
        let trunk = &self.trunk;
        let target = Target::new(&trunk.proxy_address, trunk.proxy_port, transport(trunk.transport))?;
        match &trunk.outbound_proxy {
            Some(proxy) => target.with_outbound_proxy(proxy),
            None => Ok(target),
        }
    }

    /// Whom a call by it comes from, for the calling number `number`.
    pub(super) fn from(&self, number: &str) -> Result<Address, InvalidAddress> {
        let trunk = &self.trunk;
        let host = trunk.from_domain.as_deref().unwrap_or(&trunk.proxy_address);
        let from = Address::new(trunk.from_user.as_deref().unwrap_or(number), host)?;
        match &trunk.display_name {
            Some(name) => from.with_display(name),
            None => Ok(from),
        }
    }
}

/// How a trunk stands, from its settings and what is known.
pub(super) fn status(trunk: &Trunk, kept: KeptState, active_calls: u32) -> TrunkStatus {
    let key = TrunkKey { tenant: trunk.tenant.clone(), trunk_id: trunk.trunk_id.clone() };
    TrunkStatus {
        trunk_id: trunk.trunk_id.clone(),
        provider: trunk.provider.clone(),
        state: kept.state,
        since: kept.since,
        cause: kept.cause,
        expires_s: kept.expires_s,
        ping: kept.ping,
        ping_ms: kept.ping_ms,
        active_calls,
        contact_user: trunk.register.then(|| contact_user(&key)),
        node: kept.node,
    }
}

fn transport(transport: TrunkTransport) -> Transport {
    match transport {
        TrunkTransport::Udp => Transport::Udp,
        TrunkTransport::Tcp => Transport::Tcp,
        TrunkTransport::Tls => Transport::Tls,
    }
}

/// The user part of a trunk's Contact: the same after a restart, so that the carrier replaces the binding, and nothing
/// that tells others the names of tenants.
fn contact_user(key: &TrunkKey) -> String {
    let mut hash = Sha256::new();
    hash.update(key.tenant.0.as_bytes());
    hash.update([0]);
    hash.update(key.trunk_id.as_bytes());
    hash.finalize().iter().take(8).fold("gw-".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}
