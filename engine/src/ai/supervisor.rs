//! Gets a stream its connections: the first, another when one is lost, a fallback, and a new one before a
//! session's limit.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, sleep, timeout_at};

use super::config::{AiConfig, CallMeta, Reconnect};
use super::connect::ConnectError;
use super::counters::AiCounters;
use super::dialect::{Sender, StreamStart};
use super::histograms::AiHistograms;
use super::link::{Link, LinkEnd};
use super::recovery::{Class, pause, retry_after};
use crate::time::Duration;

/// Where connections come from: the configured backend, its fallbacks, and what they are told of the call.
#[derive(Debug)]
pub(super) struct Source {
    /// The backend and its fallbacks, each without fallbacks of its own.
    chain: Vec<AiConfig>,
    meta: CallMeta,
    public_tls: Arc<rustls::ClientConfig>,
    counters: Arc<AiCounters>,
    histograms: Arc<AiHistograms>,
}

/// What a new connection is told of those before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    pub(super) resume: Option<String>,
    pub(super) history: Vec<(Sender, String)>,
}

impl Source {
    pub(super) fn new(
        mut config: AiConfig,
        meta: CallMeta,
        public_tls: Arc<rustls::ClientConfig>,
        counters: Arc<AiCounters>,
        histograms: Arc<AiHistograms>,
    ) -> Self {
        let line = config.line;
        let fallbacks = std::mem::take(&mut config.fallbacks);
        let mut chain = vec![config];
        // The rings are the call's: they carry one line format, whoever is behind them.
        chain.extend(fallbacks.into_iter().map(|fallback| AiConfig {
            line,
            fallbacks: Vec::new(),
            ..fallback
        }));
        Self { chain, meta, public_tls, counters, histograms }
    }

    /// The first connection: to the first backend in order that is reached within its window.
    pub(super) async fn first(&self) -> Result<Link, ConnectError> {
        let mut result = self.connect(0, &Past::default(), false).await;
        for index in 1..self.chain.len() {
            match &result {
                Err(error) => {
                    tracing::warn!(%error, fallback = index - 1, "an AI backend fails; on to the next")
                }
                Ok(_) => break,
            }
            result = self.connect(index, &Past::default(), false).await;
        }
        if result.is_err() {
            self.counters.connect_failed.increment();
        }
        result
    }

    /// Another connection in mid-call: to the backend at `begin` again if `again`, with the attempts it has
    /// left after `used`; then to each of those behind it. Gives the number of attempts used with it.
    async fn another(
        self: Arc<Self>,
        begin: usize,
        again: bool,
        used: u32,
        past: Past,
    ) -> Result<(Link, u32), ConnectError> {
        let mut last = None;
        for (index, config) in self.chain.iter().enumerate().skip(begin) {
            let same = index == begin;
            if same && !again {
                continue;
            }
            let once = Reconnect { attempts: 1, backoff: Duration::ZERO, ..Reconnect::default() };
            let policy = config.reconnect.as_ref().unwrap_or(&once);
            let past = if same { past.clone() } else { Past { resume: None, history: past.history.clone() } };
            let window_end = Instant::now() + policy.window;
            let mut asked = None;
            for attempt in if same { used } else { 0 }..policy.attempts {
                // Another backend has not failed yet: no pause before the first attempt.
                let wait = if same || attempt > 0 {
                    pause(policy, attempt, getrandom::u32().unwrap_or_default(), asked)
                } else {
                    Duration::ZERO
                };
                if Instant::now() + wait >= window_end {
                    break;
                }
                sleep(wait).await;
                self.counters.reconnect_attempts.increment();
                let error = match timeout_at(window_end, self.connect(index, &past, true)).await {
                    Ok(Ok(link)) => return Ok((link, attempt + 1)),
                    Ok(Err(error)) => error,
                    Err(_) => ConnectError::Timeout { url: shown(&config.url), waited: policy.window },
                };
                tracing::warn!(%error, attempt, "cannot replace the connection to the AI backend yet");
                let class = Class::of_error(&error);
                asked = retry_after(&error);
                last = Some(error);
                if class != Class::Transient {
                    break;
                }
            }
        }
        Err(last.unwrap_or(ConnectError::Timeout { url: String::new(), waited: Duration::ZERO }))
    }

    /// With `once`, one attempt; else as many as [`AiConfig::connect_window`] has room for.
    async fn connect(&self, index: usize, past: &Past, once: bool) -> Result<Link, ConnectError> {
        let config = self.chain.get(index).ok_or(ConnectError::Shutdown)?;
        let start = self.stream_start(config, past)?;
        let config = AiConfig {
            retry_interval: if once { config.connect_window } else { config.retry_interval },
            ..config.clone()
        };
        let link =
            Link::open(&config, index, start, &self.public_tls, &self.counters, &self.histograms).await?;
        if index > 0 {
            self.counters.fell_back.increment();
        }
        Ok(link)
    }

    fn stream_start(&self, config: &AiConfig, past: &Past) -> Result<StreamStart, ConnectError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| ConnectError::Config(error.to_string()))?;
        let expand = |(name, template): (&String, &String)| (name.clone(), self.meta.expand(template));
        let account_sid = match config.account_sid.as_str() {
            "" => format!("AC{}", "0".repeat(32)),
            configured => configured.to_owned(),
        };
        Ok(StreamStart {
            stream_sid: format!("MZ{}", hex(&random)),
            call_sid: self.meta.call_sid(),
            account_sid,
            unix_ms: unix_ms(),
            call_id: self.meta.call_id.clone(),
            from: self.meta.from_number.clone(),
            from_name: self.meta.from_name.clone(),
            to: self.meta.to_number.clone(),
            settings: Arc::clone(&config.settings),
            line: config.line,
            resume: past.resume.clone(),
            history: past.history.clone(),
            custom_parameters: config.custom_parameters.iter().map(expand).collect(),
        })
    }

    /// The configuration of a backend.
    pub(super) fn config(&self, index: usize) -> Option<&AiConfig> {
        self.chain.get(index)
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<(Link, u32), ConnectError>> + Send>>;

/// Keeps one stream connected.
pub(super) struct Supervisor {
    source: Arc<Source>,
    work: Work,
    /// The place of the backend that is, or was last, connected.
    index: usize,
    /// When it was ready.
    since: Instant,
    /// Attempts that led to it: they count until it has proved to be steady.
    used: u32,
    resume: Option<String>,
    renewal: Option<Renewal>,
    lost: String,
}

enum Work {
    Idle,
    Recovering(Connecting),
    Renewing(Connecting),
    /// Waits for a silence.
    Renewed(Box<Link>),
}

/// When a session is to be replaced.
#[derive(Clone, Copy, Debug)]
struct Renewal {
    /// From then on at a silence.
    from: Instant,
    /// Then at the latest.
    at_last: Instant,
}

/// What became of an effort to connect.
pub(super) enum Supplied {
    /// A connection in place of a lost one.
    Recovered(Box<Link>),
    /// A connection in place of one that still stands.
    Renewed(Box<Link>),
    /// There is none, and there will be none.
    GivenUp { lost: String, error: String },
}

impl Supervisor {
    pub(super) fn new(source: Arc<Source>, first: &Link) -> Self {
        Self {
            source,
            work: Work::Idle,
            index: first.index,
            since: first.ready_at,
            used: 0,
            resume: None,
            renewal: None,
            lost: String::new(),
        }
    }

    /// A connection was lost: whether another is being made now.
    pub(super) fn recover(&mut self, end: &LinkEnd, history: Vec<(Sender, String)>) -> bool {
        self.renewal = None;
        self.lost = end.to_string();
        let work = std::mem::replace(&mut self.work, Work::Idle);
        let class = match end {
            LinkEnd::Closed { code, .. } => Class::of_code(*code),
            LinkEnd::Failed(failure) => Class::of_failure(failure),
        };
        let Some(config) = self.source.config(self.index).filter(|_| class != Class::HangUp) else {
            return false;
        };
        if self.since.elapsed() >= STEADY {
            self.used = 0;
        }
        let attempts = config.reconnect.as_ref().map_or(0, |policy| policy.attempts);
        let again = class == Class::Transient && self.used < attempts;
        let past = Past { resume: self.resume.take(), history };
        let another = Arc::clone(&self.source).another(self.index, again, self.used, past);
        self.work = Work::Recovering(match work {
            // One that is ready, or nearly, is as good as any.
            Work::Renewed(link) => Box::pin(std::future::ready(Ok((*link, 0)))),
            Work::Renewing(connecting) => Box::pin(async {
                match connecting.await {
                    Ok(renewed) => Ok(renewed),
                    Err(_) => another.await,
                }
            }),
            Work::Recovering(_) | Work::Idle if again || self.index + 1 < self.source.chain.len() => {
                Box::pin(another)
            }
            Work::Recovering(_) | Work::Idle => return false,
        });
        true
    }

    /// The session ends so soon, whatever happens.
    pub(super) fn expires(&mut self, within: Duration) {
        let Some(policy) = self.source.config(self.index).and_then(|config| config.reconnect.as_ref()) else {
            return;
        };
        let now = Instant::now();
        self.renewal = Some(Renewal {
            from: now + within.saturating_sub(policy.renew_before),
            at_last: now + within.saturating_sub((within / 4).min(LAST_MARGIN)),
        });
    }

    /// What a new connection says to go on with this session.
    pub(super) fn resumption(&mut self, handle: String) {
        self.resume = Some(handle);
    }

    /// What has become of the effort to connect. Begins one ahead of a session's end, when the call is silent.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        silent: bool,
        history: impl FnOnce() -> Vec<(Sender, String)>,
    ) -> Poll<Supplied> {
        if let (Work::Idle, Some(renewal)) = (&self.work, self.renewal) {
            let now = Instant::now();
            if now >= renewal.at_last || (silent && now >= renewal.from) {
                let past = Past { resume: self.resume.clone(), history: history() };
                self.work = Work::Renewing(Box::pin(Arc::clone(&self.source).renew(self.index, past)));
            }
        }
        match &mut self.work {
            Work::Idle => return Poll::Pending,
            Work::Recovering(connecting) => {
                let result = std::task::ready!(connecting.as_mut().poll(cx));
                self.work = Work::Idle;
                return Poll::Ready(match result {
                    Ok((link, used)) => {
                        self.connected(&link, used);
                        Supplied::Recovered(Box::new(link))
                    }
                    Err(error) => {
                        let lost = std::mem::take(&mut self.lost);
                        Supplied::GivenUp { lost, error: error.to_string() }
                    }
                });
            }
            Work::Renewing(connecting) => match std::task::ready!(connecting.as_mut().poll(cx)) {
                Ok((link, _)) => self.work = Work::Renewed(Box::new(link)),
                Err(error) => {
                    tracing::warn!(%error, "cannot renew the session of the AI backend yet");
                    self.work = Work::Idle;
                    let again = Instant::now() + RENEW_AGAIN;
                    self.renewal = self
                        .renewal
                        .map(|renewal| Renewal { from: again, at_last: renewal.at_last.max(again) });
                    return Poll::Pending;
                }
            },
            Work::Renewed(_) => {}
        }
        let due = silent || self.renewal.is_none_or(|renewal| Instant::now() >= renewal.at_last);
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Renewed(link) if due => {
                self.connected(&link, 0);
                Poll::Ready(Supplied::Renewed(link))
            }
            work => {
                self.work = work;
                Poll::Pending
            }
        }
    }

    fn connected(&mut self, link: &Link, used: u32) {
        self.index = link.index;
        self.since = link.ready_at;
        self.used = used;
        self.resume = None;
        self.renewal = None;
    }

    /// The configuration of the backend that is, or was last, connected.
    pub(super) fn config(&self) -> Option<&AiConfig> {
        self.source.config(self.index)
    }

    /// The position of that backend in [`AiConfig::fallbacks`].
    pub(super) fn fallback(&self) -> Option<usize> {
        self.index.checked_sub(1)
    }
}

impl Source {
    async fn renew(self: Arc<Self>, index: usize, past: Past) -> Result<(Link, u32), ConnectError> {
        self.connect(index, &past, true).await.map(|link| (link, 0))
    }
}

impl std::fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed { code, reason } if reason.is_empty() => write!(f, "closed with code {code}"),
            Self::Closed { code, reason } => write!(f, "closed with code {code}: {reason}"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Milliseconds since 1970, for the messages that carry the time of day.
fn unix_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A URL without what may be secret.
fn shown(url: &str) -> String {
    let end = url.find('?').unwrap_or(url.len());
    url.get(..end).unwrap_or_default().rsplit('@').next().unwrap_or_default().to_owned()
}

/// A connection that lasted so long owes nothing to the attempts that led to it.
const STEADY: Duration = Duration::from_secs(10);
/// A session is replaced at least so long before its end.
const LAST_MARGIN: Duration = Duration::from_secs(5);
/// The pause after a renewal that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(2);
