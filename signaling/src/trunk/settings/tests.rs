use serde_json::{Value, json};

use super::*;

fn made(body: Value) -> Result<(Trunk, PasswordChange), Vec<FieldError>> {
    let new: NewTrunk = serde_json::from_value(body).expect("a request");
    create(&TenantId::default(), new, Moment::from_micros(1))
}

fn changed(trunk: &Trunk, body: Value) -> Result<(Trunk, PasswordChange), Vec<FieldError>> {
    change(trunk, serde_json::from_value(body).expect("a request"), Moment::from_micros(2))
}

fn fields(result: Result<(Trunk, PasswordChange), Vec<FieldError>>) -> Vec<String> {
    result.expect_err("refused").into_iter().map(|error| error.field).collect()
}

fn documented() -> Value {
    json!({"trunk_id":"skyetel_main","name":"Skyetel Main Trunk","provider":"skyetel",
        "proxy_address":"sip.example.com","proxy_port":5060,"username":"u","password":"p",
        "realm":"sip.example.com","supports_outbound":true,"supports_inbound":true,"transport":"UDP",
        "preferred_codecs":["PCMU","PCMA"],"max_concurrent_calls":100,"calls_per_second_limit":10})
}

#[test]
fn the_documented_trunk_registers_and_its_changes_keep_the_rest() {
    let (trunk, password) = made(documented()).expect("made");
    assert_eq!(password, PasswordChange::Set(Secret::from("p".to_owned())));
    assert!(trunk.has_password && trunk.register && !trunk.active);
    assert_eq!((trunk.auth_method, trunk.register_expires_s), (AuthMethod::Ip, 3600));
    let shown = serde_json::to_string(&trunk).expect("JSON");
    assert!(!shown.contains("\"password\"") && shown.contains("\"has_password\":true"), "{shown}");

    let body = json!({"allowed_ips":["198.51.100.0/24"],"transport":"TLS","auth_method":"digest"});
    let (changed_once, password) = changed(&trunk, body).expect("changed");
    assert_eq!(password, PasswordChange::Keep);
    let expected = Trunk {
        allowed_ips: vec!["198.51.100.0/24".parse().expect("a network")],
        transport: TrunkTransport::Tls,
        auth_method: AuthMethod::Digest,
        updated_at: Moment::from_micros(2),
        ..trunk
    };
    assert_eq!(changed_once, expected);
    let body = json!({"max_concurrent_calls":1000,"calls_per_second_limit":50});
    let (changed_twice, _) = changed(&changed_once, body).expect("changed");
    assert_eq!((changed_twice.max_concurrent_calls, changed_twice.calls_per_second_limit), (1000, 50));
    assert!(changed_twice.updated_at > changed_once.updated_at, "other nodes see that it changed");
}

#[test]
fn what_is_left_out_has_a_default_and_a_trunk_by_address_does_not_register() {
    let (trunk, password) = made(json!({"trunk_id":"a","proxy_address":"192.0.2.1"})).expect("made");
    assert_eq!(password, PasswordChange::Keep);
    assert_eq!((trunk.name.as_str(), trunk.provider.as_str(), trunk.register), ("a", "a", false));
    assert_eq!((trunk.max_concurrent_calls, trunk.calls_per_second_limit), (100, 10));
    let mut body = documented();
    body["auth_method"] = json!("ip");
    assert!(!made(body.clone()).expect("made").0.register);
    body["register"] = json!(true);
    assert!(made(body).expect("made").0.register);
}

#[test]
fn each_bad_field_is_named() {
    for (field, value) in [
        ("trunk_id", json!("a/b")),
        ("trunk_id", json!("status")),
        ("trunk_id", json!("x".repeat(65))),
        ("name", json!("a\r\nb")),
        ("provider", json!("p".repeat(65))),
        ("proxy_address", json!("sip:example.com")),
        ("proxy_address", json!("example.com:5060")),
        ("proxy_address", json!("a b")),
        ("proxy_address", json!("")),
        ("proxy_port", json!(0)),
        ("outbound_proxy", json!("example.com;lr\r\nX: y")),
        ("outbound_proxy", json!("example.com:0")),
        ("username", json!("u@example.com")),
        ("username", json!("u\" ,x")),
        ("password", json!("p\r\n")),
        ("realm", json!("a\nb")),
        ("from_domain", json!("a;b")),
        ("display_name", json!("a\u{0}")),
        ("register_expires_s", json!(29)),
        ("max_concurrent_calls", json!(0)),
        ("calls_per_second_limit", json!(10_001)),
        ("options_ping_s", json!(4)),
        ("cost_per_minute", json!(-1)),
    ] {
        let mut body = documented();
        body[field] = value.clone();
        assert_eq!(fields(made(body)), [field], "{value}");
    }
    for (field, value) in [
        ("allowed_ips[1]", json!({"allowed_ips": ["192.0.2.1", "x"]})),
        ("preferred_codecs[0]", json!({"preferred_codecs": ["PC MU"]})),
        ("backup_trunks[0]", json!({"backup_trunks": ["skyetel_main"]})),
        ("backup_trunks[1]", json!({"backup_trunks": ["b", "../c"]})),
        ("trunk_id", json!({"trunk_id": "another"})),
        ("username", json!({"username": null})),
        ("password", json!({"password": null, "auth_method": "both"})),
    ] {
        let (trunk, _) = made(documented()).expect("made");
        assert_eq!(fields(changed(&trunk, value)), [field]);
    }
}

#[test]
fn null_takes_away_and_lists_are_made_plain() {
    let (trunk, _) = made(documented()).expect("made");
    let body = json!({"password":null,"realm":null,"proxy_port":null,
        "allowed_ips":["198.51.100.7/24","2001:db8::1","198.51.100.0/24"],"preferred_codecs":["pcma","PCMA","pcmu"],
        "transport":"tcp"});
    let (trunk, password) = changed(&trunk, body).expect("changed");
    assert_eq!((password, trunk.has_password), (PasswordChange::Remove, false));
    assert_eq!((trunk.realm, trunk.proxy_port), (None, None));
    assert_eq!(trunk.preferred_codecs, ["PCMA", "PCMU"]);
    let networks: Vec<String> = trunk.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["198.51.100.0/24", "2001:db8::1/128"]);
    assert_eq!(trunk.transport, TrunkTransport::Tcp);
}

#[test]
fn outbound_proxies_are_taken_in_their_forms() {
    for good in [
        "192.0.2.1",
        "192.0.2.1:5070",
        "proxy.example.com",
        "proxy.example.com:5070",
        "sip:192.0.2.1:5060;lr",
        "sip:proxy.example.com;transport=tcp;lr",
        "[2001:db8::1]:5060",
        "sip:[2001:db8::1];lr",
    ] {
        assert_eq!(proxy(good.to_owned()).as_deref(), Ok(good));
    }
    for bad in ["", "sip:", "sip:u@example.com", "a:b", "a:70000", "a b", "<sip:a>"] {
        assert!(proxy(bad.to_owned()).is_err(), "{bad}");
    }
}

#[test]
fn unknown_fields_are_refused() {
    let refused = serde_json::from_value::<NewTrunk>(json!({"trunk_id":"a","proxy_address":"b","colour":1}));
    assert!(refused.is_err_and(|error| error.to_string().contains("colour")));
    assert!(serde_json::from_value::<TrunkPatch>(json!({"has_password":true})).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_gets_through_that_could_end_a_header_line(text in "[\\x00-\\x7f]{0,40}") {
        for field in ["name", "provider", "proxy_address", "outbound_proxy", "username", "realm", "auth_user",
            "from_user", "from_domain", "display_name"]
        {
            let mut body = documented();
            body[field] = json!(text);
            if let Ok((trunk, _)) = made(body) {
                let shown = serde_json::to_value(&trunk).expect("JSON");
                let kept = shown[field].as_str().unwrap_or_default();
                proptest::prop_assert!(!kept.chars().any(char::is_control), "{field}: {kept:?}");
            }
        }
    }
}
