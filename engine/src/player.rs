//! Recorded audio as a source.

use std::sync::Arc;

/// Plays 8 kHz 16-bit mono audio once or in a loop.
#[derive(Debug, Clone)]
pub struct Player {
    samples: Arc<[i16]>,
    position: usize,
    played_samples: u64,
    repeat: bool,
}

impl Player {
    /// A player at the start of `samples`.
    #[must_use]
    pub fn new(samples: Arc<[i16]>, repeat: bool) -> Self {
        Self { samples, position: 0, played_samples: 0, repeat }
    }

    /// Fills `frame` with the next samples; returns how many, the rest being silence.
    pub fn pull(&mut self, frame: &mut [i16]) -> usize {
        let mut filled = 0;
        while filled < frame.len() && !self.is_finished() {
            let rest = &self.samples[self.position..];
            let piece = rest.len().min(frame.len() - filled);
            frame[filled..filled + piece].copy_from_slice(&rest[..piece]);
            filled += piece;
            self.position += piece;
            if self.repeat && self.position == self.samples.len() {
                self.position = 0;
            }
        }
        frame[filled..].fill(0);
        self.played_samples += filled as u64;
        filled
    }

    /// Whether everything was pulled. A loop never is, unless it is empty.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.position == self.samples.len()
    }

    /// Samples pulled so far, all rounds together.
    #[must_use]
    pub fn played_samples(&self) -> u64 {
        self.played_samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_is_padded_with_silence() {
        let mut player = Player::new(Arc::from([1, 2, 3]), false);
        let mut frame = [9; 2];
        assert_eq!(player.pull(&mut frame), 2);
        assert!(!player.is_finished());
        assert_eq!((player.pull(&mut frame), frame), (1, [3, 0]));
        assert!(player.is_finished());
        assert_eq!((player.pull(&mut frame), frame), (0, [0, 0]));
        assert_eq!(player.played_samples(), 3);
    }

    #[test]
    fn loop_goes_on_within_a_frame() {
        let mut player = Player::new(Arc::from([1, 2, 3]), true);
        let mut frame = [0; 7];
        assert_eq!((player.pull(&mut frame), frame), (7, [1, 2, 3, 1, 2, 3, 1]));
        assert!(!player.is_finished());
        assert_eq!(player.played_samples(), 7);
    }

    #[test]
    fn empty_loop_is_finished_at_once() {
        let mut player = Player::new(Arc::from([]), true);
        assert_eq!(player.pull(&mut [0; 4]), 0);
        assert!(player.is_finished());
    }
}
