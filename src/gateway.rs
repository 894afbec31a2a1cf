//! `sidetone gateway status`: how the trunks of a running process stand.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;
use signaling::config::Plan;
use signaling::model::TrunkState;

use crate::cli::StatusFlags;
use crate::client::{Client, printable, segment};

/// Prints a line for each trunk, or for the named one, and ends with 0 only if that can be used.
pub(crate) fn status(plan: &Plan, flags: &StatusFlags) -> ExitCode {
    match show(plan, flags) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(plan: &Plan, flags: &StatusFlags) -> Result<bool> {
    let client = Client::new(plan, &flags.client)?;
    if let Some(name) = &flags.name {
        let status = client.expect("GET", &format!("/api/trunks/{}/status", segment(name)), None)?;
        println!("{}", line(&status));
        let state = status["state"].as_str().and_then(TrunkState::named);
        return Ok(state.is_some_and(TrunkState::is_usable));
    }
    let mut cursor = String::new();
    loop {
        let page = client.expect("GET", &format!("/api/trunks/status?limit=500{cursor}"), None)?;
        for status in page["items"].as_array().into_iter().flatten() {
            println!("{}", line(status));
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={}", segment(next)),
            None => return Ok(true),
        }
    }
}

/// `NAME STATE` and what there is to say of it.
fn line(status: &Value) -> String {
    let text = |field: &str| printable(status[field].as_str().unwrap_or_default());
    let mut line = format!("{} {}", text("trunk_id"), text("state"));
    if let Some(cause) = status["cause"].as_str() {
        line += &format!(" ({})", printable(cause));
    }
    line += &format!(" since {}, calls {}", text("since"), status["active_calls"]);
    if let Some(seconds) = status["expires_s"].as_u64() {
        line += &format!(", holds {seconds} s");
    }
    match (text("ping").as_str(), status["ping_ms"].as_f64()) {
        ("UNKNOWN", _) => {}
        (ping, Some(ms)) => line += &format!(", ping {ping} {ms:.1} ms"),
        (ping, None) => line += &format!(", ping {ping}"),
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_has_the_name_and_the_state_first() {
        let failed = json!({"trunk_id": "a", "state": "FAILED", "cause": "403 Forbidden\u{1b}[2J",
            "since": "2026-11-21T23:19:24.950095Z", "active_calls": 2, "ping": "UNKNOWN", "ping_ms": null});
        assert_eq!(line(&failed), "a FAILED (403 Forbidden [2J) since 2026-11-21T23:19:24.950095Z, calls 2");
        let good = json!({"trunk_id": "a", "state": "REGED", "cause": null, "since": "x", "active_calls": 0,
            "expires_s": 60, "ping": "UP", "ping_ms": 1.25});
        assert_eq!(line(&good), "a REGED since x, calls 0, holds 60 s, ping UP 1.2 ms");
    }
}
