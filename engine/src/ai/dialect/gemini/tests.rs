use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ai::dialect::{Tool, ToolResult};
use crate::command::Digit;

fn start(settings: AgentSettings) -> StreamStart {
    StreamStart { settings: Arc::new(settings), ..StreamStart::default() }
}

fn opening(codec: &mut Gemini) -> Value {
    let mut out = Outbox::default();
    codec.open(&mut out);
    assert_eq!(out.take_events(), [], "not ready before setupComplete");
    let messages: Vec<_> = out.messages().collect();
    assert_eq!((messages.len(), messages[0].0), (1, Kind::Text));
    serde_json::from_slice(messages[0].1).expect("JSON")
}

fn read(codec: &mut Gemini, message: &str) -> (Result<(), Ignored>, Vec<Incoming>, Vec<Value>, Vec<u8>) {
    let mut decoded = Decoded::default();
    // As the service does it.
    let result = codec.decode(Kind::Binary, message.as_bytes(), &mut decoded);
    let replies = decoded.replies.messages().map(|(_, bytes)| serde_json::from_slice(bytes).expect("JSON"));
    let replies = replies.collect();
    (result, decoded.events, replies, decoded.audio)
}

fn ready_with(start: StreamStart) -> (Gemini, Vec<Value>) {
    let mut codec = Gemini::new(start);
    opening(&mut codec);
    let (result, events, replies, _) = read(&mut codec, r#"{"setupComplete":{}}"#);
    assert_eq!((result, events), (Ok(()), vec![Incoming::Ready]));
    (codec, replies)
}

fn ready() -> Gemini {
    ready_with(StreamStart::default()).0
}

fn sent(codec: &mut Gemini, event: Outgoing<'_>) -> Vec<Value> {
    let mut out = Outbox::default();
    codec.encode(event, &mut out);
    out.messages().map(|(_, bytes)| serde_json::from_slice(bytes).expect("JSON")).collect()
}

fn tool() -> Tool {
    Tool {
        name: "transfer_call".into(),
        description: "Transfer".into(),
        parameters: json!({"type": "object", "properties": {"target": {"type": "string"}}}),
    }
}

#[test]
fn setup_has_the_documented_shape() {
    let Value::Object(session) = json!({"contextWindowCompression": null, "realtimeInputConfig": {
        "automaticActivityDetection": {"silenceDurationMs": 500}}, "generationConfig": {"temperature": 0.5}})
    else {
        panic!()
    };
    let settings = AgentSettings {
        model: Some("gemini-live".into()),
        voice: Some("Puck".into()),
        language: Some("de-DE".into()),
        instructions: Some("You answer phone calls.".into()),
        tools: vec![tool()],
        session,
        ..AgentSettings::default()
    };
    assert_eq!(
        opening(&mut Gemini::new(start(settings))),
        json!({"setup":{"model":"models/gemini-live","generationConfig":{"responseModalities":["AUDIO"],"temperature":0.5,
            "speechConfig":{"voiceConfig":{"prebuiltVoiceConfig":{"voiceName":"Puck"}},"languageCode":"de-DE"}},
            "systemInstruction":{"parts":[{"text":"You answer phone calls."}]},
            "tools":[{"functionDeclarations":[{"name":"transfer_call","description":"Transfer",
                "parametersJsonSchema":{"type":"object","properties":{"target":{"type":"string"}}}}]}],
            "realtimeInputConfig":{"automaticActivityDetection":{"silenceDurationMs":500}},
            "sessionResumption":{},"inputAudioTranscription":{},"outputAudioTranscription":{}}})
    );
}

#[test]
fn the_key_has_its_own_header_and_vertex_takes_a_bearer() {
    let with = |model: &str| {
        Gemini::handshake(&AgentSettings { model: Some(model.into()), ..AgentSettings::default() }).credential
    };
    assert_eq!(with("gemini-live"), Some(("x-goog-api-key", "")));
    assert_eq!(with("projects/p/locations/l/publishers/google/models/gemini-live"), None);
}

#[test]
fn nothing_is_sent_before_the_setup_is_complete() {
    let mut codec = Gemini::new(StreamStart::default());
    opening(&mut codec);
    assert_eq!(sent(&mut codec, Outgoing::Audio { timestamp: 0, audio: &[0; 640] }), [] as [Value; 0]);
}

#[test]
fn what_we_say_has_the_documented_shape() {
    let result = |output: &str, is_error| ToolResult {
        id: "f1".into(),
        name: "transfer_call".into(),
        output: output.into(),
        is_error,
    };
    let response = |response: Value| json!({"toolResponse":{"functionResponses":[{"id":"f1","name":"transfer_call","response":response}]}});
    let (object, words, failed) =
        (result(r#"{"ok":true}"#, false), result(r#""ok""#, false), result("no such target", true));
    let text = |from, respond| Outgoing::Text { from, text: "t", respond };
    for (event, expected) in [
        (
            Outgoing::Audio { timestamp: 0, audio: &[0; 3] },
            json!({"realtimeInput":{"audio":{"data":"AAAA","mimeType":"audio/pcm;rate=16000"}}}),
        ),
        (text(Sender::Caller, true), json!({"realtimeInput":{"text":"t"}})),
        (
            text(Sender::Bot, false),
            json!({"clientContent":{"turns":[{"role":"model","parts":[{"text":"t"}]}],"turnComplete":false}}),
        ),
        (Outgoing::ToolResult(&object), response(json!({"ok":true}))),
        (Outgoing::ToolResult(&words), response(json!({"output":"ok"}))),
        (Outgoing::ToolResult(&failed), response(json!({"error":"no such target"}))),
        (
            Outgoing::Digit { digit: Digit::from_char('#').expect("a key"), duration: Duration::ZERO },
            json!({"realtimeInput":{"text":"The caller pressed #."}}),
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
fn messages_of_the_vendor_are_understood() {
    let transcript = |from, text: &str, complete| Incoming::Transcript { from, text: text.into(), complete };
    for (message, expected) in [
        (
            r#"{"serverContent":{"modelTurn":{"parts":[{"inlineData":{"mimeType":"audio/pcm;rate=24000","data":"AAAA"}}]}}}"#,
            vec![Incoming::Audio { len: 3, item: 0 }],
        ),
        (
            r#"{"serverContent":{"inputTranscription":{"text":"Hi"}}}"#,
            vec![transcript(Sender::Caller, "Hi", false)],
        ),
        (
            r#"{"serverContent":{"interrupted":true}}"#,
            vec![Incoming::CallerSpeech { speaking: true }, Incoming::Clear],
        ),
        (r#"{"serverContent":{"generationComplete":true}}"#, vec![Incoming::AudioEnd]),
        (
            r#"{"serverContent":{"turnComplete":true},"usageMetadata":{"totalTokenCount":100}}"#,
            vec![Incoming::AudioEnd],
        ),
        (
            r#"{"toolCall":{"functionCalls":[{"id":"f1","name":"transfer_call","args":{"target":"sales"}}]}}"#,
            vec![Incoming::Tool(ToolCall {
                id: "f1".into(),
                name: "transfer_call".into(),
                arguments: r#"{"target":"sales"}"#.into(),
            })],
        ),
        (r#"{"toolCallCancellation":{"ids":["f1"]}}"#, vec![Incoming::ToolCancelled(vec!["f1".into()])]),
        (
            r#"{"sessionResumptionUpdate":{"newHandle":"h1","resumable":true}}"#,
            vec![Incoming::Resumption { handle: "h1".into() }],
        ),
        (r#"{"sessionResumptionUpdate":{"newHandle":"h1","resumable":false}}"#, vec![]),
        (r#"{"sessionResumptionUpdate":{"newHandle":"","resumable":true}}"#, vec![]),
        (r#"{"goAway":{"timeLeft":"50s"}}"#, vec![Incoming::Expires { within: Duration::from_secs(50) }]),
        (
            r#"{"goAway":{"timeLeft":"9.5s"}}"#,
            vec![Incoming::Expires { within: Duration::from_millis(9_500) }],
        ),
        (r#"{"goAway":{}}"#, vec![Incoming::Expires { within: Duration::ZERO }]),
        (
            r#"{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}"#,
            vec![Incoming::Error { fatal: true, code: "INVALID_ARGUMENT".into(), text: "no".into() }],
        ),
    ] {
        let (result, events, replies, _) = read(&mut ready(), message);
        assert_eq!((result, events, replies), (Ok(()), expected, vec![]), "{message}");
        let mut decoded = Decoded::default();
        assert_eq!(ready().decode(Kind::Text, message.as_bytes(), &mut decoded), Ok(()), "{message}");
    }
}

#[test]
fn one_message_may_say_several_things() {
    let message = r#"{"serverContent":{"interrupted":true,"turnComplete":true,"modelTurn":{"parts":[
        {"text":"thought"},{"inlineData":{"mimeType":"audio/pcm;rate=24000","data":"AAAA"}},
        {"inlineData":{"data":"AQID"}}]}},"goAway":{"timeLeft":"1s"},
        "sessionResumptionUpdate":{"newHandle":"h2","resumable":true}}"#;
    let (result, events, _, audio) = read(&mut ready(), message);
    assert_eq!(result, Ok(()));
    assert_eq!(
        events,
        [
            Incoming::Resumption { handle: "h2".into() },
            Incoming::CallerSpeech { speaking: true },
            Incoming::Clear,
            Incoming::CallerSpeech { speaking: false },
            Incoming::Audio { len: 3, item: 0 },
            Incoming::Audio { len: 3, item: 0 },
            Incoming::AudioEnd,
            Incoming::Expires { within: Duration::from_secs(1) },
        ]
    );
    assert_eq!(audio, [0, 0, 0, 1, 2, 3]);
}

#[test]
fn the_output_rate_is_read_from_the_mime_type() {
    let message = |mime_type: &str| {
        format!(
            r#"{{"serverContent":{{"modelTurn":{{"parts":[{{"inlineData":{{"mimeType":"{mime_type}","data":"AAAA"}}}}]}}}}}}"#
        )
    };
    let mut codec = ready();
    assert_eq!(codec.formats().bot, AudioFormat::l16(24_000));
    let events = read(&mut codec, &message("audio/pcm;rate=16000")).1;
    let format = AudioFormat::l16(16_000);
    assert_eq!(events, [Incoming::BotFormat(format), Incoming::Audio { len: 3, item: 0 }]);
    assert_eq!(codec.formats().bot, format);
    assert_eq!(read(&mut codec, &message("audio/pcm; rate=16000")).1, [Incoming::Audio { len: 3, item: 0 }]);
    for refused in ["audio/pcm;rate=22050", "audio/mpeg", "audio/pcm;rate=x", ""] {
        let events = read(&mut codec, &message(refused)).1;
        assert!(matches!(&events[..], [Incoming::Error { fatal: true, .. }]), "{refused}: {events:?}");
    }
}

#[test]
fn transcripts_are_put_together() {
    let mut codec = ready();
    let mut events = Vec::new();
    for message in [
        r#"{"serverContent":{"inputTranscription":{"text":"I want"}}}"#,
        r#"{"serverContent":{"inputTranscription":{"text":" sales."}}}"#,
        r#"{"serverContent":{"modelTurn":{"parts":[{"inlineData":{"data":"AAAA"}}]}}}"#,
        r#"{"serverContent":{"outputTranscription":{"text":"One"}}}"#,
        r#"{"serverContent":{"outputTranscription":{"text":" moment."}}}"#,
        r#"{"serverContent":{"turnComplete":true}}"#,
    ] {
        events.extend(read(&mut codec, message).1);
    }
    let complete: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Incoming::Transcript { from, text, complete: true } => Some((*from, text.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(complete, [(Sender::Caller, "I want sales."), (Sender::Bot, "One moment.")]);
}

#[test]
fn an_endless_transcript_is_bounded() {
    let mut codec = ready();
    let message =
        json!({"serverContent": {"outputTranscription": {"text": "word ".repeat(1_000)}}}).to_string();
    for _ in 0..100 {
        let _ = read(&mut codec, &message);
        assert!(codec.said.len() <= MAX_TRANSCRIPT_BYTES);
    }
}

#[test]
fn a_new_session_goes_on_with_the_handle() {
    let start = StreamStart {
        resume: Some("h1".into()),
        history: vec![(Sender::Caller, "Hi".into())],
        ..start(AgentSettings { greeting: Some("Hello".into()), ..AgentSettings::default() })
    };
    assert_eq!(
        opening(&mut Gemini::new(start.clone()))["setup"]["sessionResumption"],
        json!({"handle":"h1"})
    );
    assert_eq!(ready_with(start).1, [] as [Value; 0], "the session knows it all");
}

#[test]
fn without_a_handle_the_history_is_told_and_nobody_greeted() {
    let start = StreamStart {
        history: vec![(Sender::Caller, "Hi".into()), (Sender::Bot, "Hello".into())],
        ..start(AgentSettings { greeting: Some("Hello".into()), ..AgentSettings::default() })
    };
    let expected = |complete: bool| {
        json!({"clientContent":{"turns":[{"role":"user","parts":[{"text":"Hi"}]},
            {"role":"model","parts":[{"text":"Hello"}]}],"turnComplete":complete}})
    };
    assert_eq!(ready_with(start.clone()).1, [expected(false)]);
    let Value::Object(session) = json!({"historyConfig": {"initialHistoryInClientContent": true}}) else {
        panic!()
    };
    let settings = Arc::new(AgentSettings { session, ..AgentSettings::default() });
    assert_eq!(ready_with(StreamStart { settings, ..start }).1, [expected(true)]);
}

#[test]
fn the_greeting_is_asked_for() {
    let settings = AgentSettings { greeting: Some("Hello".into()), ..AgentSettings::default() };
    let replies = ready_with(start(settings)).1;
    assert_eq!(replies, [json!({"realtimeInput":{"text":"Greet the caller with these words: Hello"}})]);
}

#[test]
fn the_caller_is_heard_at_the_wanted_rate_and_never_in_g711() {
    let formats = |caller| Some(Formats { caller, bot: AudioFormat::PCMU });
    for (caller, expected) in [(AudioFormat::l16(8_000), 8_000), (AudioFormat::PCMU, 16_000)] {
        let settings = AgentSettings { formats: formats(caller), ..AgentSettings::default() };
        let codec = Gemini::new(start(settings));
        let expected = Formats { caller: AudioFormat::l16(expected), bot: AudioFormat::l16(24_000) };
        assert_eq!(codec.formats(), expected);
    }
}

#[test]
fn faults_are_told_apart() {
    for (message, expected) in [
        ("", Ignored::BadJson),
        ("[]", Ignored::BadJson),
        ("{}", Ignored::UnknownEvent),
        (r#"{"dance":{}}"#, Ignored::UnknownEvent),
        (r#"{"serverContent":5}"#, Ignored::BadJson),
        (r#"{"serverContent":{"modelTurn":{"parts":[{"inlineData":{}}]}}}"#, Ignored::MediaWithoutPayload),
        (r#"{"serverContent":{"modelTurn":{"parts":[{"inlineData":{"data":"%%%%"}}]}}}"#, Ignored::BadBase64),
    ] {
        assert_eq!(read(&mut ready(), message).0, Err(expected), "{message}");
    }
}

proptest! {
    #[test]
    fn decode_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,300}") {
        let _ = ready().decode(Kind::Binary, &bytes, &mut Decoded::default());
        let _ = read(&mut ready(), &text);
    }

    #[test]
    fn decode_never_panics_on_nearly_right_json(
        key in "setupComplete|serverContent|toolCall|toolCallCancellation|goAway|sessionResumptionUpdate|error",
        inner in "modelTurn|interrupted|functionCalls|ids|timeLeft|newHandle|inputTranscription",
        value in r#"(null|true|[0-9]{1,20}|"-?[0-9.e]{0,8}s"|\[\{"id":[0-9]\}\]|\{"parts":\[\{\}\]\}|\{"text":"é"\})"#,
    ) {
        let _ = read(&mut ready(), &format!(r#"{{"{key}":{{"{inner}":{value}}}}}"#));
    }

    #[test]
    fn audio_round_trips(audio in proptest::collection::vec(any::<u8>(), 1..1000)) {
        let sent = sent(&mut ready(), Outgoing::Audio { timestamp: 0, audio: &audio });
        let data = &sent[0]["realtimeInput"]["audio"]["data"];
        let message = json!({"serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": data}}]}}});
        prop_assert_eq!(read(&mut ready(), &message.to_string()).3, audio);
    }
}
