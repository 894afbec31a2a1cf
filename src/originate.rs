//! `sidetone originate`: the running process makes a call, and this waits for its end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use signaling::config::Plan;

use crate::cli::OriginateFlags;
use crate::client::{Client, printable, segment};

/// Makes the call and prints how it goes; ends with 0 if it was answered.
pub(crate) fn run(plan: &Plan, flags: &OriginateFlags) -> ExitCode {
    match call(plan, flags) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn call(plan: &Plan, flags: &OriginateFlags) -> Result<u8> {
    let client = Client::new(plan, &flags.client)?;
    let mut wanted = json!({ "variables": {} });
    let is_uri = flags.target.starts_with("sip:") || flags.target.starts_with("sips:");
    match flags.target.split_once('/').filter(|_| !is_uri) {
        Some((trunk, number)) if !trunk.is_empty() && !number.is_empty() => {
            (wanted["trunk"], wanted["to_number"]) = (json!(trunk), json!(number));
        }
        Some(_) => bail!("{}: write GATEWAY/NUMBER, NUMBER or a sip: URI", flags.target),
        None => wanted["to_number"] = json!(flags.target),
    }
    match flags.app.split_once(':') {
        Some(("agent", name)) => wanted["agent"] = json!(name),
        _ => wanted["app"] = json!(flags.app),
    }
    if let Some(from) = &flags.from {
        wanted["from_number"] = json!(from);
    }
    if let Some(seconds) = flags.timeout {
        wanted["timeout"] = json!(seconds);
    }
    let begun = client.expect("POST", "/api/calls/initiate", Some(&wanted))?;
    let id = begun["call_id"].as_str().unwrap_or_default().to_owned();
    println!("{} initiated", printable(&id));
    let path = format!("/api/calls/{}", segment(&id));
    let mut before = String::new();
    loop {
        let call = client.expect("GET", &path, None)?;
        let state = call["state"].as_str().unwrap_or_default().to_owned();
        let ended = &call["ended"];
        if state != before && ended.is_null() {
            println!("{state}");
            if state == "answered" && flags.no_wait {
                return Ok(0);
            }
            before.clone_from(&state);
        }
        if !ended.is_null() {
            println!("{}", line(&state, ended));
            return Ok(code(&state));
        }
        std::thread::sleep(PAUSE);
    }
}

/// How it ended, and what was tried.
fn line(state: &str, ended: &Value) -> String {
    let text = |value: &Value| printable(value.as_str().unwrap_or_default());
    let mut line = format!("{state}: {} {}", ended["status"], text(&ended["cause"]));
    for attempt in ended["attempts"].as_array().into_iter().flatten() {
        let (target, reason) = (text(&attempt["target"]), text(&attempt["reason"]));
        let (status, then) = (&attempt["status"], text(&attempt["then"]));
        line += &format!("\n  {target}: {status} {reason} after {} ms; {then}", attempt["duration_ms"]);
    }
    line
}

fn code(state: &str) -> u8 {
    match state {
        "completed" => 0,
        "busy" => 3,
        "no_answer" => 4,
        "cancelled" => 5,
        _ => FAILED,
    }
}

const PAUSE: Duration = Duration::from_millis(200);
const FAILED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_with_every_attempt() {
        let ended = json!({"status": 200, "cause": "callee hung up", "attempts": [
            {"target": "a", "status": 503, "reason": "Full\u{1b}", "duration_ms": 4, "then": "next"}]});
        assert_eq!(
            line("completed", &ended),
            "completed: 200 callee hung up\n  a: 503 Full  after 4 ms; next"
        );
        assert_eq!((code("completed"), code("busy"), code("failed")), (0, 3, 1));
    }
}
