//! From `[events]` to what delivers them.

use std::time::Duration;

use super::plan::Check;
use super::types::FilePath;
use crate::event::{
    AmqpConfig, BusConfig, EventsConfig, NatsConfig, Reach, SecretUrl, SenderConfig, WebhookConfig,
    read_authorities,
};

pub(super) fn plan(check: &mut Check<'_>) -> EventsConfig {
    let section = check.loaded.config.events.clone();
    let webhooks = &section.webhooks;
    for (key, value) in [
        ("live_streams", section.live_streams),
        ("webhooks.per_receiver", webhooks.per_receiver),
        ("webhooks.at_once", webhooks.at_once),
    ] {
        if value == 0 {
            check.error(&format!("events.{key}"), format!("events.{key}: must be at least 1"));
        }
    }
    if !(Duration::from_secs(1)..=Duration::from_secs(30)).contains(&webhooks.timeout.0) {
        check.error("events.webhooks.timeout", "events.webhooks.timeout: must be 1s to 30s");
    }
    if webhooks.retries.is_empty() || webhooks.retries.len() > 100 {
        check.error(
            "events.webhooks.retries",
            "events.webhooks.retries: must be 1 to 100 waits, such as \"30s\"",
        );
    }
    let everything =
        section.allow_networks.iter().find(|network| network.0.prefix_len() == 0).map(ToString::to_string);
    if let Some(network) = everything {
        check.warn(format!(
            "events.allow_networks {network}: every tenant's webhooks reach everything that this host does"
        ));
    }
    let authorities = |check: &mut Check<'_>, key: &str, file: &Option<FilePath>| match file {
        None => Vec::new(),
        Some(file) => read_authorities(&file.0).unwrap_or_else(|error| {
            check.error(key, format!("{key}: {error}"));
            Vec::new()
        }),
    };
    let sender = SenderConfig {
        reach: Reach::new(section.allow_networks.iter().map(|network| network.0).collect()),
        https_only: webhooks.https_only,
        timeout: webhooks.timeout.0,
        authorities: authorities(check, "events.webhooks.ca_file", &webhooks.ca_file),
    };
    let mut buses = Vec::new();
    let nats = &section.nats;
    if let Some(url) = broker_url(check, "events.nats", &nats.url, &nats.url_file, &["nats", "tls"]) {
        plain_name(check, "events.nats.stream", &nats.stream, "-_");
        plain_name(check, "events.nats.prefix", &nats.prefix, "-_.");
        buses.push(BusConfig::Nats(NatsConfig {
            url,
            stream: nats.stream.clone(),
            prefix: nats.prefix.clone(),
            authorities: authorities(check, "events.nats.ca_file", &nats.ca_file),
        }));
    }
    let amqp = &section.amqp;
    if let Some(url) = broker_url(check, "events.amqp", &amqp.url, &amqp.url_file, &["amqp", "amqps"]) {
        plain_name(check, "events.amqp.exchange", &amqp.exchange, "-_.:");
        plain_name(check, "events.amqp.prefix", &amqp.prefix, "-_.");
        if let Some(queue) = &amqp.queue {
            plain_name(check, "events.amqp.queue", queue, "-_.:");
        }
        // Read here only to find out now whether it can be.
        let _ = authorities(check, "events.amqp.ca_file", &amqp.ca_file);
        buses.push(BusConfig::Amqp(AmqpConfig {
            url,
            exchange: amqp.exchange.clone(),
            prefix: amqp.prefix.clone(),
            queue: amqp.queue.clone(),
            ca_file: amqp.ca_file.as_ref().map(|file| file.0.clone()),
        }));
    }
    EventsConfig {
        sender,
        webhooks: WebhookConfig {
            retries: webhooks.retries.iter().map(|wait| wait.0).collect(),
            per_receiver: webhooks.per_receiver,
            at_once: webhooks.at_once,
            keep_dead: webhooks.dead_kept.0,
        },
        buses,
        live_streams: section.live_streams,
        webhooks_per_tenant: webhooks.per_tenant,
    }
}

/// The URL of a broker, if there is one; the value itself is never part of an error.
fn broker_url(
    check: &mut Check<'_>,
    section: &str,
    url: &str,
    file: &Option<FilePath>,
    schemes: &[&str],
) -> Option<SecretUrl> {
    let (key, url) = match (url, file) {
        ("", None) => return None,
        ("", Some(file)) => {
            let key = format!("{section}.url_file");
            match std::fs::read_to_string(file) {
                Ok(url) => (key, url.trim().to_owned()),
                Err(error) => {
                    check.error(&key, format!("{key}: {file} cannot be read: {error}"));
                    return None;
                }
            }
        }
        (url, None) => (format!("{section}.url"), url.to_owned()),
        (_, Some(_)) => {
            let key = format!("{section}.url_file");
            check.error(&key, format!("{key}: give url or url_file, not both"));
            return None;
        }
    };
    let good = |url: &str| {
        let parts = url.trim().split_once("://");
        parts.is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty())
    };
    if !url.split(',').all(good) || url.chars().any(char::is_control) {
        let forms = schemes.iter().map(|scheme| format!("{scheme}://HOST")).collect::<Vec<_>>().join(" or ");
        check.error(&key, format!("{key}: not a URL of the form {forms}"));
        return None;
    }
    Some(SecretUrl::new(url))
}

fn plain_name(check: &mut Check<'_>, key: &str, name: &str, besides: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || besides.contains(c);
    let whole = |part: &str| !part.is_empty();
    if !(1..=100).contains(&name.len()) || !name.chars().all(plain) || !name.split('.').all(whole) {
        check.error(key, format!("{key}: must be 1 to 100 letters, digits and {besides}"));
    }
}
