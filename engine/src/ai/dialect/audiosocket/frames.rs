//! A stream of bytes cut into AudioSocket frames.

/// What came and is not cut yet. Holds at most one frame and what was pushed with its end.
#[derive(Debug)]
pub struct AudioSocketFrames {
    /// `bytes[read..]` is still to be cut.
    bytes: Vec<u8>,
    read: usize,
    largest: usize,
}

impl AudioSocketFrames {
    /// Frames of at most `largest` bytes, header included.
    #[must_use]
    pub const fn new(largest: usize) -> Self {
        Self { bytes: Vec::new(), read: 0, largest }
    }

    /// Adds what has come. Cut all frames before the next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT_BYTES);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame with its header; `None` until more has come.
    ///
    /// # Errors
    /// The length of a frame that is too large; nothing can be cut from then on.
    pub fn cut(&mut self) -> Result<Option<&[u8]>, usize> {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let Some((&[_, high, low], payload)) = rest.split_first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let whole = HEADER_BYTES + length;
        if whole > self.largest {
            return Err(length);
        }
        if payload.len() < length {
            return Ok(None);
        }
        self.read += whole;
        Ok(rest.get(..whole))
    }

    /// Whether nothing waits for its end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read == self.bytes.len()
    }
}

const HEADER_BYTES: usize = 3;
/// Memory that is kept between frames.
const KEPT_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_that_is_too_large_is_an_error_before_it_has_come() {
        let mut frames = AudioSocketFrames::new(3 + 320);
        frames.push(&[0x10, 0x01, 0x41]);
        assert_eq!(frames.cut(), Err(321));
        assert_eq!(frames.cut(), Err(321));
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_they_are_cut(
            sent in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..400)), 0..12),
            cuts in proptest::collection::vec(1usize..300, 1..40),
        ) {
            let frame = |(kind, payload): &(u8, Vec<u8>)| {
                let [high, low] = (payload.len() as u16).to_be_bytes();
                [&[*kind, high, low], &payload[..]].concat()
            };
            let sent: Vec<Vec<u8>> = sent.iter().map(frame).collect();
            let stream = sent.concat();
            let mut frames = AudioSocketFrames::new(usize::MAX);
            let mut got = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle().take_while(|_| true) {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(rest.len().min(*cut));
                frames.push(now);
                while let Some(frame) = frames.cut().expect("no limit") {
                    got.push(frame.to_vec());
                }
                rest = later;
            }
            prop_assert_eq!(got, sent);
            prop_assert!(frames.is_empty());
        }
    }
}
