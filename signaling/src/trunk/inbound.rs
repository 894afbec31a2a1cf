//! Whose a call that comes is, and whether it may.

use std::sync::Arc;
use std::time::Duration;

use super::identify::{Owner, Shown, TrunkKey};
use super::live::Live;
use super::supervisor::{Trunks, UnknownCallers};
use super::{Admission, Refused};
use crate::model::Trunk;
use crate::sip::{Address, Claim, InviteInfo, Proof, Rejection};

/// What is to become of a call that comes.
#[derive(Debug)]
pub enum Inbound {
    /// It is a trunk's.
    Trunk(TrunkCall),
    /// It is no trunk's; the routes of the configuration decide.
    Nobodys,
    /// It is refused.
    Refused(Rejection),
}

/// A call of a trunk.
#[derive(Debug)]
pub struct TrunkCall {
    /// The trunk.
    pub trunk: Arc<Trunk>,
    /// The call's place on the trunk; to be kept as long as it runs.
    pub admission: Admission,
    /// Who was called, where the Request-URI only names our Contact.
    pub dialled: Option<String>,
}

impl Trunks {
    /// Whose a call is. The order of the rules is told in `identify`.
    pub fn identify(&self, info: &InviteInfo) -> Inbound {
        let inner = &self.inner;
        let counters = &inner.counters;
        let claim = inner.authenticator.claim(authorization(info));
        let shown = Shown {
            request_user: &info.request_uri.user,
            from_user: &info.from.user,
            claimed: claim.as_ref().map(Claim::user),
            source: info.remote.ip(),
        };
        let (owner, has_logins) = {
            let table = inner.table.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            (table.index.owner(shown), table.index.has_logins())
        };
        match owner {
            Owner::Trunk { key, wants_password, by_contact } => {
                let Some(live) = self.live(&key) else { return Inbound::Refused(Rejection::new(503)) };
                if wants_password
                    && let Err(rejection) = self.prove(std::slice::from_ref(&key), claim.as_ref())
                {
                    return Inbound::Refused(rejection);
                }
                self.take(&live, by_contact.then(|| called(info)))
            }
            Owner::OneOf(keys) => match self.prove(&keys, claim.as_ref()) {
                Ok(live) => self.take(&live, None),
                Err(rejection) => Inbound::Refused(rejection),
            },
            Owner::WrongAddress(key) => {
                counters.refused_address.increment();
                tracing::debug!(trunk = %key.trunk_id, source = %info.remote, "not an address of the trunk");
                let warning = "399 this address is not the trunk's; see its allowed_ips".to_owned();
                Inbound::Refused(Rejection { warning: Some(warning), ..Rejection::new(403) })
            }
            Owner::Ambiguous(keys) => {
                counters.ambiguous.increment();
                let trunks: Vec<&str> = keys.iter().take(4).map(|key| key.trunk_id.as_str()).collect();
                tracing::debug!(?trunks, source = %info.remote, "trunks of several tenants are at this address");
                self.nobodys(has_logins, claim.as_ref())
            }
            Owner::Nobody => self.nobodys(has_logins, claim.as_ref()),
        }
    }

    fn nobodys(&self, has_logins: bool, claim: Option<&Claim>) -> Inbound {
        let counters = &self.inner.counters;
        match self.inner.config.unknown_callers {
            UnknownCallers::Accept => {
                counters.unknown.increment();
                Inbound::Nobodys
            }
            UnknownCallers::Reject => {
                counters.refused_unknown.increment();
                if !has_logins {
                    return Inbound::Refused(Rejection::new(403));
                }
                // Who is not known is asked and refused as one who is and has the wrong password.
                Inbound::Refused(self.prove(&[], claim).err().unwrap_or_else(|| Rejection::new(403)))
            }
        }
    }

    /// The first of these trunks whose password the caller knows; else what to answer.
    fn prove(&self, keys: &[TrunkKey], claim: Option<&Claim>) -> Result<Arc<Live>, Rejection> {
        let (authenticator, counters) = (&self.inner.authenticator, &self.inner.counters);
        let ask = |stale: bool| {
            counters.challenged.increment();
            Rejection { challenges: authenticator.questions(stale), ..Rejection::new(401) }
        };
        let Some(claim) = claim else { return Err(ask(false)) };
        let mut judged = None;
        for live in keys.iter().filter_map(|key| self.live(key)) {
            let settings = live.settings();
            let trunk = &settings.trunk;
            let is_theirs =
                [&trunk.username, &trunk.auth_user].into_iter().flatten().any(|login| login == claim.user());
            let Some(password) = settings.password.as_ref().filter(|_| is_theirs) else { continue };
            match authenticator.check(claim, "INVITE", password.reveal()) {
                Proof::Right => return Ok(live),
                proof => judged = Some(proof),
            }
        }
        // A password that nobody has takes as long.
        match judged.unwrap_or_else(|| authenticator.check(claim, "INVITE", NOBODYS)) {
            Proof::Stale => Err(ask(true)),
            Proof::Wrong | Proof::Right => {
                counters.refused_password.increment();
                Err(Rejection::new(403))
            }
        }
    }

    fn take(&self, live: &Live, dialled: Option<String>) -> Inbound {
        match self.inner.admit(live) {
            Ok(admission) => {
                self.inner.counters.admitted_inbound.increment();
                Inbound::Trunk(TrunkCall { trunk: live.trunk(), admission, dialled })
            }
            Err(refused) => Inbound::Refused(full(refused)),
        }
    }
}

/// What a trunk's own call is told that it may not carry.
fn full(refused: Refused) -> Rejection {
    let after = match refused {
        Refused::Rate => 1,
        Refused::Concurrent | Refused::Inactive | Refused::Direction => 10,
    };
    Rejection { retry_after: Some(Duration::from_secs(after)), ..Rejection::new(503) }
}

fn authorization(info: &InviteInfo) -> impl Iterator<Item = &str> {
    info.headers().filter(|(name, _)| name.eq_ignore_ascii_case("Authorization")).map(|(_, value)| value)
}

/// Who was called, when the Request-URI is our Contact: P-Called-Party-ID (RFC 7315 section 4.2), else To.
fn called(info: &InviteInfo) -> String {
    let party = info.header("P-Called-Party-ID").and_then(|value| Address::parse(value).ok());
    party.map(|party| party.user()).filter(|user| !user.is_empty()).unwrap_or_else(|| info.to.user.clone())
}

/// Nobody's: no password has a control character.
const NOBODYS: &str = "\u{1}";
