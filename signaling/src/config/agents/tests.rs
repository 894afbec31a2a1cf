//! What becomes of `[agents.NAME]`.

use std::time::Duration;

use engine::ai::{BargeInMode, LatencyPolicy};
use serde_json::json;

use crate::apps::{AgentConfig, OnClose, ToolAction};
use crate::config::{Loaded, Sources, load, plan};

fn planned(text: &str) -> Result<AgentConfig, String> {
    let agents = ("SIDETONE_AGENTS".to_owned(), format!("{{ a = {{ {text} }} }}"));
    let routes =
        ("SIDETONE_ROUTES".to_owned(), "[{ match = \"a\", app = \"agent\", agent = \"a\" }]".to_owned());
    let environment = vec![agents, routes];
    let sources = Sources { environment: environment.clone(), ..Sources::default() };
    let loaded: Loaded = load(&sources).map_err(|error| error.to_string())?;
    let plan = plan(&loaded, &environment).map_err(|error| error.to_string())?;
    Ok(plan.apps.agents.into_iter().find(|agent| agent.name == "a").expect("the agent"))
}

fn agent(text: &str) -> AgentConfig {
    planned(&format!("url = \"ws://h\", {text}")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_does_not_fit_together_is_refused_with_what_to_write() {
    for (text, expected) in [
        ("fallback_agents = [\"b\"]", "agents.a.fallback_agents: `b` is no other agent of this file"),
        ("fallback_agents = [\"a\"]", "agents.a.fallback_agents: `a` is no other agent of this file"),
        ("tools = [{ name = \"look up\" }]", "agents.a.tools[0].name: must have 1 to 64 letters"),
        ("tools = [{ name = \"look_up\" }]", "agents.a.tools[0].action: missing; write what the tool does"),
        (
            "tools = [{ name = \"wait\", action = \"hold\" }]",
            "agents.a.tools[0].description: missing; say when the model is to call it",
        ),
        (
            "tools = [{ name = \"transfer_call\" }]",
            "agents.a.tools[0].action: `transfer` needs a place to transfer to in agents.a.transfers",
        ),
        (
            "tools = [{ name = \"end_call\" }, { name = \"end_call\" }]",
            "agents.a.tools[1].name: `end_call` is there twice",
        ),
        ("barge_in = { after = \"1s\" }", "agents.a.barge_in.after: needs mode = \"after\""),
        (
            "barge_in = { mode = \"after\", after = \"1s\", words = 1 }",
            "agents.a.barge_in.words: give after or words, not both",
        ),
        ("barge_in = { mode = \"after\", words = 99 }", "agents.a.barge_in.after: must be 20ms to 10s"),
        (
            "on_failure = \"play_fallback\"",
            "agents.a.on_failure: `play_fallback` needs agents.a.fallback_prompt",
        ),
        ("transfers = { sales = \"sales\" }", "`sales` is not an address to transfer to; write one such as"),
        ("url = \"ftp://h\"", "is not a WebSocket address"),
    ] {
        let text =
            if text.starts_with("url") { text.to_owned() } else { format!("url = \"ws://h\", {text}") };
        let error = planned(&text).expect_err(&text);
        assert!(error.contains(expected), "{error}\nshould have\n{expected}");
    }
    let error = planned("dialect = \"elevenlabs\"").expect_err("which agent?");
    assert!(error.contains("agents.a.url: missing; write it, or the agent's id as `agent_id`"), "{error}");
}

#[test]
fn ready_made_tools_need_a_name_only() {
    let agent = agent(
        "tools = [{ name = \"end_call\" }, { name = \"transfer_call\" }, { name = \"send_dtmf\" }], \
         transfers = { sales = \"sip:sales@example.com\", support = \"tel:+4930\" }",
    );
    let actions: Vec<_> = agent.tools.iter().map(|tool| tool.action.clone()).collect();
    let transfer = ToolAction::Transfer { target: None };
    assert_eq!(actions, [ToolAction::HangUp, transfer, ToolAction::SendDtmf]);
    let told = &agent.settings.tools[1];
    assert_eq!(told.name, "transfer_call");
    assert!(told.description.contains("Transfers the caller"));
    assert_eq!(told.parameters["properties"]["target"]["enum"], json!(["sales", "support"]));
    assert_eq!(told.parameters["required"], json!(["target"]));
    assert!(
        !told.parameters.to_string().contains("example.com"),
        "addresses are none of the model's business"
    );
}

#[test]
fn a_tool_of_the_operators_own_says_what_it_does() {
    let agent = agent(
        "tools = [{ name = \"to_sales\", description = \"Wants to buy.\", action = \"transfer\", target = \"sales\" }, \
         { name = \"wait\", description = \"Fetch something.\", action = \"hold\", \
         arguments = { type = \"object\", properties = { on = { type = \"boolean\" } } } }], \
         transfers = { sales = \"sip:sales@example.com\" }",
    );
    assert_eq!(agent.tools[0].action, ToolAction::Transfer { target: Some("sales".into()) });
    assert_eq!(agent.settings.tools[0].parameters["required"], json!([]));
    assert_eq!(
        agent.settings.tools[1].parameters,
        json!({ "type": "object", "properties": { "on": { "type": "boolean" } } })
    );
}

#[test]
fn words_are_300_ms_each() {
    let after = |text: &str| agent(text).barge_in.mode;
    let milliseconds = |ms| BargeInMode::After(Duration::from_millis(ms));
    assert_eq!(after("barge_in = { mode = \"after\", words = 2 }"), milliseconds(600));
    assert_eq!(after("barge_in = { mode = \"after\", after = \"250ms\" }"), milliseconds(250));
    assert_eq!(after("barge_in = { mode = \"after\" }"), milliseconds(500));
    assert_eq!(after("barge_in = { mode = \"engine\" }"), BargeInMode::Engine);
}

#[test]
fn the_backends_opinion_of_speech_flushes_only_where_nobody_else_decides() {
    let flushes = |text: &str| agent(text).settings.flush_on_speech;
    assert!(flushes(""));
    assert!(flushes("barge_in = { mode = \"engine\" }"));
    assert!(!flushes("barge_in = { mode = \"engine\", backchannel = \"300ms\" }"));
    assert!(!flushes("barge_in = { mode = \"off\" }"));
    assert!(!flushes("barge_in = { mode = \"after\" }"));
}

#[test]
fn the_rest_arrives_as_written() {
    let agent = agent(
        "model = \"m\", agent_id = \"i\", instructions = \"Be brief.\", greeting = \"Hello\", language = \"de\", \
         voice = \"v\", format = \"l16/16000\", session = { temperature = 0.5, audio = { x = [1] } }, \
         latency = { limit = \"2s\", policy = \"drop_oldest\" }, \
         reconnect = { attempts = 3, window = \"9s\" }, on_failure = \"sip:operator@example.com\", \
         account_sid = \"AC0123456789abcdef0123456789abcdef\"",
    );
    let settings = &agent.settings;
    assert_eq!((settings.model.as_deref(), settings.agent_id.as_deref()), (Some("m"), Some("i")));
    assert_eq!(
        (settings.instructions.as_deref(), settings.greeting.as_deref()),
        (Some("Be brief."), Some("Hello"))
    );
    assert_eq!((settings.language.as_deref(), settings.voice.as_deref()), (Some("de"), Some("v")));
    assert_eq!(
        settings.formats.map(|formats| (formats.caller.rate, formats.bot.rate)),
        Some((16_000, 16_000))
    );
    assert_eq!(
        serde_json::Value::Object(settings.session.clone()),
        json!({ "temperature": 0.5, "audio": { "x": [1] } })
    );
    assert_eq!(
        (agent.latency.limit, agent.latency.policy),
        (Duration::from_secs(2), LatencyPolicy::DropOldest)
    );
    let reconnect = agent.reconnect.expect("wanted").reconnect;
    assert_eq!((reconnect.attempts, reconnect.window), (3, Duration::from_secs(9)));
    assert!(
        matches!(agent.on_failure, Some(OnClose::Transfer(target)) if target.as_str() == "sip:operator@example.com")
    );
    assert!(agent.account_sid.starts_with("AC01"));
}

#[test]
fn applications_are_not_called_again_unless_wanted() {
    assert_eq!(agent("").reconnect, None);
    assert_eq!(agent("reconnect = { attempts = 0 }").reconnect, None);
}
