//! Trunks in this process: its name among nodes, and their metrics.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use signaling::model::{PingState, TrunkState};
use signaling::telemetry::Exposition;
use signaling::trunk::Trunks;

/// What tells this process from others on the same store, and is the same after a restart: the host, and the data
/// folder for several on one host.
pub(crate) fn node(data_dir: &Path) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let folder = std::fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    let host: String = host.trim().chars().filter(|c| !c.is_control()).take(64).collect();
    format!("{host}-{:08x}", hasher.finish() >> 32)
}

/// All trunks in use, by provider.
pub(crate) fn metrics(out: &mut Exposition, trunks: &Trunks) {
    let counters = trunks.counters();
    counters.for_each(|name, help, value| out.counter(&format!("sidetone_trunk_{name}"), help, &[], value));
    let mut providers: BTreeMap<String, Provider> = BTreeMap::new();
    for (provider, state, ping, calls, cost) in trunks.overview() {
        let known = providers.contains_key(&provider) || providers.len() < MOST_PROVIDERS;
        let entry = providers.entry(if known { provider } else { OTHER.to_owned() }).or_default();
        *entry.states.entry(state.name()).or_default() += 1;
        entry.down += u64::from(ping == PingState::Down);
        entry.lost += u64::from(!state.is_usable());
        entry.calls += u64::from(calls);
        entry.cost = entry.cost.max(cost);
    }
    for (name, provider) in &providers {
        let labels = [("provider", name.as_str())];
        let help = "1 while every active trunk of the provider is registered or need not be, else 0";
        out.gauge("sip_trunk_registration_status", help, &labels, u64::from(provider.lost == 0));
        let help = "What a minute costs, by the dearest active trunk of the provider";
        out.gauge("sip_trunk_cost_per_minute", help, &labels, provider.cost);
        let help = "Calls that the provider's trunks carry";
        out.gauge("sidetone_trunk_calls", help, &labels, provider.calls);
        let help = "Active trunks of the provider that do not answer OPTIONS";
        out.gauge("sidetone_trunks_unanswering", help, &labels, provider.down);
        for state in TrunkState::ALL {
            let labels = [("provider", name.as_str()), ("state", state.name())];
            let number = provider.states.get(state.name()).copied().unwrap_or(0);
            out.gauge("sidetone_trunks", "Active trunks of the provider in the state", &labels, number);
        }
    }
}

#[derive(Default)]
struct Provider {
    states: BTreeMap<&'static str, u64>,
    down: u64,
    /// Not registered, and ought to be.
    lost: u64,
    calls: u64,
    cost: f64,
}

/// Tenants name providers; what is beyond this is counted together.
const MOST_PROVIDERS: usize = 100;
const OTHER: &str = "other";
