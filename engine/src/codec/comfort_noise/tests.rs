use proptest::prelude::*;

use super::*;

fn noise(payload: &[u8], samples: usize) -> Vec<i16> {
    let mut noise = ComfortNoise::new();
    noise.handle_payload(payload);
    let mut pcm = vec![0; samples];
    noise.fill(&mut pcm);
    pcm
}

fn level_dbov(payload: &[u8]) -> f64 {
    let pcm = noise(payload, 16_000);
    10.0 * (squares(&pcm) as f64 / 16_000.0 / (32_767.0f64 * 32_767.0)).log10()
}

#[test]
fn level_is_within_one_decibel_whatever_the_spectrum() {
    for level in [30u8, 40, 50, 60] {
        for spectrum in
            [&[][..], &[127], &[20], &[240, 100], &[30, 180, 90, 140, 120, 127, 130, 127, 127, 127, 3]]
        {
            let payload = [&[level], spectrum].concat();
            let measured = level_dbov(&payload);
            assert!((measured + f64::from(level)).abs() < 1.0, "{payload:?}: {measured}");
        }
    }
}

#[test]
fn absurd_level_is_limited_and_an_empty_payload_is_silence() {
    assert!(level_dbov(&[0]) < -25.0);
    assert!(level_dbov(&[0x80]) < -25.0);
    assert_eq!(level_dbov(&[]), f64::NEG_INFINITY);
    assert_eq!(level_dbov(&[127]), f64::NEG_INFINITY);
}

#[test]
fn reserved_coefficient_is_none() {
    assert_eq!(noise(&[40, 255, 255], 100), noise(&[40, 127, 127], 100));
}

#[test]
fn spectrum_survives_analysis_and_synthesis() {
    // Dark, bright and with a bump in the middle: what is made from the analysis analyses alike.
    for spectrum in [[30u8, 150, 120, 127], [220, 140, 127, 127], [127, 220, 127, 110]] {
        let payload = [&[38], &spectrum[..]].concat();
        let pcm = noise(&payload, 32_000);
        let mut analysis = NoiseAnalysis::new(4);
        let mut sums = [0u32; 5];
        for (n, frame) in pcm.chunks_exact(160).enumerate() {
            analysis.handle_frame(frame);
            if n >= 100 {
                let mut written = [0; 5];
                assert_eq!(analysis.write(&mut written), 5);
                for (sum, octet) in sums.iter_mut().zip(written) {
                    *sum += u32::from(octet);
                }
            }
        }
        for (sum, expected) in sums.into_iter().zip(payload) {
            let mean = f64::from(sum) / 100.0;
            let tolerance = if expected == 38 { 1.0 } else { 8.0 };
            assert!((mean - f64::from(expected)).abs() <= tolerance, "{spectrum:?}: {mean} for {expected}");
        }
    }
}

#[test]
fn silence_is_analysed_as_silence() {
    let mut analysis = NoiseAnalysis::new(10);
    let mut payload = [9; 20];
    assert_eq!(analysis.write(&mut payload), 11);
    assert_eq!(payload[..11], [127; 11]);
    analysis.handle_frame(&[]);
    analysis.handle_frame(&[0; 160]);
    assert_eq!(analysis.write(&mut payload), 11);
    assert_eq!(payload[..11], [127; 11]);
    assert_eq!(analysis.write(&mut payload[..1]), 1);
    assert_eq!(analysis.write(&mut []), 0);
}

#[test]
fn analysis_forgets_what_was_before_its_reset() {
    let mut analysis = NoiseAnalysis::new(2);
    analysis.handle_frame(&[20_000; 160]);
    analysis.reset();
    analysis.handle_frame(&[0; 160]);
    let mut payload = [0; 3];
    assert_eq!(analysis.write(&mut payload), 3);
    assert_eq!(payload, [127; 3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_payloads_in_a_row_upset_the_generator(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6),
    ) {
        let mut noise = ComfortNoise::new();
        let mut pcm = [0; 321];
        for payload in payloads {
            noise.handle_payload(&payload);
            noise.fill(&mut pcm);
            noise.fill(&mut []);
            prop_assert!(noise.backward.iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn any_audio_gives_a_payload_that_makes_noise_no_louder(
        pcm in prop::collection::vec(any::<i16>(), 0..400),
        order in 0usize..12,
    ) {
        let mut analysis = NoiseAnalysis::new(order);
        for frame in pcm.chunks(97) {
            analysis.handle_frame(frame);
        }
        let mut payload = [255; MAX_ORDER + 1];
        let length = analysis.write(&mut payload);
        prop_assert_eq!(length, order.min(MAX_ORDER) + 1);
        prop_assert!(payload[0] < 128 && payload[1..length].iter().all(|&octet| octet < 255));
    }
}
