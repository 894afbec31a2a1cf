//! Pipecat, a voice-agent framework by others, as the agent: `tests/pipecat/pipecat_echo.py`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::ports::free_loopback_port;
use super::{fixture, present, within};

/// A running Pipecat server.
pub(crate) struct Pipecat {
    child: Child,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Pipecat {
    /// Starts it with a pipeline of this rate; `None` when it is not installed (a visible skip).
    pub(crate) fn start(rate_hz: u32) -> Option<Self> {
        let python = python();
        if !present("Pipecat in .venv", python.is_file()) {
            return None;
        }
        Some(Self::start_with(python, rate_hz, false))
    }

    /// Starts it so that it hangs up by the calls resource; tell it where that is with [`Pipecat::tell_rest`].
    pub(crate) fn start_with_rest(rate_hz: u32) -> Option<Self> {
        let python = python();
        present("Pipecat in .venv", python.is_file()).then(|| Self::start_with(python, rate_hz, true))
    }

    /// Where the calls resource is, and who may use it.
    pub(crate) fn tell_rest(&self, base_url: &str, account_sid: &str, auth_token: &str) {
        let rest = serde_json::json!({
            "base_url": base_url, "account_sid": account_sid, "auth_token": auth_token,
        });
        std::fs::write(self.folder.path().join("rest.json"), rest.to_string()).expect("written");
    }

    fn start_with(python: PathBuf, rate_hz: u32, rest: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_loopback_port()));
        let output = std::fs::File::create(folder.path().join("output")).expect("a file");
        let rest = rest.then(|| [OsString::from("--rest"), folder.path().join("rest.json").into()]);
        let child = Command::new(python)
            .arg(fixture("pipecat/pipecat_echo.py"))
            .args(["--port", &address.port().to_string(), "--rate", &rate_hz.to_string(), "--log"])
            .arg(folder.path().join("log.jsonl"))
            .args(rest.into_iter().flatten())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("python starts");
        let pipecat = Self { child, folder, address };
        // Its imports take long on a small machine.
        let ready = within(Duration::from_secs(90), || TcpStream::connect(address).is_ok());
        assert!(ready, "Pipecat does not listen after 90 s:\n{}", pipecat.output());
        pipecat
    }

    /// `/ws`, where Pipecat tells the dialect itself, or `/vonage?rate=HZ`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// What it saw so far: one object per message or event, `t` in seconds of Unix time.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Messages from us with this event.
    pub(crate) fn received(&self, event: &str) -> Vec<Value> {
        self.log()
            .into_iter()
            .filter(|entry| entry["dir"] == "in" && entry["msg"]["event"] == event)
            .collect()
    }

    /// What it printed.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Pipecat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("-- Pipecat:\n{}", self.output());
        }
    }
}

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python")
}
