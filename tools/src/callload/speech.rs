//! What the calls say: a WAV file, or a generated voice-like signal.

use std::path::Path;

use anyhow::{Context as _, ensure};

use super::marker::SplitMix;

/// Samples per second of everything in here.
pub(super) const RATE_HZ: u32 = 8_000;

/// Reads a WAV file as mono 8 kHz; other rates are resampled, channels averaged.
pub(super) fn from_wav(path: &Path) -> anyhow::Result<Vec<i16>> {
    let mut reader =
        hound::WavReader::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let spec = reader.spec();
    ensure!(spec.sample_rate >= 4_000, "{}: {} Hz is no audio rate", path.display(), spec.sample_rate);
    let scale = match spec.sample_format {
        hound::SampleFormat::Float => 32_767.0,
        hound::SampleFormat::Int => 32_768.0 / f64::from(2u32.pow(u32::from(spec.bits_per_sample) - 1)),
    };
    let values: Vec<f64> = match spec.sample_format {
        hound::SampleFormat::Float => {
            reader.samples::<f32>().map(|s| s.map(|s| f64::from(s) * scale)).collect::<Result<_, _>>()
        }
        hound::SampleFormat::Int => {
            reader.samples::<i32>().map(|s| s.map(|s| f64::from(s) * scale)).collect::<Result<_, _>>()
        }
    }
    .with_context(|| format!("{} is no readable PCM WAV file", path.display()))?;
    let channels = usize::from(spec.channels.max(1));
    let mono: Vec<f64> = values.chunks(channels).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect();
    let samples = resample(&mono, spec.sample_rate);
    ensure!(samples.len() >= 1_600, "{} is shorter than 200 ms", path.display());
    Ok(samples)
}

/// Ten seconds of a voice-like signal: a gliding glottal pulse through three formants that change with the
/// syllables, and pauses between the words. The same on every machine.
pub(super) fn generated() -> Vec<i16> {
    const VOWELS_HZ: [[f64; 3]; 5] = [
        [730.0, 1090.0, 2440.0],
        [270.0, 2290.0, 3010.0],
        [300.0, 870.0, 2240.0],
        [530.0, 1840.0, 2480.0],
        [570.0, 840.0, 2410.0],
    ];
    let mut random = SplitMix(0x5eed);
    let mut out = Vec::with_capacity(80_000);
    let mut phase = 0.0f64;
    let mut formants = [[0.0f64; 2]; 3];
    while out.len() < 80_000 {
        let vowel = VOWELS_HZ[(random.next() % 5) as usize];
        let length = 900 + (random.next() % 900) as usize;
        let pitch_hz = 95.0 + (random.next() % 60) as f64;
        let pause = if random.next().is_multiple_of(5) { 1_600 } else { 160 };
        for i in 0..length {
            let position = i as f64 / length as f64;
            phase += (pitch_hz * (1.1 - 0.2 * position)) / f64::from(RATE_HZ);
            let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase -= phase.floor();
            let breath = ((random.next() % 2_000) as f64 / 1_000.0 - 1.0) * 0.02;
            let excitation = (pulse + breath) * (std::f64::consts::PI * position).sin();
            let mut sum = 0.0;
            for (state, (hz, gain)) in formants.iter_mut().zip(vowel.iter().zip([1.0, 0.6, 0.3])) {
                let radius = (-std::f64::consts::PI * 90.0 / f64::from(RATE_HZ)).exp();
                let angle = 2.0 * std::f64::consts::PI * hz / f64::from(RATE_HZ);
                let y = excitation + 2.0 * radius * angle.cos() * state[0] - radius * radius * state[1];
                *state = [y, state[0]];
                sum += y * gain;
            }
            out.push((sum * 4_000.0).clamp(-28_000.0, 28_000.0) as i16);
        }
        out.extend(std::iter::repeat_n(0, pause));
    }
    out.truncate(80_000);
    out
}

/// Windowed-sinc resampling, off line.
fn resample(input: &[f64], rate_hz: u32) -> Vec<i16> {
    let clamp = |x: f64| x.round().clamp(-32_768.0, 32_767.0) as i16;
    if rate_hz == RATE_HZ {
        return input.iter().map(|&x| clamp(x)).collect();
    }
    let step = f64::from(rate_hz) / f64::from(RATE_HZ);
    let cutoff = (1.0 / step).min(1.0) * 0.92;
    let half = (16.0 * step.max(1.0)).ceil();
    let length = (input.len() as f64 / step) as usize;
    (0..length)
        .map(|i| {
            let centre = i as f64 * step;
            let first = (centre - half).ceil().max(0.0) as usize;
            let last = ((centre + half) as usize).min(input.len().saturating_sub(1));
            let sum = (first..=last).fold(0.0, |sum, at| {
                let t = at as f64 - centre;
                let x = std::f64::consts::PI * t * cutoff;
                let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
                sum + input[at] * sinc * cutoff * (0.5 + 0.5 * (std::f64::consts::PI * t / half).cos())
            });
            clamp(sum)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_speech_has_a_voice_level_and_pauses() {
        let speech = generated();
        let rms = (speech.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / speech.len() as f64).sqrt();
        assert!((800.0..12_000.0).contains(&rms), "{rms}");
        assert!(speech.windows(800).any(|w| w.iter().all(|x| x.abs() < 10)), "no pause");
    }

    #[test]
    fn a_tone_keeps_its_level_and_frequency_when_resampled() {
        let input: Vec<f64> = (0..48_000)
            .map(|i| 10_000.0 * (2.0 * std::f64::consts::PI * 440.0 * f64::from(i) / 48_000.0).sin())
            .collect();
        let output = resample(&input, 48_000);
        assert_eq!(output.len(), 8_000);
        for (i, &x) in output.iter().enumerate().skip(100).take(7_800) {
            let expected = 10_000.0 * (2.0 * std::f64::consts::PI * 440.0 * i as f64 / 8_000.0).sin();
            assert!((f64::from(x) - expected).abs() < 120.0, "{i}: {x} against {expected}");
        }
    }
}
