//! Whether new calls are welcome.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

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
pub struct Readiness {
    phase: AtomicU8,
    notes: Mutex<BTreeMap<&'static str, String>>,
}

impl Readiness {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// Says what does not work as it should while calls are still taken; `None` when it does again.
    pub fn note(&self, part: &'static str, what: Option<String>) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => notes.insert(part, what),
            None => notes.remove(part),
        };
    }

    /// What does not work as it should.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
