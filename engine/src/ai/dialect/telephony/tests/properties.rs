//! What holds of the telephony dialects whatever comes.

use proptest::prelude::*;

use super::*;

fn any_start() -> impl Strategy<Value = StreamStart> {
    let text = "\\PC{0,20}|.{0,20}";
    let format = prop_oneof![
        Just(AudioFormat::PCMU),
        Just(AudioFormat::PCMA),
        Just(AudioFormat::l16(8_000)),
        Just(AudioFormat::l16(16_000)),
        Just(AudioFormat::l16(24_000)),
    ];
    (text, text, text, proptest::option::of((format.clone(), format)), any::<bool>(), any::<u64>()).prop_map(
        |(stream_sid, from, value, formats, text_control, unix_ms)| StreamStart {
            stream_sid,
            from,
            unix_ms: unix_ms / 4,
            ..with(
                formats.map(|(caller, bot)| Formats { caller, bot }),
                if text_control { json!({"control": "text", "metadata": true}) } else { json!({}) },
                &[("X-Name", &value), (&value, "value")],
            )
        },
    )
}

/// Words of all dialects, so that random messages come past the first look.
const WORDS: &str = "media|mark|clear|playAudio|checkpoint|clearAudio|sendDTMF|notify|clearMarks|killAudio|disconnect|\
    streamAudio|MEDIA_START|DTMF_END|MEDIA_XOFF|ERROR|ANSWER|HANGUP|START_MEDIA_BUFFERING|STOP_MEDIA_BUFFERING|\
    MARK_MEDIA|FLUSH_MEDIA|PAUSE_MEDIA|CONTINUE_MEDIA|REPORT_QUEUE_DRAINED|GET_STATUS|SET_MEDIA_DIRECTION";
const KEYS: &str =
    "event|action|type|command|media|data|mark|name|payload|correlation_id|direction|dtmf|format|streamId";
const VALUES: &str = r#"(null|[0-9]{1,20}|"[^"\\]{0,20}"|"both"|"in"|"out"|"ulaw"|\{"payload":"[A-Za-z0-9+/=]{0,40}","contentType":"audio/x-l16","sampleRate":"?16000"?\}|\{"name":.{0,9}\}|\{"audioContent":"[A-Za-z0-9+/]{0,40}","sampleRate":24000,"audioContentType":"(raw|wav)"\}|\{"audioData":"[A-Za-z0-9+/]{0,40}","audioDataType":"(raw|wav|pcmu|pcma)"\})"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_message_panics(
        start in any_start(),
        texts in proptest::collection::vec(
            prop_oneof![
                ".{0,100}".prop_map(String::from),
                WORDS.prop_map(String::from),
                (WORDS, KEYS, VALUES).prop_map(|(word, key, value)| {
                    let all: Vec<String> = ["event", "action", "type", "command"]
                        .iter()
                        .filter(|name| **name != key)
                        .map(|name| format!(r#""{name}":"{word}""#))
                        .collect();
                    format!(r#"{{{},"{key}":{value}}}"#, all.join(","))
                }),
            ],
            0..12,
        ),
        binary in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        for dialect in TELEPHONY {
            let mut codec = dialect.codec(start.clone());
            let mut out = Outbox::default();
            codec.open(&mut out);
            for text in &texts {
                let (_, decoded) = heard(&mut *codec, Kind::Text, text.as_bytes());
                // A clip grows six-fold at most: from 8 kHz mu-law to 24 kHz in 16 bits.
                prop_assert!(decoded.audio.len() <= text.len() * 6 + 64, "{dialect:?} {text}");
                for event in decoded.events {
                    if let Incoming::Mark(name) = event {
                        codec.encode(mark(&name), &mut out);
                    }
                }
                let _ = heard(&mut *codec, Kind::Binary, &binary);
                codec.encode(audio(160, &binary), &mut out);
            }
            for event in [digit('#', 250), Outgoing::Cleared, Outgoing::Drained, Outgoing::Stop] {
                codec.encode(event, &mut out);
            }
            for (kind, message) in out.messages() {
                prop_assert!(kind == Kind::Binary || std::str::from_utf8(message).is_ok(), "{dialect:?}");
            }
        }
    }

    #[test]
    fn audio_goes_there_and_back(start in any_start(), blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 1..5)) {
        // As a peer that sends our own audio back in its words would.
        for dialect in [Dialect::Twilio, Dialect::Telnyx, Dialect::Exotel, Dialect::Vonage, Dialect::Jambonz, Dialect::AudioFork, Dialect::AudioStream, Dialect::Raw] {
            let mut start = start.clone();
            let formats = start.settings.formats.map(|formats| Formats { bot: formats.caller, ..formats });
            start.settings = Arc::new(AgentSettings { formats, ..AgentSettings::default() });
            let mut codec = dialect.codec(start);
            let (mut sent, mut back) = (Vec::new(), Vec::new());
            for block in &blocks {
                let block = &block[..block.len() / 2 * 2];
                sent.extend_from_slice(block);
                let mut out = Outbox::default();
                codec.encode(audio(0, block), &mut out);
                for (kind, message) in out.messages() {
                    let (result, decoded) = heard(&mut *codec, kind, message);
                    prop_assert_eq!(result, Ok(()));
                    back.extend(decoded.audio);
                }
            }
            prop_assert_eq!(&sent, &back, "{:?}", dialect);
        }
    }

    #[test]
    fn marks_keep_their_names(name in "\\PC{0,60}|.{0,60}") {
        let quoted = Value::from(name.as_str());
        for (dialect, text, event, path) in [
            (Dialect::Telnyx, format!(r#"{{"event":"mark","mark":{{"name":{quoted}}}}}"#), "mark", "/mark/name"),
            (Dialect::Exotel, format!(r#"{{"event":"mark","mark":{{"name":{quoted}}}}}"#), "mark", "/mark/name"),
            (Dialect::Plivo, format!(r#"{{"event":"checkpoint","name":{quoted}}}"#), "playedStream", "/name"),
            (Dialect::Vonage, format!(r#"{{"action":"notify","payload":{quoted}}}"#), "websocket:notify", "/payload"),
            (Dialect::Jambonz, format!(r#"{{"type":"mark","data":{{"name":{quoted}}}}}"#), "", "/data/name"),
        ] {
            let mut codec = dialect.codec(start());
            let events = meant(&mut *codec, &text);
            let [Incoming::Mark(mark_name)] = &events[..] else { panic!("{events:?}") };
            let answer = said(&mut *codec, mark(mark_name));
            prop_assert_eq!(answer.len(), 1);
            prop_assert_eq!(answer[0]["event"].as_str().unwrap_or_default(), event);
            prop_assert_eq!(answer[0].pointer(path), Some(&quoted), "{:?}", dialect);
        }
    }

    #[test]
    fn swapping_twice_over_any_borders_gives_the_same(audio in proptest::collection::vec(any::<u8>(), 0..200), piece in 1..50usize) {
        let (mut there, mut back) = (Swap::default(), Swap::default());
        let (mut swapped, mut again) = (Vec::new(), Vec::new());
        for piece in audio.chunks(piece) {
            let start = swapped.len();
            swapped.extend_from_slice(piece);
            there.from(start, &mut swapped);
        }
        for piece in swapped.chunks(3) {
            let start = again.len();
            again.extend_from_slice(piece);
            back.from(start, &mut again);
        }
        let whole = audio.len() / 2 * 2;
        prop_assert_eq!(again, &audio[..whole]);
        prop_assert!(swapped.as_chunks::<2>().0.iter().zip(audio.as_chunks::<2>().0).all(|(a, b)| a[0] == b[1] && a[1] == b[0]));
    }

    #[test]
    fn dates_never_panic(unix_ms in 0..u64::MAX / 2) {
        let _ = rfc3339(unix_ms);
    }
}
