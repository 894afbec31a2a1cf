//! Where media may go: never to what is no host, and not for long to a host that never answers.

use std::net::{IpAddr, SocketAddr};

use super::is_forbidden;
use crate::time::{Duration, Instant};

/// Whether media may go to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    Granted,
    /// It never answered.
    Silent,
    /// It must never get any.
    Forbidden,
}

/// Against reflection: a host from which nothing ever came gets media for a limited time only, however often
/// signalling changes the port or goes away and comes back, and one call reaches a few such hosts at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SilentPeerGuard {
    limit: Duration,
    heard: bool,
    /// Which of `silent` media goes to now; `None` if there have been too many of them.
    current: Option<usize>,
    silent: [SilentHost; SILENT_HOSTS],
}

/// A host that has not answered, and when the first packet went there.
#[derive(Clone, Copy, Debug, Default)]
struct SilentHost {
    ip: Option<IpAddr>,
    first_sent: Option<Instant>,
}

impl SilentPeerGuard {
    pub(crate) fn new(limit: Duration, signalled: Option<SocketAddr>) -> Self {
        let mut guard =
            Self { limit, heard: false, current: None, silent: [SilentHost::default(); SILENT_HOSTS] };
        guard.retarget(signalled.map(|signalled| signalled.ip()));
        guard
    }

    /// Signalling has named another address.
    pub(crate) fn retarget(&mut self, ip: Option<IpAddr>) {
        let ip = ip.map(|ip| ip.to_canonical());
        self.heard = false;
        let known = self.silent.iter().position(|host| ip.is_some() && host.ip == ip);
        self.current = known.or_else(|| self.silent.iter().position(|host| host.first_sent.is_none()));
        if let Some(index) = self.current {
            self.silent[index].ip = ip;
        }
    }

    /// Something valid came from `ip`, which media goes to or is going to.
    pub(crate) fn handle_heard(&mut self, ip: IpAddr) {
        self.heard = true;
        // A caller behind NAT proves nothing about the address that its SDP names.
        let host = self.current.map(|index| &mut self.silent[index]);
        if let Some(host) = host.filter(|host| host.ip == Some(ip.to_canonical())) {
            host.first_sent = None;
        }
    }

    /// A packet goes there.
    pub(crate) fn handle_sent(&mut self, now: Instant) {
        if let Some(index) = self.current.filter(|_| !self.heard) {
            self.silent[index].first_sent.get_or_insert(now);
        }
    }

    /// Whether anything may go to `remote` now.
    pub(crate) fn may_send_to(&self, now: Instant, remote: SocketAddr) -> Permission {
        if is_forbidden(remote) {
            Permission::Forbidden
        } else if self.is_open(now) {
            Permission::Granted
        } else {
            Permission::Silent
        }
    }

    /// Whether the host has answered, so that media may go there for good.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard
    }

    fn is_open(&self, now: Instant) -> bool {
        self.heard
            || self.current.is_some_and(|index| {
                let first = self.silent[index].first_sent;
                first.is_none_or(|first| now.saturating_duration_since(first) < self.limit)
            })
    }
}

/// Hosts that one call may name and that never answer.
const SILENT_HOSTS: usize = 4;
