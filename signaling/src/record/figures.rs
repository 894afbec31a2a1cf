//! The figures of an AI stream as JSON.

use engine::ai::{AiFigures, Distribution};
use serde::Serialize;

use crate::call::milliseconds;

/// [`AiFigures`] as JSON; times in milliseconds.
#[derive(Serialize)]
pub(crate) struct AiView {
    connect_ms: f64,
    reconnects: u32,
    first_audio_ms: Option<f64>,
    response: DistributionView,
    barge_in_stop: DistributionView,
    queue: DistributionView,
    barge_ins: u64,
    marks: u64,
    bot_audio_dropped_ms: f64,
    caller_audio_dropped_ms: f64,
    budget_exceeded: u64,
    underruns: u64,
}

/// [`Distribution`] as JSON; times in milliseconds.
#[derive(Serialize)]
struct DistributionView {
    count: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

impl AiView {
    pub(crate) fn new(figures: &AiFigures) -> Self {
        Self {
            connect_ms: milliseconds(figures.connect),
            reconnects: figures.reconnects,
            first_audio_ms: figures.first_audio.map(milliseconds),
            response: DistributionView::new(&figures.response),
            barge_in_stop: DistributionView::new(&figures.barge_in_stop),
            queue: DistributionView::new(&figures.queue),
            barge_ins: figures.barge_ins,
            marks: figures.marks,
            bot_audio_dropped_ms: milliseconds(figures.bot_audio_dropped),
            caller_audio_dropped_ms: milliseconds(figures.caller_audio_dropped),
            budget_exceeded: figures.budget_exceeded,
            underruns: figures.underruns,
        }
    }
}

impl DistributionView {
    fn new(distribution: &Distribution) -> Self {
        Self {
            count: distribution.count,
            p50_ms: milliseconds(distribution.p50),
            p90_ms: milliseconds(distribution.p90),
            p99_ms: milliseconds(distribution.p99),
            max_ms: milliseconds(distribution.max),
        }
    }
}
