//! What the caller hears, a frame at a time.

use std::collections::VecDeque;

use super::super::dialect::AudioFormat;
use super::super::line::Line;
use super::LineApp;
use crate::command::Digit;
use crate::dtmf::inband::{DtmfGenerator, DtmfLevels};
use crate::stream::PlayoutReport;
use crate::time::{Duration, Instant};

/// The app and the keys that are pressed.
#[derive(Debug)]
pub(super) struct Voice {
    line: Line,
    app: LineApp,
    keys: VecDeque<(Digit, Duration)>,
    tone: Option<DtmfGenerator>,
    /// Samples sent, which is the RTP timestamp of playout reports.
    sent: u64,
    /// What the bot's port has cut off so far.
    cuts: u64,
    player_reported: bool,
}

/// One frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Said {
    /// It holds more than silence.
    pub(super) audible: bool,
    /// What was said before is not to be heard any more.
    pub(super) cut: bool,
    /// The player is done.
    pub(super) finished: Option<PlayoutReport>,
}

impl Voice {
    pub(super) fn new(line: Line) -> Self {
        Self {
            line,
            app: LineApp::default(),
            keys: VecDeque::new(),
            tone: None,
            sent: 0,
            cuts: 0,
            player_reported: false,
        }
    }

    pub(super) const fn app(&mut self) -> &mut LineApp {
        &mut self.app
    }

    /// What its frames are.
    pub(super) const fn format(&self) -> AudioFormat {
        self.line.format()
    }

    /// Something else is said from the next frame on. What the player before has played is told if it was not done.
    pub(super) fn attach(&mut self, app: LineApp) -> Option<PlayoutReport> {
        let report = self.player_report(false);
        self.app = app;
        (self.cuts, self.player_reported) = (0, false);
        report
    }

    /// False if too many keys wait.
    pub(super) fn press(&mut self, digit: Digit, duration: Duration) -> bool {
        let fits = self.keys.len() < MOST_KEYS;
        if fits {
            self.keys.push_back((digit, duration));
        }
        fits
    }

    /// Makes the next frame, in the line's law.
    pub(super) fn frame(&mut self, now: Instant, frame: &mut [u8]) -> Said {
        let timestamp = self.sent as u32;
        self.sent += self.line.samples(frame.len());
        if self.say_keys(frame) {
            // The bot waits; its marks and clears are answered.
            let cut = self.pull(now, timestamp, &mut []).1;
            return Said { audible: true, cut, finished: None };
        }
        match &mut self.app {
            LineApp::Silence | LineApp::Echo => {
                self.line.silence(frame);
                Said::default()
            }
            LineApp::Player(player) => {
                let mut pcm = vec![0; frame.len()];
                let played = player.pull(&mut pcm);
                self.line.law().encode(&pcm, frame);
                let finished = if player.is_finished() { self.player_report(true) } else { None };
                Said { audible: played > 0, cut: false, finished }
            }
            LineApp::Ai(_) => {
                let (taken, cut) = self.pull(now, timestamp, frame);
                Said { audible: taken > 0, cut, finished: None }
            }
        }
    }

    /// No frame can be sent: what the bot says waits, and its marks and clears are answered. Answers whether it was cut off.
    pub(super) fn hold(&mut self, now: Instant) -> bool {
        self.pull(now, self.sent as u32, &mut []).1
    }

    /// What was sent.
    pub(super) fn sent(&self) -> Duration {
        self.line.format().duration(self.sent)
    }

    fn pull(&mut self, now: Instant, timestamp: u32, frame: &mut [u8]) -> (usize, bool) {
        let LineApp::Ai(port) = &mut self.app else { return (0, false) };
        let taken = port.pull(now, timestamp, frame);
        let cuts = port.cuts();
        (taken, std::mem::replace(&mut self.cuts, cuts) != cuts)
    }

    fn player_report(&mut self, complete: bool) -> Option<PlayoutReport> {
        let LineApp::Player(player) = &self.app else { return None };
        if std::mem::replace(&mut self.player_reported, true) {
            return None;
        }
        Some(PlayoutReport {
            played_samples: player.played_samples(),
            position: player.played_samples(),
            rtp_timestamp: self.sent as u32,
            complete,
        })
    }

    /// False if no key is pressed.
    fn say_keys(&mut self, frame: &mut [u8]) -> bool {
        if self.tone.as_ref().is_none_or(DtmfGenerator::is_finished) {
            self.tone = self.keys.pop_front().map(|(digit, duration)| {
                let samples = self.line.samples_in(duration.max(SHORTEST_TONE)) as usize;
                let pause = self.line.samples_in(PAUSE) as usize;
                DtmfGenerator::new(digit, DtmfLevels::default(), RATE_HZ, samples, pause)
            });
        }
        let Some(tone) = &mut self.tone else { return false };
        let mut pcm = vec![0; frame.len()];
        tone.fill(&mut pcm);
        self.line.law().encode(&pcm, frame);
        true
    }
}

const RATE_HZ: u32 = 8_000;
const MOST_KEYS: usize = 32;
/// What ETSI ES 201 235-2 asks of senders, and some more.
const SHORTEST_TONE: Duration = Duration::from_millis(70);
const PAUSE: Duration = Duration::from_millis(70);
