//! The lines in 64 ms of audio: which one or two frequencies, if it is made of those.

use std::f64::consts::TAU;
use std::sync::LazyLock;

/// Samples that are looked at together, at 8 kHz.
pub(super) const WINDOW_SAMPLES: usize = 512;

/// Frequencies in Hz. Tones less than 60 Hz apart are one line between them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lines {
    pub(super) low_hz: f32,
    /// 0 if there is one line only.
    pub(super) high_hz: f32,
}

impl Lines {
    pub(super) fn single(hz: f32) -> Self {
        Self { low_hz: hz, high_hz: 0.0 }
    }

    /// Tones that sound together as the lines that they make.
    pub(super) fn of(frequencies_hz: &[f64]) -> Self {
        let lowest = frequencies_hz.iter().copied().fold(f64::INFINITY, f64::min);
        let mean = |keep: fn(f64, f64) -> bool| {
            let (sum, count) = frequencies_hz
                .iter()
                .filter(|&&hz| keep(hz, lowest))
                .fold((0.0, 0.0), |(sum, count), hz| (sum + hz, count + 1.0));
            if count > 0.0 { (sum / count) as f32 } else { 0.0 }
        };
        Self {
            low_hz: mean(|hz, lowest| hz - lowest < 60.0),
            high_hz: mean(|hz, lowest| hz - lowest >= 60.0),
        }
    }

    pub(super) fn is_near(self, other: Self, hz: f32) -> bool {
        (self.low_hz - other.low_hz).abs() <= hz && (self.high_hz - other.high_hz).abs() <= hz
    }
}

/// The lines of a window; `None` if it is not made of one or two.
pub(super) fn lines(window: &[i16; WINDOW_SAMPLES]) -> Option<Lines> {
    let mut power = power(window);
    let total: f32 = power[LOWEST_BIN..HIGHEST_BIN].iter().sum();
    if total <= 0.0 {
        return None;
    }
    let (first_hz, first) = take_line(&mut power);
    let (second_hz, second) = take_line(&mut power);
    let second_counts = second > LEAST_SECOND * total;
    let in_lines = first + if second_counts { second } else { 0.0 };
    if in_lines < LEAST_IN_LINES * total {
        return None;
    }
    if !second_counts {
        return Some(Lines::single(first_hz));
    }
    Some(Lines { low_hz: first_hz.min(second_hz), high_hz: first_hz.max(second_hz) })
}

/// Speech is less regular.
const LEAST_IN_LINES: f32 = 0.88;
/// Tones of a pair are nearly of one level.
const LEAST_SECOND: f32 = 0.08;
/// Hum below does not count, nor does what a telephone channel cuts off above.
const LOWEST_BIN: usize = 10;
const HIGHEST_BIN: usize = 240;
/// Where lines are looked for: 220 to 2,500 Hz.
const LOWEST_LINE: usize = 14;
const HIGHEST_LINE: usize = 160;
/// A line and what the window spreads of it, or of two that are close.
const SPREAD: usize = 4;
const BIN_HZ: f32 = 8000.0 / WINDOW_SAMPLES as f32;

/// Frequency and power of the strongest line, which is taken out.
fn take_line(power: &mut [f32; HALF]) -> (f32, f32) {
    let peak = (LOWEST_LINE..HIGHEST_LINE)
        .fold(LOWEST_LINE, |best, k| if power[k] > power[best] { k } else { best });
    let (mut sum, mut moment) = (0.0, 0.0);
    for (k, power) in power.iter_mut().enumerate().take(peak + SPREAD + 1).skip(peak - SPREAD) {
        sum += *power;
        moment += *power * k as f32;
        *power = 0.0;
    }
    (if sum > 0.0 { moment / sum * BIN_HZ } else { 0.0 }, sum)
}

const HALF: usize = WINDOW_SAMPLES / 2;
type Complex = [f32; 2];

struct Tables {
    hann: [f32; WINDOW_SAMPLES],
    /// `exp(-2 pi i k / 512)`.
    turns: [Complex; HALF],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables {
    hann: std::array::from_fn(|n| {
        (0.5 - 0.5 * (TAU * (n as f64 + 0.5) / WINDOW_SAMPLES as f64).cos()) as f32
    }),
    turns: std::array::from_fn(|k| {
        let (sine, cosine) = (TAU * k as f64 / WINDOW_SAMPLES as f64).sin_cos();
        [cosine as f32, -sine as f32]
    }),
});

/// Computes what all share, so that the first window need not.
pub(super) fn prepare() {
    LazyLock::force(&TABLES);
}

/// The power at each multiple of 15.625 Hz.
fn power(window: &[i16; WINDOW_SAMPLES]) -> [f32; HALF] {
    let tables = &*TABLES;
    // Pairs of samples as complex numbers: half the work for audio, which is real.
    let mut values: [Complex; HALF] = std::array::from_fn(|n| {
        let n = (n as u8).reverse_bits() as usize;
        [0, 1].map(|late| f32::from(window[2 * n + late]) * tables.hann[2 * n + late])
    });
    let mut length = 1;
    while length < HALF {
        for group in values.chunks_exact_mut(2 * length) {
            let (low, high) = group.split_at_mut(length);
            for (k, (low, high)) in low.iter_mut().zip(high).enumerate() {
                let turned = times(*high, tables.turns[k * (HALF / length)]);
                *high = [low[0] - turned[0], low[1] - turned[1]];
                *low = [low[0] + turned[0], low[1] + turned[1]];
            }
        }
        length *= 2;
    }
    std::array::from_fn(|k| {
        let (one, other) = (values[k], values[(HALF - k) % HALF]);
        let even = [one[0] + other[0], one[1] - other[1]];
        let odd = times([one[1] + other[1], other[0] - one[0]], tables.turns[k]);
        let (re, im) = (even[0] + odd[0], even[1] + odd[1]);
        re * re + im * im
    })
}

fn times(a: Complex, b: Complex) -> Complex {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::tone::Oscillator;

    fn window(tones: &[(f64, f64)]) -> [i16; WINDOW_SAMPLES] {
        let mut sines: Vec<Oscillator> =
            tones.iter().map(|&(hz, dbm0)| Oscillator::new(hz, 8000, dbm0)).collect();
        std::array::from_fn(|_| sines.iter_mut().map(Oscillator::next_sample).sum::<f64>().round() as i16)
    }

    #[test]
    fn power_is_that_of_the_definition() {
        let window = window(&[(1000.0, -3.0), (1503.0, -9.0), (40.0, -20.0)]);
        let fast = power(&window);
        let tables = &*TABLES;
        for k in (0..HALF).step_by(7) {
            let (re, im) = window.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, &sample)| {
                let angle = TAU * (k * n) as f64 / WINDOW_SAMPLES as f64;
                let sample = f64::from(sample) * f64::from(tables.hann[n]);
                (re + sample * angle.cos(), im - sample * angle.sin())
            });
            // The halves are not halved.
            let slow = 4.0 * (re * re + im * im);
            assert!((f64::from(fast[k]) - slow).abs() <= 1e-3 * slow + 1e6, "{k}: {} {slow}", fast[k]);
        }
    }

    #[test]
    fn one_and_two_lines_are_told_to_a_few_hertz() {
        for hz in [350.0, 425.0, 1100.0, 1403.5, 2100.0] {
            let found = lines(&window(&[(hz, -10.0)])).expect("a line");
            assert!(found.is_near(Lines::single(hz as f32), 2.0), "{hz}: {found:?}");
        }
        let found = lines(&window(&[(480.0, -10.0), (620.0, -12.0)])).expect("two lines");
        assert!(found.is_near(Lines { low_hz: 480.0, high_hz: 620.0 }, 4.0), "{found:?}");
        let found = lines(&window(&[(440.0, -10.0), (480.0, -10.0)])).expect("one line");
        assert!(found.is_near(Lines::of(&[440.0, 480.0]), 15.0), "{found:?}");
    }

    #[test]
    fn three_lines_silence_and_clicks_are_none() {
        assert_eq!(lines(&window(&[(500.0, -10.0), (1000.0, -10.0), (1500.0, -10.0)])), None);
        assert_eq!(lines(&[0; WINDOW_SAMPLES]), None);
        let mut click = [0; WINDOW_SAMPLES];
        click[256] = i16::MAX;
        assert_eq!(lines(&click), None);
        assert_eq!(lines(&[i16::MIN; WINDOW_SAMPLES]), None);
    }
}
