//! Where calls go: numbers and what they reach, outbound routes and their trunks. Pure: no clock, no socket, no chance
//! of its own; a decision comes with every rule that was looked at.
//!
//! ```text
//! inbound:  dialled number -> the tenant's numbers -> Destination            (else the routes of the configuration)
//! outbound: dialled number -> routes by priority -> rewriting -> trunks in the order of the strategy, then their
//!           backup trunks -> Candidates                                      (else the tenant's default trunk)
//! ```
#![deny(clippy::indexing_slicing)]

mod decide;
mod pattern;
mod table;
#[cfg(test)]
mod tests;

pub use decide::{Candidate, Decision, Question, Step, TrunkFacts};
pub use pattern::{Pattern, PatternError, Rewrite, is_diallable, normalized};
pub use table::{RoutingTable, RuleError, check};
