//! SIPp (Debian's sip-tester) as the other side.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::fixture;
use super::ports::{free_port, free_sipp_media_port};

/// One scenario run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    file: PathBuf,
    server: SocketAddr,
    arguments: Vec<String>,
    folder: Option<PathBuf>,
    limit: Duration,
    port: Option<u16>,
}

impl Scenario {
    /// A file of tests/sipp against `server`.
    pub(crate) fn new(name: &str, server: SocketAddr) -> Self {
        let file = fixture("sipp").join(name).with_extension("xml");
        assert!(file.is_file(), "no scenario {}", file.display());
        Self { file, server, arguments: Vec::new(), folder: None, limit: Duration::from_secs(30), port: None }
    }

    /// The user to call, `[service]` in the scenario.
    pub(crate) fn user(self, user: &str) -> Self {
        self.arguments(&["-s", user])
    }

    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Where relative paths of the scenario, such as captures, lie.
    pub(crate) fn folder(mut self, folder: PathBuf) -> Self {
        self.folder = Some(folder);
        self
    }

    /// The port of SIPp's own, for scenarios in which it is called.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs one call to its end and panics with SIPp's own account if it failed.
    pub(crate) fn passes(self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ip = match self.server {
            SocketAddr::V4(_) => "127.0.0.1",
            SocketAddr::V6(_) => "::1",
        };
        let ip = ip.parse().expect("an address");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let seconds = self.limit.as_secs().to_string();
        let port = self.port.unwrap_or_else(|| free_port(ip));
        let mut command = Command::new("sipp");
        command
            .arg("-sf")
            .arg(&self.file)
            .args(["-m", "1", "-nostdin", "-timeout_error", "-timeout", &seconds])
            .args(["-p", &port.to_string(), "-mp", &free_sipp_media_port(ip).to_string()])
            .args(["-i", &ip.to_string()])
            .args(["-trace_err", "-error_file", &path("errors")])
            .args(["-trace_msg", "-message_file", &path("messages")])
            .args(&self.arguments)
            .arg(self.server.to_string())
            .env("TERM", "dumb")
            .current_dir(self.folder.as_deref().unwrap_or_else(|| folder.path()))
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(path("screen")).expect("a file"))
            .stderr(std::fs::File::create(path("stderr")).expect("a file"));
        let mut child = command.spawn().expect("sipp starts");
        // SIPp's own timeout comes first; this one is for a SIPp that hangs.
        let end = Instant::now() + self.limit + Duration::from_secs(10);
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                break Some(status);
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        if status.is_some_and(|status| status.code() == Some(0)) {
            return;
        }
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap_or_default();
        let screen = read("screen");
        let tail: Vec<&str> = screen.lines().rev().take(60).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        panic!(
            "sipp {} failed with {status:?}\n-- errors\n{}{}\n-- messages\n{}\n-- screen\n{}",
            self.file.display(),
            read("errors"),
            read("stderr"),
            read("messages"),
            tail.join("\n")
        );
    }
}
