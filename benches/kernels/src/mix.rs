//! The conference mix: everyone hears the others, against plain C.

use std::hint::black_box;

use engine::dsp::mix::Mixer;
use engine::simd;

use crate::pair::{Pair, Side};
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

/// A whole tick of ours: levels, the loudest, gains, and the limited mix. Theirs is the bare mix. The frames lie
/// there already on both sides, as decoders leave them; ours are overwritten by each tick, but times do not
/// depend on what is mixed.
pub fn pairs() -> Vec<Pair> {
    vec![Pair {
        name: "mix_32",
        goal: 2.0,
        frames: 1,
        check: Box::new(check),
        ours: ours(),
        theirs: vec![plain_c()],
        uses_kernels: true,
    }]
}

fn ours() -> Side {
    let mut mixer = Mixer::new(MEMBERS, FRAME);
    for (member, frame) in members().as_chunks::<FRAME>().0.iter().enumerate() {
        mixer.offer(member).copy_from_slice(frame);
    }
    Side::new("", move || {
        for member in 0..MEMBERS {
            black_box(mixer.offer(member));
        }
        mixer.mix();
        black_box(&mixer);
    })
}

/// Exact against plain C where nothing is limited, and never further from it than the limiter allows.
fn check() -> Result<String, String> {
    let loud = members();
    let soft: Vec<i16> = loud.iter().map(|sample| sample / 16).collect();
    let mut mixer = Mixer::new(MEMBERS, FRAME);
    let mut limited = 0;
    for pcm in [&soft, &loud] {
        for (member, frame) in pcm.as_chunks::<FRAME>().0.iter().enumerate() {
            mixer.offer(member).copy_from_slice(frame);
        }
        mixer.mix();
        let expected = expected(pcm);
        for (member, expected) in expected.as_chunks::<FRAME>().0.iter().enumerate() {
            for (at, (&found, &expected)) in mixer.output(member).iter().zip(expected).enumerate() {
                let right = if expected.unsigned_abs() <= simd::KNEE {
                    found == expected
                } else {
                    limited += 1;
                    found.unsigned_abs() >= simd::KNEE && found.signum() == expected.signum()
                };
                if !right {
                    return Err(format!("member {member}, sample {at}: {found} instead of {expected}"));
                }
            }
        }
    }
    Ok(format!("as plain C; {limited} of {} samples softly limited", 2 * loud.len()))
}
