//! The family of G.722 kernels.

#[cfg(target_arch = "x86_64")]
mod filters;
mod lanes;
pub(crate) mod tables;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub(super) use filters::filters;
pub(super) use lanes::{band, lanes};

/// ITU-T G.722 on slices, and on many calls at once.
#[derive(Debug)]
pub struct G722 {
    /// The transmit filter (figure 4): splits audio into the two bands. Takes 22 samples of the past and then
    /// two new ones for each value that both `lower` and `higher` have room for; with a shorter `audio` it does
    /// as many as there are. Both bands are within 15 bits.
    pub split: fn(audio: &[i16], lower: &mut [i16], higher: &mut [i16]),
    /// The receive filter (figure 5): joins what are the sums and the differences of the bands, one after the
    /// other. Takes 22 values of the past and then two new ones for every two samples of `audio`; with a
    /// shorter `bands` it does as many as there are.
    pub join: fn(bands: &[i16], audio: &mut [i16]),
    /// The ADPCM encoders of both bands, for as many rows as both slices have: from signals within 15 bits (the
    /// lower band and the higher) to octets, each in a word. Only the state of the `active` lanes (all bits set)
    /// goes on; what is in the other lanes does not matter, and what comes out there means nothing.
    pub encode: fn(state: &mut StateLanes, active: &Lane, signals: &[[Lane; 2]], octets: &mut [Lane]),
    /// The ADPCM decoders of both bands at 64 kbit/s: from octets, each in a word, to signals within 15 bits.
    pub decode: fn(state: &mut StateLanes, active: &Lane, octets: &[Lane], signals: &mut [[Lane; 2]]),
}

/// Calls that are coded at one time.
pub const LANES: usize = 32;

/// A word of every call.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Lane(pub [i16; LANES]);

impl Lane {
    /// Zero in every call.
    pub const ZERO: Self = Self([0; LANES]);
}

/// The state of 32 calls, word by word.
#[derive(Clone, Debug)]
pub struct StateLanes {
    pub(super) lower: BandLanes,
    pub(super) higher: BandLanes,
}

impl StateLanes {
    /// All calls after a reset.
    #[must_use]
    pub const fn new() -> Self {
        Self { lower: BandLanes::new(32), higher: BandLanes::new(8) }
    }

    /// Resets one call.
    pub fn reset(&mut self, call: usize) {
        self.lower.reset(call, 32);
        self.higher.reset(call, 8);
    }
}

impl Default for StateLanes {
    fn default() -> Self {
        Self::new()
    }
}

/// One band; what the words are stands at the single coder (`codec::g722`).
#[derive(Clone, Debug)]
pub(super) struct BandLanes {
    pub(super) estimate: Lane,
    pub(super) scale: Lane,
    pub(super) log_scale: Lane,
    pub(super) zero_estimate: Lane,
    /// Twice the signal, saturated: all that is needed of it.
    pub(super) reconstructed: Lane,
    pub(super) partials: [Lane; 2],
    pub(super) poles: [Lane; 2],
    /// Twice the differences.
    pub(super) differences: [Lane; 6],
    pub(super) zeros: [Lane; 6],
}

impl BandLanes {
    const fn new(scale: i16) -> Self {
        Self {
            estimate: Lane::ZERO,
            scale: Lane([scale; LANES]),
            log_scale: Lane::ZERO,
            zero_estimate: Lane::ZERO,
            reconstructed: Lane::ZERO,
            partials: [Lane::ZERO; 2],
            poles: [Lane::ZERO; 2],
            differences: [Lane::ZERO; 6],
            zeros: [Lane::ZERO; 6],
        }
    }

    fn reset(&mut self, call: usize, scale: i16) {
        let Self { estimate, scale: scales, log_scale, zero_estimate, reconstructed, .. } = self;
        scales.0[call] = scale;
        let single = [estimate, log_scale, zero_estimate, reconstructed].into_iter();
        let pairs = self.partials.iter_mut().chain(&mut self.poles);
        for lane in single.chain(pairs).chain(&mut self.differences).chain(&mut self.zeros) {
            lane.0[call] = 0;
        }
    }
}
