//! One leg's record while the leg lives.

use super::{Ending, Recorder};
use crate::model::{CallRecord, EventKind, HangUpSide, Moment, RecordState};

/// One leg's record while the leg lives. Dropping it closes the record.
#[derive(Debug)]
pub struct RecordedLeg {
    recorder: Recorder,
    record: CallRecord,
    /// What a minute costs.
    price: Option<f64>,
    is_begun: bool,
    is_over: bool,
}

impl RecordedLeg {
    pub(super) const fn new(recorder: Recorder, record: CallRecord) -> Self {
        Self { recorder, record, price: None, is_begun: false, is_over: false }
    }

    /// What is known.
    #[must_use]
    pub const fn record(&self) -> &CallRecord {
        &self.record
    }

    /// Changes what is known; it is written with the next thing that happens.
    pub fn change(&mut self, change: impl FnOnce(&mut CallRecord)) {
        change(&mut self.record);
    }

    /// A minute of it costs so much; parts of a minute cost as much less.
    pub const fn costs(&mut self, per_minute: f64) {
        self.price = Some(per_minute);
    }

    /// The leg is worth a record from now on.
    pub fn begin(&mut self) {
        if !self.is_begun {
            self.is_begun = true;
            self.tell(EventKind::CallInitiated);
        }
    }

    /// It rings.
    pub fn ringing(&mut self) {
        if self.record.ringing_at.is_none() {
            self.record.ringing_at = Some(Moment::now());
            self.record.state = RecordState::Ringing;
            self.is_begun = true;
            self.tell(EventKind::CallRinging);
        }
    }

    /// It is answered, or about to be: returns when that is on the disk.
    pub async fn answered(&mut self) {
        if self.record.answered_at.is_some() {
            return;
        }
        self.record.answered_at = Some(Moment::now());
        self.record.state = RecordState::Answered;
        self.is_begun = true;
        let event = self.record.event(EventKind::CallAnswered);
        self.recorder.write_durably(self.record.clone(), vec![event]).await;
    }

    /// It is over.
    pub fn end(mut self, ending: &Ending) {
        self.close(ending);
    }

    fn close(&mut self, ending: &Ending) {
        self.is_over = true;
        let now = Moment::now();
        let record = &mut self.record;
        record.state = ending.state;
        if !matches!(ending.state, RecordState::Completed) {
            // The answer was written before it went out, and then it could not.
            record.answered_at = None;
        }
        record.ended_at = Some(now);
        record.duration_ms = record
            .answered_at
            .map(|answered| i64::try_from(now.since(answered).as_millis()).unwrap_or(i64::MAX));
        record.hangup_cause = Some(clean(&ending.cause, LONGEST_CAUSE));
        record.hangup_status = ending.status.map(i64::from);
        record.hangup_q850 = ending.q850.map(i64::from);
        record.hangup_side = Some(ending.side);
        record.cost = match (self.price, record.duration_ms) {
            (Some(price), Some(duration)) => Some(price * duration as f64 / 60_000.0),
            (price, None) => price.map(|_| 0.0),
            (None, _) => record.cost,
        };
        self.recorder.shared.meters.count(&self.record);
        // Without a beginning it is a call that was refused at once, and there may be very many of those.
        if !self.is_begun && !self.recorder.takes_refusal() {
            return;
        }
        self.tell(EventKind::CallEnded);
    }

    fn tell(&self, kind: EventKind) {
        let event = self.record.event(kind);
        self.recorder.write(self.record.clone(), vec![event]);
    }
}

impl Drop for RecordedLeg {
    fn drop(&mut self) {
        if self.is_over || !self.is_begun {
            return;
        }
        let state =
            if self.record.answered_at.is_some() { RecordState::Completed } else { RecordState::Failed };
        self.close(&Ending {
            state,
            cause: "the task that had the call ended".to_owned(),
            status: Some(500),
            q850: Some(41),
            side: HangUpSide::System,
        });
    }
}

/// What others wrote, cut to a length that nothing legitimate exceeds, without control characters.
pub(crate) fn clean(text: &str, longest: usize) -> String {
    text.chars().filter(|character| !character.is_control()).take(longest).collect()
}

const LONGEST_CAUSE: usize = 200;
