//! The exact look at something that sounds like a digit.

use super::FREQUENCIES_HZ;
use super::reference::{
    BLOCK_SAMPLES, BLOCKS, COLUMN_OVER_ROW_DB, DIAL_TONES, RATE_HZ, ROW_OVER_COLUMN_DB, Reference,
    SPAN_SAMPLES, ratio,
};
use crate::dsp::tone::FULL_SCALE_DBM0;

/// Two tones as they were measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) row_dbm0: f32,
    pub(super) column_dbm0: f32,
}

/// What must be true beyond the kernel's limits.
const OFF_FREQUENCY: f32 = 0.0235;
const OFF_FREQUENCY_HZ: f32 = 1.0;
/// How much a tone may change from the first half of the span to the second, in power.
const CHANGE: f32 = 2.5;
/// The part of all power that the two tones must have.
const PURITY: f32 = 0.92;
/// The same where a dial tone was taken out, which speech near its frequencies would profit from.
const PURITY_WITHOUT_DIAL_TONE: f32 = 0.94;

/// Measures the pair over the span; `None` if it is no digit.
pub(super) fn measure(reference: &Reference, audio: &[i16; SPAN_SAMPLES], pair: u8) -> Option<Measured> {
    let (row, column) = (usize::from(pair / 4), 4 + usize::from(pair % 4));
    let mut samples = audio.map(f32::from);
    let row_tone = Tone::find(reference, &samples, row)?;
    let column_tone = Tone::find(reference, &samples, column)?;
    let (row_power, column_power) = (row_tone.power(), column_tone.power());
    if row_power > column_power * ratio(ROW_OVER_COLUMN_DB)
        || column_power > row_power * ratio(COLUMN_OVER_ROW_DB)
    {
        return None;
    }
    let tones = (row_power + column_power) * 0.5 * reference.weight.iter().sum::<f32>();
    if tones < PURITY * energy(reference, &samples) {
        row_tone.subtract(reference, &mut samples);
        column_tone.subtract(reference, &mut samples);
        // What is left may be a dial tone.
        let is_pure =
            |dial: &&[usize]| tones >= PURITY_WITHOUT_DIAL_TONE * (tones + rest(reference, samples, dial));
        if !DIAL_TONES.iter().any(is_pure) {
            return None;
        }
    }
    Some(Measured { row_dbm0: dbm0(row_power), column_dbm0: dbm0(column_power) })
}

/// The energy that is left when tones at these frequencies are taken out.
fn rest(reference: &Reference, mut samples: [f32; SPAN_SAMPLES], tones: &[usize]) -> f32 {
    // Again, since neighbours see something of each other.
    for _ in 0..3 {
        for &tone in tones {
            Tone::at(reference, &samples, tone, 0.0).subtract(reference, &mut samples);
        }
    }
    energy(reference, &samples)
}

fn energy(reference: &Reference, samples: &[f32; SPAN_SAMPLES]) -> f32 {
    // Eight sums, an order of additions that vectors can keep.
    let mut sums = [0.0; 8];
    for (samples, weights) in samples.as_chunks::<8>().0.iter().zip(reference.weight.as_chunks::<8>().0) {
        for ((sum, sample), weight) in sums.iter_mut().zip(samples).zip(weights) {
            *sum += sample * sample * weight;
        }
    }
    sums.iter().sum()
}

fn dbm0(power: f32) -> f32 {
    10.0 * (power / (32768.0 * 32768.0)).log10() + FULL_SCALE_DBM0 as f32
}

type Complex = [f32; 2];

fn times(a: Complex, b: Complex) -> Complex {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

/// One tone of the span.
struct Tone {
    frequency: usize,
    /// Radians per sample beside that frequency.
    off: f32,
    amplitude: Complex,
}

impl Tone {
    /// The tone near one of the DTMF frequencies; `None` if it is too far off or not steady.
    fn find(reference: &Reference, samples: &[f32; SPAN_SAMPLES], frequency: usize) -> Option<Self> {
        let blocks = demodulate(reference, samples, frequency);
        // The first half, the middle half and the second half.
        let [first, middle, last] = [0, BLOCKS / 4, BLOCKS / 2].map(|begin| {
            blocks.iter().skip(begin).zip(&reference.half_window).fold([0.0; 2], |sum, (block, weight)| {
                [sum[0] + block[0] * weight, sum[1] + block[1] * weight]
            })
        });
        let before = first[0] * first[0] + first[1] * first[1];
        let after = last[0] * last[0] + last[1] * last[1];
        if before > after * CHANGE || after > before * CHANGE {
            return None;
        }
        let conjugate = |z: Complex| [z[0], -z[1]];
        let early = times(middle, conjugate(first));
        let late = times(last, conjugate(middle));
        let quarter = [early[0] + late[0], early[1] + late[1]];
        let off = quarter[1].atan2(quarter[0]) / (SPAN_SAMPLES / 4) as f32;
        let nominal = FREQUENCIES_HZ[frequency] as f32;
        let off_hz = off * (RATE_HZ / std::f64::consts::TAU) as f32;
        if off_hz.abs() > nominal * OFF_FREQUENCY + OFF_FREQUENCY_HZ {
            return None;
        }
        Some(Self::of_blocks(reference, &blocks, frequency, off))
    }

    /// What is at a frequency that is known.
    fn at(reference: &Reference, samples: &[f32; SPAN_SAMPLES], frequency: usize, off: f32) -> Self {
        Self::of_blocks(reference, &demodulate(reference, samples, frequency), frequency, off)
    }

    fn of_blocks(reference: &Reference, blocks: &[Complex; BLOCKS], frequency: usize, off: f32) -> Self {
        let (sine, cosine) = (off * BLOCK_SAMPLES as f32).sin_cos();
        let (first_sine, first_cosine) = (off * (BLOCK_SAMPLES as f32 - 1.0) / 2.0).sin_cos();
        let mut turn = [first_cosine, -first_sine];
        let mut sum = [0.0; 2];
        let mut weights = 0.0;
        for (block, weight) in blocks.iter().zip(&reference.window) {
            let turned = times(*block, turn);
            sum = [sum[0] + turned[0] * weight, sum[1] + turned[1] * weight];
            weights += weight;
            turn = times(turn, [cosine, -sine]);
        }
        let scale = 2.0 / (weights * BLOCK_SAMPLES as f32);
        Self { frequency, off, amplitude: [sum[0] * scale, sum[1] * scale] }
    }

    fn power(&self) -> f32 {
        self.amplitude[0] * self.amplitude[0] + self.amplitude[1] * self.amplitude[1]
    }

    fn subtract(&self, reference: &Reference, samples: &mut [f32; SPAN_SAMPLES]) {
        let (sine, cosine) = self.off.sin_cos();
        let mut phasor = self.amplitude;
        for (sample, [re, minus_im]) in samples.iter_mut().zip(&reference.tones[self.frequency]) {
            *sample -= phasor[0] * re + phasor[1] * minus_im;
            phasor = times(phasor, [cosine, sine]);
        }
    }
}

/// Moves a frequency to zero and adds up blocks.
fn demodulate(reference: &Reference, samples: &[f32; SPAN_SAMPLES], frequency: usize) -> [Complex; BLOCKS] {
    let samples = samples.as_chunks::<BLOCK_SAMPLES>().0;
    let tones = reference.tones[frequency].as_chunks::<BLOCK_SAMPLES>().0;
    std::array::from_fn(|b| {
        samples[b]
            .iter()
            .zip(&tones[b])
            .fold([0.0; 2], |sum, (sample, tone)| [sum[0] + sample * tone[0], sum[1] + sample * tone[1]])
    })
}
