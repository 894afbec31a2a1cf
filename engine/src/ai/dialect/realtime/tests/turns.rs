//! Who speaks, who interrupts, and what follows.

use super::*;

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
        let detection =
            session.pointer("/audio/input/turn_detection").unwrap_or_else(|| &session["turn_detection"]);
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
    peer.key('1');
    peer.say(audio(8_000));
    peer.key('2');
    // The first audio behind a key says when that was.
    for timestamp in [16_000, 31_840] {
        assert_eq!(peer.say(audio(timestamp)).len(), 1, "only audio");
    }
    let sent = peer.say(audio(32_000));
    assert_eq!(sent[..2], [pressed("12"), json!({"type":"response.create"})]);
    assert_eq!(sent.len(), 3);
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
