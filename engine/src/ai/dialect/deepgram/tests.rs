use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ai::dialect::{Tool, ToolResult};
use crate::command::Digit;
use crate::time::Duration;

fn settings() -> AgentSettings {
    AgentSettings {
        instructions: Some("You answer phone calls.".into()),
        greeting: Some("Hello".into()),
        language: Some("en".into()),
        tools: vec![Tool {
            name: "transfer_call".into(),
            description: "Transfer".into(),
            parameters: json!({"type": "object", "properties": {"target": {"type": "string"}}}),
        }],
        ..AgentSettings::default()
    }
}

fn deepgram(settings: AgentSettings) -> Deepgram {
    Deepgram::new(&start(settings))
}

fn start(settings: AgentSettings) -> StreamStart {
    StreamStart { settings: Arc::new(settings), call_sid: "CA01".into(), ..StreamStart::default() }
}

fn read(codec: &mut Deepgram, message: &str) -> (Result<(), Ignored>, Vec<Incoming>, Vec<Value>) {
    let mut decoded = Decoded::default();
    let result = codec.decode(Kind::Text, message.as_bytes(), &mut decoded);
    let replies = decoded.replies.messages().map(|(kind, bytes)| {
        assert_eq!(kind, Kind::Text);
        serde_json::from_slice(bytes).expect("JSON")
    });
    let replies = replies.collect();
    (result, decoded.events, replies)
}

fn events(codec: &mut Deepgram, message: &str) -> Vec<Incoming> {
    let (result, events, replies) = read(codec, message);
    assert_eq!((result, replies), (Ok(()), vec![]), "{message}");
    events
}

fn ready() -> Deepgram {
    let mut codec = deepgram(settings());
    let _ = read(&mut codec, r#"{"type":"Welcome","request_id":"r1"}"#);
    assert_eq!(events(&mut codec, r#"{"type":"SettingsApplied"}"#), [Incoming::Ready]);
    codec
}

fn sent(codec: &mut Deepgram, event: Outgoing<'_>) -> Vec<Value> {
    let mut out = Outbox::default();
    codec.encode(event, &mut out);
    out.messages().filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok()).collect()
}

#[test]
fn welcome_is_answered_by_the_settings_and_nothing_is_sent_before() {
    let mut codec = deepgram(settings());
    let mut out = Outbox::default();
    codec.open(&mut out);
    codec.encode(Outgoing::Audio { timestamp: 0, audio: &[0xff; 160] }, &mut out);
    assert!(out.is_empty());
    let (_, events, replies) = read(&mut codec, r#"{"type":"Welcome","request_id":"r1"}"#);
    assert_eq!(events, []);
    assert_eq!(
        replies,
        [json!({"type":"Settings","tags":["CA01"],"audio":{
            "input":{"encoding":"mulaw","sample_rate":8000},
            "output":{"encoding":"mulaw","sample_rate":8000,"container":"none"}},
            "agent":{"listen":{"provider":{"type":"deepgram","model":"nova-3","language":"en"}},
            "think":{"provider":{"type":"open_ai","model":"gpt-4o-mini"},"prompt":"You answer phone calls.",
            "functions":[{"name":"transfer_call","description":"Transfer",
                "parameters":{"type":"object","properties":{"target":{"type":"string"}}}}]},
            "speak":{"provider":{"type":"deepgram","model":"aura-2-thalia-en"}},"greeting":"Hello"}})]
    );
    codec.encode(Outgoing::Audio { timestamp: 0, audio: &[0xff; 160] }, &mut out);
    assert!(out.is_empty(), "audio waits for SettingsApplied");
    // Said twice, it is answered once.
    assert_eq!(read(&mut codec, r#"{"type":"Welcome"}"#), (Ok(()), vec![], vec![]));
    assert_eq!(read(&mut codec, r#"{"type":"SettingsApplied"}"#).1, [Incoming::Ready]);
    assert_eq!(read(&mut codec, r#"{"type":"SettingsApplied"}"#).1, []);
    codec.encode(Outgoing::Audio { timestamp: 0, audio: &[0xff; 160] }, &mut out);
    assert_eq!(out.messages().collect::<Vec<_>>(), [(Kind::Binary, &[0xff; 160][..])]);
}

#[test]
fn the_credential_is_a_token() {
    assert_eq!(Deepgram::handshake().credential, Some(("Authorization", "Token")));
}

#[test]
fn the_operators_keys_win_and_the_formats_follow() {
    let session = json!({"mip_opt_out": true, "tags": null, "audio": {"input": {"encoding": "linear16", "sample_rate": 16000},
        "output": {"encoding": "alaw"}}, "agent": {"listen": {"provider": {"model": "flux"}}}});
    let Value::Object(session) = session else { panic!() };
    let mut codec = deepgram(AgentSettings {
        session,
        model: Some("anthropic/claude".into()),
        voice: Some("aura-2-luna-en".into()),
        ..settings()
    });
    assert_eq!(codec.formats(), Formats { caller: AudioFormat::l16(16_000), bot: AudioFormat::PCMA });
    let (_, _, replies) = read(&mut codec, r#"{"type":"Welcome"}"#);
    assert_eq!(replies[0]["mip_opt_out"], true);
    assert_eq!(replies[0].get("tags"), None);
    assert_eq!(
        replies[0]["audio"]["output"],
        json!({"encoding":"alaw","sample_rate":8000,"container":"none"})
    );
    assert_eq!(replies[0]["agent"]["listen"]["provider"]["model"], "flux");
    assert_eq!(replies[0]["agent"]["think"]["provider"], json!({"type":"anthropic","model":"claude"}));
    assert_eq!(replies[0]["agent"]["speak"]["provider"]["model"], "aura-2-luna-en");
}

#[test]
fn the_line_is_passed_through_unless_other_formats_are_wanted() {
    let codec = Deepgram::new(&StreamStart { line: AudioFormat::PCMA, ..start(settings()) });
    assert_eq!(codec.formats(), Formats { caller: AudioFormat::PCMA, bot: AudioFormat::PCMA });
    let formats = Formats { caller: AudioFormat::l16(16_000), bot: AudioFormat::l16(24_000) };
    assert_eq!(deepgram(AgentSettings { formats: Some(formats), ..settings() }).formats(), formats);
}

#[test]
fn formats_that_cannot_be_converted_are_refused() {
    for audio in [
        json!({"output": {"encoding": "mp3"}}),
        json!({"input": {"sample_rate": 22050}}),
        json!({"input": {"sample_rate": "8000"}}),
        json!({"input": {"sample_rate": 0}}),
        json!({"input": {"encoding": "mulaw", "sample_rate": 16000}}),
    ] {
        let session = [("audio".to_owned(), audio.clone())].into_iter().collect();
        let mut codec = deepgram(AgentSettings { session, ..settings() });
        let (_, events, _) = read(&mut codec, r#"{"type":"Welcome"}"#);
        let refused = matches!(&events[..], [Incoming::Error { fatal: true, code, .. }] if code == "unsupported_format");
        assert!(refused, "{audio}: {events:?}");
    }
}

#[test]
fn a_stored_agent_is_named_by_its_id() {
    let mut codec = deepgram(AgentSettings { agent_id: Some("a1".into()), ..settings() });
    assert_eq!(read(&mut codec, r#"{"type":"Welcome"}"#).2[0]["agent"], "a1");
}

#[test]
fn a_conversation_that_goes_on_is_told_and_not_greeted() {
    let history = vec![
        (Sender::Bot, "Hello".to_owned()),
        (Sender::Caller, "Hi".to_owned()),
        (Sender::System, "a note".to_owned()),
    ];
    let mut codec = Deepgram::new(&StreamStart { history, ..start(settings()) });
    let settings = read(&mut codec, r#"{"type":"Welcome"}"#).2.remove(0);
    assert_eq!(settings["agent"].get("greeting"), None);
    assert_eq!(
        settings["agent"]["context"],
        json!({"messages":[{"type":"History","role":"assistant","content":"Hello"},
            {"type":"History","role":"user","content":"Hi"}]})
    );
}

#[test]
fn messages_of_the_vendor_are_understood() {
    let transcript = |from, text: &str| Incoming::Transcript { from, text: text.into(), complete: true };
    for (message, expected) in [
        (
            r#"{"type":"UserStartedSpeaking"}"#,
            vec![Incoming::CallerSpeech { speaking: true }, Incoming::Clear],
        ),
        (
            r#"{"type":"ConversationText","role":"user","content":"Hi"}"#,
            vec![transcript(Sender::Caller, "Hi")],
        ),
        (
            r#"{"type":"ConversationText","role":"assistant","content":"Hello","behavior":"default"}"#,
            vec![transcript(Sender::Bot, "Hello")],
        ),
        (r#"{"type":"AgentThinking","content":"…"}"#, vec![]),
        (
            r#"{"type":"AgentStartedSpeaking","total_latency":0.9,"tts_latency":0.2,"ttt_latency":0.5}"#,
            vec![],
        ),
        (r#"{"type":"AgentAudioDone"}"#, vec![Incoming::AudioEnd]),
        (
            r#"{"type":"FunctionCallRequest","functions":[
                {"id":"f1","name":"transfer_call","arguments":"{\"target\":\"sales\"}","client_side":true},
                {"id":"f2","name":"theirs","arguments":"{}","client_side":false}]}"#,
            vec![Incoming::Tool(ToolCall {
                id: "f1".into(),
                name: "transfer_call".into(),
                arguments: r#"{"target":"sales"}"#.into(),
            })],
        ),
        (
            r#"{"type":"FunctionCallCancelled","functions":[{"id":"f1","name":"transfer_call"}]}"#,
            vec![Incoming::ToolCancelled(vec!["f1".into()])],
        ),
        (
            r#"{"type":"Warning","description":"slow","code":"W1"}"#,
            vec![Incoming::Error { fatal: false, code: "W1".into(), text: "slow".into() }],
        ),
        (
            r#"{"type":"Error","description":"bad","code":"E1"}"#,
            vec![Incoming::Error { fatal: true, code: "E1".into(), text: "bad".into() }],
        ),
        (
            r#"{"type":"InjectionRefused","message":"busy"}"#,
            vec![Incoming::Error { fatal: false, code: "InjectionRefused".into(), text: "busy".into() }],
        ),
        (r#"{"type":"History","role":"user","content":"Hi"}"#, vec![]),
    ] {
        assert_eq!(events(&mut ready(), message), expected, "{message}");
    }
}

#[test]
fn every_notice_that_the_caller_speaks_drops_what_is_queued() {
    let mut codec = ready();
    assert_eq!(
        events(&mut codec, r#"{"type":"UserStartedSpeaking"}"#),
        [Incoming::CallerSpeech { speaking: true }, Incoming::Clear]
    );
    assert_eq!(events(&mut codec, r#"{"type":"UserStartedSpeaking"}"#), [Incoming::Clear]);
    assert_eq!(
        events(&mut codec, r#"{"type":"ConversationText","role":"user","content":"Hi"}"#)[0],
        Incoming::CallerSpeech { speaking: false }
    );
}

#[test]
fn binary_messages_are_audio() {
    let mut decoded = Decoded::default();
    ready().decode(Kind::Binary, &[1, 2, 3], &mut decoded).expect("audio");
    assert_eq!((decoded.events, decoded.audio), (vec![Incoming::Audio { len: 3, item: 0 }], vec![1, 2, 3]));
    assert_eq!(ready().decode(Kind::Binary, &[], &mut Decoded::default()), Err(Ignored::MediaWithoutPayload));
}

#[test]
fn what_we_say_has_the_documented_shape() {
    let text = |from, respond| Outgoing::Text { from, text: "t", respond };
    let result = ToolResult {
        id: "f1".into(),
        name: "transfer_call".into(),
        output: r#"{"ok":true}"#.into(),
        is_error: false,
    };
    for (event, expected) in [
        (text(Sender::Caller, true), json!({"type":"InjectUserMessage","content":"t"})),
        (text(Sender::System, true), json!({"type":"InjectUserMessage","content":"t"})),
        (text(Sender::Bot, true), json!({"type":"InjectAgentMessage","message":"t","behavior":"queue"})),
        (text(Sender::System, false), json!({"type":"UpdatePrompt","prompt":"t"})),
        (
            Outgoing::ToolResult(&result),
            json!({"type":"FunctionCallResponse","id":"f1","name":"transfer_call","content":"{\"ok\":true}"}),
        ),
    ] {
        assert_eq!(sent(&mut ready(), event), [expected]);
    }
    for event in [Outgoing::Interrupted { items: &[] }, Outgoing::Cleared, Outgoing::Drained, Outgoing::Stop]
    {
        assert_eq!(sent(&mut ready(), event), [] as [Value; 0]);
    }
}

#[test]
fn keys_reach_the_model_as_text() {
    let mut codec = ready();
    for key in ['5', '#'] {
        let digit = Digit::from_char(key).expect("a key");
        let said = sent(&mut codec, Outgoing::Digit { digit, duration: Duration::ZERO });
        let expected = json!({"type":"InjectUserMessage","content":"The caller pressed 5#."});
        assert_eq!(said, if key == '#' { vec![expected] } else { vec![] });
    }
}

#[test]
fn faults_are_told_apart() {
    for (message, expected) in [
        ("", Ignored::BadJson),
        (r#"["Welcome"]"#, Ignored::BadJson),
        ("{}", Ignored::UnknownEvent),
        (r#"{"type":5}"#, Ignored::UnknownEvent),
        (r#"{"type":"Dance"}"#, Ignored::UnknownEvent),
    ] {
        assert_eq!(read(&mut ready(), message).0, Err(expected), "{message}");
    }
}

proptest! {
    #[test]
    fn decode_never_panics(text in ".{0,300}") {
        let _ = read(&mut ready(), &text);
    }

    #[test]
    fn decode_never_panics_on_nearly_right_json(
        name in "Welcome|SettingsApplied|ConversationText|FunctionCallRequest|FunctionCallCancelled|Error|.{0,5}",
        key in "role|content|functions|code|description",
        value in r#"(null|[0-9]{1,20}|"[^"\\]{0,20}"|\[\{"id":[0-9]{1,3}\}\]|\[[0-9]?\]|\{"functions":\[\]\})"#,
    ) {
        let _ = read(&mut ready(), &format!(r#"{{"type":"{name}","{key}":{value}}}"#));
    }

    #[test]
    fn audio_passes_unchanged(audio in proptest::collection::vec(any::<u8>(), 1..1000)) {
        let mut out = Outbox::default();
        ready().encode(Outgoing::Audio { timestamp: 0, audio: &audio }, &mut out);
        let mut decoded = Decoded::default();
        let (kind, message) = out.messages().next().expect("a message");
        ready().decode(kind, message, &mut decoded).expect("audio");
        prop_assert_eq!(decoded.audio, audio);
    }
}
