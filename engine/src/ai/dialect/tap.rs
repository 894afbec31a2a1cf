//! What those are sent who listen to a call without being heard in it.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io::Write as _;

use serde_json::json;

use super::{Dialect, Kind, Outbox, StreamStart, base64};
use crate::ai::tap::TapTrack;
use crate::codec::Law;

/// What a listener understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TapDialect {
    /// Twilio Media Streams as `<Start><Stream>` makes them: mu-law, one message per track.
    #[default]
    Twilio,
    /// The verb `listen` of jambonz: a JSON message, then 16 bits at 8 kHz; both tracks interleaved.
    Jambonz,
    /// 16 bits at 8 kHz, little endian, and nothing else; both tracks interleaved.
    Raw,
}

/// What a listener hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TapTracks {
    /// What comes from the caller.
    Inbound,
    /// What goes to the caller.
    Outbound,
    /// Both, apart from each other.
    #[default]
    Both,
    /// Both, added.
    Mix,
}

impl TapTracks {
    /// Whether a direction is part of it.
    #[must_use]
    pub fn has(self, track: TapTrack) -> bool {
        match self {
            Self::Inbound => track == TapTrack::Inbound,
            Self::Outbound => track == TapTrack::Outbound,
            Self::Both | Self::Mix => true,
        }
    }
}

impl TapDialect {
    /// The dialect that a connection begins like.
    pub(in crate::ai) fn of_the_handshake(self) -> Dialect {
        match self {
            Self::Twilio => Dialect::Twilio,
            Self::Jambonz => Dialect::Jambonz,
            Self::Raw => Dialect::Raw,
        }
    }
}

/// Writes the messages of one tap.
#[derive(Debug)]
pub(in crate::ai) struct TapWire {
    dialect: TapDialect,
    tracks: TapTracks,
    start: StreamStart,
    sequence_number: u64,
    /// Counts the messages of each track.
    chunks: [u64; 2],
    scratch: Vec<u8>,
}

impl TapWire {
    /// Says why, if the dialect has no word for what is wanted.
    pub(in crate::ai) fn new(
        dialect: TapDialect,
        tracks: TapTracks,
        start: StreamStart,
    ) -> Result<Self, String> {
        if (dialect, tracks) == (TapDialect::Twilio, TapTracks::Mix) {
            return Err("Twilio's messages have no mixed track; use \"both\"".to_owned());
        }
        Ok(Self { dialect, tracks, start, sequence_number: 0, chunks: [0; 2], scratch: Vec::new() })
    }

    /// The messages that open the tap.
    pub(in crate::ai) fn open(&mut self, out: &mut Outbox) {
        let start = &self.start;
        match self.dialect {
            TapDialect::Twilio => {
                self.sequence_number = 1;
                let tracks = TapTrack::BOTH.into_iter().filter(|&track| self.tracks.has(track)).map(name);
                out.text(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
                out.json(&json!({
                    "event": "start",
                    "sequenceNumber": "1",
                    "streamSid": start.stream_sid,
                    "start": {
                        "streamSid": start.stream_sid,
                        "accountSid": start.account_sid,
                        "callSid": start.call_sid,
                        "tracks": tracks.collect::<Vec<_>>(),
                        "customParameters": start.custom_parameters,
                        "mediaFormat": { "encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1 },
                    },
                }));
            }
            TapDialect::Jambonz => out.json(&json!({
                "callSid": start.call_sid,
                "accountSid": start.account_sid,
                "direction": "inbound",
                "from": start.from,
                "to": start.to,
                "callId": start.call_id,
                "callerId": start.from_name,
                "callStatus": "in-progress",
                "sipStatus": 200,
                "traceId": start.stream_sid,
                "sampleRate": 8000,
                "mixType": match self.tracks {
                    TapTracks::Inbound | TapTracks::Outbound => "mono",
                    TapTracks::Both => "stereo",
                    TapTracks::Mix => "mixed",
                },
            })),
            TapDialect::Raw => {}
        }
    }

    /// The messages for the samples from `position` on of both directions.
    pub(in crate::ai) fn audio(
        &mut self,
        position: u64,
        inbound: &[i16],
        outbound: &[i16],
        out: &mut Outbox,
    ) {
        if self.dialect == TapDialect::Twilio {
            for (track, samples) in TapTrack::BOTH.into_iter().zip([inbound, outbound]) {
                if self.tracks.has(track) {
                    self.media(track, position, samples, out);
                }
            }
            return;
        }
        let write = |samples: &mut dyn Iterator<Item = i16>, bytes: &mut Vec<u8>| {
            samples.for_each(|sample| bytes.extend_from_slice(&sample.to_le_bytes()));
        };
        out.push(Kind::Binary, |bytes| match self.tracks {
            TapTracks::Inbound => write(&mut inbound.iter().copied(), bytes),
            TapTracks::Outbound => write(&mut outbound.iter().copied(), bytes),
            TapTracks::Both => {
                write(&mut inbound.iter().zip(outbound).flat_map(|(&left, &right)| [left, right]), bytes);
            }
            TapTracks::Mix => {
                write(
                    &mut inbound.iter().zip(outbound).map(|(&one, &other)| one.saturating_add(other)),
                    bytes,
                );
            }
        });
    }

    /// The messages that end the tap.
    pub(in crate::ai) fn stop(&mut self, out: &mut Outbox) {
        if self.dialect == TapDialect::Twilio {
            self.sequence_number += 1;
            out.json(&json!({
                "event": "stop",
                "sequenceNumber": self.sequence_number.to_string(),
                "streamSid": self.start.stream_sid,
                "stop": { "accountSid": self.start.account_sid, "callSid": self.start.call_sid },
            }));
        }
    }

    fn media(&mut self, track: TapTrack, position: u64, samples: &[i16], out: &mut Outbox) {
        self.sequence_number += 1;
        let [inbound, outbound] = &mut self.chunks;
        let chunk = if track == TapTrack::Inbound { inbound } else { outbound };
        *chunk += 1;
        self.scratch.resize(samples.len(), 0);
        Law::Mu.encode(samples, &mut self.scratch);
        // The stream's id is ours: letters and digits.
        let (sequence_number, stream_sid) = (self.sequence_number, &self.start.stream_sid);
        let (scratch, timestamp, track) = (&self.scratch, position / SAMPLES_PER_MS, name(track));
        out.push(Kind::Text, |text| {
            // Writing to memory does not fail.
            let _ = write!(
                text,
                r#"{{"event":"media","sequenceNumber":"{sequence_number}","streamSid":"{stream_sid}","media":{{"track":"{track}","chunk":"{chunk}","timestamp":"{timestamp}","payload":""#,
            );
            base64::append_encoded(scratch, text);
            text.extend_from_slice(br#""}}"#);
        });
    }
}

fn name(track: TapTrack) -> &'static str {
    match track {
        TapTrack::Inbound => "inbound",
        TapTrack::Outbound => "outbound",
    }
}

const SAMPLES_PER_MS: u64 = 8;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn wire(dialect: TapDialect, tracks: TapTracks) -> TapWire {
        let start = StreamStart {
            stream_sid: "MZ01".into(),
            call_sid: "CA01".into(),
            account_sid: "AC01".into(),
            from: "+49\"30".into(),
            ..StreamStart::default()
        };
        TapWire::new(dialect, tracks, start).expect("a word for it")
    }

    fn messages(write: impl FnOnce(&mut Outbox)) -> Vec<(Kind, Vec<u8>)> {
        let mut out = Outbox::default();
        write(&mut out);
        out.messages().map(|(kind, bytes)| (kind, bytes.to_vec())).collect()
    }

    fn json_of(messages: &[(Kind, Vec<u8>)]) -> Vec<Value> {
        messages.iter().map(|(_, bytes)| serde_json::from_slice(bytes).expect("JSON")).collect()
    }

    #[test]
    fn twilio_has_a_message_per_track() {
        let mut wire = wire(TapDialect::Twilio, TapTracks::Both);
        let opening = json_of(&messages(|out| wire.open(out)));
        assert_eq!(opening[0]["event"], "connected");
        assert_eq!(opening[1]["start"]["tracks"], json!(["inbound", "outbound"]));
        let media = |number: &str, track: &str, chunk: &str, timestamp: &str, payload: &str| {
            json!({"event":"media","sequenceNumber":number,"streamSid":"MZ01",
                "media":{"track":track,"chunk":chunk,"timestamp":timestamp,"payload":payload}})
        };
        let sent = json_of(&messages(|out| {
            wire.audio(0, &[0; 3], &[0; 3], out);
            wire.audio(160, &[0; 3], &[32_124; 3], out);
        }));
        assert_eq!(
            sent,
            [
                media("2", "inbound", "1", "0", "////"),
                media("3", "outbound", "1", "0", "////"),
                media("4", "inbound", "2", "20", "////"),
                media("5", "outbound", "2", "20", "gICA"),
            ]
        );
        let stop = json_of(&messages(|out| wire.stop(out)));
        assert_eq!(
            stop,
            [json!({"event":"stop","sequenceNumber":"6","streamSid":"MZ01",
                "stop":{"accountSid":"AC01","callSid":"CA01"}})]
        );
    }

    #[test]
    fn binary_dialects_interleave_or_add() {
        for (tracks, mix_type, expected) in [
            (TapTracks::Inbound, "mono", vec![1, 0, 0xff, 0x7f]),
            (TapTracks::Outbound, "mono", vec![2, 0, 1, 0]),
            (TapTracks::Both, "stereo", vec![1, 0, 2, 0, 0xff, 0x7f, 1, 0]),
            (TapTracks::Mix, "mixed", vec![3, 0, 0xff, 0x7f]),
        ] {
            for dialect in [TapDialect::Jambonz, TapDialect::Raw] {
                let mut wire = wire(dialect, tracks);
                let opening = json_of(&messages(|out| wire.open(out)));
                match dialect {
                    TapDialect::Raw => assert!(opening.is_empty()),
                    _ => assert_eq!(
                        (&opening[0]["mixType"], &opening[0]["from"]),
                        (&mix_type.into(), &"+49\"30".into())
                    ),
                }
                let sent = messages(|out| wire.audio(0, &[1, 32_767], &[2, 1], out));
                assert_eq!(sent, [(Kind::Binary, expected.clone())]);
                assert_eq!(messages(|out| wire.stop(out)), []);
            }
        }
    }

    #[test]
    fn twilio_has_no_mixed_track() {
        let refused = TapWire::new(TapDialect::Twilio, TapTracks::Mix, StreamStart::default());
        assert!(refused.err().is_some_and(|reason| reason.contains("both")));
    }
}
