//! Just enough of SIP messages for a test phone and for hostile requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A message taken apart; names are compared without case, bodies are text.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) start_line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start_line = lines.next()?.to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (long_name(name.trim()), value.trim().to_owned()))
            .collect();
        Some(Self { start_line, headers, body: body.to_owned() })
    }

    /// The status of a response; `None` for a request.
    pub(crate) fn status(&self) -> Option<u16> {
        self.start_line.strip_prefix("SIP/2.0 ")?.split(' ').next()?.parse().ok()
    }

    /// The method of a request, or of the request that a response answers.
    pub(crate) fn method(&self) -> &str {
        match self.status() {
            Some(_) => {
                self.header("CSeq").and_then(|value| value.split_whitespace().nth(1)).unwrap_or_default()
            }
            None => self.start_line.split(' ').next().unwrap_or_default(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The port of the first `m=audio` line, and the address of the `c=` line above it or in its block.
    pub(crate) fn audio_address(&self) -> Option<SocketAddr> {
        let port = self.body.lines().find_map(|line| line.strip_prefix("m=audio "))?.split(' ').next()?;
        let ip = self.body.lines().find_map(|line| line.strip_prefix("c=IN IP"))?.split(' ').nth(1)?;
        Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
    }

    /// The response to this request, with our tag where it has none.
    pub(crate) fn response(&self, status: &str, extra: &[String], body: &str) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in self.all(name) {
                text += &format!("{name}: {value}\r\n");
            }
        }
        for line in extra {
            text += &format!("{line}\r\n");
        }
        text + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
    }
}

fn long_name(name: &str) -> String {
    match name {
        "v" => "Via",
        "f" => "From",
        "t" => "To",
        "i" => "Call-ID",
        "m" => "Contact",
        "l" => "Content-Length",
        "c" => "Content-Type",
        other => other,
    }
    .to_owned()
}

/// A token that no other call of this or another test process has.
pub(crate) fn token() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
    format!("{:x}x{:x}x{nanoseconds:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An offer or answer with PCMU and telephone-event.
pub(crate) fn sdp(address: SocketAddr, direction: &str) -> String {
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    let (ip, port) = (address.ip(), address.port());
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
         a=fmtp:101 0-16\r\na=ptime:20\r\na={direction}\r\n"
    )
}

/// A request outside of any dialog.
pub(crate) fn request(
    method: &str,
    user: &str,
    server: SocketAddr,
    local: SocketAddr,
    extra: &[&str],
    body: &str,
) -> String {
    let (branch, tag, call_id) = (token(), token(), token());
    let mut text = format!(
        "{method} sip:{user}@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@{local}>;tag={tag}\r\nTo: <sip:{user}@{server}>\r\n\
         Call-ID: {call_id}\r\nCSeq: 1 {method}\r\nContact: <sip:caller@{local}>\r\n"
    );
    for line in extra {
        text += &format!("{line}\r\n");
    }
    if !body.is_empty() {
        text += "Content-Type: application/sdp\r\n";
    }
    text + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
}
