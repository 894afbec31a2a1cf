//! What is known of a call when it is over.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Event, EventKind, Id, Moment, TenantId};

/// The record of one leg. Legs of one call carry the same `call`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallRecord {
    /// The leg, and the record.
    pub id: Id,
    /// The call that the leg belongs to.
    pub call: Id,
    /// Whose.
    pub tenant: TenantId,
    /// Who called whom.
    pub direction: Direction,
    /// How far it is.
    pub state: RecordState,
    /// The Call-ID.
    pub sip_call_id: String,
    /// The calling number or user.
    pub from_number: String,
    /// The called number or user, as dialled.
    pub to_number: String,
    /// The trunk that carried it.
    pub trunk_id: Option<String>,
    /// The trunk's provider.
    pub provider: Option<String>,
    /// The route that decided.
    pub route: Option<String>,
    /// What answered or made the call, such as `agent`, `echo`, `bridge`.
    pub app: Option<String>,
    /// The agent, if that is one.
    pub agent: Option<String>,
    /// When the INVITE came or went.
    pub started_at: Moment,
    /// When it rang.
    pub ringing_at: Option<Moment>,
    /// When it was answered.
    pub answered_at: Option<Moment>,
    /// When it ended.
    pub ended_at: Option<Moment>,
    /// From answer to end.
    pub duration_ms: Option<i64>,
    /// What was sent, such as `PCMU`.
    pub codec: Option<String>,
    /// The peer's signalling address.
    pub remote_sip: Option<String>,
    /// The peer's media address.
    pub remote_rtp: Option<String>,
    /// How it sounded.
    pub quality: Option<Quality>,
    /// The AI stream in figures, as `GET /v1/calls/{id}` shows them.
    pub ai: Option<serde_json::Value>,
    /// Where the recording is.
    pub recording: Option<String>,
    /// Why it ended, in words such as `caller hung up`.
    pub hangup_cause: Option<String>,
    /// The SIP status, or 200 after an answered call.
    pub hangup_status: Option<i64>,
    /// The Q.850 cause.
    pub hangup_q850: Option<i64>,
    /// Who ended it.
    pub hangup_side: Option<HangUpSide>,
    /// In the trunk's currency: minutes by its `cost_per_minute`.
    pub cost: Option<f64>,
    /// What was tried, in order, where it was more than one trunk or contact.
    pub attempts: Vec<Attempt>,
    /// What came back from the peer or was set by the request: variables of the call.
    pub variables: serde_json::Value,
}

impl CallRecord {
    /// A leg that begins now. It is a call of its own unless `call` is changed.
    #[must_use]
    pub fn new(tenant: TenantId, direction: Direction) -> Self {
        let id = Id::new();
        Self {
            id,
            call: id,
            tenant,
            direction,
            state: RecordState::Initiated,
            sip_call_id: String::new(),
            from_number: String::new(),
            to_number: String::new(),
            trunk_id: None,
            provider: None,
            route: None,
            app: None,
            agent: None,
            started_at: Moment::now(),
            ringing_at: None,
            answered_at: None,
            ended_at: None,
            duration_ms: None,
            codec: None,
            remote_sip: None,
            remote_rtp: None,
            quality: None,
            ai: None,
            recording: None,
            hangup_cause: None,
            hangup_status: None,
            hangup_q850: None,
            hangup_side: None,
            cost: None,
            attempts: Vec::new(),
            variables: serde_json::Value::Object(serde_json::Map::new()),
        }
    }

    /// What is told about it: that it is in the state that `kind` names, and all that is known.
    #[must_use]
    pub fn event(&self, kind: EventKind) -> Event {
        let data = serde_json::to_value(self).unwrap_or_default();
        Event::new(&self.tenant, kind, self.id, data)
    }

    /// That it is over.
    #[must_use]
    pub fn ended_event(&self) -> Event {
        self.event(EventKind::CallEnded)
    }
}

/// Who called whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// They called us.
    Inbound,
    /// We called them.
    Outbound,
}

impl Direction {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Inbound, Self::Outbound];

    /// The name in the API and the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.name() == name)
    }
}

/// How far a leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// On its way.
    Initiated,
    /// It rings.
    Ringing,
    /// Answered, and not over.
    Answered,
    /// Over after an answer.
    Completed,
    /// Over without one: refused, not reached, timed out.
    Failed,
    /// The called one was busy.
    Busy,
    /// Nobody answered in time.
    NoAnswer,
    /// The caller gave up first.
    Cancelled,
    /// This process died while it ran; when it really ended is not known.
    Interrupted,
}

impl RecordState {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Initiated,
        Self::Ringing,
        Self::Answered,
        Self::Completed,
        Self::Failed,
        Self::Busy,
        Self::NoAnswer,
        Self::Cancelled,
        Self::Interrupted,
    ];

    /// The name in the API and the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.name() == name)
    }
}

/// Who ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HangUpSide {
    /// The calling one.
    Caller,
    /// The called one.
    Callee,
    /// An app, an agent, an operator or a limit of ours.
    System,
}

impl HangUpSide {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Caller, Self::Callee, Self::System];

    /// The name in the API and the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
            Self::System => "system",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.name() == name)
    }
}

/// How a leg sounded, measured here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Quality {
    /// RTP packets that came.
    pub received_packets: i64,
    /// Of those sent to us, how many did not come.
    pub lost_packets: i64,
    /// RTP packets that we sent.
    pub sent_packets: i64,
    /// Interarrival jitter (RFC 3550 section 6.4.1).
    pub jitter_ms: f64,
    /// By the peer's RTCP.
    pub round_trip_ms: Option<f64>,
    /// Of ours, how many did not arrive, by the peer's RTCP.
    pub remote_lost_packets: Option<i64>,
    /// The estimated mean opinion score, 1 to 4.5 (the E-model of G.107, for what we received).
    pub mos: Option<f64>,
}

/// One way that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// The trunk, or the contact's address.
    pub target: String,
    /// When.
    pub started_at: Moment,
    /// How long it took until it was given up or answered.
    pub duration_ms: i64,
    /// The final SIP status; 408 of our own making if none came.
    pub status: i64,
    /// Its reason.
    pub reason: String,
    /// What was done then, such as `next trunk: server failure`.
    pub then: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_api() {
        for state in RecordState::ALL {
            assert_eq!(
                serde_json::to_value(state).ok().as_ref().and_then(|name| name.as_str()),
                Some(state.name())
            );
            assert_eq!(RecordState::named(state.name()), Some(*state));
        }
        for side in HangUpSide::ALL {
            assert_eq!(
                serde_json::to_value(side).ok().as_ref().and_then(|name| name.as_str()),
                Some(side.name())
            );
        }
        for direction in Direction::ALL {
            assert_eq!(
                serde_json::to_value(direction).ok().as_ref().and_then(|name| name.as_str()),
                Some(direction.name())
            );
        }
    }
}
