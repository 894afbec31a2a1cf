//! The parts that the paths under `/api` work on.

use std::sync::Arc;

use super::problem::Problem;
use crate::access::Gate;
use crate::apps::{Batches, Outbound};
use crate::event::Events;
use crate::trunk::Trunks;

/// What is behind `/api`, part by part.
#[derive(Clone, Debug)]
pub struct Control {
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// The delivery of events.
    pub events: Events,
    /// The trunks in use.
    pub trunks: Trunks,
    /// What makes calls; a process that makes none has none.
    pub outbound: Option<Arc<Outbound>>,
    /// Many calls at a time.
    pub batches: Batches,
}

impl Control {
    /// What makes calls.
    pub(super) fn outbound(&self) -> Result<&Arc<Outbound>, Problem> {
        self.outbound.as_ref().ok_or_else(|| Problem::unavailable("this process makes no calls"))
    }
}
