//! The parts that the paths under `/api` work on.

use std::sync::Arc;

use crate::access::Gate;

/// What is behind `/api`, part by part.
#[derive(Clone, Debug)]
pub struct Control {
    /// Who may come in.
    pub gate: Arc<Gate>,
}
