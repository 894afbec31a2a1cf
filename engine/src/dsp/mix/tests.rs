use proptest::prelude::*;

use super::*;
use crate::simd::{KNEE, limit};

/// Noise of a peak, another for every member and tick.
fn noise(samples: usize, peak: i32, seed: usize) -> Vec<i16> {
    let mut state = (seed as u32).wrapping_mul(2_654_435_761) | 1;
    (0..samples)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (((state >> 16) as i32 - 32_768) * peak / 32_768) as i16
        })
        .collect()
}

fn tick(mixer: &mut Mixer, frames: &[(usize, Vec<i16>)]) {
    for (member, frame) in frames {
        mixer.offer(*member).copy_from_slice(frame);
    }
    mixer.mix();
}

/// What everybody should hear, in 64 bits and without haste.
fn assert_minus_self(mixer: &Mixer, frames: &[(usize, Vec<i16>)]) {
    for i in 0..mixer.frame_samples() {
        let total: i64 = frames.iter().map(|(_, frame)| i64::from(frame[i])).sum();
        assert_eq!(mixer.total()[i], limit(total as i32));
        for (member, frame) in frames {
            let others = total - i64::from(frame[i]);
            let heard = mixer.output(*member)[i];
            assert_eq!(heard, limit(others as i32), "member {member}, sample {i}");
            if others.abs() <= i64::from(KNEE) {
                assert_eq!(i64::from(heard), others);
            }
        }
    }
}

#[test]
fn everybody_hears_the_others_for_every_count_of_members() {
    for count in (2..=64).chain([1000]) {
        let mut mixer = Mixer::new(count, 80);
        for seed in 0..2 {
            // Below the knee in the first tick, far beyond full scale in the second.
            let peak = if seed == 0 { 24_000 / count as i32 } else { 32_768 };
            let frames: Vec<_> = (0..count).map(|m| (m, noise(80, peak, seed + 2 * m))).collect();
            tick(&mut mixer, &frames);
            assert_minus_self(&mixer, &frames);
        }
    }
}

#[test]
fn every_frame_length_is_mixed_to_its_end() {
    for samples in [0, 1, 31, 32, 33, 80, 120, 160, 161, 240, 320, 441, 480, 960, 2880] {
        let mut mixer = Mixer::new(5, samples);
        for seed in 0..2 {
            let frames: Vec<_> = (0..5).map(|m| (m, noise(samples, 20_000, seed + 2 * m))).collect();
            tick(&mut mixer, &frames);
            assert_minus_self(&mixer, &frames);
            assert_eq!(mixer.total().len(), samples);
        }
    }
}

#[test]
fn absent_member_hears_the_total_and_is_not_in_it() {
    let mut mixer = Mixer::new(4, 160);
    let a = noise(160, 5000, 1);
    let b = noise(160, 5000, 2);
    tick(&mut mixer, &[(0, a.clone()), (2, b.clone())]);
    assert_eq!(mixer.output(0), b);
    assert_eq!(mixer.output(2), a);
    assert_eq!(mixer.output(1), mixer.total());
    // The frame of the last tick is not mixed again.
    tick(&mut mixer, &[(2, a.clone())]);
    assert_eq!(mixer.total(), a);
    assert_eq!(mixer.output(0), a);
    assert!(mixer.output(2).iter().all(|&sample| sample == 0));
    mixer.mix();
    assert!(mixer.total().iter().all(|&sample| sample == 0));
}

#[test]
fn silent_member_needs_no_mix_of_its_own() {
    let mut mixer = Mixer::new(3, 160);
    tick(&mut mixer, &[(0, vec![0; 160]), (1, noise(160, 900, 1))]);
    assert!(!mixer.is_summed(0));
    assert_eq!(mixer.output(0), mixer.total());
    assert_eq!(mixer.summed().collect::<Vec<_>>(), [1]);
}

#[test]
fn extremes_never_wrap() {
    for extreme in [i16::MIN, i16::MAX] {
        let mut mixer = Mixer::new(1000, 33);
        let frames: Vec<_> = (0..1000).map(|m| (m, vec![extreme; 33])).collect();
        tick(&mut mixer, &frames);
        assert_minus_self(&mixer, &frames);
    }
}

#[test]
fn gain_is_heard_by_the_others_and_mute_is_nothing() {
    let mut mixer = Mixer::new(3, 160);
    let [a, b] = [1, 2].map(|seed| noise(160, 4000, seed));
    mixer.set_gain(0, Gain::from_decibels(6.0));
    mixer.set_gain(1, Gain::MUTE);
    tick(&mut mixer, &[(0, a.clone()), (1, b.clone())]);
    let louder: Vec<i16> = a.iter().map(|&x| Gain::from_decibels(6.0).apply(x)).collect();
    assert_eq!(mixer.output(1), louder);
    assert_eq!(mixer.total(), louder);
    assert!(mixer.output(0).iter().all(|&sample| sample == 0));
    assert_eq!(mixer.level(1), Level::of(&b), "measured as offered");
}

#[test]
fn change_of_gain_takes_one_frame_and_makes_no_step() {
    let mut mixer = Mixer::new(2, 160);
    let steady = vec![8000; 160];
    tick(&mut mixer, &[(0, steady.clone())]);
    mixer.set_gain(0, Gain::MUTE);
    tick(&mut mixer, &[(0, steady.clone())]);
    let fading = mixer.output(1).to_vec();
    assert_eq!(fading[0], 8000);
    assert!(fading[159] < 60);
    assert!(fading.windows(2).all(|pair| (48..=52).contains(&(pair[0] - pair[1]))));
    tick(&mut mixer, &[(0, steady)]);
    assert!(mixer.output(1).iter().all(|&sample| sample == 0));
}

#[test]
fn back_after_a_pause_the_new_gain_holds_at_once() {
    let mut mixer = Mixer::new(2, 160);
    let steady = vec![8000; 160];
    tick(&mut mixer, &[(0, steady.clone())]);
    mixer.mix();
    mixer.set_gain(0, Gain::from_factor(0.5));
    tick(&mut mixer, &[(0, steady)]);
    assert_eq!(mixer.output(1), [4000; 160]);
}

#[test]
fn reset_leaves_what_was_mixed_and_forgets_the_gain() {
    let mut mixer = Mixer::new(2, 160);
    mixer.set_gain(0, Gain::MUTE);
    let [a, b] = [1, 2].map(|seed| noise(160, 4000, seed));
    tick(&mut mixer, &[(0, a.clone()), (1, b.clone())]);
    mixer.reset(0);
    mixer.reset(1);
    assert!(!mixer.is_summed(0) && mixer.is_summed(1));
    assert!(mixer.output(1).iter().all(|&sample| sample == 0));
    tick(&mut mixer, &[(0, a.clone()), (1, b.clone())]);
    assert_eq!((mixer.output(0), mixer.output(1)), (&*b, &*a), "without a fade");
}

#[test]
fn only_the_loudest_are_heard() {
    let mut mixer = Mixer::new(8, 160);
    mixer.set_loudest(Some(3));
    let frames: Vec<_> = (0..8).map(|m| (m, noise(160, 100 << m, m))).collect();
    tick(&mut mixer, &frames);
    assert_eq!(mixer.summed().collect::<Vec<_>>(), [5, 6, 7]);
    let chosen = &frames[5..];
    assert_minus_self(&mixer, chosen);
    assert_eq!(mixer.output(0), mixer.total());
    mixer.set_loudest(Some(0));
    mixer.reset(5);
    mixer.reset(6);
    mixer.reset(7);
    tick(&mut mixer, &frames);
    assert_eq!(mixer.summed().len(), 0);
}

#[test]
fn equals_do_not_take_turns() {
    let mut mixer = Mixer::new(6, 160);
    mixer.set_loudest(Some(2));
    let mut changes = 0;
    let mut before: Vec<usize> = vec![];
    for round in 0..500 {
        // All alike, up to half a decibel to and fro.
        let frames: Vec<_> = (0..6)
            .map(|m| (m, noise(160, 3000 + (round * 7 + m * 13) as i32 % 180, m + 6 * round)))
            .collect();
        tick(&mut mixer, &frames);
        let now: Vec<usize> = mixer.summed().collect();
        changes += usize::from(round > 0 && now != before);
        before = now;
    }
    assert_eq!(changes, 0);
}

#[test]
fn louder_newcomer_takes_a_place_at_once_and_the_loser_fades_out() {
    let mut mixer = Mixer::new(3, 160);
    mixer.set_loudest(Some(1));
    let quiet = |round| noise(160, 1000, round);
    tick(&mut mixer, &[(0, quiet(1)), (1, vec![0; 160])]);
    tick(&mut mixer, &[(0, quiet(2)), (1, noise(160, 8000, 9))]);
    assert_eq!(mixer.summed().collect::<Vec<_>>(), [0, 1], "one fades out, one fades in");
    tick(&mut mixer, &[(0, quiet(3)), (1, noise(160, 8000, 10))]);
    assert_eq!(mixer.summed().collect::<Vec<_>>(), [1]);
    // A pause of 100 ms between two words does not cost the place.
    for round in 0..5 {
        tick(&mut mixer, &[(0, quiet(round)), (1, noise(160, 10, round))]);
        assert_eq!(mixer.summed().collect::<Vec<_>>(), [1]);
    }
    // A second does.
    for round in 0..50 {
        tick(&mut mixer, &[(0, quiet(round)), (1, noise(160, 10, round))]);
    }
    assert_eq!(mixer.summed().collect::<Vec<_>>(), [0]);
}

#[test]
fn muted_member_is_not_among_the_loudest() {
    let mut mixer = Mixer::new(2, 160);
    mixer.set_loudest(Some(1));
    mixer.set_gain(1, Gain::MUTE);
    tick(&mut mixer, &[(0, noise(160, 100, 1)), (1, noise(160, 30_000, 2))]);
    assert_eq!(mixer.summed().collect::<Vec<_>>(), [0]);
}

#[test]
fn fade_saturates_and_takes_any_length() {
    let mut pcm = [i16::MIN, i16::MAX, 0, -1];
    fade(Gain::MAX, Gain::MAX, &mut pcm);
    assert_eq!(pcm, [i16::MIN, i16::MAX, 0, -8]);
    fade(Gain::MUTE, Gain::UNITY, &mut []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever is offered, in whatever order, with whatever gains and choice: a member hears the total less
    /// itself, and ticks do not depend on the order of offers.
    #[test]
    fn order_of_offers_does_not_matter(
        ticks in prop::collection::vec(prop::collection::vec((0usize..12, 0i32..32_768, 0f32..2.2), 0..20), 1..5),
        loudest in prop::option::of(0usize..5),
        samples in 1usize..70,
    ) {
        let mut forth = Mixer::new(12, samples);
        let mut back = Mixer::new(12, samples);
        forth.set_loudest(loudest);
        back.set_loudest(loudest);
        for offers in ticks {
            let mut frames = std::collections::BTreeMap::new();
            for (member, peak, gain) in offers {
                frames.insert(member, noise(samples, peak, member));
                forth.set_gain(member, Gain::from_factor(gain));
                back.set_gain(member, Gain::from_factor(gain));
            }
            let frames: Vec<_> = frames.into_iter().collect();
            tick(&mut forth, &frames);
            tick(&mut back, &frames.iter().rev().cloned().collect::<Vec<_>>());
            for member in 0..12 {
                prop_assert_eq!(forth.output(member), back.output(member));
            }
        }
    }
}
