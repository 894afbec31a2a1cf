//! What is received: server events, in the words of either vendor.

use serde::Deserialize;
use serde_json::Value;

use super::super::Ignored;
use super::super::json::{self, Text};

/// A server event. Everything is optional, so that what is missing can be told apart.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow, default)]
    pub(super) response_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) item_id: Option<Text<'a>>,
    #[serde(default)]
    pub(super) content_index: Option<u64>,
    #[serde(borrow, default)]
    pub(super) delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    pub(super) transcript: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) call_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) arguments: Option<Text<'a>>,
    #[serde(default)]
    pub(super) session: Option<Value>,
    #[serde(default)]
    pub(super) response: Option<Value>,
    #[serde(default)]
    pub(super) item: Option<Value>,
    #[serde(default)]
    pub(super) error: Option<Value>,
    #[serde(default)]
    pub(super) warning: Option<Value>,
}

/// Text or audio in the events that we read, something else in others.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Delta<'a> {
    #[serde(borrow)]
    Text(Text<'a>),
    Other(serde::de::IgnoredAny),
}

/// What an event is about, whatever the vendor calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    SessionCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    CallerTranscript,
    CallerTranscriptFailed,
    ResponseCreated,
    ResponseDone,
    AudioDelta,
    AudioDone,
    BotTranscript,
    FunctionCall,
    ItemDone,
    Error,
    Warning,
    /// One that is known and changes nothing here.
    Nothing,
}

impl<'a> Event<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Ignored> {
        let event: Self = json::object(message).ok_or(Ignored::BadJson)?;
        // Ids are kept, so they must be short; real ones have about 30 characters.
        let ids = [&event.response_id, &event.item_id, &event.call_id];
        let long = ids.into_iter().flatten().any(|id| id.0.len() > LONGEST_ID_BYTES);
        if long { Err(Ignored::BadJson) } else { Ok(event) }
    }

    pub(super) fn what(&self) -> Result<What, Ignored> {
        Ok(match &*self.kind.0 {
            "response.output_audio.delta" | "response.audio.delta" => What::AudioDelta,
            "response.output_audio.done" | "response.audio.done" => What::AudioDone,
            "response.output_audio_transcript.done" | "response.audio_transcript.done" => What::BotTranscript,
            "session.created" => What::SessionCreated,
            "session.updated" => What::SessionUpdated,
            "input_audio_buffer.speech_started" => What::SpeechStarted,
            "input_audio_buffer.speech_stopped" => What::SpeechStopped,
            "conversation.item.input_audio_transcription.completed" => What::CallerTranscript,
            "conversation.item.input_audio_transcription.failed" => What::CallerTranscriptFailed,
            "response.created" => What::ResponseCreated,
            "response.done" => What::ResponseDone,
            "response.function_call_arguments.done" => What::FunctionCall,
            "response.output_item.done" => What::ItemDone,
            "error" => What::Error,
            "warning" => What::Warning,
            other if KNOWN.iter().any(|known| other.starts_with(known)) => What::Nothing,
            _ => return Err(Ignored::UnknownEvent),
        })
    }
}

/// A string member of an object, if it is short enough to be kept.
pub(super) fn id<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str().filter(|id| !id.is_empty() && id.len() <= LONGEST_ID_BYTES)
}

/// A vendor's words as they may be logged: of limited length, in one line.
pub(super) fn clean(text: &str, chars: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars).collect()
}

/// The families of events whose other members are of no use to a telephone.
const KNOWN: &[&str] = &[
    "session.",
    "input_audio_buffer.",
    "conversation.",
    "rate_limits.",
    "output_audio_buffer.",
    "mcp_list_tools.",
    "response.output_item.",
    "response.content_part.",
    "response.output_audio",
    "response.audio",
    "response.output_text.",
    "response.text.",
    "response.function_call_arguments.",
    "response.mcp_call",
    "response.web_search_call.",
    "response.file_search_call.",
    "response.invocation.",
    "response.animation",
    "response.video.",
];

const LONGEST_ID_BYTES: usize = 256;
