//! Trunks: the carriers and switches that calls come from and go to. What may be asked of one, which calls are its
//! own, and how many it carries.

mod admission;
mod identify;
mod ping;
mod settings;

pub use admission::{Admission, Refused, TrunkCounters};
pub use identify::TrunkKey;
pub use settings::{PasswordChange, change, create};
