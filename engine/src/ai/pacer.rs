//! When queued bot audio may be played: a start-up cushion that adapts to how irregularly it arrives.

use super::line::Line;
use crate::time::Duration;

/// Decides for every frame how much of the queue to play. Counts samples instead of reading a clock, because pulls
/// come at real time.
#[derive(Debug)]
pub(super) struct Pacer {
    state: State,
    /// Queued samples needed to start a spurt: now, at least, and at most.
    cushion: u64,
    least_cushion: u64,
    cushion_limit: u64,
    /// Samples played since the cushion was changed.
    steady: u64,
    /// Where the queue ended at the last frame, as a position in the stream of bot audio.
    end: u64,
    /// Samples pulled since the queue last grew.
    quiet: u64,
    /// Samples of silence since the last audio was played.
    gap: u64,
    times: Times,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Collecting the cushion.
    Waiting,
    Playing,
    /// Ran out of audio: an underrun if more comes soon, else the end of the spurt.
    Starved,
}

/// [`QUIET`], [`CUSHION_STEP`] and [`STEADY`] in samples.
#[derive(Clone, Copy, Debug)]
struct Times {
    quiet: u64,
    step: u64,
    steady: u64,
}

/// What there is at a frame. Counts samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    /// The position after the last that is queued.
    pub(super) end: u64,
    /// How many are queued.
    pub(super) available: u64,
    /// The backend marked a boundary within them.
    pub(super) has_boundary: bool,
    /// They are the rest of an utterance, or whole ones.
    pub(super) is_whole: bool,
    /// The size of the frame.
    pub(super) wanted: u64,
}

/// What to do in this frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// How many queued samples to play.
    pub(super) take: u64,
    /// They are the first of a spurt.
    pub(super) begins: bool,
    /// Whether a gap in the middle of a spurt was found.
    pub(super) underrun: bool,
}

impl Pacer {
    pub(super) fn new(line: Line, cushion: Duration, cushion_limit: Duration) -> Self {
        let times = Times {
            quiet: line.samples_in(QUIET),
            step: line.samples_in(CUSHION_STEP),
            steady: line.samples_in(STEADY),
        };
        let cushion = line.samples_in(cushion);
        Self {
            state: State::Waiting,
            cushion,
            least_cushion: cushion,
            cushion_limit: line.samples_in(cushion_limit).max(cushion),
            steady: 0,
            end: 0,
            quiet: 0,
            gap: times.quiet,
            times,
        }
    }

    pub(super) fn turn(&mut self, queue: Queue) -> Turn {
        let Queue { end, available, has_boundary, is_whole, wanted } = queue;
        let grew = end != self.end;
        self.end = end;
        self.quiet = if grew { 0 } else { self.quiet.saturating_add(wanted) };

        let mut underrun = false;
        if self.state == State::Starved {
            if grew && self.gap < self.times.quiet {
                underrun = true;
                self.cushion = (self.cushion + self.times.step).min(self.cushion_limit);
                self.steady = 0;
                self.state = State::Waiting;
            } else if grew || self.gap >= self.times.quiet {
                self.state = State::Waiting;
            }
        }
        let is_tail = is_whole || self.quiet >= self.times.quiet;
        // A mark is no reason to start: some backends send one after every chunk.
        if self.state == State::Waiting && available > 0 && (available >= self.cushion || is_tail) {
            self.state = State::Playing;
        }
        let take = match self.state {
            State::Playing if available >= wanted => wanted,
            // The tail of a spurt is padded only when it is known to be one.
            State::Playing if is_tail || has_boundary => available,
            _ => 0,
        };
        let begins = take > 0 && self.gap >= self.times.quiet;
        if take > 0 {
            self.gap = 0;
            self.settle(take);
        }
        if take < wanted {
            if self.state == State::Playing {
                self.state = State::Starved;
            }
            self.gap = self.gap.saturating_add(wanted - take);
        }
        if is_whole && take == available && wanted > 0 {
            // The utterance is over, so what comes next is no rest of it.
            (self.state, self.gap) = (State::Waiting, self.times.quiet);
        }
        Turn { take, begins, underrun }
    }

    /// The queue was emptied up to `end`: what comes next is a new spurt.
    pub(super) fn clear(&mut self, end: u64) {
        self.state = State::Waiting;
        self.end = end;
        self.quiet = 0;
        self.gap = self.times.quiet;
    }

    /// Nothing may be played in this frame. What is queued then goes on at once.
    pub(super) fn hold(&mut self) {
        (self.state, self.quiet, self.gap) = (State::Waiting, self.times.quiet, self.times.quiet);
    }

    /// Whether bot audio was played a moment ago, and may go on.
    pub(super) fn is_in_spurt(&self) -> bool {
        self.gap < self.times.quiet
    }

    /// A cushion that was raised falls again after a long time without a gap.
    fn settle(&mut self, played: u64) {
        self.steady = self.steady.saturating_add(played);
        if self.steady >= self.times.steady {
            self.steady = 0;
            self.cushion = self.cushion.saturating_sub(self.times.step).max(self.least_cushion);
        }
    }
}

/// No chunk for this long ends a spurt.
const QUIET: Duration = Duration::from_millis(100);
/// An underrun raises the cushion by this.
const CUSHION_STEP: Duration = Duration::from_millis(40);
/// So much audio without an underrun lowers it by as much.
const STEADY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::dialect::AudioFormat;

    fn pacer() -> Pacer {
        let line = Line::new(AudioFormat::PCMU);
        Pacer::new(line, Duration::from_millis(60), Duration::from_millis(200))
    }

    fn queue(end: u64, available: u64, has_boundary: bool, is_whole: bool) -> Queue {
        Queue { end, available, has_boundary, is_whole, wanted: 160 }
    }

    /// Plays chunks that arrive at given frames; returns how many bytes each frame played.
    fn play(pacer: &mut Pacer, arrivals: &[(usize, usize)], frames: usize) -> (Vec<usize>, usize) {
        let (mut end, mut position, mut underruns) = (0u64, 0u64, 0);
        let played = (0..frames)
            .map(|frame| {
                end +=
                    arrivals.iter().filter(|(at, _)| *at == frame).map(|(_, len)| *len as u64).sum::<u64>();
                let turn = pacer.turn(queue(end, end - position, false, false));
                position += turn.take;
                underruns += usize::from(turn.underrun);
                turn.take as usize
            })
            .collect();
        (played, underruns)
    }

    #[test]
    fn spurt_starts_when_the_cushion_is_there() {
        let arrivals: Vec<_> = (0..10).map(|frame| (frame, 160)).collect();
        let (played, underruns) = play(&mut pacer(), &arrivals, 12);
        assert_eq!(played, [0, 0, 160, 160, 160, 160, 160, 160, 160, 160, 160, 160]);
        assert_eq!(underruns, 0);
    }

    #[test]
    fn burst_starts_at_once() {
        let (played, _) = play(&mut pacer(), &[(0, 8000)], 50);
        assert!(played.iter().all(|&len| len == 160), "{played:?}");
    }

    #[test]
    fn lonely_short_chunk_is_played_after_the_quiet_time() {
        let (played, underruns) = play(&mut pacer(), &[(0, 200)], 10);
        assert_eq!(played, [0, 0, 0, 0, 0, 160, 40, 0, 0, 0]);
        assert_eq!(underruns, 0);
    }

    #[test]
    fn tail_of_a_burst_is_padded_without_delay() {
        let (played, underruns) = play(&mut pacer(), &[(0, 1650)], 13);
        assert_eq!(played[..11], [[160; 10].as_slice(), &[50]].concat());
        assert_eq!((played[11], underruns), (0, 0));
    }

    #[test]
    fn boundary_lets_a_tail_out_at_once() {
        let mut pacer = pacer();
        assert_eq!(pacer.turn(queue(480, 480, false, false)).take, 160);
        assert_eq!(pacer.turn(queue(480, 320, false, false)).take, 160);
        assert_eq!(pacer.turn(queue(490, 170, false, false)).take, 160);
        assert_eq!(pacer.turn(queue(490, 10, true, false)).take, 10);
    }

    #[test]
    fn irregular_sender_raises_the_cushion_until_it_plays_without_gaps() {
        // 137 ms of audio every 140 ms, as a resampling backend sends it (ai-streams 3.6), with jitter.
        let arrivals: Vec<_> = (0..200).map(|n| (n * 7 + [0, 1, 2, 0][n % 4], 1100 + n % 2 * 40)).collect();
        let mut pacer = pacer();
        let (played, underruns) = play(&mut pacer, &arrivals, 1400);
        assert!((1..=4).contains(&underruns), "{underruns}");
        assert!(played[700..1300].iter().all(|&len| len == 160), "{:?}", &played[700..1300]);
    }

    #[test]
    fn cushion_has_a_limit() {
        let mut pacer = pacer();
        let arrivals: Vec<_> = (0..100).map(|n| (n * 12, 1600)).collect();
        let (_, underruns) = play(&mut pacer, &arrivals, 1200);
        assert!(underruns > 20);
        assert_eq!(pacer.cushion, 1600);
    }

    #[test]
    fn pause_between_spurts_is_no_underrun() {
        let (_, underruns) = play(&mut pacer(), &[(0, 1600), (30, 1600), (60, 1600)], 90);
        assert_eq!(underruns, 0);
    }

    #[test]
    fn cushion_falls_again_by_and_by() {
        let mut pacer = pacer();
        let arrivals: Vec<_> = (0..100).map(|n| (n * 12, 1600)).collect();
        play(&mut pacer, &arrivals, 1300);
        assert_eq!(pacer.cushion, 1600);
        // Twenty seconds of a backend that keeps ahead, and 30 more.
        play(&mut pacer, &[(0, 20 * 8000)], 1010);
        assert_eq!(pacer.cushion, 1600);
        play(&mut pacer, &[(0, 30 * 8000)], 1510);
        assert_eq!(pacer.cushion, 1280);
        play(&mut pacer, &[(0, 200 * 8000)], 10_010);
        assert_eq!(pacer.cushion, 480);
    }

    #[test]
    fn whole_utterance_starts_at_once_and_ends_its_spurt() {
        let mut pacer = pacer();
        let turn = pacer.turn(queue(200, 200, false, true));
        assert_eq!((turn.take, turn.begins), (160, true));
        assert_eq!(pacer.turn(queue(200, 40, false, true)).take, 40);
        assert!(!pacer.is_in_spurt());
        // What comes in the next frame is neither late nor part of it.
        let turn = pacer.turn(queue(680, 480, false, false));
        assert_eq!(turn, Turn { take: 160, begins: true, underrun: false });
    }

    #[test]
    fn audio_that_was_held_goes_on_at_once() {
        let mut pacer = pacer();
        assert_eq!(pacer.turn(queue(480, 480, false, false)).take, 160);
        assert_eq!(pacer.turn(queue(480, 320, false, false)).take, 160);
        (0..50).for_each(|_| pacer.hold());
        let turn = pacer.turn(queue(480, 160, false, false));
        assert_eq!(turn, Turn { take: 160, begins: true, underrun: false });
    }
}
