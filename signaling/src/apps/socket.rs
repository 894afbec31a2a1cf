//! Calls that come by a socket instead of SIP: the same apps, the same table, no session to transfer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine::ai::dialect::{AudioFormat, Encoding, LineProtocol, LineStart};
use engine::ai::{AiEnd, LineApp, LineEnd, LineEvent, LineFigures, SocketLine};
use engine::player::Player;
use engine::stream;
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::agent::{call_sid, clean};
use super::keys::KEY;
use super::load::Apps;
use super::prepare::{NotAnswered, Program, Whom, program};
use super::service::{log_figures, next, requested};
use super::talk::{Talk, Wish};
use super::{AppConfig, OnClose};
use crate::call::{
    CallContext, CallEnd, CallEntry, CallState, CallSummary, CallVia, Identity, Quiet, milliseconds,
    redacted, shortened,
};
use crate::model::{Direction, TenantId};

/// A call that has introduced itself. Strings come from the peer and are not to be trusted.
#[derive(Debug)]
pub struct SocketCall {
    /// What it comes by.
    pub protocol: LineProtocol,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// Its introduction.
    pub start: LineStart,
    /// The line.
    pub line: SocketLine,
    /// Whom the routes look for.
    pub user: String,
    /// The caller's number; empty if nobody says.
    pub from: String,
    /// The caller's name; empty if nobody says.
    pub from_name: String,
    /// The number that was called, for the agent.
    pub to: String,
    /// What else the agent may learn: names and values.
    pub parameters: Vec<(String, String)>,
}

/// Takes the call, in a task of its own, as [`super::serve`] takes those of SIP.
pub fn take(context: &Arc<CallContext>, apps: &Arc<Apps>, call: SocketCall) {
    let show = context.config.show_numbers;
    let span = info_span!(
        "call",
        call_id = shortened(&call.start.id),
        id = tracing::field::Empty,
        from = redacted(&call.from, show),
        to = redacted(&call.to, show || apps.is_app_name(&call.to)),
        via = call.protocol.name(),
    );
    tokio::spawn(answer(Arc::clone(context), Arc::clone(apps), call).instrument(span));
}

async fn answer(context: Arc<CallContext>, apps: Arc<Apps>, mut call: SocketCall) {
    let arrived = Instant::now();
    let counters = context.counters();
    counters.offered.increment();
    // Dropping the line hangs up: neither protocol has a word for why.
    let (entry, program) = match prepare(&context, &apps, &mut call).await {
        Ok(prepared) => prepared,
        Err(why) => {
            if let Some(suppressed) = REFUSED.allows(Instant::now()) {
                info!(why, suppressed, "call refused");
            }
            return;
        }
    };
    if let Err(error) = call.line.answer() {
        debug!(%error, "the line is not told to answer");
    }
    counters.answered.increment();
    context.table.setup_time().observe(arrived.elapsed());
    entry.update(|summary| {
        summary.answered = Some(SystemTime::now());
        summary.state = CallState::Answered;
    });
    info!(setup_ms = milliseconds(arrived.elapsed()), codec = codec_name(call.start.format), "call answered");
    run(&context, call, entry, program).await;
}

/// Everything before the answer; the error is for the log.
async fn prepare(
    context: &Arc<CallContext>,
    apps: &Apps,
    call: &mut SocketCall,
) -> Result<(CallEntry, Program), &'static str> {
    let counters = context.counters();
    let Some(app) = apps.route(&call.user) else {
        counters.refused_route.increment();
        counters.count_rejection(404);
        return Err("no route matches the user");
    };
    if let AppConfig::Reject(reject) = app {
        counters.count_rejection(reject.status);
        return Err("the route rejects it");
    }
    let Some(entry) = context.table.admit(summary(context, apps, call, app)) else {
        counters.refused_full.increment();
        counters.count_rejection(503);
        return Err("as many calls as allowed, or draining");
    };
    tracing::Span::current().record("id", entry.id());
    let line = match call.start.format.encoding {
        Encoding::Pcma => AudioFormat::PCMA,
        Encoding::Pcmu | Encoding::L16 => AudioFormat::PCMU,
    };
    let whom = Whom::Socket {
        id: &call.start.id,
        from: &call.from,
        from_name: &call.from_name,
        to: &call.to,
        parameters: &call.parameters,
    };
    let program = program(context, apps, app, whom, line, &[]);
    let hang_up = entry.hang_up();
    tokio::select! {
        program = program => match program {
            Ok(program) => Ok((entry, program)),
            Err(NotAnswered::Rejected(rejection)) => {
                counters.count_rejection(rejection.status);
                Err("its app is not to be had")
            }
            Err(NotAnswered::GivenUp(_)) => Err("given up"),
        },
        () = ended(&mut call.line) => {
            counters.cancelled.increment();
            Err("the caller hung up before the answer")
        }
        _ = hang_up => {
            counters.count_rejection(480);
            Err("ended before the answer")
        }
    }
}

async fn ended(line: &mut SocketLine) {
    // Keys before the answer are for nobody.
    while !matches!(line.next_event().await, Some(LineEvent::Ended(..)) | None) {}
}

fn summary(context: &CallContext, apps: &Apps, call: &SocketCall, app: &AppConfig) -> CallSummary {
    let show = context.config.show_numbers;
    CallSummary {
        id: 0,
        identity: Identity::new(TenantId::default(), Direction::Inbound, call.from.clone(), call.to.clone()),
        call_id: shortened(&call.start.id),
        call_sid: matches!(app, AppConfig::Agent(_)).then(|| call_sid(&call.start.id)),
        from: redacted(&call.from, show),
        to: redacted(&call.to, show || apps.is_app_name(&call.to)),
        app: app.name(),
        agent: if let AppConfig::Agent(name) = app { Some(name.clone()) } else { None },
        via: match call.protocol {
            LineProtocol::AudioSocket => CallVia::AudioSocket,
            LineProtocol::ChanWebSocket => CallVia::ChanWebSocket,
        },
        state: CallState::Ringing,
        since: SystemTime::now(),
        answered: None,
        codec: match call.start.format.encoding {
            Encoding::Pcmu => Some(stream::Codec::Pcmu),
            Encoding::Pcma => Some(stream::Codec::Pcma),
            Encoding::L16 => None,
        },
        remote_sip: Some(call.remote),
        remote_rtp: None,
        local_rtp: None,
        gathered: None,
    }
}

/// The answered call, to its end.
async fn run(context: &CallContext, mut call: SocketCall, mut entry: CallEntry, program: Program) {
    let counters = context.counters();
    let hang_up = entry.hang_up();
    tokio::pin!(hang_up);
    let (app, mut talk) = match program {
        Program::Echo => (LineApp::Echo, None),
        Program::Wait => (LineApp::Silence, None),
        Program::Play { samples, repeat } => (player(samples, repeat), None),
        Program::Agent { app, talk } => (line_app(app), Some(talk)),
    };
    let mut over = None;
    if let Err(error) = call.line.attach(app) {
        debug!(%error, "the app did not start");
    }
    let end = loop {
        let wish = tokio::select! {
            biased;
            event = call.line.next_event() => match event {
                Some(LineEvent::Ended(end, figures)) => {
                    over = Some(figures);
                    break CallEnd::Line(end);
                }
                None => break CallEnd::Line(LineEnd::Shutdown),
                Some(LineEvent::PlayFinished(report)) if report.complete && talk.is_none() => {
                    break CallEnd::AppFinished;
                }
                Some(LineEvent::PlayFinished(_)) => None,
                Some(LineEvent::Digit(_)) => {
                    debug!("a key was pressed");
                    None
                }
            },
            wanted = &mut hang_up => break CallEnd::HungUp(wanted),
            request = entry.next_request() => requested(request, talk.as_deref()),
            wish = next(&mut talk, counters) => Some(wish),
        };
        match wish {
            None => {}
            Some(Wish::HangUp) => {
                break if talk.is_some() { CallEnd::BackendHungUp } else { CallEnd::AppFinished };
            }
            Some(Wish::Transfer(_)) => {
                counters.ai_requests_refused.increment();
                warn!("the call was not transferred: {NO_TRANSFER}");
                if let Some(talk) = &mut talk {
                    talk.transfer_failed(&NO_TRANSFER);
                }
            }
            Some(Wish::TakenOver) => {
                let name = talk.as_ref().map(|talk| talk.agent().config.name.clone());
                entry.update(|summary| summary.agent = name);
            }
            Some(Wish::Press(digit)) => {
                if let Err(error) = call.line.press(digit, KEY) {
                    warn!(%error, "a key was not pressed");
                }
            }
            Some(Wish::Ended(end)) => {
                info!(?end, "the AI stream ended");
                let Some(bot) = talk.take() else { continue };
                log_figures(&bot);
                if end == AiEnd::Stopped {
                    // Nobody has stopped it but the end of the line, which is about to be told.
                    continue;
                }
                let lost = if end.is_normal() { CallEnd::BackendHungUp } else { CallEnd::BackendFailed };
                match after_bot(&bot, end.is_normal()) {
                    Some(samples) => {
                        counters.fallback_prompts.increment();
                        if call.line.attach(player(samples, false)).is_err() {
                            break lost;
                        }
                    }
                    None => break lost,
                }
            }
        }
    };
    if let Some(talk) = talk {
        log_figures(&talk);
        talk.session.stop(end.name());
    }
    finish(context, call.line, &entry, &end, over).await;
}

/// What is played when the bot is gone; `None` hangs up. Where a SIP call would be transferred, the dialplan goes on.
fn after_bot(bot: &Talk, is_normal: bool) -> Option<Arc<[i16]>> {
    let first = bot.first();
    let on_failure = first.config.on_failure.as_ref().filter(|_| !is_normal);
    match on_failure.unwrap_or(&first.config.on_close) {
        OnClose::PlayFallback => first.fallback.clone(),
        OnClose::HangUp | OnClose::Transfer(_) => None,
    }
}

async fn finish(
    context: &CallContext,
    mut line: SocketLine,
    entry: &CallEntry,
    end: &CallEnd,
    mut figures: Option<LineFigures>,
) {
    entry.update(|summary| summary.state = CallState::Ending);
    end.count(context.counters());
    if end.follows_audio() {
        // A hang-up empties the peer's queue and the phone's buffer.
        sleep(PLAYOUT_TAIL).await;
    }
    // It may have ended meanwhile.
    let _ = line.hang_up();
    let last = async {
        loop {
            match line.next_event().await {
                Some(LineEvent::Ended(_, figures)) => return Some(figures),
                None => return None,
                Some(_) => {}
            }
        }
    };
    if figures.is_none() {
        figures = timeout(END_PATIENCE, last).await.ok().flatten();
    }
    let figures = figures.unwrap_or_default();
    info!(
        cause = end.name(),
        received_ms = milliseconds(figures.received),
        sent_ms = milliseconds(figures.sent),
        gaps_ms = milliseconds(figures.gaps),
        late_frames = figures.late_frames,
        left_out_frames = figures.left_out_frames,
        "call ended"
    );
}

fn line_app(app: stream::App) -> LineApp {
    match app {
        stream::App::Ai(port) => LineApp::Ai(port),
        stream::App::Player(player) => LineApp::Player(player),
        stream::App::Echo => LineApp::Echo,
        stream::App::Silence => LineApp::Silence,
    }
}

fn player(samples: Arc<[i16]>, repeat: bool) -> LineApp {
    LineApp::Player(Box::new(Player::new(samples, repeat)))
}

const fn codec_name(format: AudioFormat) -> &'static str {
    match format.encoding {
        Encoding::Pcmu => "PCMU",
        Encoding::Pcma => "PCMA",
        Encoding::L16 => "L16",
    }
}

/// What a name or a value of the peer may be.
#[must_use]
pub fn cleaned(text: &str) -> String {
    clean(text)
}

const NO_TRANSFER: &str = "it came by a socket, and only the dialplan that dialled can send it elsewhere; hang up and let that go on";
/// How long the last sample is ahead of the caller's ear.
const PLAYOUT_TAIL: Duration = Duration::from_millis(200);
/// How long the AI thread may take to end a line.
const END_PATIENCE: Duration = Duration::from_secs(2);

static REFUSED: Quiet = Quiet::new(100, Duration::from_millis(100));
