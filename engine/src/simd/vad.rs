//! The family of voice activity kernels: one decision for each of many calls at once.

/// Energy detectors side by side.
#[derive(Debug)]
pub struct Vad {
    /// Shows one frame of each call to its detector: `levels[b][i]` to lane `i` of `lanes[b]`, as many blocks
    /// as both slices have. A level is the frame's power in 1/256 of a doubling, 0 at full scale, or
    /// [`NO_LEVEL`] for no frame or digital silence.
    pub energy: fn(timing: VadTiming, levels: &[[i16; VAD_LANES]], lanes: &mut [VadLanes]),
}

/// Detectors in one block of lanes: a vector of 512 bits.
pub const VAD_LANES: usize = 32;

/// The level of a frame that says nothing: its call is not speaking, and its noise floor stays.
pub const NO_LEVEL: i16 = i16::MIN;

/// One decibel of power in the unit of levels, times 256.
const DECIBEL_Q8: i32 = 21_771;

/// Times in frames.
#[derive(Clone, Copy, Debug)]
pub struct VadTiming {
    /// The floor is the lowest smoothed level of at least three and at most four such stretches.
    pub stretch: i16,
    /// How long activity lasts after a click, and after a word of some frames.
    pub hang: [i16; 2],
}

/// The state of 32 detectors.
#[derive(Clone, Copy, Debug)]
pub struct VadLanes {
    /// The smoothed level, [`NO_LEVEL`] before the first frame.
    pub smooth: [i16; VAD_LANES],
    /// How far levels lie from the smoothed one while nobody speaks, on average.
    pub spread: [i16; VAD_LANES],
    /// The lowest smoothed level of this stretch and the three before, [`i16::MAX`] if there was none.
    pub lowest: [[i16; VAD_LANES]; 4],
    /// Frames of this stretch.
    pub age: [i16; VAD_LANES],
    /// Frames in a row above the threshold, 4 at most.
    pub run: [i16; VAD_LANES],
    /// Frames that the call still counts as active, this one included; 0 is silence.
    pub active: [i16; VAD_LANES],
}

impl VadLanes {
    /// Before the first frame.
    pub const NEW: Self = Self {
        smooth: [NO_LEVEL; VAD_LANES],
        spread: [decibels(1) / 2; VAD_LANES],
        lowest: [[i16::MAX; VAD_LANES]; 4],
        age: [0; VAD_LANES],
        run: [0; VAD_LANES],
        active: [0; VAD_LANES],
    };

    /// Makes one lane as new.
    pub fn reset(&mut self, lane: usize) {
        self.set_lane(lane, VadLane::NEW);
    }

    /// The state of one lane.
    #[inline(always)]
    #[must_use]
    pub const fn lane(&self, lane: usize) -> VadLane {
        let [now, last, older, oldest] = &self.lowest;
        VadLane {
            smooth: self.smooth[lane],
            spread: self.spread[lane],
            lowest: [now[lane], last[lane], older[lane], oldest[lane]],
            age: self.age[lane],
            run: self.run[lane],
            active: self.active[lane],
        }
    }

    #[inline(always)]
    pub(in crate::simd) const fn set_lane(&mut self, lane: usize, state: VadLane) {
        self.smooth[lane] = state.smooth;
        self.spread[lane] = state.spread;
        self.lowest[0][lane] = state.lowest[0];
        self.lowest[1][lane] = state.lowest[1];
        self.lowest[2][lane] = state.lowest[2];
        self.lowest[3][lane] = state.lowest[3];
        self.age[lane] = state.age;
        self.run[lane] = state.run;
        self.active[lane] = state.active;
    }
}

/// The state of one detector; its fields are those of [`VadLanes`].
#[derive(Clone, Copy, Debug)]
pub struct VadLane {
    smooth: i16,
    spread: i16,
    lowest: [i16; 4],
    age: i16,
    run: i16,
    /// Frames that the call still counts as active, the last one included; 0 is silence.
    pub active: i16,
}

impl VadLane {
    /// Before the first frame.
    pub const NEW: Self = VadLanes::NEW.lane(0);

    /// Whether the last frame was above the threshold.
    #[must_use]
    pub const fn is_above(&self) -> bool {
        self.run > 0
    }

    /// The noise floor, as a level.
    #[must_use]
    pub fn floor(&self) -> i16 {
        floor(self.lowest)
    }

    /// The detector's next state. No branches, so that a block of lanes is some dozen vector instructions.
    #[inline(always)]
    #[must_use]
    pub fn after(self, level: i16, timing: VadTiming) -> Self {
        let present = level != NO_LEVEL;
        // A first level stands for itself; later ones count a quarter.
        let smoothed = self.smooth.wrapping_add(level.wrapping_sub(self.smooth) >> 2);
        let smoothed = if self.smooth == NO_LEVEL { level } else { smoothed };
        let smooth = if present { smoothed } else { self.smooth };

        let [now, last, older, oldest] = self.lowest;
        let now = if present { now.min(smooth) } else { now };
        let age = self.age.wrapping_add(i16::from(present));
        let full = age >= timing.stretch;

        // Steady noise lets fainter speech through than noise that comes and goes.
        let possible = floor([now, last, older, oldest]) + LEAST_RISE + 2 * self.spread;
        let above = present & (level > possible);
        let clear = present & (level > possible + CLEAR);
        let run = if above { (self.run + 1).min(WORD_FRAMES) } else { 0 };
        let left = (self.active - 1).max(0);
        // A clear onset counts at once, a faint one from its second frame on, unless speech has just been.
        let speaks = clear | (run >= 2) | (above & (left > 0));
        let hang = if run >= WORD_FRAMES { timing.hang[1] } else { timing.hang[0] };
        let active = if speaks { left.max(hang) } else { left };

        let off = level.wrapping_sub(smooth).wrapping_abs().min(MOST_SPREAD);
        let spread = self.spread + ((off - self.spread + 8) >> 4);
        Self {
            smooth,
            spread: if present & (active == 0) { spread } else { self.spread },
            lowest: [
                if full { smooth } else { now },
                if full { now } else { last },
                if full { last } else { older },
                if full { older } else { oldest },
            ],
            age: if full { 0 } else { age },
            run,
            active,
        }
    }
}

/// The floor that the lowest levels of four stretches give, the latest first.
#[inline(always)]
fn floor(lowest: [i16; 4]) -> i16 {
    let least = lowest[0].min(lowest[1]).min(lowest[2]).min(lowest[3]);
    let known = if lowest[1] == i16::MAX { START_FLOOR } else { i16::MAX };
    least.min(known).max(LEAST_FLOOR)
}

/// Decibels as a difference of levels.
const fn decibels(decibels: i32) -> i16 {
    ((decibels * DECIBEL_Q8) >> 8) as i16
}

/// The floor is never taken for less: what hardly rises above it is no speech.
const LEAST_FLOOR: i16 = decibels(-65);
/// In the first stretch the floor is not taken for more: a call may begin with speech.
const START_FLOOR: i16 = decibels(-50);
/// Speech, if it lasts, is so much above the floor, and twice the spread of the noise.
const LEAST_RISE: i16 = decibels(2);
/// So much more is speech at once.
const CLEAR: i16 = decibels(4);
/// What is counted for one frame's distance, so that a door that slams deafens nobody.
const MOST_SPREAD: i16 = decibels(3) / 2;
/// So many frames above the threshold are no click.
const WORD_FRAMES: i16 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::available;

    #[test]
    fn every_table_decides_alike() {
        let timing = VadTiming { stretch: 7, hang: [2, 9] };
        for blocks in 0..4 {
            let mut expected = vec![VadLanes::NEW; blocks];
            let mut tables: Vec<_> = available().map(|table| (table, expected.clone())).collect();
            let mut state = 1u32;
            for _ in 0..200 {
                let mut next = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    match state >> 28 {
                        0 => NO_LEVEL,
                        1 => 0,
                        2 => i16::MAX,
                        3 => NO_LEVEL + 1,
                        _ => -((state >> 12) as i16 & 0x1FFF),
                    }
                };
                let levels: Vec<_> = (0..blocks).map(|_| std::array::from_fn(|_| next())).collect();
                for (lanes, levels) in expected.iter_mut().zip(&levels) {
                    for (lane, &level) in levels.iter().enumerate() {
                        lanes.set_lane(lane, lanes.lane(lane).after(level, timing));
                    }
                }
                for (table, lanes) in &mut tables {
                    (table.vad.energy)(timing, &levels, lanes);
                    assert_eq!(format!("{lanes:?}"), format!("{expected:?}"), "{}", table.name);
                }
            }
        }
    }
}
