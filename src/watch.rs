//! Says, once, that media goes another way than it did: a device that has lost its interface.

use std::time::Duration;

use signaling::media::Media;

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

const EVERY: Duration = Duration::from_secs(1);
