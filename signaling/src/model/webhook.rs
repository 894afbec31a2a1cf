//! Webhooks: receivers of events by HTTP.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EventKind, Id, Moment, TenantId};

/// A receiver. Its signing secret is not part of it: it is shown once, when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// Names it.
    pub id: Id,
    /// Whose.
    pub tenant: TenantId,
    /// Where events go: `https://` or `http://`.
    pub url: String,
    /// For people.
    pub description: String,
    /// The kinds that it gets; all if empty.
    pub kinds: Vec<EventKind>,
    /// Whether it gets any.
    pub active: bool,
    /// Why it was switched off, if not by a request.
    pub disabled_reason: Option<String>,
    /// When it was made.
    pub created_at: Moment,
    /// When it was changed.
    pub updated_at: Moment,
}

/// An event that was given up for a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadDelivery {
    /// Names it: the event and the receiver.
    pub id: String,
    /// The webhook; none for the URL of a single call.
    pub webhook: Option<Id>,
    /// Where it should have gone.
    pub url: String,
    /// The event.
    pub event: Id,
    /// The event's kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the event is about.
    pub subject: String,
    /// How often it was tried.
    pub attempts: i64,
    /// The status of the last answer, if there was one.
    pub last_status: Option<i64>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When the event was queued for this receiver.
    pub created_at: Moment,
    /// When it was given up.
    pub dead_at: Moment,
}
