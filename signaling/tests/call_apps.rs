//! Calls to `echo`, `play` and nobody, over real sockets.

mod call_support;

use std::time::Duration;

use call_support::{House, Phone, returned};
use sidetone_signaling::apps::{AppConfig, AppsConfig, PlayConfig, RejectConfig, RouteRule, UserPattern};
use sidetone_signaling::call::{CallConfig, CallState};
use tokio::time::sleep;

fn routes(rules: Vec<(&str, AppConfig)>) -> AppsConfig {
    let rule = |(user, app): (&str, AppConfig)| RouteRule { user: UserPattern::Exact(user.into()), app };
    AppsConfig { agents: Vec::new(), routes: rules.into_iter().map(rule).collect() }
}

async fn echo_house(calls: CallConfig) -> House {
    House::open(routes(vec![("echo", AppConfig::Echo)]), calls).await
}

/// A WAV file with so much of a tone.
fn tone(milliseconds: usize) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("sidetone-tone-{}-{milliseconds}.wav", std::process::id()));
    let samples: Vec<u8> = (0..milliseconds * 8)
        .flat_map(|index| (((index as f64 * 0.35).sin() * 8000.0) as i16).to_le_bytes())
        .collect();
    let mut file =
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data".to_vec();
    file.extend((samples.len() as u32).to_le_bytes());
    file.extend(samples);
    std::fs::write(&path, file).expect("a WAV file");
    path
}

#[tokio::test]
async fn echo_returns_the_same_bytes() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    let answer = phone.call().await;
    let heard = phone.talk(answer.media(), 100).await;
    let same = returned(&heard, 100);
    assert!(same >= 80, "{same} of 100 frames came back, {} packets", heard.len());
    let calls = house.context.table.list();
    assert_eq!((calls.len(), calls[0].state, calls[0].app), (1, CallState::Answered, "echo"));
    assert_eq!(calls[0].from, "*****67", "numbers are masked");
    assert_eq!(calls[0].remote_rtp, Some(phone.rtp.local_addr().expect("an address")));
    let statistics = house.context.table.statistics(calls[0].id).await.expect("figures");
    assert!(statistics.received_packets >= 95, "{statistics:?}");
    phone.bye().await;
    house.is_quiet().await;
    let counters = house.context.counters();
    assert_eq!(
        (counters.offered.value(), counters.answered.value(), counters.ended_by_caller.value()),
        (1, 1, 1)
    );
    assert_eq!(house.context.table.setup_time().count(), 1);
}

#[tokio::test]
async fn hold_silences_and_resume_brings_the_audio_back() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    let media = phone.call().await.media();
    assert!(returned(&phone.talk(media, 30).await, 30) >= 15);

    let offer = phone.offer("a=sendonly\r\n");
    let held = phone.reinvite(&offer).await;
    assert_eq!(held.status(), Some(200));
    assert!(held.body.contains("a=recvonly\r\n"), "{}", held.body);
    assert_eq!(held.media(), media);
    assert_eq!(house.context.table.list()[0].state, CallState::Held);
    phone.packets_in(Duration::from_millis(200)).await;
    assert_eq!(phone.packets_in(Duration::from_millis(400)).await, 0, "nothing is sent on hold");

    let offer = phone.offer("");
    let resumed = phone.reinvite(&offer).await;
    assert!(resumed.body.contains("a=sendrecv\r\n") && resumed.media() == media, "{}", resumed.body);
    assert_eq!(house.context.table.list()[0].state, CallState::Answered);
    let heard = phone.talk(media, 50).await;
    assert!(returned(&heard, 50) >= 30, "{} packets", heard.len());
    assert_eq!(house.context.counters().holds.value(), 1);
    phone.bye().await;
    house.is_quiet().await;
}

#[tokio::test]
async fn media_moves_to_another_port() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    let media = phone.call().await.media();
    assert!(returned(&phone.talk(media, 30).await, 30) >= 15);
    phone.rtp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let offer = phone.offer("");
    assert_eq!(phone.reinvite(&offer).await.status(), Some(200));
    let heard = phone.talk(media, 50).await;
    assert!(returned(&heard, 50) >= 30, "{} packets", heard.len());
    phone.bye().await;
    house.is_quiet().await;
}

#[tokio::test]
async fn refused_change_leaves_the_call_as_it_was() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    let media = phone.call().await.media();
    let offer = phone.offer("").replace("RTP/AVP 0 101", "RTP/AVP 18");
    let refused = phone.reinvite(&offer).await;
    assert_eq!(refused.status(), Some(488));
    assert!(refused.header("Warning").is_some_and(|warning| warning.starts_with("305 ")), "{refused:?}");
    assert!(returned(&phone.talk(media, 50).await, 50) >= 30);
    phone.bye().await;
    house.is_quiet().await;
}

#[tokio::test]
async fn late_offer_is_answered_in_the_ack() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    phone.invite(None).await;
    let offered = phone.final_response().await;
    assert_eq!(offered.status(), Some(200));
    assert!(offered.body.contains(" RTP/AVP 0 8 13 101\r\n"), "{}", offered.body);
    let answer = phone.offer("");
    phone.ack(Some(&answer)).await;
    let heard = phone.talk(offered.media(), 50).await;
    assert!(returned(&heard, 50) >= 30, "{} packets", heard.len());
    phone.bye().await;
    house.is_quiet().await;
}

#[tokio::test]
async fn late_offer_without_an_answer_ends_with_bye() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    phone.invite(None).await;
    assert_eq!(phone.final_response().await.status(), Some(200));
    phone.ack(None).await;
    let bye = phone.house_request("BYE").await;
    assert!(bye.header("Reason").is_some_and(|reason| reason.contains("488")), "{bye:?}");
    house.is_quiet().await;
    assert_eq!(house.context.counters().ended_by_failed_offer.value(), 1);
}

#[tokio::test]
async fn calls_that_cannot_be_are_refused_for_the_right_reason() {
    let mut apps = routes(vec![("echo", AppConfig::Echo)]);
    let busy = RejectConfig { status: 486, reason: Some("Gone Fishing".into()) };
    apps.routes.push(RouteRule { user: UserPattern::Exact("busy".into()), app: AppConfig::Reject(busy) });
    let house = House::open(apps, CallConfig::default()).await;
    for (user, change, status, warning) in [
        ("nobody", None, 404, None),
        ("busy", None, 486, None),
        ("echo", Some(("RTP/AVP 0 101", "RTP/AVP 18 101")), 488, Some("305 ")),
        ("echo", Some(("RTP/AVP", "RTP/SAVP")), 488, Some("302 ")),
        ("echo", Some(("m=audio", "m=video")), 488, Some("304 ")),
        ("echo", Some(("IN IP4 127.0.0.1\r\nt", "IN IP4 224.0.0.1\r\nt")), 488, Some("399 ")),
        ("echo", Some(("m=audio ", "m=audio x")), 400, Some("399 ")),
    ] {
        let mut phone = Phone::new(&house, user).await;
        let mut offer = phone.offer("");
        if let Some((from, to)) = change {
            offer = offer.replace(from, to);
        }
        phone.invite(Some(&offer)).await;
        let refused = phone.final_response().await;
        phone.ack(None).await;
        assert_eq!(refused.status(), Some(status), "{user} {change:?}: {refused:?}");
        let told = refused.header("Warning").map(|warning| warning.get(..4).unwrap_or_default().to_owned());
        assert_eq!(told.as_deref(), warning, "{user} {change:?}: {refused:?}");
        assert!(user != "busy" || refused.start.ends_with("Gone Fishing"), "{refused:?}");
    }
    house.is_quiet().await;
    assert_eq!(house.context.counters().refused_media.value(), 4);
}

#[tokio::test]
async fn call_beyond_the_limit_is_told_to_retry() {
    let house = echo_house(CallConfig { max_calls: 1, ..CallConfig::default() }).await;
    let mut first = Phone::new(&house, "echo").await;
    first.call().await;
    let mut second = Phone::new(&house, "echo").await;
    let offer = second.offer("");
    second.invite(Some(&offer)).await;
    let refused = second.final_response().await;
    assert_eq!((refused.status(), refused.header("Retry-After")), (Some(503), Some("10")), "{refused:?}");
    second.ack(None).await;
    first.bye().await;
    house.is_quiet().await;
}

#[tokio::test]
async fn recording_is_played_and_then_the_call_ends() {
    let play = AppConfig::Play(PlayConfig { file: tone(600), repeat: false });
    let house = House::open(routes(vec![("tone", play)]), CallConfig::default()).await;
    let mut phone = Phone::new(&house, "tone").await;
    phone.call().await;
    phone.hears_audio().await;
    let bye = phone.house_request("BYE").await;
    assert!(bye.header("Reason").is_some_and(|reason| reason.contains("Q.850")), "{bye:?}");
    house.is_quiet().await;
    assert_eq!(house.context.counters().ended_by_app.value(), 1);
}

#[tokio::test]
async fn operator_can_end_a_call() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    phone.call().await;
    let id = house.context.table.list()[0].id;
    assert!(house.context.table.hang_up(id));
    phone.house_request("BYE").await;
    house.is_quiet().await;
    assert!(!house.context.table.hang_up(id));
    assert_eq!(house.context.counters().ended_by_operator.value(), 1);
}

#[tokio::test]
async fn drain_waits_and_then_cuts_with_bye() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    phone.call().await;
    let drained = tokio::spawn({
        let table = house.context.table.clone();
        async move { table.drain(Duration::from_millis(300)).await }
    });
    sleep(Duration::from_millis(100)).await;
    let mut late = Phone::new(&house, "echo").await;
    let offer = late.offer("");
    late.invite(Some(&offer)).await;
    assert_eq!(late.final_response().await.status(), Some(503));
    late.ack(None).await;
    phone.house_request("BYE").await;
    assert_eq!(drained.await.expect("no panic"), 1);
    assert!(house.context.table.is_empty());
}

#[tokio::test]
async fn silent_caller_is_hung_up_on() {
    let calls = CallConfig { media_timeout: Duration::from_millis(500), ..CallConfig::default() };
    let house = echo_house(calls).await;
    let mut phone = Phone::new(&house, "echo").await;
    phone.call().await;
    let bye = phone.house_request("BYE").await;
    assert!(bye.header("Reason").is_some_and(|reason| reason.contains("Media timeout")), "{bye:?}");
    house.is_quiet().await;
    assert_eq!(house.context.counters().ended_by_media_timeout.value(), 1);
}

#[tokio::test]
async fn cancelled_call_leaves_nothing_behind() {
    let calls = CallConfig { answer_delay: Duration::from_secs(20), ..CallConfig::default() };
    let house = echo_house(calls).await;
    let mut phone = Phone::new(&house, "echo").await;
    let offer = phone.offer("");
    phone.invite(Some(&offer)).await;
    while phone.message().await.status() != Some(180) {}
    phone.request("CANCEL", "", "").await;
    while phone.message().await.status() != Some(487) {}
    phone.ack(None).await;
    house.is_quiet().await;
    assert_eq!(house.context.counters().cancelled.value(), 1);
}

#[tokio::test]
async fn media_may_be_ipv6_while_signalling_is_ipv4() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    let Ok(rtp) = tokio::net::UdpSocket::bind("[::1]:0").await else {
        eprintln!("skipped: this host has no IPv6");
        return;
    };
    phone.rtp = rtp;
    let offer = phone.offer("").replace("c=IN IP4 127.0.0.1", "c=IN IP6 ::1");
    phone.invite(Some(&offer)).await;
    let answer = phone.final_response().await;
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    phone.ack(None).await;
    assert!(answer.media().is_ipv6(), "{}", answer.body);
    let heard = phone.talk(answer.media(), 50).await;
    assert!(returned(&heard, 50) >= 30, "{} packets", heard.len());
    phone.bye().await;
    house.is_quiet().await;
}

#[tokio::test]
async fn our_offer_in_a_running_call_changes_the_media() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    let first = phone.call().await;
    phone.invite(None).await;
    let offered = phone.final_response().await;
    assert_eq!((offered.status(), offered.media()), (Some(200), first.media()));
    phone.rtp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let answer = phone.offer("").replace("RTP/AVP 0 101", "RTP/AVP 8 101");
    phone.ack(Some(&answer)).await;
    let moved = async {
        while house.context.table.list()[0].codec != Some(engine::stream::Codec::Pcma) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(call_support::PATIENCE, moved).await.expect("the answer was taken");
    assert_eq!(house.context.table.list()[0].remote_rtp, Some(phone.rtp.local_addr().expect("an address")));
    assert!(phone.packets_in(Duration::from_millis(500)).await > 5, "media goes to the new port");
    phone.bye().await;
    house.is_quiet().await;
}

#[tokio::test]
async fn key_in_rtp_is_counted_once() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    let media = phone.call().await.media();
    phone.talk(media, 10).await;
    phone.press(media, 5).await;
    phone.talk(media, 10).await;
    phone.bye().await;
    house.is_quiet().await;
    assert_eq!(house.context.counters().digits_rtp.value(), 1);
}

#[tokio::test]
async fn media_of_ours_is_never_sent_to_a_stream_of_ours() {
    let house = echo_house(CallConfig::default()).await;
    let mut phone = Phone::new(&house, "echo").await;
    let media = phone.call().await.media();
    // Another call that would be fed by the first, and the first turned upon itself.
    let mut other = Phone::new(&house, "echo").await;
    let offer = other.offer_to(media.port(), "");
    other.invite(Some(&offer)).await;
    let refusal = other.final_response().await;
    assert_eq!(refusal.status(), Some(488));
    assert!(refusal.header("Warning").is_some_and(|warning| warning.starts_with("399 ")), "{refusal:?}");
    let offer = phone.offer_to(media.port(), "");
    assert_eq!(phone.reinvite(&offer).await.status(), Some(488));
    assert!(returned(&phone.talk(media, 30).await, 30) >= 15, "the call goes on");
    phone.bye().await;
    house.is_quiet().await;
}

/// SIP comes to one address of this host only, and the control port listens on all of them.
#[tokio::test]
async fn media_is_never_sent_to_a_control_port_by_any_address_of_this_host() {
    let control_addresses = vec!["0.0.0.0:8080".parse().expect("an address")];
    let house = echo_house(CallConfig { control_addresses, ..CallConfig::default() }).await;
    let to = |offer: String, ip: &str| offer.replace("IN IP4 127.0.0.1\r\nt", &format!("IN IP4 {ip}\r\nt"));
    for (port, status) in [(8080, 488), (8079, 488), (8082, 200)] {
        let mut phone = Phone::new(&house, "echo").await;
        let offer = to(phone.offer_to(port, ""), "127.0.0.7");
        phone.invite(Some(&offer)).await;
        let response = phone.final_response().await;
        phone.ack(None).await;
        assert_eq!(response.status(), Some(status), "{port}: {response:?}");
        if status == 200 {
            let offer = to(phone.offer_to(8080, ""), "127.0.0.8");
            assert_eq!(phone.reinvite(&offer).await.status(), Some(488));
            phone.bye().await;
        }
    }
    house.is_quiet().await;
}
