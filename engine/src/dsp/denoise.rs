//! Noise suppression by RNNoise's network (nnnoiseless), which knows 48 kHz only: other rates are converted
//! there and back.

use std::fmt;

use nnnoiseless::DenoiseState;

use super::rate::SampleRate;
use super::resample::{Quality, Resampler};

/// A suppressor for one call. What comes out is 10 ms behind what went in, and the delays of both conversions
/// when the rate is not 48 kHz.
pub struct Denoiser {
    state: Box<DenoiseState<'static>>,
    conversion: Option<Conversion>,
    input: [f32; FRAME_SAMPLES],
    output: [f32; FRAME_SAMPLES],
    filled: usize,
    speech: f32,
}

#[derive(Debug)]
struct Conversion {
    up: Resampler,
    down: Resampler,
    /// 48 kHz over the rate.
    factor: usize,
}

impl Denoiser {
    /// A suppressor, warmed up: what follows on this thread allocates nothing. (The transforms make their
    /// tables at their first use on a thread; a worker that is handed suppressors makes one itself first.)
    /// `None` for a rate that does not divide 48 kHz.
    #[must_use]
    pub fn new(rate: SampleRate) -> Option<Self> {
        let wide = SampleRate::from_hz(48_000)?;
        if wide.hz() % rate.hz() != 0 {
            return None;
        }
        let factor = (wide.hz() / rate.hz()) as usize;
        let conversion = (factor > 1).then(|| Conversion {
            up: Resampler::new(rate, wide, Quality::Speech),
            down: Resampler::new(wide, rate, Quality::Speech),
            factor,
        });
        let mut new = Self {
            state: DenoiseState::new(),
            conversion,
            input: [0.0; FRAME_SAMPLES],
            output: [0.0; FRAME_SAMPLES],
            filled: 0,
            speech: 0.0,
        };
        let Self { state, input, output, .. } = &mut new;
        state.process_frame(output, input);
        Some(new)
    }

    /// Suppresses noise where the samples lie. A frame may have any length.
    pub fn handle_frame(&mut self, pcm: &mut [i16]) {
        let Some(mut conversion) = self.conversion.take() else { return self.handle_wide(pcm) };
        let mut wide = [0; FRAME_SAMPLES];
        for piece in pcm.chunks_mut(FRAME_SAMPLES / conversion.factor) {
            let samples = conversion.up.process(piece, &mut wide);
            self.handle_wide(&mut wide[..samples]);
            conversion.down.process(&wide[..samples], piece);
        }
        self.conversion = Some(conversion);
    }

    fn handle_wide(&mut self, pcm: &mut [i16]) {
        for sample in pcm {
            // The place of the sample that goes in is that of the one that comes out.
            let heard = self.output[self.filled];
            self.input[self.filled] = f32::from(*sample);
            *sample = heard.round().clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16;
            self.filled += 1;
            if self.filled == FRAME_SAMPLES {
                self.filled = 0;
                self.speech = self.state.process_frame(&mut self.output, &self.input);
            }
        }
    }

    /// The network's opinion of the last 10 ms: the probability of speech, 0 to 1.
    #[must_use]
    pub const fn speech(&self) -> f32 {
        self.speech
    }
}

impl fmt::Debug for Denoiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denoiser").field("speech", &self.speech).finish_non_exhaustive()
    }
}

/// 10 ms.
const FRAME_SAMPLES: usize = DenoiseState::FRAME_SIZE;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::level::squares;

    fn at(hz: u32) -> Denoiser {
        SampleRate::from_hz(hz).and_then(Denoiser::new).expect("a rate it takes")
    }

    fn noise(samples: usize, peak: i32) -> Vec<i16> {
        let mut state = 9u32;
        (0..samples)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (((state >> 16) as i32 - 32_768) * peak / 32_768) as i16
            })
            .collect()
    }

    #[test]
    fn steady_noise_of_a_room_is_suppressed() {
        // Falls by 6 dB per octave from 400 Hz on.
        let mut low = 0.0;
        let room = noise(72_000, 2000).into_iter().map(|x| {
            low += 0.05 * (f64::from(x) - low);
            (4.0 * low) as i16
        });
        let mut pcm: Vec<i16> = room.collect();
        let before = squares(&pcm[48_000..]);
        let mut denoiser = at(48_000);
        pcm.chunks_mut(960).for_each(|frame| denoiser.handle_frame(frame));
        let after = squares(&pcm[48_000..]);
        assert!(after * 100 < before, "{} dB", 10.0 * (before as f64 / after as f64).log10());
        assert!(denoiser.speech() < 0.1);
    }

    #[test]
    fn length_of_frames_does_not_matter_and_runs_repeat() {
        let run = |length| {
            let mut pcm = noise(9600, 9000);
            let mut denoiser = at(48_000);
            pcm.chunks_mut(length).for_each(|frame| denoiser.handle_frame(frame));
            pcm
        };
        let expected = run(960);
        for length in [960, 480, 1, 333] {
            assert_eq!(run(length), expected, "{length}");
        }
    }

    #[test]
    fn telephone_rates_are_converted_and_44_100_is_refused() {
        assert!(SampleRate::from_hz(44_100).and_then(Denoiser::new).is_none());
        for hz in [8000, 16_000, 24_000] {
            let mut low = 0.0;
            let room = noise(hz as usize * 2, 2000).into_iter().map(|x| {
                low += 0.2 * (f64::from(x) - low);
                low as i16
            });
            let mut pcm: Vec<i16> = room.collect();
            let half = hz as usize;
            let before = squares(&pcm[half..]);
            let mut denoiser = at(hz);
            pcm.chunks_mut(half / 50 + 1).for_each(|frame| denoiser.handle_frame(frame));
            let after = squares(&pcm[half..]);
            assert!(after * 10 < before, "{hz}: {} dB", 10.0 * (before as f64 / after as f64).log10());
        }
    }

    #[test]
    fn extremes_and_nothing_are_handled() {
        let mut denoiser = at(48_000);
        for frame in [&[i16::MIN; 960][..], &[i16::MAX; 2880], &[], &[0; 4800], &[1; 7]] {
            for _ in 0..3 {
                denoiser.handle_frame(&mut frame.to_vec());
                assert!((0.0..=1.0).contains(&denoiser.speech()));
            }
        }
    }
}
