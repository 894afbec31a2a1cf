//! The answering tone of fax and modems, 2,100 Hz: its turns of phase and its modulation.

use std::f64::consts::TAU;
use std::sync::LazyLock;

use super::ToneEvent;
use super::monitor::{BLOCK_SAMPLES, Segment};

type Complex = [f32; 2];

/// Follows one answering tone.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswerTone {
    /// The tone in the last blocks, the newest last.
    blocks: [Complex; REMEMBERED],
    seen: u32,
    was_told: bool,
    reversals: u32,
    quiet_until: u32,
    was_modulated: bool,
}

impl AnswerTone {
    pub(super) fn reset(&mut self) {
        if self.seen > 0 {
            *self = Self::default();
        }
    }

    /// Takes a block that ends at `position` of a segment at about 2,100 Hz.
    pub(super) fn handle_block(
        &mut self,
        block: &[i16; BLOCK_SAMPLES],
        position: u64,
        segment: &Segment,
        event: &mut impl FnMut(ToneEvent),
    ) {
        self.blocks.rotate_left(1);
        self.blocks[REMEMBERED - 1] = at_2100(block);
        self.seen = self.seen.saturating_add(1);
        if !self.was_told && segment.milliseconds() >= TOLD_MS {
            self.was_told = true;
            event(ToneEvent::AnswerTone { at: segment.start });
        }
        if !self.was_told || self.seen <= REMEMBERED as u32 {
            return;
        }
        // How the phase went on over two blocks, against the two before: the turn may be within a block.
        let [.., before, _, middle, _, now] = self.blocks;
        let turn = times(times(now, conjugate(middle)), conjugate(times(middle, conjugate(before))));
        if self.seen >= self.quiet_until && turn[0] < 0.0 && turn[1].abs() < -turn[0] {
            self.quiet_until = self.seen + AFTER_TURN_BLOCKS;
            self.reversals += 1;
            if self.reversals == 1 {
                event(ToneEvent::AnswerReversed { at: position - (3 * BLOCK_SAMPLES / 2) as u64 });
            }
        }
        if !self.was_modulated && self.seen >= self.quiet_until {
            let powers = self.blocks.map(|[re, im]| re * re + im * im);
            let most = powers.iter().copied().fold(0.0, f32::max);
            let least = powers.iter().copied().fold(f32::INFINITY, f32::min);
            if most > least * MODULATED {
                self.was_modulated = true;
                event(ToneEvent::AnswerModulated { at: segment.start });
            }
        }
    }
}

const TOLD_MS: u32 = 300;
/// Two periods of the 15 Hz of ANSam.
const REMEMBERED: usize = 14;
/// A turn spoils the blocks that are remembered.
const AFTER_TURN_BLOCKS: u32 = REMEMBERED as u32 + 2;
/// 20 % up and down are 1.5 in amplitude, 2.25 in power, less what a block averages and more than noise.
const MODULATED: f32 = 1.5;

/// The block at 2,100 Hz: 21 whole periods.
fn at_2100(block: &[i16; BLOCK_SAMPLES]) -> Complex {
    static TONE: LazyLock<[Complex; BLOCK_SAMPLES]> = LazyLock::new(|| {
        std::array::from_fn(|n| {
            let (sine, cosine) = (TAU * 2100.0 / 8000.0 * n as f64).sin_cos();
            [cosine as f32, -sine as f32]
        })
    });
    block.iter().zip(&*TONE).fold([0.0; 2], |sum, (&sample, tone)| {
        [sum[0] + f32::from(sample) * tone[0], sum[1] + f32::from(sample) * tone[1]]
    })
}

fn conjugate(z: Complex) -> Complex {
    [z[0], -z[1]]
}

fn times(a: Complex, b: Complex) -> Complex {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}
