//! Everything that reads bytes of strangers, without a socket.

use super::address::Address;
use super::dialog::{Dialog, DialogId};
use super::digest::{Authorization, Credentials};
use super::message::{Frame, Malformed, Message, NameAddr, frame, parse, session_description};
use super::outgoing::Failure;
use super::session_timer::{SessionExpires, negotiate};
use super::target::Target;
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
    fuzz_response(&message);
    if let Some(bought) = to_bought(&message) {
        let _ = key_of(&bought);
    }
    let _ = Message::response_to(&message, 200, "", Some("tag")).write();
}

/// All that a call of ours does with an answer.
fn fuzz_response(message: &Message) {
    let mut invite = Message::request("INVITE", "sip:callee@example.com")
        .with("From", "<sip:caller@example.com>;tag=local")
        .with("Call-ID", "c")
        .with("CSeq", "1 INVITE");
    let credentials = Credentials { user: "u".to_owned(), password: "p".to_owned(), realm: None };
    let mut authorization = Authorization::new(Some(credentials));
    if authorization.handle_challenge(&invite, message).is_ok() {
        authorization.authorize(&mut invite, "cnonce");
        assert!(parse(&invite.write()).is_ok(), "an answer to a challenge breaks no line");
        let stale = message.list("WWW-Authenticate").chain(message.list("Proxy-Authenticate"));
        let may_be_stale = stale.into_iter().any(|value| value.to_ascii_lowercase().contains("stale"));
        let again = authorization.handle_challenge(&invite, message);
        assert!(again.is_err() || may_be_stale, "the same question twice is a refusal");
    }
    if let Some(mut dialog) = Dialog::from_response(&invite, message) {
        let ack = dialog.request_with_cseq("ACK", 1).write();
        assert!(!matches!(parse(&ack), Err(bad) if bad.why == Malformed::ControlCharacter));
        let _ = (dialog.next_hop(), dialog.request("BYE"));
    }
    let failure = Failure::of_response(message, None);
    assert!(
        !failure
            .reason
            .chars()
            .chain(failure.contacts.iter().flat_map(|uri| uri.chars()))
            .any(char::is_control)
    );
    let _ = SessionExpires::of(message);
    for value in message.list("Contact").chain(message.list("Service-Route")) {
        if let Ok(address) = Address::parse(value) {
            assert!(
                Address::parse(&address.to_string()).is_ok(),
                "an address that was taken is one when written"
            );
        }
        let _ = Target::of_uri(value).map(|target| target.request_uri(Some("user")));
        let _ = Target::of_uri("sip:a").and_then(|target| target.with_routes([value]));
    }
}
