//! Everything that reads bytes of strangers, without a socket.

use super::dialog::{Dialog, DialogId};
use super::message::{Frame, Malformed, Message, NameAddr, frame, parse, session_description};
use super::session_timer::negotiate;
use super::transaction::{key_of, to_bought};
use super::validate::{ALLOW, check_mandatory, check_request};

/// Reads bytes as a datagram and as a stream, and runs all that an endpoint does with the result before a
/// call exists. For fuzzing: it must neither panic nor hang, and a message that is written is read again as
/// the same.
///
/// # Panics
/// When writing and reading again does not give the same message.
pub fn fuzz_message(data: &[u8]) {
    if let Frame::Message { length } = frame(data, 0) {
        assert!(length <= data.len(), "a framed message lies within its stream");
    }
    let mut message = match parse(data) {
        Ok(message) => message,
        Err(unparsable) => {
            // What is answered 400 is read again by nobody, but it must not break lines.
            let mut salvage = unparsable.salvage;
            salvage.note_source(([192, 0, 2, 1], 5060).into());
            let _ = Message::response_to(&salvage, 400, unparsable.why.reason(), Some("tag")).write();
            return;
        }
    };
    let again = parse(&message.write()).expect("what was written can be read");
    let comparable = |message: &Message| {
        let mut message = message.clone();
        message.headers.retain(|field| field.name != "Content-Length");
        message
    };
    assert_eq!(comparable(&again), comparable(&message), "written and read again");
    message.note_source(([192, 0, 2, 1], 5060).into());
    let _ = check_mandatory(&message);
    let _ = check_request(&message, ALLOW);
    let _ = session_description(&message);
    let _ = negotiate(&message, std::time::Duration::from_secs(1800), std::time::Duration::from_secs(90));
    let _ = (DialogId::of_request(&message), DialogId::of_response(&message));
    for contact in message.list("Contact") {
        let _ = NameAddr::parse(contact);
    }
    if let Some(mut dialog) = Dialog::from_invite(&message, "local") {
        dialog.refresh_target(&message);
        let _ = (dialog.accept_cseq(&message), dialog.next_hop());
        let request = dialog.request("BYE").write();
        assert!(!matches!(parse(&request), Err(bad) if bad.why == Malformed::ControlCharacter));
    }
    if let Some(bought) = to_bought(&message) {
        let _ = key_of(&bought);
    }
    let _ = Message::response_to(&message, 200, "", Some("tag")).write();
}
