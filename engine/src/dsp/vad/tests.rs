//! Both detectors on the same noisy speech: four voices and languages made by espeak-ng.

#![expect(clippy::print_stdout, reason = "the figures of docs/decisions/0008 are read off here")]

use super::*;
use crate::dsp::level::{Level, squares};
use crate::simd::kernels;

const FRAME: usize = 160;

/// Speech at an active level, between one and a half seconds of silence.
fn speech(voice: &[u8], dbov: f64) -> Vec<i16> {
    let mut pcm = vec![0; voice.len()];
    (kernels().g711.decode_ulaw)(voice, &mut pcm);
    let powers: Vec<f64> = pcm.chunks_exact(FRAME).map(|f| squares(f) as f64 / FRAME as f64).collect();
    let peak = powers.iter().copied().fold(0.0, f64::max);
    let active: Vec<f64> = powers.into_iter().filter(|&power| power > peak * 10f64.powf(-2.5)).collect();
    let rms = (active.iter().sum::<f64>() / active.len() as f64).sqrt();
    let gain = 32_767.0 * 10f64.powf(dbov / 20.0) / rms;
    let silence = std::iter::repeat_n(0, 12_000);
    let scaled = pcm.iter().map(|&x| (f64::from(x) * gain).clamp(-32_768.0, 32_767.0) as i16);
    silence.clone().chain(scaled).chain(silence).collect()
}

#[derive(Clone, Copy, Debug)]
enum Noise {
    White,
    /// Falls by 6 dB per octave, as in cars and rooms.
    Brown,
}

fn noise(kind: Noise, samples: usize, dbov: f64) -> Vec<f64> {
    let mut state = 77u32;
    let mut low = 0.0;
    let raw: Vec<f64> = (0..samples)
        .map(|_| {
            let white: f64 = (0..4)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    f64::from(state as i32)
                })
                .sum();
            low += (white - low) * 0.2;
            match kind {
                Noise::White => white,
                Noise::Brown => low,
            }
        })
        .collect();
    let rms = (raw.iter().map(|x| x * x).sum::<f64>() / samples as f64).sqrt();
    raw.into_iter().map(|x| x / rms * 32_767.0 * 10f64.powf(dbov / 20.0)).collect()
}

/// Frames of speech missed and of noise taken for speech, out of so many.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    missed: usize,
    speech: usize,
    false_alarms: usize,
    noise: usize,
}

impl Outcome {
    fn miss_rate(self) -> f64 {
        self.missed as f64 / self.speech as f64
    }

    fn false_alarm_rate(self) -> f64 {
        self.false_alarms as f64 / self.noise as f64
    }
}

/// Speech is what the clean signal has within 15 dB of its active level; noise is what lies further than
/// 400 ms behind and one frame before anything within 45 dB. What is between counts for nothing. The first
/// second is for getting used to the noise.
fn measure(vad: &mut Vad, voice: &[u8], dbov: f64, snr: f64, kind: Noise, outcome: &mut Outcome) {
    let clean = speech(voice, dbov);
    let noise = noise(kind, clean.len(), dbov - snr);
    let noisy: Vec<i16> =
        clean.iter().zip(noise).map(|(&x, n)| (f64::from(x) + n).clamp(-32_768.0, 32_767.0) as i16).collect();
    let levels: Vec<f64> = clean.chunks_exact(FRAME).map(|f| f64::from(Level::of(f).dbov())).collect();
    for (n, frame) in noisy.chunks_exact(FRAME).enumerate() {
        let active = vad.handle_frame(frame);
        if n < 50 {
            continue;
        }
        if levels[n] >= dbov - 15.0 {
            outcome.speech += 1;
            outcome.missed += usize::from(!active);
        } else if levels[n - 20..(n + 2).min(levels.len())].iter().all(|&level| level < dbov - 45.0) {
            outcome.noise += 1;
            outcome.false_alarms += usize::from(active);
        }
    }
}

fn outcome(neural: bool, dbov: f64, snr: f64, kind: Noise) -> Outcome {
    let mut outcome = Outcome::default();
    for voice in VOICES {
        let mut vad = if neural {
            Vad::Neural(Box::new(NeuralVad::new(8000).expect("a rate it takes")))
        } else {
            Vad::Energy(EnergyVad::new(20))
        };
        measure(&mut vad, voice, dbov, snr, kind, &mut outcome);
    }
    outcome
}

#[test]
fn energy_detector_hears_speech_at_every_level_and_little_else() {
    for dbov in [-10.0, -25.0, -45.0] {
        for (snr, missed, alarms) in [(5.0, 0.13, 0.01), (10.0, 0.05, 0.01), (20.0, 0.01, 0.01)] {
            for kind in [Noise::White, Noise::Brown] {
                let outcome = outcome(false, dbov, snr, kind);
                println!(
                    "energy {dbov} dBov, {kind:?} noise {snr} dB below: {:.1} % missed, {:.1} % false alarms ({outcome:?})",
                    100.0 * outcome.miss_rate(),
                    100.0 * outcome.false_alarm_rate()
                );
                assert!(outcome.speech > 300 && outcome.noise > 200, "{outcome:?}");
                assert!(outcome.miss_rate() <= missed, "{dbov} {snr} {kind:?} {outcome:?}");
                assert!(outcome.false_alarm_rate() <= alarms, "{dbov} {snr} {kind:?} {outcome:?}");
            }
        }
    }
}

#[test]
fn neural_detector_hears_speech() {
    for (dbov, snr) in [(-25.0, 5.0), (-25.0, 10.0), (-45.0, 20.0)] {
        for kind in [Noise::White, Noise::Brown] {
            let outcome = outcome(true, dbov, snr, kind);
            println!(
                "neural {dbov} dBov, {kind:?} noise {snr} dB below: {:.1} % missed, {:.1} % false alarms ({outcome:?})",
                100.0 * outcome.miss_rate(),
                100.0 * outcome.false_alarm_rate()
            );
            // What it makes of loud or near low-pass noise is in the decision's table: speech.
            if dbov < -20.0 && snr > 5.0 {
                assert!(outcome.miss_rate() <= 0.07, "{dbov} {snr} {kind:?} {outcome:?}");
                assert!(outcome.false_alarm_rate() <= 0.01, "{dbov} {snr} {kind:?} {outcome:?}");
            }
        }
    }
}

#[test]
fn clear_onset_is_heard_in_its_first_frame() {
    for dbov in [-10.0, -25.0, -45.0] {
        let mut vad = EnergyVad::new(20);
        let noise = noise(Noise::White, 100 * FRAME, dbov - 15.0);
        let mut frames = noise.chunks_exact(FRAME).map(|f| f.iter().map(|&x| x as i16).collect::<Vec<_>>());
        for frame in frames.by_ref().take(99) {
            vad.handle_frame(&frame);
        }
        assert!(!vad.handle_frame(&frames.next().expect("a hundred")));
        let word: Vec<i16> = (0..FRAME)
            .map(|i| (46_000.0 * 10f64.powf(dbov / 20.0) * (i as f64 * 0.3).sin()).clamp(-32e3, 32e3) as i16)
            .collect();
        assert!(vad.handle_frame(&word), "{dbov}");
    }
}

#[test]
fn noise_that_rises_is_noise_again_within_two_seconds() {
    let mut vad = EnergyVad::new(20);
    let mut active = |dbov: f64, frames: usize| {
        let noise = noise(Noise::White, frames * FRAME, dbov);
        noise
            .chunks_exact(FRAME)
            .map(|f| vad.handle_frame(&f.iter().map(|&x| x as i16).collect::<Vec<_>>()))
            .collect::<Vec<_>>()
    };
    assert!(!active(-60.0, 100)[99]);
    let risen = active(-35.0, 150);
    assert!(risen[0] && !risen[100..].contains(&true));
    assert!(!active(-60.0, 50)[20..].contains(&true));
    assert!(active(-35.0, 1)[0], "the floor has fallen at once");
}

#[test]
fn digital_silence_is_silence_and_leaves_the_floor() {
    let mut vad = EnergyVad::new(20);
    let noise = noise(Noise::White, 100 * FRAME, -40.0);
    let frames: Vec<Vec<i16>> =
        noise.chunks_exact(FRAME).map(|f| f.iter().map(|&x| x as i16).collect()).collect();
    frames.iter().for_each(|frame| {
        vad.handle_frame(frame);
    });
    let floor = vad.floor_dbov();
    assert!((floor + 40.0).abs() < 2.0, "{floor}");
    for _ in 0..500 {
        assert!(!vad.handle_frame(&[0; FRAME]) && !vad.handle_frame(&[]));
    }
    assert_eq!(vad.floor_dbov().to_bits(), floor.to_bits());
    assert!(frames.iter().all(|frame| !vad.handle_frame(frame)));
}

#[test]
fn extremes_do_not_upset_the_detectors() {
    let mut energy = EnergyVad::new(0);
    let mut neural = NeuralVad::new(16_000).expect("a rate it takes");
    for frame in [&[i16::MIN; 2880][..], &[i16::MAX; 1], &[], &[0; 33], &[1; 160], &[-1; 7]] {
        for _ in 0..50 {
            energy.handle_frame(frame);
            neural.handle_frame(frame);
            assert!((0.0..=1.0).contains(&neural.score()));
        }
    }
}

const VOICES: [&[u8]; 4] = [
    include_bytes!("../../../tests/fixtures/speech/english.ulaw"),
    include_bytes!("../../../tests/fixtures/speech/german.ulaw"),
    include_bytes!("../../../tests/fixtures/speech/french.ulaw"),
    include_bytes!("../../../tests/fixtures/speech/spanish.ulaw"),
];

#[test]
fn steady_noise_is_hardly_ever_taken_for_speech() {
    for kind in [Noise::White, Noise::Brown] {
        let mut vad = EnergyVad::new(20);
        let noise: Vec<i16> = noise(kind, 3000 * FRAME, -35.0).into_iter().map(|x| x as i16).collect();
        let alarms = noise
            .chunks_exact(FRAME)
            .enumerate()
            .filter(|(n, frame)| vad.handle_frame(frame) && *n >= 50)
            .count();
        println!("{kind:?}: {alarms} of 2950 frames");
        assert!(alarms < 45, "{kind:?}: {alarms}");
    }
}
