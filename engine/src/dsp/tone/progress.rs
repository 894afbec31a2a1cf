//! Call progress: bursts held against the cadences of a plan.

use super::monitor::Segment;
use super::spectrum::Lines;
use super::{ToneBurst, ToneEvent, ToneKind, TonePlan};

/// One burst and the silence after it. Without lines it was no tone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    pub(super) lines: Lines,
    pub(super) on_ms: u32,
    pub(super) off_ms: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Progress {
    plan: &'static TonePlan,
    /// The last bursts, the newest last, and where that one began.
    bursts: [Heard; REMEMBERED],
    at: u64,
    told: Option<ToneKind>,
}

impl Progress {
    pub(super) fn new(plan: &'static TonePlan) -> Self {
        Self { plan, bursts: [Heard::default(); REMEMBERED], at: 0, told: None }
    }

    /// Something else sounds: what follows is told again.
    pub(super) fn forget(&mut self) {
        self.told = None;
        self.bursts = [Heard::default(); REMEMBERED];
    }

    pub(super) fn end_sound(&mut self, heard: Heard, at: u64) {
        self.bursts.rotate_left(1);
        self.bursts[REMEMBERED - 1] = heard;
        self.at = at;
    }

    pub(super) fn end_silence(&mut self, silence: &Segment) {
        self.bursts[REMEMBERED - 1].off_ms = silence.milliseconds();
    }

    /// While it is silent: is what was heard so far a cadence?
    pub(super) fn handle_silence(&mut self, silence: &Segment, event: &mut impl FnMut(ToneEvent)) {
        self.bursts[REMEMBERED - 1].off_ms = silence.milliseconds();
        if silence.milliseconds() > LONGEST_PAUSE_MS {
            self.forget();
            return;
        }
        for kind in
            [ToneKind::Ringback, ToneKind::Busy, ToneKind::Congestion, ToneKind::CallWaiting, ToneKind::Dial]
        {
            if self.is_heard(self.plan.cadence(kind)) {
                self.tell(kind, event);
                return;
            }
        }
    }

    /// While it sounds: is it a tone without end?
    pub(super) fn handle_sound(&mut self, sound: &Segment, event: &mut impl FnMut(ToneEvent)) {
        let [ToneBurst { frequencies_hz, on_ms: ToneBurst::ENDLESS, .. }] = self.plan.cadence(ToneKind::Dial)
        else {
            return;
        };
        if self.told != Some(ToneKind::Dial)
            && sound.milliseconds() >= self.longest_burst_ms() * 5 / 4 + 200
            && sound.tone().is_some_and(|lines| lines.is_near(Lines::of(frequencies_hz), NEAR_HZ))
        {
            self.at = sound.start;
            self.tell(ToneKind::Dial, event);
        }
    }

    fn tell(&mut self, kind: ToneKind, event: &mut impl FnMut(ToneEvent)) {
        if self.told != Some(kind) {
            self.told = Some(kind);
            event(ToneEvent::Progress { kind, at: self.at });
        }
    }

    /// Of the tones that end.
    fn longest_burst_ms(&self) -> u32 {
        [ToneKind::Ringback, ToneKind::Busy, ToneKind::Congestion, ToneKind::CallWaiting]
            .into_iter()
            .flat_map(|kind| self.plan.cadence(kind))
            .map(|burst| burst.on_ms)
            .max()
            .unwrap_or(0)
    }

    /// Whether the last bursts are these, from wherever among them, for long enough.
    fn is_heard(&self, cadence: &[ToneBurst]) -> bool {
        let Some(period) = cadence
            .iter()
            .try_fold(0u32, |sum, burst| sum.checked_add(burst.on_ms)?.checked_add(burst.off_ms))
        else {
            return false;
        };
        if period == 0 {
            return false;
        }
        let needed = cadence.len() * LEAST_MS.div_ceil(period) as usize;
        let Some(last) = self.bursts.len().checked_sub(needed).map(|first| &self.bursts[first..]) else {
            return false;
        };
        (0..cadence.len()).any(|begin| {
            last.iter().zip(cadence.iter().cycle().skip(begin)).all(|(heard, burst)| {
                is_near(heard.on_ms, burst.on_ms)
                    && is_near(heard.off_ms, burst.off_ms)
                    && heard.lines.is_near(Lines::of(burst.frequencies_hz), NEAR_HZ)
            })
        })
    }
}

/// Bursts that are remembered: short cadences need several periods.
const REMEMBERED: usize = 8;
/// What is shorter might be anything.
const LEAST_MS: u32 = 1500;
const LONGEST_PAUSE_MS: u32 = 16_000;
const NEAR_HZ: f32 = 25.0;

/// E.180 allows tones 10 % and more; blocks are 10 ms.
fn is_near(heard_ms: u32, expected_ms: u32) -> bool {
    heard_ms.abs_diff(expected_ms) <= expected_ms / 8 + 20
}
