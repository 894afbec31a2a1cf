//! What the worker reports: caller audio, keys and speech, and how far the bot was heard.

use tokio::time::Instant;

use super::super::dialect::Incoming;
use super::super::link::monotonic_now;
use super::super::report::FromWorker;
use super::super::session::{AiNotice, AiRequest};
use super::super::uplink::Item;
use super::Pump;
use crate::stream::PlayoutReport;
use crate::time::Duration;

/// Why queued audio is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The backend says so.
    Backend,
    /// The backend hears the caller, and has no word for "clear".
    Caller,
    /// Signalling says so.
    Ours,
    /// There is a backend again.
    Filler,
}

/// A clear that the worker has not reported yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clear {
    /// Which, as the worker tells it.
    number: u64,
    cause: Cause,
    /// Audio from this position on came later.
    until: u64,
    /// When it was decided, on the worker's clock.
    at: crate::time::Instant,
    /// Whether there was something to be dropped.
    speaking: bool,
}

/// What the bot wants once it was heard to its end.
#[derive(Debug)]
pub(super) struct Goodbye {
    request: AiRequest,
    /// The position after what was queued before.
    until: u64,
    deadline: Instant,
}

/// When the caller ended, and when the bot began.
#[derive(Debug, Default)]
pub(super) struct Turn {
    caller_ended: Option<crate::time::Instant>,
    bot_began: Option<crate::time::Instant>,
    /// The bot was heard at all.
    begun: bool,
}

impl Pump {
    pub(super) fn take_reports(&mut self) {
        while let Some(report) = self.backend.poll() {
            self.take_report(report);
        }
    }

    fn take_report(&mut self, report: FromWorker) {
        match report {
            FromWorker::Audio { at, timestamp, audio } => self.uplink.push_audio(at, timestamp, &audio),
            FromWorker::Digit { digit, duration, .. } => self.uplink.push(Item::Digit(digit, duration)),
            FromWorker::MarkPlayed { name, report, .. } => {
                self.items.forget_played(report.position);
                if self.stale_marks > 0 {
                    self.stale_marks -= 1;
                } else {
                    self.answer_mark(name, report.complete);
                }
            }
            FromWorker::Cleared { at, number, report } => self.cleared(at, number, report),
            FromWorker::Interrupted { at, speech_at, report, .. } => {
                self.stopped_after(at.saturating_duration_since(speech_at));
                self.interrupted(self.backend.position(), report, true);
                self.push_interrupted(self.backend.position(), true);
            }
            FromWorker::Speech { at, speaking, .. } => self.caller_spoke(at, speaking),
            FromWorker::Began { at, report } => {
                self.items.forget_played(report.position);
                self.bot_began(at);
            }
            FromWorker::Finished { report, .. } | FromWorker::Ended { report, .. } => {
                self.items.forget_played(report.position);
            }
            FromWorker::Drained => self.uplink.push(Item::Drained),
            FromWorker::Pressure { high } => {
                self.status.high = high;
                self.uplink.push(Item::Pressure(high));
            }
        }
    }

    pub(super) fn answer_mark(&mut self, name: String, complete: bool) {
        self.record(|record| record.figures.marks += 1);
        self.uplink.push(Item::Mark { name, complete });
    }

    /// Drops all queued audio.
    pub(super) fn clear(&mut self, cause: Cause) {
        let speaking = self.backend.is_speaking();
        let until = self.backend.position();
        let number = self.backend.clear();
        if let Some(link) = &mut self.link {
            link.flushed();
        }
        if self.clears.len() < MAX_CLEARS {
            self.clears.push_back(Clear { number, cause, until, at: monotonic_now(), speaking });
        }
    }

    /// The worker has dropped what was queued: now it is known how far the bot was heard.
    fn cleared(&mut self, at: crate::time::Instant, number: u64, report: PlayoutReport) {
        // Those of one frame are told as one; what came after is not known yet.
        while let Some(clear) = self.clears.pop_front_if(|clear| clear.number <= number) {
            match clear.cause {
                Cause::Filler => continue,
                Cause::Backend => self.uplink.push(Item::Cleared),
                Cause::Caller | Cause::Ours => {}
            }
            if clear.speaking {
                self.stopped_after(at.saturating_duration_since(clear.at));
                self.interrupted(clear.until, report, false);
            }
            self.push_interrupted(clear.until, clear.cause != Cause::Backend);
        }
    }

    fn stopped_after(&self, duration: Duration) {
        self.histograms.barge_in_stop.record(duration);
        self.record(|record| record.barge_in_stop(duration));
    }

    fn interrupted(&mut self, until: u64, report: PlayoutReport, by_engine: bool) {
        tracing::debug!(until, position = report.position, by_engine, "the bot was interrupted");
        self.counters.bot_interrupted.increment();
        self.record(|record| record.figures.barge_ins += 1);
        self.events.notice(AiNotice::Interrupted { report, by_engine });
    }

    /// Tells the backend how much was played of the items queued before `until`; `always`, or if there are any.
    pub(super) fn push_interrupted(&mut self, until: u64, always: bool) {
        if let Some(link) = &mut self.link {
            link.flushed();
        }
        let backend = &self.backend;
        let items = self.items.interrupt(until, |span| backend.played(span));
        if always || !items.is_empty() {
            self.uplink.push(Item::Interrupted(items));
        }
    }

    fn caller_spoke(&mut self, at: crate::time::Instant, speaking: bool) {
        self.caller_is_heard = speaking;
        if speaking {
            self.turn.caller_ended = None;
            self.turn.bot_began = None;
            return;
        }
        // The end of speech is told late: the bot may have been faster.
        match self.turn.bot_began.take().filter(|&began| began >= at) {
            Some(began) => self.responded(began.saturating_duration_since(at)),
            None => self.turn.caller_ended = Some(at),
        }
    }

    fn bot_began(&mut self, at: crate::time::Instant) {
        if !std::mem::replace(&mut self.turn.begun, true) {
            let first = at.saturating_duration_since(self.ready_at);
            self.histograms.first_audio.record(first);
            self.record(|record| record.figures.first_audio = Some(first));
        }
        match self.turn.caller_ended.take() {
            Some(ended) => self.responded(at.saturating_duration_since(ended)),
            None => self.turn.bot_began = Some(at),
        }
    }

    fn responded(&self, duration: Duration) {
        self.histograms.response.record(duration);
        self.record(|record| record.response(duration));
    }

    /// Ends the call, or hands it on, once what is queued now has been played.
    pub(super) fn say_goodbye(&mut self, request: AiRequest) {
        if self.goodbye.is_some() {
            return;
        }
        self.backend.end_utterance();
        self.pause(false);
        let until = self.backend.position();
        self.goodbye = Some(Goodbye { request, until, deadline: Instant::now() + self.drain_limit });
    }

    /// Does what waits for the queue.
    pub(super) fn look_at_queue(&mut self) {
        if self.goodbye.as_ref().is_some_and(|goodbye| self.is_said(goodbye))
            && let Some(Goodbye { request, .. }) = self.goodbye.take()
        {
            self.request(request);
        }
        let outage = self.link.is_none() && self.finishing.is_none();
        if outage && !self.backend.is_ended() {
            self.filler.top_up(&mut self.backend);
        }
    }

    fn is_said(&self, goodbye: &Goodbye) -> bool {
        let late = Instant::now() >= goodbye.deadline;
        late || !self.backend.is_speaking() || self.playout() >= goodbye.until
    }

    /// The position of the next sample to be played.
    pub(super) fn playout(&self) -> u64 {
        let sample = self.line.encoding.sample_bytes();
        self.backend.position().saturating_sub((self.backend.queued() / sample) as u64)
    }

    /// Passes on what the bot wants.
    pub(super) fn request(&mut self, request: AiRequest) {
        if !self.events.request(request) {
            tracing::warn!("a request of the AI backend is lost: signalling does not take it");
        }
    }

    /// Notes what is counted elsewhere.
    pub(super) fn note_losses(&self) {
        let tally = self.backend.tally();
        let time =
            |samples: u64| Duration::from_micros(samples * 1_000_000 / u64::from(self.line.rate.max(1)));
        let caller_audio_dropped = self.uplink.dropped() + time(tally.caller_samples_dropped);
        self.record(|record| {
            record.figures.bot_audio_dropped = time(tally.bot_samples_dropped);
            record.figures.caller_audio_dropped = caller_audio_dropped;
            record.figures.budget_exceeded = tally.budget_exceeded;
            record.figures.underruns = tally.underruns;
        });
    }

    /// Whether the backend's own notice that the caller speaks is to silence the bot.
    pub(super) fn heeds(&self, event: &Incoming) -> bool {
        use super::super::config::BargeInMode;
        let Some(config) = self.supervisor.config() else { return false };
        matches!(event, Incoming::CallerSpeech { speaking: true })
            && config.settings.flush_on_speech
            && config.barge_in.mode == BargeInMode::Backend
            && self.goodbye.is_none()
            && self.backend.is_speaking()
    }
}

/// The worker answers within a frame; so many are none's need.
const MAX_CLEARS: usize = 256;
