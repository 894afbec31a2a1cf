//! Why no media can be agreed on.

/// Why no media can be agreed on; SIP answers 488 with this as a Warning (RFC 3261 section 20.43).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No `m=` line at all.
    #[error("the description has no m= line")]
    NoMedia,
    /// No audio that is switched on.
    #[error("no audio is offered or accepted")]
    NoAudio,
    /// Audio only over something other than plain RTP, such as SRTP.
    #[error("audio is only offered over a profile other than RTP/AVP")]
    Transport,
    /// No codec in common; telephone-event or comfort noise alone do not make a call.
    #[error("no audio codec in common, this side has PCMU and PCMA")]
    Format,
    /// No `c=`, a host name, or an address of a family that we have no media address for.
    #[error("no media address of a family that both sides have")]
    AddressFormat,
    /// A multicast, broadcast or reserved address, or one of our own control ports.
    #[error("media may not be sent to the address")]
    ForbiddenAddress,
    /// The answer does not fit the offer.
    #[error("the answer does not have the m= lines of the offer")]
    Mismatch,
}

impl Refusal {
    /// The warn-code and warn-text.
    #[must_use]
    pub const fn warning(self) -> (u16, &'static str) {
        match self {
            Self::NoMedia | Self::NoAudio => (304, "Media type not available"),
            Self::Transport => (302, "Incompatible transport protocol"),
            Self::Format => (305, "Incompatible media format"),
            Self::AddressFormat => (301, "Incompatible network address formats"),
            Self::ForbiddenAddress => (399, "Media address not allowed"),
            Self::Mismatch => (399, "Answer does not match the offer"),
        }
    }

    /// Code and text in one, such as `305 Incompatible media format`.
    #[must_use]
    pub fn warning_text(self) -> String {
        let (code, text) = self.warning();
        format!("{code} {text}")
    }
}
