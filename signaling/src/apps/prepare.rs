//! Everything between an INVITE and its answer: route, media, and the app made ready while it rings.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine::ai::AiConfig;
use engine::ai::dialect::AudioFormat;
use engine::codec::Law;
use engine::stream;
use tracing::{debug, warn};

use super::AppConfig;
use super::agent::{About, Agent, call_sid};
use super::load::Apps;
use super::recorded::tell;
use super::talk::Talk;
use crate::call::{
    CallContext, CallEntry, CallState, CallSummary, CallVia, HangUp, Identity, Leg, Quiet, redacted,
    shortened,
};
use crate::model::{Direction, TenantId};
use crate::record::RecordedLeg;
use crate::sip::{CallError, IncomingCall, InviteInfo, Rejection};

/// What an answered call runs.
pub(super) enum Program {
    Echo,
    /// Silence; the call is driven from outside.
    Wait,
    Play {
        samples: Arc<[i16]>,
        repeat: bool,
    },
    Agent {
        app: stream::App,
        talk: Box<Talk>,
    },
}

/// A call that is not answered.
pub(super) enum NotAnswered {
    /// We refuse it.
    Rejected(Rejection),
    /// The caller has given up, or is gone.
    GivenUp(CallError),
}

/// Who calls, as far as an agent is told.
#[derive(Clone, Copy)]
pub(super) enum Whom<'a> {
    /// By SIP.
    Invite(&'a About<'a>),
    /// By a socket.
    Socket { id: &'a str, from: &'a str, from_name: &'a str, to: &'a str, parameters: &'a [(String, String)] },
}

/// Everything before the answer.
pub(super) async fn prepare(
    context: &Arc<CallContext>,
    apps: &Apps,
    incoming: &mut IncomingCall,
    identity: Identity,
    reached: Option<&AppConfig>,
    recorded: &mut RecordedLeg,
) -> Result<(CallEntry, Leg, String, Program), NotAnswered> {
    let info = Arc::clone(incoming.info());
    let counters = context.counters();
    let dialled = identity.to.clone();
    let Some(app) = reached.or_else(|| apps.route(&dialled)) else {
        counters.refused_route.increment();
        return Err(NotAnswered::Rejected(Rejection::new(404)));
    };
    if let AppConfig::Reject(reject) = app {
        let reason = reject.reason.clone().unwrap_or_default();
        return Err(NotAnswered::Rejected(Rejection { reason, ..Rejection::new(reject.status) }));
    }
    let summary = summary(context, &info, identity, app, apps.is_app_name(&dialled));
    recorded.change(|record| tell(record, &summary));
    let Some(entry) = context.table.admit(summary) else {
        counters.refused_full.increment();
        return Err(NotAnswered::Rejected(unavailable(context)));
    };
    tracing::Span::current().record("id", entry.id());
    recorded.begin();
    let (leg, sdp) = Leg::new(context, &info, incoming.offer()).await.map_err(|error| {
        let rejection = error.rejection(context);
        if error.is_ours() {
            if let Some(suppressed) = NO_MEDIA.allows(Instant::now()) {
                warn!(%error, status = rejection.status, suppressed, "no media for the call");
            }
        } else {
            debug!(%error, status = rejection.status, "the offer cannot be accepted");
        }
        if rejection.status == 488 {
            counters.refused_media.increment();
        }
        NotAnswered::Rejected(rejection)
    })?;
    entry.set_stream(Some(leg.stream().handle()));

    let cancelled = incoming.cancelled();
    let hang_up = entry.hang_up();
    // With a late offer the law is not known yet; the leg converts then.
    let line = match leg.parameters().send.codec.law() {
        Some(Law::A) => AudioFormat::PCMA,
        Some(Law::Mu) | None => AudioFormat::PCMU,
    };
    let header = |name: &str| info.header(name);
    let about = About { call_id: &info.call_id, from: &info.from, to: &info.request_uri, header: &header };
    tokio::select! {
        program = ring_until(context, incoming, recorded, program(context, apps, app, Whom::Invite(&about), line, &[])) => {
            program.map(|program| (entry, leg, sdp, program))
        }
        () = cancelled => Err(NotAnswered::GivenUp(CallError::Cancelled)),
        wanted = hang_up => Err(NotAnswered::Rejected(match wanted {
            HangUp::Operator => Rejection::new(480),
            HangUp::Drain => unavailable(context),
        })),
    }
}

/// Who calls whom.
pub(super) fn identity(incoming: &IncomingCall) -> Identity {
    let info = incoming.info();
    Identity::new(
        TenantId::default(),
        Direction::Inbound,
        info.from.user.clone(),
        percent_decoded(&info.request_uri.user),
    )
}

/// What is told of a call that goes on to somebody else.
pub(super) fn bridged(context: &CallContext, info: &InviteInfo, identity: Identity) -> CallSummary {
    CallSummary { app: "bridge", ..summary(context, info, identity, &AppConfig::Echo, false) }
}

fn summary(
    context: &CallContext,
    info: &InviteInfo,
    identity: Identity,
    app: &AppConfig,
    is_app_name: bool,
) -> CallSummary {
    let show = context.config.show_numbers;
    CallSummary {
        id: 0,
        identity,
        call_id: shortened(&info.call_id),
        call_sid: matches!(app, AppConfig::Agent(_)).then(|| call_sid(&info.call_id)),
        from: redacted(&info.from.user, show),
        to: redacted(&info.request_uri.user, show || is_app_name),
        app: app.name(),
        agent: if let AppConfig::Agent(name) = app { Some(name.clone()) } else { None },
        via: CallVia::Sip,
        state: CallState::Ringing,
        since: SystemTime::now(),
        answered: None,
        codec: None,
        remote_sip: Some(info.remote),
        remote_rtp: None,
        local_rtp: None,
        gathered: None,
    }
}

pub(super) fn unavailable(context: &CallContext) -> Rejection {
    Rejection { retry_after: Some(context.config.retry_after), ..Rejection::new(503) }
}

/// Rings while the program gets ready, if that is going to take a while.
async fn ring_until(
    context: &CallContext,
    incoming: &mut IncomingCall,
    recorded: &mut RecordedLeg,
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
        incoming.ring(180, None).await?;
        recorded.ringing();
        Ok(())
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
pub(super) async fn program(
    context: &CallContext,
    apps: &Apps,
    app: &AppConfig,
    whom: Whom<'_>,
    line: AudioFormat,
    parameters: &[(String, String)],
) -> Result<Program, NotAnswered> {
    let missing = || NotAnswered::Rejected(Rejection::new(500));
    match app {
        AppConfig::Echo => Ok(Program::Echo),
        AppConfig::Play(play) => {
            let samples = Arc::clone(apps.prompt(&play.file).ok_or_else(missing)?);
            Ok(Program::Play { samples, repeat: play.repeat })
        }
        AppConfig::Reject(reject) => Err(NotAnswered::Rejected(Rejection::new(reject.status))),
        AppConfig::Agent(name) => {
            let agent = apps.agent(name).ok_or_else(missing)?;
            connect(context, agent, apps.fallbacks(agent), whom, line, parameters).await
        }
    }
}

/// Connects the agent, or else the first of `fallbacks` that can be reached.
pub(super) async fn connect(
    context: &CallContext,
    agent: &Arc<Agent>,
    fallbacks: Vec<Arc<Agent>>,
    whom: Whom<'_>,
    line: AudioFormat,
    parameters: &[(String, String)],
) -> Result<Program, NotAnswered> {
    let meta = match whom {
        Whom::Invite(about) => agent.meta(about, &fallbacks),
        Whom::Socket { id, from, from_name, to, parameters } => {
            Agent::socket_meta(id, (from, from_name, to), parameters)
        }
    };
    let mut config = AiConfig { line, ..agent.ai_config(&context.config, &meta, &fallbacks) };
    config.custom_parameters.extend(parameters.iter().cloned());
    let error = match context.media.connect_ai(config, meta).await {
        Ok((app, session)) => {
            let talk = Box::new(Talk::new(Arc::clone(agent), fallbacks, session));
            return Ok(Program::Agent { app, talk });
        }
        Err(error) => error,
    };
    context.counters().ai_connect_failed.increment();
    let suppressed = NO_BACKEND.allows(Instant::now());
    match &agent.fallback {
        Some(samples) => {
            if let Some(suppressed) = suppressed {
                warn!(agent = agent.config.name, %error, suppressed, "the AI backend cannot be reached; playing the fallback prompt");
            }
            context.counters().fallback_prompts.increment();
            Ok(Program::Play { samples: Arc::clone(samples), repeat: false })
        }
        None => {
            if let Some(suppressed) = suppressed {
                warn!(agent = agent.config.name, %error, suppressed, "the AI backend cannot be reached; refusing the call");
            }
            Err(NotAnswered::Rejected(unavailable(context)))
        }
    }
}

/// The user part as it is meant (RFC 3986 section 2.1); what is not UTF-8 then, or not an escape, stays.
pub(crate) fn percent_decoded(user: &str) -> String {
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
const RING_AFTER: Duration = Duration::from_millis(150);

static NO_MEDIA: Quiet = Quiet::warnings();
static NO_BACKEND: Quiet = Quiet::warnings();

#[cfg(test)]
mod tests {
    use super::*;

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
}
