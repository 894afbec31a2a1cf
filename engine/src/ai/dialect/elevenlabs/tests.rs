use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ai::dialect::ToolResult;
use crate::command::Digit;
use crate::time::Duration;

const METADATA: &str = r#"{"type":"conversation_initiation_metadata","conversation_initiation_metadata_event":{
    "conversation_id":"c1","agent_output_audio_format":"ulaw_8000","user_input_audio_format":"ulaw_8000"}}"#;

fn codec(settings: AgentSettings) -> ElevenLabs {
    ElevenLabs::new(StreamStart {
        settings: Arc::new(settings),
        from: "+4930123".into(),
        ..StreamStart::default()
    })
}

fn read(codec: &mut ElevenLabs, message: &str) -> (Result<(), Ignored>, Vec<Incoming>, Vec<Value>, Vec<u8>) {
    let mut decoded = Decoded::default();
    let result = codec.decode(Kind::Text, message.as_bytes(), &mut decoded);
    let replies = decoded.replies.messages().map(|(_, bytes)| serde_json::from_slice(bytes).expect("JSON"));
    let replies = replies.collect();
    (result, decoded.events, replies, decoded.audio)
}

fn ready() -> ElevenLabs {
    let mut codec = codec(AgentSettings::default());
    assert_eq!(read(&mut codec, METADATA).1, [Incoming::Ready]);
    codec
}

fn sent(codec: &mut ElevenLabs, event: Outgoing<'_>) -> Vec<Value> {
    let mut out = Outbox::default();
    codec.encode(event, &mut out);
    out.messages().map(|(_, bytes)| serde_json::from_slice(bytes).expect("JSON")).collect()
}

fn opening(codec: &mut ElevenLabs) -> Value {
    let mut out = Outbox::default();
    codec.open(&mut out);
    assert_eq!(out.take_events(), [], "not ready before the metadata");
    let messages: Vec<_> = out.messages().collect();
    assert_eq!(messages.len(), 1);
    serde_json::from_slice(messages[0].1).expect("JSON")
}

#[test]
fn the_conversation_is_opened_with_what_is_configured_and_no_more() {
    assert_eq!(
        opening(&mut codec(AgentSettings::default())),
        json!({"type":"conversation_initiation_client_data","conversation_config_override":{},
            "dynamic_variables":{"from":"+4930123"}})
    );
    let Value::Object(session) =
        json!({"user_id": "u1", "dynamic_variables": {"from": null}, "custom_llm_extra_body": {}})
    else {
        panic!()
    };
    let settings = AgentSettings {
        greeting: Some("Hello".into()),
        language: Some("en".into()),
        instructions: Some("Be brief.".into()),
        model: Some("gpt-4o-mini".into()),
        voice: Some("v1".into()),
        session,
        ..AgentSettings::default()
    };
    assert_eq!(
        opening(&mut codec(settings)),
        json!({"type":"conversation_initiation_client_data","conversation_config_override":{
            "agent":{"first_message":"Hello","language":"en","prompt":{"prompt":"Be brief.","llm":"gpt-4o-mini"}},
            "tts":{"voice_id":"v1"}},"custom_llm_extra_body":{},"dynamic_variables":{},"user_id":"u1"})
    );
}

#[test]
fn the_agent_is_in_the_query_and_the_key_in_its_own_header() {
    let handshake =
        ElevenLabs::handshake(&AgentSettings { agent_id: Some("a1".into()), ..AgentSettings::default() });
    assert_eq!(handshake.query, [("agent_id", "a1".to_owned())]);
    assert_eq!(handshake.credential, Some(("xi-api-key", "")));
}

#[test]
fn announced_formats_are_obeyed() {
    for (input, output, expected) in [
        ("ulaw_8000", "ulaw_8000", Formats { caller: AudioFormat::PCMU, bot: AudioFormat::PCMU }),
        (
            "pcm_16000",
            "pcm_24000",
            Formats { caller: AudioFormat::l16(16_000), bot: AudioFormat::l16(24_000) },
        ),
        ("pcm_8000", "pcm_44100", Formats { caller: AudioFormat::l16(8_000), bot: AudioFormat::l16(44_100) }),
        ("pcm_48000", "ulaw_8000", Formats { caller: AudioFormat::l16(48_000), bot: AudioFormat::PCMU }),
    ] {
        let mut codec = codec(AgentSettings::default());
        assert_eq!(sent(&mut codec, Outgoing::Audio { timestamp: 0, audio: &[0; 320] }), [] as [Value; 0]);
        let metadata = METADATA
            .replace(
                r#"user_input_audio_format":"ulaw_8000"#,
                &format!(r#"user_input_audio_format":"{input}"#),
            )
            .replace(
                r#"agent_output_audio_format":"ulaw_8000"#,
                &format!(r#"agent_output_audio_format":"{output}"#),
            );
        assert_eq!(read(&mut codec, &metadata).1, [Incoming::Ready]);
        assert_eq!(codec.formats(), expected);
    }
}

#[test]
fn formats_that_cannot_be_converted_are_refused() {
    for name in ["pcm_22050", "opus_48000", "pcm", "pcm_0", "mp3_44100_128"] {
        let mut codec = codec(AgentSettings::default());
        let metadata = METADATA.replace(
            r#"agent_output_audio_format":"ulaw_8000"#,
            &format!(r#"agent_output_audio_format":"{name}"#),
        );
        let events = read(&mut codec, &metadata).1;
        let refused = matches!(&events[0], Incoming::Error { fatal: true, code, text }
            if code == "unsupported_format" && text.contains(name) && text.contains("ulaw_8000"));
        assert!(refused, "{events:?}");
    }
}

#[test]
fn pings_are_answered_at_once() {
    let (result, events, replies, _) =
        read(&mut ready(), r#"{"type":"ping","ping_event":{"event_id":3,"ping_ms":40}}"#);
    assert_eq!((result, events), (Ok(()), vec![]));
    assert_eq!(replies, [json!({"type":"pong","event_id":3})]);
}

#[test]
fn audio_of_an_interrupted_event_is_stale_however_late_it_comes() {
    let audio = |id: i64| format!(r#"{{"audio_event":{{"audio_base_64":"//////8=","event_id":{id}}}}}"#);
    let mut codec = ready();
    let heard = (Ok(()), vec![Incoming::Audio { len: 5, item: 0 }], vec![], vec![0xff; 5]);
    assert_eq!(read(&mut codec, &audio(7)), heard);
    let interruption = read(&mut codec, r#"{"type":"interruption","interruption_event":{"event_id":7}}"#);
    assert_eq!(interruption.1, [Incoming::CallerSpeech { speaking: true }, Incoming::Clear]);
    for id in [5, 6, 7] {
        assert_eq!(read(&mut codec, &audio(id)), (Err(Ignored::Stale), vec![], vec![], vec![]));
    }
    let next = read(&mut codec, &audio(8));
    assert_eq!(next.1, [Incoming::CallerSpeech { speaking: false }, Incoming::Audio { len: 5, item: 0 }]);
    // An older interruption does not bring back what a newer one dropped.
    let _ = read(&mut codec, r#"{"type":"interruption","interruption_event":{"event_id":9}}"#);
    let _ = read(&mut codec, r#"{"type":"interruption","interruption_event":{"event_id":4}}"#);
    assert_eq!(read(&mut codec, &audio(9)).0, Err(Ignored::Stale));
    assert_eq!(read(&mut codec, &audio(10)).0, Ok(()));
}

#[test]
fn audio_is_understood_with_a_type_and_without() {
    let typed = r#"{"type":"audio","audio_event":{"audio_base_64":"//////8=","event_id":1,"is_final":true,"alignment":{}}}"#;
    assert_eq!(read(&mut ready(), typed).1, [Incoming::Audio { len: 5, item: 0 }, Incoming::AudioEnd]);
    let early = read(&mut codec(AgentSettings::default()), typed);
    assert_eq!(early.0, Err(Ignored::Stale));
}

#[test]
fn messages_of_the_vendor_are_understood() {
    let transcript = |from, text: &str, complete| Incoming::Transcript { from, text: text.into(), complete };
    for (message, expected) in [
        (
            r#"{"type":"user_transcript","user_transcription_event":{"user_transcript":"Hi"}}"#,
            vec![transcript(Sender::Caller, "Hi", true)],
        ),
        (
            r#"{"type":"agent_response","agent_response_event":{"agent_response":"Hello"}}"#,
            vec![transcript(Sender::Bot, "Hello", true)],
        ),
        (
            r#"{"type":"agent_response_complete","agent_response_complete_event":{"event_id":9}}"#,
            vec![Incoming::AudioEnd],
        ),
        (
            r#"{"type":"client_tool_call","client_tool_call":{"tool_name":"transfer","tool_call_id":"t1","parameters":{"target":"sales"}}}"#,
            vec![Incoming::Tool(ToolCall {
                id: "t1".into(),
                name: "transfer".into(),
                arguments: r#"{"target":"sales"}"#.into(),
            })],
        ),
        (
            r#"{"type":"dtmf_request","dtmf_request":{"dtmf_tones":"12#"}}"#,
            vec![Incoming::SendDigits("12#".into())],
        ),
        (
            r#"{"type":"client_error","client_error":{"code":"c","message":"m"}}"#,
            vec![Incoming::Error { fatal: false, code: "c".into(), text: "m".into() }],
        ),
        (r#"{"type":"vad_score","vad_score_event":{"vad_score":0.9}}"#, vec![]),
        (r#"{"type":"agent_chat_response_part","text_response_part":{"text":"a","type":"delta"}}"#, vec![]),
    ] {
        let (result, events, replies, _) = read(&mut ready(), message);
        assert_eq!((result, events, replies), (Ok(()), expected, vec![]), "{message}");
    }
    let correction = r#"{"type":"agent_response_correction","agent_response_correction_event":{
        "original_agent_response":"Hello, how","corrected_agent_response":"Hello,"}}"#;
    assert!(matches!(&read(&mut ready(), correction).1[..], [Incoming::Custom { name, data }]
        if name == "agent_response_correction" && data.contains("Hello,")));
}

#[test]
fn what_we_say_has_the_documented_shape() {
    let text = |respond| Outgoing::Text { from: Sender::System, text: "t", respond };
    let result = |output: &str| ToolResult {
        id: "t1".into(),
        name: "n".into(),
        output: output.into(),
        is_error: false,
    };
    let (words, object) = (result(r#""ok""#), result(r#"{"ok":true}"#));
    for (event, expected) in [
        (Outgoing::Audio { timestamp: 0, audio: &[0xff; 5] }, json!({"user_audio_chunk":"//////8="})),
        (text(false), json!({"type":"contextual_update","text":"t"})),
        (text(true), json!({"type":"user_message","text":"t"})),
        (
            Outgoing::ToolResult(&words),
            json!({"type":"client_tool_result","tool_call_id":"t1","result":"ok","is_error":false}),
        ),
        (
            Outgoing::ToolResult(&object),
            json!({"type":"client_tool_result","tool_call_id":"t1","result":"{\"ok\":true}","is_error":false}),
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
fn keys_reach_the_model_two_seconds_after_the_last() {
    let mut codec = ready();
    let digit = Digit::from_char('5').expect("a key");
    assert_eq!(sent(&mut codec, Outgoing::Digit { digit, duration: Duration::ZERO }), [] as [Value; 0]);
    let mut said = Vec::new();
    for block in 0..200 {
        let sent = sent(&mut codec, Outgoing::Audio { timestamp: 160 * block, audio: &[0xff; 160] });
        said.extend(sent.into_iter().filter(|message| message.get("user_audio_chunk").is_none()));
    }
    assert_eq!(said, [json!({"type":"user_message","text":"The caller pressed 5."})]);
}

#[test]
fn a_conversation_that_goes_on_is_told_and_not_greeted() {
    let settings = AgentSettings { greeting: Some("Hello".into()), ..AgentSettings::default() };
    let mut codec = ElevenLabs::new(StreamStart {
        settings: Arc::new(settings),
        history: vec![(Sender::Bot, "Hello".into()), (Sender::Caller, "Hi".into())],
        ..StreamStart::default()
    });
    assert_eq!(opening(&mut codec)["conversation_config_override"]["agent"]["first_message"], "");
    let replies = read(&mut codec, METADATA).2;
    assert_eq!(replies[0]["type"], "contextual_update");
    let text = replies[0]["text"].as_str().expect("text");
    assert!(text.ends_with("\nYou: Hello\nCaller: Hi"), "{text}");
}

#[test]
fn faults_are_told_apart() {
    for (message, expected) in [
        ("", Ignored::BadJson),
        (r#"["ping"]"#, Ignored::BadJson),
        (r#"{"type":"audio","audio_event":5}"#, Ignored::BadJson),
        (r#"{"type":"audio"}"#, Ignored::MediaWithoutPayload),
        (r#"{"audio_event":{"event_id":1}}"#, Ignored::MediaWithoutPayload),
        (r#"{"audio_event":{"audio_base_64":"%%%%","event_id":1}}"#, Ignored::BadBase64),
        ("{}", Ignored::UnknownEvent),
        (r#"{"type":"dance"}"#, Ignored::UnknownEvent),
    ] {
        assert_eq!(read(&mut ready(), message), (Err(expected), vec![], vec![], vec![]), "{message}");
    }
    assert_eq!(ready().decode(Kind::Binary, b"{}", &mut Decoded::default()), Err(Ignored::BinaryFrame));
}

proptest! {
    #[test]
    fn decode_never_panics(text in ".{0,300}") {
        let _ = read(&mut ready(), &text);
    }

    #[test]
    fn decode_never_panics_on_nearly_right_json(
        name in "ping|interruption|client_tool_call|dtmf_request|client_error|conversation_initiation_metadata",
        key in "ping_event|interruption_event|audio_event|client_tool_call|dtmf_request|conversation_initiation_metadata_event",
        value in r#"(null|[0-9]{1,20}|"[^"\\]{0,20}"|\{"event_id":(-?[0-9]{1,20}|null|"x")\}|\{"agent_output_audio_format":"[a-z_0-9]{0,9}"\})"#,
    ) {
        let _ = read(&mut codec(AgentSettings::default()), &format!(r#"{{"type":"{name}","{key}":{value}}}"#));
    }

    #[test]
    fn audio_round_trips(audio in proptest::collection::vec(any::<u8>(), 1..1000)) {
        let sent = sent(&mut ready(), Outgoing::Audio { timestamp: 0, audio: &audio });
        let message = json!({"audio_event": {"audio_base_64": sent[0]["user_audio_chunk"], "event_id": 1}});
        prop_assert_eq!(read(&mut ready(), &message.to_string()).3, audio);
    }
}
