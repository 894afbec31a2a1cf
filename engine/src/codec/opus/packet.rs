//! What a packet says of itself (RFC 6716 section 3), read without a decoder.

/// The first byte, the table of contents.
///
/// ```text
///  0 1 2 3 4 5 6 7
/// +-+-+-+-+-+-+-+-+
/// | config  |s| c |   config: mode, bandwidth and frame size   s: stereo   c: how many frames
/// +-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Copy)]
struct Toc(u8);

impl Toc {
    const fn config(self) -> u8 {
        self.0 >> 3
    }

    const fn is_stereo(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// SILK alone or with CELT; CELT alone has no redundancy.
    const fn has_silk(self) -> bool {
        self.config() < FIRST_CELT
    }

    /// Ticks of 48 kHz in one frame (table 2).
    const fn frame_ticks(self) -> u32 {
        let config = self.config();
        match (config, config & 3) {
            (..FIRST_HYBRID, 3) => 2_880,
            (..FIRST_HYBRID, size) => 480 << size,
            (..FIRST_CELT, size) => 480 << (size & 1),
            (_, size) => 120 << size,
        }
    }
}

/// The ticks of the 48 kHz clock that a packet covers, at most 120 ms; `None` if it breaks a rule of section
/// 3.2 that can be seen from its first two bytes.
#[must_use]
pub fn ticks(packet: &[u8]) -> Option<u32> {
    let (&first, rest) = packet.split_first()?;
    let toc = Toc(first);
    let ticks = frames(toc, rest)? * toc.frame_ticks();
    (ticks <= MAX_TICKS).then_some(ticks)
}

/// Whether a packet repeats the one before it (low bit-rate redundancy, section 4.2.4).
#[must_use]
pub fn has_fec(packet: &[u8]) -> bool {
    let Some((&first, rest)) = packet.split_first() else { return false };
    let toc = Toc(first);
    let Some(&header) = first_frame(toc, rest).and_then(<[u8]>::first) else { return false };
    if !toc.has_silk() {
        return false;
    }
    // The frame begins with a bit per SILK frame of 20 ms, whether it is voice, and one for the redundancy,
    // for each channel; as bits of even odds they can be read without the range decoder (section 4.2.3).
    let silk_frames = (toc.frame_ticks() / 960).max(1);
    let is_set = |position: u32| (header >> position) & 1 != 0;
    is_set(7 - silk_frames) || (toc.is_stereo() && is_set(6 - 2 * silk_frames))
}

fn frames(toc: Toc, rest: &[u8]) -> Option<u32> {
    match toc.0 & 3 {
        0 => Some(1),
        1 | 2 => Some(2),
        _ => Some(u32::from(rest.first()? & 0x3F)).filter(|&frames| frames > 0),
    }
}

/// Where the first frame begins; its end is not looked for.
fn first_frame(toc: Toc, rest: &[u8]) -> Option<&[u8]> {
    match toc.0 & 3 {
        0 | 1 => Some(rest),
        2 => split_length(rest).and_then(|(len, rest)| (len > 0).then_some(rest)),
        _ => {
            let (&count, mut rest) = rest.split_first()?;
            if count & PADDED != 0 {
                // Each 255 says 254 bytes and that another length byte follows (section 3.2.5).
                while *rest.split_off_first()? == 255 {}
            }
            let mut first_len = None;
            if count & VARIABLE != 0 {
                for _ in 1..count & 0x3F {
                    let (len, after) = split_length(rest)?;
                    first_len.get_or_insert(len);
                    rest = after;
                }
            }
            Some(rest).filter(|_| first_len != Some(0))
        }
    }
}

/// A frame length of one or two bytes (section 3.2.1).
fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match *bytes {
        [short @ ..252, ref rest @ ..] => Some((usize::from(short), rest)),
        [long, more, ref rest @ ..] => Some((usize::from(more) * 4 + usize::from(long), rest)),
        _ => None,
    }
}

/// 120 ms.
const MAX_TICKS: u32 = 5_760;
const FIRST_HYBRID: u8 = 12;
const FIRST_CELT: u8 = 16;
/// Flags of the frame count byte (section 3.2.5).
const VARIABLE: u8 = 0x80;
const PADDED: u8 = 0x40;
