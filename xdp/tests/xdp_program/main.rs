//! The XDP program, frame by frame (BPF_PROG_TEST_RUN) and on a cable.

use xdp::bpf::Mode;
use xdp::program::{Event, Options, XdpProgram};

mod cable;
mod corpus;
mod forward;
mod frames;
mod golden;
#[path = "../netns/mod.rs"]
mod netns;
#[path = "../object/mod.rs"]
mod object;
mod property;

use frames::OURS;

/// A program that knows three addresses of its host.
pub(crate) struct Bench {
    pub(crate) program: XdpProgram,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: u32,
    /// The last event that was counted first: why. None if it was forwarded or nothing was counted.
    pub(crate) event: Option<Event>,
    pub(crate) frame: Vec<u8>,
}

pub(crate) const PASS: u32 = 2;
pub(crate) const DROP: u32 = 1;
pub(crate) const REDIRECT: u32 = 4;

impl Bench {
    /// Loads it, or says that the test is skipped.
    pub(crate) fn or_skip(test: &str, options: Options) -> Option<Self> {
        if let Err(error) = xdp::bpf::probe() {
            netns::skip(test, &error.to_string());
            return None;
        }
        let program = XdpProgram::load(options).unwrap_or_else(|error| panic!("{error}"));
        for address in ["192.0.2.1", "2001:db8::1", "192.0.2.9", "2001:db8::9"] {
            program.set_address(address.parse().unwrap(), OURS).unwrap();
        }
        Some(Self { program })
    }

    /// Runs it on one frame.
    pub(crate) fn run(&self, frame: &[u8]) -> Outcome {
        let before = self.program.counters().unwrap();
        let tested = self.program.test(Mode::Native, frame, None).unwrap();
        let after = self.program.counters().unwrap();
        let mut events = Event::ALL.iter().filter(|event| after.count(**event) > before.count(**event));
        let event = events.next().copied();
        // There is no AF_XDP socket here: what would go to one is passed, and that is counted besides.
        if let Some(second) = events.next() {
            assert_eq!((*second, tested.verdict), (Event::PassedUnclaimed, PASS));
        }
        Outcome { verdict: tested.verdict, event, frame: tested.frame }
    }
}
