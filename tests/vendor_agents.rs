//! Every message that we can send to Deepgram, ElevenLabs and Gemini, held against the vendors' own types with unknown
//! fields refused.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::ai::dialect::{
    AgentSettings, AudioFormat, Decoded, Dialect, Formats, Kind, Outbox, Outgoing, Sender, StreamStart, Tool,
    ToolResult,
};
use engine::command::Digit;
use serde_json::{Value, json};
use support::vendors::{case, validate};

#[test]
fn every_message_is_one_of_the_vendors_types() {
    let mut cases = Vec::new();
    for (dialect, vendor, kinds) in VENDORS {
        let messages: BTreeSet<String> =
            (0..1 << 8).flat_map(|variant| conversation(dialect, variant)).collect();
        let seen: BTreeSet<String> = messages.iter().map(|message| kind(message)).collect();
        assert_eq!(seen, kinds.iter().map(|&kind| kind.to_owned()).collect(), "{vendor}: what can be sent");
        cases.extend(messages.iter().map(|message| case(vendor, message, false)));
    }
    validate("validate_agents.py", &cases);
}

/// The validator refuses what the vendors refuse, so that what passes means something.
#[test]
fn wrong_messages_are_refused_by_the_vendors_types() {
    let audio = json!({"input":{"encoding":"mulaw","sample_rate":8000},"output":{"encoding":"mulaw","sample_rate":8000}});
    let cases = [
        ("deepgram", json!({"type":"Settings","audio":audio,"agent":"a","voice":"v"})),
        ("deepgram", json!({"type":"Settings","agent":"a"})),
        (
            "deepgram",
            json!({"type":"Settings","audio":{"input":{"encoding":"ulaw","sample_rate":8000},
            "output":{"encoding":"mulaw","sample_rate":8000}},"agent":"a"}),
        ),
        (
            "deepgram",
            json!({"type":"Settings","audio":audio,"agent":{"think":{"provider":{"type":"open_ai",
            "model":"gpt-4o-mini"},"instructions":"x"}}}),
        ),
        ("deepgram", json!({"type":"InjectUserMessage","message":"t"})),
        ("deepgram", json!({"type":"NoSuch"})),
        (
            "elevenlabs",
            json!({"type":"conversation_initiation_client_data",
            "conversation_config_override":{"agent":{"greeting":"Hello"}},"dynamic_variables":{}}),
        ),
        ("elevenlabs", json!({"type":"pong"})),
        ("elevenlabs", json!({"type":"user_message","content":"t"})),
        ("elevenlabs", json!({"user_audio_chunk":"AAAA","type":"audio"})),
        ("gemini", json!({"setup":{"model":"m","voice":"Puck"}})),
        ("gemini", json!({"setup":{"model":"m","generationConfig":{"voice":"Puck"}}})),
        ("gemini", json!({"realtimeInput":{"text":"t"},"clientContent":{}})),
        ("gemini", json!({"toolResponse":{"functionResponses":[{"id":"f","name":"n","response":"text"}]}})),
    ];
    validate("validate_agents.py", &cases.map(|(vendor, message)| case(vendor, &message.to_string(), true)));
}

const VENDORS: [(Dialect, &str, &[&str]); 3] = [
    (
        Dialect::Deepgram,
        "deepgram",
        &["FunctionCallResponse", "InjectAgentMessage", "InjectUserMessage", "Settings", "UpdatePrompt"],
    ),
    (
        Dialect::ElevenLabs,
        "elevenlabs",
        &[
            "client_tool_result",
            "contextual_update",
            "conversation_initiation_client_data",
            "pong",
            "user_audio_chunk",
            "user_message",
        ],
    ),
    (Dialect::Gemini, "gemini", &["clientContent", "realtimeInput", "setup", "toolResponse"]),
];

/// All that can be said in a call whose settings the bits of `variant` choose.
fn conversation(dialect: Dialect, variant: u32) -> Vec<String> {
    let mut codec = dialect.codec(start(variant));
    let mut out = Outbox::default();
    codec.open(&mut out);
    let ready = [
        json!({"type":"Welcome"}),
        json!({"type":"SettingsApplied"}),
        json!({"type":"conversation_initiation_metadata","conversation_initiation_metadata_event":{
            "agent_output_audio_format":"ulaw_8000","user_input_audio_format":"ulaw_8000"}}),
        json!({"type":"ping","ping_event":{"event_id":3}}),
        json!({"setupComplete":{}}),
    ];
    for message in ready {
        let mut decoded = Decoded::default();
        // Each vendor knows its own.
        let _ = codec.decode(Kind::Text, message.to_string().as_bytes(), &mut decoded);
        for (kind, reply) in decoded.replies.messages() {
            out.push(kind, |bytes| bytes.extend_from_slice(reply));
        }
    }
    codec.encode(Outgoing::Audio { timestamp: 0, audio: &[0xff; 161] }, &mut out);
    for from in [Sender::Caller, Sender::Bot, Sender::System] {
        for respond in [false, true] {
            codec.encode(Outgoing::Text { from, text: "Words \"and\"\nmore.", respond }, &mut out);
        }
    }
    for output in [r#"{"ok":true}"#, r#""ok""#, "words", "[1]"] {
        for is_error in [false, true] {
            let result = ToolResult { id: "f1".into(), name: "n".into(), output: output.into(), is_error };
            codec.encode(Outgoing::ToolResult(&result), &mut out);
        }
    }
    for key in ['5', '#'] {
        let digit = Digit::from_char(key).expect("a key");
        codec.encode(Outgoing::Digit { digit, duration: Duration::from_millis(100) }, &mut out);
    }
    for event in [Outgoing::Cleared, Outgoing::Drained, Outgoing::Interrupted { items: &[] }, Outgoing::Stop]
    {
        codec.encode(event, &mut out);
    }
    let text = out.messages().filter_map(|(_, message)| std::str::from_utf8(message).ok());
    text.filter(|text| text.starts_with('{')).map(str::to_owned).collect()
}

fn start(variant: u32) -> StreamStart {
    let on = |bit: u32| variant & 1 << bit != 0;
    let parameters = json!({"type":"object","properties":{"target":{"type":"string"}},"required":["target"]});
    let tool = |parameters| Tool { name: "transfer_call".into(), description: "Transfer".into(), parameters };
    let settings = AgentSettings {
        formats: on(0).then(|| Formats { caller: AudioFormat::l16(16_000), bot: AudioFormat::l16(24_000) }),
        instructions: on(1).then(|| "You answer\nphone \"calls\".".to_owned()),
        greeting: on(2).then(|| "Welcome to \"Example\".".to_owned()),
        language: on(3).then(|| "en".to_owned()),
        voice: on(4).then(|| "a-voice".to_owned()),
        model: on(5).then(|| "gpt-4o".to_owned()),
        tools: if on(6) { vec![tool(parameters)] } else { Vec::new() },
        ..AgentSettings::default()
    };
    let said = [(Sender::Caller, "Hi".to_owned()), (Sender::Bot, "Hello".to_owned())];
    StreamStart {
        settings: Arc::new(settings),
        call_sid: "CA0123456789abcdef0123456789abcdef".into(),
        call_id: "a84b4c76e66710".into(),
        from_name: "Eve \"\r\n\u{7}".into(),
        history: if on(7) { said.into() } else { Vec::new() },
        ..StreamStart::default()
    }
}

fn kind(message: &str) -> String {
    let message: Value = serde_json::from_str(message).expect("JSON");
    let object = message.as_object().expect("an object");
    let kind = object.get("type").and_then(Value::as_str).map(str::to_owned);
    kind.unwrap_or_else(|| object.keys().next().expect("a key").clone())
}
