//! The family of tone kernels: banks of correlators, and the first look for DTMF.

/// Correlation with tones, in steps of 5 ms at 8 kHz. A step's sums are a short-time spectrum at eight
/// frequencies; sums of successive steps, turned to a common phase, give longer windows that advance by
/// one step, at no more cost.
#[derive(Debug)]
pub struct Tones {
    /// For each whole step of `pcm`, the sum of products with each row of the bank. Handles as many
    /// steps as the shorter slice has. The sums fit for every input.
    pub correlate: fn(pcm: &[i16], bank: &ToneBank, sums: &mut [ToneSums]),
    /// Adds the steps to the window of a call, and says of each what DTMF pair stands out in the last
    /// [`DTMF_WINDOW_STEPS`] steps. `limits` are the rules. Handles as many steps as the shorter slice has.
    pub dtmf_steps:
        fn(sums: &[ToneSums], limits: &DtmfLimits, window: &mut DtmfWindow, steps: &mut [DtmfStep]),
}

/// Samples in a step.
pub const TONE_STEP_SAMPLES: usize = 40;

/// Frequencies of a bank.
pub const TONE_FREQUENCIES: usize = 8;

/// The steps that [`Tones::dtmf_steps`] looks at together: 15 ms.
pub const DTMF_WINDOW_STEPS: usize = 3;

/// Cosine sums of the eight frequencies of a bank, then their sine sums.
pub type ToneSums = [i32; 2 * TONE_FREQUENCIES];

/// Eight tones as reference signals: cosine and sine of one step, times [`ToneBank::AMPLITUDE`].
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct ToneBank {
    /// By pair of samples, row, sample of the pair.
    pub(in crate::simd) pairs: [[[i16; 2]; 2 * TONE_FREQUENCIES]; TONE_STEP_SAMPLES / 2],
}

impl ToneBank {
    /// 40 products with any sample stay within 32 bits.
    pub const AMPLITUDE: f64 = 1600.0;

    /// A bank for frequencies in cycles per sample.
    #[must_use]
    pub fn new(frequencies: &[f64; TONE_FREQUENCIES]) -> Self {
        let mut pairs = [[[0; 2]; 2 * TONE_FREQUENCIES]; TONE_STEP_SAMPLES / 2];
        for (n, pair) in pairs.iter_mut().enumerate() {
            for (k, frequency) in frequencies.iter().enumerate() {
                let angle = |late: usize| std::f64::consts::TAU * frequency * (2 * n + late) as f64;
                let reference = |part: f64| (Self::AMPLITUDE * part).round() as i16;
                pair[k] = [0, 1].map(|late| reference(angle(late).cos()));
                pair[k + TONE_FREQUENCIES] = [0, 1].map(|late| reference(-angle(late).sin()));
            }
        }
        Self { pairs }
    }
}

/// The earlier steps of a call's window, turned to the phase of the next step.
#[derive(Clone, Debug, Default)]
pub struct DtmfWindow {
    /// One step and two steps ago, each cosine sums, then sine sums.
    pub(in crate::simd) earlier: [[[f32; TONE_FREQUENCIES]; 2]; DTMF_WINDOW_STEPS - 1],
}

/// What makes a pair stand out, as ratios of power.
#[derive(Clone, Debug)]
pub struct DtmfLimits {
    /// Cosine and sine of the angle that each frequency advances in one step.
    pub turn: [[f32; TONE_FREQUENCIES]; 2],
    /// Least power of the row and of the column, in squared window sums.
    pub floor: f32,
    /// How much stronger than the column the row may be.
    pub row_over_column: f32,
    /// How much stronger than the row the column may be.
    pub column_over_row: f32,
    /// How strong the other three frequencies of a group may be together, beside the strongest.
    pub others: f32,
}

/// What one step ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DtmfStep {
    /// Four times the row plus the column, or [`DtmfStep::NOTHING`].
    pub pair: u8,
    /// The power of that pair in the whole window, in squared sums of one step; 0 without a pair.
    pub power: f32,
    /// The power of that pair in each step of the window alone, the newest last.
    pub parts: [f32; DTMF_WINDOW_STEPS],
}

impl DtmfStep {
    /// No pair.
    pub const NOTHING: u8 = u8::MAX;
    /// A step without a pair.
    pub const QUIET: Self = Self { pair: Self::NOTHING, power: 0.0, parts: [0.0; DTMF_WINDOW_STEPS] };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{available, kernels, scalar};

    fn bank() -> ToneBank {
        ToneBank::new(&[0.0, 0.01, 0.087, 0.1, 0.151, 0.2, 0.31, 0.5])
    }

    /// Noise at full scale, tones at full scale, the extremes, silence, and faint noise, one after another.
    fn audio() -> Vec<i16> {
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) as i16
        };
        let tone = |n: usize| (f64::from(i16::MAX) * (n as f64 * 0.087 * std::f64::consts::TAU).sin()) as i16;
        let mut audio: Vec<i16> = (0..400).map(|_| next()).collect();
        audio.extend((0..400).map(tone));
        audio.extend((0..400).map(|n| if n % 2 == 0 { i16::MIN } else { i16::MAX }));
        audio.extend([i16::MIN; 400]);
        audio.extend([0; 200]);
        audio.extend((0..400).map(|_| next() >> 11));
        audio
    }

    #[test]
    fn every_table_correlates_as_the_scalar_does() {
        let (audio, bank) = (audio(), bank());
        for kernels in available() {
            for length in 0..=410 {
                for offset in [1, 700, 1210, audio.len() - length] {
                    let pcm = &audio[offset..][..length];
                    for room in [3, 11] {
                        let mut sums = vec![[77; 16]; room];
                        let mut expected = sums.clone();
                        (kernels.tones.correlate)(pcm, &bank, &mut sums);
                        scalar::tones::correlate(pcm, &bank, &mut expected);
                        assert_eq!(sums, expected, "{}: {length} from {offset}", kernels.name);
                    }
                }
            }
        }
    }

    #[test]
    fn correlation_is_that_of_the_definition() {
        let mut pcm = [0; TONE_STEP_SAMPLES];
        for (n, sample) in pcm.iter_mut().enumerate() {
            *sample = (20_000.0 * (std::f64::consts::TAU * 0.1 * n as f64).cos()).round() as i16;
        }
        let mut sums = [[0; 16]];
        (kernels().tones.correlate)(&pcm, &bank(), &mut sums);
        let [sums] = sums;
        let whole = 20_000.0 * ToneBank::AMPLITUDE * 20.0;
        assert!((f64::from(sums[3]) / whole - 1.0).abs() < 1e-3, "{sums:?}");
        assert!(f64::from(sums[11]).abs() < whole * 1e-3, "{sums:?}");
        // Four whole periods beside the tone.
        assert!(f64::from(sums[5]).abs() < whole * 1e-3, "{sums:?}");
    }

    #[test]
    fn sums_of_the_loudest_audio_do_not_overflow() {
        // At frequency 0 every product has the same sign.
        let mut sums = [[0; 16]];
        for sample in [i16::MIN, i16::MAX] {
            scalar::tones::correlate(&[sample; TONE_STEP_SAMPLES], &bank(), &mut sums);
            assert_eq!(i64::from(sums[0][0]), i64::from(sample) * 1600 * 40);
        }
    }

    #[test]
    fn every_table_finds_the_steps_that_the_scalar_finds() {
        let limits = DtmfLimits {
            turn: [
                [0.6, -0.8, 1.0, 0.0, -1.0, 0.28, 0.96, -0.6],
                [0.8, 0.6, 0.0, 1.0, 0.0, 0.96, -0.28, 0.8],
            ],
            floor: 1e12,
            row_over_column: 8.0,
            column_over_row: 3.0,
            others: 1.2,
        };
        let mut sums = vec![[0; 16]; audio().len() / TONE_STEP_SAMPLES];
        scalar::tones::correlate(&audio(), &bank(), &mut sums);
        let mut random = 3u32;
        sums.extend((0..500).map(|_| {
            std::array::from_fn(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                random as i32 >> (random & 7)
            })
        }));
        sums.push([i32::MIN; 16]);
        sums.push([i32::MAX; 16]);
        let mut expected = vec![DtmfStep::QUIET; sums.len()];
        scalar::tones::dtmf_steps(&sums, &limits, &mut DtmfWindow::default(), &mut expected);
        let found = expected.iter().filter(|step| step.pair != DtmfStep::NOTHING).count();
        assert!(found > 20 && found < sums.len() - 100, "{found} of {}", sums.len());
        for kernels in available() {
            for piece in [1, 2, 3, 4, 7, sums.len()] {
                let mut window = DtmfWindow::default();
                let mut steps = vec![DtmfStep::QUIET; sums.len()];
                for (sums, steps) in sums.chunks(piece).zip(steps.chunks_mut(piece)) {
                    (kernels.tones.dtmf_steps)(sums, &limits, &mut window, steps);
                }
                assert_eq!(steps, expected, "{} by {piece}", kernels.name);
            }
        }
    }
}
