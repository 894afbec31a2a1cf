//! Audio levels as RTP carries them.

use crate::simd::kernels;

/// An audio level in -dBov (RFC 6464, section 3): 0 is a square wave at full scale, 127 is silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Level(u8);

impl Level {
    /// Digital silence, or anything below -126.5 dBov.
    pub const SILENCE: Self = Self(127);

    /// The level of `samples` samples whose squares sum up to `squares`, to the nearest decibel.
    /// No samples are silent. A table is searched; no logarithm is taken.
    #[must_use]
    pub fn from_squares(squares: u64, samples: usize) -> Self {
        // 16 fractional bits: one step of the smallest frame's quietest sample is far from lost. Frames of
        // 2^18 samples at full scale still fit.
        let power = squares.saturating_mul(1 << 16) / (samples as u64).max(1);
        Self(THRESHOLDS.partition_point(|&threshold| power < threshold) as u8)
    }

    /// The level of a frame.
    #[must_use]
    pub fn of(pcm: &[i16]) -> Self {
        Self::from_squares(squares(pcm), pcm.len())
    }

    /// The seven bits of the header extension: 0 loudest, 127 silent.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }

    /// The level in dBov, 0 to -127.
    #[must_use]
    pub const fn dbov(self) -> i8 {
        -(self.0 as i8)
    }
}

/// The sum of the squares of a frame.
#[must_use]
pub fn squares(pcm: &[i16]) -> u64 {
    let (blocks, rest) = pcm.as_chunks();
    let mut sum = [0];
    (kernels().mix.squares)(blocks, blocks.len(), &[0], &mut sum);
    sum[0] + rest.iter().map(|&x| (i32::from(x) * i32::from(x)) as u64).sum::<u64>()
}

/// The mean power, with 16 fractional bits, from which on the level is at most the index: half a decibel
/// below it. The last is -126.5 dBov.
static THRESHOLDS: [u64; 127] = {
    let mut thresholds = [0; 127];
    // Full scale is 32,767 as in RFC 6465, appendix A; 10^-0.05, then 10^-0.1 for each further decibel.
    let mut power = 32_767.0 * 32_767.0 * 65_536.0 * 0.891_250_938_133_745_5;
    let mut level = 0;
    while level < thresholds.len() {
        thresholds[level] = power as u64;
        power *= 0.794_328_234_724_281_5;
        level += 1;
    }
    thresholds
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_scale_square_wave_is_zero_and_a_sine_three() {
        assert_eq!(Level::of(&[i16::MIN, i16::MAX].repeat(80)).value(), 0);
        assert_eq!(Level::of(&[i16::MAX; 160]).value(), 0);
        let sine: Vec<i16> = (0..160)
            .map(|i| (32_767.0 * (f64::from(i) * std::f64::consts::TAU / 8.0).sin()) as i16)
            .collect();
        assert_eq!(Level::of(&sine).dbov(), -3);
    }

    #[test]
    fn silence_and_nothing_are_127() {
        assert_eq!(Level::of(&[0; 160]), Level::SILENCE);
        assert_eq!(Level::of(&[]), Level::SILENCE);
        assert_eq!(Level::from_squares(0, 0), Level::SILENCE);
        assert_eq!(Level::from_squares(u64::MAX, 1).value(), 0);
    }

    #[test]
    fn level_is_the_rounded_logarithm() {
        let mut squares = 1u64;
        while squares < 160 << 30 {
            for samples in [1usize, 80, 160, 2880] {
                let power = squares as f64 / samples as f64;
                let exact = -10.0 * (power / (32_767.0f64 * 32_767.0)).log10();
                if (exact - exact.floor() - 0.5).abs() > 1e-3 && exact < 110.0 {
                    let expected = exact.round().clamp(0.0, 127.0) as u8;
                    assert_eq!(
                        Level::from_squares(squares, samples).value(),
                        expected,
                        "{squares} {samples}"
                    );
                }
            }
            squares += squares / 50 + 1;
        }
    }

    #[test]
    fn squares_are_exact_at_every_length() {
        for count in 0..200i32 {
            let pcm: Vec<i16> = (0..count).map(|i| (i * 7919 - 30_000) as i16).collect();
            let expected = pcm.iter().map(|&x| u64::from(x.unsigned_abs()).pow(2)).sum::<u64>();
            assert_eq!(squares(&pcm), expected);
        }
    }
}
