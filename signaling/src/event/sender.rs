//! Sends webhooks, and nothing to where only we can go.
//!
//! A URL is somebody else's choice, so what it leads to is judged where the connection is made: names are resolved
//! here, each address is judged by [`Reach`], and the connection goes to just these addresses. There is no second
//! resolution that could answer differently, no redirect and no proxy.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, Url, redirect};
use rustls::pki_types::CertificateDer;

use super::address::Reach;
use super::signature::SigningSecret;

/// Sends webhooks. Clones share connections.
#[derive(Clone)]
pub struct Sender {
    client: Client,
    reach: Arc<Reach>,
    https_only: bool,
    timeout: Duration,
}

/// What a sender may do.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Where it may go.
    pub reach: Reach,
    /// Whether URLs must be `https://`.
    pub https_only: bool,
    /// How long an attempt may take, from the name's resolution to the answer's head.
    pub timeout: Duration,
    /// Authorities to trust besides the public ones.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Why no request was made to a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is none.
    #[error("the URL is not one: {0}; write https://host/path")]
    Malformed(String),
    /// It is longer than [`LONGEST_URL`].
    #[error("the URL is longer than {LONGEST_URL} bytes")]
    TooLong,
    /// Its scheme is not served.
    #[error("the URL must begin with {0}")]
    Scheme(&'static str),
    /// It has a user or a password.
    #[error("the URL must not hold a user or password; receivers know us by the signature")]
    Credentials,
    /// Its host is an address that webhooks must not reach.
    #[error("webhooks must not go to {0}; the operator can allow it with events.allow_networks")]
    Forbidden(IpAddr),
}

/// One message for one receiver.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Where to.
    pub url: &'a str,
    /// The event's id, equal in all repetitions.
    pub id: &'a str,
    /// The event.
    pub body: Bytes,
    /// The key that receiver and sender share.
    pub secret: &'a SigningSecret,
}

/// How an attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong; nothing if it was taken.
    pub error: Option<String>,
    /// When the receiver asked to be tried again.
    pub retry_after: Option<Duration>,
    /// How long it took.
    pub took: Duration,
}

impl Attempt {
    /// Whether the receiver has it.
    #[must_use]
    pub const fn taken(&self) -> bool {
        self.error.is_none()
    }

    /// Whether the receiver said that it is gone for good.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.status == Some(410)
    }
}

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
#[error("webhooks cannot be sent: {0}")]
pub struct SenderError(String);

impl Sender {
    /// A sender that asks the system for addresses of names.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(config: SenderConfig) -> Result<Self, SenderError> {
        Self::with_lookup(config, Arc::new(|name| Box::pin(system_lookup(name))))
    }

    pub(super) fn with_lookup(config: SenderConfig, lookup: Lookup) -> Result<Self, SenderError> {
        let reach = Arc::new(config.reach);
        let client = Client::builder()
            .tls_backend_preconfigured(super::tls::client_config(&config.authorities).map_err(SenderError)?)
            .dns_resolver(Arc::new(GuardedNames { reach: Arc::clone(&reach), lookup }))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .user_agent(concat!("sidetone/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.timeout)
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(Duration::from_secs(30))
            .http1_max_headers(128)
            .build()
            .map_err(|error| SenderError(reason(&error)))?;
        Ok(Self { client, reach, https_only: config.https_only, timeout: config.timeout })
    }

    /// How long an attempt may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Reads a URL and judges what can be judged without asking for addresses.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn check(&self, url: &str) -> Result<Url, UrlError> {
        if url.len() > LONGEST_URL {
            return Err(UrlError::TooLong);
        }
        let url = Url::parse(url).map_err(|error| UrlError::Malformed(error.to_string()))?;
        match url.scheme() {
            "https" => {}
            "http" if !self.https_only => {}
            _ if self.https_only => return Err(UrlError::Scheme("https://")),
            _ => return Err(UrlError::Scheme("https:// or http://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Credentials);
        }
        // An address in a URL, in whatever notation, is not resolved, so it is judged here.
        let host = url.host_str().ok_or_else(|| UrlError::Malformed("it names no host".to_owned()))?;
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !self.reach.allows(address) => Err(UrlError::Forbidden(address)),
            _ => Ok(url),
        }
    }

    /// Sends one message and waits for the answer. Never longer than the configured time-out.
    pub async fn send(&self, message: Message<'_>) -> Attempt {
        let began = Instant::now();
        let result = match tokio::time::timeout(self.timeout, self.answer(message)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} s", self.timeout.as_secs_f64())),
        };
        let took = began.elapsed();
        match result {
            Ok(response) => {
                let status = response.status();
                let retry_after = retry_after(response.headers());
                drain(response).await;
                let error = (!status.is_success()).then(|| match status.as_u16() {
                    300..=399 => format!("answered {}; redirects are not followed", status.as_u16()),
                    code => format!("answered {code}"),
                });
                Attempt { status: Some(status.as_u16()), error, retry_after, took }
            }
            Err(error) => Attempt { status: None, error: Some(error), retry_after: None, took },
        }
    }

    async fn answer(&self, message: Message<'_>) -> Result<Response, String> {
        let url = self.check(message.url).map_err(|error| error.to_string())?;
        let timestamp = super::seconds_now();
        let signature = message.secret.sign(message.id, timestamp, &message.body);
        self.client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(message.body)
            .send()
            .await
            .map_err(|error| reason(&error))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("reach", &self.reach).finish_non_exhaustive()
    }
}

/// The addresses of a name.
pub(super) type Lookup = Arc<dyn Fn(String) -> Looking + Send + Sync>;
pub(super) type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

async fn system_lookup(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).take(MOST_ADDRESSES).collect())
}

/// Gives the HTTP client only addresses that it may connect to.
struct GuardedNames {
    reach: Arc<Reach>,
    lookup: Lookup,
}

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, lookup) = (Arc::clone(&self.reach), (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let addresses = lookup.await?;
            // A name with one address that is ours has no business in a webhook, whatever the others are.
            if let Some(&refused) = addresses.iter().find(|&&address| !reach.allows(address)) {
                return Err(UrlError::Forbidden(refused).into());
            }
            let addresses: Vec<_> =
                addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Reads what little a receiver may say, so that its connection can be used again; more costs it the connection.
async fn drain(mut response: Response) {
    let read = async {
        let mut left = ANSWER_LIMIT;
        while let Ok(Some(chunk)) = response.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(ANSWER_TIME, read).await;
}

/// Retry-After in seconds (RFC 9110 section 10.2.3); the form with a date is not worth its parser.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The innermost cause: the client's own sentences only say that a request failed. Without the URL, which may hold a
/// secret of the receiver.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    if error.source().is_none() {
        return "the request failed".to_owned();
    }
    while let Some(source) = cause.source() {
        cause = source;
    }
    super::clean(&cause.to_string(), 200)
}

/// The longest URL of a webhook.
pub const LONGEST_URL: usize = 2048;
const MOST_ADDRESSES: usize = 16;
const ANSWER_LIMIT: usize = 64 * 1024;
const ANSWER_TIME: Duration = Duration::from_secs(2);
