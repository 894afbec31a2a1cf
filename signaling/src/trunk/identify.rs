//! Which trunk a call belongs to. Pure: no socket, no clock, no store.
//!
//! In this order; the first that fits decides:
//!
//! 1. The user of the Request-URI is the Contact that we registered for a trunk: it is that trunk's. By
//!    `auth_method` it still has to come from an address of the trunk (`ip`, `both`), or to know the password
//!    (`digest`, `both`).
//! 2. The source address is in a trunk's `allowed_ips`, or is where its proxy is if there are none. The longest
//!    network wins. Of several such trunks: the one whose account is named in the Request-URI or From; else, if all
//!    are of one tenant, the first by name; else nobody's, for a call must not become another tenant's by chance.
//! 3. An answer to our challenge names the account of a trunk with `digest`; or From does, which is asked then.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{AuthMethod, TenantId};

/// Names a trunk among those of all tenants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrunkKey {
    /// Whose.
    pub tenant: TenantId,
    /// Its name there.
    pub trunk_id: String,
}

/// What an inbound trunk is known by.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) key: TrunkKey,
    pub(crate) contact_user: String,
    /// The users of its account, for SIP and for digest.
    pub(crate) logins: Vec<String>,
    pub(crate) auth_method: AuthMethod,
    /// `allowed_ips`, or where its proxy is.
    pub(crate) networks: Vec<IpNet>,
}

/// What a call shows of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) request_user: &'a str,
    pub(crate) from_user: &'a str,
    /// Whom its answer to a challenge of ours claims to be.
    pub(crate) claimed: Option<&'a str>,
    pub(crate) source: IpAddr,
}

/// Whose a call is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This trunk's, as far as addresses tell.
    Trunk {
        key: TrunkKey,
        /// Whether it has to know the password, too.
        wants_password: bool,
        /// Whether it came to the Contact of the registration: the number is in To.
        by_contact: bool,
    },
    /// It came to this trunk's Contact from an address that is not the trunk's.
    WrongAddress(TrunkKey),
    /// One of these trunks', if it knows the password.
    OneOf(Vec<TrunkKey>),
    /// The address belongs to trunks of several tenants.
    Ambiguous(Vec<TrunkKey>),
    /// Nobody's.
    Nobody,
}

/// All trunks that take calls.
#[derive(Debug, Default)]
pub(crate) struct Index {
    known: Vec<Known>,
    contacts: HashMap<String, usize>,
    networks: HashMap<IpNet, Vec<usize>>,
    /// The lengths of prefixes that there are, longest first, of each family.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
    /// Trunks that are known by their password alone, by login.
    logins: HashMap<String, Vec<usize>>,
}

impl Index {
    /// Of all that take calls.
    pub(crate) fn new(mut known: Vec<Known>) -> Self {
        known.sort_by(|one, two| one.key.cmp(&two.key));
        let mut index = Self::default();
        for (at, trunk) in known.iter().enumerate() {
            index.contacts.insert(trunk.contact_user.clone(), at);
            for network in &trunk.networks {
                let of_network = index.networks.entry(network.trunc()).or_default();
                if of_network.last() != Some(&at) {
                    of_network.push(at);
                }
            }
            if trunk.auth_method == AuthMethod::Digest {
                for login in &trunk.logins {
                    index.logins.entry(login.clone()).or_default().push(at);
                }
            }
        }
        for network in index.networks.keys() {
            let lengths =
                if network.addr().is_ipv4() { &mut index.lengths_v4 } else { &mut index.lengths_v6 };
            if !lengths.contains(&network.prefix_len()) {
                lengths.push(network.prefix_len());
            }
        }
        index.lengths_v4.sort_unstable_by(|one, two| two.cmp(one));
        index.lengths_v6.sort_unstable_by(|one, two| two.cmp(one));
        index.known = known;
        index
    }

    /// Whether anybody is known by a password alone.
    pub(crate) fn has_logins(&self) -> bool {
        !self.logins.is_empty()
    }

    /// Whose the call is.
    pub(crate) fn owner(&self, shown: Shown<'_>) -> Owner {
        let source = shown.source.to_canonical();
        if let Some(trunk) = self.contacts.get(shown.request_user).and_then(|at| self.known.get(*at)) {
            let is_near = trunk.networks.iter().any(|network| network.contains(&source));
            return if trunk.auth_method.wants_address() && !is_near {
                Owner::WrongAddress(trunk.key.clone())
            } else {
                self.owned(trunk, true)
            };
        }
        let near = self.near(source);
        match near.as_slice() {
            [] => self.by_login(shown),
            [trunk] => self.owned(trunk, false),
            several => {
                let named: Vec<&&Known> = several
                    .iter()
                    .filter(|trunk| {
                        let names = [Some(shown.request_user), Some(shown.from_user), shown.claimed];
                        names.into_iter().flatten().any(|name| trunk.logins.iter().any(|login| login == name))
                    })
                    .collect();
                let one_tenant = several.windows(2).all(|pair| pair[0].key.tenant == pair[1].key.tenant);
                match (named.as_slice(), several) {
                    ([trunk], _) => self.owned(trunk, false),
                    (_, [first, ..]) if one_tenant => self.owned(first, false),
                    _ => Owner::Ambiguous(several.iter().map(|trunk| trunk.key.clone()).collect()),
                }
            }
        }
    }

    fn owned(&self, trunk: &Known, by_contact: bool) -> Owner {
        let wants_password = trunk.auth_method.wants_password();
        Owner::Trunk { key: trunk.key.clone(), wants_password, by_contact }
    }

    /// The trunks with the longest network around `source`.
    fn near(&self, source: IpAddr) -> Vec<&Known> {
        let lengths = if source.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths
            .iter()
            .filter_map(|length| IpNet::new(source, *length).ok())
            .find_map(|network| self.networks.get(&network.trunc()))
            .map(|of_network| of_network.iter().filter_map(|at| self.known.get(*at)).collect())
            .unwrap_or_default()
    }

    fn by_login(&self, shown: Shown<'_>) -> Owner {
        let login = shown.claimed.unwrap_or(shown.from_user);
        match self.logins.get(login) {
            Some(of_login) => {
                // Many with one login is nobody's account; each costs a hash.
                let trunks = of_login.iter().take(MOST_TRIED).filter_map(|at| self.known.get(*at));
                Owner::OneOf(trunks.map(|trunk| trunk.key.clone()).collect())
            }
            None => Owner::Nobody,
        }
    }
}

const MOST_TRIED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> TrunkKey {
        let (tenant, trunk_id) = name.split_once('/').unwrap_or(("default", name));
        TrunkKey { tenant: TenantId(tenant.to_owned()), trunk_id: trunk_id.to_owned() }
    }

    fn known(name: &str, login: &str, auth_method: AuthMethod, networks: &[&str]) -> Known {
        Known {
            key: key(name),
            contact_user: format!("gw-{}", name.replace('/', "-")),
            logins: if login.is_empty() { Vec::new() } else { vec![login.to_owned()] },
            auth_method,
            networks: networks.iter().map(|network| network.parse().expect("a network")).collect(),
        }
    }

    #[test]
    fn a_call_belongs_to_the_trunk_of_the_first_rule_that_fits() {
        use AuthMethod::{Both, Digest, Ip};
        let index = Index::new(vec![
            known("wide", "", Ip, &["198.51.100.0/24", "2001:db8::/32"]),
            known("narrow", "", Ip, &["198.51.100.64/26"]),
            known("one/a", "alice", Ip, &["192.0.2.1/32"]),
            known("two/b", "bob", Ip, &["192.0.2.1/32"]),
            known("x/p", "pat", Ip, &["192.0.2.2/32"]),
            known("x/o", "oli", Ip, &["192.0.2.2/32"]),
            known("both", "carol", Both, &["203.0.113.7/32"]),
            known("pass", "dave", Digest, &[]),
            known("t/pass", "dave", Digest, &[]),
            known("home", "erin", Digest, &["203.0.113.9/32"]),
        ]);
        let trunk = |name: &str, wants_password: bool, by_contact: bool| Owner::Trunk {
            key: key(name),
            wants_password,
            by_contact,
        };
        let table: &[(&str, &str, Option<&str>, &str, Owner)] = &[
            // By Contact, even where another trunk's network is nearer.
            ("gw-wide", "1", None, "198.51.100.70", trunk("wide", false, true)),
            ("gw-wide", "1", None, "192.0.2.1", Owner::WrongAddress(key("wide"))),
            ("gw-both", "1", None, "203.0.113.7", trunk("both", true, true)),
            ("gw-both", "1", None, "203.0.113.8", Owner::WrongAddress(key("both"))),
            ("gw-pass", "1", None, "203.0.113.200", trunk("pass", true, true)),
            // By address, the longest network first.
            ("100", "1", None, "198.51.100.70", trunk("narrow", false, false)),
            ("100", "1", None, "198.51.100.10", trunk("wide", false, false)),
            ("100", "1", None, "::ffff:198.51.100.10", trunk("wide", false, false)),
            ("100", "1", None, "2001:db8::5", trunk("wide", false, false)),
            ("100", "1", None, "203.0.113.7", trunk("both", true, false)),
            ("100", "1", None, "203.0.113.9", trunk("home", true, false)),
            // Several at one address.
            ("alice", "1", None, "192.0.2.1", trunk("one/a", false, false)),
            ("100", "bob", None, "192.0.2.1", trunk("two/b", false, false)),
            ("100", "1", Some("bob"), "192.0.2.1", trunk("two/b", false, false)),
            ("alice", "bob", None, "192.0.2.1", Owner::Ambiguous(vec![key("one/a"), key("two/b")])),
            ("100", "1", None, "192.0.2.1", Owner::Ambiguous(vec![key("one/a"), key("two/b")])),
            ("100", "1", None, "192.0.2.2", trunk("x/o", false, false)),
            ("pat", "1", None, "192.0.2.2", trunk("x/p", false, false)),
            // By password.
            ("100", "dave", None, "192.0.2.99", Owner::OneOf(vec![key("pass"), key("t/pass")])),
            ("100", "1", Some("dave"), "192.0.2.99", Owner::OneOf(vec![key("pass"), key("t/pass")])),
            ("100", "dave", Some("nobody"), "192.0.2.99", Owner::Nobody),
            ("100", "alice", None, "192.0.2.99", Owner::Nobody),
            ("100", "1", None, "192.0.2.99", Owner::Nobody),
        ];
        for (request_user, from_user, claimed, source, expected) in table {
            let source = source.parse().expect("an address");
            let shown = Shown { request_user, from_user, claimed: *claimed, source };
            assert_eq!(index.owner(shown), *expected, "{shown:?}");
        }
        assert!(index.has_logins());
    }

    #[test]
    fn without_trunks_every_call_is_nobodys() {
        let shown = Shown {
            request_user: "100",
            from_user: "1",
            claimed: None,
            source: "192.0.2.1".parse().expect("an address"),
        };
        assert_eq!(Index::default().owner(shown), Owner::Nobody);
        assert!(!Index::default().has_logins());
    }
}
