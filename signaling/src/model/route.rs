//! Outbound routes: which trunks carry which numbers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Id, Moment, TenantId};

/// A rule for calls that leave: which numbers, how they are written, by which trunks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutboundRoute {
    /// Names it.
    pub id: Id,
    /// Whose.
    pub tenant: TenantId,
    /// For people, records and explanations; unique within the tenant.
    pub name: String,
    /// Lower ones are looked at first; among equals the name decides.
    pub priority: i32,
    /// A regular expression for the whole dialled number, such as `^(\d+)$`.
    pub pattern: String,
    /// What is dialled instead: `$1` or `${name}` stand for the groups of `pattern`. The number as it is if not given.
    pub rewrite: Option<String>,
    /// How the calling number is written.
    pub caller_id: Option<CallerIdRule>,
    /// The trunks.
    pub trunks: Vec<RouteTrunk>,
    /// In which order they are tried.
    pub strategy: RouteStrategy,
    /// After which failures the next trunk is tried.
    pub advance_on: Vec<FailureClass>,
    /// How long one trunk may take to give any sign of the call going on before the next one is tried.
    pub setup_timeout_ms: u32,
    /// How long it may ring at one trunk.
    pub ring_timeout_ms: u32,
    /// For people.
    pub description: String,
    /// Whether it is in use.
    pub active: bool,
    /// When it was made.
    pub created_at: Moment,
    /// When it was changed.
    pub updated_at: Moment,
}

impl OutboundRoute {
    /// The failures after which another trunk may do better: those of the trunk and not of the called one.
    pub const ADVANCE_ON: [FailureClass; 4] = [
        FailureClass::ServerFailure,
        FailureClass::Unreachable,
        FailureClass::TimedOut,
        FailureClass::Challenged,
    ];
    /// Time for the first sign of a call going on.
    pub const SETUP_TIMEOUT_MS: u32 = 4_000;
    /// Time for an answer.
    pub const RING_TIMEOUT_MS: u32 = 60_000;
}

/// One trunk of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTrunk {
    /// The trunk.
    pub trunk_id: String,
    /// Its share of the calls with the strategy `weight`.
    #[serde(default = "one")]
    pub weight: u32,
    /// What a minute costs there for the numbers of this route; the trunk's own cost if not given.
    #[serde(default)]
    pub cost: Option<f64>,
}

const fn one() -> u32 {
    1
}

/// In which order the trunks of a route are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteStrategy {
    /// As they are listed.
    #[default]
    Ordered,
    /// By chance, a trunk with twice the weight twice as often.
    Weight,
    /// The cheapest first.
    LeastCost,
}

/// How the calling number is written for a trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallerIdRule {
    /// A regular expression for the whole calling number; others stay as they are. Every number if not given.
    #[serde(default)]
    pub pattern: Option<String>,
    /// What is sent instead, with the groups of `pattern`.
    pub rewrite: String,
}

/// Why a call did not come to be, as far as it decides what to try next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The called one is busy (486, 600).
    Busy,
    /// It rang for as long as it may.
    NoAnswer,
    /// The call was refused (403, 603 and the like).
    Refused,
    /// The number does not exist (404, 410, 484, 604).
    NotFound,
    /// The trunk is overloaded or broken (5xx).
    ServerFailure,
    /// There was no way to the trunk.
    Unreachable,
    /// The trunk said nothing in time (408, or silence).
    TimedOut,
    /// We gave it up.
    Cancelled,
    /// The trunk does not take our credentials (401, 407).
    Challenged,
}

impl FailureClass {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Busy,
        Self::NoAnswer,
        Self::Refused,
        Self::NotFound,
        Self::ServerFailure,
        Self::Unreachable,
        Self::TimedOut,
        Self::Cancelled,
        Self::Challenged,
    ];

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NoAnswer => "no answer",
            Self::Refused => "refused",
            Self::NotFound => "not found",
            Self::ServerFailure => "server failure",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
            Self::Challenged => "credentials refused",
        }
    }
}
