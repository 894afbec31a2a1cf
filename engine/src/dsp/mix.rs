//! The mixer of a conference: every member hears all the others.
//!
//! ```text
//!   offer(member) -> frame to decode into       output(member) -> what the member hears
//!                  \_ levels -> loudest N -> gains -> sum -> minus self, limited _/
//! ```
//!
//! One call of [`Mixer::mix`] per tick. The frames lie in one slab that the mixer owns: the caller decodes
//! straight into it and encodes straight from it. Whoever is not in the sum, because it offered no frame or
//! a silent one, is muted or not among the loudest, hears the [total](Mixer::total), which is one frame for
//! all of them: it can be encoded once.
//!
//! A tick costs what the frames offered cost; members that offer none cost nothing. With the loudest N
//! chosen, all frames are measured but only N are summed.
//!
//! Sums have 32 bits and are limited per sample by a fixed curve ([`limit`](crate::simd::limit)): exact up
//! to -2.5 dB of full scale, smooth above. A limiter that moves a gain over time distorts less, but each
//! member hears a different sum, so that there would be as many gains as members and no shared total, and
//! one loud member would pump all the others. Speech at usual levels passes the knee only when several
//! speak up at once, for some samples; who is too loud for long is a case for [`Agc`](super::agc::Agc).

#[cfg(test)]
mod tests;

use super::level::Level;
use crate::simd::{Block, Gain, kernels};

/// Multiplies a frame by a gain that goes from `from` at its first sample to `to` just after its last.
pub fn fade(from: Gain, to: Gain, pcm: &mut [i16]) {
    if from == to && from == Gain::UNITY {
        return;
    }
    let samples = pcm.len().max(1) as i32;
    let step = (i32::from(to.steps()) - i32::from(from.steps())) * (1 << 12) / samples;
    (kernels().mix.gain)(pcm, i32::from(from.steps()) << 12, step);
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Mixer {
    /// The total's frame, then one per member, on cache lines from `start` on.
    slab: Box<[i16]>,
    start: usize,
    /// Samples of a frame.
    samples: usize,
    /// Blocks of a frame; its last may be padded with zeros.
    blocks: usize,
    members: Box<[Member]>,
    loudest: usize,
    /// Counts ticks from 1: the one that frames are offered for, or the one just mixed.
    tick: u64,
    /// Who offered a frame for this tick.
    offered: Vec<u32>,
    /// Who is in the sum of the tick just mixed, in front.
    summed: Box<[u32]>,
    summed_count: usize,
    squares: Vec<u64>,
    ranking: Vec<Rank>,
    /// The tick has been mixed; the next offer begins another.
    mixed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// What was asked for.
    gain: Gain,
    /// What the last frame ended with, if there was one in the last tick; a change is spread over a frame
    /// so that it does not click.
    applied: Option<Gain>,
    /// The tick of the last frame; 0 is none.
    tick: u64,
    /// In the sum of that tick: minus self lies in the place of the frame.
    summed: bool,
    squares: u64,
    /// The power that decides who is loudest: rises at once, falls by an eighth per tick.
    score: u64,
    /// One of the loudest.
    chosen: bool,
}

/// Sorts the loudest first: by score, doubled for those who were chosen before, so that two of a kind do not
/// take turns; the one chosen before the newcomer; the lower index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    score: std::cmp::Reverse<u64>,
    newcomer: bool,
    member: u32,
}

impl Mixer {
    /// A mixer for `capacity` members with frames of `samples` samples. All its memory is taken here: two
    /// bytes per member and sample.
    #[must_use]
    pub fn new(capacity: usize, samples: usize) -> Self {
        let blocks = samples.div_ceil(BLOCK);
        let slab = vec![0; (capacity + 1) * blocks * BLOCK + BLOCK].into_boxed_slice();
        // Without luck the loads of a whole vector would each touch two cache lines.
        let start = slab.as_ptr().align_offset(size_of::<Block>()).min(BLOCK);
        Self {
            slab,
            start,
            samples,
            blocks,
            members: vec![Member::NEW; capacity].into_boxed_slice(),
            loudest: usize::MAX,
            tick: 1,
            offered: Vec::with_capacity(capacity),
            summed: vec![0; capacity].into_boxed_slice(),
            summed_count: 0,
            squares: vec![0; capacity],
            ranking: Vec::with_capacity(capacity),
            mixed: false,
        }
    }

    /// How many members there can be.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.members.len()
    }

    /// Samples of a frame.
    #[must_use]
    pub const fn frame_samples(&self) -> usize {
        self.samples
    }

    /// At most so many are summed, the loudest; `None` is all, as at first.
    pub fn set_loudest(&mut self, count: Option<usize>) {
        self.loudest = count.unwrap_or(usize::MAX);
    }

    /// How loud the others hear the member, from its next frame on (a change takes the length of a frame).
    ///
    /// # Panics
    ///
    /// As [`Mixer::offer`].
    pub fn set_gain(&mut self, member: usize, gain: Gain) {
        self.members[member].gain = gain;
    }

    /// A place that another member had: gain, level and rank as at first.
    ///
    /// # Panics
    ///
    /// As [`Mixer::offer`].
    pub fn reset(&mut self, member: usize) {
        let Member { tick, summed, .. } = self.members[member];
        self.members[member] = Member { tick, summed, ..Member::NEW };
    }

    /// The frame of a member for the next tick, to be filled whole: it holds what was there before. After
    /// [`Mixer::mix`] the first offer begins a new tick, and only the frames offered in it are mixed.
    ///
    /// # Panics
    ///
    /// When `member` is not below the capacity.
    pub fn offer(&mut self, member: usize) -> &mut [i16] {
        if self.mixed {
            self.begin();
        }
        let place = &mut self.members[member];
        if place.tick != self.tick {
            if place.tick + 1 != self.tick {
                // New, or back after a pause: nothing to go on from.
                place.applied = None;
                place.score = 0;
                place.chosen = false;
            }
            place.tick = self.tick;
            self.offered.push(member as u32);
        }
        let start = self.start + (member + 1) * self.blocks * BLOCK;
        &mut self.slab[start..start + self.samples]
    }

    /// Mixes the frames offered since the last call; without one, the total is silent.
    pub fn mix(&mut self) {
        if self.mixed {
            self.begin();
        }
        self.mixed = true;
        self.measure();
        if self.offered.len() <= self.loudest {
            self.choose_all();
        } else {
            self.choose();
        }
        let blocks = self.blocks;
        let (total, frames) = self.slab[self.start..].split_at_mut(blocks * BLOCK);
        let (total, frames) = (total.as_chunks_mut().0, frames.as_chunks_mut().0);
        (kernels().mix.minus_self)(frames, blocks, &self.summed[..self.summed_count], total);
    }

    /// What the member hears after [`Mixer::mix`], until the next offer: the others.
    ///
    /// # Panics
    ///
    /// As [`Mixer::offer`].
    #[must_use]
    pub fn output(&self, member: usize) -> &[i16] {
        if self.is_summed(member) {
            let start = self.start + (member + 1) * self.blocks * BLOCK;
            &self.slab[start..start + self.samples]
        } else {
            self.total()
        }
    }

    /// Whether the member is in the sum, so that its output differs from the total.
    ///
    /// # Panics
    ///
    /// As [`Mixer::offer`].
    #[must_use]
    pub fn is_summed(&self, member: usize) -> bool {
        let Member { tick, summed, .. } = self.members[member];
        self.mixed && summed && tick == self.tick
    }

    /// What a listener hears: everybody in the sum.
    #[must_use]
    pub fn total(&self) -> &[i16] {
        &self.slab[self.start..self.start + self.samples]
    }

    /// The level of the member's last frame as it was offered, before its gain.
    ///
    /// # Panics
    ///
    /// As [`Mixer::offer`].
    #[must_use]
    pub fn level(&self, member: usize) -> Level {
        Level::from_squares(self.members[member].squares, self.samples)
    }

    /// The sum of the squares of that frame.
    ///
    /// # Panics
    ///
    /// As [`Mixer::offer`].
    #[must_use]
    pub fn squares(&self, member: usize) -> u64 {
        self.members[member].squares
    }

    /// Who is in the sum of the last tick: the speakers, in the order of their offers.
    pub fn summed(&self) -> impl ExactSizeIterator<Item = usize> {
        self.summed[..self.summed_count].iter().map(|&member| member as usize)
    }

    fn begin(&mut self) {
        self.mixed = false;
        self.tick += 1;
        self.offered.clear();
    }

    fn measure(&mut self) {
        let frames = self.slab[self.start + self.blocks * BLOCK..].as_chunks().0;
        (kernels().mix.squares)(frames, self.blocks, &self.offered, &mut self.squares);
        if self.loudest == usize::MAX {
            return;
        }
        for (&index, &squares) in self.offered.iter().zip(&self.squares) {
            let member = &mut self.members[index as usize];
            // 2^42 for the frame and 2^18 for the gain at most.
            let gain = u64::from(member.gain.steps().unsigned_abs());
            let power = squares.saturating_mul((gain * gain) >> 12) >> 12;
            member.score = power.max(member.score - member.score.div_ceil(8));
        }
    }

    /// Everybody is one of the loudest.
    fn choose_all(&mut self) {
        self.sum(|member| {
            member.chosen = true;
            member.gain
        });
    }

    /// Chooses the loudest; an incumbent yields only to twice (3 dB above) its score.
    fn choose(&mut self) {
        self.ranking.clear();
        for &index in &self.offered {
            let member = &mut self.members[index as usize];
            let score = if member.gain == Gain::MUTE { 0 } else { member.score };
            if score > 0 {
                let score = std::cmp::Reverse(if member.chosen { 2 * score } else { score });
                self.ranking.push(Rank { score, newcomer: !member.chosen, member: index });
            }
            member.chosen = false;
        }
        if self.loudest > 0 && self.ranking.len() > self.loudest {
            self.ranking.select_nth_unstable(self.loudest - 1);
        }
        for rank in self.ranking.iter().take(self.loudest) {
            self.members[rank.member as usize].chosen = true;
        }
        self.sum(|member| if member.chosen { member.gain } else { Gain::MUTE });
    }

    /// Finds who is in the sum with the gain that is wanted for it, and applies the gains.
    #[inline(always)]
    fn sum(&mut self, wanted: impl Fn(&mut Member) -> Gain) {
        let mut count = 0;
        for (&index, &squares) in self.offered.iter().zip(&self.squares) {
            let member = &mut self.members[index as usize];
            let wanted = wanted(member);
            let applied = member.applied.replace(wanted).unwrap_or(wanted);
            member.squares = squares;
            member.summed = squares > 0 && (applied, wanted) != (Gain::MUTE, Gain::MUTE);
            // In place of one that is not in the sum comes the next one.
            self.summed[count] = index;
            count += usize::from(member.summed);
            if member.summed && (applied, wanted) != (Gain::UNITY, Gain::UNITY) {
                let start = self.start + (index as usize + 1) * self.blocks * BLOCK;
                fade(applied, wanted, &mut self.slab[start..start + self.samples]);
            }
        }
        self.summed_count = count;
    }
}

impl Member {
    const NEW: Self = Self {
        gain: Gain::UNITY,
        applied: None,
        tick: 0,
        summed: false,
        squares: 0,
        score: 0,
        chosen: false,
    };
}

const BLOCK: usize = size_of::<Block>() / size_of::<i16>();
