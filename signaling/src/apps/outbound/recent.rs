//! Calls of ours that ended not long ago: what became of them, for who asks a moment later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{Attempt, Id, Moment, RecordState, TenantId};

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Ended {
    /// The call.
    pub id: Id,
    /// Whose.
    pub tenant: TenantId,
    /// The calling number.
    pub from: String,
    /// The dialled number.
    pub to: String,
    /// How it ended.
    pub state: RecordState,
    /// The SIP status; 200 after an answer.
    pub status: u16,
    /// Why, in words.
    pub cause: String,
    /// When it began.
    pub started_at: Moment,
    /// When it was answered.
    pub answered_at: Option<Moment>,
    /// When it ended.
    pub ended_at: Moment,
    /// What was tried.
    pub attempts: Vec<Attempt>,
}

/// The last calls that ended, as many as are kept.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    ended: Arc<Mutex<VecDeque<Arc<Ended>>>>,
}

impl Recent {
    /// One of them.
    #[must_use]
    pub fn call(&self, id: Id) -> Option<Arc<Ended>> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().rev().find(|call| call.id == id).cloned()
    }

    pub(super) fn push(&self, call: Ended) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= MOST {
            ended.pop_front();
        }
        ended.push_back(Arc::new(call));
    }
}

const MOST: usize = 1_000;
