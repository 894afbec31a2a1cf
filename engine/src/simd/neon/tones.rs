//! Tones.

use crate::simd::door::neon;
use crate::simd::scalar;
use crate::simd::tones::{DtmfLimits, DtmfStep, DtmfWindow, ToneBank, ToneSums, Tones};

/// The family in this table.
pub(in crate::simd) const KERNELS: Tones = Tones { correlate, dtmf_steps };

neon! {
    fn correlate(pcm: &[i16], bank: &ToneBank, sums: &mut [ToneSums]) {
        scalar::tones::correlate(pcm, bank, sums);
    }

    fn dtmf_steps(sums: &[ToneSums], limits: &DtmfLimits, window: &mut DtmfWindow, steps: &mut [DtmfStep]) {
        scalar::tones::dtmf_steps(sums, limits, window, steps);
    }
}
