//! The parts that the paths under `/api` work on.

use std::sync::Arc;

use crate::access::Gate;
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
}
