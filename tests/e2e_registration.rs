//! Registered with a real SIP server, by the voice gateway's variables: its calls come to us.

mod support;

use std::time::Duration;

use support::audio::tone;
use support::kamailio;
use support::ng::Process;
use support::phone::Phone;
use support::ports::free_loopback_port;
use support::server::{Server, Setup};
use support::{program, within};

#[test]
fn calls_come_through_the_server_that_we_are_registered_with() {
    for algorithm in ["", "SHA-256"] {
        let Some(registrar) = Registrar::start(algorithm) else { return };
        let server = registrar.gateway("secret");
        assert!(within(Duration::from_secs(10), || state(&server) == "REGED"), "{}", server.log());
        let proxy = ([127, 0, 0, 1], registrar.port).into();
        let phone =
            Phone::dial(proxy, "bot").unwrap_or_else(|refusal| panic!("{refusal:?}\n{}", server.log()));
        phone.play(&tone(1000.0, 1000, 8000.0));
        assert!(within(Duration::from_secs(5), || phone.heard_count() > 30), "the echo is heard");
        assert_eq!(phone.hang_up(), Some(200));
        // At its end it is taken back, and the server knows nobody any more.
        server.signal("TERM");
        assert_eq!(server.wait(Duration::from_secs(10)), Some(0));
        let refused = Phone::dial(proxy, "bot").err().flatten();
        assert_eq!(refused.and_then(|response| response.status()), Some(404));
    }
}

#[test]
fn a_wrong_password_is_said_and_tried_again_and_a_server_that_comes_later_is_found() {
    let Some(registrar) = Registrar::start("") else { return };
    let server = registrar.gateway("wrong");
    assert!(within(Duration::from_secs(10), || state(&server) == "FAILED"), "{}", server.log());
    assert!(server.log().contains("check AUTH_USER and AUTH_PASSWORD"), "{}", server.log());
    assert!(!server.log().contains("wrong"), "the password is in the log");
    drop(registrar);

    let folder = tempfile::tempdir().expect("a folder");
    let port = free_loopback_port();
    let late = Registrar { folder, port, process: None };
    let server = late.gateway("secret");
    assert!(within(Duration::from_secs(5), || state(&server) != "UNREGED"));
    let _process = kamailio::start(late.folder.path(), "registrar.cfg", port, &values(""));
    assert!(within(Duration::from_secs(45), || state(&server) == "REGED"), "{}", server.log());
}

/// A SIP server that lets the user `bot` register.
struct Registrar {
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Process>,
}

impl Registrar {
    fn start(algorithm: &str) -> Option<Self> {
        if !program("kamailio") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_loopback_port();
        let process = Some(kamailio::start(folder.path(), "registrar.cfg", port, &values(algorithm)));
        Some(Self { folder, port, process })
    }

    fn gateway(&self, password: &str) -> Server {
        let mut setup = Setup::new("[[routes]]\nmatch = \"bot\"\napp = \"echo\"\n");
        for (name, value) in [
            ("REGISTER_WITH_SIP_SERVER", "true"),
            ("SIP_SERVER", "127.0.0.1"),
            ("SIP_PORT", &self.port.to_string()),
            ("SIP_USER", "bot"),
            ("AUTH_REALM", "example.com"),
            ("AUTH_PASSWORD", password),
            ("DISPLAY_NAME", "The Bot"),
        ] {
            setup.environment.push((name.to_owned(), value.to_owned()));
        }
        let _ = &self.process;
        Server::start(&setup)
    }
}

fn values(algorithm: &str) -> [(&'static str, String); 3] {
    [("REALM", "example.com".into()), ("PASSWORD", "secret".into()), ("ALGORITHM", algorithm.into())]
}

fn state(server: &Server) -> &'static str {
    let states = ["UNREGED", "TRYING", "REGED", "FAILED", "FAIL_WAIT", "EXPIRED"];
    let is =
        |state: &&str| server.metric("sidetone_sip_registration", &format!("state=\"{state}\"")) == Some(1.0);
    states.into_iter().find(is).unwrap_or("none")
}
