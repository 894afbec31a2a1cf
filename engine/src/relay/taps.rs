//! Who listens to what a party sends: keys as telephone-events, and keys as tones.

use super::{Relay, RelayEvent, Side};
use crate::ai::tap::{TapId, TapPort, TapTrack};
use crate::codec::Law;
use crate::command::Digit;
use crate::dtmf::inband::{InbandDetector, InbandEvent};
use crate::dtmf::{DtmfReceiver, ReceivedDigit, TelephoneEvent};
use crate::rtp::{Header, TICK_NANOS};
use crate::time::{Duration, Instant};

/// Keys of one party.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys {
    events: DtmfReceiver,
    /// When the key that is down counts as released.
    pub(super) deadline: Option<Instant>,
    last: Option<Told>,
    pub(super) told: u64,
    pub(super) told_inband: u64,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    digit: Digit,
    at: Instant,
    inband: bool,
}

impl Keys {
    /// Takes a telephone-event packet.
    pub(super) fn handle_event(
        &mut self,
        now: Instant,
        side: Side,
        header: &Header,
        payload: &[u8],
        events: &mut Events,
    ) {
        let Some(event) = TelephoneEvent::parse(payload) else { return };
        for digit in
            self.events.handle_packet(now, header.timestamp, header.marker, event).into_iter().flatten()
        {
            self.tell(now, side, digit, false, events);
        }
        self.deadline = self.events.is_active().then(|| now + DtmfReceiver::TIMEOUT);
    }

    /// Ends a key whose packets have ceased.
    pub(super) fn handle_timeout(&mut self, now: Instant, side: Side, events: &mut Events) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            if let Some(digit) = self.events.handle_timeout(now) {
                self.tell(now, side, digit, false, events);
            }
        }
    }

    /// Tells a key, unless it came the other way just before: gateways send both.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        side: Side,
        ReceivedDigit { digit, duration }: ReceivedDigit,
        inband: bool,
        events: &mut Events,
    ) {
        let is_down = inband && self.events.key_down() == Some(digit);
        let came_before = self.last.is_some_and(|last| {
            last.digit == digit
                && last.inband != inband
                && now.saturating_duration_since(last.at) < duration + OTHER_WAY
        });
        if is_down || came_before {
            return;
        }
        self.last = Some(Told { digit, at: now, inband });
        self.told += 1;
        self.told_inband += u64::from(inband);
        events.push(RelayEvent::Dtmf { side, digit, duration, inband });
    }
}

impl Relay {
    /// Adds a listener, or gives it back if there is no room.
    #[must_use]
    pub fn add_tap(&mut self, now: Instant, tap: Box<TapPort>) -> Option<Box<TapPort>> {
        self.now = now;
        let back = self.listeners.add(tap);
        self.refresh();
        back
    }

    /// Takes a listener out.
    #[must_use]
    pub fn remove_tap(&mut self, now: Instant, id: TapId) -> Option<Box<TapPort>> {
        self.now = now;
        let tap = self.listeners.remove(id);
        self.refresh();
        tap
    }

    /// Whether somebody has to hear every packet of audio.
    pub(super) fn hears_audio(&self) -> bool {
        self.parameters.taps.inband_dtmf || !self.listeners.is_empty()
    }
}

impl Side {
    /// What its party sends, as telephony platforms name it.
    pub(super) fn track(self) -> TapTrack {
        match self {
            Self::A => TapTrack::Inbound,
            Self::B => TapTrack::Outbound,
        }
    }
}

/// The ears of a relay for keys that are tones: about 3 kB, so only relays that need them have them.
#[derive(Debug)]
pub struct RelayEars([Ear; 2]);

#[derive(Debug)]
struct Ear {
    detector: InbandDetector,
    /// The timestamp that would follow.
    expected: Option<u32>,
}

impl RelayEars {
    /// Ears that have heard nothing.
    #[must_use]
    pub fn new() -> Box<Self> {
        Box::new(Self([(); 2].map(|()| Ear { detector: InbandDetector::new(), expected: None })))
    }

    /// Listens to one packet of a party; `found` gets the keys that are over.
    pub(super) fn hear(
        &mut self,
        side: Side,
        header: &Header,
        law: Law,
        payload: &[u8],
        mut found: impl FnMut(ReceivedDigit),
    ) {
        let Ear { detector, expected } = &mut self.0[side.index()];
        let mut found = |event| {
            if let InbandEvent::End { digit, duration_samples, .. } = event {
                let duration = Duration::from_nanos(duration_samples * TICK_NANOS);
                found(ReceivedDigit { digit, duration });
            }
        };
        let gap = expected.map_or(0, |expected| header.timestamp.wrapping_sub(expected));
        match gap {
            0 => {}
            // A tone goes on behind a short gap; what is late is not heard.
            1..=LONGEST_GAP => {
                let silence = [0; LONGEST_GAP as usize];
                detector.process(&silence[..gap as usize], &mut found);
            }
            _ if gap.cast_signed() < 0 && gap.cast_signed() > -REORDERED => return,
            _ => detector.finish(&mut found),
        }
        let mut pcm = [0; MOST_SAMPLES];
        let samples = payload.len().min(MOST_SAMPLES);
        law.decode(payload, &mut pcm[..samples]);
        detector.process(&pcm[..samples], &mut found);
        *expected = Some(header.timestamp.wrapping_add(samples as u32));
    }
}

/// What happened and was not told yet: bounded, because a peer makes it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Events {
    queue: [Option<RelayEvent>; Self::CAPACITY],
    first: u8,
    count: u8,
    pub(super) dropped: u64,
    /// Whether silence that goes on has been told.
    pub(super) silence_told: bool,
}

impl Events {
    const CAPACITY: usize = 4;

    pub(super) fn push(&mut self, event: RelayEvent) {
        if usize::from(self.count) == Self::CAPACITY {
            self.dropped += 1;
            return;
        }
        self.queue[usize::from(self.first + self.count) % Self::CAPACITY] = Some(event);
        self.count += 1;
    }

    pub(super) fn pop(&mut self) -> Option<RelayEvent> {
        let event = self.queue[usize::from(self.first)].take()?;
        self.first = (self.first + 1) % Self::CAPACITY as u8;
        self.count -= 1;
        Some(event)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Within this of each other, a telephone-event and a tone are one key.
const OTHER_WAY: Duration = Duration::from_millis(500);
/// 60 ms of loss.
const LONGEST_GAP: u32 = 480;
/// A second.
const REORDERED: i32 = 8000;
/// 100 ms in one packet.
const MOST_SAMPLES: usize = 800;
