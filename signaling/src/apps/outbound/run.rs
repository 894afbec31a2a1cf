//! One outbound call, from its first INVITE to its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine::ai::dialect::AudioFormat;
use engine::stream::Codec;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{Instrument as _, info, info_span, warn};

use super::{Dialing, Ended, Originate, Outbound, Plan, Step, Unanswered, Wanted, Wish, Won, handler};
use crate::apps::agent::About;
use crate::apps::prepare::{self, Program, Whom};
use crate::apps::{recorded, service};
use crate::call::{Call, CallEntry, Ends, Leg, milliseconds, redacted};
use crate::model::{Attempt, CallRecord, FailureClass, HangUpSide, Moment, RecordState};
use crate::record::{Ending, RecordedLeg, clean};
use crate::sip::Party;

/// An outbound call and all it needs.
pub(super) struct Job {
    pub(super) outbound: Arc<Outbound>,
    pub(super) entry: CallEntry,
    pub(super) wanted: Originate,
    pub(super) plan: Plan,
    /// The route that chose the ways.
    pub(super) route: Option<String>,
    /// Who waits for the end.
    pub(super) done: Option<oneshot::Sender<Ended>>,
}

/// An answered call.
struct Connected {
    leg: Leg,
    won: Won,
    program: Program,
}

impl Job {
    pub(super) async fn run(self) {
        let show = self.outbound.context.config.show_numbers;
        let span = info_span!(
            "call",
            id = self.entry.id(),
            from = redacted(&self.wanted.from, show),
            to = redacted(&self.wanted.to, show),
            route = self.route,
        );
        self.dial_and_run().instrument(span).await;
    }

    async fn dial_and_run(self) {
        let started_at = Moment::now();
        let begun = Instant::now();
        let Self { outbound, entry, wanted, plan, route, done } = self;
        let Some(identity) = entry.identity() else { return };
        let leg_id = identity.leg;
        let mut recorded = outbound.recorder.as_ref().map(|recorder| {
            let mut recorded = recorder.leg(CallRecord {
                route,
                variables: serde_json::json!(wanted.variables),
                ..recorded::record(&identity, "")
            });
            recorded.begin();
            recorded
        });
        let context = Arc::clone(&outbound.context);
        let mut dialing = Dialing::new(outbound.sip.clone(), outbound.trunks.clone(), plan);
        let connected = connect(&outbound, &entry, &wanted, &mut dialing, &mut recorded).await;
        let ended = |state, status, cause: String, answered_at, attempts: Vec<Attempt>| Ended {
            id: leg_id,
            tenant: wanted.tenant.clone(),
            from: wanted.from.clone(),
            to: wanted.to.clone(),
            state,
            status,
            cause,
            started_at,
            answered_at,
            ended_at: Moment::now(),
            attempts,
        };
        let attempts = dialing.attempts().to_vec();
        drop(dialing);
        if let Some(recorded) = &mut recorded {
            recorded.change(|record| record.attempts.clone_from(&attempts));
        }
        let ended = match connected {
            Ok(connected) => {
                let Connected { leg, won, program } = connected;
                let answered_at = Moment::now();
                context.counters().answered.increment();
                let info = Arc::clone(won.session.info());
                entry.update(|summary| {
                    summary.answered = Some(SystemTime::now());
                    summary.call_id = crate::call::shortened(&info.call_id);
                    summary.remote_sip = Some(info.remote);
                });
                info!(
                    setup_ms = milliseconds(begun.elapsed()),
                    codec = leg.parameters().send.codec.name(),
                    attempts = attempts.len(),
                    "call answered"
                );
                let call = Call::new(Arc::clone(&context), entry, leg, won.session);
                let over = service::run(&context, call, program).await;
                // Until here the call has its place on the trunk.
                drop(won.admission);
                let cause = over.end.name().to_owned();
                if let Some(recorded) = recorded {
                    recorded::close(recorded, &over, HangUpSide::Callee);
                }
                ended(RecordState::Completed, 200, cause, Some(answered_at), attempts)
            }
            Err(failed) => {
                context.counters().count_rejection(failed.status);
                info!(
                    status = failed.status,
                    reason = failed.reason,
                    attempts = attempts.len(),
                    "call not answered"
                );
                let state = match failed.class {
                    FailureClass::Busy => RecordState::Busy,
                    FailureClass::NoAnswer => RecordState::NoAnswer,
                    FailureClass::Cancelled => RecordState::Cancelled,
                    _ => RecordState::Failed,
                };
                if let Some(recorded) = recorded {
                    let side = match failed.class {
                        FailureClass::Cancelled => HangUpSide::System,
                        _ => HangUpSide::Callee,
                    };
                    recorded.end(&Ending { state, ..Ending::refused(failed.status, &failed.reason, side) });
                }
                ended(state, failed.status, failed.reason, None, attempts)
            }
        };
        outbound.recent.push(ended.clone());
        if let Some(done) = done {
            // Who waited may be gone.
            let _ = done.send(ended);
        }
    }
}

/// Dials until somebody answers, gets ready what they will hear, and agrees on media.
async fn connect(
    outbound: &Outbound,
    entry: &CallEntry,
    wanted: &Originate,
    dialing: &mut Dialing,
    recorded: &mut Option<RecordedLeg>,
) -> Result<Connected, Unanswered> {
    let mut leg: Option<Leg> = None;
    let mut program = std::pin::pin!(program(outbound, entry, wanted));
    let (mut rings, mut ready) = (false, None);
    let mut hang_up = std::pin::pin!(entry.hang_up());
    let won = loop {
        let step = tokio::select! {
            step = dialing.next() => step,
            _ = &mut hang_up => return Err(dialing.cancel()),
            // The backend gets ready while it rings, and not before anybody is there.
            done = &mut program, if rings && ready.is_none() => match done {
                Ok(done) => {
                    ready = Some(done);
                    continue;
                }
                Err(failed) => {
                    dialing.cancel();
                    return Err(failed);
                }
            },
        };
        match step {
            Step::Wanted(wish) => match offer(outbound, &wish).await {
                Ok((made, sdp)) => {
                    entry.set_stream(Some(made.stream().handle()));
                    leg = Some(made);
                    let trunk = wish.trunk.as_ref().map(|trunk| trunk.trunk_id.clone());
                    if let Some(recorded) = recorded {
                        recorded.change(|record| {
                            record.trunk_id.clone_from(&trunk);
                            record.provider = wish.trunk.as_ref().map(|trunk| trunk.provider.clone());
                        });
                        if let Some(trunk) = &wish.trunk {
                            recorded.costs(trunk.cost_per_minute);
                        }
                    }
                    entry.update(|summary| summary.identity.trunk = trunk);
                    dialing.offer(&sdp);
                }
                Err(reason) => dialing.no_offer(&reason),
            },
            Step::Provisional { status, sdp } => {
                rings = true;
                if let Some(recorded) = recorded {
                    recorded.ringing();
                }
                info!(status, early_media = sdp.is_some(), "it rings");
                if let (Some(leg), Some(sdp)) = (&mut leg, &sdp)
                    && let Err(error) = leg.handle_early_answer(sdp).await
                {
                    info!(%error, "early media does not fit");
                }
            }
            Step::Answered(won) => {
                if let Some(recorded) = recorded {
                    let info = won.session.info();
                    recorded.change(|record| {
                        record.sip_call_id = clean(&info.call_id, LONGEST);
                        record.remote_sip = Some(info.remote.to_string());
                    });
                    // Their 200 came: durable as soon as it can be.
                    recorded.answered().await;
                }
                break *won;
            }
            Step::Failed(failed) => return Err(failed),
        }
    };
    let Some(mut leg) = leg else {
        return Err(Unanswered::local(500, FailureClass::ServerFailure, "an answer without an offer"));
    };
    if let Err(error) = leg.handle_answer(&won.sdp).await {
        // Dropping the session hangs up.
        warn!(%error, "the answer to our offer does not fit; hanging up");
        return Err(Unanswered::local(488, FailureClass::Refused, error.to_string()));
    }
    let program = match ready {
        Some(ready) => ready,
        None => tokio::select! {
            done = &mut program => done?,
            _ = &mut hang_up => return Err(dialing.cancel()),
        },
    };
    Ok(Connected { leg, won, program })
}

/// A leg and its offer for one way.
async fn offer(outbound: &Outbound, wish: &Wanted) -> Result<(Leg, String), String> {
    let codecs: Vec<Codec> = wish
        .trunk
        .iter()
        .flat_map(|trunk| &trunk.preferred_codecs)
        .filter_map(|name| Codec::from_rtpmap(name, 8_000, 1))
        .collect();
    let codecs = (!codecs.is_empty()).then_some(codecs.as_slice());
    let ends = Ends { local: outbound.local, peer: peer_of(&wish.host).await };
    Leg::offering(&outbound.context, ends, codecs).await.map_err(|error| error.to_string())
}

/// An address that media is probably near; which one does not matter much, only the way there does.
pub(crate) async fn peer_of(host: &str) -> IpAddr {
    if let Ok(address) = host.parse() {
        return address;
    }
    let looked_up = timeout(LOOK_UP, tokio::net::lookup_host((host, 5060))).await;
    let first = looked_up.ok().and_then(Result::ok).and_then(|mut found| found.next());
    first.map_or_else(|| IpAddr::from([192, 0, 2, 1]), |address: SocketAddr| address.ip())
}

/// Gets ready what the callee will hear.
async fn program(outbound: &Outbound, entry: &CallEntry, wanted: &Originate) -> Result<Program, Unanswered> {
    let context = &outbound.context;
    let party = |number: &str| Party { user: number.to_owned(), uri: number.to_owned(), ..Party::default() };
    let (from, to) = (party(&wanted.from), party(&wanted.to));
    let call_id = entry.identity().map(|identity| identity.leg.to_string()).unwrap_or_default();
    let header = |name: &str| {
        let mut variables = wanted.variables.iter();
        variables.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    };
    let about = About { call_id: &call_id, from: &from, to: &to, header: &header };
    let whom = Whom::Invite(&about);
    let variables: Vec<(String, String)> =
        wanted.variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    // The law is not known yet; the leg converts.
    let line = AudioFormat::PCMU;
    let done = match &wanted.wish {
        Wish::Wait => Ok(Program::Wait),
        Wish::Handler(url, dialect) => {
            let agent = Arc::new(handler(url, *dialect));
            prepare::connect(context, &agent, Vec::new(), whom, line, &variables).await
        }
        Wish::App(app) => prepare::program(context, &outbound.apps, app, whom, line, &variables).await,
    };
    done.map_err(|_| {
        Unanswered::local(503, FailureClass::ServerFailure, "the app of the call is not ready: see the log")
    })
}

/// What asking for a name may cost a call.
const LOOK_UP: Duration = Duration::from_secs(2);
/// No Call-ID that is meant is longer.
const LONGEST: usize = 128;
