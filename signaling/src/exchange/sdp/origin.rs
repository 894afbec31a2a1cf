//! What one receiver has been told in `o=` and `s=`, so that later descriptions fit to it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;

use super::super::Replace;

/// What one receiver has been told last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    username: Option<String>,
    session_name: Option<String>,
    address: Option<IpAddr>,
    full: Option<Origin>,
    version: Option<u64>,
    /// Of the text without its version.
    fingerprint: u64,
}

/// The fields of `o=`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    username: String,
    session_id: String,
    version: String,
    family: String,
    address: String,
}

impl Origin {
    /// What is no proper `o=` line is passed on as it is.
    fn parse(value: &str) -> Option<Self> {
        let fields: Vec<&str> = value.split_ascii_whitespace().collect();
        let [username, session_id, version, network, family, address] = fields.as_slice() else {
            return None;
        };
        network.eq_ignore_ascii_case("IN").then(|| Self {
            username: (*username).to_owned(),
            session_id: (*session_id).to_owned(),
            version: (*version).to_owned(),
            family: (*family).to_owned(),
            address: (*address).to_owned(),
        })
    }

    fn write(&self) -> String {
        let Self { username, session_id, version, family, address } = self;
        format!("{username} {session_id} {version} IN {family} {address}")
    }
}

impl Outgoing {
    /// The `s=` for this receiver.
    pub(super) fn session_name(&mut self, value: &str, replace: Replace) -> String {
        if !replace.session_name {
            return value.to_owned();
        }
        self.session_name.get_or_insert_with(|| value.to_owned()).clone()
    }

    /// The `o=` for this receiver. `ours` is our address of the first usable media description; `rest` is
    /// everything else that is sent.
    pub(super) fn origin(
        &mut self,
        value: &str,
        replace: Replace,
        ours: Option<IpAddr>,
        rest: &str,
    ) -> String {
        let Some(mut origin) = Origin::parse(value) else { return value.to_owned() };
        if replace.origin || replace.origin_full {
            // Remembered: the receiver compares it from one description to the next.
            self.address = self.address.or(ours);
            if let Some(address) = self.address {
                origin.family = if address.is_ipv6() { "IP6" } else { "IP4" }.to_owned();
                origin.address = address.to_string();
            }
        }
        if replace.username || replace.origin_full {
            origin.username = self.username.get_or_insert_with(|| origin.username.clone()).clone();
        }
        if replace.origin_full {
            let version = origin.version.clone();
            origin = Origin { version, ..self.full.get_or_insert(origin).clone() };
        }
        if replace.version || replace.origin_full {
            let text = Origin { version: String::new(), ..origin.clone() }.write();
            let fingerprint = BuildHasherDefault::<DefaultHasher>::default().hash_one((text, rest));
            let version = match self.version {
                None => origin.version.parse().unwrap_or(1),
                Some(last) if fingerprint == self.fingerprint && !replace.always_increment => last,
                Some(last) => last.wrapping_add(1),
            };
            (self.version, self.fingerprint) = (Some(version), fingerprint);
            origin.version = version.to_string();
        }
        origin.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "bob 7 3 IN IP4 192.0.2.10";

    #[test]
    fn the_senders_origin_stays_unless_it_is_to_be_replaced() {
        let ours = Some([203, 0, 113, 5].into());
        let mut outgoing = Outgoing::default();
        assert_eq!(outgoing.origin(SENT, Replace::default(), ours, ""), SENT);
        let replace = Replace { origin: true, ..Replace::default() };
        assert_eq!(outgoing.origin(SENT, replace, ours, ""), "bob 7 3 IN IP4 203.0.113.5");
        let moved = Some([203, 0, 113, 6].into());
        assert_eq!(outgoing.origin(SENT, replace, moved, ""), "bob 7 3 IN IP4 203.0.113.5");
        assert_eq!(outgoing.origin("odd", replace, ours, ""), "odd");
    }

    #[test]
    fn our_version_grows_only_with_the_text() {
        let replace = Replace { version: true, ..Replace::default() };
        let mut outgoing = Outgoing::default();
        let mut version = |value: &str, replace, rest: &str| {
            outgoing
                .origin(value, replace, None, rest)
                .split(' ')
                .nth(2)
                .map(str::to_owned)
                .expect("a version")
        };
        assert_eq!(version(SENT, replace, "a"), "3");
        assert_eq!(version("bob 7 9 IN IP4 192.0.2.10", replace, "a"), "3");
        assert_eq!(version("bob 7 9 IN IP4 192.0.2.10", replace, "b"), "4");
        assert_eq!(version(SENT, Replace { always_increment: true, ..replace }, "b"), "5");
    }

    #[test]
    fn a_full_origin_stays_as_first_sent() {
        let replace = Replace { origin_full: true, ..Replace::default() };
        let mut outgoing = Outgoing::default();
        let ours = Some([203, 0, 113, 5].into());
        assert_eq!(outgoing.origin(SENT, replace, ours, "a"), "bob 7 3 IN IP4 203.0.113.5");
        let other = outgoing.origin("eve 9 1 IN IP4 192.0.2.99", replace, ours, "b");
        assert_eq!(other, "bob 7 4 IN IP4 203.0.113.5");
    }
}
