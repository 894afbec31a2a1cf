use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ai::dialect::AgentSettings;
use crate::command::Digit;
use crate::time::Duration;

fn at(rate: u32) -> AudioSocket {
    let format = AudioFormat::l16(rate);
    let settings =
        AgentSettings { formats: Some(Formats { caller: format, bot: format }), ..AgentSettings::default() };
    AudioSocket::new(&StreamStart { settings: Arc::new(settings), ..StreamStart::default() })
}

fn sent(codec: &mut AudioSocket, event: Outgoing<'_>) -> Vec<Vec<u8>> {
    let mut out = Outbox::default();
    codec.encode(event, &mut out);
    out.messages()
        .map(|(kind, bytes)| {
            assert_eq!(kind, Kind::Binary);
            bytes.to_vec()
        })
        .collect()
}

fn read(codec: &mut AudioSocket, message: &[u8]) -> Result<Decoded, Ignored> {
    let mut decoded = Decoded::default();
    codec.decode(Kind::Binary, message, &mut decoded).map(|()| decoded)
}

#[test]
fn the_uuid_comes_first() {
    let start =
        StreamStart { call_sid: "CA0123456789abcdef0123456789ABCDEF".into(), ..StreamStart::default() };
    let mut out = Outbox::default();
    AudioSocket::new(&start).open(&mut out);
    assert_eq!(out.take_events(), [Incoming::Ready]);
    let messages: Vec<_> = out.messages().collect();
    let half = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    assert_eq!(messages, [(Kind::Binary, &[&[0x01, 0x00, 0x10][..], &half, &half].concat()[..])]);

    let own = [("uuid".to_owned(), "00112233-4455-6677-8899-aabbccddeeff".to_owned())];
    let codec = AudioSocket::new(&StreamStart { custom_parameters: own.into(), ..start.clone() });
    assert_eq!(codec.uuid, std::array::from_fn(|n| n as u8 * 0x11));
    for bad in ["", "0011", "+0112233445566778899aabbccddeeff", "é"] {
        let own = [("uuid".to_owned(), bad.to_owned())];
        let codec = AudioSocket::new(&StreamStart { custom_parameters: own.into(), ..start.clone() });
        assert_eq!(codec.uuid[..8], half, "{bad}");
    }
}

#[test]
fn frames_have_the_documented_bytes() {
    let mut codec = at(8_000);
    let audio = [7; 320];
    assert_eq!(
        sent(&mut codec, Outgoing::Audio { timestamp: 0, audio: &audio }),
        [[&[0x10, 0x01, 0x40][..], &audio].concat()]
    );
    let digit = Digit::from_char('#').expect("a key");
    assert_eq!(
        sent(&mut codec, Outgoing::Digit { digit, duration: Duration::ZERO }),
        [vec![0x03, 0, 1, b'#']]
    );
    assert_eq!(sent(&mut codec, Outgoing::Stop), [vec![0, 0, 0]]);
    assert_eq!(sent(&mut codec, Outgoing::Cleared), [] as [Vec<u8>; 0]);
}

#[test]
fn the_type_tells_the_rate() {
    for (rate, kind) in
        [(8_000, 0x10), (16_000, 0x12), (24_000, 0x13), (32_000, 0x14), (44_100, 0x15), (48_000, 0x16)]
    {
        assert_eq!(sent(&mut at(rate), Outgoing::Audio { timestamp: 0, audio: &[0; 2] })[0][0], kind);
        let mut codec = at(8_000);
        let decoded = read(&mut codec, &[kind, 0, 2, 1, 2]).expect("audio");
        let mut expected = vec![Incoming::Audio { len: 2, item: 0 }];
        if rate != 8_000 {
            expected.insert(0, Incoming::BotFormat(AudioFormat::l16(rate)));
        }
        assert_eq!((decoded.events, decoded.audio), (expected, vec![1, 2]));
        assert_eq!(codec.formats(), Formats { caller: AudioFormat::l16(8_000), bot: AudioFormat::l16(rate) });
    }
    for refused in [0x11, 0x17, 0x18] {
        assert_eq!(read(&mut at(8_000), &[refused, 0, 2, 1, 2]).err(), Some(Ignored::UnknownEvent));
    }
}

#[test]
fn long_audio_becomes_several_frames_of_whole_samples() {
    let frames = sent(&mut at(48_000), Outgoing::Audio { timestamp: 0, audio: &vec![1; 140_000] });
    assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [65_537, 65_537, 8_935]);
    assert_eq!(frames[0][..3], [0x16, 0xff, 0xfe]);
}

#[test]
fn the_application_may_hang_up_and_complain() {
    let hang_up = read(&mut at(8_000), &[0, 0, 0]).expect("a frame");
    assert_eq!(hang_up.events, [Incoming::HangUp { reason: String::new() }]);
    let error = read(&mut at(8_000), &[0xff, 0, 1, 2]).expect("a frame");
    assert!(matches!(&error.events[..], [Incoming::Error { fatal: false, code, .. }] if code == "02"));
}

#[test]
fn faults_are_told_apart() {
    for (message, expected) in [
        (&[][..], Ignored::BadJson),
        (&[0x10, 0], Ignored::BadJson),
        (&[0x10, 0, 2, 1], Ignored::BadJson),
        (&[0x10, 0, 0, 1], Ignored::BadJson),
        (&[0x10, 0, 0], Ignored::MediaWithoutPayload),
        (&[0x77, 0, 1, 1], Ignored::UnknownEvent),
        (&[0x03, 0, 1, b'1'], Ignored::UnknownEvent),
    ] {
        assert_eq!(read(&mut at(8_000), message).err(), Some(expected), "{message:?}");
    }
    assert_eq!(at(8_000).decode(Kind::Text, b"{}", &mut Decoded::default()), Err(Ignored::TextFrame));
}

proptest! {
    #[test]
    fn decode_never_panics(message in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = read(&mut at(8_000), &message);
    }

    #[test]
    fn audio_round_trips(audio in proptest::collection::vec(any::<u8>(), 1..1000)) {
        let mut heard = Vec::new();
        for frame in sent(&mut at(16_000), Outgoing::Audio { timestamp: 0, audio: &audio }) {
            heard.extend(read(&mut at(16_000), &frame).expect("audio").audio);
        }
        prop_assert_eq!(heard, audio);
    }
}
