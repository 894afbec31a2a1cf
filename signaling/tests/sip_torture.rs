//! Messages in the manner of RFC 4475, under the names it gives them, and some of our own. Each is answered
//! properly or dropped; nothing is ever sent to anybody but the sender.

mod sip_support;

use std::collections::BTreeMap;
use std::time::Duration;

use sip_support::{ANSWER, Peer, Text, endpoint};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// The final status of each; 0 stands for silence.
const EXPECTED: &[(&str, u16)] = &[
    // RFC 4475 3.1.1: valid.
    ("wsinv", 481),
    ("wsinv-new", 200),
    ("intmeth", 501),
    ("esc01", 200),
    ("escnull", 405),
    ("esc02", 501),
    ("lwsdisp", 200),
    ("longreq", 200),
    ("dblreq", 405),
    ("semiuri", 200),
    ("transports", 200),
    ("mpart01", 405),
    ("unreason", 0),
    ("noreason", 0),
    // 3.1.2: invalid.
    ("badinv01", 400),
    ("clerr", 400),
    ("ncl", 400),
    ("scalar02", 400),
    ("scalarlg", 0),
    ("quotbal", 400),
    ("ltgtruri", 400),
    ("lwsruri", 400),
    ("lwsstart", 400),
    ("trws", 400),
    // Headers in a Request-URI are to be ignored or refused; they are ignored.
    ("escruri", 200),
    // A date that cannot be read is nothing that we act on.
    ("baddate", 200),
    ("regbadct", 405),
    ("badaspec", 400),
    ("baddn", 400),
    // Its Via is of that version too, so that nobody knows how to answer it.
    ("badvers", 0),
    ("badvers2", 505),
    ("mismatch01", 400),
    ("mismatch02", 400),
    ("bigcode", 0),
    // 3.2 and 3.3.
    ("badbranch", 200),
    ("insuf", 400),
    ("unkscm", 416),
    ("novelsc", 416),
    ("unksm2", 405),
    ("bext01", 420),
    ("invut", 415),
    ("regaut01", 405),
    ("multi01", 400),
    ("mcl01", 400),
    ("bcast", 0),
    // An end point serves it; only a proxy would have had to forward it.
    ("zeromf", 200),
    ("cparam01", 405),
    ("cparam02", 405),
    ("regescrt", 405),
    ("sdp01", 406),
    ("inv2543", 400),
    // Ours.
    ("own-nul", 400),
    // Control characters are legal in quoted pairs; they are refused all the same.
    ("own-quotedcontrols", 400),
    ("own-latin1", 400),
    ("own-barelf", 400),
    ("own-manyheaders", 400),
    ("own-truncated", 400),
    ("own-longtag", 200),
    ("own-vias", 200),
    ("own-maddr", 200),
    ("own-accepts", 200),
    ("own-nocontact", 400),
    ("own-cseqmethod", 400),
    ("own-route", 200),
    ("own-binary", 0),
    ("own-spacecolon", 200),
];

fn files() -> BTreeMap<String, Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture");
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

/// The final answer to one datagram, if any; calls that arrive are answered by the test's task.
async fn ask(peer: &Peer, data: &[u8]) -> u16 {
    peer.send(data).await;
    let mut buffer = vec![0; 65_536];
    while let Ok(got) = timeout(Duration::from_millis(150), peer.socket.recv_from(&mut buffer)).await {
        let (length, from) = got.unwrap();
        assert_eq!(from, peer.server);
        let text = Text(String::from_utf8_lossy(&buffer[..length]).into_owned());
        assert!(!text.0.split_once("\r\n\r\n").unwrap().0.contains('\0'));
        if text.status() >= 200 {
            return text.status();
        }
    }
    0
}

#[tokio::test]
async fn every_torture_message_is_answered_properly_or_dropped() {
    // The 200s that nobody acknowledges are given up soon, and BYE follows: it must not go elsewhere.
    let (endpoint, mut calls, address) = endpoint(|config| config.t1 = Duration::from_millis(10)).await;
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            tokio::spawn(async move {
                let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
                while !matches!(
                    session.next_event().await,
                    sidetone_signaling::sip::SessionEvent::Ended { .. }
                ) {}
            });
        }
    });
    // At an address of its own: without rport an answer does go to another port of the sender's address.
    let bystander = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let third = bystander.local_addr().unwrap().to_string();
    let files = files();
    assert_eq!(files.len(), EXPECTED.len(), "every file has its expectation");
    let mut wrong = Vec::new();
    for (name, expected) in EXPECTED {
        let data = files.get(*name).unwrap_or_else(|| panic!("{name}.dat"));
        let got = ask(&Peer::new(address).await, data).await;
        if got != *expected {
            wrong.push(format!("{name}: {got} instead of {expected}"));
        }
        // Again with a third party that exists and would notice.
        let aimed =
            String::from_utf8_lossy(data).replace("third.example.com", &third).replace("torture", "aimed");
        ask(&Peer::new(address).await, aimed.as_bytes()).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    sip_support::soon(async {
        while endpoint.load().calls > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let heard = timeout(Duration::from_millis(100), bystander.recv_from(&mut [0; 1500])).await;
    assert!(heard.is_err(), "a third party got a datagram");
    assert_eq!(Peer::new(address).await.ask("OPTIONS", "", "").await.status(), 200);
}

#[tokio::test]
async fn every_torture_message_cut_anywhere_is_survived() {
    let (_endpoint, calls, address) =
        endpoint(|config| config.limits.invites_per_second_per_source = 0).await;
    drop(calls);
    let sender = Peer::new(address).await;
    for data in files().values() {
        for cut in (0..data.len().min(1200)).step_by(11) {
            sender.send(&data[..cut]).await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut peer = Peer::new(address).await;
    let answer = loop {
        peer.cseq += 1;
        peer.send(peer.request("OPTIONS", peer.cseq, "", "")).await;
        if let Ok(answer) = timeout(Duration::from_secs(1), peer.recv()).await {
            break answer;
        }
    };
    assert_eq!(answer.status(), 200);
}
