//! ITU-T G.711, bit for bit as the G.191 reference (the software tool library) does it: 16-bit linear with
//! the 14 (mu-law) or 13 (A-law) significant bits on top, negative samples by ones' complement.

pub use crate::simd::law::{
    ALAW_TO_LINEAR, ALAW_TO_ULAW, ULAW_TO_ALAW, ULAW_TO_LINEAR, alaw_from_linear, linear_from_alaw,
    linear_from_ulaw, ulaw_from_linear,
};
use crate::simd::{Gain, Loudness, kernels};

/// Encodes as many samples as both slices have.
pub fn encode_ulaw(pcm: &[i16], encoded: &mut [u8]) {
    (kernels().g711.encode_ulaw)(pcm, encoded);
}

/// Decodes as many samples as both slices have.
pub fn decode_ulaw(encoded: &[u8], pcm: &mut [i16]) {
    (kernels().g711.decode_ulaw)(encoded, pcm);
}

/// Encodes as many samples as both slices have.
pub fn encode_alaw(pcm: &[i16], encoded: &mut [u8]) {
    (kernels().g711.encode_alaw)(pcm, encoded);
}

/// Decodes as many samples as both slices have.
pub fn decode_alaw(encoded: &[u8], pcm: &mut [i16]) {
    (kernels().g711.decode_alaw)(encoded, pcm);
}

/// Converts as many bytes as both slices have.
pub fn ulaw_to_alaw(source: &[u8], target: &mut [u8]) {
    (kernels().g711.ulaw_to_alaw)(source, target);
}

/// Converts as many bytes as both slices have.
pub fn alaw_to_ulaw(source: &[u8], target: &mut [u8]) {
    (kernels().g711.alaw_to_ulaw)(source, target);
}

/// Converts where the codes lie.
pub fn ulaw_to_alaw_in_place(audio: &mut [u8]) {
    (kernels().g711.ulaw_to_alaw_in_place)(audio);
}

/// Converts where the codes lie.
pub fn alaw_to_ulaw_in_place(audio: &mut [u8]) {
    (kernels().g711.alaw_to_ulaw_in_place)(audio);
}

/// Applies a gain and encodes, as many samples as both slices have.
pub fn encode_ulaw_gain(pcm: &[i16], gain: Gain, encoded: &mut [u8]) {
    (kernels().g711.encode_ulaw_gain)(pcm, gain, encoded);
}

/// Applies a gain and encodes, as many samples as both slices have.
pub fn encode_alaw_gain(pcm: &[i16], gain: Gain, encoded: &mut [u8]) {
    (kernels().g711.encode_alaw_gain)(pcm, gain, encoded);
}

/// Decodes and applies a gain, as many samples as both slices have; gives the level of the result.
pub fn decode_ulaw_gain(encoded: &[u8], gain: Gain, pcm: &mut [i16]) -> Loudness {
    (kernels().g711.decode_ulaw_gain)(encoded, gain, pcm)
}

/// Decodes and applies a gain, as many samples as both slices have; gives the level of the result.
pub fn decode_alaw_gain(encoded: &[u8], gain: Gain, pcm: &mut [i16]) -> Loudness {
    (kernels().g711.decode_alaw_gain)(encoded, gain, pcm)
}

/// The level of coded audio.
#[must_use]
pub fn measure_ulaw(encoded: &[u8]) -> Loudness {
    (kernels().g711.measure_ulaw)(encoded)
}

/// The level of coded audio.
#[must_use]
pub fn measure_alaw(encoded: &[u8]) -> Loudness {
    (kernels().g711.measure_alaw)(encoded)
}

/// The largest magnitude in coded audio, 0 to 32,124. Comparing it with a threshold is the cheapest test for silence.
#[must_use]
pub fn peak_ulaw(encoded: &[u8]) -> u16 {
    (kernels().g711.peak_ulaw)(encoded)
}

/// The largest magnitude in coded audio, 8 to 32,256 (A-law has no zero), or 0 if there is none. Comparing it with
/// a threshold is the cheapest test for silence.
#[must_use]
pub fn peak_alaw(encoded: &[u8]) -> u16 {
    (kernels().g711.peak_alaw)(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decision values of one polarity as G.711 tables 1a and 2a list them: `first` intervals of the
    /// smallest step, then sixteen per doubled step.
    fn decision_values(mut steps: Vec<i32>, segments: usize, step: i32) -> Vec<i32> {
        let mut step = step;
        for _ in 0..segments {
            step *= 2;
            for _ in 0..16 {
                steps.push(steps[steps.len() - 1] + step);
            }
        }
        steps
    }

    /// 14-bit: 0, 1, 3, .. 31, 35, .. 8159.
    fn ulaw_decisions() -> Vec<i32> {
        let mut first = vec![0, 1];
        for _ in 0..15 {
            first.push(first[first.len() - 1] + 2);
        }
        decision_values(first, 7, 2)
    }

    /// 13-bit: 0, 1, .. 32 in steps of one (two segments), then doubling to 2048.
    fn alaw_decisions() -> Vec<i32> {
        decision_values((0..=32).collect(), 6, 1)
    }

    /// The number (0 to 127) of the interval that holds a magnitude.
    fn interval(decisions: &[i32], magnitude: i32) -> u8 {
        decisions.iter().rposition(|&low| low <= magnitude).expect("starts at zero").min(127) as u8
    }

    #[test]
    fn every_sample_encodes_to_the_interval_of_the_tables() {
        let (ulaw, alaw) = (ulaw_decisions(), alaw_decisions());
        assert_eq!((ulaw[128], alaw[128]), (8159, 2048));
        for sample in i16::MIN..=i16::MAX {
            let magnitude = i32::from(if sample < 0 { !sample } else { sample });
            let sign = if sample < 0 { 0 } else { 0x80 };
            assert_eq!(
                ulaw_from_linear(sample),
                sign | (0x7F - interval(&ulaw, magnitude >> 2)),
                "mu-law {sample}"
            );
            assert_eq!(
                alaw_from_linear(sample),
                (sign | interval(&alaw, magnitude >> 4)) ^ 0x55,
                "A-law {sample}"
            );
        }
    }

    #[test]
    fn every_code_decodes_to_the_middle_of_its_interval() {
        let (ulaw, alaw) = (ulaw_decisions(), alaw_decisions());
        for code in 0..=255u8 {
            let sign = if code & 0x80 == 0 { -1 } else { 1 };
            let n = usize::from(0x7F - (code & 0x7F));
            let middle = if n == 0 { 0 } else { (ulaw[n] + ulaw[n + 1]) * 2 };
            assert_eq!(i32::from(linear_from_ulaw(code)), sign * middle, "mu-law {code:#04x}");
            let sign = if (code ^ 0x55) & 0x80 == 0 { -1 } else { 1 };
            let n = usize::from((code ^ 0x55) & 0x7F);
            let middle = (alaw[n] + alaw[n + 1]) * 8;
            assert_eq!(i32::from(linear_from_alaw(code)), sign * middle, "A-law {code:#04x}");
        }
    }

    #[test]
    fn known_values_of_the_reference() {
        let ulaw = [(0, 0xFF), (-1, 0x7F), (4, 0xFE), (-5, 0x7E), (1000, 0xCE), (32_767, 0x80), (-32_768, 0)];
        for (sample, code) in ulaw {
            assert_eq!(ulaw_from_linear(sample), code, "mu-law {sample}");
        }
        let alaw =
            [(0, 0xD5), (-1, 0x55), (16, 0xD4), (-17, 0x54), (1000, 0xFA), (32_767, 0xAA), (-32_768, 0x2A)];
        for (sample, code) in alaw {
            assert_eq!(alaw_from_linear(sample), code, "A-law {sample}");
        }
        assert_eq!((linear_from_ulaw(0x00), linear_from_ulaw(0x80)), (-32_124, 32_124));
        assert_eq!((linear_from_alaw(0x2A), linear_from_alaw(0xAA)), (-32_256, 32_256));
    }

    #[test]
    fn coding_a_decoded_value_gives_the_same_code() {
        for code in 0..=255u8 {
            // Negative zero of mu-law (0x7F) decodes to zero, which is positive.
            let expected = if code == 0x7F { 0xFF } else { code };
            assert_eq!(ulaw_from_linear(linear_from_ulaw(code)), expected);
            assert_eq!(alaw_from_linear(linear_from_alaw(code)), code);
        }
    }

    #[test]
    fn direct_tables_stay_within_one_interval_of_expanding_and_compressing() {
        for code in 0..=255u8 {
            let direct = ULAW_TO_ALAW[usize::from(code)] ^ 0x55;
            let composed = alaw_from_linear(linear_from_ulaw(code)) ^ 0x55;
            // Negative zero of mu-law stays negative only in the direct table.
            let sign = if code == 0x7F { 0x80 } else { 0 };
            assert!(direct.abs_diff(composed ^ sign) <= 1, "mu-law {code:#04x}");
            let direct = ALAW_TO_ULAW[usize::from(code)];
            let composed = ulaw_from_linear(linear_from_alaw(code));
            assert!(direct.abs_diff(composed) <= 1, "A-law {code:#04x}");
        }
    }

    #[test]
    fn a_second_round_of_direct_conversion_changes_nothing() {
        for code in 0..=255u8 {
            let once = ALAW_TO_ULAW[usize::from(ULAW_TO_ALAW[usize::from(code)])];
            let twice = ALAW_TO_ULAW[usize::from(ULAW_TO_ALAW[usize::from(once)])];
            assert_eq!(once, twice, "mu-law {code:#04x}");
        }
    }

    #[test]
    fn direct_tables_keep_the_sign_and_stay_within_one_step() {
        for code in 0..=255u8 {
            let linear = i32::from(linear_from_ulaw(code));
            let through = i32::from(linear_from_alaw(ULAW_TO_ALAW[usize::from(code)]));
            assert!((linear - through).abs() <= 16.max(linear.abs() / 16), "{code:#04x}: {linear} {through}");
            let linear = i32::from(linear_from_alaw(code));
            let through = i32::from(linear_from_ulaw(ALAW_TO_ULAW[usize::from(code)]));
            assert!((linear - through).abs() <= 16.max(linear.abs() / 16), "{code:#04x}: {linear} {through}");
        }
    }

    #[test]
    fn slices_convert_as_far_as_the_shorter_one_goes() {
        let mut encoded = [0x11; 4];
        encode_ulaw(&[0, 1000], &mut encoded);
        assert_eq!(encoded, [0xFF, 0xCE, 0x11, 0x11]);
        let mut pcm = [7; 3];
        decode_ulaw(&[0xFF, 0x80], &mut pcm);
        assert_eq!(pcm, [0, 32_124, 7]);
    }

    #[test]
    fn silence_and_speech_are_told_apart_in_code() {
        assert_eq!((peak_ulaw(&[0xFF; 160]), peak_alaw(&[0xD5; 160])), (0, 8));
        let mut speech = [0xFF; 160];
        speech[99] = ulaw_from_linear(-1000);
        assert_eq!(peak_ulaw(&speech), 988);
        assert_eq!(measure_ulaw(&speech), Loudness { sum_of_squares: 988 * 988, peak: 988 });
        ulaw_to_alaw_in_place(&mut speech);
        assert_eq!(peak_alaw(&speech), linear_from_alaw(alaw_from_linear(-1000)).unsigned_abs());
        alaw_to_ulaw_in_place(&mut speech);
        let mut pcm = [1; 160];
        let level = decode_ulaw_gain(&speech, Gain::from_factor(2.0), &mut pcm);
        assert_eq!((level.peak, pcm[99]), (1976, -1976));
    }
}
