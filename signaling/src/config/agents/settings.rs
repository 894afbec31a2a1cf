//! What an agent is told about itself, and how its audio is treated.

use std::path::Path;
use std::time::Duration;

use engine::ai::dialect::{AgentSettings, Formats, Tool};
use engine::ai::{self, LatencyBudget};
use serde_json::Value;

use super::super::plan::Check;
use super::super::routes::audio_file;
use super::super::sections::{Agent, BargeIn, BargeInMode, Dialect, Latency, LatencyPolicy};
use crate::apps::ReconnectConfig;

/// What the dialect's set-up message says.
pub(super) fn plan(check: &mut Check<'_>, name: &str, agent: &Agent, tools: Vec<Tool>) -> AgentSettings {
    let at = |key: &str| format!("agents.{name}.{key}");
    let instructions = match (&agent.instructions, &agent.instructions_file) {
        (Some(_), Some(_)) => {
            let message = format!("{}: give instructions or instructions_file, not both", at("instructions"));
            check.error(&at("instructions"), message);
            None
        }
        (Some(text), None) => Some(text.clone()),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            Ok(text) => Some(text),
            Err(error) => {
                let key = at("instructions_file");
                check.error(&key, format!("{key}: {file} cannot be read: {error}"));
                None
            }
        },
        (None, None) => None,
    };
    let mut session = serde_json::Map::new();
    if let Some(file) = &agent.session_file {
        match json_file(file.as_ref()) {
            Ok(Value::Object(keys)) => session = keys,
            Ok(_) => {
                let key = at("session_file");
                check.error(&key, format!("{key}: {file} holds no JSON object"));
            }
            Err(error) => {
                let key = at("session_file");
                check.error(&key, format!("{key}: {file} {error}"));
            }
        }
    }
    session.extend(agent.session.json());
    // Where we decide about interruptions, the backend's opinion must not overrule us.
    let flush_on_speech = match agent.barge_in.mode {
        BargeInMode::Backend => true,
        BargeInMode::Engine => agent.barge_in.backchannel.0.is_zero(),
        BargeInMode::Off | BargeInMode::After => false,
    };
    AgentSettings {
        formats: agent.format.map(|format| Formats { caller: format.0, bot: format.0 }),
        model: agent.model.clone(),
        agent_id: agent.agent_id.clone(),
        instructions,
        greeting: agent.greeting.clone(),
        language: agent.language.clone(),
        voice: agent.voice.clone(),
        tools,
        session,
        flush_on_speech,
    }
}

/// A file of JSON, or what is wrong with it.
pub(super) fn json_file(file: &Path) -> Result<Value, String> {
    let text = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("is not JSON: {error}"))
}

pub(super) fn barge_in(check: &mut Check<'_>, name: &str, wanted: &BargeIn) -> ai::BargeIn {
    let key = |key: &str| format!("agents.{name}.barge_in.{key}");
    for (option, given, mode) in [
        ("after", wanted.after.is_some(), BargeInMode::After),
        ("words", wanted.words.is_some(), BargeInMode::After),
        ("backchannel", !wanted.backchannel.0.is_zero(), BargeInMode::Engine),
    ] {
        if given && wanted.mode != mode {
            let word = if mode == BargeInMode::After { "after" } else { "engine" };
            check.error(&key(option), format!("{}: needs mode = \"{word}\"", key(option)));
        }
    }
    if wanted.after.is_some() && wanted.words.is_some() {
        check.error(&key("words"), format!("{}: give after or words, not both", key("words")));
    }
    let of_words = wanted.words.map(|words| WORD.saturating_mul(words));
    let after = wanted.after.map(|after| after.0).or(of_words).unwrap_or(DEFAULT_AFTER);
    if !(SHORTEST_AFTER..=LONGEST_AFTER).contains(&after) {
        check.error(&key("after"), format!("{}: must be 20ms to 10s", key("after")));
    }
    ai::BargeIn {
        mode: match wanted.mode {
            BargeInMode::Backend => ai::BargeInMode::Backend,
            BargeInMode::Engine => ai::BargeInMode::Engine,
            BargeInMode::Off => ai::BargeInMode::Off,
            BargeInMode::After => ai::BargeInMode::After(after),
        },
        backchannel: wanted.backchannel.0,
    }
}

pub(super) const fn latency(wanted: &Latency) -> LatencyBudget {
    LatencyBudget {
        limit: wanted.limit.0,
        policy: match wanted.policy {
            LatencyPolicy::Keep => ai::LatencyPolicy::Keep,
            LatencyPolicy::DropOldest => ai::LatencyPolicy::DropOldest,
            LatencyPolicy::BackPressure => ai::LatencyPolicy::BackPressure,
            LatencyPolicy::Reject => ai::LatencyPolicy::Reject,
        },
    }
}

pub(super) fn reconnect(check: &mut Check<'_>, name: &str, agent: &Agent) -> Option<ReconnectConfig> {
    let wanted = &agent.reconnect;
    let key = |key: &str| format!("agents.{name}.reconnect.{key}");
    if let Some(file) = &wanted.filler {
        audio_file(check, &key("filler"), file);
    }
    if wanted.backoff > wanted.longest_backoff {
        let message = format!("{}: must not be longer than longest_backoff", key("backoff"));
        check.error(&key("backoff"), message);
    }
    // What one application has begun another connection does not go on with, unless its operator says so.
    let attempts = wanted.attempts.unwrap_or(match agent.dialect {
        Dialect::OpenAi
        | Dialect::AzureVoiceLive
        | Dialect::Deepgram
        | Dialect::ElevenLabs
        | Dialect::Gemini => VENDOR_ATTEMPTS,
        _ => 0,
    });
    (attempts > 0).then(|| ReconnectConfig {
        reconnect: ai::Reconnect {
            attempts,
            backoff: wanted.backoff.0,
            longest_backoff: wanted.longest_backoff.0,
            window: wanted.window.0,
            filler: None,
            renew_before: wanted.renew_before.0,
        },
        filler: wanted.filler.as_ref().map(|file| file.0.clone()),
    })
}

const WORD: Duration = Duration::from_millis(300);
const DEFAULT_AFTER: Duration = Duration::from_millis(500);
const SHORTEST_AFTER: Duration = Duration::from_millis(20);
const LONGEST_AFTER: Duration = Duration::from_secs(10);
const VENDOR_ATTEMPTS: u32 = 5;
