//! The pools and the kernels under them against the single coder.

use proptest::prelude::*;

use super::batch::{Decoders, Encoders};
use super::tests::{Noise, artificial_sequence};
use super::{Decoder, Encoder};
use crate::simd;
use crate::simd::g722::{LANES, Lane, StateLanes};

/// Lanes that sit out in turn.
fn active(turn: usize) -> Lane {
    Lane(std::array::from_fn(|lane| if (lane + turn).is_multiple_of(3) { 0 } else { -1 }))
}

#[test]
fn every_table_encodes_as_many_single_encoders_do() {
    for table in simd::available() {
        let mut noise = Noise(5);
        let (mut state, mut singles) = (StateLanes::new(), vec![Encoder::new(); LANES]);
        for (turn, rows) in [7, 0, 160, 1, 33].into_iter().enumerate() {
            // Every loudness, and jumps between the extremes, which overflow the predictor.
            let mut signal = |row: usize, lane| match lane {
                30 => [i16::MIN / 2, i16::MAX / 2][row % 2],
                31 => [i16::MIN / 2, i16::MAX / 2, i16::MIN / 2][row % 3],
                _ => (noise.next() >> 1) >> (lane % 12),
            };
            let mut band = |row| Lane(std::array::from_fn(|lane| signal(row, lane)));
            let signals: Vec<[Lane; 2]> = (0..rows).map(|row| [band(row), band(row)]).collect();
            let (active, mut octets) = (active(turn), vec![Lane::ZERO; rows]);
            (table.g722.encode)(&mut state, &active, &signals, &mut octets);
            for lane in (0..LANES).filter(|&lane| active.0[lane] != 0) {
                for (row, [lower, higher]) in octets.iter().zip(&signals) {
                    let expected = singles[lane].encode_bands(lower.0[lane], higher.0[lane]);
                    assert_eq!(row.0[lane], i16::from(expected), "{} lane {lane}", table.name);
                }
            }
        }
    }
}

#[test]
fn every_table_decodes_as_many_single_decoders_do() {
    for table in simd::available() {
        let mut noise = Noise(6);
        let (mut state, mut singles) = (StateLanes::new(), vec![Decoder::new(); LANES]);
        let mut artificial = artificial_sequence().into_iter();
        for (turn, rows) in [7, 0, 160, 1, 33].into_iter().enumerate() {
            // Any octets, such as hold the scale low, and the sequence of the ITU that has every code.
            let mut octet = |lane, any: i16| match lane {
                0..16 => any & 0xFF,
                16..24 => any & 0xC7 | 0x38,
                _ => artificial.next().map_or(0, |word| (word >> 8) as i16),
            };
            let row = |_| Lane(std::array::from_fn(|lane| octet(lane, noise.next() >> 3)));
            let octets: Vec<Lane> = (0..rows).map(row).collect();
            let active = active(turn);
            let mut signals = vec![[Lane::ZERO; 2]; rows];
            (table.g722.decode)(&mut state, &active, &octets, &mut signals);
            for lane in (0..LANES).filter(|&lane| active.0[lane] != 0) {
                for (row, [lower, higher]) in octets.iter().zip(&signals) {
                    let expected = singles[lane].decode_bands(row.0[lane] as u8);
                    assert_eq!([lower.0[lane], higher.0[lane]], expected, "{} lane {lane}", table.name);
                }
            }
        }
    }
}

#[test]
fn every_table_filters_as_the_scalar_one() {
    let mut noise = Noise(7);
    let scalar = simd::available().next().expect("the scalar table runs everywhere");
    for length in (0..150).chain([342, 343]) {
        // Ends with the extremes that bring the largest sums.
        let mut audio: Vec<i16> = (0..length).map(|_| noise.next()).collect();
        for (sample, tap) in audio.iter_mut().rev().zip(simd::g722::tables::QMF) {
            *sample = if tap > 0 { i16::MAX } else { i16::MIN };
        }
        for table in simd::available() {
            for room in [length / 2, length] {
                let mut bands = [vec![1; room], vec![2; room], vec![1; room], vec![2; room]];
                let [lower, higher, expected_lower, expected_higher] = &mut bands;
                (table.g722.split)(&audio, lower, higher);
                (scalar.g722.split)(&audio, expected_lower, expected_higher);
                assert_eq!([lower, higher], [expected_lower, expected_higher], "{} {length}", table.name);
                let (mut joined, mut expected) = (vec![3; room], vec![3; room]);
                (table.g722.join)(&audio, &mut joined);
                (scalar.g722.join)(&audio, &mut expected);
                assert_eq!(joined, expected, "{} {length}", table.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn pools_code_as_single_coders_when_calls_come_and_go(
        seed in any::<u32>(),
        ticks in proptest::collection::vec(proptest::collection::vec((0..40usize, 0..90usize), 0..40), 1..8),
    ) {
        let mut noise = Noise(seed);
        let (mut encoders, mut decoders) = (Encoders::new(40, 80), Decoders::new(40, 80));
        let mut calls = Vec::new();
        for _ in 0..40 {
            let (encoder, decoder) = (encoders.add().expect("a place"), decoders.add().expect("a place"));
            calls.push((encoder, decoder, Encoder::new(), Decoder::new()));
        }
        for tick in ticks {
            let mut due: Vec<(usize, Vec<i16>, usize)> = Vec::new();
            for (index, octets) in tick {
                let pcm: Vec<i16> = (0..2 * octets).map(|_| noise.next() >> (index % 10)).collect();
                let promised = encoders.put(calls[index].0, &pcm);
                if due.iter().all(|(other, _, octets)| *other != index || *octets == 0) {
                    prop_assert_eq!(promised, octets.min(80));
                    due.push((index, pcm, promised));
                } else {
                    prop_assert_eq!(promised, 0);
                }
            }
            encoders.encode();
            for (index, pcm, octets) in &due {
                let (encoder, decoder, single, _) = &mut calls[*index];
                let (mut ours, mut expected) = (vec![0; *octets], vec![0; *octets]);
                encoders.take(*encoder, &mut ours);
                single.encode(pcm, &mut expected);
                prop_assert_eq!(&ours, &expected);
                prop_assert_eq!(decoders.put(*decoder, &ours), 2 * octets);
            }
            decoders.decode();
            for (index, _, octets) in &due {
                let (encoder, decoder, _, single) = &mut calls[*index];
                let (mut payload, mut ours, mut expected) = (vec![0; *octets], vec![0; 2 * octets], vec![0; 2 * octets]);
                encoders.take(*encoder, &mut payload);
                decoders.take(*decoder, &mut ours);
                single.decode(&payload, &mut expected);
                prop_assert_eq!(ours, expected);
            }
            // One call ends and another takes its place.
            let index = usize::from(noise.next() as u16) % 40;
            encoders.remove(calls[index].0);
            decoders.remove(calls[index].1);
            calls[index] = (encoders.add().expect("a place"), decoders.add().expect("a place"), Encoder::new(), Decoder::new());
        }
    }
}

#[test]
fn full_pool_takes_no_more_calls() {
    let mut encoders = Encoders::new(33, 160);
    let calls: Vec<_> = (0..64).map(|_| encoders.add()).collect();
    assert!(calls.iter().all(Option::is_some));
    assert_eq!(encoders.add(), None);
    encoders.remove(calls[40].expect("a place"));
    assert_eq!(encoders.add(), calls[40]);
    assert_eq!(Decoders::new(0, 160).add(), None);
}
