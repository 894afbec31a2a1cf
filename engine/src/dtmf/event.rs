//! The payload of a telephone-event packet.

/// One telephone-event report (RFC 4733 section 2.3).
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |     event     |E|R| volume    |          duration             |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// What: 0 to 15 are the DTMF digits.
    pub event: u8,
    /// The key was released.
    pub end: bool,
    /// Power in -dBm0, 0 to 63.
    pub volume: u8,
    /// So far, in timestamp units.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Its length.
    pub const BYTES: usize = 4;

    /// Reads the first report of a payload, `None` if it is too short. What follows is passed over.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let &[event, second, d0, d1] = payload.first_chunk::<{ Self::BYTES }>()?;
        let duration = u16::from_be_bytes([d0, d1]);
        Some(Self { event, end: second & 0x80 != 0, volume: second & 0x3F, duration })
    }

    /// Writes it.
    #[must_use]
    pub fn write(&self) -> [u8; Self::BYTES] {
        let [d0, d1] = self.duration.to_be_bytes();
        let end = if self.end { 0x80 } else { 0 };
        [self.event, end | (self.volume & 0x3F), d0, d1]
    }
}
