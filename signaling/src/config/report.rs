//! What `sidetone check-config` prints.

use std::fmt::Write as _;

use engine::config::{AfXdpConfig, EngineConfig, WaitPolicy, Want, XdpMode};

use super::agents::without_query;
use super::plan::{DEMO_AGENT, Plan};
use crate::apps::AppConfig;
use crate::route::UserPattern;

/// The plan in words, without any secret.
#[must_use]
pub fn report(plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<10} {value}");
    };
    line("sip", join(plan.sip.bind.iter().map(|address| format!("{address} (udp, tcp)"))));
    if let Some(advertised) = &plan.sip.advertised {
        line("", format!("advertised as {advertised}"));
    }
    if let Some(account) = &plan.registration {
        let port = account.port.map(|port| format!(":{port}")).unwrap_or_default();
        line("", format!("registers {} at {}{port}", account.user, account.server));
    }
    line("http", format!("http://{}", plan.http.bind));
    let ng = plan.ng.bind.map_or_else(|| "not served".to_owned(), |address| format!("{address} (udp)"));
    line("ng", ng);
    if let Some(config) = &plan.asterisk.audiosocket {
        line("asterisk", format!("dials {} by AudioSocket", config.bind));
    }
    if let Some(config) = &plan.asterisk.chan_websocket {
        let token = if config.token.is_some() { ", with a token" } else { "" };
        line("asterisk", format!("dials ws://{}{} by chan_websocket{token}", config.bind, config.path));
    }
    let ports = &plan.engine.media_ports;
    let addresses = if plan.call.media_addresses.is_empty() {
        "the address of each INVITE".to_owned()
    } else {
        join(plan.call.media_addresses.iter())
    };
    line(
        "media",
        format!("{addresses}, ports {}-{}, device {}", ports.start(), ports.end(), plan.engine.device.name()),
    );
    if let Some(interface) = &plan.engine.af_xdp.interface {
        line("", af_xdp(interface, &plan.engine.af_xdp));
    }
    let workers = pinned(&plan.engine.media_cpus);
    line("", format!("workers {workers}, at most {} calls", plan.call.max_calls));
    line("", threads(&plan.engine));
    line("signaling", format!("threads {}", pinned(&plan.signaling_cpus)));
    line("", format!("kernels {}", plan.simd.name()));
    line("store", plan.store.place());
    for bus in &plan.events.buses {
        line("events", format!("to {bus}"));
    }
    line("data", plan.data_dir.display().to_string());
    line(
        "log",
        format!(
            "{}, {:?}, numbers {}",
            plan.log.level,
            plan.log.format,
            if plan.log.redact { "masked" } else { "shown" }
        )
        .to_lowercase(),
    );
    line("drain", format!("{} s", plan.drain_timeout.as_secs_f64()));
    out.push_str("agents\n");
    for agent in &plan.apps.agents {
        let url = if agent.name == DEMO_AGENT && agent.url.is_empty() {
            "inside this program".to_owned()
        } else {
            without_query(&agent.url)
        };
        let token = agent.bearer_token.is_some() || agent.signing_token.is_some();
        let _ = writeln!(out, "  {:<16} {url}{}", agent.name, if token { ", with a token" } else { "" });
    }
    if plan.apps.agents.is_empty() {
        out.push_str("  none\n");
    }
    out.push_str("routes\n");
    for route in &plan.apps.routes {
        let user = match &route.user {
            UserPattern::Exact(user) => user.clone(),
            UserPattern::Matching(expression) => expression.as_str().to_owned(),
        };
        let app = match &route.app {
            AppConfig::Agent(agent) => format!("agent {agent}"),
            AppConfig::Echo => "echo".to_owned(),
            AppConfig::Play(play) => {
                format!("play {}{}", play.file.display(), if play.repeat { ", again and again" } else { "" })
            }
            AppConfig::Reject(reject) => {
                format!("reject {} {}", reject.status, reject.reason.as_deref().unwrap_or_default())
            }
        };
        let _ = writeln!(out, "  {user:<16} {}", app.trim_end());
    }
    out.push_str("  anyone else      reject 404\n");
    out
}

fn pinned(cpus: &[usize]) -> String {
    if cpus.is_empty() { "not pinned".to_owned() } else { format!("on CPU {}", join(cpus.iter())) }
}

fn af_xdp(interface: &str, config: &AfXdpConfig) -> String {
    let queues = match &*config.queues {
        [] => "all queues".to_owned(),
        queues => format!("queue {}", join(queues.iter())),
    };
    let mode = match config.mode {
        XdpMode::Auto => "native or generic XDP",
        XdpMode::Native => "native XDP",
        XdpMode::Generic => "generic XDP",
    };
    let wanted = |what: &str, want| match want {
        Want::Auto => format!(", {what} if possible"),
        Want::Never => format!(", no {what}"),
        Want::Require => format!(", {what} or nothing"),
    };
    let flood = match config.flood_limit {
        0 => String::new(),
        limit if config.guarded_ports.is_empty() => format!(", {limit} packets/s from unknown sources"),
        limit => {
            let ports = join(config.guarded_ports.iter());
            format!(", {limit} packets/s from unknown sources and to SIP ports {ports}")
        }
    };
    format!(
        "AF_XDP on {interface}: {queues}, {mode}{}{}, {} frames, rings of {}{}{flood}",
        wanted("zero-copy", config.zero_copy),
        wanted("huge pages", config.hugepages),
        config.frames,
        config.ring,
        if config.busy_poll { ", busy polling" } else { "" },
    )
}

fn threads(config: &EngineConfig) -> String {
    let wait = match config.wait {
        WaitPolicy::Busy => "never sleep".to_owned(),
        WaitPolicy::Adaptive => format!("are woken by packets, under load look every {:?}", config.tick),
        WaitPolicy::Sleep => "sleep".to_owned(),
    };
    let priority = match config.priority {
        None => "ordinary priority".to_owned(),
        Some(priority) => format!("SCHED_FIFO {priority}"),
    };
    let memory = if config.lock_memory { ", memory locked" } else { "" };
    let relay = if config.kernel_relay { ", plain relays in the kernel if possible" } else { "" };
    format!("workers {wait}, {priority}{memory}{relay}")
}

fn join(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
