//! DTMF detection: many calls in one pass against one of spandsp's receivers per call.

use std::f64::consts::TAU;
use std::hint::black_box;

use crate::pair::Side;
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
    Vec::new()
}
