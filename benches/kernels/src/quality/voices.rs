//! Voices at 8 kHz: the recorded prompts of the project at several speeds, and made-up speakers.

use std::f64::consts::TAU;

use super::spectrum::quantise;
use crate::peers;
use crate::signal::Noise;

const PROMPTS: [&[u8]; 2] = [
    include_bytes!("../../../../assets/demo-greeting.ulaw"),
    include_bytes!("../../../../assets/demo-goodbye.ulaw"),
];

/// The recorded speech as it is.
pub fn recorded() -> Vec<i16> {
    let encoded = PROMPTS.concat();
    let mut pcm = vec![0; encoded.len()];
    peers::ulaw_decode(&encoded, &mut pcm);
    pcm
}

/// Thirty minutes: the recordings at speeds from 0.6 to 1.9, and in between speakers whose vowels wander
/// through the frequencies of the digits.
pub fn half_an_hour() -> Vec<i16> {
    const LENGTH: usize = 30 * 60 * 8000;
    let recording = recorded();
    let mut pcm = Vec::with_capacity(LENGTH);
    let mut turn = 0u32;
    while pcm.len() < LENGTH {
        let speed = 0.6 + f64::from(turn % 40) * 0.0333;
        pcm.extend(at_speed(&recording, speed));
        pcm.extend(speaker(u64::from(turn), 20.0));
        turn += 1;
    }
    pcm.truncate(LENGTH);
    pcm
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
