//! Calls that are over, counted by provider: what alarms are made of.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::model::{CallRecord, RecordState};
use crate::telemetry::Exposition;

/// How many calls of each provider ended how, and how long they were.
#[derive(Debug, Default)]
pub(super) struct CallMeters {
    providers: Mutex<BTreeMap<String, Meter>>,
}

#[derive(Debug, Default)]
struct Meter {
    by_state: BTreeMap<&'static str, u64>,
    up_to: [u64; BOUNDS_S.len()],
    count: u64,
    sum_s: f64,
}

impl CallMeters {
    /// Counts a leg that is over.
    pub(super) fn count(&self, record: &CallRecord) {
        let mut providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        let provider = record.provider.as_deref().unwrap_or(NONE);
        let known = providers.contains_key(provider) || providers.len() < MOST_PROVIDERS;
        let meter = providers.entry(if known { provider } else { OTHER }.to_owned()).or_default();
        *meter.by_state.entry(record.state.name()).or_default() += 1;
        if let (RecordState::Completed, Some(duration)) = (record.state, record.duration_ms) {
            let seconds = duration as f64 / 1000.0;
            for (bound, count) in BOUNDS_S.iter().zip(&mut meter.up_to) {
                *count += u64::from(seconds <= *bound);
            }
            meter.count += 1;
            meter.sum_s += seconds;
        }
    }

    /// By the names that operators' boards have.
    pub(super) fn collect(&self, out: &mut Exposition) {
        let providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        for (provider, meter) in providers.iter() {
            for (status, count) in &meter.by_state {
                let labels = [("provider", provider.as_str()), ("status", *status)];
                out.counter("sip_calls", "Legs that are over, by how they ended", &labels, *count);
            }
            let labels = [("provider", provider.as_str())];
            let buckets = BOUNDS_S.into_iter().zip(meter.up_to);
            let help = "Answered legs, from answer to end, in seconds";
            out.histogram("sip_call_duration_seconds", help, &labels, buckets, meter.count, meter.sum_s);
        }
    }
}

const BOUNDS_S: [f64; 10] = [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
/// Tenants name providers; what is beyond this is counted together.
const MOST_PROVIDERS: usize = 100;
const OTHER: &str = "other";
/// Of no trunk.
const NONE: &str = "none";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Direction, TenantId};

    fn over(provider: Option<&str>, state: RecordState, duration_ms: Option<i64>) -> CallRecord {
        CallRecord {
            provider: provider.map(str::to_owned),
            state,
            duration_ms,
            ..CallRecord::new(TenantId::default(), Direction::Outbound)
        }
    }

    #[test]
    fn calls_are_counted_by_provider_and_end_and_the_providers_are_bounded() {
        let meters = CallMeters::default();
        meters.count(&over(Some("skyetel"), RecordState::Completed, Some(45_000)));
        meters.count(&over(Some("skyetel"), RecordState::Failed, None));
        meters.count(&over(None, RecordState::Busy, None));
        for number in 0..1000 {
            meters.count(&over(Some(&format!("p{number}")), RecordState::Failed, None));
        }
        let mut out = Exposition::default();
        meters.collect(&mut out);
        let text = out.to_string();
        for line in [
            "sip_calls_total{provider=\"skyetel\",status=\"completed\"} 1",
            "sip_calls_total{provider=\"skyetel\",status=\"failed\"} 1",
            "sip_calls_total{provider=\"none\",status=\"busy\"} 1",
            "sip_calls_total{provider=\"other\",status=\"failed\"} 902",
            "sip_call_duration_seconds_bucket{provider=\"skyetel\",le=\"30\"} 0",
            "sip_call_duration_seconds_bucket{provider=\"skyetel\",le=\"60\"} 1",
            "sip_call_duration_seconds_sum{provider=\"skyetel\"} 45",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
