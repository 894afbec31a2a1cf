//! Markers: one packet of band-limited pseudo-random noise in place of speech, found again by normalised
//! cross-correlation. Each marker of each call is its own sequence, so a find also proves whose audio it is.

/// Samples in a marker and in a packet: 20 ms at 8 kHz.
pub(super) const BLOCK: usize = 160;

/// Correlation above which a marker counts as found. A-law over mu-law gives above 0.999, speech against a marker
/// stays below 0.5 (see the test), a narrow-band codec in between lands above this.
pub(super) const FOUND: f32 = 0.70;

/// The waveform of marker `number` of the call with `seed`.
pub(super) fn waveform(seed: u64, number: u32) -> [i16; BLOCK] {
    let mut random = SplitMix(seed ^ (u64::from(number) << 40).wrapping_add(u64::from(number)));
    let noise: [f32; BLOCK + TAPS] =
        std::array::from_fn(|_| if random.next() & 1 == 0 { 1.0f32 } else { -1.0 });
    let taps = band_pass();
    let filtered: [f32; BLOCK] =
        std::array::from_fn(|i| taps.iter().zip(&noise[i..]).map(|(tap, x)| tap * x).sum());
    let rms = (filtered.iter().map(|x| x * x).sum::<f32>() / BLOCK as f32).sqrt().max(1e-6);
    filtered.map(|x| (x / rms * LEVEL_RMS).clamp(-30_000.0, 30_000.0) as i16)
}

/// A marker as the correlator wants it: scaled to 7 bits so that a dot product of 160 samples fits an `i32`.
#[derive(Clone)]
pub(super) struct Template {
    samples: [i16; BLOCK],
    energy: f32,
}

impl Template {
    /// From the samples that the far end decodes.
    pub(super) fn new(decoded: &[i16; BLOCK]) -> Self {
        let peak = decoded.iter().map(|x| x.unsigned_abs()).max().unwrap_or(1).max(1);
        let samples = decoded.map(|x| (i32::from(x) * 127 / i32::from(peak)) as i16);
        let energy = samples.iter().map(|&x| f32::from(x) * f32::from(x)).sum();
        Self { samples, energy }
    }

    /// Normalised correlation with `window` (exactly [`BLOCK`] samples) whose energy is `energy`.
    pub(super) fn correlation(&self, window: &[i16], energy: f32) -> f32 {
        let dot: i32 = self.samples.iter().zip(window).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
        dot as f32 / (self.energy * energy.max(1.0)).sqrt()
    }
}

/// Normalised correlation of two runs of equal length; 0 where one of them is silent.
pub(super) fn correlation(a: &[i16], b: &[i16]) -> f32 {
    let dot: i64 = a.iter().zip(b).map(|(&a, &b)| i64::from(a) * i64::from(b)).sum();
    let energies = energy(a) as f64 * energy(b) as f64;
    if energies == 0.0 { 0.0 } else { (dot as f64 / energies.sqrt()) as f32 }
}

/// Sum of squares.
pub(super) fn energy(samples: &[i16]) -> i64 {
    samples.iter().map(|&x| i64::from(x) * i64::from(x)).sum()
}

/// A small generator with a 64-bit state (SplitMix64): the same seed gives the same run everywhere.
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Windowed-sinc pass band of 350 to 3,000 Hz: what a telephone passes, so resampling on the way leaves it alone.
fn band_pass() -> [f32; TAPS] {
    let sinc =
        |x: f32| if x == 0.0 { 1.0 } else { (std::f32::consts::PI * x).sin() / (std::f32::consts::PI * x) };
    std::array::from_fn(|i| {
        let t = i as f32 - (TAPS / 2) as f32;
        let (high, low) = (2.0 * 3000.0 / 8000.0, 2.0 * 350.0 / 8000.0);
        let hann = 0.5 + 0.5 * (std::f32::consts::PI * t / (TAPS / 2 + 1) as f32).cos();
        (high * sinc(high * t) - low * sinc(low * t)) * hann
    })
}

const TAPS: usize = 41;
const LEVEL_RMS: f32 = 4_000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callload::{g711::Law, speech};

    #[test]
    fn a_marker_survives_both_laws_in_a_row() {
        let sent = waveform(7, 3).map(|x| Law::Pcmu.decode(Law::Pcmu.encode(x)));
        let back = sent.map(|x| Law::Pcma.decode(Law::Pcma.encode(x)));
        let template = Template::new(&sent);
        assert!(template.correlation(&back, energy(&back) as f32) > 0.998);
    }

    #[test]
    fn a_marker_is_found_at_one_sample_only_and_never_in_speech_or_another_marker() {
        let template = Template::new(&waveform(1, 1));
        let mut audio = speech::generated();
        audio.truncate(40_000);
        let best = |audio: &[i16]| {
            audio
                .windows(BLOCK)
                .map(|w| template.correlation(w, energy(w) as f32))
                .enumerate()
                .fold((0, 0.0f32), |best, (at, c)| if c > best.1 { (at, c) } else { best })
        };
        assert!(best(&audio).1 < 0.5, "speech looks like a marker: {:?}", best(&audio));
        audio[9_000..9_160].copy_from_slice(&waveform(2, 1));
        audio[12_000..12_160].copy_from_slice(&waveform(1, 2));
        assert!(best(&audio).1 < 0.5, "another marker was taken for this one");
        audio[20_000..20_160].copy_from_slice(&waveform(1, 1));
        assert_eq!(best(&audio).0, 20_000);
        let beside = &audio[20_002..20_162];
        assert!(template.correlation(beside, energy(beside) as f32) < FOUND);
    }
}
