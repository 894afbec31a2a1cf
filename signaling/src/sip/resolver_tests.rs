use std::sync::atomic::Ordering;

use dns_server::{a, dns, naptr, srv};
use hickory_resolver::proto::rr::rdata::AAAA;
use proptest::prelude::*;

use super::*;

#[path = "../../tests/sip_support/dns.rs"]
mod dns_server;

const V4: Families = Families { v4: true, v6: false };

async fn found(resolver: &Resolver, uri: &str, transport: Option<Transport>) -> Vec<String> {
    let hops = resolver.resolve(&Uri::parse(uri).unwrap(), transport, V4).await;
    hops.into_iter().map(|hop| format!("{} {} {}", hop.transport.name(), hop.address, hop.name)).collect()
}

#[tokio::test]
async fn every_way_of_rfc_3263() {
    let (server, _) = dns(vec![
        ("example.com", naptr(20, 10, "SIP+D2U", "_sip._udp.example.com")),
        ("example.com", naptr(10, 20, "SIP+D2T", "_sip._tcp.example.com")),
        ("example.com", naptr(10, 10, "SIPS+D2T", "_sips._tcp.example.com")),
        ("example.com", naptr(1, 1, "E2U+sip", "nobody.example.com")),
        ("_sip._udp.example.com", srv(20, 0, 5080, "b.example.com")),
        ("_sip._udp.example.com", srv(10, 0, 5070, "a.example.com")),
        ("_sip._tcp.example.com", srv(1, 0, 5060, "a.example.com")),
        ("_sips._tcp.example.com", srv(1, 0, 5061, "a.example.com")),
        ("a.example.com", a(1)),
        ("a.example.com", RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
        ("b.example.com", a(2)),
        ("b.example.com", a(3)),
        ("example.com", a(9)),
        ("_sip._tcp.none.example.com", srv(0, 0, 0, "")),
        ("none.example.com", a(4)),
        ("_sip._tcp.tcp.example.com", srv(0, 0, 5090, "a.example.com")),
    ])
    .await;
    let resolver = Resolver::new(&[server]);
    let udp = [
        "udp 192.0.2.1:5070 example.com",
        "udp 192.0.2.2:5080 example.com",
        "udp 192.0.2.3:5080 example.com",
    ];
    let mut all = vec!["tls 192.0.2.1:5061 example.com", "tcp 192.0.2.1:5060 example.com"];
    all.extend(udp);
    let sorted = |mut list: Vec<String>| {
        // Addresses of one name come in any order.
        if let [.., a, b] = list.as_mut_slice()
            && *a > *b
        {
            std::mem::swap(a, b);
        }
        list
    };
    assert_eq!(sorted(found(&resolver, "sip:x@example.com", None).await), all);
    assert_eq!(found(&resolver, "sips:x@example.com", None).await, all[..1]);
    assert_eq!(sorted(found(&resolver, "sip:x@example.com", Some(Transport::Udp)).await), udp);
    assert_eq!(
        found(&resolver, "sip:x@example.com:5099", Some(Transport::Tcp)).await,
        ["tcp 192.0.2.9:5099 example.com"]
    );
    assert_eq!(found(&resolver, "sip:x@a.example.com", None).await, ["udp 192.0.2.1:5060 a.example.com"]);
    assert_eq!(
        found(&resolver, "sip:x@a.example.com", Some(Transport::Tls)).await,
        ["tls 192.0.2.1:5061 a.example.com"]
    );
    assert_eq!(found(&resolver, "sip:tcp.example.com", None).await, ["tcp 192.0.2.1:5090 tcp.example.com"]);
    assert_eq!(found(&resolver, "sip:x@192.0.2.7", None).await, ["udp 192.0.2.7:5060 192.0.2.7"]);
    assert_eq!(
        found(&resolver, "sip:x@a.example.com;maddr=192.0.2.8", None).await,
        ["udp 192.0.2.8:5060 a.example.com"]
    );
    let nothing: [&str; 0] = [];
    assert_eq!(
        found(&resolver, "sip:none.example.com", Some(Transport::Tcp)).await,
        nothing,
        "the target is `.`"
    );
    assert_eq!(found(&resolver, "sip:unknown.example.com", None).await, nothing);
    assert_eq!(found(&resolver, "sip:[2001:db8::1]", None).await, nothing, "no socket leads there");
}

#[tokio::test]
async fn answers_are_remembered_and_failed_addresses_come_last() {
    let (server, asked) = dns(vec![
        ("_sip._udp.example.com", srv(1, 0, 5070, "a.example.com")),
        ("_sip._udp.example.com", srv(2, 0, 5070, "b.example.com")),
        ("a.example.com", a(1)),
        ("b.example.com", a(2)),
        ("example.com", a(9)),
    ])
    .await;
    let resolver = Resolver::new(&[server]);
    let uri = Uri::parse("sip:example.com").unwrap();
    let hops = resolver.resolve(&uri, Some(Transport::Udp), V4).await;
    let questions = asked.load(Ordering::Relaxed);
    let first = |hops: &[Hop]| hops.first().map(|hop| hop.address.ip().to_string());
    assert_eq!(first(&hops).as_deref(), Some("192.0.2.1"));
    resolver.note_failure(&hops[0], Instant::now());
    let again = resolver.resolve(&uri, Some(Transport::Udp), V4).await;
    assert_eq!(first(&again).as_deref(), Some("192.0.2.2"));
    assert_eq!(again.len(), 2, "it is still tried when the others fail");
    resolver.note_success(&hops[0]);
    assert_eq!(first(&resolver.resolve(&uri, Some(Transport::Udp), V4).await).as_deref(), Some("192.0.2.1"));
    assert_eq!(asked.load(Ordering::Relaxed), questions, "DNS is not asked again");
    for n in 0..3000_u16 {
        let hop = Hop { address: ([10, 0, (n >> 8) as u8, n as u8], 1).into(), ..hops[0].clone() };
        resolver.note_failure(&hop, Instant::now());
    }
    assert!(resolver.failed.lock().unwrap().len() <= MOST_FAILED);
}

#[test]
fn weights_decide_how_often_a_server_is_first() {
    let record = |weight, port| Srv { priority: 1, weight, port, target: "a".into() };
    let (mut draws, mut first) = (0, [0; 2]);
    for _ in 0..1000 {
        let ordered = in_order(vec![record(75, 0), record(25, 1)], || {
            draws += 1;
            draws
        });
        first[usize::from(ordered[0].port)] += 1;
    }
    assert!((700..800).contains(&first[0]), "{first:?}");
    let zero = in_order(vec![record(10, 0), record(0, 1)], || 0);
    assert_eq!(zero[0].port, 1, "one without weight has a small chance");
}

proptest! {
    #[test]
    fn no_server_is_lost_and_priorities_hold(
        servers in proptest::collection::vec((0_u16..4, any::<u16>(), any::<u16>()), 0..32),
        seed in any::<u64>(),
    ) {
        let records: Vec<_> = servers
            .iter()
            .map(|(priority, weight, port)| Srv { priority: *priority, weight: *weight, port: *port, target: "a".into() })
            .collect();
        let mut state = seed;
        let ordered = in_order(records.clone(), || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 16
        });
        prop_assert!(ordered.is_sorted_by_key(|srv| srv.priority));
        let sorted = |mut list: Vec<Srv>| {
            list.sort_by_key(|srv| (srv.priority, srv.weight, srv.port));
            list
        };
        prop_assert_eq!(sorted(ordered), sorted(records));
    }
}
