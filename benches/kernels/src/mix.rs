//! The conference mix: everyone hears the others, against plain C.

use std::hint::black_box;

use crate::pair::Side;
use crate::{FRAME, peers, signal};

pub const MEMBERS: usize = 32;

/// One frame of every member, one after another.
pub fn members() -> Vec<i16> {
    signal::speech(8000, (MEMBERS * FRAME) as f64 / 8000.0)
}

/// Plain C.
pub fn plain_c() -> Side {
    let pcm = members();
    let mut out = vec![0; pcm.len()];
    let mut sum = vec![0; FRAME];
    Side::new("plain C", move || {
        peers::mix_minus_self(black_box(&pcm), black_box(&mut out), black_box(&mut sum));
    })
}

/// What plain C gives, which saturates.
pub fn expected(pcm: &[i16]) -> Vec<i16> {
    let mut out = vec![0; pcm.len()];
    peers::mix_minus_self(pcm, &mut out, &mut vec![0; FRAME]);
    out
}
