//! The session that a call asks for, and what the vendor says of it.

use serde_json::{Map, Value, json};

use super::super::{AudioFormat, Encoding, Formats, StreamStart};
use super::names::{Names, Vendor, format_of};

/// The object of `session.update`: what the settings say, with [`super::super::AgentSettings::session`] merged over
/// it as RFC 7396 has it.
pub(super) fn session(names: &Names, start: &StreamStart) -> Value {
    let settings = &*start.settings;
    let wanted =
        settings.formats.unwrap_or_else(|| Formats { caller: line(start.line), bot: line(start.line) });
    let (caller, bot) = (names.vendor.supported(wanted.caller), names.vendor.supported(wanted.bot));
    let mut session = Value::Object(Map::new());
    if let Some(kind) = names.session_type {
        set(&mut session, &["type"], json!(kind));
    }
    set(&mut session, &[names.modalities.0], json!(names.modalities.1));
    // A hosted agent has its own, and the vendor refuses others.
    if let Some(instructions) = settings.instructions.as_ref().filter(|_| settings.agent_id.is_none()) {
        set(&mut session, &["instructions"], json!(instructions));
    }
    set(&mut session, names.input_format, names.vendor.input_format(caller));
    set(&mut session, names.output_format, names.vendor.output_format(bot));
    let mut transcription = json!({ "model": names.transcription_model });
    if let Some(language) = &settings.language {
        set(&mut transcription, &["language"], json!(language_tag(names.vendor, language)));
    }
    set(&mut session, names.transcription, transcription);
    // Whoever decides that the caller interrupts, decides it alone: a backend that cancelled what goes on being
    // played here would leave half a sentence.
    let turn_detection = json!({
        "type": names.turn_detection_type,
        "create_response": true,
        "interrupt_response": settings.flush_on_speech,
    });
    set(&mut session, names.turn_detection, turn_detection);
    for (path, kind) in [names.noise_reduction, names.echo_cancellation].into_iter().flatten() {
        set(&mut session, path, json!({ "type": kind }));
    }
    if let Some(voice) = &settings.voice {
        set(&mut session, names.voice, voice_of(names.vendor, voice));
    }
    if !settings.tools.is_empty() {
        let tools: Vec<Value> = settings.tools.iter().map(tool).collect();
        set(&mut session, &["tools"], Value::Array(tools));
        set(&mut session, &["tool_choice"], json!("auto"));
    }
    if names.vendor == Vendor::VoiceLive {
        set(&mut session, &["input_audio_sampling_rate"], json!(caller.rate));
        // Not seen by the model; for the operator's logs at the vendor.
        let metadata = facts(start);
        if !metadata.is_empty() {
            set(&mut session, &["metadata"], Value::Object(metadata));
        }
    }
    merge(&mut session, Value::Object(settings.session.clone()));
    session
}

/// What audio goes each way in a session, in the words of either vendor; `None` where it does not say.
pub(super) fn formats(session: &Value) -> (Option<AudioFormat>, Option<AudioFormat>) {
    let rate = session.get("input_audio_sampling_rate").and_then(Value::as_u64);
    let input = session.pointer("/audio/input/format").or_else(|| session.get("input_audio_format"));
    let output = session.pointer("/audio/output/format").or_else(|| session.get("output_audio_format"));
    (input.and_then(|word| format_of(word, rate)), output.and_then(|word| format_of(word, None)))
}

/// A switch of the turn detection.
pub(super) fn turn_switch(names: &Names, session: &Value, key: &str, default: bool) -> bool {
    let detection = names.turn_detection.iter().try_fold(session, |at, key| at.get(key));
    detection.and_then(|detection| detection.get(key)?.as_bool()).unwrap_or(default)
}

/// What is known about the call, for the backend: at most what Voice Live takes, 16 pairs of 64 and 512 characters.
/// Comes from the peer: to be marked as data wherever a model reads it.
pub(super) fn facts(start: &StreamStart) -> Map<String, Value> {
    let known = [
        ("call_id", &start.call_id),
        ("caller", &start.from),
        ("caller_name", &start.from_name),
        ("called", &start.to),
    ];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    let custom = start.custom_parameters.iter().map(|(name, value)| (name.as_str(), value));
    let clean = |text: &str, chars| text.chars().filter(|c| !c.is_control()).take(chars).collect::<String>();
    known.chain(custom).take(16).map(|(name, value)| (clean(name, 64), json!(clean(value, 512)))).collect()
}

/// The line's format, so that it passes through untouched where the vendor has it.
fn line(line: AudioFormat) -> AudioFormat {
    match line.encoding {
        Encoding::Pcmu | Encoding::Pcma => line,
        // What every model of either takes.
        Encoding::L16 => AudioFormat::l16(24_000),
    }
}

/// BCP 47, of which one vendor wants only the language.
fn language_tag(vendor: Vendor, language: &str) -> &str {
    match vendor {
        Vendor::OpenAi => language.split('-').next().unwrap_or(language),
        Vendor::VoiceLive => language,
    }
}

/// Azure's own voices have a locale in their names and are objects; OpenAI's are plain words.
fn voice_of(vendor: Vendor, voice: &str) -> Value {
    if vendor == Vendor::VoiceLive && voice.contains('-') {
        return json!({ "type": "azure-standard", "name": voice });
    }
    json!(voice)
}

fn tool(tool: &super::super::Tool) -> Value {
    let parameters = match &tool.parameters {
        Value::Null => json!({ "type": "object", "properties": {} }),
        parameters => parameters.clone(),
    };
    json!({
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters,
    })
}

fn set(object: &mut Value, path: &[&str], value: Value) {
    let mut at = object;
    for key in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Some(map) = at.as_object_mut() else { return };
        at = map.entry(*key).or_insert(Value::Null);
    }
    *at = value;
}

/// RFC 7396: objects key by key, `null` removes, anything else replaces; with one exception, that an object of
/// another `type` replaces the whole, since its keys are others, but for the two that all turn detections have.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    let other_type = patch.get("type").is_some_and(|kind| target.get("type").is_some_and(|old| old != kind));
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return };
    if other_type {
        target.retain(|key, _| ["create_response", "interrupt_response"].contains(&key.as_str()));
    }
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}
