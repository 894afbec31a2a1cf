//! Sets of public keys for tokens (JWKS, RFC 7517 section 5), from a file or a server, read again when a token names a
//! key that is not in it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::Mutex;

use super::counters::AccessCounters;
use super::token::VerifyingKey;

/// Where a set of keys is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a file, which may be replaced.
    File(PathBuf),
    /// At an address: `https`, or `http` on this host.
    Url(Url),
}

/// Why there are no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the keys for tokens at {place} cannot be had: {reason}")]
pub struct KeySetError {
    place: String,
    reason: String,
}

/// A set of keys, as it was when it was last read.
#[derive(Debug)]
pub(super) struct KeySet {
    source: KeySource,
    client: Client,
    current: RwLock<Arc<Current>>,
    /// Held while reading: one at a time.
    reading: Mutex<Reading>,
}

#[derive(Debug, Default)]
struct Current {
    keys: Vec<VerifyingKey>,
    read: Option<Instant>,
}

#[derive(Debug, Default)]
struct Reading {
    tried: Option<Instant>,
    failure: Option<KeySetError>,
}

impl KeySource {
    /// A server that keys may be had from.
    ///
    /// # Errors
    /// What the address must be.
    pub fn url(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "is no URL")?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if url.scheme() != "https" && !(url.scheme() == "http" && here) {
            return Err("must begin with https:// (http:// only on this host)");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not have a user or a password in it");
        }
        Ok(Self::Url(url))
    }

    fn place(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(url) => url.origin().ascii_serialization() + url.path(),
        }
    }
}

impl KeySet {
    /// A file is read now; a server is asked when the first token comes.
    pub(super) fn open(source: KeySource) -> Result<Self, KeySetError> {
        let failed = |reason: String| KeySetError { place: source.place(), reason };
        let client = client().map_err(|error| failed(error.to_string()))?;
        let mut current = Current::default();
        if let KeySource::File(path) = &source {
            let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            current = Current { keys: parse(&bytes).map_err(failed)?, read: Some(Instant::now()) };
        }
        Ok(Self { source, client, current: RwLock::new(Arc::new(current)), reading: Mutex::default() })
    }

    /// The keys that a token may be signed with which names `key`.
    pub(super) async fn keys(
        &self,
        key: Option<&str>,
        counters: &AccessCounters,
    ) -> Result<Vec<VerifyingKey>, KeySetError> {
        let current = self.current();
        let found = current.named(key);
        let age = current.read.map(|read| read.elapsed());
        if !found.is_empty() && age.is_some_and(|age| age < FRESH) {
            return Ok(found);
        }
        let mut reading = if found.is_empty() {
            self.reading.lock().await
        } else {
            // There is something to go on with, and somebody reads.
            let Ok(reading) = self.reading.try_lock() else { return Ok(found) };
            reading
        };
        // A token that names keys at random makes nobody read more often.
        if reading.tried.is_none_or(|tried| tried.elapsed() >= PAUSE) {
            reading.tried = Some(Instant::now());
            match self.read().await {
                Ok(keys) => {
                    counters.key_sets_fetched.increment();
                    tracing::debug!(keys = keys.len(), place = self.source.place(), "keys for tokens read");
                    let fresh = Arc::new(Current { keys, read: Some(Instant::now()) });
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                    reading.failure = None;
                }
                Err(error) => {
                    counters.key_sets_failed.increment();
                    tracing::warn!("{error}; it is tried again in a minute, if a token needs it");
                    reading.failure = Some(error);
                }
            }
        }
        let current = self.current();
        match &reading.failure {
            // Keys that the server may have taken back long ago are not believed for ever.
            Some(failure) if current.read.is_none_or(|read| read.elapsed() > STALE) => Err(failure.clone()),
            _ => Ok(current.named(key)),
        }
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read(&self) -> Result<Vec<VerifyingKey>, KeySetError> {
        let bytes = match &self.source {
            KeySource::File(path) => tokio::fs::read(path).await.map_err(|error| error.to_string()),
            KeySource::Url(url) => fetch(&self.client, url.clone()).await,
        };
        bytes
            .and_then(|bytes| parse(&bytes))
            .map_err(|reason| KeySetError { place: self.source.place(), reason })
    }
}

impl Current {
    /// Those of that name. A token that names none is signed with the only key of its algorithm, or refused.
    fn named(&self, key: Option<&str>) -> Vec<VerifyingKey> {
        match key {
            Some(_) => self.keys.iter().filter(|known| known.id.as_deref() == key).cloned().collect(),
            None => {
                let alone = |one: &&VerifyingKey| {
                    self.keys.iter().filter(|key| key.algorithm() == one.algorithm()).count() == 1
                };
                self.keys.iter().filter(alone).cloned().collect()
            }
        }
    }
}

fn client() -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder().tls_backend_preconfigured(tls).redirect(Policy::none()).no_proxy();
    Ok(client.timeout(PATIENCE).connect_timeout(PATIENCE).build()?)
}

async fn fetch(client: &Client, url: Url) -> Result<Vec<u8>, String> {
    let told = |error: reqwest::Error| error.without_url().to_string();
    let mut response = client.get(url).header("accept", "application/json").send().await.map_err(told)?;
    if !response.status().is_success() {
        return Err(format!("the server answered {}", response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(told)? {
        if bytes.len() + chunk.len() > LONGEST_SET {
            return Err(format!("the answer has more than {LONGEST_SET} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Those keys of a set that tokens can be signed with; keys for anything else are left out.
fn parse(bytes: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    if bytes.len() > LONGEST_SET {
        return Err(format!("it has more than {LONGEST_SET} bytes"));
    }
    let set: Value = serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))?;
    let Some(keys) = set.get("keys").and_then(Value::as_array) else {
        return Err("it is no set of keys: `keys` is missing".to_owned());
    };
    let keys: Vec<VerifyingKey> = keys.iter().filter_map(one).take(MOST_KEYS).collect();
    if keys.is_empty() {
        return Err("it has no key for RS256, ES256 or EdDSA".to_owned());
    }
    Ok(keys)
}

fn one(key: &Value) -> Option<VerifyingKey> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let operations = key.get("key_ops").and_then(Value::as_array);
    if operations.is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
        return None;
    }
    let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
    let (algorithm, decoding) = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            let significant = n.iter().position(|byte| *byte != 0)?;
            let n = n.get(significant..)?;
            // 2048 bits at least; a modulus without end would cost time for every token.
            (256..=1024).contains(&n.len()).then_some(())?;
            ("RS256", DecodingKey::from_rsa_raw_components(n, &e))
        }
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == 32 && y.len() == 32).then_some(())?;
            let point: Vec<u8> = std::iter::once(4).chain(x).chain(y).collect();
            ("ES256", DecodingKey::from_ec_der(&point))
        }
        ("OKP", Some("Ed25519")) => ("EdDSA", DecodingKey::from_ed_der(&bytes("x")?)),
        // Symmetric keys are no public keys: whoever reads the set could make tokens.
        _ => return None,
    };
    if text("alg").is_some_and(|named| named != algorithm && !(algorithm == "EdDSA" && named == "Ed25519")) {
        return None;
    }
    VerifyingKey::of(text("kid").map(str::to_owned), decoding).ok()
}

/// A set that was read within this time is not read again for a key that is in it.
const FRESH: Duration = Duration::from_secs(600);
/// Between two readings.
const PAUSE: Duration = Duration::from_secs(60);
/// How long keys are believed when their server no longer answers.
const STALE: Duration = Duration::from_secs(24 * 3600);
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_SET: usize = 256 * 1024;
const MOST_KEYS: usize = 64;
