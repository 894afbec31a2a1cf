use proptest::prelude::*;

use super::*;

const RATES: [usize; 5] = [8, 16, 24, 32, 48];

/// A voice of a pitch with harmonics that slowly change, of some milliseconds.
fn voice(hertz: f64, per_ms: usize, ms: usize) -> Vec<i16> {
    (0..ms * per_ms)
        .map(|n| {
            let seconds = n as f64 / per_ms as f64 / 1000.0;
            let swell = 1.0 + 0.3 * (seconds * 5.0 * std::f64::consts::TAU).sin();
            let sum: f64 = (1..=8u8)
                .map(|k| (seconds * hertz * f64::from(k) * std::f64::consts::TAU).sin() / f64::from(k))
                .sum();
            (5000.0 * swell * sum) as i16
        })
        .collect()
}

/// Shortens (or lengthens) wherever it is allowed, in frames of 20 ms; the output and the samples reported.
fn run(signal: &[i16], per_ms: usize, shorter: bool, cut: Cut) -> (Vec<i16>, usize) {
    let mut stretch = Stretch::new(per_ms);
    let (frame, overlap) = (20 * per_ms, 10 * per_ms);
    let mut position = 60 * per_ms;
    let mut out = signal[..position].to_vec();
    let mut changed = 0;
    while position + 2 * frame < signal.len() {
        let mut joined = vec![0; overlap];
        let ahead = &signal[position..];
        let longest = stretch.longest();
        let samples = if shorter {
            stretch.shorten(&out, ahead, &mut joined, longest, longest / 2, cut)
        } else {
            stretch.lengthen(&out, ahead, &mut joined, cut)
        };
        let end = position + frame;
        if let Some(samples) = samples {
            out.extend_from_slice(&joined);
            position = if shorter { position + overlap + samples } else { position + overlap - samples };
            changed += samples;
        }
        out.extend_from_slice(&signal[position..end.max(position)]);
        position = end.max(position);
    }
    out.extend_from_slice(&signal[position..]);
    (out, changed)
}

fn largest_step(pcm: &[i16]) -> i32 {
    pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().expect("samples")
}

/// Upward crossings of the middle per sample, from the first to the last of them.
fn frequency(pcm: &[i16]) -> f64 {
    let mut crossings = vec![];
    for (n, pair) in pcm.windows(2).enumerate() {
        if pair[0] < 0 && pair[1] >= 0 {
            crossings.push(n as f64 + f64::from(pair[0]) / (f64::from(pair[0]) - f64::from(pair[1])));
        }
    }
    (crossings.len() - 1) as f64 / (crossings[crossings.len() - 1] - crossings[0])
}

#[test]
fn length_changes_by_what_was_reported_and_nothing_clicks() {
    for per_ms in RATES {
        for hertz in [90.0, 130.0, 210.0, 300.0] {
            let signal = voice(hertz, per_ms, 1500);
            for shorter in [true, false] {
                let (out, changed) = run(&signal, per_ms, shorter, Cut::Unheard);
                let expected = if shorter { signal.len() - changed } else { signal.len() + changed };
                assert_eq!(out.len(), expected);
                // Ten milliseconds of overlap leave no room to repeat a period of 11.
                if shorter || hertz > 100.0 {
                    assert!(changed > 200 * per_ms, "{per_ms} kHz {hertz} {shorter}: {changed}");
                }
                let (step, natural) = (largest_step(&out), largest_step(&signal));
                assert!(step <= natural * 11 / 10 + 2, "{per_ms} kHz {hertz} {shorter}: {step} {natural}");
            }
        }
    }
}

#[test]
fn tone_keeps_its_frequency_and_purity() {
    for per_ms in RATES {
        for hertz in [150.0, 440.0] {
            let signal: Vec<i16> = (0..1500 * per_ms)
                .map(|n| {
                    (9000.0 * (n as f64 * hertz * std::f64::consts::TAU / 1000.0 / per_ms as f64).sin())
                        as i16
                })
                .collect();
            for shorter in [true, false] {
                let (untouched, none) = run(&signal, per_ms, shorter, Cut::Unheard);
                assert!(none == 0 && untouched == signal, "a steady tone is left alone");
                let (out, changed) = run(&signal, per_ms, shorter, Cut::Forced);
                assert!(changed > 200 * per_ms);
                let ratio = frequency(&out) / frequency(&signal);
                assert!((ratio - 1.0).abs() < 0.005, "{per_ms} kHz {hertz} {shorter}: {ratio}");
                // What is left when the tone is taken out, sample by sample: x[n-1] + x[n+1] = 2 cos(w) x[n].
                let double = 2.0 * (hertz * std::f64::consts::TAU / 1000.0 / per_ms as f64).cos();
                let noise: f64 = out
                    .windows(3)
                    .map(|w| (f64::from(w[0]) + f64::from(w[2]) - double * f64::from(w[1])).powi(2))
                    .sum();
                let tone: f64 = out.windows(3).map(|w| (double * f64::from(w[1])).powi(2)).sum();
                let purity = 10.0 * (tone / noise).log10();
                assert!(purity > 30.0, "{per_ms} kHz {hertz} {shorter}: {purity} dB");
            }
        }
    }
}

#[test]
fn steady_voice_is_shortened_to_what_it_would_have_been() {
    // 125 Hz at 8 kHz: 64 samples exactly.
    let signal: Vec<i16> = (0..8000)
        .map(|n| {
            let phase = f64::from(n) * std::f64::consts::TAU / 64.0;
            (4000.0 * (phase.sin() + 0.5 * (3.0 * phase).sin() + 0.3 * (7.0 * phase + 1.0).sin())) as i16
        })
        .collect();
    let (out, changed) = run(&signal, 8, true, Cut::Forced);
    assert_eq!(changed % 64, 0);
    let (mut error, mut total) = (0.0, 0.0);
    for (a, b) in out.iter().zip(&signal) {
        error += (f64::from(*a) - f64::from(*b)).powi(2);
        total += f64::from(*b).powi(2);
    }
    let ratio = 10.0 * (total / (error + 1.0)).log10();
    assert!(ratio > 50.0, "{ratio} dB");
}

#[test]
fn noise_is_cut_only_when_it_is_quiet() {
    let mut state = 1u32;
    let mut noise = |level: i32| -> Vec<i16> {
        (0..8000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (((state as i32) >> 16) * level / 32_768) as i16
            })
            .collect()
    };
    let (_, quiet) = run(&noise(100), 8, true, Cut::Unheard);
    assert!(quiet > 1600, "{quiet}");
    assert_eq!(run(&noise(6000), 8, true, Cut::Unheard).1, 0);
    // The level is kept where ends that have nothing in common are joined.
    let loud = noise(6000);
    let (out, changed) = run(&loud, 8, true, Cut::Forced);
    assert!(changed > 1600);
    let level =
        |pcm: &[i16]| (pcm.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / pcm.len() as f64).sqrt();
    let decibels = 20.0 * (level(&out) / level(&loud)).log10();
    assert!(decibels.abs() < 0.5, "{decibels}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_lengths_and_any_audio_are_survived(
        before in 0usize..900, ahead in 0usize..900, joined in 0usize..200, most in 0usize..200,
        kind in 0u8..4, rate in 0usize..5, forced: bool, seed: u32,
    ) {
        let per_ms = RATES[rate];
        let mut state = seed;
        let mut make = |len: usize| -> Vec<i16> {
            (0..len * per_ms / 8).map(|n| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match kind {
                    0 => i16::MIN,
                    1 => if state >> 31 == 0 { i16::MAX } else { i16::MIN },
                    2 => i16::MAX * i16::from(n % 97 == 0),
                    _ => (state >> 16) as i16,
                }
            }).collect()
        };
        let (before, ahead, joined) = (make(before), make(ahead), make(joined));
        let cut = if forced { Cut::Forced } else { Cut::Unheard };
        let mut stretch = Stretch::new(per_ms);
        let most = most * per_ms / 8;
        let mut out = joined.clone();
        match stretch.shorten(&before, &ahead, &mut out, most, most / 2, cut) {
            Some(samples) => prop_assert!(samples <= most && samples + out.len() <= ahead.len()),
            None => prop_assert_eq!(&out, &joined),
        }
        let mut out = joined.clone();
        match stretch.lengthen(&before, &ahead, &mut out, cut) {
            Some(samples) => prop_assert!(samples <= out.len()),
            None => prop_assert_eq!(&out, &joined),
        }
    }
}
