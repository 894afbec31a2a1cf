//! DTMF detection: many calls in one pass against one of spandsp's receivers per call.

use std::f64::consts::TAU;
use std::hint::black_box;

use engine::dtmf::inband::{InbandDetectors, InbandEvent};

use crate::pair::{Pair, Side};
use crate::quality::digits::Candidate;
use crate::{FRAME, FRAMES, SECONDS, peers, signal};

/// Calls that are looked at together.
pub const CALLS: usize = 64;

/// Frames that one call of a side handles: one of every call.
pub const FRAMES_PER_RUN: usize = CALLS;

/// The frame of one call at one time: everyone is somewhere else in the same speech.
pub fn frame(pcm: &[i16], call: usize, time: usize) -> &[i16] {
    let at = (time + call * 37) % FRAMES * FRAME;
    &pcm[at..at + FRAME]
}

pub fn pairs() -> Vec<Pair> {
    vec![Pair {
        name: "dtmf_detect",
        goal: 6.0,
        frames: FRAMES_PER_RUN,
        check: Box::new(check),
        ours: detectors(),
        theirs: vec![spandsp()],
        uses_kernels: true,
    }]
}

/// Our detectors of all calls, fed with the same speech.
fn detectors() -> Side {
    let pcm = signal::speech(8000, SECONDS);
    let mut detectors = InbandDetectors::new(CALLS);
    let mut time = 0;
    Side::new("", move || {
        let frames: [(usize, &[i16]); CALLS] =
            std::array::from_fn(|call| (call, frame(black_box(&pcm), call, time)));
        detectors.process(&frames, |call, event| {
            black_box((call, event));
        });
        time += 1;
    })
}

/// What ours hears in some audio at 8 kHz.
pub fn our_digits(pcm: &[i16]) -> String {
    let mut detectors = InbandDetectors::new(1);
    let mut digits = String::new();
    for frame in pcm.chunks(FRAME) {
        detectors.process(&[(0, frame)], |_, event| {
            if let InbandEvent::Start { digit, .. } = event {
                digits.push(digit.as_char());
            }
        });
    }
    digits
}

/// Both hear all digits, and none in the speech that is timed.
fn check() -> Result<String, String> {
    let sent: String = DIGITS.iter().flatten().collect();
    let speech = signal::speech(8000, SECONDS);
    for (who, digits) in [("ours", our_digits as fn(&[i16]) -> String), ("spandsp", spandsp_digits)] {
        for milliseconds in [40, 50, 100] {
            let heard = digits(&all_digits(milliseconds));
            if heard != sent {
                return Err(format!("{who} heard {heard} at {milliseconds} ms"));
            }
        }
        let heard = digits(&speech);
        if !heard.is_empty() {
            return Err(format!("{who} heard {heard} in speech"));
        }
    }
    Ok("both hear the 16 digits of 40, 50 and 100 ms, and none in speech".to_owned())
}

/// spandsp's receivers, one per call, fed with speech.
pub fn spandsp() -> Side {
    let pcm = signal::speech(8000, SECONDS);
    let mut receivers: Vec<_> = (0..CALLS).map(|_| peers::Dtmf::new(false)).collect();
    let mut time = 0;
    Side::new("spandsp", move || {
        for (call, receiver) in receivers.iter_mut().enumerate() {
            receiver.process(black_box(frame(&pcm, call, time)));
        }
        time += 1;
    })
}

/// What spandsp hears in some audio at 8 kHz.
pub fn spandsp_digits(pcm: &[i16]) -> String {
    let mut receiver = peers::Dtmf::new(false);
    pcm.chunks(FRAME).for_each(|frame| receiver.process(frame));
    receiver.digits()
}

/// The sixteen digits by row and column.
pub const DIGITS: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];
pub const ROWS: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
pub const COLUMNS: [f64; 4] = [1209.0, 1336.0, 1477.0, 1633.0];

/// All sixteen digits in order, tone and pause of `milliseconds` each, at 8 kHz; some -10 dBm0 a tone.
pub fn all_digits(milliseconds: usize) -> Vec<i16> {
    let mut pcm = Vec::new();
    for row in ROWS {
        for column in COLUMNS {
            pcm.extend((0..milliseconds * 8).map(|n| {
                let time = n as f64 / 8000.0;
                (7000.0 * ((TAU * row * time).sin() + (TAU * column * time).sin())) as i16
            }));
            pcm.extend(std::iter::repeat_n(0, milliseconds * 8));
        }
    }
    pcm
}

/// Ours, for the quality report.
pub fn ours() -> Vec<Candidate> {
    vec![Candidate { name: "ours", digits: our_digits }]
}
