//! The criteria of ITU-T Q.24 and of the Mitel CM7291 test tape (decode, bandwidth, twist, dynamic range, guard time,
//! noise), with the figures printed: `cargo test -p sidetone-engine inband -- --nocapture`.
#![expect(clippy::print_stdout, reason = "the figures are for people")]

use proptest::prelude::*;

use super::{DtmfGenerator, DtmfLevels, FREQUENCIES_HZ, InbandDetector, InbandDetectors, InbandEvent, KEYS};
use crate::codec::g711::{decode_alaw, decode_ulaw, encode_alaw, encode_ulaw};
use crate::command::Digit;
use crate::dsp::tone::{FULL_SCALE_DBM0, Oscillator};
use crate::simd::{available, kernels};

/// One burst, and the pause after it.
#[derive(Clone, Copy)]
struct Burst {
    key: char,
    row_off: f64,
    column_off: f64,
    row_dbm0: f64,
    column_dbm0: f64,
    tone_samples: usize,
    pause_samples: usize,
}

/// 50 ms and 50 ms at -10 dBm0.
fn burst(key: char) -> Burst {
    Burst {
        key,
        row_off: 0.0,
        column_off: 0.0,
        row_dbm0: -10.0,
        column_dbm0: -10.0,
        tone_samples: 400,
        pause_samples: 400,
    }
}

impl Burst {
    fn audio(self) -> Vec<i16> {
        let key = KEYS.iter().position(|&key| char::from(key) == self.key).expect("a key");
        let mut row = Oscillator::new(FREQUENCIES_HZ[key / 4] * (1.0 + self.row_off), 8000, self.row_dbm0);
        let mut column =
            Oscillator::new(FREQUENCIES_HZ[4 + key % 4] * (1.0 + self.column_off), 8000, self.column_dbm0);
        let mut audio: Vec<i16> = (0..self.tone_samples)
            .map(|_| (row.next_sample() + column.next_sample()).round() as i16)
            .collect();
        audio.resize(self.tone_samples + self.pause_samples, 0);
        audio
    }
}

fn keys() -> impl Iterator<Item = char> + Clone {
    KEYS.iter().map(|&key| char::from(key))
}

fn digits(detector: &mut InbandDetector, audio: &[i16]) -> String {
    let mut digits = String::new();
    for frame in audio.chunks(160) {
        detector.process(frame, |event| {
            if let InbandEvent::Start { digit, .. } = event {
                digits.push(digit.as_char());
            }
        });
    }
    digits
}

fn events(audio: &[i16], frame_samples: usize) -> Vec<InbandEvent> {
    let mut detector = InbandDetector::new();
    let mut events = Vec::new();
    for frame in audio.chunks(frame_samples) {
        detector.process(frame, |event| events.push(event));
    }
    detector.finish(|event| events.push(event));
    events
}

struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Of variance 1, nearly Gaussian.
    fn next(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// White noise of the power of a sine of that level.
    fn add(&mut self, audio: &mut [i16], dbm0: f64) {
        let deviation = 32768.0 * 10f64.powf((dbm0 - FULL_SCALE_DBM0) / 20.0) / 2f64.sqrt();
        for sample in audio {
            *sample = (f64::from(*sample) + self.next() * deviation).round() as i16;
        }
    }
}

/// How many of these bursts are heard as exactly what they are.
fn heard(bursts: impl IntoIterator<Item = Burst>) -> usize {
    let mut detector = InbandDetector::new();
    bursts.into_iter().filter(|burst| digits(&mut detector, &burst.audio()) == burst.key.to_string()).count()
}

/// Bursts with every key and every phase between tone and steps.
fn phases(count: usize, change: impl Fn(&mut Burst)) -> impl Iterator<Item = Burst> {
    keys().cycle().take(count).enumerate().map(move |(n, key)| {
        let mut burst = burst(key);
        burst.pause_samples += n % 41;
        change(&mut burst);
        burst
    })
}

#[test]
fn every_digit_is_decoded_ten_times() {
    let bursts = keys()
        .flat_map(|key| std::iter::repeat_n(Burst { row_dbm0: -4.0, column_dbm0: -4.0, ..burst(key) }, 10));
    assert_eq!(heard(bursts), 160);
}

#[test]
fn frequencies_off_by_one_and_a_half_percent_and_two_hertz_are_accepted_and_by_three_and_a_half_refused() {
    for key in keys() {
        let position = KEYS.iter().position(|&known| char::from(known) == key).expect("a key");
        for sign in [-1.0, 1.0] {
            let near = |hz: f64| sign * (0.015 + 2.0 / hz);
            let row_off = near(FREQUENCIES_HZ[position / 4]);
            let column_off = near(FREQUENCIES_HZ[4 + position % 4]);
            assert_eq!(heard([Burst { row_off, ..burst(key) }]), 1, "{key} {row_off}");
            assert_eq!(heard([Burst { column_off, ..burst(key) }]), 1, "{key} {column_off}");
            assert_eq!(heard([Burst { row_off, column_off, ..burst(key) }]), 1, "{key} both");
            for off in [0.035, 0.04, 0.05, 0.06].map(|off| sign * off) {
                let tone_samples = 1600;
                for refused in [
                    Burst { row_off: off, tone_samples, ..burst(key) },
                    Burst { column_off: off, tone_samples, ..burst(key) },
                ] {
                    assert_eq!(heard([refused]), 0, "{key} {off}");
                }
            }
        }
    }
}

#[test]
fn recognition_bandwidth_is_centred_and_near_five_percent() {
    println!("| digit | tone | least % | most % |");
    for key in ['1', '5', '9', 'D'] {
        for row in [true, false] {
            let count = |sign: f64| {
                heard((1..=60).map(|n| {
                    let off = sign * f64::from(n) / 1000.0;
                    let level = Burst { row_dbm0: -17.0, column_dbm0: -17.0, ..burst(key) };
                    if row { Burst { row_off: off, ..level } } else { Burst { column_off: off, ..level } }
                }))
            };
            let (below, above) = (count(-1.0), count(1.0));
            println!(
                "| {key} | {} | -{:.1} | +{:.1} |",
                if row { "row" } else { "column" },
                below as f64 / 10.0,
                above as f64 / 10.0
            );
            assert!((18..=32).contains(&below) && (18..=32).contains(&above), "{key}: {below} {above}");
        }
    }
}

#[test]
fn twist_of_eight_and_four_decibels_is_accepted() {
    println!("| digit | row over column dB | column over row dB |");
    for key in ['1', '5', '9', 'D'] {
        let weaker = |n: i32| -3.0 - f64::from(n) / 10.0;
        let normal = heard((0..=200).map(|n| Burst { row_dbm0: -3.0, column_dbm0: weaker(n), ..burst(key) }));
        let reverse =
            heard((0..=200).map(|n| Burst { row_dbm0: weaker(n), column_dbm0: -3.0, ..burst(key) }));
        println!("| {key} | {:.1} | {:.1} |", normal as f64 / 10.0, reverse as f64 / 10.0);
        assert!((80..=110).contains(&normal) && (40..=65).contains(&reverse), "{key}: {normal} {reverse}");
    }
}

#[test]
fn dynamic_range_is_more_than_forty_decibels() {
    let lowest = (-60..=3)
        .rev()
        .take_while(|&level| {
            let level = f64::from(level);
            heard(keys().map(|key| Burst { row_dbm0: level, column_dbm0: level, ..burst(key) })) == 16
        })
        .last();
    println!("every digit from +3 to {lowest:?} dBm0 for each tone");
    assert!(lowest.is_some_and(|lowest| (-50..=-40).contains(&lowest)), "{lowest:?}");
}

#[test]
fn forty_milliseconds_are_accepted_and_twenty_three_refused() {
    println!("| tone ms | heard % |");
    for tone_ms in [15, 20, 23, 25, 28, 30, 31, 32, 33, 34, 36, 38, 40, 45, 60, 100] {
        let count = heard(phases(328, |burst| burst.tone_samples = 8 * tone_ms));
        println!("| {tone_ms} | {:.1} |", percent(count, 328));
        match tone_ms {
            0..=27 => assert_eq!(count, 0, "{tone_ms} ms"),
            35.. => assert_eq!(count, 328, "{tone_ms} ms"),
            _ => {}
        }
    }
}

#[test]
fn pauses_of_forty_milliseconds_separate_and_of_ten_do_not() {
    println!("| pause ms | two digits % |");
    for pause_ms in [1, 5, 8, 10, 12, 15, 18, 20, 22, 25, 28, 30, 35, 40] {
        let mut detector = InbandDetector::new();
        let two = phases(164, |burst| burst.pause_samples += 400)
            .filter(|&burst| {
                let mut audio = Burst { pause_samples: 8 * pause_ms, ..burst }.audio();
                audio.extend(burst.audio());
                let digits = digits(&mut detector, &audio);
                assert!(digits.len() == 1 || digits.len() == 2, "{pause_ms} ms: {digits:?}");
                digits.len() == 2
            })
            .count();
        println!("| {pause_ms} | {:.1} |", two as f64 / 1.64);
        match pause_ms {
            0..=14 => assert_eq!(two, 0, "{pause_ms} ms"),
            28.. => assert_eq!(two, 164, "{pause_ms} ms"),
            _ => {}
        }
    }
}

#[test]
fn noise_fifteen_decibels_below_each_tone_loses_no_digit() {
    println!("| S/N dB | 40 ms % | 50 ms % |");
    let count = if cfg!(debug_assertions) { 82 } else { 2000 };
    for ratio in [26, 20, 15, 12, 9, 6] {
        let heard = [320, 400].map(|tone_samples| {
            let (mut detector, mut noise) = (InbandDetector::new(), Noise(7));
            phases(count, |burst| burst.tone_samples = tone_samples)
                .filter(|burst| {
                    let mut audio = burst.audio();
                    noise.add(&mut audio, -10.0 - f64::from(ratio));
                    digits(&mut detector, &audio) == burst.key.to_string()
                })
                .count()
        });
        println!("| {ratio} | {:.1} | {:.1} |", percent(heard[0], count), percent(heard[1], count));
        if ratio >= 12 {
            assert_eq!(heard, [count; 2], "{ratio} dB");
        }
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole as f64
}

#[test]
fn dial_tone_as_loud_as_the_digit_does_not_cover_it() {
    println!("| dial tone Hz | each tone over the digit's dB | heard % |");
    for tones in [&[350.0, 440.0][..], &[425.0]] {
        for over in [-10.0, -5.0, 0.0, 3.0, 6.0, 9.0] {
            let mut dial: Vec<Oscillator> =
                tones.iter().map(|&tone| Oscillator::new(tone, 8000, over - 15.0)).collect();
            let mut detector = InbandDetector::new();
            let count = phases(164, |burst| (burst.row_dbm0, burst.column_dbm0) = (-15.0, -15.0))
                .filter(|burst| {
                    let mut audio = burst.audio();
                    for sample in &mut audio {
                        let dial: f64 = dial.iter_mut().map(Oscillator::next_sample).sum();
                        *sample = (f64::from(*sample) + dial).round() as i16;
                    }
                    digits(&mut detector, &audio) == burst.key.to_string()
                })
                .count();
            println!("| {tones:?} | {over} | {:.1} |", percent(count, 164));
            if over <= 3.0 {
                assert_eq!(count, 164, "{tones:?} {over} dB");
            }
        }
    }
}

#[test]
fn digits_pass_through_mu_law_and_a_law() {
    type Law = (fn(&[i16], &mut [u8]), fn(&[u8], &mut [i16]));
    for (encode, decode) in [(encode_ulaw, decode_ulaw), (encode_alaw, decode_alaw)] as [Law; 2] {
        for (row_dbm0, column_dbm0) in [(0.0, 0.0), (-10.0, -18.0), (-14.0, -10.0), (-35.0, -35.0)] {
            let mut detector = InbandDetector::new();
            for burst in
                phases(160, |burst| *burst = Burst { row_dbm0, column_dbm0, tone_samples: 320, ..*burst })
            {
                let mut audio = burst.audio();
                let mut encoded = vec![0; audio.len()];
                encode(&audio, &mut encoded);
                decode(&encoded, &mut audio);
                assert_eq!(digits(&mut detector, &audio), burst.key.to_string(), "{row_dbm0} {column_dbm0}");
            }
        }
    }
}

#[test]
fn events_tell_where_and_how_loud_to_two_milliseconds_and_half_a_decibel() {
    for (begin, tone_samples) in (1000..1040).zip([320, 400, 411, 567, 800, 4000].into_iter().cycle()) {
        let mut audio = vec![0; begin];
        audio.extend(
            Burst {
                row_dbm0: -12.0,
                column_dbm0: -8.5,
                tone_samples,
                pause_samples: 400,
                row_off: 0.01,
                ..burst('8')
            }
            .audio(),
        );
        let events = events(&audio, 160);
        let [
            InbandEvent::Start { digit, at, row_dbm0, column_dbm0 },
            InbandEvent::End { digit: ended, at: began, duration_samples },
        ] = events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!((digit.as_char(), ended.as_char(), began), ('8', '8', at));
        assert!(at.abs_diff(begin as u64) <= 16, "{at} for {begin}");
        assert!(
            duration_samples.abs_diff(tone_samples as u64) <= 24,
            "{duration_samples} for {tone_samples}"
        );
        assert!((row_dbm0 + 12.0).abs() < 0.5 && (column_dbm0 + 8.5).abs() < 0.5, "{row_dbm0} {column_dbm0}");
    }
}

#[test]
fn a_digit_is_told_within_forty_milliseconds_of_its_beginning() {
    for begin in 0..41 {
        let mut audio = vec![0; begin];
        audio.extend(Burst { tone_samples: 2000, ..burst('5') }.audio());
        let mut detector = InbandDetector::new();
        let told = audio.iter().position(|&sample| {
            let mut told = false;
            detector.process(&[sample], |_| told = true);
            told
        });
        assert!(told.is_some_and(|told| told - begin <= 320), "{told:?} for {begin}");
    }
}

#[test]
fn another_digit_without_a_pause_ends_the_first() {
    let mut audio = Burst { pause_samples: 0, ..burst('1') }.audio();
    audio.extend(burst('2').audio());
    let events = events(&audio, 160);
    let starts: Vec<char> = events
        .iter()
        .filter_map(|event| match event {
            InbandEvent::Start { digit, .. } => Some(digit.as_char()),
            InbandEvent::End { .. } => None,
        })
        .collect();
    assert_eq!(starts, ['1', '2']);
    assert!(matches!(events[1], InbandEvent::End { digit, .. } if digit.as_char() == '1'), "{events:?}");
    assert_eq!(events.len(), 4);
}

#[test]
fn digit_that_sounds_at_the_end_of_the_call_ends_with_it() {
    let audio = Burst { pause_samples: 0, ..burst('#') }.audio();
    let events = events(&audio, 160);
    assert!(matches!(events[..], [InbandEvent::Start { .. }, InbandEvent::End { .. }]), "{events:?}");
}

#[test]
fn single_tones_and_three_tones_are_no_digits() {
    let mut detector = InbandDetector::new();
    let mut tones = |frequencies: &[f64]| {
        let mut sines: Vec<Oscillator> =
            frequencies.iter().map(|&f| Oscillator::new(f, 8000, -10.0)).collect();
        let audio: Vec<i16> = (0..2000)
            .map(|_| sines.iter_mut().map(Oscillator::next_sample).sum::<f64>().round() as i16)
            .collect();
        digits(&mut detector, &audio)
    };
    for frequency in FREQUENCIES_HZ {
        assert_eq!(tones(&[frequency]), "");
    }
    assert_eq!(tones(&[697.0, 770.0, 1209.0]), "");
    assert_eq!(tones(&[697.0, 1209.0, 1336.0]), "");
    assert_eq!(tones(&[697.0, 1209.0, 2000.0]), "");
    assert_eq!(tones(&[697.0, 1209.0, 600.0]), "");
    assert_eq!(tones(&[697.0, 1209.0]), "1");
}

#[test]
fn silence_direct_current_clipping_and_noise_are_no_digits() {
    let mut noise = Noise(3);
    let mut audio = vec![0; 8000];
    audio.extend([i16::MAX; 8000]);
    audio.extend([i16::MIN; 8000]);
    audio.extend((0..8000).map(|n| if n / 4 % 2 == 0 { i16::MAX } else { i16::MIN }));
    let quiet = audio.len();
    audio.resize(quiet + 80_000, 0);
    noise.add(&mut audio[quiet..], 0.0);
    assert_eq!(events(&audio, 160), []);
    assert_eq!(events(&[], 160), []);
}

#[test]
fn digits_that_clip_are_heard() {
    let mut audio = Vec::new();
    for key in keys() {
        // Peaks are 3 dB above what passes.
        let mut row = Burst { row_dbm0: 0.0, column_dbm0: 0.0, ..burst(key) }.audio();
        for sample in &mut row {
            *sample = (*sample).clamp(-32_000, 32_000);
        }
        audio.extend(row);
    }
    let heard = digits(&mut InbandDetector::new(), &audio);
    assert_eq!(heard.as_bytes(), KEYS);
}

#[test]
fn generator_makes_what_the_detector_hears() {
    for digit in (0..16).filter_map(Digit::from_event) {
        let mut generator = DtmfGenerator::new(digit, DtmfLevels::default(), 8000, 800, 640);
        let mut audio = Vec::new();
        let mut frame = [1; 133];
        while !generator.is_finished() {
            let count = generator.fill(&mut frame);
            audio.extend(&frame[..count]);
        }
        assert_eq!(audio.len(), 1440);
        assert_eq!(generator.fill(&mut frame), 0);
        let events = events(&audio, 160);
        let [InbandEvent::Start { digit: heard, row_dbm0, column_dbm0, .. }, _] = events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(heard, digit);
        assert!((row_dbm0 + 9.0).abs() < 0.2 && (column_dbm0 + 7.0).abs() < 0.2);
    }
}

/// Digits, noise and pauses in random order.
fn scenes() -> impl Strategy<Value = Vec<i16>> {
    let scene =
        (0usize..18, 1usize..900, -45.0..3.0f64, any::<u64>()).prop_map(|(kind, samples, level, seed)| {
            let mut audio = match KEYS.get(kind) {
                Some(&key) => Burst {
                    row_dbm0: level,
                    column_dbm0: level - 2.0,
                    tone_samples: samples,
                    pause_samples: samples / 2,
                    ..burst(char::from(key))
                }
                .audio(),
                None => vec![0; samples],
            };
            let mut noise = Noise(seed);
            noise.add(&mut audio, if kind == 16 { level } else { level - 25.0 });
            audio
        });
    prop::collection::vec(scene, 1..8).prop_map(|scenes| scenes.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn digits_do_not_depend_on_frames_or_tables_or_neighbours(
        audio in scenes(),
        cuts in prop::collection::vec(0usize..700, 1..20),
    ) {
        let expected = events(&audio, 160);
        prop_assert_eq!(&events(&audio, 1), &expected);
        prop_assert_eq!(&events(&audio, audio.len().max(1)), &expected);
        for kernels in available() {
            let mut one = InbandDetector::with_kernels(kernels);
            let mut many = InbandDetectors::with_kernels(3, kernels);
            let (mut heard, mut of_many) = (Vec::new(), Vec::new());
            let mut rest = audio.as_slice();
            for &cut in cuts.iter().chain(&[97]).cycle() {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                one.process(now, |event| heard.push(event));
                many.process(&[(0, &[]), (2, now), (7, now), (1, &[0; 160])], |call, event| of_many.push((call, event)));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            // All but the end that only `finish` tells.
            prop_assert!(heard.len() + 1 >= expected.len());
            prop_assert_eq!(&heard[..], &expected[..heard.len()]);
            prop_assert!(of_many.iter().all(|&(call, _)| call == 2));
            prop_assert_eq!(of_many.into_iter().map(|(_, event)| event).collect::<Vec<_>>(), heard);
        }
    }

    #[test]
    fn audio_of_any_kind_is_taken(audio in prop::collection::vec(any::<i16>(), 0..2000), frame in 1usize..500) {
        for event in events(&audio, frame) {
            if let InbandEvent::End { at, duration_samples, .. } = event {
                prop_assert!(at + duration_samples <= audio.len() as u64);
            }
        }
    }
}

#[test]
fn many_calls_hear_what_one_hears() {
    let calls: Vec<Vec<i16>> = (0..37)
        .map(|call| {
            let mut noise = Noise(call);
            let mut audio = vec![0; 40 * call as usize];
            for key in keys().cycle().skip(call as usize).take(5) {
                audio.extend(burst(key).audio());
            }
            audio.resize(32 * 160, 0);
            noise.add(&mut audio, -30.0);
            audio
        })
        .collect();
    let mut many = InbandDetectors::with_kernels(calls.len(), kernels());
    assert_eq!(many.calls(), 37);
    let mut heard = vec![Vec::new(); calls.len()];
    for n in 0..32 {
        let frames: Vec<(usize, &[i16])> =
            calls.iter().enumerate().rev().map(|(call, audio)| (call, &audio[160 * n..][..160])).collect();
        many.process(&frames, |call, event| heard[call].push(event));
    }
    for (audio, heard) in calls.iter().zip(heard) {
        let mut expected = Vec::new();
        let mut one = InbandDetector::new();
        one.process(audio, |event| expected.push(event));
        assert_eq!(heard, expected);
        assert!(heard.len() >= 9);
    }
}

#[test]
fn a_call_that_is_reset_has_heard_nothing() {
    let audio = burst('7').audio();
    let mut calls = InbandDetectors::new(1);
    let mut heard = Vec::new();
    calls.process(&[(0, &audio[..399])], |_, event| heard.push(event));
    assert_eq!(heard.len(), 1);
    calls.reset(0);
    calls.reset(1);
    heard.clear();
    calls.process(&[(0, &audio)], |_, event| heard.push(event));
    let mut expected = Vec::new();
    InbandDetector::new().process(&audio, |event| expected.push(event));
    assert_eq!(heard, expected);
}
