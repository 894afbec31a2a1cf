//! The fixed parts of sender and receiver reports (RFC 3550 sections 6.4.1 and 6.4.2).

/// What a sender says of itself.
///
/// ```text
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |       NTP timestamp, most significant word, then least        |
/// |                         RTP timestamp                         |
/// |                     sender's packet count                     |
/// |                      sender's octet count                     |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// Seconds since 1900 in the upper, their fraction in the lower half.
    pub ntp: u64,
    /// The RTP timestamp of the same moment.
    pub rtp_timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

impl SenderInfo {
    /// Its length.
    pub const BYTES: usize = 20;

    /// Reads it.
    #[must_use]
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Self {
        let [high, low, rtp_timestamp, packets, octets] = words(bytes);
        Self { ntp: u64::from(high) << 32 | u64::from(low), rtp_timestamp, packets, octets }
    }

    /// Writes it.
    #[must_use]
    pub fn write(&self) -> [u8; Self::BYTES] {
        let (high, low) = ((self.ntp >> 32) as u32, self.ntp as u32);
        bytes([high, low, self.rtp_timestamp, self.packets, self.octets])
    }

    /// The middle half of the NTP timestamp, as LSR carries it.
    #[must_use]
    pub const fn middle_of_ntp(&self) -> u32 {
        (self.ntp >> 16) as u32
    }
}

/// What a receiver says of one source.
///
/// ```text
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                              SSRC                             |
/// | fraction lost |       cumulative number of packets lost       |
/// |           extended highest sequence number received           |
/// |                      interarrival jitter                      |
/// |                         last SR (LSR)                         |
/// |                   delay since last SR (DLSR)                  |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// In 256ths, since the last report.
    pub fraction_lost: u8,
    /// Since the start, 24 bits with sign.
    pub cumulative_lost: i32,
    /// Cycles in the upper, the highest sequence number in the lower half.
    pub extended_highest: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// The middle of the NTP timestamp of the last sender report, 0 if there was none.
    pub last_sender_report: u32,
    /// In 65,536ths of a second.
    pub delay_since_last_sender_report: u32,
}

impl ReportBlock {
    /// Its length.
    pub const BYTES: usize = 24;

    /// Reads it.
    #[must_use]
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Self {
        let [ssrc, loss, extended_highest, jitter, last_sender_report, delay_since_last_sender_report] =
            words(bytes);
        Self {
            ssrc,
            fraction_lost: (loss >> 24) as u8,
            // Shifted up and down again to spread the sign of the 24 bits.
            cumulative_lost: (loss << 8) as i32 >> 8,
            extended_highest,
            jitter,
            last_sender_report,
            delay_since_last_sender_report,
        }
    }

    /// Writes it.
    #[must_use]
    pub fn write(&self) -> [u8; Self::BYTES] {
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF) as u32 & 0xFF_FFFF;
        bytes([
            self.ssrc,
            u32::from(self.fraction_lost) << 24 | lost,
            self.extended_highest,
            self.jitter,
            self.last_sender_report,
            self.delay_since_last_sender_report,
        ])
    }

    /// The round-trip time in 65,536ths of a second when the block arrives at `middle_of_ntp` (section
    /// 6.4.1: A - LSR - DLSR); `None` before the first sender report or if the clocks say less than zero.
    #[must_use]
    pub fn round_trip(&self, middle_of_ntp: u32) -> Option<u32> {
        if self.last_sender_report == 0 {
            return None;
        }
        let elapsed = middle_of_ntp.wrapping_sub(self.last_sender_report);
        elapsed.checked_sub(self.delay_since_last_sender_report)
    }
}

fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES]) -> [u32; WORDS] {
    const { assert!(BYTES == 4 * WORDS) };
    let mut words = [0; WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*chunk);
    }
    words
}

fn bytes<const BYTES: usize, const WORDS: usize>(words: [u32; WORDS]) -> [u8; BYTES] {
    const { assert!(BYTES == 4 * WORDS) };
    let mut bytes = [0; BYTES];
    for (chunk, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *chunk = word.to_be_bytes();
    }
    bytes
}
