//! `[audiosocket]` and `[chan_websocket]`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::types::{FilePath, Network, OptionalAddress};

/// `[audiosocket]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AudioSocket {
    /// The local address where Asterisk may dial us; empty does not listen.
    pub bind: OptionalAddress,
    /// Networks that may connect; empty is this host only.
    pub allow: Vec<Network>,
    /// The user whose route a call takes.
    pub user: String,
    /// Users by the call's UUID.
    pub users: BTreeMap<String, String>,
}

impl Default for AudioSocket {
    fn default() -> Self {
        Self {
            bind: OptionalAddress::default(),
            allow: Vec::new(),
            user: USER.to_owned(),
            users: BTreeMap::new(),
        }
    }
}

/// `[chan_websocket]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChanWebSocket {
    /// The local address where Asterisk may dial us; empty does not listen.
    pub bind: OptionalAddress,
    /// Networks that may connect; empty is this host only.
    pub allow: Vec<Network>,
    /// The URL's path; a user may follow it.
    pub path: String,
    /// The user whose route a call takes if the URL names none.
    pub user: String,
    /// The environment variable with the token that a request must bring.
    pub token_env: Option<String>,
    /// The file with that token.
    pub token_file: Option<FilePath>,
    /// Tells the channel to answer.
    pub answer: bool,
}

impl Default for ChanWebSocket {
    fn default() -> Self {
        Self {
            bind: OptionalAddress::default(),
            allow: Vec::new(),
            path: "/media".to_owned(),
            user: USER.to_owned(),
            token_env: None,
            token_file: None,
            answer: false,
        }
    }
}

/// The route that is there without a configuration.
const USER: &str = "agent";
