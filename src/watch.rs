//! Says what changed while nobody asked: a device that has lost its interface, a registration that fails.

use std::time::Duration;

use signaling::media::Media;
use signaling::sip::{RegistrationState, RegistrationStatus};
use tokio::sync::watch;

/// Looks every second; ends when it has something to say, for a device does not come back by itself.
pub(crate) async fn devices(media: Media) {
    let started = media.engine().device().name;
    loop {
        tokio::time::sleep(EVERY).await;
        let now = media.engine().devices_in_use();
        if let Some((worker, device)) = now.into_iter().enumerate().find(|(_, device)| *device != started) {
            tracing::warn!(
                worker,
                device,
                "the interface or the XDP program on it is gone: calls go on, at the cost of kernel sockets, and stay \
                 there; restart sidetone (it drains on SIGTERM) when the interface is back"
            );
            return;
        }
    }
}

/// Logs each change of a registration until its end.
pub(crate) async fn registration(mut status: watch::Receiver<RegistrationStatus>) {
    let mut told = None;
    while status.changed().await.is_ok() {
        let RegistrationStatus { state, cause, expires, .. } = status.borrow_and_update().clone();
        let is_news = told != Some((state, cause.clone()));
        match (state, &cause) {
            _ if !is_news => {}
            (RegistrationState::Registered, None) => {
                let expires_s = expires.map(|expires| expires.as_secs());
                tracing::info!(state = state.name(), expires_s, "registered with the SIP server");
            }
            (_, Some(cause)) => {
                tracing::warn!(
                    state = state.name(),
                    "the SIP server does not register us: {cause}; trying again"
                );
            }
            (_, None) => tracing::debug!(state = state.name(), "registration"),
        }
        told = Some((state, cause));
    }
}

const EVERY: Duration = Duration::from_secs(1);
