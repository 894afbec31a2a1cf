//! Polyphase filters, output by output.

use crate::simd::Fir;
use crate::simd::FirBank;

/// The family in this table.
pub(in crate::simd) const KERNELS: Fir = Fir { polyphase };

#[inline(always)]
pub(in crate::simd) fn polyphase(bank: &FirBank, phase: usize, window: &[i16], output: &mut [i16]) {
    let outputs = bank.outputs(phase, window.len(), output.len());
    let origin = bank.start(phase);
    let (mut row, mut group) = (phase, 0);
    for sample in &mut output[..outputs] {
        *sample = one(bank, row, &window[group + bank.start(row) - origin..][..bank.width]);
        row += 1;
        if row == bank.phases {
            row = 0;
            group += bank.step;
        }
    }
}

/// One output of the phase `row`.
#[inline(always)]
fn one(bank: &FirBank, row: usize, window: &[i16]) -> i16 {
    let fine = dot(&bank.fine[row * bank.width..][..bank.width], window);
    let coarse = dot(
        &bank.coarse[row * bank.coarse_width..][..bank.coarse_width],
        &window[bank.coarse_first..][..bank.coarse_width],
    );
    finish(bank, fine, coarse)
}

#[inline(always)]
pub(in crate::simd) fn finish(bank: &FirBank, fine: i32, coarse: i32) -> i16 {
    let half = 1 << (bank.shift + bank.bits - 1);
    let sum = (fine.wrapping_add(half) >> bank.shift).wrapping_add(coarse) >> bank.bits;
    sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

/// The sum of products of two slices of one length.
#[inline(always)]
fn dot(coefficients: &[i16], samples: &[i16]) -> i32 {
    coefficients
        .iter()
        .zip(samples)
        .map(|(&coefficient, &sample)| i32::from(coefficient) * i32::from(sample))
        .fold(0, i32::wrapping_add)
}
