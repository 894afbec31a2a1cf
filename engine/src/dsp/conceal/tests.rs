use proptest::prelude::*;

use super::*;

const RATES: [usize; 5] = [8, 16, 24, 32, 48];

fn tone(hertz: f64, per_ms: usize, samples: std::ops::Range<usize>) -> Vec<i16> {
    samples
        .map(|n| (8000.0 * (n as f64 * hertz * 0.001 * std::f64::consts::TAU / per_ms as f64).sin()) as i16)
        .collect()
}

fn largest_step(pcm: &[i16]) -> i32 {
    pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().expect("samples")
}

fn heard(hertz: f64, per_ms: usize) -> (Concealer, Vec<i16>) {
    let mut concealer = Concealer::new(per_ms);
    let mut pcm = tone(hertz, per_ms, 0..100 * per_ms);
    let before = pcm.clone();
    for frame in pcm.chunks_mut(20 * per_ms) {
        concealer.hear(frame);
    }
    assert_eq!(pcm, before, "what follows no loss is untouched");
    (concealer, pcm)
}

fn noise(level: i32, samples: usize) -> Vec<i16> {
    let mut random = Random(7);
    (0..samples).map(|_| (random.next() * level as f32) as i16).collect()
}

#[test]
fn tone_is_continued_without_a_click_and_fades_within_60_ms() {
    for per_ms in RATES {
        for hertz in [75.0, 110.0, 200.0, 333.0, 1000.0] {
            let (mut concealer, mut pcm) = heard(hertz, per_ms);
            let natural = largest_step(&pcm);
            let mut made_up = vec![0; 70 * per_ms];
            concealer.conceal(&mut made_up);
            pcm.extend_from_slice(&made_up);
            let step = largest_step(&pcm);
            assert!(step <= natural * 5 / 4 + 2, "{per_ms} kHz {hertz}: {step} {natural}");
            let loudest = made_up[..14 * per_ms].iter().max().expect("samples");
            assert!(*loudest > 6000, "{per_ms} kHz {hertz} begins at its level: {loudest}");
            assert!(made_up[60 * per_ms..].iter().all(|&s| s == 0), "{per_ms} kHz {hertz} ends in silence");
        }
    }
}

#[test]
fn level_falls_by_a_sixth_each_10_ms() {
    let (mut concealer, pcm) = heard(200.0, 8);
    let mut made_up = [0; 480];
    concealer.conceal(&mut made_up);
    let power = |pcm: &[i16]| pcm.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>().sqrt();
    let real = power(&pcm[720..]);
    for (n, piece) in made_up.chunks(80).enumerate() {
        let expected = 1.0 - (n as f64 + 0.5) / 6.0;
        let level = power(piece) / real;
        assert!((level - expected).abs() < 0.06, "{n}: {level} {expected}");
    }
}

#[test]
fn first_10_ms_of_a_lost_tone_are_nearly_right() {
    for per_ms in RATES {
        let (mut concealer, _) = heard(100.0, per_ms);
        let mut made_up = vec![0; 10 * per_ms];
        concealer.conceal(&mut made_up);
        let real = tone(100.0, per_ms, 100 * per_ms..110 * per_ms);
        let energy = |pcm: &mut dyn Iterator<Item = f64>| pcm.map(|s| s * s).sum::<f64>();
        let error = energy(&mut made_up.iter().zip(&real).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        let ratio = 10.0 * (energy(&mut real.iter().map(|&s| f64::from(s))) / error).log10();
        assert!(ratio > 15.0, "{per_ms} kHz: {ratio} dB");
    }
}

#[test]
fn recovery_is_spread_over_short_pieces_and_clicks_nowhere() {
    let (mut concealer, mut pcm) = heard(100.0, 8);
    let natural = largest_step(&pcm);
    let mut made_up = [0; 160];
    concealer.conceal(&mut made_up);
    pcm.extend_from_slice(&made_up);
    assert_eq!(concealer.pending_recovery(), 80);
    // Another phase, as after a wrong guess of the pitch.
    let real = tone(100.0, 8, 1000..1200);
    let mut after = real.clone();
    for piece in after.chunks_mut(10) {
        concealer.hear(piece);
    }
    assert_eq!(concealer.pending_recovery(), 0);
    assert_eq!(after[80..], real[80..], "after 10 ms the audio is untouched");
    pcm.extend_from_slice(&after);
    assert!(largest_step(&pcm) < natural * 2, "{} {natural}", largest_step(&pcm));
}

#[test]
fn lost_noise_stays_noise_and_does_not_buzz() {
    let mut concealer = Concealer::new(8);
    for frame in noise(4000, 1600).chunks_mut(160) {
        concealer.hear(frame);
    }
    let mut made_up = vec![0i16; 400];
    concealer.conceal(&mut made_up);
    // A buzz would repeat itself after some lag within 15 ms.
    let samples: Vec<f64> = made_up[..240].iter().map(|&s| f64::from(s)).collect();
    let most_alike = (40..=120)
        .map(|lag| {
            let product: f64 = samples[lag..].iter().zip(&samples).map(|(a, b)| a * b).sum();
            let energy: f64 = samples[lag..].iter().map(|a| a * a).sum::<f64>();
            let other: f64 = samples[..240 - lag].iter().map(|a| a * a).sum::<f64>();
            product / (energy * other).sqrt()
        })
        .fold(0.0, f64::max);
    assert!(most_alike < 0.85, "{most_alike}");
}

#[test]
fn background_noise_is_heard_on_after_the_voice_has_faded() {
    for per_ms in RATES {
        let mut concealer = Concealer::new(per_ms);
        let mut background = noise(100, 400 * per_ms);
        let level = rms(&background.iter().map(|&s| f32::from(s)).collect::<Vec<_>>());
        for frame in background.chunks_mut(20 * per_ms) {
            concealer.hear(frame);
        }
        let mut voice = tone(150.0, per_ms, 0..200 * per_ms);
        concealer.hear(&mut voice);
        let mut made_up = vec![0i16; 300 * per_ms];
        concealer.conceal(&mut made_up);
        let after: Vec<f32> = made_up[100 * per_ms..].iter().map(|&s| f32::from(s)).collect();
        let ratio = rms(&after) / level;
        assert!((0.6..1.3).contains(&ratio), "{per_ms} kHz: {ratio}");
    }
}

#[test]
fn before_anything_was_heard_there_is_silence() {
    let mut made_up = [1; 160];
    Concealer::new(8).conceal(&mut made_up);
    assert_eq!(made_up, [0; 160]);
}

#[test]
fn pitch_is_found_at_every_rate() {
    for per_ms in RATES {
        let signal: Vec<f32> = tone(125.0, per_ms, 0..60 * per_ms).iter().map(|&s| f32::from(s)).collect();
        let pitch = PitchSearch::new(per_ms).find(&signal, 15 * per_ms);
        assert_eq!(pitch.period, 8 * per_ms);
        assert!(pitch.correlation > 0.99);
        assert_eq!(PitchSearch::new(per_ms).find(&[0.0; 10], 120).correlation, 0.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_audio_in_any_pieces_ends_in_silence_or_background(
        steps in proptest::collection::vec((any::<bool>(), 0usize..1200, 0u8..5, any::<u32>()), 1..20),
        rate in 0usize..5,
    ) {
        let per_ms = RATES[rate];
        let mut concealer = Concealer::new(per_ms);
        for (lost, len, kind, seed) in steps {
            let mut random = Random(seed);
            let mut pcm: Vec<i16> = (0..len).map(|n| match kind {
                0 => if random.next() > 0.0 { i16::MAX } else { i16::MIN },
                1 => i16::MIN,
                2 => i16::MAX * i16::from(n % 7 == 0),
                3 => (random.next() * 32_767.0) as i16,
                _ => 0,
            }).collect();
            if lost {
                concealer.conceal(&mut pcm);
            } else {
                concealer.hear(&mut pcm);
            }
            prop_assert_eq!(concealer.history().len(), 50 * per_ms + ORDER);
        }
        let mut end = vec![0; 100 * per_ms];
        concealer.conceal(&mut end);
        prop_assert!(end[60 * per_ms..].iter().all(|s| s.unsigned_abs() < 3000));
    }
}
