//! Reading SIP messages (RFC 3261 section 7).

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::callload) enum StartLine {
    /// Method and request-URI.
    Request(String, String),
    /// Status code and reason phrase.
    Response(u16, String),
}

/// A parsed message. Header order is kept.
#[derive(Clone, Debug)]
pub(in crate::callload) struct Message {
    pub(in crate::callload) start: StartLine,
    headers: Vec<(String, String)>,
    pub(in crate::callload) body: String,
}

impl Message {
    /// `None` for anything that is no SIP message.
    pub(in crate::callload) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches(['\r', '\n']);
        let (head, body) = text.split_once("\r\n\r\n").or_else(|| text.split_once("\n\n"))?;
        let mut lines = head.lines();
        let start = StartLine::parse(lines.next()?)?;
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            if line.starts_with([' ', '\t']) {
                let (_, value) = headers.last_mut()?;
                value.push(' ');
                value.push_str(line.trim());
            } else {
                let (name, value) = line.split_once(':')?;
                headers.push((long_name(name.trim()), value.trim().to_owned()));
            }
        }
        let mut body = body.to_owned();
        let message = Self { start, headers, body: String::new() };
        if let Some(length) = message.header("content-length").and_then(|value| value.parse().ok())
            && length < body.len()
            && body.is_char_boundary(length)
        {
            body.truncate(length);
        }
        Some(Self { body, ..message })
    }

    /// The first header field of this name (lower case, long form).
    pub(in crate::callload) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a header field that may be a comma-separated list.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        for (_, value) in self.headers.iter().filter(|(n, _)| n == name) {
            let (mut quoted, mut bracketed, mut from) = (false, false, 0);
            for (at, c) in value.char_indices() {
                match c {
                    '"' => quoted = !quoted,
                    '<' if !quoted => bracketed = true,
                    '>' if !quoted => bracketed = false,
                    ',' if !quoted && !bracketed => {
                        values.push(value[from..at].trim().to_owned());
                        from = at + 1;
                    }
                    _ => {}
                }
            }
            values.push(value[from..].trim().to_owned());
        }
        values
    }

    /// Number and method of CSeq.
    pub(super) fn cseq(&self) -> Option<(u32, &str)> {
        let (number, method) = self.header("cseq")?.split_once(char::is_whitespace)?;
        Some((number.parse().ok()?, method.trim()))
    }

    /// A header field copied as it stands, every occurrence, as lines.
    pub(super) fn copied(&self, name: &str, written: &str) -> String {
        self.headers
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, value)| format!("{written}: {value}\r\n"))
            .collect()
    }
}

impl StartLine {
    fn parse(line: &str) -> Option<Self> {
        if let Some(rest) = line.strip_prefix("SIP/2.0 ") {
            let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            let status = status.parse().ok().filter(|status| (100..700).contains(status))?;
            return Some(Self::Response(status, reason.to_owned()));
        }
        let mut words = line.split(' ');
        let (method, uri, version) = (words.next()?, words.next()?, words.next()?);
        (version == "SIP/2.0" && !method.is_empty()).then(|| Self::Request(method.to_owned(), uri.to_owned()))
    }
}

/// The `tag` parameter of a From or To value.
pub(super) fn tag(value: &str) -> Option<&str> {
    let parameters = value.rsplit_once('>').map_or(value, |(_, parameters)| parameters);
    parameters.split(';').find_map(|p| p.trim().strip_prefix("tag=")).map(str::trim)
}

/// The URI inside a name-addr or addr-spec.
pub(super) fn uri(value: &str) -> &str {
    match value.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        Some((uri, _)) => uri.trim(),
        None => value.split(';').next().unwrap_or(value).trim(),
    }
}

/// Length of the first message in a TCP buffer; `None` while it is not complete. Content-Length is required on
/// streams (RFC 3261 section 18.3).
pub(in crate::callload) fn frame_length(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&buffer[..head]);
    let length: usize = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| long_name(name.trim()) == "content-length")
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0);
    let whole = head.checked_add(length)?;
    (buffer.len() >= whole).then_some(whole)
}

/// Lower case, compact forms written out (RFC 3261 section 7.3.3).
fn long_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "v" => "via".to_owned(),
        "f" => "from".to_owned(),
        "t" => "to".to_owned(),
        "i" => "call-id".to_owned(),
        "m" => "contact".to_owned(),
        "l" => "content-length".to_owned(),
        "c" => "content-type".to_owned(),
        _ => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
        Record-Route: <sip:192.0.2.9;lr>, \"a, b\" <sip:192.0.2.8;lr,x>\r\nRecord-Route: <sip:192.0.2.7;lr>\r\n\
        t: \"A <x>;tag=no\" <sip:b@192.0.2.2>;tag=yes\r\ni: id@192.0.2.1\r\nCSeq:  7\r\n  INVITE\r\nl: 3\r\n\r\nabcdef";

    #[test]
    fn compact_folded_and_listed_headers_are_read() {
        let message = Message::parse(ANSWER.as_bytes()).unwrap();
        assert_eq!(message.start, StartLine::Response(200, "OK".into()));
        assert_eq!(message.header("call-id"), Some("id@192.0.2.1"));
        assert_eq!(message.cseq(), Some((7, "INVITE")));
        assert_eq!(tag(message.header("to").unwrap()), Some("yes"));
        let routes = message.list("record-route");
        assert_eq!(
            routes.iter().map(|r| uri(r)).collect::<Vec<_>>(),
            ["sip:192.0.2.9;lr", "sip:192.0.2.8;lr,x", "sip:192.0.2.7;lr"]
        );
        assert_eq!(message.body, "abc");
    }

    #[test]
    fn a_stream_is_cut_at_content_length_and_no_prefix_panics() {
        let bytes = ANSWER.as_bytes();
        assert_eq!(frame_length(bytes), Some(bytes.len() - 3));
        for cut in 0..bytes.len() - 3 {
            assert_eq!(frame_length(&bytes[..cut]), None);
            let _ = Message::parse(&bytes[..cut]);
        }
        assert!(Message::parse(b"\xff\xfe\r\n\r\n").is_none());
        assert!(Message::parse(b"SIP/2.0 20 OK\r\n\r\n").is_none());
    }
}
