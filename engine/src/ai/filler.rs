//! What the caller hears while there is no backend.

use super::backend::Backend;
use super::convert::Converter;
use super::dialect::AudioFormat;

/// Queues audio again and again, a little ahead of what is played.
#[derive(Debug, Default)]
pub(super) struct Filler {
    /// As the line carries it.
    audio: Vec<u8>,
    at: usize,
    /// Where it began.
    start: Option<u64>,
}

impl Filler {
    /// `samples` are at 8 kHz.
    pub(super) fn new(samples: &[i16], line: AudioFormat) -> Self {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let audio = Converter::new(AudioFormat::l16(8_000), line)
            .map(|mut converter| converter.convert(&bytes).to_vec())
            .unwrap_or_default();
        Self { audio, at: 0, start: None }
    }

    /// Queues more of it if what is queued is about to end.
    pub(super) fn top_up(&mut self, backend: &mut Backend) {
        while !self.audio.is_empty() && backend.queued() < AHEAD_BYTES {
            let rest = self.audio.get(self.at..).unwrap_or_default();
            let piece = rest.get(..PIECE_BYTES).unwrap_or(rest);
            self.start.get_or_insert_with(|| backend.position());
            self.at += piece.len();
            if backend.queue_audio(piece) > 0 {
                return;
            }
            if self.at >= self.audio.len() {
                self.at = 0;
            }
        }
    }

    /// There is a backend again: the position where the filler began, if there is any.
    pub(super) fn stop(&mut self) -> Option<u64> {
        self.at = 0;
        self.start.take()
    }
}

/// 200 ms of G.711: more than any cushion.
const AHEAD_BYTES: usize = 1600;
const PIECE_BYTES: usize = 800;
