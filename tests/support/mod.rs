//! What the end-to-end tests share: our binary as a child process, real peers, a small phone, audio tools.
#![allow(dead_code, reason = "every test file uses its own part")]

pub(crate) mod agent;
pub(crate) mod audio;
pub(crate) mod baresip;
pub(crate) mod bystander;
pub(crate) mod kamailio;
pub(crate) mod ng;
pub(crate) mod pcap;
pub(crate) mod phone;
pub(crate) mod pipecat;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod rtp;
pub(crate) mod server;
pub(crate) mod sip;
pub(crate) mod sipp;
pub(crate) mod vendors;
pub(crate) mod wav;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whether a program or capability is there. If not, the test is skipped by name, or fails where the
/// runner asked for all peers (`SIDETONE_REQUIRE_PEERS`).
pub(crate) fn present(what: &str, is_there: bool) -> bool {
    if is_there {
        return true;
    }
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("SIDETONE_REQUIRE_PEERS").is_none(), "{what} is missing; run `make setup`");
    // Not eprintln!: the harness would keep it from the reader.
    let line = format!("{name}: {what} is missing\n");
    let _ = write!(std::io::stderr(), "SKIPPED {line}");
    if let Some(file) = std::env::var_os("SIDETONE_SKIP_FILE") {
        let mut file =
            std::fs::OpenOptions::new().append(true).create(true).open(file).expect("the skip file");
        file.write_all(line.as_bytes()).expect("the skip file takes a line");
    }
    false
}

/// Whether a program is in the path.
pub(crate) fn program(name: &str) -> bool {
    let is_there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    present(name, is_there)
}

/// Polls `condition` until it holds; false after `limit`.
pub(crate) fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A file of the tests folder.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}
