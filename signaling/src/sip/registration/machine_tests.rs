use super::*;
use crate::sip::digest::Credentials;
use crate::sip::incoming::Transport;

const CONTACT: &str = "<sip:bot@192.0.2.1:5060>";

fn account() -> Account {
    Account {
        server: "pbx.example.com".into(),
        port: Some(5070),
        contact_user: None,
        transport: Transport::Udp,
        user: "bot".into(),
        display_name: Some("The \"bot\"\r\n".into()),
        credentials: Some(Credentials { user: "auth".into(), password: "secret".into(), realm: None }),
        expires: Duration::from_secs(3600),
        domain: None,
        outbound_proxy: None,
    }
}

fn machine(account: Account) -> (Machine, Instant) {
    let now = Instant::now();
    (Machine::new(account, now, "c1".into(), "t1".into()), now)
}

fn response(status: u16, fields: &[(&str, &str)]) -> Message {
    fields
        .iter()
        .fold(Message::response(status, "Some Reason"), |message, (name, value)| message.with(name, *value))
}

fn challenge(nonce: &str, more: &str) -> Message {
    response(
        401,
        &[("WWW-Authenticate", &format!("Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\"{more}"))],
    )
}

#[test]
fn a_register_is_addressed_to_the_server_and_names_the_account() {
    let (mut machine, _) = machine(account());
    let request = machine.request("c");
    assert_eq!((request.method(), request.uri()), ("REGISTER", "sip:pbx.example.com:5070"));
    assert_eq!(request.header("To"), Some(r#""The \"bot\"" <sip:bot@pbx.example.com>"#));
    assert_eq!(request.sender_tag().as_deref(), Some("t1"));
    assert_eq!(request.header("CSeq"), Some("1 REGISTER"));
    assert_eq!(request.header("Expires"), Some("3600"));
    assert_eq!(machine.state, RegistrationState::Trying);
    let tcp = Account { transport: Transport::Tcp, server: "2001:db8::1".into(), port: None, ..account() };
    assert_eq!(self::machine(tcp).0.request("c").uri(), "sip:[2001:db8::1];transport=tcp");
}

#[test]
fn a_challenge_is_answered_and_its_nonce_used_again() {
    let (mut machine, now) = machine(account());
    machine.request("c");
    assert_eq!(machine.handle_response(now, &challenge("n1", ""), CONTACT, 0.0), Then::Send);
    let authorization = machine.request("c").header("Authorization").unwrap().to_owned();
    assert!(
        authorization.contains("nonce=\"n1\"") && authorization.contains("nc=00000001"),
        "{authorization}"
    );
    let fine = response(200, &[("Contact", "<sip:bot@192.0.2.1:5060>;expires=600")]);
    assert_eq!(machine.handle_response(now, &fine, CONTACT, 0.0), Then::Wait);
    assert_eq!(
        (machine.state, machine.granted),
        (RegistrationState::Registered, Some(Duration::from_secs(600)))
    );
    assert_eq!(machine.next(), now + Duration::from_secs(540));
    let renewal = machine.request("c");
    assert!(renewal.header("Authorization").unwrap().contains("nc=00000002"));
    assert_eq!(machine.state, RegistrationState::Registered, "it holds while it is renewed");
    // A nonce that has become too old says nothing about the password.
    assert_eq!(machine.handle_response(now, &challenge("n2", ", stale=true"), CONTACT, 0.0), Then::Send);
    assert!(machine.request("c").header("Authorization").unwrap().contains("nonce=\"n2\""));
    assert_eq!(machine.handle_response(now, &challenge("n3", ", stale=true"), CONTACT, 0.0), Then::Send);
}

#[test]
fn a_wrong_password_is_tried_once_and_then_later() {
    let (mut machine, now) = machine(account());
    machine.request("c");
    assert_eq!(machine.handle_response(now, &challenge("n1", ""), CONTACT, 0.0), Then::Send);
    machine.request("c");
    assert_eq!(machine.handle_response(now, &challenge("n2", ""), CONTACT, 0.0), Then::Wait);
    assert_eq!(machine.state, RegistrationState::Failed);
    assert!(machine.cause.as_deref().unwrap().contains("AUTH_PASSWORD"), "{:?}", machine.cause);
    assert_eq!(machine.next(), now + HOPELESS_PAUSE);
}

#[test]
fn without_a_password_or_for_another_realm_nothing_is_answered() {
    for (credentials, hint) in [
        (None, "AUTH_PASSWORD"),
        (
            Some(Credentials { user: "a".into(), password: "p".into(), realm: Some("other".into()) }),
            "AUTH_REALM",
        ),
    ] {
        let (mut machine, now) = machine(Account { credentials, ..account() });
        machine.request("c");
        assert_eq!(machine.handle_response(now, &challenge("n1", ""), CONTACT, 0.0), Then::Wait);
        assert!(machine.cause.as_deref().unwrap().contains(hint), "{:?}", machine.cause);
        assert_eq!(machine.request("c").header("Authorization"), None);
    }
}

#[test]
fn too_brief_an_interval_is_raised() {
    let (mut machine, now) = machine(Account { expires: Duration::from_secs(60), ..account() });
    machine.request("c");
    assert_eq!(
        machine.handle_response(now, &response(423, &[("Min-Expires", "120")]), CONTACT, 0.0),
        Then::Send
    );
    assert_eq!(machine.request("c").header("Expires"), Some("120"));
    assert_eq!(
        machine.handle_response(now, &response(423, &[("Min-Expires", "120")]), CONTACT, 0.0),
        Then::Wait
    );
    assert_eq!(machine.cause.as_deref(), Some("423 Some Reason"));
}

#[test]
fn pauses_grow_and_a_server_may_ask_for_more() {
    let (mut machine, now) = machine(account());
    let mut pauses = Vec::new();
    for _ in 0..10 {
        machine.handle_response(now, &response(503, &[]), CONTACT, 0.0);
        pauses.push((machine.next() - now).as_secs());
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    machine.handle_response(now, &response(503, &[("Retry-After", "40 (busy);duration=3")]), CONTACT, 0.0);
    assert_eq!(machine.next(), now + Duration::from_secs(40));
    machine.handle_response(now, &response(503, &[("Retry-After", "99999999")]), CONTACT, 1.0);
    assert_eq!(machine.next(), now + Duration::from_secs(450));
}

#[test]
fn what_holds_goes_on_holding_until_it_expires() {
    let (mut machine, now) = machine(account());
    machine.handle_response(now, &response(200, &[("Expires", "100")]), CONTACT, 0.0);
    machine.unreachable(now + Duration::from_secs(90), 0.0);
    assert_eq!(machine.state, RegistrationState::Registered);
    assert!(machine.cause.is_some());
    machine.unreachable(now + Duration::from_secs(101), 0.0);
    assert_eq!((machine.state, machine.granted), (RegistrationState::Expired, None));
    machine.unreachable(now + Duration::from_secs(110), 0.0);
    assert_eq!(machine.state, RegistrationState::FailWait);
    machine.handle_response(now + Duration::from_secs(120), &response(200, &[]), CONTACT, 0.0);
    assert_eq!((machine.state, machine.cause.clone()), (RegistrationState::Registered, None));
}

#[test]
fn our_own_binding_says_how_long() {
    let several = "<sip:bot@192.0.2.7>;expires=7, \"x\" <sip:bot@192.0.2.1:5060;ob>;q=0.5;expires=300";
    for (fields, expected) in [
        (vec![("Contact", several), ("Expires", "9")], Some(300)),
        (vec![("Contact", "<sip:bot@198.51.100.4:40000>;expires=120")], Some(120)),
        (vec![("Contact", CONTACT), ("Expires", "90")], Some(90)),
        (vec![], None),
    ] {
        let granted = granted(&response(200, &fields), CONTACT);
        assert_eq!(granted, expected.map(Duration::from_secs), "{fields:?}");
    }
}

#[test]
fn it_is_taken_back_only_if_it_holds() {
    let (mut machine, now) = machine(account());
    assert!(machine.goodbye("c").is_none());
    machine.handle_response(now, &response(200, &[]), CONTACT, 0.0);
    let goodbye = machine.goodbye("c").unwrap();
    assert_eq!(goodbye.header("Expires"), Some("0"));
    assert_eq!(machine.state, RegistrationState::Unregistered);
}

#[test]
fn a_no_for_good_is_said_and_asked_again_only_slowly() {
    for status in [403, 404] {
        let (mut machine, now) = machine(account());
        machine.request("c");
        assert_eq!(machine.handle_response(now, &response(status, &[]), CONTACT, 0.0), Then::Wait);
        assert_eq!(machine.state, RegistrationState::Failed);
        assert_eq!(machine.cause, Some(format!("{status} Some Reason")));
        assert!(machine.next() >= now + Duration::from_secs(120));
        machine.request("c");
        assert_eq!(machine.handle_response(now, &response(200, &[]), CONTACT, 0.0), Then::Wait);
        assert_eq!((machine.state, machine.cause.as_deref()), (RegistrationState::Registered, None));
    }
}

#[test]
fn a_proxy_is_passed_and_a_service_route_learned() {
    let outbound_proxy = Some("192.0.2.5:5070".to_owned());
    let domain = Some("example.com".to_owned());
    let (mut machine, now) = machine(Account { outbound_proxy, domain, ..account() });
    let request = machine.request("c");
    assert_eq!(request.header("Route"), Some("<sip:192.0.2.5:5070;lr>"));
    assert_eq!(request.to().unwrap().uri, "sip:bot@example.com");
    assert_eq!(request.header("Supported"), Some("path"));
    let answer = response(200, &[("Service-Route", "<sip:a.example.com;lr>, <sip:b.example.com;lr>, bad")]);
    machine.handle_response(now, &answer, CONTACT, 0.0);
    assert_eq!(machine.service_route, ["<sip:a.example.com;lr>", "<sip:b.example.com;lr>"]);
    machine.handle_response(now, &response(200, &[]), CONTACT, 0.0);
    assert!(machine.service_route.is_empty(), "each yes says it anew");
}
