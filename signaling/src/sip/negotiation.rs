//! Whose offer is pending (RFC 3264, RFC 3261 14, RFC 3311 5, RFC 6337).

/// The state of offers and answers in one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Negotiation {
    /// Nothing pending.
    #[default]
    Stable,
    /// The peer waits for our answer.
    RemoteOffer,
    /// We wait for the peer's answer.
    LocalOffer,
}

/// Why an offer cannot be made or taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glare {
    /// 491: we have an offer pending ourselves (RFC 3261 14.2).
    RequestPending,
    /// 500 with Retry-After: the peer's earlier one is not settled (RFC 3261 14.2, RFC 3311 5.2).
    Unsettled,
}

impl Negotiation {
    /// The peer offers.
    pub(super) fn handle_offer(&mut self) -> Result<(), Glare> {
        match self {
            Self::Stable => {
                *self = Self::RemoteOffer;
                Ok(())
            }
            Self::RemoteOffer => Err(Glare::Unsettled),
            Self::LocalOffer => Err(Glare::RequestPending),
        }
    }

    /// We answered the peer's offer, or refused it: the session stays as it was.
    pub(super) fn settle_remote(&mut self) {
        if *self == Self::RemoteOffer {
            *self = Self::Stable;
        }
    }

    /// We offer. `false` when something is pending.
    pub(super) fn offer(&mut self) -> bool {
        let free = *self == Self::Stable;
        if free {
            *self = Self::LocalOffer;
        }
        free
    }

    /// The peer answered our offer, or refused it.
    pub(super) fn settle_local(&mut self) {
        if *self == Self::LocalOffer {
            *self = Self::Stable;
        }
    }

    pub(super) fn is_stable(self) -> bool {
        self == Self::Stable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_event() {
        use Negotiation::{LocalOffer, RemoteOffer, Stable};
        for (state, taken, after) in [
            (Stable, Ok(()), RemoteOffer),
            (RemoteOffer, Err(Glare::Unsettled), RemoteOffer),
            (LocalOffer, Err(Glare::RequestPending), LocalOffer),
        ] {
            let mut negotiation = state;
            assert_eq!(negotiation.handle_offer(), taken);
            assert_eq!(negotiation, after);
        }
        for (state, made, after) in
            [(Stable, true, LocalOffer), (RemoteOffer, false, RemoteOffer), (LocalOffer, false, LocalOffer)]
        {
            let mut negotiation = state;
            assert_eq!((negotiation.offer(), negotiation), (made, after));
        }
        for (state, remote, local) in
            [(Stable, Stable, Stable), (RemoteOffer, Stable, RemoteOffer), (LocalOffer, LocalOffer, Stable)]
        {
            let (mut a, mut b) = (state, state);
            a.settle_remote();
            b.settle_local();
            assert_eq!((a, b), (remote, local));
            assert_eq!(state.is_stable(), state == Stable);
        }
    }
}
