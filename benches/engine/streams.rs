//! One 20 ms period of a whole stream: a packet in, a frame to the app, a frame from the app, a packet out. RTCP is in
//! it as it falls due.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use engine::ai::{AiCounters, AiPort, AudioBlock, Backend, FromWorker, PortConfig};
use engine::codec::{Codec, Law};
use engine::config::InbandDtmf;
use engine::rtp::Packet;
use engine::stream::{
    App, Component, Direction, Format, Formats, SourcePolicy, Stream, StreamOptions, StreamParameters,
    TelephoneEventFormat,
};
use engine::time::{Instant, WallClock};
use xdp::Doorbell;

use super::packets::{FRAME, frame, packet};

/// A stream and the peer that talks to it.
struct Talk {
    stream: Box<Stream>,
    codec: Codec,
    remote: SocketAddr,
    number: u64,
    out: [u8; xdp::MAX_DATAGRAM_BYTES],
    /// What was sent last.
    audio: [u8; FRAME],
    sent: u64,
}

impl Talk {
    fn new(codec: Codec, app: App, inband_dtmf: InbandDtmf) -> Self {
        let remote = SocketAddr::from(([192, 0, 2, 1], 4000));
        let mut stream = Stream::with_options(
            parameters(codec, remote),
            StreamOptions { seed: Some(7), inband_dtmf, ..StreamOptions::default() },
        );
        stream.start(Instant::ZERO, WallClock::default());
        stream.attach(Instant::ZERO, app);
        let (number, sent) = (0, 0);
        Self { stream, codec, remote, number, out: [0; xdp::MAX_DATAGRAM_BYTES], audio: [0; FRAME], sent }
    }

    fn period(&mut self) {
        self.number += 1;
        let now = Instant::from_millis(self.number * 20);
        let payload_type = self.codec.static_payload_type().expect("a static one");
        let mut bytes = packet(self.number, payload_type, &frame(self.number));
        self.stream.handle_packet(now, Component::Rtp, self.remote, &mut bytes);
        self.drain();
        let end = now + Duration::from_millis(20);
        while let Some(deadline) = self.stream.poll_timeout().filter(|&deadline| deadline < end) {
            self.stream.handle_timeout(deadline);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.stream.poll_transmit(&mut self.out) {
            if transmit.component == Component::Rtp {
                let packet = Packet::parse(&self.out[..transmit.len]).expect("a good packet");
                self.audio.copy_from_slice(packet.payload());
                self.sent += 1;
            }
        }
        while let Some(event) = self.stream.poll_event() {
            black_box(event);
        }
    }
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream, one period of 20 ms");
    for (name, codec, inband_dtmf) in [
        ("echo, mu-law", Codec::Pcmu, InbandDtmf::Auto),
        ("echo, A-law", Codec::Pcma, InbandDtmf::Auto),
        ("echo, mu-law, listening for tones", Codec::Pcmu, InbandDtmf::Always),
    ] {
        let mut talk = Talk::new(codec, App::Echo, inband_dtmf);
        (0..500).for_each(|_| talk.period());
        assert_eq!(talk.audio, frame(talk.number), "the echo is what was said");
        group.bench_function(name, |bench| bench.iter(|| talk.period()));
        assert!(talk.sent >= talk.number - 1, "a packet out for every packet in");
    }
    for (name, codec) in [("AI both ways, mu-law", Codec::Pcmu), ("AI both ways, A-law", Codec::Pcma)] {
        let (mut talk, mut backend) = ai_talk(codec);
        let law = codec.law().expect("G.711");
        for _ in 0..500 {
            let heard = ai_period(&mut talk, &mut backend);
            if talk.number > 100 {
                let mut expected = frame(talk.number);
                law.transcode_in_place(Law::Mu, &mut expected);
                assert_eq!(heard.as_deref(), Some(&expected[..]), "the backend hears what was said");
                let mut said = frame(1);
                Law::Mu.transcode_in_place(law, &mut said);
                assert_eq!(talk.audio, said, "the caller hears the bot");
            }
        }
        group.bench_function(name, |bench| bench.iter(|| ai_period(&mut talk, &mut backend).is_some()));
    }
    group.finish();
}

fn ai_talk(codec: Codec) -> (Talk, Backend) {
    let doorbell = Doorbell::new().expect("a descriptor");
    let (port, mut backend) = AiPort::pair(&PortConfig::default(), doorbell, Arc::<AiCounters>::default());
    // Half a second ahead, as a backend that sends faster than real time.
    (0..25).for_each(|_| assert_eq!(backend.queue_audio(&frame(1)), 0));
    backend.top_up();
    (Talk::new(codec, App::Ai(Box::new(port)), InbandDtmf::Auto), backend)
}

/// A period with both ends of the rings: what the caller said, if anything, and 20 ms from the bot.
fn ai_period(talk: &mut Talk, backend: &mut Backend) -> Option<AudioBlock> {
    talk.period();
    assert_eq!(backend.queue_audio(&frame(1)), 0, "there is room");
    backend.top_up();
    let mut heard = None;
    while let Some(report) = backend.poll() {
        if let FromWorker::Audio { audio, .. } = report {
            heard = Some(audio);
        }
    }
    heard
}

pub(crate) fn parameters(codec: Codec, remote: SocketAddr) -> StreamParameters {
    let format = Format { payload_type: codec.static_payload_type().expect("a static one"), codec };
    let mut receive = Formats::default();
    assert!(receive.push(format));
    StreamParameters {
        remote_rtp: Some(remote),
        remote_rtcp: Some(SocketAddr::new(remote.ip(), remote.port() + 1)),
        rtcp_mux: false,
        direction: Direction::SendRecv,
        receive,
        send: format,
        ptime: Duration::from_millis(20),
        telephone_event: Some(TelephoneEventFormat { receive: 101, send: 101 }),
        comfort_noise: None,
        source_policy: SourcePolicy::Latch,
        media_timeout: Duration::ZERO,
        hold_timeout: Duration::ZERO,
    }
}
