//! The conference mix: everyone hears the others, against plain C.

use std::hint::black_box;

use engine::dsp::mix::Mixer;
use engine::simd::{self, Block, Kernels, limit};

use crate::pair::{Pair, Side};
use crate::{FRAME, peers, signal};

pub const MEMBERS: usize = 32;

pub fn pairs() -> Vec<Pair> {
    vec![Pair {
        name: "mix_32",
        goal: 2.0,
        frames: 1,
        check: Box::new(check),
        ours: mixer(),
        theirs: vec![plain_c()],
        tables: simd::available().map(kernel).collect(),
    }]
}

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

/// As a conference calls it, the copies into the mixer included: levels, gains, limiter and all.
fn mixer() -> Side {
    let pcm = members();
    let mut mixer = Mixer::new(MEMBERS, FRAME);
    Side::new("", move || {
        offer(&mut mixer, black_box(&pcm));
        mixer.mix();
        black_box(mixer.output(0));
    })
}

/// The kernels alone: sums of squares, then minus self with the limiter, where the frames lie.
fn kernel(kernels: &'static Kernels) -> Side {
    let blocks: Vec<Block> = members().as_chunks().0.to_vec();
    let mut frames = blocks.clone();
    let mut mix = [[0; 32]; FRAME / 32];
    let mut squares = [0; MEMBERS];
    let members: Vec<u32> = (0..MEMBERS as u32).collect();
    Side::new(kernels.name, move || {
        frames.copy_from_slice(black_box(&blocks));
        (kernels.mix.squares)(&frames, FRAME / 32, &members, black_box(&mut squares));
        (kernels.mix.minus_self)(black_box(&mut frames), FRAME / 32, &members, &mut mix);
    })
}

fn offer(mixer: &mut Mixer, pcm: &[i16]) {
    for (member, frame) in pcm.chunks_exact(FRAME).enumerate() {
        mixer.offer(member).copy_from_slice(frame);
    }
}

/// Equal to plain C below the limiter's knee, and the limited sum everywhere.
fn check() -> Result<String, String> {
    let pcm = members();
    let theirs = expected(&pcm);
    let mut mixer = Mixer::new(MEMBERS, FRAME);
    offer(&mut mixer, &pcm);
    mixer.mix();
    let mut equal = 0;
    for (member, expected) in theirs.chunks_exact(FRAME).enumerate() {
        for (i, (&ours, &theirs)) in mixer.output(member).iter().zip(expected).enumerate() {
            let all: i32 = pcm.iter().skip(i).step_by(FRAME).map(|&x| i32::from(x)).sum();
            let others = all - i32::from(pcm[member * FRAME + i]);
            if ours != limit(others) || (others.unsigned_abs() <= simd::KNEE.into() && ours != theirs) {
                return Err(format!(
                    "member {member}, sample {i}: {ours}, plain C {theirs}, exactly {others}"
                ));
            }
            equal += usize::from(ours == theirs);
        }
    }
    Ok(format!("{equal} of {} samples as plain C, the others limited softly", theirs.len()))
}
