//! What the operator asks for by signal.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that we act on.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes the signals over from their default, which is to kill.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Completes when somebody asks us to end, with the signal's name. Cancel safe.
    pub(crate) async fn end(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => tracing::warn!(
                    "SIGHUP: the configuration cannot be reloaded in this version; restart to apply changes"
                ),
            }
        }
    }
}
