//! Bad input from every side: the right answer or none, a counter, and other calls untouched.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use support::bystander::Bystander;
use support::phone::{Dial, Phone};
use support::rtp::{Header, noise_payloads};
use support::server::{Server, Setup};
use support::sip::{Message, request, sdp};
use support::within;

#[test]
fn garbage_over_udp_is_counted_and_harms_nobody() {
    // A short T1, so that the calls that some of it makes by chance end soon for want of an ACK.
    let server = Server::start(&Setup::new(&format!("[sip]\nt1 = \"100ms\"\n{ECHO}")));
    let bystander = Bystander::start(server.sip, 20);
    let socket = udp();
    let mut sent = 0;
    for message in hostile_messages(server.sip, socket.local_addr().expect("bound")) {
        let _ = socket.send_to(&message, server.sip);
        sent += 1;
        // As fast as a slow attacker: the point is what is in them.
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(sent > 150);
    answers_options(server.sip);
    bystander.finish().is_below(0.005);
    assert!(refused_messages(&server) > 20.0, "counted:\n{}", sip_counters(&server));
    assert!(
        within(Duration::from_secs(10), || server.calls().is_empty()),
        "no half call stays: {:?}",
        server.calls()
    );
}

#[test]
fn garbage_over_tcp_is_counted_and_harms_nobody() {
    let server = Server::start(&Setup::new(ECHO));
    let bystander = Bystander::start(server.sip, 20);
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let mut open = Vec::new();
    for message in hostile_messages(server.sip, local) {
        let Ok(mut stream) = TcpStream::connect(server.sip) else { continue };
        let _ = stream.write_all(&message);
        open.push(stream);
        // Some vanish at once, some stay open and silent.
        if open.len() > 40 {
            open.drain(..20);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut endless = TcpStream::connect(server.sip).expect("TCP is open");
    endless.set_write_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    let _ = endless.write_all(b"INVITE sip:echo@127.0.0.1 SIP/2.0\r\nX-Long: ");
    for _ in 0..200 {
        if endless.write_all(&[b'a'; 1024]).is_err() {
            break;
        }
    }
    drop(open);
    answers_options_over_tcp(server.sip);
    bystander.finish().is_below(0.005);
    assert!(refused_messages(&server) > 10.0, "counted:\n{}", sip_counters(&server));
}

#[test]
fn a_message_in_pieces_over_tcp_is_answered_once_whole() {
    let server = shared();
    let mut stream = TcpStream::connect(server.sip).expect("TCP is open");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    let local = stream.local_addr().expect("connected");
    let text = request("OPTIONS", "echo", server.sip, local, &[], "").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    for piece in text.as_bytes().chunks(37) {
        stream.write_all(piece).expect("the connection stays");
        std::thread::sleep(Duration::from_millis(15));
    }
    let mut buffer = [0; 4096];
    let size = stream.read(&mut buffer).expect("an answer");
    assert!(String::from_utf8_lossy(&buffer[..size]).starts_with("SIP/2.0 200 "));
}

#[test]
fn idle_tcp_connections_do_not_lock_others_out() {
    let server = Server::start(&Setup::new(ECHO));
    // From one address, more than it may have; another address is still served (AST-2016-005).
    let idle: Vec<TcpStream> = (0..100).filter_map(|_| TcpStream::connect(server.sip).ok()).collect();
    assert!(idle.len() > 60);
    let socket = udp();
    let answer = exchange(
        &socket,
        server.sip,
        &request("OPTIONS", "echo", server.sip, socket.local_addr().expect("bound"), &[], ""),
    );
    assert_eq!(answer.expect("UDP answers").status(), Some(200));
    assert_eq!(server.get("/healthz").expect("HTTP answers").0, 200);
}

#[test]
fn hostile_sdp_gets_an_answer_and_no_crash() {
    let server = shared();
    let socket = udp();
    let local = socket.local_addr().expect("bound");
    let good = sdp(local, "sendrecv");
    let cases = [
        ("no m-line", good.replace("m=audio", "x=audio")),
        ("fmtp without a format", good.clone() + "a=fmtp:\r\na=fmtp\r\n"),
        ("a payload type beyond 32 bits", good.replace(" 0 101", " 4294967296 4294967297")),
        ("rtpmap of a huge type", good.clone() + "a=rtpmap:4294967296 PCMU/8000\r\n"),
        ("port 0", good.replace(&format!("m=audio {}", local.port()), "m=audio 0")),
        ("port beyond 16 bits", good.replace(&format!("m=audio {}", local.port()), "m=audio 99999")),
        ("500 m-lines", good.clone() + &"m=audio 4000 RTP/AVP 0\r\n".repeat(500)),
        ("5000 codecs", good.replace(" 0 101", &" 7".repeat(5000))),
        ("broadcast", good.replace("IP4 127.0.0.1", "IP4 255.255.255.255")),
        ("multicast", good.replace("IP4 127.0.0.1", "IP4 224.0.0.1")),
        (
            "our own SIP port",
            good.replace(&format!("m=audio {}", local.port()), &format!("m=audio {}", server.sip.port())),
        ),
        ("no version", good.replace("v=0\r\n", "")),
        ("clock rate 0", good.replace("PCMU/8000", "PCMU/0")),
        ("ptime 0", good.replace("ptime:20", "ptime:0")),
        ("ptime absurd", good.replace("ptime:20", "ptime:99999999999")),
        ("empty lines", "\r\n\r\n\r\n".to_owned()),
        ("binary", "\u{0}\u{1}\u{2}".repeat(300)),
    ];
    for (name, body) in cases {
        let mut dial = Dial::new(server.sip, "echo");
        dial.offer = Some(body);
        dial.patience = Duration::from_secs(5);
        dial.silent = true;
        match Phone::dial_with(dial) {
            // Lenient is fine where a usable line is left.
            Ok(phone) => assert_eq!(phone.hang_up(), Some(200), "{name}"),
            Err(Some(refusal)) => {
                let status = refusal.status().expect("a response");
                assert!((400..500).contains(&status), "{name}: {status}");
            }
            Err(None) => panic!("{name}: no answer at all"),
        }
    }
    let refused = |change: &str, into: &str| {
        let mut dial = Dial::new(server.sip, "echo");
        dial.offer = Some(good.replace(change, into));
        Phone::dial_with(dial).err().flatten().and_then(|refusal| refusal.status())
    };
    assert_eq!(refused("IP4 127.0.0.1", "IP4 224.0.0.1"), Some(488), "media to multicast is refused");
    assert_eq!(refused("m=audio", "x=audio"), Some(488).or(Some(400)), "no m-line is refused");
}

#[test]
fn bad_rtp_is_counted_by_reason_and_harms_no_call() {
    let server = Server::start(&Setup::new(ECHO));
    let bystander = Bystander::start(server.sip, 15);
    let victim = Phone::dial(server.sip, "echo").expect("the call is answered");
    std::thread::sleep(Duration::from_millis(400));
    let mut header = Header { payload_type: 0, marker: false, sequence_number: 9000, timestamp: 99, ssrc: 1 }
        .packet(&[0xFF; 160]);
    for kind in 0..6 {
        for round in 0..20u8 {
            let mut packet = header.clone();
            match kind {
                // Version 0 and 3.
                0 => packet[0] = if round % 2 == 0 { 0x00 } else { 0xC0 },
                // Padding longer than the packet, and of length 0.
                1 => {
                    packet[0] = 0xA0;
                    *packet.last_mut().expect("not empty") = if round % 2 == 0 { 250 } else { 0 };
                }
                // An extension of 65,535 words, in 172 bytes.
                2 => {
                    packet[0] = 0x90;
                    packet[12..16].copy_from_slice(&[0xBE, 0xDE, 0xFF, 0xFF]);
                }
                // 15 contributing sources that are not there.
                3 => {
                    packet.truncate(20);
                    packet[0] = 0x8F;
                }
                // Cut anywhere in the header.
                4 => packet.truncate(usize::from(round) % 12),
                // As large as a datagram can be.
                _ => packet.resize(60_000, 0x55),
            }
            victim.send_raw_media(&packet);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    header[0] = 0x80;
    bystander.finish().is_below(0.005);
    let refused = |server: &Server| -> u64 {
        server.calls().iter().filter_map(|call| server.call(call)["media"]["refused_packets"].as_u64()).sum()
    };
    assert!(within(Duration::from_secs(2), || refused(&server) >= 80), "the API shows {}", refused(&server));
    // The call that got them still works.
    let heard = victim.heard_count();
    assert!(within(Duration::from_secs(2), || victim.heard_count() > heard + 20), "the victim still hears");
    assert_eq!(victim.hang_up(), Some(200));
    let counted = || server.metric_like("rtp_refused");
    assert!(
        within(Duration::from_secs(3), || counted() >= 80.0),
        "{} counted of 100 unusable packets",
        counted()
    );
}

/// Nothing counts the strangers here: the socket is connected to the source by now, so the kernel drops them.
#[test]
fn a_strangers_rtp_is_neither_heard_nor_answered() {
    let server = Server::start(&Setup::new(ECHO));
    let bystander = Bystander::start(server.sip, 8);
    // Another host than the caller's, as far as loopback has hosts.
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 99), 0)).expect("loopback is a /8");
    stranger.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
    let strange = noise_payloads(77, 200);
    let target = bystander.phone().remote_media();
    let mut leaked = 0;
    let mut buffer = [0; 2048];
    for (payload, number) in strange.iter().zip(1u16..) {
        let header = Header {
            payload_type: 0,
            marker: false,
            sequence_number: number,
            timestamp: u32::from(number) * 160,
            ssrc: 666,
        };
        let _ = stranger.send_to(&header.packet(payload), target);
        let _ = stranger
            .send_to(&[0x80, 200, 0, 1, 0, 0, 2, 154], SocketAddr::new(target.ip(), target.port() + 1));
        while let Ok((size, from)) = stranger.recv_from(&mut buffer) {
            eprintln!("leaked from {from}: {:02x?}", &buffer[..size.min(40)]);
            leaked += 1;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let heard = bystander.phone().heard();
    let strange_heard = heard.iter().filter(|packet| strange.contains(&packet.payload)).count();
    assert_eq!((strange_heard, leaked), (0, 0), "(strange packets heard, packets leaked)");
    bystander.finish().is_below(0.005);
}

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

fn shared() -> Arc<Server> {
    Server::shared(&SHARED, || Setup::new(ECHO))
}

fn udp() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    socket
}

/// Sends a request and waits for its final response, repeating it as RFC 3261 says.
fn exchange(socket: &UdpSocket, server: SocketAddr, text: &str) -> Option<Message> {
    let call_id = Message::parse(text.as_bytes())?.header("Call-ID")?.to_owned();
    let mut buffer = [0; 8192];
    for _ in 0..8 {
        let _ = socket.send_to(text.as_bytes(), server);
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end {
            let Ok((size, _)) = socket.recv_from(&mut buffer) else { continue };
            let Some(message) = Message::parse(&buffer[..size]) else { continue };
            if message.header("Call-ID") == Some(&call_id)
                && message.status().is_some_and(|status| status >= 200)
            {
                return Some(message);
            }
        }
    }
    None
}

fn answers_options(server: SocketAddr) {
    let socket = udp();
    let text = request("OPTIONS", "echo", server, socket.local_addr().expect("bound"), &[], "");
    let answer = exchange(&socket, server, &text).expect("OPTIONS is answered");
    assert_eq!(answer.status(), Some(200));
}

fn answers_options_over_tcp(server: SocketAddr) {
    let end = Instant::now() + Duration::from_secs(5);
    // Connections from this address may be at their cap until the server has seen the others close.
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
        let Ok(mut stream) = TcpStream::connect(server) else { continue };
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        let local = stream.local_addr().expect("connected");
        let text = request("OPTIONS", "echo", server, local, &[], "").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
        let mut buffer = [0; 4096];
        if stream.write_all(text.as_bytes()).is_ok()
            && let Ok(size) = stream.read(&mut buffer)
            && buffer[..size].starts_with(b"SIP/2.0 200 ")
        {
            return;
        }
    }
    panic!("OPTIONS over TCP is not answered");
}

/// Truncated, broken and absurd messages.
fn hostile_messages(server: SocketAddr, local: SocketAddr) -> Vec<Vec<u8>> {
    let invite = || request("INVITE", "echo", server, local, &[], &sdp(local, "sendrecv"));
    let whole = invite();
    let mut messages: Vec<Vec<u8>> =
        (0..whole.len()).step_by(7).map(|end| invite().as_bytes()[..end].to_vec()).collect();
    let changed = |from: &str, to: &str| invite().replace(from, to).into_bytes();
    messages.extend([
        b"\r\n\r\n\r\n\r\n".to_vec(),
        b"\0\0\0\0".to_vec(),
        vec![0xFF; 1500],
        b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        changed("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"),
        changed("CSeq: 1 INVITE", "CSeq: 99999999999999999999 INVITE"),
        changed("CSeq: 1 INVITE", "CSeq: -1 INVITE"),
        changed("CSeq: 1 INVITE", &format!("CSeq: 1 {}", "A".repeat(5000))),
        changed("CSeq: 1 INVITE", "CSeq: 1 BYE"),
        changed("Content-Length: ", "Content-Length: 9999"),
        changed("Content-Length: ", "Content-Length: -"),
        changed("Content-Length: ", "Content-Length: 18446744073709551616"),
        changed("Call-ID: ", "X-Call-ID: "),
        changed("From: ", "X-From: "),
        changed("Via: ", "X-Via: "),
        changed("To: <", "To: <<<<"),
        changed("Via: SIP/2.0/UDP ", "Via: SIP/2.0/UDP ["),
        changed("branch=z9hG4bK", &format!("branch=z9hG4bK{}", "b".repeat(9000))),
        changed(";tag=", &format!(";tag={}", "t".repeat(9000))),
        changed("Max-Forwards: 70", "Max-Forwards: banana"),
        changed("Max-Forwards: 70", &"Accept: application/sdp\r\n".repeat(400)),
        changed("Max-Forwards: 70", &format!("X-Many: {}", "a,".repeat(10_000))),
        changed("Max-Forwards: 70", "Max-Forwards : 70\r\nX-Name\t: smuggled"),
        changed("Max-Forwards: 70", "Content-Type: multipart/mixed;boundary=\r\nX: y"),
        changed("sip:echo@", "sip:%00%ff%zz@"),
        changed("sip:echo@", "tel:+1"),
        changed("INVITE sip", "INVITE  sip"),
        changed("Contact: <sip:caller@", "Contact: <sip:caller@[::::::"),
        format!("INVITE sip:echo@{server} SIP/2.0\r\nX: {}", "y".repeat(60_000)).into_bytes(),
        // A response nobody waits for, and an ACK and CANCEL of nothing.
        changed("INVITE sip:echo", "ACK sip:echo"),
        changed("1 INVITE", "1 CANCEL"),
    ]);
    // Bytes flipped at many places of a good message.
    let mut state = 0x1234_5678_9ABC_DEF1u64;
    for _ in 0..60 {
        let mut bytes = invite().into_bytes();
        for _ in 0..4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = usize::try_from(state >> 33).expect("31 bits") % bytes.len();
            bytes[at] = (state >> 8) as u8;
        }
        messages.push(bytes);
    }
    messages
}

fn sip_counters(server: &Server) -> String {
    server.metrics_like("sidetone_sip")
}

fn refused_messages(server: &Server) -> f64 {
    server.metric_like("malformed")
        + server.metric_like("parse")
        + server.metric_like("invalid")
        + server.metric_like("oversized")
}

const ECHO: &str = "[[routes]]\nmatch = \"echo\"\napp = \"echo\"\n";
