//! Offers as phones, PBXs and proxies send them, and what we answer.

use std::net::SocketAddr;
use std::time::Duration;

use engine::stream::{Codec, Direction, StreamParameters};
use sidetone_signaling::sdp::SessionDescription;
use sidetone_signaling::sdp::offer_answer::{
    Answer, Families, LocalMedia, LocalSession, Refusal, answer, offer,
};

const LOCAL: &str = "198.51.100.1:20000";

fn parse(text: &str) -> SessionDescription {
    SessionDescription::parse(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

fn session(media: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n{media}")
}

fn answered(text: &str) -> Result<Answer, Refusal> {
    answer(&parse(text), &LocalMedia::default())
}

fn accepted(text: &str) -> (StreamParameters, String) {
    let answer = answered(text).unwrap_or_else(|refusal| panic!("{refusal} for\n{text}"));
    let local: SocketAddr =
        if answer.ipv6 { "[2001:db8::1]:20000" } else { LOCAL }.parse().expect("an address");
    let description = LocalSession::new(7).describe_answer(&answer, local);
    assert_eq!(parse(&description.to_string()), description, "what we write reads back as meant");
    (answer.stream, description.to_string())
}

fn payload_types(stream: &StreamParameters) -> Vec<(u8, Codec)> {
    stream.receive.iter().map(|format| (format.payload_type, format.codec)).collect()
}

/// Each: who sends it, the offer, the codec we send, telephone-event, remote RTP, remote RTCP, packet time.
#[expect(clippy::type_complexity, reason = "a table")]
fn offers_from_the_field()
-> Vec<(&'static str, &'static str, (u8, Codec), Option<u8>, &'static str, &'static str, u64)> {
    vec![
        (
            "baresip",
            "v=0\r\no=- 3982344239 1720023471 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
             a=tool:baresip 3.20.0\r\nm=audio 35508 RTP/AVP 96 97 9 0 8 98\r\na=rtpmap:96 opus/48000/2\r\n\
             a=fmtp:96 stereo=1;sprop-stereo=1\r\na=rtpmap:97 G7221/32000/1\r\na=rtpmap:9 G722/8000\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:98 telephone-event/8000\r\na=fmtp:98 0-15\r\n\
             a=rtcp:35509\r\na=sendrecv\r\na=rtcp-rsize\r\na=ssrc:1263221711 cname:sip:a@example.com\r\na=ptime:20\r\n",
            (0, Codec::Pcmu),
            Some(98),
            "192.0.2.10:35508",
            "192.0.2.10:35509",
            20,
        ),
        (
            "Linphone",
            "v=0\r\no=alice 3245 1189 IN IP4 192.0.2.11\r\ns=Talk\r\nc=IN IP4 192.0.2.11\r\nt=0 0\r\n\
             a=ice-pwd:0c1e1d9d2f8e\r\na=ice-ufrag:aaaa\r\n\
             a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics\r\na=record:off\r\n\
             m=audio 7078 RTP/AVPF 96 97 98 0 8 18 101 99 100\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
             a=rtpmap:97 speex/16000\r\na=fmtp:97 vbr=on\r\na=rtpmap:98 speex/8000\r\na=fmtp:98 vbr=on\r\n\
             a=fmtp:18 annexb=yes\r\na=rtpmap:101 telephone-event/48000\r\na=rtpmap:99 telephone-event/16000\r\n\
             a=rtpmap:100 telephone-event/8000\r\na=rtcp-fb:* trr-int 1000\r\na=rtcp-fb:* ccm tmmbr\r\n",
            (0, Codec::Pcmu),
            Some(100),
            "192.0.2.11:7078",
            "192.0.2.11:7079",
            20,
        ),
        (
            "Zoiper",
            "v=0\r\no=Z 0 16807 IN IP4 192.0.2.12\r\ns=Z\r\nc=IN IP4 192.0.2.12\r\nt=0 0\r\n\
             m=audio 8000 RTP/AVP 3 110 97 8 0 101\r\na=rtpmap:110 speex/8000\r\na=rtpmap:97 iLBC/8000\r\n\
             a=fmtp:97 mode=20\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n",
            (8, Codec::Pcma),
            Some(101),
            "192.0.2.12:8000",
            "192.0.2.12:8001",
            20,
        ),
        (
            "Asterisk",
            "v=0\r\no=- 1452863283 1452863283 IN IP4 192.0.2.13\r\ns=Asterisk\r\nc=IN IP4 192.0.2.13\r\nt=0 0\r\n\
             m=audio 11782 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:150\r\na=sendrecv\r\n",
            (8, Codec::Pcma),
            Some(101),
            "192.0.2.13:11782",
            "192.0.2.13:11783",
            20,
        ),
        (
            "FreeSWITCH",
            "v=0\r\no=FreeSWITCH 1700000000 1700000001 IN IP4 192.0.2.14\r\ns=FreeSWITCH\r\nc=IN IP4 192.0.2.14\r\n\
             t=0 0\r\nm=audio 24670 RTP/AVP 102 9 0 8 103 101 13\r\na=rtpmap:102 opus/48000/2\r\n\
             a=fmtp:102 useinbandfec=1; maxaveragebitrate=30000; maxplaybackrate=48000; ptime=20; minptime=10; maxptime=40\r\n\
             a=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
             a=rtpmap:103 telephone-event/48000\r\na=fmtp:103 0-16\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-16\r\na=rtpmap:13 CN/8000\r\na=ptime:20\r\n",
            (0, Codec::Pcmu),
            Some(101),
            "192.0.2.14:24670",
            "192.0.2.14:24671",
            20,
        ),
        (
            "Kamailio with rtpengine: c= in the media, everything mangled",
            "v=0\r\no=root 3746 3746 IN IP4 192.0.2.15\r\ns=session\r\nt=0 0\r\n\
             m=audio 30032 RTP/AVP 0 8 101\r\nc=IN IP4 203.0.113.15\r\na=silenceSupp:off - - - -\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
             a=sendrecv\r\na=rtcp:30033\r\na=ptime:30\r\na=nortpproxy:yes\r\n",
            (0, Codec::Pcmu),
            Some(101),
            "203.0.113.15:30032",
            "203.0.113.15:30033",
            30,
        ),
        (
            "a Teams session border controller",
            "v=0\r\no=sbc 1 2 IN IP4 192.0.2.16\r\ns=session\r\nc=IN IP4 192.0.2.16\r\nb=CT:10000000\r\nt=0 0\r\n\
             m=audio 54056 RTP/AVP 104 9 111 18 0 8 97 101 13 118\r\nc=IN IP4 192.0.2.16\r\na=rtcp:54057\r\n\
             a=label:Audio\r\na=mid:1\r\na=rtpmap:104 SILK/16000\r\na=rtpmap:9 G722/8000\r\na=rtpmap:111 SIREN/16000\r\n\
             a=fmtp:111 bitrate=16000\r\na=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:8 PCMA/8000\r\na=rtpmap:97 RED/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
             a=rtpmap:13 CN/8000\r\na=rtpmap:118 CN/16000\r\na=ptime:20\r\n",
            (0, Codec::Pcmu),
            Some(101),
            "192.0.2.16:54056",
            "192.0.2.16:54057",
            20,
        ),
        (
            "Twilio",
            "v=0\r\no=root 1826142537 1826142537 IN IP4 192.0.2.17\r\ns=Twilio Media Gateway\r\nc=IN IP4 192.0.2.17\r\n\
             t=0 0\r\nm=audio 18566 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:20\r\na=sendrecv\r\n",
            (0, Codec::Pcmu),
            Some(101),
            "192.0.2.17:18566",
            "192.0.2.17:18567",
            20,
        ),
        (
            "SIPp: LF line ends and nothing but the static type",
            "v=0\no=user1 53655765 2353687637 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 6000 RTP/AVP 0\n",
            (0, Codec::Pcmu),
            None,
            "127.0.0.1:6000",
            "127.0.0.1:6001",
            20,
        ),
        (
            "a door station: another order, no s=, blanks, upper and lower case",
            "v=0\r\nt=0 0\r\nc= in ip4 192.0.2.18 \r\no=door station 1 1 in ip4 192.0.2.18\r\n\r\n\
             m=audio 5004/1 RTP/AVP 96 0\r\na=rtpmap:96 pcma/8000/1\r\na=ptime:20.0\r\n\0",
            (96, Codec::Pcma),
            None,
            "192.0.2.18:5004",
            "192.0.2.18:5005",
            20,
        ),
    ]
}

#[test]
fn offers_from_the_field_are_accepted() {
    for (who, text, (payload_type, codec), event, rtp, rtcp, ptime) in offers_from_the_field() {
        let (stream, _) = accepted(text);
        assert_eq!((stream.send.payload_type, stream.send.codec), (payload_type, codec), "{who}");
        assert_eq!(stream.telephone_event.map(|event| event.send), event, "{who}");
        assert_eq!(stream.telephone_event.map(|event| event.receive), event, "{who}");
        assert_eq!(stream.remote_rtp, Some(rtp.parse().expect("an address")), "{who}");
        assert_eq!(stream.remote_rtcp, Some(rtcp.parse().expect("an address")), "{who}");
        assert_eq!(stream.ptime, Duration::from_millis(ptime), "{who}");
        assert_eq!(stream.direction, Direction::SendRecv, "{who}");
        assert!(!stream.rtcp_mux, "{who}");
    }
}

#[test]
fn answer_lists_what_is_common_in_the_order_of_the_offer() {
    let (stream, text) = accepted(&session(
        "m=audio 4000 RTP/AVP 18 8 100 0 13\r\na=rtpmap:100 telephone-event/8000\r\na=fmtp:100 0-15\r\n",
    ));
    assert_eq!(payload_types(&stream), [(8, Codec::Pcma), (0, Codec::Pcmu)]);
    assert_eq!(stream.comfort_noise, Some(13));
    assert_eq!(
        text,
        "v=0\r\no=- 7 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
         m=audio 20000 RTP/AVP 8 100 0 13\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:100 telephone-event/8000\r\n\
         a=fmtp:100 0-16\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:13 CN/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    );
}

#[test]
fn only_the_first_usable_audio_is_accepted_and_all_m_lines_stay_in_order() {
    let (stream, text) = accepted(&session(
        "m=video 4002 RTP/AVP 96 97\r\na=mid:v\r\nm=audio 4010 RTP/SAVP 0\r\nm=audio 4000 RTP/AVP 0\r\na=mid:a\r\n\
         m=audio 4004 RTP/AVP 0\r\nm=image 4006 udptl t38\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    ));
    assert_eq!(stream.remote_rtp, Some("192.0.2.7:4000".parse().expect("an address")));
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        lines,
        [
            "m=video 0 RTP/AVP 96",
            "m=audio 0 RTP/SAVP 0",
            "m=audio 20000 RTP/AVP 0",
            "m=audio 0 RTP/AVP 0",
            "m=image 0 udptl t38",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ]
    );
    assert!(text.contains("a=mid:v\r\n") && text.contains("a=mid:a\r\n"));
}

#[test]
fn directions_are_mirrored() {
    for (offered, ours) in [
        ("sendrecv", Direction::SendRecv),
        ("sendonly", Direction::RecvOnly),
        ("recvonly", Direction::SendOnly),
        ("inactive", Direction::Inactive),
    ] {
        let media = format!("m=audio 4000 RTP/AVP 0\r\na={offered}\r\n");
        assert_eq!(accepted(&session(&media)).0.direction, ours, "{offered}");
        let session_level =
            session("m=audio 4000 RTP/AVP 0\r\n").replace("t=0 0", &format!("t=0 0\r\na={offered}"));
        assert_eq!(accepted(&session_level).0.direction, ours, "{offered} for the session");
    }
    let both = session("m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n").replace("t=0 0", "t=0 0\r\na=inactive");
    assert_eq!(accepted(&both).0.direction, Direction::RecvOnly, "the media's own counts");
}

#[test]
fn old_hold_by_address_zero_stops_sending() {
    let held = session("m=audio 4000 RTP/AVP 0\r\n").replace("c=IN IP4 192.0.2.7", "c=IN IP4 0.0.0.0");
    let (stream, text) = accepted(&held);
    assert_eq!((stream.remote_rtp, stream.remote_rtcp), (None, None));
    assert_eq!(stream.direction, Direction::RecvOnly);
    assert!(text.contains("a=recvonly\r\n") && text.contains("m=audio 20000 "));
    let (stream, _) = accepted(&held.replace("RTP/AVP 0\r\n", "RTP/AVP 0\r\na=recvonly\r\n"));
    assert_eq!(stream.direction, Direction::Inactive);
}

#[test]
fn packet_time_is_a_multiple_of_ten_within_the_maximum() {
    for (lines, milliseconds) in [
        ("", 20),
        ("a=ptime:10\r\n", 10),
        ("a=ptime:25\r\n", 20),
        ("a=ptime:60\r\n", 60),
        ("a=ptime:200\r\n", 60),
        ("a=ptime:1\r\n", 10),
        ("a=ptime:0\r\n", 20),
        ("a=ptime:4294967296\r\n", 20),
        ("a=ptime:-20\r\n", 20),
        ("a=ptime:40\r\na=maxptime:30\r\n", 30),
        ("a=maxptime:10\r\n", 10),
        ("a=maxptime:5\r\n", 10),
    ] {
        let (stream, text) = accepted(&session(&format!("m=audio 4000 RTP/AVP 0\r\n{lines}")));
        assert_eq!(stream.ptime, Duration::from_millis(milliseconds), "{lines:?}");
        assert!(text.contains(&format!("a=ptime:{milliseconds}\r\n")), "{lines:?}");
    }
}

#[test]
fn rtcp_goes_where_the_offer_says() {
    for (lines, port, rtcp, mux) in [
        ("", 4000, Some("192.0.2.7:4001"), false),
        ("a=rtcp:5005\r\n", 4000, Some("192.0.2.7:5005"), false),
        ("a=rtcp:5005 IN IP4 192.0.2.9\r\n", 4000, Some("192.0.2.9:5005"), false),
        ("a=rtcp:5005 IN IP6 2001:db8::9\r\n", 4000, None, false),
        ("a=rtcp:0\r\n", 4000, None, false),
        ("a=rtcp:70000\r\n", 4000, Some("192.0.2.7:4001"), false),
        ("a=rtcp-mux\r\n", 4000, Some("192.0.2.7:4000"), true),
        ("a=rtcp:4000\r\na=rtcp-mux\r\n", 4000, Some("192.0.2.7:4000"), true),
        ("", 65535, None, false),
    ] {
        let (stream, text) = accepted(&session(&format!("m=audio {port} RTP/AVP 0\r\n{lines}")));
        assert_eq!(stream.remote_rtcp, rtcp.map(|rtcp| rtcp.parse().expect("an address")), "{lines:?}");
        assert_eq!((stream.rtcp_mux, text.contains("a=rtcp-mux\r\n")), (mux, mux), "{lines:?}");
    }
}

#[test]
fn running_stream_keeps_its_number_of_ports() {
    let mux = parse(&session("m=audio 4000 RTP/AVP 0\r\na=rtcp-mux\r\n"));
    let plain = parse(&session("m=audio 4000 RTP/AVP 0\r\n"));
    let two_ports = LocalMedia { rtcp_mux: Some(false), ..LocalMedia::default() };
    let answer_two = answer(&mux, &two_ports).expect("an answer");
    assert!(!answer_two.stream.rtcp_mux);
    assert_eq!(answer_two.stream.remote_rtcp, Some("192.0.2.7:4001".parse().expect("an address")));
    let one_port = LocalMedia { rtcp_mux: Some(true), ..LocalMedia::default() };
    let answer_one = answer(&plain, &one_port).expect("an answer");
    assert!(answer_one.stream.rtcp_mux);
    assert_eq!(answer_one.stream.remote_rtcp, Some("192.0.2.7:4001".parse().expect("an address")));
    let text =
        LocalSession::new(1).describe_answer(&answer_one, LOCAL.parse().expect("an address")).to_string();
    assert!(text.contains("a=rtcp:20000\r\n") && !text.contains("rtcp-mux"));
}

#[test]
fn address_family_follows_the_offer() {
    let text = session("m=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::7\r\n");
    let (stream, described) = accepted(&text);
    assert_eq!(stream.remote_rtp, Some("[2001:db8::7]:4000".parse().expect("an address")));
    assert!(
        described.contains("c=IN IP6 2001:db8::1\r\n")
            && described.contains("o=- 7 1 IN IP6 2001:db8::1\r\n")
    );
    let only4 = LocalMedia { families: Families { ipv4: true, ipv6: false }, ..LocalMedia::default() };
    assert_eq!(answer(&parse(&text), &only4), Err(Refusal::AddressFormat));
}

#[test]
fn media_may_not_be_sent_where_it_would_hurt() {
    let local = LocalMedia {
        control_addresses: vec![
            "192.0.2.7:5060".parse().expect("an address"),
            "0.0.0.0:8080".parse().expect("an address"),
        ],
        own_addresses: vec!["192.0.2.1".parse().expect("an address")],
        ..LocalMedia::default()
    };
    for (lines, refusal) in [
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 224.2.1.1/127\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 255.255.255.255\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.1\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 240.0.0.1\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP6 ff02::1\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP6 fe80::1\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP6 ::ffff:192.0.2.7\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 5060 RTP/AVP 0\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 5059 RTP/AVP 0\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 4000 RTP/AVP 0\r\na=rtcp:5060\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 4000 RTP/AVP 0\r\na=rtcp:4001 IN IP4 224.0.0.1\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 8080 RTP/AVP 0\r\nc=IN IP4 127.0.0.1\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 8080 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n", Some(Refusal::ForbiddenAddress)),
        ("m=audio 8080 RTP/AVP 0\r\n", None),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 phone.example.com\r\n", Some(Refusal::AddressFormat)),
    ] {
        assert_eq!(answer(&parse(&session(lines)), &local).err(), refusal, "{lines}");
    }
}

#[test]
fn offers_that_nothing_fits_are_refused_with_the_right_warning() {
    for (media, refusal, warning) in [
        ("", Refusal::NoMedia, "304 Media type not available"),
        ("m=video 4000 RTP/AVP 96\r\n", Refusal::NoAudio, "304 Media type not available"),
        ("m=audio 0 RTP/AVP 0\r\n", Refusal::NoAudio, "304 Media type not available"),
        ("m=audio 4000 RTP/AVP 18 3\r\n", Refusal::Format, "305 Incompatible media format"),
        ("m=audio 4000 RTP/AVP\r\n", Refusal::Format, "305 Incompatible media format"),
        (
            "m=audio 4000 RTP/AVP 101 13\r\na=rtpmap:101 telephone-event/8000\r\n",
            Refusal::Format,
            "305 Incompatible media format",
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/16000\r\n",
            Refusal::Format,
            "305 Incompatible media format",
        ),
        (
            "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 L16/8000\r\n",
            Refusal::Format,
            "305 Incompatible media format",
        ),
        ("m=audio 4000 RTP/SAVP 0\r\n", Refusal::Transport, "302 Incompatible transport protocol"),
        ("m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n", Refusal::Transport, "302 Incompatible transport protocol"),
        ("m=image 4000 udptl t38\r\n", Refusal::NoAudio, "304 Media type not available"),
    ] {
        assert_eq!(answered(&session(media)).map(drop), Err(refusal), "{media}");
        assert_eq!(refusal.warning_text(), warning);
    }
    let without_address = session("m=audio 4000 RTP/AVP 0\r\n").replace("c=IN IP4 192.0.2.7\r\n", "");
    assert_eq!(answered(&without_address).map(drop), Err(Refusal::AddressFormat));
}

#[test]
fn more_formats_than_a_stream_holds_are_left_out_of_the_answer_too() {
    let types: Vec<String> = (96..112).map(|payload_type| payload_type.to_string()).collect();
    let maps: String =
        types.iter().map(|payload_type| format!("a=rtpmap:{payload_type} PCMU/8000\r\n")).collect();
    let (stream, text) = accepted(&session(&format!("m=audio 4000 RTP/AVP {}\r\n{maps}", types.join(" "))));
    assert_eq!(stream.receive.iter().count(), 8);
    assert_eq!(text.matches("a=rtpmap").count(), 8);
}

#[test]
fn version_grows_with_a_change_and_only_then() {
    let mut ours = LocalSession::new(u64::MAX);
    let local = LOCAL.parse().expect("an address");
    let mut version = |text: &str| {
        let answer = answer(&parse(text), &LocalMedia::default()).expect("an answer");
        ours.describe_answer(&answer, local).origin
    };
    let call = session("m=audio 4000 RTP/AVP 0\r\n");
    let first = version(&call);
    assert_eq!(first.session_id, (u64::MAX >> 1).to_string());
    assert_eq!(version(&call), first, "a session refresh");
    let held = version(&session("m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n"));
    assert_eq!((held.session_version.as_str(), &held.session_id), ("2", &first.session_id));
    assert_eq!(version(&call).session_version, "3");
}

#[test]
fn late_offer_is_completed_by_its_answer() {
    let local = LocalMedia::default();
    let mut ours = LocalSession::new(9);
    let offered = offer(&local, None);
    assert_eq!((offered.stream.remote_rtp, offered.stream.remote_rtcp), (None, None));
    let text = ours.describe_offer(&offered, LOCAL.parse().expect("an address")).to_string();
    assert_eq!(
        text,
        "v=0\r\no=- 9 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
         m=audio 20000 RTP/AVP 0 8 13 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
    );
    let stream = offered
        .apply_answer(
            &parse(&session("m=audio 4000 RTP/AVP 8 97\r\na=rtpmap:97 telephone-event/8000\r\na=ptime:30\r\na=recvonly\r\n")),
            &local,
        )
        .expect("a stream");
    assert_eq!((stream.send.payload_type, stream.send.codec), (8, Codec::Pcma));
    assert_eq!(stream.direction, Direction::SendOnly);
    assert_eq!(stream.ptime, Duration::from_millis(30));
    assert_eq!(stream.remote_rtp, Some("192.0.2.7:4000".parse().expect("an address")));
    assert_eq!(stream.telephone_event.map(|event| (event.receive, event.send)), Some((101, 97)));
    assert_eq!(stream.comfort_noise, None);
    assert_eq!(payload_types(&stream), [(0, Codec::Pcmu), (8, Codec::Pcma)]);
}

#[test]
fn answers_that_do_not_fit_are_refused() {
    let local = LocalMedia::default();
    let offered = offer(&local, None);
    for (media, refusal) in [
        ("", Refusal::NoMedia),
        ("m=audio 0 RTP/AVP 0\r\n", Refusal::NoAudio),
        ("m=video 4000 RTP/AVP 0\r\n", Refusal::Mismatch),
        ("m=audio 4000 RTP/AVP 18\r\n", Refusal::Format),
        ("m=audio 4000 RTP/SAVP 0\r\n", Refusal::Transport),
        ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 239.1.1.1\r\n", Refusal::ForbiddenAddress),
    ] {
        assert_eq!(offered.apply_answer(&parse(&session(media)), &local), Err(refusal), "{media}");
    }
}

#[test]
fn new_offer_keeps_the_m_lines_of_the_session() {
    let local = LocalMedia::default();
    let mut ours = LocalSession::new(3);
    let at = LOCAL.parse().expect("an address");
    let first =
        answer(&parse(&session("m=video 4002 RTP/AVP 96\r\nm=audio 4000 RTP/AVP 8\r\na=mid:x\r\n")), &local)
            .expect("an answer");
    ours.describe_answer(&first, at);
    let again = offer(&local, ours.last());
    let text = ours.describe_offer(&again, at).to_string();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(lines, ["m=video 0 RTP/AVP 96", "m=audio 20000 RTP/AVP 0 8 13 101"]);
    assert!(text.contains("a=mid:x\r\n") && text.contains("o=- 3 2 "));
    let stream = again
        .apply_answer(&parse(&session("m=video 0 RTP/AVP 96\r\nm=audio 4000 RTP/AVP 0\r\n")), &local)
        .expect("a stream");
    assert_eq!(stream.remote_rtp, Some("192.0.2.7:4000".parse().expect("an address")));
}
