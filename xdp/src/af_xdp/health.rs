//! Whether the rings still lead anywhere, looked at ten times a second, and the figures that come with it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Core;
use super::rings::Rings;

/// When it is looked at next, and what was seen last.
#[derive(Debug)]
pub(super) struct Health {
    due: Instant,
    /// What the kernel had counted.
    statistics: [u64; 5],
    state: State,
}

/// How the device reaches the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Rings,
    /// The program is gone: what is in the rings is still taken.
    Draining,
    Sockets,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { due: Instant::now(), statistics: [0; 5], state: State::Rings }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    pub(super) fn until_due(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }
}

impl Core {
    /// See the module's documentation.
    #[cold]
    pub(super) fn check_health(&mut self, now: Instant) {
        self.health.due = now + CHECK_EVERY;
        if self.health.state == State::Sockets {
            return;
        }
        self.refresh_promoted();
        self.watch_forwarding();
        let attached = self.shared.hops.is_alive();
        let Some(rings) = &mut self.rings else {
            if !attached {
                self.fall_back();
            }
            return;
        };
        rings.count(&mut self.health.statistics, &self.counters);
        rings.check();
        if self.poller.wait(Duration::ZERO).failed || (!attached && !rings.has_received()) {
            self.fall_back();
        } else if !attached {
            self.health.state = State::Draining;
        }
    }

    /// Goes on through the kernel's sockets.
    #[cold]
    pub(super) fn fall_back(&mut self) {
        if self.health.state == State::Sockets {
            return;
        }
        self.health.state = State::Sockets;
        if let Some(fallen) = self.shared.fallen.get(self.worker) {
            fallen.store(true, Ordering::Relaxed);
        }
        self.counters.fallbacks.increment();
        self.ways.close_rings();
        // What was queued there is lost, as on a wire that is cut.
        self.rings = None;
    }

    pub(super) fn name(&self) -> &'static str {
        self.shared.name(self.health.state == State::Sockets)
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

/// Half of the 100 ms within which traffic goes on elsewhere.
const CHECK_EVERY: Duration = Duration::from_millis(50);
