//! Our own binary as a child process on free ports, with its log kept.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::ports::{free_media_ports, free_port};
use super::within;

/// How to start the server.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// TOML beside the addresses, ports and folder that the test support chooses.
    pub(crate) config: String,
    /// Where SIP listens.
    pub(crate) sip_ip: IpAddr,
    /// UDP ports for media, two per call.
    pub(crate) media_ports: u16,
    /// Further flags.
    pub(crate) flags: Vec<String>,
    /// Further environment variables.
    pub(crate) environment: Vec<(String, String)>,
}

impl Setup {
    pub(crate) fn new(config: &str) -> Self {
        let sip_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            config: config.to_owned(),
            sip_ip,
            media_ports: 200,
            flags: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// A running server. Dropping it ends it by SIGTERM and checks that it leaves with 0.
pub(crate) struct Server {
    child: Mutex<Child>,
    folder: tempfile::TempDir,
    killed: AtomicBool,
    /// SIP over UDP and TCP.
    pub(crate) sip: SocketAddr,
    /// Health, metrics, API.
    pub(crate) http: SocketAddr,
    /// The NG protocol.
    pub(crate) ng: SocketAddr,
    /// The first and last media port.
    pub(crate) media_ports: (u16, u16),
}

impl Server {
    /// Starts the binary and waits until it is ready.
    pub(crate) fn start(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sip = SocketAddr::new(setup.sip_ip, free_port(setup.sip_ip));
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let http = SocketAddr::new(localhost, free_port(localhost));
        let ng = SocketAddr::new(localhost, free_port(localhost));
        let low = free_media_ports(setup.media_ports);
        let media_ports = (low, low + setup.media_ports - 1);
        let config = folder.path().join("sidetone.toml");
        // A test's own `[drain]` may follow; keys outside of a table come first.
        let drain = if setup.config.contains("[drain]") { "" } else { "\n[drain]\ntimeout = \"2s\"\n" };
        std::fs::write(&config, format!("{}{drain}", setup.config)).expect("the configuration is written");
        let log = File::create(folder.path().join("log")).expect("a log file");
        let child = Command::new(binary())
            .arg("--config")
            .arg(&config)
            .args(["--sip-bind", &sip.to_string(), "--http-bind", &http.to_string()])
            .args(["--media-ports", &format!("{}-{}", media_ports.0, media_ports.1)])
            .args(&setup.flags)
            .env_remove("SIDETONE_CONFIG")
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            .args(["--ng-bind", &ng.to_string()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let server = Self {
            child: Mutex::new(child),
            folder,
            killed: AtomicBool::new(false),
            sip,
            http,
            ng,
            media_ports,
        };
        let ready = within(Duration::from_secs(20), || {
            assert!(!server.has_exited(), "the server ended at start:\n{}", server.log());
            server.get("/readyz").is_some_and(|(status, _)| status == 200)
        });
        assert!(ready, "not ready after 20 s:\n{}", server.log());
        server
    }

    /// One server for all tests of a file that run at the same time.
    pub(crate) fn shared(slot: &Mutex<Weak<Self>>, setup: impl FnOnce() -> Setup) -> Arc<Self> {
        let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(server) = slot.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start(&setup()));
        *slot = Arc::downgrade(&server);
        server
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().expect("lock").id()
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        let mut bytes = Vec::new();
        let _ = File::open(self.folder.path().join("log")).and_then(|mut file| file.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A folder that lives as long as the server.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// GET; the status and the body.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.http, path)
    }

    /// GET with a token; the status and the body.
    pub(crate) fn get_with(&self, path: &str, token: &str) -> Option<(u16, String)> {
        get_by(self.http, path, &format!("Authorization: Bearer {token}\r\n"))
    }

    /// The sum of all samples of a metric whose labels contain `labels`; `None` if there is none.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        let values: Vec<f64> = text
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                if !rest.starts_with(['{', ' ']) || !rest.contains(labels) {
                    return None;
                }
                rest.rsplit(' ').next()?.parse().ok()
            })
            .collect();
        if values.is_empty() { None } else { Some(values.iter().sum()) }
    }

    /// The sum of all samples whose name contains `part`.
    pub(crate) fn metric_like(&self, part: &str) -> f64 {
        let lines = self.metrics_like(part);
        lines.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The samples whose name contains `part`.
    pub(crate) fn metrics_like(&self, part: &str) -> String {
        let (_, text) = self.get("/metrics").expect("metrics answer");
        let has_part = |line: &&str| {
            !line.starts_with('#') && line.split(['{', ' ']).next().is_some_and(|name| name.contains(part))
        };
        text.lines().filter(has_part).map(|line| format!("{line}\n")).collect()
    }

    /// The running calls as the API lists them.
    pub(crate) fn calls(&self) -> Vec<serde_json::Value> {
        let (status, body) = self.get("/v1/calls").expect("the API answers");
        assert_eq!(status, 200, "{body}");
        let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let list = if value.is_array() { &value } else { &value["calls"] };
        list.as_array().unwrap_or_else(|| panic!("no list of calls in {body}")).clone()
    }

    /// All that the API says about one call of [`Self::calls`].
    pub(crate) fn call(&self, listed: &serde_json::Value) -> serde_json::Value {
        let path = format!("/v1/calls/{}", listed["id"]);
        let body = self.get(&path).map(|(_, body)| body).unwrap_or_default();
        serde_json::from_str(&body).unwrap_or_default()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.child.lock().expect("lock").try_wait().expect("the child can be asked").is_some()
    }

    /// Sends a signal, `TERM` for one.
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &command]).status().expect("a shell").success());
    }

    /// SIGKILL, in the middle of whatever it does.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.signal("KILL");
        self.wait(Duration::from_secs(10));
    }

    /// Waits for the end; the exit code.
    pub(crate) fn wait(&self, limit: Duration) -> Option<i32> {
        within(limit, || self.has_exited());
        self.child.lock().expect("lock").try_wait().expect("the child can be asked")?.code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        let mut code = self.wait(Duration::ZERO);
        if code.is_none() && !self.has_exited() {
            self.signal("TERM");
            code = self.wait(Duration::from_secs(15));
        }
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        let log = self.log();
        if self.killed.load(Ordering::Relaxed) && !panicking {
            return;
        }
        if panicking {
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("-- the server's last log lines:");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        } else {
            assert_eq!(code, Some(0), "the server did not leave with 0 after SIGTERM:\n{log}");
            assert!(!log.contains("panicked at"), "the server panicked:\n{log}");
        }
    }
}

/// GET from a server on this machine; the status and the body.
pub(crate) fn get(server: SocketAddr, path: &str) -> Option<(u16, String)> {
    get_by(server, path, "")
}

fn get_by(server: SocketAddr, path: &str, headers: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n{headers}\r\n").ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Any request to a server on this machine, with JSON or without a body; the status and the body.
pub(crate) fn exchange(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: Option<&str>,
) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body {
        request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body.unwrap_or_default();
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The binary under test: the one Cargo built, or the one of `SIDETONE_BIN`.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("SIDETONE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_sidetone").into(), PathBuf::from)
}
