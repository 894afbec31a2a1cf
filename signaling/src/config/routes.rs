//! `[[routes]]`: each line says whom it takes and what they reach, and nothing that does not belong there.

use std::path::Path;

use super::agents::is_configured;
use super::plan::{Check, DEMO_AGENT};
use super::sections::{App, Route};
use super::types::FilePath;
use crate::apps::{AgentConfig, AppConfig, AppsConfig, PlayConfig, RejectConfig};
use crate::route::{RouteRule, UserPattern};

/// The routing table over `agents`; the demo agent is added where a route reaches it.
pub(super) fn plan(check: &mut Check<'_>, mut agents: Vec<AgentConfig>) -> AppsConfig {
    let configured = &check.loaded.config.routes;
    let mut routes: Vec<RouteRule> = Vec::new();
    if configured.is_empty() {
        let rule = |user: &str, app| RouteRule { user: UserPattern::Exact(user.to_owned()), app };
        routes.push(rule("agent", AppConfig::Agent(DEMO_AGENT.to_owned())));
        routes.push(rule("echo", AppConfig::Echo));
    }
    for (index, route) in configured.iter().enumerate() {
        let app = app(check, index, route);
        let user = user(check, index, route);
        let (Some(app), Some(user)) = (app, user) else { continue };
        if let UserPattern::Exact(name) = &user
            && let Some(earlier) = routes.iter().position(|earlier| earlier.user.matches(name))
        {
            check.warn(format!("routes[{index}] is never reached: route {earlier} already takes `{name}`"));
        }
        routes.push(RouteRule { user, app });
    }

    let reached = |name: &str| {
        routes.iter().any(|route| matches!(&route.app, AppConfig::Agent(agent) if agent == name))
    };
    if reached(DEMO_AGENT) && !is_configured(check, DEMO_AGENT) {
        agents.push(AgentConfig { name: DEMO_AGENT.to_owned(), ..AgentConfig::default() });
    }
    let takes_over =
        |name: &str| agents.iter().any(|agent| agent.fallback_agents.iter().any(|fallback| fallback == name));
    for agent in &agents {
        if !reached(&agent.name) && !takes_over(&agent.name) {
            check.warn(format!("agents.{}: no route reaches it", agent.name));
        }
    }
    agents.retain(|agent| agent.name != DEMO_AGENT || !agent.url.is_empty() || reached(DEMO_AGENT));
    AppsConfig { agents, routes }
}

fn user(check: &mut Check<'_>, index: usize, route: &Route) -> Option<UserPattern> {
    let key = format!("routes.{index}");
    match (&route.user, &route.regex) {
        (Some(user), None) if !user.is_empty() => Some(UserPattern::Exact(user.clone())),
        (Some(_), None) => {
            check.error(&format!("{key}.match"), format!("routes[{index}].match: is empty"));
            None
        }
        (None, Some(pattern)) => match UserPattern::matching(pattern.as_str()) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                check.error(&format!("{key}.regex"), format!("routes[{index}].regex: {error}"));
                None
            }
        },
        (None, None) => {
            check.error(
                &key,
                format!("routes[{index}]: say whose calls it takes, `match = \"USER\"` or `regex = \"EXPRESSION\"`"),
            );
            None
        }
        (Some(_), Some(_)) => {
            check.error(
                &key,
                format!("routes[{index}]: has `match` and `regex`; one of them decides, remove the other"),
            );
            None
        }
    }
}

fn app(check: &mut Check<'_>, index: usize, route: &Route) -> Option<AppConfig> {
    let key = format!("routes.{index}");
    let Some(app) = route.app else {
        check.error(&key, format!("routes[{index}].app: missing; one of agent, echo, play, reject"));
        return None;
    };
    let given = [
        ("agent", route.agent.is_some(), App::Agent),
        ("file", route.file.is_some(), App::Play),
        ("repeat", route.repeat.is_some(), App::Play),
        ("status", route.status.is_some(), App::Reject),
        ("reason", route.reason.is_some(), App::Reject),
    ];
    for (name, is_given, owner) in given {
        if is_given && owner != app {
            check.error(
                &format!("{key}.{name}"),
                format!("routes[{index}].{name}: belongs to app `{}`, not to `{}`", word(owner), word(app)),
            );
        }
    }
    match app {
        App::Agent => {
            let Some(name) = &route.agent else {
                check.error(
                    &key,
                    format!("routes[{index}].agent: missing; name one of [agents.NAME], or `demo`"),
                );
                return None;
            };
            if name != DEMO_AGENT && !is_configured(check, name) {
                let message = format!(
                    "routes[{index}].agent: there is no [agents.{name}]{}",
                    nearest_agent(check, name)
                );
                check.error(&format!("{key}.agent"), message);
            }
            Some(AppConfig::Agent(name.clone()))
        }
        App::Echo => Some(AppConfig::Echo),
        App::Play => {
            let Some(file) = &route.file else {
                check.error(&key, format!("routes[{index}].file: missing; name a WAV file"));
                return None;
            };
            audio_file(check, &format!("{key}.file"), file);
            Some(AppConfig::Play(PlayConfig { file: file.0.clone(), repeat: route.repeat.unwrap_or(false) }))
        }
        App::Reject => {
            if route
                .reason
                .as_ref()
                .is_some_and(|reason| reason.chars().any(char::is_control) || reason.len() > 128)
            {
                check.error(
                    &format!("{key}.reason"),
                    format!("routes[{index}].reason: at most 128 characters, without control characters"),
                );
            }
            Some(AppConfig::Reject(RejectConfig {
                status: route.status.unwrap_or_default().code(),
                reason: route.reason.clone(),
            }))
        }
    }
}

fn nearest_agent(check: &Check<'_>, name: &str) -> String {
    let nearest = check
        .loaded
        .config
        .agents
        .keys()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|one, two| one.0.total_cmp(&two.0));
    nearest.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"))
}

/// Whether a file with audio is there and can be played.
pub(super) fn audio_file(check: &mut Check<'_>, key: &str, file: &FilePath) {
    let path: &Path = file.as_ref();
    let borrowed: Vec<&str> = key.split('.').collect();
    let shown = super::document::display_path(&borrowed);
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => check.error(key, format!("{shown}: {file} is not a file")),
        Err(error) => check.error(key, format!("{shown}: {file} cannot be read: {error}")),
    }
}

const fn word(app: App) -> &'static str {
    match app {
        App::Agent => "agent",
        App::Echo => "echo",
        App::Play => "play",
        App::Reject => "reject",
    }
}
