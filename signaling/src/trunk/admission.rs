//! How many calls a trunk carries, and how many begin in a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

xdp::counters! {
    /// What happened to calls that wanted a trunk.
    pub struct TrunkCounters {
        admitted_inbound: "Calls from trunks that were let in",
        admitted_outbound: "Calls to trunks that were let out",
        refused_concurrent: "Calls refused because their trunk carries as many as it may",
        refused_rate: "Calls refused because their trunk gets too many in a second",
        refused_inactive: "Calls refused because their trunk is not in use, or not this way",
        refused_address: "Calls to a trunk's Contact from an address that is not its own",
        challenged: "Calls that were asked for a trunk's password",
        refused_password: "Calls that did not know a trunk's password",
        ambiguous: "Calls whose address belongs to trunks of several tenants",
        unknown: "Calls of no trunk",
        refused_unknown: "Calls of no trunk that were refused for it",
        registrations: "Registrations that came to hold",
        registrations_lost: "Registrations that were refused or ran out",
        pings: "OPTIONS sent to trunks",
        pings_unanswered: "OPTIONS that no answer came to",
        states_dropped: "State changes that were not kept because the store was too slow",
    }
}

/// Why a call may not use a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many calls as it may carry.
    #[error("the trunk carries as many calls as it may; raise max_concurrent_calls or try another")]
    Concurrent,
    /// More than it may get in a second.
    #[error("the trunk gets more calls per second than it may; raise calls_per_second_limit or try again")]
    Rate,
    /// Not in use.
    #[error("the trunk is not active; POST /api/trunks/{{id}}/activate")]
    Inactive,
    /// Not for calls this way.
    #[error("the trunk does not take calls this way; see supports_inbound and supports_outbound")]
    Direction,
}

/// A trunk's limits and what uses them. The limits may change while calls run.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    concurrent: u32,
    per_second: u32,
    running: u32,
    /// What is left of this second's calls (a token bucket of one second's worth).
    tokens: f64,
    filled: Option<Instant>,
}

impl Gate {
    pub(crate) fn new(concurrent: u32, per_second: u32) -> Self {
        let tokens = f64::from(per_second);
        Self { state: Mutex::new(State { concurrent, per_second, running: 0, tokens, filled: None }) }
    }

    /// New limits; calls that run stay.
    pub(crate) fn limit(&self, concurrent: u32, per_second: u32) {
        let mut state = self.lock();
        // Who raises the limit means the next call, not the next second.
        state.tokens += f64::from(per_second.saturating_sub(state.per_second));
        (state.concurrent, state.per_second) = (concurrent, per_second);
        state.tokens = state.tokens.min(f64::from(per_second));
    }

    /// Calls that run.
    pub(crate) fn running(&self) -> u32 {
        self.lock().running
    }

    pub(crate) fn admit(self: &Arc<Self>, now: Instant) -> Result<Admission, Refused> {
        let mut state = self.lock();
        if state.running >= state.concurrent {
            return Err(Refused::Concurrent);
        }
        let rate = f64::from(state.per_second);
        let passed = state.filled.map_or(0.0, |filled| now.saturating_duration_since(filled).as_secs_f64());
        state.tokens = passed.mul_add(rate, state.tokens).min(rate);
        state.filled = Some(state.filled.map_or(now, |filled| filled.max(now)));
        if state.tokens < 1.0 {
            return Err(Refused::Rate);
        }
        state.tokens -= 1.0;
        state.running += 1;
        Ok(Admission { gate: Arc::clone(self) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place on a trunk, given back when it is dropped.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct Admission {
    gate: Arc<Gate>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.running = state.running.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn calls_at_once_are_limited_and_a_place_comes_back() {
        let gate = Arc::new(Gate::new(2, 100));
        let now = Instant::now();
        let first = gate.admit(now).expect("a place");
        let _second = gate.admit(now).expect("a place");
        assert_eq!(gate.admit(now).err(), Some(Refused::Concurrent));
        drop(first);
        assert_eq!(gate.running(), 1);
        assert!(gate.admit(now).is_ok());
    }

    #[test]
    fn calls_per_second_are_limited_over_any_second() {
        let gate = Arc::new(Gate::new(100_000, 10));
        let start = Instant::now();
        let mut places = Vec::new();
        let mut taken = |millis: u64, tries: usize| {
            let now = start + Duration::from_millis(millis);
            let before = places.len();
            places.extend((0..tries).filter_map(|_| gate.admit(now).ok()));
            places.len() - before
        };
        assert_eq!(taken(0, 50), 10);
        assert_eq!(taken(250, 50), 2);
        assert_eq!(taken(1_050, 50), 8);
        assert_eq!(taken(60_000, 50), 10, "no more than a second's worth after a rest");
        assert_eq!(taken(59_000, 50), 0, "a clock that goes back gives nothing");
    }

    #[test]
    fn limits_change_at_once_and_running_calls_stay() {
        let gate = Arc::new(Gate::new(2, 2));
        let now = Instant::now();
        let places = [gate.admit(now), gate.admit(now)];
        assert!(places.iter().all(Result::is_ok));
        gate.limit(1, 50);
        assert_eq!(gate.running(), 2);
        assert_eq!(gate.admit(now).err(), Some(Refused::Concurrent));
        gate.limit(1000, 50);
        let more: Vec<_> = (0..100).map_while(|_| gate.admit(now).ok()).collect();
        assert_eq!(more.len(), 48, "what the new limit has more than the old one is there at once");
        gate.limit(1000, 1);
        assert_eq!(gate.admit(now).err(), Some(Refused::Rate));
    }
}
