//! Every incoming call in a task of its own: answered, run and ended.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine::ai::{AiEnd, AiEvent, AiFailure, AiSession};
use engine::player::Player;
use engine::stream;
use tokio::sync::mpsc;
use tracing::{Instrument as _, info, info_span, warn};

use super::OnClose;
use super::agent::Agent;
use super::load::Apps;
use super::prepare::{NotAnswered, Program, prepare};
use crate::call::{Call, CallContext, CallEnd, CallEvent, Quiet, milliseconds, redacted, shortened};
use crate::sip::{CallError, IncomingCall, Rejection};

/// Takes calls until the endpoint ends. The tasks of running calls go on; [`crate::call::CallTable::drain`]
/// waits for them.
pub async fn serve(context: Arc<CallContext>, apps: Arc<Apps>, mut calls: mpsc::Receiver<IncomingCall>) {
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
        let task = take(Arc::clone(&context), Arc::clone(&apps), incoming);
        tokio::spawn(task.instrument(span));
    }
}

async fn take(context: Arc<CallContext>, apps: Arc<Apps>, mut incoming: IncomingCall) {
    let arrived = Instant::now();
    context.counters().offered.increment();
    match prepare(&context, &apps, &mut incoming).await {
        Ok((entry, leg, sdp, program)) => {
            let session = match incoming.accept(sdp).await {
                Ok(session) => session,
                Err(error) => return given_up(&context, error),
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
            run(&context, call, program).await;
        }
        Err(NotAnswered::Rejected(rejection)) => reject(&context, incoming, rejection).await,
        Err(NotAnswered::GivenUp(error)) => given_up(&context, error),
    }
}

fn given_up(context: &CallContext, error: CallError) {
    context.counters().cancelled.increment();
    if let Some(suppressed) = REFUSED.allows(Instant::now()) {
        info!(%error, suppressed, "call not answered");
    }
}

async fn reject(context: &CallContext, incoming: IncomingCall, rejection: Rejection) {
    context.counters().count_rejection(rejection.status);
    if let Some(suppressed) = REFUSED.allows(Instant::now()) {
        info!(status = rejection.status, warning = rejection.warning, suppressed, "call refused");
    }
    // The caller may be faster; then there is nothing left to refuse.
    let _ = incoming.reject(rejection).await;
}

/// The answered call, to its end.
async fn run(context: &CallContext, mut call: Call, program: Program) {
    let (mut app, mut ai) = match program {
        Program::Echo => (Some(stream::App::Echo), None),
        Program::Play { samples, repeat } => (Some(player(samples, repeat)), None),
        Program::Agent { agent, app, session } => (Some(app), Some((agent, session))),
    };
    let end = loop {
        // With a late offer the audio begins when its answer has come.
        if call.has_media()
            && let Some(app) = app.take()
            && let Err(error) = call.attach(app).await
        {
            warn!(%error, "the app did not start");
            break CallEnd::MediaLost;
        }
        tokio::select! {
            signal = call.next() => match call.handle(signal).await {
                Some(CallEvent::Ended(end)) => break end,
                // Only a recording that plays to its end ends the call; one that another app replaced does not.
                Some(CallEvent::PlayFinished(report)) if report.complete && ai.is_none() => {
                    break CallEnd::AppFinished;
                }
                Some(CallEvent::MediaAgreed | CallEvent::PlayFinished(_) | CallEvent::Digit(_)) | None => {}
            },
            event = ai_end(&mut ai) => {
                let agent = ai.take().map(|(agent, _)| agent);
                info!(?event, "the AI stream ended");
                let fallback = agent.filter(|agent| agent.config.on_close == OnClose::PlayFallback);
                match fallback.and_then(|agent| agent.fallback.clone()) {
                    Some(samples) => {
                        context.counters().fallback_prompts.increment();
                        app = Some(player(samples, false));
                    }
                    None if event.is_normal() => break CallEnd::BackendHungUp,
                    None => break CallEnd::BackendFailed,
                }
            }
        }
    };
    if let Some((_, session)) = ai {
        session.stop(end.name());
    }
    call.finish(&end).await;
}

/// The end of the AI stream, if there is one. Cancel safe.
async fn ai_end(ai: &mut Option<(Arc<Agent>, AiSession)>) -> AiEnd {
    let Some((_, session)) = ai else { return std::future::pending().await };
    loop {
        match session.next_event().await {
            Some(AiEvent::Ended(end)) => return end,
            Some(_) => {}
            None => return AiEnd::Failed(AiFailure::Internal),
        }
    }
}

fn player(samples: Arc<[i16]>, repeat: bool) -> stream::App {
    stream::App::Player(Box::new(Player::new(samples, repeat)))
}

/// Calls that never came to be cost nobody but us a line each.
static REFUSED: Quiet = Quiet::new(100, Duration::from_millis(100));
