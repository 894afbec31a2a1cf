//! What an AI backend sends never panics, in any dialect; audio is bounded by the messages; what is answered is text.
//!
//! The input: the dialect, a byte of options, and messages with a byte 0x1e between them, binary ones after a 0x01.
#![no_main]

use std::sync::Arc;

use engine::ai::dialect::{
    AgentSettings, AudioFormat, Decoded, Dialect, Formats, Incoming, ItemPlayed, Kind, Outbox, Outgoing,
    StreamStart,
};
use engine::command::Digit;
use engine::time::Duration;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [dialect, options, messages @ ..] = data else { return };
    let dialect = Dialect::ALL[usize::from(*dialect) % Dialect::ALL.len()];
    let mut codec = dialect.codec(start(*options, &String::from_utf8_lossy(messages)));
    let mut out = Outbox::default();
    codec.open(&mut out);
    let mut decoded = Decoded::default();
    for message in messages.split(|&byte| byte == 0x1e) {
        let (kind, message) = match message {
            [0x01, binary @ ..] => (Kind::Binary, binary),
            text if std::str::from_utf8(text).is_ok() => (Kind::Text, text),
            _ => continue,
        };
        let _ = codec.decode(kind, message, &mut decoded);
        // From 8 kHz mu-law to 24 kHz in 16 bits, and half a sample that waited.
        assert!(decoded.audio.len() <= message.len() * 6 + 64, "{dialect:?}");
        let announced = decoded.events.iter().map(|event| match event {
            Incoming::Audio { len, .. } => *len,
            _ => 0,
        });
        assert_eq!(announced.sum::<usize>(), decoded.audio.len(), "{dialect:?}: all audio is announced");
        for event in decoded.events.drain(..) {
            match event {
                Incoming::Mark(name) => {
                    let complete = *options & 8 != 0;
                    codec.encode(Outgoing::MarkPlayed { name: &name, complete }, &mut out);
                }
                Incoming::Clear => codec.encode(Outgoing::Cleared, &mut out),
                Incoming::Audio { item, .. } => {
                    let played = Duration::from_millis(20);
                    let items = [ItemPlayed { item, played, received: played }];
                    codec.encode(Outgoing::Interrupted { items: &items }, &mut out);
                }
                _ => {}
            }
        }
        all_text(dialect, &decoded.replies);
        codec.encode(Outgoing::Audio { timestamp: 160, audio: message }, &mut out);
        decoded.clear(1 << 16);
    }
    let digit = Digit::from_event(options & 15).expect("below 16");
    codec.encode(Outgoing::Digit { digit, duration: Duration::from_millis(100) }, &mut out);
    codec.encode(Outgoing::Drained, &mut out);
    codec.encode(Outgoing::Stop, &mut out);
    all_text(dialect, &out);
});

fn start(options: u8, text: &str) -> StreamStart {
    let format = match options & 3 {
        0 => None,
        1 => Some(AudioFormat::PCMA),
        2 => Some(AudioFormat::l16(8_000)),
        _ => Some(AudioFormat::l16(24_000)),
    };
    let session =
        serde_json::json!({ "control": if options & 4 == 0 { "json" } else { "text" }, "metadata": text });
    StreamStart {
        stream_sid: "MZ00000000000000000000000000000000".to_owned(),
        call_sid: "CA00000000000000000000000000000000".to_owned(),
        from: text.to_owned(),
        custom_parameters: [("key".to_owned(), text.to_owned())].into(),
        settings: Arc::new(AgentSettings {
            formats: format.map(|format| Formats { caller: format, bot: format }),
            session: session.as_object().cloned().unwrap_or_default(),
            ..AgentSettings::default()
        }),
        ..StreamStart::default()
    }
}

fn all_text(dialect: Dialect, out: &Outbox) {
    for (kind, message) in out.messages() {
        assert!(kind == Kind::Binary || std::str::from_utf8(message).is_ok(), "{dialect:?}");
    }
}
