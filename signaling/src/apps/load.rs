//! The apps of a configuration, checked and with their recordings in memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::ai::Reconnect;
use engine::wav::{self, LoadError};

use super::agent::Agent;
use super::{AgentConfig, AppConfig, AppsConfig};
use crate::route::{RouteRule, UserPattern, route};

/// Why the apps of a configuration cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AppsError {
    /// A recording cannot be played.
    #[error("{0}")]
    Prompt(#[from] LoadError),
    /// Two agents of one name.
    #[error("there are two agents named {0:?}; give each its own name")]
    DuplicateAgent(String),
    /// A rule names an agent that is not there.
    #[error("a route leads to the agent {0:?}, and there is none of that name")]
    UnknownAgent(String),
    /// An agent's fallback is not there.
    #[error("the agent {0:?} falls back to {1:?}, and there is none of that name")]
    UnknownFallback(String, String),
    /// A status that cannot refuse a call.
    #[error("a route rejects with status {0}; a refusal has a status from 400 to 699")]
    RejectStatus(u16),
}

/// The apps of a configuration, their recordings loaded.
#[derive(Debug)]
pub struct Apps {
    routes: Vec<RouteRule>,
    agents: HashMap<String, Arc<Agent>>,
    /// The one named `default`, or else the first.
    default_agent: Option<String>,
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
        let mut names = config.agents.iter().map(|agent| &agent.name);
        let first = names.clone().next();
        let default_agent = names.find(|name| *name == "default").or(first).cloned();
        for config in config.agents {
            let fallback = config.fallback_prompt.as_deref().map(|path| load_once(&mut prompts, path));
            let name = config.name.clone();
            let filler = config.reconnect.as_ref().and_then(|reconnect| reconnect.filler.as_deref());
            let filler = filler.map(|path| load_once(&mut prompts, path)).transpose()?;
            let reconnect =
                config.reconnect.as_ref().map(|wanted| Reconnect { filler, ..wanted.reconnect.clone() });
            let settings = Arc::new(config.settings.clone());
            let agent = Arc::new(Agent { config, settings, fallback: fallback.transpose()?, reconnect });
            if agents.insert(name.clone(), agent).is_some() {
                return Err(AppsError::DuplicateAgent(name));
            }
        }
        for agent in agents.values() {
            let unknown = agent.config.fallback_agents.iter().find(|name| !agents.contains_key(*name));
            if let Some(name) = unknown {
                return Err(AppsError::UnknownFallback(agent.config.name.clone(), name.clone()));
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
        Ok(Self { routes: config.routes, agents, default_agent, prompts })
    }

    /// What a dialled user reaches.
    pub(super) fn route(&self, user: &str) -> Option<&AppConfig> {
        route(&self.routes, user)
    }

    /// Whether `user` is the name of an app and says nothing about a person: a route has it word for word,
    /// and it is no number.
    pub(super) fn is_app_name(&self, user: &str) -> bool {
        let digits = user.chars().filter(char::is_ascii_digit).count();
        digits < DIGITS_OF_A_NUMBER
            && self.routes.iter().any(|rule| matches!(&rule.user, UserPattern::Exact(name) if name == user))
    }

    /// What the configuration says of all agents.
    pub fn agent_configs(&self) -> impl Iterator<Item = &AgentConfig> {
        self.agents.values().map(|agent| &agent.config)
    }

    /// The agent that calls of ours get if they say nothing else: the one named `default`, or else the first.
    pub(super) fn default_agent(&self) -> Option<&str> {
        self.default_agent.as_deref()
    }

    /// What the configuration's routes say of `user` and an outbound call can run.
    #[must_use]
    pub fn app(&self, user: &str) -> Option<&AppConfig> {
        self.route(user)
    }

    pub(super) fn agent(&self, name: &str) -> Option<&Arc<Agent>> {
        self.agents.get(name)
    }

    /// Those that take over from an agent, in order.
    pub(super) fn fallbacks(&self, agent: &Agent) -> Vec<Arc<Agent>> {
        agent.config.fallback_agents.iter().filter_map(|name| self.agent(name)).cloned().collect()
    }

    pub(super) fn prompt(&self, path: &Path) -> Option<&Arc<[i16]>> {
        self.prompts.get(path)
    }
}

/// With fewer, a name may be `agent-2`.
const DIGITS_OF_A_NUMBER: usize = 3;

/// A recording that several apps use is in memory once.
fn load_once(prompts: &mut HashMap<PathBuf, Arc<[i16]>>, path: &Path) -> Result<Arc<[i16]>, LoadError> {
    if let Some(loaded) = prompts.get(path) {
        return Ok(Arc::clone(loaded));
    }
    let samples = wav::load(path)?;
    prompts.insert(path.to_owned(), Arc::clone(&samples));
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::{PlayConfig, RejectConfig};

    fn rule(app: AppConfig) -> RouteRule {
        RouteRule { user: UserPattern::Exact("1".into()), app }
    }

    #[test]
    fn app_names_are_shown_and_numbers_and_people_are_not() {
        let rule = |user| RouteRule { user, app: AppConfig::Echo };
        let exact = |user: &str| rule(UserPattern::Exact(user.into()));
        let anyone = rule(UserPattern::matching(".*").expect("an expression"));
        let routes = vec![exact("echo"), exact("agent-2"), exact("+4930123456"), anyone];
        let apps = Apps::load(AppsConfig { routes, ..AppsConfig::default() }).expect("they load");
        assert!(apps.is_app_name("echo") && apps.is_app_name("agent-2"));
        assert!(!apps.is_app_name("+4930123456") && !apps.is_app_name("alice"));
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
