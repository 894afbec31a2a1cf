//! bench-ai against the real sidetone that cargo built beside it: everything works, with a few calls.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::Command,
};

use serde_json::Value;

#[test]
fn a_few_streams_are_measured_both_ways() {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_bench-ai")).with_file_name("sidetone");
    let sidetone = std::env::var_os("SIDETONE_BIN").map_or(beside, PathBuf::from);
    if !sidetone.is_file() {
        let skip = format!(
            "a_few_streams_are_measured_both_ways: {} is not built (cargo build)",
            sidetone.display()
        );
        // Written past the capture of the test harness, so that a skipped test is seen.
        let _ = writeln!(io::stderr(), "SKIP {skip}");
        if let Some(file) = std::env::var_os("SIDETONE_SKIP_FILE") {
            let file = fs::OpenOptions::new().append(true).create(true).open(file);
            let _ = file.and_then(|mut file| writeln!(file, "{skip}"));
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (figures, document) = (folder.path().join("figures.json"), folder.path().join("performance.md"));
    fs::write(&document, "before\n<!-- ai:begin -->\nold\n<!-- ai:end -->\nafter\n").expect("written");
    let last = std::thread::available_parallelism().map_or(1, usize::from).min(2) - 1;
    let output = Command::new(env!("CARGO_BIN_EXE_bench-ai"))
        .args([
            "--quick",
            "-n",
            "4",
            "--wide-calls",
            "2",
            "-d",
            "4",
            "--settle",
            "2",
            "--rate",
            "20",
            "--pipecat",
            "/nonexistent",
        ])
        .args(["--server-ports", "14000-14999", "--ports", "61000-61999"])
        .args(["--stream-cpu", &last.to_string(), "--sidetone"])
        .arg(&sidetone)
        .arg("--json")
        .arg(&figures)
        .arg("--write")
        .arg(&document)
        .output()
        .expect("bench-ai starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    // A machine too busy for four calls says so.
    let busy = errors.contains("not all calls were carried");
    assert_eq!(output.status.code(), Some(i32::from(busy)), "{text}{errors}");
    for ratio in [
        "calls_per_media_core",
        "calls_per_stream_core",
        "stream_core_vs_echo",
        "calls_per_media_core_pcm24",
        "calls_per_stream_core_pcm24",
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("RATIO {ratio} ")));
        assert!(
            line.is_some_and(|value| value.parse::<f64>().is_ok_and(|value| value > 0.0)),
            "{ratio}: {text}"
        );
    }
    let figures: Value = serde_json::from_str(&fs::read_to_string(figures).expect("figures")).expect("JSON");
    let round = &figures["rounds"][0];
    assert_eq!(round["calls"], 4.0, "{figures:#}");
    let number = |name: &str| round[name].as_f64().unwrap_or_else(|| panic!("no {name}: {figures:#}"));
    // Four streams have 200 messages a second; the machine may be busy.
    assert!((10.0..300.0).contains(&number("messages_per_s")), "{figures:#}");
    for share in ["media", "stream", "peer", "memory_mib"] {
        assert!(number(share) > 0.0, "{share}: {figures:#}");
    }
    assert!(round["added_ms"][0].as_f64().is_some_and(|ms| ms > 0.0), "{figures:#}");
    let there_and_back = round["back_ms"][0].as_f64().unwrap_or(0.0);
    assert!(there_and_back > round["added_ms"][0].as_f64().unwrap_or(f64::MAX), "{figures:#}");
    let document = fs::read_to_string(document).expect("the document");
    assert!(
        document.starts_with("before\n") && document.contains("Twilio dialect") && !document.contains("old")
    );
}

#[test]
fn what_is_missing_is_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench-ai"))
        .args(["--sidetone", "/nonexistent/sidetone"])
        .output()
        .expect("bench-ai starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cargo build --release -p sidetone"));
}
