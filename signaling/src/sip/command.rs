//! What the owner of a call asks its task to do.

use std::time::Duration;

use tokio::sync::oneshot;

use super::incoming::{CallError, Rejection};
use super::refer::{TransferError, TransferTarget, Transferred};
use super::session::{ByeReason, RequestError};

#[derive(Debug)]
pub(super) enum Command {
    Ring {
        status: u16,
        sdp: Option<String>,
        reply: oneshot::Sender<Result<(), CallError>>,
    },
    Reject {
        rejection: Rejection,
        reply: oneshot::Sender<Result<(), CallError>>,
    },
    Accept {
        sdp: String,
        reply: oneshot::Sender<Result<(), CallError>>,
    },
    Bye {
        reason: Option<ByeReason>,
    },
    Reinvite {
        sdp: String,
        reply: oneshot::Sender<Result<String, RequestError>>,
    },
    Info {
        content_type: String,
        body: Vec<u8>,
        reply: oneshot::Sender<Result<(), RequestError>>,
    },
    Refer {
        target: TransferTarget,
        patience: Duration,
        reply: oneshot::Sender<Result<Transferred, TransferError>>,
    },
}
