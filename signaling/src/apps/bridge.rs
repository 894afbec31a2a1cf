//! A call that comes and goes on to somebody else: two legs, a relay between them, and whatever happens on one side
//! passed on to the other.
//!
//! ```text
//! INVITE in, offer -> exchange (relay, our addresses) -> Dialing: INVITEs out -> 180, 183 with media -> caller
//!                                                                             -> 200: exchange -> 200 to the caller
//! then re-INVITE and UPDATE with SDP, INFO and BYE of each side go to the other
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine::relay::Side;
use futures_util::future::{FutureExt as _, select_all};
use tokio::time::timeout;
use tracing::{debug, info};

use super::outbound::{Dialing, Outbound, Plan, Step, Unanswered};
use super::recorded;
use crate::call::{CallEntry, CallRequest, CallState, ControlError, HangUp, milliseconds};
use crate::exchange::sdp::{Body, Outgoing};
use crate::exchange::{Description, Exchange, ExchangeError, Replace, Wishes, ports};
use crate::media::RelayEvent;
use crate::model::{CallRecord, FailureClass, HangUpSide, RecordState};
use crate::record::{Ending, RecordedLeg};
use crate::sip::{
    ByeReason, CallError, EndCause, IncomingCall, OfferRequest, Rejection, RequestError, Session,
    SessionEvent,
};

/// The media of a bridged call, and what each side was told.
struct Bridge {
    outbound: Arc<Outbound>,
    wishes: Wishes,
    exchange: Exchange,
    /// By [`Side::index`].
    told: [Outgoing; 2],
}

/// A call to bridge.
pub(super) struct Job {
    pub(super) outbound: Arc<Outbound>,
    pub(super) incoming: IncomingCall,
    pub(super) entry: CallEntry,
    pub(super) plan: Plan,
    pub(super) recorded: RecordedLeg,
    pub(super) arrived: Instant,
}

/// An offer of one side that waits for the answer of the other.
struct Passing {
    from: Side,
    request: OfferRequest,
    answer: Pin<Box<dyn Future<Output = Result<String, RequestError>> + Send>>,
}

/// Why a bridged call ended, and by whom.
struct Over {
    by: Option<Side>,
    cause: &'static str,
    reason: Option<ByeReason>,
}

impl Bridge {
    /// A description of `from` as the other side is to read it.
    async fn pass(&mut self, from: Side, sdp: &str, is_answer: bool) -> Result<String, ExchangeError> {
        let body = Body::parse(sdp)?;
        let relaying = &self.outbound.relaying;
        let mut description =
            Description { relaying, wishes: &self.wishes, body: &body, sender: from, is_answer };
        description.check()?;
        description.sender = from;
        let changes = description.apply(&mut self.exchange).await?;
        let told = if from == Side::A { &mut self.told[1] } else { &mut self.told[0] };
        Ok(description.write(&changes, told))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let ports: Vec<_> = self.exchange.slots.iter().flat_map(ports).collect();
        self.outbound.relaying.forget_ports(&ports);
    }
}

impl Job {
    /// From the INVITE to the end of both legs.
    pub(super) async fn run(self) {
        let Self { outbound, mut incoming, entry, plan, mut recorded, arrived } = self;
        recorded.begin();
        let context = Arc::clone(&outbound.context);
        let wishes = Wishes {
            // Each side sees one o= line of ours, whose version grows with what it is told.
            replace: Replace {
                origin: true,
                username: true,
                session_name: true,
                version: true,
                ..Replace::default()
            },
            ..Wishes::default()
        };
        let mut bridge = Bridge {
            outbound: Arc::clone(&outbound),
            wishes,
            exchange: Exchange::default(),
            told: Default::default(),
        };
        let offered = match incoming.offer().map(str::to_owned) {
            Some(offer) => bridge.pass(Side::A, &offer, false).await.map_err(|error| refusal(&error)),
            None => Err(Rejection {
                warning: Some("399 an offer is needed to bridge the call".to_owned()),
                ..Rejection::new(488)
            }),
        };
        let offer = match offered {
            Ok(offer) => offer,
            Err(rejection) => {
                context.counters().count_rejection(rejection.status);
                recorded.end(&Ending::refused(rejection.status, "no media for the call", HangUpSide::System));
                let _ = incoming.reject(rejection).await;
                return;
            }
        };
        let mut dialing = Dialing::new(outbound.sip.clone(), outbound.trunks.clone(), plan);
        let mut callee = callee_record(&outbound, &entry);
        let dialled =
            ring(&mut bridge, &mut incoming, &entry, &mut dialing, &offer, &mut recorded, &mut callee).await;
        let attempts = dialing.attempts().to_vec();
        recorded.change(|record| record.attempts.clone_from(&attempts));
        if let Some(callee) = &mut callee {
            callee.change(|record| record.attempts = attempts);
        }
        drop(dialing);
        let (won, sdp) = match dialled {
            Ok(won) => won,
            Err(failed) => {
                let state = match failed.class {
                    FailureClass::Busy => RecordState::Busy,
                    FailureClass::NoAnswer => RecordState::NoAnswer,
                    FailureClass::Cancelled => RecordState::Cancelled,
                    _ => RecordState::Failed,
                };
                let side =
                    if state == RecordState::Cancelled { HangUpSide::Caller } else { HangUpSide::Callee };
                let ending = Ending { state, ..Ending::refused(failed.status, &failed.reason, side) };
                info!(status = failed.status, reason = failed.reason, "bridged call not answered");
                recorded.end(&ending);
                if let Some(callee) = callee {
                    callee.end(&ending);
                }
                context.counters().count_rejection(failed.status);
                // Who asks for credentials asks us, not the caller.
                let status = if matches!(failed.status, 401 | 407) { 503 } else { failed.status };
                let _ = incoming.reject(Rejection { reason: failed.reason, ..Rejection::new(status) }).await;
                return;
            }
        };
        recorded.answered().await;
        let caller = match incoming.accept(sdp).await {
            Ok(session) => session,
            Err(error) => {
                // Dropping the callee's session hangs up.
                recorded.end(&match error {
                    CallError::Cancelled => Ending::cancelled(),
                    error => Ending::refused(487, &error.to_string(), HangUpSide::Caller),
                });
                return;
            }
        };
        context.counters().answered.increment();
        context.table.setup_time().observe(arrived.elapsed());
        entry.update(|summary| {
            summary.answered = Some(SystemTime::now());
            summary.state = CallState::Answered;
        });
        info!(setup_ms = milliseconds(arrived.elapsed()), "bridged call answered");
        let over = talk(&mut bridge, entry, [caller, won.session]).await;
        drop(won.admission);
        let side = match over.by {
            Some(Side::A) => HangUpSide::Caller,
            Some(Side::B) => HangUpSide::Callee,
            None => HangUpSide::System,
        };
        info!(cause = over.cause, ?side, "bridged call ended");
        let ending = Ending {
            state: RecordState::Completed,
            cause: over.cause.to_owned(),
            status: Some(200),
            q850: over
                .reason
                .as_ref()
                .filter(|reason| reason.protocol == "Q.850")
                .map_or(Some(16), |reason| Some(reason.cause)),
            side,
        };
        recorded.end(&ending);
        if let Some(callee) = callee {
            callee.end(&ending);
        }
    }
}

fn callee_record(outbound: &Outbound, entry: &CallEntry) -> Option<RecordedLeg> {
    let identity = entry.identity()?;
    let outward = identity.outward(identity.from.clone(), identity.to.clone());
    let record = CallRecord { app: Some("bridge".to_owned()), ..recorded::record(&outward, "") };
    let mut recorded = outbound.recorder.as_ref()?.leg(record);
    recorded.begin();
    Some(recorded)
}

/// Dials until somebody answers; the answer for the caller comes along.
async fn ring(
    bridge: &mut Bridge,
    incoming: &mut IncomingCall,
    entry: &CallEntry,
    dialing: &mut Dialing,
    offer: &str,
    recorded: &mut RecordedLeg,
    callee: &mut Option<RecordedLeg>,
) -> Result<(super::outbound::Won, String), Unanswered> {
    let mut cancelled = std::pin::pin!(incoming.cancelled());
    let mut hang_up = std::pin::pin!(entry.hang_up());
    loop {
        let step = tokio::select! {
            step = dialing.next() => step,
            () = &mut cancelled => return Err(dialing.cancel()),
            _ = &mut hang_up => return Err(Unanswered { status: 480, ..dialing.cancel() }),
        };
        match step {
            Step::Wanted(wanted) => {
                if let (Some(callee), Some(trunk)) = (callee.as_mut(), &wanted.trunk) {
                    callee.change(|record| {
                        record.trunk_id = Some(trunk.trunk_id.clone());
                        record.provider = Some(trunk.provider.clone());
                    });
                    callee.costs(trunk.cost_per_minute);
                }
                dialing.offer(offer);
            }
            Step::Provisional { status, sdp } => {
                recorded.ringing();
                if let Some(callee) = callee.as_mut() {
                    callee.ringing();
                }
                let early = match sdp {
                    Some(sdp) => bridge.pass(Side::B, &sdp, true).await.ok(),
                    None => None,
                };
                let status = if early.is_some() { 183 } else { status };
                if let Err(error) = incoming.ring(status, early).await {
                    debug!(%error, "the ringing is not passed on");
                    if matches!(error, CallError::Cancelled | CallError::Closed) {
                        return Err(dialing.cancel());
                    }
                }
            }
            Step::Answered(won) => {
                if let Some(callee) = callee.as_mut() {
                    let info = won.session.info();
                    callee.change(|record| {
                        record.sip_call_id = crate::record::clean(&info.call_id, 128);
                        record.remote_sip = Some(info.remote.to_string());
                    });
                    callee.answered().await;
                }
                let sdp = bridge
                    .pass(Side::B, &won.sdp, true)
                    .await
                    .map_err(|error| Unanswered::local(488, FailureClass::Refused, error.to_string()))?;
                return Ok((*won, sdp));
            }
            Step::Failed(failed) => return Err(failed),
        }
    }
}

/// Passes on what happens until one side ends it.
async fn talk(bridge: &mut Bridge, mut entry: CallEntry, mut sessions: [Session; 2]) -> Over {
    let mut passing: Option<Passing> = None;
    let over = loop {
        let [caller, callee] = &mut sessions;
        let hang_up = entry.hang_up();
        let answer = async {
            match &mut passing {
                Some(passing) => passing.answer.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let (side, event) = tokio::select! {
            event = caller.next_event() => (Side::A, event),
            event = callee.next_event() => (Side::B, event),
            answer = answer => {
                if let Some(passing) = passing.take() {
                    answered(bridge, passing, answer).await;
                }
                continue;
            }
            event = relay_event(&mut bridge.exchange) => match event {
                RelayEvent::Timeout => break Over::ours("media timeout", 102, "Media timeout"),
                RelayEvent::Lost => break Over::ours("relay lost", 41, "Media failed"),
                RelayEvent::Latched { .. } | RelayEvent::Dtmf { .. } => continue,
            },
            wanted = hang_up => break match wanted {
                HangUp::Operator => Over::ours("hung up by the operator", 16, "Normal call clearing"),
                HangUp::Drain => Over::ours("cut by drain", 41, "Shutting down"),
            },
            request = entry.next_request() => match request {
                CallRequest::HangUp => break Over::ours("hung up by the operator", 16, "Normal call clearing"),
                CallRequest::Control(_, reply) => {
                    let no = "the call is bridged: both ends talk to each other";
                    let _ = reply.send(Err(ControlError::NotWithThisApp(no)));
                    continue;
                }
                CallRequest::Transfer(_) | CallRequest::Figures(_) => continue,
            },
        };
        let other = if side == Side::A { callee.handle() } else { caller.handle() };
        match event {
            SessionEvent::Ended { cause } => break Over::by(side, &cause),
            SessionEvent::Offer(request) if passing.is_some() => request.reject(Rejection::new(491)),
            SessionEvent::Offer(request) => match bridge.pass(side, request.sdp(), false).await {
                Ok(sdp) => {
                    let answer = Box::pin(async move { other.reinvite(sdp).await });
                    passing = Some(Passing { from: side, request, answer });
                }
                Err(error) => request.reject(refusal(&error)),
            },
            // Nobody has an offer ready for who wants one; the session stays as it is.
            SessionEvent::OfferWanted(wanted) => wanted.reject(Rejection::new(488)),
            SessionEvent::Info { content_type, body } => {
                // The other side answers or does not; the key was pressed all the same.
                tokio::spawn(async move { other.info(content_type, body).await });
            }
            SessionEvent::Confirmed { .. } => {}
        }
    };
    entry.update(|summary| summary.state = CallState::Ending);
    let bye = |session: Session, is_over: bool| {
        let reason = over.reason.clone();
        async move {
            let mut session = session;
            if !is_over {
                session.handle().bye(reason).await;
                let ended =
                    async { while !matches!(session.next_event().await, SessionEvent::Ended { .. }) {} };
                let _ = timeout(BYE_PATIENCE, ended).await;
            }
        }
    };
    let [caller, callee] = sessions;
    tokio::join!(bye(caller, over.by == Some(Side::A)), bye(callee, over.by == Some(Side::B)));
    over
}

/// The other side has answered to an offer.
async fn answered(bridge: &mut Bridge, passing: Passing, answer: Result<String, RequestError>) {
    let Passing { from, request, .. } = passing;
    match answer {
        Ok(answer) => match bridge.pass(from.other(), &answer, true).await {
            Ok(sdp) => request.answer(sdp),
            Err(error) => request.reject(refusal(&error)),
        },
        Err(RequestError::Pending) => request.reject(Rejection::new(491)),
        Err(error) => {
            debug!(%error, "a change of the session was refused by the other side");
            request.reject(Rejection::new(488));
        }
    }
}

async fn relay_event(exchange: &mut Exchange) -> RelayEvent {
    let relays: Vec<_> = exchange.relays().map(|relay| relay.next_event().boxed()).collect();
    if relays.is_empty() {
        return std::future::pending().await;
    }
    select_all(relays).await.0
}

fn refusal(error: &ExchangeError) -> Rejection {
    let status = match error {
        ExchangeError::Body(_) => 400,
        ExchangeError::Media(_) => 503,
        _ => 488,
    };
    debug!(%error, status, "a description is not passed on");
    Rejection { warning: Some(format!("399 {error}")), ..Rejection::new(status) }
}

impl Over {
    fn ours(cause: &'static str, q850: u16, text: &str) -> Self {
        let reason = ByeReason { protocol: "Q.850", cause: q850, text: text.to_owned() };
        Self { by: None, cause, reason: Some(reason) }
    }

    fn by(side: Side, cause: &EndCause) -> Self {
        let name = match (cause, side) {
            (EndCause::RemoteBye { .. }, Side::A) => "caller hung up",
            (EndCause::RemoteBye { .. }, Side::B) => "callee hung up",
            (EndCause::SessionExpired, _) => "session expired",
            (EndCause::AckTimeout, _) => "no ACK",
            (EndCause::Shutdown, _) => "shutdown",
            _ => "peer lost",
        };
        let told = match cause {
            EndCause::RemoteBye { reason } => reason.as_deref().and_then(q850),
            _ => None,
        };
        let (cause, text) = told.unwrap_or_else(|| (16, "Normal call clearing".to_owned()));
        Self { by: Some(side), cause: name, reason: Some(ByeReason { protocol: "Q.850", cause, text }) }
    }
}

/// The Q.850 cause of a Reason header (RFC 3326).
fn q850(reason: &str) -> Option<(u16, String)> {
    let mut fields = reason.split(';').map(str::trim);
    fields.next().filter(|protocol| protocol.eq_ignore_ascii_case("Q.850"))?;
    let cause = fields.find_map(|field| field.strip_prefix("cause="))?.trim().parse().ok()?;
    (1..=127).contains(&cause).then(|| (cause, "passed on".to_owned()))
}

/// How long a side may take to answer to a BYE.
const BYE_PATIENCE: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_one_side_is_told_to_the_other() {
        let bye = |reason: Option<&str>| EndCause::RemoteBye { reason: reason.map(str::to_owned) };
        let told = |cause: &EndCause| Over::by(Side::A, cause).reason.map(|reason| reason.cause);
        assert_eq!(told(&bye(Some("Q.850;cause=31;text=\"x\""))), Some(31));
        assert_eq!(told(&bye(Some("SIP;cause=200"))), Some(16));
        assert_eq!(told(&bye(Some("Q.850;cause=999"))), Some(16));
        assert_eq!(told(&bye(None)), Some(16));
        assert_eq!(Over::by(Side::B, &bye(None)).cause, "callee hung up");
    }
}
