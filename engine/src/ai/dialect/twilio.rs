//! Twilio Media Streams, as the side that carries the call.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::json;

use super::{Decoded, Ignored, Incoming, Outgoing, StreamStart};

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

/// A string that is borrowed unless it has escapes, as PHP writes the `/` of base64.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Twilio {
    pub(super) fn new(start: StreamStart) -> Self {
        let stream_sid_json = serde_json::Value::from(start.stream_sid.as_str()).to_string();
        Self { start, stream_sid_json, sequence_number: 0, chunk: 0 }
    }

    pub(super) fn opening(&mut self) -> Vec<String> {
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
        vec![r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#.to_owned(), start.to_string()]
    }

    pub(super) fn encode(&mut self, message: Outgoing<'_>, text: &mut String) {
        self.sequence_number += 1;
        let event = match message {
            Outgoing::Audio { .. } => "media",
            Outgoing::Digit(_) => "dtmf",
            Outgoing::MarkPlayed(_) => "mark",
            Outgoing::Stop => "stop",
        };
        let _ = write!(
            text,
            r#"{{"event":"{event}","sequenceNumber":"{}","streamSid":{},"{event}":"#,
            self.sequence_number, self.stream_sid_json
        );
        match message {
            Outgoing::Audio { timestamp, audio } => {
                self.chunk += 1;
                let _ = write!(
                    text,
                    r#"{{"track":"inbound","chunk":"{}","timestamp":"{}","payload":""#,
                    self.chunk,
                    timestamp / SAMPLES_PER_MS
                );
                BASE64.encode_string(audio, text);
                text.push_str(r#""}}"#);
            }
            Outgoing::Digit(digit) => {
                let _ = write!(text, r#"{{"track":"inbound_track","digit":"{}"}}}}"#, digit.as_char());
            }
            Outgoing::MarkPlayed(name) => {
                let _ = write!(text, r#"{{"name":{}}}}}"#, serde_json::Value::from(name));
            }
            Outgoing::Stop => {
                let stop = json!({ "accountSid": self.start.account_sid, "callSid": self.start.call_sid });
                let _ = write!(text, "{stop}}}");
            }
        }
    }

    pub(super) fn decode(&self, text: &str, audio: &mut Vec<u8>) -> Decoded {
        // An array would do for a struct too.
        let is_object = text.trim_start().starts_with('{');
        let message = serde_json::from_str::<Message<'_>>(text).ok().filter(|_| is_object);
        let Some(message) = message else {
            return Decoded { message: Err(Ignored::BadJson), wrong_stream: false };
        };
        let wrong_stream = message.stream_sid.as_ref().is_some_and(|sid| sid.0 != self.start.stream_sid);
        let decoded = match &*message.event.0 {
            "media" => match message.media.and_then(|media| media.payload) {
                Some(payload) => decode_payload(&payload.0, audio),
                None => Err(Ignored::MediaWithoutPayload),
            },
            "mark" => match message.mark.and_then(|mark| mark.name) {
                Some(name) => Ok(Incoming::Mark(name.0.into_owned())),
                None => Err(Ignored::MarkWithoutName),
            },
            "clear" => Ok(Incoming::Clear),
            _ => Err(Ignored::UnknownEvent),
        };
        Decoded { message: decoded, wrong_stream }
    }
}

fn decode_payload(payload: &str, audio: &mut Vec<u8>) -> Result<Incoming, Ignored> {
    let before = audio.len();
    match BASE64.decode_vec(payload, audio) {
        Ok(()) => Ok(Incoming::Audio),
        Err(_) => {
            audio.truncate(before);
            Err(Ignored::BadBase64)
        }
    }
}

const SAMPLES_PER_MS: u64 = 8;

/// Writes padded base64; reads it with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::command::Digit;

    const SID: &str = "MZ18ad3ab5a668481ce02b83e7395059f0";

    fn twilio() -> Twilio {
        Twilio::new(StreamStart {
            stream_sid: SID.into(),
            call_sid: "CA0123456789abcdef0123456789abcdef".into(),
            account_sid: "AC2af0b1c2d3e4f5061728394a5b6c7d8e".into(),
            custom_parameters: [("from_number".to_owned(), "+49 \"30\"".to_owned())].into(),
        })
    }

    fn encode(twilio: &mut Twilio, message: Outgoing<'_>) -> Value {
        let mut text = String::new();
        twilio.encode(message, &mut text);
        serde_json::from_str(&text).expect("JSON")
    }

    fn decode(text: &str) -> (Result<Incoming, Ignored>, Vec<u8>) {
        let mut audio = Vec::new();
        (twilio().decode(text, &mut audio).message, audio)
    }

    #[test]
    fn messages_have_the_documented_shape() {
        let mut twilio = twilio();
        let opening = twilio.opening();
        assert_eq!(opening[0], r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
        let start: Value = serde_json::from_str(&opening[1]).expect("JSON");
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
            encode(&mut twilio, Outgoing::Digit(Digit::from_char('#').expect("a digit"))),
            json!({"event":"dtmf","sequenceNumber":"3","streamSid":SID,
                "dtmf":{"track":"inbound_track","digit":"#"}})
        );
        assert_eq!(
            encode(&mut twilio, Outgoing::MarkPlayed("item_1:\"800\"\n")),
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
        assert_eq!(decode(&media), (Ok(Incoming::Audio), vec![0xff; 5]));
        let escaped = r#"{"event":"media","media":{"payload":"\/\/\/\/\/\/8","extra":[1]}}"#;
        assert_eq!(decode(escaped), (Ok(Incoming::Audio), vec![0xff; 5]));
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
        let wrong = |text| twilio().decode(text, &mut Vec::new()).wrong_stream;
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
            let _ = decode(&format!(r#"{{"event":"{event}","{key}":{value}}}"#));
        }

        #[test]
        fn media_round_trips(audio in proptest::collection::vec(any::<u8>(), 0..1000), timestamp: u64) {
            let mut text = String::new();
            twilio().encode(Outgoing::Audio { timestamp, audio: &audio }, &mut text);
            prop_assert_eq!(decode(&text), (Ok(Incoming::Audio), audio));
        }

        #[test]
        fn mark_round_trips(name in "\\PC{0,60}|.{0,60}") {
            let mut text = String::new();
            twilio().encode(Outgoing::MarkPlayed(&name), &mut text);
            prop_assert_eq!(decode(&text).0, Ok(Incoming::Mark(name)));
        }
    }
}
