//! Whatever a server may come up with.

use proptest::prelude::*;

use super::*;

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
