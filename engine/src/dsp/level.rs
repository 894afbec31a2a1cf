//! Audio levels as RTP carries them.

use crate::simd::{NO_LEVEL, kernels};

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
    (kernels().level.measure)(pcm).sum_of_squares
}

/// The mean power in 1/256 of a doubling, 0 at full scale, [`NO_LEVEL`] for silence: a logarithm to 0.06 dB, in integers.
pub(crate) fn doublings(squares: u64, samples: usize) -> i16 {
    if squares == 0 || samples == 0 {
        return NO_LEVEL;
    }
    // 16 fractional bits; full scale is 2^30.
    let power = (squares.saturating_mul(1 << 16) / samples as u64).max(1);
    let exponent = power.ilog2();
    let mantissa = ((power << (63 - exponent)) >> 55) as i32 & 0xFF;
    // log2(1 + m) is m and a parabola.
    let fraction = mantissa + ((mantissa * (256 - mantissa) * 88) >> 16);
    ((exponent as i32 - 46) * 256 + fraction).min(i32::from(i16::MAX >> 1)) as i16
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
    fn doublings_are_a_logarithm() {
        let mut squares = 1u64;
        while squares < 160 << 30 {
            let exact = (squares as f64 / 160.0 / f64::from(1 << 30)).log2() * 256.0;
            if exact > -9000.0 {
                let level = f64::from(doublings(squares, 160));
                assert!((level - exact).abs() < 5.0, "{squares}: {level} {exact}");
            }
            squares += squares / 9 + 1;
        }
        assert_eq!(doublings(0, 160), NO_LEVEL);
        assert_eq!(doublings(9, 0), NO_LEVEL);
        assert!(doublings(1, usize::MAX) < 0);
        assert!(doublings(u64::MAX, 1) > 0);
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
