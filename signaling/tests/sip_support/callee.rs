//! A phone by hand that is called.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::{Text, response_to, soon};

/// The callee.
pub(crate) struct Callee {
    pub(crate) socket: UdpSocket,
    pub(crate) peer: SocketAddr,
}

impl Callee {
    pub(crate) async fn new(peer: SocketAddr) -> Self {
        Self { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), peer }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) async fn recv(&self) -> Text {
        let mut buffer = vec![0; 65_536];
        let (length, from) = soon(self.socket.recv_from(&mut buffer)).await.unwrap();
        assert_eq!(from, self.peer);
        Text(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// The next request with this method; repetitions of others are skipped.
    pub(crate) async fn wanted(&self, method: &str) -> Text {
        loop {
            let text = self.recv().await;
            if text.method() == method {
                return text;
            }
        }
    }

    pub(crate) async fn send(&self, text: impl AsRef<[u8]>) {
        self.socket.send_to(text.as_ref(), self.peer).await.unwrap();
    }

    /// A response with this To tag, and our Contact.
    pub(crate) async fn answer(&self, request: &Text, status: u16, tag: &str, headers: &str, body: &str) {
        let contact = format!("Contact: <sip:callee@{}>\r\n{headers}", self.local());
        self.send(tagged(response_to(request, status, &contact, body), tag)).await;
    }

    /// A request in the dialog that `invite` began.
    pub(crate) fn request(
        &self,
        invite: &Text,
        method: &str,
        tag: &str,
        cseq: u32,
        headers: &str,
        body: &str,
    ) -> String {
        let contact = invite.header("Contact").unwrap().trim_matches(['<', '>']).to_owned();
        let content_type = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKc{method}{cseq};rport\r\n\
             From: {};tag={tag}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n\
             Contact: <sip:callee@{}>\r\n{headers}{content_type}Content-Length: {}\r\n\r\n{body}",
            self.local(),
            invite.header("To").unwrap(),
            invite.header("From").unwrap(),
            invite.header("Call-ID").unwrap(),
            self.local(),
            body.len()
        )
    }
}

pub(crate) fn tagged(response: String, tag: &str) -> String {
    let to = Text(response.clone()).header("To").unwrap().to_owned();
    if tag.is_empty() || to.contains(";tag=") {
        return response;
    }
    response.replacen(&format!("To: {to}"), &format!("To: {to};tag={tag}"), 1)
}
