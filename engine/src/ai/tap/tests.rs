use super::align::Aligner;
use super::*;

fn block(track: TapTrack, position: u64, value: i16, len: usize, at_ms: u64) -> TapBlock {
    let mut bytes = [0; BLOCK_SAMPLES];
    Law::A.encode(&[value; BLOCK_SAMPLES], &mut bytes);
    TapBlock { at: Instant::from_millis(at_ms), track, law: Law::A, position, len: len as u8, bytes }
}

/// What A-law makes of a value.
fn heard(value: i16) -> i16 {
    let (mut byte, mut pcm) = ([0], [0]);
    Law::A.encode(&[value], &mut byte);
    Law::A.decode(&byte, &mut pcm);
    pcm[0]
}

const IN: TapTrack = TapTrack::Inbound;
const OUT: TapTrack = TapTrack::Outbound;

#[test]
fn both_directions_come_side_by_side_and_at_once() {
    let mut aligner = Aligner::new(TapTracks::Both);
    for n in 0..100 {
        aligner.push(&block(IN, n * 160, 1_000, 160, n * 20));
        assert!(aligner.pop(Instant::from_millis(n * 20)).is_none());
        aligner.push(&block(OUT, n * 160, -2_000, 160, n * 20));
        let aligned = aligner.pop(Instant::from_millis(n * 20)).expect("complete");
        assert_eq!(aligned.position, n * 160);
        assert_eq!(aligned.tracks, [[heard(1_000); 160], [heard(-2_000); 160]]);
        assert!(aligner.pop(Instant::from_millis(n * 20)).is_none());
    }
    assert_eq!(aligner.late(), 0);
}

#[test]
fn one_direction_waits_200_ms_for_the_other_and_what_is_missing_is_silence() {
    let mut aligner = Aligner::new(TapTracks::Mix);
    aligner.push(&block(IN, 0, 1_000, 160, 0));
    // The block ends at 20 ms.
    assert!(aligner.pop(Instant::from_millis(199)).is_none());
    let aligned = aligner.pop(Instant::from_millis(200)).expect("given up");
    assert_eq!(aligned.tracks, [[heard(1_000); 160], [0; 160]]);
    // Silence of both goes on by the clock.
    let mut blocks = 0;
    while let Some(aligned) = aligner.pop(Instant::from_millis(1_200)) {
        assert_eq!(aligned.tracks, [[0; 160]; 2]);
        blocks += 1;
    }
    assert_eq!(blocks, 50);
}

#[test]
fn a_direction_that_nobody_wants_is_not_waited_for() {
    let mut aligner = Aligner::new(TapTracks::Outbound);
    aligner.push(&block(OUT, 0, 500, 160, 0));
    assert!(aligner.pop(Instant::from_millis(0)).is_some());
}

#[test]
fn pieces_of_any_length_and_order_find_their_place() {
    let mut aligner = Aligner::new(TapTracks::Inbound);
    for (position, value) in [(0, 100), (160, 300), (80, 200), (240, 400)] {
        aligner.push(&block(IN, position, value, 80, 0));
    }
    let mut all = Vec::new();
    while let Some(aligned) = aligner.pop(Instant::ZERO) {
        all.extend(aligned.tracks[0]);
    }
    let expected: Vec<i16> = [100, 200, 300, 400].iter().flat_map(|&value| [heard(value); 80]).collect();
    assert_eq!(all, expected);
}

#[test]
fn a_clock_that_fell_behind_moves_and_loses_nothing() {
    let mut aligner = Aligner::new(TapTracks::Both);
    aligner.push(&block(IN, 0, 100, 160, 0));
    aligner.push(&block(IN, 160, 100, 160, 20));
    assert!(aligner.pop(Instant::from_millis(200)).is_some());
    assert!(aligner.pop(Instant::from_millis(220)).is_some());
    // The other direction begins with what should have come before.
    aligner.push(&block(OUT, 0, 700, 160, 230));
    aligner.push(&block(OUT, 160, 700, 160, 230));
    let (first, second) = (aligner.pop_rest().expect("a block"), aligner.pop_rest().expect("a block"));
    assert_eq!(
        (first.position, first.tracks[1], second.tracks[1]),
        (320, [heard(700); 160], [heard(700); 160])
    );
    assert_eq!(aligner.late(), 0);
    // What is only out of order is dropped and counted.
    aligner.push(&block(OUT, 0, 700, 160, 240));
    assert_eq!(aligner.late(), 1);
}

#[test]
fn a_jump_costs_no_memory() {
    let mut aligner = Aligner::new(TapTracks::Inbound);
    aligner.push(&block(IN, 0, 100, 160, 0));
    aligner.push(&block(IN, u64::from(u32::MAX), 100, 160, 0));
    let mut blocks = 0;
    let mut last = 0;
    while let Some(aligned) = aligner.pop(Instant::ZERO) {
        (blocks, last) = (blocks + 1, aligned.position);
        assert!(blocks <= 101);
    }
    assert!(last > u64::from(u32::MAX) - 320);
}

#[test]
fn a_partys_timestamps_lie_where_its_first_packet_came() {
    let mut timeline = Timeline::default();
    let at = |ms| Instant::from_millis(ms);
    assert_eq!(timeline.place(at(1_000), u32::MAX - 79), 8_000);
    // Late by 30 ms, and yet where it belongs.
    assert_eq!(timeline.place(at(1_050), 80), 8_160);
    assert_eq!(timeline.place(at(1_051), u32::MAX - 79), 8_000);
    // Another source.
    assert_eq!(timeline.place(at(1_100), 1_000_000_000), 8_800);
    assert_eq!(timeline.place(at(1_120), 1_000_000_160), 8_960);
}

#[test]
fn a_full_ring_counts_and_never_waits() {
    let (mut port, blocks, shared) = TapPort::pair(TapId(1), TapTracks::Both);
    for n in 0..300 {
        port.hear(IN, Instant::ZERO, Law::Mu, n * 160, &[0; 160]);
    }
    assert_eq!((blocks.slots(), shared.overflow.load(Ordering::Relaxed)), (256, 44));
}

#[test]
fn a_call_has_at_most_four_listeners() {
    let mut taps = Taps::default();
    let mut rings = Vec::new();
    for n in 0..6 {
        let (port, ring, _) = TapPort::pair(TapId(n), TapTracks::Both);
        rings.push(ring);
        assert_eq!(taps.add(port).is_some(), n >= 4);
    }
    assert!(taps.remove(TapId(2)).is_some());
    assert!(taps.remove(TapId(2)).is_none());
    taps.hear(IN, Instant::ZERO, Law::Mu, &[0; 160]);
    assert_eq!(rings.iter().map(Consumer::slots).collect::<Vec<_>>(), [1, 1, 0, 1, 0, 0]);
}
