//! One direction of a relay as the usual packet meets it: where it must come from, what becomes of it, where it goes.

use std::net::SocketAddr;

use super::parameters::{Conversion, RelayFormat};
use super::{RelayTransmit, Rewriting, Side};
use crate::codec::Law;
use crate::rtp::{Header, Packet};
use crate::source::Address;
use crate::stream::Component;

/// The part that packets read, in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Route {
    /// The party's address, once it is locked.
    pub(super) source: Address,
    /// The other party's.
    pub(super) destination: Address,
    pub(super) ssrc: u32,
    pub(super) new_ssrc: u32,
    pub(super) timestamp_offset: u32,
    pub(super) sequence_offset: u16,
    /// The payload type that came last, and what it becomes.
    pub(super) receive: u8,
    pub(super) send: u8,
    pub(super) action: Action,
    pub(super) header: HeaderChange,
    /// Packets of `source` in that payload type go on without another question.
    pub(super) is_plain: bool,
    /// Something has to be settled by the owner.
    pub(super) has_news: bool,
}

/// What becomes of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Forward,
    ToAlaw,
    ToUlaw,
    Event,
}

/// What becomes of the header, beside the payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderChange {
    Nothing,
    Numbers,
    NumbersAndSsrc,
}

/// A payload type, looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) receive: u8,
    pub(super) send: u8,
    pub(super) action: Action,
    /// The law of its samples, for those who listen.
    pub(super) law: Option<Law>,
}

impl From<RelayFormat> for Known {
    fn from(RelayFormat { receive, send, conversion }: RelayFormat) -> Self {
        let (action, law) = match conversion {
            Conversion::Untouched => (Action::Forward, static_law(receive)),
            Conversion::Law { from: Law::Mu, to: Law::A } => (Action::ToAlaw, Some(Law::Mu)),
            Conversion::Law { from: Law::A, to: Law::Mu } => (Action::ToUlaw, Some(Law::A)),
            Conversion::Law { from, .. } => (Action::Forward, Some(from)),
            Conversion::TelephoneEvent => (Action::Event, None),
        };
        Self { receive, send: send & 0x7F, action, law }
    }
}

impl Known {
    /// A payload type that was not listed, where others may pass.
    pub(super) fn other(payload_type: u8) -> Self {
        let law = static_law(payload_type);
        Self { receive: payload_type, send: payload_type, action: Action::Forward, law }
    }

    /// Whether it goes on as it is.
    pub(super) fn is_untouched(&self) -> bool {
        self.receive == self.send && matches!(self.action, Action::Forward | Action::Event)
    }
}

impl Route {
    pub(super) fn new(rewriting: Rewriting) -> Self {
        let mut route = Self {
            source: Address::NOWHERE,
            destination: Address::NOWHERE,
            ssrc: 0,
            new_ssrc: 0,
            timestamp_offset: 0,
            sequence_offset: 0,
            receive: NO_PAYLOAD_TYPE,
            send: 0,
            action: Action::Forward,
            header: HeaderChange::Nothing,
            is_plain: false,
            has_news: false,
        };
        route.rewrite(rewriting);
        route
    }

    pub(super) fn rewrite(&mut self, rewriting: Rewriting) {
        let Rewriting { ssrc, sequence_offset, timestamp_offset } = rewriting;
        self.header = match ssrc {
            Some(_) => HeaderChange::NumbersAndSsrc,
            None if rewriting == Rewriting::default() => HeaderChange::Nothing,
            None => HeaderChange::Numbers,
        };
        self.new_ssrc = ssrc.unwrap_or(0);
        (self.sequence_offset, self.timestamp_offset) = (sequence_offset, timestamp_offset);
    }

    /// The header of a packet that may go on at once, and where its payload is.
    #[inline]
    pub(super) fn pass(
        &self,
        component: Component,
        remote: SocketAddr,
        datagram: &[u8],
    ) -> Option<(Header, std::ops::Range<usize>)> {
        if !self.is_plain || component != Component::Rtp || self.source != Address::from(remote) {
            return None;
        }
        let packet = Packet::parse(datagram).ok()?;
        let header = packet.header();
        (header.payload_type == self.receive && header.ssrc == self.ssrc)
            .then(|| (header, packet.payload_range()))
    }

    /// Makes a packet what the other party is to get.
    #[inline]
    pub(super) fn convert(
        &self,
        known: (u8, Action),
        header: &Header,
        payload: std::ops::Range<usize>,
        datagram: &mut [u8],
    ) {
        let (send, action) = known;
        match action {
            Action::Forward | Action::Event => {}
            Action::ToAlaw => Law::Mu.transcode_in_place(Law::A, &mut datagram[payload]),
            Action::ToUlaw => Law::A.transcode_in_place(Law::Mu, &mut datagram[payload]),
        }
        let Some(fixed) = datagram.first_chunk_mut::<{ Header::BYTES }>() else { return };
        fixed[1] = fixed[1] & 0x80 | send;
        if self.header == HeaderChange::Nothing {
            return;
        }
        let sequence = header.sequence_number.0.wrapping_add(self.sequence_offset);
        fixed[2..4].copy_from_slice(&sequence.to_be_bytes());
        fixed[4..8].copy_from_slice(&header.timestamp.wrapping_add(self.timestamp_offset).to_be_bytes());
        if self.header == HeaderChange::NumbersAndSsrc {
            fixed[8..12].copy_from_slice(&self.new_ssrc.to_be_bytes());
        }
    }

    /// Where a packet of `side` of this length goes on to.
    #[inline]
    pub(super) fn transmit(&self, side: Side, len: usize) -> RelayTransmit {
        RelayTransmit { side: side.other(), component: Component::Rtp, remote: self.destination.into(), len }
    }
}

/// The law that RFC 3551 gives a payload type.
fn static_law(payload_type: u8) -> Option<Law> {
    match payload_type {
        0 => Some(Law::Mu),
        8 => Some(Law::A),
        _ => None,
    }
}

/// None has come yet.
pub(super) const NO_PAYLOAD_TYPE: u8 = 0xFF;

const _: () = assert!(size_of::<Route>() == 64, "one cache line");
