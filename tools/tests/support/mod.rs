//! SIPp as the far end, and a forwarder that loses, delays, repeats, swaps or rewrites packets by known amounts.

mod forwarder;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::UdpSocket,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use forwarder::{Forwarder, Impairment};

/// True when SIPp is installed; otherwise says that the test did not run.
pub(crate) fn sipp_is_there(test: &str) -> bool {
    let there = Command::new("sipp").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        // Written past the capture of the test harness, so that a skipped test is seen.
        let _ = writeln!(io::stderr(), "SKIP {test}: sipp is not installed (Debian package sip-tester)");
    }
    there
}

/// A running SIPp that answers calls.
pub(crate) struct Sipp {
    child: Child,
    pub(crate) port: u16,
    pub(crate) media_port: u16,
    folder: TempDir,
}

/// What SIPp counted, from `-trace_stat` and its last screen.
#[derive(Debug)]
pub(crate) struct SippFigures {
    pub(crate) created: u64,
    pub(crate) successful: u64,
    pub(crate) failed: u64,
    pub(crate) echoed: u64,
}

impl Sipp {
    /// Answers calls until dropped. The answer names `sdp_port`, or SIPp's own echo when `None`.
    pub(crate) fn answering(sdp_port: Option<u16>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (port, media_port) = (free_port(), free_port());
        let scenario = folder.path().join("uas.xml");
        fs::write(&scenario, SCENARIO.replace("SDP_PORT", &sdp_port.unwrap_or(media_port).to_string()))
            .unwrap();
        let child = Command::new("sipp")
            .arg("-sf")
            .arg(&scenario)
            .args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-rtp_echo", "-nostdin", "-trace_stat"])
            .args(["-p", &port.to_string(), "-mp", &media_port.to_string()])
            .args(["-timeout", "60", "-fd", "1", "-stf"])
            .arg(folder.path().join("stat.csv"))
            .current_dir(folder.path())
            .env("TERM", "xterm")
            .stdout(File::create(folder.path().join("screen.txt")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .expect("sipp starts");
        let sipp = Self { child, port, media_port, folder };
        let until = Instant::now() + Duration::from_secs(10);
        // SIPp is ready when its SIP port is taken.
        while UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            assert!(Instant::now() < until, "sipp did not open its port");
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(300));
        sipp
    }

    pub(crate) fn target(&self) -> String {
        format!("sip:echo@127.0.0.1:{}", self.port)
    }

    /// Ends SIPp and reads its figures. Only SIGTERM makes it print the screen that holds the echo count.
    pub(crate) fn figures(mut self) -> SippFigures {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "sipp does not end");
            thread::sleep(Duration::from_millis(50));
        }
        let csv = fs::read_to_string(self.folder.path().join("stat.csv")).unwrap();
        let mut lines = csv.lines();
        let names: Vec<&str> = lines.next().unwrap().split(';').collect();
        let values: Vec<&str> = lines.last().unwrap().split(';').collect();
        let value = |name: &str| {
            let at =
                names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("no {name} in {names:?}"));
            values[at].parse().unwrap()
        };
        let screen =
            String::from_utf8_lossy(&fs::read(self.folder.path().join("screen.txt")).unwrap()).into_owned();
        let echoed = screen
            .lines()
            .filter_map(|line| line.trim_start().split_once(" Total echo RTP pckts 1st stream"))
            .filter_map(|(count, _)| count.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
            .next_back()
            .unwrap_or(0);
        SippFigures {
            created: value("TotalCallCreated"),
            successful: value("SuccessfulCall(C)"),
            failed: value("FailedCall(C)"),
            echoed,
        }
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A callload that was started.
pub(crate) struct Callload {
    pub(crate) child: Child,
    folder: TempDir,
}

impl Callload {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let child = Command::new(env!("CARGO_BIN_EXE_callload"))
            .args(arguments)
            .arg("--json")
            .arg(folder.path().join("report.json"))
            .stdout(Stdio::null())
            .spawn()
            .expect("callload starts");
        Self { child, folder }
    }

    /// Exit code and report.
    pub(crate) fn finish(mut self) -> (i32, Value) {
        let status = self.child.wait().expect("callload ends");
        let report =
            fs::read_to_string(self.folder.path().join("report.json")).expect("callload wrote a report");
        (status.code().expect("not killed"), serde_json::from_str(&report).expect("the report is JSON"))
    }
}

pub(crate) fn callload(arguments: &[&str]) -> (i32, Value) {
    Callload::start(arguments).finish()
}

/// One counter of a report.
pub(crate) fn count(report: &Value, name: &str) -> u64 {
    report["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {report}"))
}

/// One figure of a distribution in milliseconds.
pub(crate) fn ms(report: &Value, histogram: &str, figure: &str) -> f64 {
    report["histograms"][histogram][figure]
        .as_f64()
        .unwrap_or_else(|| panic!("no {histogram} {figure} in {report}"))
}

/// An even port with the next three free, outside the range that callload takes.
pub(crate) fn free_port() -> u16 {
    let start = 20_000 + (std::process::id() % 900) as u16 * 10;
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    for _ in 0..200 {
        let port = start + NEXT.fetch_add(4, std::sync::atomic::Ordering::Relaxed) % 9_000;
        if (port..port + 4).all(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
    panic!("no free port");
}

const SCENARIO: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<!DOCTYPE scenario SYSTEM "sipp.dtd">
<scenario name="answer and wait for BYE">
  <recv request="INVITE" rrs="true" crlf="true"/>
  <send><![CDATA[
SIP/2.0 180 Ringing
[last_Via:]
[last_From:]
[last_To:];tag=[pid]U[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port]>
Content-Length: 0

]]></send>
  <send retrans="500"><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[pid]U[call_number]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio SDP_PORT RTP/AVP 0 8 101
a=rtpmap:101 telephone-event/8000
a=ptime:20
]]></send>
  <recv request="ACK" crlf="true"/>
  <recv request="BYE"/>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port]>
Content-Length: 0

]]></send>
</scenario>
"#;
