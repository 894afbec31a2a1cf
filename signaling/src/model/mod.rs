//! What is kept: plain data of the signalling plane, as the API shows it and the store holds it. No logic beyond
//! what a value says about itself.

mod access;
mod audit;
mod event;
mod id;
mod moment;
mod number;
mod record;
mod route;
mod tenant;
mod trunk;
mod trunk_request;
mod webhook;

pub use access::{Access, Role, TenantId};
pub use audit::AuditEntry;
pub use event::{Event, EventKind};
pub use id::Id;
pub use moment::Moment;
pub use number::{Destination, Number, Ring};
pub use record::{Attempt, CallRecord, Direction, HangUpSide, Quality, RecordState};
pub use route::{CallerIdRule, FailureClass, OutboundRoute, RouteStrategy, RouteTrunk};
pub use tenant::{ApiKey, Tenant};
pub use trunk::{AuthMethod, PingState, Trunk, TrunkState, TrunkStatus, TrunkTransport};
pub use trunk_request::{FieldError, NewTrunk, Secret, TrunkPatch, TrunkSummary};
pub use webhook::{DeadDelivery, Webhook};
