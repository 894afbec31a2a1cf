//! Every message that we can send to OpenAI Realtime and Azure Voice Live, held against the vendors' own types with
//! unknown fields refused.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::ai::dialect::{
    AgentSettings, AudioFormat, Codec, Decoded, Dialect, Formats, Incoming, ItemPlayed, Kind, Outbox,
    Outgoing, Sender, StreamStart, Tool, ToolResult,
};
use engine::command::Digit;
use serde_json::{Value, json};
use support::vendors::{case, validate};

#[test]
fn every_message_is_one_of_the_vendors_types() {
    let mut cases = Vec::new();
    for (dialect, vendor) in DIALECTS {
        let messages: BTreeSet<String> =
            (0..VARIANTS).flat_map(|variant| conversation(dialect, variant)).collect();
        let kinds: BTreeSet<String> = messages.iter().map(|message| kind(message)).collect();
        assert_eq!(kinds, SENT.map(str::to_owned).into(), "{vendor}: what can be sent");
        assert!(messages.len() > 100, "{vendor}: {} messages", messages.len());
        cases.extend(messages.into_iter().map(|message| case(vendor, &message, false)));
    }
    validate("validate.py", &cases);
}

/// The validator refuses what the vendors refuse, so that what passes means something.
#[test]
fn wrong_messages_are_refused_by_the_vendors_types() {
    let refused = [
        // Words of the beta.
        ("openai", json!({"type":"session.update","session":{"type":"realtime","modalities":["audio"]}})),
        ("openai", json!({"type":"session.update","session":{"type":"realtime","voice":"marin"}})),
        ("openai", json!({"type":"session.update","session":{"type":"realtime","turn_detection":null}})),
        ("openai", json!({"type":"session.update","session":{"modalities":["audio"]}})),
        // G.711 has no rate here.
        (
            "openai",
            json!({"type":"session.update","session":{"type":"realtime",
            "audio":{"input":{"format":{"type":"audio/pcmu","rate":8000}}}}}),
        ),
        (
            "openai",
            json!({"type":"conversation.item.truncate","item_id":"i","content_index":0,"audio_end_ms":1.5}),
        ),
        ("openai", json!({"type":"conversation.item.truncate","item_id":"i","content_index":0})),
        (
            "openai",
            json!({"type":"conversation.item.create","item":{"type":"message","role":"assistant",
            "content":[{"type":"input_text","text":"t","extra":1}]}}),
        ),
        ("openai", json!({"type":"response.create","response":{"modalities":["audio"]}})),
        ("openai", json!({"type":"no.such.event"})),
        // Words of the other vendor.
        ("voice_live", json!({"type":"session.update","session":{"output_modalities":["audio"]}})),
        ("voice_live", json!({"type":"session.update","session":{"audio":{"output":{"voice":"marin"}}}})),
        (
            "voice_live",
            json!({"type":"session.update","session":{"turn_detection":{"type":"azure_semantic_vad","x":1}}}),
        ),
        ("voice_live", json!({"type":"session.update","session":{"output_audio_format":"pcm16-8000hz"}})),
        (
            "voice_live",
            json!({"type":"session.update","session":{"voice":{"type":"azure-standard","name":"n","x":1}}}),
        ),
        (
            "voice_live",
            json!({"type":"conversation.item.create","item":{"type":"message","role":"assistant",
            "content":[{"type":"output_text","text":"t"}]}}),
        ),
        (
            "voice_live",
            json!({"type":"conversation.item.create","item":{"type":"message","role":"user",
            "content":[{"type":"text","text":"t"}]}}),
        ),
        (
            "voice_live",
            json!({"type":"conversation.item.truncate","item_id":"i","content_index":0,"audio_end_ms":"1"}),
        ),
        ("voice_live", json!({"type":"no.such.event"})),
    ];
    validate("validate.py", &refused.map(|(vendor, message)| case(vendor, &message.to_string(), true)));
}

const DIALECTS: [(Dialect, &str); 2] = [(Dialect::OpenAi, "openai"), (Dialect::VoiceLive, "voice_live")];
const SENT: [&str; 6] = [
    "conversation.item.create",
    "conversation.item.truncate",
    "input_audio_buffer.append",
    "response.cancel",
    "response.create",
    "session.update",
];
/// Every combination of the switches in [`start`].
const VARIANTS: u32 = 1 << 11;

fn kind(message: &str) -> String {
    let message: Value = serde_json::from_str(message).expect("JSON");
    message["type"].as_str().expect("a type").to_owned()
}

/// A call with the settings that the bits of `variant` choose.
fn start(dialect: Dialect, variant: u32) -> StreamStart {
    let on = |bit: u32| variant & 1 << bit != 0;
    let formats =
        [AudioFormat::l16(8_000), AudioFormat::l16(16_000), AudioFormat::l16(24_000), AudioFormat::PCMA];
    let at = |shift: u32| formats[(variant >> shift) as usize % formats.len()];
    let voice = match (dialect, on(8)) {
        (Dialect::VoiceLive, true) => "en-US-Ava:DragonHDLatestNeural",
        _ => "marin",
    };
    let session = match (dialect, on(5)) {
        (_, false) => json!({}),
        (Dialect::OpenAi, true) => json!({"max_output_tokens":"inf","truncation":"auto","audio":{
            "input":{"transcription":null,"noise_reduction":{"type":"near_field"},
                "turn_detection":{"type":"semantic_vad","eagerness":"low"}},
            "output":{"speed":1.1}}}),
        (_, true) => json!({"temperature":0.7,"input_audio_echo_cancellation":null,
            "turn_detection":{"speech_duration_ms":80,"remove_filler_words":true,"auto_truncate":on(6),
                "end_of_utterance_detection":{"model":"semantic_detection_v1","threshold_level":"default",
                    "timeout_ms":1000}}}),
    };
    let settings = AgentSettings {
        formats: on(0).then(|| Formats { caller: at(6), bot: at(8) }),
        instructions: on(1).then(|| "You answer\nphone \"calls\".".to_owned()),
        greeting: on(2).then(|| "Welcome to \"Example\".".to_owned()),
        language: on(3).then(|| "en-US".to_owned()),
        voice: on(4).then(|| voice.to_owned()),
        session: serde_json::from_value(session).expect("an object"),
        tools: if on(6) { tools() } else { Vec::new() },
        flush_on_speech: on(7),
        agent_id: on(8).then(|| "project/agent".to_owned()),
        ..AgentSettings::default()
    };
    let mut start = StreamStart { settings: Arc::new(settings), ..StreamStart::default() };
    if on(9) {
        start.line = AudioFormat::PCMA;
        start.call_id = "a84b4c76e66710".into();
        start.from_name = "Eve \"\r\n\u{7}".into();
        start.custom_parameters = (0..20).map(|n| (format!("name_{n}"), "é".repeat(600))).collect();
    }
    if on(10) {
        let said = [Sender::System, Sender::Bot, Sender::Caller];
        start.history = said.map(|from| (from, "Words \"and\" more\n".to_owned())).into();
    }
    start
}

fn tools() -> Vec<Tool> {
    let parameters = json!({"type":"object","properties":{"target":{"type":"string"}},"required":["target"]});
    vec![
        Tool { name: "transfer_call".into(), description: "Transfer the caller".into(), parameters },
        Tool { name: "end_call".into(), description: String::new(), parameters: Value::Null },
    ]
}

/// All that can be said in a call.
fn conversation(dialect: Dialect, variant: u32) -> Vec<String> {
    let mut codec = dialect.codec(start(dialect, variant));
    let mut out = Outbox::default();
    codec.open(&mut out);
    hear(&mut *codec, &json!({"type":"session.updated","session":{}}), &mut out);
    codec.encode(Outgoing::Audio { timestamp: 0, audio: &[0xff; 161] }, &mut out);
    for from in [Sender::Caller, Sender::Bot, Sender::System] {
        for respond in [false, true] {
            codec.encode(Outgoing::Text { from, text: "Words.", respond }, &mut out);
        }
    }
    codec.encode(Outgoing::Interrupted { items: &[] }, &mut out);
    hear(&mut *codec, &json!({"type":"response.created","response":{"id":"resp_1"}}), &mut out);
    hear(
        &mut *codec,
        &json!({"type":"response.done","response":{"id":"resp_1","status":"cancelled"}}),
        &mut out,
    );
    hear(&mut *codec, &json!({"type":"response.created","response":{"id":"resp_2"}}), &mut out);
    let delta = json!({"type":"response.output_audio.delta","response_id":"resp_2","item_id":"item_1",
        "content_index":0,"delta":"//////////8="});
    hear(&mut *codec, &delta, &mut out);
    let call = json!({"type":"response.function_call_arguments.done","response_id":"resp_2","call_id":"call_1",
        "name":"transfer_call","arguments":"{}"});
    let events = hear(&mut *codec, &call, &mut out);
    assert!(matches!(events[..], [Incoming::Tool(_)]));
    for id in ["call_1", "call_of_another_session"] {
        let result =
            ToolResult { id: id.into(), name: "n".into(), output: r#"{"ok":true}"#.into(), is_error: false };
        codec.encode(Outgoing::ToolResult(&result), &mut out);
    }
    for key in ['5', '*', '#'] {
        let digit = Digit::from_char(key).expect("a digit");
        codec.encode(Outgoing::Digit { digit, duration: Duration::from_millis(100) }, &mut out);
    }
    let half = ItemPlayed { item: 1, played: Duration::from_micros(999), received: Duration::from_millis(1) };
    codec.encode(Outgoing::Interrupted { items: &[half] }, &mut out);
    hear(
        &mut *codec,
        &json!({"type":"response.done","response":{"id":"resp_2","status":"completed"}}),
        &mut out,
    );
    for event in [Outgoing::Cleared, Outgoing::Drained, Outgoing::Pressure { high: true }, Outgoing::Stop] {
        codec.encode(event, &mut out);
    }
    out.messages().map(|(_, message)| anonymous(message)).collect()
}

fn hear(codec: &mut dyn Codec, message: &Value, out: &mut Outbox) -> Vec<Incoming> {
    let mut decoded = Decoded::default();
    codec.decode(Kind::Text, message.to_string().as_bytes(), &mut decoded).expect("understood");
    for (kind, reply) in decoded.replies.messages() {
        out.push(kind, |bytes| bytes.extend_from_slice(reply));
    }
    decoded.events
}

/// With the same `event_id` for all, so that equal messages are checked once.
fn anonymous(message: &[u8]) -> String {
    let mut message: Value = serde_json::from_slice(message).expect("JSON");
    let id = message["event_id"].as_str().expect("an event_id").to_owned();
    assert!(id.starts_with("sidetone_"), "{id}");
    message["event_id"] = json!("sidetone_1");
    message.to_string()
}
