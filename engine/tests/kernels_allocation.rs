//! No kernel allocates or frees once its state is made: one case for each family.

mod counting;

use counting::{allocations, frees};
use engine::codec::g722::batch::{Decoders, Encoders};
use engine::codec::{Channels, SampleRate, g711, g722, opus};
use engine::dsp::mix::{Gain, Mixer};
use engine::dsp::resample::{self, Quality, Resampler};
use engine::simd;

/// Runs a piece of work and asserts that it left the allocator alone.
#[track_caller]
fn without_allocation(work: impl FnOnce()) {
    let before = (allocations(), frees());
    work();
    assert_eq!((allocations() - before.0, frees() - before.1), (0, 0), "(allocations, frees)");
}

/// Samples that are loud, quiet and extreme.
fn audio() -> Vec<i16> {
    (0..960i32).map(|n| (n * 7919 % 65_536 - 32_768) as i16 >> (n % 13)).collect()
}

#[test]
fn an_allocation_is_seen() {
    let seen = std::panic::catch_unwind(|| without_allocation(|| drop(std::hint::black_box(vec![1u8; 100]))));
    assert!(seen.is_err());
}

#[test]
fn companding_does_not_allocate() {
    let mut pcm = audio();
    let [mut encoded, mut converted] = [vec![0; pcm.len()], vec![0; pcm.len()]];
    // The choice of a table may look at the CPU with memory of its own.
    let tables: Vec<_> = simd::available().chain([simd::kernels()]).collect();
    without_allocation(|| {
        for kernels in &tables {
            (kernels.g711.encode_ulaw)(&pcm, &mut encoded);
            (kernels.g711.encode_alaw)(&pcm, &mut encoded);
            (kernels.g711.decode_ulaw)(&encoded, &mut pcm);
            (kernels.g711.decode_alaw)(&encoded, &mut pcm);
            (kernels.g711.ulaw_to_alaw)(&encoded, &mut converted);
            (kernels.g711.alaw_to_ulaw)(&encoded, &mut converted);
        }
        g711::encode_ulaw(&pcm, &mut encoded);
        g711::encode_alaw(&pcm, &mut encoded);
        g711::ulaw_to_alaw(&encoded, &mut converted);
        g711::alaw_to_ulaw(&encoded, &mut converted);
        g711::decode_ulaw(&encoded, &mut pcm);
        g711::decode_alaw(&encoded, &mut pcm);
    });
}

#[test]
fn resampling_does_not_allocate() {
    let pcm = audio();
    let mut out = vec![0; 6 * pcm.len()];
    for quality in [Quality::Speech, Quality::High] {
        for from in resample::SampleRate::ALL {
            for to in resample::SampleRate::ALL {
                let mut resampler = Resampler::new(from, to, quality);
                without_allocation(|| {
                    for length in [0, 1, 7, 160, 441, 960] {
                        resampler.process(&pcm[..length], &mut out);
                    }
                    resampler.reset();
                });
            }
        }
    }
}

#[test]
fn mixing_does_not_allocate() {
    let pcm = audio();
    let mut mixer = Mixer::new(100, 160);
    without_allocation(|| {
        for tick in 0..20 {
            mixer.set_loudest((tick % 2 == 0).then_some(3));
            mixer.set_gain(tick, Gain::from_q12(2000));
            for member in tick..100 {
                mixer.offer(member).copy_from_slice(&pcm[member..member + 160]);
            }
            mixer.mix();
            assert_eq!(mixer.output(99).len(), 160);
            mixer.reset(tick);
        }
    });
}

#[test]
fn g722_does_not_allocate() {
    let mut pcm = audio();
    let mut octets = [0; 480];
    let (mut encoder, mut decoder) = (g722::Encoder::new(), g722::Decoder::new());
    let (mut encoders, mut decoders) = (Encoders::new(40, 160), Decoders::new(40, 160));
    without_allocation(|| {
        for _ in 0..3 {
            encoder.encode(&pcm, &mut octets);
            decoder.decode(&octets, &mut pcm);
            encoder.reset();
            for _ in 0..33 {
                let (encode, decode) = (encoders.add(), decoders.add());
                let (Some(encode), Some(decode)) = (encode, decode) else { break };
                encoders.put(encode, &pcm[..320]);
                decoders.put(decode, &octets[..160]);
                encoders.encode();
                decoders.decode();
                encoders.take(encode, &mut octets[..160]);
                decoders.take(decode, &mut pcm[..320]);
                encoders.remove(encode);
                decoders.remove(decode);
            }
        }
    });
}

/// What the library takes by itself is not seen here: its memory comes from C.
#[test]
fn opus_does_not_allocate() {
    let settings = opus::Settings {
        rate: SampleRate::Hz16000,
        channels: Channels::Mono,
        fec: true,
        dtx: true,
        ..opus::Settings::default()
    };
    let mut encoder = opus::Encoder::new(&settings).expect("a rate of Opus");
    let mut decoder = opus::Decoder::new(&settings).expect("a rate of Opus");
    let (mut pcm, mut packet) = (audio(), [0; 1500]);
    without_allocation(|| {
        for _ in 0..5 {
            let length = encoder.encode(&pcm[..320], &mut packet).expect("20 ms");
            decoder.decode(&packet[..length], &mut pcm[..320]).expect("our own packet");
            decoder.conceal(&mut pcm[..320]);
        }
    });
}
