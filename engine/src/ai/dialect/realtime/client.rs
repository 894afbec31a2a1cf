//! What is sent: client events, each with an `event_id` by which the errors it causes are matched.

use std::collections::VecDeque;
use std::io::Write as _;

use serde_json::{Value, json};

use super::super::{Kind, Outbox, Sender, base64};
use super::names::Names;

#[derive(Debug, Default)]
pub(super) struct Client {
    count: u64,
    /// What the newest events were, audio left out.
    sent: VecDeque<(u64, Sent)>,
}

/// Kinds of client events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Session,
    Item,
    Truncate,
    Cancel,
    Create,
}

impl Client {
    /// Caller audio.
    pub(super) fn append(&mut self, audio: &[u8], out: &mut Outbox) {
        self.count += 1;
        let count = self.count;
        out.push(Kind::Text, |text| {
            // Writing to memory does not fail.
            let _ = write!(
                text,
                r#"{{"type":"input_audio_buffer.append","event_id":"{EVENT_ID_PREFIX}{count}","audio":""#
            );
            base64::append_encoded(audio, text);
            text.extend_from_slice(br#""}"#);
        });
    }

    pub(super) fn session_update(&mut self, session: &Value, out: &mut Outbox) {
        self.send(Sent::Session, json!({ "type": "session.update", "session": session }), out);
    }

    /// Something said, or a note, for the history.
    pub(super) fn message(&mut self, names: &Names, from: Sender, text: &str, out: &mut Outbox) {
        let (role, kind) = match from {
            Sender::Caller => ("user", "input_text"),
            Sender::Bot => ("assistant", names.assistant_text),
            Sender::System => ("system", "input_text"),
        };
        let item = json!({ "type": "message", "role": role, "content": [{ "type": kind, "text": text }] });
        self.item(&item, out);
    }

    pub(super) fn function_call_output(&mut self, call_id: &str, output: &str, out: &mut Outbox) {
        self.item(&json!({ "type": "function_call_output", "call_id": call_id, "output": output }), out);
    }

    pub(super) fn truncate(&mut self, item: &str, content_index: u64, audio_end_ms: u64, out: &mut Outbox) {
        let event = json!({
            "type": "conversation.item.truncate",
            "item_id": item,
            "content_index": content_index,
            "audio_end_ms": audio_end_ms,
        });
        self.send(Sent::Truncate, event, out);
    }

    /// Cancels this response, or whichever there is.
    pub(super) fn cancel(&mut self, response: Option<&str>, out: &mut Outbox) {
        let mut event = json!({ "type": "response.cancel" });
        if let Some(response) = response {
            add(&mut event, "response_id", json!(response));
        }
        self.send(Sent::Cancel, event, out);
    }

    /// Makes the bot speak, about `response` if there is one.
    pub(super) fn create(&mut self, response: Option<Value>, out: &mut Outbox) {
        let mut event = json!({ "type": "response.create" });
        if let Some(response) = response {
            add(&mut event, "response", response);
        }
        self.send(Sent::Create, event, out);
    }

    /// What an error's `event_id` refers to, if it is one of ours and not too long ago.
    pub(super) fn sent(&self, event_id: &str) -> Option<Sent> {
        let number: u64 = event_id.strip_prefix(EVENT_ID_PREFIX)?.parse().ok()?;
        self.sent.iter().rev().find(|(sent, _)| *sent == number).map(|&(_, what)| what)
    }

    fn item(&mut self, item: &Value, out: &mut Outbox) {
        self.send(Sent::Item, json!({ "type": "conversation.item.create", "item": item }), out);
    }

    fn send(&mut self, what: Sent, mut event: Value, out: &mut Outbox) {
        self.count += 1;
        add(&mut event, "event_id", json!(format!("{EVENT_ID_PREFIX}{}", self.count)));
        out.json(&event);
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.count, what));
    }
}

fn add(event: &mut Value, key: &str, value: Value) {
    if let Some(event) = event.as_object_mut() {
        event.insert(key.to_owned(), value);
    }
}

const EVENT_ID_PREFIX: &str = "sidetone_";
/// Events other than audio are few; an error comes within a round trip.
const REMEMBERED: usize = 128;
