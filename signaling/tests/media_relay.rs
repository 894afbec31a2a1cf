//! Relays of the media facade, over a real engine and kernel sockets.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use engine::Engine;
use engine::ai::AiRuntime;
use engine::config::EngineConfig;
use engine::relay::{
    Conversion, RelayFormat, RelayFormats, RelayLeg, RelayParameters, RelayTaps, Rewriting, Side,
};
use engine::stream::{Direction, SourcePolicy};
use sidetone_signaling::media::{Media, MediaError, MediaRelay, RelayEvent};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(10);

fn media(config: EngineConfig) -> Media {
    let ai = AiRuntime::start(&[]).expect("AI threads");
    let (engine, events) = Engine::start_with(config, ai.doorbells()).expect("an engine");
    Media::start(engine, events, ai).expect("media")
}

fn loopback(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

fn parameters(parties: [Option<SocketAddr>; 2]) -> RelayParameters {
    let mut receive = RelayFormats::default();
    assert!(receive.push(RelayFormat { receive: 0, send: 0, conversion: Conversion::Untouched }));
    assert!(receive.push(RelayFormat { receive: 101, send: 101, conversion: Conversion::TelephoneEvent }));
    let leg = |remote_rtp| RelayLeg {
        remote_rtp,
        remote_rtcp: None,
        rtcp_mux: false,
        direction: Direction::SendRecv,
        receive,
        source_policy: SourcePolicy::Latch,
        rewriting: Rewriting::default(),
    };
    RelayParameters {
        legs: parties.map(leg),
        taps: RelayTaps { telephone_events: true, inband_dtmf: false },
        in_kernel: true,
        media_timeout: Duration::from_millis(300),
    }
}

/// A party that speaks and listens.
struct Party {
    socket: UdpSocket,
    at: SocketAddr,
    number: u16,
}

impl Party {
    fn new() -> Self {
        let socket = UdpSocket::bind((loopback(1), 0)).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        let at = socket.local_addr().expect("an address");
        Self { socket, at, number: 0 }
    }

    fn send(&mut self, to: SocketAddr, payload_type: u8, payload: &[u8]) {
        self.number += 1;
        let mut packet = vec![0x80, payload_type, 0, self.number as u8, 0, 0, 0, 0];
        packet.extend([0, 0, (self.at.port() >> 8) as u8, self.at.port() as u8]);
        packet.extend(payload);
        self.socket.send_to(&packet, to).expect("sent");
    }

    fn hear(&self) -> Option<Vec<u8>> {
        let mut packet = [0; 1500];
        let (len, _) = self.socket.recv_from(&mut packet).ok()?;
        Some(packet[..len].to_vec())
    }
}

async fn next(relay: &mut MediaRelay) -> RelayEvent {
    timeout(PATIENCE, relay.next_event()).await.expect("an event")
}

async fn becomes_empty(media: &Media) {
    let empty = async {
        while media.relays() > 0 || media.engine().relays().iter().sum::<usize>() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, empty).await.expect("no relay is left");
}

#[tokio::test]
async fn two_parties_hear_each_other_and_the_owner_hears_of_them() {
    let media = media(EngineConfig::default());
    let (mut a, mut b) = (Party::new(), Party::new());
    // As an offer comes: B is not known yet.
    let mut relay =
        media.add_relay([loopback(1), loopback(2)], parameters([Some(a.at), None])).await.expect("a relay");
    let [near_a, near_b] = relay.locals();
    assert_eq!((near_a.ip(), near_b.ip()), (loopback(1), loopback(2)));
    a.send(near_a, 0, &[1; 160]);
    assert_eq!(next(&mut relay).await, RelayEvent::Latched { side: Side::A, remote: a.at });
    relay.update(parameters([Some(a.at), Some(b.at)])).await.expect("updated");
    b.send(near_b, 0, &[2; 160]);
    assert_eq!(next(&mut relay).await, RelayEvent::Latched { side: Side::B, remote: b.at });
    assert_eq!(a.hear().map(|packet| packet[12]), Some(2));
    a.send(near_a, 0, &[3; 160]);
    assert_eq!(b.hear().map(|packet| packet[12]), Some(3));
    a.send(near_a, 101, &[9, 0x80, 3, 32]);
    assert_eq!(b.hear().map(|packet| packet.len()), Some(16));
    let key = next(&mut relay).await;
    assert!(
        matches!(key, RelayEvent::Dtmf { side: Side::A, digit, inband: false, .. } if digit.as_char() == '9'),
        "{key:?}"
    );
    let handle = relay.handle();
    let [on_a, on_b] = handle.statistics().await.expect("figures").sides;
    assert_eq!((on_a.received_packets, on_b.sent_packets, on_b.received_packets), (3, 2, 1));
    assert!(on_a.last_packet_age.is_some_and(|age| age < PATIENCE));
    assert_eq!(next(&mut relay).await, RelayEvent::Timeout);
    let last = relay.remove().await.expect("figures");
    assert_eq!(last.sides[0].received_packets, 3);
    assert_eq!(handle.statistics().await, Err(MediaError::Ended));
    assert_eq!(handle.update(parameters([None, None])).await, Err(MediaError::Ended));
    becomes_empty(&media).await;
    let counters = media.counters();
    assert_eq!((counters.relays_added.value(), counters.relays_removed.value()), (1, 1));
}

#[tokio::test]
async fn many_questions_at_once_have_an_answer_each() {
    let media = media(EngineConfig::default());
    let relay = media.add_relay([loopback(1); 2], parameters([None, None])).await.expect("a relay");
    let asking = (0..12).map(|_| {
        let handle = relay.handle();
        tokio::spawn(async move { handle.statistics().await })
    });
    for asked in asking.collect::<Vec<_>>() {
        asked.await.expect("no panic").expect("figures");
    }
}

#[tokio::test]
async fn a_dropped_relay_is_removed_and_an_abandoned_start_leaves_none() {
    let media = media(EngineConfig::default());
    for _ in 0..20 {
        let mut adding = Box::pin(media.add_relay([loopback(1); 2], parameters([None, None])));
        tokio::select! {
            biased;
            _ = &mut adding => {}
            () = std::future::ready(()) => {}
        }
    }
    let relay = media.add_relay([loopback(1); 2], parameters([None, None])).await.expect("a relay");
    drop(relay);
    becomes_empty(&media).await;
}

#[tokio::test]
async fn ports_of_others_are_skipped_and_a_full_engine_refuses() {
    let config = EngineConfig {
        media_ports: 41_300..=41_307,
        relays_per_worker: 2,
        media_cpus: vec![0],
        ..EngineConfig::default()
    };
    let media = media(config);
    let here = loopback(78);
    let taken = UdpSocket::bind((here, 41_302)).expect("a free port");
    let relay = media.add_relay([here; 2], parameters([None, None])).await.expect("two pairs are free");
    assert!(relay.locals().iter().all(|local| local.port() != 41_302));
    let error = media.add_relay([here; 2], parameters([None, None])).await.expect_err("one pair is free");
    assert_eq!(error, MediaError::Socket { address: here, error: std::io::ErrorKind::AddrInUse });
    drop(taken);
    let second = media.add_relay([here; 2], parameters([None, None])).await.expect("two pairs are free");
    assert_eq!(media.add_relay([here; 2], parameters([None, None])).await.err(), Some(MediaError::NoSlot));
    drop((relay, second));
    let elsewhere = IpAddr::from([192, 0, 2, 1]);
    becomes_empty(&media).await;
    let error = media.add_relay([here, elsewhere], parameters([None, None])).await.expect_err("not ours");
    assert_eq!(error, MediaError::Socket { address: elsewhere, error: std::io::ErrorKind::AddrNotAvailable });
}

#[tokio::test]
async fn shutdown_is_told_to_the_owners_of_relays() {
    let media = media(EngineConfig::default());
    let mut relay = media.add_relay([loopback(1); 2], parameters([None, None])).await.expect("a relay");
    media.shutdown().await;
    assert_eq!(next(&mut relay).await, RelayEvent::Lost);
    assert_eq!(
        media.add_relay([loopback(1); 2], parameters([None, None])).await.err(),
        Some(MediaError::Ended)
    );
}
