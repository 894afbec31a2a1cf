//! Tenants and their keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Moment, Role, TenantId};

/// A customer of an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Its name in tokens and in `X-Tenant`.
    pub id: TenantId,
    /// Its name for people.
    pub name: String,
    /// Whether its keys and tokens are taken.
    pub active: bool,
    /// When it was made.
    pub created_at: Moment,
    /// When it was last changed.
    pub changed_at: Moment,
}

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// What stands between `st_` and the secret.
    pub id: String,
    /// Whose.
    pub tenant: TenantId,
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Moment,
    /// By whom.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Option<Moment>,
    /// When it was last used, to about five minutes.
    pub last_used_at: Option<Moment>,
}
