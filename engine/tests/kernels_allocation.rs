//! No kernel allocates or frees once its state is made: one case for each family.

mod counting;

use counting::{allocations, frees};
use engine::codec::comfort_noise::{ComfortNoise, NoiseAnalysis};
use engine::codec::g722::batch::{Decoders, Encoders};
use engine::codec::{Channels, Codec, Decoder, Encoder, SampleRate, Settings, g711, g722, opus};
use engine::command::Digit;
use engine::dsp::agc::{Agc, AgcConfig};
use engine::dsp::conceal::Concealer;
use engine::dsp::denoise::Denoiser;
use engine::dsp::mix::Mixer;
use engine::dsp::resample::{Quality, Resampler};
use engine::dsp::stretch::{Cut, Stretch};
use engine::dsp::tone::{ToneGenerator, ToneKind, ToneMonitor, TonePlan};
use engine::dsp::vad::{EnergyVad, NeuralVad, VadBank};
use engine::dtmf::inband::{DtmfGenerator, DtmfLevels, InbandDetector, InbandDetectors};
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
            let g711 = &kernels.g711;
            (g711.encode_ulaw)(&pcm, &mut encoded);
            (g711.encode_alaw)(&pcm, &mut encoded);
            (g711.encode_ulaw_gain)(&pcm, simd::Gain::MAX, &mut encoded);
            (g711.encode_alaw_gain)(&pcm, simd::Gain::MAX, &mut encoded);
            (g711.ulaw_to_alaw)(&encoded, &mut converted);
            (g711.alaw_to_ulaw)(&encoded, &mut converted);
            (g711.ulaw_to_alaw_in_place)(&mut converted);
            (g711.alaw_to_ulaw_in_place)(&mut converted);
            (g711.measure_ulaw)(&encoded);
            (g711.measure_alaw)(&encoded);
            (g711.peak_ulaw)(&encoded);
            (g711.peak_alaw)(&encoded);
            (g711.decode_ulaw)(&encoded, &mut pcm);
            (g711.decode_alaw)(&encoded, &mut pcm);
            (g711.decode_ulaw_gain)(&encoded, simd::Gain::MAX, &mut pcm);
            (g711.decode_alaw_gain)(&encoded, simd::Gain::MAX, &mut pcm);
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
fn measuring_and_amplifying_do_not_allocate() {
    let mut pcm = audio();
    let tables: Vec<_> = simd::available().collect();
    without_allocation(|| {
        for kernels in &tables {
            (kernels.level.amplify)(&mut pcm, simd::Gain::MAX);
            (kernels.level.measure)(&pcm);
            // Shorter than any vector.
            (kernels.level.measure)(&pcm[..7]);
        }
    });
}

#[test]
fn tones_and_digits_do_not_allocate() {
    let generator = |digit: char| {
        let digit = Digit::from_char(digit).expect("a digit");
        DtmfGenerator::new(digit, DtmfLevels::default(), 8000, 800, 800)
    };
    let mut pcm = audio();
    let plan = TonePlan::of("de").expect("a plan");
    let mut one = InbandDetector::new();
    let mut many = InbandDetectors::new(20);
    let mut monitor = ToneMonitor::new(plan);
    let mut events = 0;
    without_allocation(|| {
        let mut tone = ToneGenerator::new(plan, ToneKind::Busy, 8000, -10.0);
        for digit in ['1', '5', '9', 'D'] {
            let mut generator = generator(digit);
            while !generator.is_finished() {
                generator.fill(&mut pcm[..160]);
                one.process(&pcm[..160], |_| events += 1);
                many.process(&[(7, &pcm[..160]), (19, &pcm[..33])], |_, _| events += 1);
                monitor.process(&pcm[..160], |_| events += 1);
            }
        }
        for _ in 0..60 {
            tone.fill(&mut pcm);
            monitor.process(&pcm, |_| events += 1);
        }
    });
    // Starts and ends for the one and one of the many, busy, and what the other makes of its pieces.
    assert!(events >= 17, "{events}");
}

#[test]
fn coders_do_not_allocate() {
    let settings = Settings { opus: opus::Settings { fec: true, dtx: true, ..Default::default() } };
    let l16 = Codec::L16 { rate: SampleRate::Hz16000, channels: Channels::Stereo };
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, l16, Codec::Opus] {
        let mut encoder = Encoder::new(codec, &settings).expect("valid settings");
        let mut decoder = Decoder::new(codec, &settings).expect("valid settings");
        let mut pcm = audio();
        pcm.truncate(codec.sample_rate().samples(20));
        let mut payload = vec![0; 4 * pcm.len()];
        let _ = simd::kernels();
        without_allocation(|| {
            for round in 0..20 {
                let len = encoder.encode(&pcm, &mut payload).expect("a whole frame");
                match round % 5 {
                    3 => drop(decoder.conceal(&mut pcm)),
                    4 => drop(decoder.decode_fec(&payload[..len], &mut pcm)),
                    _ => {}
                }
                assert_eq!(decoder.decode(&payload[..len], &mut pcm), Ok(pcm.len()));
                assert!(decoder.decode(&[], &mut pcm).is_err());
                encoder.set_packet_loss(round);
            }
            encoder.reset();
            decoder.reset();
        });
    }
}

#[test]
fn resampling_does_not_allocate() {
    let pcm = audio();
    let mut out = vec![0; 6 * pcm.len()];
    for quality in [Quality::Speech, Quality::High] {
        for from in SampleRate::ALL {
            for to in SampleRate::ALL {
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
            mixer.set_gain(tick, simd::Gain::from_factor(0.5));
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

#[test]
fn voice_activity_detection_does_not_allocate() {
    let pcm = audio();
    let mut bank = VadBank::new(100, 20);
    let mut energy = EnergyVad::new(20);
    let mut neural = [8000, 16_000].map(|rate| NeuralVad::new(rate).expect("a rate it takes"));
    let _ = simd::kernels();
    without_allocation(|| {
        for call in 0..100 {
            bank.set_frame(call, 1_000_000 << (call % 20), 160);
        }
        bank.update();
        energy.handle_frame(&pcm);
        for vad in &mut neural {
            vad.handle_frame(&pcm);
        }
    });
}

#[test]
fn gain_control_and_noise_suppression_do_not_allocate() {
    let mut pcm = audio();
    let mut agc = Agc::new(AgcConfig::default());
    let mut denoisers =
        [8000, 48_000].map(|hz| SampleRate::from_hz(hz).and_then(Denoiser::new).expect("a rate it takes"));
    let _ = simd::kernels();
    without_allocation(|| {
        agc.handle_frame(&mut pcm, true);
        for denoiser in &mut denoisers {
            for _ in 0..5 {
                denoiser.handle_frame(&mut pcm);
            }
        }
    });
}

#[test]
fn comfort_noise_does_not_allocate() {
    let mut pcm = audio();
    let mut noise = ComfortNoise::new();
    let mut analysis = NoiseAnalysis::new(10);
    let mut payload = [0; 11];
    let _ = simd::kernels();
    without_allocation(|| {
        analysis.handle_frame(&pcm);
        let length = analysis.write(&mut payload);
        noise.handle_payload(&payload[..length]);
        noise.fill(&mut pcm);
    });
}

#[test]
fn concealing_and_stretching_do_not_allocate() {
    let mut pcm = audio();
    let mut concealer = Concealer::new(8);
    let mut stretch = Stretch::new(8);
    let mut joined = [0; 80];
    // The choice of a table may look at the CPU with memory of its own.
    concealer.conceal(&mut joined);
    without_allocation(|| {
        for frame in pcm.chunks_mut(160) {
            concealer.hear(frame);
            concealer.conceal(frame);
        }
        for cut in [Cut::Unheard, Cut::Forced] {
            stretch.shorten(concealer.history(), &pcm, &mut joined, 120, 80, cut);
            stretch.lengthen(concealer.history(), &pcm, &mut joined, cut);
        }
        concealer.reset();
    });
}

#[test]
fn srtp_does_not_allocate() {
    use engine::srtp::{MasterKey, Profile, Receiver, Sender};
    for profile in Profile::ALL {
        let key = vec![7; profile.key_bytes() + profile.salt_bytes()];
        let key = MasterKey::new(profile, &key).expect("the right length");
        let mut sender = Sender::new(&key).expect("valid");
        let mut receiver = Receiver::new(&key).expect("valid");
        let mut buffer = [0x80; 200];
        without_allocation(|| {
            for number in 0..20 {
                buffer[3] = number;
                let len = sender.protect_rtp(&mut buffer, 172).expect("room");
                assert_eq!(receiver.unprotect_rtp(&mut buffer[..len]), Ok(172));
                assert!(receiver.unprotect_rtp(&mut buffer[..len]).is_err());
                let len = sender.protect_rtcp(&mut buffer, 60).expect("room");
                assert_eq!(receiver.unprotect_rtcp(&mut buffer[..len]), Ok(60));
            }
        });
    }
}
