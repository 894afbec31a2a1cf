//! Calls that we make: where they go, what answers them here, and how far they are.
//!
//! ```text
//! Originate -> directory (numbers, routes, default trunk) -> Plan -> Dialing: INVITEs, next trunk, forks
//!           -> Leg (our offer, its answer) -> the app of an inbound call, run on the outbound leg
//! ```

mod batch;
mod dialing;
mod directory;
mod recent;
mod run;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use engine::ai::dialect::Dialect;
use tokio::sync::oneshot;

pub use batch::{Batch, BatchProgress, BatchState, Batches};
pub(crate) use dialing::{Dialing, Direct, Plan, Step, Unanswered, Wanted, Way, Won};
pub use directory::Directory;
pub use recent::{Ended, Recent};

use super::load::Apps;
use super::{AgentConfig, AppConfig, agent};
use crate::call::{CallContext, CallState, CallSummary, CallVia, Identity, redacted};
use crate::event::Events;
use crate::exchange::Relaying;
use crate::model::{Destination, Direction, Id, OutboundRoute, TenantId};
use crate::record::Recorder;
use crate::routing::{Decision, Question, is_diallable, normalized};
use crate::sip::{Account, Address, Headers, SipHandle, Target};
use crate::trunk::Trunks;

/// Makes calls. Cheap to clone behind its `Arc`.
#[derive(Debug)]
pub struct Outbound {
    pub(super) context: Arc<CallContext>,
    pub(super) apps: Arc<Apps>,
    pub(super) sip: SipHandle,
    pub(super) trunks: Option<Trunks>,
    pub(super) recorder: Option<Recorder>,
    pub(super) events: Option<Events>,
    pub(super) directory: Directory,
    /// The account of the configuration's `[registration]`: a trunk without a database, by the name of its user.
    pub(super) account: Option<Account>,
    /// Where our signalling is.
    pub(super) local: SocketAddr,
    pub(super) recent: Recent,
    /// For calls that go on to somebody else.
    pub(super) relaying: Relaying,
    /// Recordings that may be played by name.
    pub(super) prompts: PathBuf,
}

/// What an outbound call runs once it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// An app of the configuration: an agent, an echo, a recording.
    App(AppConfig),
    /// Silence: the call is driven through the API.
    Wait,
    /// An agent that only this call has, by its address and dialect.
    Handler(String, Dialect),
}

/// A call to make.
#[derive(Clone, Debug)]
pub struct Originate {
    /// Whose.
    pub tenant: TenantId,
    /// The calling number.
    pub from: String,
    /// The dialled number, or a SIP URI.
    pub to: String,
    /// The trunk that it takes; else the routes decide.
    pub trunk: Option<String>,
    /// What it runs.
    pub wish: Wish,
    /// How long it may ring, altogether.
    pub timeout: Option<Duration>,
    /// Kept with the call, and told to the agent.
    pub variables: BTreeMap<String, String>,
    /// Where events of this call are sent as well.
    pub webhook_url: Option<String>,
}

/// Why a call is not made.
#[derive(Debug, thiserror::Error)]
pub enum OriginateError {
    /// A field cannot be taken.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// There is no way there now.
    #[error("{reason}")]
    NoRoute {
        /// Why.
        reason: String,
        /// Every rule that was looked at.
        decision: Box<Decision>,
    },
    /// As many calls as may be, or draining.
    #[error(
        "as many calls as calls.max allows are running, or this process is about to end; try again later"
    )]
    Full,
    /// The store cannot be read.
    #[error("{0}")]
    Store(#[from] crate::store::StoreError),
}

impl Outbound {
    /// What makes calls with `sip`; `local` is where that listens.
    #[must_use]
    pub fn new(
        context: Arc<CallContext>,
        apps: Arc<Apps>,
        sip: SipHandle,
        local: SocketAddr,
        directory: Directory,
    ) -> Self {
        let relaying =
            Relaying::new(&context.config, &context.media, context.config.control_addresses.clone());
        Self {
            relaying,
            context,
            apps,
            sip,
            trunks: None,
            recorder: None,
            events: None,
            directory,
            account: None,
            local,
            recent: Recent::default(),
            prompts: PathBuf::new(),
        }
    }

    /// Calls get records.
    #[must_use]
    pub fn with_records(self, recorder: Recorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// Events of single calls can be sent to where their requests say.
    #[must_use]
    pub fn with_events(self, events: Events) -> Self {
        Self { events: Some(events), ..self }
    }

    /// With trunks to call through.
    #[must_use]
    pub fn with_trunks(self, trunks: Trunks) -> Self {
        Self { trunks: Some(trunks), ..self }
    }

    /// With the account of the configuration's `[registration]` to call through.
    #[must_use]
    pub fn with_account(self, account: Option<Account>) -> Self {
        Self { account, ..self }
    }

    /// With a folder of recordings that may be played by name.
    #[must_use]
    pub fn with_prompts(self, prompts: PathBuf) -> Self {
        Self { prompts, ..self }
    }

    /// What decides where calls go.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Calls that ended not long ago.
    #[must_use]
    pub const fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Where a call would go, and why.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn decide(
        &self,
        tenant: &TenantId,
        from: &str,
        to: &str,
        trunk: Option<&str>,
    ) -> Result<Decision, crate::store::StoreError> {
        let table = self.directory.of(tenant).await?;
        let seed = getrandom::u64().unwrap_or_default();
        Ok(table.decide_outbound(Question { from, to, trunk, seed }, |name| {
            self.trunks.as_ref().and_then(|trunks| trunks.facts(tenant, name))
        }))
    }

    /// What a call from outside reaches by the tenant's numbers.
    pub(super) async fn destination(&self, tenant: &TenantId, number: &str) -> Option<Destination> {
        match self.directory.of(tenant).await {
            Ok(table) => table.decide_inbound(number).destination,
            Err(error) => {
                tracing::warn!(%error, "the numbers of the store cannot be read; the routes of the configuration decide");
                None
            }
        }
    }

    /// The ways of a call that goes on through a trunk or to a URI.
    pub(super) async fn onward(&self, identity: &Identity, destination: &Destination) -> Option<Plan> {
        let wanted = |to: &str, trunk: Option<&str>| Originate {
            tenant: identity.tenant.clone(),
            from: identity.from.clone(),
            to: to.to_owned(),
            trunk: trunk.map(str::to_owned),
            wish: Wish::Wait,
            timeout: None,
            variables: BTreeMap::new(),
            webhook_url: None,
        };
        let wanted = match destination {
            Destination::Trunk { trunk_id, number } => {
                wanted(number.as_deref().unwrap_or(&identity.to), Some(trunk_id))
            }
            Destination::Uri { uri } => wanted(uri, None),
            _ => return None,
        };
        match self.plan(&wanted).await {
            Ok((plan, _)) => Some(plan),
            Err(error) => {
                tracing::info!(%error, "there is no way on for the call");
                None
            }
        }
    }

    /// Begins a call; returns its id as soon as it is on its way.
    ///
    /// # Errors
    /// See [`OriginateError`].
    pub async fn originate(self: &Arc<Self>, wanted: Originate) -> Result<Id, OriginateError> {
        self.originate_told(wanted, None).await
    }

    /// The same; `done` is told how it ended.
    pub(super) async fn originate_told(
        self: &Arc<Self>,
        wanted: Originate,
        done: Option<oneshot::Sender<Ended>>,
    ) -> Result<Id, OriginateError> {
        self.check(&wanted)?;
        let (plan, route) = self.plan(&wanted).await?;
        let identity =
            Identity::new(wanted.tenant.clone(), Direction::Outbound, wanted.from.clone(), wanted.to.clone());
        let leg = identity.leg;
        let summary = self.summary(identity, &wanted);
        if let (Some(url), Some(events)) = (&wanted.webhook_url, &self.events) {
            let mut transaction = self.directory.begin().await?;
            let watched = events.watch_call(&mut transaction, &wanted.tenant, &leg.to_string(), url).await;
            watched.map_err(|error| OriginateError::Invalid {
                field: "webhook_url",
                reason: error.to_string(),
            })?;
            transaction.commit().await?;
        }
        let entry = self.context.table.admit(summary).ok_or(OriginateError::Full)?;
        let job = run::Job { outbound: Arc::clone(self), entry, wanted, plan, route, done };
        tokio::spawn(job.run());
        Ok(leg)
    }

    fn check(&self, wanted: &Originate) -> Result<(), OriginateError> {
        let invalid = |field, reason: &str| OriginateError::Invalid { field, reason: reason.to_owned() };
        match &wanted.wish {
            Wish::App(AppConfig::Agent(name)) if self.apps.agent(name).is_none() => {
                return Err(invalid("agent", "the configuration has no agent of this name"));
            }
            Wish::App(AppConfig::Play(play)) if self.apps.prompt(&play.file).is_none() => {
                return Err(invalid("play", "no route of the configuration plays this recording"));
            }
            Wish::App(AppConfig::Reject(_)) => {
                return Err(invalid("app", "a call of ours cannot be refused by us"));
            }
            Wish::App(_) | Wish::Wait | Wish::Handler(..) => {}
        }
        let from = normalized(&wanted.from);
        if !from.is_empty() && !is_diallable(&from) {
            return Err(invalid("from_number", "it is too long, or has characters that no number has"));
        }
        Ok(())
    }

    /// The ways of a call, and the route that chose them.
    async fn plan(&self, wanted: &Originate) -> Result<(Plan, Option<String>), OriginateError> {
        let invalid = |field, reason: String| OriginateError::Invalid { field, reason };
        let ring_timeout =
            |millis: u32| wanted.timeout.unwrap_or_else(|| Duration::from_millis(millis.into()));
        let plain = |way: Direct| Plan {
            tenant: wanted.tenant.clone(),
            groups: [vec![Way::Direct(Box::new(way))]].into(),
            advance_on: OutboundRoute::ADVANCE_ON.to_vec(),
            // Nobody else would be asked: let it take its time.
            setup_timeout: DIRECT_SETUP,
            ring_timeout: ring_timeout(OutboundRoute::RING_TIMEOUT_MS),
            headers: Headers::default(),
        };
        let is_uri = wanted.to.starts_with("sip:") || wanted.to.starts_with("sips:");
        if is_uri && wanted.trunk.is_none() {
            let target =
                Target::of_uri(&wanted.to).map_err(|error| invalid("to_number", error.to_string()))?;
            let from = self.own_address(&wanted.from).map_err(|error| invalid("from_number", error))?;
            return Ok((plain(direct(&wanted.to, target, None, from)), None));
        }
        if let Some(account) = self.account_for(wanted) {
            let way = self.by_account(account, wanted).map_err(|error| invalid("to_number", error))?;
            return Ok((plain(way), None));
        }
        let decision = self.decide(&wanted.tenant, &wanted.from, &wanted.to, wanted.trunk.as_deref()).await?;
        if let Some(reason) = &decision.refusal {
            if wanted.trunk.is_some() && !decision.steps.iter().any(|step| step.matched) {
                return Err(invalid("trunk", reason.clone()));
            }
            let (reason, decision) = (reason.clone(), Box::new(decision));
            return Err(OriginateError::NoRoute { reason, decision });
        }
        let way = |candidate: &crate::routing::Candidate| {
            vec![Way::Trunk {
                trunk_id: candidate.trunk_id.clone(),
                number: candidate.number.clone(),
                from: candidate.from.clone(),
            }]
        };
        let plan = Plan {
            tenant: wanted.tenant.clone(),
            groups: decision.candidates.iter().map(way).collect(),
            advance_on: decision.advance_on.clone(),
            setup_timeout: Duration::from_millis(decision.setup_timeout_ms.into()),
            ring_timeout: ring_timeout(decision.ring_timeout_ms),
            headers: Headers::default(),
        };
        Ok((plan, decision.route))
    }

    /// The account of the configuration, if it is named, or is all there is.
    fn account_for(&self, wanted: &Originate) -> Option<&Account> {
        let account = self.account.as_ref()?;
        match wanted.trunk.as_deref() {
            Some(name) => (name == REGISTRATION || name == account.user).then_some(account),
            None => self.trunks.as_ref().is_none_or(|trunks| trunks.overview().is_empty()).then_some(account),
        }
    }

    fn by_account(&self, account: &Account, wanted: &Originate) -> Result<Direct, String> {
        let number = normalized(&wanted.to);
        if !is_diallable(&number) {
            return Err("it is empty, too long, or has characters that no number has".to_owned());
        }
        let target = Target::new(&account.server, account.port, account.transport);
        let target = target.map_err(|error| error.to_string())?;
        let mut from = Address::new(&account.user, &account.server).map_err(|error| error.to_string())?;
        if let Some(name) = &account.display_name {
            from = from.with_display(name).map_err(|error| error.to_string())?;
        }
        let credentials = account.credentials.clone();
        let contact_user = Some(account.user.clone());
        Ok(Direct { credentials, contact_user, ..direct(REGISTRATION, target, Some(number), from) })
    }

    /// A From of ours for calls that no trunk carries.
    pub(super) fn own_address(&self, user: &str) -> Result<Address, String> {
        let user = normalized(user);
        let host = self.local.ip().to_canonical().to_string();
        let user = if user.is_empty() { "sidetone" } else { &user };
        Address::new(user, &host).map_err(|error| error.to_string())
    }

    fn summary(&self, identity: Identity, wanted: &Originate) -> CallSummary {
        let show = self.context.config.show_numbers;
        let (app, agent) = match &wanted.wish {
            Wish::App(AppConfig::Agent(name)) => ("agent", Some(name.clone())),
            Wish::App(app) => (app.name(), None),
            Wish::Wait => ("wait", None),
            Wish::Handler(..) => ("agent", Some(HANDLER.to_owned())),
        };
        CallSummary {
            id: 0,
            call_id: String::new(),
            call_sid: None,
            from: redacted(&identity.from, show),
            to: redacted(&identity.to, show),
            identity,
            app,
            agent,
            via: CallVia::Sip,
            state: CallState::Ringing,
            since: SystemTime::now(),
            answered: None,
            codec: None,
            remote_sip: None,
            remote_rtp: None,
            local_rtp: None,
            gathered: None,
        }
    }

    /// A recording by its name, for a call that runs.
    ///
    /// # Errors
    /// What is wrong with the name or the file, for who asked.
    pub async fn recording(&self, name: &str) -> Result<Arc<[i16]>, String> {
        let stem = name.strip_suffix(".wav").unwrap_or(name);
        let is_name = (1..=64).contains(&stem.len())
            && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !is_name {
            return Err("must be the name of a recording: 1 to 64 letters, digits, - and _".to_owned());
        }
        let path = self.prompts.join(format!("{stem}.wav"));
        let loaded = tokio::task::spawn_blocking(move || engine::wav::load(&path)).await;
        match loaded {
            Ok(Ok(samples)) => Ok(samples),
            Ok(Err(error)) => {
                tracing::info!(%error, "a recording cannot be played");
                Err(format!(
                    "there is no recording {stem}.wav in the folder prompts of the data folder that can be played"
                ))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The agent that calls without a wish of their own get.
    #[must_use]
    pub fn default_agent(&self) -> Option<String> {
        self.apps.default_agent().map(str::to_owned)
    }
}

fn direct(name: &str, target: Target, request_user: Option<String>, from: Address) -> Direct {
    Direct { name: name.to_owned(), target, request_user, from, credentials: None, contact_user: None }
}

/// An agent that only one call has.
pub(super) fn handler(url: &str, dialect: Dialect) -> agent::Agent {
    let config =
        AgentConfig { name: HANDLER.to_owned(), url: url.to_owned(), dialect, ..AgentConfig::default() };
    agent::Agent::bare(config)
}

/// The name of an agent that a request brought along.
const HANDLER: &str = "(request)";
/// The trunk that is the account of the configuration.
const REGISTRATION: &str = "registration";
/// How long a callee without an alternative may take for its first sign.
const DIRECT_SETUP: Duration = Duration::from_secs(32);
