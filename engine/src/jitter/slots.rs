//! The packets that wait to be played: fixed memory, placed by sequence number.

use crate::codec::Law;
use crate::codec::comfort_noise::ComfortNoise;

/// Packets that can wait: 640 ms at 10 ms each.
pub(super) const SLOTS: u64 = 64;

/// Audio bytes in one packet: 60 ms of G.711.
pub const MAX_PAYLOAD_BYTES: usize = 480;

#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The extended sequence number; extended numbers are never 0, so 0 is an empty slot.
    pub(super) sequence: u64,
    pub(super) timestamp: i64,
    pub(super) content: Content,
    len: u16,
    payload: [u8; MAX_PAYLOAD_BYTES],
}

/// What a slot holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// As many samples as bytes.
    Audio(Law),
    /// From here on the sender sends no audio, and this noise stands in for it.
    Pause(ComfortNoise),
}

impl Slot {
    const EMPTY: Self = Self {
        sequence: 0,
        timestamp: 0,
        content: Content::Audio(Law::Mu),
        len: 0,
        payload: [0; MAX_PAYLOAD_BYTES],
    };

    pub(super) fn payload(&self) -> &[u8] {
        &self.payload[..usize::from(self.len)]
    }

    pub(super) fn end(&self) -> i64 {
        self.timestamp + i64::from(self.len)
    }
}

/// A ring of slots from the next to be played to the highest that came.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[Slot]>,
    /// Nothing before this number is waiting or wanted.
    first: u64,
    highest: u64,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { slots: vec![Slot::EMPTY; SLOTS as usize].into_boxed_slice(), first: 0, highest: 0 }
    }

    /// Empties the ring; the next packet to come starts it.
    pub(super) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.sequence = 0;
        }
        (self.first, self.highest) = (0, 0);
    }

    /// The highest sequence number that came, 0 if none did.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Stores a packet. Room is made by dropping the oldest; false if the packet itself is too old, or
    /// there already. `payload` is at most [`MAX_PAYLOAD_BYTES`].
    pub(super) fn insert(&mut self, sequence: u64, timestamp: i64, content: Content, payload: &[u8]) -> bool {
        if self.highest == 0 {
            (self.first, self.highest) = (sequence, sequence);
        }
        if sequence < self.first {
            return false;
        }
        if sequence >= self.first + SLOTS {
            let first = sequence - SLOTS + 1;
            for old in self.first..first.min(self.first + SLOTS) {
                self.slot_mut(old).sequence = 0;
            }
            self.first = first;
        }
        self.highest = self.highest.max(sequence);
        let slot = self.slot_mut(sequence);
        if slot.sequence == sequence {
            return false;
        }
        let len = payload.len().min(MAX_PAYLOAD_BYTES);
        slot.payload[..len].copy_from_slice(&payload[..len]);
        (slot.sequence, slot.timestamp, slot.content, slot.len) = (sequence, timestamp, content, len as u16);
        true
    }

    /// Frees what ends at or before `position` and returns the first packet after that, in order of
    /// sequence. A pause is returned until it is freed with [`Slots::free`]. At most [`SLOTS`] steps.
    pub(super) fn next(&mut self, position: i64) -> Option<&Slot> {
        for sequence in self.first..=self.highest {
            let slot = &mut self.slots[(sequence % SLOTS) as usize];
            if slot.sequence != sequence {
                continue;
            }
            if matches!(slot.content, Content::Audio(_)) && slot.end() <= position {
                slot.sequence = 0;
                self.first = sequence + 1;
                continue;
            }
            return Some(&self.slots[(sequence % SLOTS) as usize]);
        }
        None
    }

    /// Decodes the audio from `position` on, without freeing it, as far as it goes on without a gap; how much of `pcm`
    /// that filled. At most [`SLOTS`] steps.
    pub(super) fn peek(&self, position: i64, pcm: &mut [i16]) -> usize {
        let mut filled = 0;
        for sequence in self.first..=self.highest {
            let slot = &self.slots[(sequence % SLOTS) as usize];
            let at = position + filled as i64;
            if slot.sequence != sequence || slot.end() <= at {
                continue;
            }
            let (Content::Audio(law), Ok(offset)) = (slot.content, usize::try_from(at - slot.timestamp))
            else {
                break;
            };
            let encoded = &slot.payload()[offset..];
            let room = &mut pcm[filled..];
            law.decode(encoded, room);
            filled += encoded.len().min(room.len());
            if filled == pcm.len() {
                break;
            }
        }
        filled
    }

    /// Frees one packet and gives up on those before it.
    pub(super) fn free(&mut self, sequence: u64) {
        self.slot_mut(sequence).sequence = 0;
        self.first = self.first.max(sequence + 1);
    }

    /// Where the audio that waits ends, `None` if none waits. At most [`SLOTS`] steps.
    pub(super) fn audio_end(&self) -> Option<i64> {
        (self.first..=self.highest)
            .rev()
            .map(|sequence| &self.slots[(sequence % SLOTS) as usize])
            .find(|slot| slot.sequence >= self.first.max(1) && matches!(slot.content, Content::Audio(_)))
            .map(Slot::end)
    }

    /// The newest packet that waits, in order of sequence. At most [`SLOTS`] steps.
    pub(super) fn newest(&self) -> Option<&Slot> {
        (self.first..=self.highest)
            .rev()
            .map(|sequence| &self.slots[(sequence % SLOTS) as usize])
            .find(|slot| slot.sequence >= self.first.max(1))
    }

    fn slot_mut(&mut self, sequence: u64) -> &mut Slot {
        &mut self.slots[(sequence % SLOTS) as usize]
    }
}
