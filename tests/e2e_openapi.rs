//! schemathesis against our OpenAPI document and the real binary: requests good and bad, no 5xx, no answer that the document
//! does not have. `SIDETONE_OPENAPI_SECONDS` makes it longer, with another seed each time.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::server::{Server, Setup, binary};
use support::{postgres, present};

const SECRET: &str = "a secret of the tests, 32 bytes at least";

#[test]
fn answers_are_as_the_document_says_with_sqlite() {
    let Some(schemathesis) = schemathesis() else { return };
    run(&schemathesis, Vec::new());
}

#[test]
fn answers_are_as_the_document_says_with_postgresql() {
    let Some(schemathesis) = schemathesis() else { return };
    if !present("postgres", postgres::Postgres::is_here()) {
        return;
    }
    let database = postgres::Postgres::start(false);
    run(&schemathesis, vec![("SIDETONE_STORE_URL".to_owned(), database.url("postgres"))]);
}

/// The program; `None` when it is not installed (a visible skip).
fn schemathesis() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-api/bin/schemathesis");
    present("schemathesis in .venv-api", program.is_file()).then_some(program)
}

fn run(schemathesis: &Path, mut environment: Vec<(String, String)>) {
    environment.push(("JWT_SECRET".to_owned(), SECRET.to_owned()));
    let mut setup = Setup::new("[access]\njwt_secret_env = \"JWT_SECRET\"\n");
    setup.environment = environment;
    let server = Server::start(&setup);
    let asked_for = std::env::var("SIDETONE_OPENAPI_SECONDS").ok();
    let mut command = Command::new(schemathesis);
    command
        .args(["run", &format!("http://{}/openapi.json", server.http)])
        .arg("--header")
        .arg(format!("Authorization: Bearer {}", token(&server)))
        // Else half of the requests would only be about tenants that are not there.
        .args(["--header", "X-Tenant: default"])
        .args(["--max-time", asked_for.as_deref().unwrap_or("25"), "--request-timeout", "15"])
        // What goes well with the schema may still not go with what is there, such as a trunk that nobody has made.
        // Bad tokens get 429 after some; that every path asks for one is a test of its own. A creation that is sent again with its
        // Idempotency-Key gets the first answer, though what it made may be gone by now.
        .args(["--checks", "all", "--exclude-checks"])
        .arg("positive_data_acceptance,ignored_auth,ensure_resource_availability")
        .args(["--continue-on-failure", "--output-sanitize", "false", "--warnings", "off"])
        .current_dir(server.folder());
    if asked_for.is_none() {
        command.args(["--seed", "1"]);
    }
    let output = command.output().expect("schemathesis starts");
    let report = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}\n{}", failures(&server.log()));
    let tested = report.lines().find_map(|line| line.trim().strip_suffix(" passed"));
    println!("{}", report.lines().filter(|line| line.contains("generated")).collect::<String>());
    assert!(report.contains("generated") || tested.is_some(), "nothing was tested:\n{report}");
    let log = server.log();
    assert_eq!(failures(&log), "", "the log tells of faults of ours");
    assert_eq!(server.get("/readyz").map(|(status, _)| status), Some(200));
}

/// Lines of the log about faults of our own.
fn failures(log: &str) -> String {
    let ours = |line: &&str| line.contains("a request of the API failed") || line.contains("panicked");
    log.lines().filter(ours).take(20).collect::<Vec<_>>().join("\n")
}

/// An admin's, by the command line. No API key: what it tries could revoke that.
fn token(server: &Server) -> String {
    let output = Command::new(binary())
        .args(["token", "--jwt", "schemathesis", "--hours", "24", "--config"])
        .arg(server.folder().join("sidetone.toml"))
        .env("JWT_SECRET", SECRET)
        .output()
        .expect("the binary starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
