//! Keys of a stream, by whichever way they come, told once; and those that are sent.
//!
//! ```text
//!   telephone-events (RFC 4733) --+
//!   signalling (SIP INFO) --------+--> came in another way already? --> app, event
//!   tones in the audio -----------+
//! ```

use super::{App, Refusal, Stream, StreamEvent};
use crate::codec::Law;
use crate::command::Digit;
use crate::config::InbandDtmf;
use crate::dtmf::inband::{DtmfGenerator, DtmfLevels, InbandDetector, InbandEvent};
use crate::dtmf::{DtmfSender, ReceivedDigit};
use crate::jitter::{MAX_PAYLOAD_BYTES, Pulled};
use crate::rtp::TICK_NANOS;
use crate::time::{Duration, Instant};

impl Stream {
    /// Queues a digit to send, as telephone-events or, to a peer without them, as tones; false if the queue is
    /// full or the peer can be told in neither way.
    pub fn send_dtmf(&mut self, digit: Digit, duration: Duration) -> bool {
        let can = self.parameters.telephone_event.is_some() || self.inband_dtmf != InbandDtmf::Off;
        let queued = can && self.dtmf_sender.push(digit, duration);
        if !queued {
            self.refusals.add(Refusal::QueueFull);
        }
        queued
    }

    /// Hands a digit that came by signalling to the app.
    pub fn relay_dtmf(&mut self, digit: Digit, duration: Duration) {
        if self.told.takes(self.now, digit, duration, |way| way == Way::Tones) {
            self.digits_repeated += 1;
            return;
        }
        self.told.remember(self.now, digit, Way::Messages);
        self.tell_app(ReceivedDigit { digit, duration }, Way::Messages);
    }

    /// Tells the app and the owner of a key that came as telephone-events.
    pub(super) fn handle_digit(&mut self, digit: ReceivedDigit) {
        if self.told.takes(self.now, digit.digit, digit.duration, |way| way == Way::Tones) {
            self.digits_repeated += 1;
            return;
        }
        self.told.remember(self.now, digit.digit, Way::Messages);
        self.tell(digit, Way::Messages);
    }

    /// Looks for keys in a frame of what the peer says.
    pub(super) fn hear_tones(&mut self, tick: Instant, pulled: Pulled, law: Law, heard: &[u8]) {
        let digits = if self.hears_tones() {
            self.tones.hear(pulled, law, heard)
        } else if self.tones.is_listening {
            self.tones.stop()
        } else {
            return;
        };
        digits.into_iter().flatten().for_each(|digit| self.handle_tone(tick, digit));
    }

    /// Frames that nobody hears.
    pub(super) fn skip_tones(&mut self, tick: Instant) {
        self.tones.stop().into_iter().flatten().for_each(|digit| self.handle_tone(tick, digit));
    }

    pub(super) fn hears_tones(&self) -> bool {
        match self.inband_dtmf {
            InbandDtmf::Auto => self.parameters.telephone_event.is_none(),
            InbandDtmf::Always => true,
            InbandDtmf::Off => false,
        }
    }

    /// The next samples of keys that are sent as tones; false if none are, and audio flows.
    pub(super) fn say_tones(&mut self, tick: Instant, pcm: &mut [i16]) -> bool {
        let Self { tone_sender, dtmf_sender, told, .. } = self;
        if self.inband_dtmf == InbandDtmf::Off {
            dtmf_sender.clear();
            return false;
        }
        tone_sender.fill(dtmf_sender, pcm, |digit| told.remember(tick, digit, Way::Sent))
    }

    fn handle_tone(&mut self, tick: Instant, digit: ReceivedDigit) {
        // Telephone-events that go on will tell; and the line sends back something of what we say.
        let is_known = self.receiver.key_down() == Some(digit.digit)
            || self.told.takes(tick, digit.digit, digit.duration, |way| way != Way::Tones);
        if is_known {
            self.digits_repeated += 1;
            return;
        }
        self.told.remember(tick, digit.digit, Way::Tones);
        self.digits_inband += 1;
        self.tell(digit, Way::Tones);
    }

    fn tell(&mut self, ReceivedDigit { digit, duration }: ReceivedDigit, way: Way) {
        self.digits_received += 1;
        self.tell_app(ReceivedDigit { digit, duration }, way);
        self.push_event(StreamEvent::Dtmf { digit, duration, inband: way == Way::Tones });
    }

    fn tell_app(&mut self, ReceivedDigit { digit, duration }: ReceivedDigit, way: Way) {
        match &mut self.app {
            App::Ai(port) => {
                port.push_digit(self.ear.position(), digit, duration);
                self.ai_wakeup = Some(port.thread());
            }
            // Tones come back with the rest of the audio.
            App::Echo if way != Way::Tones => {
                self.send_dtmf(digit, duration);
            }
            App::Echo | App::Silence | App::Player(_) => {}
        }
    }
}

/// How a key came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In the audio.
    Tones,
    /// By telephone-events or signalling.
    Messages,
    /// From us, in the audio.
    Sent,
}

/// The last keys and their ways. Some phones and gateways send a key in two ways; each is then told once, by
/// the way that is first, and the other one finds it here and takes it away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToldKeys {
    keys: [Option<(Instant, Digit, Way)>; REMEMBERED],
    next: usize,
}

impl ToldKeys {
    fn remember(&mut self, now: Instant, digit: Digit, way: Way) {
        self.keys[self.next] = Some((now, digit, way));
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// Takes the oldest that may be the same press of a key, one that was down for `duration` until now.
    fn takes(&mut self, now: Instant, digit: Digit, duration: Duration, ways: impl Fn(Way) -> bool) -> bool {
        let oldest_first = (0..REMEMBERED).map(|n| (self.next + n) % REMEMBERED);
        let found = oldest_first.into_iter().find(|&n| {
            self.keys[n].is_some_and(|(at, known, way)| {
                known == digit && ways(way) && now.saturating_duration_since(at) <= duration + APART
            })
        });
        found.and_then(|n| self.keys[n].take()).is_some()
    }
}

/// Hears keys in the frames that were pulled from the jitter buffer.
///
/// A frame that was made up is not listened to: its tone would have a phase of its own and look like the end of
/// one key and the beginning of another. So a key goes on over the gap, unless that is a long one.
#[derive(Debug)]
pub(super) struct ToneReceiver {
    detector: InbandDetector,
    is_listening: bool,
    /// Samples that the detector was given.
    position: u64,
    /// Samples made up since the last that came.
    missing: usize,
    /// Where gaps were, and how long.
    gaps: [(u64, usize); GAPS],
    next_gap: usize,
}

impl ToneReceiver {
    pub(super) fn new() -> Self {
        Self {
            detector: InbandDetector::new(),
            is_listening: false,
            position: 0,
            missing: 0,
            gaps: [(0, 0); GAPS],
            next_gap: 0,
        }
    }

    /// Takes the next frame, at most [`MAX_PAYLOAD_BYTES`]; returns the keys that came up.
    fn hear(&mut self, pulled: Pulled, law: Law, heard: &[u8]) -> [Option<ReceivedDigit>; 2] {
        self.is_listening = true;
        let mut pcm = [0; MAX_PAYLOAD_BYTES];
        let pcm = &mut pcm[..heard.len()];
        if pulled == Pulled::Concealed {
            self.missing = self.missing.saturating_add(heard.len());
            if self.missing <= LONGEST_GAP {
                return [None; 2];
            }
            // The key is taken to be up: silence.
        } else {
            if self.missing > 0 {
                self.gaps[self.next_gap] = (self.position, self.missing);
                self.next_gap = (self.next_gap + 1) % GAPS;
                self.missing = 0;
            }
            law.decode(heard, pcm);
        }
        self.position += heard.len() as u64;
        let mut ended = Ended::new(&self.gaps);
        self.detector.process(pcm, |event| ended.take(event));
        ended.digits
    }

    /// No more audio comes, or some that does not belong to what came before.
    fn stop(&mut self) -> [Option<ReceivedDigit>; 2] {
        let mut ended = Ended::new(&self.gaps);
        self.detector.finish(|event| ended.take(event));
        let digits = ended.digits;
        *self = Self::new();
        digits
    }
}

/// The keys that came up in a frame. Two fit into the longest frame: the one before it, and one of 32 ms.
struct Ended<'a> {
    gaps: &'a [(u64, usize); GAPS],
    digits: [Option<ReceivedDigit>; 2],
}

impl<'a> Ended<'a> {
    fn new(gaps: &'a [(u64, usize); GAPS]) -> Self {
        Self { gaps, digits: [None; 2] }
    }

    fn take(&mut self, event: InbandEvent) {
        let InbandEvent::End { digit, at, duration_samples } = event else { return };
        let within = at + 1..(at + duration_samples).saturating_sub(EDGE_SAMPLES);
        let gaps = self.gaps.iter().filter(|(position, _)| within.contains(position));
        let samples = duration_samples + gaps.map(|&(_, samples)| samples as u64).sum::<u64>();
        let duration = Duration::from_nanos(samples * TICK_NANOS);
        if let Some(room) = self.digits.iter_mut().find(|digit| digit.is_none()) {
            *room = Some(ReceivedDigit { digit, duration });
        }
    }
}

/// Sends keys as tones.
#[derive(Clone, Debug, Default)]
pub(super) struct ToneSender {
    tone: Option<DtmfGenerator>,
}

impl ToneSender {
    /// Fills a frame with the key that is being sent and those that wait; false if there are none.
    fn fill(&mut self, keys: &mut DtmfSender, pcm: &mut [i16], mut begins: impl FnMut(Digit)) -> bool {
        let mut filled = 0;
        while filled < pcm.len() {
            if self.tone.as_ref().is_none_or(DtmfGenerator::is_finished) {
                self.tone = keys.next_key().map(|(digit, samples)| {
                    begins(digit);
                    let samples = usize::from(samples).max(SHORTEST_TONE);
                    DtmfGenerator::new(digit, DtmfLevels::default(), RATE_HZ, samples, PAUSE_SAMPLES)
                });
            }
            let Some(tone) = &mut self.tone else { break };
            filled += tone.fill(&mut pcm[filled..]);
        }
        pcm[filled..].fill(0);
        filled > 0
    }

    /// Gives up what is being sent.
    pub(super) fn clear(&mut self) {
        self.tone = None;
    }
}

const RATE_HZ: u32 = 8000;
const REMEMBERED: usize = 8;
/// How far apart the ways of one key may be: the jitter buffer, the detector, a proxy that is slow.
const APART: Duration = Duration::from_secs(1);
const GAPS: usize = 4;
/// 200 ms, as a key of telephone-events lasts without packets.
const LONGEST_GAP: usize = 1600;
/// A gap so near to the end of the tone is rather after it.
const EDGE_SAMPLES: u64 = 40;
/// What ETSI ES 201 235-2 asks of senders, and some more: 70 ms of tone, 70 ms of pause.
const SHORTEST_TONE: usize = 560;
const PAUSE_SAMPLES: usize = 560;
