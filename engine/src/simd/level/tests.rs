use super::*;
use crate::simd::available;

#[test]
fn gain_is_rounded_half_up_and_limited() {
    let half = Gain::from_factor(0.5);
    assert_eq!([1, -1, 3, -3].map(|sample| half.apply(sample)), [1, 0, 2, -1]);
    let double = Gain::from_factor(2.0);
    assert_eq!([20_000, -20_000, 16_383].map(|sample| double.apply(sample)), [32_767, -32_768, 32_766]);
    assert_eq!([Gain::MUTE.apply(-32_768), Gain::UNITY.apply(-32_768)], [0, -32_768]);
    for sample in i16::MIN..=i16::MAX {
        assert_eq!(Gain::UNITY.apply(sample), sample);
    }
}

#[test]
fn gains_are_the_nearest_to_what_was_asked() {
    assert_eq!(Gain::from_factor(1.0), Gain::UNITY);
    assert_eq!(Gain::from_decibels(0.0), Gain::UNITY);
    assert_eq!(Gain::default(), Gain::UNITY);
    assert_eq!(Gain::from_decibels(6.0206).factor(), 2.0);
    assert_eq!(Gain::from_decibels(-90.0), Gain::MUTE);
    assert_eq!(Gain::from_factor(-1.0), Gain::MUTE);
    assert_eq!(Gain::from_factor(100.0), Gain::MAX);
    assert_eq!(Gain::from_factor(f32::INFINITY), Gain::MAX);
    assert_eq!(Gain::from_decibels(f32::NEG_INFINITY), Gain::MUTE);
    assert_eq!(Gain::from_factor(f32::NAN), Gain::UNITY);
}

#[test]
fn every_table_measures_and_amplifies_every_length_as_defined() {
    // Noise, with the sample whose magnitude no sample has in the middle and at the end.
    let mut pcm: Vec<i16> = (0..400u32).map(|n| (n.wrapping_mul(0x9E37_79B1) >> 16) as i16).collect();
    pcm[200] = i16::MIN;
    pcm[399] = i16::MIN;
    for kernels in available() {
        for length in 0..=pcm.len() {
            let pcm = &pcm[pcm.len() - length..];
            let level = pcm.iter().fold(Loudness::default(), |level, &sample| level + Loudness::of(sample));
            assert_eq!((kernels.level.measure)(pcm), level, "{}, {length}", kernels.name);
            for gain in [Gain::MUTE, Gain::from_factor(0.7), Gain::UNITY, Gain::MAX] {
                let mut amplified = pcm.to_vec();
                let level = (kernels.level.amplify)(&mut amplified, gain);
                let what = format!("{}, {length}, {gain:?}", kernels.name);
                assert!(amplified.iter().copied().eq(pcm.iter().map(|&sample| gain.apply(sample))), "{what}");
                assert_eq!(level, (kernels.level.measure)(&amplified), "{what}");
            }
        }
    }
}

#[test]
fn every_table_applies_every_gain_to_every_kind_of_sample() {
    let edges = [i16::MIN, i16::MIN + 1, -4097, -2049, -2048, -1, 0, 1, 2047, 2048, 4095, 32_766, i16::MAX];
    for kernels in available() {
        for steps in 0..=i16::MAX {
            let mut pcm = edges;
            (kernels.level.amplify)(&mut pcm, Gain(steps));
            assert_eq!(pcm, edges.map(|sample| Gain(steps).apply(sample)), "{} {steps}", kernels.name);
        }
    }
}

#[test]
fn the_loudest_samples_there_are_do_not_overflow_a_sum() {
    let pcm = vec![i16::MIN; 100_000];
    for kernels in available() {
        let expected = Loudness { sum_of_squares: 100_000 << 30, peak: 32_768 };
        assert_eq!((kernels.level.measure)(&pcm), expected, "{}", kernels.name);
    }
}
