//! An AI backend behind TLS with an authority of its own, from the configuration file to the caller's ear.

mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use support::audio::align;
use support::baresip::speech;
use support::phone::Phone;
use support::server::{Server, Setup};
use support::wav::encode_mu_law;
use support::within;
use tungstenite::Message;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};

/// The handshake's signature and the start message, once they have come.
type Seen = Arc<Mutex<Option<(String, Value)>>>;

#[test]
fn a_call_reaches_a_backend_behind_tls_with_a_private_authority_and_a_signed_handshake() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, seen) = backend(folder.path());
    let path = folder.path().display();
    std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).expect("written");
    let agent = |name: &str, lines: &str| {
        format!(
            "[agents.{name}]\nurl = \"wss://127.0.0.1:{port}/media\"\nsigning_token_file = \"{path}/token\"\n{lines}\n\
             [[routes]]\nmatch = \"{name}\"\napp = \"agent\"\nagent = \"{name}\"\n"
        )
    };
    let authority = format!("ca_file = \"{path}/ca.pem\"\n");
    let right = format!(
        "{authority}tls_server_name = \"{NAME}\"\nsip_headers = [\"X-Tenant\"]\nparameters = {{ who = \"{{to}}\" }}\n"
    );
    let unknown = format!("tls_server_name = \"{NAME}\"\n");
    let server = Server::start(&Setup::new(
        &[agent("right", &right), agent("misnamed", &authority), agent("unknown", &unknown)].concat(),
    ));

    let phone = Phone::dial(server.sip, "right").expect("the call is answered");
    assert!(
        within(Duration::from_secs(15), || phone.ended().is_some()),
        "the backend hangs up when it has spoken"
    );
    let found = align(&speech(), &phone.audio());
    assert!(found.correlation > 0.9, "{found:?}");
    let (signature, start) = seen.lock().expect("lock").clone().expect("the backend was reached");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
    let url = format!("wss://127.0.0.1:{port}/media");
    let expected = base64::engine::general_purpose::STANDARD.encode(ring::hmac::sign(&key, url.as_bytes()));
    assert_eq!(signature, expected);
    assert_eq!(start["start"]["customParameters"]["who"], "right");

    for user in ["misnamed", "unknown"] {
        let refusal =
            Phone::dial(server.sip, user).err().flatten().unwrap_or_else(|| panic!("{user} is refused"));
        assert_eq!(refusal.status(), Some(503), "{user}: {refusal:?}");
    }
}

/// A TLS WebSocket server that says the speech and closes. Its authority's certificate is `ca.pem`.
fn backend(folder: &std::path::Path) -> (u16, Seen) {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(Vec::<String>::new()).expect("parameters");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).expect("a certificate");
    std::fs::write(folder.join("ca.pem"), authority_certificate.pem()).expect("written");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])
        .expect("parameters")
        .signed_by(&key, &issuer)
        .expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a server");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let (seen, config) = (Seen::default(), Arc::new(config));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
            serve(rustls::StreamOwned::new(tls, stream), &log);
        }
    });
    (port, seen)
}

fn serve(stream: rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>, seen: &Seen) {
    let mut signature = String::new();
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        if let Some(value) = request.headers().get("X-Twilio-Signature") {
            value.to_str().expect("text").clone_into(&mut signature);
        }
        Ok(response)
    };
    // Whoever does not trust us says no here.
    let Ok(mut socket) = tungstenite::accept_hdr(stream, look) else { return };
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else { continue };
        let message: Value = serde_json::from_str(&text).expect("JSON");
        if message["event"] == "start" {
            let mu_law: Vec<u8> = speech().into_iter().map(encode_mu_law).collect();
            let payload = base64::engine::general_purpose::STANDARD.encode(mu_law);
            let media =
                json!({"event": "media", "streamSid": message["streamSid"], "media": {"payload": payload}});
            *seen.lock().expect("lock") = Some((signature.clone(), message));
            socket.send(Message::text(media.to_string())).expect("it is taken");
            socket.close(None).expect("it is taken");
        }
    }
}

const NAME: &str = "agent.example.com";
const TOKEN: &str = "12345";
