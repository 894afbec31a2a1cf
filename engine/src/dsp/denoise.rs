//! Noise suppression by RNNoise's network (nnnoiseless), for audio at 48 kHz.

use std::fmt;

use nnnoiseless::DenoiseState;

/// A suppressor for one call. What comes out is 10 ms behind what went in.
pub struct Denoiser {
    state: Box<DenoiseState<'static>>,
    input: [f32; FRAME_SAMPLES],
    output: [f32; FRAME_SAMPLES],
    filled: usize,
    speech: f32,
}

impl Denoiser {
    /// The only rate that the network knows.
    pub const RATE_HZ: u32 = 48_000;

    /// A suppressor, warmed up: what follows allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        let mut new = Self {
            state: DenoiseState::new(),
            input: [0.0; FRAME_SAMPLES],
            output: [0.0; FRAME_SAMPLES],
            filled: 0,
            speech: 0.0,
        };
        // The transforms make their tables at their first use, once per thread.
        let Self { state, input, output, .. } = &mut new;
        state.process_frame(output, input);
        new
    }

    /// Suppresses noise where the samples lie. A frame may have any length; one of whole 10 ms costs no
    /// further delay.
    pub fn handle_frame(&mut self, pcm: &mut [i16]) {
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

impl Default for Denoiser {
    fn default() -> Self {
        Self::new()
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
        let mut denoiser = Denoiser::new();
        pcm.chunks_mut(960).for_each(|frame| denoiser.handle_frame(frame));
        let after = squares(&pcm[48_000..]);
        assert!(after * 100 < before, "{} dB", 10.0 * (before as f64 / after as f64).log10());
        assert!(denoiser.speech() < 0.1);
    }

    #[test]
    fn length_of_frames_does_not_matter_and_runs_repeat() {
        let run = |length| {
            let mut pcm = noise(9600, 9000);
            let mut denoiser = Denoiser::new();
            pcm.chunks_mut(length).for_each(|frame| denoiser.handle_frame(frame));
            pcm
        };
        let expected = run(960);
        for length in [960, 480, 1, 333] {
            assert_eq!(run(length), expected, "{length}");
        }
    }

    #[test]
    fn extremes_and_nothing_are_handled() {
        let mut denoiser = Denoiser::new();
        for frame in [&[i16::MIN; 960][..], &[i16::MAX; 2880], &[], &[0; 4800], &[1; 7]] {
            for _ in 0..3 {
                denoiser.handle_frame(&mut frame.to_vec());
                assert!((0.0..=1.0).contains(&denoiser.speech()));
            }
        }
    }
}
