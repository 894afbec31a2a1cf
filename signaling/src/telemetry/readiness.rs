//! Whether new calls are welcome.

use std::sync::atomic::{AtomicU8, Ordering};

/// The life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not everything listens yet.
    Starting,
    /// Calls are taken.
    Serving,
    /// Calls end; no new ones are taken.
    Draining,
}

/// The phase, shared between whoever changes it and whoever reports it.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }
}
