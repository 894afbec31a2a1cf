//! Send times inside the audio: a way through servers that pass PCMU on unchanged, however they cut it.

/// What a stamped packet begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// `CLOCK_MONOTONIC` when the packet left.
    pub(super) sent_ns: u64,
    /// Counts the packets of a call.
    pub(super) number: u32,
}

impl Stamp {
    /// Writes it over the beginning of a packet's audio.
    pub(super) fn write(self, audio: &mut [u8]) {
        if let Some((into, _)) = audio.split_first_chunk_mut::<LEN>() {
            into[..MAGIC.len()].copy_from_slice(&MAGIC);
            into[8..16].copy_from_slice(&self.sent_ns.to_be_bytes());
            into[16..20].copy_from_slice(&self.number.to_be_bytes());
            into[20..].copy_from_slice(&self.check().to_be_bytes());
        }
    }

    fn read(audio: &[u8]) -> Option<Self> {
        let rest = audio.strip_prefix(&MAGIC)?;
        let (sent_ns, rest) = rest.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<4>()?;
        let (check, _) = rest.split_first_chunk::<4>()?;
        let stamp = Self { sent_ns: u64::from_be_bytes(*sent_ns), number: u32::from_be_bytes(*number) };
        (stamp.check() == u32::from_be_bytes(*check)).then_some(stamp)
    }

    /// A jitter buffer may join the audio of two packets in the middle of a stamp.
    fn check(self) -> u32 {
        let mixed =
            (self.sent_ns ^ u64::from(self.number).rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as u32
    }
}

/// Finds the stamps in one direction of one call.
#[derive(Clone, Debug, Default)]
pub(super) struct Finder {
    /// The end of what came, in which a stamp may have begun.
    tail: Vec<u8>,
    next: Option<u32>,
}

/// A stamp that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) stamp: Stamp,
    /// Packets that should have come before it and did not.
    pub(super) missing: u32,
}

impl Finder {
    /// Takes the next audio of the call.
    pub(super) fn feed(&mut self, audio: &[u8], mut found: impl FnMut(Found)) {
        // Nearly always the audio is cut as it was sent.
        if self.tail.is_empty()
            && audio.len() == PACKET
            && let Some(stamp) = Stamp::read(audio)
        {
            found(self.count(stamp));
            return;
        }
        self.tail.extend_from_slice(audio);
        let mut at = 0;
        while let Some(rest) = self.tail.get(at..).filter(|rest| rest.len() >= LEN) {
            match rest.windows(MAGIC.len()).position(|window| window == MAGIC) {
                Some(begin) if rest.len() - begin >= LEN => {
                    if let Some(stamp) = Stamp::read(&rest[begin..]) {
                        found(self.count(stamp));
                    }
                    at += begin + LEN;
                }
                Some(begin) => {
                    at += begin;
                    break;
                }
                None => {
                    at += rest.len() - (MAGIC.len() - 1);
                    break;
                }
            }
        }
        self.tail.drain(..at);
        // Cut as it was sent again: nothing of the tail can begin a stamp.
        if !(1..MAGIC.len()).any(|length| self.tail.ends_with(&MAGIC[..length]))
            && self.tail.len() < MAGIC.len()
        {
            self.tail.clear();
        }
    }

    fn count(&mut self, stamp: Stamp) -> Found {
        let missing = self.next.map_or(0, |next| stamp.number.saturating_sub(next));
        self.next = Some(stamp.number.wrapping_add(1));
        Found { stamp, missing }
    }
}

/// Bytes that speech does not hold: no word of silence, and far apart.
const MAGIC: [u8; 8] = [0x13, 0x9c, 0x2e, 0xb1, 0x47, 0xd5, 0x08, 0xe3];
const LEN: usize = 24;
const PACKET: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(count: u32) -> Vec<[u8; PACKET]> {
        (0..count)
            .map(|number| {
                let mut audio = [0x55; PACKET];
                Stamp { sent_ns: u64::from(number) * 20_000_000, number }.write(&mut audio);
                audio
            })
            .collect()
    }

    fn found(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<(u32, u32)> {
        let (mut finder, mut all) = (Finder::default(), Vec::new());
        for piece in pieces {
            finder.feed(&piece, |found| {
                assert_eq!(found.stamp.sent_ns, u64::from(found.stamp.number) * 20_000_000);
                all.push((found.stamp.number, found.missing));
            });
            assert!(finder.tail.len() < PACKET + LEN);
        }
        all
    }

    #[test]
    fn stamps_are_found_wherever_the_audio_is_cut() {
        let all = packets(10).concat();
        for size in [1, 7, 23, 24, 100, 159, 160, 161, 320, 1_000] {
            let pieces = all.chunks(size).map(<[u8]>::to_vec);
            assert_eq!(found(pieces), (0..10).map(|number| (number, 0)).collect::<Vec<_>>(), "{size}");
        }
    }

    #[test]
    fn a_packet_that_did_not_come_is_missing_once() {
        let mut all = packets(10);
        all.drain(3..5);
        let pieces = all.into_iter().map(|packet| packet.to_vec());
        assert_eq!(found(pieces).iter().map(|(_, missing)| missing).sum::<u32>(), 2);
    }

    #[test]
    fn a_stamp_that_was_joined_to_another_is_none() {
        let all = packets(3);
        let joined = [&all[0][..18], &all[2][18..], &all[1][..]].concat();
        assert_eq!(found([joined]), [(1, 0)]);
    }

    #[test]
    fn audio_without_stamps_holds_none() {
        assert_eq!(found(vec![vec![0xff; 160]; 20]), []);
    }
}
