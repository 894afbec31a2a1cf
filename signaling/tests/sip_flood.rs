//! A flood of INVITEs from twenty addresses beside a running call and a caller who means it.

mod sip_support;

use std::time::{Duration, Instant};

use sidetone_signaling::sip::{Session, SessionEvent};
use sip_support::{ANSWER, Peer, SDP, Text, connected, endpoint, soon};
use tokio::net::UdpSocket;

const SOURCES: u8 = 20;
const INVITES_PER_SOURCE: usize = 150;

fn resident_kilobytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Reads a session's events until it ends.
async fn drain(mut session: Session) {
    while !matches!(session.next_event().await, SessionEvent::Ended { .. }) {}
}

/// Sends INVITEs and never an ACK; returns how many first final answers were 503 with Retry-After, 200, or
/// something else.
async fn flood(source: u8, server: std::net::SocketAddr) -> (usize, usize, usize) {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 1, source), 0)).await.unwrap();
    let local = socket.local_addr().unwrap();
    let mut texts = Peer::new(server).await;
    let (mut refused, mut accepted, mut other) = (0, 0, 0);
    let mut seen = std::collections::HashSet::new();
    let mut buffer = vec![0; 4096];
    for n in 0..INVITES_PER_SOURCE {
        texts.call_id = format!("flood-{source}-{n}");
        let invite =
            texts.request("INVITE", 1, "", SDP).replace(&texts.local().to_string(), &local.to_string());
        socket.send_to(invite.as_bytes(), server).await.unwrap();
        // About 1,000 a second from all together.
        let wait = tokio::time::timeout(Duration::from_millis(20), async {
            loop {
                let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
                let text = Text(String::from_utf8_lossy(&buffer[..length]).into_owned());
                if text.status() < 200 || !seen.insert(text.header("Call-ID").unwrap().to_owned()) {
                    continue;
                }
                match text.status() {
                    503 if text.header("Retry-After").is_some() => refused += 1,
                    200 => accepted += 1,
                    _ => other += 1,
                }
            }
        });
        let _: Result<(), _> = wait.await;
    }
    (refused, accepted, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_disturbs_neither_running_calls_nor_honest_callers() {
    let (endpoint, mut calls, address) = endpoint(|config| {
        config.t1 = Duration::from_millis(20);
        config.limits.unacknowledged = 200;
        config.limits.invites_per_second_per_source = 10;
        config.limits.invite_burst_per_source = 20;
    })
    .await;
    let (mut running, session) = connected(address, &mut calls, "").await;
    tokio::spawn(drain(session));
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            tokio::spawn(async move {
                // An error means that the caller was gone before.
                if let Ok(session) = call.accept(ANSWER.to_owned()).await {
                    drain(session).await;
                }
            });
        }
    });
    let before = resident_kilobytes();
    let floods: Vec<_> = (1..=SOURCES).map(|source| tokio::spawn(flood(source, address))).collect();
    let (mut served, mut slowest) = (0, Duration::ZERO);
    for _ in 0..20 {
        let mut honest = Peer::new(address).await;
        honest.invite("", SDP).await;
        if let Ok(answer) = tokio::time::timeout(Duration::from_secs(2), async {
            loop {
                let text = honest.recv().await;
                if text.status() >= 200 {
                    break text;
                }
            }
        })
        .await
            && answer.status() == 200
        {
            honest.note(&answer);
            honest.ack("").await;
            honest.bye().await;
            served += 1;
        }
        let asked = Instant::now();
        assert_eq!(running.ask("OPTIONS", "", "").await.status(), 200, "the running call is served");
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(80)).await;
    }
    let (mut refused, mut accepted, mut other) = (0, 0, 0);
    for flood in floods {
        let (r, a, o) = soon(flood).await.unwrap();
        (refused, accepted, other) = (refused + r, accepted + a, other + o);
    }
    let peak = endpoint.load();
    println!(
        "honest {served} of 20, slowest in-dialog answer {slowest:?}; refused {refused}, accepted {accepted}, \
         other {other}; {peak:?}"
    );
    assert!(served >= 19, "{served} of 20 honest calls");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(refused > accepted, "the flood was refused");
    assert!(other * 10 <= refused, "nine of ten refusals are 503 with Retry-After");
    assert!(peak.unacknowledged <= 200 && peak.calls <= 201, "{peak:?}");
    let grown = resident_kilobytes().saturating_sub(before);
    assert!(grown < 100_000, "{grown} kB");
    // Recovered: what was never acknowledged is given up.
    soon(async {
        while endpoint.load().calls > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    running.bye().await;
}
