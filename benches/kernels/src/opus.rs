//! Opus at 16 kHz, complexity 5: the engine's libopus against Debian's.

use std::hint::black_box;

use engine::codec::opus::{Encoder, Settings};
use engine::codec::{Channels, SampleRate};

use crate::pair::{Pair, Side};
use crate::{FRAMES, SECONDS, peers, signal};

pub const RATE: u32 = 16_000;
pub const BITRATE: u32 = 16_000;
pub const COMPLEXITY: u8 = 5;
/// Samples of 20 ms.
pub const FRAME: usize = 320;
/// Room for any packet.
pub const PACKET: usize = 600;

pub fn speech() -> Vec<i16> {
    signal::speech(RATE, SECONDS)
}

/// Debian's library; a call handles all [`crate::FRAMES`] frames.
pub fn debian() -> Side {
    let pcm = speech();
    let mut encoder = peers::OpusEncoder::new(RATE, BITRATE, COMPLEXITY);
    let mut packet = [0; PACKET];
    Side::new("libopus 1.3.1", move || {
        for frame in pcm.chunks_exact(FRAME) {
            black_box(encoder.encode(black_box(frame), black_box(&mut packet)));
        }
    })
}

/// Whether Debian's decoder understands what we encode: it comes back at about the same level.
pub fn check(mut encode: impl FnMut(&[i16], &mut [u8]) -> usize) -> Result<String, String> {
    let mut decoder = peers::OpusDecoder::new(RATE);
    let (mut packet, mut heard) = ([0; PACKET], [0; FRAME]);
    let (mut said_energy, mut heard_energy, mut bytes) = (0.0, 0.0, 0);
    for frame in speech().chunks_exact(FRAME) {
        let length = encode(frame, &mut packet);
        if decoder.decode(&packet[..length], &mut heard) != FRAME as i32 {
            return Err("Debian's decoder refuses our packet".to_owned());
        }
        bytes += length;
        said_energy += energy(frame);
        heard_energy += energy(&heard);
    }
    let (level, bitrate) = (10.0 * f64::log10(heard_energy / said_energy), bytes as f64 * 8.0 / SECONDS);
    if level.abs() > 3.0 {
        return Err(format!("decoded at {level:.1} dB"));
    }
    if (bitrate / f64::from(BITRATE) - 1.0).abs() > 0.3 {
        return Err(format!("{bitrate:.0} bit/s instead of {BITRATE}"));
    }
    Ok(format!("Debian's decoder hears it at {level:+.1} dB, {bitrate:.0} bit/s"))
}

fn energy(pcm: &[i16]) -> f64 {
    pcm.iter().map(|&sample| f64::from(sample).powi(2)).sum()
}

pub fn pairs() -> Vec<Pair> {
    vec![Pair {
        name: "opus_encode_16k_c5",
        goal: 1.1,
        frames: FRAMES,
        check: Box::new(|| {
            let mut encoder = encoder();
            check(|pcm, packet| encoder.encode(pcm, packet).unwrap_or(0))
        }),
        ours: ours(),
        theirs: vec![debian()],
        uses_kernels: false,
    }]
}

fn encoder() -> Encoder {
    let settings = Settings {
        rate: SampleRate::Hz16000,
        channels: Channels::Mono,
        bitrate_bps: Some(BITRATE),
        complexity: COMPLEXITY,
        ..Settings::default()
    };
    Encoder::new(&settings).expect("a rate of Opus")
}

fn ours() -> Side {
    let pcm = speech();
    let mut encoder = encoder();
    let mut packet = [0; PACKET];
    Side::new("", move || {
        for frame in pcm.chunks_exact(FRAME) {
            black_box(encoder.encode(black_box(frame), black_box(&mut packet)).is_ok());
        }
    })
}
