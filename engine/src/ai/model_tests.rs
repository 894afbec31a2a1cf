//! Both ends of the rings against a plain model that knows of every sample when it was played.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use xdp::Doorbell;

use super::{
    AiCounters, AiPort, Backend, BargeIn, BargeInMode, FromWorker, LatencyBudget, LatencyPolicy, PortConfig,
};
use crate::stream::PlayoutReport;
use crate::time::{Duration, Instant};

#[derive(Clone, Debug)]
enum Step {
    Queue(usize),
    Mark,
    Clear,
    Pause,
    Resume,
    EndUtterance,
    ReportDrained,
    /// The caller begins to speak.
    Interrupt,
    /// Frames of so many samples, and whether the AI thread reads.
    Pull(usize, usize, bool),
    /// Frames that are not sent.
    Pass(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let pull = (1usize..30, 1usize..4, any::<bool>());
    prop_oneof![
        6 => (1usize..6000).prop_map(Step::Queue),
        4 => Just(Step::Mark),
        1 => Just(Step::Clear),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::EndUtterance),
        1 => Just(Step::ReportDrained),
        1 => Just(Step::Interrupt),
        10 => pull.prop_map(|(frames, tens, reads)| Step::Pull(frames, tens * 80, reads)),
        1 => (1usize..10).prop_map(Step::Pass),
    ]
}

struct Model {
    port: AiPort,
    backend: Backend,
    /// What is to be played, by position.
    queue: VecDeque<(u64, u8)>,
    /// When each sample was played.
    played: BTreeMap<u64, u32>,
    /// The RTP timestamp and the caller's samples.
    rtp: u32,
    caller: u64,
    next: u8,
    marks: Vec<u64>,
    answered: Vec<(u64, bool)>,
    drained_wanted: bool,
}

impl Model {
    fn new(config: &PortConfig) -> Self {
        let doorbell = Doorbell::new().expect("an eventfd");
        let (port, backend) = AiPort::pair(config, doorbell, Arc::<AiCounters>::default());
        Self {
            port,
            backend,
            queue: VecDeque::new(),
            played: BTreeMap::new(),
            rtp: 0,
            caller: 0,
            next: 0,
            marks: vec![],
            answered: vec![],
            drained_wanted: false,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::from(self.rtp) * 125_000)
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Queue(len) => {
                self.backend.begin_utterance();
                let start = self.backend.position();
                let audio: Vec<u8> = (0..len).map(|n| self.next.wrapping_add(n as u8)).collect();
                self.next = self.next.wrapping_add(len as u8);
                let fits = len - self.backend.queue_audio(&audio);
                self.queue.extend((start..).zip(audio).take(fits));
                prop_assert_eq!(self.backend.position(), start + fits as u64);
            }
            Step::Mark => {
                let id = self.marks.len() as u64;
                self.marks.push(self.backend.position());
                if self.backend.queue_mark(id.to_string()).is_some() {
                    self.answered.push((id, true));
                }
            }
            Step::Clear => {
                self.poll()?;
                self.backend.clear();
                self.queue.clear();
            }
            Step::Pause => self.backend.pause(),
            Step::Resume => self.backend.resume(),
            Step::EndUtterance => self.backend.end_utterance(),
            Step::ReportDrained => {
                self.backend.report_drained();
                self.drained_wanted = true;
            }
            Step::Interrupt => {
                for block in 0..20 {
                    let audio = [if block < 17 { 0xff } else { 0x10 }; 160];
                    self.port.push_audio(self.now(), self.caller, &audio);
                    self.caller += 160;
                }
                self.pull(160)?;
            }
            Step::Pull(frames, samples, reads) => {
                for _ in 0..frames {
                    self.pull(samples)?;
                    if reads {
                        self.poll()?;
                    }
                    self.backend.top_up();
                }
            }
            Step::Pass(frames) => {
                // What takes effect does so before, and what follows from that.
                self.port.pull(self.now(), self.rtp, &mut []);
                self.poll()?;
                self.port.pull(self.now(), self.rtp, &mut []);
                for _ in 0..frames {
                    let before = self.backend.queued();
                    self.port.pass(self.now(), self.rtp, 160);
                    self.rtp += 160;
                    self.queue.drain(..before - self.backend.queued());
                }
            }
        }
        Ok(())
    }

    fn pull(&mut self, samples: usize) -> Result<(), TestCaseError> {
        let mut frame = [0; 240];
        let len = self.port.pull(self.now(), self.rtp, &mut frame[..samples]);
        for (n, byte) in frame[..len].iter().enumerate() {
            let Some((position, expected)) = self.queue.pop_front() else {
                return Err(TestCaseError::fail("played what was not to be played"));
            };
            prop_assert_eq!(*byte, expected, "at {}", position);
            self.played.insert(position, self.rtp + n as u32);
        }
        self.rtp += samples as u32;
        Ok(())
    }

    fn poll(&mut self) -> Result<(), TestCaseError> {
        while let Some(report) = self.backend.poll() {
            match report {
                FromWorker::Interrupted { report, .. } => {
                    self.queue.clear();
                    self.check(&report)?;
                }
                FromWorker::MarkPlayed { name, report, .. } => {
                    let id: u64 = name.parse().expect("a number");
                    self.answered.push((id, report.complete));
                    prop_assert!(report.position >= self.marks[id as usize] || !report.complete);
                    self.check(&report)?;
                }
                FromWorker::Cleared { report, .. }
                | FromWorker::Began { report, .. }
                | FromWorker::Finished { report, .. } => self.check(&report)?,
                FromWorker::Drained => {
                    prop_assert!(self.queue.is_empty() && std::mem::take(&mut self.drained_wanted));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The report draws the line between what was played before its moment and after it.
    fn check(&self, report: &PlayoutReport) -> Result<(), TestCaseError> {
        let before = self.played.range(..report.position);
        prop_assert_eq!(before.clone().count() as u64, report.played_samples);
        prop_assert!(before.clone().next_back().is_none_or(|(_, &rtp)| rtp < report.rtp_timestamp));
        let after = self.played.range(report.position..).next();
        prop_assert!(after.is_none_or(|(_, &rtp)| rtp >= report.rtp_timestamp));
        let position = report.position;
        for span in [0..position, position / 3..position / 2, position / 2..position + 99] {
            let expected = self.played.range(span.start..span.end.min(position)).count() as u64;
            prop_assert_eq!(self.backend.played(span), expected);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever the order of audio, marks, clears, pauses, interruptions, holds and frames, read or unread: what is
    /// played is what was queued and not dropped, every report is right to the sample, every mark comes back once.
    #[test]
    fn both_ends_equal_the_model(steps in proptest::collection::vec(step(), 1..120)) {
        let barge_in = BargeIn { mode: BargeInMode::Engine, backchannel: Duration::ZERO };
        let mut model = Model::new(&PortConfig { barge_in, ..PortConfig::default() });
        for step in &steps {
            model.take(step)?;
        }
        model.take(&Step::Resume)?;
        model.poll()?;
        model.take(&Step::Pull(3000, 240, true))?;
        prop_assert!(model.queue.is_empty() && !model.backend.is_speaking());
        prop_assert!(!model.drained_wanted);
        let answered: Vec<_> = model.answered.iter().map(|(id, _)| *id).collect();
        prop_assert_eq!(answered, (0..model.marks.len() as u64).collect::<Vec<_>>());
        let total = model.backend.position();
        prop_assert_eq!(model.backend.played(0..total), model.played.len() as u64);
    }

    /// Words with pauses between them, and a budget that some of them exceed: words are heard whole or not at all, in
    /// order, the oldest are those that are left out, and what is said to have been played was.
    #[test]
    fn budget_leaves_out_whole_words(
        words in proptest::collection::vec((1usize..80, 0usize..30, 0usize..60), 1..60)
    ) {
        let latency = LatencyBudget { limit: Duration::from_millis(1500), policy: LatencyPolicy::DropOldest };
        let mut model = Model::new(&PortConfig { latency, ..PortConfig::default() });
        let (mut spans, mut heard) = (vec![], vec![]);
        for (number, &(blocks, pause, frames)) in words.iter().enumerate() {
            let start = model.backend.position();
            // Loud and different from its neighbours.
            model.backend.queue_audio(&vec![number as u8 % 32; blocks * 160]);
            spans.push((number as u8 % 32, start..model.backend.position()));
            model.backend.queue_audio(&vec![0xff; pause * 160]);
            for _ in 0..frames {
                let mut frame = [0; 160];
                let len = model.port.pull(Instant::ZERO, 0, &mut frame);
                heard.extend_from_slice(&frame[..len]);
                model.backend.top_up();
            }
        }
        model.backend.end_utterance();
        while model.backend.is_speaking() {
            let mut frame = [0; 160];
            let len = model.port.pull(Instant::ZERO, 0, &mut frame);
            heard.extend_from_slice(&frame[..len]);
            model.backend.top_up();
        }
        while model.backend.poll().is_some() {}
        let total = model.backend.position();
        prop_assert_eq!(model.backend.played(0..total), heard.len() as u64);
        let mut expected = vec![];
        for (byte, span) in spans {
            let len = span.end - span.start;
            let played = model.backend.played(span);
            prop_assert!(played == 0 || played == len, "{} of {}", played, len);
            expected.extend(std::iter::repeat_n(byte, played as usize));
        }
        let spoken: Vec<u8> = heard.into_iter().filter(|&byte| byte != 0xff).collect();
        prop_assert_eq!(spoken, expected);
    }
}
