//! What is told to others when it happened.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Id, Moment, TenantId};

/// What happened. Kept in the outbox in the transaction of what it tells about, and delivered at least once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Tells one event from a repetition of it; ordered by time.
    pub id: Id,
    /// Whose.
    pub tenant: TenantId,
    /// What kind, such as `call.answered`.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When.
    pub time: Moment,
    /// What it is about: the id of a call, trunk or message.
    pub subject: String,
    /// The rest, by kind.
    pub data: serde_json::Value,
}

impl Event {
    /// One that happens now.
    #[must_use]
    pub fn new(tenant: &TenantId, kind: EventKind, subject: impl ToString, data: serde_json::Value) -> Self {
        Self {
            id: Id::new(),
            tenant: tenant.clone(),
            kind,
            time: Moment::now(),
            subject: subject.to_string(),
            data,
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// The kinds of events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl EventKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name in events and subscriptions.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// The kind of that name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.name() == name)
            }
        }
    };
}

kinds! {
    /// A leg began: an INVITE came or went.
    CallInitiated = "call.initiated",
    /// It rings.
    CallRinging = "call.ringing",
    /// It was answered.
    CallAnswered = "call.answered",
    /// It is over; with the whole record.
    CallEnded = "call.ended",
    /// A trunk's state changed.
    TrunkState = "trunk.state",
    /// A text message came.
    MessageReceived = "message.received",
    /// A text message's delivery state changed.
    MessageState = "message.state",
    /// A phone registered, or is no longer.
    BindingChanged = "binding.changed",
    /// A batch of calls went on or ended.
    BatchProgress = "batch.progress",
}
