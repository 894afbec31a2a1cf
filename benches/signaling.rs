//! What it costs to read an offer, to answer it, and to read a SIP message.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use engine::codec::Codec;
use signaling::sdp::SessionDescription;
use signaling::sdp::offer_answer::{LocalMedia, LocalSession, answer};

const OFFER: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 8 0 18 13 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:18 G729/8000\r\n\
    a=fmtp:18 annexb=no\r\na=rtpmap:13 CN/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
    a=ptime:20\r\na=maxptime:150\r\na=sendrecv\r\na=rtcp:49171 IN IP4 192.0.2.1\r\n\
    m=video 51372 RTP/AVP 99\r\na=rtpmap:99 h263-1998/90000\r\n";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700))
        .sample_size(40)
        .without_plots()
        .configure_from_args();
    offer_and_answer(&mut criterion);
    invite(&mut criterion);
    criterion.final_summary();
}

fn offer_and_answer(criterion: &mut Criterion) {
    let local = LocalMedia::default();
    let offer = SessionDescription::parse(OFFER).expect("a good offer");
    let agreed = answer(&offer, &local).expect("something fits");
    assert_eq!(
        (agreed.stream.send.codec, agreed.stream.remote_rtp.map(|a| a.port())),
        (Codec::Pcma, Some(49170))
    );
    let text = whole(&local);
    assert!(text.contains("m=audio 20000 RTP/AVP 8") && text.contains("m=video 0 "), "{text}");
    let mut group = criterion.benchmark_group("sdp");
    group.bench_function("read an offer", |bench| {
        bench.iter(|| SessionDescription::parse(black_box(OFFER)).expect("a good offer"));
    });
    group.bench_function("answer it", |bench| bench.iter(|| answer(black_box(&offer), &local)));
    group.bench_function("read, answer, write", |bench| bench.iter(|| whole(black_box(&local)).len()));
    group.finish();
}

/// From the text of the offer to that of the answer.
fn whole(local: &LocalMedia) -> String {
    let offer = SessionDescription::parse(OFFER).expect("a good offer");
    let agreed = answer(&offer, local).expect("something fits");
    LocalSession::new(1).describe_answer(&agreed, ([192, 0, 2, 9], 20_000).into()).to_string()
}

fn invite(criterion: &mut Criterion) {
    let message = format!(
        "INVITE sip:agent@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds;rport\r\n\
         Max-Forwards: 70\r\nTo: Agent <sip:agent@192.0.2.9>\r\nFrom: \"Alice\" <sip:alice@192.0.2.1>;tag=1928301774\r\n\
         Call-ID: a84b4c76e66710@192.0.2.1\r\nCSeq: 314159 INVITE\r\nContact: <sip:alice@192.0.2.1:5060>\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK\r\nSupported: timer, 100rel\r\n\
         Session-Expires: 1800\r\nUser-Agent: bench\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{OFFER}",
        OFFER.len()
    );
    // It panics unless what is written is read again as the same.
    signaling::sip::fuzz_message(message.as_bytes());
    let mut group = criterion.benchmark_group("sip");
    group.bench_function("an INVITE: read, written, read again, checked, dialog, BYE, 200", |bench| {
        bench.iter(|| signaling::sip::fuzz_message(black_box(message.as_bytes())));
    });
    group.finish();
}
