//! What the backend says.

use super::super::dialect::{Incoming, QueueStatus, ToolCall, ToolResult};
use super::super::events::{MAX_NAME_CHARS, MAX_TEXT_CHARS, clean, clean_call, clean_json};
use super::super::link::{LinkEnd, fatal};
use super::super::session::{AiNotice, AiRequest};
use super::super::uplink::Item;
use super::Pump;
use super::playout::Cause;
use crate::command::Digit;
use crate::time::Duration;

impl Pump {
    /// Does what the connection has decoded.
    ///
    /// # Errors
    /// When the backend says that the session is over.
    pub(super) fn take_decoded(&mut self) -> Result<(), LinkEnd> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let mut decoded = link.take_decoded();
        let mut audio = decoded.audio.as_slice();
        let mut result = Ok(());
        for event in decoded.events.drain(..) {
            if let Incoming::Audio { len, item } = event {
                let (now, later) = audio.split_at(len.min(audio.len()));
                audio = later;
                self.play(now, item);
                continue;
            }
            if let Some(failure) = fatal(&event) {
                result = Err(LinkEnd::Failed(failure));
            }
            self.take(event);
        }
        if let Some(link) = &mut self.link {
            link.reuse(decoded);
        }
        result
    }

    /// Queues bot audio.
    fn play(&mut self, audio: &[u8], item: u32) {
        let Some(link) = &mut self.link else { return };
        if item != 0 && item != self.item {
            self.item = item;
            self.backend.begin_utterance();
        }
        let line_audio = link.bot_audio(audio);
        let start = self.backend.position();
        let dropped = self.backend.queue_audio(line_audio);
        if item != 0 {
            self.items.add(item, start..self.backend.position(), audio.len());
        }
        let queued = self.backend.queued_for();
        self.record(|record| record.queue(queued));
        if dropped > 0 && !std::mem::replace(&mut self.overflow_logged, true) {
            tracing::warn!(?queued, "the AI backend sent more audio than may be queued; some is dropped");
        }
    }

    fn take(&mut self, event: Incoming) {
        if self.heeds(&event) {
            self.clear(Cause::Caller);
        }
        match event {
            Incoming::Audio { .. } | Incoming::Ready => {}
            Incoming::BotFormat(format) => {
                self.items.change_bot_format(format);
                if let Some(link) = &mut self.link {
                    link.change_bot_format(format);
                }
            }
            Incoming::AudioEnd => {
                self.items.end();
                self.backend.end_utterance();
            }
            Incoming::Mark(name) => {
                if let Some(name) = self.backend.queue_mark(name) {
                    self.answer_mark(name, true);
                }
            }
            Incoming::Clear => self.clear(Cause::Backend),
            Incoming::Pause => self.pause(true),
            Incoming::Continue => self.pause(false),
            Incoming::ReportStatus => {
                let queued = self.backend.queued_for();
                self.uplink.push(Item::Status(QueueStatus { queued, ..self.status }));
            }
            Incoming::ReportDrained => self.backend.report_drained(),
            Incoming::CallerSpeech { speaking } => self.caller_speaks = speaking,
            Incoming::Transcript { complete: false, .. } => {}
            Incoming::Transcript { from, text, complete: true } => {
                let text = clean(&text, MAX_TEXT_CHARS);
                self.history.add(from, &text);
                self.events.notice(AiNotice::Transcript { from, text });
            }
            Incoming::Tool(call) => self.call(&call),
            Incoming::ToolCancelled(ids) => {
                for id in ids.into_iter().take(MAX_CANCELLED) {
                    if self.cancelled.len() >= MAX_CANCELLED {
                        self.cancelled.pop_front();
                    }
                    self.cancelled.push_back(clean(&id, MAX_NAME_CHARS));
                }
            }
            Incoming::SendDigits(digits) => {
                let keys = |c: &char| Digit::from_char(*c).is_some() || matches!(c, 'w' | 'W' | ',');
                let digits: String = digits.chars().filter(keys).take(MAX_DIGITS).collect();
                if !digits.is_empty() {
                    self.request(AiRequest::SendDigits(digits));
                }
            }
            Incoming::HangUp { reason } => {
                self.say_goodbye(AiRequest::HangUp { reason: clean(&reason, MAX_NAME_CHARS) });
            }
            Incoming::Transfer { target } => {
                self.say_goodbye(AiRequest::Transfer { target: clean(&target, MAX_NAME_CHARS) });
            }
            Incoming::Mute(muted) => self.uplink.mute(muted),
            Incoming::Hold(hold) => self.request(AiRequest::Hold(hold)),
            Incoming::Record(recording) => self.request(AiRequest::Record(recording)),
            Incoming::Custom { name, data } => {
                if let Some(data) = clean_json(&data) {
                    self.events.notice(AiNotice::Custom { name: clean(&name, MAX_NAME_CHARS), data });
                }
            }
            Incoming::Expires { within } => self.supervisor.expires(within),
            Incoming::ExpiresAt { unix } => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
                let now = u64::try_from(now).unwrap_or_default();
                self.supervisor.expires(Duration::from_secs(unix.saturating_sub(now).min(MAX_SESSION_SECS)));
            }
            Incoming::Resumption { handle } if handle.len() <= MAX_HANDLE_BYTES => {
                self.supervisor.resumption(handle);
            }
            Incoming::Resumption { .. } => {}
            Incoming::Error { code, text, .. } => {
                let (code, text) = (clean(&code, MAX_NAME_CHARS), clean(&text, MAX_TEXT_CHARS));
                tracing::warn!(code, text, "the AI backend reports an error");
                self.events.notice(AiNotice::Error { code, text });
            }
        }
    }

    /// Passes on a call of a function, or tells the model that it failed.
    fn call(&mut self, call: &ToolCall) {
        let passed_on = clean_call(call).is_some_and(|call| self.events.request(AiRequest::Tool(call)));
        if passed_on {
            self.counters.tool_calls.increment();
            return;
        }
        self.counters.tool_calls_refused.increment();
        if call.id.len() <= 4 * MAX_NAME_CHARS && call.name.len() <= 4 * MAX_NAME_CHARS {
            self.uplink.push(Item::ToolResult(ToolResult {
                id: call.id.clone(),
                name: call.name.clone(),
                output: r#"{"error":"the call cannot take this function call now"}"#.into(),
                is_error: true,
            }));
        }
    }
}

const MAX_CANCELLED: usize = 64;
const MAX_DIGITS: usize = 128;
/// Vendors' handles are some hundreds of bytes.
const MAX_HANDLE_BYTES: usize = 16 * 1024;
/// A year: no session lasts longer.
const MAX_SESSION_SECS: u64 = 365 * 86_400;
