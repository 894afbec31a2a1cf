//! Whose packets are believed. Anyone can send to a media port, so an address is believed only because
//! signalling named it, or because it has sent several packets in a row of one source before anybody else.

use std::net::SocketAddr;

use super::{Address, SourcePolicy};
use crate::rtp::{Header, SequenceNumber};
use crate::time::{Duration, Instant};

/// The source filter of a stream, or of one side of a relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceFilter {
    policy: SourcePolicy,
    signalled: Option<Address>,
    locked: Option<Address>,
    /// When an address that signalling did not name was locked; the one that it did may still take over.
    learned_at: Option<Instant>,
    candidates: [Option<Candidate>; CANDIDATES],
    next: usize,
}

/// What the filter thinks of one RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// From the source.
    Believed,
    /// From the source, which this packet has settled.
    Locked,
    /// From an address that may become the source.
    Learning,
    /// From an address that never will until signalling changes it.
    Stranger,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    remote: Address,
    ssrc: u32,
    last: SequenceNumber,
    in_sequence: u8,
}

impl SourceFilter {
    pub(crate) fn new(policy: SourcePolicy, signalled: Option<SocketAddr>) -> Self {
        let signalled = signalled.map(Address::from);
        Self { policy, signalled, locked: None, learned_at: None, candidates: [None; CANDIDATES], next: 0 }
    }

    /// Takes a new offer/answer outcome. Learning starts over only if the address has changed; returns
    /// whether it has.
    pub(crate) fn retarget(&mut self, policy: SourcePolicy, signalled: Option<SocketAddr>) -> bool {
        self.policy = policy;
        let changed = self.signalled != signalled.map(Address::from);
        if changed {
            *self = Self::new(policy, signalled);
        }
        changed
    }

    /// Judges a packet with a payload type that was negotiated.
    ///
    /// Somebody who sprays packets at all ports may be faster than the caller's first packet. So the address
    /// that signalling has named takes the stream back from a learned one for some seconds.
    pub(crate) fn judge(&mut self, now: Instant, remote: SocketAddr, header: &Header) -> Verdict {
        let remote = Address::from(remote);
        if self.locked == Some(remote) {
            return Verdict::Believed;
        }
        if self.signalled == Some(remote) && !self.is_settled(now) {
            return self.lock(remote, None);
        }
        if self.locked.is_some() || self.policy == SourcePolicy::Strict {
            return Verdict::Stranger;
        }
        if self.learn(remote, header) { self.lock(remote, Some(now)) } else { Verdict::Learning }
    }

    /// Whether RTCP may come from `remote`: the host of the locked source, or what signalling has named.
    pub(crate) fn believes_rtcp(&self, remote: SocketAddr, signalled_rtcp: Option<SocketAddr>) -> bool {
        let remote = Address::from(remote);
        signalled_rtcp.map(Address::from) == Some(remote)
            || self.locked.is_some_and(|locked| locked.has_ip_of(remote))
    }

    /// The source.
    pub(crate) fn locked(&self) -> Option<SocketAddr> {
        self.locked.map(SocketAddr::from)
    }

    /// When the source can no longer be disputed, if it can be now.
    pub(crate) fn settles_at(&self) -> Option<Instant> {
        self.learned_at.filter(|_| self.signalled.is_some()).map(|at| at + TAKE_BACK)
    }

    /// Whether nothing but signalling can change the source any more.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        let disputable = self.learned_at.is_some_and(|at| now.saturating_duration_since(at) < TAKE_BACK)
            && self.signalled.is_some();
        self.locked.is_some() && !disputable
    }

    /// Whether `remote` is the locked or, before that, the signalled address.
    pub(crate) fn is_source(&self, remote: SocketAddr) -> bool {
        self.locked.or(self.signalled) == Some(Address::from(remote))
    }

    fn lock(&mut self, remote: Address, learned_at: Option<Instant>) -> Verdict {
        (self.locked, self.learned_at) = (Some(remote), learned_at);
        self.candidates = [None; CANDIDATES];
        Verdict::Locked
    }

    /// Counts packets in a row per address and SSRC; true when there are enough.
    fn learn(&mut self, remote: Address, header: &Header) -> bool {
        let number = header.sequence_number;
        let known = self.candidates.iter_mut().flatten().find(|known| known.remote == remote);
        if let Some(known) = known {
            if known.ssrc == header.ssrc && number == known.last.next() {
                known.in_sequence += 1;
            } else {
                known.in_sequence = 1;
            }
            (known.ssrc, known.last) = (header.ssrc, number);
            return known.in_sequence >= IN_SEQUENCE;
        }
        let candidate = Candidate { remote, ssrc: header.ssrc, last: number, in_sequence: 1 };
        self.candidates[self.next] = Some(candidate);
        self.next = (self.next + 1) % CANDIDATES;
        false
    }
}

/// Packets in a row that an address which signalling has not named has to send.
const IN_SEQUENCE: u8 = 3;
/// For how long the signalled address may take the stream back from a learned one.
const TAKE_BACK: Duration = Duration::from_secs(10);
/// Addresses that are watched at a time; more push the oldest out.
const CANDIDATES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    fn header(sequence: u16, ssrc: u32) -> Header {
        Header { sequence_number: SequenceNumber(sequence), ssrc, ..Header::default() }
    }

    const EARLY: Instant = Instant::from_millis(1000);
    const SIGNALLED: &str = "192.0.2.1:4000";
    const OTHER: &str = "198.51.100.7:5000";

    fn latching() -> SourceFilter {
        SourceFilter::new(SourcePolicy::Latch, Some(address(SIGNALLED)))
    }

    #[test]
    fn signalled_address_is_believed_at_once_and_then_alone() {
        let mut filter = latching();
        assert_eq!(filter.judge(EARLY, address(SIGNALLED), &header(1, 1)), Verdict::Locked);
        for n in 0..10 {
            assert_eq!(filter.judge(EARLY, address(OTHER), &header(n, 2)), Verdict::Stranger);
        }
        assert_eq!(filter.judge(EARLY, address(SIGNALLED), &header(2, 1)), Verdict::Believed);
    }

    #[test]
    fn other_address_needs_three_in_a_row_of_one_source() {
        let mut filter = latching();
        let sequence = [(1, 1), (2, 1), (4, 1), (5, 1), (6, 2), (7, 2)];
        for (number, ssrc) in sequence {
            assert_eq!(filter.judge(EARLY, address(OTHER), &header(number, ssrc)), Verdict::Learning);
        }
        assert_eq!(filter.judge(EARLY, address(OTHER), &header(8, 2)), Verdict::Locked);
        let late = EARLY + TAKE_BACK;
        assert!(!filter.is_settled(EARLY) && filter.is_settled(late));
        assert_eq!(filter.judge(late, address(SIGNALLED), &header(1, 1)), Verdict::Stranger);
    }

    #[test]
    fn signalled_address_takes_the_stream_back_from_who_was_faster() {
        let mut filter = latching();
        for number in 1..=3 {
            filter.judge(EARLY, address(OTHER), &header(number, 666));
        }
        assert_eq!(filter.locked(), Some(address(OTHER)));
        assert_eq!(filter.judge(EARLY, address("203.0.113.1:9"), &header(1, 3)), Verdict::Stranger);
        let soon = EARLY + TAKE_BACK / 2;
        assert_eq!(filter.judge(soon, address(SIGNALLED), &header(1, 1)), Verdict::Locked);
        assert!(filter.is_settled(soon));
        assert_eq!(filter.judge(soon, address(OTHER), &header(4, 666)), Verdict::Stranger);
        assert_eq!(filter.judge(soon, address(SIGNALLED), &header(2, 1)), Verdict::Believed);
    }

    #[test]
    fn signalled_address_wins_while_another_is_being_learned() {
        let mut filter = latching();
        filter.judge(EARLY, address(OTHER), &header(1, 1));
        filter.judge(EARLY, address(OTHER), &header(2, 1));
        assert_eq!(filter.judge(EARLY, address(SIGNALLED), &header(9, 9)), Verdict::Locked);
        assert_eq!(filter.judge(EARLY, address(OTHER), &header(3, 1)), Verdict::Stranger);
    }

    #[test]
    fn strict_policy_never_learns() {
        let mut filter = SourceFilter::new(SourcePolicy::Strict, Some(address(SIGNALLED)));
        for n in 0..10 {
            assert_eq!(filter.judge(EARLY, address(OTHER), &header(n, 1)), Verdict::Stranger);
        }
        assert_eq!(filter.judge(EARLY, address(SIGNALLED), &header(1, 1)), Verdict::Locked);
    }

    #[test]
    fn only_another_signalled_address_starts_learning_over() {
        let mut filter = latching();
        filter.judge(EARLY, address(SIGNALLED), &header(1, 1));
        assert!(!filter.retarget(SourcePolicy::Latch, Some(address(SIGNALLED))));
        assert_eq!(filter.locked(), Some(address(SIGNALLED)));
        assert!(filter.retarget(SourcePolicy::Latch, Some(address(OTHER))));
        assert_eq!(filter.locked(), None);
        assert_eq!(filter.judge(EARLY, address(SIGNALLED), &header(2, 1)), Verdict::Learning);
        assert_eq!(filter.judge(EARLY, address(OTHER), &header(7, 3)), Verdict::Locked);
    }

    #[test]
    fn a_few_strangers_do_not_hinder_the_one_behind_nat() {
        let mut filter = latching();
        for n in 0..2 {
            for stranger in 1..=6 {
                filter.judge(EARLY, SocketAddr::new([203, 0, 113, stranger].into(), 9), &header(n * 10, 3));
            }
            assert_eq!(filter.judge(EARLY, address(OTHER), &header(n, 1)), Verdict::Learning);
        }
        assert_eq!(filter.judge(EARLY, address(OTHER), &header(2, 1)), Verdict::Locked);
    }

    #[test]
    fn mapped_address_is_the_same_address() {
        let mut filter = latching();
        assert_eq!(filter.judge(EARLY, address("[::ffff:192.0.2.1]:4000"), &header(1, 1)), Verdict::Locked);
        assert!(filter.is_source(address(SIGNALLED)));
    }

    #[test]
    fn rtcp_comes_from_the_locked_host_or_the_signalled_address() {
        let mut filter = latching();
        let rtcp = Some(address("192.0.2.1:4001"));
        assert!(filter.believes_rtcp(address("192.0.2.1:4001"), rtcp));
        assert!(!filter.believes_rtcp(address("192.0.2.1:4007"), rtcp));
        filter.judge(EARLY, address(SIGNALLED), &header(1, 1));
        assert!(filter.believes_rtcp(address("192.0.2.1:4007"), rtcp));
        assert!(!filter.believes_rtcp(address(OTHER), rtcp));
    }
}
