//! Keys as tones in the audio: heard from peers without telephone-events, told once, and sent to them.

mod support;

use std::sync::Arc;
use std::time::Duration;

use engine::Doorbell;
use engine::ai::{AiCounters, AiPort, Backend, FromWorker, PortConfig};
use engine::codec::{Codec, Law};
use engine::command::Digit;
use engine::config::InbandDtmf;
use engine::dtmf::TelephoneEvent;
use engine::dtmf::inband::{DtmfGenerator, DtmfLevels, InbandDetector, InbandEvent};
use engine::player::Player;
use engine::stream::{App, StreamEvent, StreamParameters};
use support::{CALLER, ENGINE, Link, Phone, World, address, format, parameters};

const ALL: &str = "1234567890*#ABCD";

fn own() -> StreamParameters {
    StreamParameters { telephone_event: None, ..parameters(address(CALLER)) }
}

fn world(own: StreamParameters, app: App, inband: InbandDtmf) -> World {
    let mut world = World::new(Link::default(), 3);
    world.inband_dtmf = inband;
    world.add(address(ENGINE), own, app, 0);
    world
}

fn ai() -> (App, Backend) {
    let doorbell = Doorbell::new().expect("eventfd");
    let (port, backend) = AiPort::pair(&PortConfig::default(), doorbell, Arc::new(AiCounters::default()));
    (App::Ai(Box::new(port)), backend)
}

fn digit(key: char) -> Digit {
    Digit::from_char(key).expect("a key")
}

fn silence(ms: usize) -> Vec<i16> {
    vec![0; ms * 8]
}

fn tone(key: char, ms: usize) -> Vec<i16> {
    let mut pcm = silence(ms);
    DtmfGenerator::new(digit(key), DtmfLevels::default(), 8000, ms * 8, 0).fill(&mut pcm);
    pcm
}

/// Keys with a pause after each.
fn tones(keys: &str, tone_ms: usize, pause_ms: usize) -> Vec<i16> {
    keys.chars().flat_map(|key| [tone(key, tone_ms), silence(pause_ms)].concat()).collect()
}

/// The packets of some audio.
fn packets(phone: &mut Phone, law: Law, pcm: &[i16]) -> Vec<support::Datagram> {
    phone.header.payload_type = if law == Law::Mu { 0 } else { 8 };
    let mut packets = vec![];
    for pcm in pcm.chunks(phone.samples) {
        let mut payload = vec![law.silence(); phone.samples];
        law.encode(pcm, &mut payload);
        packets.push(phone.say(&payload));
        phone.header.timestamp = phone.header.timestamp.wrapping_add(phone.samples as u32);
    }
    packets
}

/// The phone says so, on the link.
fn say(world: &mut World, phone: &mut Phone, law: Law, pcm: &[i16]) {
    for packet in packets(phone, law, pcm) {
        world.send(packet);
        world.run_until(world.now + Duration::from_micros(phone.samples as u64 * 125));
    }
}

/// A key as telephone-events of 20 ms each.
fn press(world: &mut World, phone: &mut Phone, key: char, packets: u16) {
    let begin = phone.header.timestamp;
    phone.header.payload_type = 101;
    for n in 1..=packets + 2 {
        phone.header.marker = n == 1;
        let duration = n.min(packets) * 160;
        let event = TelephoneEvent { event: digit(key).event(), end: n >= packets, volume: 10, duration };
        let datagram = phone.say(&event.write());
        world.send(datagram);
        world.run_for(20);
    }
    phone.header.marker = false;
    phone.header.timestamp = begin.wrapping_add(u32::from(packets + 2) * 160);
}

/// Keys that were reported: which, how long in ms, whether as tones.
fn reported(world: &World, node: usize) -> Vec<(char, u128, bool)> {
    let keys = world.nodes[node].events.iter().filter_map(|(_, event)| match event {
        StreamEvent::Dtmf { digit, duration, inband } => {
            Some((digit.as_char(), duration.as_millis(), *inband))
        }
        _ => None,
    });
    keys.collect()
}

fn keys(world: &World, node: usize) -> String {
    reported(world, node).iter().map(|key| key.0).collect()
}

fn told(backend: &mut Backend) -> String {
    let mut keys = String::new();
    while let Some(item) = backend.poll() {
        if let FromWorker::Digit { digit, .. } = item {
            keys.push(digit.as_char());
        }
    }
    keys
}

/// All audio that the engine sent.
fn sent_audio(world: &World, law: Law) -> Vec<i16> {
    let mut pcm = vec![];
    for (_, header, payload) in world.rtp_from(address(ENGINE)) {
        assert_eq!(header.payload_type, if law == Law::Mu { 0 } else { 8 });
        let mut frame = vec![0; payload.len()];
        law.decode(&payload, &mut frame);
        pcm.extend(frame);
    }
    pcm
}

/// Keys in audio: which, where from, how long, in samples.
fn found(pcm: &[i16]) -> Vec<(char, u64, u64)> {
    let mut found = vec![];
    let mut detector = InbandDetector::new();
    let mut note = |event| {
        if let InbandEvent::End { digit, at, duration_samples } = event {
            found.push((digit.as_char(), at, duration_samples));
        }
    };
    detector.process(pcm, &mut note);
    detector.finish(&mut note);
    found
}

#[test]
fn tones_reach_app_and_owner_once_each_with_either_law() {
    for (law, samples) in [(Law::Mu, 160), (Law::A, 160), (Law::Mu, 80), (Law::A, 480)] {
        let (app, mut backend) = ai();
        let mut own = own();
        own.ptime = Duration::from_micros(samples as u64 * 125);
        own.send = format(if law == Law::Mu { Codec::Pcmu } else { Codec::Pcma });
        let mut world = world(own, app, InbandDtmf::Auto);
        let mut phone = Phone::new(CALLER, 1, 1, samples);
        let mut heard = String::new();
        for key in ALL.chars() {
            say(&mut world, &mut phone, law, &tones(&key.to_string(), 90, 150));
            heard += &told(&mut backend);
        }
        assert_eq!(keys(&world, 0), ALL, "{law:?} {samples}");
        assert_eq!(heard, ALL, "{law:?} {samples}");
        let reported = reported(&world, 0);
        assert!(reported.iter().all(|key| key.2 && key.1.abs_diff(90) <= 5), "{reported:?}");
        let statistics = world.nodes[0].stream.statistics();
        assert_eq!((statistics.digits_received, statistics.digits_inband), (16, 16));
        assert_eq!(statistics.digits_repeated, 0);
    }
}

#[test]
fn duration_is_that_of_the_tone() {
    let mut world = world(own(), App::Silence, InbandDtmf::Auto);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    let durations = [40, 47, 70, 133, 500, 2000];
    for ms in durations {
        say(&mut world, &mut phone, Law::Mu, &tones("7", ms, 60));
    }
    say(&mut world, &mut phone, Law::Mu, &silence(100));
    let reported: Vec<_> = reported(&world, 0).iter().map(|key| key.1).collect();
    assert_eq!(reported.len(), durations.len(), "{reported:?}");
    for (reported, ms) in reported.iter().zip(durations) {
        assert!(reported.abs_diff(ms as u128) <= 5, "{reported} for {ms}");
    }
}

#[test]
fn only_who_needs_it_is_listened_to_unless_configured_otherwise() {
    let with_events = parameters(address(CALLER));
    for (own, inband, expected) in [
        (with_events, InbandDtmf::Auto, ""),
        (with_events, InbandDtmf::Always, "15#"),
        (with_events, InbandDtmf::Off, ""),
        (own(), InbandDtmf::Auto, "15#"),
        (own(), InbandDtmf::Always, "15#"),
        (own(), InbandDtmf::Off, ""),
    ] {
        let mut world = world(own, App::Silence, inband);
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        say(&mut world, &mut phone, Law::Mu, &tones("15#", 80, 80));
        assert_eq!(keys(&world, 0), expected, "{inband:?}, {:?}", own.telephone_event);
    }
}

#[test]
fn key_that_is_down_when_the_peer_gets_telephone_events_is_told_once() {
    let mut world = world(own(), App::Silence, InbandDtmf::Auto);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    say(&mut world, &mut phone, Law::Mu, &tone('9', 200));
    let now = world.local(0);
    world.nodes[0].stream.update(now, parameters(address(CALLER)));
    say(&mut world, &mut phone, Law::Mu, &[tone('9', 200), silence(200)].concat());
    assert_eq!(keys(&world, 0), "9");
    let now = world.local(0);
    world.nodes[0].stream.update(now, own());
    say(&mut world, &mut phone, Law::Mu, &tones("4", 80, 80));
    assert_eq!(keys(&world, 0), "94");
}

#[test]
fn key_in_two_ways_is_told_once() {
    for app in [false, true] {
        let (port, mut backend) = ai();
        let app = if app { port } else { App::Echo };
        let mut world = world(parameters(address(CALLER)), app, InbandDtmf::Always);
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        // A gateway whose detector lets the beginning of each tone through.
        for _ in 0..3 {
            say(&mut world, &mut phone, Law::Mu, &[silence(100), tone('5', 60)].concat());
            press(&mut world, &mut phone, '5', 6);
        }
        // One that says afterwards what the key was.
        say(&mut world, &mut phone, Law::Mu, &tones("6", 100, 100));
        press(&mut world, &mut phone, '6', 5);
        // One that plays the tone on after the event.
        press(&mut world, &mut phone, '8', 5);
        say(&mut world, &mut phone, Law::Mu, &tones("8", 60, 100));
        // And the same keys again in one way only.
        say(&mut world, &mut phone, Law::Mu, &tones("86", 60, 100));
        press(&mut world, &mut phone, '5', 5);
        say(&mut world, &mut phone, Law::Mu, &silence(400));
        assert_eq!(keys(&world, 0), "55568865");
        let statistics = world.nodes[0].stream.statistics();
        assert_eq!((statistics.digits_received, statistics.digits_repeated), (8, 5));
        let told = told(&mut backend);
        assert!(told.is_empty() || told == "55568865", "{told}");
    }
}

#[test]
fn key_by_signalling_and_as_tones_is_told_once() {
    let (app, mut backend) = ai();
    let mut world = world(own(), app, InbandDtmf::Auto);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    let relay = |world: &mut World, key| {
        world.nodes[0].stream.relay_dtmf(digit(key), Duration::from_millis(160));
    };
    say(&mut world, &mut phone, Law::Mu, &tones("1", 100, 100));
    relay(&mut world, '1');
    // A key held for long, of which signalling told when it went down.
    relay(&mut world, '2');
    say(&mut world, &mut phone, Law::Mu, &tones("2", 1500, 100));
    relay(&mut world, '3');
    say(&mut world, &mut phone, Law::Mu, &tones("4", 100, 100));
    say(&mut world, &mut phone, Law::Mu, &silence(1500));
    say(&mut world, &mut phone, Law::Mu, &tones("3", 100, 100));
    assert_eq!(told(&mut backend), "12343");
    assert_eq!(world.nodes[0].stream.statistics().digits_repeated, 2);
}

#[test]
fn lost_packets_make_no_second_key() {
    // The tone is 200 ms, from packet 10 on; each packet around it is lost, with those after it.
    for lost in 1..=5 {
        for first in 6..24 {
            let mut world = world(own(), App::Echo, InbandDtmf::Auto);
            let mut phone = Phone::new(CALLER, 1, 1, 160);
            let audio = [silence(207), tone('3', 200), silence(300)].concat();
            for (n, packet) in packets(&mut phone, Law::Mu, &audio).into_iter().enumerate() {
                if !(first..first + lost).contains(&n) {
                    world.send(packet);
                }
                world.run_for(20);
            }
            let reported = reported(&world, 0);
            assert_eq!(reported.len(), 1, "{lost} lost from {first}: {reported:?}");
            assert!(
                reported[0].1.abs_diff(200) <= 20 + 20 * lost as u128,
                "{lost} from {first}: {reported:?}"
            );
        }
    }
}

#[test]
fn late_packets_make_no_second_key() {
    for stuck in [2, 4, 8] {
        for first in [8, 11, 14, 17, 20] {
            let mut world = world(own(), App::Echo, InbandDtmf::Auto);
            let mut phone = Phone::new(CALLER, 1, 1, 160);
            let audio = [silence(203), tone('3', 240), silence(80), tone('3', 70), silence(1500)].concat();
            for (n, packet) in packets(&mut phone, Law::A, &audio).into_iter().enumerate() {
                let until = if (first..first + stuck).contains(&n) { first + stuck - n } else { 0 };
                world.send_at(world.now + Duration::from_millis(20 * until as u64), packet);
                world.run_for(20);
            }
            assert_eq!(keys(&world, 0), "33", "{stuck} stuck from {first}: {:?}", reported(&world, 0));
        }
    }
}

#[test]
fn lossy_link_makes_no_second_key() {
    let mut heard = 0;
    for seed in 0..6 {
        let link = Link {
            delay_us: 20_000,
            jitter_us: 30_000,
            loss_percent: 3,
            duplicate_percent: 3,
            in_order: false,
        };
        let mut world = World::new(link, seed);
        world.add(address(ENGINE), own(), App::Echo, 0);
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        say(&mut world, &mut phone, Law::Mu, &silence(500));
        for key in ALL.chars() {
            say(&mut world, &mut phone, Law::Mu, &tones(&key.to_string(), 120, 120));
        }
        say(&mut world, &mut phone, Law::Mu, &silence(500));
        let keys = keys(&world, 0);
        heard += keys.len();
        let mut rest = ALL.chars();
        assert!(keys.chars().all(|key| rest.any(|sent| sent == key)), "{seed}: {keys}");
    }
    assert!(heard >= 94, "{heard} of 96");
}

#[test]
fn worker_that_comes_late_hears_the_keys_all_the_same() {
    let mut world = world(own(), App::Silence, InbandDtmf::Auto);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    say(&mut world, &mut phone, Law::Mu, &silence(200));
    let audio = [tone('2', 120), silence(80), tone('2', 120), silence(80)].concat();
    let mut now = world.local(0);
    for mut packet in packets(&mut phone, Law::Mu, &audio) {
        // The worker does nothing but read.
        let component = engine::stream::Component::Rtp;
        world.nodes[0].stream.handle_packet(now, component, packet.from, &mut packet.bytes);
        now += Duration::from_millis(20);
    }
    world.run_until(now);
    say(&mut world, &mut phone, Law::Mu, &silence(300));
    assert_eq!(keys(&world, 0), "22");
}

#[test]
fn speech_is_no_key() {
    for speech in ["english", "german"] {
        let path = format!("{}/tests/fixtures/speech/{speech}.ulaw", env!("CARGO_MANIFEST_DIR"));
        let speech = std::fs::read(path).expect("a recording");
        let mut world = world(own(), App::Silence, InbandDtmf::Auto);
        let mut phone = Phone::new(CALLER, 1, 1, 160);
        let mut pcm = vec![0; speech.len()];
        Law::Mu.decode(&speech, &mut pcm);
        say(&mut world, &mut phone, Law::A, &pcm);
        assert_eq!(keys(&world, 0), "");
    }
}

#[test]
fn keys_are_heard_while_the_bot_talks_and_do_not_stop_it() {
    let (app, mut backend) = ai();
    let mut world = world(own(), app, InbandDtmf::Auto);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    let speech: Vec<u8> = (0..16_000u32).map(|n| (n * n % 251) as u8).collect();
    assert_eq!(backend.queue_audio(&speech), 0, "nothing was dropped");
    let mut heard = String::new();
    for key in "147*".chars() {
        backend.top_up();
        say(&mut world, &mut phone, Law::Mu, &tones(&key.to_string(), 150, 350));
        heard += &told(&mut backend);
    }
    backend.top_up();
    world.run_for(1000);
    assert_eq!(heard, "147*");
    let sent: Vec<u8> = world.rtp_from(address(ENGINE)).into_iter().flat_map(|(.., p)| p).collect();
    assert!(sent.windows(speech.len()).any(|window| window == speech), "bot audio without a gap");
}

#[test]
fn digits_are_sent_as_tones_to_who_has_no_events_and_audio_waits() {
    for law in [Law::Mu, Law::A] {
        let mut own = own();
        own.send = format(if law == Law::Mu { Codec::Pcmu } else { Codec::Pcma });
        let samples: Arc<[i16]> = (0..8000).map(|n| (n % 1000) as i16 * 8).collect();
        let mut world =
            world(own, App::Player(Box::new(Player::new(Arc::clone(&samples), false))), InbandDtmf::Auto);
        world.run_for(300);
        for (key, ms) in ALL.chars().zip([100, 30, 500].into_iter().cycle()) {
            assert!(world.nodes[0].stream.send_dtmf(digit(key), Duration::from_millis(ms)));
        }
        world.run_for(6500);
        let sent = world.rtp_from(address(ENGINE));
        assert!(sent.windows(2).all(|p| p[1].1.timestamp.wrapping_sub(p[0].1.timestamp) == 160));
        let pcm = sent_audio(&world, law);
        let found = found(&pcm);
        assert_eq!(found.iter().map(|key| key.0).collect::<String>(), ALL);
        for (key, ms) in found.iter().zip([100u64, 70, 500].into_iter().cycle()) {
            assert!(key.2.abs_diff(ms * 8) <= 32, "{key:?} for {ms} ms");
        }
        for pair in found.windows(2) {
            let pause = pair[1].1 - (pair[0].1 + pair[0].2);
            assert!((400..=640).contains(&pause), "{pair:?}");
        }
        // The player's audio around it is whole: 16 keys, their pauses, and the rest of the last frame.
        let begin = (found[0].1 as usize + 80) / 160 * 160;
        let keys = (6 * 800 + 5 * 560 + 5 * 4000 + 16 * 560usize).next_multiple_of(160);
        let mut bytes: Vec<u8> = sent.iter().flat_map(|p| p.2.clone()).collect();
        bytes.drain(begin..begin + keys);
        let mut expected = vec![0; 8000];
        law.encode(&samples, &mut expected);
        assert!(bytes.starts_with(&expected), "{law:?}");
        let finished = |event: &(_, StreamEvent)| matches!(event.1, StreamEvent::PlayFinished(report) if report.complete && report.played_samples == 8000);
        assert!(world.nodes[0].events.iter().any(finished));
    }
}

#[test]
fn digits_wait_for_a_peer_that_is_on_hold_and_the_queue_is_bounded() {
    let mut held = own();
    held.direction = engine::stream::Direction::RecvOnly;
    let mut world = world(held, App::Silence, InbandDtmf::Auto);
    world.run_for(100);
    let taken =
        (0..100).filter(|_| world.nodes[0].stream.send_dtmf(digit('5'), Duration::from_millis(70))).count();
    assert_eq!(taken, 32);
    world.run_for(300);
    assert!(world.rtp_from(address(ENGINE)).is_empty());
    let now = world.local(0);
    world.nodes[0].stream.update(now, own());
    world.run_for(6000);
    assert_eq!(found(&sent_audio(&world, Law::Mu)).len(), 32);
}

#[test]
fn change_of_what_was_negotiated_ends_the_key_being_sent() {
    for tones_first in [true, false] {
        let (with, without) = (parameters(address(CALLER)), own());
        let (before, after) = if tones_first { (without, with) } else { (with, without) };
        let mut world = world(before, App::Silence, InbandDtmf::Auto);
        for key in "12".chars() {
            assert!(world.nodes[0].stream.send_dtmf(digit(key), Duration::from_millis(200)));
        }
        world.run_for(150);
        let now = world.local(0);
        world.nodes[0].stream.update(now, after);
        world.run_for(1000);
        let sent = world.rtp_from(address(ENGINE));
        let event = |p: &(_, engine::rtp::Header, Vec<u8>)| p.1.payload_type == 101;
        let first_half: Vec<bool> = sent.iter().map(event).take(7).collect();
        assert_eq!(first_half.contains(&true), !tones_first);
        let mut pcm = vec![];
        for (_, _, payload) in sent.iter().filter(|p| !event(p)) {
            let mut frame = [0; 160];
            Law::Mu.decode(payload, &mut frame);
            pcm.extend(frame);
        }
        let tones: String = found(&pcm).iter().map(|key| key.0).collect();
        let events: std::collections::BTreeSet<u8> =
            sent.iter().filter(|p| event(p)).map(|p| p.2[0]).collect();
        let expected = if tones_first { ("1", vec![2]) } else { ("2", vec![1]) };
        assert_eq!((&*tones, events.into_iter().collect::<Vec<_>>()), expected);
    }
}

#[test]
fn echo_returns_a_tone_once_and_a_key_by_signalling_as_a_tone() {
    let mut world = world(own(), App::Echo, InbandDtmf::Auto);
    let mut phone = Phone::new(CALLER, 1, 1, 160);
    say(&mut world, &mut phone, Law::Mu, &tones("5", 100, 500));
    assert_eq!(keys(&world, 0), "5");
    assert_eq!(found(&sent_audio(&world, Law::Mu)).len(), 1);
    world.nodes[0].stream.relay_dtmf(digit('#'), Duration::from_millis(100));
    say(&mut world, &mut phone, Law::Mu, &silence(500));
    let back: String = found(&sent_audio(&world, Law::Mu)).iter().map(|key| key.0).collect();
    assert_eq!(back, "5#");
    assert_eq!(keys(&world, 0), "5", "signalling's own are not reported back to it");
}

#[test]
fn own_tones_that_the_line_sends_back_are_no_keys() {
    let mut world = World::new(Link { delay_us: 40_000, ..Link::default() }, 5);
    world.add(address(ENGINE), own(), App::Silence, 0);
    // The far end is a line that echoes all.
    let far = StreamParameters { telephone_event: None, ..parameters(address(ENGINE)) };
    world.add(address(CALLER), far, App::Echo, 0);
    world.run_for(300);
    for key in "1129".chars() {
        assert!(world.nodes[0].stream.send_dtmf(digit(key), Duration::from_millis(100)));
    }
    world.run_for(2000);
    assert_eq!(keys(&world, 1), "1129", "the far end heard them");
    assert_eq!(keys(&world, 0), "");
    assert_eq!(world.nodes[0].stream.statistics().digits_repeated, 4);
}
