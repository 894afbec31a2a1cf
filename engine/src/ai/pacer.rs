//! When queued bot audio may be played: a start-up cushion that adapts to how irregularly it arrives.

/// Decides for every frame how many of the queued bytes to play. Counts samples instead of reading a clock:
/// one byte of PCMU is one sample, and pulls come at real time.
#[derive(Debug)]
pub(super) struct Pacer {
    state: State,
    /// Queued samples needed to start a spurt.
    cushion: usize,
    cushion_limit: usize,
    /// Where the queue ended at the last frame, as a position in the stream of bot audio.
    end: u64,
    /// Samples pulled since the queue last grew.
    quiet: usize,
    /// Samples of silence since the last audio was played.
    gap: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Collecting the cushion.
    Waiting,
    Playing,
    /// Ran out of audio: an underrun if more comes soon, else the end of the spurt.
    Starved,
}

/// What to do in this frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// How many queued bytes to play.
    pub(super) take: usize,
    /// Whether a gap in the middle of a spurt was found.
    pub(super) underrun: bool,
}

impl Pacer {
    pub(super) fn new(cushion: usize, cushion_limit: usize) -> Self {
        let cushion_limit = cushion_limit.max(cushion);
        Self { state: State::Waiting, cushion, cushion_limit, end: 0, quiet: 0, gap: QUIET_SAMPLES }
    }

    /// `end` is the position after the last queued byte, `available` how many are queued, `wanted` the size
    /// of the frame, and `boundary` whether the backend marked a boundary within what is queued.
    pub(super) fn turn(&mut self, end: u64, available: usize, wanted: usize, boundary: bool) -> Turn {
        let grew = end != self.end;
        self.end = end;
        self.quiet = if grew { 0 } else { self.quiet.saturating_add(wanted) };

        let mut underrun = false;
        if self.state == State::Starved {
            if grew && self.gap < QUIET_SAMPLES {
                underrun = true;
                self.cushion = (self.cushion + CUSHION_STEP_SAMPLES).min(self.cushion_limit);
                self.state = State::Waiting;
            } else if grew || self.gap >= QUIET_SAMPLES {
                self.state = State::Waiting;
            }
        }
        let quiet = self.quiet >= QUIET_SAMPLES;
        // A mark is no reason to start: some backends send one after every chunk.
        if self.state == State::Waiting && available > 0 && (available >= self.cushion || quiet) {
            self.state = State::Playing;
        }
        let take = match self.state {
            State::Playing if available >= wanted => wanted,
            // The tail of a spurt is padded only when it is known to be one.
            State::Playing if quiet || boundary => available,
            _ => 0,
        };
        if take < wanted {
            if self.state == State::Playing {
                self.state = State::Starved;
                self.gap = 0;
            }
            self.gap = self.gap.saturating_add(wanted - take);
        }
        Turn { take, underrun }
    }

    /// The queue was emptied up to `end`: what comes next is a new spurt.
    pub(super) fn clear(&mut self, end: u64) {
        self.state = State::Waiting;
        self.end = end;
        self.quiet = 0;
        self.gap = QUIET_SAMPLES;
    }
}

/// No chunk for this long ends a spurt: 100 ms.
const QUIET_SAMPLES: usize = 800;
/// An underrun raises the cushion by 40 ms.
const CUSHION_STEP_SAMPLES: usize = 320;

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays chunks that arrive at given frames; returns how many bytes each frame played.
    fn play(pacer: &mut Pacer, arrivals: &[(usize, usize)], frames: usize) -> (Vec<usize>, usize) {
        let (mut end, mut position, mut underruns) = (0u64, 0u64, 0);
        let played = (0..frames)
            .map(|frame| {
                end +=
                    arrivals.iter().filter(|(at, _)| *at == frame).map(|(_, len)| *len as u64).sum::<u64>();
                let turn = pacer.turn(end, (end - position) as usize, 160, false);
                position += turn.take as u64;
                underruns += usize::from(turn.underrun);
                turn.take
            })
            .collect();
        (played, underruns)
    }

    #[test]
    fn spurt_starts_when_the_cushion_is_there() {
        let arrivals: Vec<_> = (0..10).map(|frame| (frame, 160)).collect();
        let (played, underruns) = play(&mut Pacer::new(480, 1600), &arrivals, 12);
        assert_eq!(played, [0, 0, 160, 160, 160, 160, 160, 160, 160, 160, 160, 160]);
        assert_eq!(underruns, 0);
    }

    #[test]
    fn burst_starts_at_once() {
        let (played, _) = play(&mut Pacer::new(480, 1600), &[(0, 8000)], 50);
        assert!(played.iter().all(|&len| len == 160), "{played:?}");
    }

    #[test]
    fn lonely_short_chunk_is_played_after_the_quiet_time() {
        let (played, underruns) = play(&mut Pacer::new(480, 1600), &[(0, 200)], 10);
        assert_eq!(played, [0, 0, 0, 0, 0, 160, 40, 0, 0, 0]);
        assert_eq!(underruns, 0);
    }

    #[test]
    fn tail_of_a_burst_is_padded_without_delay() {
        let (played, underruns) = play(&mut Pacer::new(480, 1600), &[(0, 1650)], 13);
        assert_eq!(played[..11], [[160; 10].as_slice(), &[50]].concat());
        assert_eq!((played[11], underruns), (0, 0));
    }

    #[test]
    fn boundary_lets_a_tail_out_at_once() {
        let mut pacer = Pacer::new(480, 1600);
        assert_eq!(pacer.turn(480, 480, 160, false).take, 160);
        assert_eq!(pacer.turn(480, 320, 160, false).take, 160);
        assert_eq!(pacer.turn(490, 170, 160, false).take, 160);
        assert_eq!(pacer.turn(490, 10, 160, true).take, 10);
    }

    #[test]
    fn irregular_sender_raises_the_cushion_until_it_plays_without_gaps() {
        // 137 ms of audio every 140 ms, as a resampling backend sends it (ai-streams 3.6), with jitter.
        let arrivals: Vec<_> = (0..200).map(|n| (n * 7 + [0, 1, 2, 0][n % 4], 1100 + n % 2 * 40)).collect();
        let mut pacer = Pacer::new(480, 1600);
        let (played, underruns) = play(&mut pacer, &arrivals, 1400);
        assert!((1..=4).contains(&underruns), "{underruns}");
        assert!(played[700..1300].iter().all(|&len| len == 160), "{:?}", &played[700..1300]);
    }

    #[test]
    fn cushion_has_a_limit() {
        let mut pacer = Pacer::new(480, 1600);
        let arrivals: Vec<_> = (0..100).map(|n| (n * 12, 1600)).collect();
        let (_, underruns) = play(&mut pacer, &arrivals, 1200);
        assert!(underruns > 20);
        assert_eq!(pacer.cushion, 1600);
    }

    #[test]
    fn pause_between_spurts_is_no_underrun() {
        let (_, underruns) = play(&mut Pacer::new(480, 1600), &[(0, 1600), (30, 1600), (60, 1600)], 90);
        assert_eq!(underruns, 0);
    }
}
