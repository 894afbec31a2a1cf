//! Every table of kernels against the one-sample definitions.

use crate::simd::law::*;
use crate::simd::{Gain, Kernels, Loudness, available};

type Encoder = (&'static str, fn(&[i16], &mut [u8]), fn(i16) -> u8);
type Decoder = (&'static str, fn(&[u8], &mut [i16]), fn(u8) -> i16);
type Converter = (&'static str, fn(&[u8], &mut [u8]), fn(&mut [u8]), &'static [u8; 256]);

const LENGTHS: std::ops::RangeInclusive<usize> = 0..=400;
/// What a kernel must not touch.
const UNTOUCHED: u8 = 0xA7;

fn samples() -> Vec<i16> {
    (i16::MIN..=i16::MAX).collect()
}

/// Samples and codes with no pattern that a vector could hide in.
fn scattered(count: usize) -> impl Iterator<Item = u16> {
    (0..count as u32)
        .map(|n| (n.wrapping_mul(0x9E37_79B1).rotate_left(13).wrapping_mul(0x85EB_CA6B) >> 16) as u16)
}

fn encoders(kernels: &Kernels) -> [Encoder; 2] {
    [
        ("mu-law", kernels.g711.encode_ulaw, ulaw_from_linear),
        ("A-law", kernels.g711.encode_alaw, alaw_from_linear),
    ]
}

fn decoders(kernels: &Kernels) -> [Decoder; 2] {
    [
        ("mu-law", kernels.g711.decode_ulaw, linear_from_ulaw),
        ("A-law", kernels.g711.decode_alaw, linear_from_alaw),
    ]
}

fn converters(kernels: &Kernels) -> [Converter; 2] {
    let g711 = &kernels.g711;
    [
        ("mu-law to A-law", g711.ulaw_to_alaw, g711.ulaw_to_alaw_in_place, &ULAW_TO_ALAW),
        ("A-law to mu-law", g711.alaw_to_ulaw, g711.alaw_to_ulaw_in_place, &ALAW_TO_ULAW),
    ]
}

#[test]
fn every_table_encodes_every_sample_as_defined() {
    let pcm = samples();
    for kernels in available() {
        for (law, encode, one) in encoders(kernels) {
            let expected: Vec<u8> = pcm.iter().map(|&sample| one(sample)).collect();
            let mut encoded = vec![UNTOUCHED; pcm.len()];
            encode(&pcm, &mut encoded);
            assert!(encoded == expected, "{law} by {}", kernels.name);
        }
    }
}

#[test]
fn every_table_decodes_and_converts_every_code_as_defined() {
    let codes: Vec<u8> = (0..=255).collect();
    for kernels in available() {
        for (law, decode, one) in decoders(kernels) {
            let mut pcm = vec![1; codes.len()];
            decode(&codes, &mut pcm);
            let expected: Vec<i16> = codes.iter().map(|&code| one(code)).collect();
            assert_eq!(pcm, expected, "{law} by {}", kernels.name);
        }
        for (direction, convert, in_place, table) in converters(kernels) {
            let mut converted = vec![UNTOUCHED; codes.len()];
            convert(&codes, &mut converted);
            assert_eq!(converted, table, "{direction} by {}", kernels.name);
            let mut audio = codes.clone();
            in_place(&mut audio);
            assert_eq!(audio, table, "{direction} in place by {}", kernels.name);
        }
    }
}

/// ITU-T G.191 (the software tool library, `src/g711/test_data`) publishes what its reference makes of every 16-bit
/// sample in order: each value is a little-endian word, codes in the low byte. These are the SHA-256 digests of those
/// files, `sweep.src`, `sweep-r.u`, `sweep-r.a`, `sweep-r.reu` and `sweep-r.rea`. Of the reference in C, compiled, the
/// codes (`sweep-r.u` and `sweep-r.a`) were compared with them, and are the same.
#[test]
fn every_table_reproduces_the_vectors_of_g191() {
    let pcm = samples();
    assert_eq!(digest(&pcm), "697df5e3231fd569f25e5826e4aab08fe4526bb6730a7489aabeb4708e6efe5d");
    let vectors = [
        (
            "0523921b8957bccf95d0e0f2e43930359403d5ad4e31926b2272aa74a1f22c43",
            "cf9f90195534a105f211b1fb5c511ab45ee76827ac0987d6cc804afb897ef0f6",
        ),
        (
            "e1e8717a8c7a493583a2e8ac6916f0e37383d9226c6fb60de541393aba8bf402",
            "faf8570479a0e7d0e1da55d48c42e76961d0e5c285c35d42e9f6dafbafae8a35",
        ),
    ];
    for kernels in available() {
        let coders = encoders(kernels).into_iter().zip(decoders(kernels));
        for (((law, encode, _), (_, decode, _)), (coded, decoded)) in coders.zip(vectors) {
            let mut codes = vec![UNTOUCHED; pcm.len()];
            encode(&pcm, &mut codes);
            let words: Vec<i16> = codes.iter().map(|&code| i16::from(code)).collect();
            assert_eq!(digest(&words), coded, "{law} by {}", kernels.name);
            let mut back = vec![0; codes.len()];
            decode(&codes, &mut back);
            assert_eq!(digest(&back), decoded, "{law} by {}", kernels.name);
        }
    }
}

fn digest(words: &[i16]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every length from every offset would be millions of samples for each kernel; every length meets some offset and
/// every offset some lengths around whole vectors and frames.
fn lengths_and_offsets() -> impl Iterator<Item = (usize, usize)> {
    let each_length = LENGTHS.map(|length| (length, length * 7 % 64));
    let each_offset = (0..64).flat_map(|offset| [1, 15, 31, 33, 65, 80, 160].map(|length| (length, offset)));
    each_length.chain(each_offset)
}

#[test]
fn every_length_and_alignment_gives_the_same_codes_and_touches_nothing_else() {
    let pcm: Vec<i16> = scattered(512).map(|bits| bits as i16).collect();
    for kernels in available() {
        for (law, encode, one) in encoders(kernels) {
            let expected: Vec<u8> = pcm.iter().map(|&sample| one(sample)).collect();
            for (length, offset) in lengths_and_offsets() {
                let mut encoded = [UNTOUCHED; 512];
                let from = 63 - offset;
                encode(&pcm[from..from + length], &mut encoded[offset..offset + length]);
                let what = format!("{law} by {}, {length} at {offset}", kernels.name);
                assert!(encoded[offset..offset + length] == expected[from..from + length], "{what}");
                assert!(encoded[..offset].iter().all(|&byte| byte == UNTOUCHED), "{what}");
                assert!(encoded[offset + length..].iter().all(|&byte| byte == UNTOUCHED), "{what}");
            }
        }
    }
}

#[test]
fn every_length_and_alignment_gives_the_same_samples_and_touches_nothing_else() {
    let codes: Vec<u8> = scattered(512).map(|bits| bits as u8).collect();
    for kernels in available() {
        for (law, decode, one) in decoders(kernels) {
            let expected: Vec<i16> = codes.iter().map(|&code| one(code)).collect();
            for (length, offset) in lengths_and_offsets() {
                let mut pcm = [0x5AA5; 512];
                let from = 63 - offset;
                decode(&codes[from..from + length], &mut pcm[offset..offset + length]);
                let what = format!("{law} by {}, {length} at {offset}", kernels.name);
                assert!(pcm[offset..offset + length] == expected[from..from + length], "{what}");
                assert!(pcm[..offset].iter().all(|&sample| sample == 0x5AA5), "{what}");
                assert!(pcm[offset + length..].iter().all(|&sample| sample == 0x5AA5), "{what}");
            }
        }
    }
}

#[test]
fn every_length_and_alignment_converts_alike_between_slices_and_in_place() {
    let codes: Vec<u8> = scattered(512).map(|bits| bits as u8).collect();
    for kernels in available() {
        for (direction, convert, in_place, table) in converters(kernels) {
            for (length, offset) in lengths_and_offsets() {
                let range = offset..offset + length;
                let mut expected = codes.clone();
                for code in &mut expected[range.clone()] {
                    *code = table[usize::from(*code)];
                }
                let mut converted = codes.clone();
                convert(&codes[range.clone()], &mut converted[range.clone()]);
                assert!(converted == expected, "{direction} by {}, {length} at {offset}", kernels.name);
                let mut audio = codes.clone();
                in_place(&mut audio[range]);
                assert!(audio == expected, "{direction} in place by {}, {length} at {offset}", kernels.name);
            }
        }
    }
}

#[test]
fn the_shorter_slice_decides_how_far_a_kernel_goes() {
    for kernels in available() {
        for (long, short) in [(3, 2), (80, 33), (161, 160), (320, 0)] {
            let (mut codes, mut pcm) = (vec![UNTOUCHED; long], vec![7i16; long]);
            (kernels.g711.encode_ulaw)(&vec![0; short], &mut codes);
            assert!(codes[..short].iter().all(|&code| code == 0xFF), "{}", kernels.name);
            assert!(codes[short..].iter().all(|&code| code == UNTOUCHED), "{}", kernels.name);
            (kernels.g711.decode_alaw)(&vec![0xD5; short], &mut pcm);
            assert!(pcm[..short].iter().all(|&sample| sample == 8), "{}", kernels.name);
            assert!(pcm[short..].iter().all(|&sample| sample == 7), "{}", kernels.name);
            (kernels.g711.encode_alaw)(&vec![0; long], &mut codes[..short]);
            (kernels.g711.decode_ulaw)(&vec![0xFF; long], &mut pcm[..short]);
            assert!(codes[short..].iter().all(|&code| code == UNTOUCHED), "{}", kernels.name);
            assert!(pcm[short..].iter().all(|&sample| sample == 7), "{}", kernels.name);
        }
    }
}

/// A few gains of each kind: none, odd, unity, just off it, and so much that samples are limited.
fn gains() -> [Gain; 6] {
    [
        Gain::MUTE,
        Gain::from_factor(0.3),
        Gain::UNITY,
        Gain::from_factor(4097.0 / 4096.0),
        Gain::from_factor(1.7),
        Gain::MAX,
    ]
}

#[test]
fn encoding_with_gain_is_applying_it_and_encoding() {
    let pcm: Vec<i16> = scattered(4096).map(|bits| bits as i16).collect();
    for kernels in available() {
        let with_gain = [kernels.g711.encode_ulaw_gain, kernels.g711.encode_alaw_gain];
        for ((law, _, one), encode_gain) in encoders(kernels).into_iter().zip(with_gain) {
            for gain in gains() {
                let mut encoded = vec![UNTOUCHED; pcm.len()];
                encode_gain(&pcm, gain, &mut encoded);
                let expected: Vec<u8> = pcm.iter().map(|&sample| one(gain.apply(sample))).collect();
                assert!(encoded == expected, "{law} by {} with {gain:?}", kernels.name);
            }
            for length in LENGTHS.step_by(3) {
                let mut encoded = vec![UNTOUCHED; length + 1];
                encode_gain(&pcm[..length], Gain::MAX, &mut encoded);
                let expected = pcm[..length].iter().map(|&sample| one(Gain::MAX.apply(sample)));
                assert!(
                    encoded[..length].iter().copied().eq(expected),
                    "{law} by {}, {length}",
                    kernels.name
                );
                assert_eq!(encoded[length], UNTOUCHED, "{law} by {}, {length}", kernels.name);
            }
        }
    }
}

#[test]
fn decoding_with_gain_is_decoding_applying_it_and_measuring() {
    let codes: Vec<u8> = (0..=255).chain(scattered(400).map(|bits| bits as u8)).collect();
    for kernels in available() {
        let with_gain = [kernels.g711.decode_ulaw_gain, kernels.g711.decode_alaw_gain];
        for ((law, _, one), decode_gain) in decoders(kernels).into_iter().zip(with_gain) {
            for (gain, length) in gains()
                .map(|gain| (gain, codes.len()))
                .into_iter()
                .chain(LENGTHS.step_by(3).map(|length| (Gain::MAX, length)))
            {
                let what = format!("{law} by {} with {gain:?}, {length}", kernels.name);
                let codes = &codes[codes.len() - length..];
                let mut pcm = vec![7; length + 1];
                let level = decode_gain(codes, gain, &mut pcm);
                let expected: Vec<i16> = codes.iter().map(|&code| gain.apply(one(code))).collect();
                assert!(pcm[..length] == expected, "{what}");
                assert_eq!(pcm[length], 7, "{what}");
                assert_eq!(level, level_of(&expected), "{what}");
            }
        }
    }
}

#[test]
fn levels_of_coded_audio_are_those_of_its_samples() {
    let loud: Vec<u8> = scattered(400).map(|bits| bits as u8).collect();
    // Quieter and quieter, so that the peak is not always the greatest there is.
    let fading: Vec<u8> = (0..400u32).map(|n| (n / 4) as u8 | ((n % 2) << 7) as u8).collect();
    for kernels in available() {
        let g711 = &kernels.g711;
        let measures = [(g711.measure_ulaw, g711.peak_ulaw), (g711.measure_alaw, g711.peak_alaw)];
        for ((law, _, one), (measure, peak)) in decoders(kernels).into_iter().zip(measures) {
            for codes in [&loud, &fading] {
                for length in LENGTHS {
                    let codes = &codes[codes.len() - length..];
                    let pcm: Vec<i16> = codes.iter().map(|&code| one(code)).collect();
                    let what = format!("{law} by {}, {length}", kernels.name);
                    assert_eq!(measure(codes), level_of(&pcm), "{what}");
                    assert_eq!(peak(codes), level_of(&pcm).peak, "{what}");
                }
            }
            for code in 0..=255 {
                let what = format!("{law} by {}, {code:#04x}", kernels.name);
                assert_eq!(peak(&[code; 70]), one(code).unsigned_abs(), "{what}");
            }
        }
    }
}

fn level_of(pcm: &[i16]) -> Loudness {
    let squares = pcm.iter().map(|&sample| u64::from(sample.unsigned_abs()).pow(2));
    Loudness {
        sum_of_squares: squares.sum(),
        peak: pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0),
    }
}
