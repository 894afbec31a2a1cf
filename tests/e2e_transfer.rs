//! Blind transfers by REFER (RFC 3515), asked for by a bot through the calls resource: SIPp and baresip are transferred.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use support::agent::Agent;
use support::baresip::{Baresip, speech};
use support::server::{Server, Setup};
use support::sipp::Scenario;
use support::{program, within};

#[test]
fn a_transferee_that_tells_its_progress_is_left_when_the_target_has_answered() {
    let Some(bot) = Bot::start("refer_accepted", "sip:desk@192.0.2.7") else { return };
    bot.transfers("refer_accepted");
    assert_eq!(bot.refers(), (1.0, 1.0, 0.0));
}

#[test]
fn a_target_that_is_busy_leaves_the_caller_with_the_bot() {
    let Some(bot) = Bot::start("refer_failed", "sip:desk@192.0.2.7") else { return };
    bot.transfers("refer_failed");
    assert_eq!(bot.refers(), (1.0, 0.0, 1.0));
    assert!(bot.server.log().contains("486"), "{}", bot.server.log());
}

#[test]
fn a_transferee_that_refuses_keeps_its_call() {
    let Some(bot) = Bot::start("refer_refused", "sip:desk@192.0.2.7") else { return };
    bot.transfers("refer_refused");
    assert_eq!(bot.refers(), (1.0, 0.0, 1.0));
    assert!(bot.server.log().contains("603"), "{}", bot.server.log());
}

#[test]
fn a_transferee_that_never_answers_is_given_up() {
    let Some(bot) = Bot::start("refer_unanswered", "sip:desk@192.0.2.7") else { return };
    bot.transfers("refer_unanswered");
    let (sent, succeeded, failed) = bot.refers();
    assert_eq!((sent, succeeded, failed), (1.0, 0.0, 1.0));
}

#[test]
fn baresip_is_transferred_to_another_baresip() {
    if !program("baresip") {
        return;
    }
    let voice: Vec<i16> = speech().repeat(4);
    let desk = Baresip::answer(&voice);
    let bot = Bot::with("bot", &desk.uri());
    let caller = Baresip::call(bot.server.sip, "bot", &voice, "");
    bot.dials_the_desk();
    assert!(within(SOON, || desk.log().contains("Call established")), "{}\n{}", desk.log(), caller.log());
    assert!(within(SOON, || bot.refers() == (1.0, 1.0, 0.0)), "{}\n{}", bot.server.log(), caller.log());
    assert!(within(SOON, || bot.server.calls().is_empty()), "we have left");
}

/// A server and a bot that knows a desk to transfer calls to.
struct Bot {
    agent: Agent,
    server: Server,
}

impl Bot {
    fn start(user: &str, desk: &str) -> Option<Self> {
        program("sipp").then(|| Self::with(user, desk))
    }

    fn with(user: &str, desk: &str) -> Self {
        let agent = Agent::start(|call| {
            call.start();
            call.listen(|_, _| {});
        });
        let mut setup = Setup::new(&format!(
            "[sip]\nt1 = \"100ms\"\n[agents.bot]\nurl = \"{}\"\naccount_sid = \"{ACCOUNT}\"\nsigning_token_env = \"BOT_TOKEN\"\n\
             transfers = {{ desk = \"{desk}\" }}\n[[routes]]\nmatch = \"{user}\"\napp = \"agent\"\nagent = \"bot\"\n",
            agent.url()
        ));
        setup.environment.push(("BOT_TOKEN".to_owned(), TOKEN.to_owned()));
        Self { agent, server: Server::start(&setup) }
    }

    /// Asks for the transfer as soon as there is a call.
    fn dials_the_desk(&self) {
        assert!(within(SOON, || !self.agent.events("start").is_empty()), "start comes");
        let sid = self.agent.events("start")[0].1["start"]["callSid"].as_str().expect("a SID").to_owned();
        // A moment into the call.
        std::thread::sleep(Duration::from_millis(500));
        let body = "Twiml=%3CResponse%3E%3CDial%3Edesk%3C%2FDial%3E%3C%2FResponse%3E";
        let password = base64::engine::general_purpose::STANDARD.encode(format!("{ACCOUNT}:{TOKEN}"));
        let mut stream = TcpStream::connect(self.server.http).expect("the API");
        write!(
            stream,
            "POST /2010-04-01/Accounts/{ACCOUNT}/Calls/{sid}.json HTTP/1.0\r\nHost: {}\r\nAuthorization: Basic {password}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.server.http,
            body.len()
        )
        .expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.split(' ').nth(1) == Some("200"), "{answer}");
    }

    /// Runs a scenario, in which the call is transferred; SIPp judges what it sees.
    fn transfers(&self, scenario: &str) {
        std::thread::scope(|scope| {
            let sipp = scope.spawn(|| Scenario::new(scenario, self.server.sip).user(scenario).passes());
            self.dials_the_desk();
            sipp.join().unwrap_or_else(|_| panic!("{scenario}: {}", self.server.log()));
        });
    }

    /// REFERs sent, succeeded, failed.
    fn refers(&self) -> (f64, f64, f64) {
        let count =
            |what| self.server.metric(&format!("sidetone_sip_refers_{what}_total"), "").expect("a counter");
        (count("sent"), count("succeeded"), count("failed"))
    }
}

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const TOKEN: &str = "0123456789abcdef";
const SOON: Duration = Duration::from_secs(15);
