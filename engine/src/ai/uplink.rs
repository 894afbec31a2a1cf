//! What waits to be written to an AI backend: a bounded queue of caller audio, digits and marks.

use std::collections::VecDeque;
use std::sync::Arc;

use super::counters::AiCounters;
use super::dialect::{AudioFormat, Encoding};
use super::dialect::{ItemPlayed, Outgoing, QueueStatus, Sender, ToolResult};
use super::shared::BLOCK_BYTES;
use crate::command::Digit;
use crate::time::{Duration, Instant};

/// Collects caller audio into blocks of 20 ms and keeps them, in order with digits and marks.
#[derive(Debug)]
pub(super) struct Uplink {
    /// A byte of the line's silence.
    silence: u8,
    queue: VecDeque<Item>,
    /// Blocks of audio in the queue, and how many there may be.
    audio_blocks: usize,
    max_audio_blocks: usize,
    partial: Partial,
    /// The backend hears silence instead of the caller.
    muted: bool,
    /// Blocks dropped because they waited too long.
    stale_blocks: u64,
    counters: Arc<AiCounters>,
}

/// Something to be told to the backend.
#[derive(Debug)]
pub(super) enum Item {
    /// Caller audio of the line.
    Audio {
        at: Instant,
        timestamp: u64,
        bytes: [u8; BLOCK_BYTES],
    },
    Digit(Digit, Duration),
    Mark {
        name: String,
        complete: bool,
    },
    Cleared,
    Interrupted(Vec<ItemPlayed>),
    Drained,
    Pressure(bool),
    Status(QueueStatus),
    Text {
        from: Sender,
        text: String,
        respond: bool,
    },
    ToolResult(ToolResult),
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
    pub(super) fn new(line: AudioFormat, max_audio_blocks: usize, counters: Arc<AiCounters>) -> Self {
        let silence = silence(line);
        Self {
            silence,
            queue: VecDeque::new(),
            audio_blocks: 0,
            max_audio_blocks: max_audio_blocks.max(1),
            partial: Partial { at: Instant::ZERO, timestamp: 0, len: 0, bytes: [silence; BLOCK_BYTES] },
            muted: false,
            stale_blocks: 0,
            counters,
        }
    }

    /// Queues something behind what is there.
    pub(super) fn push(&mut self, item: Item) {
        if self.queue.len() - self.audio_blocks >= MAX_CONTROL_ITEMS {
            self.counters.marks_overflow.increment();
            return;
        }
        self.queue.push_back(item);
    }

    /// The last thing.
    pub(super) fn push_stop(&mut self) {
        self.queue.push_back(Item::Stop);
    }

    /// The oldest item.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let mut item = self.queue.pop_front()?;
        match &mut item {
            Item::Audio { bytes, .. } => {
                self.audio_blocks -= 1;
                if self.muted {
                    bytes.fill(self.silence);
                }
                self.counters.media_sent.increment();
            }
            Item::Digit(..) => self.counters.digits_sent.increment(),
            Item::Mark { .. } => self.counters.marks_answered.increment(),
            _ => {}
        }
        Some(item)
    }

    /// Keeps the caller's audio from the backend, or no longer.
    pub(super) fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// How many blocks of audio may wait.
    pub(super) fn limit(&mut self, max_audio_blocks: usize) {
        self.max_audio_blocks = max_audio_blocks.max(1);
        while self.audio_blocks > self.max_audio_blocks {
            self.drop_oldest_block();
        }
    }

    /// The connection is lost: what only its backend would understand goes.
    pub(super) fn forget_connection(&mut self) {
        self.queue.retain(|item| {
            !matches!(
                item,
                Item::Mark { .. }
                    | Item::Cleared
                    | Item::Interrupted(_)
                    | Item::Drained
                    | Item::Pressure(_)
                    | Item::Status(_)
            )
        });
    }

    /// Caller audio dropped because it waited too long.
    pub(super) fn dropped(&self) -> Duration {
        Duration::from_millis(20) * u32::try_from(self.stale_blocks).unwrap_or(u32::MAX)
    }

    /// Takes caller audio from the worker.
    pub(super) fn push_audio(&mut self, at: Instant, timestamp: u64, audio: &[u8]) {
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
            self.push_audio(
                at,
                self.partial.timestamp + self.partial.len as u64,
                &[self.silence; BLOCK_BYTES],
            );
        }
        let rest = (missing % BLOCK_BYTES as u64) as usize;
        self.push_audio(at, timestamp - rest as u64, &[self.silence; BLOCK_BYTES][..rest]);
    }

    /// Queues the partial block, if there is one, padded with silence.
    fn finish_block(&mut self) {
        let Partial { at, timestamp, len, bytes } = self.partial;
        if len == 0 {
            return;
        }
        self.partial.bytes = [self.silence; BLOCK_BYTES];
        self.partial.timestamp = timestamp + BLOCK_BYTES as u64;
        self.partial.len = 0;
        if self.audio_blocks >= self.max_audio_blocks {
            self.drop_oldest_block();
        }
        self.queue.push_back(Item::Audio { at, timestamp, bytes });
        self.audio_blocks += 1;
    }

    /// Late audio is worth less than fresh audio.
    fn drop_oldest_block(&mut self) {
        let oldest = self.queue.iter().position(|item| matches!(item, Item::Audio { .. }));
        if oldest.and_then(|oldest| self.queue.remove(oldest)).is_some() {
            self.audio_blocks -= 1;
            self.stale_blocks += 1;
            self.counters.caller_audio_stale.increment();
        }
    }
}

impl Item {
    /// In the words of the model. Audio is the line's here; whoever sends it converts it.
    pub(super) fn outgoing(&self) -> Outgoing<'_> {
        match self {
            Self::Audio { timestamp, bytes, .. } => Outgoing::Audio { timestamp: *timestamp, audio: bytes },
            Self::Digit(digit, duration) => Outgoing::Digit { digit: *digit, duration: *duration },
            Self::Mark { name, complete } => Outgoing::MarkPlayed { name, complete: *complete },
            Self::Cleared => Outgoing::Cleared,
            Self::Interrupted(items) => Outgoing::Interrupted { items },
            Self::Drained => Outgoing::Drained,
            Self::Pressure(high) => Outgoing::Pressure { high: *high },
            Self::Status(status) => Outgoing::Status(*status),
            Self::Text { from, text, respond } => Outgoing::Text { from: *from, text, respond: *respond },
            Self::ToolResult(result) => Outgoing::ToolResult(result),
            Self::Stop => Outgoing::Stop,
        }
    }
}

/// The byte that silence is made of (ITU-T G.711).
fn silence(line: AudioFormat) -> u8 {
    match line.encoding {
        Encoding::Pcmu => 0xff,
        Encoding::Pcma => 0xd5,
        Encoding::L16 => 0,
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

    const SILENCE: u8 = 0xff;
    use crate::ai::dialect::{Dialect, Outbox, StreamStart};

    fn uplink(max_audio_blocks: usize) -> (Uplink, Arc<AiCounters>) {
        let counters = Arc::new(AiCounters::default());
        (Uplink::new(AudioFormat::PCMU, max_audio_blocks, Arc::clone(&counters)), counters)
    }

    fn drain(uplink: &mut Uplink) -> Vec<Value> {
        let mut codec = Dialect::Twilio.codec(StreamStart::default());
        let mut out = Outbox::default();
        while let Some(item) = uplink.pop() {
            codec.encode(item.outgoing(), &mut out);
        }
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
        uplink.push(Item::Digit(Digit::from_char('1').expect("a digit"), Duration::ZERO));
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
            uplink.push(Item::Mark { name: "m".into(), complete: true });
        }
        assert_eq!((uplink.queue.len(), counters.marks_overflow.value()), (4096, 904));
    }

    #[test]
    fn a_muted_caller_is_silence() {
        let (mut uplink, _) = uplink(100);
        uplink.push_audio(Instant::ZERO, 0, &[7; 320]);
        uplink.mute(true);
        assert!(matches!(uplink.pop(), Some(Item::Audio { bytes, .. }) if bytes == [SILENCE; BLOCK_BYTES]));
        uplink.mute(false);
        assert!(matches!(uplink.pop(), Some(Item::Audio { bytes, .. }) if bytes == [7; BLOCK_BYTES]));
    }

    #[test]
    fn a_lost_connection_leaves_what_the_next_one_can_use() {
        let (mut uplink, counters) = uplink(100);
        uplink.push(Item::Mark { name: "old".into(), complete: true });
        uplink.push(Item::Digit(Digit::from_char('1').expect("a digit"), Duration::ZERO));
        for n in 0..10 {
            uplink.push_audio(Instant::ZERO, n * 160, &[7; 160]);
        }
        uplink.push(Item::Interrupted(Vec::new()));
        uplink.push(Item::ToolResult(ToolResult::default()));
        uplink.forget_connection();
        uplink.limit(4);
        let messages = drain(&mut uplink);
        assert_eq!(messages[0]["event"], "dtmf");
        assert_eq!(timestamps(&messages), ["120", "140", "160", "180"]);
        assert_eq!(messages.len(), 5);
        assert!(uplink.queue.is_empty());
        assert_eq!((counters.caller_audio_stale.value(), uplink.dropped().as_millis()), (6, 120));
    }
}
