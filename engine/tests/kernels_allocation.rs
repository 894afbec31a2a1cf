//! No kernel allocates or frees once its state is made: one case for each family.

mod counting;

use counting::{allocations, frees};
use engine::codec::comfort_noise::{ComfortNoise, NoiseAnalysis};
use engine::codec::g711;
use engine::command::Digit;
use engine::dsp::agc::{Agc, AgcConfig};
use engine::dsp::denoise::Denoiser;
use engine::dsp::mix::Mixer;
use engine::dsp::rate::SampleRate;
use engine::dsp::tone::{ToneGenerator, ToneKind, ToneMonitor, TonePlan};
use engine::dsp::vad::{EnergyVad, NeuralVad, VadBank};
use engine::dtmf::inband::{DtmfGenerator, DtmfLevels, InbandDetector, InbandDetectors};
use engine::simd::{self, Gain};

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
            (g711.encode_ulaw_gain)(&pcm, Gain::MAX, &mut encoded);
            (g711.encode_alaw_gain)(&pcm, Gain::MAX, &mut encoded);
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
            (g711.decode_ulaw_gain)(&encoded, Gain::MAX, &mut pcm);
            (g711.decode_alaw_gain)(&encoded, Gain::MAX, &mut pcm);
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
            (kernels.level.amplify)(&mut pcm, Gain::MAX);
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
fn mixing_does_not_allocate() {
    let pcm = audio();
    let mut mixer = Mixer::new(40, 960);
    mixer.set_loudest(Some(3));
    let _ = simd::kernels();
    without_allocation(|| {
        for tick in 0..20 {
            for member in 0..40 - tick {
                mixer.offer(member).copy_from_slice(&pcm);
            }
            mixer.set_gain(tick, Gain::from_factor(0.5));
            mixer.mix();
            assert!(mixer.summed().len() > 2 && mixer.level(0).value() < 127);
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
