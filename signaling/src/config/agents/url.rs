//! The addresses of backends.

use super::super::sections::{Agent, Dialect};

/// Where an agent's backend is: as written, else where the dialect's vendor has it.
pub(super) fn url(agent: &Agent) -> Option<String> {
    if !agent.url.is_empty() {
        return Some(agent.url.clone());
    }
    Some(match agent.dialect {
        // The dialects add the model and the like to the query.
        Dialect::OpenAi => "wss://api.openai.com/v1/realtime".to_owned(),
        Dialect::AzureVoiceLive => format!("wss://{}/voice-live/realtime", agent.endpoint.as_ref()?),
        Dialect::Deepgram => "wss://agent.deepgram.com/v1/agent/converse".to_owned(),
        Dialect::ElevenLabs => {
            let agent = escaped(agent.agent_id.as_deref()?);
            format!("wss://api.elevenlabs.io/v1/convai/conversation?agent_id={agent}")
        }
        Dialect::Gemini => "wss://generativelanguage.googleapis.com/ws/\
             google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
            .to_owned(),
        _ => return None,
    })
}

/// What is not unreserved (RFC 3986 section 2.3) as an escape.
fn escaped(value: &str) -> String {
    let mut escaped = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// What to write where an address is missing.
pub(super) const fn advice(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::AzureVoiceLive => {
            "write it, or the resource's host as `endpoint`, such as \"example.services.ai.azure.com\""
        }
        Dialect::ElevenLabs => "write it, or the agent's id as `agent_id`",
        Dialect::AudioSocket => "write the backend's address, such as \"tcp://192.0.2.10:9092\"",
        _ => "write the backend's address, such as \"wss://agent.example.com/media\"",
    }
}

/// The schemes that an address of the dialect may have.
pub(super) const fn schemes(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::AudioSocket => &["tcp"],
        _ => &["ws", "wss"],
    }
}

/// RFC 3986, as far as a mistake can be told from an address.
pub(super) fn is_address(url: &str, schemes: &[&str]) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    schemes.contains(&scheme)
        && !host.is_empty()
        && !host.starts_with(':')
        && !url.chars().any(|character| character.is_whitespace() || character.is_control())
}

/// A URL without what may hold a secret, for messages.
pub(in super::super) fn without_query(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_are_found_without_an_address() {
        let agent = |dialect| Agent { dialect, ..Agent::default() };
        assert_eq!(url(&agent(Dialect::OpenAi)).as_deref(), Some("wss://api.openai.com/v1/realtime"));
        assert_eq!(url(&agent(Dialect::AzureVoiceLive)), None);
        let endpoint = "example.services.ai.azure.com".parse().ok();
        let azure = Agent { endpoint, ..agent(Dialect::AzureVoiceLive) };
        let expected = "wss://example.services.ai.azure.com/voice-live/realtime";
        assert_eq!(url(&azure).as_deref(), Some(expected));
        assert_eq!(url(&agent(Dialect::ElevenLabs)), None, "which agent?");
        let eleven = Agent { agent_id: Some("a b&c".into()), ..agent(Dialect::ElevenLabs) };
        assert!(url(&eleven).is_some_and(|url| url.ends_with("?agent_id=a%20b%26c")));
        assert_eq!(url(&agent(Dialect::Twilio)), None);
    }

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        assert_eq!(without_query("wss://user:key@example.com/a?key=b#c"), "wss://example.com/a");
    }
}
