//! The AI vendors' SDKs and fakes of the vendors: `tests/vendors`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{fixture, present};

/// The Python with the SDKs; `None` when it is not installed (a visible skip).
pub(crate) fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-vendors/bin/python");
    present("the vendors' SDKs in .venv-vendors", python.is_file()).then_some(python)
}

/// A message for [`validate`], and whether it must be refused.
pub(crate) fn case(vendor: &str, message: &str, refuse: bool) -> Value {
    let message: Value = serde_json::from_str(message).expect("JSON");
    json!({ "vendor": vendor, "message": message, "refuse": refuse })
}

/// Has a script of tests/vendors hold messages against the SDKs' types; does nothing, visibly, without the SDKs.
pub(crate) fn validate(script: &str, cases: &[Value]) {
    let Some(python) = python() else { return };
    let mut child = Command::new(python)
        .arg(fixture(&format!("vendors/{script}")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut stdin = child.stdin.take().expect("piped");
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let answers: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(&line.expect("a line")).expect("an answer")).collect();
    let _ = writer.join();
    assert!(child.wait().expect("it ends").success());
    assert_eq!(answers.len(), cases.len(), "one answer each");
    for (case, answer) in cases.iter().zip(&answers) {
        assert_eq!(answer["ok"], true, "{case}\n{answer}");
    }
}

/// Running fakes of OpenAI Realtime and Azure Voice Live.
pub(crate) struct Fakes {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Fakes {
    /// Starts them; `None` when the SDKs are not installed (a visible skip).
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("token"), "secret\n").expect("a file");
        let output = std::fs::File::create(folder.path().join("output")).expect("a file");
        let mut child = Command::new(python()?)
            .arg(fixture("vendors/fake.py"))
            .arg("--log")
            .arg(folder.path().join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(output)
            .spawn()
            .expect("python starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("the fakes say their port");
        let port = line.trim().parse().unwrap_or_default();
        let fakes = Self { child, folder, port };
        assert!(port > 0, "the fakes did not start:\n{}", fakes.output());
        Some(fakes)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// A file with a credential that they admit.
    pub(crate) fn token_path(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    pub(crate) fn openai(&self, query: &str) -> String {
        format!("ws://127.0.0.1:{}/v1/realtime?{query}", self.port)
    }

    pub(crate) fn voice_live(&self, query: &str) -> String {
        format!("ws://127.0.0.1:{}/voice-live/realtime?{query}", self.port)
    }

    /// What they saw and said so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Messages of a type, `in` from us or `out` from them.
    pub(crate) fn messages(&self, direction: &str, kind: &str) -> Vec<Value> {
        let log = self.log().into_iter();
        let mut log: Vec<Value> =
            log.filter(|entry| entry["dir"] == direction && entry["msg"]["type"] == kind).collect();
        log.iter_mut().map(|entry| entry["msg"].take()).collect()
    }

    /// Everything that we should not have sent.
    pub(crate) fn faults(&self) -> Vec<Value> {
        self.log().into_iter().filter(|entry| entry["fault"].is_string()).collect()
    }

    /// The audio sent as an item, as it went over the wire.
    pub(crate) fn item(&self, id: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(format!("log.{id}.bot"))).unwrap_or_default()
    }

    /// The caller's audio as it came on a connection, the first of which is 1.
    pub(crate) fn caller(&self, connection: u32) -> Vec<u8> {
        std::fs::read(self.folder.path().join(format!("log.{connection}.caller"))).unwrap_or_default()
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Fakes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("-- the fakes:\n{}", self.output());
            for entry in self.log() {
                if entry["msg"]["delta"].is_null() {
                    eprintln!("{entry}");
                }
            }
        }
    }
}
