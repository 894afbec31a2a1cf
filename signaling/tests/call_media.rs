//! The media facade over a real engine.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use engine::Engine;
use engine::ai::AiRuntime;
use engine::config::EngineConfig;
use engine::stream::StreamParameters;
use sidetone_signaling::media::{Media, MediaError, MediaEvent};
use sidetone_signaling::sdp::offer_answer::{LocalMedia, offer};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(10);

fn media(config: EngineConfig) -> Media {
    let ai = AiRuntime::start(&[]).expect("AI threads");
    let (engine, events) = Engine::start_with(config, ai.doorbells()).expect("an engine");
    Media::start(engine, events, ai).expect("media")
}

/// A stream that knows nobody yet.
fn parameters() -> StreamParameters {
    offer(&LocalMedia::default(), None).stream
}

fn loopback(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

async fn becomes_empty(media: &Media) {
    let empty = async {
        while media.streams() > 0 || media.engine().streams().iter().sum::<usize>() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, empty).await.expect("no stream is left");
}

#[tokio::test]
async fn ports_of_others_are_skipped() {
    let media = media(EngineConfig { media_ports: 41_200..=41_207, ..EngineConfig::default() });
    let here = loopback(77);
    let mut others: Vec<_> =
        (41_200..41_208).step_by(2).map(|port| UdpSocket::bind((here, port)).expect("a free port")).collect();
    let error = media.add_stream(here, parameters()).await.expect_err("every port is taken");
    assert_eq!(error, MediaError::Socket { address: here, error: std::io::ErrorKind::AddrInUse });
    assert_eq!(media.counters().streams_failed.value(), 1);

    let freed = others.pop().expect("a socket").local_addr().expect("an address").port();
    let stream = media.add_stream(here, parameters()).await.expect("one port is free");
    assert_eq!(stream.local().port(), freed);
    assert!(media.counters().ports_in_use.value() >= 4);
    drop(stream);
    becomes_empty(&media).await;
}

#[tokio::test]
async fn address_of_another_host_is_refused_at_once() {
    let media = media(EngineConfig::default());
    let error = media.add_stream(IpAddr::from([192, 0, 2, 1]), parameters()).await.expect_err("not ours");
    assert!(
        matches!(error, MediaError::Socket { error: std::io::ErrorKind::AddrNotAvailable, .. }),
        "{error}"
    );
    assert_eq!(media.counters().ports_in_use.value(), 0);
    becomes_empty(&media).await;
}

#[tokio::test]
async fn dropped_stream_is_removed() {
    let media = media(EngineConfig::default());
    let stream = media.add_stream(loopback(1), parameters()).await.expect("a stream");
    let handle = stream.handle();
    assert!(handle.statistics().await.is_ok());
    drop(stream);
    becomes_empty(&media).await;
    assert_eq!(handle.statistics().await, Err(MediaError::Ended));
    assert_eq!(media.counters().streams_removed.value(), 1);
}

#[tokio::test]
async fn abandoned_start_leaves_no_stream() {
    let media = media(EngineConfig::default());
    for _ in 0..20 {
        // Polled once, so that the command is on its way, and dropped.
        let mut adding = Box::pin(media.add_stream(loopback(1), parameters()));
        tokio::select! {
            biased;
            _ = &mut adding => {}
            () = std::future::ready(()) => {}
        }
    }
    becomes_empty(&media).await;
}

#[tokio::test]
async fn removed_stream_tells_its_last_figures() {
    let media = media(EngineConfig::default());
    let stream = media.add_stream(loopback(1), parameters()).await.expect("a stream");
    let figures = stream.remove().await.expect("figures");
    assert_eq!((figures.received_packets, figures.sent_packets), (0, 0));
    becomes_empty(&media).await;
}

#[tokio::test]
async fn full_engine_refuses_streams_until_one_ends() {
    let media = media(EngineConfig { streams_per_worker: 1, media_cpus: vec![0], ..EngineConfig::default() });
    let first = media.add_stream(loopback(1), parameters()).await.expect("a stream");
    assert_eq!(media.add_stream(loopback(1), parameters()).await.err(), Some(MediaError::NoSlot));
    first.remove().await.expect("figures");
    assert!(media.add_stream(loopback(1), parameters()).await.is_ok());
}

#[tokio::test]
async fn tiny_command_ring_only_delays() {
    let media = media(EngineConfig { command_ring: 2, media_cpus: vec![0], ..EngineConfig::default() });
    let adding = (0..64).map(|_| {
        let media = media.clone();
        tokio::spawn(async move {
            let stream = media.add_stream(loopback(1), parameters()).await.expect("a stream");
            stream.statistics().await.expect("figures");
        })
    });
    for added in adding.collect::<Vec<_>>() {
        added.await.expect("added and asked");
    }
    becomes_empty(&media).await;
}

#[tokio::test]
async fn shutdown_is_told_to_the_owners_of_streams() {
    let media = media(EngineConfig::default());
    let mut stream = media.add_stream(loopback(1), parameters()).await.expect("a stream");
    media.shutdown().await;
    let event = timeout(PATIENCE, stream.next_event()).await.expect("an event");
    assert_eq!(event, MediaEvent::Lost);
    assert_eq!(media.add_stream(loopback(1), parameters()).await.err(), Some(MediaError::Ended));
}
