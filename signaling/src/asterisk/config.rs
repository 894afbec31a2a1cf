//! Who may dial us, and where.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

/// How Asterisk may dial us. By default not at all.
#[derive(Clone, Debug, Default)]
pub struct AsteriskConfig {
    /// AudioSocket.
    pub audiosocket: Option<AudioSocketConfig>,
    /// `chan_websocket`.
    pub chan_websocket: Option<ChanWebSocketConfig>,
    /// Ends a call from which nothing comes for so long; zero never does.
    pub silence_timeout: Duration,
}

/// AudioSocket by TCP.
#[derive(Clone, Debug)]
pub struct AudioSocketConfig {
    /// The local address.
    pub bind: SocketAddr,
    /// Who may connect. Empty is this host only.
    pub allow: Vec<IpNet>,
    /// Whom a call is for, as routes have it.
    pub user: String,
    /// Whom the calls with these UUIDs are for. Keys are lower case, with hyphens.
    pub users: BTreeMap<String, String>,
}

/// `chan_websocket` by WebSocket.
#[derive(Clone, Debug)]
pub struct ChanWebSocketConfig {
    /// The local address.
    pub bind: SocketAddr,
    /// Who may connect. Empty is this host only.
    pub allow: Vec<IpNet>,
    /// The path of the URL; what follows it after a slash is whom the call is for.
    pub path: String,
    /// Whom a call is for whose URL ends with the path.
    pub user: String,
    /// What a request must bring.
    pub token: Option<Token>,
    /// Whether the channel is told to answer.
    pub answer: bool,
}

/// A secret that is only ever compared: its digest, so that neither a log nor the time of a comparison tells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// The token that `secret` is.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(digest(secret))
    }

    /// Whether `offered` is the secret.
    #[must_use]
    pub fn is(&self, offered: &str) -> bool {
        let offered = digest(offered);
        self.0.iter().zip(offered).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs)) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

fn digest(text: &str) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().unwrap_or_default()
}
