//! What the telephony dialects say and understand, compared with the documented lines.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::*;
use super::{Swap, rfc3339};
use crate::command::Digit;
use crate::time::Duration;

mod properties;

/// All dialects in which we act as a telephony platform.
pub(in crate::ai::dialect) const TELEPHONY: [Dialect; 11] = [
    Dialect::Twilio,
    Dialect::Telnyx,
    Dialect::Plivo,
    Dialect::Vonage,
    Dialect::Exotel,
    Dialect::Asterisk,
    Dialect::AsteriskApp,
    Dialect::Jambonz,
    Dialect::AudioFork,
    Dialect::AudioStream,
    Dialect::Raw,
];

fn start() -> StreamStart {
    StreamStart {
        stream_sid: "s1".into(),
        call_sid: "c1".into(),
        account_sid: "a1".into(),
        unix_ms: 1_700_000_000_000,
        call_id: "abc@host".into(),
        from: "+4930123".into(),
        from_name: "Eve".into(),
        to: "+4989456".into(),
        ..StreamStart::default()
    }
}

pub(in crate::ai::dialect) fn with(
    formats: Option<Formats>,
    session: Value,
    parameters: &[(&str, &str)],
) -> StreamStart {
    let Value::Object(session) = session else { panic!("an object") };
    let parameters = parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    StreamStart {
        custom_parameters: parameters.collect(),
        settings: Arc::new(AgentSettings { formats, session, ..AgentSettings::default() }),
        ..start()
    }
}

fn both(format: AudioFormat) -> Option<Formats> {
    Some(Formats { caller: format, bot: format })
}

/// Text as JSON if it is, binary as bytes.
pub(in crate::ai::dialect) fn shown(out: &Outbox) -> Vec<Value> {
    let shown = |(kind, message): (Kind, &[u8])| match kind {
        Kind::Text => {
            let text = std::str::from_utf8(message).expect("UTF-8");
            serde_json::from_str(text).unwrap_or_else(|_| text.into())
        }
        Kind::Binary => json!({ "binary": message }),
    };
    out.messages().map(shown).collect()
}

pub(in crate::ai::dialect) fn opening(codec: &mut dyn Codec) -> Vec<Value> {
    let mut out = Outbox::default();
    codec.open(&mut out);
    assert_eq!(out.take_events(), [Incoming::Ready]);
    shown(&out)
}

pub(in crate::ai::dialect) fn said(codec: &mut dyn Codec, event: Outgoing<'_>) -> Vec<Value> {
    let mut out = Outbox::default();
    codec.encode(event, &mut out);
    shown(&out)
}

pub(in crate::ai::dialect) fn heard(
    codec: &mut dyn Codec,
    kind: Kind,
    message: &[u8],
) -> (Result<(), Ignored>, Decoded) {
    let mut decoded = Decoded::default();
    let result = codec.decode(kind, message, &mut decoded);
    let announced: usize = decoded
        .events
        .iter()
        .map(|event| if let Incoming::Audio { len, .. } = event { *len } else { 0 })
        .sum();
    assert_eq!(announced, decoded.audio.len(), "all audio is announced");
    (result, decoded)
}

/// What a text message means.
pub(in crate::ai::dialect) fn meant(codec: &mut dyn Codec, text: &str) -> Vec<Incoming> {
    let (result, decoded) = heard(codec, Kind::Text, text.as_bytes());
    assert_eq!(result, Ok(()), "{text}");
    decoded.events
}

pub(in crate::ai::dialect) fn digit(digit: char, ms: u64) -> Outgoing<'static> {
    Outgoing::Digit { digit: Digit::from_char(digit).expect("a digit"), duration: Duration::from_millis(ms) }
}

fn audio(timestamp: u64, audio: &[u8]) -> Outgoing<'_> {
    Outgoing::Audio { timestamp, audio }
}

fn mark(name: &str) -> Outgoing<'_> {
    Outgoing::MarkPlayed { name, complete: true }
}

const SILENCE: [u8; 5] = [0xff; 5];

#[test]
fn telnyx_says_the_documented_lines() {
    let mut telnyx = Dialect::Telnyx.codec(with(None, json!({"tags": ["t"]}), &[("k", "v")]));
    let telnyx = &mut *telnyx;
    assert_eq!(
        opening(telnyx),
        [
            json!({"event":"connected","version":"1.0.0"}),
            json!({"event":"start","sequence_number":"1","stream_id":"s1","start":{"user_id":"a1",
                "call_control_id":"c1","call_session_id":"abc@host","from":"+4930123","to":"+4989456",
                "client_state":"eyJrIjoidiJ9","tags":["t"],
                "media_format":{"encoding":"PCMU","sample_rate":8000,"channels":1}}}),
        ]
    );
    for (event, line) in [
        (
            audio(160, &SILENCE),
            json!({"event":"media","sequence_number":"2","stream_id":"s1",
                "media":{"track":"inbound","chunk":"1","timestamp":"20","payload":"//////8="}}),
        ),
        (
            digit('1', 100),
            json!({"event":"dtmf","stream_id":"s1","occurred_at":"2023-11-14T22:13:20.020Z",
                "sequence_number":"3","dtmf":{"digit":"1"}}),
        ),
        (mark("m1"), json!({"event":"mark","sequence_number":"4","stream_id":"s1","mark":{"name":"m1"}})),
        (
            Outgoing::Stop,
            json!({"event":"stop","sequence_number":"5","stream_id":"s1",
                "stop":{"user_id":"a1","call_control_id":"c1"}}),
        ),
    ] {
        assert_eq!(said(telnyx, event), [line]);
    }
    let (result, decoded) = heard(telnyx, Kind::Text, br#"{"event":"media","media":{"payload":"%"}}"#);
    assert_eq!(result, Err(Ignored::BadBase64));
    assert_eq!(
        shown(&decoded.replies),
        [json!({"event":"error","stream_id":"s1",
            "payload":{"code":100_003,"title":"malformed_frame","detail":"the payload is not base64"}})]
    );
}

#[test]
fn telnyx_understands_the_documented_lines() {
    let mut telnyx = Dialect::Telnyx.codec(start());
    let (result, decoded) =
        heard(&mut *telnyx, Kind::Text, br#"{"event":"media","media":{"payload":"//////8="}}"#);
    assert_eq!((result, &decoded.audio[..]), (Ok(()), &SILENCE[..]));
    assert_eq!(
        meant(&mut *telnyx, r#"{"event":"mark","mark":{"name":"m1"}}"#),
        [Incoming::Mark("m1".into())]
    );
    assert_eq!(meant(&mut *telnyx, r#"{"event":"clear"}"#), [Incoming::Clear]);
}

#[test]
fn telnyx_errors_come_to_an_end() {
    let mut telnyx = Dialect::Telnyx.codec(start());
    let replies: usize =
        (0..100).map(|_| heard(&mut *telnyx, Kind::Text, b"{").1.replies.messages().count()).sum();
    assert_eq!(replies, 16);
}

#[test]
fn telnyx_l16_is_in_network_order() {
    let mut telnyx = Dialect::Telnyx.codec(with(both(AudioFormat::l16(16_000)), json!({}), &[]));
    assert_eq!(
        opening(&mut *telnyx)[1]["start"]["media_format"],
        json!({"encoding":"L16","sample_rate":16_000,"channels":1})
    );
    let media = said(&mut *telnyx, audio(0, &[1, 2, 3, 4]));
    assert_eq!(media[0]["media"]["payload"], "AgEEAw==");
    // 1, 2, 3, and then 4: a sample over the border of two messages.
    let (_, first) = heard(&mut *telnyx, Kind::Text, br#"{"event":"media","media":{"payload":"AQID"}}"#);
    let (_, second) = heard(&mut *telnyx, Kind::Text, br#"{"event":"media","media":{"payload":"BA=="}}"#);
    assert_eq!((first.audio, second.audio), (vec![2, 1], vec![4, 3]));
}

#[test]
fn plivo_says_the_documented_lines() {
    let mut plivo = Dialect::Plivo.codec(with(None, json!({}), &[("k", "v"), ("X-PH-a", "{b},c: d")]));
    let plivo = &mut *plivo;
    let extra = "{X-PH-a: bc: d, X-PH-k: v}";
    assert_eq!(
        opening(plivo),
        [json!({"sequenceNumber":0,"event":"start","start":{"callId":"c1","streamId":"s1","accountId":"a1",
            "tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000}},
            "extra_headers":extra})]
    );
    for (event, line) in [
        (
            audio(160, &SILENCE),
            json!({"sequenceNumber":1,"streamId":"s1","event":"media","media":{"track":"inbound",
                "timestamp":"1700000000020","chunk":1,"payload":"//////8="},"extra_headers":extra}),
        ),
        (
            digit('2', 100),
            json!({"event":"dtmf","streamId":"s1","sequenceNumber":2,
                "dtmf":{"track":"inbound","digit":"2","timestamp":"1700000000020"}}),
        ),
        (mark("c1"), json!({"event":"playedStream","streamId":"s1","sequenceNumber":3,"name":"c1"})),
        (Outgoing::Cleared, json!({"event":"clearedAudio","sequenceNumber":4,"streamId":"s1"})),
    ] {
        assert_eq!(said(plivo, event), [line]);
    }
    let overtaken = Outgoing::MarkPlayed { name: "c2", complete: false };
    assert_eq!(said(plivo, overtaken), [Value::Null; 0], "a cleared checkpoint is never told");
    assert_eq!(said(plivo, Outgoing::Stop), [Value::Null; 0]);
}

#[test]
fn plivo_understands_the_documented_lines() {
    let mut plivo = Dialect::Plivo.codec(start());
    let plivo = &mut *plivo;
    let play = br#"{"event":"playAudio","streamId":"s1","media":{"contentType":"audio/x-mulaw","sampleRate":8000,"payload":"//////8="}}"#;
    let (result, decoded) = heard(plivo, Kind::Text, play);
    assert_eq!((result, &decoded.audio[..]), (Ok(()), &SILENCE[..]));
    for (line, meaning) in [
        (r#"{"event":"checkpoint","streamId":"s1","name":"c1"}"#, Incoming::Mark("c1".into())),
        (r#"{"event":"clearAudio","streamId":"s1"}"#, Incoming::Clear),
        (r#"{"event":"sendDTMF","dtmf":"123"}"#, Incoming::SendDigits("123".into())),
    ] {
        assert_eq!(meant(plivo, line), [meaning]);
    }
}

#[test]
fn plivo_clips_of_another_format_are_converted() {
    let mut plivo = Dialect::Plivo.codec(start());
    let play = |kind: &str, rate: &str, payload: &str| {
        let media = format!(r#""contentType":"audio/{kind}","sampleRate":{rate},"payload":"{payload}""#);
        format!(r#"{{"event":"playAudio","media":{{{media}}}}}"#)
    };
    // 16 samples of digital silence at 16 kHz are 8 at 8 kHz.
    let linear = "AAAA".repeat(10) + "AAA=";
    let (result, decoded) = heard(&mut *plivo, Kind::Text, play("x-l16", "\"16000\"", &linear).as_bytes());
    assert_eq!((result, decoded.audio), (Ok(()), vec![0xff; 8]));
    let (result, decoded) = heard(&mut *plivo, Kind::Text, play("mpeg", "8000", "AAAA").as_bytes());
    assert_eq!((result, decoded.audio), (Err(Ignored::Refused), vec![]));
}

#[test]
fn vonage_says_the_documented_lines() {
    let mut vonage = Dialect::Vonage.codec(with(None, json!({"event": "x"}), &[("campaign", "spring")]));
    let vonage = &mut *vonage;
    assert_eq!(vonage.formats(), Formats { caller: AudioFormat::l16(16_000), bot: AudioFormat::l16(16_000) });
    assert_eq!(
        opening(vonage),
        [json!({"event":"websocket:connected","content-type":"audio/l16;rate=16000","caller":"+4930123",
            "campaign":"spring"})]
    );
    for (event, line) in [
        (audio(0, &[1, 2]), json!({"binary": [1, 2]})),
        (digit('5', 260), json!({"event":"websocket:dtmf","digit":"5","duration":260})),
        (Outgoing::Cleared, json!({"event":"websocket:cleared"})),
        (mark(r#"{"id":"m1"}"#), json!({"event":"websocket:notify","payload":{"id":"m1"}})),
    ] {
        assert_eq!(said(vonage, event), [line]);
    }
    assert_eq!(meant(vonage, r#"{"action":"clear"}"#), [Incoming::Clear]);
    let notify = r#"{"action":"notify","payload":{"id":"m1"}}"#;
    assert_eq!(meant(vonage, notify), [Incoming::Mark(r#"{"id":"m1"}"#.into())]);
    let (result, decoded) = heard(vonage, Kind::Binary, &[1, 2, 3]);
    assert_eq!((result, decoded.audio), (Ok(()), vec![1, 2, 3]));
}

#[test]
fn exotel_is_twilio_with_16_bits() {
    let mut exotel = Dialect::Exotel.codec(with(None, json!({}), &[("k", "v")]));
    let exotel = &mut *exotel;
    assert_eq!(exotel.formats().bot, AudioFormat::l16(8_000));
    let opening = opening(exotel);
    assert_eq!(opening[0], json!({"event":"connected"}));
    let start = &opening[1]["start"];
    assert_eq!((&opening[1]["stream_sid"], &opening[1]["sequence_number"]), (&json!("s1"), &json!(1)));
    assert_eq!(
        (&start["stream_sid"], &start["call_sid"], &start["account_sid"]),
        (&json!("s1"), &json!("c1"), &json!("a1"))
    );
    assert_eq!((&start["custom_parameters"], &start["from"]), (&json!({"k": "v"}), &json!("+4930123")));
    assert_eq!(
        said(exotel, audio(160, &[0, 1])),
        [json!({"event":"media","sequence_number":2,"stream_sid":"s1",
            "media":{"chunk":1,"timestamp":"20","payload":"AAE="}})]
    );
    let (result, decoded) =
        heard(exotel, Kind::Text, br#"{"event":"media","stream_sid":"s1","media":{"payload":"AAE="}}"#);
    assert_eq!((result, decoded.audio, decoded.wrong_stream), (Ok(()), vec![0, 1], false));
    assert_eq!(meant(exotel, r#"{"event":"clear","stream_sid":"s1"}"#), [Incoming::Clear]);
}

#[test]
fn raw_is_audio_alone_unless_metadata_is_wanted() {
    let mut raw = Dialect::Raw.codec(StreamStart { line: AudioFormat::PCMA, ..start() });
    assert_eq!(raw.formats().bot, AudioFormat::PCMA);
    assert_eq!(opening(&mut *raw), [Value::Null; 0]);
    assert_eq!(said(&mut *raw, audio(0, &[9])), [json!({"binary": [9]})]);
    for event in [digit('1', 100), mark("m"), Outgoing::Cleared, Outgoing::Drained, Outgoing::Stop] {
        assert_eq!(said(&mut *raw, event), [Value::Null; 0]);
    }
    assert_eq!(heard(&mut *raw, Kind::Binary, &[1, 2, 3]).1.audio, [1, 2, 3]);
    assert_eq!(heard(&mut *raw, Kind::Text, b"hello").0, Err(Ignored::TextFrame));

    let session = json!({"metadata": {"app": "x", "from_name": null}});
    let mut raw = Dialect::Raw.codec(with(both(AudioFormat::l16(16_000)), session, &[("k", "v")]));
    assert_eq!(
        opening(&mut *raw),
        [json!({"event":"start","stream_id":"s1","call_id":"abc@host","from":"+4930123","to":"+4989456",
            "parameters":{"k":"v"},"caller_format":{"encoding":"l16","rate":16_000},
            "bot_format":{"encoding":"l16","rate":16_000},"app":"x"})]
    );
}

#[test]
fn jambonz_says_the_documented_lines() {
    let session = json!({"applicationSid": "app1", "traceId": "t1", "customKey": "from the verb's metadata"});
    let mut jambonz = Dialect::Jambonz.codec(with(None, session, &[("X-Foo", "bar")]));
    let jambonz = &mut *jambonz;
    assert_eq!(Dialect::Jambonz.handshake(&AgentSettings::default()).subprotocol, Some("audio.jambonz.org"));
    assert_eq!(
        Dialect::AudioFork.handshake(&AgentSettings::default()).subprotocol,
        Some("audio.drachtio.org")
    );
    assert_eq!(
        opening(jambonz),
        [json!({"callSid":"c1","direction":"inbound","from":"+4930123","to":"+4989456","callId":"abc@host",
            "sbcCallid":"abc@host","sipStatus":200,"callStatus":"in-progress","callerId":"Eve",
            "accountSid":"a1","traceId":"t1","applicationSid":"app1","fsSipAddress":"",
            "originatingSipIp":"","originatingSipTrunkName":"","headers":{"X-Foo":"bar"},
            "sampleRate":8000,"mixType":"mono","customKey":"from the verb's metadata"})]
    );
    assert_eq!(said(jambonz, audio(0, &[1, 2])), [json!({"binary": [1, 2]})]);
    assert_eq!(said(jambonz, digit('2', 200)), [json!({"event":"dtmf","dtmf":"2","duration":"1600"})]);
    assert_eq!(said(jambonz, Outgoing::Stop), [json!({"binary": []})]);
}

#[test]
fn jambonz_marks_are_told_once_with_what_became_of_them() {
    let mut jambonz = Dialect::Jambonz.codec(start());
    let jambonz = &mut *jambonz;
    let names: Vec<String> = ["m1", "m2", "m3"]
        .iter()
        .map(|name| match &meant(jambonz, &json!({"type":"mark","data":{"name":name}}).to_string())[..] {
            [Incoming::Mark(name)] => name.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let told = |name: &str, event: &str| json!({"type":"mark","data":{"name":name,"event":event}});
    assert_eq!(said(jambonz, mark(&names[0])), [told("m1", "playout")]);
    let overtaken = Outgoing::MarkPlayed { name: &names[1], complete: false };
    assert_eq!(said(jambonz, overtaken), [told("m2", "cleared")]);
    let (result, decoded) = heard(jambonz, Kind::Text, br#"{"type":"clearMarks"}"#);
    assert_eq!((result, shown(&decoded.replies)), (Ok(()), vec![told("m3", "cleared")]));
    assert_eq!(said(jambonz, mark(&names[2])), [Value::Null; 0], "not a second time");
}

#[test]
fn jambonz_marks_that_wait_are_bounded() {
    let mut jambonz = Dialect::Jambonz.codec(start());
    let accepted = (0..5000)
        .filter(|_| heard(&mut *jambonz, Kind::Text, br#"{"type":"mark","data":{"name":"m"}}"#).0.is_ok())
        .count();
    assert_eq!(accepted, 512);
}

#[test]
fn jambonz_plays_clips() {
    let mut jambonz = Dialect::Jambonz.codec(start());
    let jambonz = &mut *jambonz;
    let play = |content: &str, kind: &str, rate: u32, queue: bool| {
        json!({"type":"playAudio","data":{"audioContent":content,"audioContentType":kind,
            "sampleRate":rate,"id":"p1","queuePlay":queue}})
        .to_string()
    };
    let end = || [Incoming::AudioEnd, Incoming::Mark("pp1".into())];
    let (result, decoded) = heard(jambonz, Kind::Text, play("AQID", "raw", 8000, true).as_bytes());
    let expected = [&[Incoming::Audio { len: 2, item: 0 }][..], &end()].concat();
    assert_eq!((result, decoded.events, decoded.audio), (Ok(()), expected, vec![1, 2]));
    assert_eq!(said(jambonz, mark("pp1")), [json!({"type":"playDone","data":{"id":"p1"}})]);

    let (_, decoded) = heard(jambonz, Kind::Text, play(&"AAAA".repeat(100), "raw", 24_000, false).as_bytes());
    let expected = [&[Incoming::Clear, Incoming::Audio { len: 100, item: 0 }][..], &end()].concat();
    assert_eq!((decoded.events, decoded.audio), (expected, vec![0; 100]), "a new clip replaces; 24 to 8 kHz");

    let wav = b"RIFF\x28\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x04\0\0\0\x01\x02\x03\x04";
    let content = ::base64::Engine::encode(&::base64::prelude::BASE64_STANDARD, wav);
    let (_, decoded) = heard(jambonz, Kind::Text, play(&content, "wav", 8000, true).as_bytes());
    assert_eq!(decoded.audio, [1, 2, 3, 4]);

    for (kind, rate) in [("mp3", 8000), ("raw", 11_025)] {
        let (result, decoded) = heard(jambonz, Kind::Text, play("AAAA", kind, rate, false).as_bytes());
        let refused = matches!(&decoded.events[..], [Incoming::Error { fatal: false, .. }]);
        assert!(result.is_ok() && refused, "{kind} {:?}", decoded.events);
    }
    assert_eq!(meant(jambonz, r#"{"type":"killAudio"}"#), [Incoming::Clear]);
    let hang_up = Incoming::HangUp { reason: "disconnect".into() };
    assert_eq!(meant(jambonz, r#"{"type":"disconnect"}"#), [hang_up]);
}

#[test]
fn modules_of_freeswitch_send_the_metadata_they_are_given() {
    for dialect in [Dialect::AudioFork, Dialect::AudioStream] {
        for (session, parameters, expected) in [
            (json!({}), &[][..], None),
            (json!({}), &[("k", "v")][..], Some(json!({"k": "v"}))),
            (json!({"metadata": {"a": 1}}), &[("k", "v")][..], Some(json!({"a": 1}))),
            (json!({"metadata": "plain words"}), &[][..], Some(json!("plain words"))),
        ] {
            let mut codec = dialect.codec(with(None, session, parameters));
            assert_eq!(opening(&mut *codec), expected.into_iter().collect::<Vec<_>>(), "{dialect:?}");
        }
    }
}

#[test]
fn audio_stream_plays_what_the_module_would_save() {
    let mut stream = Dialect::AudioStream.codec(start());
    let play = |kind: &str, rate: u32, data: &str| {
        json!({"type":"streamAudio","data":{"audioDataType":kind,"sampleRate":rate,"audioData":data}})
            .to_string()
    };
    let mut played = |text: String| heard(&mut *stream, Kind::Text, text.as_bytes()).1;
    assert_eq!(played(play("raw", 8000, "AQID")).audio, [1, 2, 3]);
    assert_eq!(played(play("pcmu", 8000, "//8=")).audio, [0; 4]);
    assert_eq!(played(play("pcma", 8000, "1Q==")).audio, 8i16.to_le_bytes());
    for kind in ["mp3", "ogg", "flac"] {
        let events = played(play(kind, 8000, "AAAA")).events;
        assert!(matches!(&events[..], [Incoming::Error { fatal: false, .. }]), "{kind}: {events:?}");
    }
    assert_eq!(heard(&mut *stream, Kind::Binary, &[1, 2]).1.audio, [1, 2]);
}

#[test]
fn faults_are_told_apart() {
    for (dialect, text, expected) in [
        (Dialect::Telnyx, "[]", Ignored::BadJson),
        (Dialect::Telnyx, r#"{"event":"dance"}"#, Ignored::UnknownEvent),
        (Dialect::Telnyx, r#"{"event":"media"}"#, Ignored::MediaWithoutPayload),
        (Dialect::Plivo, r#"{"event":"checkpoint"}"#, Ignored::MarkWithoutName),
        (Dialect::Plivo, r#"{"event":"playAudio"}"#, Ignored::MediaWithoutPayload),
        (Dialect::Plivo, r#"{"event":"sendDTMF"}"#, Ignored::BadJson),
        (Dialect::Vonage, r#"{"action":"notify"}"#, Ignored::MarkWithoutName),
        (Dialect::Vonage, r#"{"action":"dance"}"#, Ignored::UnknownEvent),
        (Dialect::Exotel, r#"{"event":"mark"}"#, Ignored::MarkWithoutName),
        (Dialect::Jambonz, "clear", Ignored::BadJson),
        (Dialect::Jambonz, r#"{"type":"playAudio"}"#, Ignored::MediaWithoutPayload),
        (Dialect::Jambonz, r#"{"type":"playAudio","data":{"audioContent":"%"}}"#, Ignored::BadBase64),
        (Dialect::AudioStream, r#"{"type":"streamAudio"}"#, Ignored::MediaWithoutPayload),
        (Dialect::AudioStream, r#"{"type":"dance","data":{}}"#, Ignored::UnknownEvent),
    ] {
        let mut codec = dialect.codec(start());
        assert_eq!(heard(&mut *codec, Kind::Text, text.as_bytes()).0, Err(expected), "{dialect:?} {text}");
    }
    for dialect in [Dialect::Telnyx, Dialect::Plivo, Dialect::Exotel] {
        let mut codec = dialect.codec(start());
        assert_eq!(heard(&mut *codec, Kind::Binary, &[0; 160]).0, Err(Ignored::BinaryFrame));
        let (_, decoded) = heard(&mut *codec, Kind::Text, br#"{"event":"clear","stream_id":"s2"}"#);
        assert!(decoded.wrong_stream, "{dialect:?}");
    }
}

#[test]
fn moments_are_written_as_dates() {
    for (unix_ms, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_793_613_600_007, "2026-11-02T10:00:00.007Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
    ] {
        assert_eq!(rfc3339(unix_ms), expected);
    }
}
