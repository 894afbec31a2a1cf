//! The documented exchanges, message by message, and whatever else a server may come up with.

use std::sync::Arc;

use ::base64::Engine as _;
use proptest::prelude::*;

use super::super::{AudioFormat, Dialect, Tool};
use super::*;
use crate::command::Digit;
use crate::time::Duration;

/// A codec and what it last said.
struct Peer {
    codec: Box<dyn Codec>,
    audio: Vec<u8>,
    replies: Vec<Value>,
}

impl Peer {
    fn with(dialect: Dialect, settings: AgentSettings, change: impl FnOnce(&mut StreamStart)) -> Self {
        let mut start = StreamStart { settings: Arc::new(settings), ..StreamStart::default() };
        change(&mut start);
        Self { codec: dialect.codec(start), audio: Vec::new(), replies: Vec::new() }
    }

    fn new(dialect: Dialect) -> Self {
        Self::with(dialect, AgentSettings { flush_on_speech: true, ..AgentSettings::default() }, |_| {})
    }

    /// With its session set up.
    fn ready(dialect: Dialect) -> Self {
        let mut peer = Self::new(dialect);
        peer.open();
        assert_eq!(peer.hear(r#"{"type":"session.updated","session":{}}"#), [Incoming::Ready]);
        peer
    }

    fn open(&mut self) -> Vec<Value> {
        let mut out = Outbox::default();
        self.codec.open(&mut out);
        messages(&out)
    }

    fn say(&mut self, event: Outgoing<'_>) -> Vec<Value> {
        let mut out = Outbox::default();
        self.codec.encode(event, &mut out);
        messages(&out)
    }

    fn try_hear(&mut self, message: &str) -> Result<Vec<Incoming>, Ignored> {
        let mut decoded = Decoded::default();
        let result = self.codec.decode(Kind::Text, message.as_bytes(), &mut decoded);
        self.audio.extend_from_slice(&decoded.audio);
        self.replies = messages(&decoded.replies);
        result.map(|()| decoded.events)
    }

    fn hear(&mut self, message: &str) -> Vec<Incoming> {
        self.try_hear(message).unwrap_or_else(|ignored| panic!("{ignored:?}: {message}"))
    }

    fn key(&mut self, key: char) -> Vec<Value> {
        let digit = Digit::from_char(key).expect("a digit");
        self.say(Outgoing::Digit { digit, duration: Duration::from_millis(100) })
    }

    fn text(&mut self, respond: bool) -> Vec<Value> {
        self.say(Outgoing::Text { from: Sender::System, text: "note", respond })
    }

    fn delta(&mut self, response: &str, item: &str, audio: &[u8]) -> Result<Vec<Incoming>, Ignored> {
        self.try_hear(&delta("response.output_audio.delta", response, item, audio))
    }
}

/// The messages, each of which must have an `event_id`, which is left out.
fn messages(out: &Outbox) -> Vec<Value> {
    out.messages()
        .map(|(kind, message)| {
            assert_eq!(kind, Kind::Text);
            let mut message: Value = serde_json::from_slice(message).expect("JSON");
            let id = message.as_object_mut().expect("an object").remove("event_id").expect("an event_id");
            assert!(id.as_str().is_some_and(|id| id.starts_with("sidetone_")), "{id}");
            message
        })
        .collect()
}

fn delta(kind: &str, response: &str, item: &str, audio: &[u8]) -> String {
    let delta = ::base64::engine::general_purpose::STANDARD.encode(audio);
    json!({"type":kind,"event_id":"ev","response_id":response,"item_id":item,"output_index":0,"content_index":0,
        "delta":delta})
    .to_string()
}

fn created(id: &str) -> String {
    json!({"type":"response.created","response":{"id":id,"status":"in_progress","output":[]}}).to_string()
}

fn done(id: &str, status: &str) -> String {
    json!({"type":"response.done","response":{"id":id,"status":status,"output":[]}}).to_string()
}

fn played(item: u32, played_ms: u64, received_ms: u64) -> ItemPlayed {
    let [played, received] = [played_ms, received_ms].map(Duration::from_millis);
    ItemPlayed { item, played, received }
}

fn tool() -> Tool {
    Tool {
        name: "transfer_call".into(),
        description: "Transfer the caller".into(),
        parameters: json!({"type":"object","properties":{"target":{"type":"string"}},"required":["target"]}),
    }
}

fn full_settings() -> AgentSettings {
    AgentSettings {
        instructions: Some("You answer phone calls.".into()),
        language: Some("en-US".into()),
        voice: Some("marin".into()),
        tools: vec![tool()],
        flush_on_speech: true,
        ..AgentSettings::default()
    }
}

fn map(value: Value) -> serde_json::Map<String, Value> {
    serde_json::from_value(value).expect("an object")
}

const BOTH: [Dialect; 2] = [Dialect::OpenAi, Dialect::VoiceLive];

#[test]
fn openai_session_has_the_documented_shape() {
    let mut peer = Peer::with(Dialect::OpenAi, full_settings(), |_| {});
    assert_eq!(
        peer.open(),
        [json!({"type":"session.update","session":{
            "type":"realtime","instructions":"You answer phone calls.","output_modalities":["audio"],
            "audio":{
                "input":{"format":{"type":"audio/pcmu"},
                    "transcription":{"model":"gpt-4o-mini-transcribe","language":"en"},
                    "turn_detection":{"type":"server_vad","create_response":true,"interrupt_response":true}},
                "output":{"format":{"type":"audio/pcmu"},"voice":"marin"}},
            "tools":[{"type":"function","name":"transfer_call","description":"Transfer the caller",
                "parameters":{"type":"object","properties":{"target":{"type":"string"}},"required":["target"]}}],
            "tool_choice":"auto"}})]
    );
}

#[test]
fn voice_live_session_has_the_documented_shape() {
    let settings = AgentSettings {
        voice: Some("en-US-Ava:DragonHDLatestNeural".into()),
        session: map(json!({"turn_detection":{"speech_duration_ms":80}, "voice":{"temperature":0.8}})),
        ..full_settings()
    };
    let mut peer = Peer::with(Dialect::VoiceLive, settings, |start| start.call_id = "a84b4c76e66710".into());
    assert_eq!(
        peer.open(),
        [json!({"type":"session.update","session":{
            "modalities":["text","audio"],"instructions":"You answer phone calls.",
            "voice":{"type":"azure-standard","name":"en-US-Ava:DragonHDLatestNeural","temperature":0.8},
            "input_audio_format":"g711_ulaw","input_audio_sampling_rate":8000,"output_audio_format":"g711_ulaw",
            "turn_detection":{"type":"azure_semantic_vad","create_response":true,"interrupt_response":true,
                "speech_duration_ms":80},
            "input_audio_noise_reduction":{"type":"azure_deep_noise_suppression"},
            "input_audio_echo_cancellation":{"type":"server_echo_cancellation"},
            "input_audio_transcription":{"model":"azure-speech","language":"en-US"},
            "metadata":{"call_id":"a84b4c76e66710"},
            "tools":[{"type":"function","name":"transfer_call","description":"Transfer the caller",
                "parameters":{"type":"object","properties":{"target":{"type":"string"}},"required":["target"]}}],
            "tool_choice":"auto"}})]
    );
}

#[test]
fn handshake_names_model_version_and_credential() {
    let settings = AgentSettings { model: Some("gpt-realtime-mini".into()), ..AgentSettings::default() };
    let openai = Dialect::OpenAi.handshake(&settings);
    assert_eq!(openai.query, [("model", "gpt-realtime-mini".to_owned())]);
    assert_eq!(openai.credential, None);
    let azure = Dialect::VoiceLive.handshake(&settings);
    let query = [("api-version", "2026-07-15".to_owned()), ("model", "gpt-realtime-mini".to_owned())];
    assert_eq!(azure.query, query);
    assert_eq!(azure.credential, Some(("api-key", "")));
    let agent = AgentSettings { agent_id: Some("project/agent".into()), ..settings };
    let names: Vec<_> =
        Dialect::VoiceLive.handshake(&agent).query.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["api-version", "agent-project-name", "agent-name"]);
}

#[test]
fn hosted_agent_gets_no_instructions() {
    let settings = AgentSettings { agent_id: Some("agent".into()), ..full_settings() };
    let session = Peer::with(Dialect::VoiceLive, settings, |_| {}).open().remove(0);
    assert_eq!(session["session"]["instructions"], Value::Null);
}

#[test]
fn line_passes_through_and_other_formats_are_the_nearest() {
    use AudioFormat as F;
    let l16 = F::l16;
    for (dialect, line, wanted, expected) in [
        (Dialect::OpenAi, F::PCMA, None, [F::PCMA, F::PCMA]),
        (Dialect::VoiceLive, F::PCMA, None, [F::PCMA, F::PCMA]),
        (Dialect::OpenAi, l16(16_000), None, [l16(24_000), l16(24_000)]),
        (Dialect::OpenAi, F::PCMU, Some([l16(8_000), F::PCMU]), [l16(24_000), F::PCMU]),
        (Dialect::VoiceLive, F::PCMU, Some([l16(16_000), l16(8_000)]), [l16(16_000), l16(8_000)]),
        (Dialect::VoiceLive, F::PCMU, Some([l16(11_025), l16(48_000)]), [l16(16_000), l16(24_000)]),
    ] {
        let formats = wanted.map(|[caller, bot]| Formats { caller, bot });
        let settings = AgentSettings { formats, ..AgentSettings::default() };
        let peer = Peer::with(dialect, settings, |start| start.line = line);
        let [caller, bot] = expected;
        assert_eq!(peer.codec.formats(), Formats { caller, bot }, "{dialect:?} {line:?} {wanted:?}");
    }
}

#[test]
fn settings_are_merged_over_and_null_leaves_out() {
    let session = json!({"audio":{"input":{"transcription":null,
            "turn_detection":{"type":"semantic_vad","eagerness":"low"},"noise_reduction":{"type":"near_field"}},
        "output":{"format":{"type":"audio/pcm","rate":24000},"speed":1.1}},"max_output_tokens":"inf"});
    let settings = AgentSettings { session: map(session), ..full_settings() };
    let mut peer = Peer::with(Dialect::OpenAi, settings, |_| {});
    let session = peer.open().remove(0)["session"].take();
    assert_eq!(
        session["audio"],
        json!({"input":{"format":{"type":"audio/pcmu"},"noise_reduction":{"type":"near_field"},
                "turn_detection":{"type":"semantic_vad","eagerness":"low"}},
            "output":{"format":{"type":"audio/pcm","rate":24000},"voice":"marin","speed":1.1}})
    );
    assert_eq!(session["max_output_tokens"], "inf");
    // What was merged is what holds.
    assert_eq!(peer.codec.formats().bot, AudioFormat::l16(24_000));
}

#[test]
fn ready_comes_with_session_updated_and_audio_only_after_it() {
    for dialect in BOTH {
        let mut peer = Peer::new(dialect);
        assert_eq!(peer.open().len(), 1);
        let audio = Outgoing::Audio { timestamp: 0, audio: &[0xff; 5] };
        assert_eq!(peer.say(audio), [] as [Value; 0]);
        let expires = r#"{"type":"session.created","session":{"id":"sess_1","expires_at":1793600000}}"#;
        assert_eq!(peer.hear(expires), [Incoming::ExpiresAt { unix: 1_793_600_000 }]);
        let updated = r#"{"type":"session.updated","session":{"id":"sess_1","expires_at":1793600000}}"#;
        assert_eq!(peer.hear(updated), [Incoming::Ready]);
        assert_eq!(peer.hear(updated), []);
        assert_eq!(peer.say(audio), [json!({"type":"input_audio_buffer.append","audio":"//////8="})]);
    }
}

#[test]
fn the_server_may_settle_for_other_formats() {
    let mut peer = Peer::new(Dialect::OpenAi);
    let updated = r#"{"type":"session.updated","session":{"input_audio_format":"pcm16","output_audio_format":"g711_alaw"}}"#;
    assert_eq!(peer.hear(updated), [Incoming::Ready]);
    assert_eq!(peer.codec.formats(), Formats { caller: AudioFormat::l16(24_000), bot: AudioFormat::PCMA });
}

#[test]
fn error_before_ready_is_fatal_and_later_it_is_not() {
    let error = r#"{"type":"error","event_id":"e90","error":{"type":"invalid_request_error","code":"invalid_value",
        "message":"bad\n\u0007","param":"session.audio.input.format","event_id":"sidetone_1"}}"#;
    for dialect in BOTH {
        let mut peer = Peer::new(dialect);
        peer.open();
        let [Incoming::Error { fatal: true, code, text }] = &peer.hear(error)[..] else { panic!("no error") };
        assert_eq!((&**code, &**text), ("invalid_value", "bad  "));
        let mut peer = Peer::ready(dialect);
        assert!(matches!(peer.hear(error)[..], [Incoming::Error { fatal: false, .. }]));
        let expired = r#"{"type":"error","error":{"type":"invalid_request_error","code":"session_expired"}}"#;
        assert!(matches!(peer.hear(expired)[..], [Incoming::Error { fatal: true, .. }]));
        for benign in BENIGN {
            let error = json!({"type":"error","error":{"type":"invalid_request_error","code":benign}});
            assert_eq!(peer.hear(&error.to_string()), []);
        }
    }
}

#[test]
fn spoken_answer_with_server_vad() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    let speech = |speaking| vec![Incoming::CallerSpeech { speaking }];
    let said = |from, text: &str| vec![Incoming::Transcript { from, text: text.into(), complete: true }];
    for (message, expected) in [
        (
            r#"{"type":"input_audio_buffer.speech_started","event_id":"event_3","audio_start_ms":1200,"item_id":"item_u1"}"#,
            speech(true),
        ),
        (
            r#"{"type":"input_audio_buffer.speech_stopped","event_id":"event_4","audio_end_ms":2600,"item_id":"item_u1"}"#,
            speech(false),
        ),
        (
            r#"{"type":"input_audio_buffer.committed","event_id":"event_5","previous_item_id":null,"item_id":"item_u1"}"#,
            vec![],
        ),
        (
            r#"{"type":"conversation.item.added","event_id":"event_6","previous_item_id":null,"item":{"id":"item_u1","type":"message","role":"user","status":"completed","content":[{"type":"input_audio"}]}}"#,
            vec![],
        ),
        (
            r#"{"type":"conversation.item.done","event_id":"event_7","previous_item_id":null,"item":{"id":"item_u1","type":"message","role":"user","status":"completed","content":[{"type":"input_audio"}]}}"#,
            vec![],
        ),
        (
            r#"{"type":"response.created","event_id":"event_8","response":{"id":"resp_1","object":"realtime.response","status":"in_progress","output":[]}}"#,
            vec![],
        ),
        (
            r#"{"type":"response.output_item.added","event_id":"event_9","response_id":"resp_1","output_index":0,"item":{"id":"item_1","type":"message","role":"assistant","status":"in_progress","content":[]}}"#,
            vec![],
        ),
        (
            r#"{"type":"response.content_part.added","event_id":"event_10","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"part":{"type":"audio","transcript":""}}"#,
            vec![],
        ),
        (
            r#"{"type":"response.output_audio_transcript.delta","event_id":"event_11","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"Hel"}"#,
            vec![],
        ),
        (
            r#"{"type":"response.output_audio.delta","event_id":"event_12","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"//////8="}"#,
            vec![Incoming::Audio { len: 5, item: 1 }],
        ),
        (
            r#"{"type":"response.output_audio.done","event_id":"event_13","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0}"#,
            vec![Incoming::AudioEnd],
        ),
        (
            r#"{"type":"response.output_audio_transcript.done","event_id":"event_14","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"transcript":"Hello."}"#,
            said(Sender::Bot, "Hello."),
        ),
        (
            r#"{"type":"response.output_item.done","event_id":"event_15","response_id":"resp_1","output_index":0,"item":{"id":"item_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_audio","transcript":"Hello."}]}}"#,
            vec![],
        ),
        (
            r#"{"type":"response.done","event_id":"event_16","response":{"id":"resp_1","object":"realtime.response","status":"completed","output":[],"usage":{"total_tokens":100,"input_tokens":60,"output_tokens":40}}}"#,
            vec![],
        ),
        (
            r#"{"type":"rate_limits.updated","event_id":"event_17","rate_limits":[{"name":"tokens","limit":40000,"remaining":39900,"reset_seconds":0.1}]}"#,
            vec![],
        ),
        (
            r#"{"type":"conversation.item.input_audio_transcription.completed","event_id":"event_18","item_id":"item_u1","content_index":0,"transcript":"Hi there","usage":{"type":"duration","seconds":2}}"#,
            said(Sender::Caller, "Hi there"),
        ),
        (
            r#"{"type":"conversation.item.input_audio_transcription.completed","event_id":"event_19","item_id":"item_u1","content_index":0,"transcript":" "}"#,
            vec![],
        ),
    ] {
        assert_eq!(peer.hear(message), expected, "{message}");
        assert_eq!(peer.replies, [] as [Value; 0]);
    }
    assert_eq!(peer.audio, [0xff; 5]);
}

#[test]
fn voice_live_says_the_same_in_other_words() {
    let mut peer = Peer::ready(Dialect::VoiceLive);
    for (message, expected) in [
        (
            r#"{"type":"warning","event_id":"ev3","warning":{"message":"careful","code":"w","param":"p"}}"#,
            vec![Incoming::Error { fatal: false, code: "w".into(), text: "careful".into() }],
        ),
        (
            r#"{"type":"conversation.item.created","event_id":"ev4","previous_item_id":null,"item":{"id":"item_u1","object":"realtime.item","type":"message","role":"user","status":"completed","content":[{"type":"input_audio"}]}}"#,
            vec![],
        ),
        (
            r#"{"type":"response.audio.delta","event_id":"ev5","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"//////8="}"#,
            vec![Incoming::Audio { len: 5, item: 1 }],
        ),
        (
            r#"{"type":"response.audio_timestamp.delta","event_id":"ev6","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"audio_offset_ms":120,"audio_duration_ms":310,"text":"Hello","timestamp_type":"word"}"#,
            vec![],
        ),
        (
            r#"{"type":"response.animation_viseme.delta","event_id":"ev7","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"audio_offset_ms":455,"viseme_id":20}"#,
            vec![],
        ),
        (
            r#"{"type":"response.animation_blendshapes.delta","event_id":"ev7","delta":[[0.5]],"frames":[[0.1]]}"#,
            vec![],
        ),
        (
            r#"{"type":"response.audio_transcript.done","event_id":"ev","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"transcript":"Hello."}"#,
            vec![Incoming::Transcript { from: Sender::Bot, text: "Hello.".into(), complete: true }],
        ),
        (
            r#"{"type":"response.function_call_arguments.done","event_id":"ev8","response_id":"resp_1","item_id":"item_2","output_index":1,"call_id":"call_1","arguments":"{\"target\":\"sip:42@example.com\"}","name":"transfer_call"}"#,
            vec![Incoming::Tool(ToolCall {
                id: "call_1".into(),
                name: "transfer_call".into(),
                arguments: r#"{"target":"sip:42@example.com"}"#.into(),
            })],
        ),
        (
            r#"{"type":"response.done","event_id":"ev9","response":{"id":"resp_1","object":"realtime.response","status":"cancelled","status_details":{"type":"cancelled","reason":"turn_detected"},"output":[]}}"#,
            vec![],
        ),
    ] {
        assert_eq!(peer.hear(message), expected, "{message}");
    }
}

#[test]
fn interruption_truncates_each_item_from_its_own_zero_and_then_cancels() {
    for dialect in BOTH {
        let mut peer = Peer::ready(dialect);
        peer.hear(&created("resp_1"));
        assert_eq!(
            peer.delta("resp_1", "item_1", &[1; 8_000]),
            Ok(vec![Incoming::Audio { len: 8_000, item: 1 }])
        );
        peer.hear(r#"{"type":"response.output_audio.done","item_id":"item_1","response_id":"resp_1"}"#);
        assert_eq!(
            peer.delta("resp_1", "item_2", &[2; 4_004]),
            Ok(vec![Incoming::Audio { len: 4_004, item: 2 }])
        );
        assert_eq!(peer.hear(r#"{"type":"input_audio_buffer.speech_started","audio_start_ms":1}"#).len(), 1);
        // The first was heard to its end, of the second more was reported than there is.
        let items = [played(1, 1_000, 1_000), played(2, 100_000, 100_000), played(9, 1, 1)];
        assert_eq!(
            peer.say(Outgoing::Interrupted { items: &items }),
            [
                json!({"type":"conversation.item.truncate","item_id":"item_2","content_index":0,"audio_end_ms":500}),
                json!({"type":"response.cancel","response_id":"resp_1"}),
            ]
        );
        assert_eq!(peer.say(Outgoing::Interrupted { items: &items }), [] as [Value; 0], "once");
        assert_eq!(peer.delta("resp_1", "item_2", &[2; 160]), Err(Ignored::Stale));
        let truncated = r#"{"type":"conversation.item.truncated","item_id":"item_2","content_index":0,"audio_end_ms":500}"#;
        assert_eq!(peer.hear(truncated), []);
        assert_eq!(peer.hear(&done("resp_1", "cancelled")), []);
        // A new response is heard.
        peer.hear(&created("resp_2"));
        assert_eq!(
            peer.delta("resp_2", "item_3", &[3; 160]),
            Ok(vec![Incoming::Audio { len: 160, item: 3 }])
        );
    }
}

#[test]
fn what_was_queued_and_not_begun_is_truncated_to_nothing() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    peer.hear(&created("resp_1"));
    for item in ["item_1", "item_2"] {
        peer.delta("resp_1", item, &[1; 1_600]).expect("audio");
        peer.hear(&json!({"type":"response.output_audio.done","item_id":item}).to_string());
    }
    // Generation has ended long ago: there is nothing to cancel.
    peer.hear(&done("resp_1", "completed"));
    let items = [played(1, 19, 200), played(2, 0, 200)];
    let sent = peer.say(Outgoing::Interrupted { items: &items });
    let ends: Vec<_> = sent.iter().map(|event| (&event["item_id"], &event["audio_end_ms"])).collect();
    assert_eq!(ends, [(&json!("item_1"), &json!(19)), (&json!("item_2"), &json!(0))]);
}

#[test]
fn auto_truncation_by_the_server_leaves_only_the_cancel() {
    let session = map(json!({"turn_detection":{"auto_truncate":true}}));
    let settings = AgentSettings { session, ..AgentSettings::default() };
    let mut peer = Peer::with(Dialect::VoiceLive, settings, |_| {});
    peer.hear(r#"{"type":"session.updated","session":{}}"#);
    peer.hear(&created("resp_1"));
    peer.delta("resp_1", "item_1", &[1; 1_600]).expect("audio");
    let sent = peer.say(Outgoing::Interrupted { items: &[played(1, 20, 200)] });
    assert_eq!(sent, [json!({"type":"response.cancel","response_id":"resp_1"})]);
}

#[test]
fn whoever_does_not_flush_does_not_let_the_server_interrupt() {
    for dialect in BOTH {
        let mut peer = Peer::with(dialect, AgentSettings::default(), |_| {});
        let session = peer.open().remove(0)["session"].take();
        let detection = session.pointer("/audio/input/turn_detection").unwrap_or(&session["turn_detection"]);
        assert_eq!(detection["interrupt_response"], false, "{dialect:?}");
        peer.hear(r#"{"type":"session.updated","session":{}}"#);
        peer.hear(&created("resp_1"));
        peer.hear(r#"{"type":"input_audio_buffer.speech_started","audio_start_ms":1}"#);
        assert!(peer.delta("resp_1", "item_1", &[1; 160]).is_ok(), "the response goes on");
    }
}

#[test]
fn refused_truncate_or_cancel_is_no_fault() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    peer.hear(&created("resp_1"));
    peer.delta("resp_1", "item_1", &[1; 160]).expect("audio");
    let mut out = Outbox::default();
    peer.codec.encode(Outgoing::Interrupted { items: &[played(1, 5, 20)] }, &mut out);
    let ids: Vec<Value> = out
        .messages()
        .map(|(_, message)| serde_json::from_slice::<Value>(message).expect("JSON")["event_id"].take())
        .collect();
    assert_eq!(ids.len(), 2);
    for id in ids {
        let error = json!({"type":"error","error":{"type":"invalid_request_error","code":"invalid_value",
            "message":"Audio content of 0ms is already shorter than 5ms","event_id":id}});
        assert_eq!(peer.hear(&error.to_string()), []);
    }
    let other =
        r#"{"type":"error","error":{"code":"invalid_value","message":"m","event_id":"sidetone_9999"}}"#;
    assert_eq!(peer.hear(other).len(), 1);
}

#[test]
fn function_is_called_once_and_the_answer_waits_for_the_response_to_end() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    peer.hear(&created("resp_1"));
    let arguments = json!({"type":"response.function_call_arguments.done","response_id":"resp_1","item_id":"item_2",
        "call_id":"call_1","name":"transfer_call","arguments":"{}"});
    assert_eq!(peer.hear(&arguments.to_string()).len(), 1);
    let item = json!({"type":"response.output_item.done","response_id":"resp_1","item":{"id":"item_2",
        "type":"function_call","status":"completed","call_id":"call_1","name":"transfer_call","arguments":"{}"}});
    assert_eq!(peer.hear(&item.to_string()), []);
    // A second one that only the item brings, as servers without `name` in the first event do.
    let nameless = json!({"type":"response.function_call_arguments.done","response_id":"resp_1","item_id":"item_3",
        "call_id":"call_2","arguments":"{}"});
    assert_eq!(peer.hear(&nameless.to_string()), []);
    let item = json!({"type":"response.output_item.done","response_id":"resp_1","item":{"id":"item_3",
        "type":"function_call","status":"completed","call_id":"call_2","name":"lookup","arguments":"{\"n\":1}"}});
    let second = ToolCall { id: "call_2".into(), name: "lookup".into(), arguments: r#"{"n":1}"#.into() };
    assert_eq!(peer.hear(&item.to_string()), [Incoming::Tool(second)]);
    let output = |id: &str| {
        json!({"type":"conversation.item.create",
            "item":{"type":"function_call_output","call_id":id,"output":"{\"ok\":true}"}})
    };
    for id in ["call_1", "call_2"] {
        let result = ToolResult { id: id.into(), output: r#"{"ok":true}"#.into(), ..ToolResult::default() };
        assert_eq!(peer.say(Outgoing::ToolResult(&result)), [output(id)], "the response is still active");
    }
    peer.hear(&done("resp_1", "completed"));
    assert_eq!(peer.replies, [json!({"type":"response.create"})]);
}

#[test]
fn bot_speaks_when_all_functions_of_a_response_have_returned() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    peer.hear(&created("resp_1"));
    for id in ["call_1", "call_2"] {
        let call = json!({"type":"response.function_call_arguments.done","response_id":"resp_1","call_id":id,
            "name":"lookup","arguments":"{}"});
        assert_eq!(peer.hear(&call.to_string()).len(), 1);
    }
    peer.hear(&done("resp_1", "completed"));
    assert_eq!(peer.replies, [] as [Value; 0]);
    let result = |id: &str| ToolResult { id: id.into(), output: "{}".into(), ..ToolResult::default() };
    assert_eq!(peer.say(Outgoing::ToolResult(&result("call_2"))).len(), 1);
    let last = peer.say(Outgoing::ToolResult(&result("call_1")));
    assert_eq!(last[1], json!({"type":"response.create"}));
    // Of a session before this one: the server knows no such call.
    let old = ToolResult { name: "lookup".into(), ..result("call_0") };
    let sent = peer.say(Outgoing::ToolResult(&old));
    assert_eq!(sent.len(), 1, "a response was asked for already: {sent:?}");
    assert_eq!(sent[0]["item"]["role"], "system");
}

#[test]
fn function_of_a_cancelled_response_is_not_called() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    peer.hear(&created("resp_1"));
    peer.say(Outgoing::Interrupted { items: &[] });
    let call = r#"{"type":"response.function_call_arguments.done","response_id":"resp_1","call_id":"c","name":"n","arguments":"{}"}"#;
    assert_eq!(peer.try_hear(call), Err(Ignored::Stale));
}

#[test]
fn there_are_never_two_active_responses() {
    let mut peer = Peer::ready(Dialect::VoiceLive);
    let create = json!({"type":"response.create"});
    assert_eq!(peer.text(true)[1], create);
    assert_eq!(peer.text(true).len(), 1, "one is requested");
    peer.hear(&created("resp_1"));
    assert_eq!(peer.text(true).len(), 1, "one is active");
    peer.hear(&done("resp_0", "completed"));
    assert_eq!(peer.replies, [] as [Value; 0], "another has ended");
    peer.hear(&done("resp_1", "completed"));
    assert_eq!(peer.replies, [create], "the waiting ones are one");
    assert_eq!(peer.text(false).len(), 1);
}

#[test]
fn response_refused_because_of_another_is_asked_for_again() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    let mut out = Outbox::default();
    peer.codec.encode(Outgoing::Text { from: Sender::System, text: "note", respond: true }, &mut out);
    let create: Value = serde_json::from_slice(out.messages().nth(1).expect("two").1).expect("JSON");
    // The server had begun one by itself.
    peer.hear(&created("resp_1"));
    let error = json!({"type":"error","error":{"code":"conversation_already_has_active_response",
        "event_id":create["event_id"]}});
    assert_eq!(peer.hear(&error.to_string()), []);
    peer.hear(&done("resp_1", "completed"));
    assert_eq!(peer.replies, [json!({"type":"response.create"})]);
}

#[test]
fn response_cancelled_before_it_has_an_id_is_never_heard() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    peer.text(true);
    assert_eq!(peer.say(Outgoing::Interrupted { items: &[] }), [json!({"type":"response.cancel"})]);
    assert_eq!(peer.say(Outgoing::Interrupted { items: &[] }), [] as [Value; 0]);
    peer.hear(&created("resp_1"));
    assert_eq!(peer.delta("resp_1", "item_1", &[1; 160]), Err(Ignored::Stale));
    peer.hear(&done("resp_1", "cancelled"));
    peer.hear(&created("resp_2"));
    assert!(peer.delta("resp_2", "item_2", &[1; 160]).is_ok());
}

#[test]
fn failed_response_is_told() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    let failed = json!({"type":"response.done","response":{"id":"resp_1","status":"failed","status_details":{
        "type":"failed","error":{"type":"tokens","code":"rate_limit_exceeded","message":"Slow down"}}}});
    let error =
        |code: &str, text: &str| Incoming::Error { fatal: false, code: code.into(), text: text.into() };
    assert_eq!(peer.hear(&failed.to_string()), [error("rate_limit_exceeded", "Slow down")]);
    let incomplete = json!({"type":"response.done","response":{"id":"resp_2","status":"incomplete",
        "status_details":{"type":"incomplete","reason":"content_filter"}}});
    assert_eq!(
        peer.hear(&incomplete.to_string()),
        [error("content_filter", "the response could not be completed")]
    );
}

#[test]
fn keys_are_one_message_at_the_hash_or_after_two_seconds_of_audio() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    let pressed = |keys: &str| {
        json!({"type":"conversation.item.create","item":{"type":"message","role":"user",
            "content":[{"type":"input_text","text":format!("The caller pressed {keys}.")}]}})
    };
    assert_eq!(peer.key('5'), [] as [Value; 0]);
    assert_eq!(peer.key('#'), [pressed("5#"), json!({"type":"response.create"})]);
    peer.hear(&created("resp_1"));
    peer.hear(&done("resp_1", "completed"));
    let audio = |timestamp| Outgoing::Audio { timestamp, audio: &[0xff; 160] };
    peer.say(audio(8_000));
    peer.key('1');
    peer.say(audio(16_000));
    peer.key('2');
    assert_eq!(peer.say(audio(31_840)).len(), 1, "only audio");
    let sent = peer.say(audio(32_000));
    assert_eq!(sent[..2], [pressed("12"), json!({"type":"response.create"})]);
    assert_eq!(sent.len(), 3);
}

#[test]
fn greeting_is_said_in_the_vendors_way_and_not_again_after_a_reconnection() {
    let settings =
        AgentSettings { greeting: Some("Welcome to \"Example\".".into()), ..AgentSettings::default() };
    let updated = r#"{"type":"session.updated","session":{}}"#;
    let mut peer = Peer::with(Dialect::VoiceLive, settings.clone(), |_| {});
    peer.hear(updated);
    assert_eq!(
        peer.replies,
        [json!({"type":"response.create","response":{"pre_generated_assistant_message":{"type":"message",
            "role":"assistant","content":[{"type":"text","text":"Welcome to \"Example\"."}]}}})]
    );
    assert_eq!(peer.text(true).len(), 1, "the greeting is a response");
    let mut peer = Peer::with(Dialect::OpenAi, settings.clone(), |_| {});
    peer.hear(updated);
    assert_eq!(peer.replies[0]["type"], "response.create");
    let instructions = peer.replies[0]["response"]["instructions"].as_str().expect("instructions");
    assert!(instructions.ends_with(r#"nothing else: "Welcome to \"Example\".""#), "{instructions}");
    for (dialect, assistant) in [(Dialect::OpenAi, "output_text"), (Dialect::VoiceLive, "text")] {
        let mut peer = Peer::with(dialect, settings.clone(), |start| {
            start.history = vec![
                (Sender::Caller, "Hi".into()),
                (Sender::Bot, "Hello".into()),
                (Sender::Caller, "Who?".into()),
            ];
        });
        peer.hear(updated);
        let item = |role: &str, kind: &str, text: &str| {
            json!({"type":"conversation.item.create","item":{"type":"message","role":role,
                "content":[{"type":kind,"text":text}]}})
        };
        let expected = [
            item("user", "input_text", "Hi"),
            item("assistant", assistant, "Hello"),
            item("user", "input_text", "Who?"),
            item("system", "input_text", GO_ON),
            // The caller was waiting for an answer.
            json!({"type":"response.create"}),
        ];
        assert_eq!(peer.replies, expected);
    }
}

#[test]
fn facts_of_the_call_are_given_as_data() {
    let mut peer = Peer::with(Dialect::OpenAi, AgentSettings::default(), |start| {
        start.from = "+4930\r\n\"123\"".into();
        start.custom_parameters = [("tenant".to_owned(), "x".repeat(1_000))].into();
    });
    peer.hear(r#"{"type":"session.updated","session":{}}"#);
    let text = peer.replies[0]["item"]["content"][0]["text"].as_str().expect("text");
    let facts: Value = serde_json::from_str(text.strip_prefix(FACTS).expect("marked as data")).expect("JSON");
    assert_eq!(facts, json!({"caller":"+4930\"123\"","tenant":"x".repeat(512)}));
}

#[test]
fn faults_are_told_apart() {
    let mut peer = Peer::ready(Dialect::OpenAi);
    let long =
        json!({"type":"response.output_audio.delta","item_id":"x".repeat(1_000),"delta":""}).to_string();
    for (message, expected) in [
        ("", Ignored::BadJson),
        ("[]", Ignored::BadJson),
        (r#"{"type":5}"#, Ignored::BadJson),
        ("{}", Ignored::UnknownEvent),
        (r#"{"type":"response.dance"}"#, Ignored::UnknownEvent),
        (r#"{"type":"response.output_audio.delta","item_id":"i"}"#, Ignored::MediaWithoutPayload),
        (r#"{"type":"response.audio.delta","item_id":"i","delta":[1]}"#, Ignored::MediaWithoutPayload),
        (r#"{"type":"response.audio.delta","item_id":"i","delta":"%"}"#, Ignored::BadBase64),
        (long.as_str(), Ignored::BadJson),
    ] {
        assert_eq!(peer.try_hear(message), Err(expected), "{message}");
    }
    let mut decoded = Decoded::default();
    assert_eq!(peer.codec.decode(Kind::Binary, b"{}", &mut decoded), Err(Ignored::BinaryFrame));
    // Audio without ids is played all the same.
    let bare = r#"{"type":"response.audio.delta","delta":"//8="}"#;
    assert_eq!(peer.hear(bare), [Incoming::Audio { len: 2, item: 0 }]);
}

/// What a server may say, in any order.
fn server_event() -> impl Strategy<Value = String> {
    let id = || (0..3u8).prop_map(|n| format!("x{n}"));
    prop_oneof![
        id().prop_map(|id| created(&id)),
        (id(), "completed|cancelled|failed|incomplete").prop_map(|(id, status)| done(&id, &status)),
        (id(), id(), proptest::collection::vec(any::<u8>(), 0..50))
            .prop_map(|(response, item, audio)| delta("response.audio.delta", &response, &item, &audio)),
        id().prop_map(|id| json!({"type":"response.audio.done","item_id":id}).to_string()),
        (id(), id()).prop_map(|(response, id)| json!({"type":"response.function_call_arguments.done",
            "response_id":response,"call_id":id,"name":"n","arguments":"{}"})
        .to_string()),
        Just(r#"{"type":"input_audio_buffer.speech_started"}"#.to_owned()),
        Just(r#"{"type":"session.updated","session":{}}"#.to_owned()),
        (0..40u8).prop_map(|n| json!({"type":"error","error":{
            "code":"conversation_already_has_active_response","event_id":format!("sidetone_{n}")}})
        .to_string()),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Hear(String),
    Interrupt(u32, u64),
    Text,
    Result(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => server_event().prop_map(Step::Hear),
        1 => (0..5u32, 0..10u64).prop_map(|(item, ms)| Step::Interrupt(item, ms)),
        1 => Just(Step::Text),
        1 => (0..3u8).prop_map(Step::Result),
    ]
}

proptest! {
    #[test]
    fn decode_never_panics(text in ".{0,300}") {
        let _ = Peer::ready(Dialect::OpenAi).try_hear(&text);
    }

    #[test]
    fn decode_never_panics_on_nearly_right_json(
        kind in "response\\.(created|done|output_item\\.done|audio\\.delta)|session\\.updated|error|warning",
        key in "response|session|item|error|warning|delta|item_id|content_index",
        value in r#"(null|-?[0-9]{1,20}|"[^"\\]{0,20}"|\{"id":"[a-z]{0,3}","status":"failed","type":"function_call"\}|\[\{\}\])"#,
    ) {
        let _ = Peer::ready(Dialect::VoiceLive).try_hear(&format!(r#"{{"type":"{kind}","{key}":{value}}}"#));
    }

    #[test]
    fn deltas_may_be_split_anywhere(
        audio in proptest::collection::vec(any::<u8>(), 1..400),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(audio.len())).collect();
        cuts.extend([0, audio.len()]);
        cuts.sort_unstable();
        let mut peer = Peer::ready(Dialect::OpenAi);
        peer.hear(&created("r"));
        for pair in cuts.windows(2) {
            let part = &audio[pair[0]..pair[1]];
            prop_assert_eq!(peer.delta("r", "i", part), Ok(vec![Incoming::Audio { len: part.len(), item: 1 }]));
        }
        prop_assert_eq!(&peer.audio, &audio);
    }

    /// Whatever happens: no delta of a response that we cancelled is heard until a new one has its id, nothing is
    /// truncated beyond what came, and no `response.create` follows another without an answer in between.
    #[test]
    fn any_order_keeps_the_rules(steps in proptest::collection::vec(step(), 0..60)) {
        let mut peer = Peer::ready(Dialect::OpenAi);
        let mut received = std::collections::BTreeMap::new();
        let mut calls = std::collections::BTreeSet::new();
        let (mut cancelled, mut active, mut pending) = (std::collections::BTreeSet::new(), None, false);
        for step in steps {
            let (sent, heard) = match &step {
                Step::Hear(message) => {
                    let result = peer.try_hear(message);
                    let json: Value = serde_json::from_str(message).expect("JSON");
                    if let Ok(events) = &result {
                        for event in events {
                            match event {
                                Incoming::Audio { len, item } => {
                                    let id = json["response_id"].as_str().expect("an id").to_owned();
                                    prop_assert!(!cancelled.contains(&id), "{id} was cancelled");
                                    *received.entry(*item).or_insert(0u64) += *len as u64;
                                }
                                Incoming::Tool(call) => prop_assert!(calls.insert(call.id.clone()), "told twice"),
                                _ => {}
                            }
                        }
                    }
                    (std::mem::take(&mut peer.replies), Some(json))
                }
                Step::Interrupt(item, ms) => {
                    cancelled.extend(active.clone());
                    (peer.say(Outgoing::Interrupted { items: &[played(*item, *ms, *ms + 1)] }), None)
                }
                Step::Text => (peer.text(true), None),
                Step::Result(n) => {
                    let result = ToolResult { id: format!("x{n}"), output: "{}".into(), ..ToolResult::default() };
                    (peer.say(Outgoing::ToolResult(&result)), None)
                }
            };
            if let Some(heard) = heard {
                let id = || heard["response"]["id"].as_str().expect("an id").to_owned();
                match heard["type"].as_str() {
                    Some("response.created") => {
                        pending = false;
                        active = Some(id());
                    }
                    Some("response.done") => {
                        cancelled.remove(&id());
                        active.take_if(|active| *active == id());
                    }
                    Some("error") => pending = false,
                    _ => {}
                }
            }
            for event in sent {
                match event["type"].as_str() {
                    Some("response.create") => {
                        prop_assert!(!pending && active.is_none(), "two responses");
                        pending = true;
                    }
                    Some("conversation.item.truncate") => {
                        let Step::Interrupt(item, _) = step else { panic!("only an interruption truncates") };
                        prop_assert!(event["audio_end_ms"].as_u64().expect("an integer") <= received[&item] / 8);
                    }
                    _ => {}
                }
            }
        }
    }
}
