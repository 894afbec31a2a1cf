//! Session timers (RFC 4028): a session that nobody refreshes is over.

use std::time::{Duration, Instant};

use super::message::{Message, decimal, split_quoted};

/// Session-Expires: an interval in seconds, and who refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionExpires {
    pub(super) seconds: u64,
    pub(super) refresher: Option<Role>,
}

/// Who, in the transaction that carries the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Uac,
    Uas,
}

impl SessionExpires {
    /// `None` when there is no such header, an error when it cannot be read.
    pub(super) fn of(message: &Message) -> Result<Option<Self>, InvalidInterval> {
        let Some(value) = message.header("Session-Expires") else { return Ok(None) };
        let mut parts = split_quoted(value, ';');
        let seconds = parts.next().and_then(decimal).ok_or(InvalidInterval)?;
        let mut refresher = None;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            if name.trim().eq_ignore_ascii_case("refresher") {
                refresher = match value.trim().to_ascii_lowercase().as_str() {
                    "uac" => Some(Role::Uac),
                    "uas" => Some(Role::Uas),
                    _ => return Err(InvalidInterval),
                };
            }
        }
        Ok(Some(Self { seconds: seconds.min(MAX_SECONDS), refresher }))
    }
}

/// A Session-Expires or Min-SE that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidInterval;

/// Delta-seconds need no more than 32 bits (RFC 3261 20.19).
const MAX_SECONDS: u64 = u32::MAX as u64;
/// No peer makes us refresh more often than by this interval, which is far below what RFC 4028 4 allows.
const SHORTEST_SECONDS: u64 = 2;

/// What a request of the peer makes of the session timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Negotiated {
    /// No timer.
    Off,
    /// These header fields go into the 2xx: Session-Expires, and whether `Require: timer`.
    On { expires: SessionExpires, require: bool },
    /// 422 with this Min-SE.
    TooSmall { min_se: u64 },
    /// 400.
    Invalid,
}

/// The UAS's choice for an INVITE or UPDATE (RFC 4028 9, table 2). The peer refreshes when it can.
pub(super) fn negotiate(request: &Message, default: Duration, minimum: Duration) -> Negotiated {
    let peer_min = request.header("Min-SE").map(|value| split_quoted(value, ';').next().and_then(decimal));
    let (Ok(wanted), Some(peer_min)) = (SessionExpires::of(request), peer_min.unwrap_or(Some(0))) else {
        return Negotiated::Invalid;
    };
    let supported = request.lists("Supported", "timer") || request.lists("Require", "timer");
    let min_se = minimum.as_secs();
    let (seconds, refresher) = match wanted {
        None if !supported => return Negotiated::Off,
        None => (default.as_secs().max(peer_min).max(min_se), None),
        // Whoever does not know timers would not understand a 422: a proxy asked for this one.
        Some(wanted) if wanted.seconds < min_se && supported => return Negotiated::TooSmall { min_se },
        Some(wanted) => (wanted.seconds.max(min_se), wanted.refresher),
    };
    let role = if supported { refresher.unwrap_or(Role::Uac) } else { Role::Uas };
    let expires = SessionExpires { seconds: seconds.min(MAX_SECONDS), refresher: Some(role) };
    Negotiated::On { expires, require: supported && role == Role::Uac }
}

impl Negotiated {
    /// Adds what the 2xx has to say.
    pub(super) fn apply(self, mut response: Message) -> Message {
        if let Self::On { expires, require } = self {
            response.push("Session-Expires", expires.write());
            if require {
                response.push("Require", "timer");
            }
        }
        response
    }
}

impl SessionExpires {
    pub(super) fn write(self) -> String {
        match self.refresher {
            Some(Role::Uac) => format!("{};refresher=uac", self.seconds),
            Some(Role::Uas) => format!("{};refresher=uas", self.seconds),
            None => self.seconds.to_string(),
        }
    }
}

/// The running timer of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SessionTimer {
    running: Option<Running>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Running {
    interval: Duration,
    /// When to refresh, if that is our part and has not been tried yet.
    refresh_at: Option<Instant>,
    expire_at: Instant,
    we_refresh: bool,
}

/// What a timeout asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionTimeout {
    /// Send an UPDATE or re-INVITE now.
    Refresh,
    /// Send a BYE: the session was not refreshed.
    Expire,
}

impl SessionTimer {
    /// (Re)starts after a 2xx that was sent or received. `we_refresh` is already from our point of view.
    pub(super) fn start(&mut self, now: Instant, seconds: u64, we_refresh: bool) {
        let interval = Duration::from_secs(seconds);
        // RFC 4028 10: the side that does not refresh hangs up min(32 s, interval / 3) early.
        let margin = Duration::from_secs(32).min(interval / 3);
        let refresh_at = we_refresh.then(|| now + interval / 2);
        self.running = Some(Running { interval, refresh_at, expire_at: now + interval - margin, we_refresh });
    }

    /// Starts as a 2xx of ours to the peer's request says.
    pub(super) fn start_as_uas(&mut self, now: Instant, negotiated: Negotiated) {
        match negotiated {
            Negotiated::On { expires, .. } => {
                self.start(now, expires.seconds, expires.refresher == Some(Role::Uas))
            }
            _ => self.running = None,
        }
    }

    /// Starts as a 2xx to a request of ours says. Without the header the peer knows no timers, and we go
    /// on refreshing by ourselves (RFC 4028 7.2).
    pub(super) fn start_as_uac(&mut self, now: Instant, answered: Option<SessionExpires>) {
        match (answered, self.running) {
            (Some(expires), _) => {
                let seconds = expires.seconds.max(SHORTEST_SECONDS);
                self.start(now, seconds, expires.refresher != Some(Role::Uas));
            }
            (None, Some(running)) => self.start(now, running.interval.as_secs(), true),
            (None, None) => {}
        }
    }

    /// What a request of ours asks for: the interval that runs, with the same side refreshing.
    pub(super) fn proposal(&self) -> Option<SessionExpires> {
        let running = self.running?;
        let refresher = Some(if running.we_refresh { Role::Uac } else { Role::Uas });
        Some(SessionExpires { seconds: running.interval.as_secs(), refresher })
    }

    /// The peer wants a longer interval (422); it counts from the next 2xx.
    pub(super) fn raise(&mut self, seconds: u64) {
        if let Some(running) = &mut self.running {
            running.interval = running.interval.max(Duration::from_secs(seconds.min(MAX_SECONDS)));
        }
    }

    /// A refresh met a pending offer; try again at this time.
    pub(super) fn retry_at(&mut self, at: Instant) {
        if let Some(running) = &mut self.running {
            running.refresh_at = Some(at);
        }
    }

    #[must_use]
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let running = self.running?;
        Some(running.refresh_at.unwrap_or(running.expire_at).min(running.expire_at))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<SessionTimeout> {
        let running = self.running.as_mut()?;
        if now >= running.expire_at {
            self.running = None;
            return Some(SessionTimeout::Expire);
        }
        if running.refresh_at.is_some_and(|at| now >= at) {
            running.refresh_at = None;
            return Some(SessionTimeout::Refresh);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Duration = Duration::from_secs(1800);
    const MINIMUM: Duration = Duration::from_secs(90);

    fn request(headers: &[(&str, &str)]) -> Message {
        let mut message = Message::request("INVITE", "sip:a@192.0.2.1");
        for (name, value) in headers {
            message.push(name, *value);
        }
        message
    }

    fn choice(headers: &[(&str, &str)]) -> Negotiated {
        negotiate(&request(headers), DEFAULT, MINIMUM)
    }

    fn on(seconds: u64, refresher: Role, require: bool) -> Negotiated {
        Negotiated::On { expires: SessionExpires { seconds, refresher: Some(refresher) }, require }
    }

    #[test]
    fn all_rows_of_the_table_of_rfc_4028_section_9() {
        let timer = ("Supported", "100rel, timer");
        assert_eq!(choice(&[]), Negotiated::Off);
        assert_eq!(choice(&[timer]), on(1800, Role::Uac, true));
        assert_eq!(choice(&[timer, ("Session-Expires", "600")]), on(600, Role::Uac, true));
        assert_eq!(choice(&[timer, ("Session-Expires", "600;refresher=uac")]), on(600, Role::Uac, true));
        assert_eq!(choice(&[timer, ("Session-Expires", "600;refresher=uas")]), on(600, Role::Uas, false));
        assert_eq!(choice(&[("Session-Expires", "600")]), on(600, Role::Uas, false), "a proxy asked");
    }

    #[test]
    fn small_intervals_are_refused_only_where_that_is_understood() {
        let timer = ("Supported", "timer");
        assert_eq!(choice(&[timer, ("Session-Expires", "89")]), Negotiated::TooSmall { min_se: 90 });
        assert_eq!(choice(&[timer, ("Session-Expires", "90")]), on(90, Role::Uac, true));
        assert_eq!(choice(&[("Session-Expires", "30")]), on(90, Role::Uas, false));
        assert_eq!(choice(&[timer, ("Min-SE", "7200")]), on(7200, Role::Uac, true));
    }

    #[test]
    fn unreadable_values_are_invalid() {
        for value in ["", "x", "-90", "600;refresher=me", "99999999999999999999999"] {
            assert_eq!(choice(&[("Session-Expires", value)]), Negotiated::Invalid, "{value}");
        }
        assert_eq!(choice(&[("Min-SE", "soon"), ("Supported", "timer")]), Negotiated::Invalid);
    }

    #[test]
    fn the_refresher_refreshes_at_half_time_and_hangs_up_before_the_end() {
        let start = Instant::now();
        let mut timer = SessionTimer::default();
        timer.start_as_uas(start, on(90, Role::Uas, false));
        assert_eq!(timer.poll_timeout(), Some(start + Duration::from_secs(45)));
        assert_eq!(timer.handle_timeout(start + Duration::from_secs(44)), None);
        assert_eq!(timer.handle_timeout(start + Duration::from_secs(45)), Some(SessionTimeout::Refresh));
        assert_eq!(timer.poll_timeout(), Some(start + Duration::from_secs(60)), "90 s less a third");
        timer.start_as_uac(start + Duration::from_secs(46), None);
        assert_eq!(timer.poll_timeout(), Some(start + Duration::from_secs(91)));
        let late = start + Duration::from_secs(46 + 60);
        assert_eq!(timer.handle_timeout(late), Some(SessionTimeout::Expire));
        assert_eq!(timer.poll_timeout(), None);
    }

    #[test]
    fn the_other_side_waits_and_hangs_up_32_s_early() {
        let start = Instant::now();
        let mut timer = SessionTimer::default();
        timer.start_as_uas(start, on(1800, Role::Uac, true));
        let end = start + Duration::from_secs(1800 - 32);
        assert_eq!(timer.poll_timeout(), Some(end));
        assert_eq!(timer.proposal().unwrap().write(), "1800;refresher=uas");
        assert_eq!(timer.handle_timeout(end), Some(SessionTimeout::Expire));
    }

    #[test]
    fn roles_are_turned_for_our_own_refreshes() {
        let start = Instant::now();
        let mut timer = SessionTimer::default();
        timer.start(start, 100, true);
        assert_eq!(timer.proposal().unwrap().write(), "100;refresher=uac");
        timer.raise(400);
        assert_eq!(timer.proposal().unwrap().seconds, 400);
        timer.retry_at(start + Duration::from_secs(52));
        assert_eq!(timer.poll_timeout(), Some(start + Duration::from_secs(52)));
        timer.start_as_uac(start, Some(SessionExpires { seconds: 400, refresher: Some(Role::Uas) }));
        assert_eq!(timer.poll_timeout(), Some(start + Duration::from_secs(368)), "the peer took over");
    }
}
