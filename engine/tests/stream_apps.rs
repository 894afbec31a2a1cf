//! What the caller hears and who hears the caller: player, AI, digits, hold, time-outs, RTCP.

mod support;

use std::sync::Arc;
use std::time::Duration;

use engine::Doorbell;
use engine::ai::{AiCounters, AiPort, Backend, FromWorker, PortConfig};
use engine::codec::{Codec, Law};
use engine::command::Digit;
use engine::config::InbandDtmf;
use engine::dtmf::TelephoneEvent;
use engine::player::Player;
use engine::rtp::rtcp::{Compound, Packet};
use engine::stream::{App, Component, Direction, Refusal, StreamEvent, StreamParameters};
use support::{CALLER, ENGINE, Link, Phone, World, address, format, parameters, rtcp_of, talk};

fn world(own: StreamParameters, app: App) -> World {
    let mut world = World::new(Link::default(), 1);
    world.add(address(ENGINE), own, app, 0);
    world
}

fn own() -> StreamParameters {
    parameters(address(CALLER))
}

fn ai() -> (App, Backend) {
    let doorbell = Doorbell::new().expect("eventfd");
    let (port, backend) = AiPort::pair(&PortConfig::default(), doorbell, Arc::new(AiCounters::default()));
    (App::Ai(Box::new(port)), backend)
}

/// Caller audio as the backend got it: timestamps and bytes.
fn caller_audio(backend: &mut Backend) -> Vec<(u64, Vec<u8>)> {
    let mut blocks = vec![];
    while let Some(item) = backend.poll() {
        if let FromWorker::Audio { timestamp, audio, .. } = item {
            blocks.push((timestamp, audio.to_vec()));
        }
    }
    blocks
}

#[test]
fn player_is_heard_whole_and_reports_its_end() {
    let samples: Arc<[i16]> = (0..4000).map(|n| (n * 7 % 3000) as i16).collect();
    let mut world = world(own(), App::Player(Box::new(Player::new(Arc::clone(&samples), false))));
    world.run_for(1000);
    let sent = world.rtp_from(address(ENGINE));
    let bytes: Vec<u8> = sent.iter().flat_map(|(.., payload)| payload.clone()).collect();
    let mut expected = vec![0; 4000];
    Law::Mu.encode(&samples, &mut expected);
    assert_eq!(bytes[..4000], expected[..]);
    assert!(bytes[4000..].iter().all(|&byte| byte == 0xFF));
    let [(_, StreamEvent::PlayFinished(report))] = world.nodes[0].events[..] else {
        panic!("{:?}", world.nodes[0].events)
    };
    assert!(report.complete);
    assert_eq!(report.played_samples, 4000);
    assert_eq!(report.rtp_timestamp, sent[0].1.timestamp.wrapping_add(4000));
}

#[test]
fn replaced_player_says_how_far_it_got() {
    let mut world = world(own(), App::Player(Box::new(Player::new(vec![100; 80_000].into(), true))));
    world.run_for(510);
    let now = world.local(0);
    let former = world.nodes[0].stream.attach(now, App::Silence);
    world.drain();
    assert!(matches!(former, App::Player(_)));
    let [(_, StreamEvent::PlayFinished(report))] = world.nodes[0].events[..] else { panic!("one event") };
    assert!(!report.complete);
    assert_eq!(report.played_samples, 25 * 160);
}

#[test]
fn ai_hears_blocks_of_20_ms_without_gap_whatever_arrives() {
    for ours_ms in [10u64, 20, 30, 60] {
        let (app, mut backend) = ai();
        let mut parameters = own();
        parameters.ptime = Duration::from_millis(ours_ms);
        let mut world = world(parameters, app);
        world.run_for(200);
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        phone.header.payload_type = 8;
        // The ring to the AI thread holds two seconds, so it is emptied now and then.
        let mut blocks = caller_audio(&mut backend);
        talk(&mut world, &mut phone, 80);
        blocks.extend(caller_audio(&mut backend));
        // Loss, then hold, then speech again.
        (0..10).for_each(|_| phone.skip());
        world.run_for(200);
        let now = world.local(0);
        world.nodes[0].stream.update(now, StreamParameters { direction: Direction::Inactive, ..parameters });
        world.run_for(500);
        let now = world.local(0);
        world.nodes[0].stream.update(now, parameters);
        talk(&mut world, &mut phone, 50);
        blocks.extend(caller_audio(&mut backend));
        assert!(blocks.iter().all(|(_, audio)| audio.len() == 160), "{ours_ms}");
        assert!(blocks.windows(2).all(|pair| pair[1].0 == pair[0].0 + 160), "{ours_ms}: without gap");
        assert_eq!(blocks[0].0, 0);
        let expected = 200 + 1600 + 200 + 500 + 1000;
        assert!((blocks.len() as u64 * 20).abs_diff(expected) <= 120, "{ours_ms}: {}", blocks.len());
        // The caller's A-law comes as mu-law.
        let audio: Vec<u8> = blocks.into_iter().flat_map(|(_, audio)| audio).collect();
        let sent = world.rtp_from(phone.at);
        let mut speech = vec![0; 160];
        Law::A.transcode(Law::Mu, &sent[50].2, &mut speech);
        assert!(audio.windows(160).any(|w| w == speech), "{ours_ms}");
    }
}

#[test]
fn ai_that_listens_late_counts_from_zero_and_hears_all_of_a_worker_that_stood_still() {
    let mut world = world(own(), App::Silence);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 100);
    let (app, mut backend) = ai();
    let now = world.local(0);
    world.nodes[0].stream.attach(now, app);
    let first_heard = world.rtp_from(phone.at).len();
    talk(&mut world, &mut phone, 50);
    // A quarter of a second in which packets come and nobody runs the stream.
    world.now += Duration::from_millis(240);
    let now = world.local(0);
    for _ in 0..12 {
        let mut datagram = phone.talk();
        world.sent.push((world.now, datagram.clone()));
        world.nodes[0].stream.handle_packet(now, Component::Rtp, datagram.from, &mut datagram.bytes);
    }
    world.nodes[0].stream.handle_timeout(now);
    world.drain();
    assert!(world.nodes[0].stream.take_ai_wakeup().is_some());
    talk(&mut world, &mut phone, 30);
    let blocks = caller_audio(&mut backend);
    assert_eq!(blocks[0].0, 0);
    assert!(blocks.windows(2).all(|pair| pair[1].0 == pair[0].0 + 160), "without gap");
    assert!(blocks.len().abs_diff(92) <= 2, "{}", blocks.len());
    let heard: Vec<u8> = blocks.into_iter().flat_map(|(_, audio)| audio).collect();
    let sent = world.rtp_from(phone.at);
    let said: Vec<u8> =
        sent[first_heard + 2..first_heard + 88].iter().flat_map(|(.., p)| p.clone()).collect();
    let start = heard.windows(160).position(|window| *window == said[..160]).expect("it is heard");
    assert!(heard[start..start + said.len()] == said[..], "all of it, in one piece");
}

#[test]
fn player_end_is_told_whatever_the_caller_has_pressed() {
    let mut world = world(own(), App::Player(Box::new(Player::new(vec![100; 4000].into(), false))));
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 2);
    // Nobody takes the events while the peer floods the stream with keys.
    for key in 0..100u32 {
        phone.header.payload_type = 101;
        phone.header.timestamp += 160;
        let event = TelephoneEvent { event: 5, end: true, volume: 10, duration: 400 + key as u16 };
        let mut datagram = phone.say(&event.write());
        let now = world.local(0);
        world.nodes[0].stream.handle_packet(now, Component::Rtp, datagram.from, &mut datagram.bytes);
    }
    for _ in 0..40 {
        world.now += Duration::from_millis(20);
        let now = world.local(0);
        world.nodes[0].stream.handle_timeout(now);
    }
    let stream = &mut world.nodes[0].stream;
    let events: Vec<_> = std::iter::from_fn(|| stream.poll_event()).collect();
    assert!(events.iter().any(|event| matches!(event, StreamEvent::PlayFinished(report) if report.complete)));
    assert!(events.len() <= 16);
}

#[test]
fn bot_audio_is_sent_untouched_as_mu_law_and_by_table_as_a_law() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let (app, mut backend) = ai();
        let mut parameters = own();
        parameters.send = format(codec);
        let mut world = world(parameters, app);
        let law = codec.law().expect("G.711");
        let speech: Vec<u8> = (0..16_000u32).map(|n| (n * n % 251) as u8).collect();
        assert_eq!(backend.queue_audio(&speech), 0, "nothing was dropped");
        for _ in 0..60 {
            backend.top_up();
            world.run_for(50);
        }
        let sent: Vec<u8> = world.rtp_from(address(ENGINE)).into_iter().flat_map(|(.., p)| p).collect();
        let mut expected = vec![0; speech.len()];
        Law::Mu.transcode(law, &speech, &mut expected);
        assert!(sent.windows(expected.len()).any(|w| w == expected), "{codec:?}");
        assert!(
            world.rtp_from(address(ENGINE)).iter().all(|p| p.1.payload_type == parameters.send.payload_type)
        );
    }
}

#[test]
fn wake_up_of_the_ai_thread_is_asked_for_once_per_push() {
    let (app, _backend) = ai();
    let mut world = world(own(), app);
    world.run_for(30);
    assert_eq!(world.nodes[0].stream.take_ai_wakeup(), Some(0));
    assert_eq!(world.nodes[0].stream.take_ai_wakeup(), None);
}

#[test]
fn digits_of_the_caller_are_reported_muted_and_handed_to_the_ai_in_order() {
    let (app, mut backend) = ai();
    let mut world = world(own(), app);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 50);
    let begin = phone.header.timestamp;
    phone.header.payload_type = 101;
    for n in 1..=8u16 {
        phone.header.marker = n == 1;
        let event = TelephoneEvent { event: 5, end: n > 5, volume: 10, duration: n.min(6) * 160 };
        let datagram = phone.say(&event.write());
        world.send(datagram);
        world.run_for(20);
    }
    phone.header.payload_type = 0;
    phone.header.timestamp = begin + 8 * 160;
    talk(&mut world, &mut phone, 50);
    let now = world.local(0);
    world.nodes[0].stream.relay_dtmf(Digit::from_char('#').expect("digit"), Duration::from_millis(70));
    world.nodes[0].stream.handle_timeout(now);

    let digits: Vec<_> =
        world.nodes[0].events.iter().filter(|(_, event)| matches!(event, StreamEvent::Dtmf { .. })).collect();
    let [(_, StreamEvent::Dtmf { digit, duration, inband: false })] = digits[..] else {
        panic!("{digits:?}")
    };
    assert_eq!((digit.as_char(), *duration), ('5', Duration::from_millis(120)));
    assert_eq!(world.nodes[0].stream.statistics().digits_received, 1);

    let (mut clock, mut seen) = (0, vec![]);
    while let Some(item) = backend.poll() {
        match item {
            FromWorker::Audio { timestamp, .. } => clock = timestamp,
            FromWorker::Digit { timestamp, digit, duration } => {
                assert!(timestamp >= clock);
                seen.push((digit.as_char(), duration.as_millis()));
            }
            _ => {}
        }
    }
    assert_eq!(seen, [('5', 120), ('#', 70)]);
    assert_eq!(world.nodes[0].stream.statistics().concealed_frames, 0, "a digit is not loss");
}

#[test]
fn digits_are_sent_instead_of_audio_with_one_timestamp_each() {
    let mut world = world(own(), App::Echo);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 20);
    for digit in "42#".chars() {
        assert!(
            world.nodes[0]
                .stream
                .send_dtmf(Digit::from_char(digit).expect("digit"), Duration::from_millis(100))
        );
    }
    talk(&mut world, &mut phone, 60);
    let sent = world.rtp_from(address(ENGINE));
    assert!(sent.windows(2).all(|p| p[1].1.sequence_number.distance_from(p[0].1.sequence_number) == 1));
    let events: Vec<_> = sent.iter().filter(|p| p.1.payload_type == 101).collect();
    assert_eq!(events.len(), 3 * 7);
    let mut keys = vec![];
    for key in events.chunks(7) {
        assert!(key.iter().all(|p| p.1.timestamp == key[0].1.timestamp));
        assert!(key[0].1.marker && key[1..].iter().all(|p| !p.1.marker));
        let parsed: Vec<_> = key.iter().map(|p| TelephoneEvent::parse(&p.2).expect("event")).collect();
        assert!(parsed[4..].iter().all(|event| event.end && event.duration == 800));
        keys.push(Digit::from_event(parsed[0].event).expect("digit").as_char());
    }
    assert_eq!(keys, ['4', '2', '#']);
    // Audio goes on at the right time.
    let audio: Vec<_> = sent.iter().filter(|p| p.1.payload_type == 0).collect();
    for pair in audio.windows(2) {
        let (ticks, elapsed) = (pair[1].1.timestamp.wrapping_sub(pair[0].1.timestamp), pair[1].0 - pair[0].0);
        assert!((u128::from(ticks) * 125).abs_diff(elapsed.as_micros()) < 20_000);
    }
}

#[test]
fn two_streams_echo_digits_over_a_lossy_link_exactly_once() {
    let link =
        Link { delay_us: 10_000, jitter_us: 10_000, loss_percent: 5, duplicate_percent: 5, in_order: false };
    let mut world = World::new(link, 4);
    let caller = world.add(address(CALLER), parameters(address(ENGINE)), App::Silence, 100);
    world.add(address(ENGINE), own(), App::Echo, -100);
    world.run_for(500);
    let text = "159*0#D";
    for digit in text.chars() {
        let digit = Digit::from_char(digit).expect("digit");
        assert!(world.nodes[caller].stream.send_dtmf(digit, Duration::from_millis(100)));
    }
    world.run_for(5000);
    for node in [1, caller] {
        let digits: String = world.nodes[node]
            .events
            .iter()
            .filter_map(|(_, event)| match event {
                StreamEvent::Dtmf { digit, .. } => Some(digit.as_char()),
                _ => None,
            })
            .collect();
        assert_eq!(digits, text, "node {node}");
    }
}

#[test]
fn full_digit_queue_and_a_peer_that_cannot_be_told_are_counted() {
    let mut parameters = own();
    let digit = Digit::from_char('1').expect("digit");
    let mut world = World::new(Link::default(), 1);
    world.inband_dtmf = InbandDtmf::Off;
    world.add(address(ENGINE), parameters, App::Silence, 0);
    let taken =
        (0..100).filter(|_| world.nodes[0].stream.send_dtmf(digit, Duration::from_millis(100))).count();
    assert_eq!(taken, 32);
    parameters.telephone_event = None;
    let now = world.local(0);
    world.nodes[0].stream.update(now, parameters);
    assert!(!world.nodes[0].stream.send_dtmf(digit, Duration::from_millis(100)));
    assert_eq!(world.nodes[0].stream.statistics().refusals.count(Refusal::QueueFull), 68 + 1);
    world.run_for(200);
    assert!(world.rtp_from(address(ENGINE)).iter().all(|p| p.2.iter().all(|&byte| byte == 0xFF)));
}

#[test]
fn hold_stops_what_it_says_and_resume_goes_on() {
    let cases = [(Direction::SendOnly, true), (Direction::RecvOnly, false), (Direction::Inactive, false)];
    for (direction, sends) in cases {
        let mut world = world(own(), App::Echo);
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        talk(&mut world, &mut phone, 50);
        let now = world.local(0);
        world.nodes[0].stream.update(now, StreamParameters { direction, ..own() });
        let before = world.rtp_from(address(ENGINE)).len();
        talk(&mut world, &mut phone, 50);
        let during = world.rtp_from(address(ENGINE)).len() - before;
        assert_eq!(during > 45, sends, "{direction:?}: {during}");
        assert_eq!(during == 0, !sends, "{direction:?}: {during}");
        let now = world.local(0);
        world.nodes[0].stream.update(now, own());
        let mark = world.rtp_from(address(ENGINE)).len();
        talk(&mut world, &mut phone, 50);
        let packets = world.rtp_from(address(ENGINE));
        assert_eq!(packets[mark].1.marker, !sends, "{direction:?}: a talk spurt begins");
        let sent = world.rtp_from(phone.at);
        let echoed = packets[mark..].iter().filter(|p| sent[100..].iter().any(|s| s.2 == p.2)).count();
        assert!(echoed >= 47, "{direction:?}: {echoed}");
        assert_eq!(world.nodes[0].stream.statistics().lost_packets, 0, "{direction:?}");
        // The timestamps went on with the time.
        let span = packets[mark].1.timestamp.wrapping_sub(packets[0].1.timestamp);
        let elapsed = (packets[mark].0 - packets[0].0).as_micros() / 125;
        assert!(u128::from(span).abs_diff(elapsed) < 200, "{direction:?}: {span} {elapsed}");
    }
}

#[test]
fn silence_of_the_peer_is_reported_once_until_it_speaks_again() {
    let mut parameters = own();
    (parameters.media_timeout, parameters.hold_timeout) = (Duration::from_secs(5), Duration::from_secs(30));
    let mut world = world(parameters, App::Silence);
    let timeouts = |world: &World| {
        world.nodes[0].events.iter().filter(|(_, event)| matches!(event, StreamEvent::MediaTimeout)).count()
    };
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 50);
    world.run_for(4900);
    assert_eq!(timeouts(&world), 0);
    world.run_for(10_000);
    assert_eq!(timeouts(&world), 1);
    talk(&mut world, &mut phone, 5);
    world.run_for(6000);
    assert_eq!(timeouts(&world), 2);
    // On hold the longer limit counts, from the hold on.
    let now = world.local(0);
    world.nodes[0].stream.update(now, StreamParameters { direction: Direction::SendOnly, ..parameters });
    world.run_for(29_000);
    assert_eq!(timeouts(&world), 2);
    world.run_for(2000);
    assert_eq!(timeouts(&world), 3);
}

#[test]
fn reports_tell_round_trip_loss_and_jitter_of_both_sides() {
    let link = Link { delay_us: 30_000, jitter_us: 8000, loss_percent: 3, ..Link::default() };
    let mut world = World::new(link, 9);
    world.add(address(CALLER), parameters(address(ENGINE)), App::Silence, 0);
    world.add(address(ENGINE), own(), App::Echo, 0);
    world.run_for(60_000);
    for node in &world.nodes {
        let statistics = node.stream.statistics();
        let round_trip = statistics.round_trip.expect("measured");
        assert!(
            round_trip > Duration::from_millis(59) && round_trip < Duration::from_millis(77),
            "{round_trip:?}"
        );
        assert!((30..150).contains(&statistics.remote_lost_packets), "{}", statistics.remote_lost_packets);
        let jitter = statistics.remote_jitter;
        assert!(jitter > Duration::from_millis(1) && jitter < Duration::from_millis(6), "{jitter:?}");
    }
    let reports: Vec<_> = world.sent.iter().filter(|(_, d)| d.from == rtcp_of(address(ENGINE))).collect();
    assert!((8..=30).contains(&reports.len()), "{}", reports.len());
    let first = reports[0].0.as_nanos() / 1_000_000 - 1000;
    assert!((2200..2800).contains(&first), "{first}");
    assert!(reports.iter().all(|(_, d)| {
        let packets: Vec<_> = Compound::parse(&d.bytes).expect("valid").packets().collect();
        matches!(packets[..], [Packet::SenderReport { .. }, Packet::SourceDescription])
    }));
}

#[test]
fn close_says_bye_and_the_peer_hears_it() {
    for mux in [false, true] {
        let mut world = World::new(Link::default(), 9);
        let with_mux = |remote: &str| {
            let mut parameters = parameters(address(remote));
            parameters.rtcp_mux = mux;
            if mux {
                parameters.remote_rtcp = parameters.remote_rtp;
            }
            parameters
        };
        world.add(address(CALLER), with_mux(ENGINE), App::Silence, 0);
        world.add(address(ENGINE), with_mux(CALLER), App::Echo, 0);
        world.run_for(1000);
        let now = world.local(0);
        world.nodes[0].stream.close(now);
        world.run_for(50);
        let byes = world.nodes[1].events.iter().filter(|(_, event)| matches!(event, StreamEvent::RemoteBye));
        assert_eq!(byes.count(), 1, "mux {mux}");
        let after = world.rtp_from(address(CALLER)).len();
        world.run_for(1000);
        assert_eq!(world.rtp_from(address(CALLER)).len(), after);
        assert_eq!(world.nodes[0].stream.poll_timeout(), None);
    }
}

#[test]
fn bye_of_a_stranger_or_for_another_source_is_ignored() {
    let mut world = world(own(), App::Echo);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    talk(&mut world, &mut phone, 20);
    let bye = |ssrc: u32| [&[0x81, 203, 0, 1][..], &ssrc.to_be_bytes()].concat();
    let cases = [
        ("203.0.113.5:4001", bye(phone.header.ssrc), 0),
        ("192.0.2.1:4001", bye(1234), 0),
        ("192.0.2.1:4001", bye(phone.header.ssrc), 1),
    ];
    for (from, bytes, expected) in cases {
        world.send(support::Datagram { from: address(from), to: rtcp_of(address(ENGINE)), bytes });
        world.run_for(20);
        let byes = world.nodes[0].events.iter().filter(|(_, event)| matches!(event, StreamEvent::RemoteBye));
        assert_eq!(byes.count(), expected, "{from}");
    }
}

#[test]
fn stream_that_never_sent_says_no_bye() {
    let mut parameters = own();
    parameters.direction = Direction::RecvOnly;
    let mut world = world(parameters, App::Silence);
    world.run_for(500);
    let now = world.local(0);
    world.nodes[0].stream.close(now);
    world.run_for(100);
    assert!(world.sent.is_empty());
}
