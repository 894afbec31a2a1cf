//! `[events]` and the tables below it.

use serde::Deserialize;

use super::super::types::{FilePath, Network, Span};

/// `[events]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsSection {
    /// Networks that are not of the public internet and that webhooks may reach all the same.
    pub allow_networks: Vec<Network>,
    /// WebSockets of `/api/events` at once.
    pub live_streams: usize,
    /// Webhooks.
    pub webhooks: WebhooksSection,
    /// NATS JetStream.
    pub nats: NatsSection,
    /// AMQP 0-9-1.
    pub amqp: AmqpSection,
}

impl Default for EventsSection {
    fn default() -> Self {
        Self {
            allow_networks: Vec::new(),
            live_streams: 256,
            webhooks: WebhooksSection::default(),
            nats: NatsSection::default(),
            amqp: AmqpSection::default(),
        }
    }
}

/// `[events.webhooks]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksSection {
    /// Whether receivers must be reached by `https://`.
    pub https_only: bool,
    /// How long a receiver may take to answer.
    pub timeout: Span,
    /// The waits between attempts.
    pub retries: Vec<Span>,
    /// Requests to one receiver at once.
    pub per_receiver: usize,
    /// Requests to all receivers at once.
    pub at_once: usize,
    /// Webhooks of one tenant.
    pub per_tenant: usize,
    /// How long what was given up can be sent again.
    pub dead_kept: Span,
    /// A file of PEM certificates to trust besides the public authorities.
    pub ca_file: Option<FilePath>,
}

impl Default for WebhooksSection {
    fn default() -> Self {
        Self {
            https_only: false,
            timeout: Span::seconds(10),
            retries: [5, 30, 120, 600, 1_800, 3_600, 10_800, 21_600, 43_200].map(Span::seconds).into(),
            per_receiver: 8,
            at_once: 256,
            per_tenant: 50,
            dead_kept: Span::seconds(7 * 86_400),
            ca_file: None,
        }
    }
}

/// `[events.nats]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsSection {
    /// `nats://` or `tls://`; several with commas between them. Empty: none.
    pub url: String,
    /// The file with the URL, if it holds a password.
    pub url_file: Option<FilePath>,
    /// The stream.
    pub stream: String,
    /// What subjects begin with.
    pub prefix: String,
    /// A file of PEM certificates to trust besides the public authorities.
    pub ca_file: Option<FilePath>,
}

impl Default for NatsSection {
    fn default() -> Self {
        Self {
            url: String::new(),
            url_file: None,
            stream: "SIDETONE".to_owned(),
            prefix: "sidetone".to_owned(),
            ca_file: None,
        }
    }
}

/// `[events.amqp]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AmqpSection {
    /// `amqp://` or `amqps://`. Empty: none.
    pub url: String,
    /// The file with the URL, if it holds a password.
    pub url_file: Option<FilePath>,
    /// The topic exchange.
    pub exchange: String,
    /// What routing keys begin with.
    pub prefix: String,
    /// A queue for all events.
    pub queue: Option<String>,
    /// A file of PEM certificates to trust besides the public authorities.
    pub ca_file: Option<FilePath>,
}

impl Default for AmqpSection {
    fn default() -> Self {
        Self {
            url: String::new(),
            url_file: None,
            exchange: "sidetone".to_owned(),
            prefix: "sidetone".to_owned(),
            queue: None,
            ca_file: None,
        }
    }
}
