//! Who may do what.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A customer of an installation; what belongs to one is never seen by another. `default` is there from the start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct TenantId(pub String);

impl TenantId {
    /// What a name may be, in words.
    pub const FORM: &str = "must be 1 to 64 letters, digits, `_`, `-` or `.`";

    /// The tenant of that name; nothing if no tenant can have it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        ((1..=64).contains(&name.len()) && name.bytes().all(good)).then(|| Self(name.to_owned()))
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What somebody may do; each may do what the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Make and end calls, send messages.
    Operator,
    /// Change what belongs to the own tenant: trunks, numbers, routes, users, keys.
    TenantAdmin,
    /// Everything, in every tenant.
    Admin,
}

impl Role {
    /// All of them, least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::TenantAdmin, Self::Admin];

    /// The name in tokens, the API and the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::TenantAdmin => "tenant_admin",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Who makes a request: what its token or key says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// A user's name or a key's id, for the audit log.
    pub subject: String,
    /// Whose things they see. An admin may name another one in the request.
    pub tenant: TenantId,
    /// What they may do.
    pub role: Role,
}
