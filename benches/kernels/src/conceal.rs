//! Concealment: only its quality is compared.

use crate::quality::concealment::Candidate;

/// Ours, for the quality report.
pub fn ours() -> Vec<Candidate> {
    Vec::new()
}
