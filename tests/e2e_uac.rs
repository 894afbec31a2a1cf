//! SIPp as the callee of our calls: the scenarios in tests/sipp assert on what we send, this on what we tell.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use signaling::sip::{
    Address, Credentials, EndCause, Failure, FailureClass, OutgoingCall, OutgoingInvite, Progress, Session,
    SessionEvent, SipConfig, SipEndpoint, Target, Transport,
};
use support::ports::free_port;
use support::program;
use support::sipp::Scenario;

const OFFER: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

#[test]
fn reliable_early_media_and_an_answer_without_sdp() {
    call(
        "uas_early",
        |_| {},
        async |mut call| {
            let mut early = Vec::new();
            let (session, sdp) = loop {
                match next(&mut call).await {
                    Progress::Provisional { status, sdp } => early.push((status, sdp)),
                    Progress::Answered { session, sdp } => break (session, sdp),
                    other => panic!("{other:?}"),
                }
            };
            let statuses: Vec<u16> =
                early.iter().map(|(status, _)| *status).filter(|status| *status > 100).collect();
            assert_eq!(statuses, [183, 180]);
            assert!(sdp.contains("m=audio"), "the answer of the 183: {sdp}");
            hang_up(session).await;
        },
    );
}

#[test]
fn a_busy_callee() {
    call(
        "uas_busy",
        |_| {},
        async |mut call| {
            let failure = failed(&mut call).await;
            assert_eq!((failure.status, failure.class), (486, FailureClass::Busy));
            assert_eq!(failure.cause.as_deref(), Some("Q.850;cause=17;text=\"User busy\""));
        },
    );
}

#[test]
fn a_carrier_without_room() {
    call(
        "uas_unavailable",
        |_| {},
        async |mut call| {
            let failure = failed(&mut call).await;
            assert_eq!((failure.status, failure.retry_after), (503, Some(Duration::from_secs(17))));
            assert!(failure.class.is_of_the_trunk());
        },
    );
}

#[test]
fn giving_up_while_it_rings() {
    call(
        "uas_cancel",
        |_| {},
        async |mut call| {
            while !matches!(next(&mut call).await, Progress::Provisional { status: 180, .. }) {}
            call.cancel();
            assert_eq!(failed(&mut call).await.class, FailureClass::Cancelled);
        },
    );
}

#[test]
fn a_server_that_wants_to_know_who_calls() {
    let credentials = Credentials { user: "user".into(), password: "secret".into(), realm: None };
    call(
        "uas_challenge",
        |invite| invite.credentials = Some(credentials),
        async |mut call| {
            hang_up(answered(&mut call).await).await;
        },
    );
}

#[test]
fn two_forks_that_answer() {
    call(
        "uas_fork",
        |_| {},
        async |mut call| {
            let session = answered(&mut call).await;
            // The other fork's turn comes first.
            tokio::time::sleep(Duration::from_millis(500)).await;
            hang_up(session).await;
        },
    );
}

#[test]
fn a_callee_that_puts_us_on_hold() {
    call(
        "uas_reinvite",
        |_| {},
        async |mut call| {
            let mut session = answered(&mut call).await;
            let SessionEvent::Offer(offer) = session.next_event().await else { panic!("an offer") };
            assert!(offer.sdp().contains("a=sendonly"));
            offer.answer(OFFER.to_owned());
            assert!(matches!(session.next_event().await, SessionEvent::Confirmed { .. }));
            hang_up(session).await;
        },
    );
}

/// Calls SIPp, which plays `scenario`, and does `then` with the call.
fn call(scenario: &str, change: impl FnOnce(&mut OutgoingInvite), then: impl AsyncFnOnce(OutgoingCall)) {
    if !program("sipp") {
        return;
    }
    let ip = [127, 0, 0, 1].into();
    let callee = SocketAddr::new(ip, free_port(ip));
    let sipp = Scenario::new(scenario, callee).port(callee.port());
    let sipp = std::thread::spawn(move || sipp.passes());
    let target = Target::new("127.0.0.1", Some(callee.port()), Transport::Udp).expect("a target");
    let from = Address::new("100", "example.com").expect("an address");
    let mut invite = OutgoingInvite::new(target, from, OFFER.to_owned());
    invite.request_user = Some("callee".to_owned());
    invite.response_timeout = Duration::from_secs(20);
    change(&mut invite);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let bind = vec![SocketAddr::new(ip, 0)];
        let config = SipConfig { bind, ..SipConfig::default() };
        let (endpoint, _calls) = SipEndpoint::start(config).await.expect("SIP starts");
        let call = endpoint.invite(invite).expect("nothing speaks against it");
        then(call).await;
        tokio::task::spawn_blocking(move || sipp.join()).await.expect("joined").expect("SIPp is content");
        endpoint.shutdown().await;
    });
}

async fn next(call: &mut OutgoingCall) -> Progress {
    tokio::time::timeout(Duration::from_secs(25), call.next()).await.expect("news in time")
}

async fn failed(call: &mut OutgoingCall) -> Failure {
    loop {
        match next(call).await {
            Progress::Failed(failure) => return failure,
            Progress::Provisional { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn answered(call: &mut OutgoingCall) -> Session {
    loop {
        match next(call).await {
            Progress::Answered { session, .. } => return session,
            Progress::Provisional { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn hang_up(mut session: Session) {
    session.handle().bye(None).await;
    loop {
        if let SessionEvent::Ended { cause } = session.next_event().await {
            assert_eq!(cause, EndCause::LocalBye);
            return;
        }
    }
}
