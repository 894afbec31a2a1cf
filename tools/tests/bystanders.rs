//! A hundred calls, ten of whose AI backends misbehave: the other ninety lose nothing. By bench-ai and the real sidetone
//! that cargo built beside it.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

#[test]
fn ten_backends_that_misbehave_change_nothing_for_ninety_calls() {
    let test = "ten_backends_that_misbehave_change_nothing_for_ninety_calls";
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_bench-ai")).with_file_name("sidetone");
    let sidetone = std::env::var_os("SIDETONE_BIN").map_or(beside, PathBuf::from);
    if !sidetone.is_file() {
        return skip(&format!("{test}: {} is not built (cargo build)", sidetone.display()));
    }
    // A machine that cannot carry a hundred good calls says nothing about bad ones.
    let Some((good, bad)) = (0..3).find_map(|_| rounds(&sidetone)) else {
        return skip(&format!("{test}: the machine is too busy for a hundred calls"));
    };
    let number = |round: &Value, path: &str| {
        round.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path}: {round:#}"))
    };
    assert_eq!(bad["lost_up"], 0, "{bad:#}");
    assert_eq!(bad["lost_down"], 0, "{bad:#}");
    assert_eq!(bad["failed"], 0, "{bad:#}");
    for (kind, connections) in bad["beside"]["connections"].as_object().expect("what they did") {
        assert!(connections.as_u64() >= Some(1), "{kind}: {bad:#}");
    }
    // Each was noticed for what it is.
    for name in [
        "connect_timeout",
        "bot_audio_overflow_bytes",
        "bad_json",
        "bad_base64",
        "binary_frame",
        "message_too_large",
        "wrong_stream",
        "clear_of_empty_queue",
        "unknown_event",
        "reading_held_up",
        "reconnect_attempts",
    ] {
        assert!(number(&bad, &format!("/counted/{name}")) > 0.0, "{name}: {bad:#}");
    }
    let grown = number(&bad, "/memory_mib") - number(&good, "/memory_mib");
    assert!(grown < 40.0, "{grown} MiB more\n{bad:#}");
    // Bounds for a busy machine; make bench-bystanders has the figures.
    for latency in ["/added_ms/1", "/back_ms/1"] {
        let (with, without) = (number(&bad, latency), number(&good, latency));
        assert!(with < 3.0 * without + 100.0, "{latency}: {with} after {without} ms");
    }
}

/// A round beside ten good calls, and one beside ten bad ones; `None` if the first was spoiled already, or the
/// generator itself.
fn rounds(sidetone: &Path) -> Option<(Value, Value)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let figures = folder.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_bench-ai"))
        .args(["--bystanders", "90", "--repeats", "1", "-d", "6", "--settle", "2", "--rate", "90"])
        .args(["--server-ports", "15000-15999", "--ports", "62000-62999"])
        .arg("--stream-cpu")
        .arg((std::thread::available_parallelism().map_or(1, usize::from).min(2) - 1).to_string())
        .arg("--sidetone")
        .arg(sidetone)
        .arg("--json")
        .arg(&figures)
        .output()
        .expect("bench-ai starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("RATIO bystanders_p99 "), "{text}");
    let figures: Value = serde_json::from_str(&fs::read_to_string(figures).expect("figures")).expect("JSON");
    let [good, bad] = figures["rounds"].as_array().expect("rounds").as_slice() else {
        panic!("two rounds: {figures:#}")
    };
    assert_eq!((&good["calls"], &bad["calls"]), (&90.0.into(), &90.0.into()), "{figures:#}");
    let is_fair = |round: &Value| round["doubts"].as_array().is_some_and(Vec::is_empty);
    let is_clean = good["lost_up"] == 0 && good["lost_down"] == 0 && good["failed"] == 0;
    (is_clean && is_fair(good) && is_fair(bad)).then(|| (good.clone(), bad.clone()))
}

/// Written past the capture of the test harness, so that a skipped test is seen.
fn skip(line: &str) {
    let _ = writeln!(io::stderr(), "SKIP {line}");
    if let Some(file) = std::env::var_os("SIDETONE_SKIP_FILE") {
        let file = fs::OpenOptions::new().append(true).create(true).open(file);
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
}
