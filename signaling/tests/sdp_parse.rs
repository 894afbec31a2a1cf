//! Descriptions that are wrong, hostile or merely large, and the properties of the parser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::stream::Direction;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sidetone_signaling::sdp::offer_answer::{LocalMedia, answer, offer};
use sidetone_signaling::sdp::{
    Attribute, Connection, MAX_ATTRIBUTES, MAX_BYTES, MAX_FORMATS, MAX_MEDIA, MediaDescription, Origin,
    ParseErrorReason, RtpMap, SessionDescription,
};

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n";

fn refused(text: &str) -> (usize, ParseErrorReason) {
    let error = SessionDescription::parse(text).expect_err(text);
    (error.line, error.reason)
}

#[test]
fn wrong_lines_are_named() {
    for (line, reason) in [
        ("m=audio", ParseErrorReason::Media),
        ("m=audio 4000", ParseErrorReason::Media),
        ("m=au/dio 4000 RTP/AVP 0", ParseErrorReason::Media),
        ("m=audio 65536 RTP/AVP 0", ParseErrorReason::Port),
        ("m=audio 4294967296 RTP/AVP 0", ParseErrorReason::Port),
        ("m=audio -1 RTP/AVP 0", ParseErrorReason::Port),
        ("m=audio 65534/2 RTP/AVP 0", ParseErrorReason::Port),
        ("m=audio 4000/0 RTP/AVP 0", ParseErrorReason::Port),
        ("m=audio 4000/65536 RTP/AVP 0", ParseErrorReason::Port),
        ("m=audio 4000 RTP/AVP 128", ParseErrorReason::PayloadType),
        ("m=audio 4000 RTP/AVP 4294967296", ParseErrorReason::PayloadType),
        ("m=audio 4000 RTP/AVP +8", ParseErrorReason::PayloadType),
        ("m=audio 4000 RTP/AVP 0\r\na=rtpmap:4294967296 PCMU/8000", ParseErrorReason::PayloadType),
        ("m=audio 4000 RTP/AVP 0\r\na=rtpmap:-1 PCMU/8000", ParseErrorReason::PayloadType),
        ("m=audio 4000 RTP/AVP 0\r\na=rtpmap:0", ParseErrorReason::RtpMap),
        ("m=audio 4000 RTP/AVP 0\r\na=rtpmap", ParseErrorReason::RtpMap),
        ("m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU", ParseErrorReason::RtpMap),
        ("m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/", ParseErrorReason::RtpMap),
        ("m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/99999999999", ParseErrorReason::RtpMap),
        ("m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000/1/1", ParseErrorReason::RtpMap),
        ("m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 /8000", ParseErrorReason::RtpMap),
        ("m=audio 4000 RTP/AVP 0\r\na=fmtp", ParseErrorReason::Fmtp),
        ("m=audio 4000 RTP/AVP 0\r\na=fmtp:", ParseErrorReason::Fmtp),
        ("m=audio 4000 RTP/AVP 0\r\na=fmtp:annexb=no", ParseErrorReason::PayloadType),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 2001:db8::1", ParseErrorReason::Connection),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.256", ParseErrorReason::Connection),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4", ParseErrorReason::Connection),
        ("m=audio 4000 RTP/AVP 0\r\nc=ATM NSAP 47", ParseErrorReason::Connection),
        ("m=audio 4000 RTP/AVP 0\r\na=tool:\u{1b}[2J", ParseErrorReason::ControlCharacter),
        ("m=audio 4000 RTP/AVP 0\r\na=tool:a\rb", ParseErrorReason::ControlCharacter),
        ("garbage", ParseErrorReason::NotALine),
        ("mm=audio 4000 RTP/AVP 0", ParseErrorReason::NotALine),
        ("=x", ParseErrorReason::NotALine),
        ("ü=x", ParseErrorReason::NotALine),
        ("v=1", ParseErrorReason::Version),
    ] {
        let last = 5 + line.split("\r\n").count();
        assert_eq!(refused(&format!("{HEAD}{line}\r\n")), (last, reason), "{line}");
    }
    assert_eq!(refused(""), (0, ParseErrorReason::Incomplete));
    assert_eq!(refused("v=0\r\n"), (0, ParseErrorReason::Incomplete));
    assert_eq!(refused("v=0\r\no=- 1 1 IN IP4\r\n"), (2, ParseErrorReason::Origin));
    let message =
        SessionDescription::parse(&format!("{HEAD}m=audio 4000 RTP/AVP 300\r\n")).expect_err("refused");
    assert_eq!(message.to_string(), "SDP line 6: an RTP payload type must be a number from 0 to 127");
}

#[test]
fn limits_hold() {
    let media = "m=audio 4000 RTP/AVP 0\r\n";
    assert!(SessionDescription::parse(&format!("{HEAD}{}", media.repeat(MAX_MEDIA))).is_ok());
    assert_eq!(
        refused(&format!("{HEAD}{}", media.repeat(MAX_MEDIA + 1))),
        (6 + MAX_MEDIA, ParseErrorReason::TooManyMedia)
    );
    let formats = |count| format!("{HEAD}m=audio 4000 RTP/AVP{}\r\n", " 0".repeat(count));
    assert!(SessionDescription::parse(&formats(MAX_FORMATS)).is_ok());
    assert_eq!(refused(&formats(MAX_FORMATS + 1)), (6, ParseErrorReason::TooManyFormats));
    let attributes = |count| format!("{HEAD}{}", "a=x\r\n".repeat(count));
    assert!(SessionDescription::parse(&attributes(MAX_ATTRIBUTES)).is_ok());
    assert_eq!(
        refused(&attributes(MAX_ATTRIBUTES + 1)),
        (6 + MAX_ATTRIBUTES, ParseErrorReason::TooManyAttributes)
    );
    let large = format!("{HEAD}i={}\r\n", "x".repeat(MAX_BYTES));
    assert_eq!(refused(&large), (0, ParseErrorReason::TooLarge));
}

#[test]
fn what_only_other_media_would_need_does_not_matter() {
    for media in [
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=sctpmap:5000 webrtc-datachannel 1024\r\n",
        "m=image 5000 udptl t38\r\na=fmtp\r\na=rtpmap:x\r\na=T38FaxVersion:0\r\n",
        "m=video 5000 RTP/AVP 96\r\na=fmtp:* x\r\na=rtcp-fb:* nack pli\r\n",
        "m=message 5000 TCP/MSRP *\r\n",
    ] {
        let description = SessionDescription::parse(&format!("{HEAD}{media}")).expect(media);
        assert_eq!(SessionDescription::parse(&description.to_string()).expect(media), description);
    }
}

fn token() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9.+_-]{0,20}"
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
    ]
}

fn connection() -> impl Strategy<Value = Connection> {
    prop_oneof![
        address().prop_map(Connection::Address),
        ("[a-z][a-z0-9-]{0,10}\\.example", any::<bool>())
            .prop_map(|(name, ipv6)| Connection::Name { name, ipv6 }),
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![
        Just(Direction::SendRecv),
        Just(Direction::SendOnly),
        Just(Direction::RecvOnly),
        Just(Direction::Inactive)
    ]
}

fn attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        (1u16..).prop_map(Attribute::Ptime),
        (1u16..).prop_map(Attribute::MaxPtime),
        direction().prop_map(Attribute::Direction),
        (any::<u16>(), option::of(address())).prop_map(|(port, address)| Attribute::Rtcp { port, address }),
        Just(Attribute::RtcpMux),
        token().prop_map(Attribute::Mid),
        ("x-[a-z]{1,8}", option::of("[!-~]([ -~]{0,20}[!-~])?"))
            .prop_map(|(name, value)| Attribute::Other { name, value }),
    ]
}

fn rtp_attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        attribute(),
        (0u8..128, token(), any::<u32>(), option::of(any::<u8>())).prop_map(
            |(payload_type, encoding, clock_rate, channels)| {
                Attribute::RtpMap(RtpMap { payload_type, encoding, clock_rate, channels })
            }
        ),
        (0u8..128, "[a-z0-9=;-]{0,20}")
            .prop_map(|(format, parameters)| Attribute::Fmtp { format: format.to_string(), parameters }),
    ]
}

fn audio() -> impl Strategy<Value = MediaDescription> {
    (
        0u16..65000,
        option::of(1u16..100),
        prop_oneof![Just("RTP/AVP"), Just("RTP/AVPF"), Just("RTP/SAVP")],
        vec(0u8..128, 0..20),
        option::of(connection()),
        vec(rtp_attribute(), 0..12),
    )
        .prop_map(|(port, port_count, protocol, formats, connection, attributes)| MediaDescription {
            kind: "audio".into(),
            port,
            port_count,
            protocol: protocol.into(),
            formats: formats.iter().map(u8::to_string).collect(),
            connection,
            attributes,
        })
}

fn other_media() -> impl Strategy<Value = MediaDescription> {
    (
        token(),
        any::<u16>(),
        token(),
        vec("[!-~]{1,12}", 0..5),
        option::of(connection()),
        vec(attribute(), 0..5),
    )
        .prop_map(|(kind, port, protocol, formats, connection, attributes)| MediaDescription {
            kind: format!("x{kind}"),
            port,
            port_count: None,
            protocol,
            formats,
            connection,
            attributes,
        })
}

fn description() -> impl Strategy<Value = SessionDescription> {
    (
        (token(), any::<u64>(), any::<u64>(), address()),
        "[!-~]([ -~]{0,20}[!-~])?",
        option::of(connection()),
        vec(attribute(), 0..8),
        vec(prop_oneof![audio(), other_media()], 0..6),
    )
        .prop_map(|((username, id, version, address), session_name, connection, attributes, media)| {
            SessionDescription {
                origin: Origin {
                    username,
                    session_id: id.to_string(),
                    session_version: version.to_string(),
                    address: address.to_string(),
                    ipv6: address.is_ipv6(),
                },
                session_name,
                connection,
                attributes,
                media,
            }
        })
}

/// Text that is nearly a description: real lines, cut, doubled and with bytes changed.
fn nearly() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("v=0".to_owned()),
        Just("o=- 1 1 IN IP4 192.0.2.7".to_owned()),
        Just("c=IN IP4 192.0.2.7".to_owned()),
        "m=audio [0-9]{1,11}(/[0-9]{1,6})? (RTP/AVP|RTP/SAVP|udptl)( [0-9]{1,10}){0,5}",
        "a=rtpmap:[0-9]{0,10} ?[a-zA-Z-]{0,8}/?[0-9]{0,12}(/[0-9]{0,4})?",
        "a=(fmtp|ptime|maxptime|rtcp|mid|rtpmap):?[ -~]{0,12}",
        "[a-z]=\\PC{0,20}",
        "\\PC{0,20}",
    ];
    vec((line, prop_oneof![Just("\r\n"), Just("\n"), Just("\r"), Just(" \r\n")]), 0..30)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect())
}

proptest! {
    #[test]
    fn parse_after_write_is_identity(description in description()) {
        prop_assert_eq!(SessionDescription::parse(&description.to_string()), Ok(description));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,400}") {
        let _ = SessionDescription::parse(&text);
    }

    #[test]
    fn what_was_understood_is_written_as_understood(text in nearly()) {
        let text = format!("v=0\no=- 1 1 IN IP4 192.0.2.7\n{text}");
        if let Ok(description) = SessionDescription::parse(&text) {
            prop_assert_eq!(SessionDescription::parse(&description.to_string()), Ok(description));
        }
    }

    #[test]
    fn every_offer_is_answered_in_kind_or_refused(description in description()) {
        let local = LocalMedia::default();
        if let Ok(answer) = answer(&description, &local) {
            let mut session = sidetone_signaling::sdp::offer_answer::LocalSession::new(1);
            let ours = session.describe_answer(&answer, "192.0.2.1:20000".parse().expect("an address"));
            prop_assert_eq!(ours.media.len(), description.media.len());
            prop_assert_eq!(ours.media.iter().filter(|media| media.port != 0).count(), 1);
            for (ours, theirs) in ours.media.iter().zip(&description.media) {
                prop_assert_eq!((&ours.kind, &ours.protocol), (&theirs.kind, &theirs.protocol));
                prop_assert!(ours.port == 0 || ours.formats.iter().all(|format| theirs.formats.contains(format)));
            }
            prop_assert!(answer.stream.remote_rtp.is_some() || !answer.stream.direction.sends());
            let millis = answer.stream.ptime.as_millis();
            prop_assert!((10..=60).contains(&millis) && millis.is_multiple_of(10));
        }
        let _ = offer(&local, Some(&description)).apply_answer(&description, &local);
    }
}
