//! What a leg's record says, from what a call knows.

use engine::ai::AiFigures;
use engine::stream::StreamStatistics;

use crate::call::{CallEnd, CallSummary, Identity};
use crate::model::{CallRecord, HangUpSide};
use crate::record::{AiView, Ending, RecordedLeg, clean, quality};

/// What is left of an answered call.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) end: CallEnd,
    /// As the table showed it last.
    pub(super) summary: Option<CallSummary>,
    pub(super) statistics: Option<StreamStatistics>,
    pub(super) figures: Option<AiFigures>,
}

/// The record of a leg that begins now.
pub(super) fn record(identity: &Identity, sip_call_id: &str) -> CallRecord {
    CallRecord {
        id: identity.leg,
        call: identity.call,
        sip_call_id: clean(sip_call_id, LONGEST),
        from_number: clean(&identity.from, LONGEST),
        to_number: clean(&identity.to, LONGEST),
        trunk_id: identity.trunk.clone(),
        ..CallRecord::new(identity.tenant.clone(), identity.direction)
    }
}

/// Closes the record of an answered call whose other side is `peer`.
pub(super) fn close(mut leg: RecordedLeg, over: &Over, peer: HangUpSide) {
    leg.change(|record| {
        if let Some(summary) = &over.summary {
            tell(record, summary);
        }
        record.quality = over.statistics.as_ref().map(quality);
        record.ai = over.figures.as_ref().and_then(|figures| serde_json::to_value(AiView::new(figures)).ok());
    });
    leg.end(&Ending::of(&over.end, peer));
}

/// What the table knows.
pub(super) fn tell(record: &mut CallRecord, summary: &CallSummary) {
    record.app = Some(summary.app.to_owned());
    record.agent.clone_from(&summary.agent);
    record.codec = summary.codec.map(|codec| codec.name().to_owned());
    record.remote_rtp = summary.remote_rtp.map(|address| address.to_string());
}

/// No number, user or Call-ID that is meant is longer.
const LONGEST: usize = 128;
