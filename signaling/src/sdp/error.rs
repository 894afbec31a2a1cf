//! Why a session description was not understood.

/// Why a session description was not understood, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SDP line {line}: {reason}")]
pub struct ParseError {
    /// The line, counted from 1; 0 means the description as a whole.
    pub line: usize,
    /// What is wrong there.
    pub reason: ParseErrorReason,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorReason {
    /// More than [`super::MAX_BYTES`].
    #[error("the description is larger than {} bytes", super::MAX_BYTES)]
    TooLarge,
    /// No `v=` or `o=` line.
    #[error("the description lacks its v= or o= line")]
    Incomplete,
    /// Not of the form `x=...`.
    #[error("not of the form x=value")]
    NotALine,
    /// A NUL or another control character.
    #[error("a control character")]
    ControlCharacter,
    /// Not version 0.
    #[error("the version must be 0")]
    Version,
    /// `o=` must have six fields.
    #[error("o= must have six fields")]
    Origin,
    /// `c=` must be `IN IP4 address` or `IN IP6 address`.
    #[error("c= must be \"IN IP4 address\" or \"IN IP6 address\"")]
    Connection,
    /// `m=` must be `kind port protocol formats`.
    #[error("m= must be \"kind port protocol formats\"")]
    Media,
    /// Not a port, or a port range that ends past 65535.
    #[error("a port outside 0 to 65535")]
    Port,
    /// Not an RTP payload type.
    #[error("an RTP payload type must be a number from 0 to 127")]
    PayloadType,
    /// `a=rtpmap` must be `type name/rate`.
    #[error("a=rtpmap must be \"type name/rate\"")]
    RtpMap,
    /// `a=fmtp` must be `format parameters`.
    #[error("a=fmtp must be \"format parameters\"")]
    Fmtp,
    /// More than [`super::MAX_MEDIA`].
    #[error("more than {} m= lines", super::MAX_MEDIA)]
    TooManyMedia,
    /// More than [`super::MAX_FORMATS`].
    #[error("more than {} formats in one m= line", super::MAX_FORMATS)]
    TooManyFormats,
    /// More than [`super::MAX_ATTRIBUTES`].
    #[error("more than {} attributes in one section", super::MAX_ATTRIBUTES)]
    TooManyAttributes,
}
