use super::*;

const FAR: &str = "192.0.2.2:5060";

fn uac(transport: &'static str) -> Uac {
    Uac::new(Arc::new(UacConfig {
        request_uri: format!("sip:echo@{FAR}"),
        destination: FAR.parse().unwrap(),
        local: "192.0.2.1:6000".parse().unwrap(),
        transport,
        from_user: "load".into(),
        run: 0xabc,
        answer_timeout_ns: 32_000_000_000,
    }))
}

fn sent(out: &mut Vec<Output>) -> Vec<(SocketAddr, Message)> {
    let messages = out.drain(..).filter_map(|output| match output {
        Output::Send(to, bytes) => Some((to, Message::parse(&bytes).expect("we write valid messages"))),
        _ => None,
    });
    messages.collect()
}

fn method(message: &Message) -> &str {
    match &message.start {
        StartLine::Request(method, _) => method,
        StartLine::Response(..) => "",
    }
}

/// A response to `request` as a server would write it.
fn response(request: &Message, status: &str, to_tag: &str, fields: &str) -> Message {
    let text = format!(
        "SIP/2.0 {status}\r\n{}{}{}To: {}{to_tag}\r\n{}{fields}\r\n",
        request.copied("via", "Via"),
        request.copied("from", "From"),
        request.copied("call-id", "Call-ID"),
        request.header("to").unwrap(),
        request.copied("cseq", "CSeq"),
    );
    Message::parse(text.as_bytes()).unwrap()
}

fn start(uac: &mut Uac) -> (Message, Vec<Output>) {
    let mut out = Vec::new();
    uac.start(0, 5, "v=0\r\n", &mut out);
    let (to, invite) = sent(&mut out).remove(0);
    assert_eq!(to, FAR.parse().unwrap());
    (invite, out)
}

#[test]
fn an_answered_call_is_acknowledged_along_the_route_set_and_taken_down() {
    let mut uac = uac("UDP");
    let (invite, mut out) = start(&mut uac);
    uac.handle_response(1, &response(&invite, "180 Ringing", ";tag=a", ""), &mut out);
    assert!(matches!(out.pop(), Some(Output::Ringing)));
    let fields = "Contact: <sip:far@192.0.2.3:5090>\r\nRecord-Route: <sip:192.0.2.8;lr>\r\nRecord-Route: <sip:192.0.2.9:5070;lr>\r\n";
    let ok = response(&invite, "200 OK", ";tag=a", fields);
    uac.handle_response(2, &ok, &mut out);
    assert!(matches!(out.pop(), Some(Output::Answered(_))));
    let (to, ack) = sent(&mut out).remove(0);
    assert_eq!(to, "192.0.2.9:5070".parse().unwrap());
    assert_eq!(ack.start, StartLine::Request("ACK".into(), "sip:far@192.0.2.3:5090".into()));
    assert_eq!(ack.list("route"), ["<sip:192.0.2.9:5070;lr>", "<sip:192.0.2.8;lr>"]);
    assert_eq!(ack.cseq(), Some((1, "ACK")));
    assert_ne!(ack.header("via"), invite.header("via"), "the ACK of a 2xx is its own transaction");

    uac.handle_response(3, &ok, &mut out);
    assert!(matches!(out.remove(0), Output::RepeatedAnswer));
    assert_eq!(method(&sent(&mut out)[0].1), "ACK");

    uac.hang_up(4, &mut out);
    let (_, bye) = sent(&mut out).remove(0);
    assert_eq!((method(&bye), bye.cseq()), ("BYE", Some((2, "BYE"))));
    assert_eq!(tag(bye.header("to").unwrap()), Some("a"));
    uac.handle_response(5, &response(&bye, "200 OK", "", ""), &mut out);
    assert!(matches!(out.pop(), Some(Output::Ended { by_peer: false, clean: true })));
    assert!(uac.is_over());
}

#[test]
fn timer_a_doubles_until_a_provisional_response_and_never_runs_on_tcp() {
    let mut udp = uac("UDP");
    let (invite, mut out) = start(&mut udp);
    let mut times_ms = Vec::new();
    for ms in 0..4_000 {
        udp.handle_timeout(ms * 1_000_000, &mut out);
        if !sent(&mut out).is_empty() {
            times_ms.push(ms);
        }
    }
    assert_eq!(times_ms, [500, 1_500, 3_500]);
    udp.handle_response(4_000_000_000, &response(&invite, "100 Trying", "", ""), &mut out);
    udp.handle_timeout(9_000_000_000, &mut out);
    assert!(out.is_empty());
    let mut tcp = uac("TCP");
    let (_, mut out) = start(&mut tcp);
    tcp.handle_timeout(9_000_000_000, &mut out);
    assert!(out.is_empty());
}

#[test]
fn a_refusal_is_acknowledged_in_the_invites_transaction_and_again_when_repeated() {
    let mut uac = uac("UDP");
    let (invite, mut out) = start(&mut uac);
    let busy = response(&invite, "486 Busy Here", ";tag=b", "");
    uac.handle_response(1, &busy, &mut out);
    let failed = out.pop();
    assert!(matches!(&failed, Some(Output::Failed(reason)) if reason == "486 Busy Here"), "{failed:?}");
    let (_, ack) = sent(&mut out).remove(0);
    assert_eq!(ack.header("via"), invite.header("via"));
    assert_eq!(tag(ack.header("to").unwrap()), Some("b"));
    uac.handle_response(2, &busy, &mut out);
    assert_eq!(method(&sent(&mut out)[0].1), "ACK");
    assert!(uac.is_over());
}

#[test]
fn hanging_up_while_it_rings_cancels_and_a_crossing_answer_gets_a_bye() {
    let mut uac = uac("UDP");
    let (invite, mut out) = start(&mut uac);
    uac.hang_up(1, &mut out);
    assert!(out.is_empty(), "no CANCEL before a provisional response");
    uac.handle_response(2, &response(&invite, "180 Ringing", ";tag=a", ""), &mut out);
    let (_, cancel) = sent(&mut out).remove(0);
    assert_eq!((method(&cancel), cancel.header("via")), ("CANCEL", invite.header("via")));
    uac.handle_response(3, &response(&invite, "200 OK", ";tag=a", "Contact: <sip:192.0.2.2>\r\n"), &mut out);
    let methods: Vec<_> = sent(&mut out).iter().map(|(_, m)| method(m).to_owned()).collect();
    assert_eq!(methods, ["ACK", "BYE"]);
}

#[test]
fn silence_fails_the_call_when_the_time_is_up() {
    let mut uac = uac("UDP");
    let (_, mut out) = start(&mut uac);
    uac.handle_timeout(32_000_000_000, &mut out);
    assert!(matches!(&out[..], [Output::Failed(reason)] if reason == "no response"));
    assert!(uac.is_over());
}

#[test]
fn the_far_end_may_hang_up_and_call_ids_name_their_call() {
    let mut uac = uac("UDP");
    let (invite, mut out) = start(&mut uac);
    assert_eq!(uac.config.call_number(invite.header("call-id").unwrap()), Some(5));
    assert_eq!(uac.config.call_number("def-5@192.0.2.1"), None);
    uac.handle_response(1, &response(&invite, "200 OK", ";tag=a", "Contact: <sip:192.0.2.2>\r\n"), &mut out);
    out.clear();
    let bye = "BYE sip:load@192.0.2.1:6000 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKx\r\n\
        From: <sip:b>;tag=a\r\nTo: <sip:a>;tag=c\r\nCall-ID: x\r\nCSeq: 1 BYE\r\n\r\n";
    uac.handle_request(FAR.parse().unwrap(), Message::parse(bye.as_bytes()).unwrap(), &mut out);
    assert!(matches!(out.pop(), Some(Output::Ended { by_peer: true, clean: true })));
    assert_eq!(sent(&mut out)[0].1.start, StartLine::Response(200, "OK".into()));
}
