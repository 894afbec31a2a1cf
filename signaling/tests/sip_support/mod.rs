//! A raw SIP peer: text in, text out, over real sockets on loopback.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod callee;
pub(crate) mod dns;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sidetone_signaling::sip::{IncomingCall, SipConfig, SipEndpoint, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
pub(crate) const ANSWER: &str =
    "v=0\r\no=- 2 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n";

/// An endpoint with fast timers (T1 of 50 ms) unless `change` says otherwise.
pub(crate) async fn endpoint(
    change: impl FnOnce(&mut SipConfig),
) -> (SipEndpoint, mpsc::Receiver<IncomingCall>, SocketAddr) {
    let mut config = SipConfig {
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        t1: Duration::from_millis(50),
        ..SipConfig::default()
    };
    change(&mut config);
    let (endpoint, calls) = SipEndpoint::start(config).await.unwrap();
    let address = endpoint.local_addrs().iter().find(|(t, _)| *t == Transport::Udp).unwrap().1;
    (endpoint, calls, address)
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

/// A parsed message, loosely.
#[derive(Clone, Debug)]
pub(crate) struct Text(pub(crate) String);

impl Text {
    pub(crate) fn status(&self) -> u16 {
        let rest = self.0.strip_prefix("SIP/2.0 ").unwrap_or_default();
        rest.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn method(&self) -> &str {
        if self.status() > 0 { "" } else { self.0.split(' ').next().unwrap_or_default() }
    }

    pub(crate) fn start(&self) -> &str {
        self.0.split("\r\n").next().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.0.split("\r\n\r\n").next()?;
        head.split("\r\n").skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    pub(crate) fn to_tag(&self) -> &str {
        self.header("To").and_then(|to| to.split_once(";tag=")).map_or("", |(_, tag)| tag)
    }
}

static NEXT: AtomicU32 = AtomicU32::new(1);

/// One caller over UDP with one dialog.
pub(crate) struct Peer {
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
    pub(crate) call_id: String,
    pub(crate) from_tag: String,
    pub(crate) to_tag: String,
    pub(crate) target: String,
    pub(crate) cseq: u32,
    /// Headers for every request.
    pub(crate) extra: String,
}

impl Peer {
    pub(crate) async fn new(server: SocketAddr) -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let bind: SocketAddr = if server.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" }.parse().unwrap();
        Self {
            socket: UdpSocket::bind(bind).await.unwrap(),
            server,
            call_id: format!("call{n}@test"),
            from_tag: format!("from{n}"),
            to_tag: String::new(),
            target: format!("sip:agent@{server}"),
            cseq: 0,
            extra: String::new(),
        }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// A request with a new branch; INVITE-like ones with a Contact.
    pub(crate) fn request(&self, method: &str, cseq: u32, headers: &str, body: &str) -> String {
        let branch = NEXT.fetch_add(1, Ordering::Relaxed);
        self.request_with_branch(method, cseq, &format!("b{branch}"), headers, body)
    }

    pub(crate) fn request_with_branch(
        &self,
        method: &str,
        cseq: u32,
        branch: &str,
        headers: &str,
        body: &str,
    ) -> String {
        let (local, call_id, from_tag) = (self.local(), &self.call_id, &self.from_tag);
        let to_tag = if self.to_tag.is_empty() { String::new() } else { format!(";tag={}", self.to_tag) };
        let content_type = if body.is_empty() || headers.contains("Content-Type") {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{branch};rport\r\n\
             From: \"Peer\" <sip:peer@{local}>;tag={from_tag}\r\nTo: <sip:agent@{}>{to_tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContact: <sip:peer@{local}>\r\n{}{headers}{content_type}\
             Content-Length: {}\r\n\r\n{body}",
            self.target,
            self.server,
            self.extra,
            body.len()
        )
    }

    pub(crate) async fn send(&self, text: impl AsRef<[u8]>) {
        self.socket.send_to(text.as_ref(), self.server).await.unwrap();
    }

    pub(crate) async fn recv(&self) -> Text {
        let mut buffer = vec![0; 65_536];
        let (length, from) = soon(self.socket.recv_from(&mut buffer)).await.unwrap();
        assert_eq!(from, self.server, "answers come from the address that was asked");
        Text(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// Nothing arrives for a while.
    pub(crate) async fn silence(&self, duration: Duration) {
        let mut buffer = vec![0; 65_536];
        if let Ok(got) = timeout(duration, self.socket.recv_from(&mut buffer)).await {
            let (length, _) = got.unwrap();
            panic!("unexpected: {}", String::from_utf8_lossy(&buffer[..length]));
        }
    }

    /// The next response with this status (others are skipped), remembering the To tag.
    pub(crate) async fn status(&mut self, status: u16) -> Text {
        loop {
            let text = self.recv().await;
            if text.status() == status {
                self.note(&text);
                return text;
            }
            assert!(text.status() < 200 || text.status() == 200, "wanted {status}, got {}", text.0);
        }
    }

    pub(crate) fn note(&mut self, text: &Text) {
        if !text.to_tag().is_empty() {
            self.to_tag = text.to_tag().to_owned();
        }
        if let Some(contact) = text.header("Contact") {
            self.target = contact.trim_matches(['<', '>']).to_owned();
        }
    }

    /// The next request with this method; other messages are skipped.
    pub(crate) async fn wanted(&self, method: &str) -> Text {
        loop {
            let text = self.recv().await;
            if text.method() == method {
                return text;
            }
        }
    }

    pub(crate) async fn invite(&mut self, headers: &str, sdp: &str) -> String {
        self.cseq += 1;
        let invite = self.request("INVITE", self.cseq, headers, sdp);
        self.send(&invite).await;
        invite
    }

    pub(crate) async fn ack(&self, body: &str) {
        self.send(self.request("ACK", self.cseq, "", body)).await;
    }

    /// An ACK of a final answer other than 2xx, in the transaction of its INVITE.
    pub(crate) async fn ack_refusal(&self, invite: &str, response: &Text) {
        let via = Text(invite.to_owned()).header("Via").unwrap().to_owned();
        self.send(format!(
            "ACK {} SIP/2.0\r\nVia: {via}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} ACK\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
            self.target,
            response.header("From").unwrap(),
            response.header("To").unwrap(),
            self.call_id,
            self.cseq
        ))
        .await;
    }

    /// A request in the dialog, and its final answer.
    pub(crate) async fn ask(&mut self, method: &str, headers: &str, body: &str) -> Text {
        self.cseq += 1;
        self.send(self.request(method, self.cseq, headers, body)).await;
        let cseq = format!("{} {method}", self.cseq);
        loop {
            let text = self.recv().await;
            if text.status() >= 200 && text.header("CSeq") == Some(&cseq) {
                return text;
            }
        }
    }

    /// Answers a request of the endpoint.
    pub(crate) async fn answer(&self, request: &Text, status: u16, headers: &str, body: &str) {
        self.send(response_to(request, status, headers, body)).await;
    }

    /// Hangs up and waits for the 200.
    pub(crate) async fn bye(&mut self) {
        assert_eq!(self.ask("BYE", "", "").await.status(), 200);
    }
}

pub(crate) fn response_to(request: &Text, status: u16, headers: &str, body: &str) -> String {
    let copy: String = ["Via", "From", "To", "Call-ID", "CSeq"]
        .iter()
        .map(|name| format!("{name}: {}\r\n", request.header(name).unwrap_or_default()))
        .collect();
    let content_type = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {status} Reason\r\n{copy}{headers}{content_type}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An answered and confirmed call.
pub(crate) async fn connected(
    server: SocketAddr,
    calls: &mut mpsc::Receiver<IncomingCall>,
    headers: &str,
) -> (Peer, sidetone_signaling::sip::Session) {
    let mut peer = Peer::new(server).await;
    peer.invite(headers, SDP).await;
    let call = soon(calls.recv()).await.unwrap();
    let mut session = call.accept(ANSWER.to_owned()).await.unwrap();
    peer.status(200).await;
    peer.ack("").await;
    let event = soon(session.next_event()).await;
    assert!(matches!(event, sidetone_signaling::sip::SessionEvent::Confirmed { answer: None }), "{event:?}");
    (peer, session)
}

/// Messages from a TCP stream, framed by Content-Length.
pub(crate) struct TcpPeer {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl TcpPeer {
    pub(crate) async fn new(server: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(server).await.unwrap(), buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// The next message; `None` when the stream has ended.
    pub(crate) async fn recv(&mut self) -> Option<Text> {
        loop {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            if let Some(end) = text.find("\r\n\r\n").map(|at| at + 4) {
                let head = Text(text[..end].to_owned());
                let length: usize = head.header("Content-Length").unwrap().parse().unwrap();
                if self.buffer.len() >= end + length {
                    let message = self.buffer.drain(..end + length).collect();
                    return Some(Text(String::from_utf8(message).unwrap()));
                }
            }
            let mut chunk = [0; 4096];
            match soon(self.stream.read(&mut chunk)).await {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
            }
        }
    }

    pub(crate) async fn final_answer(&mut self) -> Text {
        loop {
            let text = self.recv().await.expect("an answer");
            if text.status() >= 200 {
                return text;
            }
        }
    }
}
