//! What a bot wants of its call, carried out: tools, keys, transfers, hold, the end.

use std::pin::Pin;
use std::sync::Arc;

use engine::ai::dialect::{Recording, ToolCall, ToolResult};
use engine::ai::{AiEnd, AiEvent, AiFailure, AiNotice, AiRequest, AiSession};
use engine::command::Digit;
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use super::ToolAction;
use super::agent::Agent;
use super::keys::Keys;
use crate::call::{Call, CallCounters};
use crate::sip::{TransferError, TransferTarget, Transferred};

/// A call's bot.
pub(super) struct Talk {
    /// The one that was called, and those that may take over.
    agents: Vec<Arc<Agent>>,
    /// Whose part it is.
    agent: Arc<Agent>,
    pub(super) session: AiSession,
    keys: Keys,
    /// The tool that waits for the end of what the bot says, or for a transfer.
    waiting: Option<ToolCall>,
}

/// What is to be done about the call.
#[derive(Debug)]
pub(super) enum Wish {
    /// Hang up.
    HangUp,
    /// Transfer it.
    Transfer(TransferTarget),
    /// Press a key at the caller's side.
    Press(Digit),
    /// Another agent has taken over, or the first is back.
    TakenOver,
    /// The stream is over.
    Ended(AiEnd),
}

impl Talk {
    pub(super) fn new(agent: Arc<Agent>, fallbacks: Vec<Arc<Agent>>, session: AiSession) -> Self {
        let agents = std::iter::once(Arc::clone(&agent)).chain(fallbacks).collect();
        Self { agents, agent, session, keys: Keys::default(), waiting: None }
    }

    /// Whose part the call has now.
    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The one that was called, which decides about the end.
    pub(super) fn first(&self) -> &Agent {
        self.agents.first().unwrap_or(&self.agent)
    }

    /// The next thing to be done about the call. Cancel safe.
    pub(super) async fn next(&mut self, counters: &CallCounters) -> Wish {
        loop {
            let event = tokio::select! {
                event = self.session.next_event() => event,
                digit = self.keys.next() => return Wish::Press(digit),
            };
            let wish = match event {
                Some(AiEvent::Request(request)) => self.handle(request, counters),
                Some(AiEvent::Notice(notice)) => {
                    note(&notice);
                    self.take_over(&notice, counters)
                }
                Some(AiEvent::Ended(end)) => Some(Wish::Ended(end)),
                None => Some(Wish::Ended(AiEnd::Failed(AiFailure::Internal))),
            };
            if let Some(wish) = wish {
                return wish;
            }
        }
    }

    /// Tools and places are those of the agent that speaks.
    fn take_over(&mut self, notice: &AiNotice, counters: &CallCounters) -> Option<Wish> {
        let AiNotice::Reconnected { fallback } = notice else { return None };
        let agent = self.agents.get(fallback.map_or(0, |fallback| fallback + 1))?;
        if Arc::ptr_eq(agent, &self.agent) {
            return None;
        }
        if fallback.is_some() {
            counters.ai_fallbacks.increment();
        }
        self.agent = Arc::clone(agent);
        Some(Wish::TakenOver)
    }

    fn handle(&mut self, request: AiRequest, counters: &CallCounters) -> Option<Wish> {
        match request {
            AiRequest::Tool(call) => {
                counters.ai_tools.increment();
                self.call_tool(call, counters);
                None
            }
            AiRequest::SendDigits(digits) => {
                if let Err(error) = self.keys.add(&digits) {
                    refused(counters, "keys", &error);
                }
                None
            }
            AiRequest::HangUp { reason } => {
                info!(reason, "the bot hangs up");
                Some(Wish::HangUp)
            }
            AiRequest::Transfer { target } => match self.agent.config.transfer_target(&target) {
                Some(target) => {
                    // Who is on the way to somebody else is not to interrupt the bot any more.
                    self.tell(self.session.mute(true));
                    Some(Wish::Transfer(target.clone()))
                }
                None => {
                    refused(counters, "a transfer", "the target is not one of the configured ones");
                    None
                }
            },
            AiRequest::Hold(on) => {
                self.hold(on);
                None
            }
            AiRequest::Record(what) => {
                record(counters, what);
                None
            }
        }
    }

    /// Calls a function. Every call gets a result: at once, after a transfer that failed, or by the end of the call.
    fn call_tool(&mut self, call: ToolCall, counters: &CallCounters) {
        let tools = &self.agent.config.tools;
        let Some(action) = tools.iter().find(|tool| tool.name == call.name).map(|tool| tool.action.clone())
        else {
            let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
            let message = format!("there is no such function; there are: {}", names.join(", "));
            return self.answer(&call, Err(message));
        };
        info!(tool = call.name, "the bot calls a tool");
        // A model that leaves out the arguments means none.
        let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
        let word = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        let on = arguments.get("on").and_then(Value::as_bool).unwrap_or(true);
        let result = match action {
            ToolAction::HangUp | ToolAction::Transfer { .. } if self.waiting.is_some() => {
                Err("the call is about to end or to be transferred already".to_owned())
            }
            ToolAction::HangUp => {
                let reason =
                    word("reason").chars().filter(|character| !character.is_control()).take(200).collect();
                return self.after_goodbye(call, AiRequest::HangUp { reason });
            }
            ToolAction::Transfer { target } => {
                let target = target.unwrap_or_else(|| word("target").to_owned());
                if self.agent.config.transfers.contains_key(&target) {
                    return self.after_goodbye(call, AiRequest::Transfer { target });
                }
                let names: Vec<&str> = self.agent.config.transfers.keys().map(String::as_str).collect();
                refused(counters, "a transfer", "the target is not one of the configured ones");
                Err(format!("there is no such target; there are: {}", names.join(", ")))
            }
            ToolAction::SendDtmf => self.keys.add(word("digits")),
            ToolAction::Hold => {
                self.hold(on);
                Ok(())
            }
            ToolAction::Mute => {
                self.tell(self.session.mute(on));
                Ok(())
            }
            ToolAction::Record => {
                counters.ai_recordings_refused.increment();
                Err("calls are not recorded by this server".to_owned())
            }
        };
        self.answer(&call, result);
    }

    /// Wants something once what the bot has said so far was heard.
    fn after_goodbye(&mut self, call: ToolCall, request: AiRequest) {
        match self.session.after_goodbye(request) {
            Ok(()) => self.waiting = Some(call),
            Err(error) => self.answer(&call, Err(error.to_string())),
        }
    }

    /// What somebody outside wants, once the bot has been heard to the end. False if the bot is gone.
    pub(super) fn finish(&self, target: Option<&TransferTarget>) -> bool {
        self.session
            .after_goodbye(match target {
                Some(target) => AiRequest::Transfer { target: target.to_string() },
                None => AiRequest::HangUp { reason: "asked for through the calls resource".to_owned() },
            })
            .is_ok()
    }

    /// Tells the bot what became of a transfer that the call has survived.
    pub(super) fn transfer_failed(&mut self, error: &dyn std::fmt::Display) {
        self.tell(self.session.mute(false));
        if let Some(call) = self.waiting.take() {
            self.answer(&call, Err(error.to_string()));
        }
    }

    /// The caller hears silence, and so does the bot.
    pub(super) fn hold(&self, on: bool) {
        self.tell(self.session.mute(on));
        self.tell(self.session.pause(on));
    }

    fn answer(&self, call: &ToolCall, result: Result<(), String>) {
        let is_error = result.is_err();
        let output = match result {
            Ok(()) => json!({ "result": "ok" }),
            Err(message) => json!({ "error": message }),
        };
        debug!(tool = call.name, is_error, "a tool is answered");
        let result =
            ToolResult { id: call.id.clone(), name: call.name.clone(), output: output.to_string(), is_error };
        self.tell(self.session.tool_result(result));
    }

    fn tell<E: std::fmt::Display>(&self, told: Result<(), E>) {
        if let Err(error) = told {
            debug!(%error, "the AI stream did not take a command");
        }
    }
}

/// A transfer that is on its way.
pub(super) type Transfer = Pin<Box<dyn Future<Output = Result<Transferred, TransferError>> + Send>>;

/// The outcome of a transfer, if there is one. Cancel safe.
pub(super) async fn outcome(transfer: &mut Option<Transfer>) -> Result<Transferred, TransferError> {
    match transfer {
        Some(running) => {
            let outcome = running.await;
            *transfer = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

pub(super) fn begin(call: &Call, target: TransferTarget) -> Transfer {
    Box::pin(call.transfer(target))
}

fn refused(counters: &CallCounters, what: &str, why: &str) {
    counters.ai_requests_refused.increment();
    warn!(what, why, "a request of the bot is refused");
}

fn record(counters: &CallCounters, what: Recording) {
    counters.ai_recordings_refused.increment();
    info!(?what, "the bot wants the call recorded, which this version cannot do");
}

fn note(notice: &AiNotice) {
    match notice {
        AiNotice::Transcript { from, text } => debug!(?from, length = text.len(), "something was said"),
        AiNotice::Interrupted { report, by_engine } => {
            debug!(played_samples = report.played_samples, by_engine, "the caller interrupted the bot");
        }
        AiNotice::Reconnecting { reason } => info!(reason, "the AI stream is lost; trying again"),
        AiNotice::Reconnected { fallback } => info!(?fallback, "there is an AI stream again"),
        AiNotice::Custom { name, .. } => debug!(name, "an event of the bot's own"),
        AiNotice::Error { code, text } => info!(code, text, "the AI backend reports an error"),
    }
}
