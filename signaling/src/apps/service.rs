//! Every incoming call in a task of its own: route, media, app, answer, run, end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use engine::ai::{AiEvent, AiSession};
use engine::player::Player;
use engine::stream;
use tokio::sync::mpsc;
use tracing::{Instrument as _, info, info_span, warn};

use super::agent::Agent;
use super::prompt::{self, PromptError};
use super::{AppConfig, AppsConfig, OnClose};
use crate::call::{
    Call, CallContext, CallEnd, CallEntry, CallEvent, CallState, CallSummary, HangUp, Leg, redacted,
};
use crate::route::{RouteRule, route};
use crate::sip::{CallError, IncomingCall, InviteInfo, Rejection};

/// Why the apps of a configuration cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AppsError {
    /// A recording cannot be played.
    #[error("{0}")]
    Prompt(#[from] PromptError),
    /// Two agents of one name.
    #[error("there are two agents named {0:?}; give each its own name")]
    DuplicateAgent(String),
    /// A rule names an agent that is not there.
    #[error("a route leads to the agent {0:?}, and there is none of that name")]
    UnknownAgent(String),
    /// A status that cannot refuse a call.
    #[error("a route rejects with status {0}; a refusal has a status from 400 to 699")]
    RejectStatus(u16),
}

/// The apps of a configuration, their recordings loaded.
#[derive(Debug)]
pub struct Apps {
    routes: Vec<RouteRule>,
    agents: HashMap<String, Arc<Agent>>,
    prompts: HashMap<PathBuf, Arc<[i16]>>,
}

impl Apps {
    /// Reads the recordings and checks that every rule leads somewhere. Blocks on the file system.
    ///
    /// # Errors
    /// See [`AppsError`].
    pub fn load(config: AppsConfig) -> Result<Self, AppsError> {
        let mut prompts = HashMap::new();
        let mut agents = HashMap::new();
        for config in config.agents {
            let fallback = config.fallback_prompt.as_deref().map(|path| load_once(&mut prompts, path));
            let name = config.name.clone();
            let agent = Arc::new(Agent { config, fallback: fallback.transpose()? });
            if agents.insert(name.clone(), agent).is_some() {
                return Err(AppsError::DuplicateAgent(name));
            }
        }
        for rule in &config.routes {
            match &rule.app {
                AppConfig::Agent(name) if !agents.contains_key(name) => {
                    return Err(AppsError::UnknownAgent(name.clone()));
                }
                AppConfig::Play(play) => drop(load_once(&mut prompts, &play.file)?),
                AppConfig::Reject(reject) if !(400..=699).contains(&reject.status) => {
                    return Err(AppsError::RejectStatus(reject.status));
                }
                AppConfig::Agent(_) | AppConfig::Echo | AppConfig::Reject(_) => {}
            }
        }
        Ok(Self { routes: config.routes, agents, prompts })
    }
}

/// A recording that several apps use is in memory once.
fn load_once(prompts: &mut HashMap<PathBuf, Arc<[i16]>>, path: &Path) -> Result<Arc<[i16]>, PromptError> {
    if let Some(loaded) = prompts.get(path) {
        return Ok(Arc::clone(loaded));
    }
    let samples = prompt::load(path)?;
    prompts.insert(path.to_owned(), Arc::clone(&samples));
    Ok(samples)
}

/// Takes calls until the endpoint ends. The tasks of running calls go on; [`crate::call::CallTable::drain`]
/// waits for them.
pub async fn serve(context: Arc<CallContext>, apps: Arc<Apps>, mut calls: mpsc::Receiver<IncomingCall>) {
    while let Some(incoming) = calls.recv().await {
        let info = incoming.info();
        let show = context.config.show_numbers;
        let span = info_span!(
            "call",
            call_id = info.call_id,
            id = tracing::field::Empty,
            from = redacted(&info.from.user, show),
            to = redacted(&info.request_uri.user, show),
        );
        let task = take(Arc::clone(&context), Arc::clone(&apps), incoming);
        tokio::spawn(task.instrument(span));
    }
}

/// What an answered call runs.
enum Program {
    Echo,
    Play { samples: Arc<[i16]>, repeat: bool },
    Agent { agent: Arc<Agent>, app: stream::App, session: AiSession },
}

/// A call that is not answered.
enum NotAnswered {
    /// We refuse it.
    Rejected(Rejection),
    /// The caller has given up, or is gone.
    GivenUp(CallError),
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
            info!(setup_ms = arrived.elapsed().as_secs_f64() * 1000.0, codec = ?leg.parameters().send.codec, "call answered");
            let call = Call::new(Arc::clone(&context), entry, leg, session);
            run(&context, call, program).await;
        }
        Err(NotAnswered::Rejected(rejection)) => reject(&context, incoming, rejection).await,
        Err(NotAnswered::GivenUp(error)) => given_up(&context, error),
    }
}

fn given_up(context: &CallContext, error: CallError) {
    context.counters().cancelled.increment();
    info!(%error, "call not answered");
}

async fn reject(context: &CallContext, incoming: IncomingCall, rejection: Rejection) {
    context.counters().count_rejection(rejection.status);
    info!(status = rejection.status, warning = rejection.warning, "call refused");
    // The caller may be faster; then there is nothing left to refuse.
    let _ = incoming.reject(rejection).await;
}

/// Everything before the answer.
async fn prepare(
    context: &Arc<CallContext>,
    apps: &Apps,
    incoming: &mut IncomingCall,
) -> Result<(CallEntry, Leg, String, Program), NotAnswered> {
    let info = Arc::clone(incoming.info());
    let counters = context.counters();
    let dialled = percent_decoded(&info.request_uri.user);
    let Some(app) = route(&apps.routes, &dialled) else {
        counters.refused_route.increment();
        return Err(NotAnswered::Rejected(Rejection::new(404)));
    };
    if let AppConfig::Reject(reject) = app {
        let reason = reject.reason.clone().unwrap_or_default();
        return Err(NotAnswered::Rejected(Rejection { reason, ..Rejection::new(reject.status) }));
    }
    let Some(entry) = context.table.admit(summary(context, &info, app)) else {
        counters.refused_full.increment();
        return Err(NotAnswered::Rejected(unavailable(context)));
    };
    tracing::Span::current().record("id", entry.id());
    let (leg, sdp) = Leg::new(context, &info, incoming.offer()).await.map_err(|error| {
        let rejection = error.rejection(context);
        warn!(%error, status = rejection.status, "no media for the call");
        if rejection.status == 488 {
            counters.refused_media.increment();
        }
        NotAnswered::Rejected(rejection)
    })?;
    entry.set_stream(Some(leg.stream().handle()));

    let cancelled = incoming.cancelled();
    let hang_up = entry.hang_up();
    tokio::select! {
        program = ring_until(context, incoming, program(context, apps, app, &info)) => {
            program.map(|program| (entry, leg, sdp, program))
        }
        () = cancelled => Err(NotAnswered::GivenUp(CallError::Cancelled)),
        wanted = hang_up => Err(NotAnswered::Rejected(match wanted {
            HangUp::Operator => Rejection::new(480),
            HangUp::Drain => unavailable(context),
        })),
    }
}

fn summary(context: &CallContext, info: &InviteInfo, app: &AppConfig) -> CallSummary {
    let show = context.config.show_numbers;
    CallSummary {
        id: 0,
        call_id: info.call_id.clone(),
        from: redacted(&info.from.user, show),
        to: redacted(&info.request_uri.user, show),
        app: app.name(),
        agent: if let AppConfig::Agent(name) = app { Some(name.clone()) } else { None },
        state: CallState::Ringing,
        since: SystemTime::now(),
        answered: None,
        codec: None,
        remote_sip: info.remote,
        remote_rtp: None,
        local_rtp: None,
    }
}

fn unavailable(context: &CallContext) -> Rejection {
    Rejection { retry_after: Some(context.config.retry_after), ..Rejection::new(503) }
}

/// Rings while the program gets ready, if that is going to take a while.
async fn ring_until(
    context: &CallContext,
    incoming: &mut IncomingCall,
    program: impl Future<Output = Result<Program, NotAnswered>>,
) -> Result<Program, NotAnswered> {
    let delay = context.config.answer_delay;
    tokio::pin!(program);
    // A backend in the same house answers before anybody could hear the ringing.
    let early = tokio::select! {
        early = &mut program => Some(early),
        () = tokio::time::sleep(RING_AFTER) => None,
    };
    if delay.is_zero()
        && let Some(program) = early
    {
        return program;
    }
    let ring = async {
        if rings_with_sdp(incoming) {
            return Ok(());
        }
        incoming.ring(180, None).await
    };
    let ready = async {
        let program = match early {
            Some(program) => program,
            None => program.await,
        };
        tokio::time::sleep(delay).await;
        program
    };
    let (rung, program) = tokio::join!(ring, ready);
    match rung {
        Ok(()) => program,
        Err(CallError::NoPrack) => Err(NotAnswered::Rejected(Rejection::new(504))),
        Err(error) => Err(NotAnswered::GivenUp(error)),
    }
}

/// Whether a 180 would have to carry our offer: the caller wants it to be reliable and sent none itself
/// (RFC 3262 section 5). Ringing is left out then.
fn rings_with_sdp(incoming: &IncomingCall) -> bool {
    let mut headers = incoming.info().headers();
    incoming.offer().is_none()
        && headers.any(|(name, value)| {
            name.eq_ignore_ascii_case("Require")
                && value.split(',').any(|tag| tag.trim().eq_ignore_ascii_case("100rel"))
        })
}

/// Gets ready what the call will run.
async fn program(
    context: &CallContext,
    apps: &Apps,
    app: &AppConfig,
    info: &InviteInfo,
) -> Result<Program, NotAnswered> {
    let missing = || NotAnswered::Rejected(Rejection::new(500));
    match app {
        AppConfig::Echo => Ok(Program::Echo),
        AppConfig::Play(play) => {
            let samples = Arc::clone(apps.prompts.get(&play.file).ok_or_else(missing)?);
            Ok(Program::Play { samples, repeat: play.repeat })
        }
        AppConfig::Reject(reject) => Err(NotAnswered::Rejected(Rejection::new(reject.status))),
        AppConfig::Agent(name) => connect(context, apps.agents.get(name).ok_or_else(missing)?, info).await,
    }
}

async fn connect(
    context: &CallContext,
    agent: &Arc<Agent>,
    info: &InviteInfo,
) -> Result<Program, NotAnswered> {
    let meta = agent.meta(info);
    let config = agent.ai_config(&context.config, &meta);
    match context.media.connect_ai(config, meta).await {
        Ok((app, session)) => Ok(Program::Agent { agent: Arc::clone(agent), app, session }),
        Err(error) => {
            context.counters().ai_connect_failed.increment();
            match &agent.fallback {
                Some(samples) => {
                    warn!(agent = agent.config.name, %error, "the AI backend cannot be reached; playing the fallback prompt");
                    context.counters().fallback_prompts.increment();
                    Ok(Program::Play { samples: Arc::clone(samples), repeat: false })
                }
                None => {
                    warn!(agent = agent.config.name, %error, "the AI backend cannot be reached; refusing the call");
                    Err(NotAnswered::Rejected(unavailable(context)))
                }
            }
        }
    }
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
            event = ai_event(&mut ai) => {
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
async fn ai_event(ai: &mut Option<(Arc<Agent>, AiSession)>) -> AiEvent {
    let event = match ai {
        Some((_, session)) => session.next_event().await,
        None => None,
    };
    match event {
        Some(event) => event,
        None => std::future::pending().await,
    }
}

fn player(samples: Arc<[i16]>, repeat: bool) -> stream::App {
    stream::App::Player(Box::new(Player::new(samples, repeat)))
}

/// The user part as it is meant (RFC 3986 section 2.1); what is not UTF-8 then, or not an escape, stays.
fn percent_decoded(user: &str) -> String {
    let mut bytes = Vec::with_capacity(user.len());
    let mut rest = user.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten();
        let escaped = escaped.filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let escaped = escaped.and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| user.to_owned())
}

/// How long an app may take to get ready before the caller hears ringing.
const RING_AFTER: std::time::Duration = std::time::Duration::from_millis(150);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::{AgentConfig, PlayConfig, RejectConfig};
    use crate::route::UserPattern;

    fn rule(app: AppConfig) -> RouteRule {
        RouteRule { user: UserPattern::Exact("1".into()), app }
    }

    #[test]
    fn escapes_in_the_user_are_decoded() {
        for (written, meant) in [
            ("%61gent", "agent"),
            ("%2B49", "+49"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%ff", "%ff"),
            ("%+1", "%+1"),
        ] {
            assert_eq!(percent_decoded(written), meant, "{written}");
        }
    }

    #[test]
    fn rules_that_lead_nowhere_are_refused_at_start() {
        let load = |agents: &[&str], app| {
            let agents =
                agents.iter().map(|&name| AgentConfig { name: name.into(), ..AgentConfig::default() });
            Apps::load(AppsConfig { agents: agents.collect(), routes: vec![rule(app)] })
        };
        assert!(load(&["a"], AppConfig::Agent("a".into())).is_ok());
        assert!(matches!(load(&["a"], AppConfig::Agent("b".into())), Err(AppsError::UnknownAgent(_))));
        assert!(matches!(load(&["a", "a"], AppConfig::Echo), Err(AppsError::DuplicateAgent(_))));
        let reject = |status| AppConfig::Reject(RejectConfig { status, reason: None });
        assert!(load(&[], reject(486)).is_ok());
        assert!(matches!(load(&[], reject(200)), Err(AppsError::RejectStatus(200))));
        let play = AppConfig::Play(PlayConfig { file: "/nonexistent.wav".into(), repeat: false });
        assert!(matches!(load(&[], play), Err(AppsError::Prompt(_))));
    }
}
