//! Everything that reads bytes of strangers, without a socket.

use super::bencode;
use super::json;
use super::message::{self, Encoding};
use super::options::Options;
use super::value::Value;
use crate::exchange::sdp::{
    Body, Format, MediaChange, Negotiation, Outgoing, RelayedMedia, RtcpAttribute, write,
};

/// Reads bytes as a datagram, and its SDP as an offer and as the answer to it. For fuzzing: it must neither
/// panic nor hang, and what is written is read again as the same.
///
/// # Panics
/// When writing and reading again does not give the same.
pub fn fuzz_datagram(data: &[u8]) {
    let Some((cookie, payload)) = message::split_cookie(data) else { return };
    let Ok((encoding, dictionary)) = message::parse(payload) else { return };
    let written = message::write(cookie, encoding, &dictionary);
    let (_, payload) = message::split_cookie(&written).expect("the cookie was written");
    let again = match encoding {
        Encoding::Bencode => bencode::parse(payload).expect("bencode").0,
        Encoding::Json => json::parse(payload).expect("JSON"),
    };
    assert_eq!(again, Value::Dictionary(dictionary.clone()));
    let options = Options::read(&dictionary);
    let Some(body) = options.sdp.as_deref().and_then(|sdp| Body::parse(sdp).ok()) else { return };
    let changes: Vec<MediaChange> = body
        .media
        .iter()
        .map(|section| {
            let (negotiation, sent) = Negotiation::offer(Format::all(section), &options.wishes.codec);
            let answer = negotiation.answer(&sent.formats, &options.wishes.codec);
            let _ =
                (body.address(section), body.direction(section), section.rtcp(([192, 0, 2, 1], 4000).into()));
            match section.port {
                0 => MediaChange::Rejected,
                _ if !section.is_rtp() => MediaChange::Untouched,
                port => MediaChange::Relayed(RelayedMedia {
                    address: [192, 0, 2, 1].into(),
                    port,
                    rtcp_port: port,
                    rtcp_mux: section.rtcp_mux(),
                    rtcp: RtcpAttribute::Full,
                    protocol: None,
                    formats: answer.formats,
                    direction: body.direction(section),
                    ptime: options.wishes.ptime,
                }),
            }
        })
        .collect();
    let text = write(&body, &changes, options.wishes.replace, &mut Outgoing::default());
    let again = Body::parse(&text).expect("what was written can be read");
    assert_eq!(again.media.len(), body.media.len());
}
