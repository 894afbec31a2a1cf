//! What still comes after nobody waits any more: answers that are repeated, that cross our CANCEL, or that come from
//! further forks (RFC 3261 13.2.2.4, 9.1).

use super::attempt::{Attempt, Event};
use crate::sip::dialog::Dialog;
use crate::sip::message::Message;
use crate::sip::session::ByeReason;
use crate::sip::task::outgoing::{ask, send_once};

/// Keeps the transaction until it is over, or for as long as a peer may have something to say. With `unwanted`, the call
/// is cancelled as soon as it may be.
pub(super) fn linger(mut attempt: Attempt, unwanted: bool, reason: Option<ByeReason>) {
    attempt.give_up();
    let closing = attempt.core.closing.clone();
    if unwanted {
        attempt.cancel(reason.as_ref());
    }
    let longest = attempt.core.config.t1 * LONGEST;
    tokio::spawn(async move {
        let mut ended = Vec::new();
        let lingering = async {
            loop {
                match attempt.next().await {
                    Event::Response(response) if response.status() < 200 => {
                        if unwanted {
                            attempt.cancel(reason.as_ref());
                        }
                        attempt.give_up();
                    }
                    Event::Response(response) if response.status() < 300 => {
                        handle_answer(&attempt, response, &mut ended);
                    }
                    Event::Response(_) | Event::Broken => {}
                    Event::TimedOut | Event::Over => return,
                }
            }
        };
        tokio::select! {
            () = closing.cancelled() => {}
            // A peer that never stops is not listened to for ever.
            _ = tokio::time::timeout(longest, lingering) => {}
        }
    });
}

/// `ended` has the tags of forks that were ended already.
fn handle_answer(attempt: &Attempt, response: Message, ended: &mut Vec<String>) {
    let tag = response.to_tag().unwrap_or_default();
    if attempt.core.repeat_answer(response.clone()) {
        return;
    }
    let first = !ended.contains(&tag) && ended.len() < MOST_FORKS;
    if first {
        attempt.core.counters.outgoing_forks.increment();
        ended.push(tag);
    }
    hang_up(attempt, &response, first);
}

/// Acknowledges a 2xx, and ends its session where that has not been done.
pub(super) fn hang_up(attempt: &Attempt, response: &Message, with_bye: bool) {
    let Some(mut dialog) = Dialog::from_response(&attempt.invite, response) else { return };
    let cseq = attempt.invite.cseq().map_or(0, |(number, _)| number);
    let (core, flow, user) = (&attempt.core, &attempt.flow, &attempt.contact_user);
    let acknowledging = send_once(core, &dialog, flow, user, dialog.request_with_cseq("ACK", cseq));
    let bye = with_bye.then(|| {
        let bye = dialog.request("BYE");
        ask(core, &dialog, flow, user, None, bye, true)
    });
    core.tasks.spawn(async move {
        acknowledging.await;
        if let Some(bye) = bye {
            bye.await;
        }
    });
}

/// In T1: the time that an answer may take after the last sign of life, twice.
const LONGEST: u32 = 130;
/// Forks that get a BYE; those of a peer that makes up ever more are only acknowledged.
const MOST_FORKS: usize = 16;
