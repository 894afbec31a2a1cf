//! Who asks.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::problem::Problem;
use crate::model::{Access, AuditEntry, Role, TenantId};

/// Who makes a request, as its token says. Every handler under `/api` takes one: without it nobody is let in, and
/// [`Self::require`] says what they must be.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Name, role, and the tenant that the request is about.
    pub(crate) access: Access,
    /// Where the request came from.
    pub(crate) source: IpAddr,
}

impl Caller {
    /// Fails unless they are that much, or more.
    ///
    /// # Errors
    /// 403, which names the role.
    pub(crate) fn require(&self, role: Role) -> Result<(), Problem> {
        if self.access.role >= role { Ok(()) } else { Err(Problem::needs(role)) }
    }

    /// An entry for the log of changes: what they do to `target`, such as `trunk.create`. Complete it with how the thing
    /// was and is, and write it in the transaction of the change.
    #[must_use]
    pub(crate) fn entry(&self, action: &str, target: impl ToString) -> AuditEntry {
        AuditEntry::new(&self.access, self.source, action, target)
    }

    /// The tenant that the request is about: their own, or that which an admin names by the header `X-Tenant`.
    #[must_use]
    pub(crate) const fn tenant(&self) -> &TenantId {
        &self.access.tenant
    }
}

/// What the door found out about who asks.
#[derive(Clone, Debug)]
pub(super) struct Entrance(pub(super) Result<Caller, Problem>);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let entrance = parts.extensions.get::<Entrance>().cloned();
        entrance.map_or_else(|| Err(Problem::unauthorized("a token is needed", false)), |entrance| entrance.0)
    }
}
