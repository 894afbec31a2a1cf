//! How a session begins.

use super::*;

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
                "turn_detection":{"type":"semantic_vad","eagerness":"low","create_response":true,
                    "interrupt_response":true}},
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
