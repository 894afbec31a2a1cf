//! Who may do what: keys, tokens, tenants, and the log of every change.
//!
//! ```text
//! token -> Gate -> st_..: the store's keys             -> Access { subject, tenant, role }
//!                  a.b.c: fixed keys and a set of keys
//! ```

mod attempts;
mod counters;
mod first;
mod gate;
mod key;
mod key_set;
mod provider;
mod token;

#[cfg(test)]
mod tests;

pub use counters::AccessCounters;
pub use first::{FirstKey, FirstKeyError, first_key, new_key};
pub use gate::{AccessConfig, Gate, Refusal};
pub use key::{NewKey, Text};
pub use key_set::{KeySetError, KeySource};
pub use token::{KeyError, TokenError, TokenRules, VerifyingKey, sign};
