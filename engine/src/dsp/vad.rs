//! Voice activity detection.
//!
//! [`EnergyVad`] looks at the power of whole frames and needs next to nothing, less still when the power has
//! been measured anyway ([`VadBank`] takes it from the mixer's or the decoder's pass). [`NeuralVad`] tells
//! speech from other sounds and costs some microseconds per frame. Figures of both are in
//! docs/decisions/0008-vad-and-noise-suppression.md.

mod energy;
mod neural;
#[cfg(test)]
mod tests;

pub use energy::{EnergyVad, VadBank};
pub use neural::{NeuralVad, UnsupportedRate};

/// A detector for one call.
#[derive(Debug)]
pub enum Vad {
    /// By power alone.
    Energy(EnergyVad),
    /// By a neural network.
    Neural(Box<NeuralVad>),
}

impl Vad {
    /// Whether somebody speaks in this frame, or did a moment ago.
    pub fn handle_frame(&mut self, pcm: &[i16]) -> bool {
        match self {
            Self::Energy(vad) => vad.handle_frame(pcm),
            Self::Neural(vad) => vad.handle_frame(pcm),
        }
    }
}
