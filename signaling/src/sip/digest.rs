//! Digest authentication (RFC 7616, in SIP: RFC 3261 22.4 and RFC 8760), as the one who is asked.

use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::message::{Message, split_quoted, unquote};

/// What somebody proves who they are with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name for authentication.
    pub user: String,
    /// The password.
    pub password: String,
    /// The only realm that gets an answer; any, if `None`.
    pub realm: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// A question that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) realm: String,
    pub(super) nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// As it was written, to be repeated.
    algorithm_name: Option<String>,
    has_qop: bool,
    /// The answer was right, the nonce too old.
    pub(super) stale: bool,
    /// A proxy asks (407).
    proxy: bool,
}

/// Why a challenge cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unanswerable {
    /// No digest that we know, or more questions than anybody asks.
    NotUnderstood,
    /// We have no password.
    NoCredentials,
    /// The password is for another realm than this one.
    OtherRealm(String),
    /// The answer was wrong.
    Refused,
}

impl Unanswerable {
    /// For people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::NotUnderstood => "asks for a proof in a way that is not understood".to_owned(),
            Self::NoCredentials => "asks for a password and there is none".to_owned(),
            Self::OtherRealm(realm) => {
                format!(
                    "asks for realm \"{}\", which the password is not for",
                    super::message::one_line(realm)
                )
            }
            Self::Refused => "did not accept the password".to_owned(),
        }
    }
}

/// What was asked of one of our calls so far, by servers and proxies, and our answers.
#[derive(Debug)]
pub(super) struct Authorization {
    credentials: Option<Credentials>,
    questions: Vec<Question>,
}

#[derive(Debug)]
struct Question {
    challenge: Challenge,
    /// Requests that were answered with its nonce.
    count: u32,
}

impl Authorization {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, questions: Vec::new() }
    }

    /// Takes the question of a 401 or 407 to `request`. The same realm may ask again only for a nonce that was too old.
    pub(super) fn handle_challenge(
        &mut self,
        request: &Message,
        response: &Message,
    ) -> Result<(), Unanswerable> {
        let challenge = Challenge::of(response).ok_or(Unanswerable::NotUnderstood)?;
        let credentials = self.credentials.as_ref().ok_or(Unanswerable::NoCredentials)?;
        if credentials.realm.as_ref().is_some_and(|realm| *realm != challenge.realm) {
            return Err(Unanswerable::OtherRealm(challenge.realm));
        }
        let same = |question: &&mut Question| {
            question.challenge.realm == challenge.realm && question.challenge.proxy == challenge.proxy
        };
        let room = self.questions.len() < MOST_QUESTIONS;
        match self.questions.iter_mut().find(same) {
            Some(question) => {
                // An answer of an earlier request may be too old for the server without its saying so.
                let tried = request.header(challenge.field()).is_some_and(|value| {
                    value.contains(&format!("nonce={}", quoted(&question.challenge.nonce)))
                });
                if tried && (!challenge.stale || question.challenge.nonce == challenge.nonce) {
                    return Err(Unanswerable::Refused);
                }
                *question = Question { challenge, count: 0 };
            }
            None if !room => return Err(Unanswerable::NotUnderstood),
            None => self.questions.push(Question { challenge, count: 0 }),
        }
        Ok(())
    }

    /// Answers all that was asked. `cnonce` is a fresh random word.
    pub(super) fn authorize(&mut self, request: &mut Message, cnonce: &str) {
        let Some(credentials) = &self.credentials else { return };
        request
            .headers
            .retain(|field| !["Authorization", "Proxy-Authorization"].contains(&field.name.as_str()));
        for question in &mut self.questions {
            question.count = question.count.saturating_add(1);
            let (name, value) = question.challenge.answer(
                credentials,
                request.method(),
                request.uri(),
                question.count,
                cnonce,
            );
            request.push(name, value);
        }
    }
}

/// Proxies on the way, each with a realm of its own, and the server.
const MOST_QUESTIONS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    Md5,
    Md5Sess,
    Sha256,
    Sha256Sess,
}

impl Challenge {
    /// The strongest question of a 401 or 407 that we understand.
    pub(super) fn of(response: &Message) -> Option<Self> {
        let (name, proxy) = match response.status() {
            401 => ("WWW-Authenticate", false),
            407 => ("Proxy-Authenticate", true),
            _ => return None,
        };
        let challenges = response.values(name).filter_map(|value| Self::parse(value, proxy));
        // The first of equals (RFC 8760 section 2.4): max_by_key would take the last.
        challenges.reduce(|best, next| if next.algorithm > best.algorithm { next } else { best })
    }

    fn parse(value: &str, proxy: bool) -> Option<Self> {
        let (scheme, parameters) = value.trim().split_once(char::is_whitespace)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let (mut realm, mut nonce, mut opaque, mut algorithm_name, mut qop, mut stale) =
            (None, None, None, None, None, false);
        for parameter in split_quoted(parameters, ',') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let value = value.trim();
            let value = unquote(value).unwrap_or_else(|| value.to_owned());
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "nonce" => nonce = Some(value),
                "opaque" => opaque = Some(value),
                "algorithm" => algorithm_name = Some(value),
                "qop" => qop = Some(value),
                "stale" => stale = value.eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        let algorithm = algorithm_name.as_deref().map_or(Some(Algorithm::Md5), Algorithm::named)?;
        let has_auth = |qop: &String| qop.split(',').any(|word| word.trim().eq_ignore_ascii_case("auth"));
        // Integrity of the body alone is not what we do.
        if qop.as_ref().is_some_and(|qop| !has_auth(qop)) {
            return None;
        }
        let has_qop = qop.is_some();
        Some(Self { realm: realm?, nonce: nonce?, opaque, algorithm, algorithm_name, has_qop, stale, proxy })
    }

    /// The header field that answers it for the `count`th request with this nonce.
    pub(super) fn answer(
        &self,
        credentials: &Credentials,
        method: &str,
        uri: &str,
        count: u32,
        cnonce: &str,
    ) -> (&'static str, String) {
        let Self { realm, nonce, .. } = self;
        let hash = |text: String| self.algorithm.hash(&text);
        let mut secret = hash(format!("{}:{realm}:{}", credentials.user, credentials.password));
        if self.algorithm.is_session() {
            secret = hash(format!("{secret}:{nonce}:{cnonce}"));
        }
        let request = hash(format!("{method}:{uri}"));
        let response = if self.has_qop {
            hash(format!("{secret}:{nonce}:{count:08x}:{cnonce}:auth:{request}"))
        } else {
            hash(format!("{secret}:{nonce}:{request}"))
        };
        let user = quoted(&credentials.user);
        let (realm, nonce) = (quoted(realm), quoted(nonce));
        let mut value = format!(
            "Digest username={user}, realm={realm}, nonce={nonce}, uri=\"{uri}\", response=\"{response}\""
        );
        if let Some(name) = &self.algorithm_name {
            value.push_str(&format!(", algorithm={name}"));
        }
        if self.has_qop {
            value.push_str(&format!(", qop=auth, nc={count:08x}, cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = &self.opaque {
            value.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        (self.field(), value)
    }

    fn field(&self) -> &'static str {
        if self.proxy { "Proxy-Authorization" } else { "Authorization" }
    }
}

impl Algorithm {
    /// The one of that name, in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "MD5" => Self::Md5,
            "MD5-SESS" => Self::Md5Sess,
            "SHA-256" => Self::Sha256,
            "SHA-256-SESS" => Self::Sha256Sess,
            _ => return None,
        })
    }

    /// Whether the client's nonce is part of the secret.
    pub(super) const fn is_session(self) -> bool {
        matches!(self, Self::Md5Sess | Self::Sha256Sess)
    }

    pub(super) fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 | Self::Md5Sess => hex(&Md5::digest(text)),
            Self::Sha256 | Self::Sha256Sess => hex(&Sha256::digest(text)),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 3261 25.1, quoted-string.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, fields: &[(&str, &str)]) -> Message {
        fields.iter().fold(Message::response(status, ""), |message, (name, value)| message.with(name, *value))
    }

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.to_owned(), password: password.to_owned(), realm: None }
    }

    #[test]
    fn the_examples_of_rfc_7616_come_out() {
        let question = |algorithm: &str| {
            format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            )
        };
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, expected) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let challenge =
                Challenge::of(&response(401, &[("WWW-Authenticate", &question(algorithm))])).unwrap();
            let (name, value) = challenge.answer(
                &credentials("Mufasa", "Circle of Life"),
                "GET",
                "/dir/index.html",
                1,
                cnonce,
            );
            assert_eq!(name, "Authorization");
            assert!(value.contains(&format!("response=\"{expected}\"")), "{value}");
            assert!(
                value.contains("nc=00000001") && value.contains(&format!("algorithm={algorithm}")),
                "{value}"
            );
        }
    }

    #[test]
    fn without_qop_the_old_form_is_used() {
        // RFC 2069's form with the values of RFC 2617 section 3.5, computed by hand with md5sum.
        let question = "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
        let challenge = Challenge::of(&response(407, &[("Proxy-Authenticate", question)])).unwrap();
        let (name, value) =
            challenge.answer(&credentials("Mufasa", "Circle Of Life"), "GET", "/dir/index.html", 1, "x");
        assert_eq!(name, "Proxy-Authorization");
        assert!(value.contains("response=\"670fd8c2df070c60b045671b8b24ff02\""), "{value}");
        assert!(
            !value.contains("qop") && !value.contains("cnonce") && !value.contains("algorithm"),
            "{value}"
        );
    }

    #[test]
    fn the_strongest_question_is_answered() {
        let fields = [
            ("WWW-Authenticate", "Digest realm=\"a\", nonce=\"1\", algorithm=SHA-512-256"),
            ("WWW-Authenticate", "Digest realm=\"a\", nonce=\"2\", algorithm=md5"),
            ("WWW-Authenticate", "Digest realm=\"a\", nonce=\"3\", algorithm=sha-256, stale=TRUE"),
            ("WWW-Authenticate", "Basic realm=\"a\""),
        ];
        let challenge = Challenge::of(&response(401, &fields)).unwrap();
        assert_eq!((challenge.nonce.as_str(), challenge.stale), ("3", true));
        assert_eq!(Challenge::of(&response(401, &fields[..1])), None);
        assert_eq!(Challenge::of(&response(407, &fields)), None, "a proxy asks in another field");
        assert_eq!(
            Challenge::of(&response(
                401,
                &[("WWW-Authenticate", "Digest realm=\"a\", nonce=\"1\", qop=\"auth-int\"")]
            )),
            None
        );
    }

    #[test]
    fn quotes_in_names_do_not_break_out() {
        let challenge = Challenge::of(&response(
            401,
            &[("WWW-Authenticate", r#"Digest realm="a \"b\", c", nonce="n,1""#)],
        ))
        .unwrap();
        assert_eq!((challenge.realm.as_str(), challenge.nonce.as_str()), (r#"a "b", c"#, "n,1"));
        let (_, value) =
            challenge.answer(&credentials(r#"e"ve"#, "p"), "REGISTER", "sip:example.com", 1, "c");
        assert!(value.starts_with(r#"Digest username="e\"ve", realm="a \"b\", c", nonce="n,1","#), "{value}");
    }

    proptest::proptest! {
        #[test]
        fn questions_never_panic(text in "Digest .{0,80}|(Digest )?([a-z]{1,9}=\"?[^\r\n]{0,9}\"?,? ?){0,8}") {
            if let Some(challenge) = Challenge::parse(&text, false) {
                let _ = challenge.answer(&credentials("u", "p"), "REGISTER", "sip:example.com", 1, "c");
            }
        }
    }
}
