//! Comfort noise (RFC 3389): the level is honoured, the spectrum is white, which the RFC allows.

/// White noise at a level.
#[derive(Clone, Copy, Debug)]
pub struct ComfortNoise {
    state: u32,
    amplitude: i32,
}

impl ComfortNoise {
    /// Silence until a level is known.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: 0x2545_F491, amplitude: 0 }
    }

    /// Takes the payload of a comfort noise packet: the first octet is the level in -dBov (section 3.1);
    /// an empty one means silence.
    pub fn handle_payload(&mut self, payload: &[u8]) {
        let level = payload.first().map_or(127, |first| first & 0x7F);
        // Uniform noise of peak A has the power A^2 / 3; 0 dBov is a full-scale square wave.
        let amplitude = 32_767.0 * 1.732_050_8 * 10f32.powf(-f32::from(level) / 20.0);
        self.amplitude = amplitude.min(LOUDEST) as i32;
    }

    /// Forgets the level.
    pub fn silence(&mut self) {
        self.amplitude = 0;
    }

    /// The next noise.
    pub fn fill(&mut self, pcm: &mut [i16]) {
        if self.amplitude == 0 {
            return pcm.fill(0);
        }
        for sample in pcm {
            // Numerical Recipes' generator; its top half is random enough to be heard as noise.
            self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let random = (self.state as i32) >> 16;
            *sample = ((random * self.amplitude) >> 15) as i16;
        }
    }
}

impl Default for ComfortNoise {
    fn default() -> Self {
        Self::new()
    }
}

/// Noise louder than -26 dBov comforts nobody; a peer that asks for it is not obeyed.
const LOUDEST: f32 = 2844.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn level_dbov(payload: &[u8]) -> f64 {
        let mut noise = ComfortNoise::new();
        noise.handle_payload(payload);
        let mut pcm = [0; 8000];
        noise.fill(&mut pcm);
        let power = pcm.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>() / 8000.0;
        10.0 * (power / (32_767.0f64 * 32_767.0)).log10()
    }

    #[test]
    fn level_is_within_one_decibel() {
        for level in [30u8, 40, 50, 60] {
            let measured = level_dbov(&[level, 1, 2, 3]);
            assert!((measured + f64::from(level)).abs() < 1.0, "{level}: {measured}");
        }
    }

    #[test]
    fn absurd_level_is_limited_and_an_empty_payload_is_silence() {
        assert!(level_dbov(&[0]) < -25.0);
        assert_eq!(level_dbov(&[]), f64::NEG_INFINITY);
        assert_eq!(level_dbov(&[127]), f64::NEG_INFINITY);
    }
}
