//! What the worker's reports mean on this side.

use std::sync::atomic::Ordering;

use super::Backend;
use crate::ai::report::FromWorker;
use crate::ai::shared::{Report, What};
use crate::stream::PlayoutReport;

impl Backend {
    /// What the worker does not tell.
    pub(super) fn poll_queue(&mut self) -> Option<FromWorker> {
        let queued = self.line.samples(self.queued());
        self.budget.observe(queued);
        if let Some(high) = self.budget.pressure(queued) {
            return Some(FromWorker::Pressure { high });
        }
        let drained = self.drained_wanted && queued == 0;
        self.drained_wanted &= !drained;
        drained.then_some(FromWorker::Drained)
    }

    pub(super) fn take(
        &mut self,
        Report { at, rtp_timestamp, position, played, what }: Report,
    ) -> Option<FromWorker> {
        if let What::Unheard { from } = what {
            self.positions.skip_ring(from..position);
        }
        let mut report = PlayoutReport {
            played_samples: played,
            position: self.positions.reach(position),
            rtp_timestamp,
            complete: false,
        };
        Some(match what {
            What::Mark { id, complete } => {
                report.complete = complete;
                FromWorker::MarkPlayed { at, name: self.marks.pop(id)?, report }
            }
            What::Cleared { to, number } => {
                self.positions.skip_ring(position..to);
                FromWorker::Cleared { at, number, report }
            }
            What::Interrupted { number, speech } => {
                self.drop_backlog();
                // What has come to the ring since belongs to it, too.
                self.positions.skip_ring(position..self.written);
                self.cut_off = Some(at);
                self.tally.interruptions += 1;
                self.shared.interrupted_to.store(self.written, Ordering::Release);
                self.shared.interrupts_seen.store(number, Ordering::Release);
                self.top_up();
                FromWorker::Interrupted { at, speech_at: speech.at, speech: speech.timestamp, report }
            }
            What::Unheard { .. } => return self.poll(),
            What::Began => {
                // The first sample of the spurt, behind whatever was left out before it.
                report.position = self.positions.of(position);
                FromWorker::Began { at, report }
            }
            What::Empty => {
                report.complete = true;
                if self.is_speaking() {
                    return self.poll();
                }
                FromWorker::Finished { at, report }
            }
            What::Speech { moment, speaking } => {
                if !speaking {
                    self.cut_off = None;
                }
                FromWorker::Speech { at: moment.at, timestamp: moment.timestamp, speaking }
            }
            What::Ended => FromWorker::Ended { at, report },
        })
    }
}
