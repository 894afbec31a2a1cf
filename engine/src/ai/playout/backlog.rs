//! Bot audio that does not fit the ring yet, and how it is made shorter at its silences.

use std::collections::VecDeque;

use crate::ai::line::Line;
use crate::ai::shared::BLOCK;

/// Grows on demand. Counts bytes.
#[derive(Debug)]
pub(in crate::ai) struct Backlog {
    line: Line,
    bytes: VecDeque<u8>,
    scan: Scan,
}

/// How far silences were looked for. All of it counts from the front.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    to: usize,
    /// Bytes of silence that end there.
    silence: usize,
    /// The last end of a silence between words.
    boundary: Option<usize>,
}

impl Backlog {
    pub(in crate::ai) fn new(line: Line) -> Self {
        Self { line, bytes: VecDeque::new(), scan: Scan::default() }
    }

    pub(in crate::ai) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::ai) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of memory.
    pub(in crate::ai) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(in crate::ai) fn push(&mut self, audio: &[u8]) {
        self.bytes.extend(audio);
    }

    pub(in crate::ai) fn clear(&mut self) {
        self.bytes.clear();
        self.scan = Scan::default();
        self.bytes.shrink_to(KEPT_BYTES);
    }

    /// The front, in two parts.
    pub(in crate::ai) fn as_slices(&self) -> (&[u8], &[u8]) {
        self.bytes.as_slices()
    }

    /// So many bytes have gone to the ring.
    pub(in crate::ai) fn advance(&mut self, bytes: usize) {
        self.bytes.drain(..bytes);
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT_BYTES);
        }
        if self.scan.to < bytes {
            self.scan = Scan::default();
        } else {
            self.scan.to -= bytes;
            self.scan.boundary = self.scan.boundary.and_then(|boundary| boundary.checked_sub(bytes));
        }
    }

    /// Leaves out about `excess` bytes, or as much of that as can be without cutting into a word, and tells of
    /// every cut where it is and how long. First pauses are shortened to 60 ms; if that is not enough, what is
    /// between two pauses of at least 120 ms goes, the oldest first. Pauses are blocks of 20 ms below -48 dBov.
    pub(in crate::ai) fn shorten(&mut self, excess: usize, mut cut: impl FnMut(usize, usize)) {
        let block = self.line.format().bytes(BLOCK);
        let mut audio = [0; super::super::shared::BLOCK_BYTES];
        let mut left_out = 0;
        while left_out < excess && self.scan.to + block <= self.bytes.len() {
            let audio = &mut audio[..block];
            let at = self.bytes.range(self.scan.to..self.scan.to + block);
            audio.iter_mut().zip(at).for_each(|(byte, from)| *byte = *from);
            let is_silent =
                self.line.loudness(audio).sum_of_squares < SILENT_POWER * self.line.samples(block);
            if is_silent {
                self.scan.to += block;
                self.scan.silence += block;
                continue;
            }
            let (was_boundary, long) = (self.scan.silence >= BOUNDARY_BLOCKS * block, KEPT_BLOCKS * block);
            left_out +=
                self.cut(self.scan.to - self.scan.silence.saturating_sub(long).min(self.scan.to), &mut cut);
            self.scan.silence = 0;
            if was_boundary {
                if let Some(boundary) = self.scan.boundary.filter(|_| left_out < excess) {
                    left_out += self.cut(boundary, &mut cut);
                }
                self.scan.boundary = Some(self.scan.to);
            }
            self.scan.to += block;
        }
    }

    /// Cuts out what is between `from` and the end of the scan; returns how much.
    fn cut(&mut self, from: usize, tell: &mut impl FnMut(usize, usize)) -> usize {
        let len = self.scan.to.saturating_sub(from);
        if len > 0 {
            self.bytes.drain(from..self.scan.to);
            self.scan.to = from;
            tell(from, len);
        }
        len
    }
}

/// Memory that a stream keeps once all was played.
pub(in crate::ai) const KEPT_BYTES: usize = 16 * 1024;
/// The mean square of a sample at -48 dBov.
const SILENT_POWER: u64 = 17_017;
/// What is left of a pause: 60 ms.
const KEPT_BLOCKS: usize = 3;
/// A pause between words, and not the closure of a plosive: 120 ms.
const BOUNDARY_BLOCKS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::dialect::AudioFormat;

    const WORD: u8 = 0x20;
    const QUIET: u8 = 0xff;

    /// Words and pauses of so many blocks.
    fn backlog(parts: &[(u8, usize)]) -> Backlog {
        let mut backlog = Backlog::new(Line::new(AudioFormat::PCMU));
        for &(byte, blocks) in parts {
            backlog.push(&vec![byte; blocks * 160]);
        }
        backlog
    }

    /// The same, as blocks.
    fn parts(backlog: &Backlog) -> Vec<(u8, usize)> {
        let mut parts: Vec<(u8, usize)> = Vec::new();
        for &byte in &backlog.bytes {
            match parts.last_mut() {
                Some((last, count)) if *last == byte => *count += 1,
                _ => parts.push((byte, 1)),
            }
        }
        parts.into_iter().map(|(byte, count)| (byte, count / 160)).collect()
    }

    #[test]
    fn pauses_are_shortened_before_words_are_left_out() {
        let mut backlog = backlog(&[(WORD, 10), (QUIET, 20), (WORD, 10), (QUIET, 20), (WORD, 10)]);
        let mut cuts = vec![];
        backlog.shorten(17 * 160, |at, len| cuts.push((at / 160, len / 160)));
        assert_eq!(cuts, [(13, 17)]);
        assert_eq!(parts(&backlog), [(WORD, 10), (QUIET, 3), (WORD, 10), (QUIET, 20), (WORD, 10)]);
    }

    #[test]
    fn phrase_between_two_pauses_goes_as_a_whole() {
        let mut backlog =
            backlog(&[(WORD, 10), (QUIET, 8), (0x21, 30), (QUIET, 8), (0x22, 30), (QUIET, 8), (0x23, 5)]);
        backlog.shorten(25 * 160, |_, _| {});
        assert_eq!(
            parts(&backlog),
            [(WORD, 10), (QUIET, 3), (0x22, 30), (QUIET, 8), (0x23, 5)],
            "what was said first"
        );
        backlog.shorten(10 * 160, |_, _| {});
        assert_eq!(parts(&backlog), [(WORD, 10), (QUIET, 3), (0x23, 5)]);
    }

    #[test]
    fn nothing_is_cut_out_of_a_word_or_at_the_closure_of_a_plosive() {
        let mut backlog = backlog(&[(WORD, 50), (QUIET, 3), (WORD, 50), (QUIET, 3), (WORD, 50)]);
        backlog.shorten(100 * 160, |_, _| panic!("a cut"));
        assert_eq!(backlog.len(), 156 * 160);
        // Looked at once only.
        assert_eq!(backlog.scan.to, 156 * 160);
    }

    #[test]
    fn scan_goes_on_where_it_was_when_more_comes_and_the_front_has_gone() {
        let mut backlog = backlog(&[(WORD, 10), (QUIET, 8), (0x21, 30)]);
        backlog.shorten(40 * 160, |_, _| {});
        assert_eq!(parts(&backlog), [(WORD, 10), (QUIET, 3), (0x21, 30)]);
        backlog.advance(5 * 160);
        backlog.push(&[QUIET; 8 * 160]);
        backlog.push(&[0x22; 160]);
        backlog.shorten(30 * 160, |_, _| {});
        assert_eq!(parts(&backlog), [(WORD, 5), (QUIET, 3), (0x22, 1)]);
        backlog.advance(9 * 160);
        assert!(backlog.is_empty() && backlog.scan.to == 0);
    }
}
