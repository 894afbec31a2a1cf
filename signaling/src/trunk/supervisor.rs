//! All trunks in use: those of the store, kept registered, and found by the calls that come.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::{Mutex, Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{Admission, Refused, TrunkCounters};
use super::identify::{Index, TrunkKey};
use super::keeper::{Keeping, Wanted};
use super::live::{Live, Settings, status};
use super::states;
use crate::model::{Moment, PingState, TenantId, Trunk, TrunkState, TrunkStatus};
use crate::routing::TrunkFacts;
use crate::sip::{Address, Authenticator, Credentials, InvalidAddress, SipHandle, Target};
use crate::store::{KeptState, OpenTrunk, Store, StoreError};

/// What the trunks are told at start.
#[derive(Clone, Debug)]
pub struct TrunkConfig {
    /// This process's name among those that use the same store.
    pub node: String,
    /// What happens to calls of no trunk.
    pub unknown_callers: UnknownCallers,
    /// The realm that calls are asked for passwords of.
    pub realm: String,
    /// How often to look for what other nodes changed.
    pub poll: Duration,
}

/// What happens to calls that belong to no trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownCallers {
    /// The routes of the configuration decide, as if there were no trunks.
    #[default]
    Accept,
    /// They are refused.
    Reject,
}

/// Every trunk in use. Cheap to clone.
#[derive(Clone)]
pub struct Trunks {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: TrunkConfig,
    pub(super) authenticator: Authenticator,
    pub(super) counters: Arc<TrunkCounters>,
    pub(super) table: RwLock<Table>,
    store: Store,
    keeping: Keeping,
    tasks: TaskTracker,
    /// Set when nobody has anything to write any more.
    writing: CancellationToken,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// What the store held when it was read last, and when to renew what is held. Whoever has this reads the store.
    known: Mutex<Option<((i64, i64), Instant)>>,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) index: Index,
    running: HashMap<TrunkKey, Running>,
    held: HashSet<TrunkKey>,
    /// Tasks of trunks that were taken out of use and take their registrations back.
    leaving: HashMap<TrunkKey, JoinHandle<()>>,
}

struct Running {
    live: Arc<Live>,
    wanted: watch::Sender<Wanted>,
    keeper: JoinHandle<()>,
}

/// A way out by a trunk, for one call.
#[derive(Debug)]
pub struct Way {
    /// The trunk.
    pub trunk: Arc<Trunk>,
    /// Where the call goes.
    pub target: Target,
    /// Whom it comes from.
    pub from: Address,
    /// What to answer when the carrier asks who we are.
    pub credentials: Option<Credentials>,
    /// The user part of our Contact.
    pub contact_user: String,
    /// The call's place on the trunk; to be kept as long as it runs.
    pub admission: Admission,
}

/// Why there is no way out by a trunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// It may not carry this call now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A number that cannot be shown.
    #[error("the calling number cannot be written: {0}")]
    From(#[from] InvalidAddress),
}

impl Trunks {
    /// Reads the trunks of `store` and starts to keep them registered by `sip`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn start(store: Store, sip: SipHandle, config: TrunkConfig) -> Result<Self, StoreError> {
        let counters = Arc::new(TrunkCounters::default());
        let (changes, kept) = mpsc::channel(MOST_CHANGES);
        let keeping = Keeping {
            sip,
            changes,
            moved: Arc::new(Notify::new()),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            counters: Arc::clone(&counters),
            ending: CancellationToken::new(),
        };
        let tasks = TaskTracker::new();
        let writing = CancellationToken::new();
        let writer = states::write(store.clone(), kept, Arc::clone(&counters), writing.clone());
        let writer = Mutex::new(Some(tokio::spawn(writer)));
        let inner = Arc::new(Inner {
            authenticator: Authenticator::new(&config.realm),
            config,
            counters,
            table: RwLock::default(),
            store,
            keeping,
            tasks,
            writing,
            writer,
            known: Mutex::new(None),
        });
        let trunks = Self { inner };
        trunks.refresh().await?;
        let running = trunks.clone();
        trunks.inner.tasks.spawn(async move { running.look().await });
        Ok(trunks)
    }

    /// Looks for what others changed, and keeps holding what is held, until the end.
    async fn look(&self) {
        let inner = &self.inner;
        let mut failing = false;
        loop {
            tokio::select! {
                () = inner.keeping.ending.cancelled() => return,
                () = inner.keeping.moved.notified() => {
                    inner.index();
                    continue;
                }
                () = tokio::time::sleep(inner.config.poll) => {}
            }
            let looked = inner.look_again(false).await;
            if let Err(error) = &looked
                && !failing
            {
                tracing::warn!(%error, "trunks are kept as they were read last");
            }
            failing = looked.is_err();
        }
    }

    /// Takes what the store holds now; when this returns it is in force.
    ///
    /// # Errors
    /// The store cannot be read; everything stays as it was.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.inner.look_again(true).await
    }

    /// Takes all registrations back and gives up what this node holds, for at most some seconds.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        inner.keeping.ending.cancel();
        inner.tasks.close();
        let _ = tokio::time::timeout(GOODBYE, inner.tasks.wait()).await;
        // What they had to say at the end.
        inner.writing.cancel();
        if let Some(writer) = inner.writer.lock().await.take() {
            let _ = tokio::time::timeout(GOODBYE, writer).await;
        }
        if let Err(error) = inner.store.release_trunks(&inner.config.node).await {
            tracing::debug!(%error, "trunks are not given back; another node takes them over a little later");
        }
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<TrunkCounters> {
        &self.inner.counters
    }

    /// How a trunk of the store stands.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn status(&self, trunk: &Trunk) -> Result<TrunkStatus, StoreError> {
        if let Some(status) = self.own_status(trunk) {
            return Ok(status);
        }
        let kept = self.inner.store.trunk_state(&trunk.tenant, &trunk.trunk_id).await?;
        Ok(self.kept_status(trunk, kept))
    }

    /// How all of these trunks of one tenant stand.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn statuses(
        &self,
        tenant: &TenantId,
        trunks: &[Trunk],
    ) -> Result<Vec<TrunkStatus>, StoreError> {
        let mut kept = self.inner.store.trunk_states(tenant).await?;
        let status = |trunk: &Trunk| {
            let of_store = kept.remove(&trunk.trunk_id);
            self.own_status(trunk).unwrap_or_else(|| self.kept_status(trunk, of_store))
        };
        Ok(trunks.iter().map(status).collect())
    }

    /// Of a trunk that this node keeps.
    fn own_status(&self, trunk: &Trunk) -> Option<TrunkStatus> {
        let key = TrunkKey { tenant: trunk.tenant.clone(), trunk_id: trunk.trunk_id.clone() };
        let table = self.inner.table.read().unwrap_or_else(PoisonError::into_inner);
        let running = table.running.get(&key).filter(|_| table.held.contains(&key))?;
        Some(running.live.status(&self.inner.config.node))
    }

    /// Of one that another node keeps, or nobody.
    fn kept_status(&self, trunk: &Trunk, kept: Option<KeptState>) -> TrunkStatus {
        let mut kept = kept.unwrap_or(KeptState {
            state: TrunkState::Inactive,
            since: trunk.updated_at,
            cause: None,
            expires_s: None,
            ping: PingState::Unknown,
            ping_ms: None,
            node: None,
        });
        if !trunk.active {
            // Whatever was known of it when it was in use.
            kept = KeptState {
                state: TrunkState::Inactive,
                cause: Some("not active; POST /api/trunks/{id}/activate takes it into use".to_owned()),
                expires_s: None,
                ping: PingState::Unknown,
                ping_ms: None,
                node: None,
                ..kept
            };
        }
        let key = TrunkKey { tenant: trunk.tenant.clone(), trunk_id: trunk.trunk_id.clone() };
        status(trunk, kept, self.live(&key).map_or(0, |live| live.gate.running()))
    }

    /// What routes need to know of a trunk; `None` if the tenant has none of that name in use.
    #[must_use]
    pub fn facts(&self, tenant: &TenantId, trunk_id: &str) -> Option<TrunkFacts> {
        let key = TrunkKey { tenant: tenant.clone(), trunk_id: trunk_id.to_owned() };
        let live = self.live(&key)?;
        let trunk = live.trunk();
        Some(TrunkFacts {
            cost_per_minute: trunk.cost_per_minute,
            backup_trunks: trunk.backup_trunks.clone(),
            unusable: live.unusable(),
        })
    }

    /// A way out by a trunk, for a call from `number`. It takes a place on the trunk.
    ///
    /// # Errors
    /// See [`NoWay`]; the next trunk may do better.
    pub fn way(&self, tenant: &TenantId, trunk_id: &str, number: &str) -> Result<Way, NoWay> {
        let counters = &self.inner.counters;
        let key = TrunkKey { tenant: tenant.clone(), trunk_id: trunk_id.to_owned() };
        let Some(live) = self.live(&key) else {
            counters.refused_inactive.increment();
            return Err(Refused::Inactive.into());
        };
        let settings = live.settings();
        if !settings.trunk.supports_outbound {
            counters.refused_inactive.increment();
            return Err(Refused::Direction.into());
        }
        let (target, from) = (settings.target()?, settings.from(number)?);
        let admission = self.inner.admit(&live)?;
        counters.admitted_outbound.increment();
        Ok(Way {
            target,
            from,
            credentials: settings.credentials(),
            contact_user: live.contact_user.clone(),
            trunk: Arc::clone(&settings.trunk),
            admission,
        })
    }

    /// For metrics: provider, state, health, calls that run and what a minute costs, of every trunk in use.
    #[must_use]
    pub fn overview(&self) -> Vec<(String, TrunkState, PingState, u32, f64)> {
        let table = self.inner.table.read().unwrap_or_else(PoisonError::into_inner);
        let one = |running: &Running| {
            let trunk = running.live.trunk();
            let (state, ping) = (running.live.state(), running.live.ping());
            (trunk.provider.clone(), state, ping, running.live.gate.running(), trunk.cost_per_minute)
        };
        table.running.values().map(one).collect()
    }

    pub(super) fn live(&self, key: &TrunkKey) -> Option<Arc<Live>> {
        let table = self.inner.table.read().unwrap_or_else(PoisonError::into_inner);
        table.running.get(key).map(|running| Arc::clone(&running.live))
    }
}

impl Inner {
    /// Takes a place on a trunk.
    pub(super) fn admit(&self, live: &Live) -> Result<Admission, Refused> {
        live.gate.admit(Instant::now()).inspect_err(|refused| match refused {
            Refused::Concurrent => self.counters.refused_concurrent.increment(),
            Refused::Rate => self.counters.refused_rate.increment(),
            Refused::Inactive | Refused::Direction => self.counters.refused_inactive.increment(),
        })
    }

    /// Renews what is held, and reads everything if there is something new, or `anyway`.
    async fn look_again(&self, anyway: bool) -> Result<(), StoreError> {
        let mut known = self.known.lock().await;
        if self.keeping.ending.is_cancelled() {
            return Ok(());
        }
        // Before the trunks: what changes in between is seen the next time.
        let revision = self.store.trunk_revision().await?;
        let is_new = known.is_none_or(|(before, _)| before != revision);
        if !anyway && !is_new && known.is_some_and(|(_, renew)| renew > Instant::now()) {
            return Ok(());
        }
        let now = Moment::now();
        let held = self.store.hold_trunks(&self.config.node, now, now.after(HOLD)).await?;
        let held: HashSet<TrunkKey> =
            held.into_iter().map(|(tenant, trunk_id)| TrunkKey { tenant, trunk_id }).collect();
        let same = self.table.read().unwrap_or_else(PoisonError::into_inner).held == held;
        if anyway || is_new || !same {
            let trunks = self.store.active_trunks().await?;
            self.reconcile(trunks, held);
            self.index();
        }
        *known = Some((revision, Instant::now() + HOLD / 4));
        Ok(())
    }

    /// Makes what runs what is wanted.
    fn reconcile(&self, trunks: Vec<OpenTrunk>, held: HashSet<TrunkKey>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let number = u32::try_from(trunks.len()).unwrap_or(u32::MAX);
        let mut left: HashSet<TrunkKey> = table.running.keys().cloned().collect();
        for open in trunks {
            let (password, unreadable) = match open.password {
                Ok(password) => (password, None),
                Err(error) => (None, Some(error.to_string())),
            };
            let settings = Settings { trunk: Arc::new(open.trunk), password, unreadable };
            let trunk = &settings.trunk;
            let key = TrunkKey { tenant: trunk.tenant.clone(), trunk_id: trunk.trunk_id.clone() };
            left.remove(&key);
            let is_ours = held.contains(&key);
            if let Some(running) = table.running.get(&key) {
                let wanted = wanted(&settings, &running.live.contact_user, is_ours);
                running.live.set(settings);
                running.wanted.send_if_modified(|before| {
                    let differs = *before != wanted;
                    *before = wanted;
                    differs
                });
                continue;
            }
            let live = Arc::new(Live::new(settings));
            let wanted = wanted(&live.settings(), &live.contact_user, is_ours);
            let (sender, receiver) = watch::channel(wanted);
            // Not all in the same millisecond.
            let delay = (EACH * number).min(LONGEST_DELAY).mul_f64(chance());
            let keeping = self.keeping.clone();
            let before = table.leaving.remove(&key);
            let register = keeping.register(Arc::clone(&live), receiver.clone(), delay, before);
            let keeper = self.tasks.spawn(register);
            let keeping = self.keeping.clone();
            self.tasks.spawn(keeping.watch(Arc::clone(&live), receiver, delay));
            table.running.insert(key, Running { live, wanted: sender, keeper });
        }
        for key in left {
            // Its tasks end with the sender of their orders; they take the registration back.
            if let Some(running) = table.running.remove(&key) {
                table.leaving.insert(key, running.keeper);
            }
        }
        table.leaving.retain(|_, keeper| !keeper.is_finished());
        table.held = held;
    }

    /// Makes the index of who calls anew.
    fn index(&self) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.index = Index::new(table.running.values().filter_map(|running| running.live.known()).collect());
    }
}

fn wanted(settings: &Settings, contact_user: &str, is_ours: bool) -> Wanted {
    let trunk = &settings.trunk;
    let account = settings.account(contact_user).filter(|_| is_ours && settings.unreadable.is_none());
    let otherwise = match (&settings.unreadable, trunk.register) {
        (Some(cause), true) => (TrunkState::Failed, Some(cause.clone())),
        (_, true) => (TrunkState::Unregistered, None),
        (_, false) => (TrunkState::NotRegistering, None),
    };
    Wanted {
        account,
        otherwise,
        is_ours,
        target: settings.target().ok(),
        ping: (trunk.options_ping_s > 0).then(|| Duration::from_secs(trunk.options_ping_s.into())),
    }
}

/// Anything from 0 to 1.
fn chance() -> f64 {
    // Without randomness they begin at once, which is no harm.
    getrandom::u32().map_or(0.0, |number| f64::from(number) / f64::from(u32::MAX))
}

impl fmt::Debug for Trunks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Trunks").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

/// How many register for the first time at once.
const AT_ONCE: usize = 64;
/// How the first requests are spread, for each trunk that there is.
const EACH: Duration = Duration::from_millis(2);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// How long after its node has died another one takes a trunk.
const HOLD: Duration = Duration::from_secs(30);
/// Changes of states that wait to be written.
const MOST_CHANGES: usize = 4096;
const GOODBYE: Duration = Duration::from_secs(4);
