//! A flood of INVITEs beside a running call. In a file of its own: nothing else runs meanwhile.

mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use support::bystander::Bystander;
use support::phone::{Dial, Phone};
use support::server::{Server, Setup};
use support::sip::{Message, request, sdp};
use support::within;

#[test]
fn a_flood_of_invites_harms_no_running_call_and_is_gone_in_5_seconds() {
    let mut setup = Setup::new("[[routes]]\nmatch = \"echo\"\napp = \"echo\"\n");
    setup.media_ports = 4000;
    let server = Server::start(&setup);
    // The first flood fills what is filled once (tables, allocator); memory is compared after it.
    flood(server.sip, 2_000);
    std::thread::sleep(Duration::from_secs(1));
    let memory = server.resident_bytes();

    let bystander = Bystander::start(server.sip, 16);
    let started = Instant::now();
    // Meanwhile others call, one a second.
    let sip = server.sip;
    let callers = std::thread::spawn(move || {
        (0..CALLERS)
            .filter(|_| {
                std::thread::sleep(Duration::from_millis(900));
                Phone::dial(sip, "echo").is_ok_and(|phone| phone.hang_up() == Some(200))
            })
            .count()
    });
    let answers = flood(server.sip, FLOOD);
    let served = callers.join().expect("the callers");
    println!("{FLOOD} INVITEs in {:?} were answered {answers:?}", started.elapsed());
    let harm = bystander.finish();
    println!("the call beside them: {harm:?}; {served} of {CALLERS} other calls were served");
    harm.is_below(0.005);
    assert!(served * 100 >= CALLERS * 95, "only {served} of {CALLERS} other calls were served");

    // A call that comes right after is served, on its first or a later try within 5 s.
    let served = within(Duration::from_secs(5), || {
        let mut dial = Dial::new(server.sip, "echo");
        dial.patience = Duration::from_secs(1);
        Phone::dial_with(dial).is_ok()
    });
    assert!(served, "no call is taken 5 s after the flood");

    let refusals: usize =
        answers.iter().filter(|((status, _), _)| *status >= 300).map(|(_, count)| count).sum();
    let proper = answers.get(&(503, true)).copied().unwrap_or(0);
    assert!(refusals > 0, "a flood of {FLOOD} was taken whole: {answers:?}");
    assert!(
        proper as f64 >= refusals as f64 * 0.9,
        "503 with Retry-After: {proper} of {refusals} refusals: {answers:?}"
    );
    assert_eq!(server.get("/healthz").expect("HTTP answers").0, 200);
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < 20 << 20, "memory grew by {grown} bytes");
}

/// Sends `count` INVITEs at 1,000/s from 20 source addresses that never acknowledge anything; first final
/// answers by status and presence of Retry-After.
fn flood(server: SocketAddr, count: usize) -> BTreeMap<(u16, bool), usize> {
    let sockets: Vec<UdpSocket> = (0..SOURCES)
        .map(|source| {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 1, source), 0)).expect("loopback is a /8");
            socket.set_nonblocking(true).expect("an option");
            socket
        })
        .collect();
    let mut answers = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut buffer = [0; 8192];
    let mut collect = |sockets: &[UdpSocket]| {
        for socket in sockets {
            while let Ok((size, _)) = socket.recv_from(&mut buffer) {
                let Some(message) = Message::parse(&buffer[..size]) else { continue };
                let Some(status) = message.status().filter(|status| *status >= 200) else { continue };
                if seen.insert(message.header("Call-ID").unwrap_or_default().to_owned()) {
                    *answers.entry((status, message.header("Retry-After").is_some())).or_insert(0) += 1;
                }
            }
        }
    };
    let start = Instant::now();
    for number in 0..count {
        let socket = &sockets[number % sockets.len()];
        let local = socket.local_addr().expect("bound");
        let text = request("INVITE", "echo", server, local, &[], &sdp(local, "sendrecv"));
        let _ = socket.send_to(text.as_bytes(), server);
        if number % 10 == 9 {
            collect(&sockets);
            let due = start + Duration::from_millis(number as u64 + 1);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    collect(&sockets);
    answers
}

const FLOOD: usize = 10_000;
const SOURCES: u8 = 20;
const CALLERS: usize = 10;
