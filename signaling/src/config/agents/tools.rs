//! `[[agents.NAME.tools]]`: what the model is told about each function, and what calling it does.

use engine::ai::dialect::Tool;
use serde_json::{Value, json};

use super::super::plan::Check;
use super::super::sections::{Agent, AgentTool, ToolAction};
use super::settings::json_file;
use crate::apps;

/// The tools for the model and what they do, in the same order. A faulty one is reported and left out.
pub(super) fn plan(check: &mut Check<'_>, name: &str, agent: &Agent) -> (Vec<Tool>, Vec<apps::ToolConfig>) {
    for target in agent.transfers.keys() {
        if !is_name(target) {
            let key = format!("agents.{name}.transfers");
            check.error(&key, format!("{key}: `{target}` must have 1 to 64 letters, digits, `_` or `-`"));
        }
    }
    let mut tools: Vec<Tool> = Vec::new();
    let mut actions = Vec::new();
    for (index, tool) in agent.tools.iter().enumerate() {
        let place = Place { name, index };
        let Some((tool, action)) = one(check, &place, agent, tool) else { continue };
        if tools.iter().any(|known| known.name == tool.name) {
            place.error(check, "name", format!("`{}` is there twice", tool.name));
            continue;
        }
        actions.push(apps::ToolConfig { name: tool.name.clone(), action });
        tools.push(tool);
    }
    (tools, actions)
}

/// Where a tool stands in the file.
struct Place<'a> {
    name: &'a str,
    index: usize,
}

impl Place<'_> {
    fn error(&self, check: &mut Check<'_>, key: &str, message: impl AsRef<str>) {
        let Self { name, index } = self;
        let message = format!("agents.{name}.tools[{index}].{key}: {}", message.as_ref());
        check.error(&format!("agents.{name}.tools.{index}.{key}"), message);
    }
}

fn one(
    check: &mut Check<'_>,
    place: &Place<'_>,
    agent: &Agent,
    tool: &AgentTool,
) -> Option<(Tool, apps::ToolAction)> {
    if !is_name(&tool.name) {
        place.error(check, "name", "must have 1 to 64 letters, digits, `_` or `-`");
        return None;
    }
    let ready_made = READY_MADE.iter().find(|(name, ..)| *name == tool.name);
    let Some(action) = tool.action.or_else(|| ready_made.map(|(_, action, _)| *action)) else {
        place.error(
            check,
            "action",
            "missing; write what the tool does: hang_up, transfer, send_dtmf, hold, mute or record",
        );
        return None;
    };
    if let Some(target) = &tool.target {
        if action != ToolAction::Transfer {
            place.error(check, "target", "belongs to the action `transfer`");
        } else if !agent.transfers.contains_key(target) {
            place.error(
                check,
                "target",
                format!("there is no `{target}` in agents.{}.transfers", place.name),
            );
        }
    }
    if action == ToolAction::Transfer && agent.transfers.is_empty() {
        let message = format!("`transfer` needs a place to transfer to in agents.{}.transfers", place.name);
        place.error(check, "action", message);
    }
    let description = match ready_made {
        _ if !tool.description.is_empty() => tool.description.clone(),
        Some((_, _, description)) => (*description).to_owned(),
        None => {
            place.error(check, "description", "missing; say when the model is to call it");
            return None;
        }
    };
    let parameters = match (&tool.arguments_file, tool.arguments.0.is_empty()) {
        (Some(_), false) => {
            place.error(check, "arguments_file", "give arguments or arguments_file, not both");
            return None;
        }
        (Some(file), true) => match json_file(file.as_ref()) {
            Ok(schema @ Value::Object(_)) => schema,
            Ok(_) => {
                place.error(check, "arguments_file", format!("{file} holds no JSON object"));
                return None;
            }
            Err(error) => {
                place.error(check, "arguments_file", format!("{file} {error}"));
                return None;
            }
        },
        (None, false) => Value::Object(tool.arguments.json()),
        (None, true) => arguments(action, agent, tool.target.is_some()),
    };
    let action = match action {
        ToolAction::HangUp => apps::ToolAction::HangUp,
        ToolAction::Transfer => apps::ToolAction::Transfer { target: tool.target.clone() },
        ToolAction::SendDtmf => apps::ToolAction::SendDtmf,
        ToolAction::Hold => apps::ToolAction::Hold,
        ToolAction::Mute => apps::ToolAction::Mute,
        ToolAction::Record => apps::ToolAction::Record,
    };
    Some((Tool { name: tool.name.clone(), description, parameters }, action))
}

/// What an action takes, as JSON Schema.
fn arguments(action: ToolAction, agent: &Agent, has_target: bool) -> Value {
    let object = |properties: Value, required: &[&str]| {
        json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        })
    };
    let reason = json!({ "type": "string", "description": "Why, in a few words." });
    let on = json!({ "type": "boolean", "description": "True to begin, false to end." });
    match action {
        ToolAction::HangUp => object(json!({ "reason": reason }), &[]),
        ToolAction::Transfer if has_target => object(json!({ "reason": reason }), &[]),
        ToolAction::Transfer => {
            let targets: Vec<&String> = agent.transfers.keys().collect();
            let target = json!({ "type": "string", "enum": targets, "description": "Where to." });
            object(json!({ "target": target, "reason": reason }), &["target"])
        }
        ToolAction::SendDtmf => {
            let digits = json!({
                "type": "string",
                "description": "The keys: 0 to 9, *, #, A to D; a comma pauses for half a second.",
            });
            object(json!({ "digits": digits }), &["digits"])
        }
        ToolAction::Hold | ToolAction::Mute => object(json!({ "on": on }), &["on"]),
        ToolAction::Record => {
            let command = json!({ "type": "string", "enum": ["start", "pause", "resume", "stop"] });
            object(json!({ "command": command }), &["command"])
        }
    }
}

/// What every vendor takes as a name of a function.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Tools that need no more than their name: what they do, and when to call them.
const READY_MADE: &[(&str, ToolAction, &str)] = &[
    (
        "end_call",
        ToolAction::HangUp,
        "Ends the call. Say goodbye first; call this only when the caller has nothing more to ask.",
    ),
    (
        "transfer_call",
        ToolAction::Transfer,
        "Transfers the caller to somebody else and ends your part. Tell the caller first where they are put through to.",
    ),
    (
        "send_dtmf",
        ToolAction::SendDtmf,
        "Presses keys of the telephone, for instance to choose in a menu of the other side.",
    ),
];
