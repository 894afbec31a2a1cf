//! Twilio Media Streams, as the side that carries the call.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io::Write as _;

use serde::Deserialize;
use serde_json::json;

use super::json::{self, Text};
use super::{Codec, Decoded, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, StreamStart, base64, scan};

#[derive(Debug)]
pub(super) struct Twilio {
    start: StreamStart,
    /// The stream's id as a JSON string, quotes included.
    stream_sid_json: String,
    /// Counts every message from `start` on.
    sequence_number: u64,
    /// Counts `media` messages.
    chunk: u64,
}

/// A message from the backend. Everything is optional, so that what is missing can be told apart.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    event: Text<'a>,
    #[serde(borrow, default, rename = "streamSid")]
    stream_sid: Option<Text<'a>>,
    #[serde(borrow, default)]
    media: Option<Media<'a>>,
    #[serde(borrow, default)]
    mark: Option<Mark<'a>>,
}

#[derive(Deserialize)]
struct Media<'a> {
    #[serde(borrow, default)]
    payload: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Mark<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
}

impl Twilio {
    pub(super) fn new(start: StreamStart) -> Self {
        let stream_sid_json = serde_json::Value::from(start.stream_sid.as_str()).to_string();
        Self { start, stream_sid_json, sequence_number: 0, chunk: 0 }
    }
}

impl Codec for Twilio {
    fn formats(&self) -> Formats {
        Formats::default()
    }

    fn open(&mut self, out: &mut Outbox) {
        self.sequence_number += 1;
        let start = json!({
            "event": "start",
            "sequenceNumber": self.sequence_number.to_string(),
            "streamSid": self.start.stream_sid,
            "start": {
                "streamSid": self.start.stream_sid,
                "accountSid": self.start.account_sid,
                "callSid": self.start.call_sid,
                "tracks": ["inbound"],
                "customParameters": self.start.custom_parameters,
                "mediaFormat": { "encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1 },
            },
        });
        out.text(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
        out.json(&start);
        out.event(Incoming::Ready);
    }

    fn encode(&mut self, event: Outgoing<'_>, out: &mut Outbox) {
        let name = match event {
            Outgoing::Audio { .. } => "media",
            Outgoing::Digit { .. } => "dtmf",
            Outgoing::MarkPlayed { .. } => "mark",
            Outgoing::Stop => "stop",
            _ => return,
        };
        out.push(Kind::Text, |text| self.write(name, event, text));
    }

    fn decode(&mut self, kind: Kind, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        if kind == Kind::Binary {
            return Err(Ignored::BinaryFrame);
        }
        if let Some(media) = scan::media(message, b"streamSid") {
            decoded.wrong_stream = media.stream.is_some_and(|sid| sid != self.start.stream_sid.as_bytes());
            let len = base64::append_decoded_bytes(media.payload, &mut decoded.audio)?;
            decoded.events.push(Incoming::Audio { len, item: 0 });
            return Ok(());
        }
        self.parse(message, decoded)
    }
}

impl Twilio {
    /// Reads any message.
    fn parse(&self, message: &[u8], decoded: &mut Decoded) -> Result<(), Ignored> {
        let message: Message<'_> = json::object(message).ok_or(Ignored::BadJson)?;
        decoded.wrong_stream = message.stream_sid.as_ref().is_some_and(|sid| sid.0 != self.start.stream_sid);
        let event = match &*message.event.0 {
            "media" => {
                let payload =
                    message.media.and_then(|media| media.payload).ok_or(Ignored::MediaWithoutPayload)?;
                Incoming::Audio { len: base64::append_decoded(&payload.0, &mut decoded.audio)?, item: 0 }
            }
            "mark" => {
                let name = message.mark.and_then(|mark| mark.name).ok_or(Ignored::MarkWithoutName)?;
                Incoming::Mark(name.0.into_owned())
            }
            "clear" => Incoming::Clear,
            _ => return Err(Ignored::UnknownEvent),
        };
        decoded.events.push(event);
        Ok(())
    }

    fn write(&mut self, name: &str, event: Outgoing<'_>, text: &mut Vec<u8>) {
        self.sequence_number += 1;
        // Writing to memory does not fail.
        let _ = write!(
            text,
            r#"{{"event":"{name}","sequenceNumber":"{}","streamSid":{},"{name}":"#,
            self.sequence_number, self.stream_sid_json
        );
        let _ = match event {
            Outgoing::Audio { timestamp, audio } => {
                self.chunk += 1;
                let _ = write!(
                    text,
                    r#"{{"track":"inbound","chunk":"{}","timestamp":"{}","payload":""#,
                    self.chunk,
                    timestamp / SAMPLES_PER_MS
                );
                base64::append_encoded(audio, text);
                write!(text, r#""}}}}"#)
            }
            Outgoing::Digit { digit, .. } => {
                write!(text, r#"{{"track":"inbound_track","digit":"{}"}}}}"#, digit.as_char())
            }
            Outgoing::MarkPlayed { name, .. } => {
                write!(text, r#"{{"name":{}}}}}"#, serde_json::Value::from(name))
            }
            _ => {
                let stop = json!({ "accountSid": self.start.account_sid, "callSid": self.start.call_sid });
                write!(text, "{stop}}}")
            }
        };
    }
}

const SAMPLES_PER_MS: u64 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::command::Digit;
    use crate::time::Duration;

    const SID: &str = "MZ18ad3ab5a668481ce02b83e7395059f0";

    fn twilio() -> Twilio {
        Twilio::new(StreamStart {
            stream_sid: SID.into(),
            call_sid: "CA0123456789abcdef0123456789abcdef".into(),
            account_sid: "AC2af0b1c2d3e4f5061728394a5b6c7d8e".into(),
            custom_parameters: [("from_number".to_owned(), "+49 \"30\"".to_owned())].into(),
            ..StreamStart::default()
        })
    }

    fn encoded(twilio: &mut Twilio, event: Outgoing<'_>) -> Vec<u8> {
        let mut out = Outbox::default();
        twilio.encode(event, &mut out);
        let messages: Vec<_> = out.messages().collect();
        assert_eq!((messages.len(), messages[0].0), (1, Kind::Text));
        messages[0].1.to_vec()
    }

    fn encode(twilio: &mut Twilio, event: Outgoing<'_>) -> Value {
        serde_json::from_slice(&encoded(twilio, event)).expect("JSON")
    }

    fn decode(text: impl AsRef<[u8]>) -> (Result<Incoming, Ignored>, Vec<u8>) {
        let mut decoded = Decoded::default();
        let result = twilio().decode(Kind::Text, text.as_ref(), &mut decoded);
        assert_eq!(decoded.events.len(), usize::from(result.is_ok()));
        (result.map(|()| decoded.events.remove(0)), decoded.audio)
    }

    #[test]
    fn messages_have_the_documented_shape() {
        let mut twilio = twilio();
        let mut out = Outbox::default();
        twilio.open(&mut out);
        let opening: Vec<_> = out.messages().map(|(_, message)| message).collect();
        assert_eq!(opening[0], br#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
        let start: Value = serde_json::from_slice(opening[1]).expect("JSON");
        assert_eq!(
            start,
            json!({"event":"start","sequenceNumber":"1","streamSid":SID,"start":{"streamSid":SID,
                "accountSid":"AC2af0b1c2d3e4f5061728394a5b6c7d8e","callSid":"CA0123456789abcdef0123456789abcdef",
                "tracks":["inbound"],"customParameters":{"from_number":"+49 \"30\""},
                "mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}})
        );
        let audio = [0xff; 5];
        assert_eq!(
            encode(&mut twilio, Outgoing::Audio { timestamp: 160, audio: &audio }),
            json!({"event":"media","sequenceNumber":"2","streamSid":SID,
                "media":{"track":"inbound","chunk":"1","timestamp":"20","payload":"//////8="}})
        );
        assert_eq!(
            encode(
                &mut twilio,
                Outgoing::Digit { digit: Digit::from_char('#').expect("a digit"), duration: Duration::ZERO }
            ),
            json!({"event":"dtmf","sequenceNumber":"3","streamSid":SID,
                "dtmf":{"track":"inbound_track","digit":"#"}})
        );
        assert_eq!(
            encode(&mut twilio, Outgoing::MarkPlayed { name: "item_1:\"800\"\n", complete: true }),
            json!({"event":"mark","sequenceNumber":"4","streamSid":SID,"mark":{"name":"item_1:\"800\"\n"}})
        );
        assert_eq!(
            encode(&mut twilio, Outgoing::Stop),
            json!({"event":"stop","sequenceNumber":"5","streamSid":SID,"stop":{
                "accountSid":"AC2af0b1c2d3e4f5061728394a5b6c7d8e",
                "callSid":"CA0123456789abcdef0123456789abcdef"}})
        );
    }

    #[test]
    fn backend_messages_are_understood() {
        let media = format!(r#"{{"event":"media","streamSid":"{SID}","media":{{"payload":"//////8="}}}}"#);
        assert_eq!(decode(&media), (Ok(Incoming::Audio { len: 5, item: 0 }), vec![0xff; 5]));
        let escaped = r#"{"event":"media","media":{"payload":"\/\/\/\/\/\/8","extra":[1]}}"#;
        assert_eq!(decode(escaped), (Ok(Incoming::Audio { len: 5, item: 0 }), vec![0xff; 5]));
        let mark = r#"{"event":"mark","mark":{"name":"a\u00e9"}}"#;
        assert_eq!(decode(mark).0, Ok(Incoming::Mark("aé".into())));
        assert_eq!(decode(r#"{"event":"clear","media":null}"#).0, Ok(Incoming::Clear));
    }

    #[test]
    fn faults_are_told_apart() {
        for (text, expected) in [
            ("", Ignored::BadJson),
            ("[]", Ignored::BadJson),
            (r#"["clear"]"#, Ignored::BadJson),
            ("{\"event\":", Ignored::BadJson),
            (r#"{"event":"media","media":5}"#, Ignored::BadJson),
            (r#"{"event":"clear","event":"clear"}"#, Ignored::BadJson),
            ("{}", Ignored::UnknownEvent),
            (r#"{"event":"dance","media":{}}"#, Ignored::UnknownEvent),
            (r#"{"event":"media"}"#, Ignored::MediaWithoutPayload),
            (r#"{"event":"media","media":{"payload":null}}"#, Ignored::MediaWithoutPayload),
            (r#"{"event":"media","media":{"payload":"%%%%"}}"#, Ignored::BadBase64),
            (r#"{"event":"media","media":{"payload":"AAAAA"}}"#, Ignored::BadBase64),
            (r#"{"event":"mark","mark":{}}"#, Ignored::MarkWithoutName),
        ] {
            assert_eq!(decode(text), (Err(expected), vec![]), "{text}");
        }
    }

    #[test]
    fn wrong_stream_is_noticed_and_a_missing_one_is_not() {
        let wrong = |text: &str| {
            let mut decoded = Decoded::default();
            twilio().decode(Kind::Text, text.as_bytes(), &mut decoded).expect("a clear");
            decoded.wrong_stream
        };
        assert!(wrong(r#"{"event":"clear","streamSid":"MZ0"}"#));
        assert!(!wrong(r#"{"event":"clear"}"#));
        assert!(!wrong(r#"{"event":"clear","streamSid":null}"#));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = format!(r#"{{"event":"clear","x":{}"#, "[".repeat(1_000_000));
        assert_eq!(decode(&deep).0, Err(Ignored::BadJson));
    }

    proptest! {
        #[test]
        fn decode_never_panics(text in ".{0,300}") {
            let _ = decode(&text);
        }

        #[test]
        fn decode_never_panics_on_nearly_right_json(
            event in "media|mark|clear|start|.{0,5}",
            key in "media|mark|streamSid|payload",
            value in r#"(null|[0-9]{1,20}|"[^"\\]{0,20}"|\{"payload":"[A-Za-z0-9+/=]{0,40}"\}|\{"name":.{0,9}\})"#,
        ) {
            let _ = decode(format!(r#"{{"event":"{event}","{key}":{value}}}"#));
        }

        #[test]
        fn the_quick_way_means_what_the_parser_says(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just(r#""event""#), Just(r#""media""#), Just(r#""streamSid""#), Just(r#""payload""#),
                    Just(r#""MZ18ad3ab5a668481ce02b83e7395059f0""#), Just(r#""MZ0""#), Just("{"), Just("}"), Just(":"),
                    Just(","), Just(" "), Just("\n"), Just("null"), Just(r#""AAAA""#), Just(r#""\/\/8=""#), Just("\"\u{e9}\""),
                ],
                0..24,
            ),
            at: prop::sample::Index,
        ) {
            // Pieces put together at random, and a good message with pieces put into it.
            let good = [
                "{", r#""event""#, ":", r#""media""#, ",", r#""streamSid""#, ":",
                r#""MZ18ad3ab5a668481ce02b83e7395059f0""#, ",", r#""media""#, ":", "{", r#""payload""#, ":",
                r#""//////8=""#, "}", "}",
            ];
            let cut = at.index(good.len() + 1);
            let few = &parts[..parts.len().min(3)];
            let replaced = [&good[..cut.saturating_sub(1)], few, &good[cut..]].concat();
            for text in [parts.concat(), [&good[..cut], few, &good[cut..]].concat().concat(), replaced.concat()] {
                let (mut quick, mut parsed) = (Decoded::default(), Decoded::default());
                let mut codec = twilio();
                let results =
                    (codec.decode(Kind::Text, text.as_bytes(), &mut quick), codec.parse(text.as_bytes(), &mut parsed));
                prop_assert_eq!(&results.0, &results.1, "{}", text);
                prop_assert_eq!((quick.audio, quick.events, quick.wrong_stream), (parsed.audio, parsed.events, parsed.wrong_stream));
            }
        }

        #[test]
        fn media_round_trips(audio in proptest::collection::vec(any::<u8>(), 0..1000), timestamp: u64) {
            let text = encoded(&mut twilio(), Outgoing::Audio { timestamp, audio: &audio });
            prop_assert_eq!(decode(&text), (Ok(Incoming::Audio { len: audio.len(), item: 0 }), audio));
        }

        #[test]
        fn mark_round_trips(name in "\\PC{0,60}|.{0,60}") {
            let text = encoded(&mut twilio(), Outgoing::MarkPlayed { name: &name, complete: true });
            prop_assert_eq!(decode(&text).0, Ok(Incoming::Mark(name)));
        }
    }
}
