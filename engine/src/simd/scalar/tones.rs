//! Tones, step by step. All arithmetic is on integers, or on floats in the order written here.

use crate::simd::tones::{
    DTMF_WINDOW_STEPS, DtmfLimits, DtmfStep, DtmfWindow, TONE_FREQUENCIES, TONE_STEP_SAMPLES, ToneBank,
    ToneSums, Tones,
};

/// The family in this table.
pub(in crate::simd) const KERNELS: Tones = Tones { correlate, dtmf_steps };

#[inline(always)]
pub(in crate::simd) fn correlate(pcm: &[i16], bank: &ToneBank, sums: &mut [ToneSums]) {
    let (steps, _) = pcm.as_chunks::<TONE_STEP_SAMPLES>();
    for (step, sums) in steps.iter().zip(sums) {
        let mut accumulators = [0; 2 * TONE_FREQUENCIES];
        for (samples, references) in step.as_chunks::<2>().0.iter().zip(&bank.pairs) {
            let [early, late] = samples.map(i32::from);
            for (accumulator, reference) in accumulators.iter_mut().zip(references) {
                let product = early * i32::from(reference[0]) + late * i32::from(reference[1]);
                *accumulator += product;
            }
        }
        *sums = accumulators;
    }
}

#[inline(always)]
pub(in crate::simd) fn dtmf_steps(
    sums: &[ToneSums],
    limits: &DtmfLimits,
    window: &mut DtmfWindow,
    steps: &mut [DtmfStep],
) {
    let [turn_re, turn_im] = &limits.turn;
    let [[mut one_re, mut one_im], [mut two_re, mut two_im]] = window.earlier;
    for (sums, step) in sums.iter().zip(steps) {
        let new_re: [f32; TONE_FREQUENCIES] = std::array::from_fn(|k| sums[k] as f32);
        let new_im: [f32; TONE_FREQUENCIES] = std::array::from_fn(|k| sums[k + TONE_FREQUENCIES] as f32);
        let power: [f32; TONE_FREQUENCIES] = std::array::from_fn(|k| {
            let re = new_re[k] + one_re[k] + two_re[k];
            let im = new_im[k] + one_im[k] + two_im[k];
            re * re + im * im
        });
        let (row, rows) = strongest([power[0], power[1], power[2], power[3]]);
        let (column, columns) = strongest([power[4], power[5], power[6], power[7]]);
        let stands_out = row >= limits.floor
            && column >= limits.floor
            && row <= column * limits.row_over_column
            && column <= row * limits.column_over_row
            && rows - row <= row * limits.others
            && columns - column <= column * limits.others;
        *step = if stands_out {
            let low = position(row, [power[0], power[1], power[2], power[3]]);
            let high = position(column, [power[4], power[5], power[6], power[7]]);
            let part = |re: &[f32; TONE_FREQUENCIES], im: &[f32; TONE_FREQUENCIES]| {
                let high = high + TONE_FREQUENCIES / 2;
                re[low] * re[low] + im[low] * im[low] + (re[high] * re[high] + im[high] * im[high])
            };
            DtmfStep {
                pair: (4 * low + high) as u8,
                power: (row + column) / (DTMF_WINDOW_STEPS * DTMF_WINDOW_STEPS) as f32,
                parts: [part(&two_re, &two_im), part(&one_re, &one_im), part(&new_re, &new_im)],
            }
        } else {
            DtmfStep::QUIET
        };
        for k in 0..TONE_FREQUENCIES {
            two_re[k] = one_re[k] * turn_re[k] - one_im[k] * turn_im[k];
            two_im[k] = one_re[k] * turn_im[k] + one_im[k] * turn_re[k];
            one_re[k] = new_re[k] * turn_re[k] - new_im[k] * turn_im[k];
            one_im[k] = new_re[k] * turn_im[k] + new_im[k] * turn_re[k];
        }
    }
    window.earlier = [[one_re, one_im], [two_re, two_im]];
}

/// The largest power, and the sum of all.
#[inline(always)]
fn strongest(group: [f32; 4]) -> (f32, f32) {
    let [a, b, c, d] = group;
    let larger = |x: f32, y: f32| if x > y { x } else { y };
    (larger(larger(a, b), larger(c, d)), (a + b) + (c + d))
}

#[inline(always)]
fn position(largest: f32, group: [f32; 4]) -> usize {
    group.iter().position(|&power| power == largest).unwrap_or(0)
}
