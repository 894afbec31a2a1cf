//! One digit per key, whatever the network does to its packets (RFC 4733 section 2.5.2).

use super::event::TelephoneEvent;
use crate::command::Digit;
use crate::rtp::TICK_NANOS;
use crate::time::{Duration, Instant};

/// A key that was pressed and released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedDigit {
    /// Which key.
    pub digit: Digit,
    /// How long it was down.
    pub duration: Duration,
}

/// Tells keys apart by the RTP timestamp of their beginning.
///
/// A key is over when a packet says so, when the next key begins, or when nothing comes for
/// [`DtmfReceiver::TIMEOUT`].
#[derive(Clone, Copy, Debug, Default)]
pub struct DtmfReceiver {
    key: Option<Key>,
    /// Beginnings of keys that were reported, so that stragglers do not report them again.
    reported: [Option<u32>; REMEMBERED],
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    digit: Digit,
    timestamp: u32,
    /// The whole segments before `timestamp` (section 2.5.1.3).
    earlier_segments: u32,
    duration: u16,
    last_packet: Instant,
    /// A packet said that the key is up.
    ended: bool,
    reported: bool,
}

impl Key {
    fn total(&self) -> u32 {
        self.earlier_segments.saturating_add(u32::from(self.duration))
    }

    /// Whether an event that begins at `timestamp` is the rest of this key: a long key is cut into
    /// segments that follow each other without a gap and without marker.
    fn continues_at(&self, timestamp: u32, digit: Digit, marker: bool) -> bool {
        let distance = timestamp.wrapping_sub(self.timestamp);
        !marker
            && !self.ended
            && digit == self.digit
            && (distance == u32::from(u16::MAX)
                || (self.duration > 0 && distance == u32::from(self.duration)))
    }
}

impl DtmfReceiver {
    /// Longer than any sender waits between two packets of one key.
    pub const TIMEOUT: Duration = Duration::from_millis(200);

    /// Takes one packet; returns the key that it ended, if any. A packet can end one key and begin
    /// another, but not end both unless the second is a straggler, which is then reported first.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        timestamp: u32,
        marker: bool,
        event: TelephoneEvent,
    ) -> [Option<ReceivedDigit>; 2] {
        // Zero is for events that are states, which digits are not (section 2.3.5).
        let Some(digit) = Digit::from_event(event.event).filter(|_| event.duration > 0) else {
            return [None; 2];
        };
        let mut ended = None;
        match &mut self.key {
            Some(key) if key.timestamp == timestamp => {
                if key.digit != digit {
                    return [None; 2];
                }
                key.duration = key.duration.max(event.duration);
                key.last_packet = now;
            }
            Some(key) if key.continues_at(timestamp, digit, marker) => {
                key.earlier_segments =
                    key.earlier_segments.saturating_add(timestamp.wrapping_sub(key.timestamp));
                key.timestamp = timestamp;
                key.duration = event.duration;
                key.last_packet = now;
            }
            Some(key) if (timestamp.wrapping_sub(key.timestamp) as i32) < 0 => {
                return [self.straggler(timestamp, digit, event), None];
            }
            _ => {
                ended = self.end();
                let known = self.is_reported(timestamp);
                self.key = Some(Key {
                    digit,
                    timestamp,
                    earlier_segments: 0,
                    duration: event.duration,
                    last_packet: now,
                    ended: false,
                    reported: known,
                });
            }
        }
        let mut own = None;
        if event.end {
            own = self.end();
            if let Some(key) = &mut self.key {
                key.ended = true;
            }
        }
        [ended, own]
    }

    /// Reports a key whose packets have ceased.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<ReceivedDigit> {
        let key = self.key.as_ref()?;
        if now.saturating_duration_since(key.last_packet) >= Self::TIMEOUT { self.end() } else { None }
    }

    /// Whether a key is down, so that the audio beside it is not to be heard.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.key_down().is_some()
    }

    /// The key that is down.
    #[must_use]
    pub fn key_down(&self) -> Option<Digit> {
        self.key.as_ref().filter(|key| !key.reported).map(|key| key.digit)
    }

    /// A key of which nothing came before the key after it.
    fn straggler(&mut self, timestamp: u32, digit: Digit, event: TelephoneEvent) -> Option<ReceivedDigit> {
        let key = self.key.as_ref()?;
        let distance = key.timestamp.wrapping_sub(timestamp);
        let within = distance <= key.earlier_segments;
        if within || distance > STRAGGLER_SAMPLES || self.is_reported(timestamp) {
            return None;
        }
        self.remember(timestamp);
        Some(received(digit, u32::from(event.duration)))
    }

    fn end(&mut self) -> Option<ReceivedDigit> {
        let key = self.key.as_mut().filter(|key| !key.reported)?;
        key.reported = true;
        let first = key.timestamp.wrapping_sub(key.earlier_segments);
        let ended = received(key.digit, key.total());
        self.remember(first);
        Some(ended)
    }

    fn is_reported(&self, timestamp: u32) -> bool {
        self.reported.contains(&Some(timestamp))
    }

    fn remember(&mut self, timestamp: u32) {
        self.reported[self.next] = Some(timestamp);
        self.next = (self.next + 1) % REMEMBERED;
    }
}

fn received(digit: Digit, samples: u32) -> ReceivedDigit {
    ReceivedDigit { digit, duration: Duration::from_nanos(u64::from(samples) * TICK_NANOS) }
}

const REMEMBERED: usize = 8;
/// Packets that come more than two seconds late are not reordered but replayed.
const STRAGGLER_SAMPLES: u32 = 16_000;
