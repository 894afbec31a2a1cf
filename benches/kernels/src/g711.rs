//! G.711: spandsp's inline functions, and the table loop for conversion.

use std::hint::black_box;

use engine::codec::g711;

use crate::pair::{Pair, Side};
use crate::{FRAME, FRAMES, SECONDS, peers, signal};

pub fn pairs() -> Vec<Pair> {
    vec![
        Pair {
            name: "ulaw_encode",
            goal: 8.0,
            frames: FRAMES,
            check: Box::new(|| check_encoder(g711::encode_ulaw, peers::ulaw_encode)),
            ours: encoder("", g711::encode_ulaw),
            theirs: vec![encoder("spandsp", peers::ulaw_encode)],
            uses_kernels: true,
        },
        Pair {
            name: "alaw_encode",
            goal: 8.0,
            frames: FRAMES,
            check: Box::new(|| check_encoder(g711::encode_alaw, peers::alaw_encode)),
            ours: encoder("", g711::encode_alaw),
            theirs: vec![encoder("spandsp", peers::alaw_encode)],
            uses_kernels: true,
        },
        Pair {
            name: "ulaw_decode",
            goal: 1.2,
            frames: FRAMES,
            check: Box::new(|| check_decoder(g711::decode_ulaw, peers::ulaw_decode)),
            ours: decoder("", g711::decode_ulaw),
            theirs: vec![decoder("spandsp", peers::ulaw_decode)],
            uses_kernels: true,
        },
        Pair {
            name: "alaw_decode",
            goal: 2.0,
            frames: FRAMES,
            check: Box::new(|| check_decoder(g711::decode_alaw, peers::alaw_decode)),
            ours: decoder("", g711::decode_alaw),
            theirs: vec![decoder("spandsp", peers::alaw_decode)],
            uses_kernels: true,
        },
        Pair {
            name: "ulaw_to_alaw",
            goal: 4.0,
            frames: FRAMES,
            check: Box::new(check_conversion),
            ours: converter("", g711::ulaw_to_alaw),
            theirs: vec![converter("256-entry table", |input, out| {
                peers::table_convert(&g711::ULAW_TO_ALAW, input, out);
            })],
            uses_kernels: true,
        },
    ]
}

fn encoder(name: &str, encode: impl Fn(&[i16], &mut [u8]) + 'static) -> Side {
    let pcm = signal::speech(8000, SECONDS);
    let mut encoded = [0; FRAME];
    Side::new(name, move || {
        for frame in pcm.as_chunks::<FRAME>().0 {
            encode(black_box(frame), black_box(&mut encoded));
        }
    })
}

fn decoder(name: &str, decode: impl Fn(&[u8], &mut [i16]) + 'static) -> Side {
    let encoded = codes();
    let mut pcm = [0; FRAME];
    Side::new(name, move || {
        for frame in encoded.as_chunks::<FRAME>().0 {
            decode(black_box(frame), black_box(&mut pcm));
        }
    })
}

fn converter(name: &str, convert: impl Fn(&[u8], &mut [u8]) + 'static) -> Side {
    let encoded = codes();
    let mut converted = [0; FRAME];
    Side::new(name, move || {
        for frame in encoded.as_chunks::<FRAME>().0 {
            convert(black_box(frame), black_box(&mut converted));
        }
    })
}

fn codes() -> Vec<u8> {
    let pcm = signal::speech(8000, SECONDS);
    let mut encoded = vec![0; pcm.len()];
    peers::ulaw_encode(&pcm, &mut encoded);
    encoded
}

type Encode = fn(&[i16], &mut [u8]);
type Decode = fn(&[u8], &mut [i16]);

/// Of positive samples G.711 and spandsp agree. A negative one has the code of its ones' complement with the
/// other sign; there spandsp's mu-law takes the two's complement and differs at the edges of intervals.
fn check_encoder(ours: Encode, theirs: Encode) -> Result<String, String> {
    let samples: Vec<i16> = (i16::MIN..=i16::MAX).collect();
    let mirrored: Vec<i16> =
        samples.iter().map(|&sample| if sample < 0 { !sample } else { sample }).collect();
    let [mut found, mut expected, mut direct] = [(); 3].map(|()| vec![0; samples.len()]);
    ours(&samples, &mut found);
    theirs(&mirrored, &mut expected);
    theirs(&samples, &mut direct);
    for ((&sample, &found), &expected) in samples.iter().zip(&found).zip(&expected) {
        let expected = if sample < 0 { expected ^ 0x80 } else { expected };
        if found != expected {
            return Err(format!("sample {sample} gives {found:#04x} instead of {expected:#04x}"));
        }
    }
    let differing = found.iter().zip(&direct).filter(|(ours, theirs)| ours != theirs).count();
    Ok(format!("all 65,536 samples as G.711 has them; spandsp differs at {differing}"))
}

fn check_decoder(ours: Decode, theirs: Decode) -> Result<String, String> {
    let codes: Vec<u8> = (0..=255).collect();
    let [mut found, mut expected] = [[0; 256]; 2];
    ours(&codes, &mut found);
    theirs(&codes, &mut expected);
    match (0..256).find(|&code| found[code] != expected[code]) {
        Some(code) => Err(format!("code {code:#04x} gives {} instead of {}", found[code], expected[code])),
        None => Ok("all 256 codes as spandsp".to_owned()),
    }
}

fn check_conversion() -> Result<String, String> {
    let codes: Vec<u8> = (0..=255).collect();
    let [mut found, mut back] = [[0; 256]; 2];
    g711::ulaw_to_alaw(&codes, &mut found);
    g711::alaw_to_ulaw(&codes, &mut back);
    for code in 0..=255u8 {
        let (found, back) = (found[usize::from(code)], back[usize::from(code)]);
        if found != peers::ulaw_to_alaw(code) {
            return Err(format!("mu-law {code:#04x} gives {found:#04x}"));
        }
        if back != peers::alaw_to_ulaw(code) {
            return Err(format!("A-law {code:#04x} gives {back:#04x}"));
        }
    }
    Ok("all 256 codes both ways as spandsp".to_owned())
}
