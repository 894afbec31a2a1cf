//! A PostgreSQL server of a test's own, in a temporary folder on a unix socket. It needs nothing but its programs,
//! and ends, folder and all, with the process that started it, however that ends. The tests of `signaling` use this file, too.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A running server.
#[derive(Debug)]
pub(crate) struct Postgres {
    folder: PathBuf,
    /// While it is open the server runs.
    _life: ChildStdin,
    child: Child,
}

impl Postgres {
    /// Whether its programs are here.
    pub(crate) fn is_here() -> bool {
        programs().is_some()
    }

    /// Starts one; `durable` ones write to the disk what they say is committed, and are slower.
    pub(crate) fn start(durable: bool) -> Self {
        let programs = programs().expect("PostgreSQL's programs");
        let settings = if durable { "" } else { "-c fsync=off" };
        // `read` returns when the other end is closed, also by kill -9.
        let script = r#"
            set -e
            folder=$(mktemp -d /tmp/sidetone-postgres.XXXXXX)
            trap 'rm -rf "$folder"' EXIT
            "$1/initdb" -D "$folder/data" -U sidetone -A trust -E UTF8 --locale=C --no-sync >"$folder/log" 2>&1
            "$1/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c max_connections=200 $2 >>"$folder/log" 2>&1 &
            server=$!
            for try in $(seq 600); do
                grep -q 'ready to accept connections' "$folder/log" && break
                kill -0 $server 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
                sleep 0.05
            done
            echo "$folder"
            set +e
            read -r _
            kill -INT $server
            wait $server
        "#;
        let mut command = if is_root() {
            // The server refuses to run as root.
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "sh", "-c"]);
            command
        } else {
            let mut command = Command::new("sh");
            command.arg("-c");
            command
        };
        let mut child = command
            .args([script, "sh"])
            .arg(programs)
            .arg(settings)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let life = child.stdin.take().expect("piped");
        let mut folder = String::new();
        let said = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut folder);
        assert!(said.is_ok() && !folder.is_empty(), "PostgreSQL does not start");
        Self { folder: folder.trim().into(), _life: life, child }
    }

    /// Where its database `name` is; `postgres` is there from the start.
    pub(crate) fn url(&self, name: &str) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://sidetone@{host}/{name}")
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its standard input is closed by now or never; a server that is left ends with this process.
        let _ = self.child.try_wait();
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The folder with the newest server that is here.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.insert(0, "/usr/local/bin".into());
    folders
        .into_iter()
        .rev()
        .find(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file())
}
