//! One call on its way out: what is tried, one after the other or at once, until somebody answers. Knows nothing of
//! media: who owns it gives the offers and takes the answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, select_all};
use tokio::time::{Instant, sleep_until};

use crate::model::{Attempt, FailureClass, Moment, TenantId, Trunk};
use crate::sip::{
    Address, ByeReason, Credentials, DialError, Failure, Headers, OutgoingCall, OutgoingInvite, Progress,
    Session, SipHandle, Target,
};
use crate::trunk::{Admission, Trunks};

/// One way to the callee.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// Through a trunk of the tenant.
    Trunk {
        trunk_id: String,
        /// What is dialled there.
        number: String,
        /// As whom.
        from: String,
    },
    /// Straight to a URI, a contact, or by an account of the configuration.
    Direct(Box<Direct>),
}

/// Straight to somewhere.
#[derive(Clone, Debug)]
pub(crate) struct Direct {
    /// As records name it.
    pub(crate) name: String,
    pub(crate) target: Target,
    /// The user part of the Request-URI; the target's own without one.
    pub(crate) request_user: Option<String>,
    pub(crate) from: Address,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) contact_user: Option<String>,
}

/// What is tried, and when the next is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) tenant: TenantId,
    /// Those within one group ring at once, groups follow each other.
    pub(crate) groups: VecDeque<Vec<Way>>,
    pub(crate) advance_on: Vec<FailureClass>,
    /// How long one may take to give any sign of the call going on.
    pub(crate) setup_timeout: Duration,
    /// How long it may ring at one.
    pub(crate) ring_timeout: Duration,
    pub(crate) headers: Headers,
}

/// What happens to a call on its way out.
pub(crate) enum Step {
    /// An offer is wanted for the next way; [`Dialing::offer`] takes it.
    Wanted(Wanted),
    /// It rings, or more.
    Provisional { status: u16, sdp: Option<String> },
    /// Somebody has answered.
    Answered(Box<Won>),
    /// Nobody will.
    Failed(Unanswered),
}

/// The offer that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The host that the call goes to.
    pub(crate) host: String,
    /// The trunk.
    pub(crate) trunk: Option<Arc<Trunk>>,
}

/// Who answered.
pub(crate) struct Won {
    pub(crate) session: Session,
    pub(crate) sdp: String,
    /// The place on the trunk, as long as the call runs.
    pub(crate) admission: Option<Admission>,
}

/// Why nobody answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) class: FailureClass,
    /// The peer's Reason header.
    pub(crate) cause: Option<String>,
    pub(crate) remote: Option<SocketAddr>,
}

/// A way with all that an INVITE needs but the offer.
struct Ready {
    name: String,
    target: Target,
    request_user: Option<String>,
    from: Address,
    credentials: Option<Credentials>,
    contact_user: Option<String>,
    trunk: Option<(Arc<Trunk>, Admission)>,
}

/// An INVITE on its way.
struct Running {
    name: String,
    started_at: Moment,
    call: OutgoingCall,
    admission: Option<Admission>,
    /// Until when a sign of the call going on must have come.
    setup_due: Option<Instant>,
}

/// A call on its way out. Dropping it cancels what is still ringing.
pub(crate) struct Dialing {
    sip: SipHandle,
    trunks: Option<Trunks>,
    plan: Plan,
    /// The group that waits for its offer.
    ready: Vec<Ready>,
    running: Vec<Running>,
    last: Option<Unanswered>,
    attempts: Vec<Attempt>,
}

impl Dialing {
    pub(crate) fn new(sip: SipHandle, trunks: Option<Trunks>, plan: Plan) -> Self {
        Self { sip, trunks, plan, ready: Vec::new(), running: Vec::new(), last: None, attempts: Vec::new() }
    }

    /// What was tried so far, with what became of it.
    pub(crate) fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// What happens next. After [`Step::Answered`] and [`Step::Failed`] nothing more does. Cancel safe.
    pub(crate) async fn next(&mut self) -> Step {
        loop {
            if !self.running.is_empty() {
                if let Some(step) = self.running_next().await {
                    return step;
                }
                continue;
            }
            if let Some(wanted) = self.wanted() {
                return Step::Wanted(wanted);
            }
            let stops = self.last.as_ref().is_some_and(|last| !self.plan.advance_on.contains(&last.class));
            match self.plan.groups.pop_front().filter(|_| !stops) {
                Some(group) => {
                    if let (Some(attempt), Some(last)) = (self.attempts.last_mut(), &self.last) {
                        attempt.then = format!("{}: the next is tried", last.class.words());
                    }
                    group.into_iter().for_each(|way| self.prepare(way));
                }
                None => {
                    let last = self.last.clone();
                    return Step::Failed(last.unwrap_or_else(|| {
                        Unanswered::local(503, FailureClass::Unreachable, "there is nowhere to call")
                    }));
                }
            }
        }
    }

    /// Sends the INVITEs of the way that wanted an offer.
    pub(crate) fn offer(&mut self, sdp: &str) {
        for ready in std::mem::take(&mut self.ready) {
            let started_at = Moment::now();
            let invite = OutgoingInvite {
                request_user: ready.request_user,
                contact_user: ready.contact_user,
                headers: self.plan.headers.clone(),
                credentials: ready.credentials,
                response_timeout: self.plan.setup_timeout,
                ring_timeout: self.plan.ring_timeout,
                ..OutgoingInvite::new(ready.target, ready.from, sdp.to_owned())
            };
            match self.sip.invite(invite) {
                Ok(call) => self.running.push(Running {
                    name: ready.name,
                    started_at,
                    call,
                    admission: ready.trunk.map(|(_, admission)| admission),
                    setup_due: Some(Instant::now() + self.plan.setup_timeout),
                }),
                Err(error) => {
                    let class = match &error {
                        DialError::TimedOut(_) => FailureClass::TimedOut,
                        DialError::Unreachable(_) => FailureClass::Unreachable,
                        _ => FailureClass::ServerFailure,
                    };
                    self.note(ready.name, started_at, Unanswered::local(503, class, error.to_string()));
                }
            }
        }
    }

    /// No offer can be made for the way that wanted one.
    pub(crate) fn no_offer(&mut self, reason: &str) {
        for ready in std::mem::take(&mut self.ready) {
            let failed = Unanswered::local(500, FailureClass::ServerFailure, reason);
            self.note(ready.name, Moment::now(), failed);
        }
    }

    /// Gives up: everything that rings is cancelled.
    pub(crate) fn cancel(&mut self) -> Unanswered {
        self.plan.groups.clear();
        self.ready.clear();
        let cancelled = Unanswered::local(487, FailureClass::Cancelled, "given up");
        for mut running in std::mem::take(&mut self.running) {
            running.call.cancel();
            self.note(running.name, running.started_at, cancelled.clone());
        }
        cancelled
    }

    fn prepare(&mut self, way: Way) {
        let now = Moment::now();
        match way {
            Way::Direct(direct) => {
                let Direct { name, target, request_user, from, credentials, contact_user } = *direct;
                let trunk = None;
                self.ready.push(Ready { name, target, request_user, from, credentials, contact_user, trunk });
            }
            Way::Trunk { trunk_id, number, from } => {
                let way = self.trunks.as_ref().map(|trunks| trunks.way(&self.plan.tenant, &trunk_id, &from));
                match way {
                    Some(Ok(way)) => self.ready.push(Ready {
                        name: trunk_id,
                        target: way.target,
                        request_user: Some(number),
                        from: way.from,
                        credentials: way.credentials,
                        contact_user: Some(way.contact_user),
                        trunk: Some((way.trunk, way.admission)),
                    }),
                    Some(Err(error)) => {
                        let failed = Unanswered::local(503, FailureClass::Unreachable, error.to_string());
                        self.note(trunk_id, now, failed);
                    }
                    None => {
                        let failed = Unanswered::local(503, FailureClass::Unreachable, "there are no trunks");
                        self.note(trunk_id, now, failed);
                    }
                }
            }
        }
    }

    /// The offer that the group wants that is next, if there is one.
    fn wanted(&self) -> Option<Wanted> {
        let ready = self.ready.first()?;
        let trunk = ready.trunk.as_ref().map(|(trunk, _)| Arc::clone(trunk));
        Some(Wanted { host: ready.target.host(), trunk })
    }

    async fn running_next(&mut self) -> Option<Step> {
        let due = self.running.iter().filter_map(|running| running.setup_due).min();
        let timer = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let progress = {
            let calls: Vec<BoxFuture<'_, Progress>> =
                self.running.iter_mut().map(|running| running.call.next().boxed()).collect();
            tokio::select! {
                (progress, index, _) = select_all(calls) => Some((progress, index)),
                () = timer => None,
            }
        };
        let Some((progress, index)) = progress else {
            self.give_up_late(due?);
            return None;
        };
        match progress {
            // Somebody is there, which says nothing about the callee.
            Progress::Provisional { status: 100, .. } => None,
            Progress::Provisional { status, sdp } => {
                self.running.get_mut(index)?.setup_due = None;
                Some(Step::Provisional { status, sdp })
            }
            // Dropping it refuses: what was offered stays.
            Progress::Offer(_) => None,
            Progress::Answered { session, sdp } => {
                let won = self.running.swap_remove(index);
                for mut other in std::mem::take(&mut self.running) {
                    let reason = ByeReason {
                        protocol: "SIP",
                        cause: 200,
                        text: "Call completed elsewhere".to_owned(),
                    };
                    other.call.cancel_because(Some(reason));
                    let elsewhere = Unanswered::local(487, FailureClass::Cancelled, "answered elsewhere");
                    self.note(other.name, other.started_at, elsewhere);
                }
                let duration_ms = elapsed_ms(won.started_at);
                self.attempts.push(Attempt {
                    target: won.name,
                    started_at: won.started_at,
                    duration_ms,
                    status: 200,
                    reason: "OK".to_owned(),
                    then: "answered".to_owned(),
                });
                Some(Step::Answered(Box::new(Won { session, sdp, admission: won.admission })))
            }
            Progress::Failed(failure) => {
                let over = self.running.swap_remove(index);
                self.note(over.name, over.started_at, Unanswered::of(failure));
                None
            }
        }
    }

    /// Cancels what has not given a sign in time.
    fn give_up_late(&mut self, due: Instant) {
        let is_late = |running: &Running| running.setup_due.is_some_and(|at| at <= due);
        while let Some(index) = self.running.iter().position(is_late) {
            let mut late = self.running.swap_remove(index);
            late.call.cancel();
            let seconds = self.plan.setup_timeout.as_secs_f64();
            let failed =
                Unanswered::local(408, FailureClass::TimedOut, format!("no ringing within {seconds} s"));
            self.note(late.name, late.started_at, failed);
        }
    }

    fn note(&mut self, target: String, started_at: Moment, failed: Unanswered) {
        if self.attempts.len() < MOST_ATTEMPTS {
            self.attempts.push(Attempt {
                target,
                started_at,
                duration_ms: elapsed_ms(started_at),
                status: failed.status.into(),
                reason: failed.reason.clone(),
                then: format!("{}: given up", failed.class.words()),
            });
        }
        // Of several that rang at once, the one who said most: a person rather than a machine.
        let says_more =
            |class| matches!(class, FailureClass::Busy | FailureClass::Refused | FailureClass::NoAnswer);
        if self.last.as_ref().is_none_or(|last| self.running.is_empty() || !says_more(last.class)) {
            self.last = Some(failed);
        }
    }
}

impl Unanswered {
    /// A failure that we found ourselves.
    pub(crate) fn local(status: u16, class: FailureClass, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), class, cause: None, remote: None }
    }

    fn of(failure: Failure) -> Self {
        use crate::sip::FailureClass as Sip;
        let class = match failure.class {
            Sip::Busy => FailureClass::Busy,
            Sip::NoAnswer => FailureClass::NoAnswer,
            // A redirection is not followed: nobody here knows what a call to there would cost.
            Sip::Refused | Sip::Redirected => FailureClass::Refused,
            Sip::NotFound => FailureClass::NotFound,
            Sip::ServerFailure => FailureClass::ServerFailure,
            Sip::Unreachable => FailureClass::Unreachable,
            Sip::TimedOut => FailureClass::TimedOut,
            Sip::Cancelled => FailureClass::Cancelled,
            Sip::Challenged => FailureClass::Challenged,
        };
        let Failure { status, reason, cause, remote, .. } = failure;
        Self { status, reason, class, cause, remote }
    }
}

fn elapsed_ms(since: Moment) -> i64 {
    i64::try_from(Moment::now().since(since).as_millis()).unwrap_or(i64::MAX)
}

/// What a record holds of attempts.
const MOST_ATTEMPTS: usize = 32;
