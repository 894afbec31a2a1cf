//! Every incoming call in a task of its own: answered, run and ended.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine::ai::AiFigures;
use engine::player::Player;
use engine::stream;
use tokio::sync::mpsc;
use tracing::{Instrument as _, info, info_span, warn};

use super::OnClose;
use super::control::{Base, Controls, Due};
use super::keys::KEY;
use super::load::Apps;
use super::outbound::Outbound;
use super::prepare::{NotAnswered, Program, bridged, identity, prepare, unavailable};
use super::recorded::{self, Over, record};
use super::talk::{self, Talk, Transfer, Wish};
use super::{AppConfig, bridge};
use crate::call::{
    Call, CallContext, CallCounters, CallEnd, CallEvent, CallRequest, Quiet, milliseconds, redacted,
    shortened,
};
use crate::model::{CallRecord, Destination, HangUpSide};
use crate::record::{Ending, RecordedLeg, Recorder};
use crate::sip::{CallError, IncomingCall, Rejection};
use crate::trunk::{Inbound, Trunks};

/// Takes calls until the endpoint ends. The tasks of running calls go on; [`crate::call::CallTable::drain`]
/// waits for them.
///
/// With `outbound`, trunks and the numbers of their tenants decide before the routes of the configuration do, and calls
/// may go on to somebody else.
pub async fn serve(
    context: Arc<CallContext>,
    apps: Arc<Apps>,
    recorder: Recorder,
    trunks: Trunks,
    outbound: Option<Arc<Outbound>>,
    mut calls: mpsc::Receiver<IncomingCall>,
) {
    while let Some(incoming) = calls.recv().await {
        let info = incoming.info();
        let show = context.config.show_numbers;
        let span = info_span!(
            "call",
            call_id = shortened(&info.call_id),
            id = tracing::field::Empty,
            from = redacted(&info.from.user, show),
            to = redacted(&info.request_uri.user, show || apps.is_app_name(&info.request_uri.user)),
        );
        let task = take(
            Arc::clone(&context),
            Arc::clone(&apps),
            recorder.clone(),
            trunks.clone(),
            outbound.clone(),
            incoming,
        );
        tokio::spawn(task.instrument(span));
    }
}

async fn take(
    context: Arc<CallContext>,
    apps: Arc<Apps>,
    recorder: Recorder,
    trunks: Trunks,
    outbound: Option<Arc<Outbound>>,
    mut incoming: IncomingCall,
) {
    let arrived = Instant::now();
    context.counters().offered.increment();
    let of_trunk = match trunks.identify(incoming.info()) {
        Inbound::Trunk(of_trunk) => Some(of_trunk),
        Inbound::Nobodys => None,
        // A question is no end of a call: the same one comes again with the answer.
        Inbound::Refused(rejection) if rejection.status == 401 => {
            context.counters().count_rejection(rejection.status);
            // The caller may be faster; then there is nothing left to refuse.
            let _ = incoming.reject(rejection).await;
            return;
        }
        Inbound::Refused(rejection) => {
            let recorded = recorder.leg(record(&identity(&incoming), &incoming.info().call_id));
            return reject(&context, incoming, recorded, rejection).await;
        }
    };
    if let Some(dialled) = of_trunk.as_ref().and_then(|of_trunk| of_trunk.dialled.as_deref()) {
        incoming.dial(dialled);
    }
    let mut identity = identity(&incoming);
    if let Some(of_trunk) = &of_trunk {
        identity.tenant = of_trunk.trunk.tenant.clone();
        identity.trunk = Some(of_trunk.trunk.trunk_id.clone());
    }
    let mut recorded = recorder.leg(CallRecord {
        remote_sip: Some(incoming.info().remote.to_string()),
        provider: of_trunk.as_ref().map(|of_trunk| of_trunk.trunk.provider.clone()),
        ..record(&identity, &incoming.info().call_id)
    });
    if let Some(of_trunk) = &of_trunk {
        recorded.costs(of_trunk.trunk.cost_per_minute);
    }
    let destination = match &outbound {
        Some(outbound) => outbound.destination(&identity.tenant, &identity.to).await,
        None => None,
    };
    let reached = match (&destination, outbound) {
        (Some(Destination::App { name }), _) => match apps.route(name) {
            Some(app) => Some(app.clone()),
            None => return reject(&context, incoming, recorded, Rejection::new(404)).await,
        },
        (Some(Destination::Agent { name }), _) if apps.agent(name).is_some() => {
            Some(AppConfig::Agent(name.clone()))
        }
        (Some(to @ (Destination::Trunk { .. } | Destination::Uri { .. })), Some(outbound)) => {
            let Some(plan) = outbound.onward(&identity, to).await else {
                return reject(&context, incoming, recorded, Rejection::new(503)).await;
            };
            let summary = bridged(&context, incoming.info(), identity);
            recorded.change(|record| recorded::tell(record, &summary));
            let Some(entry) = context.table.admit(summary) else {
                context.counters().refused_full.increment();
                return reject(&context, incoming, recorded, unavailable(&context)).await;
            };
            return bridge::Job { outbound, incoming, entry, plan, recorded, arrived }.run().await;
        }
        // Nobody is there: no such agent, no phones, no queues in this version.
        (Some(_), _) => return reject(&context, incoming, recorded, Rejection::new(480)).await,
        (None, _) => None,
    };
    match prepare(&context, &apps, &mut incoming, identity, reached.as_ref(), &mut recorded).await {
        Ok((entry, leg, sdp, program)) => {
            recorded.change(|record| record.codec = Some(leg.parameters().send.codec.name().to_owned()));
            // What the caller sees answered has a record, whatever happens to this process.
            recorded.answered().await;
            let session = match incoming.accept(sdp).await {
                Ok(session) => session,
                Err(error) => return given_up(&context, recorded, error),
            };
            context.counters().answered.increment();
            context.table.setup_time().observe(arrived.elapsed());
            entry.update(|summary| summary.answered = Some(SystemTime::now()));
            info!(
                setup_ms = milliseconds(arrived.elapsed()),
                codec = leg.parameters().send.codec.name(),
                "call answered"
            );
            let call = Call::new(Arc::clone(&context), entry, leg, session);
            let over = run(&context, call, program).await;
            recorded::close(recorded, &over, HangUpSide::Caller);
        }
        Err(NotAnswered::Rejected(rejection)) => reject(&context, incoming, recorded, rejection).await,
        Err(NotAnswered::GivenUp(error)) => given_up(&context, recorded, error),
    }
}

fn given_up(context: &CallContext, recorded: RecordedLeg, error: CallError) {
    context.counters().cancelled.increment();
    if let Some(suppressed) = REFUSED.allows(Instant::now()) {
        info!(%error, suppressed, "call not answered");
    }
    recorded.end(&match error {
        CallError::Cancelled => Ending::cancelled(),
        error => Ending::refused(487, &error.to_string(), HangUpSide::Caller),
    });
}

async fn reject(context: &CallContext, incoming: IncomingCall, recorded: RecordedLeg, rejection: Rejection) {
    context.counters().count_rejection(rejection.status);
    if let Some(suppressed) = REFUSED.allows(Instant::now()) {
        info!(status = rejection.status, warning = rejection.warning, suppressed, "call refused");
    }
    let reason = rejection.warning.as_deref().unwrap_or(&rejection.reason);
    recorded.end(&Ending::refused(rejection.status, reason, HangUpSide::System));
    // The caller may be faster; then there is nothing left to refuse.
    let _ = incoming.reject(rejection).await;
}

/// The answered call, to its end.
pub(super) async fn run(context: &CallContext, mut call: Call, program: Program) -> Over {
    let counters = context.counters();
    let (mut app, mut talk, base) = match program {
        Program::Echo => (Some(stream::App::Echo), None, Base::Echo),
        Program::Wait => (Some(stream::App::Silence), None, Base::Silence),
        Program::Play { samples, repeat } => (Some(player(samples, repeat)), None, Base::Recording),
        Program::Agent { app, talk } => (Some(app), Some(talk), Base::Bot),
    };
    let mut controls = Controls::new(base);
    let mut transfer: Option<Transfer> = None;
    let mut figures = None;
    // What happens when a transfer fails and no bot is left to go on.
    let mut after_transfer = CallEnd::AppFinished;
    let end = loop {
        // With a late offer the audio begins when its answer has come.
        if call.has_media()
            && let Some(app) = app.take()
            && let Err(error) = call.attach(app).await
        {
            warn!(%error, "the app did not start");
            break CallEnd::MediaLost;
        }
        let wish = tokio::select! {
            signal = call.next() => match call.handle(signal).await {
                Some(CallEvent::Ended(end)) => break end,
                // Only a recording that plays to its end ends the call; one that another app replaced does not.
                Some(CallEvent::PlayFinished(report))
                    if report.complete && talk.is_none() && transfer.is_none() =>
                {
                    if !controls.played(&mut call).await {
                        break CallEnd::AppFinished;
                    }
                    None
                }
                Some(CallEvent::Requested(CallRequest::Control(control, reply))) => {
                    controls.handle(&mut call, talk.as_deref(), control, reply).await;
                    None
                }
                Some(CallEvent::Requested(request)) => requested(request, talk.as_deref()),
                Some(CallEvent::Digit(digit)) => {
                    if let Some(gathered) = controls.pressed(digit) {
                        call.tell_gathered(gathered);
                    }
                    None
                }
                Some(CallEvent::MediaAgreed | CallEvent::PlayFinished(_)) | None => None,
            },
            due = controls.next() => match due {
                Due::Press(digit) => Some(Wish::Press(digit)),
                Due::Gathered(gathered) => {
                    call.tell_gathered(gathered);
                    None
                }
                Due::Held(answer) => {
                    controls.held(&mut call, talk.as_deref(), answer).await;
                    None
                }
            },
            wish = next(&mut talk, counters) => Some(wish),
            outcome = talk::outcome(&mut transfer) => match outcome {
                Ok(_) => break CallEnd::Transferred,
                Err(error) => {
                    warn!(%error, "the call was not transferred");
                    match &mut talk {
                        Some(talk) => talk.transfer_failed(&error),
                        None => break after_transfer,
                    }
                    None
                }
            }
        };
        match wish {
            None => {}
            Some(Wish::HangUp) => {
                break if talk.is_some() { CallEnd::BackendHungUp } else { CallEnd::AppFinished };
            }
            Some(Wish::Transfer(_)) if transfer.is_some() => {}
            Some(Wish::Transfer(target)) => transfer = Some(talk::begin(&call, target)),
            Some(Wish::TakenOver) => {
                if let Some(talk) = &talk {
                    call.tell_agent(&talk.agent().config.name);
                }
            }
            Some(Wish::Press(digit)) => {
                if let Err(error) = call.press(digit, KEY).await {
                    warn!(%error, "a key was not pressed");
                }
            }
            Some(Wish::Ended(end)) => {
                info!(?end, "the AI stream ended");
                let Some(over) = talk.take() else { continue };
                figures = Some(log_figures(&over));
                let lost = if end.is_normal() { CallEnd::BackendHungUp } else { CallEnd::BackendFailed };
                if transfer.is_some() {
                    // A bot may leave as soon as it has asked for a transfer.
                    after_transfer = lost;
                    continue;
                }
                let config = &over.first().config;
                let on_failure = config.on_failure.as_ref().filter(|_| !end.is_normal());
                match (on_failure.unwrap_or(&config.on_close), &over.first().fallback) {
                    (OnClose::Transfer(target), _) => {
                        transfer = Some(talk::begin(&call, target.clone()));
                        after_transfer = lost;
                    }
                    (OnClose::PlayFallback, Some(samples)) => {
                        counters.fallback_prompts.increment();
                        controls.bot_left(Base::Recording);
                        app = Some(player(Arc::clone(samples), false));
                    }
                    (OnClose::HangUp | OnClose::PlayFallback, _) => break lost,
                }
            }
        }
    };
    if let Some(talk) = talk {
        figures = Some(log_figures(&talk));
        talk.session.stop(end.name());
    }
    controls.interrupt(&call);
    let (summary, statistics) = call.finish(&end).await;
    Over { end, summary, statistics, figures }
}

/// The next wish of the bot, if there is one. Cancel safe.
pub(super) async fn next(talk: &mut Option<Box<Talk>>, counters: &CallCounters) -> Wish {
    match talk {
        Some(talk) => talk.next(counters).await,
        None => std::future::pending().await,
    }
}

/// What somebody outside wants, now or once the bot has been heard to the end.
pub(super) fn requested(request: CallRequest, talk: Option<&Talk>) -> Option<Wish> {
    let target = match request {
        CallRequest::Figures(reply) => {
            if let Some(talk) = talk {
                // Nobody waits for late figures.
                let _ = reply.send(talk.session.figures());
            }
            return None;
        }
        CallRequest::HangUp | CallRequest::Control(..) => None,
        CallRequest::Transfer(target) => Some(target),
    };
    if talk.is_some_and(|talk| talk.finish(target.as_ref())) {
        return None;
    }
    Some(target.map_or(Wish::HangUp, Wish::Transfer))
}

pub(super) fn log_figures(talk: &Talk) -> AiFigures {
    let figures = talk.session.figures();
    info!(
        agent = talk.agent().config.name,
        connect_ms = milliseconds(figures.connect),
        first_audio_ms = figures.first_audio.map(milliseconds),
        response_p50_ms = milliseconds(figures.response.p50),
        response_max_ms = milliseconds(figures.response.max),
        barge_ins = figures.barge_ins,
        barge_in_stop_max_ms = milliseconds(figures.barge_in_stop.max),
        queue_max_ms = milliseconds(figures.queue.max),
        reconnects = figures.reconnects,
        underruns = figures.underruns,
        bot_audio_dropped_ms = milliseconds(figures.bot_audio_dropped),
        caller_audio_dropped_ms = milliseconds(figures.caller_audio_dropped),
        "the AI stream in figures"
    );
    figures
}

fn player(samples: Arc<[i16]>, repeat: bool) -> stream::App {
    stream::App::Player(Box::new(Player::new(samples, repeat)))
}

/// Calls that never came to be cost nobody but us a line each.
static REFUSED: Quiet = Quiet::new(100, Duration::from_millis(100));
