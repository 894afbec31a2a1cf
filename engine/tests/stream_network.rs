//! Bad networks: loss, jitter, reordering, drift, other frame lengths, jumps of the peer's timeline.

mod support;

use std::time::Duration;

use engine::codec::{Codec, Law};
use engine::rtp::Header;
use engine::stream::{App, Component};
use engine::time::Instant;
use support::{
    CALLER, Datagram, ENGINE, Link, Phone, World, address, echo_latencies, format, ms, parameters,
    percentile, talk,
};

fn world(link: Link, seed: u64) -> World {
    let mut world = World::new(link, seed);
    world.add(address(ENGINE), parameters(address(CALLER)), App::Echo, 0);
    world
}

fn concealed_percent(world: &World) -> f64 {
    let statistics = world.nodes[0].stream.statistics();
    statistics.concealed_frames as f64 * 100.0 / statistics.sent_packets as f64
}

#[test]
fn jitter_is_absorbed_with_little_more_delay_than_it_has() {
    // The link also shakes the way back, which the measured latency includes.
    for (jitter_ms, most_ms) in [(5, 14), (20, 45), (40, 90)] {
        let link = Link { delay_us: 5000, jitter_us: jitter_ms * 1000, ..Link::default() };
        let mut world = world(link, jitter_ms);
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        talk(&mut world, &mut phone, 1500);
        let latencies: Vec<i64> = echo_latencies(&world, &phone).iter().map(|us| us - 10_000).collect();
        let steady = &latencies[latencies.len() / 4..];
        let (median, p99) = (percentile(steady, 0.5), percentile(steady, 0.99));
        let most_us = most_ms as i64 * 1000 + jitter_ms as i64 * 1000;
        println!(
            "jitter {jitter_ms} ms: median {median} us, p99 {p99} us, concealed {:.2} %",
            concealed_percent(&world)
        );
        assert!(p99 < most_us, "{jitter_ms} ms: {p99}");
        assert!(concealed_percent(&world) < 1.0, "{jitter_ms} ms: {}", concealed_percent(&world));
    }
}

#[test]
fn loss_is_concealed_frame_by_frame_and_counted() {
    let link = Link { loss_percent: 5, ..Link::default() };
    let mut world = world(link, 3);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 3000);
    let statistics = world.nodes[0].stream.statistics();
    println!("{statistics:?}");
    assert!((100..=200).contains(&statistics.lost_packets), "{}", statistics.lost_packets);
    assert!((3.0..7.0).contains(&concealed_percent(&world)), "{}", concealed_percent(&world));
    // Loss alone is no reason to wait longer.
    assert!(percentile(&echo_latencies(&world, &phone), 0.95) < 5000);
    assert_eq!(statistics.late_packets, 0);
}

#[test]
fn repeated_and_reordered_packets_are_played_once_and_in_order() {
    let link = Link { jitter_us: 50_000, duplicate_percent: 20, ..Link::default() };
    let mut world = world(link, 11);
    let mut phone = Phone::new(CALLER, 65_000, u32::MAX - 80_000, 160);
    talk(&mut world, &mut phone, 1000);
    let statistics = world.nodes[0].stream.statistics();
    assert!(statistics.duplicate_packets > 100 && statistics.reordered_packets > 100);
    let sent: Vec<Vec<u8>> = world.rtp_from(phone.at).into_iter().map(|(.., payload)| payload).collect();
    let mut back: Vec<_> = world.rtp_from(address(ENGINE));
    back.sort_by_key(|(at, ..)| *at);
    let order: Vec<usize> =
        back.iter().filter_map(|(.., payload)| sent.iter().position(|sent| sent == payload)).collect();
    assert!(order.len() > 900, "{}", order.len());
    assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
}

/// 30 minutes with a sender whose clock is 200 ppm off: 360 ms in all, which must neither run dry nor pile up.
#[test]
fn drift_over_30_minutes_neither_runs_dry_nor_piles_up() {
    for ppm in [-200i64, 200] {
        let mut world = world(Link::default(), 5);
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        let period = 20_000_000 - 20 * ppm;
        let mut late = 0;
        for n in 0..90_000u64 {
            let datagram = phone.talk();
            world.send(datagram);
            let end = Instant::from_nanos(1_000_000_000 + (n + 1) * period as u64);
            run_coarsely(&mut world, end);
            if n % 1000 == 999 {
                let statistics = world.nodes[0].stream.statistics();
                late = late.max(statistics.jitter_buffer.as_micros());
                world.sent.clear();
                world.delivered.clear();
            }
        }
        let statistics = world.nodes[0].stream.statistics();
        println!(
            "{ppm} ppm: concealed {}, late {}, buffer at most {late} us",
            statistics.concealed_frames, statistics.late_packets
        );
        assert_eq!((statistics.lost_packets, statistics.late_packets), (0, 0), "{ppm}");
        assert!(statistics.concealed_frames <= 2, "{ppm}: {}", statistics.concealed_frames);
        assert!(late < 5000, "{ppm}: {late} us");
        // The echo keeps the sender's pace, so it has made as many frames, give or take one per drifted 20 ms.
        assert!(statistics.sent_packets.abs_diff(90_000) <= 2, "{ppm}: {}", statistics.sent_packets);
    }
}

/// Only at the stream's own deadlines: 30 minutes would take too long otherwise.
fn run_coarsely(world: &mut World, end: Instant) {
    while let Some(at) = world.nodes[0].stream.poll_timeout().filter(|&at| at < end) {
        let at = at.max(world.now);
        world.run_until(at.max(world.now + Duration::from_nanos(1)));
    }
    world.now = end.max(world.now);
    world.run_until(world.now + Duration::from_nanos(1));
}

#[test]
fn any_frame_length_of_the_peer_meets_any_of_ours() {
    for theirs_ms in [10usize, 20, 30, 40, 60] {
        for ours_ms in [10u64, 20, 30, 40, 60] {
            let mut world = World::new(Link::default(), 1);
            let mut own = parameters(address(CALLER));
            own.ptime = Duration::from_millis(ours_ms);
            world.add(address(ENGINE), own, App::Echo, 0);
            let mut phone = Phone::new(CALLER, 1, 1, theirs_ms * 8);
            world.run_for(33);
            talk(&mut world, &mut phone, 6000 / theirs_ms);
            let latencies = echo_latencies(&world, &phone);
            let (median, worst) = (percentile(&latencies, 0.5), percentile(&latencies, 0.99));
            let statistics = world.nodes[0].stream.statistics();
            println!(
                "{theirs_ms} -> {ours_ms}: median {median} us, p99 {worst} us, concealed {}",
                statistics.concealed_frames
            );
            // At worst a sample waits for the frame of ours that the next packet completes.
            let most = (theirs_ms as i64 + ours_ms as i64) * 1000 + 5000;
            assert!(worst < most, "{theirs_ms} -> {ours_ms}: {worst}");
            assert!(
                statistics.concealed_frames <= 3,
                "{theirs_ms} -> {ours_ms}: {}",
                statistics.concealed_frames
            );
            let back: Vec<u8> = world.rtp_to(phone.at).into_iter().flat_map(|(.., p)| p).collect();
            let sent: Vec<u8> = world.rtp_from(phone.at).into_iter().flat_map(|(.., p)| p).collect();
            let tail = &sent[sent.len() - 8000..sent.len() - 1600];
            assert!(back.windows(tail.len()).any(|w| w == tail), "{theirs_ms} -> {ours_ms} is gapless");
        }
    }
}

#[test]
fn peer_may_change_its_frame_length_on_the_fly() {
    let mut world = world(Link::default(), 1);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    for samples in [160, 240, 80, 480, 160] {
        phone.samples = samples;
        talk(&mut world, &mut phone, 16_000 / samples);
    }
    let statistics = world.nodes[0].stream.statistics();
    assert!(statistics.concealed_frames <= 8, "{}", statistics.concealed_frames);
    assert_eq!(statistics.late_packets, 0);
    let sent: Vec<u8> = world.rtp_from(phone.at).into_iter().flat_map(|(.., p)| p).collect();
    let back: Vec<u8> = world.rtp_to(phone.at).into_iter().flat_map(|(.., p)| p).collect();
    let tail = &sent[sent.len() - 8000..sent.len() - 1600];
    assert!(back.windows(tail.len()).any(|w| w == tail));
}

#[test]
fn codec_may_change_on_the_fly_and_a_law_is_heard_as_mu_law() {
    let mut world = world(Link::default(), 1);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 50);
    phone.header.payload_type = format(Codec::Pcma).payload_type;
    talk(&mut world, &mut phone, 50);
    let sent = world.rtp_from(phone.at);
    let back = world.rtp_to(phone.at);
    assert!(back.iter().all(|(_, header, _)| header.payload_type == 0));
    let mut expected = vec![0; 160];
    Law::A.transcode(Law::Mu, &sent[80].2, &mut expected);
    assert!(back.iter().any(|(.., payload)| *payload == expected));
    assert_eq!(world.nodes[0].stream.statistics().concealed_frames, 0);
}

#[test]
fn timestamp_jumps_are_survived_both_ways() {
    for jump in [0x8000_0000u32, 80_000, 1_000_000, 0u32.wrapping_sub(80_000), 0u32.wrapping_sub(4000), 4000]
    {
        let mut world = world(Link::default(), 1);
        let mut phone = Phone::new(CALLER, 1, 100_000, 160);
        talk(&mut world, &mut phone, 100);
        phone.header.timestamp = phone.header.timestamp.wrapping_add(jump);
        talk(&mut world, &mut phone, 100);
        let before = world.rtp_to(phone.at).len();
        talk(&mut world, &mut phone, 100);
        let sent = world.rtp_from(phone.at);
        let back = world.rtp_to(phone.at);
        let returned = back[before..].iter().filter(|(.., p)| sent.iter().any(|(.., s)| s == p)).count();
        assert!(returned >= 98, "jump {jump}: {returned}");
    }
}

#[test]
fn pause_of_the_sender_is_silence_and_not_loss() {
    let mut world = world(Link::default(), 1);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 50);
    // Comfort noise, then nothing for three seconds while the timestamps go on.
    phone.header.payload_type = 13;
    let noise = phone.say(&[50]);
    world.send(noise);
    let before = world.nodes[0].stream.statistics();
    world.run_for(3000);
    phone.header.payload_type = 0;
    phone.header.timestamp += 24_000;
    phone.header.marker = true;
    let after = world.nodes[0].stream.statistics();
    assert_eq!(after.concealed_frames, before.concealed_frames);
    assert!(after.sent_packets - before.sent_packets >= 149, "we do not pause");
    let pause: Vec<_> = world.rtp_to(phone.at).into_iter().rev().take(20).collect();
    assert!(pause.iter().all(|(.., payload)| payload.iter().any(|&byte| byte != 0xFF)), "noise is heard");
    world.sent.clear();
    world.delivered.clear();
    talk(&mut world, &mut phone, 50);
    assert!(percentile(&echo_latencies(&world, &phone), 0.9) < 8000);
    assert_eq!(world.nodes[0].stream.statistics().late_packets, 0);
}

#[test]
fn queue_that_fills_and_drains_is_caught_up_with() {
    let mut world = world(Link::default(), 1);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 200);
    // 150 ms of packets stuck in a queue, then all at once.
    let mut stuck: Vec<Datagram> = vec![];
    let start = world.now;
    for _ in 0..8 {
        stuck.push(phone.talk());
    }
    for datagram in stuck {
        world.sent.push((start, datagram.clone()));
        world.send_at(start + Duration::from_millis(150), datagram);
    }
    world.run_for(160);
    talk(&mut world, &mut phone, 1000);
    let latencies = echo_latencies(&world, &phone);
    let last = &latencies[latencies.len() - 1000..];
    assert!(percentile(last, 0.99) < 8000, "{}", percentile(last, 0.99));
    assert_eq!(world.nodes[0].stream.statistics().lost_packets, 0);
}

#[test]
fn worker_that_comes_late_sends_two_frames_and_moves_the_timeline() {
    let mut world = world(Link::default(), 1);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 50);
    let before = world.rtp_from(address(ENGINE));
    // Half a second in which nobody calls the stream.
    world.now += Duration::from_millis(500);
    let now = world.local(0);
    world.nodes[0].stream.handle_timeout(now);
    world.drain();
    let after = world.rtp_from(address(ENGINE));
    assert_eq!(after.len() - before.len(), 2);
    let next = world.nodes[0].stream.poll_timeout().expect("runs");
    assert!(next > now && next <= now + Duration::from_millis(20));
    world.run_for(20);
    let packets = world.rtp_from(address(ENGINE));
    let (last, moved) = (&packets[after.len() - 1], &packets[after.len()]);
    assert_eq!(moved.1.sequence_number.distance_from(last.1.sequence_number), 1);
    let elapsed = moved.1.timestamp.wrapping_sub(last.1.timestamp);
    assert!((160 * 22..=160 * 26).contains(&elapsed), "{elapsed}");
    assert!(moved.1.marker);
}

/// A busy sender: its packets leave up to 9 ms late now and then. The link is clean.
#[test]
fn late_packets_are_waited_for_and_nothing_moves() {
    let mut world = world(Link::default(), 5);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 50);
    for n in 0..2000u64 {
        let late = if world.random.percent(3) { world.random.next() % 9000 } else { 0 };
        let datagram = phone.talk();
        world.sent.push((world.now, datagram.clone()));
        world.send_at(world.now + Duration::from_micros(late), datagram);
        world.run_until(ms(2000) + Duration::from_millis(20 * (n + 1)));
    }
    let statistics = world.nodes[0].stream.statistics();
    assert_eq!((statistics.concealed_frames, statistics.late_packets), (0, 0));
    let (sent, echoed) = (world.rtp_from(phone.at), world.rtp_from(address(ENGINE)));
    let payloads = |packets: &[(Instant, Header, Vec<u8>)]| -> Vec<u8> {
        packets.iter().flat_map(|(.., payload)| payload.clone()).collect()
    };
    let (sent, spoken) = (payloads(&sent), payloads(&echoed));
    let first = spoken.windows(160).position(|window| *window == sent[..160]).expect("the first packet");
    let common = (sent.len() - 160).min(spoken.len() - first);
    assert!(sent[..common] == spoken[first..first + common], "one piece");
    for pair in echoed.windows(2) {
        assert_eq!(pair[1].1.timestamp.wrapping_sub(pair[0].1.timestamp), 160);
        let apart = pair[1].0 - pair[0].0;
        assert!((10..=31).contains(&apart.as_millis()), "{apart:?}");
    }
}

/// One pause of the sender is no reason to be slower for the next ten seconds.
#[test]
fn one_hiccup_of_the_sender_costs_no_lasting_delay() {
    let mut world = world(Link::default(), 5);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 200);
    for _ in 0..4 {
        let datagram = phone.talk();
        world.send_at(ms(1000) + Duration::from_millis(204 * 20), datagram);
    }
    world.run_for(80);
    talk(&mut world, &mut phone, 150);
    let buffered = world.nodes[0].stream.statistics().jitter_buffer;
    assert!(buffered < Duration::from_millis(25), "{buffered:?}");
    assert!(world.nodes[0].stream.statistics().concealed_frames <= 5);
}

#[test]
fn lost_packet_delays_no_frame_by_more_than_half_of_it() {
    let mut world = world(Link::default(), 5);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 100);
    phone.skip();
    world.run_for(20);
    talk(&mut world, &mut phone, 100);
    let echoed = world.rtp_from(address(ENGINE));
    let gaps: Vec<_> = echoed.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_millis()).collect();
    assert!(gaps.iter().all(|gap| (9..=31).contains(gap)), "{gaps:?}");
    assert_eq!(world.nodes[0].stream.statistics().concealed_frames, 1);
}

/// What came while the worker stood still is in time for the frames that are due, so it is no jitter.
#[test]
fn worker_that_stands_still_takes_its_own_lateness_for_nobodys_jitter() {
    let mut world = world(Link::default(), 1);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 100);
    for _ in 0..20 {
        world.now += Duration::from_millis(39);
        let now = world.local(0);
        for _ in 0..2 {
            let mut datagram = phone.talk();
            world.nodes[0].stream.handle_packet(now, Component::Rtp, datagram.from, &mut datagram.bytes);
        }
        world.nodes[0].stream.handle_timeout(now);
        world.drain();
        world.now += Duration::from_millis(1);
        talk(&mut world, &mut phone, 8);
    }
    let statistics = world.nodes[0].stream.statistics();
    assert_eq!((statistics.concealed_frames, statistics.late_packets), (0, 0));
    assert!(statistics.jitter_buffer < Duration::from_millis(45), "{:?}", statistics.jitter_buffer);
}

#[test]
fn worker_that_is_a_little_late_catches_up_two_by_two_and_loses_nothing() {
    let mut world = world(Link::default(), 1);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 100);
    world.now += Duration::from_millis(120);
    let now = world.local(0);
    for _ in 0..6 {
        let mut datagram = phone.talk();
        world.sent.push((world.now, datagram.clone()));
        world.nodes[0].stream.handle_packet(now, Component::Rtp, datagram.from, &mut datagram.bytes);
    }
    world.nodes[0].stream.handle_timeout(now);
    world.drain();
    talk(&mut world, &mut phone, 100);
    let echoed = world.rtp_from(address(ENGINE));
    for pair in echoed.windows(2) {
        assert_eq!(pair[1].1.timestamp.wrapping_sub(pair[0].1.timestamp), 160);
    }
    for three in echoed.windows(3) {
        assert!(three[2].0 - three[0].0 >= Duration::from_millis(9), "no burst");
    }
    assert_eq!(world.nodes[0].stream.statistics().concealed_frames, 0);
    let last = echoed.len() - 1;
    assert_eq!(echoed[last].0 - echoed[0].0, Duration::from_millis(20 * last as u64), "on time again");
}

#[test]
fn pace_is_the_monotonic_clock_when_nothing_arrives() {
    let mut world = world(Link::default(), 1);
    world.run_for(60_000);
    let packets = world.rtp_from(address(ENGINE));
    // Silence goes to an address that never answered for ten seconds only.
    assert_eq!(packets.len(), 500);
    assert_eq!(packets[499].0 - packets[0].0, Duration::from_millis(499 * 20));
}

/// A click is a step that the signal itself never makes.
#[test]
fn concealed_tone_has_no_clicks() {
    for (hertz, loss_percent, jitter_us) in [(120.0, 5, 0), (200.0, 10, 0), (200.0, 2, 30_000)] {
        let link = Link { loss_percent, jitter_us, ..Link::default() };
        let mut world = world(link, 21);
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        for n in 0..1000usize {
            let mut payload = [0; 160];
            let pcm: Vec<i16> = (n * 160..(n + 1) * 160)
                .map(|n| (8000.0 * (n as f64 * hertz * std::f64::consts::TAU / 8000.0).sin()) as i16)
                .collect();
            Law::Mu.encode(&pcm, &mut payload);
            let datagram = phone.say(&payload);
            phone.header.timestamp += 160;
            world.send(datagram);
            world.run_for(20);
        }
        let mut out = vec![];
        for (.., payload) in world.rtp_from(address(ENGINE)) {
            let mut pcm = [0; 160];
            Law::Mu.decode(&payload, &mut pcm);
            out.extend_from_slice(&pcm);
        }
        // The very first sample begins at once, as the tone does.
        let steps = out[2000..].windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs());
        let natural = 8000.0 * hertz * std::f64::consts::TAU / 8000.0;
        let largest = steps.max().expect("samples");
        println!("{hertz} Hz, {loss_percent} %: largest step {largest}, natural {natural:.0}");
        assert!(world.nodes[0].stream.statistics().concealed_frames > 10);
        assert!(f64::from(largest) < natural * 1.5 + 512.0, "{hertz} Hz: {largest}");
    }
}
