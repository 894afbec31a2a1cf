use super::*;
use crate::callload::{g711::Law, marker::waveform, speech};

const BLOCK_NS: u64 = 20_000_000;

/// Sends `blocks` packets with a marker every 50 and returns everything that was sent.
fn send(
    track: &mut Track,
    sent: &mut SentAudio,
    stats: &mut Stats,
    block: u64,
    speech: &[i16],
) -> [i16; BLOCK] {
    let mut audio: [i16; BLOCK] =
        std::array::from_fn(|i| speech[(block as usize * BLOCK + i) % speech.len()]);
    if block % 50 == 10 {
        audio = waveform(1, block as u32);
    }
    let audio = audio.map(|x| Law::Pcmu.decode(Law::Pcmu.encode(x)));
    if block % 50 == 10 {
        track.expect_marker(Template::new(&audio), sent.end(), block * BLOCK_NS, stats);
    }
    sent.push(&audio);
    audio
}

/// Plays 500 packets through a far end that delays by whole samples and applies `change` to each sample.
fn echo(delay_samples: usize, change: impl Fn(i16) -> i16) -> Stats {
    let (mut track, mut sent, mut stats) = (Track::new(), SentAudio::new(), Stats::new());
    let speech = speech::generated();
    let mut line: VecDeque<i16> = vec![0; delay_samples].into();
    for block in 0..500 {
        line.extend(send(&mut track, &mut sent, &mut stats, block, &speech));
        let back: Vec<i16> = line.drain(..BLOCK).map(&change).collect();
        let timestamp = 1_000 + block as i64 * BLOCK as i64;
        track.handle_audio(timestamp, block * BLOCK_NS + 3_000_000, back.into_iter(), &sent, &mut stats);
    }
    track.finish(500 * BLOCK_NS, &sent, &mut stats);
    stats
}

#[test]
fn a_far_end_that_delays_by_samples_is_measured_to_the_sample() {
    for delay in [0, 1, 77, 159, 160, 1_000, 4_321] {
        let stats = echo(delay, |x| x);
        assert_eq!((stats.counters.markers_found, stats.counters.markers_lost), (10, 0), "{delay}");
        let expected_ms = 3.0 + delay as f64 / 8.0;
        assert!((stats.audio_latency.ms(0.0) - expected_ms).abs() < 0.001 * expected_ms + 0.001, "{delay}");
        assert!((stats.audio_latency.ms(100.0) - expected_ms).abs() < 0.001 * expected_ms + 0.001, "{delay}");
        assert_eq!(stats.counters.audio_different, 0, "{delay}");
        assert!(stats.counters.audio_exact > 400, "{delay}: {:?}", stats.counters);
    }
}

#[test]
fn transcoding_and_gain_leave_latency_and_correlation() {
    let stats = echo(240, |x| {
        let quieter = x / 3;
        Law::Pcma.decode(Law::Pcma.encode(quieter))
    });
    assert_eq!(stats.counters.markers_found, 10);
    assert!((stats.audio_latency.ms(50.0) - 33.0).abs() < 0.1);
    let good = stats.counters.audio_correlated + stats.counters.audio_exact + stats.counters.audio_silent;
    assert!(good > 450, "{:?}", stats.counters);
    assert!(stats.counters.audio_different < 15, "{:?}", stats.counters);
}

#[test]
fn audio_that_is_not_ours_is_called_different_or_unjudged_and_no_marker_is_found() {
    let (mut track, mut sent, mut stats) = (Track::new(), SentAudio::new(), Stats::new());
    let speech = speech::generated();
    for block in 0..500u64 {
        send(&mut track, &mut sent, &mut stats, block, &speech);
        let other = (0..BLOCK).map(|i| speech[(i + 31_000 + block as usize * BLOCK) % speech.len()]);
        track.handle_audio(block as i64 * 160, block * BLOCK_NS, other, &sent, &mut stats);
    }
    track.finish(520 * BLOCK_NS, &sent, &mut stats);
    assert_eq!(stats.counters.markers_found, 0);
    assert_eq!(stats.counters.markers_lost, 10);
    assert_eq!(stats.counters.audio_unjudged, 500);
}

#[test]
fn damaged_packets_between_good_ones_are_counted_exactly() {
    let (mut track, mut sent, mut stats) = (Track::new(), SentAudio::new(), Stats::new());
    let speech: Vec<i16> = speech::generated().into_iter().map(|x| x.saturating_add(300)).collect();
    for block in 0..500u64 {
        let audio = send(&mut track, &mut sent, &mut stats, block, &speech);
        let damaged = block % 25 == 0;
        let back: Vec<i16> =
            audio.iter().rev().zip(&audio).map(|(&r, &a)| if damaged { -r } else { a }).collect();
        track.handle_audio(block as i64 * 160, block * BLOCK_NS, back.into_iter(), &sent, &mut stats);
    }
    track.finish(500 * BLOCK_NS, &sent, &mut stats);
    assert_eq!(stats.counters.audio_different, 20);
    assert_eq!(stats.counters.audio_exact, 480);
}

#[test]
fn lost_and_late_packets_leave_holes_but_no_false_damage() {
    let (mut track, mut sent, mut stats) = (Track::new(), SentAudio::new(), Stats::new());
    let speech = speech::generated();
    let mut held = None;
    for block in 0..500u64 {
        let audio = send(&mut track, &mut sent, &mut stats, block, &speech);
        match block % 50 {
            10 if block == 60 => continue, // a lost marker
            20 => continue,                // lost speech
            // The packet of a marker swaps places with its follower.
            10 if block == 110 => held = Some((block, audio)),
            _ => {
                let now = block * BLOCK_NS;
                track.handle_audio(block as i64 * 160, now, audio.into_iter(), &sent, &mut stats);
                if let Some((block, audio)) = held.take() {
                    track.handle_audio(block as i64 * 160, now, audio.into_iter(), &sent, &mut stats);
                }
            }
        }
    }
    track.finish(500 * BLOCK_NS, &sent, &mut stats);
    assert_eq!((stats.counters.markers_found, stats.counters.markers_lost), (9, 1));
    assert_eq!(stats.counters.audio_different, 0);
    assert_eq!(stats.counters.audio_exact, 489);
    // The swapped marker came one packet time late, the others at once.
    assert!((stats.audio_latency.ms(100.0) - 20.0).abs() < 0.1);
    assert!(stats.audio_latency.ms(50.0) < 0.01);
}
