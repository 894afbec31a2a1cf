//! G.711, RTP, RTCP, the jitter buffer and the messages of Media Streams.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use engine::ai::dialect::{Decoded, Dialect, Incoming, Kind, Outbox, Outgoing, StreamStart};
use engine::codec::{Law, g711};
use engine::jitter::{Arrival, FrameClock, Inserted, JitterBuffer, Media, Pulled};
use engine::rtp::rtcp::{self, Compound, CompoundWriter, ReportBlock, SenderInfo};
use engine::rtp::{Header, Packet, Sequence, SequenceNumber, SequenceTracker};
use engine::time::Instant;

/// Samples, and bytes, in 20 ms.
pub(crate) const FRAME: usize = 160;

pub(crate) fn benches(criterion: &mut Criterion) {
    g711_160_samples(criterion);
    rtp_and_rtcp(criterion);
    jitter_buffer(criterion);
    media_streams(criterion);
}

/// 20 ms of code words, another one for every number. Made beforehand, so that making them is not measured.
pub(crate) fn frame(number: u64) -> [u8; FRAME] {
    static FRAMES: LazyLock<Vec<[u8; FRAME]>> = LazyLock::new(|| {
        let byte = |number: u64, i: usize| ((number * 31 + i as u64 * 7) % DIFFERENT) as u8;
        (0..DIFFERENT).map(|number| std::array::from_fn(|i| byte(number, i))).collect()
    });
    FRAMES[(number % DIFFERENT) as usize]
}

const DIFFERENT: u64 = 251;

/// An RTP packet with 20 ms of audio.
pub(crate) fn packet(number: u64, payload_type: u8, payload: &[u8; FRAME]) -> [u8; Header::BYTES + FRAME] {
    let header = Header {
        marker: false,
        payload_type,
        sequence_number: SequenceNumber(number as u16),
        timestamp: (number as u32).wrapping_mul(FRAME as u32),
        ssrc: 0x1234_5678,
    };
    let mut bytes = [0; Header::BYTES + FRAME];
    let room = header.write(&mut bytes).expect("room for the header");
    room[..FRAME].copy_from_slice(payload);
    bytes
}

fn g711_160_samples(criterion: &mut Criterion) {
    // The right values are those of the recommendation: +0, and the ends of the scale.
    assert_eq!((g711::ulaw_from_linear(0), g711::alaw_from_linear(0)), (0xff, 0xd5));
    assert_eq!((g711::linear_from_ulaw(0x80), g711::linear_from_ulaw(0x00)), (32_124, -32_124));
    assert_eq!((g711::linear_from_alaw(0xaa), g711::linear_from_alaw(0x2a)), (32_256, -32_256));
    let encoded = frame(1);
    let mut pcm = [0i16; FRAME];
    let mut bytes = [0u8; FRAME];
    Law::Mu.decode(&encoded, &mut pcm);
    Law::Mu.encode(&pcm, &mut bytes);
    let same = |a: u8, b: u8| g711::linear_from_ulaw(a) == g711::linear_from_ulaw(b);
    assert!(bytes.iter().zip(&encoded).all(|(&a, &b)| same(a, b)), "decode and encode is identity");

    let mut group = criterion.benchmark_group("g711, 160 samples");
    group.throughput(Throughput::Elements(FRAME as u64));
    for (name, law) in [("mu-law", Law::Mu), ("A-law", Law::A)] {
        group.bench_function(format!("decode {name}"), |bench| {
            bench.iter(|| law.decode(black_box(&encoded), black_box(&mut pcm)));
        });
        group.bench_function(format!("encode {name}"), |bench| {
            bench.iter(|| law.encode(black_box(&pcm), black_box(&mut bytes)));
        });
    }
    group.bench_function("mu-law to A-law", |bench| {
        bench.iter(|| g711::ulaw_to_alaw(black_box(&encoded), black_box(&mut bytes)));
    });
    group.bench_function("A-law to mu-law", |bench| {
        bench.iter(|| g711::alaw_to_ulaw(black_box(&encoded), black_box(&mut bytes)));
    });
    group.finish();
}

fn rtp_and_rtcp(criterion: &mut Criterion) {
    let payload = frame(7);
    let bytes = packet(7, 8, &payload);
    let parsed = Packet::parse(&bytes).expect("a good packet");
    assert_eq!(parsed.header().sequence_number, SequenceNumber(7));
    assert_eq!(parsed.payload(), payload);
    let mut group = criterion.benchmark_group("rtp");
    group.bench_function("parse and place one packet", |bench| {
        let mut tracker = SequenceTracker::believed(SequenceNumber(0));
        let (mut bytes, mut number) = (bytes, 0u16);
        bench.iter(|| {
            number = number.wrapping_add(1);
            bytes[2..4].copy_from_slice(&number.to_be_bytes());
            let parsed = Packet::parse(black_box(&bytes)).expect("a good packet");
            let placed = tracker.update(parsed.header().sequence_number);
            assert!(!matches!(placed, Sequence::Duplicate));
            (parsed.payload().len(), placed)
        });
    });
    let header = parsed.header();
    group.bench_function("write one header", |bench| {
        let mut buffer = [0; 1500];
        bench.iter(|| header.write(black_box(&mut buffer)).map(|room| room.len()));
    });
    group.finish();

    let info = SenderInfo { ntp: 0x1234_5678_9abc_def0, rtp_timestamp: 4000, packets: 25, octets: 4000 };
    let block = ReportBlock { ssrc: 5, extended_highest: 70_000, ..ReportBlock::default() };
    let mut buffer = [0; 256];
    let len = report(&mut buffer, &info, &block);
    let compound = buffer[..len].to_vec();
    assert_eq!(blocks_in(&compound), 1);
    let mut group = criterion.benchmark_group("rtcp");
    group.bench_function("write a sender report with CNAME", |bench| {
        bench.iter(|| report(black_box(&mut buffer), &info, &block));
    });
    group.bench_function("check and read it", |bench| bench.iter(|| blocks_in(black_box(&compound))));
    group.finish();
}

fn report(buffer: &mut [u8], info: &SenderInfo, block: &ReportBlock) -> usize {
    CompoundWriter::new(buffer)
        .sender_report(9, info, Some(block))
        .canonical_name(9, b"0123456789abcdef")
        .finish()
        .expect("room for the report")
}

fn blocks_in(compound: &[u8]) -> usize {
    let compound = Compound::parse(compound).expect("a good compound");
    compound
        .packets()
        .map(|packet| match packet {
            rtcp::Packet::SenderReport { blocks, .. } => blocks.iter().count(),
            _ => 0,
        })
        .sum()
}

fn jitter_buffer(criterion: &mut Criterion) {
    /// One 20 ms period: a packet in, a frame out.
    struct Period {
        buffer: JitterBuffer,
        number: u64,
        tick: Instant,
    }
    impl Period {
        fn next(&mut self) -> (Pulled, [u8; FRAME]) {
            self.number += 1;
            let at = Instant::from_millis(self.number * 20);
            let payload = frame(self.number);
            let arrival = Arrival {
                at,
                sequence: self.number,
                timestamp: (self.number as u32).wrapping_mul(FRAME as u32),
                media: Media::Audio(Law::Mu, &payload),
            };
            let clock = FrameClock { next: self.tick, samples: FRAME };
            if let Inserted::Align(moment) = self.buffer.insert(&arrival, clock) {
                self.tick = moment;
                self.buffer.align();
            }
            let mut out = [0; FRAME];
            let pulled = self.buffer.pull(self.tick, Law::Mu, &mut out);
            let slew = self.buffer.slew(self.tick, FRAME);
            let next = (self.tick + Duration::from_millis(20)).as_nanos();
            self.tick = Instant::from_nanos(next.saturating_add_signed(slew));
            (pulled, out)
        }
    }
    let mut period = Period { buffer: JitterBuffer::new(), number: 0, tick: Instant::from_millis(20) };
    for _ in 0..500 {
        let (pulled, out) = period.next();
        assert_eq!((pulled, out), (Pulled::Audio, frame(period.number)), "what came in comes out");
    }
    let mut group = criterion.benchmark_group("jitter buffer");
    group.bench_function("insert a packet and pull a frame", |bench| bench.iter(|| black_box(period.next())));
    group.finish();
    assert_eq!(period.next().1, frame(period.number), "still, after the measurement");
}

fn media_streams(criterion: &mut Criterion) {
    let start = StreamStart { stream_sid: format!("MZ{:032x}", 7), ..StreamStart::default() };
    let mut codec = Dialect::Twilio.codec(start);
    let (payload, mut out, mut decoded) = (frame(3), Outbox::default(), Decoded::default());
    codec.encode(Outgoing::Audio { timestamp: 160, audio: &payload }, &mut out);
    let message = out.messages().next().expect("a message").1.to_vec();
    let text = String::from_utf8_lossy(&message);
    assert!(text.contains(r#""event":"media""#) && text.contains(r#""timestamp":"20""#), "{text}");
    codec.decode(Kind::Text, &message, &mut decoded).expect("what we write can be read");
    assert_eq!(decoded.events, [Incoming::Audio { len: payload.len(), item: 0 }]);
    assert_eq!(decoded.audio, payload, "written and read again");
    let mut group = criterion.benchmark_group("media streams");
    group.bench_function("write media, 20 ms", |bench| {
        let mut timestamp = 0;
        bench.iter(|| {
            timestamp += FRAME as u64;
            out.clear();
            codec.encode(Outgoing::Audio { timestamp, audio: black_box(&payload) }, &mut out);
            out.is_empty()
        });
    });
    group.bench_function("read media, 20 ms", |bench| {
        bench.iter(|| {
            decoded.clear(16 * 1024);
            assert!(codec.decode(Kind::Text, black_box(&message), &mut decoded).is_ok());
            decoded.audio.len()
        });
    });
    group.finish();
}
