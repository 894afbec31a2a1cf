//! What waits to be written to an AI backend: a bounded queue of caller audio, digits and marks.

use std::collections::VecDeque;
use std::sync::Arc;

use super::counters::AiCounters;
use super::dialect::{Codec, Outbox, Outgoing};
use super::report::FromWorker;
use super::shared::{BLOCK_BYTES, SILENCE};
use crate::command::Digit;
use crate::time::{Duration, Instant};

/// Collects caller audio into blocks of 20 ms and keeps them, in order with digits and marks.
#[derive(Debug)]
pub(super) struct Uplink {
    queue: VecDeque<Item>,
    /// Blocks of audio in the queue, and how many there may be.
    audio_blocks: usize,
    max_audio_blocks: usize,
    partial: Partial,
    counters: Arc<AiCounters>,
}

#[derive(Debug)]
enum Item {
    Audio { at: Instant, timestamp: u64, bytes: [u8; BLOCK_BYTES] },
    Digit(Digit, Duration),
    Mark { name: String, complete: bool },
    Cleared,
    Stop,
}

/// Caller audio that is no whole block yet.
#[derive(Debug)]
struct Partial {
    at: Instant,
    timestamp: u64,
    len: usize,
    bytes: [u8; BLOCK_BYTES],
}

impl Uplink {
    pub(super) fn new(max_audio_blocks: usize, counters: Arc<AiCounters>) -> Self {
        Self {
            queue: VecDeque::new(),
            audio_blocks: 0,
            max_audio_blocks: max_audio_blocks.max(1),
            partial: Partial { at: Instant::ZERO, timestamp: 0, len: 0, bytes: [SILENCE; BLOCK_BYTES] },
            counters,
        }
    }

    /// Takes what the worker reported.
    pub(super) fn push(&mut self, report: FromWorker) {
        match report {
            FromWorker::Audio { at, timestamp, audio } => self.push_audio(at, timestamp, &audio),
            FromWorker::Digit { digit, duration, .. } => self.push_control(Item::Digit(digit, duration)),
            FromWorker::MarkPlayed { name, report, .. } => self.push_mark(name, report.complete),
            FromWorker::Cleared { .. } => self.push_control(Item::Cleared),
            _ => {}
        }
    }

    pub(super) fn push_mark(&mut self, name: String, complete: bool) {
        self.push_control(Item::Mark { name, complete });
    }

    pub(super) fn push_stop(&mut self) {
        self.queue.push_back(Item::Stop);
    }

    /// Encodes the oldest item; returns when its audio was queued by the worker, if it is audio.
    pub(super) fn pop(&mut self, codec: &mut dyn Codec, out: &mut Outbox) -> Option<Option<Instant>> {
        match self.queue.pop_front()? {
            Item::Audio { at, timestamp, bytes } => {
                self.audio_blocks -= 1;
                codec.encode(Outgoing::Audio { timestamp, audio: &bytes }, out);
                self.counters.media_sent.increment();
                return Some(Some(at));
            }
            Item::Digit(digit, duration) => {
                codec.encode(Outgoing::Digit { digit, duration }, out);
                self.counters.digits_sent.increment();
            }
            Item::Mark { name, complete } => {
                codec.encode(Outgoing::MarkPlayed { name: &name, complete }, out);
                self.counters.marks_answered.increment();
            }
            Item::Cleared => codec.encode(Outgoing::Cleared, out),
            Item::Stop => codec.encode(Outgoing::Stop, out),
        }
        Some(None)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn push_audio(&mut self, at: Instant, timestamp: u64, audio: &[u8]) {
        let expected = self.partial.timestamp + self.partial.len as u64;
        if timestamp != expected {
            if self.partial.timestamp + self.partial.len as u64 > 0 {
                self.counters.caller_audio_gaps.increment();
            }
            self.fill_gap(at, expected, timestamp);
        }
        let mut rest = audio;
        while !rest.is_empty() {
            if self.partial.len == 0 {
                self.partial.at = at;
            }
            let (now, later) = rest.split_at(rest.len().min(BLOCK_BYTES - self.partial.len));
            self.partial.bytes[self.partial.len..self.partial.len + now.len()].copy_from_slice(now);
            self.partial.len += now.len();
            rest = later;
            if self.partial.len == BLOCK_BYTES {
                self.finish_block();
            }
        }
    }

    /// Backends count the time by the audio (ai-streams 9.3), so a gap is silence, unless it is so long that
    /// the timestamp has to tell.
    fn fill_gap(&mut self, at: Instant, expected: u64, timestamp: u64) {
        let missing = timestamp.checked_sub(expected).filter(|&missing| missing <= MAX_FILLED_SAMPLES);
        let Some(missing) = missing.filter(|_| expected > 0) else {
            self.finish_block();
            self.partial.timestamp = timestamp;
            return;
        };
        for _ in 0..missing / BLOCK_BYTES as u64 {
            self.push_audio(at, self.partial.timestamp + self.partial.len as u64, &[SILENCE; BLOCK_BYTES]);
        }
        let rest = (missing % BLOCK_BYTES as u64) as usize;
        self.push_audio(at, timestamp - rest as u64, &[SILENCE; BLOCK_BYTES][..rest]);
    }

    /// Queues the partial block, if there is one, padded with silence.
    fn finish_block(&mut self) {
        let Partial { at, timestamp, len, bytes } = self.partial;
        if len == 0 {
            return;
        }
        self.partial.bytes = [SILENCE; BLOCK_BYTES];
        self.partial.timestamp = timestamp + BLOCK_BYTES as u64;
        self.partial.len = 0;
        if self.audio_blocks >= self.max_audio_blocks {
            // Late audio is worth less than fresh audio: the oldest goes.
            let oldest = self.queue.iter().position(|item| matches!(item, Item::Audio { .. }));
            if oldest.and_then(|oldest| self.queue.remove(oldest)).is_some() {
                self.audio_blocks -= 1;
                self.counters.caller_audio_stale.increment();
            }
        }
        self.queue.push_back(Item::Audio { at, timestamp, bytes });
        self.audio_blocks += 1;
    }

    fn push_control(&mut self, item: Item) {
        if self.queue.len() - self.audio_blocks >= MAX_CONTROL_ITEMS {
            self.counters.marks_overflow.increment();
            return;
        }
        self.queue.push_back(item);
    }
}

/// Digits and marks that may wait for a backend that does not read; the names of marks are limited too,
/// see [`super::Backend`].
const MAX_CONTROL_ITEMS: usize = 4096;
/// Ten seconds.
const MAX_FILLED_SAMPLES: u64 = 80_000;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::ai::dialect::{Dialect, StreamStart};

    fn uplink(max_audio_blocks: usize) -> (Uplink, Arc<AiCounters>) {
        let counters = Arc::new(AiCounters::default());
        (Uplink::new(max_audio_blocks, Arc::clone(&counters)), counters)
    }

    fn drain(uplink: &mut Uplink) -> Vec<Value> {
        let mut codec = Dialect::Twilio.codec(StreamStart::default());
        let mut out = Outbox::default();
        while uplink.pop(&mut *codec, &mut out).is_some() {}
        out.messages().map(|(_, message)| serde_json::from_slice(message).expect("JSON")).collect()
    }

    fn timestamps(messages: &[Value]) -> Vec<&str> {
        messages.iter().filter_map(|message| message["media"]["timestamp"].as_str()).collect()
    }

    #[test]
    fn odd_frames_become_blocks_of_20_ms() {
        let (mut uplink, counters) = uplink(100);
        for n in 0..8 {
            uplink.push_audio(Instant::ZERO, n * 240, &[7; 240]);
        }
        let messages = drain(&mut uplink);
        assert_eq!(timestamps(&messages), (0..12).map(|n| (n * 20).to_string()).collect::<Vec<_>>());
        assert!(
            messages.iter().all(|message| message["media"]["payload"].as_str().map(str::len) == Some(216))
        );
        assert_eq!(counters.caller_audio_gaps.value(), 0);
    }

    #[test]
    fn gap_is_filled_with_silence() {
        let (mut uplink, counters) = uplink(100);
        for timestamp in [0, 160, 480, 560, 900] {
            uplink.push_audio(Instant::ZERO, timestamp, &[7; 80]);
        }
        uplink.finish_block();
        let messages = drain(&mut uplink);
        assert_eq!(timestamps(&messages), ["0", "20", "40", "60", "80", "100", "120"]);
        let audio: Vec<u8> = messages
            .iter()
            .flat_map(|message| {
                let payload = message["media"]["payload"].as_str().expect("a payload");
                base64::Engine::decode(&base64::engine::general_purpose::STANDARD, payload).expect("base64")
            })
            .collect();
        for (at, &byte) in audio.iter().enumerate() {
            let spoken = [0, 160, 480, 560, 900].iter().any(|&from| (from..from + 80).contains(&at));
            assert_eq!(byte, if spoken { 7 } else { SILENCE }, "{at}");
        }
        assert!(counters.caller_audio_gaps.value() >= 2);
    }

    #[test]
    fn very_long_gap_is_told_by_the_timestamp_alone() {
        let (mut uplink, _) = uplink(100);
        uplink.push_audio(Instant::ZERO, 0, &[7; 160]);
        uplink.push_audio(Instant::ZERO, 1_000_000, &[7; 160]);
        assert_eq!(timestamps(&drain(&mut uplink)), ["0", "125000"]);
    }

    #[test]
    fn slow_backend_loses_the_oldest_audio_and_no_digit() {
        let (mut uplink, counters) = uplink(3);
        uplink.push_control(Item::Digit(Digit::from_char('1').expect("a digit"), Duration::ZERO));
        for n in 0..10 {
            uplink.push_audio(Instant::ZERO, n * 160, &[7; 160]);
        }
        let messages = drain(&mut uplink);
        assert_eq!(messages[0]["dtmf"]["digit"], "1");
        assert_eq!(timestamps(&messages), ["140", "160", "180"]);
        assert_eq!(counters.caller_audio_stale.value(), 7);
    }

    #[test]
    fn unread_marks_are_bounded() {
        let (mut uplink, counters) = uplink(3);
        for _ in 0..5000 {
            uplink.push_mark("m".into(), true);
        }
        assert_eq!((uplink.queue.len(), counters.marks_overflow.value()), (4096, 904));
    }
}
