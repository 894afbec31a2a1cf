//! A whole stream: datagrams of any content, at any time, on both ports, do not panic it, and it never sends
//! more than its codec's rate.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use engine::stream::{
    App, Codec, Component, Direction, Format, Formats, SourcePolicy, Stream, StreamParameters,
    TelephoneEventFormat,
};
use engine::time::{Instant, WallClock};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let caller: SocketAddr = "192.0.2.1:4000".parse().expect("an address");
    let stranger: SocketAddr = "198.51.100.1:4000".parse().expect("an address");
    let start = Instant::from_millis(1000);
    let mut now = start;
    // Every other length of input is a peer whose keys are tones.
    let mut parameters = parameters(caller);
    if data.len() % 2 == 1 {
        parameters.telephone_event = None;
    }
    let mut stream = Stream::new(parameters);
    stream.start(now, WallClock { at: now, unix_nanos: 1_700_000_000_000_000_000 });
    let _ = stream.attach(now, App::Echo);
    let mut sent = 0;
    let mut rest = data;
    // Each datagram: one byte of flags and time, one of length.
    while let Some((&[control, length], tail)) = rest.split_first_chunk::<2>() {
        let (datagram, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        let until = Instant::from_nanos(now.as_nanos() + u64::from(control >> 3) * 4_000_000);
        while let Some(due) = stream.poll_timeout().filter(|due| *due <= until) {
            now = due.max(now);
            stream.handle_timeout(now);
            sent += drain(&mut stream);
        }
        now = until;
        let mut datagram = datagram.to_vec();
        let on = if control & 1 == 0 { Component::Rtp } else { Component::Rtcp };
        stream.handle_packet(now, on, if control & 6 == 6 { stranger } else { caller }, &mut datagram);
        sent += drain(&mut stream);
    }
    // 50 packets/s, some RTCP, and the slack of a tick that slews.
    let ticks = now.saturating_duration_since(start).as_millis() / 20;
    assert!(sent <= ticks * 5 / 4 + 10, "{sent} packets in {ticks} ticks");
});

fn drain(stream: &mut Stream) -> u128 {
    let mut buffer = [0; 1500];
    let mut sent = 0;
    while stream.poll_transmit(&mut buffer).is_some() {
        sent += 1;
    }
    while stream.poll_event().is_some() {}
    sent
}

fn parameters(caller: SocketAddr) -> StreamParameters {
    let format = |payload_type, codec| Format { payload_type, codec };
    let mut receive = Formats::default();
    receive.push(format(0, Codec::Pcmu));
    receive.push(format(8, Codec::Pcma));
    StreamParameters {
        remote_rtp: Some(caller),
        remote_rtcp: Some(SocketAddr::new(caller.ip(), caller.port() + 1)),
        rtcp_mux: false,
        direction: Direction::SendRecv,
        receive,
        send: format(0, Codec::Pcmu),
        ptime: Duration::from_millis(20),
        telephone_event: Some(TelephoneEventFormat { receive: 101, send: 101 }),
        comfort_noise: Some(13),
        source_policy: SourcePolicy::Latch,
        media_timeout: Duration::from_secs(60),
        hold_timeout: Duration::from_secs(3600),
    }
}
