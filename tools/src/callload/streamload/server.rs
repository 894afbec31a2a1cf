//! A sidetone of our own for one run: a folder, a configuration, free ports.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::options::StreamOptions;
use crate::callload::clock;

/// A running server; stopped and its folder removed when dropped.
pub(in super::super) struct Server {
    child: Child,
    folder: PathBuf,
    sip: SocketAddr,
    http: SocketAddr,
}

/// What to start.
pub(in super::super) struct Setup<'a> {
    pub(in super::super) binary: &'a Path,
    /// Where the agent's backend is.
    pub(in super::super) url: String,
    /// RTP ports.
    pub(in super::super) ports: (u16, u16),
    pub(in super::super) calls: u32,
    /// More lines of `[media]`, of the agent, and of other tables.
    pub(in super::super) media: String,
    pub(in super::super) agent: String,
    pub(in super::super) tables: String,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub(in super::super) fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let Setup { binary, url, ports: (low, high), calls, media, agent, tables } = setup;
        // It runs in another folder.
        let binary = &binary.canonicalize().with_context(|| format!("cannot find {}", binary.display()))?;
        let folder =
            std::env::temp_dir().join(format!("streamload-{}-{}", std::process::id(), clock::now_ns()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (sip, http) = (free_sip()?, free_tcp()?);
        let config = folder.join("sidetone.toml");
        let text = format!(
            "data_dir = \"data\"\n[sip]\nbind = [\"{sip}\"]\n[sip.limits]\ninvites_per_second_per_source = 0\n\
             [http]\nbind = \"{http}\"\n[ng]\nbind = \"\"\n[media]\nports = \"{low}-{high}\"\n{media}[calls]\nmax = {}\n\
             [log]\nlevel = \"warn\"\n\
             [agents.streamload]\nurl = \"{url}\"\nparameters = {{ call_id = \"{{call_id}}\" }}\n{agent}\
             [[routes]]\nmatch = \"agent\"\napp = \"agent\"\nagent = \"streamload\"\n{tables}",
            calls + 10
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let log = File::create(folder.join("log"))?;
        let child = Command::new(binary)
            .arg("--config")
            .arg(&config)
            .current_dir(&folder)
            // Ctrl-C is ours; the server ends when the calls have.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut server = Self { child, folder, sip, http };
        let until = Instant::now() + READY_TIME;
        loop {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended at once ({status}):\n{}", binary.display(), server.last_log());
            }
            if server.fetch("/readyz").is_ok() {
                return Ok(server);
            }
            if Instant::now() > until {
                bail!("{} is not ready after {READY_TIME:?}:\n{}", binary.display(), server.last_log());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(in super::super) fn target(&self) -> String {
        format!("sip:agent@{}", self.sip)
    }

    /// Stops it by SIGTERM and keeps what the options ask for.
    pub(super) fn stop(mut self, options: &StreamOptions) -> anyhow::Result<ExitStatus> {
        if let Some(path) = &options.server_metrics {
            let metrics = self.fetch("/metrics").context("cannot read the metrics of the started server")?;
            fs::write(path, metrics).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let pid = Pid::from_raw(self.child.id() as i32);
        if self.child.try_wait()?.is_none() {
            kill(pid, Signal::SIGTERM).context("cannot stop the started server")?;
        }
        let until = Instant::now() + STOP_TIME;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > until {
                self.child.kill()?;
            }
            thread::sleep(Duration::from_millis(20));
        };
        if let Some(path) = &options.server_log {
            fs::copy(self.folder.join("log"), path)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(status)
    }

    pub(in super::super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The body of a page of its HTTP server; an error unless the status is 200.
    pub(in super::super) fn fetch(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split_ascii_whitespace().nth(1).unwrap_or("no HTTP answer");
        if status == "200" { Ok(body.to_owned()) } else { Err(io::Error::other(status.to_owned())) }
    }

    pub(in super::super) fn last_log(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port free for UDP and TCP.
fn free_sip() -> anyhow::Result<SocketAddr> {
    for _ in 0..50 {
        let address = free_tcp()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port is free for SIP")
}

fn free_tcp() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

const READY_TIME: Duration = Duration::from_secs(20);
const STOP_TIME: Duration = Duration::from_secs(40);
