//! What a backend does wrong: all of it counted, each kind logged once for a connection.

use std::sync::Arc;

use super::super::counters::AiCounters;
use super::super::dialect::Ignored;

/// What a connection's backend has done wrong so far.
#[derive(Debug)]
pub(super) struct Faults {
    /// The kinds already logged; further ones are only counted.
    logged: Vec<Fault>,
    counters: Arc<AiCounters>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Ignored(Ignored),
    WrongStream,
    Replies,
}

impl Faults {
    pub(super) const fn new(counters: Arc<AiCounters>) -> Self {
        Self { logged: Vec::new(), counters }
    }

    pub(super) fn count(&mut self, fault: Fault) {
        let counters = &self.counters;
        let counter = match fault {
            Fault::WrongStream => &counters.wrong_stream,
            Fault::Replies => &counters.replies_overflow,
            Fault::Ignored(ignored) => match ignored {
                Ignored::UnknownEvent => &counters.unknown_event,
                Ignored::BadJson => &counters.bad_json,
                Ignored::MediaWithoutPayload => &counters.media_without_payload,
                Ignored::BadBase64 => &counters.bad_base64,
                Ignored::MarkWithoutName => &counters.mark_without_name,
                Ignored::BinaryFrame => &counters.binary_frame,
                Ignored::TextFrame => &counters.text_frame,
                Ignored::Stale => &counters.stale_audio,
                Ignored::Refused => &counters.refused,
            },
        };
        counter.increment();
        self.log_once(fault);
    }

    fn log_once(&mut self, fault: Fault) {
        if self.logged.contains(&fault) {
            return;
        }
        self.logged.push(fault);
        match fault {
            Fault::WrongStream => tracing::warn!("the AI backend names another stream; obeyed all the same"),
            Fault::Replies => {
                tracing::warn!("the AI backend wants more answers than it reads; some are not sent");
            }
            // Not a fault of anyone.
            Fault::Ignored(Ignored::Stale) => {}
            Fault::Ignored(reason) => {
                tracing::warn!(
                    ?reason,
                    "ignored a message of the AI backend; more of these are only counted"
                );
            }
        }
    }
}
