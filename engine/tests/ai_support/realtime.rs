//! A backend that speaks OpenAI Realtime.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Bot;

/// Answers the set-up; `session` is what the vendor adds to it.
pub(crate) async fn set_up(bot: &mut Bot, session: Value) -> Value {
    let update = bot.typed("session.update").await;
    let mut agreed = update["session"].clone();
    for (key, value) in session.as_object().expect("an object") {
        agreed[key] = value.clone();
    }
    bot.send(json!({ "type": "session.updated", "event_id": "event_1", "session": agreed })).await;
    update
}

pub(crate) fn delta(response: &str, item: &str, audio: &[u8]) -> Value {
    json!({ "type": "response.output_audio.delta", "response_id": response, "item_id": item,
        "output_index": 0, "content_index": 0, "delta": STANDARD.encode(audio) })
}

/// A response that is one item.
pub(crate) async fn say(bot: &mut Bot, response: &str, item: &str, audio: &[u8]) {
    bot.send(json!({ "type": "response.created", "response": { "id": response } })).await;
    for part in audio.chunks(10_001) {
        bot.send(delta(response, item, part)).await;
    }
    bot.send(json!({ "type": "response.output_audio.done", "response_id": response, "item_id": item })).await;
    bot.send(json!({ "type": "response.done", "response": { "id": response, "status": "completed" } })).await;
}

pub(crate) async fn transcript(bot: &mut Bot, item: &str, text: &str) {
    bot.send(json!({ "type": "response.output_audio_transcript.done", "response_id": "r", "item_id": item,
        "transcript": text }))
        .await;
}

/// The caller's audio.
pub(crate) fn audio(append: &Value) -> Vec<u8> {
    STANDARD.decode(append["audio"].as_str().expect("audio")).expect("base64")
}

pub(crate) fn unix_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    u64::try_from(now.tv_sec).expect("after 1970")
}
