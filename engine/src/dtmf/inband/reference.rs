//! What all detectors share, computed once.

use std::f64::consts::TAU;
use std::sync::LazyLock;

use super::FREQUENCIES_HZ;
use crate::dsp::tone::FULL_SCALE_DBM0;
use crate::simd::{DTMF_WINDOW_STEPS, DtmfLimits, TONE_FREQUENCIES, TONE_STEP_SAMPLES, ToneBank};

pub(super) const RATE_HZ: f64 = 8000.0;
/// Samples that a candidate is measured over: 25 ms.
pub(super) const SPAN_SAMPLES: usize = 5 * TONE_STEP_SAMPLES;
/// Samples that are demodulated together.
pub(super) const BLOCK_SAMPLES: usize = 5;
pub(super) const BLOCKS: usize = SPAN_SAMPLES / BLOCK_SAMPLES;

pub(super) struct Reference {
    pub(super) bank: ToneBank,
    pub(super) limits: DtmfLimits,
    /// Cosine and minus sine of each DTMF frequency, then of each dial tone frequency.
    pub(super) tones: [[[f32; 2]; SPAN_SAMPLES]; MEASURED],
    /// A Hann window over the span, by block and by sample.
    pub(super) window: [f32; BLOCKS],
    /// Its square by sample.
    pub(super) weight: [f32; SPAN_SAMPLES],
    /// A Hann window over half the span, by block.
    pub(super) half_window: [f32; BLOCKS / 2],
}

/// Frequencies that can be measured: those of DTMF, then those of [`DIAL_TONES`].
pub(super) const MEASURED: usize = TONE_FREQUENCIES + DIAL_TONE_HZ.len();
const DIAL_TONE_HZ: [f64; 3] = [350.0, 425.0, 440.0];

/// Dial tones that may sound under a digit, as positions in [`Reference::tones`] (E.180 supplement 2): 350 and
/// 440 Hz, 425 Hz. Others would let through speech whose harmonics fall near the frequencies of a digit, with the
/// fundamental as dial tone.
pub(super) const DIAL_TONES: [&[usize]; 2] = [&[8, 10], &[9]];

/// The one and only.
pub(super) fn reference() -> &'static Reference {
    static REFERENCE: LazyLock<Reference> = LazyLock::new(Reference::new);
    &REFERENCE
}

impl Reference {
    fn new() -> Self {
        let bank = ToneBank::new(&FREQUENCIES_HZ.map(|frequency| frequency / RATE_HZ));
        let turn = |part: fn(f64) -> f64| {
            FREQUENCIES_HZ.map(|frequency| part(TAU * frequency / RATE_HZ * TONE_STEP_SAMPLES as f64) as f32)
        };
        let full = ToneBank::AMPLITUDE * (DTMF_WINDOW_STEPS * TONE_STEP_SAMPLES) as f64 / 2.0 * 32768.0;
        let floor = full * full * 10f64.powf((LEAST_DBM0 - FULL_SCALE_DBM0) / 10.0);
        let limits = DtmfLimits {
            // The sums of a step ago are behind by the angle of one step.
            turn: [turn(f64::cos), turn(f64::sin)],
            floor: floor as f32,
            row_over_column: ratio(ROW_OVER_COLUMN_DB + 1.0),
            column_over_row: ratio(COLUMN_OVER_ROW_DB + 1.0),
            others: 0.25,
        };
        let tone = |frequency: f64| {
            std::array::from_fn(|n| {
                let (sine, cosine) = (TAU * frequency / RATE_HZ * n as f64).sin_cos();
                [cosine as f32, -sine as f32]
            })
        };
        let hann = |position: f64, length: usize| 0.5 - 0.5 * (TAU * position / length as f64).cos();
        let block = BLOCK_SAMPLES as f64;
        Self {
            bank,
            limits,
            tones: std::array::from_fn(|k| {
                tone(FREQUENCIES_HZ.into_iter().chain(DIAL_TONE_HZ).nth(k).unwrap_or(0.0))
            }),
            window: std::array::from_fn(|b| hann((b as f64 + 0.5) * block, SPAN_SAMPLES) as f32),
            weight: std::array::from_fn(|n| hann(n as f64 + 0.5, SPAN_SAMPLES).powi(2) as f32),
            half_window: std::array::from_fn(|b| hann((b as f64 + 0.5) * block, SPAN_SAMPLES / 2) as f32),
        }
    }
}

/// Weaker tones are not heard.
const LEAST_DBM0: f64 = -43.0;
/// Twist that is accepted.
pub(super) const ROW_OVER_COLUMN_DB: f32 = 9.0;
pub(super) const COLUMN_OVER_ROW_DB: f32 = 5.0;

/// The ratio of power of so many dB.
pub(super) fn ratio(db: f32) -> f32 {
    10f32.powf(db / 10.0)
}
