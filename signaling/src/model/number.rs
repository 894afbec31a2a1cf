//! Numbers: what a dialled number reaches.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Id, Moment, TenantId};

/// A number of a tenant, or a range of them, and what it reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Number {
    /// Names it.
    pub id: Id,
    /// Whose.
    pub tenant: TenantId,
    /// As it is dialled, such as `+15551234567`; with `prefix`, how it begins.
    pub number: String,
    /// Whether everything that begins so is meant. Of several the longest decides, and a whole number before them.
    pub prefix: bool,
    /// What it reaches.
    pub destination: Destination,
    /// For people.
    pub description: String,
    /// Whether it is in use.
    pub active: bool,
    /// When it was made.
    pub created_at: Moment,
    /// When it was changed.
    pub updated_at: Moment,
}

/// What a call reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Destination {
    /// What the configuration's routes say of this user, such as `echo`.
    App {
        /// The user that a route of the configuration names.
        name: String,
    },
    /// An AI agent of the configuration.
    Agent {
        /// Its name.
        name: String,
    },
    /// A registered user; all phones of theirs ring.
    User {
        /// The user.
        user: String,
        /// How the phones ring.
        #[serde(default)]
        ring: Ring,
    },
    /// Through a trunk, and those that back it up.
    Trunk {
        /// The trunk.
        trunk_id: String,
        /// What is dialled there; the dialled number if not given.
        #[serde(default)]
        number: Option<String>,
    },
    /// A SIP URI.
    Uri {
        /// Such as `sip:alice@192.0.2.1:5060;transport=tcp`.
        uri: String,
    },
    /// A queue. Queues are not in this version: such calls are refused with 480.
    Queue {
        /// Its name.
        name: String,
    },
}

impl Destination {
    /// The kind, as records and explanations name it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::App { .. } => "app",
            Self::Agent { .. } => "agent",
            Self::User { .. } => "user",
            Self::Trunk { .. } => "trunk",
            Self::Uri { .. } => "uri",
            Self::Queue { .. } => "queue",
        }
    }
}

/// How several phones ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ring {
    /// All at once; the first that answers has the call.
    #[default]
    Parallel,
    /// One after the other.
    Serial,
}
