//! The built binary: its flags, its errors, its life from start to SIGTERM.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

const STABLE_FLAGS: &[&str] = &[
    "--config",
    "--sip-bind",
    "--http-bind",
    "--ng-bind",
    "--media-address",
    "--media-ports",
    "--device",
    "--interface",
    "--simd",
    "--media-cpus",
    "--stream-cpus",
    "--signaling-cpus",
    "--wait",
    "--data-dir",
    "--log-level",
    "--log-format",
];

/// A table of kernels of another architecture.
const FOREIGN_TABLE: &str = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };

fn sidetone() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    // What the tests themselves are told, and what a developer may have set.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("SIDETONE_")) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    sidetone().args(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The configuration in a temporary file, checked.
fn check(config: &str, flags: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sidetone.toml");
    std::fs::write(&file, config).expect("written");
    let output = sidetone()
        .arg("check-config")
        .arg("--config")
        .arg(&file)
        .args(flags)
        .output()
        .expect("the binary runs");
    let errors = text(&output.stderr).replace(&format!("{}/", folder.path().display()), "");
    (output.status.code(), text(&output.stdout), errors)
}

#[test]
fn help_describes_every_flag_with_default_and_example() {
    let help = output(&["--help"]);
    assert!(help.status.success());
    let help = text(&help.stdout);
    for flag in STABLE_FLAGS {
        let (_, rest) = help
            .split_once(&format!("      {flag} <"))
            .unwrap_or_else(|| panic!("{flag} is missing in\n{help}"));
        let description = rest.split("\n      --").next().unwrap_or_default();
        assert!(description.contains("Example: "), "{flag} has no example:\n{description}");
        assert!(
            description.contains("Default: ") || *flag == "--config",
            "{flag} does not say its default:\n{description}"
        );
    }
    for more in ["check-config", "version", "Quick start", "sip:echo@127.0.0.1:5060", "SIGTERM"] {
        assert!(help.contains(more), "{more} is missing in\n{help}");
    }
}

#[test]
fn version_is_the_package_version() {
    for arguments in [["version"], ["--version"]] {
        let output = output(&arguments);
        assert!(output.status.success());
        assert_eq!(text(&output.stdout).trim(), format!("sidetone {}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn check_config_prints_what_would_run() {
    let (code, printed, errors) = check("", &["--sip-bind", "127.0.0.1:5070", "--media-cpus", "0"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for line in ["127.0.0.1:5070 (udp, tcp)", "agent demo", "reject 404", "on CPU 0", "configuration is good"]
    {
        assert!(printed.contains(line), "{line} is missing in\n{printed}");
    }
}

#[test]
fn check_config_refuses_with_the_place_and_the_nearest_key() {
    let (code, printed, errors) = check("[sip]\nbnd = [\"127.0.0.1:5060\"]\n", &[]);
    assert_eq!((code, printed.as_str()), (Some(1), ""));
    assert_eq!(errors, "error: sidetone.toml:2: unknown key `sip.bnd`; did you mean `sip.bind`?\n");
}

#[test]
fn check_config_reads_the_audio_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sidetone.toml");
    std::fs::write(folder.path().join("a.wav"), b"not audio").expect("written");
    std::fs::write(&file, "[[routes]]\nmatch = \"a\"\napp = \"play\"\nfile = \"a.wav\"\n").expect("written");
    let output = sidetone().arg("check-config").arg("--config").arg(&file).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("a.wav"), "{}", text(&output.stderr));
}

#[test]
fn wrong_flags_are_refused_by_name() {
    for (flag, value, expected) in [
        ("--sip-bind", "localhost", "--sip-bind: sip.bind: `localhost` is not an address with a port"),
        ("--media-ports", "9", "--media-ports: media.ports: `9` is not a port range"),
        (
            "--media-address",
            "0.0.0.0",
            "--media-address: media.address: `0.0.0.0` is not an address that a peer",
        ),
        ("--device", "af_xdp", "--device: media.device: `af_xdp` needs media.interface (--interface)"),
        ("--simd", "sse9", "--simd: media.simd: unknown variant `sse9`, expected one of `auto`, `scalar`"),
        ("--simd", FOREIGN_TABLE, "--simd: media.simd: this CPU does not run"),
        ("--device", "dpdk", "--device: media.device: unknown variant `dpdk`"),
        (
            "--interface",
            "eth0/1",
            "--interface: media.interface: `eth0/1` is not the name of a network interface",
        ),
        ("--wait", "never", "--wait: media.wait: unknown variant `never`"),
        ("--signaling-cpus", "0,0", "--signaling-cpus: signaling.cpus: `0,0` names CPU 0 twice"),
        ("--media-cpus", "x", "--media-cpus: media.cpus: `x` is not a list of CPUs"),
        ("--log-level", "loud", "--log-level: log.level: `loud` is neither a log level"),
        ("--log-format", "xml", "--log-format: log.format: unknown variant `xml`, expected `text` or `json`"),
        ("--config", "/no/such/file.toml", "/no/such/file.toml: cannot be read"),
    ] {
        for arguments in [vec!["check-config", flag, value], vec![flag, value]] {
            let output = output(&arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            let errors = text(&output.stderr);
            assert!(errors.starts_with(&format!("error: {expected}")), "{errors}");
        }
    }
    let unknown = output(&["--sip-bnd", "x"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("--sip-bind"), "{}", text(&unknown.stderr));
}

#[test]
fn the_gateways_variables_register_or_take_calls_directly() {
    let run = |register: &str, server: &str| {
        let mut command = sidetone();
        command.args(["check-config"]).env("REGISTER_WITH_SIP_SERVER", register);
        command.env("SIP_LOCAL_ADDRESS", "127.0.0.1").env("AUTH_PASSWORD", "topsecret");
        command.env("SIP_SERVER", server).env("SIP_USER", "bot");
        command.output().expect("the binary runs")
    };
    let (direct, registered) = (run("false", "127.0.0.1"), run("true", "127.0.0.1"));
    for output in [&direct, &registered] {
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("127.0.0.1:5060"));
    }
    assert!(!text(&direct.stdout).contains("registers bot"));
    assert!(text(&registered.stdout).contains("registers bot at 127.0.0.1"), "{}", text(&registered.stdout));
    let unreachable = run("true", "sip.example.com");
    assert_eq!(unreachable.status.code(), Some(1));
    assert!(text(&unreachable.stderr).contains("SIP_LOCAL_ADDRESS"), "{}", text(&unreachable.stderr));
    for output in [direct, registered, unreachable] {
        assert!(!(text(&output.stdout) + &text(&output.stderr)).contains("topsecret"));
    }
}

#[test]
fn the_gateway_says_what_it_needs_and_runs_with_it() {
    let bare = sidetone().arg("gateway").output().expect("the binary runs");
    assert_eq!(bare.status.code(), Some(1));
    assert!(text(&bare.stderr).contains("AZURE_VOICELIVE_ENDPOINT"), "{}", text(&bare.stderr));
    let mut ready = sidetone();
    ready.arg("check-config").env("AZURE_VOICELIVE_ENDPOINT", "https://example.services.ai.azure.com/");
    let ready = ready.env("AZURE_VOICELIVE_API_KEY", "topsecret").output().expect("the binary runs");
    assert!(ready.status.success(), "{}", text(&ready.stderr));
    assert!(text(&ready.stdout).contains("wss://example.services.ai.azure.com/voice-live/realtime"));
    assert!(!text(&ready.stdout).contains("topsecret"));
}

/// The binary, running on free ports in an empty folder.
struct Running {
    child: Child,
    log: Receiver<Value>,
    seen: Vec<Value>,
    folder: tempfile::TempDir,
    sip: SocketAddr,
    http: SocketAddr,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = sidetone();
        command.args(["--sip-bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--ng-bind", "127.0.0.1:0"]);
        command.args(["--log-format", "json"]);
        command.args(arguments).current_dir(folder.path()).env("AGENT_TOKEN", "example");
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let (sender, log) = channel();
        let lines = BufReader::new(child.stderr.take().expect("its log"));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Self { child, log, seen: Vec::new(), folder, sip: nowhere, http: nowhere };
        running.sip = running.wait_for_log(|line| {
            (line["message"] == "listening for SIP").then(|| line["address"].as_str()?.parse().ok()).flatten()
        });
        running.http =
            running.wait_for_log(|line| line["message"].as_str()?.split_once("API: http://")?.1.parse().ok());
        running.wait_for_log(|line| line["message"].as_str()?.starts_with("ready: ").then_some(()));
        running
    }

    /// The first line, of those not yet looked at, that `find` recognises.
    fn wait_for_log<T>(&mut self, find: impl Fn(&Value) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let Ok(line) = self.log.recv_timeout(end.saturating_duration_since(Instant::now())) else {
                panic!("not in the log: {:#?}", self.seen);
            };
            let found = find(&line);
            self.seen.push(line);
            if let Some(found) = found {
                return found;
            }
        }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).expect("HTTP answers");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http)
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
    }

    fn signal(&self, name: &str) {
        // The shell has `kill` built in; a bare machine has no program of that name.
        let command = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().expect("sh runs").success());
    }

    fn wait_for_exit(&mut self, limit: Duration) -> Option<i32> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("still running after {limit:?}: {:#?}", self.seen);
    }

    /// Sends OPTIONS and returns the status of the answer.
    fn options(&self) -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        let local = socket.local_addr().expect("an address");
        let request = format!(
            "OPTIONS sip:{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{port};rport\r\n\
             From: <sip:test@{local}>;tag=1\r\nTo: <sip:{sip}>\r\nCall-ID: {port}@{local}\r\n\
             CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
            sip = self.sip,
            port = local.port()
        );
        let mut buffer = [0; 2048];
        for _ in 0..10 {
            socket.send_to(request.as_bytes(), self.sip).expect("sent");
            if let Ok(len) = socket.recv(&mut buffer) {
                let answer = text(&buffer[..len]);
                return answer
                    .split(' ')
                    .nth(1)
                    .and_then(|status| status.parse().ok())
                    .expect("a status line");
            }
        }
        panic!("OPTIONS was not answered");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn binary_serves_from_an_empty_folder_and_leaves_with_0() {
    let mut running = Running::start(&[]);
    assert_eq!(running.get("/healthz").0, 200);
    assert_eq!(running.get("/readyz").0, 200);
    let calls: Value = serde_json::from_str(&running.get("/v1/calls").1).expect("JSON");
    assert_eq!(calls["count"], 0);
    assert_eq!(running.options(), 200);
    assert!(TcpStream::connect(running.sip).is_ok(), "SIP over TCP");
    assert!(running.folder.path().join("sidetone-data").is_dir());
    let greeting = running
        .seen
        .iter()
        .filter_map(|line| line["message"].as_str())
        .find(|line| line.starts_with("ready"));
    assert_eq!(greeting, Some(&*format!("ready: call sip:agent@{0} or sip:echo@{0}", running.sip)));
    running.signal("HUP");
    running.wait_for_log(|line| line["message"].as_str()?.starts_with("SIGHUP").then_some(()));
    running.signal("TERM");
    assert_eq!(running.wait_for_exit(Duration::from_secs(10)), Some(0));
    assert!(UdpSocket::bind(running.sip).is_ok(), "the port is free again");
}

#[test]
fn interrupt_ends_it_as_well() {
    let mut running = Running::start(&[]);
    running.signal("INT");
    assert_eq!(running.wait_for_exit(Duration::from_secs(10)), Some(0));
}

#[test]
fn metrics_are_accepted_by_a_strict_reader() {
    let running = Running::start(&["--device", "udp"]);
    assert_eq!(running.options(), 200);
    let (status, metrics) = running.get("/metrics");
    assert_eq!(status, 200);
    check_exposition(&metrics);
    for name in [
        "sidetone_build_info{",
        "sidetone_ready 1\n",
        "sidetone_calls 0\n",
        "sidetone_calls_offered_total 0\n",
        "sidetone_call_setup_seconds_bucket{le=\"+Inf\"} 0\n",
        "sidetone_sip_received_requests_total 1\n",
        "sidetone_worker_packets_total{worker=\"0\"} 0\n",
        "sidetone_worker_tick_lateness_seconds_count{worker=\"0\"} ",
        "sidetone_device_received_datagrams_total{worker=\"0\",device=\"udp\"} 0\n",
        "sidetone_ports_in_turn_total 0\n",
        "sidetone_simd_info{kernels=\"",
        "sidetone_ai_connected_total 0\n",
        "sidetone_ai_uplink_latency_seconds_sum ",
        "sidetone_media_streams_added_total 0\n",
        "process_open_fds ",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(&format!("\n{name}")), "{name} is missing in\n{metrics}");
    }
}

#[test]
fn metrics_are_accepted_by_promtool() {
    let is_there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("promtool").is_file()));
    if !is_there {
        skip("promtool (Debian package prometheus) is missing");
        return;
    }
    let running = Running::start(&[]);
    let metrics = running.get("/metrics").1;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    promtool.stdin.take().expect("its input").write_all(metrics.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("it ends");
    let complaints = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
}

/// Says that a test was skipped, where the runner counts it.
fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{name}: {why}\n");
    let _ = write!(std::io::stderr(), "SKIPPED {line}");
    if let Some(file) = std::env::var_os("SIDETONE_SKIP_FILE") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
        file.expect("the skip file").write_all(line.as_bytes()).expect("the skip file takes a line");
    }
}

/// The rules of the text format (0.0.4) that a scraper relies on.
fn check_exposition(text: &str) {
    let mut families = std::collections::BTreeMap::new();
    let mut samples = std::collections::BTreeSet::new();
    let mut current: Option<(&str, &str)> = None;
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let mut helped = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help in {line}"));
            assert!(is_name(name) && !help.is_empty(), "{line}");
            helped = Some(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(helped, Some(name), "HELP comes right before TYPE");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(families.insert(name, kind).is_none(), "{name} comes twice");
            current = Some((name, kind));
        } else {
            let (name, kind) = current.expect("a type before the first sample");
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number in {line}"));
            assert!(value.is_finite() && (value >= 0.0 || kind == "gauge"), "{line}");
            assert!(samples.insert(series), "{series} comes twice");
            let metric = series.split('{').next().unwrap_or_default();
            let suffix = metric.strip_prefix(name).unwrap_or_else(|| panic!("{metric} is not of {name}"));
            let allowed: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(allowed.contains(&suffix), "{line}");
        }
    }
    assert!(families.len() > 100, "only {} families", families.len());
}

#[test]
fn port_in_use_names_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let datagrams = UdpSocket::bind(taken.local_addr().expect("an address")).expect("the same port of UDP");
    let flags = ["--http-bind", "--sip-bind", "--ng-bind"];
    for flag in flags {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = sidetone();
        for other in flags {
            command.args([other, if other == flag { &address } else { "127.0.0.1:0" }]);
        }
        command.current_dir(folder.path());
        let output = command.output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(1));
        let log = text(&output.stderr);
        assert!(log.contains("cannot start") && log.contains(flag) && log.contains(&address), "{log}");
    }
    drop(datagrams);
}

#[test]
fn examples_really_start() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    for name in ["demo", "twilio-agent", "ivr-play", "nat", "production"] {
        let file = folder.join(format!("{name}.toml"));
        let data = tempfile::tempdir().expect("a folder");
        let arguments = [
            "--config",
            file.to_str().expect("a path"),
            "--data-dir",
            data.path().to_str().expect("a path"),
            // CPUs that this machine has.
            "--media-cpus",
            "0",
            "--stream-cpus",
            "0",
        ];
        let mut running = Running::start(&arguments);
        assert_eq!(running.get("/readyz").0, 200, "{name}");
        assert_eq!(running.options(), 200, "{name}");
        running.signal("TERM");
        assert_eq!(running.wait_for_exit(Duration::from_secs(10)), Some(0), "{name}");
    }
}
