//! Digest authentication (RFC 7616, RFC 3261 22, RFC 8760), as the one who asks. A nonce says by itself when it was
//! made and that it is ours; what is remembered is only which were used for a right answer, and how often.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::digest::{Algorithm, hex, quoted};
use super::message::{split_quoted, unquote};

/// Asks who somebody is and judges the answer. One for all who share a realm.
pub struct Authenticator {
    realm: String,
    key: [u8; 32],
    started: Instant,
    used: Mutex<Used>,
}

/// What an Authorization header field says, not believed yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    user: String,
    realm: String,
    nonce: String,
    uri: String,
    response: String,
    algorithm: Algorithm,
    /// `cnonce` and `nc`, with `qop=auth`.
    counted: Option<(String, u32)>,
}

/// What a claim is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The password is known, and this answer was not heard before.
    Right,
    /// The answer belongs to a nonce that is too old, not ours or used up: ask again, with `stale`.
    Stale,
    /// The password is not known.
    Wrong,
}

/// Nonces that a right answer came for.
#[derive(Default)]
struct Used {
    counts: HashMap<String, u32>,
    in_order: VecDeque<(u64, String)>,
    /// Nonces made before this are forgotten, and so not taken.
    forgotten_until: u64,
}

impl Authenticator {
    /// One that asks for passwords of `realm`.
    #[must_use]
    pub fn new(realm: &str) -> Self {
        let mut key = [0; 32];
        for chunk in key.chunks_exact_mut(8) {
            chunk.copy_from_slice(&super::core::random().to_be_bytes());
        }
        let realm = realm.chars().filter(|c| !c.is_control()).collect();
        Self { realm, key, started: Instant::now(), used: Mutex::default() }
    }

    /// The values of WWW-Authenticate that ask, the strongest first (RFC 8760 section 2.4).
    #[must_use]
    pub fn questions(&self, stale: bool) -> Vec<String> {
        let nonce = self.nonce(self.now());
        let stale = if stale { ", stale=true" } else { "" };
        let realm = quoted(&self.realm);
        ["SHA-256", "MD5"]
            .iter()
            .map(|algorithm| {
                format!("Digest realm={realm}, nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}")
            })
            .collect()
    }

    /// The claim among the values of Authorization that is made for our realm.
    pub fn claim<'a>(&self, values: impl IntoIterator<Item = &'a str>) -> Option<Claim> {
        values.into_iter().take(MOST_VALUES).filter_map(Claim::parse).find(|claim| claim.realm == self.realm)
    }

    /// What `claim` is worth for a request of `method`, if the password is `password`.
    #[must_use]
    pub fn check(&self, claim: &Claim, method: &str, password: &str) -> Proof {
        self.check_at(self.now(), claim, method, password)
    }

    fn check_at(&self, now: u64, claim: &Claim, method: &str, password: &str) -> Proof {
        let Some(made) = self.made(&claim.nonce) else { return Proof::Stale };
        // Computed first: whether a nonce is fresh must not tell how long a password took to compare.
        let right = is_equal(claim.expected(method, password).as_bytes(), claim.response.as_bytes());
        if now.saturating_sub(made) > LIFETIME_S {
            return Proof::Stale;
        }
        if !right {
            return Proof::Wrong;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a count an answer is good once (RFC 7616 section 5.4).
        let count = claim.counted.as_ref().map_or(u32::MAX, |(_, count)| *count);
        if used.take(now, made, &claim.nonce, count) { Proof::Right } else { Proof::Stale }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// `time random mac`, in hexadecimal.
    fn nonce(&self, now: u64) -> String {
        let open = format!("{now:08x}{:016x}", super::core::random());
        let mac = self.mac(&open);
        open + &mac
    }

    /// When a nonce of ours was made.
    fn made(&self, nonce: &str) -> Option<u64> {
        if nonce.len() != OPEN + MAC || !nonce.is_ascii() {
            return None;
        }
        let (open, mac) = nonce.split_at_checked(OPEN)?;
        if !is_equal(self.mac(open).as_bytes(), mac.as_bytes()) {
            return None;
        }
        u64::from_str_radix(open.get(..8)?, 16).ok()
    }

    fn mac(&self, open: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(open.as_bytes());
        mac.update(self.realm.as_bytes());
        hex(&mac.finalize().into_bytes()[..MAC / 2])
    }
}

impl Used {
    /// Whether this count of this nonce is a new one.
    fn take(&mut self, now: u64, made: u64, nonce: &str, count: u32) -> bool {
        while let Some((made, _)) = self.in_order.front()
            && (now.saturating_sub(*made) > LIFETIME_S || self.in_order.len() >= MOST_NONCES)
        {
            if let Some((made, nonce)) = self.in_order.pop_front() {
                self.counts.remove(&nonce);
                self.forgotten_until = self.forgotten_until.max(made + 1);
            }
        }
        match self.counts.get_mut(nonce) {
            Some(last) if count > *last => {
                *last = count;
                true
            }
            Some(_) => false,
            None if made < self.forgotten_until => false,
            None => {
                self.counts.insert(nonce.to_owned(), count);
                // They come nearly in the order in which they were made.
                let at = self.in_order.partition_point(|(known, _)| *known <= made);
                self.in_order.insert(at, (made, nonce.to_owned()));
                true
            }
        }
    }
}

impl Claim {
    /// Reads the value of an Authorization header field.
    fn parse(value: &str) -> Option<Self> {
        if value.len() > MOST_BYTES {
            return None;
        }
        let (scheme, parameters) = value.trim().split_once(char::is_whitespace)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let mut found: HashMap<String, String> = HashMap::new();
        for parameter in split_quoted(parameters, ',') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let value = value.trim();
            let value = unquote(value).unwrap_or_else(|| value.to_owned());
            // A second value for one name is an attempt to be read in two ways.
            if found.insert(name.trim().to_ascii_lowercase(), value).is_some() {
                return None;
            }
        }
        let mut take = |name: &str| found.remove(name);
        let algorithm = take("algorithm").map_or(Some(Algorithm::Md5), |name| Algorithm::named(&name))?;
        let counted = match take("qop") {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                let count = take("nc").filter(|count| count.len() == 8)?;
                Some((take("cnonce")?, u32::from_str_radix(&count, 16).ok().filter(|count| *count > 0)?))
            }
            Some(_) => return None,
        };
        Some(Self {
            user: take("username")?,
            realm: take("realm")?,
            nonce: take("nonce")?,
            uri: take("uri")?,
            response: take("response")?.to_ascii_lowercase(),
            algorithm,
            counted,
        })
    }

    /// Who it claims to be.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    fn expected(&self, method: &str, password: &str) -> String {
        let Self { user, realm, nonce, uri, .. } = self;
        let hash = |text: String| self.algorithm.hash(&text);
        let mut secret = hash(format!("{user}:{realm}:{password}"));
        if self.algorithm.is_session() {
            let cnonce = self.counted.as_ref().map_or("", |(cnonce, _)| cnonce);
            secret = hash(format!("{secret}:{nonce}:{cnonce}"));
        }
        let request = hash(format!("{method}:{uri}"));
        match &self.counted {
            Some((cnonce, count)) => hash(format!("{secret}:{nonce}:{count:08x}:{cnonce}:auth:{request}")),
            None => hash(format!("{secret}:{nonce}:{request}")),
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Claim").field("user", &self.user).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authenticator").field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// In a time that does not depend on where they differ.
fn is_equal(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len() && one.iter().zip(two).fold(0, |all, (one, two)| all | (one ^ two)) == 0
}

/// How long a nonce is good for.
const LIFETIME_S: u64 = Duration::from_secs(120).as_secs();
/// Nonces that are remembered, about 100 bytes each.
const MOST_NONCES: usize = 65_536;
const MOST_VALUES: usize = 8;
const MOST_BYTES: usize = 2048;
/// Hexadecimal digits.
const OPEN: usize = 24;
const MAC: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::digest::{Challenge, Credentials};
    use super::super::message::Message;
    use super::*;

    /// The answer of our own asked side to the question at `index`.
    fn answer(question: &str, password: &str, count: u32) -> String {
        let response = Message::response(401, "").with("WWW-Authenticate", question);
        let challenge = Challenge::of(&response).expect("a question that we understand");
        let credentials = Credentials { user: "u".to_owned(), password: password.to_owned(), realm: None };
        challenge.answer(&credentials, "INVITE", "sip:1@192.0.2.1", count, "cn").1
    }

    fn judge(authenticator: &Authenticator, value: &str) -> Option<Proof> {
        let claim = authenticator.claim([value])?;
        assert_eq!(claim.user(), "u");
        Some(authenticator.check(&claim, "INVITE", "p"))
    }

    #[test]
    fn the_one_who_knows_the_password_gets_through_once_per_count() {
        let authenticator = Authenticator::new("sidetone");
        for algorithm in 0..2 {
            let question = authenticator.questions(false).swap_remove(algorithm);
            let first = answer(&question, "p", 1);
            assert_eq!(judge(&authenticator, &answer(&question, "q", 1)), Some(Proof::Wrong));
            assert_eq!(judge(&authenticator, &first), Some(Proof::Right));
            assert_eq!(judge(&authenticator, &first), Some(Proof::Stale), "heard before");
            assert_eq!(judge(&authenticator, &answer(&question, "p", 3)), Some(Proof::Right));
            assert_eq!(judge(&authenticator, &answer(&question, "p", 2)), Some(Proof::Stale));
        }
        let again = authenticator.questions(true);
        assert!(again[0].contains("algorithm=SHA-256") && again[0].ends_with("stale=true"));
        assert!(again[1].contains("algorithm=MD5") && again[1].ends_with("stale=true"));
    }

    #[test]
    fn an_answer_without_a_count_is_good_once() {
        let authenticator = Authenticator::new("sidetone");
        let question = authenticator.questions(false)[1].replace(", qop=\"auth\"", "");
        let value = answer(&question, "p", 1);
        assert!(!value.contains("nc="));
        assert_eq!(judge(&authenticator, &value), Some(Proof::Right));
        assert_eq!(judge(&authenticator, &value), Some(Proof::Stale));
    }

    #[test]
    fn nonces_of_others_and_old_ones_are_stale() {
        let (authenticator, other) = (Authenticator::new("sidetone"), Authenticator::new("sidetone"));
        let value = answer(&other.questions(false)[0], "p", 1);
        assert_eq!(judge(&authenticator, &value), Some(Proof::Stale), "another key");
        let mine = answer(&authenticator.questions(false)[0], "p", 1);
        let claim = authenticator.claim([mine.as_str()]).expect("a claim");
        assert_eq!(authenticator.check_at(LIFETIME_S + 2, &claim, "INVITE", "p"), Proof::Stale);
        assert_eq!(authenticator.check_at(1, &claim, "BYE", "p"), Proof::Wrong, "another method");
        assert_eq!(authenticator.check_at(1, &claim, "INVITE", "p"), Proof::Right);
        assert_eq!(judge(&Authenticator::new("elsewhere"), &mine), None, "another realm");
    }

    #[test]
    fn what_was_forgotten_is_not_taken_again() {
        let mut used = Used::default();
        for number in 0..MOST_NONCES as u64 + 10 {
            assert!(used.take(100, number / 10_000, &number.to_string(), 1));
        }
        assert_eq!(used.counts.len(), used.in_order.len());
        assert!(used.counts.len() <= MOST_NONCES);
        assert!(!used.take(100, 0, "0", 2), "no longer known, and older than what is");
        assert!(used.take(500, 450, "fresh", 1));
        assert_eq!(used.counts.len(), 1, "old ones went");
    }

    proptest::proptest! {
        #[test]
        fn claims_never_panic(text in "Digest .{0,80}|(Digest )?([a-z]{1,9}=\"?[^\r\n]{0,9}\"?,? ?){0,10}") {
            let authenticator = Authenticator::new("sidetone");
            if let Some(claim) = Claim::parse(&text) {
                proptest::prop_assert_ne!(authenticator.check(&claim, "INVITE", "p"), Proof::Right);
            }
        }
    }
}
