//! What a far end says by tones: call progress, fax and modem, the beep of an answering machine.

use super::answer::AnswerTone;
use super::progress::{Heard, Progress};
use super::spectrum::{Lines, WINDOW_SAMPLES, lines, prepare};
use super::{ToneKind, TonePlan};

/// Something was recognised. Positions and lengths are in samples, to about 10 ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ToneEvent {
    /// The network says so; told once until something else sounds.
    Progress {
        /// What it says.
        kind: ToneKind,
        /// Where the last burst that was needed begins.
        at: u64,
    },
    /// A calling fax: 1,100 Hz for half a second (ITU-T T.30 section 4.3.3.2).
    FaxCalling {
        /// Where it began.
        at: u64,
    },
    /// An answering fax or modem: 2,100 Hz (CED of T.30, ANS of V.25), told after 300 ms.
    AnswerTone {
        /// Where it began.
        at: u64,
    },
    /// The answering tone turned its phase: echo cancellers are to be off (V.25, V.8).
    AnswerReversed {
        /// Where it turned.
        at: u64,
    },
    /// The answering tone is modulated with 15 Hz: a V.8 modem (ANSam).
    AnswerModulated {
        /// Where the answering tone began.
        at: u64,
    },
    /// One tone after speech, and then silence: the caller may speak to the machine.
    Beep {
        /// Where it began.
        at: u64,
        /// How long it was.
        duration_samples: u64,
        /// Its frequency.
        frequency_hz: f32,
    },
}

/// Listens to the far end of one call at 8 kHz, in frames of any length.
///
/// Audio is looked at in blocks of 10 ms: loud or not. What is loud is looked at every 20 ms for its lines.
/// Silence therefore costs little.
#[derive(Clone, Debug)]
pub struct ToneMonitor {
    block: [i16; BLOCK_SAMPLES],
    held: usize,
    window: [i16; WINDOW_SAMPLES],
    /// Samples of whole blocks so far.
    position: u64,
    segment: Segment,
    /// Blocks at the end of a sound that are too soft for it.
    soft: u32,
    /// Blocks of sound that was no tone: since the last beep, and since the last tone.
    spoken: u32,
    spoken_since_tone: u32,
    beep: Option<Segment>,
    information: Information,
    progress: Progress,
    answer: AnswerTone,
}

/// Sound or silence without a break.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    pub(super) is_on: bool,
    pub(super) start: u64,
    pub(super) blocks: u32,
    /// Mean square of the loudest block.
    peak: f32,
    /// How often lines were looked for, how often found like the first, and the first.
    looks: u32,
    alike: u32,
    lines: Lines,
    /// Other lines than the first, and how often in a row.
    others: Lines,
    others_alike: u32,
}

impl Segment {
    /// The lines, if it is a tone.
    pub(super) fn tone(&self) -> Option<Lines> {
        (self.looks > 0 && self.alike * 10 >= self.looks * 7).then_some(self.lines)
    }

    fn is_single(&self, hz: f32, tolerance_hz: f32) -> bool {
        self.tone().is_some_and(|lines| lines.is_near(Lines::single(hz), tolerance_hz))
    }

    pub(super) fn milliseconds(&self) -> u32 {
        self.blocks * BLOCK_MS
    }
}

/// How much of the special information tone was heard.
#[derive(Clone, Copy, Debug, Default)]
struct Information {
    parts: usize,
    at: u64,
    end: u64,
}

impl ToneMonitor {
    /// A monitor that has heard nothing, for the network of a plan.
    #[must_use]
    pub fn new(plan: &'static TonePlan) -> Self {
        prepare();
        Self {
            block: [0; BLOCK_SAMPLES],
            held: 0,
            window: [0; WINDOW_SAMPLES],
            position: 0,
            segment: Segment::default(),
            soft: 0,
            spoken: 0,
            spoken_since_tone: 0,
            beep: None,
            information: Information::default(),
            progress: Progress::new(plan),
            answer: AnswerTone::default(),
        }
    }

    /// Takes the next samples and tells what was recognised.
    pub fn process(&mut self, mut pcm: &[i16], mut event: impl FnMut(ToneEvent)) {
        while !pcm.is_empty() {
            let (now, later) = pcm.split_at(pcm.len().min(BLOCK_SAMPLES - self.held));
            self.block[self.held..][..now.len()].copy_from_slice(now);
            self.held += now.len();
            pcm = later;
            if self.held == BLOCK_SAMPLES {
                self.held = 0;
                self.handle_block(&mut event);
            }
        }
    }

    fn handle_block(&mut self, event: &mut impl FnMut(ToneEvent)) {
        self.window.copy_within(BLOCK_SAMPLES.., 0);
        self.window[WINDOW_SAMPLES - BLOCK_SAMPLES..].copy_from_slice(&self.block);
        let squares: i64 = self.block.iter().map(|&sample| i64::from(sample) * i64::from(sample)).sum();
        let power = squares as f32 / BLOCK_SAMPLES as f32;
        let is_loud = power >= LEAST_POWER && power >= self.segment.peak * FADED;
        self.soft = if is_loud || !self.segment.is_on { 0 } else { self.soft + 1 };
        self.position += BLOCK_SAMPLES as u64;
        if self.soft == SOFT_BLOCKS {
            // It ended where it became soft.
            self.segment.blocks = self.segment.blocks.saturating_sub(SOFT_BLOCKS - 1);
            self.end_segment(event);
            self.begin_segment(false, SOFT_BLOCKS);
        } else if is_loud && !self.segment.is_on {
            self.end_segment(event);
            self.begin_segment(true, 1);
        } else {
            self.segment.blocks = self.segment.blocks.saturating_add(1);
        }
        if self.segment.is_on {
            self.segment.peak = self.segment.peak.max(power);
            self.listen(event);
        } else {
            self.soft = 0;
            self.wait(event);
        }
    }

    /// Of which so many blocks are over.
    fn begin_segment(&mut self, is_on: bool, blocks: u32) {
        let start = self.position - u64::from(blocks) * BLOCK_SAMPLES as u64;
        self.segment = Segment { is_on, start, blocks, ..Segment::default() };
    }

    /// Another block of sound.
    fn listen(&mut self, event: &mut impl FnMut(ToneEvent)) {
        let blocks = self.segment.blocks;
        if blocks * BLOCK_SAMPLES as u32 >= WINDOW_SAMPLES as u32 && blocks.is_multiple_of(2) {
            let found = lines(&self.window);
            self.segment.looks += 1;
            match found {
                Some(lines) if self.segment.alike == 0 || lines.is_near(self.segment.lines, SAME_HZ) => {
                    if self.segment.alike == 0 {
                        self.segment.lines = lines;
                    }
                    self.segment.alike += 1;
                    self.segment.others_alike = 0;
                }
                Some(lines) => self.handle_other_lines(lines, event),
                None => self.segment.others_alike = 0,
            }
        }
        if self.segment.is_single(2100.0, ANSWER_TOLERANCE_HZ) {
            self.answer.handle_block(&self.block, self.position, &self.segment, event);
        } else {
            self.answer.reset();
        }
        self.progress.handle_sound(&self.segment, event);
    }

    /// Lines that are not those of the segment: of a new one without a pause, if they last.
    fn handle_other_lines(&mut self, lines: Lines, event: &mut impl FnMut(ToneEvent)) {
        let segment = &mut self.segment;
        if segment.others_alike == 0 || !lines.is_near(segment.others, SAME_HZ) {
            (segment.others, segment.others_alike) = (lines, 0);
        }
        segment.others_alike += 1;
        if segment.others_alike < NEW_LINES {
            return;
        }
        // The new tone filled its first windows by half.
        let blocks = (2 * NEW_LINES + WINDOW_SAMPLES as u32 / (2 * BLOCK_SAMPLES as u32)).min(segment.blocks);
        segment.blocks -= blocks;
        segment.looks = segment.looks.saturating_sub(2 * NEW_LINES);
        let peak = segment.peak;
        self.end_segment(event);
        self.begin_segment(true, blocks);
        self.segment = Segment { peak, looks: NEW_LINES, alike: NEW_LINES, lines, ..self.segment };
    }

    /// Another block of silence.
    fn wait(&mut self, event: &mut impl FnMut(ToneEvent)) {
        // It was a beep if nothing follows.
        if self.segment.milliseconds() >= AFTER_BEEP_MS
            && let Some(beep) = self.beep.take()
        {
            self.spoken = 0;
            event(ToneEvent::Beep {
                at: beep.start,
                duration_samples: u64::from(beep.blocks) * BLOCK_SAMPLES as u64,
                frequency_hz: beep.lines.low_hz,
            });
        }
        self.progress.handle_silence(&self.segment, event);
    }

    fn end_segment(&mut self, event: &mut impl FnMut(ToneEvent)) {
        let segment = self.segment;
        let length = segment.milliseconds();
        if !segment.is_on {
            self.progress.end_silence(&segment);
            return;
        }
        self.beep = None;
        let Some(lines) = segment.tone() else {
            self.spoken = self.spoken.saturating_add(segment.blocks);
            self.spoken_since_tone = self.spoken_since_tone.saturating_add(segment.blocks);
            if self.spoken_since_tone >= SPEECH_MS / BLOCK_MS {
                self.progress.forget();
            }
            self.progress.end_sound(Heard { on_ms: length, ..Heard::default() }, segment.start);
            return;
        };
        self.spoken_since_tone = 0;
        self.progress.end_sound(Heard { lines, on_ms: length, off_ms: 0 }, segment.start);
        if segment.is_single(1100.0, 38.0) && (425 - 20..=575 + 20).contains(&length) {
            event(ToneEvent::FaxCalling { at: segment.start });
        } else if lines.high_hz == 0.0
            && (390.0..=2050.0).contains(&lines.low_hz)
            && (BEEP_MS..=5000).contains(&length)
            && self.spoken >= SPEECH_MS / BLOCK_MS
        {
            self.beep = Some(segment);
        }
        self.handle_information(&segment, event);
    }

    /// One of three rising tones (E.180 section 10): 330 ms each, at most 30 ms apart.
    fn handle_information(&mut self, segment: &Segment, event: &mut impl FnMut(ToneEvent)) {
        const PARTS_HZ: [f32; 3] = [950.0, 1400.0, 1800.0];
        let follows = segment.start.saturating_sub(self.information.end) <= 8 * 80;
        if self.information.parts > 0 && !follows {
            self.information.parts = 0;
        }
        let is_part = |part: usize| {
            segment.is_single(PARTS_HZ[part], 60.0) && (230..=430).contains(&segment.milliseconds())
        };
        if !is_part(self.information.parts) {
            self.information.parts = 0;
            if !is_part(0) {
                return;
            }
        }
        if self.information.parts == 0 {
            self.information.at = segment.start;
        }
        self.information.parts += 1;
        self.information.end = segment.start + u64::from(segment.blocks) * BLOCK_SAMPLES as u64;
        if self.information.parts == PARTS_HZ.len() {
            self.information.parts = 0;
            self.beep = None;
            event(ToneEvent::Progress { kind: ToneKind::SpecialInformation, at: self.information.at });
        }
    }
}

pub(super) const BLOCK_SAMPLES: usize = 80;
pub(super) const BLOCK_MS: u32 = 10;
/// -43 dBm0 as mean square: 46.14 dB below a sine of full scale.
const LEAST_POWER: f32 = (32768.0 * 32768.0 / 2.0) * 2.43e-5;
/// A tone is over when it is 13 dB softer.
const FADED: f32 = 0.05;
/// Tones that are modulated with 16 Hz are that soft for 20 ms at a time.
const SOFT_BLOCKS: u32 = 3;
/// Lines of one tone differ less from look to look.
const SAME_HZ: f32 = 25.0;
/// Looks at new lines before they are a new tone: longer than two tones are in one window.
const NEW_LINES: u32 = 4;
/// 2,100 Hz: 15 Hz of T.30, and what measuring adds.
const ANSWER_TOLERANCE_HZ: f32 = 20.0;
const BEEP_MS: u32 = 130;
const AFTER_BEEP_MS: u32 = 200;
const SPEECH_MS: u32 = 400;
