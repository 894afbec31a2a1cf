//! The calls resource as bots made for Twilio use it: by Twilio's own library, on real calls.

mod support;

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::agent::Agent;
use support::phone::Phone;
use support::server::{Server, Setup};
use support::vendors::python;
use support::{fixture, within};

#[test]
fn twilios_library_sees_a_call_and_ends_it() {
    let Some(bot) = Bot::start() else { return };
    for action in ["complete", "hang_up"] {
        let (phone, sid) = bot.call();
        let seen = bot.does(TOKEN, &sid, &["fetch"]);
        assert_eq!(seen["sid"], sid.as_str(), "{seen}");
        assert_eq!((&seen["account"], &seen["status"]), (&json!(ACCOUNT), &json!("in-progress")), "{seen}");
        assert_eq!(seen["direction"], "inbound", "{seen}");
        assert!(seen["start"].as_str().is_some_and(|time| time.starts_with("20")), "{seen}");
        assert!(phone.ended().is_none(), "looking at a call does not end it");
        let updated = bot.does(TOKEN, &sid, &[action]);
        assert_eq!(updated["sid"], sid.as_str(), "{action}: {updated}");
        assert!(within(SOON, || phone.ended().is_some()), "{action}: BYE comes\n{}", bot.server.log());
        let gone = || bot.does(TOKEN, &sid, &["fetch"])["error"] == 404;
        assert!(within(SOON, gone), "{action}: the call is gone");
    }
}

#[test]
fn twilios_library_is_refused_with_its_own_error() {
    let Some(bot) = Bot::start() else { return };
    let (phone, sid) = bot.call();
    let wrong = bot.does("a-wrong-token", &sid, &["complete"]);
    assert_eq!(wrong["error"], 401, "{wrong}");
    let nobody = bot.does(TOKEN, "CA00000000000000000000000000000000", &["complete"]);
    assert_eq!(nobody["error"], 404, "{nobody}");
    // The agent has no transfers.
    let transfer = bot.does(TOKEN, &sid, &["transfer", "+4930123"]);
    assert!(transfer["error"].as_u64().is_some_and(|status| (400..500).contains(&status)), "{transfer}");
    assert!(transfer["message"].as_str().is_some_and(|text| text.len() > 10), "{transfer}");
    assert!(phone.ended().is_none(), "nothing of it touched the call");
    assert_eq!(phone.hang_up(), Some(200));
}

/// A bot whose calls can be reached by the calls resource.
struct Bot {
    agent: Agent,
    server: Server,
    python: std::path::PathBuf,
}

impl Bot {
    fn start() -> Option<Self> {
        let python = python()?;
        let agent = Agent::start(|call| {
            call.start();
            call.listen(|_, _| {});
        });
        let mut setup = Setup::new(&format!(
            "[agents.bot]\nurl = \"{}\"\naccount_sid = \"{ACCOUNT}\"\nsigning_token_env = \"BOT_TOKEN\"\n\
             [[routes]]\nmatch = \"bot\"\napp = \"agent\"\nagent = \"bot\"\n",
            agent.url()
        ));
        setup.environment.push(("BOT_TOKEN".to_owned(), TOKEN.to_owned()));
        Some(Self { agent, server: Server::start(&setup), python })
    }

    /// A call, and what the bot knows it by.
    fn call(&self) -> (Phone, String) {
        let before = self.agent.events("start").len();
        let phone = Phone::dial(self.server.sip, "bot").expect("the call is answered");
        assert!(within(SOON, || self.agent.events("start").len() > before), "start comes");
        let start = &self.agent.events("start")[before].1;
        (phone, start["start"]["callSid"].as_str().expect("a call SID").to_owned())
    }

    /// What the library says to it.
    fn does(&self, token: &str, sid: &str, action: &[&str]) -> Value {
        let output = Command::new(&self.python)
            .arg(fixture("vendors/twilio_calls.py"))
            .arg(format!("http://{}", self.server.http))
            .args([ACCOUNT, token, sid])
            .args(action)
            .output()
            .expect("python starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{action:?}: {text}{errors}"))
    }
}

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const TOKEN: &str = "0123456789abcdef";
const SOON: Duration = Duration::from_secs(15);
