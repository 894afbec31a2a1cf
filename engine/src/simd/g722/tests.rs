//! Every table against the scalar one; that one against single coders is the business of `codec::g722`.

use super::tables::QMF;
use super::*;
use crate::simd::available;

struct Noise(u32);

impl Noise {
    fn next(&mut self) -> i16 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) as i16
    }
}

/// Lanes that sit out in turn.
fn active(turn: usize) -> Lane {
    Lane(std::array::from_fn(|lane| if (lane + turn).is_multiple_of(3) { 0 } else { -1 }))
}

#[test]
fn every_table_codes_both_ways_as_the_scalar_one() {
    let scalar = available().next().expect("the scalar table runs everywhere");
    for table in available() {
        let mut noise = Noise(5);
        let (mut encoders, mut decoders) = (StateLanes::new(), StateLanes::new());
        let (mut expected_encoders, mut expected_decoders) = (StateLanes::new(), StateLanes::new());
        for (turn, rows) in [7, 0, 160, 1, 33, 600].into_iter().enumerate() {
            // Every loudness, and jumps between the extremes, which drive all that adapts to its bounds.
            let mut signal = |row: usize, lane| match lane {
                29 => i16::MIN / 2,
                30 => [i16::MIN / 2, i16::MAX / 2][row % 2],
                31 => [i16::MIN / 2, i16::MAX / 2, i16::MIN / 2][row % 3],
                _ => (noise.next() >> 1) >> (lane % 12),
            };
            let mut band = |row| Lane(std::array::from_fn(|lane| signal(row, lane)));
            let signals: Vec<[Lane; 2]> = (0..rows).map(|row| [band(row), band(row)]).collect();
            let active = active(turn);
            let (mut octets, mut expected) = (vec![Lane::ZERO; rows], vec![Lane::ZERO; rows]);
            (table.g722.encode)(&mut encoders, &active, &signals, &mut octets);
            (scalar.g722.encode)(&mut expected_encoders, &active, &signals, &mut expected);
            for lane in (0..LANES).filter(|&lane| active.0[lane] != 0) {
                for (row, expected) in octets.iter().zip(&expected) {
                    assert_eq!(row.0[lane], expected.0[lane], "{} lane {lane}", table.name);
                }
            }
            // Octets that no encoder sends, too.
            let mut octet = |lane, coded: i16| match lane {
                0..16 => noise.next() & 0xFF,
                16..20 => noise.next() & 0xC7 | 0x38,
                20 => 0x3C,
                21 => 0x04,
                _ => coded & 0xFF,
            };
            let octets: Vec<Lane> = expected
                .iter()
                .map(|row| Lane(std::array::from_fn(|lane| octet(lane, row.0[lane]))))
                .collect();
            let (mut heard, mut expected) = (vec![[Lane::ZERO; 2]; rows], vec![[Lane::ZERO; 2]; rows]);
            (table.g722.decode)(&mut decoders, &active, &octets, &mut heard);
            (scalar.g722.decode)(&mut expected_decoders, &active, &octets, &mut expected);
            for lane in (0..LANES).filter(|&lane| active.0[lane] != 0) {
                for (row, expected) in heard.iter().flatten().zip(expected.iter().flatten()) {
                    assert_eq!(row.0[lane], expected.0[lane], "{} lane {lane}", table.name);
                }
            }
        }
    }
}

#[test]
fn every_table_splits_and_joins_as_the_scalar_one() {
    let scalar = available().next().expect("the scalar table runs everywhere");
    let mut noise = Noise(7);
    for length in (0..150).chain([342, 343]) {
        let mut audio: Vec<i16> = (0..length).map(|_| noise.next()).collect();
        // Ends with the extremes that bring the largest sums.
        for (sample, tap) in audio.iter_mut().rev().zip(QMF) {
            *sample = if tap > 0 { i16::MAX } else { i16::MIN };
        }
        for table in available() {
            for room in [length / 2, length] {
                let run = |kernels: &crate::simd::Kernels| {
                    let (mut lower, mut higher, mut joined) = (vec![1; room], vec![2; room], vec![3; room]);
                    (kernels.g722.split)(&audio, &mut lower, &mut higher);
                    (kernels.g722.join)(&audio, &mut joined);
                    (lower, higher, joined)
                };
                assert_eq!(run(table), run(scalar), "{} {length}", table.name);
            }
        }
    }
}
