//! The model that all dialects are translated from and to.

use std::ops::Range;

use super::AudioFormat;
use crate::command::Digit;
use crate::time::Duration;

/// From us to the backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outgoing<'a> {
    /// Caller audio in the caller's format. Comes without gaps, silence included.
    Audio {
        /// Its first sample, counted from the stream's start at 8 kHz, whatever the format.
        timestamp: u64,
        /// Usually 20 ms.
        audio: &'a [u8],
    },
    /// A key of the caller's phone, at its release.
    Digit {
        /// Which.
        digit: Digit,
        /// How long it was down.
        duration: Duration,
    },
    /// A mark was passed.
    MarkPlayed {
        /// Its name.
        name: &'a str,
        /// False if a clear dropped what was before it.
        complete: bool,
    },
    /// A clear that the backend asked for has taken effect.
    Cleared,
    /// Queued audio was dropped because the caller spoke, by whoever's decision.
    Interrupted {
        /// The items that were begun or queued, oldest first, and how much of them the caller heard.
        items: &'a [ItemPlayed],
    },
    /// The queue has run empty.
    Drained,
    /// So much is queued that the backend should pause, or again so little that it may go on.
    Pressure {
        /// Pause, or go on.
        high: bool,
    },
    /// The answer to [`Incoming::ReportStatus`].
    Status(QueueStatus),
    /// Something for the model to read.
    Text {
        /// Who says it.
        from: Sender,
        /// What.
        text: &'a str,
        /// Whether the bot is to speak about it at once.
        respond: bool,
    },
    /// The answer to a [`ToolCall`].
    ToolResult(&'a ToolResult),
    /// The call has ended.
    Stop,
}

/// How full the queue of bot audio is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// What waits to be played.
    pub queued: Duration,
    /// [`Outgoing::Pressure`] becomes high at this much.
    pub high_at: Duration,
    /// And low again below this much.
    pub low_at: Duration,
    /// What it was last.
    pub high: bool,
    /// Whether [`Incoming::Pause`] holds.
    pub paused: bool,
}

/// Who says a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The caller.
    Caller,
    /// The bot.
    Bot,
    /// Neither: a note to the model.
    System,
}

/// How much of one item of bot audio was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemPlayed {
    /// The number that the codec gave it in [`Incoming::Audio`].
    pub item: u32,
    /// What the caller was sent of it.
    pub played: Duration,
    /// What has come of it. `played` is never more.
    pub received: Duration,
}

/// A function that the model wants called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// The backend's name for this call of the function.
    pub id: String,
    /// The function.
    pub name: String,
    /// Its arguments, JSON of whatever form.
    pub arguments: String,
}

/// What became of a [`ToolCall`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolResult {
    /// [`ToolCall::id`].
    pub id: String,
    /// [`ToolCall::name`].
    pub name: String,
    /// JSON.
    pub output: String,
    /// Whether it failed.
    pub is_error: bool,
}

/// What to do with the call's recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recording {
    /// Begin.
    Start,
    /// Leave out what comes.
    Pause,
    /// Go on.
    Resume,
    /// End.
    Stop,
}

/// From the backend to us.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The session is set up: [`super::Codec::formats`] holds, caller audio may flow. Dialects that need no answer
    /// say it in [`super::Codec::open`].
    Ready,
    /// Bot audio in the bot's format: `len` more bytes of [`Decoded::audio`].
    Audio {
        /// How many bytes.
        len: usize,
        /// What it is part of, for [`ItemPlayed`]: numbers in the order of the items; 0 where the dialect has none.
        item: u32,
    },
    /// Bot audio from here on is in this format, which [`super::Codec::formats`] tells from now on too.
    BotFormat(AudioFormat),
    /// No more audio of this utterance comes: its tail need not wait.
    AudioEnd,
    /// Tell when the audio so far has been played.
    Mark(String),
    /// Drop all queued audio.
    Clear,
    /// Keep queued audio, and play none.
    Pause,
    /// Play on.
    Continue,
    /// Tell, once, when the queue is empty.
    ReportDrained,
    /// Tell how full the queue is.
    ReportStatus,
    /// The backend hears the caller speak, or no longer.
    CallerSpeech {
        /// Begin or end.
        speaking: bool,
    },
    /// What was said.
    Transcript {
        /// By whom.
        from: Sender,
        /// The words, untrusted.
        text: String,
        /// False for a part that will come again.
        complete: bool,
    },
    /// Call a function.
    Tool(ToolCall),
    /// The result of these calls is no longer wanted.
    ToolCancelled(Vec<String>),
    /// Send these keys to the caller.
    SendDigits(String),
    /// End the call once what is queued has been played.
    HangUp {
        /// Untrusted.
        reason: String,
    },
    /// Transfer the call once what is queued has been played.
    Transfer {
        /// A symbolic name or an address, untrusted.
        target: String,
    },
    /// Keep the caller's audio from the backend, or no longer.
    Mute(bool),
    /// Put the caller on hold, or take them back.
    Hold(bool),
    /// Steer the recording.
    Record(Recording),
    /// An event of the backend's own.
    Custom {
        /// Its name, untrusted.
        name: String,
        /// JSON, untrusted.
        data: String,
    },
    /// The backend will end the session then, whatever happens.
    Expires {
        /// From now on.
        within: Duration,
    },
    /// As [`Incoming::Expires`], at a moment.
    ExpiresAt {
        /// Seconds since 1970.
        unix: u64,
    },
    /// What a new connection says to go on with this session.
    Resumption {
        /// For [`super::StreamStart::resume`].
        handle: String,
    },
    /// Something went wrong.
    Error {
        /// Whether the session is of no use any more.
        fatal: bool,
        /// The backend's word for it, untrusted.
        code: String,
        /// Its explanation, untrusted.
        text: String,
    },
}

/// Why a message was ignored. Never a reason to end the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// An event this dialect does not have.
    UnknownEvent,
    /// Not JSON, or not of the expected shape.
    BadJson,
    /// `media` without a payload.
    MediaWithoutPayload,
    /// A payload that is not base64.
    BadBase64,
    /// `mark` without a name.
    MarkWithoutName,
    /// A binary message where the dialect has only text.
    BinaryFrame,
    /// A text message where the dialect has only binary ones, or one that is too long.
    TextFrame,
    /// Audio of a response or generation that was cancelled.
    Stale,
    /// Something that the dialect does not allow here, or a part of it: audio of another kind than it may be, a piece
    /// of a frame, more marks than may wait. The rest of the message was obeyed.
    Refused,
}

/// The kinds of messages of RFC 6455 section 5.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

/// What one message means. Reused, so that audio costs no allocation.
#[derive(Debug, Default)]
pub struct Decoded {
    /// In order.
    pub events: Vec<Incoming>,
    /// The bytes of all [`Incoming::Audio`], in order.
    pub audio: Vec<u8>,
    /// What the backend must be answered at once.
    pub replies: Outbox,
    /// It names another stream than ours, which is obeyed all the same.
    pub wrong_stream: bool,
}

impl Decoded {
    /// Makes it as new; keeps at most `kept` bytes of memory for audio.
    pub fn clear(&mut self, kept: usize) {
        self.events.clear();
        self.audio.clear();
        self.audio.shrink_to(kept);
        self.replies.clear();
        self.wrong_stream = false;
    }
}

/// Messages to send, in order. Reused, so that a message costs no allocation.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    messages: Vec<(Kind, Range<usize>)>,
    events: Vec<Incoming>,
}

impl Outbox {
    /// Adds one message, which `write` appends to the buffer.
    pub fn push(&mut self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        // Appended only: what was there stays whole.
        debug_assert!(self.bytes.len() >= start, "a message is appended");
        self.messages.push((kind, start..self.bytes.len()));
    }

    /// Adds one text message.
    pub fn text(&mut self, text: &str) {
        self.push(Kind::Text, |bytes| bytes.extend_from_slice(text.as_bytes()));
    }

    /// Adds one text message of JSON.
    pub fn json(&mut self, value: &serde_json::Value) {
        self.text(&value.to_string());
    }

    /// Adds one binary message.
    pub fn binary(&mut self, message: &[u8]) {
        self.push(Kind::Binary, |bytes| bytes.extend_from_slice(message));
    }

    /// Adds something that holds without the backend having said it, such as [`Incoming::Ready`].
    pub fn event(&mut self, event: Incoming) {
        self.events.push(event);
    }

    /// What [`Outbox::event`] was told since the last time.
    pub fn take_events(&mut self) -> Vec<Incoming> {
        std::mem::take(&mut self.events)
    }

    /// Moves all messages of `other` behind these, unless they would be more than `max_bytes` then: in that
    /// case they are forgotten and the result is false.
    pub fn append(&mut self, other: &mut Self, max_bytes: usize) -> bool {
        let fits = other.is_empty() || self.bytes.len() + other.bytes.len() <= max_bytes;
        if fits {
            for (kind, message) in other.messages() {
                self.push(kind, |bytes| bytes.extend_from_slice(message));
            }
        }
        other.clear();
        fits
    }

    /// The messages, in order.
    pub fn messages(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        self.messages.iter().map(|(kind, range)| (*kind, self.bytes.get(range.clone()).unwrap_or_default()))
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Forgets all messages and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.messages.clear();
        self.events.clear();
    }
}

const KEPT_BYTES: usize = 16 * 1024;
