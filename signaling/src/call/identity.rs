//! What a call is known by outside of this process.

use crate::model::{Direction, Id, TenantId};

/// What a leg is known by outside of this process, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The leg; its record and the API's call have the same id.
    pub leg: Id,
    /// The call that it belongs to: the same for all legs of a bridged call.
    pub call: Id,
    /// Whose.
    pub tenant: TenantId,
    /// Who called whom.
    pub direction: Direction,
    /// The trunk that carries it.
    pub trunk: Option<String>,
    /// The calling number or user, unmasked.
    pub from: String,
    /// The called number or user, unmasked.
    pub to: String,
}

impl Default for Identity {
    /// A new inbound call of the default tenant.
    fn default() -> Self {
        Self::new(TenantId::default(), Direction::Inbound, String::new(), String::new())
    }
}

impl Identity {
    /// The first leg of a new call.
    #[must_use]
    pub fn new(tenant: TenantId, direction: Direction, from: String, to: String) -> Self {
        let leg = Id::new();
        Self { leg, call: leg, tenant, direction, trunk: None, from, to }
    }

    /// A further leg of the same call, which we make.
    #[must_use]
    pub fn outward(&self, from: String, to: String) -> Self {
        Self { call: self.call, ..Self::new(self.tenant.clone(), Direction::Outbound, from, to) }
    }
}
