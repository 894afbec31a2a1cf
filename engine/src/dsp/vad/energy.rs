//! Voice activity by power over a noise floor.
//!
//! The floor is the lowest smoothed power of the last 1.2 to 1.6 s, in which speech pauses for breath and
//! noise does not: it falls at once and rises when the noise has risen for that long. Two decibels and twice
//! the spread of the noise above the floor are speech in the second of two frames and while speech has
//! just been; 4 dB more are speech at once. After a word activity hangs over for 280 ms, after a click of
//! under 80 ms for 60 ms.
//!
//! Speech needs to be louder than -60 dBov. In its first 400 ms a call's floor is taken for -50 dBov or less,
//! so a call that opens with loud noise is active for so long. Digital silence tells nothing of the noise and
//! leaves the floor where it was.

use crate::dsp::level::{doublings, squares};
use crate::simd::{NO_LEVEL, VAD_LANES, VadLane, VadLanes, VadTiming, kernels};

/// The detectors of many calls, a structure of arrays.
#[derive(Debug)]
pub struct VadBank {
    timing: VadTiming,
    lanes: Box<[VadLanes]>,
    levels: Box<[[i16; VAD_LANES]]>,
}

impl VadBank {
    /// Detectors for `calls` calls with frames of `frame_ms` milliseconds (10 to 60, else the nearest).
    /// All memory is taken here.
    #[must_use]
    pub fn new(calls: usize, frame_ms: u8) -> Self {
        let blocks = calls.div_ceil(VAD_LANES);
        Self {
            timing: timing(frame_ms),
            lanes: vec![VadLanes::NEW; blocks].into_boxed_slice(),
            levels: vec![[NO_LEVEL; VAD_LANES]; blocks].into_boxed_slice(),
        }
    }

    /// Takes the frame of a call for the next [`VadBank::update`]: the sum of its squares and their number.
    /// A call that the bank has no detector for is ignored.
    pub fn set_frame(&mut self, call: usize, squares: u64, samples: usize) {
        if let Some(levels) = self.levels.get_mut(call / VAD_LANES) {
            levels[call % VAD_LANES] = doublings(squares, samples);
        }
    }

    /// Decides for all calls. One without a new frame has none: it falls silent after its hangover.
    pub fn update(&mut self) {
        (kernels().vad.energy)(self.timing, &self.levels, &mut self.lanes);
        self.levels.fill([NO_LEVEL; VAD_LANES]);
    }

    /// Whether somebody speaks in the call's last frame, or did a moment ago.
    #[must_use]
    pub fn is_active(&self, call: usize) -> bool {
        self.lanes.get(call / VAD_LANES).is_some_and(|lanes| lanes.active[call % VAD_LANES] > 0)
    }

    /// A place that another call had.
    pub fn reset(&mut self, call: usize) {
        if let Some(lanes) = self.lanes.get_mut(call / VAD_LANES) {
            lanes.reset(call % VAD_LANES);
            self.levels[call / VAD_LANES][call % VAD_LANES] = NO_LEVEL;
        }
    }

    /// The noise floor of a call in dBov; a guess until something has been heard.
    #[must_use]
    pub fn floor_dbov(&self, call: usize) -> Option<f32> {
        let lanes = self.lanes.get(call / VAD_LANES)?;
        Some(f32::from(lanes.lane(call % VAD_LANES).floor()) * DECIBELS)
    }
}

/// The detector of one call.
#[derive(Clone, Debug)]
pub struct EnergyVad {
    timing: VadTiming,
    lane: VadLane,
}

impl EnergyVad {
    /// A detector for frames of `frame_ms` milliseconds (10 to 60, else the nearest).
    #[must_use]
    pub fn new(frame_ms: u8) -> Self {
        Self { timing: timing(frame_ms), lane: VadLane::NEW }
    }

    /// Whether somebody speaks in this frame, or did a moment ago. An empty frame tells nothing.
    pub fn handle_frame(&mut self, pcm: &[i16]) -> bool {
        self.handle_squares(squares(pcm), pcm.len())
    }

    /// As [`EnergyVad::handle_frame`], from the sum of the squares of so many samples.
    pub fn handle_squares(&mut self, squares: u64, samples: usize) -> bool {
        self.lane = self.lane.after(doublings(squares, samples), self.timing);
        self.lane.active > 0
    }

    /// Whether the last frame itself was above the threshold; if not, activity only hangs over.
    #[must_use]
    pub fn is_voiced(&self) -> bool {
        self.lane.is_above()
    }

    /// The noise floor in dBov; a guess until something has been heard.
    #[must_use]
    pub fn floor_dbov(&self) -> f32 {
        f32::from(self.lane.floor()) * DECIBELS
    }
}

fn timing(frame_ms: u8) -> VadTiming {
    let frame_ms = i16::from(frame_ms.clamp(10, 60));
    VadTiming { stretch: (400 / frame_ms).max(1), hang: [(60 / frame_ms).max(1), (280 / frame_ms).max(1)] }
}

/// Of one unit of level.
const DECIBELS: f32 = 3.010_3 / 256.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batched_and_single_detectors_decide_alike() {
        let mut bank = VadBank::new(70, 20);
        let mut singles: Vec<_> = (0..70).map(|_| EnergyVad::new(20)).collect();
        let mut state = 5u32;
        for round in 0..200 {
            let mut expected = [false; 70];
            for (call, single) in singles.iter_mut().enumerate() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let loud = (round / 17 + call) % 3 == 0;
                let squares =
                    if (round + call) % 11 == 0 { 0 } else { u64::from(state >> if loud { 2 } else { 12 }) };
                bank.set_frame(call, squares, 160);
                expected[call] = single.handle_squares(squares, 160);
            }
            bank.update();
            assert_eq!(std::array::from_fn(|call| bank.is_active(call)), expected, "{round}");
        }
    }

    #[test]
    fn place_of_another_call_starts_anew() {
        let mut bank = VadBank::new(2, 20);
        for _ in 0..200 {
            bank.set_frame(0, 160 * 4_000_000, 160);
            bank.set_frame(1, 160 * 4_000_000, 160);
            bank.update();
        }
        assert!(!bank.is_active(0), "it has been taken for noise");
        bank.reset(0);
        bank.set_frame(0, 160 * 4_000_000, 160);
        bank.set_frame(1, 160 * 4_000_000, 160);
        bank.update();
        assert!(bank.is_active(0) && !bank.is_active(1));
        bank.set_frame(99, 1, 1);
        bank.reset(99);
        assert!(!bank.is_active(99) && bank.floor_dbov(99).is_none());
    }
}
