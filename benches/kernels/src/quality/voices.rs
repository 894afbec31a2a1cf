//! Voices at 8 kHz: the synthetic ones of the tests, and made-up speakers.

use std::f64::consts::TAU;

use super::spectrum::quantise;
use crate::peers;
use crate::signal::Noise;

const FIXTURES: [&[u8]; 4] = [
    include_bytes!("../../../../engine/tests/fixtures/speech/english.ulaw"),
    include_bytes!("../../../../engine/tests/fixtures/speech/french.ulaw"),
    include_bytes!("../../../../engine/tests/fixtures/speech/german.ulaw"),
    include_bytes!("../../../../engine/tests/fixtures/speech/spanish.ulaw"),
];

/// The fixtures as they are.
pub fn synthesized() -> Vec<i16> {
    let encoded = FIXTURES.concat();
    let mut pcm = vec![0; encoded.len()];
    peers::ulaw_decode(&encoded, &mut pcm);
    pcm
}

const HALF_AN_HOUR: usize = 30 * 60 * 8000;

/// Thirty minutes of the fixtures, at speeds (and so pitches) from 0.5 to 2, each another one.
pub fn synthesized_at_speeds() -> Vec<i16> {
    let recording = synthesized();
    let mut pcm = Vec::with_capacity(HALF_AN_HOUR);
    let mut speed = 0.5;
    while pcm.len() < HALF_AN_HOUR {
        pcm.extend(at_speed(&recording, speed));
        speed *= 1.018;
    }
    pcm.truncate(HALF_AN_HOUR);
    pcm
}

/// Thirty minutes of speakers whose vowels wander through the frequencies of the digits.
pub fn made_up() -> Vec<i16> {
    (0..90).flat_map(|seed| speaker(seed, 20.0)).collect()
}

fn at_speed(pcm: &[i16], speed: f64) -> Vec<i16> {
    let length = ((pcm.len() - 1) as f64 / speed) as usize;
    (0..length)
        .map(|n| {
            let place = n as f64 * speed;
            let (at, part) = (place as usize, place.fract());
            quantise(f64::from(pcm[at]) * (1.0 - part) + f64::from(pcm[at + 1]) * part)
        })
        .collect()
}

/// A speaker of random pitch: vowels with two to three formants, changing every 60 to 300 ms, some sung.
pub fn speaker(seed: u64, seconds: f64) -> Vec<i16> {
    let mut random = Noise::new(seed * 2 + 1);
    let mut between = move |low: f64, high: f64| low + (random.uniform() + 1.0) / 2.0 * (high - low);
    let base = between(80.0, 320.0);
    let (mut pitch, mut target) = (base, base);
    let mut formants = [500.0, 1500.0, 2500.0];
    let mut wanted = formants;
    let (mut gain, mut loudness) = (0.0, 0.0);
    let mut gains = [0.0; 40];
    let mut next = 0;
    let mut phase = 0.0;
    (0..(seconds * 8000.0) as usize)
        .map(|n| {
            if n == next {
                next += between(480.0, 2400.0) as usize;
                target = base * between(0.8, 1.35);
                wanted = [between(250.0, 950.0), between(1000.0, 2200.0), between(2200.0, 3300.0)];
                loudness = if between(0.0, 1.0) < 0.2 { 0.0 } else { between(0.2, 1.0) };
            }
            if n % 40 == 0 {
                for (formant, wanted) in formants.iter_mut().zip(wanted) {
                    *formant += (wanted - *formant) * 0.15;
                }
                for (at, gain) in gains.iter_mut().enumerate() {
                    let hertz = pitch * (at + 1) as f64;
                    let resonance =
                        |centre: f64, width: f64| 1.0 / (1.0 + ((hertz - centre) / width).powi(2));
                    let sum = resonance(formants[0], 60.0)
                        + 0.5 * resonance(formants[1], 80.0)
                        + 0.15 * resonance(formants[2], 120.0);
                    *gain = if hertz < 3600.0 { sum } else { 0.0 };
                }
            }
            pitch += (target - pitch) * 0.0008;
            gain += (loudness - gain) * 0.003;
            phase = (phase + pitch / 8000.0) % 1.0;
            let (sin, cos) = (TAU * phase).sin_cos();
            let (mut s, mut c, mut sum) = (sin, cos, 0.0);
            for weight in gains {
                sum += weight * s;
                (s, c) = (s * cos + c * sin, c * cos - s * sin);
            }
            quantise(sum * gain * 7000.0 + between(-30.0, 30.0))
        })
        .collect()
}
