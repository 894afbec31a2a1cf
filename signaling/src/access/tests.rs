//! Tokens good and bad, against real keys.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::get_current_timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use super::*;
use crate::model::{Access, Moment, Role, Tenant, TenantId};
use crate::store::testing::{self, TestStore};

const SECRET: &[u8] = b"a secret of the tests, 32 bytes at least";

/// Keys of every kind, made with openssl for these tests only.
struct Signer {
    key: Kind,
}

enum Kind {
    Secret(Vec<u8>),
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
}

impl Signer {
    fn secret(secret: &[u8]) -> Self {
        Self { key: Kind::Secret(secret.to_vec()) }
    }

    fn rsa() -> Self {
        let pem = pem_body(include_str!("../../tests/fixtures/access/rsa.pem"));
        Self { key: Kind::Rsa(Box::new(RsaKeyPair::from_pkcs8(&pem).expect("a key"))) }
    }

    fn ec() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let pkcs8 = pkcs8.expect("a key");
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &SystemRandom::new());
        Self { key: Kind::Ec(Box::new(key.expect("a key"))) }
    }

    fn ed() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self { key: Kind::Ed(Box::new(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key"))) }
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Kind::Secret(_) => "HS256",
            Kind::Rsa(_) => "RS256",
            Kind::Ec(_) => "ES256",
            Kind::Ed(_) => "EdDSA",
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = match &self.key {
            Kind::Secret(secret) => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
                ring::hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
            Kind::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
                    .expect("signed");
                signature
            }
            Kind::Ec(key) => {
                key.sign(&SystemRandom::new(), message.as_bytes()).expect("signed").as_ref().to_vec()
            }
            Kind::Ed(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", encoded(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.algorithm(), "typ": "JWT" }), claims)
    }

    /// With that name.
    fn named(&self, name: &str, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.algorithm(), "kid": name }), claims)
    }

    fn jwk(&self, name: &str) -> Value {
        match &self.key {
            Kind::Secret(secret) => json!({ "kty": "oct", "kid": name, "k": encoded(secret) }),
            Kind::Rsa(key) => {
                let components: ring::rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
                json!({ "kty": "RSA", "kid": name, "use": "sig", "alg": "RS256", "n": encoded(components.n), "e": encoded(components.e) })
            }
            Kind::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": name, "x": encoded(&point[1..33]), "y": encoded(&point[33..]) })
            }
            Kind::Ed(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": name, "x": encoded(key.public_key().as_ref()) })
            }
        }
    }
}

fn pem_body(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::prelude::BASE64_STANDARD.decode(text).expect("base64")
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn claims() -> Value {
    json!({ "sub": "alice", "tenant": "acme", "role": "operator", "exp": get_current_timestamp() + 600 })
}

/// The claims with these ones changed; null takes one away.
fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => claims.as_object_mut().expect("an object").remove(name),
            value => claims.as_object_mut().expect("an object").insert(name.clone(), value.clone()),
        };
    }
    claims
}

async fn add_tenant(store: &TestStore, name: &str, active: bool) {
    let now = Moment::now();
    let tenant =
        Tenant { id: TenantId(name.into()), name: name.into(), active, created_at: now, changed_at: now };
    let mut transaction = store.begin().await.expect("a transaction");
    transaction.add_tenant(&tenant).await.expect("added");
    transaction.commit().await.expect("kept");
}

async fn gate(config: AccessConfig) -> (Gate, TestStore) {
    let store = testing::sqlite().await;
    add_tenant(&store, "acme", true).await;
    add_tenant(&store, "asleep", false).await;
    (Gate::new(config, (*store).clone()).expect("a gate"), store)
}

fn public(name: &str) -> VerifyingKey {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/access");
    VerifyingKey::pem(&std::fs::read(folder.join(name)).expect("a key")).expect("a key")
}

/// A new address each time: nobody runs into the limit of attempts.
fn somewhere() -> IpAddr {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0x0a00_0000);
    IpAddr::from(NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes())
}

async fn refusal(gate: &Gate, token: &str) -> String {
    match gate.admit(token, somewhere()).await {
        Ok(access) => panic!("{access:?} was let in by {token}"),
        Err(Refusal::Invalid(text) | Refusal::Forbidden(text)) => text,
        Err(other) => format!("{other:?}"),
    }
}

#[tokio::test]
async fn tokens_of_every_kind_of_key_are_taken() {
    let (secret, rsa, ec, ed) = (Signer::secret(SECRET), Signer::rsa(), Signer::ec(), Signer::ed());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.json");
    let set = json!({ "keys": [ec.jwk("ec"), ed.jwk("ed"), { "kty": "unheard of" }, secret.jwk("oct")] });
    std::fs::write(&file, set.to_string()).expect("written");
    let (gate, _store) = gate(AccessConfig {
        keys: vec![VerifyingKey::secret(SECRET).expect("long enough"), public("rsa.pub.pem")],
        key_set: Some(KeySource::File(file)),
        ..AccessConfig::default()
    })
    .await;
    let expected = Access { subject: "alice".into(), tenant: TenantId("acme".into()), role: Role::Operator };
    for token in [
        secret.token(&claims()),
        rsa.token(&claims()),
        ec.named("ec", &claims()),
        ed.named("ed", &claims()),
        ed.token(&claims()),
        secret.token(&with(&json!({ "role": ["other", "viewer", "operator"] }))),
        secret.token(&with(&json!({ "exp": get_current_timestamp() as f64 + 30.5 }))),
    ] {
        assert_eq!(gate.admit(&token, somewhere()).await.as_ref(), Ok(&expected), "{token}");
        assert_eq!(gate.admit(&token, somewhere()).await.as_ref(), Ok(&expected), "again, from memory");
    }
}

#[tokio::test]
async fn forged_expired_and_foreign_tokens_are_refused() {
    let (secret, rsa) = (Signer::secret(SECRET), Signer::rsa());
    let public_pem = include_bytes!("../../tests/fixtures/access/rsa.pub.pem");
    let public_der = pem_body(include_str!("../../tests/fixtures/access/rsa.pub.pem"));
    let rules = TokenRules {
        issuer: Some("https://issuer.example.com".into()),
        audience: Some("sidetone".into()),
        ..TokenRules::default()
    };
    let (gate, _store) =
        gate(AccessConfig { rules, keys: vec![public("rsa.pub.pem")], ..AccessConfig::default() }).await;
    let good = |changes: Value| {
        let mut all = json!({ "iss": "https://issuer.example.com", "aud": ["sidetone", "other"] });
        all.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        with(&all)
    };
    let claims = good(json!({}));
    assert!(gate.admit(&rsa.token(&claims), somewhere()).await.is_ok());

    let now = get_current_timestamp();
    let header = |header: Value| rsa.sign(&header, &claims);
    let unsigned = format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded(claims.to_string()));
    let whole = rsa.token(&claims);
    let (message, signature) = whole.rsplit_once('.').expect("three parts");
    let (head, _) = message.split_once('.').expect("three parts");
    let promoted = format!("{head}.{}.{signature}", encoded(good(json!({ "role": "admin" })).to_string()));
    let other = Signer::ed().token(&claims);
    for (token, why) in [
        (rsa.token(&good(json!({ "exp": now - 100 }))), "has expired"),
        (rsa.token(&good(json!({ "exp": null }))), "lacks a claim"),
        (rsa.token(&good(json!({ "exp": "tomorrow" }))), "lacks a claim"),
        (rsa.token(&good(json!({ "nbf": now + 100 }))), "not valid yet"),
        (rsa.token(&good(json!({ "iss": "https://issuer.example.net" }))), "issuer"),
        (rsa.token(&good(json!({ "iss": null }))), "lacks a claim"),
        (rsa.token(&good(json!({ "aud": "other" }))), "audience"),
        (rsa.token(&good(json!({ "aud": null }))), "lacks a claim"),
        (rsa.token(&good(json!({ "sub": null }))), "lacks a claim"),
        (rsa.token(&good(json!({ "sub": "" }))), "lacks a claim"),
        (rsa.token(&good(json!({ "sub": "a\nb" }))), "lacks a claim"),
        (rsa.token(&good(json!({ "sub": "st_0011223344556677" }))), "lacks a claim"),
        (rsa.token(&good(json!({ "role": "root" }))), "role"),
        (rsa.token(&good(json!({ "role": null }))), "role"),
        (rsa.token(&good(json!({ "role": ["root"] }))), "role"),
        (rsa.token(&good(json!({ "role": { "admin": true } }))), "role"),
        (rsa.token(&good(json!({ "tenant": null }))), "tenant"),
        (rsa.token(&good(json!({ "tenant": "a b" }))), "tenant"),
        (rsa.token(&good(json!({ "tenant": "' OR 1=1 --" }))), "tenant"),
        (rsa.token(&good(json!({ "tenant": "nobody" }))), "not known here"),
        (rsa.token(&good(json!({ "tenant": "asleep" }))), "not active"),
        (unsigned, "algorithm"),
        (header(json!({ "alg": "None" })), "algorithm"),
        (header(json!({ "alg": "RS512" })), "algorithm"),
        (header(json!({ "alg": "PS256" })), "algorithm"),
        (header(json!({ "alg": "RS256", "crit": ["exp"] })), "crit"),
        (header(json!({ "alg": "RS256", "b64": false })), "crit"),
        (header(json!({ "typ": "JWT" })), "neither"),
        // The public key is no secret: what it "signs" by HMAC is worth nothing.
        (Signer::secret(public_pem).token(&claims), "algorithm"),
        (Signer::secret(&public_der).token(&claims), "algorithm"),
        (secret.token(&claims), "algorithm"),
        (other, "algorithm"),
        (promoted, "signature"),
        (format!("{message}."), "signature"),
        (format!("{message}.AAAA"), "signature"),
        ("..".to_owned(), "neither"),
        ("a.b".to_owned(), "neither"),
        (String::new(), "neither"),
        ("x".repeat(100_000), "neither"),
        (format!("{}.{}.x", encoded("{".repeat(1000)), encoded("{}")), "neither"),
    ] {
        let refusal = refusal(&gate, &token).await;
        assert!(refusal.contains(why), "{why}: {refusal}: {token}");
    }
    // The key that the token itself brings is not looked at.
    let own = Signer::ed();
    let brought =
        own.sign(&json!({ "alg": "EdDSA", "jwk": own.jwk("x"), "jku": "http://127.0.0.1:1/" }), &claims);
    assert!(refusal(&gate, &brought).await.contains("algorithm"));
}

#[tokio::test]
async fn claims_may_have_other_names_and_depths() {
    let rules = TokenRules {
        tenant_claim: "https://sidetone.example.com/tenant".into(),
        role_claim: "realm_access.roles".into(),
        default_role: Some(Role::Viewer),
        ..TokenRules::default()
    };
    let keys = vec![VerifyingKey::secret(SECRET).expect("long enough")];
    let (gate, _store) = gate(AccessConfig { rules, keys, ..AccessConfig::default() }).await;
    let signer = Signer::secret(SECRET);
    let of = async |changes: Value| {
        let mut all = json!({ "tenant": null, "role": null, "https://sidetone.example.com/tenant": "acme" });
        all.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        gate.admit(&signer.token(&with(&all)), somewhere()).await.map(|access| access.role)
    };
    let roles = json!({ "realm_access": { "roles": ["offline_access", "tenant_admin"] } });
    assert_eq!(of(roles).await, Ok(Role::TenantAdmin));
    assert_eq!(of(json!({})).await, Ok(Role::Viewer));
}

#[tokio::test]
async fn our_own_tokens_are_taken_until_they_end() {
    let keys = vec![VerifyingKey::secret(SECRET).expect("long enough")];
    let (gate, _store) = gate(AccessConfig { keys, ..AccessConfig::default() }).await;
    let access = Access { subject: "bob".into(), tenant: TenantId("acme".into()), role: Role::TenantAdmin };
    let token = sign(SECRET, &TokenRules::default(), &access, 60).expect("a token");
    assert_eq!(gate.admit(&token, somewhere()).await, Ok(access.clone()));
    assert_eq!(sign(b"short", &TokenRules::default(), &access, 60), Err(KeyError::ShortSecret));
    assert!(VerifyingKey::secret(b"short").is_err());
}

#[tokio::test]
async fn keys_are_taken_until_they_are_revoked_or_end() {
    let (gate, store) = gate(AccessConfig::default()).await;
    let acme = TenantId("acme".into());
    let by = Access { subject: "alice".into(), tenant: acme.clone(), role: Role::Admin };
    let made = async |role, tenant: &TenantId, lifetime| {
        let new = NewKey::make(tenant.clone(), role, "one".into(), &by, lifetime).expect("random");
        new.keep(&store).await.expect("kept");
        new
    };
    let good = made(Role::Operator, &acme, None).await;
    let access = gate.admit(good.text.expose(), somewhere()).await.expect("let in");
    assert_eq!((access.subject, access.role), (format!("st_{}", good.key.id), Role::Operator));

    let ended = made(Role::Operator, &acme, Some(Duration::ZERO)).await;
    assert!(refusal(&gate, ended.text.expose()).await.contains("expired"));
    let asleep = made(Role::Operator, &TenantId("asleep".into()), None).await;
    assert!(refusal(&gate, asleep.text.expose()).await.contains("not active"));

    // The last digit of the secret is another one.
    let mut forged = good.text.expose().to_owned();
    let last = forged.pop().expect("digits");
    forged.push(if last == '0' { '1' } else { '0' });
    assert_eq!(refusal(&gate, &forged).await, "there is no such key");
    let (id, _) = key::parse(good.text.expose()).expect("a key");
    let unknown = good.text.expose().replace(id, "0000000000000000");
    assert_eq!(refusal(&gate, &unknown).await, "there is no such key");
    assert!(refusal(&gate, "st_x_y").await.contains("not complete"));

    let mut transaction = store.begin().await.expect("a transaction");
    transaction.revoke_key(&acme, &good.key.id, Moment::now()).await.expect("revoked");
    transaction.commit().await.expect("kept");
    gate.forget();
    assert!(refusal(&gate, good.text.expose()).await.contains("revoked"));
    assert_eq!(gate.counters().refused_keys.value(), 5);
}

#[tokio::test]
async fn who_guesses_is_slowed_down_and_who_shares_the_address_is_not() {
    let (gate, store) = gate(AccessConfig::default()).await;
    let source: IpAddr = "192.0.2.9".parse().expect("an address");
    let text = new_key(&store, TenantId("acme".into()), Role::Viewer, "one", None).await.expect("a key");
    assert!(gate.admit(text.expose(), source).await.is_ok());
    let mut throttled = 0;
    for number in 0..100 {
        match gate.admit(&format!("st_{number:016x}_{number:064x}"), source).await {
            Err(Refusal::TooMany { retry_after_s: 1.. }) => throttled += 1,
            Err(Refusal::Invalid(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(throttled >= 70, "{throttled}");
    assert!(gate.admit(text.expose(), source).await.is_ok(), "known to be good a moment ago");
    assert_eq!(gate.counters().throttled.value(), throttled);
}

#[tokio::test]
async fn a_set_of_keys_is_read_again_for_an_unknown_key_and_not_more_than_once_a_minute() {
    let (old, new) = (Signer::ed(), Signer::ec());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.json");
    std::fs::write(&file, json!({ "keys": [old.jwk("old")] }).to_string()).expect("written");
    let key_set = Some(KeySource::File(file.clone()));
    let (gate, _store) = gate(AccessConfig { key_set, ..AccessConfig::default() }).await;
    assert!(gate.admit(&old.named("old", &claims()), somewhere()).await.is_ok());
    std::fs::write(&file, json!({ "keys": [old.jwk("old"), new.jwk("new")] }).to_string()).expect("written");
    assert!(gate.admit(&new.named("new", &claims()), somewhere()).await.is_ok(), "read again");
    for number in 0..50 {
        let token = new.named(&format!("random {number}"), &claims());
        assert!(refusal(&gate, &token).await.contains("kid"));
    }
    assert_eq!(gate.counters().key_sets_fetched.value(), 1);
    // The name of one key with the signature of another.
    assert!(refusal(&gate, &new.named("old", &claims())).await.contains("algorithm"));
    assert!(refusal(&gate, &Signer::ed().named("old", &claims())).await.contains("signature"));
}

#[tokio::test]
async fn a_server_of_keys_that_fails_refuses_nobody_for_ever_and_answers_are_bounded() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let signer = Signer::ed();
    for (answer, expected) in [
        (
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", json!({ "keys": [signer.jwk("one")] })),
            "",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "302",
        ),
        (format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(300_000)), "262144"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}".to_owned(), "`keys` is missing"),
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(), "500"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 2048];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let key_set = Some(KeySource::url(&url).expect("an address"));
        let (gate, _store) = gate(AccessConfig { key_set, ..AccessConfig::default() }).await;
        match gate.admit(&signer.named("one", &claims()), somewhere()).await {
            Ok(_) => assert_eq!(expected, ""),
            Err(Refusal::Unavailable(text)) => {
                assert!(!expected.is_empty() && text.contains(expected), "{text}")
            }
            other => panic!("{other:?}"),
        }
        server.abort();
    }
    for bad in ["keys", "http://keys.example.com/", "ftp://127.0.0.1/", "https://a:b@keys.example.com/"] {
        assert!(KeySource::url(bad).is_err(), "{bad}");
    }
    assert!(KeySource::url("https://keys.example.com/jwks.json").is_ok());
}

#[test]
fn keys_that_are_too_weak_or_of_another_kind_are_not_taken() {
    let ed = Signer::ed();
    assert!(
        VerifyingKey::pem(include_bytes!("../../tests/fixtures/access/rsa.pem")).is_err(),
        "a private key"
    );
    assert!(VerifyingKey::pem(b"no key").is_err());
    assert!(VerifyingKey::pem(include_bytes!("../../tests/fixtures/access/ec.pub.pem")).is_ok());
    assert!(VerifyingKey::pem(include_bytes!("../../tests/fixtures/access/ed.pub.pem")).is_ok());
    let Kind::Ed(_) = &ed.key else { panic!("not that kind") };
}

#[tokio::test]
async fn the_first_start_makes_one_key_for_an_admin_and_the_next_none() {
    use std::os::unix::fs::PermissionsExt as _;
    for store in testing::stores().await {
        let folder = tempfile::tempdir().expect("a folder");
        let first = first_key(&store, folder.path()).await.expect("kept").expect("the first");
        let file = first.file.expect("written");
        assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).expect("text");
        assert_eq!(text.trim_end(), first.text.expose());
        let gate = Gate::new(AccessConfig::default(), (*store).clone()).expect("a gate");
        let access = gate.admit(text.trim_end(), somewhere()).await.expect("let in");
        assert_eq!((access.role, access.tenant), (Role::Admin, TenantId::default()));
        assert!(first_key(&store, folder.path()).await.expect("asked").is_none());
    }
}

proptest::proptest! {
    #[test]
    fn any_text_as_a_token_is_survived(text in ".{0,200}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,80}", 3)) {
        let rules = TokenRules::default();
        provider::install();
        for token in [text, parts.join(".")] {
            if let Ok(head) = token::head(&token) {
                let keys = [VerifyingKey::secret(SECRET).expect("long enough")];
                proptest::prop_assert!(token::check(&token, &head, keys.iter(), &rules).is_err());
            }
        }
    }
}
