//! What is compared:
//!
//! - The digital test sequences of G.722 Appendix II that the Recommendation describes so exactly that they can
//!   be made here: T1C2 (overflow) through the encoder and all three modes of the decoder, and T1D3 (every code)
//!   through all three modes of the decoder, the filters by-passed as the appendix has it. Inputs and outputs are
//!   held to the check sums that the ITU publishes with the files (CRC-32 of the little-endian words).
//! - The whole codec with its filters on two seconds of noise and square waves up to overload, and on random
//!   octets, in every mode: against check sums of what the ITU's reference program (G.191, software tool library,
//!   g722 version 3.0) made of the same input.

use proptest::prelude::*;

use super::{Decoder, Encoder, Mode};

const MODES: [Mode; 3] = [Mode::Kbps64, Mode::Kbps56, Mode::Kbps48];

/// The word that resets the codec in a test sequence, and what comes out meanwhile.
const RESET: u16 = 1;

#[test]
fn encoder_codes_the_overflow_sequence_of_the_itu() {
    let input = framed(overflow_sequence());
    assert_eq!(crc32(&input), 0x2D60_4685, "T1C2.XMT");
    assert_eq!(crc32(&coded(&input)), 0x344E_A5D0, "T2R2.COD");
}

#[test]
fn decoder_decodes_the_overflow_sequence_of_the_itu_in_every_mode() {
    let input = coded(&framed(overflow_sequence()));
    for (mode, expected) in MODES.into_iter().zip([0xAF00_F31F, 0x9143_E92C, 0xAE85_5C07]) {
        let (lower, higher) = decoded(&input, mode);
        assert_eq!(crc32(&lower), expected, "T3L2 {mode:?}");
        assert_eq!(crc32(&higher), 0x5330_AE2E, "T3H2.RC0");
    }
}

#[test]
fn decoder_decodes_the_artificial_sequence_of_the_itu_in_every_mode() {
    let input = framed(artificial_sequence());
    assert_eq!(crc32(&input), 0x7398_964F, "T1D3.COD");
    for (mode, expected) in MODES.into_iter().zip([0xA537_4659, 0x687B_250A, 0x3605_736B]) {
        let (lower, higher) = decoded(&input, mode);
        assert_eq!(crc32(&lower), expected, "T3L3 {mode:?}");
        assert_eq!(crc32(&higher), 0x3731_AD7F, "T3H3.RC0");
    }
}

#[test]
fn whole_encoder_gives_the_octets_of_the_reference_program() {
    let audio = loud_and_soft();
    assert_eq!(crc32(&words(&audio)), 0x0817_459B);
    let mut octets = vec![0; audio.len() / 2];
    assert_eq!(Encoder::new().encode(&audio, &mut octets), octets.len());
    assert_eq!(crc32_octets(&octets), 0xC983_2F42);
}

#[test]
fn whole_decoder_gives_the_samples_of_the_reference_program() {
    let octets = random_octets();
    assert_eq!(crc32_octets(&octets), 0x6E50_4C61);
    for (mode, expected) in MODES.into_iter().zip([0x6EE3_7274, 0x90F2_9201, 0xE8DD_E509]) {
        let mut audio = vec![0; 2 * octets.len()];
        assert_eq!(Decoder::with_mode(mode).decode(&octets, &mut audio), audio.len());
        assert_eq!(crc32(&words(&audio)), expected, "{mode:?}");
    }
}

#[test]
fn signals_come_back_with_the_stated_signal_to_noise_ratios() {
    let mut noise = Noise(1);
    let mut past = 0;
    // Noise under 700 Hz or so, harder to predict than speech.
    let low_noise: Vec<i16> = (0..16_000)
        .map(|_| {
            past += (i32::from(noise.next()) / 8 - past) / 4;
            past as i16
        })
        .collect();
    let tone = |frequency_hz: f64| -> Vec<i16> {
        let phase = std::f64::consts::TAU * frequency_hz / 16_000.0;
        (0..16_000).map(|n| (f64::from(n) * phase).sin() * 8000.0).map(|sample| sample as i16).collect()
    };
    for (what, audio, expected) in
        [("noise", low_noise, 18.0), ("1 kHz", tone(1000.0), 47.0), ("6 kHz", tone(6000.0), 26.0)]
    {
        let mut octets = vec![0; 8000];
        Encoder::new().encode(&audio, &mut octets);
        let mut back = vec![0; 16_000];
        Decoder::new().decode(&octets, &mut back);
        // The two filters delay by 22 samples.
        let (mut signal, mut error) = (0.0, 0.0);
        for (&sent, &received) in audio.iter().zip(&back[22..]).skip(1000) {
            signal += f64::from(sent).powi(2);
            error += (f64::from(sent) - f64::from(received)).powi(2);
        }
        let ratio = 10.0 * (signal / error).log10();
        assert!(ratio > expected, "{what}: {ratio} dB");
    }
}

#[test]
fn reset_codec_is_a_new_one() {
    let audio = loud_and_soft();
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::with_mode(Mode::Kbps56));
    let (mut first, mut second) = (vec![0; 640], vec![0; 640]);
    let (mut audio_first, mut audio_second) = (vec![0; 1280], vec![0; 1280]);
    encoder.encode(&audio[..1280], &mut first);
    decoder.decode(&first, &mut audio_first);
    encoder.reset();
    decoder.reset();
    encoder.encode(&audio[..1280], &mut second);
    decoder.decode(&second, &mut audio_second);
    assert_eq!(first, second);
    assert_eq!(audio_first, audio_second);
}

#[test]
fn decoder_that_missed_frames_is_back_with_its_encoder_within_fifty_milliseconds() {
    let audio: Vec<i16> =
        (0..16_000).map(|n| (f64::from(n) * 0.2).sin() * 8000.0).map(|s| s as i16).collect();
    let mut octets = vec![0; 8000];
    Encoder::new().encode(&audio, &mut octets);
    let (mut whole, mut holed) = (Decoder::new(), Decoder::new());
    let (mut heard, mut rest) = (vec![0; 16_000], vec![0; 8000]);
    whole.decode(&octets, &mut heard);
    holed.decode(&octets[..3520], &mut rest);
    // Three frames of 20 ms are gone.
    holed.decode(&octets[4000..], &mut rest);
    let error = heard[8800..].iter().zip(&rest[800..]).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs());
    let error = error.max().unwrap_or(0);
    assert!(error < 400, "{error}");
}

#[test]
fn what_does_not_fit_is_left_and_nothing_is_nothing() {
    let mut encoder = Encoder::new();
    assert_eq!(encoder.encode(&[1, 2, 3], &mut [0; 9]), 1);
    assert_eq!(encoder.encode(&[1; 20], &mut [0; 3]), 3);
    assert_eq!(encoder.encode(&[], &mut []), 0);
    let mut decoder = Decoder::new();
    assert_eq!(decoder.decode(&[1, 2, 3], &mut [0; 5]), 4);
    assert_eq!(decoder.decode(&[1, 2], &mut [0; 9]), 4);
    assert_eq!(decoder.decode(&[], &mut [0; 9]), 0);
}

proptest! {
    #[test]
    fn chunks_code_like_the_whole(
        audio in proptest::collection::vec(any::<i16>(), 0..900),
        cuts in proptest::collection::vec(0..200usize, 0..8),
    ) {
        let mut whole = vec![0; audio.len() / 2];
        Encoder::new().encode(&audio, &mut whole);
        let (mut encoder, mut pieces, mut at) = (Encoder::new(), vec![0; whole.len()], 0);
        for cut in cuts.into_iter().chain([whole.len()]) {
            let end = (at + cut).min(whole.len());
            at += encoder.encode(&audio[2 * at..2 * end], &mut pieces[at..]);
        }
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn any_octets_decode_like_the_whole_in_any_chunks(
        octets in proptest::collection::vec(any::<u8>(), 0..600),
        cuts in proptest::collection::vec(0..200usize, 0..8),
    ) {
        let mut whole = vec![0; 2 * octets.len()];
        prop_assert_eq!(Decoder::new().decode(&octets, &mut whole), whole.len());
        let (mut decoder, mut pieces, mut at) = (Decoder::new(), vec![0; whole.len()], 0);
        for cut in cuts.into_iter().chain([octets.len()]) {
            let end = (at + cut).min(octets.len());
            at += decoder.decode(&octets[at..end], &mut pieces[2 * at..]) / 2;
        }
        prop_assert_eq!(whole, pieces);
    }
}

/// Appendix II figure II.1: a word of input has the sample in its upper 15 bits and the reset in the lowest;
/// a word of output has the octet in its upper half.
fn coded(input: &[u16]) -> Vec<u16> {
    let mut encoder = Encoder::new();
    let code = |&word: &u16| {
        if word & RESET != 0 {
            encoder.reset();
            return RESET;
        }
        let signal = word as i16 >> 1;
        u16::from(encoder.encode_bands(signal, signal)) << 8
    };
    input.iter().map(code).collect()
}

fn decoded(input: &[u16], mode: Mode) -> (Vec<u16>, Vec<u16>) {
    let mut decoder = Decoder::with_mode(mode);
    let decode = |&word: &u16| {
        if word & RESET != 0 {
            decoder.reset();
            return (RESET, RESET);
        }
        let [lower, higher] = decoder.decode_bands((word >> 8) as u8);
        ((lower << 1) as u16, (higher << 1) as u16)
    };
    input.iter().map(decode).unzip()
}

/// Appendix II.4.5: sixteen words of reset before and after.
fn framed(words: Vec<u16>) -> Vec<u16> {
    [vec![RESET; 16], words, vec![RESET; 16]].concat()
}

/// Appendix II table II-3: jumps between the extremes, which overflow the predictor in both directions.
fn overflow_sequence() -> Vec<u16> {
    let (lowest, highest) = (0x8000, 0x7FFE);
    let mut words: Vec<u16> = [lowest, highest].into_iter().cycle().take(639).collect();
    words.extend([0, 0xB1E0, 0xC000]);
    words.extend([lowest, highest, lowest].into_iter().cycle().take(126));
    words
}

/// Appendix II.3.2: every code, also those that no encoder sends, in patterns of signs that move the poles.
pub(super) fn artificial_sequence() -> Vec<u16> {
    // The highest bit of either band: eight patterns of 2048 bits.
    let signs = ["001", "11110000", "1", "1100", "10", "00000100", "00101", "11000"];
    // The lower bit of the higher band: so many ones and then zeros.
    let runs = [(1, 0), (16, 16), (0, 1), (8, 8), (0, 1), (4, 4), (1, 0), (2, 2)];
    let word = |at: usize| {
        let (part, within) = (at / 2048, at % 2048);
        let pattern = signs[part].as_bytes();
        let sign = u16::from(pattern[within % pattern.len()] - b'0');
        let (ones, zeros) = runs[part];
        let higher = sign << 1 | u16::from(within % (ones + zeros) < ones);
        // The lower bits of the lower band, table II-4: 64 parts of one value, or of two by sixteens.
        let part = at / 256;
        let value = 31 - part / 2;
        let second = part % 2 == 1 && at % 32 >= 16;
        let value = match (value, second) {
            (0, true) => 3,
            (value, true) => value - 1,
            (value, false) => value,
        };
        (higher << 6 | sign << 5 | value as u16) << 8
    };
    (0..16_384).map(word).collect()
}

/// Two seconds of noise and square waves from silence to overload.
fn loud_and_soft() -> Vec<i16> {
    let mut noise = Noise(722);
    let sample = |n: usize| {
        let part = n / 1600;
        let quieter = [0, 2, 4, 6, 8, 10, 1, 15][part % 8];
        let square = [0, 500, 8000, 30_000][part / 2 % 4];
        let square = if n / (part + 3) % 2 == 1 { -square } else { square };
        (i32::from(noise.next() >> quieter) + square).clamp(-32_768, 32_767) as i16
    };
    (0..32_000).map(sample).collect()
}

/// Two seconds of octets, in turns any at all and only such as mean a soft signal.
fn random_octets() -> Vec<u8> {
    let mut noise = Noise(64_000);
    let octet = |n: usize| {
        let any = (noise.next() >> 8) as u8;
        if n / 800 % 2 == 1 { any & 0xC7 | 0x38 } else { any }
    };
    (0..16_000).map(octet).collect()
}

/// Numerical Recipes' generator.
pub(super) struct Noise(pub(super) u32);

impl Noise {
    pub(super) fn next(&mut self) -> i16 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) as i16
    }
}

fn words(audio: &[i16]) -> Vec<u16> {
    audio.iter().map(|&sample| sample as u16).collect()
}

fn crc32(words: &[u16]) -> u32 {
    let octets: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    crc32_octets(&octets)
}

/// The CRC of ISO 3309, as in zip files.
fn crc32_octets(octets: &[u8]) -> u32 {
    !octets.iter().fold(!0, |crc, &octet| {
        (0..8).fold(crc ^ u32::from(octet), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}
