//! Tones that are made and heard.

use proptest::prelude::*;

use super::{Oscillator, ToneBurst, ToneEvent, ToneGenerator, ToneKind, ToneMonitor, TonePlan};

fn plan(country: &str) -> &'static TonePlan {
    TonePlan::of(country).expect("a plan")
}

fn generated(country: &str, kind: ToneKind, seconds: f64) -> Vec<i16> {
    let mut generator = ToneGenerator::new(plan(country), kind, 8000, -13.0);
    let mut audio = vec![0; (8000.0 * seconds) as usize];
    let written = generator.fill(&mut audio);
    assert!(written == audio.len() || generator.is_finished());
    audio
}

fn bursts(bursts: &'static [ToneBurst]) -> Vec<i16> {
    let mut generator = ToneGenerator::with_bursts(bursts, false, 8000, -13.0);
    let mut audio = vec![0; 8000 * 10];
    let written = generator.fill(&mut audio);
    audio.truncate(written);
    audio
}

const fn burst(frequencies_hz: &'static [f64], on_ms: u32, off_ms: u32) -> ToneBurst {
    ToneBurst { frequencies_hz, on_ms, off_ms }
}

fn heard(country: &str, audio: &[i16]) -> Vec<ToneEvent> {
    let mut monitor = ToneMonitor::new(plan(country));
    let mut events = Vec::new();
    for frame in audio.chunks(160) {
        monitor.process(frame, |event| events.push(event));
    }
    events
}

fn noise(audio: &mut [i16], amplitude: f64, seed: u32) {
    let mut random = seed;
    for sample in audio {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (f64::from(random >> 8) / f64::from(1 << 23) - 1.0) * amplitude;
        *sample = (f64::from(*sample) + noise).round() as i16;
    }
}

/// Something like a voice: a buzz with two formants that moves and pauses.
fn voice(seconds: f64) -> Vec<i16> {
    let mut phase = 0.0;
    (0..(seconds * 8000.0) as usize)
        .map(|n| {
            let time = n as f64 / 8000.0;
            phase += (120.0 + 30.0 * (4.4 * time).sin()) / 8000.0;
            let syllable = (0.5 + 0.5 * (19.0 * time).sin()).powi(2);
            let sum: f64 = (1..25)
                .map(|h| {
                    let hz = 120.0 * f64::from(h);
                    let formant = |at: f64| (-((hz - at) / 250.0f64).powi(2)).exp();
                    let gain = formant(500.0 + 200.0 * (7.0 * time).sin()) + 0.5 * formant(1500.0);
                    gain * (std::f64::consts::TAU * phase * f64::from(h)).sin()
                })
                .sum();
            (sum * syllable * 4000.0) as i16
        })
        .collect()
}

#[test]
fn every_plan_has_every_tone_and_the_asked_countries_are_there() {
    for country in ["us", "GB", "de", "fr", "it", "es", "at", "ch", "nl", "pl", "jp", "au", "in", "br", "cn"]
    {
        assert!(TonePlan::of(country).is_some(), "{country}");
    }
    assert!(TonePlan::of("xx").is_none());
    for plan in TonePlan::all() {
        for kind in
            [ToneKind::Dial, ToneKind::Ringback, ToneKind::Busy, ToneKind::Congestion, ToneKind::CallWaiting]
        {
            let cadence = plan.cadence(kind);
            assert!(!cadence.is_empty() && cadence.iter().all(|burst| !burst.frequencies_hz.is_empty()));
        }
    }
}

#[test]
fn every_tone_of_every_plan_is_recognised_with_noise_beneath() {
    for plan in TonePlan::all() {
        for (kind, seconds) in [
            (ToneKind::Dial, 4.0),
            (ToneKind::Ringback, 8.0),
            (ToneKind::Busy, 4.0),
            (ToneKind::Congestion, 5.0),
            (ToneKind::CallWaiting, 40.0),
            (ToneKind::SpecialInformation, 2.0),
        ] {
            // Austria's call waiting (40 ms) is shorter than what the monitor takes for a burst.
            if kind == ToneKind::CallWaiting && plan.cadence(kind)[0].on_ms < 50 {
                continue;
            }
            let mut audio = vec![0; 1234];
            audio.extend(generated(plan.country, kind, seconds));
            noise(&mut audio, 60.0, 5);
            let kinds: Vec<ToneKind> = heard(plan.country, &audio)
                .iter()
                .map(|event| match event {
                    ToneEvent::Progress { kind, .. } => *kind,
                    other => panic!("{} {kind:?}: {other:?}", plan.country),
                })
                .collect();
            // Where both sound the same, busy it is.
            let same = plan.cadence(ToneKind::Busy) == plan.cadence(kind);
            let expected = if same { ToneKind::Busy } else { kind };
            assert_eq!(kinds, [expected], "{} {kind:?}", plan.country);
        }
    }
}

#[test]
fn generated_cadence_has_its_times_and_frames_join_without_a_jump() {
    let whole = generated("gb", ToneKind::Ringback, 6.0);
    let mut generator = ToneGenerator::new(plan("gb"), ToneKind::Ringback, 8000, -13.0);
    let mut pieces = Vec::new();
    let mut frame = [0; 77];
    while pieces.len() < whole.len() {
        assert_eq!(generator.fill(&mut frame), 77);
        pieces.extend(frame);
    }
    assert_eq!(pieces[..whole.len()], whole);
    let silent =
        |from_ms: usize, to_ms: usize| whole[8 * from_ms..8 * to_ms].iter().all(|&sample| sample == 0);
    assert!(silent(400, 600) && silent(1000, 3000) && silent(3400, 3600));
    assert!(!silent(0, 400) && !silent(600, 1000) && !silent(3000, 3400));
    let largest = whole[..3200].windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max();
    // The steepest step of two sines of that level.
    assert!(largest.is_some_and(|largest| largest < 3700), "{largest:?}");
}

#[test]
fn generated_level_is_right_and_lasts() {
    let mut oscillator = Oscillator::new(1004.0, 8000, -10.0);
    for _ in 0..100 {
        let squares: f64 = (0..8000).map(|_| oscillator.next_sample().powi(2)).sum();
        let dbm0 = 10.0 * (squares / 8000.0 * 2.0 / 32768f64.powi(2)).log10() + super::FULL_SCALE_DBM0;
        assert!((dbm0 + 10.0).abs() < 0.01, "{dbm0}");
    }
}

#[test]
fn generator_without_bursts_or_with_empty_ones_ends() {
    assert_eq!(ToneGenerator::with_bursts(&[], true, 8000, -10.0).fill(&mut [0; 10]), 0);
    const EMPTY: &[ToneBurst] = &[burst(&[400.0], 0, 0), burst(&[400.0], 0, 0)];
    let mut generator = ToneGenerator::with_bursts(EMPTY, true, 8000, -10.0);
    assert_eq!(generator.fill(&mut [0; 10]), 0);
    assert!(generator.is_finished());
}

#[test]
fn fax_calling_tone_is_told_each_time() {
    const CALLING: &[ToneBurst] =
        &[burst(&[1100.0], 500, 3000), burst(&[1130.0], 460, 3000), burst(&[1070.0], 540, 500)];
    let events = heard("us", &bursts(CALLING));
    let at: Vec<u64> = events
        .iter()
        .map(|event| match event {
            ToneEvent::FaxCalling { at } => *at,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(at.len(), 3, "{at:?}");
    assert!(at[0] <= 80 && at[1].abs_diff(8 * 3500) <= 80, "{at:?}");
}

#[test]
fn other_tones_are_no_fax() {
    const OTHERS: &[ToneBurst] = &[
        burst(&[1100.0], 250, 500),
        burst(&[1100.0], 1500, 500),
        burst(&[1200.0], 500, 500),
        burst(&[1000.0], 500, 500),
        burst(&[1100.0, 1500.0], 500, 500),
    ];
    assert_eq!(heard("us", &bursts(OTHERS)), []);
}

fn answer_tone(hz: f64, seconds: f64, reversal_ms: Option<usize>, modulation: f64) -> Vec<i16> {
    let mut carrier = Oscillator::new(hz, 8000, -12.0);
    (0..(seconds * 8000.0) as usize)
        .map(|n| {
            if reversal_ms.is_some_and(|ms| n > 0 && n.is_multiple_of(8 * ms)) {
                carrier.reverse_phase();
            }
            let envelope = 1.0 + modulation * (std::f64::consts::TAU * 15.0 * n as f64 / 8000.0).sin();
            (carrier.next_sample() * envelope).round() as i16
        })
        .collect()
}

#[test]
fn answering_tone_is_told_with_its_turns_and_its_modulation() {
    for hz in [2100.0, 2086.0, 2114.0] {
        for (reversal_ms, modulation) in [(None, 0.0), (Some(450), 0.0), (None, 0.2), (Some(450), 0.2)] {
            let mut audio = vec![0; 800];
            audio.extend(answer_tone(hz, 3.0, reversal_ms, modulation));
            noise(&mut audio, 60.0, 9);
            let events = heard("us", &audio);
            let count = |wanted: fn(&ToneEvent) -> bool| events.iter().filter(|event| wanted(event)).count();
            let context = format!("{hz} {reversal_ms:?} {modulation}: {events:?}");
            assert_eq!(
                count(|event| matches!(event, ToneEvent::AnswerTone { at } if at.abs_diff(800) <= 80)),
                1,
                "{context}"
            );
            let turned = count(
                |event| matches!(event, ToneEvent::AnswerReversed { at } if (at - 800) % 3600 <= 160 || (at - 800) % 3600 >= 3440),
            );
            assert_eq!(turned, usize::from(reversal_ms.is_some()), "{context}");
            let modulated = count(|event| matches!(event, ToneEvent::AnswerModulated { .. }));
            assert_eq!(modulated, usize::from(modulation > 0.0), "{context}");
            assert_eq!(events.len(), 1 + turned + modulated, "{context}");
        }
    }
}

#[test]
fn beep_after_speech_is_told_and_without_speech_or_before_more_speech_is_not() {
    for (hz, ms) in [(440.0, 400), (1000.0, 150), (1400.0, 300), (2000.0, 1000), (850.0, 200)] {
        let tone = |samples: usize| -> Vec<i16> {
            let mut oscillator = Oscillator::new(hz, 8000, -13.0);
            (0..samples).map(|_| oscillator.next_sample().round() as i16).collect()
        };
        let mut audio = voice(3.0);
        audio.extend([0; 1600]);
        let begin = audio.len() as u64;
        audio.extend(tone(8 * ms));
        audio.extend([0; 4000]);
        noise(&mut audio, 50.0, 4);
        let events = heard("us", &audio);
        let [ToneEvent::Beep { at, duration_samples, frequency_hz }] = events[..] else {
            panic!("{hz} {ms}: {events:?}");
        };
        assert!(at.abs_diff(begin) <= 160 && duration_samples.abs_diff(8 * ms as u64) <= 240, "{events:?}");
        assert!((f64::from(frequency_hz) - hz).abs() < 10.0, "{events:?}");

        let mut audio = tone(8 * ms);
        audio.extend([0; 4000]);
        assert_eq!(heard("us", &audio), [], "{hz} {ms} alone");
        let mut audio = voice(3.0);
        audio.extend([0; 1600]);
        audio.extend(tone(8 * ms));
        audio.extend([0; 800]);
        audio.extend(voice(2.0));
        assert_eq!(heard("us", &audio), [], "{hz} {ms} within speech");
    }
}

#[test]
fn voice_noise_and_silence_are_no_tones() {
    let mut audio = voice(20.0);
    audio.resize(audio.len() + 16_000, 0);
    let quiet = audio.len();
    audio.resize(quiet + 80_000, 0);
    noise(&mut audio[quiet..], 8000.0, 11);
    audio.extend([i16::MAX; 8000]);
    audio.extend([i16::MIN; 8000]);
    assert_eq!(heard("us", &audio), []);
    assert_eq!(heard("de", &[]), []);
}

#[test]
fn progress_is_told_again_after_something_else() {
    let mut audio = generated("us", ToneKind::Ringback, 8.0);
    audio.extend(generated("us", ToneKind::Busy, 5.0));
    audio.extend(voice(2.0));
    audio.extend(generated("us", ToneKind::Busy, 5.0));
    let kinds: Vec<ToneKind> = heard("us", &audio)
        .iter()
        .filter_map(|event| match event {
            ToneEvent::Progress { kind, .. } => Some(*kind),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [ToneKind::Ringback, ToneKind::Busy, ToneKind::Busy]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn events_do_not_depend_on_frames(
        seed in any::<u32>(),
        scenes in prop::collection::vec((0usize..6, 100usize..6000), 1..8),
        frame in 1usize..700,
    ) {
        let mut audio = Vec::new();
        for (kind, samples) in scenes {
            match kind {
                0 => audio.resize(audio.len() + samples, 0),
                1 => audio.extend(voice(samples as f64 / 8000.0)),
                2 => audio.extend(&answer_tone(2100.0, 1.0, Some(450), 0.2)[..samples]),
                3 => audio.extend(&bursts(const { &[burst(&[1100.0], 500, 300)] })[..samples]),
                4 => audio.extend(&generated("de", ToneKind::Congestion, 1.0)[..samples]),
                _ => {
                    let begin = audio.len();
                    audio.resize(begin + samples, 0);
                    noise(&mut audio[begin..], 32_767.0, seed);
                }
            }
        }
        let expected = heard("de", &audio);
        let mut monitor = ToneMonitor::new(plan("de"));
        let mut events = Vec::new();
        for frame in audio.chunks(frame) {
            monitor.process(frame, |event| events.push(event));
        }
        prop_assert_eq!(events, expected);
    }
}
