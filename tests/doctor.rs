//! `sidetone doctor` on hosts whose settings are known: what it says, and that its commands cure what it found.

#[path = "../xdp/tests/netns/mod.rs"]
mod netns;

use std::process::{Command, Output};

use netns::{Cable, Host, Options};
use serde_json::Value;

fn sidetone() -> &'static str {
    env!("CARGO_BIN_EXE_sidetone")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The exit code and what it says on a host about its interface.
fn doctor(host: &Host, flags: &[&str]) -> (Option<i32>, Value) {
    let mut command = host.command(sidetone());
    command.args(["doctor", "--json", "--interface", &host.interface]).args(flags);
    let output = command.output().expect("it runs");
    (output.status.code(), json(&output))
}

fn check<'a>(report: &'a Value, id: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("{id} is missing in {report:#}"))
}

/// Runs the command that a check gives, on the host.
fn cure(host: &Host, check: &Value) {
    let command = check["fix"].as_str().unwrap_or_else(|| panic!("no command: {check:#}"));
    let status = host.command("sh").args(["-c", command]).status().expect("a shell");
    assert!(status.success(), "{command}");
}

#[test]
fn a_host_without_anything_set_has_no_problem() {
    let output = Command::new(sidetone()).args(["doctor", "--json"]).output().expect("it runs");
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["summary"]["problem"], 0);
    let refused = report["refused"].as_array().expect("reasons");
    assert_eq!(refused[0]["device"], "af_xdp");
    assert_eq!(refused[0]["reason"], "no interface is named (media.interface)");
    // What only pays on a server is apart, and not counted.
    for id in ["media_cpus", "isolation", "interface"] {
        assert_eq!(check(&report, id)["bare_metal"], true, "{id}");
    }
}

#[test]
fn the_json_keeps_its_form() {
    let output =
        Command::new(sidetone()).args(["doctor", "--json", "--interface", "lo"]).output().expect("it runs");
    let report = json(&output);
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&report), ["checks", "device", "refused", "summary", "version"]);
    assert_eq!(report["version"], 1);
    assert_eq!(keys(&report["summary"]), ["ok", "problem", "unknown", "warning"]);
    let mut ids = std::collections::BTreeSet::new();
    for check in report["checks"].as_array().expect("checks") {
        assert_eq!(keys(check), ["bare_metal", "fix", "found", "id", "note", "status", "why"]);
        let status = check["status"].as_str().expect("a word");
        assert!(["ok", "warning", "problem", "unknown"].contains(&status), "{check:#}");
        for key in ["id", "found", "why"] {
            assert!(check[key].as_str().is_some_and(|text| !text.is_empty()), "{check:#}");
        }
        for key in ["fix", "note"] {
            assert!(check[key].is_null() || check[key].is_string(), "{check:#}");
        }
        // Whoever is told of a fault is told what to do.
        let advice = check["fix"].is_string() || check["note"].is_string();
        assert!(advice == (status != "ok") || status == "unknown", "{check:#}");
        assert!(ids.insert(check["id"].as_str().expect("a word").to_owned()), "{check:#} is there twice");
    }
    assert!(ids.len() >= 20, "{ids:?}");
}

#[test]
fn it_does_not_need_privileges() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // The folder of the build may be closed to others.
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("sidetone");
    std::fs::copy(sidetone(), &copy).expect("copied");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("opened");
    let output = Command::new("setpriv")
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
        ])
        .arg(&copy)
        .args(["doctor", "--json"])
        .output();
    let Ok(output) = output else { return netns::skip("it_does_not_need_privileges", "there is no setpriv") };
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(check(&report, "capabilities")["status"], "warning");
    assert_eq!(check(&report, "capabilities")["bare_metal"], true);
    assert_ne!(report["device"], "af_xdp");
}

#[test]
fn unfinished_checksums_are_found_and_cured() {
    let test = "unfinished_checksums_are_found_and_cured";
    let Some(cable) = Cable::or_skip(test, Options { checksums: false, ..Options::default() }) else {
        return;
    };
    let (code, report) = doctor(&cable.near, &[]);
    let found = check(&report, "checksums");
    assert_eq!((code, &found["status"]), (Some(0), &Value::from("warning")), "{found:#}");
    assert_eq!(found["fix"], format!("ethtool -K {} tx off", cable.near.interface));
    cure(&cable.near, found);
    let (_, report) = doctor(&cable.near, &[]);
    assert_eq!(check(&report, "checksums")["status"], "ok");
    assert_eq!(check(&report, "xdp_mode")["status"], "ok", "veth runs programs");
    assert_eq!(check(&report, "zero_copy")["found"], "the driver cannot: frames are copied");
}

#[test]
fn what_keeps_af_xdp_from_running_is_a_problem_and_cured() {
    let test = "what_keeps_af_xdp_from_running_is_a_problem_and_cured";
    let Some(cable) = Cable::or_skip(test, Options { queues: 3, ..Options::default() }) else { return };
    let host = &cable.near;
    let ip = |arguments: &[&str]| {
        let status = host.command("ip").args(arguments).status().expect("ip");
        assert!(status.success(), "{arguments:?}");
    };
    ip(&["link", "set", &host.interface, "down"]);
    ip(&["link", "set", &host.interface, "mtu", "9000"]);
    let flags = ["--media-cpus", "0,1"];
    let environment = ("SIDETONE_MEDIA_XDP_MODE", "native");
    let doctor = || {
        let mut command = host.command(sidetone());
        command.args(["doctor", "--json", "--interface", &host.interface]).args(flags);
        let output = command.env(environment.0, environment.1).output().expect("it runs");
        (output.status.code(), json(&output))
    };
    let (code, report) = doctor();
    assert_eq!(code, Some(1));
    for id in ["interface", "mtu"] {
        assert_eq!(check(&report, id)["status"], "problem", "{id}");
        cure(host, check(&report, id));
    }
    let (code, report) = doctor();
    for id in ["interface", "mtu"] {
        assert_eq!(check(&report, id)["status"], "ok", "{id}");
    }
    // Only where there are two CPUs.
    if check(&report, "media_cpus")["status"] == "ok" {
        assert_eq!(code, Some(0), "{report:#}");
        let queues = check(&report, "queues");
        assert_eq!(queues["status"], "warning", "three queues for two workers: {queues:#}");
        cure(host, queues);
        assert_eq!(check(&doctor().1, "queues")["status"], "ok");
    }
}

#[test]
fn ports_that_the_kernel_gives_away_are_reserved() {
    let test = "ports_that_the_kernel_gives_away_are_reserved";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    let host = &cable.near;
    let range = host.command("sysctl").args(["-qw", "net.ipv4.ip_local_port_range=25000 60999"]).status();
    assert!(range.expect("sysctl").success());
    let kept = host.command("sysctl").args(["-qw", "net.ipv4.ip_local_reserved_ports=30000-30010"]).status();
    assert!(kept.expect("sysctl").success());
    let (_, report) = doctor(host, &[]);
    let ports = check(&report, "ports");
    assert_eq!(ports["status"], "warning");
    assert_eq!(ports["found"], "20000-29999, of which the kernel gives 25000-29999 to any program");
    assert_eq!(ports["fix"], "sysctl -w net.ipv4.ip_local_reserved_ports=30000-30010,20000-29999");
    cure(host, ports);
    assert_eq!(check(&doctor(host, &[]).1, "ports")["found"], "20000-29999, reserved");
}

#[test]
fn an_interface_that_is_not_there_is_a_problem() {
    let output = Command::new(sidetone()).args(["doctor", "--json", "--interface", "st-none"]).output();
    let output = output.expect("it runs");
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1));
    let interface = check(&report, "interface");
    assert_eq!(interface["status"], "problem");
    assert!(interface["found"].as_str().is_some_and(|found| found.starts_with("st-none: ")), "{interface:#}");
    let wrong = Command::new(sidetone()).args(["doctor", "--media-ports", "9"]).output().expect("it runs");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--media-ports"));
}
