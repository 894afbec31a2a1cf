//! The end of service as a caller sees it. (New calls while draining: tests/e2e_sipp.rs.)

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use support::phone::Phone;
use support::server::{Server, Setup};
use support::within;

/// A call whose RTCP is heard.
fn call_with_rtcp(server: &Server) -> (Phone, UdpSocket) {
    for _ in 0..20 {
        let phone = Phone::dial(server.sip, "echo").expect("the call is answered");
        let media = phone.media_address();
        // RTCP comes to the next port (RFC 3550 section 11), unless somebody else has that.
        if let Ok(rtcp) = UdpSocket::bind(SocketAddr::new(media.ip(), media.port() + 1)) {
            rtcp.set_nonblocking(true).expect("a mode");
            return (phone, rtcp);
        }
    }
    panic!("no port pair was free");
}

/// Whether a compound packet that waits has an RTCP BYE (RFC 3550 section 6.6).
fn has_rtcp_bye(rtcp: &UdpSocket) -> bool {
    let mut buffer = [0; 2048];
    while let Ok(len) = rtcp.recv(&mut buffer) {
        let mut rest = &buffer[..len];
        while let [_, packet_type, high, low, ..] = *rest {
            if packet_type == 203 {
                return true;
            }
            let words = usize::from(u16::from_be_bytes([high, low])) + 1;
            rest = rest.get(4 * words..).unwrap_or_default();
        }
    }
    false
}

#[test]
fn second_signal_ends_calls_at_once_with_bye_and_rtcp_bye() {
    let server = Server::start(&Setup::new("[drain]\ntimeout = \"1h\"\n"));
    let (phone, rtcp) = call_with_rtcp(&server);
    server.signal("TERM");
    assert!(within(Duration::from_secs(5), || server
        .get("/readyz")
        .is_some_and(|(status, _)| status == 503)));
    std::thread::sleep(Duration::from_millis(300));
    assert!(phone.ended().is_none() && !server.has_exited(), "the running call is kept");
    let asked = Instant::now();
    server.signal("TERM");
    assert!(within(Duration::from_secs(5), || phone.ended().is_some()), "BYE comes at once");
    assert!(within(Duration::from_secs(5), || has_rtcp_bye(&rtcp)), "RTCP BYE comes as well");
    assert_eq!(server.wait(Duration::from_secs(10)), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10));
}

#[test]
fn process_ends_as_soon_as_the_last_caller_hangs_up() {
    let server = Server::start(&Setup::new("[drain]\ntimeout = \"1h\"\n"));
    let first = Phone::dial(server.sip, "echo").expect("the call is answered");
    let second = Phone::dial(server.sip, "echo").expect("the call is answered");
    server.signal("TERM");
    assert!(within(Duration::from_secs(5), || server
        .get("/readyz")
        .is_some_and(|(status, _)| status == 503)));
    assert_eq!(first.hang_up(), Some(200));
    assert!(within(Duration::from_secs(5), || server.calls().len() == 1));
    assert_eq!(second.hang_up(), Some(200));
    assert_eq!(server.wait(Duration::from_secs(10)), Some(0));
}

#[test]
fn call_is_hung_up_through_the_api() {
    use std::io::{Read as _, Write as _};

    let server = Server::start(&Setup::new(""));
    let phone = Phone::dial(server.sip, "echo").expect("the call is answered");
    let id = server.calls()[0]["id"].as_u64().expect("an id");
    let mut stream = std::net::TcpStream::connect(server.http).expect("HTTP answers");
    write!(stream, "DELETE /v1/calls/{id} HTTP/1.0\r\nHost: {}\r\n\r\n", server.http).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 202") || answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert!(within(Duration::from_secs(5), || phone.ended().is_some()), "BYE comes");
    assert!(within(Duration::from_secs(5), || server.calls().is_empty()));
    assert_eq!(server.metric("sidetone_calls_ended_by_operator_total", ""), Some(1.0));
}
