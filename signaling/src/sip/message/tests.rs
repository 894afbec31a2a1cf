use proptest::prelude::*;

use super::parse::Frame;
use super::*;
use crate::sip::fuzz_message;

fn text(head: &str, body: &str) -> Vec<u8> {
    format!(
        "{head}Via: SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bK1;rport\r\nFrom: \"A, \\\"b\\\"\" <sip:a@h.example>;tag=f1\r\n\
         To: sip:b@h.example;tag=t1\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn why(data: &[u8]) -> Malformed {
    parse(data).unwrap_err().why
}

#[test]
fn a_message_is_taken_apart() {
    let message = parse(&text("INVITE sip:b@h.example SIP/2.0\r\n", "body")).unwrap();
    assert_eq!(
        (message.method(), message.uri(), message.body.as_slice()),
        ("INVITE", "sip:b@h.example", &b"body"[..])
    );
    let from = message.from().unwrap();
    assert_eq!((from.display.as_deref(), from.tag()), (Some("A, \"b\""), Some("f1")));
    assert_eq!(message.to_tag().as_deref(), Some("t1"));
    assert_eq!(message.cseq(), Some((1, "INVITE")));
    let via = message.top_via().unwrap();
    assert_eq!((via.host.as_str(), via.port, via.branch()), ("192.0.2.9", Some(5070), Some("z9hG4bK1")));
}

#[test]
fn compact_names_folding_and_space_before_the_colon_are_one_form() {
    let data = b"OPTIONS sip:a@h SIP/2.0\r\nv : SIP/2.0/UDP h;branch=z9hG4bK1\r\nS:a\r\n b\r\n\tc\r\ni\t: x\r\nl:0\r\n\r\n";
    let message = parse(data).unwrap();
    assert_eq!(message.header("via"), Some("SIP/2.0/UDP h;branch=z9hG4bK1"));
    assert_eq!(message.header("Subject"), Some("a b c"));
    assert_eq!(message.call_id(), "x");
    assert_eq!(message.header("s"), None, "only the long name is known");
}

#[test]
fn every_fault_has_its_name() {
    let head = "OPTIONS sip:a@h SIP/2.0\r\n";
    assert_eq!(why(b""), Malformed::Empty);
    assert_eq!(why(&vec![b'a'; 70_000]), Malformed::TooLarge);
    assert_eq!(why(b"\x00\x01\x02\x03\r\n\r\n"), Malformed::StartLine);
    assert_eq!(why(b"OPTIONS  sip:a@h SIP/2.0\r\n\r\n"), Malformed::StartLine);
    assert_eq!(why(b"OPTIONS sip:a@h SIP/2.0 \r\n\r\n"), Malformed::StartLine);
    assert_eq!(why(b"OPTIONS <sip:a@h> SIP/2.0\r\n\r\n"), Malformed::StartLine);
    assert_eq!(why(b"SIP/2.0 4294967301 OK\r\n\r\n"), Malformed::StartLine);
    assert_eq!(why(format!("{head}no colon\r\n\r\n").as_bytes()), Malformed::Header);
    assert_eq!(why(format!("{head}a b: c\r\n\r\n").as_bytes()), Malformed::Header);
    assert_eq!(why(format!("{head} folded: first\r\n\r\n").as_bytes()), Malformed::Header);
    assert_eq!(why(format!("{head}X: a\0b\r\n\r\n").as_bytes()), Malformed::ControlCharacter);
    assert_eq!(why(format!("{head}X: a\nVia: b\r\n\r\n").as_bytes()), Malformed::ControlCharacter);
    assert_eq!(why(b"OPTIONS sip:a@h SIP/2.0\r\nX: \xff\r\n\r\n"), Malformed::Encoding);
    assert_eq!(why(format!("{head}{}\r\n", "X: y\r\n".repeat(257)).as_bytes()), Malformed::TooManyHeaders);
    assert!(parse(format!("{head}{}\r\n", "X: y\r\n".repeat(256)).as_bytes()).is_ok());
    for length in ["-1", "+1", "9999999999999999999999", "x", "", "5"] {
        let message = format!("{head}Content-Length: {length}\r\n\r\nbody");
        assert_eq!(why(message.as_bytes()), Malformed::ContentLength, "{length}");
    }
    let twice = format!("{head}Content-Length: 4\r\nl: 3\r\n\r\nbody");
    assert_eq!(why(twice.as_bytes()), Malformed::ContentLength);
    assert_eq!(why(format!("{head}X: y\r\n").as_bytes()), Malformed::Truncated);
}

#[test]
fn what_can_be_answered_is_salvaged() {
    let data =
        b"INVITE sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nbroken\r\nCSeq: 1 INVITE\r\n\r\n";
    let salvage = parse(data).unwrap_err().salvage;
    assert_eq!((salvage.method(), salvage.header("CSeq")), ("INVITE", Some("1 INVITE")));
}

#[test]
fn bytes_behind_the_body_are_ignored() {
    let mut data = text("INVITE sip:b@h.example SIP/2.0\r\n", "body");
    data.extend_from_slice(b"INVITE again");
    assert_eq!(parse(&data).unwrap().body, b"body");
}

#[test]
fn streams_are_framed() {
    let message = text("INVITE sip:b@h.example SIP/2.0\r\n", "body");
    let mut scanned = 0;
    for length in 1..message.len() {
        match frame(&message[..length], scanned) {
            Frame::Incomplete { scanned: now } => scanned = now,
            other => panic!("{length}: {other:?}"),
        }
    }
    assert_eq!(frame(&message, scanned), Frame::Message { length: message.len() });
    let two = [message.clone(), message.clone()].concat();
    assert_eq!(frame(&two, 0), Frame::Message { length: message.len() });
    assert_eq!(frame(b"\r\n\r\nINVITE", 0), Frame::KeepAlive { length: 4, ping: true });
    assert_eq!(frame(b"\r\nINVITE", 0), Frame::KeepAlive { length: 2, ping: false });
    assert_eq!(frame(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0), Frame::Broken);
    assert_eq!(frame(b"OPTIONS sip:a SIP/2.0\r\nl: 1\r\nl: 2\r\n\r\n", 0), Frame::Broken);
    assert_eq!(frame(b"OPTIONS sip:a SIP/2.0\r\nl: 99999999\r\n\r\n", 0), Frame::Broken);
    assert_eq!(frame(&vec![b'a'; 70_000], 0), Frame::Broken);
}

#[test]
fn uris_are_split_at_the_last_at_sign() {
    let uri =
        Uri::parse("sip:user;par=u%40h.example?x=y@Host.example:5070;transport=TCP;lr?Subject=z").unwrap();
    assert_eq!(
        (uri.user.as_str(), uri.host.as_str(), uri.port),
        ("user;par=u%40h.example?x=y", "Host.example", Some(5070))
    );
    assert_eq!((uri.param("Transport"), uri.param("LR"), uri.param("x")), (Some("TCP"), Some(""), None));
    let v6 = Uri::parse("SIPS:[2001:db8::9]:5061").unwrap();
    assert_eq!((v6.scheme.as_str(), v6.host.as_str(), v6.port), ("sips", "2001:db8::9", Some(5061)));
    assert_eq!(Uri::parse("tel:+1-555").unwrap().user, "+1-555");
    for bad in [
        "",
        "sip:",
        "sip:a@",
        "sip:a@h:0",
        "sip:a@h:99999",
        "sip:a@[::1",
        "sip:a b@h",
        "sip:a@h<",
        ":a@h",
        "1a:b",
    ] {
        assert_eq!(Uri::parse(bad), None, "{bad}");
    }
}

#[test]
fn name_addrs_and_their_faults() {
    let plain = NameAddr::parse("sip:a@h.example;tag=x").unwrap();
    assert_eq!((plain.uri.as_str(), plain.tag()), ("sip:a@h.example", Some("x")));
    let spaced = NameAddr::parse("Bell  Alexander < sip:a@h.example;p=1 > ; tag = y").unwrap();
    assert_eq!((spaced.uri.as_str(), spaced.tag()), ("sip:a@h.example;p=1", Some("y")));
    let first = NameAddr::parse("\"a, <b>\" <sip:a@h>, <sip:b@h>").unwrap();
    assert_eq!((first.display.as_deref(), first.uri.as_str()), (Some("a, <b>"), "sip:a@h"));
    for bad in [
        "",
        "*",
        "\"open <sip:a@h>",
        "Bell, Alexander <sip:a@h>",
        "<sip:a@h",
        "<>",
        "<sip:a@h> tag=1",
        "a;b <sip:a@h>",
    ] {
        assert_eq!(NameAddr::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_via_notes_its_source() {
    let mut via =
        Via::parse("SIP / 2.0 / udp  [2001:db8::1]:5070 ; branch=z9hG4bK1;RPort;maddr=224.0.0.1;q=\"a b\"")
            .unwrap();
    via.set_source("192.0.2.7:6000".parse().unwrap());
    let written = via.write();
    assert_eq!(
        written,
        "SIP/2.0/UDP [2001:db8::1]:5070;branch=z9hG4bK1;maddr=224.0.0.1;q=\"a b\";received=192.0.2.7;rport=6000"
    );
    assert_eq!(Via::parse(&written), Some(via));
    for bad in ["", "SIP/2.0/UDP", "SIP/3.0/UDP h", "SIP/2.0/UDP h:x", "SIP/2.0/UDP ;branch=1"] {
        assert_eq!(Via::parse(bad), None, "{bad}");
    }
}

#[test]
fn bodies_are_sdp_or_not() {
    let with = |content_type: &str, extra: &str, body: &[u8]| {
        let mut message = Message::request("INVITE", "sip:a@h");
        message.push("Content-Type", content_type);
        if let Some((name, value)) = extra.split_once(": ") {
            message.push(name, value);
        }
        message.body = body.to_vec();
        session_description(&message)
    };
    assert_eq!(with("application/sdp", "", b"v=0"), Content::Sdp("v=0".to_owned()));
    assert_eq!(with("Application / SDP;charset=utf-8", "", b"v=0"), Content::Sdp("v=0".to_owned()));
    assert_eq!(with("application/sdp", "", b"\r\n"), Content::None);
    assert_eq!(with("application/sdp", "", b"v=\xff"), Content::Broken);
    assert_eq!(with("application/sdp", "", &vec![b'a'; 40_000]), Content::Broken);
    assert_eq!(with("application/sdp", "Content-Encoding: gzip", b"v=0"), Content::Unsupported);
    assert_eq!(with("application/unknown", "", b"v=0"), Content::Unsupported);
    assert_eq!(with("x/y", "Content-Disposition: icon;handling=optional", b"v=0"), Content::None);
    assert_eq!(with("multipart/mixed", "", b"v=0"), Content::Broken);
    let parts = b"--x\r\nContent-Type: a/b\r\n\r\n\x00\xff\r\n--x\r\ncontent-type:application/sdp\r\n\r\nv=0\r\n--x--";
    assert_eq!(with("multipart/mixed;boundary=x", "", parts), Content::Sdp("v=0".to_owned()));
    assert_eq!(with("multipart/mixed;boundary=x", "", b"--x\r\nno end"), Content::Broken);
    assert_eq!(with("multipart/mixed;boundary=x", "", &b"--x ".repeat(20_000)), Content::Broken);
}

#[test]
fn nothing_of_ours_breaks_a_line() {
    let response = Message::response(488, "a\r\nVia: evil\0");
    assert!(!String::from_utf8(response.write()).unwrap().contains("\r\nVia"));
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("INVITE sip:a@h.example SIP/2.0\r\n".to_owned()),
        Just("SIP/2.0 200 OK\r\n".to_owned()),
        Just("Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n".to_owned()),
        Just("From: \"x\" <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n".to_owned()),
        Just("Contact: <sip:a@h?x=y>, sip:b@[::1]\r\nRecord-Route: <sip:p;lr>, <sip:q>\r\n".to_owned()),
        Just("Content-Type: multipart/mixed;boundary=b\r\n".to_owned()),
        Just("\r\n--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--".to_owned()),
        Just("Session-Expires: 90;refresher=uac\r\nSupported: timer\r\nMin-SE: 1\r\n".to_owned()),
        Just("\r\n".to_owned()),
        "[a-zA-Z-]{1,12}[ \t]?:[ -~]{0,40}\r\n",
        "\\PC{0,30}",
        "[\"<>;,=\\\\@:\\[\\] \t\r\n]{0,12}",
    ];
    let noise = prop::collection::vec(any::<u8>(), 0..16);
    prop::collection::vec(prop_oneof![8 => piece.prop_map(String::into_bytes), 1 => noise], 0..14)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..2048)) {
        fuzz_message(&data);
    }

    #[test]
    fn almost_messages_are_survived(data in pieces()) {
        fuzz_message(&data);
    }

    #[test]
    fn cut_and_flipped_messages_are_survived(cut in 0..400_usize, at in 0..400_usize, byte in any::<u8>()) {
        let mut data = text("INVITE sip:b@h.example SIP/2.0\r\n", "v=0\r\n");
        data.truncate(cut);
        if let Some(place) = data.get_mut(at) {
            *place = byte;
        }
        fuzz_message(&data);
    }

    #[test]
    fn a_written_message_reads_the_same(
        method in "[A-Z]{3,8}",
        headers in prop::collection::vec(("X-[a-z]{1,8}", "[!-~]([ -~]{0,30}[!-~])?"), 0..8),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut message = Message::request(&method, "sip:a@h.example");
        for (name, value) in headers {
            message.push(&name, value);
        }
        message.body = body;
        let mut read = parse(&message.write()).unwrap();
        read.headers.retain(|field| field.name != "Content-Length");
        prop_assert_eq!(read, message);
    }

    #[test]
    fn framing_does_not_depend_on_how_the_stream_was_cut(cuts in prop::collection::vec(1..200_usize, 1..20)) {
        let stream = [text("INVITE sip:b@h SIP/2.0\r\n", "body"), text("BYE sip:b@h SIP/2.0\r\n", "")].concat();
        let (mut buffer, mut scanned, mut lengths, mut rest) = (Vec::new(), 0, Vec::new(), stream.as_slice());
        for cut in cuts.into_iter().chain(std::iter::repeat(64)) {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(cut.min(rest.len()));
            buffer.extend_from_slice(now);
            rest = later;
            loop {
                match frame(&buffer, scanned) {
                    Frame::Message { length } => {
                        lengths.push(length);
                        buffer.drain(..length);
                        scanned = 0;
                    }
                    Frame::Incomplete { scanned: now } => {
                        scanned = now;
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        prop_assert_eq!(lengths.len(), 2);
        prop_assert_eq!(lengths.iter().sum::<usize>(), stream.len());
    }
}
