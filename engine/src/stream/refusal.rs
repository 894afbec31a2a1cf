//! Why a packet was not taken, with a count each.

use crate::rtp::RejectReason;

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)*) => {
        /// Why a packet was not taken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[doc = $doc])+ $variant,)* }

        impl Refusal {
            /// Every reason.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name for metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

refusals! {
    /// Shorter than a header.
    TooShort => "too_short",
    /// Not RTP version 2.
    Version => "version",
    /// The CSRC list is longer than the packet.
    CsrcCount => "csrc_count",
    /// The header extension is longer than the packet.
    ExtensionLength => "extension_length",
    /// Wrong padding.
    Padding => "padding",
    /// Not an RTCP packet type.
    RtcpType => "rtcp_type",
    /// A compound RTCP packet whose lengths do not add up.
    RtcpLength => "rtcp_length",
    /// A payload type that was not negotiated.
    PayloadType => "payload_type",
    /// Empty, or longer than 60 ms of audio.
    PayloadLength => "payload_length",
    /// RTP from an address that is not the stream's source.
    Stranger => "stranger",
    /// RTP from an address that has yet to prove itself.
    Learning => "learning",
    /// RTCP from a host that is not the stream's source.
    RtcpStranger => "rtcp_stranger",
    /// Media while the negotiated direction has none.
    NotReceiving => "not_receiving",
    /// Another SSRC that has yet to prove itself.
    Probation => "probation",
    /// A sequence number far from the others.
    SequenceJump => "sequence_jump",
    /// The sequence number was seen before.
    Duplicate => "duplicate",
    /// A packet before the stream's start or after its end.
    NotRunning => "not_running",
    /// A digit or event that did not fit its queue.
    QueueFull => "queue_full",
    /// Media not sent because the address must never get any.
    ForbiddenDestination => "forbidden_destination",
    /// Media not relayed because the other party is not to get any.
    NotSending => "not_sending",
    /// Media not relayed because the other party's address is not known.
    NoDestination => "no_destination",
    /// Media not relayed because the other party never answered.
    SilentPeer => "silent_peer",
}

impl From<RejectReason> for Refusal {
    fn from(reason: RejectReason) -> Self {
        match reason {
            RejectReason::TooShort => Self::TooShort,
            RejectReason::Version => Self::Version,
            RejectReason::CsrcCount => Self::CsrcCount,
            RejectReason::ExtensionLength => Self::ExtensionLength,
            RejectReason::Padding => Self::Padding,
            RejectReason::RtcpType => Self::RtcpType,
            RejectReason::RtcpLength => Self::RtcpLength,
        }
    }
}

/// One count per [`Refusal`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    /// Counts one.
    pub fn add(&mut self, refusal: Refusal) {
        self.0[refusal as usize] += 1;
    }

    /// Counts several.
    pub(crate) fn add_many(&mut self, refusal: Refusal, count: u64) {
        self.0[refusal as usize] += count;
    }

    /// The count of one reason.
    #[must_use]
    pub fn count(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize]
    }

    /// The packets among them: all but what concerns our own queues and destinations.
    #[must_use]
    pub fn packets(&self) -> u64 {
        const OWN: [Refusal; 5] = [
            Refusal::QueueFull,
            Refusal::ForbiddenDestination,
            Refusal::NotSending,
            Refusal::NoDestination,
            Refusal::SilentPeer,
        ];
        self.0.iter().sum::<u64>() - OWN.map(|refusal| self.count(refusal)).iter().sum::<u64>()
    }

    /// All counts, those of zero too.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.into_iter().zip(self.0)
    }
}
