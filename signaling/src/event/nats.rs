//! Events to NATS JetStream: `Nats-Msg-Id` is the event's id, so that JetStream itself leaves out repetitions within
//! the stream's duplicate window, and a consumer can tell later ones.

use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream};
use rustls::pki_types::CertificateDer;

use super::bus::{BusError, Parcel, Published};
use super::secret::SecretUrl;

/// Where and how.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// `nats://` or `tls://`, with user and password or a token, if any; several with commas between them.
    pub url: SecretUrl,
    /// The stream; made when it is missing.
    pub stream: String,
    /// What subjects begin with.
    pub prefix: String,
    /// Authorities to trust besides the public ones.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// A connection. It is dropped at the first failure: what was not acknowledged is sent again by the next one, in the
/// order of before.
pub(super) struct NatsLink {
    context: jetstream::Context,
}

impl NatsLink {
    pub(super) async fn connect(config: &NatsConfig, timeout: Duration) -> Result<Self, BusError> {
        let tls = super::tls::client_config(&config.authorities).map_err(BusError)?;
        let options = ConnectOptions::new()
            .name("sidetone")
            .tls_client_config(tls)
            .connection_timeout(timeout)
            .ping_interval(Duration::from_secs(10))
            // The bus connects anew by itself, and starts over from what was acknowledged.
            .max_reconnects(1)
            .ignore_discovered_servers();
        let servers = config.url.reveal().split(',').map(str::trim).collect::<Vec<_>>();
        let client = tokio::time::timeout(timeout, options.connect(servers))
            .await
            .map_err(|_| BusError(format!("no answer within {} s", timeout.as_secs())))?
            .map_err(|error| BusError(config.url.scrub(&error.to_string())))?;
        let context = jetstream::ContextBuilder::new()
            .timeout(timeout)
            .ack_timeout(timeout)
            .max_ack_inflight(super::bus::BATCH)
            .build(client);
        context
            .get_or_create_stream(stream::Config {
                name: config.stream.clone(),
                subjects: vec![format!("{}.>", config.prefix)],
                duplicate_window: DUPLICATE_WINDOW,
                ..stream::Config::default()
            })
            .await
            .map_err(|error| BusError(format!("the stream {}: {error}", config.stream)))?;
        Ok(Self { context })
    }

    /// Sends all, then waits for the acknowledgements in order.
    pub(super) async fn publish(&self, parcels: &[Parcel]) -> Published {
        let mut published = Published::default();
        let mut waiting = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let message = PublishMessage::build()
                .payload(parcel.body.clone())
                .message_id(parcel.id.as_str())
                .header(async_nats::header::HeaderName::from_static("Content-Type"), "application/json");
            match self.context.send_publish(parcel.subject.clone(), message).await {
                Ok(ack) => waiting.push(Some(ack)),
                // It would be too large for ever, and hold up all behind it.
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => waiting.push(None),
                Err(error) => {
                    published.error = Some(error.to_string());
                    break;
                }
            }
        }
        for ack in waiting {
            match ack {
                None => published.refused += 1,
                Some(ack) => match ack.await {
                    Ok(_) => {}
                    Err(error) => {
                        published.error = Some(error.to_string());
                        break;
                    }
                },
            }
            published.done += 1;
        }
        published
    }
}

/// A repetition within this time is not even stored. Longer ones cost the server memory.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
