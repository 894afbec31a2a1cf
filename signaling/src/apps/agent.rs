//! A call that talks to an AI backend.

use std::sync::Arc;

use engine::ai::dialect::AgentSettings;
use engine::ai::{AiConfig, CallMeta, Reconnect};

use super::AgentConfig;
use crate::call::CallConfig;
use crate::sip::Party;

/// An agent whose recordings are loaded.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) config: AgentConfig,
    pub(super) settings: Arc<AgentSettings>,
    pub(super) fallback: Option<Arc<[i16]>>,
    pub(super) reconnect: Option<Reconnect>,
}

/// What is known of a call, whoever began it.
pub(super) struct About<'a> {
    pub(super) call_id: &'a str,
    pub(super) from: &'a Party,
    pub(super) to: &'a Party,
    /// A header of the INVITE, or a variable that stands for one.
    pub(super) header: &'a (dyn Fn(&str) -> Option<&'a str> + Sync),
}

impl Agent {
    /// One that has no recordings.
    pub(super) fn bare(config: AgentConfig) -> Self {
        Self { settings: Arc::new(config.settings.clone()), config, fallback: None, reconnect: None }
    }

    /// How to reach the backend for one call.
    pub(super) fn ai_config(&self, calls: &CallConfig, meta: &CallMeta, fallbacks: &[Arc<Self>]) -> AiConfig {
        let agent = &self.config;
        let passed_on = meta.headers.iter().map(|(name, _)| (name.clone(), format!("{{header:{name}}}")));
        let passed_on = passed_on.filter(|(name, _)| agent.sip_headers.iter().any(|header| header == name));
        let configured =
            agent.custom_parameters.iter().map(|(name, value)| (name.clone(), engine_template(value)));
        // A parameter of the configuration wins over a header of the same name.
        let custom_parameters = passed_on.chain(configured).collect();
        let defaults = AiConfig::new(agent.url.clone());
        AiConfig {
            dialect: agent.dialect,
            settings: Arc::clone(&self.settings),
            barge_in: agent.barge_in,
            latency: agent.latency,
            reconnect: self.reconnect.clone(),
            fallbacks: fallbacks.iter().map(|fallback| fallback.ai_config(calls, meta, &[])).collect(),
            custom_parameters,
            account_sid: agent.account_sid.clone(),
            headers: agent.http_headers.clone(),
            authorization: agent.bearer_token.clone(),
            auth_token: agent.signing_token.clone(),
            extra_ca: agent.ca_file.clone(),
            tls_server_name: agent.tls_server_name.clone(),
            connect_timeout: agent.connect_timeout.min(defaults.connect_timeout),
            connect_window: agent.connect_timeout,
            max_queue: agent.playout_limit,
            max_outbound: agent.caller_audio_limit,
            max_message_bytes: agent.dialect.largest_message(),
            drain_limit: calls.goodbye_limit,
            ..defaults
        }
    }

    /// The names of the SIP headers that it wants.
    fn headers(&self) -> impl Iterator<Item = &str> {
        let templates = self.config.custom_parameters.iter().flat_map(|(_, value)| header_names(value));
        self.config.sip_headers.iter().map(String::as_str).chain(templates)
    }

    /// What the backend may learn about a call by a socket.
    pub(super) fn socket_meta(
        id: &str,
        (from, from_name, to): (&str, &str, &str),
        parameters: &[(String, String)],
    ) -> CallMeta {
        CallMeta {
            call_id: clean(id),
            from_number: clean(from),
            from_name: clean(from_name),
            to_number: clean(to),
            headers: parameters.iter().map(|(name, value)| (clean(name), clean(value))).collect(),
        }
    }

    /// What the backend, or one of those that may take over, may learn about the call.
    pub(super) fn meta(&self, about: &About<'_>, fallbacks: &[Arc<Self>]) -> CallMeta {
        let mut wanted: Vec<&str> =
            self.headers().chain(fallbacks.iter().flat_map(|fallback| fallback.headers())).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let headers =
            wanted.into_iter().filter_map(|name| Some((name.to_owned(), clean((about.header)(name)?))));
        let uris = [(FROM_URI, &about.from.uri), (TO_URI, &about.to.uri)];
        let uris = uris.into_iter().map(|(name, uri)| (name.to_owned(), clean(uri)));
        CallMeta {
            call_id: clean(about.call_id),
            from_number: clean(&about.from.user),
            from_name: about.from.display.as_deref().map(clean).unwrap_or_default(),
            to_number: clean(&about.to.user),
            headers: headers.chain(uris).collect(),
        }
    }
}

/// What the Twilio dialect calls the call with this Call-ID.
pub(super) fn call_sid(call_id: &str) -> String {
    CallMeta { call_id: clean(call_id), ..CallMeta::default() }.call_sid()
}

/// The names in our configuration, as the engine has them.
fn engine_template(template: &str) -> String {
    let renamed = [
        ("{from}", "{from_number}"),
        ("{to}", "{to_number}"),
        ("{from_display}", "{from_name}"),
        ("{from_uri}", "{header:(from)}"),
        ("{to_uri}", "{header:(to)}"),
    ];
    renamed.iter().fold(template.to_owned(), |template, (ours, theirs)| template.replace(ours, theirs))
}

/// The headers that a template names.
fn header_names(template: &str) -> impl Iterator<Item = &str> {
    let after = template.split("{header:").skip(1);
    after.filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

/// Cut to a length that nothing legitimate exceeds, without control characters.
pub(super) fn clean(value: &str) -> String {
    let mut clean = String::new();
    for character in value.chars().filter(|character| !character.is_control()) {
        if clean.len() + character.len_utf8() > MAX_VALUE_BYTES {
            break;
        }
        clean.push(character);
    }
    clean
}

const MAX_VALUE_BYTES: usize = 256;
/// Names that no header can have, for what the engine has no field for.
const FROM_URI: &str = "(from)";
const TO_URI: &str = "(to)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_and_stripped() {
        assert_eq!(clean("a\r\nInjected: b\u{0}"), "aInjected: b");
        assert_eq!(clean(&"é".repeat(500)).len(), 256);
    }

    #[test]
    fn headers_become_parameters_and_the_configuration_wins() {
        let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let agent = Agent {
            config: AgentConfig {
                url: "ws://127.0.0.1:9/".into(),
                sip_headers: vec!["X-Tenant".into(), "X-Trunk".into(), "X-None".into()],
                custom_parameters: vec![
                    parameter("X-Tenant", "ours"),
                    parameter("who", "{from_display} {from} <{from_uri}> {header:x-other} {nope}"),
                ],
                ..AgentConfig::default()
            },
            settings: Arc::default(),
            fallback: None,
            reconnect: None,
        };
        let meta = CallMeta {
            from_number: "1000".into(),
            from_name: "Eve {to}".into(),
            headers: vec![
                parameter("X-Tenant", "theirs"),
                parameter("X-Trunk", "{call_id}"),
                parameter("X-Other", "other"),
                parameter(FROM_URI, "sip:1000@example.com"),
            ],
            ..CallMeta::default()
        };
        let config = agent.ai_config(&CallConfig::default(), &meta, &[]);
        let expanded: Vec<_> = config
            .custom_parameters
            .iter()
            .map(|(name, value)| (name.as_str(), meta.expand(value)))
            .collect();
        assert_eq!(
            expanded,
            [
                ("X-Tenant", "ours".to_owned()),
                ("X-Trunk", "{call_id}".to_owned()),
                ("who", "Eve {to} 1000 <sip:1000@example.com> other {nope}".to_owned()),
            ]
        );
    }

    #[test]
    fn headers_of_templates_are_found() {
        let names: Vec<_> = header_names("{header:A} {header:}x{header:B-C}{header:open").collect();
        assert_eq!(names, ["A", "", "B-C"]);
    }
}
