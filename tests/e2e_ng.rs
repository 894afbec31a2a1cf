//! The NG protocol from a proxy's point of view, beside the field's own server where it is installed.

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use support::ng::{Media, Ng, decode, keys, lines, packets, rtpengine, sdp_of, sender_report, target};
use support::server::{Server, Setup};
use support::within;

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

fn shared() -> std::sync::Arc<Server> {
    Server::shared(&SHARED, || {
        let mut setup = Setup::new("");
        setup.media_ports = 800;
        setup
    })
}

#[test]
fn a_call_is_relayed_both_ways_bit_for_bit() {
    let server = shared();
    relays_both_ways(server.ng, "both-ways");
}

#[test]
fn the_fields_server_does_the_same_in_the_same_flow() {
    if let Some((_process, address)) = rtpengine() {
        relays_both_ways(address, "both-ways");
    }
}

/// One call from offer to delete.
fn relays_both_ways(address: SocketAddr, call_id: &str) {
    let mut ng = Ng::new(address);
    assert_eq!(ng.command("ping", json!({}))["result"], "pong");
    let (a, b) = (Media::new(), Media::new());
    let (to_b, to_a) = ng.connect(call_id, &a, &b);
    let (toward_a, toward_b) = (target(&to_b, 0), target(&to_a, 0));
    for (from, to, at, ssrc) in [(&a, toward_b, &b, 0x1111), (&b, toward_a, &a, 0x2222)] {
        let sent = packets(0, ssrc, 65_530, 30);
        assert_eq!(from.send_through(to, at, &sent), sent);
        let report = sender_report(ssrc);
        let rtcp = SocketAddr::new(to.ip(), to.port() + 1);
        assert_eq!(from.send_rtcp_through(rtcp, at, &report), Some(report));
    }
    let query = ng.command("query", json!({"call-id": call_id}));
    assert_eq!(query["totals"]["RTP"]["packets"], 60, "{query}");
    let deleted = ng.command("delete", json!({"call-id": call_id, "from-tag": "a"}));
    assert_eq!((&deleted["result"], &deleted["totals"]["RTP"]["packets"]), (&json!("ok"), &json!(60)));
    assert_eq!(deleted["totals"]["RTP"]["bytes"], query["totals"]["RTP"]["bytes"]);
    let stream = &deleted["tags"]["a"]["medias"][0]["streams"][0];
    assert_eq!(stream["SSRC"], 0x1111, "{deleted}");
    assert_eq!(stream["stats"]["packets"], 30);
    assert_eq!(stream["endpoint"]["port"], u64::from(a.port()));
    let again = ng.command("delete", json!({"call-id": call_id, "from-tag": "a"}));
    assert_eq!(again["result"], "ok");
    assert!(again["warning"].as_str().expect("a warning").contains("not found"), "{again}");
}

#[test]
fn replies_have_the_structure_of_the_fields_server() {
    let Some((_process, theirs)) = rtpengine() else { return };
    let server = shared();
    let run = |address: SocketAddr| {
        let mut ng = Ng::new(address);
        let (a, b) = (Media::new(), Media::new());
        let mut offer = keys("structure", "a", None, &a.sdp("0 8 101"));
        offer["flags"] = json!(["trust-address", "codec-strip-PCMA"]);
        let offer = ng.command("offer", offer);
        let answer = ng.command("answer", keys("structure", "a", Some("b"), &b.sdp("0 101")));
        let sent = packets(0, 7, 1, 5);
        a.send_through(target(&sdp_of(&answer), 0), &b, &sent);
        let query = ng.command("query", json!({"call-id": "structure"}));
        let delete = ng.command("delete", json!({"call-id": "structure", "from-tag": "a", "to-tag": "b"}));
        let errors: Vec<Value> = [
            ("offer", json!({"call-id": "x", "from-tag": "a"})),
            ("offer", json!({"call-id": "x", "sdp": a.sdp("0")})),
            ("offer", json!({"from-tag": "a", "sdp": a.sdp("0")})),
            ("offer", json!({"call-id": "x", "from-tag": "a", "sdp": "nonsense"})),
            ("answer", json!({"call-id": "x", "from-tag": "a", "to-tag": "b", "sdp": a.sdp("0")})),
            ("query", json!({"call-id": "x"})),
            ("delete", json!({"call-id": "x", "from-tag": "a", "flags": ["fatal"]})),
            ("fly", json!({})),
        ]
        .into_iter()
        .map(|(command, keys)| ng.command(command, keys)["result"].clone())
        .collect();
        (sdp_of(&offer), sdp_of(&answer), query, delete, errors)
    };
    let (theirs, ours) = (run(theirs), run(server.ng));
    assert_eq!(shape(&ours.0), shape(&theirs.0), "the offer:\n{}\n{}", ours.0, theirs.0);
    assert_eq!(shape(&ours.1), shape(&theirs.1), "the answer:\n{}\n{}", ours.1, theirs.1);
    assert_eq!(ours.4, theirs.4, "results of commands that fail");
    for (ours, theirs) in [(&ours.2, &theirs.2), (&ours.3, &theirs.3)] {
        for path in [
            "/created",
            "/totals/RTP/packets",
            "/totals/RTP/bytes",
            "/totals/RTP/errors",
            "/totals/RTCP/packets",
            "/tags/a/tag",
            "/tags/a/medias/0/type",
            "/tags/a/medias/0/index",
            "/tags/a/medias/0/protocol",
            "/tags/a/medias/0/streams/0/local port",
            "/tags/a/medias/0/streams/0/endpoint/address",
            "/tags/a/medias/0/streams/0/SSRC",
            "/tags/a/medias/0/streams/0/stats/packets",
            "/tags/a/medias/0/streams/1/stats/packets",
            "/tags/b/medias/0/streams/0/last packet",
        ] {
            let kind = |value: &Value| value.pointer(path).map(|value| (value.is_string(), value.is_u64()));
            assert!(kind(theirs).is_some(), "{path} is not in {theirs}");
            assert_eq!(kind(ours), kind(theirs), "{path} in {ours}");
        }
        assert_eq!(ours["totals"]["RTP"]["packets"], theirs["totals"]["RTP"]["packets"]);
        // Later versions than the one that Debian has, and OpenSIPS, look for it here.
        assert_eq!(ours["SSRC"]["7"]["packets"], 5, "{ours}");
    }
}

/// What matters of a description: everything but ports and the order of attributes.
fn shape(sdp: &str) -> BTreeSet<String> {
    let mut shape = BTreeSet::new();
    for line in sdp.split("\r\n").filter(|line| !line.is_empty()) {
        let mut fields: Vec<&str> = line.split(' ').collect();
        if line.starts_with("m=") {
            fields[1] = "PORT";
        }
        let line = fields.join(" ");
        // One connection for the session or one for each media description is the same here.
        shape.insert(if line.starts_with("a=rtcp:") { "a=rtcp:PORT".to_owned() } else { line });
    }
    shape
}

#[test]
fn a_reoffer_puts_on_hold_and_keeps_ports() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    let (a, b) = (Media::new(), Media::new());
    let (to_b, to_a) = ng.connect("hold", &a, &b);
    let (toward_a, toward_b) = (target(&to_b, 0), target(&to_a, 0));
    assert_eq!(a.send_through(toward_b, &b, &packets(0, 1, 1, 5)).len(), 5);
    assert_eq!(b.send_through(toward_a, &a, &packets(0, 2, 1, 5)).len(), 5);

    let held = a.sdp("0 8 101").replace("a=sendrecv", "a=sendonly");
    let offer = sdp_of(&ng.command("offer", keys("hold", "a", Some("b"), &held)));
    assert_eq!(target(&offer, 0), toward_a);
    assert_eq!(lines(&offer, "a=send"), ["a=sendonly"]);
    let holds = b.sdp("0 101").replace("a=sendrecv", "a=recvonly");
    let answer = sdp_of(&ng.command("answer", keys("hold", "a", Some("b"), &holds)));
    assert_eq!((target(&answer, 0), lines(&answer, "a=recvonly").len()), (toward_b, 1));
    assert_eq!(a.send_through(toward_b, &b, &packets(0, 1, 6, 3)).len(), 3, "music on hold");
    assert_eq!(b.send_through(toward_a, &a, &packets(0, 2, 6, 3)).len(), 0, "nobody listens");

    // The other side ends the hold; the offer comes from the callee.
    let offer = sdp_of(&ng.command("offer", keys("hold", "b", Some("a"), &b.sdp("0 101"))));
    let answer = sdp_of(&ng.command("answer", keys("hold", "b", Some("a"), &a.sdp("0 101"))));
    assert_eq!((target(&offer, 0), target(&answer, 0)), (toward_b, toward_a));
    assert_eq!(b.send_through(toward_a, &a, &packets(0, 2, 9, 3)).len(), 3);

    // The hold of RFC 2543.
    let zero = a.sdp("0 101").replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0");
    let offer = sdp_of(&ng.command("offer", keys("hold", "a", Some("b"), &zero)));
    assert_eq!(
        (lines(&offer, "c="), lines(&offer, "a=send")),
        (vec!["c=IN IP4 0.0.0.0"], vec!["a=sendonly"])
    );
    // The phone moves.
    let moved = Media::new();
    ng.command("offer", keys("hold", "a", Some("b"), &moved.sdp("0 101")));
    let answer = sdp_of(&ng.command("answer", keys("hold", "a", Some("b"), &b.sdp("0 101"))));
    assert_eq!(target(&answer, 0), toward_b);
    assert_eq!(b.send_through(toward_a, &moved, &packets(0, 2, 12, 3)).len(), 3);
    ng.command("delete", json!({"call-id": "hold"}));
}

#[test]
fn each_branch_of_a_fork_has_media_of_its_own() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    let a = Media::new();
    let phones = [Media::new(), Media::new()];
    let mut ways = Vec::new();
    for (number, phone) in phones.iter().enumerate() {
        let mut offer = keys("fork", "a", None, &a.sdp("0 101"));
        offer["via-branch"] = format!("z9hG4bK{number}").into();
        ways.push((phone, target(&sdp_of(&ng.command("offer", offer)), 0)));
    }
    assert_ne!(ways[0].1, ways[1].1);
    for (number, (phone, toward_a)) in ways.iter().enumerate().rev() {
        let mut answer = keys("fork", "a", Some(&format!("b{number}")), &phone.sdp("0 101"));
        answer["via-branch"] = format!("z9hG4bK{number}").into();
        let toward_phone = target(&sdp_of(&ng.command("answer", answer)), 0);
        let sent = packets(0, 1 + number as u32, 1, 4);
        assert_eq!(a.send_through(toward_phone, phone, &sent), sent);
        assert_eq!(phone.send_through(*toward_a, &a, &sent), sent);
    }
    // The loser leaves, the winner talks on.
    let loser = json!({"call-id": "fork", "from-tag": "a", "via-branch": "z9hG4bK0"});
    assert_eq!(ng.command("delete", loser)["result"], "ok");
    let tags = ng.command("query", json!({"call-id": "fork"}))["tags"].as_object().expect("tags").clone();
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["a", "b1"]);
    assert_eq!(ways[1].0.send_through(ways[1].1, &a, &packets(0, 9, 9, 4)).len(), 4);
    ng.command("delete", json!({"call-id": "fork", "from-tag": "a"}));
    assert!(ng.command("query", json!({"call-id": "fork"}))["result"] == "error");
}

#[test]
fn phones_that_only_rang_end_with_the_conversation() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    let (a, b) = (Media::new(), Media::new());
    for branch in ["z9hG4bK0", "z9hG4bK1"] {
        let mut offer = keys("rang", "a", None, &a.sdp("0"));
        offer["via-branch"] = branch.into();
        sdp_of(&ng.command("offer", offer));
    }
    let mut answer = keys("rang", "a", Some("b"), &b.sdp("0"));
    answer["via-branch"] = "z9hG4bK1".into();
    sdp_of(&ng.command("answer", answer));
    ng.command("delete", json!({"call-id": "rang", "from-tag": "a", "to-tag": "b"}));
    assert_eq!(ng.command("query", json!({"call-id": "rang"}))["result"], "error");
}

#[test]
fn an_early_answer_of_another_phone_takes_the_media_over() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    let (a, first, second) = (Media::new(), Media::new(), Media::new());
    let (_, to_a) = ng.connect("early", &a, &first);
    let again = sdp_of(&ng.command("answer", keys("early", "a", Some("c"), &second.sdp("0 101"))));
    assert_eq!(target(&again, 0), target(&to_a, 0));
    assert_eq!(a.send_through(target(&again, 0), &second, &packets(0, 1, 1, 4)).len(), 4);
    ng.command("delete", json!({"call-id": "early"}));
}

#[test]
fn g711_is_changed_from_one_law_to_the_other() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    let (a, b) = (Media::new(), Media::new());
    let mut offer = keys("laws", "a", None, &a.sdp("0 101"));
    offer["codec"] = json!({"mask": ["PCMU"], "transcode": ["PCMA", "opus"]});
    let offer = sdp_of(&ng.command("offer", offer));
    assert!(lines(&offer, "m=")[0].ends_with("RTP/AVP 8 101"), "{offer}");
    let answer = sdp_of(&ng.command("answer", keys("laws", "a", Some("b"), &b.sdp("8 101"))));
    assert!(lines(&answer, "m=")[0].ends_with("RTP/AVP 0 101"), "{answer}");
    let sent = packets(0, 1, 1, 3);
    let heard = a.send_through(target(&answer, 0), &b, &sent);
    assert_eq!(heard.len(), 3);
    for (heard, sent) in heard.iter().zip(&sent) {
        assert_eq!((heard[1], heard.len(), &heard[2..4]), (8, sent.len(), &sent[2..4]));
        let mut expected = sent[12..].to_vec();
        engine::codec::g711::ulaw_to_alaw_in_place(&mut expected);
        assert_eq!(heard[12..], expected);
    }
    let events = packets(101, 1, 4, 2);
    assert_eq!(a.send_through(target(&answer, 0), &b, &events), events, "keys go through");
    assert_eq!(b.send_through(target(&offer, 0), &a, &packets(8, 2, 1, 2))[0][1], 0);
    ng.command("delete", json!({"call-id": "laws"}));
}

#[test]
fn several_media_go_through_and_what_is_no_rtp_stays() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    let (a, video, b, screen) = (Media::new(), Media::new(), Media::new(), Media::new());
    let with = |audio: &Media, video: &Media| {
        format!(
            "{}m=video {} RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:* nack pli\r\n\
             m=image 4010 udptl t38\r\na=T38FaxVersion:0\r\nm=audio 0 RTP/AVP 0\r\n",
            audio.sdp("0 101"),
            video.port()
        )
    };
    let offer = sdp_of(&ng.command("offer", keys("media", "a", None, &with(&a, &video))));
    let media = lines(&offer, "m=");
    assert_eq!(media[2..], ["m=image 4010 udptl t38", "m=audio 0 RTP/AVP 0"]);
    assert_eq!(lines(&offer, "c=").len(), 4);
    for kept in ["a=x-vendor:kept", "a=rtcp-fb:* nack pli", "a=T38FaxVersion:0", "a=rtpmap:96 VP8/90000"] {
        assert!(offer.contains(kept), "{kept} is missing:\n{offer}");
    }
    let answer = sdp_of(&ng.command("answer", keys("media", "a", Some("b"), &with(&b, &screen))));
    let frames = packets(96, 5, 1, 4);
    assert_eq!(video.send_through(target(&answer, 1), &screen, &frames), frames);
    assert_eq!(b.send_through(target(&offer, 0), &a, &packets(0, 6, 1, 4)).len(), 4);
    ng.command("delete", json!({"call-id": "media"}));
}

#[test]
fn rtcp_shares_a_port_where_it_was_agreed_on() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    let (a, b) = (Media::new(), Media::new());
    let with_mux = |media: &Media| format!("{}a=rtcp-mux\r\n", media.sdp("0 101"));
    let mut offer = keys("mux", "a", None, &with_mux(&a));
    offer["rtcp-mux"] = json!(["demux"]);
    let offer = sdp_of(&ng.command("offer", offer));
    assert!(lines(&offer, "a=rtcp-mux").is_empty(), "{offer}");
    let answer = sdp_of(&ng.command("answer", keys("mux", "a", Some("b"), &b.sdp("0 101"))));
    assert_eq!(lines(&answer, "a=rtcp-mux").len(), 1, "{answer}");
    let toward_b = target(&answer, 0);
    assert_eq!(lines(&answer, "a=rtcp:"), [format!("a=rtcp:{}", toward_b.port())]);
    let report = sender_report(3);
    assert_eq!(a.send_through(toward_b, &b, &packets(0, 3, 1, 2)).len(), 2);
    a.rtp.send_to(&report, toward_b).expect("sent");
    let mut buffer = [0; 2048];
    let (length, from) = b.rtcp.recv_from(&mut buffer).expect("RTCP on its own port");
    assert_eq!((&buffer[..length], from.port()), (&*report, target(&offer, 0).port() + 1));
    ng.command("delete", json!({"call-id": "mux"}));
}

#[test]
fn a_command_sent_again_is_answered_again_and_executed_once() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    let a = Media::new();
    let cookie = ng.cookie();
    let mut datagram = format!("{cookie} ").into_bytes();
    let mut offer = keys("twice", "a", None, &a.sdp("0"));
    offer["command"] = "offer".into();
    support::ng::encode(&offer, &mut datagram);
    // Two at once, so that one of them may come while the other is executed, and one later.
    ng.socket.send(&datagram).expect("sent");
    ng.socket.send(&datagram).expect("sent");
    let replies: Vec<_> = (0..2).map(|_| ng.receive().expect("a reply")).collect();
    assert_eq!(replies[0], replies[1]);
    let again = ng.exchange(&cookie, &datagram);
    assert!(replies[0].ends_with(&again));
    let query = ng.command("query", json!({"call-id": "twice"}));
    assert_eq!(query["tags"].as_object().expect("tags").len(), 2, "one offer was executed: {query}");
    ng.command("delete", json!({"call-id": "twice"}));
    assert_eq!(ng.exchange(&cookie, &datagram), again, "even after the call");
    assert_eq!(ng.command("query", json!({"call-id": "twice"}))["result"], "error");
}

#[test]
fn json_is_answered_in_json() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    assert_eq!(ng.json_command("ping", json!({}))["result"], "pong");
    let (a, b) = (Media::new(), Media::new());
    let offer = ng.json_command("offer", keys("json", "a", None, &a.sdp("0")));
    let answer = ng.json_command("answer", keys("json", "a", Some("b"), &b.sdp("0")));
    let sent = packets(0, 1, 1, 2);
    assert_eq!(a.send_through(target(&sdp_of(&answer), 0), &b, &sent), sent);
    assert_ne!(target(&sdp_of(&offer), 0), target(&sdp_of(&answer), 0));
    assert!(ng.json_command("list", json!({}))["calls"].as_array().expect("calls").contains(&json!("json")));
    assert_eq!(ng.json_command("delete", json!({"call-id": "json", "delete-delay": 0}))["result"], "ok");
    let statistics = ng.json_command("statistics", json!({}));
    assert!(statistics["statistics"]["currentstatistics"]["sessionsown"].is_u64(), "{statistics}");
}

#[test]
fn garbage_is_refused_or_ignored_and_harms_nobody() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    for (payload, reason) in [
        ("", "Invalid data (no payload)"),
        ("x", "Invalid NG data format"),
        ("d", "Could not decode bencode dictionary"),
        ("de", "Dictionary contains no key \"command\""),
        ("d7:command3:flye", "Unrecognized command"),
        ("d7:command10:play mediae", "The command \"play media\" is not served by this version"),
    ] {
        let cookie = ng.cookie();
        let reply = ng.exchange(&cookie, format!("{cookie} {payload}").as_bytes());
        let (reply, _) = decode(&reply).expect("bencode");
        assert_eq!(
            (&reply["result"], &reply["error-reason"]),
            (&json!("error"), &json!(reason)),
            "{payload}"
        );
    }
    let cookie = ng.cookie();
    let nested = format!("{cookie} d7:command4:ping1:x{}{}e", "l".repeat(20_000), "e".repeat(20_000));
    let (reply, _) = decode(&ng.exchange(&cookie, nested.as_bytes())).expect("bencode");
    assert_eq!(reply["error-reason"], "Could not decode bencode dictionary");
    let mut state = 1u64;
    for _ in 0..2000 {
        let garbage: Vec<u8> = (0..state % 400)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(7);
        let _ = ng.socket.send(&garbage);
    }
    let encrypted = Media::new().sdp("0").replace("RTP/AVP", "RTP/SAVP");
    let reply = ng.command("offer", keys("srtp", "a", None, &encrypted));
    assert!(reply["error-reason"].as_str().expect("a reason").starts_with("SRTP is not served"), "{reply}");
    assert_eq!(ng.command("query", json!({"call-id": "srtp"}))["result"], "error", "it left nothing");
    assert_eq!(Ng::new(server.ng).command("ping", json!({}))["result"], "pong");
}

#[test]
fn media_goes_neither_to_control_sockets_nor_round_for_ever() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    let a = Media::new();
    let at = |port: u16| a.sdp("0").replace(&format!("m=audio {}", a.port()), &format!("m=audio {port}"));
    for port in [server.sip.port(), server.http.port(), server.ng.port()] {
        let reply = ng.command("offer", keys("control", "a", None, &at(port)));
        assert_eq!(reply["result"], "error", "{reply}");
    }
    let multicast = a.sdp("0").replace("c=IN IP4 127.0.0.1", "c=IN IP4 224.0.0.1");
    assert_eq!(ng.command("offer", keys("control", "a", None, &multicast))["result"], "error");
    let offer = sdp_of(&ng.command("offer", keys("ring", "a", None, &a.sdp("0"))));
    // The callee's media would come back to the caller, which is odd and ends there ...
    let answer = ng.command("answer", keys("ring", "a", Some("b"), &at(target(&offer, 0).port())));
    // ... unless the caller's own would come back as well.
    let own = at(target(&sdp_of(&answer), 0).port());
    let ring = ng.command("offer", keys("ring", "a", Some("b"), &own));
    assert_eq!(ring["error-reason"], "Media would come back to this server for ever", "{ring}");
    ng.command("delete", json!({"call-id": "ring"}));
}

#[test]
fn a_full_server_refuses_in_words_that_proxies_know() {
    let server = Server::start(&Setup::new("[calls]\nmax = 2\n"));
    let mut ng = Ng::new(server.ng);
    let a = Media::new();
    for call_id in ["1", "2"] {
        sdp_of(&ng.command("offer", keys(call_id, "a", None, &a.sdp("0"))));
    }
    let refused = ng.command("offer", keys("3", "a", None, &a.sdp("0")));
    assert_eq!(refused["result"], "load limit", "{refused}");
    assert_eq!(refused["message"], "Parallel session limit reached");
    let mut plain = keys("3", "a", None, &a.sdp("0"));
    plain["supports"] = json!([]);
    let refused = ng.command("offer", plain);
    assert_eq!(
        (&refused["result"], &refused["error-reason"]),
        (&json!("error"), &json!("Parallel session limit reached"))
    );
    assert_eq!(ng.command("ping", json!({}))["result"], "pong");
    sdp_of(&ng.command("offer", keys("2", "a", None, &a.sdp("0"))));
    assert_eq!(ng.command("delete", json!({"call-id": "1"}))["result"], "ok");
    let room = within(Duration::from_secs(2), || {
        ng.command("offer", keys("3", "a", None, &a.sdp("0")))["result"] == "ok"
    });
    assert!(room, "a deleted call makes room");
    assert_eq!(server.calls().len(), 2);
    // Draining: what runs goes on, nothing new comes.
    server.signal("TERM");
    let drained = within(Duration::from_secs(2), || {
        ng.command("offer", keys("4", "a", None, &a.sdp("0")))["warning"]
            == "draining: no new calls are taken"
    });
    assert!(drained, "a draining server takes no calls");
    sdp_of(&ng.command("offer", keys("3", "a", None, &a.sdp("0"))));
    for call_id in ["2", "3"] {
        ng.command("delete", json!({"call-id": call_id}));
    }
    assert_eq!(server.wait(Duration::from_secs(10)), Some(0));
}

#[test]
fn a_deleted_call_may_live_on_for_a_while() {
    let server = shared();
    let mut ng = Ng::new(server.ng);
    let (a, b) = (Media::new(), Media::new());
    let (_, to_a) = ng.connect("later", &a, &b);
    ng.command("delete", json!({"call-id": "later", "from-tag": "a", "delete delay": 1}));
    assert_eq!(a.send_through(target(&to_a, 0), &b, &packets(0, 1, 1, 2)).len(), 2);
    let gone = within(Duration::from_secs(5), || {
        ng.command("query", json!({"call-id": "later"}))["result"] == "error"
    });
    assert!(gone, "its time is over");
    ng.connect("kept", &a, &b);
    ng.command("delete", json!({"call-id": "kept", "from-tag": "a", "delete-delay": "1"}));
    ng.command("offer", keys("kept", "a", Some("b"), &a.sdp("0")));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(ng.command("query", json!({"call-id": "kept"}))["result"], "ok", "a new offer revives it");
    ng.command("delete", json!({"call-id": "kept"}));
}

#[test]
fn a_call_without_media_is_dropped() {
    let server = Server::start(&Setup::new("[media]\ntimeout = \"1s\"\n"));
    let mut ng = Ng::new(server.ng);
    let (a, b) = (Media::new(), Media::new());
    ng.connect("silent", &a, &b);
    let dropped = within(Duration::from_secs(10), || {
        server.metric("sidetone_ng_calls_timed_out_total", "") == Some(1.0)
    });
    assert!(dropped, "{}", server.metrics_like("sidetone_ng"));
    assert_eq!(ng.command("query", json!({"call-id": "silent"}))["result"], "error");
    assert_eq!(server.calls().len(), 0);
}

#[test]
fn thousands_of_calls_leave_nothing_behind() {
    let mut setup = Setup::new("");
    setup.media_ports = 400;
    let server = Server::start(&setup);
    let mut ng = Ng::new(server.ng);
    let (a, b) = (Media::new(), Media::new());
    let mut calls = |first: usize, count: usize| {
        for number in first..first + count {
            let call_id = format!("call-{number}");
            ng.connect(&call_id, &a, &b);
            assert_eq!(ng.command("delete", json!({"call-id": call_id, "from-tag": "a"}))["result"], "ok");
        }
    };
    let descriptors =
        || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the process lives").count();
    // The allocator, tables and part of the cache of replies fill once.
    calls(0, 1000);
    let settled = within(Duration::from_secs(5), || server.calls().is_empty());
    assert!(settled, "calls are gone");
    let (memory, open) = (server.resident_bytes(), descriptors());
    calls(1000, 2000);
    assert!(
        within(Duration::from_secs(5), || server.calls().is_empty() && descriptors() <= open + 8),
        "{} descriptors, {open} before",
        descriptors()
    );
    // Replies are kept for up to a minute: 6,000 of about half a kilobyte and what surrounds them.
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < 12 << 20, "memory grew by {grown} bytes");
    assert_eq!(server.metric("sidetone_ng_calls_total", ""), Some(3000.0));
    assert_eq!(server.metric("sidetone_ng_calls_running", ""), Some(0.0));
}
