//! Events to an AMQP 0-9-1 broker: a durable topic exchange, publisher confirms, persistent messages whose
//! `message-id` is the event's id.

use std::path::PathBuf;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};

use super::bus::{BusError, Parcel, Published};
use super::secret::SecretUrl;

/// Where and how.
#[derive(Clone, Debug)]
pub struct AmqpConfig {
    /// `amqp://` or `amqps://`, with user, password and virtual host.
    pub url: SecretUrl,
    /// The topic exchange; made when it is missing.
    pub exchange: String,
    /// What routing keys begin with.
    pub prefix: String,
    /// A durable queue to make and to bind to all events, if wanted.
    pub queue: Option<String>,
    /// Authorities to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
}

/// A connection with one channel. It is dropped at the first failure.
pub(super) struct AmqpLink {
    exchange: String,
    channel: Channel,
    // Closed when it is dropped.
    _connection: Connection,
}

impl AmqpLink {
    pub(super) async fn connect(config: &AmqpConfig, timeout: Duration) -> Result<Self, BusError> {
        let link = tokio::time::timeout(timeout, Self::open(config)).await;
        link.map_err(|_| BusError(format!("no answer within {} s", timeout.as_secs())))?
    }

    async fn open(config: &AmqpConfig) -> Result<Self, BusError> {
        let wrong = |error: lapin::Error| BusError(config.url.scrub(&error.to_string()));
        let cert_chain = match &config.ca_file {
            None => None,
            Some(file) => Some(
                tokio::fs::read_to_string(file)
                    .await
                    .map_err(|error| BusError(format!("{}: {error}", file.display())))?,
            ),
        };
        let connection = Connection::connect_with_config(
            config.url.reveal(),
            ConnectionProperties::default().with_connection_name("sidetone".into()),
            OwnedTLSConfig { identity: None, cert_chain },
            lapin::runtime::default_runtime().map_err(wrong)?,
        )
        .await
        .map_err(wrong)?;
        let channel = connection.create_channel().await.map_err(wrong)?;
        let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(
                config.exchange.as_str().into(),
                ExchangeKind::Topic,
                exchange,
                FieldTable::default(),
            )
            .await
            .map_err(wrong)?;
        if let Some(queue) = &config.queue {
            let name = queue.as_str();
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(name.into(), durable, FieldTable::default()).await.map_err(wrong)?;
            channel
                .queue_bind(
                    name.into(),
                    config.exchange.as_str().into(),
                    format!("{}.#", config.prefix).into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .map_err(wrong)?;
        }
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(wrong)?;
        Ok(Self { exchange: config.exchange.clone(), channel, _connection: connection })
    }

    /// Sends all, then waits for the confirmations in order.
    pub(super) async fn publish(&self, parcels: &[Parcel]) -> Published {
        let mut published = Published::default();
        let mut waiting = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let properties = BasicProperties::default()
                .with_message_id(parcel.id.as_str().into())
                .with_delivery_mode(PERSISTENT)
                .with_content_type("application/json".into())
                .with_type(parcel.kind.as_str().into())
                .with_app_id("sidetone".into());
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let exchange = self.exchange.as_str().into();
            let key = parcel.subject.as_str().into();
            match self.channel.basic_publish(exchange, key, options, &parcel.body, properties).await {
                Ok(confirmation) => waiting.push(confirmation),
                Err(error) => {
                    published.error = Some(error.to_string());
                    break;
                }
            }
        }
        for confirmation in waiting {
            match confirmation.await {
                Ok(Confirmation::Ack(returned)) => {
                    // No queue is bound for this kind: the broker's operator wants none of them.
                    published.unroutable += usize::from(returned.is_some());
                }
                Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                    published.error = Some("the broker did not take a message".to_owned());
                    break;
                }
                Err(error) => {
                    published.error = Some(error.to_string());
                    break;
                }
            }
            published.done += 1;
        }
        published
    }
}

const PERSISTENT: u8 = 2;
