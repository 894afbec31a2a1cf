//! What goes from the AI thread to signalling: cleaned, bounded, and the end never lost.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::counters::AiCounters;
use super::dialect::ToolCall;
use super::session::{AiEnd, AiEvent, AiNotice, AiRequest};

/// The AI thread's end of [`super::AiSession::next_event`].
#[derive(Debug)]
pub(super) struct Events {
    sender: mpsc::Sender<AiEvent>,
    counters: Arc<AiCounters>,
}

impl Events {
    pub(super) fn channel(counters: Arc<AiCounters>) -> (Self, mpsc::Receiver<AiEvent>) {
        let (sender, receiver) = mpsc::channel(EVENTS);
        (Self { sender, counters }, receiver)
    }

    /// Tells what happened. Notices leave room for requests, and requests for the end. False if it is lost.
    pub(super) fn notice(&self, notice: AiNotice) -> bool {
        self.send(AiEvent::Notice(notice), ROOM_FOR_REQUESTS)
    }

    /// Passes on what the bot wants. False if it is lost.
    pub(super) fn request(&self, request: AiRequest) -> bool {
        self.send(AiEvent::Request(request), ROOM_FOR_THE_END)
    }

    /// Tells the end.
    pub(super) fn end(&self, end: AiEnd) {
        self.send(AiEvent::Ended(end), 0);
    }

    fn send(&self, event: AiEvent, room: usize) -> bool {
        let sent = self.sender.capacity() > room && self.sender.try_send(event).is_ok();
        // Nobody may be listening any more.
        if !sent && !self.sender.is_closed() {
            self.counters.events_dropped.increment();
        }
        sent
    }
}

/// Removes control characters and what is beyond `max_chars`.
pub(super) fn clean(text: &str, max_chars: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max_chars).collect()
}

/// JSON whose white space of control characters is removed; `None` if it is longer than allowed, because a
/// part of it would be of no use.
pub(super) fn clean_json(json: &str) -> Option<String> {
    (json.len() <= MAX_JSON_BYTES).then(|| json.chars().filter(|c| !c.is_control()).collect())
}

/// A call of a function as it may be passed on.
pub(super) fn clean_call(call: &ToolCall) -> Option<ToolCall> {
    let fits = call.id.chars().count() <= MAX_NAME_CHARS && call.name.chars().count() <= MAX_NAME_CHARS;
    let arguments = clean_json(&call.arguments).filter(|_| fits)?;
    Some(ToolCall { id: clean(&call.id, MAX_NAME_CHARS), name: clean(&call.name, MAX_NAME_CHARS), arguments })
}

/// Events that may wait for signalling.
const EVENTS: usize = 128;
const ROOM_FOR_REQUESTS: usize = 32;
const ROOM_FOR_THE_END: usize = 1;
/// Names, codes, targets and reasons.
pub(super) const MAX_NAME_CHARS: usize = 256;
/// Words.
pub(super) const MAX_TEXT_CHARS: usize = 4000;
const MAX_JSON_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::dialect::Sender;

    fn transcript() -> AiNotice {
        AiNotice::Transcript { from: Sender::Bot, text: "x".into() }
    }

    #[test]
    fn a_flood_of_notices_loses_neither_requests_nor_the_end() {
        let counters = Arc::new(AiCounters::default());
        let (events, mut receiver) = Events::channel(Arc::clone(&counters));
        let notices = (0..1000).filter(|_| events.notice(transcript())).count();
        assert_eq!(notices, EVENTS - ROOM_FOR_REQUESTS);
        let requests = (0..1000).filter(|_| events.request(AiRequest::Hold(true))).count();
        assert_eq!(requests, ROOM_FOR_REQUESTS - ROOM_FOR_THE_END);
        events.end(AiEnd::Stopped);
        let mut last = None;
        while let Ok(event) = receiver.try_recv() {
            last = Some(event);
        }
        assert_eq!(last, Some(AiEvent::Ended(AiEnd::Stopped)));
        assert_eq!(counters.events_dropped.value() as usize, 2000 - notices - requests);
    }

    #[test]
    fn vendors_strings_are_cleaned() {
        assert_eq!(clean("a\r\nb\u{0}c\u{9b}d", 3), "abc");
        let call = ToolCall { id: "1\n".into(), name: "end".into(), arguments: "{\n\"a\": 1}".into() };
        let cleaned = ToolCall { id: "1".into(), name: "end".into(), arguments: "{\"a\": 1}".into() };
        assert_eq!(clean_call(&call), Some(cleaned));
        assert_eq!(clean_call(&ToolCall { arguments: "x".repeat(1 << 20), ..ToolCall::default() }), None);
    }
}
