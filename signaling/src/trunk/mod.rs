//! Trunks: the carriers and switches that calls come from and go to. What may be asked of one, which calls are its
//! own, how many it carries, and that it stays registered.
//!
//! ```text
//! API --store--> supervisor --Wanted--> keeper (registration)  --Change--> states (store, events)
//!   refresh()        |      --Wanted--> keeper (where, OPTIONS) --Change-->
//!                    +-> Live: settings, gate (limits), standing     <- Trunks::way (calls out), Trunks::identify (calls in)
//! ```
//! With several nodes on one store, the first that asks holds a trunk and registers it; if it does not renew that for
//! half a minute, another one takes it over. Calls go out by any node, limits are each node's own.

mod admission;
mod identify;
mod inbound;
mod keeper;
mod live;
mod ping;
mod settings;
mod states;
mod supervisor;

pub use admission::{Admission, Refused, TrunkCounters};
pub use identify::TrunkKey;
pub use inbound::{Inbound, TrunkCall};
pub use settings::{PasswordChange, change, create};
pub use supervisor::{NoWay, TrunkConfig, Trunks, UnknownCallers, Way};
