//! One registration's rules: no socket, no clock.

use std::time::{Duration, Instant};

use super::{Account, RegistrationState};
use crate::sip::address::InvalidAddress;
use crate::sip::digest::Challenge;
use crate::sip::message::{Message, NameAddr, Uri, bracketed, decimal, one_line};
use crate::sip::target::{Target, transport_param};

/// Says what to send and when, and what the answers mean.
#[derive(Debug)]
pub(super) struct Machine {
    account: Account,
    /// `sip:host[:port]`, the Request-URI.
    server: String,
    call_id: String,
    local_tag: String,
    cseq: u32,
    challenge: Option<Challenge>,
    /// Requests answered with the challenge's nonce.
    nonce_count: u32,
    /// Whether the password was sent and has not been accepted yet.
    unproven: bool,
    expires: Duration,
    failures: u32,
    pub(super) state: RegistrationState,
    pub(super) cause: Option<String>,
    pub(super) granted: Option<Duration>,
    pub(super) service_route: Vec<String>,
    /// Until when the server's last yes holds.
    holds_until: Option<Instant>,
    next: Instant,
}

/// What [`Machine::handle_response`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Another request at once.
    Send,
    /// Nothing until [`Machine::next`].
    Wait,
}

impl Machine {
    pub(super) fn new(account: Account, now: Instant, call_id: String, local_tag: String) -> Self {
        let port = account.port.map(|port| format!(":{port}")).unwrap_or_default();
        let transport = transport_param(account.transport);
        Self {
            server: format!("sip:{}{port}{transport}", bracketed(&account.server)),
            expires: account.expires.clamp(SHORTEST, LONGEST),
            account,
            call_id,
            local_tag,
            cseq: 0,
            challenge: None,
            nonce_count: 0,
            unproven: false,
            failures: 0,
            state: RegistrationState::Unregistered,
            cause: None,
            granted: None,
            service_route: Vec::new(),
            holds_until: None,
            next: now,
        }
    }

    /// When to send the next request.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Where it goes.
    pub(super) fn target(&self) -> Result<Target, InvalidAddress> {
        let Account { server, port, transport, outbound_proxy, .. } = &self.account;
        let target = Target::new(server, *port, *transport)?;
        match outbound_proxy {
            Some(proxy) => target.with_outbound_proxy(proxy),
            None => Ok(target),
        }
    }

    /// The connection to the server is gone, and with it the way for calls to us.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next = self.next.min(now + FIRST_PAUSE);
    }

    pub(super) fn contact_user(&self) -> &str {
        self.account.contact_user.as_deref().unwrap_or(&self.account.user)
    }

    /// A REGISTER, complete but for Via and Contact. `cnonce` is a fresh random word.
    pub(super) fn request(&mut self, cnonce: &str) -> Message {
        if self.state != RegistrationState::Registered {
            self.state = RegistrationState::Trying;
        }
        self.register(self.expires, cnonce)
    }

    /// The REGISTER that takes the registration back, if there is one.
    pub(super) fn goodbye(&mut self, cnonce: &str) -> Option<Message> {
        self.granted?;
        self.state = RegistrationState::Unregistered;
        Some(self.register(Duration::ZERO, cnonce))
    }

    fn register(&mut self, expires: Duration, cnonce: &str) -> Message {
        self.cseq += 1;
        let mut request = Message::request("REGISTER", &self.server);
        for route in self.target().iter().flat_map(|target| target.routes()) {
            request.push("Route", route);
        }
        let host = bracketed(&self.account.server);
        let host = self.account.domain.as_deref().map_or(host, bracketed);
        // The address of record has no port (RFC 3261 10.2).
        let record = format!("<sip:{}@{host}>", self.account.user);
        let display = self.account.display_name.as_deref().map(display).unwrap_or_default();
        request.push("Max-Forwards", "70");
        request.push("From", format!("{display}{record};tag={}", self.local_tag));
        request.push("To", format!("{display}{record}"));
        request.push("Call-ID", &self.call_id);
        request.push("CSeq", format!("{} REGISTER", self.cseq));
        request.push("Expires", expires.as_secs().to_string());
        // RFC 3327 5.1: whoever is on the way to us may stay there.
        request.push("Supported", "path");
        if let (Some(challenge), Some(credentials)) = (&self.challenge, &self.account.credentials) {
            self.nonce_count += 1;
            let (name, value) =
                challenge.answer(credentials, "REGISTER", &self.server, self.nonce_count, cnonce);
            request.push(name, value);
        }
        request
    }

    /// Reads a final response. `spread`, 0 to 1, keeps many accounts from asking all at once.
    pub(super) fn handle_response(
        &mut self,
        now: Instant,
        response: &Message,
        contact: &str,
        spread: f64,
    ) -> Then {
        match response.status() {
            200..300 => {
                self.registered(now, response, contact, spread);
                Then::Wait
            }
            401 | 407 => self.challenged(now, response, spread),
            423 => {
                // RFC 3261 10.2.8.
                let least = response.header("Min-Expires").and_then(decimal).map(Duration::from_secs);
                match least.filter(|least| *least > self.expires && *least <= LONGEST) {
                    Some(least) => {
                        self.expires = least;
                        Then::Send
                    }
                    None => self.failed(now, response, None, spread),
                }
            }
            _ => self.failed(now, response, None, spread),
        }
    }

    /// There is no way to the server.
    pub(super) fn unreachable(&mut self, now: Instant, spread: f64) {
        let cause =
            format!("{} cannot be reached; is the name right, and the server up?", self.account.server);
        self.fail(now, cause, None, spread);
    }

    fn registered(&mut self, now: Instant, response: &Message, contact: &str, spread: f64) {
        let granted = granted(response, contact).unwrap_or(self.expires).min(LONGEST);
        if granted.is_zero() {
            self.fail(now, "the server's yes holds for 0 s".to_owned(), None, spread);
            return;
        }
        self.state = RegistrationState::Registered;
        (self.cause, self.failures, self.unproven) = (None, 0, false);
        let routes = response.list("Service-Route").filter(|route| NameAddr::parse(route).is_some());
        self.service_route = routes.take(MOST_ROUTES).map(str::to_owned).collect();
        self.granted = Some(granted);
        self.holds_until = Some(now + granted);
        // Early enough for some repetitions of a lost request, at 64 * T1 = 32 s the whole of them.
        let margin = (granted / 10).max(Duration::from_secs(32)).min(granted / 2);
        self.next = now + (granted - margin).mul_f64(1.0 - 0.1 * spread);
    }

    fn challenged(&mut self, now: Instant, response: &Message, spread: f64) -> Then {
        let Some(challenge) = Challenge::of(response) else {
            return self.failed(
                now,
                response,
                Some("asks in a way that is not understood".to_owned()),
                spread,
            );
        };
        let Some(credentials) = &self.account.credentials else {
            let cause = "asks for a password and none is configured; set AUTH_PASSWORD".to_owned();
            return self.failed(now, response, Some(cause), spread);
        };
        if let Some(realm) = credentials.realm.as_ref().filter(|realm| **realm != challenge.realm) {
            let cause = format!(
                "asks for realm \"{}\", the configured one is \"{realm}\"; set AUTH_REALM",
                one_line(&challenge.realm)
            );
            return self.failed(now, response, Some(cause), spread);
        }
        // A second no to the same password is final, unless only the nonce was too old.
        if self.unproven && !challenge.stale {
            self.challenge = None;
            let cause = "did not accept the password; check AUTH_USER and AUTH_PASSWORD".to_owned();
            return self.failed(now, response, Some(cause), spread);
        }
        self.unproven = true;
        self.challenge = Some(challenge);
        self.nonce_count = 0;
        Then::Send
    }

    fn failed(&mut self, now: Instant, response: &Message, cause: Option<String>, spread: f64) -> Then {
        let cause = cause.map_or_else(
            || format!("{} {}", response.status(), one_line(response.reason())),
            |cause| format!("{} {cause}", self.account.server),
        );
        let asked =
            response.header("Retry-After").and_then(|value| decimal(value.split([';', '(', ' ']).next()?));
        // RFC 3261 21.4.4: the same request will not do better. A password may be mended at the server, though.
        let hopeless = matches!(response.status(), 401 | 403 | 404 | 407);
        self.fail(now, cause, asked.map(Duration::from_secs), spread);
        if hopeless && self.holds_until.is_none() {
            self.state = RegistrationState::Failed;
            self.next = self.next.max(now + HOPELESS_PAUSE.mul_f64(1.0 + 0.5 * spread));
        }
        Then::Wait
    }

    fn fail(&mut self, now: Instant, cause: String, asked: Option<Duration>, spread: f64) {
        self.unproven = false;
        let still = self.holds_until.is_some_and(|until| until > now);
        if !still {
            self.state = match self.holds_until.take() {
                Some(_) => RegistrationState::Expired,
                None => RegistrationState::FailWait,
            };
            self.granted = None;
        }
        self.cause = Some(cause);
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let pause = asked.map_or(pause, |asked| asked.clamp(FIRST_PAUSE, LONGEST_PAUSE));
        self.next = now + pause.mul_f64(1.0 + 0.5 * spread);
    }
}

/// How long the server lets `contact` hold (RFC 3261 10.2.4).
fn granted(response: &Message, contact: &str) -> Option<Duration> {
    let ours = NameAddr::parse(contact).and_then(|contact| Uri::parse(&contact.uri))?;
    let same = |uri: &Uri| {
        uri.user == ours.user && uri.host.eq_ignore_ascii_case(&ours.host) && uri.port == ours.port
    };
    let bindings: Vec<NameAddr> = response.list("Contact").filter_map(NameAddr::parse).collect();
    let found = bindings.iter().find(|binding| Uri::parse(&binding.uri).is_some_and(|uri| same(&uri)));
    // A server may have written our address as it sees it.
    let binding = found.or_else(|| bindings.first().filter(|_| bindings.len() == 1));
    let of_binding = binding.and_then(|binding| {
        let (_, value) = binding.params.iter().find(|(name, _)| name.eq_ignore_ascii_case("expires"))?;
        decimal(value.as_deref()?)
    });
    of_binding.or_else(|| response.header("Expires").and_then(decimal)).map(Duration::from_secs)
}

/// A display name in front of an address.
fn display(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\" ", name.replace('\\', "\\\\").replace('"', "\\\""))
}

const SHORTEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(86_400);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Before a server that has said no for good is asked again.
const HOPELESS_PAUSE: Duration = Duration::from_secs(120);
const MOST_ROUTES: usize = 8;

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
