//! Who may do what: keys, tokens, tenants, and the log of every change.

mod gate;
mod provider;
mod token;

pub use gate::{AccessConfig, Gate, Refusal};
pub use token::{KeyError, TokenError, TokenRules, VerifyingKey, sign};
