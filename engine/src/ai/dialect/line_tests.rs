//! The dialects in which we are Asterisk dial those in which we are the application.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::super::{AgentSettings, Dialect, Encoding, Formats, Outgoing, StreamStart};
use super::*;
use crate::time::Duration;

fn start(format: AudioFormat, control: &str) -> StreamStart {
    let session = json!({ "control": control, "channel_variables": { "TENANT": "acme", "number": 7 } });
    StreamStart {
        stream_sid: "MZ0123456789abcdef0123456789abcdef".into(),
        call_sid: "CA40325ec25efd4bd3805f53576e581d13".into(),
        settings: Arc::new(AgentSettings {
            formats: Some(Formats { caller: format, bot: format }),
            session: session.as_object().cloned().expect("an object"),
            ..AgentSettings::default()
        }),
        ..StreamStart::default()
    }
}

fn messages(out: &mut Outbox) -> Vec<(Kind, Vec<u8>)> {
    let messages = out.messages().map(|(kind, message)| (kind, message.to_vec())).collect();
    out.clear();
    messages
}

fn one(out: &mut Outbox) -> (Kind, Vec<u8>) {
    let mut messages = messages(out);
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

#[test]
fn an_audiosocket_of_ours_is_a_call_of_ours() {
    for rate in [8_000, 16_000, 24_000, 32_000, 44_100, 48_000] {
        let format = AudioFormat::l16(rate);
        let mut asterisk = Dialect::AudioSocket.codec(start(format, "json"));
        let mut line = LineProtocol::AudioSocket.codec();
        let mut out = Outbox::default();
        asterisk.open(&mut out);
        let (kind, message) = one(&mut out);
        let heard = line.decode(kind, &message).expect("a UUID");
        let expected = LineStart {
            id: "40325ec2-5efd-4bd3-805f-53576e581d13".into(),
            format: AudioFormat::l16(8_000),
            ..LineStart::default()
        };
        assert_eq!(heard, LineHeard::Start(expected));
        let speech: Vec<u8> = (0..format.bytes(Duration::from_millis(20))).map(|n| n as u8).collect();
        asterisk.encode(Outgoing::Audio { timestamp: 0, audio: &speech }, &mut out);
        let (kind, message) = one(&mut out);
        assert_eq!(line.decode(kind, &message), Ok(LineHeard::Audio { format, audio: &speech }));
        // What we say has the caller's rate.
        line.audio(&speech, &mut out);
        assert_eq!(one(&mut out).1, message);
        let digit = Digit::from_char('#').expect("a key");
        asterisk.encode(Outgoing::Digit { digit, duration: Duration::from_millis(100) }, &mut out);
        let (kind, message) = one(&mut out);
        assert_eq!(line.decode(kind, &message), Ok(LineHeard::Digit(digit)));
        asterisk.encode(Outgoing::Stop, &mut out);
        let (kind, message) = one(&mut out);
        assert_eq!(line.decode(kind, &message), Ok(LineHeard::HangUp));
    }
}

#[test]
fn an_audiosocket_that_breaks_the_rules_is_told_from_one_that_is_odd() {
    let mut line = LineProtocol::AudioSocket.codec();
    let mut heard = |frame: &[u8]| match line.decode(Kind::Binary, frame) {
        Ok(heard) => format!("{heard:?}"),
        Err(ignored) => format!("{ignored:?}"),
    };
    assert!(heard(&[0x10, 0, 2, 0, 0]).starts_with("Broken"), "audio before the UUID");
    assert!(heard(&[0x01, 0, 4, 1, 2, 3, 4]).starts_with("Broken"), "a short UUID");
    let uuid = [&[0x01, 0, 16][..], &[7; 16]].concat();
    assert!(heard(&uuid).starts_with("Start"));
    for (frame, expected) in [
        (&uuid[..], "Refused"),
        (&[0x02, 0, 0], "Nothing"),
        (&[0x03, 0, 1, b'x'], "UnknownEvent"),
        (&[0x03, 0, 2, b'1', b'2'], "BadJson"),
        (&[0x04, 0, 0], "UnknownEvent"),
        (&[0x10, 0, 0], "MediaWithoutPayload"),
        (&[0x10, 0, 3, 1, 2, 3], "Refused"),
        (&[0x10, 0, 9, 1], "BadJson"),
        (&[0x19, 0, 2, 1, 2], "UnknownEvent"),
        (&[0xff, 0, 1, 4], "Error(\"04\")"),
        (&[], "BadJson"),
    ] {
        assert_eq!(heard(frame), expected, "{frame:02x?}");
    }
    assert!(heard(&[0x18, 0, 2, 1, 2]).starts_with("Broken"), "192 kHz cannot be converted");
}

#[test]
fn a_websocket_of_ours_is_a_call_of_ours_in_both_forms_of_control() {
    for control in ["json", "text"] {
        for format in
            [AudioFormat::PCMU, AudioFormat::PCMA, AudioFormat::l16(8_000), AudioFormat::l16(16_000)]
        {
            let mut asterisk = Dialect::Asterisk.codec(start(format, control));
            let mut line = LineProtocol::ChanWebSocket.codec();
            let mut out = Outbox::default();
            asterisk.open(&mut out);
            let (kind, message) = one(&mut out);
            let Ok(LineHeard::Start(heard)) = line.decode(kind, &message) else { panic!("MEDIA_START") };
            assert_eq!(heard.format, format);
            assert_eq!(heard.id, "0123456789abcdef0123456789abcdef");
            assert!(heard.channel.starts_with("WebSocket/INCOMING/0x"), "{}", heard.channel);
            let tenant = ("TENANT".to_owned(), "acme".to_owned());
            assert_eq!(heard.variables.contains(&tenant), control == "json", "{:?}", heard.variables);
            let speech = vec![0x55; format.bytes(Duration::from_millis(20))];
            asterisk.encode(Outgoing::Audio { timestamp: 0, audio: &speech }, &mut out);
            let (kind, message) = one(&mut out);
            assert_eq!(line.decode(kind, &message), Ok(LineHeard::Audio { format, audio: &speech }));
            line.audio(&speech, &mut out);
            assert_eq!(one(&mut out), (Kind::Binary, speech));
            for (event, expected) in [
                (
                    Outgoing::Digit {
                        digit: Digit::from_char('5').expect("a key"),
                        duration: Duration::from_millis(100),
                    },
                    LineHeard::Digit(Digit::from_char('5').expect("a key")),
                ),
                (Outgoing::Pressure { high: true }, LineHeard::Pressure { high: true }),
                (Outgoing::Pressure { high: false }, LineHeard::Pressure { high: false }),
                (Outgoing::Drained, LineHeard::Nothing),
            ] {
                asterisk.encode(event, &mut out);
                let (kind, message) = one(&mut out);
                assert_eq!(line.decode(kind, &message), Ok(expected), "{control}");
            }
            // And our commands are Asterisk's.
            line.flush(&mut out);
            line.answer(&mut out);
            line.hang_up(&mut out);
            let mut decoded = super::super::Decoded::default();
            for (kind, message) in messages(&mut out) {
                asterisk.decode(kind, &message, &mut decoded).expect("a command");
            }
            assert_eq!(format!("{:?}", decoded.events), "[Clear, HangUp { reason: \"HANGUP\" }]");
        }
    }
}

#[test]
fn a_channel_with_other_frames_is_told_to_keep_pieces() {
    for (size, buffering) in [(160, false), (80, false), (240, true), (0, false)] {
        let mut line = LineProtocol::ChanWebSocket.codec();
        let start =
            json!({ "event": "MEDIA_START", "format": "ulaw", "optimal_frame_size": size }).to_string();
        assert!(matches!(line.decode(Kind::Text, start.as_bytes()), Ok(LineHeard::Start(_))));
        let mut out = Outbox::default();
        for _ in 0..2 {
            line.audio(&[0x55; 160], &mut out);
        }
        let texts: Vec<_> = messages(&mut out).into_iter().filter(|(kind, _)| *kind == Kind::Text).collect();
        let command = br#"{"command":"START_MEDIA_BUFFERING"}"#.to_vec();
        assert_eq!(texts, if buffering { vec![(Kind::Text, command)] } else { Vec::new() }, "{size}");
        line.flush(&mut out);
        assert_eq!(out.is_empty(), size == 0, "a channel that passes frames on keeps none");
        out.clear();
        line.audio(&[0x55; 160], &mut out);
        assert_eq!(messages(&mut out).len(), 1 + usize::from(buffering), "a flush ends buffering");
    }
}

#[test]
fn a_websocket_that_breaks_the_rules_is_told_from_one_that_is_odd() {
    let mut line = LineProtocol::ChanWebSocket.codec();
    let mut heard = |kind, message: &str| match line.decode(kind, message.as_bytes()) {
        Ok(heard) => format!("{heard:?}"),
        Err(ignored) => format!("{ignored:?}"),
    };
    assert!(heard(Kind::Binary, "audio").starts_with("Broken"));
    assert!(heard(Kind::Text, "STATUS").starts_with("Broken"));
    assert!(heard(Kind::Text, "MEDIA_START format:opus optimal_frame_size:0").starts_with("Broken"));
    assert_eq!(heard(Kind::Text, "{nope"), "BadJson");
    assert!(
        heard(Kind::Text, "MEDIA_START connection_id:a format:slin16 optimal_frame_size:640")
            .starts_with("Start")
    );
    assert_eq!(heard(Kind::Text, "MEDIA_START format:ulaw"), "Refused");
    assert_eq!(heard(Kind::Text, "DTMF_END digit:12"), "UnknownEvent");
    assert_eq!(heard(Kind::Text, "WHAT"), "UnknownEvent");
    assert_eq!(heard(Kind::Binary, ""), "MediaWithoutPayload");
    assert_eq!(heard(Kind::Binary, "odd"), "Refused");
    assert_eq!(heard(Kind::Text, r#"{"event":"ERROR","error_text":"no"}"#), "Error(\"no\")");
}

proptest! {
    #[test]
    fn whatever_comes_is_survived_and_audio_is_what_came(
        websocket in any::<bool>(),
        messages in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..64)), 0..20),
    ) {
        let protocol = if websocket { LineProtocol::ChanWebSocket } else { LineProtocol::AudioSocket };
        let mut line = protocol.codec();
        let first: &[u8] =
            if websocket { b"MEDIA_START format:alaw optimal_frame_size:160" } else { &[&[1, 0, 16][..], &[0; 16]].concat() };
        let kind = if websocket { Kind::Text } else { Kind::Binary };
        prop_assert!(matches!(line.decode(kind, first), Ok(LineHeard::Start(_))));
        for (is_text, message) in messages {
            let kind = if is_text { Kind::Text } else { Kind::Binary };
            if let Ok(LineHeard::Audio { format, audio }) = line.decode(kind, &message) {
                prop_assert!(audio.len() <= message.len());
                let sample = if format.encoding == Encoding::L16 { 2 } else { 1 };
                prop_assert_eq!(audio.len() % sample, 0);
            }
        }
    }
}
