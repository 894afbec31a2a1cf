//! SIP over TLS: calls out to a server that proves its name, calls in, and registration on one connection.

mod sip_support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sidetone_signaling::sip::{
    Account, Address, Credentials, FailureClass, OutgoingInvite, Progress, RegistrationState, SessionEvent,
    SipTls, Target, Transport,
};
use sip_support::{ANSWER, SDP, Text, endpoint, response_to, soon};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// `ca.pem`, and a certificate with its key for each name.
fn certificates(folder: &Path, names: &[&str]) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for name in names {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([(*name).to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn acceptor(folder: &Path, name: &str) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(folder.join(format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Messages of a stream.
struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    async fn recv(&mut self) -> Text {
        loop {
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.drain(..2);
            }
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            if let Some(end) = text.find("\r\n\r\n").map(|at| at + 4) {
                let length: usize =
                    Text(text[..end].to_owned()).header("Content-Length").unwrap().parse().unwrap();
                if self.buffer.len() >= end + length {
                    let message = self.buffer.drain(..end + length).collect();
                    return Text(String::from_utf8(message).unwrap());
                }
            }
            let mut chunk = [0; 4096];
            let length = soon(self.stream.read(&mut chunk)).await.unwrap();
            assert!(length > 0, "the connection was closed");
            self.buffer.extend_from_slice(&chunk[..length]);
        }
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }
}

fn tagged(request: &Text, status: u16, headers: &str, body: &str) -> String {
    let to = request.header("To").unwrap();
    response_to(request, status, headers, body).replacen(&format!("To: {to}"), &format!("To: {to};tag=t1"), 1)
}

fn invite(server: &str, port: u16) -> OutgoingInvite {
    let target = Target::new(server, Some(port), Transport::Tls).unwrap();
    OutgoingInvite::new(target, Address::new("100", "example.com").unwrap(), SDP.to_owned())
}

fn tls(folder: &Path) -> SipTls {
    SipTls { ca: Some(folder.join("ca.pem")), ..SipTls::default() }
}

#[tokio::test]
async fn a_call_goes_out_by_tls_and_its_requests_stay_on_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), &["localhost"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (endpoint, _calls, _) = endpoint(|config| config.tls = tls(folder.path())).await;
    let mut call = endpoint.invite(invite("localhost", port)).unwrap();
    let (stream, _) = soon(listener.accept()).await.unwrap();
    let mut wire = Wire::new(soon(acceptor(folder.path(), "localhost").accept(stream)).await.unwrap());
    let request = wire.recv().await;
    assert!(request.header("Via").unwrap().starts_with("SIP/2.0/TLS "), "{}", request.0);
    assert!(request.header("Contact").unwrap().contains(";transport=tls"), "{}", request.0);
    assert_eq!(request.start(), format!("INVITE sip:localhost:{port};transport=tls SIP/2.0"));
    let contact = format!("Contact: <sip:callee@localhost:{port};transport=tls>\r\n");
    wire.send(tagged(&request, 200, &contact, ANSWER)).await;
    let session = loop {
        match soon(call.next()).await {
            Progress::Answered { session, .. } => break session,
            Progress::Provisional { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wire.recv().await.method(), "ACK");
    session.handle().bye(None).await;
    let bye = wire.recv().await;
    assert_eq!(bye.method(), "BYE");
    wire.send(response_to(&bye, 200, "", "")).await;
    // A second call takes the same connection while the first one's session keeps it open.
    let _second = endpoint.invite(invite("localhost", port)).unwrap();
    assert_eq!(wire.recv().await.method(), "INVITE");
    drop(session);
}

#[tokio::test]
async fn a_server_that_is_somebody_else_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), &["localhost", "other.example.com"]);
    for (name, config) in [
        ("other.example.com", tls(folder.path())),
        // An authority that nobody has told us of.
        ("localhost", SipTls::default()),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (endpoint, _calls, _) = endpoint(|sip| sip.tls = config).await;
        let mut call = endpoint.invite(invite("localhost", port)).unwrap();
        let (stream, _) = soon(listener.accept()).await.unwrap();
        assert!(soon(acceptor(folder.path(), name).accept(stream)).await.is_err());
        let Progress::Failed(failure) = soon(call.next()).await else { panic!() };
        assert_eq!(failure.class, FailureClass::Unreachable);
        assert_eq!(endpoint.counters().tls_failures.value(), 1);
    }
}

#[tokio::test]
async fn calls_come_in_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), &["localhost"]);
    let file = |name: &str| Some(folder.path().join(name));
    let (endpoint, mut calls, _) = endpoint(|config| {
        config.tls = SipTls {
            bind: vec!["127.0.0.1:0".parse().unwrap()],
            certificate: file("localhost.pem"),
            key: file("localhost.key"),
            ca: None,
        };
    })
    .await;
    let address: SocketAddr =
        endpoint.local_addrs().into_iter().find(|(transport, _)| *transport == Transport::Tls).unwrap().1;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.path().join("ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let local = stream.local_addr().unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap();
    let mut wire = Wire::new(stream);
    let request = |method: &str, cseq: u32, to: &str, headers: &str, body: &str| {
        format!(
            "{method} sips:agent@{address} SIP/2.0\r\nVia: SIP/2.0/TLS {local};branch=z9hG4bK{method}{cseq}\r\n\
             From: <sips:peer@{local}>;tag=f\r\nTo: <sips:agent@{address}>{to}\r\nCall-ID: c@{local}\r\n\
             CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContact: <sips:peer@{local}>\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    wire.send(request("INVITE", 1, "", "Content-Type: application/sdp\r\n", SDP)).await;
    let call = soon(calls.recv()).await.unwrap();
    assert_eq!(call.info().transport, Transport::Tls);
    let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
    let ok = loop {
        let text = wire.recv().await;
        if text.status() == 200 {
            break text;
        }
    };
    // A sips: request wants a sips: Contact, with the port that we listen at.
    assert_eq!(ok.header("Contact"), Some(format!("<sips:agent@{address}>").as_str()));
    wire.send(request("ACK", 1, &format!(";tag={}", ok.to_tag()), "", "")).await;
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Confirmed { .. }));
    session.handle().bye(None).await;
    assert_eq!(wire.recv().await.method(), "BYE");
    // Garbage instead of a handshake costs that connection only.
    let mut garbage = TcpStream::connect(address).await.unwrap();
    garbage.write_all(b"OPTIONS sip:a SIP/2.0\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = soon(garbage.read_to_end(&mut rest)).await;
    assert_eq!(endpoint.counters().tls_failures.value(), 1);
}

#[tokio::test]
async fn a_registration_holds_its_connection_and_calls_come_by_it() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), &["localhost"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (endpoint, mut calls, _) = endpoint(|config| {
        config.tls = tls(folder.path());
        // Unless somebody holds it, it would be gone at once.
        config.limits.tcp_idle = Duration::from_millis(200);
    })
    .await;
    let registration = endpoint.register(Account {
        server: "localhost".to_owned(),
        port: Some(port),
        transport: Transport::Tls,
        user: "bot".to_owned(),
        ..Account::default()
    });
    let acceptor = acceptor(folder.path(), "localhost");
    let (stream, _) = soon(listener.accept()).await.unwrap();
    let mut wire = Wire::new(soon(acceptor.accept(stream)).await.unwrap());
    let register = wire.recv().await;
    assert_eq!(register.method(), "REGISTER");
    let contact = register.header("Contact").unwrap().to_owned();
    let headers = format!("Contact: {contact};expires=600\r\nService-Route: <sip:s.example.com;lr>\r\n");
    wire.send(tagged(&register, 200, &headers, "")).await;
    let mut status = registration.status();
    let registered = soon(status.wait_for(|status| status.state == RegistrationState::Registered)).await;
    assert_eq!(registered.unwrap().service_route, ["<sip:s.example.com;lr>"]);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let uri = contact.trim_matches(['<', '>']);
    wire.send(format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/TLS localhost:{port};branch=z9hG4bKi\r\nFrom: <sip:a@localhost>;tag=f\r\n\
         To: <sip:bot@localhost>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:a@localhost>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    ))
    .await;
    assert_eq!(soon(calls.recv()).await.unwrap().info().request_uri.user, "bot");
    // A connection that breaks is made anew, long before the registration ends.
    drop(wire);
    let (stream, _) = soon(listener.accept()).await.unwrap();
    let mut wire = Wire::new(soon(acceptor.accept(stream)).await.unwrap());
    assert_eq!(wire.recv().await.method(), "REGISTER");
}

/// Kamailio with its registrar behind TLS; gone with this.
struct Kamailio(std::process::Child);

impl Drop for Kamailio {
    fn drop(&mut self) {
        // Its children end with it.
        let _ = std::process::Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

impl Kamailio {
    fn start(folder: &Path, port: u16) -> Option<Self> {
        let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/proxies/registrar_tls.cfg");
        let text = std::fs::read_to_string(template).unwrap();
        let text = text
            .replace("SIP_PORT", &port.to_string())
            .replace("FOLDER", &folder.display().to_string())
            .replace("REALM", "example.com")
            .replace("PASSWORD", "secret");
        let file = folder.join("kamailio.cfg");
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(folder.join("kamailio.log")).unwrap();
        let started = std::process::Command::new("kamailio")
            .arg("-f")
            .arg(&file)
            .args(["-DD", "-E", "-m", "64", "-M", "8", "-Y"])
            .arg(folder)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        match started {
            Ok(child) => Some(Self(child)),
            Err(error) => {
                eprintln!("skipped: kamailio does not start: {error}");
                None
            }
        }
    }
}

#[tokio::test]
async fn kamailio_takes_our_registration_by_tls_and_calls_come_back_on_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), &["localhost"]);
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let Some(_kamailio) = Kamailio::start(folder.path(), port) else { return };
    let mut config = tls(folder.path());
    config.certificate = None;
    let (endpoint, mut calls, _) = endpoint(|sip| {
        sip.tls = config;
        sip.t1 = Duration::from_millis(500);
    })
    .await;
    let account = |password: &str| Account {
        server: "localhost".to_owned(),
        port: Some(port),
        transport: Transport::Tls,
        user: "bot".to_owned(),
        domain: Some("localhost".to_owned()),
        credentials: Some(Credentials { user: "bot".into(), password: password.into(), realm: None }),
        ..Account::default()
    };
    let log = || std::fs::read_to_string(folder.path().join("kamailio.log")).unwrap_or_default();
    let registration = endpoint.register(account("secret"));
    let mut status = registration.status();
    let registered = status.wait_for(|status| status.state == RegistrationState::Registered);
    let registered = tokio::time::timeout(Duration::from_secs(30), registered).await;
    assert!(registered.is_ok(), "{:?}\n{}", registration.status().borrow(), log());
    // Through the server to ourselves, out and in on one connection.
    let mut invite = invite("localhost", port);
    invite.request_user = Some("bot".to_owned());
    let mut outgoing = endpoint.invite(invite).unwrap();
    let incoming = soon(calls.recv()).await.unwrap();
    assert_eq!((incoming.info().transport, incoming.info().from.user.as_str()), (Transport::Tls, "100"));
    let mut answered = incoming.accept(ANSWER.to_owned()).await.unwrap();
    let mut session = loop {
        match soon(outgoing.next()).await {
            Progress::Answered { session, .. } => break session,
            Progress::Provisional { .. } => {}
            other => panic!("{other:?}\n{}", log()),
        }
    };
    assert!(matches!(soon(answered.next_event()).await, SessionEvent::Confirmed { .. }));
    session.handle().bye(None).await;
    assert!(matches!(soon(answered.next_event()).await, SessionEvent::Ended { .. }));
    assert!(matches!(soon(session.next_event()).await, SessionEvent::Ended { .. }));

    let wrong = endpoint.register(account("wrong"));
    let mut status = wrong.status();
    let failed =
        soon(status.wait_for(|status| status.state == RegistrationState::Failed)).await.unwrap().clone();
    assert!(failed.cause.unwrap().contains("password"));
}
