//! What the backend says to one call, and how it was heard.
//!
//! Utterances follow each other, one at a time, in three kinds:
//!
//! ```text
//!  burst:  one second in two messages at once, a mark after each
//!  paced:  one second, 20 ms every 20 ms, a mark at the end
//!  clear:  three seconds at once with two marks; a clear after some 600 ms of it were heard
//! ```
//!
//! Bot audio is noise that never takes the two code words of silence, another one for every utterance: each byte
//! heard is either silence or must be the next one that was sent.

use std::ops::Range;

use super::stats::StreamStats;
use crate::callload::marker::SplitMix;

/// What is to be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Say {
    Audio(Vec<u8>),
    Mark(String),
    Clear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Burst,
    Paced,
    Clear,
}

/// One call's bot.
pub(super) struct Bot {
    seed: u64,
    turn: u64,
    next_turn_ns: u64,
    utterance: Option<Utterance>,
}

struct Utterance {
    kind: Kind,
    audio: Vec<u8>,
    begun_ns: u64,
    sent: usize,
    /// Of `audio`, what was heard or is known to be missing.
    heard: usize,
    missing: usize,
    first_heard_ns: Option<u64>,
    last_heard_ns: u64,
    /// Samples of silence since something was heard.
    silence: usize,
    marks: Vec<Mark>,
    clear_due_ns: Option<u64>,
    cleared_ns: Option<u64>,
    packets_after_clear: u64,
    /// What may still fade away behind the last sample that a clear left, and how loud it may be: not louder than the
    /// sample before it.
    fade: Fade,
}

#[derive(Clone, Copy)]
struct Fade {
    left: usize,
    loudest: u8,
}

struct Mark {
    name: String,
    position: usize,
    heard_ns: Option<u64>,
    echoed_ns: Option<u64>,
}

impl Bot {
    /// The first utterance begins at `begin_ns`.
    pub(super) fn new(seed: u64, begin_ns: u64) -> Self {
        Self { seed, turn: SplitMix(seed).next() % 3, next_turn_ns: begin_ns, utterance: None }
    }

    /// What to send at `now_ns`.
    pub(super) fn poll(&mut self, now_ns: u64, stats: &mut StreamStats) -> Vec<Say> {
        if self.utterance.as_ref().is_some_and(|utterance| utterance.is_over(now_ns)) {
            self.finish(stats);
            self.next_turn_ns = now_ns + PAUSE_NS + SplitMix(self.seed ^ self.turn).next() % PAUSE_NS;
        }
        if self.utterance.is_none() && now_ns >= self.next_turn_ns {
            self.turn += 1;
            self.utterance = Some(Utterance::new(self.seed, self.turn, now_ns));
            stats.utterances += 1;
        }
        let mut says = Vec::new();
        let Some(utterance) = &mut self.utterance else { return says };
        match utterance.kind {
            Kind::Burst | Kind::Clear if utterance.sent == 0 => {
                let middle = utterance.marks[0].position;
                says.push(Say::Audio(utterance.audio[..middle].to_vec()));
                says.push(Say::Mark(utterance.marks[0].name.clone()));
                says.push(Say::Audio(utterance.audio[middle..].to_vec()));
                says.push(Say::Mark(utterance.marks[1].name.clone()));
                utterance.sent = utterance.audio.len();
            }
            Kind::Paced => {
                while utterance.sent < utterance.audio.len()
                    && now_ns >= utterance.begun_ns + (utterance.sent / CHUNK) as u64 * CHUNK_NS
                {
                    let due_ns = utterance.begun_ns + (utterance.sent / CHUNK) as u64 * CHUNK_NS;
                    stats.bot_lateness.record_ns(now_ns - due_ns);
                    says.push(Say::Audio(utterance.audio[utterance.sent..utterance.sent + CHUNK].to_vec()));
                    utterance.sent += CHUNK;
                    if utterance.sent == utterance.audio.len() {
                        says.push(Say::Mark(utterance.marks[0].name.clone()));
                    }
                }
            }
            Kind::Burst | Kind::Clear => {}
        }
        if utterance.cleared_ns.is_none() && utterance.clear_due_ns.is_some_and(|due_ns| now_ns >= due_ns) {
            utterance.cleared_ns = Some(now_ns);
            stats.clears += 1;
            says.push(Say::Clear);
        }
        says
    }

    /// Audio that the caller heard.
    pub(super) fn handle_heard(&mut self, payload: &[u8], arrival_ns: u64, stats: &mut StreamStats) {
        let mut at = 0;
        let mut old_audio = false;
        while at < payload.len() {
            if is_silence(payload[at]) {
                if let Some(utterance) = &mut self.utterance {
                    utterance.silence += 1;
                }
                at += 1;
                continue;
            }
            let rest = &payload[at..];
            let known = self.utterance.as_mut().and_then(|utterance| utterance.recognise(rest));
            let (Some(utterance), Some(run)) = (&mut self.utterance, known) else {
                let fades = self.utterance.as_mut().is_some_and(|utterance| utterance.fades(payload[at]));
                stats.bot_samples_wrong += u64::from(!fades);
                at += 1;
                continue;
            };
            at += run.len();
            stats.bot_samples += run.len() as u64;
            old_audio |= utterance.cleared_ns.is_some_and(|cleared_ns| arrival_ns > cleared_ns);
            utterance.hear(run, arrival_ns, stats);
        }
        if let Some(utterance) = self.utterance.as_mut().filter(|_| old_audio) {
            utterance.packets_after_clear += 1;
        }
    }

    /// A mark came back.
    pub(super) fn handle_mark(&mut self, name: &str, arrival_ns: u64, stats: &mut StreamStats) {
        let Some(utterance) = &mut self.utterance else { return };
        let heard = utterance.heard;
        let Some(mark) =
            utterance.marks.iter_mut().find(|mark| mark.name == name && mark.echoed_ns.is_none())
        else {
            return;
        };
        stats.marks_echoed += 1;
        mark.echoed_ns = Some(arrival_ns);
        match utterance.cleared_ns {
            Some(cleared_ns) if mark.position > heard => {
                stats.clear_mark.record_ns(arrival_ns.saturating_sub(cleared_ns));
            }
            _ => mark.compare(stats),
        }
    }

    /// Adds up the utterance that was running.
    fn finish(&mut self, stats: &mut StreamStats) {
        let Some(utterance) = self.utterance.take() else { return };
        let lost = utterance.marks.iter().filter(|mark| mark.echoed_ns.is_none()).count();
        stats.marks_lost += lost as u64;
        let mut complete = lost == 0 && utterance.missing == 0;
        match utterance.cleared_ns {
            Some(cleared_ns) if utterance.first_heard_ns.is_some() => {
                stats.clear_audio.record_ns(utterance.last_heard_ns.saturating_sub(cleared_ns));
                stats.clear_packets += utterance.packets_after_clear;
            }
            _ => {
                let unheard = utterance.audio.len() - utterance.heard;
                stats.bot_samples_missing += unheard as u64;
                complete &= unheard == 0;
            }
        }
        stats.utterances_complete += u64::from(complete);
    }
}

impl Utterance {
    fn new(seed: u64, turn: u64, now_ns: u64) -> Self {
        let kind = [Kind::Burst, Kind::Paced, Kind::Clear][(turn % 3) as usize];
        let len = match kind {
            // No whole number of frames.
            Kind::Burst => 8_037,
            Kind::Paced => 50 * CHUNK,
            Kind::Clear => 24_000,
        };
        let mut random = SplitMix(seed ^ (turn << 32));
        let audio = (0..len)
            .map(|_| {
                let byte = (random.next() >> 32) as u8;
                if is_silence(byte) { 0x2a } else { byte }
            })
            .collect();
        let positions = match kind {
            Kind::Burst => vec![3_333, len],
            Kind::Paced => vec![len],
            Kind::Clear => vec![2_000, len],
        };
        let marks = positions
            .into_iter()
            .map(|position| Mark {
                name: format!("{turn}:{position}"),
                position,
                heard_ns: None,
                echoed_ns: None,
            })
            .collect();
        Self {
            kind,
            audio,
            begun_ns: now_ns,
            sent: 0,
            heard: 0,
            missing: 0,
            first_heard_ns: None,
            last_heard_ns: 0,
            silence: 0,
            marks,
            clear_due_ns: None,
            cleared_ns: None,
            packets_after_clear: 0,
            fade: Fade { left: FADE, loudest: 0 },
        }
    }

    /// Whether this can be the end of what a clear cut off: at most 5 ms, and never getting louder.
    fn fades(&mut self, byte: u8) -> bool {
        let fits = self.cleared_ns.is_some() && self.fade.left > 0 && loudness(byte) <= self.fade.loudest;
        if fits {
            self.fade = Fade { left: self.fade.left - 1, loudest: loudness(byte) };
        }
        fits
    }

    fn is_over(&self, now_ns: u64) -> bool {
        let limit_ns = self.audio.len() as u64 * NS_PER_SAMPLE + 2_000_000_000;
        match self.cleared_ns {
            Some(cleared_ns) => now_ns >= cleared_ns + AFTER_CLEAR_NS,
            None => {
                let complete = self.heard == self.audio.len()
                    && self.marks.iter().all(|mark| mark.heard_ns.is_some() && mark.echoed_ns.is_some());
                complete || now_ns >= self.begun_ns + limit_ns
            }
        }
    }

    /// Which part of the utterance `rest` begins with: the next one, or a later one when packets were lost.
    fn recognise(&self, rest: &[u8]) -> Option<Range<usize>> {
        let next = self.audio.get(self.heard..self.sent)?;
        let run = common(next, rest);
        if run > 0 {
            return Some(self.heard..self.heard + run);
        }
        let probe = &rest[..rest.len().min(PROBE)];
        let skipped = next.windows(probe.len()).take(MAX_SKIP).position(|window| window == probe)?;
        let from = self.heard + skipped;
        Some(from..from + common(&self.audio[from..self.sent], rest))
    }

    fn hear(&mut self, run: Range<usize>, arrival_ns: u64, stats: &mut StreamStats) {
        let skipped = run.start - self.heard;
        self.missing += skipped;
        stats.bot_samples_missing += skipped as u64;
        if self.first_heard_ns.is_none() {
            self.first_heard_ns = Some(arrival_ns);
            let took_ns = arrival_ns.saturating_sub(self.begun_ns);
            match self.kind {
                Kind::Paced => stats.start_paced.record_ns(took_ns),
                Kind::Burst | Kind::Clear => stats.start_burst.record_ns(took_ns),
            }
            if self.kind == Kind::Clear {
                // Anywhere within a frame.
                self.clear_due_ns = Some(arrival_ns + CLEAR_AFTER_NS + arrival_ns / 1_000 % 20_000 * 1_000);
            }
        } else if self.silence > 0 {
            stats.bot_gaps += 1;
            stats.bot_gap.record_ns(self.silence as u64 * NS_PER_SAMPLE);
        }
        self.silence = 0;
        self.fade.loudest = self.audio.get(run.end.wrapping_sub(1)).map_or(0, |&byte| loudness(byte));
        self.heard = run.end;
        self.last_heard_ns = arrival_ns;
        for mark in self.marks.iter_mut().filter(|mark| mark.heard_ns.is_none() && mark.position <= run.end) {
            mark.heard_ns = Some(arrival_ns);
            mark.compare(stats);
        }
    }
}

impl Mark {
    fn compare(&self, stats: &mut StreamStats) {
        let (Some(heard_ns), Some(echoed_ns)) = (self.heard_ns, self.echoed_ns) else { return };
        if echoed_ns < heard_ns {
            stats.marks_early += 1;
            stats.mark_before.record_ns(heard_ns - echoed_ns);
        } else {
            stats.mark_after.record_ns(echoed_ns - heard_ns);
        }
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// mu-law codes grow with the magnitude once they are turned over (ITU-T G.711).
fn loudness(byte: u8) -> u8 {
    !byte & 0x7f
}

fn is_silence(byte: u8) -> bool {
    byte & 0x7f == 0x7f
}

const NS_PER_SAMPLE: u64 = 125_000;
const CHUNK: usize = 160;
const CHUNK_NS: u64 = 20_000_000;
const PAUSE_NS: u64 = 300_000_000;
const CLEAR_AFTER_NS: u64 = 600_000_000;
const AFTER_CLEAR_NS: u64 = 500_000_000;
/// 5 ms.
const FADE: usize = 40;
const PROBE: usize = 8;
const MAX_SKIP: usize = 8_000;

#[cfg(test)]
mod tests;
