//! The voice gateway's environment variables.

use super::*;

#[test]
fn gateway_variables_are_accepted_as_they_stand() {
    let environment = [
        ("REGISTER_WITH_SIP_SERVER", "false"),
        ("SIP_SERVER", "sip.example.com"),
        ("SIP_PORT", "5060"),
        ("SIP_USER", "u"),
        ("AUTH_USER", "u"),
        ("AUTH_REALM", "sip.example.com"),
        ("AUTH_PASSWORD", "topsecret"),
        ("DISPLAY_NAME", "Voice"),
        ("MEDIA_ADDRESS", "203.0.113.5"),
        ("SIP_VIA_ADDR", "203.0.113.5"),
        ("SIP_LOCAL_ADDRESS", "192.0.2.5"),
    ];
    let loaded = load_environment(&environment).expect("good");
    let plan = plan(&loaded, &variables(&environment)).expect("a plan");
    assert!(!format!("{loaded:?} {plan:?}").contains("topsecret"), "a secret is never printed");
    assert_eq!(plan.sip.bind, ["192.0.2.5:5060".parse().expect("an address")]);
    assert_eq!(plan.sip.advertised.as_deref(), Some("203.0.113.5"));
    assert_eq!(plan.call.media_addresses, ["203.0.113.5".parse::<std::net::IpAddr>().expect("an address")]);
    assert!(plan.registration.is_none());
    assert!(plan.warnings.iter().any(|warning| warning.contains("REGISTER_WITH_SIP_SERVER")));

    for (name, value, expected) in [
        ("REGISTER_WITH_SIP_SERVER", "maybe", "neither true nor false"),
        ("SIP_PORT", "99999", "is not a port"),
        ("SIP_LOCAL_ADDRESS", "here", "is not an address"),
        ("MEDIA_ADDRESS", "here", "is not an IP address"),
    ] {
        let error = load_environment(&[(name, value)]).expect_err("refused").to_string();
        assert!(
            error.starts_with(&format!("environment variable {name}: ")) && error.contains(expected),
            "{error}"
        );
    }
}

#[test]
fn gateway_variables_name_the_account_to_register() {
    let environment = [
        ("REGISTER_WITH_SIP_SERVER", "true"),
        ("SIP_SERVER", "sip.example.com"),
        ("SIP_PORT", "5070"),
        ("SIP_USER", "u"),
        ("AUTH_USER", "a"),
        ("AUTH_REALM", "example.com"),
        ("AUTH_PASSWORD", "topsecret"),
        ("DISPLAY_NAME", "Voice"),
        ("SIP_LOCAL_ADDRESS", "192.0.2.5"),
    ];
    let loaded = load_environment(&environment).expect("good");
    let good = plan(&loaded, &variables(&environment)).expect("a plan");
    let account = good.registration.expect("an account");
    assert_eq!(
        (account.server.as_str(), account.port, account.user.as_str()),
        ("sip.example.com", Some(5070), "u")
    );
    assert_eq!(account.display_name.as_deref(), Some("Voice"));
    let credentials = account.credentials.expect("credentials");
    assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("a", "topsecret"));
    assert_eq!(credentials.realm.as_deref(), Some("example.com"));

    for (without, expected) in [
        ("SIP_SERVER", "registration.server: missing"),
        ("SIP_USER", "registration.user: missing"),
        ("SIP_LOCAL_ADDRESS", "cannot be reached from a loopback address"),
    ] {
        let some: Vec<_> = environment.iter().copied().filter(|(name, _)| *name != without).collect();
        let loaded = load_environment(&some).expect("good");
        let error = plan(&loaded, &variables(&some)).expect_err("refused").to_string();
        assert!(error.contains(expected), "{without}: {error}");
    }
    // A password may be in a file of secrets; one that is not there is an error from the start.
    let loaded = load_text(
        "[registration]\nenabled = true\nserver = \"127.0.0.1\"\nuser = \"u\"\npassword_file = \"/nowhere/password\"\n",
        &[],
    );
    let error = plan(&loaded.expect("good"), &[]).expect_err("refused").to_string();
    assert!(error.contains("registration.password_file") && error.contains("cannot be read"), "{error}");
}

#[test]
fn the_environment_alone_makes_a_voice_gateway() {
    let environment = [
        ("AZURE_VOICELIVE_ENDPOINT", "https://example.services.ai.azure.com/"),
        ("AZURE_VOICELIVE_API_KEY", "topsecret"),
        ("AZURE_VOICELIVE_MODEL", "gpt-4.1-mini"),
        ("REGISTER_WITH_SIP_SERVER", "false"),
        ("SIP_LOCAL_ADDRESS", "127.0.0.1"),
    ];
    let gateway =
        plan(&load_environment(&environment).expect("good"), &variables(&environment)).expect("a plan");
    assert!(!format!("{gateway:?}").contains("topsecret"), "a secret is never printed");
    let agent = &gateway.apps.agents[0];
    assert_eq!(agent.url, "wss://example.services.ai.azure.com/voice-live/realtime");
    assert_eq!(agent.dialect, engine::ai::dialect::Dialect::VoiceLive);
    assert_eq!(agent.settings.model.as_deref(), Some("gpt-4.1-mini"));
    let apps: Vec<_> = gateway.apps.routes.iter().map(|route| route.app.clone()).collect();
    assert_eq!(apps, [AppConfig::Echo, AppConfig::Agent("voice_live".to_owned())]);
    // Whoever has agents or routes of their own has said what they want.
    let own = load_text("[[routes]]\nmatch = \"x\"\napp = \"echo\"\n", &environment).expect("good");
    assert!(plan(&own, &variables(&environment)).expect("a plan").apps.agents.is_empty());
    // Without the key nothing would work, and that is said.
    let error = plan(&load_environment(&environment[..1]).expect("good"), &variables(&environment[..1]));
    assert!(error.expect_err("refused").to_string().contains("AZURE_VOICELIVE_API_KEY"));
}
