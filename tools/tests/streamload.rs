//! streamload against the real sidetone that cargo built beside it.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

/// The sidetone of `SIDETONE_BIN`, or the one in the folder of our own binary. Without one, says that the test did
/// not run.
fn sidetone(test: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_streamload")).with_file_name("sidetone");
    let binary = std::env::var_os("SIDETONE_BIN").map_or(beside, PathBuf::from);
    if binary.is_file() {
        return Some(binary);
    }
    let skip = format!("{test}: {} is not built (cargo build)", binary.display());
    // Written past the capture of the test harness, so that a skipped test is seen.
    let _ = writeln!(io::stderr(), "SKIP {skip}");
    if let Some(file) = std::env::var_os("SIDETONE_SKIP_FILE") {
        let file = fs::OpenOptions::new().append(true).create(true).open(file);
        let _ = file.and_then(|mut file| writeln!(file, "{skip}"));
    }
    None
}

/// Exit code and report.
fn streamload(arguments: &[&str]) -> (i32, Value) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("report.json");
    let status = Command::new(env!("CARGO_BIN_EXE_streamload"))
        .args(arguments)
        .arg("--json")
        .arg(&report)
        .stdout(Stdio::null())
        .status()
        .expect("streamload starts");
    let report = fs::read_to_string(report).expect("streamload wrote a report");
    (status.code().expect("not killed"), serde_json::from_str(&report).expect("the report is JSON"))
}

#[test]
fn both_ways_of_an_agent_call_are_measured() {
    let Some(sidetone) = sidetone("both_ways_of_an_agent_call_are_measured") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let metrics = folder.path().join("metrics");
    let (code, report) = streamload(&[
        "--start",
        sidetone.to_str().expect("UTF-8"),
        "--listen",
        "127.0.0.1:0",
        "--server-ports",
        "12000-12999",
        "--server-metrics",
        metrics.to_str().expect("UTF-8"),
        "-n",
        "6",
        "-d",
        "9",
        "-q",
    ]);
    assert_eq!(code, 0, "{report:#}");
    let streams = &report["streams"];
    let count = |name: &str| streams["counters"][name].as_u64().unwrap_or_else(|| panic!("no {name}"));
    let ms = |histogram: &str, figure: &str| {
        streams["histograms"][histogram][figure].as_f64().unwrap_or_else(|| panic!("no {histogram}"))
    };
    assert_eq!(count("streams_started"), 6);
    for nothing in [
        "streams_unknown",
        "streams_broken",
        "messages_wrong",
        "bot_samples_wrong",
        "marks_lost",
        "clock_errors",
    ] {
        assert_eq!(count(nothing), 0, "{nothing}: {streams:#}");
    }
    // Six calls of over 8 s; about a sixth of the speech is pauses.
    assert!(count("uplink_found") > 1_500, "{streams:#}");
    assert!(streams["uplink_loss_percent"].as_f64().unwrap() < 10.0, "{streams:#}");
    assert!(count("clears") >= 6 && count("utterances_complete") >= 12, "{streams:#}");
    // Bounds for a busy machine. Less than nothing would be a fault of the instrument.
    assert!((0.01..100.0).contains(&ms("uplink_added", "p50_ms")), "{streams:#}");
    let packet_time = ms("uplink_total", "p50_ms") - ms("uplink_added", "p50_ms");
    assert!((19.8..20.2).contains(&packet_time), "{packet_time}");
    assert!(ms("start_burst", "p50_ms") < 200.0 && ms("start_paced", "p50_ms") > 10.0, "{streams:#}");
    assert!(ms("mark_after", "p50_ms") < 100.0 && ms("clear_audio", "p50_ms") < 100.0, "{streams:#}");
    // A mark is reported when its packet is handed to the kernel, so now and then the echo wins the race.
    assert!(count("marks_early") <= count("marks_echoed") / 5, "{streams:#}");
    // The server counted the same, but for what was on its way at the end.
    let metrics = fs::read_to_string(metrics).expect("the metrics were kept");
    let sent = metrics
        .lines()
        .find_map(|line| line.strip_prefix("sidetone_ai_uplink_latency_seconds_count "))
        .expect("sidetone counts what it sends");
    let sent: u64 = sent.parse().expect("a number");
    assert!(sent.abs_diff(count("uplink_messages")) <= 12, "{sent}: {streams:#}");
}

#[test]
fn bots_are_silent_within_two_packets_of_a_callers_first() {
    let Some(sidetone) = sidetone("bots_are_silent_within_two_packets_of_a_callers_first") else { return };
    let (code, report) = streamload(&[
        "--start",
        sidetone.to_str().expect("UTF-8"),
        "--listen",
        "127.0.0.1:0",
        "--server-ports",
        "11000-11999",
        "--barge-in",
        "-n",
        "6",
        "-d",
        "14",
        "-q",
    ]);
    assert_eq!(code, 0, "{report:#}");
    let streams = &report["streams"];
    let count = |name: &str| streams["counters"][name].as_u64().unwrap_or_else(|| panic!("no {name}"));
    let interrupted = count("barge_ins");
    // Each call interrupts every 2.4 s. Times are for the tool to tell; packets need no clock, but a thread that
    // was held up may see one more.
    assert!(interrupted >= 18, "{streams:#}");
    assert!(count("barge_ins_ignored") * 20 <= interrupted, "{streams:#}");
    assert!(count("barge_ins_within_two_packets") * 10 >= interrupted * 9, "{streams:#}");
}

#[test]
fn expectations_decide_the_exit_code() {
    let Some(sidetone) = sidetone("expectations_decide_the_exit_code") else { return };
    let sidetone = sidetone.to_str().expect("UTF-8");
    for (expectation, met) in [
        (["--check-uplink-p99-below", "5000"], true),
        (["--check-uplink-p99-below", "0.001"], false),
        (["--expect-uplink-loss-below", "100"], true),
    ] {
        let (code, report) = streamload(&[
            "--start",
            sidetone,
            "--listen",
            "127.0.0.1:0",
            "--server-ports",
            "13000-13999",
            "--no-bot",
            "-q",
            "-n",
            "2",
            "-d",
            "3",
            expectation[0],
            expectation[1],
        ]);
        if code == 3 {
            // A machine too busy to judge on: saying so is the right answer then.
            assert_eq!(report["instrument"]["trusted"], false);
            continue;
        }
        assert_eq!(code, i32::from(!met), "{expectation:?}: {:#}", report["missed"]);
        assert_eq!(report["streams"]["counters"]["utterances"], 0);
    }
}

#[test]
fn a_server_that_cannot_start_is_an_error_with_its_reason() {
    let output = Command::new(env!("CARGO_BIN_EXE_streamload"))
        .args(["--start", "/bin/false", "--listen", "127.0.0.1:0"])
        .output()
        .expect("streamload starts");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("/bin/false ended at once"), "{text}");
}
