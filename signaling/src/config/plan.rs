//! From the configuration to what the other parts start from, with every check that needs more than one key.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use engine::config::EngineConfig;
use engine::stream::SourcePolicy;
use zeroize::Zeroizing;

use super::access;
use super::agents;
use super::asterisk;
use super::choices::{Codec, Simd, Source};
use super::environment::SECRET_KEY;
use super::error::ConfigError;
use super::events;
use super::load::Loaded;
use super::sections::{Config, Http, Log};
use super::{media, registration, routes};
use crate::access::AccessConfig;
use crate::apps::{AgentConfig, AppsConfig};
use crate::asterisk::AsteriskConfig;
use crate::call::CallConfig;
use crate::event::EventsConfig;
use crate::ng::NgConfig;
use crate::sip::{SipConfig, SipLimits, SipTls};
use crate::store::{RetentionConfig, StoreConfig};
use crate::telemetry::check_level;
use crate::trunk::TrunkConfig;

/// The name of the agent inside this program.
pub const DEMO_AGENT: &str = "demo";

/// Everything that runs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder for everything that is kept.
    pub data_dir: PathBuf,
    /// For the SIP endpoint.
    pub sip: SipConfig,
    /// For the trunks; the node's name is for its start to give.
    pub trunks: TrunkConfig,
    /// The account to keep registered.
    pub registration: Option<crate::sip::Account>,
    /// For the media engine.
    pub engine: EngineConfig,
    /// One pinned control thread per CPU; empty takes one unpinned thread per CPU.
    pub signaling_cpus: Vec<usize>,
    /// Which kernels work on samples; this CPU runs them.
    pub simd: Simd,
    /// For every call.
    pub call: CallConfig,
    /// Agents and routes.
    pub apps: AppsConfig,
    /// For the NG protocol.
    pub ng: NgConfig,
    /// Who may use the API.
    pub access: AccessConfig,
    /// For Asterisk that dials us.
    pub asterisk: AsteriskConfig,
    /// For the HTTP server.
    pub http: Http,
    /// Where everything is that is kept.
    pub store: StoreConfig,
    /// For how long.
    pub retention: RetentionConfig,
    /// Bytes of call records that may wait while the store does not take them.
    pub spool_bytes: u64,
    /// For the delivery of events.
    pub events: EventsConfig,
    /// How long running calls may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// Logs.
    pub log: Log,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

impl Plan {
    /// The demo agent, if a route reaches it. Its URL is only known once it listens.
    pub fn demo_agent_mut(&mut self) -> Option<&mut AgentConfig> {
        self.apps.agents.iter_mut().find(|agent| agent.name == DEMO_AGENT && agent.url.is_empty())
    }
}

/// Checks a configuration as a whole and reads the secrets that it names from `environment` or from files.
///
/// # Errors
/// Everything that would not work, each with its place.
pub fn plan(loaded: &Loaded, environment: &[(String, String)]) -> Result<Plan, ConfigError> {
    let config = &loaded.config;
    let mut check = Check { loaded, errors: ConfigError::default(), warnings: loaded.warnings.clone() };

    sip(&mut check);
    media::check(&mut check);
    if config.calls.max == 0 {
        check.error("calls.max", "calls.max: 0 would refuse every call; use at least 1");
    }
    capacity(&mut check);
    if let Err(error) = check_level(&config.log.level) {
        check.error("log.level", format!("log.level: {error}"));
    }
    if config.http.connections == 0 {
        check.error("http.connections", "http.connections: must be at least 1");
    }
    if let Some(address) = config.ng.bind.0
        && address.ip().is_unspecified()
        && config.ng.allow.is_empty()
    {
        check.warn(format!(
            "ng.bind {address}: only this host may ask, because ng.allow is empty; name the proxies' networks there"
        ));
    }
    let registration = registration::plan(&mut check, environment);
    if !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| config.store.url.starts_with(scheme)) {
        check.error("store.url", "store.url: must be sqlite:FILE or postgres://user:password@host/name");
    }
    if config.store.spool_mib == 0 {
        check.error("store.spool_mib", "store.spool_mib: must be at least 1");
    }
    let events = events::plan(&mut check);
    let access = access::plan(&mut check, environment);
    let agents = agents::plan(&mut check, environment);
    let apps = routes::plan(&mut check, agents);
    let asterisk = asterisk::plan(&mut check, environment, &apps);
    let Check { errors, warnings, .. } = check;
    errors.or_ok(Plan {
        data_dir: config.data_dir.0.clone(),
        sip: sip_config(config),
        trunks: TrunkConfig {
            node: String::new(),
            unknown_callers: config.sip.unknown_callers,
            realm: config.sip.realm.clone(),
            poll: TRUNK_POLL,
        },
        registration,
        engine: media::engine_config(config),
        signaling_cpus: config.signaling.cpus.0.clone(),
        simd: config.media.simd,
        call: call_config(config),
        apps,
        ng: NgConfig {
            bind: config.ng.bind.0,
            allow: config.ng.allow.iter().map(|network| network.0).collect(),
            delete_delay: config.ng.delete_delay.0,
        },
        access,
        events,
        asterisk,
        http: config.http.clone(),
        store: store_config(config, environment),
        retention: RetentionConfig {
            records: config.store.records_kept.0,
            events: config.store.events_kept.0,
        },
        spool_bytes: config.store.spool_mib.saturating_mul(1024 * 1024),
        drain_timeout: config.drain.timeout.0,
        log: config.log.clone(),
        warnings,
    })
}

/// How often nodes look for trunks that others changed.
const TRUNK_POLL: Duration = Duration::from_secs(2);

/// Collects what is wrong.
pub(super) struct Check<'a> {
    pub(super) loaded: &'a Loaded,
    errors: ConfigError,
    warnings: Vec<String>,
}

impl Check<'_> {
    pub(super) fn error(&mut self, key: &str, message: impl Into<String>) {
        self.errors.push(self.loaded.origin(key), message);
    }

    pub(super) fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }
}

fn sip(check: &mut Check<'_>) {
    let sip = &check.loaded.config.sip;
    if sip.bind.is_empty() {
        check.error("sip.bind", "sip.bind: name at least one address, such as \"127.0.0.1:5060\"");
    }
    for (index, address) in sip.bind.iter().enumerate() {
        if address.0.port() != 0 && sip.bind[..index].contains(address) {
            check.error("sip.bind", format!("sip.bind: {address} is named twice"));
        }
    }
    if sip.tls.certificate.is_some() != sip.tls.key.is_some() {
        check.error("sip.tls.certificate", "sip.tls: give both certificate and key, or neither");
    }
    if !sip.tls.bind.is_empty() && sip.tls.certificate.is_none() {
        check.error("sip.tls.bind", "sip.tls.bind: needs sip.tls.certificate and sip.tls.key");
    }
    if sip.user_agent.is_empty() || sip.user_agent.chars().any(char::is_control) || sip.user_agent.len() > 128
    {
        check.error(
            "sip.user_agent",
            "sip.user_agent: must be 1 to 128 characters without control characters",
        );
    }
    if sip.realm.is_empty() || sip.realm.chars().any(char::is_control) || sip.realm.len() > 64 {
        check.error("sip.realm", "sip.realm: must be 1 to 64 characters without control characters");
    }
    if sip.min_session_expires.0 < Duration::from_secs(90) {
        check.error("sip.min_session_expires", "sip.min_session_expires: at least 90s (RFC 4028 section 5)");
    }
    if sip.session_expires < sip.min_session_expires {
        check.error(
            "sip.session_expires",
            "sip.session_expires: must not be shorter than sip.min_session_expires",
        );
    }
    if !(Duration::from_millis(50)..=Duration::from_secs(5)).contains(&sip.t1.0) {
        check.error("sip.t1", "sip.t1: must be 50ms to 5s; RFC 3261 suggests 500ms");
    }
    let limits = &sip.limits;
    for (key, value) in [
        ("dialogs", limits.dialogs),
        ("unacknowledged", limits.unacknowledged),
        ("transactions", limits.transactions),
        ("sources", limits.sources),
        ("tcp_connections", limits.tcp_connections),
        ("tcp_connections_per_source", limits.tcp_connections_per_source),
    ] {
        if value == 0 {
            check.error(&format!("sip.limits.{key}"), format!("sip.limits.{key}: must be at least 1"));
        }
    }
}

/// Warns where one limit makes another one pointless.
fn capacity(check: &mut Check<'_>) {
    let config = &check.loaded.config;
    let ports = &config.media.ports;
    let pairs = usize::from(ports.0.end() - ports.0.start()).div_ceil(2);
    let calls = config.calls.max;
    if pairs < calls {
        check.warn(format!(
            "media.ports {ports} has room for about {pairs} calls, or half as many relays of the NG protocol; \
             calls.max allows {calls}; further calls get 503"
        ));
    }
    if config.sip.limits.dialogs < calls {
        check.warn(format!(
            "sip.limits.dialogs {} is lower than calls.max {calls}; further calls get 503",
            config.sip.limits.dialogs
        ));
    }
}

fn store_config(config: &Config, environment: &[(String, String)]) -> StoreConfig {
    let key = environment.iter().find(|(name, _)| name == SECRET_KEY);
    StoreConfig {
        url: config.store.url.clone(),
        data_dir: config.data_dir.0.clone(),
        connections: config.store.connections,
        secret_key_file: config.store.secret_key_file.as_ref().map(|file| file.0.clone()),
        secret_key: key.map(|(_, key)| Zeroizing::new(key.clone())),
    }
}

fn sip_config(config: &Config) -> SipConfig {
    let sip = &config.sip;
    let limits = &sip.limits;
    SipConfig {
        bind: sip.bind.iter().map(|address| address.0).collect(),
        advertised: sip.via_address.as_ref().map(|host| match (host.port, host.name.contains(':')) {
            (None, true) => format!("[{}]", host.name),
            _ => host.to_string(),
        }),
        user_agent: sip.user_agent.clone(),
        session_expires: sip.session_expires.0,
        min_session_expires: sip.min_session_expires.0,
        name_servers: sip.name_servers.iter().map(|address| address.0).collect(),
        tls: SipTls {
            bind: sip.tls.bind.iter().map(|address| address.0).collect(),
            certificate: sip.tls.certificate.as_ref().map(|file| file.0.clone()),
            key: sip.tls.key.as_ref().map(|file| file.0.clone()),
            ca: sip.tls.ca.as_ref().map(|file| file.0.clone()),
        },
        t1: sip.t1.0,
        limits: SipLimits {
            calls: limits.dialogs,
            unacknowledged: limits.unacknowledged,
            transactions: limits.transactions,
            invites_per_second_per_source: limits.invites_per_second_per_source,
            invite_burst_per_source: limits.invite_burst_per_source,
            sources: limits.sources,
            tcp_connections: limits.tcp_connections,
            tcp_connections_per_source: limits.tcp_connections_per_source,
            tcp_idle: limits.tcp_idle.0,
            tcp_message: limits.tcp_message.0,
        },
    }
}

fn call_config(config: &Config) -> CallConfig {
    let control: Vec<SocketAddr> =
        config.sip.bind.iter().map(|address| address.0).chain([config.http.bind.0]).collect();
    CallConfig {
        media_addresses: config.media.address.iter().map(|address| address.0).collect(),
        codecs: config
            .media
            .codecs
            .iter()
            .map(|codec| match codec {
                Codec::Pcmu => engine::stream::Codec::Pcmu,
                Codec::Pcma => engine::stream::Codec::Pcma,
            })
            .collect(),
        ptime: config.media.ptime.0,
        source_policy: match config.media.source {
            Source::Latch => SourcePolicy::Latch,
            Source::Strict => SourcePolicy::Strict,
        },
        answer_delay: config.calls.answer_delay.0,
        media_timeout: config.media.timeout.0,
        hold_timeout: config.media.hold_timeout.0,
        goodbye_limit: config.calls.goodbye_limit.0,
        max_calls: config.calls.max,
        retry_after: config.calls.retry_after.0,
        control_addresses: control,
        show_numbers: !config.log.redact,
    }
}
