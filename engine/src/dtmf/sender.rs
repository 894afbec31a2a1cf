//! Sends keys as telephone-events, one packet per frame (RFC 4733 section 2.5.1).

use super::event::TelephoneEvent;
use crate::command::Digit;
use crate::rtp::TICK_NANOS;
use crate::time::Duration;

/// One packet to send instead of audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPacket {
    /// The first of its key.
    pub marker: bool,
    /// The beginning of the key, the same in all its packets.
    pub timestamp: u32,
    /// The payload.
    pub event: TelephoneEvent,
}

/// Keys that wait, and the one being sent: an update per frame while it is down, then three packets that
/// end it, then a gap in which audio flows.
#[derive(Clone, Copy, Debug)]
pub struct DtmfSender {
    waiting: [Option<(Digit, u16)>; Self::CAPACITY],
    first: usize,
    count: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Down { digit: Digit, timestamp: u32, duration: u16, elapsed: u32 },
    Ending { digit: Digit, timestamp: u32, duration: u16, left: u8 },
    Gap { left: u32 },
}

impl DtmfSender {
    /// Keys that may wait.
    pub const CAPACITY: usize = 32;

    /// Nothing to send.
    #[must_use]
    pub const fn new() -> Self {
        Self { waiting: [None; Self::CAPACITY], first: 0, count: 0, state: State::Idle }
    }

    /// Queues a key, held for 40 ms to 6 s; false if the queue is full.
    pub fn push(&mut self, digit: Digit, duration: Duration) -> bool {
        if self.count == Self::CAPACITY {
            return false;
        }
        let duration = duration.clamp(SHORTEST, LONGEST);
        let samples = (duration.as_nanos() / u128::from(TICK_NANOS)) as u16;
        self.waiting[(self.first + self.count) % Self::CAPACITY] = Some((digit, samples));
        self.count += 1;
        true
    }

    /// The packet for the frame of `samples` that begins at `timestamp`; `None` if it carries audio.
    pub fn next_frame(&mut self, timestamp: u32, samples: u32) -> Option<EventPacket> {
        if let State::Gap { left } = self.state {
            self.state = match left.checked_sub(samples) {
                Some(left) if left > 0 => State::Gap { left },
                _ => State::Idle,
            };
            return None;
        }
        if self.state == State::Idle {
            let (digit, duration) = self.pop()?;
            self.state = State::Down { digit, timestamp, duration, elapsed: 0 };
        }
        match &mut self.state {
            State::Down { digit, timestamp, duration, elapsed } => {
                let marker = *elapsed == 0;
                *elapsed += samples;
                let (digit, timestamp, duration) = (*digit, *timestamp, *duration);
                if *elapsed >= u32::from(duration) {
                    // The key comes up within this frame, so this is already the first ending packet,
                    // unless it is the first of all: then one packet says that the key went down.
                    if !marker {
                        self.state = State::Ending { digit, timestamp, duration, left: ENDING_PACKETS - 1 };
                        return Some(packet(false, timestamp, digit, true, duration));
                    }
                    self.state = State::Ending { digit, timestamp, duration, left: ENDING_PACKETS };
                    return Some(packet(true, timestamp, digit, false, duration));
                }
                Some(packet(marker, timestamp, digit, false, *elapsed as u16))
            }
            State::Ending { digit, timestamp, duration, left } => {
                let ending = packet(false, *timestamp, *digit, true, *duration);
                *left -= 1;
                if *left == 0 {
                    self.state = State::Gap { left: GAP_SAMPLES };
                }
                Some(ending)
            }
            State::Idle | State::Gap { .. } => None,
        }
    }

    /// Takes the key that waits longest out, and how many samples it is to be held, to be sent in another way.
    /// What is being sent is given up.
    pub fn next_key(&mut self) -> Option<(Digit, u16)> {
        self.state = State::Idle;
        self.pop()
    }

    /// Gives up what waits and what is being sent.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    fn pop(&mut self) -> Option<(Digit, u16)> {
        let key = self.waiting[self.first].take()?;
        self.first = (self.first + 1) % Self::CAPACITY;
        self.count -= 1;
        Some(key)
    }
}

impl Default for DtmfSender {
    fn default() -> Self {
        Self::new()
    }
}

fn packet(marker: bool, timestamp: u32, digit: Digit, end: bool, duration: u16) -> EventPacket {
    let event = TelephoneEvent { event: digit.event(), end, volume: VOLUME, duration };
    EventPacket { marker, timestamp, event }
}

const ENDING_PACKETS: u8 = 3;
/// -10 dBm0, as most senders have it.
const VOLUME: u8 = 10;
const SHORTEST: Duration = Duration::from_millis(40);
const LONGEST: Duration = Duration::from_secs(6);
/// 40 ms after the last ending packet.
const GAP_SAMPLES: u32 = 320;
