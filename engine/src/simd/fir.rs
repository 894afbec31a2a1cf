//! The family of filters: polyphase FIR on 16-bit samples, with 32-bit integer sums.

/// Filters for resampling.
#[derive(Debug)]
pub struct Fir {
    /// Filters `window` through the phases of `bank` in turn, from `phase` (below [`FirBank::phases`]) on.
    ///
    /// Output `j` has phase `(phase + j) % phases`. Its taps lie on the window from sample
    /// `(phase + j) * step / phases - phase * step / phases` on (whole divisions). Outputs whose row of
    /// [`FirBank::width`] taps would reach beyond the window are left as they are.
    pub polyphase: fn(bank: &FirBank, phase: usize, window: &[i16], output: &mut [i16]),
}

/// The coefficients of a rational filter: for every `step` input samples, `phases` outputs.
///
/// 16-bit coefficients of one scale are too coarse for a stopband of 100 dB, and 32-bit ones cost four times as
/// much. So all taps have a *fine* coefficient, and the large ones in the middle a *coarse* one besides, of which
/// the fine one is the rest. An output is
/// `saturate(((half + sum(fine * sample)) >> shift) + sum(coarse * sample) >> bits)`, `half` rounding the whole;
/// the sums are sure not to overflow, as [`FirBank::new`] has looked at them.
#[derive(Debug)]
pub struct FirBank {
    pub(super) phases: usize,
    pub(super) step: usize,
    /// Taps of a row, a multiple of [`ROW`].
    pub(super) width: usize,
    /// `phases` rows of fine coefficients.
    pub(super) fine: Box<[i16]>,
    /// Where in a row the coarse coefficients begin.
    pub(super) coarse_first: usize,
    /// Coarse coefficients of a row, a multiple of [`ROW`].
    pub(super) coarse_width: usize,
    pub(super) coarse: Box<[i16]>,
    /// How many bits finer the fine coefficients are.
    pub(super) shift: u32,
    /// Fraction bits of the coarse coefficients.
    pub(super) bits: u32,
    pub(super) lanes: Option<Lanes>,
}

/// The same coefficients for kernels that compute one phase of many groups at once, a group in each lane. Samples
/// are taken in pairs, so a group has an even number of them: `step` and `phases` are twice the bank's when its
/// own step is odd.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) phases: usize,
    pub(super) step: usize,
    /// Fine coefficients, `[pair][phase]`, of all pairs from the group's first sample of the window on.
    pub(super) fine: Box<[[i16; 2]]>,
    /// The first pair with coarse coefficients.
    pub(super) coarse_first: usize,
    /// Coarse coefficients, `[pair][phase]`.
    pub(super) coarse: Box<[[i16; 2]]>,
}

/// Rows of coefficients are a multiple of this long.
pub(super) const ROW: usize = 16;
/// Beyond so many phases, groups are too long for lanes.
pub(super) const LANE_PHASES: usize = 12;
/// The most pairs of taps, in steps: a vector of groups looks at so many pairs more in every second place of a step.
pub(super) const LANE_PAIRS: usize = 64;

impl FirBank {
    /// A bank of `phases` rows of `taps` coefficients each, all rows in one slice. Coefficients are kept to at
    /// least `fraction_bits` bits after the point.
    ///
    /// # Panics
    ///
    /// When the rows are empty or not of one length, when a row has an absolute sum of 4 or more, or when `step`
    /// or `phases` is 0: coefficients are the program's own.
    #[must_use]
    pub fn new(phases: usize, step: usize, rows: &[f64], fraction_bits: u32) -> Self {
        assert!(phases > 0 && step > 0 && !rows.is_empty() && rows.len().is_multiple_of(phases));
        let taps = rows.len() / phases;
        let rows: Vec<&[f64]> = rows.chunks_exact(taps).collect();
        let bits = coarse_bits(&rows);
        let split = Split { bits, shift: fraction_bits.clamp(bits + 5, bits + 13) - bits };
        let margin = split.margin(&rows, taps);

        let width = taps.next_multiple_of(ROW);
        let coarse_width = (taps - 2 * margin).next_multiple_of(ROW);
        let coarse_first = margin.min(width - coarse_width);
        let mut fine = vec![0; phases * width];
        let mut coarse = vec![0; phases * coarse_width];
        for (phase, row) in rows.iter().enumerate() {
            for (tap, &coefficient) in row.iter().enumerate() {
                let is_coarse = (margin..taps - margin).contains(&tap);
                let (large, rest) = split.of(coefficient, is_coarse);
                fine[phase * width + tap] = rest as i16;
                if is_coarse {
                    coarse[phase * coarse_width + tap - coarse_first] = large as i16;
                }
            }
        }
        let mut bank = Self {
            phases,
            step,
            width,
            fine: fine.into(),
            coarse_first,
            coarse_width,
            coarse: coarse.into(),
            shift: split.shift,
            bits,
            lanes: None,
        };
        bank.lanes = bank.in_lanes(taps, margin);
        bank
    }

    /// How many outputs belong to [`FirBank::step`] input samples.
    #[must_use]
    pub fn phases(&self) -> usize {
        self.phases
    }

    /// How many input samples make [`FirBank::phases`] outputs.
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// How many samples of the window an output looks at.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// A coefficient as it is used: its fine and coarse parts together.
    #[must_use]
    pub fn coefficient(&self, phase: usize, tap: usize) -> f64 {
        let fine =
            f64::from(self.fine[phase * self.width + tap]) / f64::from(1u32 << (self.bits + self.shift));
        let coarse = tap.checked_sub(self.coarse_first).filter(|&at| at < self.coarse_width);
        let coarse = coarse.map_or(0, |at| self.coarse[phase * self.coarse_width + at]);
        fine + f64::from(coarse) / f64::from(1u32 << self.bits)
    }

    /// Where on the window, from the first sample of a group on, output `phase` begins.
    pub(super) fn start(&self, phase: usize) -> usize {
        phase * self.step / self.phases
    }

    /// How many outputs from `phase` on a window of that many samples has, at most `outputs`.
    pub(super) fn outputs(&self, phase: usize, window: usize, outputs: usize) -> usize {
        let Some(last_start) = window.checked_sub(self.width) else {
            return 0;
        };
        // The first output that starts beyond `last_start` is the number of those that do not.
        let limit = ((self.start(phase) + last_start + 1) * self.phases).div_ceil(self.step);
        outputs.min(limit.saturating_sub(phase))
    }

    fn in_lanes(&self, taps: usize, margin: usize) -> Option<Lanes> {
        let factor = 1 + self.step % 2;
        let (phases, step) = (self.phases * factor, self.step * factor);
        let reach = self.start(phases - 1);
        let pairs = (taps + reach).div_ceil(2);
        if phases > LANE_PHASES || pairs > LANE_PAIRS * (step / 2) {
            return None;
        }
        let coarse_first = margin / 2;
        let coarse_pairs = (taps - margin + reach).div_ceil(2) - coarse_first;
        let mut fine = vec![[0; 2]; pairs * phases];
        let mut coarse = vec![[0; 2]; coarse_pairs * phases];
        for phase in 0..phases {
            let row = phase % self.phases;
            for tap in 0..taps {
                let at = self.start(phase) + tap;
                fine[at / 2 * phases + phase][at % 2] = self.fine[row * self.width + tap];
                if (margin..taps - margin).contains(&tap) {
                    coarse[(at / 2 - coarse_first) * phases + phase][at % 2] =
                        self.coarse[row * self.coarse_width + tap - self.coarse_first];
                }
            }
        }
        Some(Lanes { phases, step, fine: fine.into(), coarse_first, coarse: coarse.into() })
    }
}

impl Lanes {
    /// How many samples of the window a group looks at.
    pub(super) fn reach(&self) -> usize {
        self.fine.len() / self.phases * 2
    }
}

/// How a coefficient is split.
struct Split {
    bits: u32,
    shift: u32,
}

impl Split {
    /// The coarse part and the rest.
    fn of(&self, coefficient: f64, is_coarse: bool) -> (i64, i64) {
        let one = f64::from(1u32 << self.bits);
        let large = if is_coarse { (coefficient * one).round() } else { 0.0 };
        let rest = ((coefficient - large / one) * f64::from(1u32 << (self.bits + self.shift))).round();
        (large as i64, rest as i64)
    }

    /// How many taps at either end of a row need no coarse coefficient.
    fn margin(&self, rows: &[&[f64]], taps: usize) -> usize {
        let (mut most, mut least_refused) = (0, taps.div_ceil(2));
        while least_refused - most > 1 {
            let middle = usize::midpoint(most, least_refused);
            if self.holds(rows, middle) { most = middle } else { least_refused = middle }
        }
        most
    }

    /// Whether all fits when `margin` taps at either end of every row have no coarse coefficient.
    fn holds(&self, rows: &[&[f64]], margin: usize) -> bool {
        rows.iter().all(|row| {
            let mut fine_sum = 0;
            row.iter().enumerate().all(|(tap, &coefficient)| {
                let (_, rest) = self.of(coefficient, (margin..row.len() - margin).contains(&tap));
                fine_sum += rest.abs();
                rest.abs() < 1 << 15
            }) && (fine_sum << 15) + (1 << (self.bits + self.shift)) < 1 << 31
        })
    }
}

/// The most fraction bits with which no sum of coarse coefficients overflows.
fn coarse_bits(rows: &[&[f64]]) -> u32 {
    let sum = rows.iter().map(|row| row.iter().map(|c| c.abs()).sum::<f64>()).fold(0.0, f64::max);
    let largest = rows.iter().flat_map(|row| row.iter()).fold(0.0, |largest: f64, c| largest.max(c.abs()));
    assert!(sum < 3.9, "coefficients too large");
    // A little of the range is left for the fine sum and the roundings.
    if sum < 1.9 && largest < 0.99 { 15 } else { 14 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::FirBank;
    use crate::simd::{available, scalar};

    fn bank() -> impl Strategy<Value = FirBank> {
        (1..14usize, 1..9usize, 1..120usize).prop_flat_map(|(phases, step, taps)| {
            let rows = prop::collection::vec(-1.0..1.0f64, phases * taps);
            rows.prop_map(move |mut rows| {
                for row in rows.chunks_exact_mut(taps) {
                    let sum: f64 = row.iter().map(|coefficient| coefficient.abs()).sum();
                    row.iter_mut().for_each(|coefficient| *coefficient *= 2.5 / sum.max(2.5));
                }
                FirBank::new(phases, step, &rows, 21)
            })
        })
    }

    fn extreme() -> impl Strategy<Value = i16> {
        prop_oneof![4 => any::<i16>(), 1 => Just(i16::MIN), 1 => Just(i16::MAX)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_table_filters_as_the_scalar_one(
            bank in bank(),
            window in prop::collection::vec(extreme(), 0..600),
            phase in 0..14usize,
            spare in -40..40isize,
        ) {
            let phase = phase % bank.phases;
            let most = bank.outputs(phase, window.len(), usize::MAX);
            let mut expected = vec![0x5A5A; most.saturating_add_signed(spare)];
            let mut output = expected.clone();
            scalar::fir::polyphase(&bank, phase, &window, &mut expected);
            for kernels in available() {
                output.fill(0x5A5A);
                (kernels.fir.polyphase)(&bank, phase, &window, &mut output);
                prop_assert_eq!(&output, &expected, "{}", kernels.name);
            }
        }

        #[test]
        fn outputs_are_the_rounded_and_saturated_convolution(
            bank in bank(),
            signs in prop::collection::vec(any::<bool>(), 300),
        ) {
            // Full scale, first with the signs of the last row, which gives the largest sums.
            let row = bank.phases - 1;
            let worst = (0..bank.width).map(|tap| bank.coefficient(row, tap) < 0.0).chain(signs);
            let window: Vec<i16> = worst.map(|minus| if minus { i16::MIN } else { i16::MAX }).collect();
            let mut output = vec![0; bank.outputs(row, window.len(), 40)];
            scalar::fir::polyphase(&bank, row, &window, &mut output);
            for (n, &sample) in output.iter().enumerate() {
                let phase = row + n;
                let samples = &window[bank.start(phase) - bank.start(row)..];
                let exact: f64 = (0..bank.width)
                    .map(|tap| bank.coefficient(phase % bank.phases, tap) * f64::from(samples[tap]))
                    .sum();
                let exact = exact.clamp(i16::MIN.into(), i16::MAX.into());
                prop_assert!((f64::from(sample) - exact).abs() < 0.501, "{} {}", sample, exact);
            }
        }
    }
}
