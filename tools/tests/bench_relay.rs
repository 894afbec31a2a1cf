//! The comparison of relays runs from its beginning to its end, with a few calls and no look at figures.

use std::path::Path;
use std::process::Command;

#[path = "../../xdp/tests/netns/mod.rs"]
mod netns;

#[test]
fn relays_are_compared_and_nothing_is_left_over() {
    let name = "relays_are_compared_and_nothing_is_left_over";
    let rtpload = env!("CARGO_BIN_EXE_rtpload");
    let sidetone = Path::new(rtpload).with_file_name("sidetone");
    if let Some(reason) = missing(&sidetone) {
        netns::skip(name, &reason);
        return;
    }
    let namespaces = format!("st{}bench", std::process::id());
    let output = Command::new(env!("CARGO_BIN_EXE_bench-relay"))
        .args(["--name", &namespaces, "--rtpload", rtpload, "--most", "10", "--repeats", "1"])
        .args(["--only", "rtpengine,udp", "--sidetone"])
        .arg(&sidetone)
        .output()
        .expect("bench-relay runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    // What was really offered, which on a busy machine is a little less than wanted.
    let row = text.lines().find(|line| line.starts_with("| rtpengine, user space |"));
    let calls: f64 = row.and_then(|row| row.split('|').nth(2)?.trim().parse().ok()).expect("a number");
    assert!((5.0..=10.0).contains(&calls), "{text}\n{errors}");
    let ratio = text.lines().find_map(|line| line.strip_prefix("RATIO relay_udp ")).expect("a ratio");
    let ratio: f64 = ratio.parse().expect("a number");
    assert!((0.5..=2.0).contains(&ratio), "{text}\n{errors}");
    let left = Command::new("ip").args(["netns", "list"]).output().expect("ip runs");
    assert!(!String::from_utf8_lossy(&left.stdout).contains(&namespaces), "a namespace is left over");
}

fn missing(sidetone: &Path) -> Option<String> {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Some("it takes two cores".to_owned());
    }
    for program in ["rtpengine", "ip", "ethtool", "chrt", "taskset"] {
        if !has(program) {
            return Some(format!("{program} is not installed"));
        }
    }
    if !sidetone.exists() {
        return Some(format!("{} is not built", sidetone.display()));
    }
    if Command::new("chrt").args(["-f", "30", "true"]).status().map_or(true, |status| !status.success()) {
        return Some("real-time priority is not permitted".to_owned());
    }
    xdp::bpf::probe().err().map(|error| error.to_string())
}
