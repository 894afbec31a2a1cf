//! Reading a message, with every limit checked on the way (RFC 3261 7, 18.3).

use super::{HeaderField, Message, StartLine, decimal, is_token_byte};

/// What is wrong with a message. One counter each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Empty,
    TooLarge,
    StartLine,
    Header,
    TooManyHeaders,
    ControlCharacter,
    Encoding,
    ContentLength,
    Mandatory,
    Truncated,
}

impl Malformed {
    /// The reason phrase of the 400 that answers it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Empty => "Empty Message",
            Self::TooLarge => "Message Too Large",
            Self::StartLine => "Malformed Request-Line",
            Self::Header => "Malformed Header Field",
            Self::TooManyHeaders => "Too Many Header Fields",
            Self::ControlCharacter => "Control Character In Header",
            Self::Encoding => "Header Is Not UTF-8",
            Self::ContentLength => "Bad Content-Length",
            Self::Mandatory => "Missing Or Malformed Mandatory Header Field",
            Self::Truncated => "Message Ends Inside Its Header",
        }
    }
}

/// A message that cannot be used, and what could be read of it for an answer.
#[derive(Debug)]
pub(crate) struct Unparsable {
    pub(crate) why: Malformed,
    /// Empty of headers when nothing could be salvaged.
    pub(crate) salvage: Message,
}

/// The largest message taken, on any transport.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 256;

/// Where the head ends: the offset just behind the empty line.
pub(crate) fn head_end(data: &[u8]) -> Option<usize> {
    data.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads one message from a whole datagram, or from a stream that was framed. Bytes beyond
/// Content-Length are ignored (RFC 3261 18.3). No Content-Length means that the body is the rest.
pub(crate) fn parse(data: &[u8]) -> Result<Message, Box<Unparsable>> {
    let mut data = data;
    while let Some(rest) = data.strip_prefix(b"\r\n") {
        data = rest;
    }
    let mut reader = Reader { salvage: Message::request("", ""), why: None };
    if data.is_empty() {
        return reader.fail(Malformed::Empty);
    }
    if data.len() > MAX_MESSAGE_BYTES {
        return reader.fail(Malformed::TooLarge);
    }
    let (head, body) = match head_end(data) {
        Some(end) => data.split_at(end),
        None => {
            reader.note(Malformed::Truncated);
            (data, &[][..])
        }
    };
    let head = match std::str::from_utf8(head) {
        Ok(head) => std::borrow::Cow::Borrowed(head),
        Err(_) => {
            reader.note(Malformed::Encoding);
            String::from_utf8_lossy(head)
        }
    };
    reader.head(head.strip_suffix("\r\n\r\n").unwrap_or(&head));
    let length = reader.content_length();
    match length {
        Ok(None) => reader.salvage.body = body.to_vec(),
        Ok(Some(length)) => match body.get(..length) {
            Some(body) => reader.salvage.body = body.to_vec(),
            None => reader.note(Malformed::ContentLength),
        },
        Err(why) => reader.note(why),
    }
    match reader.why {
        None => Ok(reader.salvage),
        Some(why) => reader.fail(why),
    }
}

/// What the beginning of a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Nothing whole yet; the head was searched up to `scanned`.
    Incomplete { scanned: usize },
    /// Empty lines between messages; a double one is a ping (RFC 5626 3.5.1).
    KeepAlive { length: usize, ping: bool },
    /// A message of so many bytes.
    Message { length: usize },
    /// Where the next message begins cannot be known.
    Broken,
}

/// Finds the first message of a stream by its Content-Length (RFC 3261 18.3). A message without one has no
/// body. `scanned` is what an earlier call returned for the same beginning.
pub(crate) fn frame(data: &[u8], scanned: usize) -> Frame {
    if data.starts_with(b"\r\n") {
        let ping = data.starts_with(b"\r\n\r\n");
        return Frame::KeepAlive { length: if ping { 4 } else { 2 }, ping };
    }
    if data == b"\r" || data.is_empty() {
        return Frame::Incomplete { scanned: 0 };
    }
    let from = scanned.saturating_sub(3);
    let Some(end) = data.get(from..).and_then(head_end).map(|end| from + end) else {
        let incomplete = Frame::Incomplete { scanned: data.len() };
        return if data.len() > MAX_MESSAGE_BYTES { Frame::Broken } else { incomplete };
    };
    let head = data.get(..end).map(String::from_utf8_lossy).unwrap_or_default();
    let mut reader = Reader { salvage: Message::request("", ""), why: None };
    reader.head(head.strip_suffix("\r\n\r\n").unwrap_or(&head));
    // A start line that is none means that this never was SIP, or that framing was lost before.
    let lost = matches!(reader.why, Some(Malformed::StartLine | Malformed::TooManyHeaders));
    match reader.content_length().map(|length| end + length.unwrap_or(0)) {
        Ok(length) if length <= MAX_MESSAGE_BYTES && !lost => match data.len() >= length {
            true => Frame::Message { length },
            // So that the next search finds the same end again.
            false => Frame::Incomplete { scanned: end - 1 },
        },
        _ => Frame::Broken,
    }
}

struct Reader {
    salvage: Message,
    why: Option<Malformed>,
}

impl Reader {
    fn fail(self, why: Malformed) -> Result<Message, Box<Unparsable>> {
        Err(Box::new(Unparsable { why, salvage: self.salvage }))
    }

    /// The first fault is the one that is reported.
    fn note(&mut self, why: Malformed) {
        self.why.get_or_insert(why);
    }

    fn head(&mut self, head: &str) {
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default();
        match start_line(start) {
            Some(start) => self.salvage.start = start,
            None => {
                self.note(Malformed::StartLine);
                // The method alone decides whether an answer may be given at all.
                let method = start.split(' ').next().filter(|m| m.bytes().all(is_token_byte));
                self.salvage = Message::request(method.unwrap_or_default(), "");
            }
        }
        for line in lines {
            if line.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
                self.note(Malformed::ControlCharacter);
                continue;
            }
            if line.starts_with([' ', '\t']) {
                match self.salvage.headers.last_mut() {
                    Some(field) => {
                        field.value.push(' ');
                        field.value.push_str(line.trim());
                    }
                    None => self.note(Malformed::Header),
                }
                continue;
            }
            if self.salvage.headers.len() == MAX_HEADERS {
                self.note(Malformed::TooManyHeaders);
                return;
            }
            // Space before the colon is legal (RFC 3261 7.3.1) and never makes another header of it.
            let name = line.split_once(':').map(|(name, value)| (name.trim_end_matches([' ', '\t']), value));
            match name {
                Some((name, value)) if !name.is_empty() && name.bytes().all(is_token_byte) => {
                    self.salvage.push(long_name(name), value.trim());
                }
                _ => self.note(Malformed::Header),
            }
        }
        for field in &mut self.salvage.headers {
            let trimmed = field.value.trim();
            if trimmed.len() != field.value.len() {
                field.value = trimmed.to_owned();
            }
        }
    }

    fn content_length(&self) -> Result<Option<usize>, Malformed> {
        content_length(&self.salvage.headers)
    }
}

/// The one Content-Length of a message; several that agree are one (RFC 3261 20.14).
pub(crate) fn content_length(headers: &[HeaderField]) -> Result<Option<usize>, Malformed> {
    let mut found = None;
    for field in headers.iter().filter(|field| field.name == "Content-Length") {
        let length = decimal(&field.value).ok_or(Malformed::ContentLength)? as usize;
        if found.is_some_and(|found| found != length) {
            return Err(Malformed::ContentLength);
        }
        found = Some(length);
    }
    Ok(found)
}

fn start_line(line: &str) -> Option<StartLine> {
    if line.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return None;
    }
    if line.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("SIP/")) {
        let (version, rest) = line.split_once(' ')?;
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = decimal(status).filter(|s| (100..700).contains(s) && status.len() == 3)?;
        let response = StartLine::Response { status: status as u16, reason: reason.to_owned() };
        return version.eq_ignore_ascii_case("SIP/2.0").then_some(response);
    }
    // Exactly one space between three parts: what else is tolerated can be read in two ways.
    let mut parts = line.split(' ');
    let (method, uri, version) = (parts.next()?, parts.next()?, parts.next()?);
    let well_formed = parts.next().is_none()
        && !method.is_empty()
        && method.bytes().all(is_token_byte)
        && !uri.is_empty()
        && !uri.contains(['<', '>', '"'])
        && version.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("SIP/"));
    let (method, uri, version) = (method.to_owned(), uri.to_owned(), version.to_ascii_uppercase());
    well_formed.then_some(StartLine::Request { method, uri, version })
}

/// The long form of compact names, and one spelling of the names that the code asks for.
fn long_name(name: &str) -> &str {
    const COMPACT: [(&str, &str); 21] = [
        ("i", "Call-ID"),
        ("m", "Contact"),
        ("f", "From"),
        ("t", "To"),
        ("v", "Via"),
        ("c", "Content-Type"),
        ("l", "Content-Length"),
        ("s", "Subject"),
        ("k", "Supported"),
        ("e", "Content-Encoding"),
        ("o", "Event"),
        ("r", "Refer-To"),
        ("u", "Allow-Events"),
        ("x", "Session-Expires"),
        ("a", "Accept-Contact"),
        ("b", "Referred-By"),
        ("d", "Request-Disposition"),
        ("j", "Reject-Contact"),
        ("n", "Identity-Info"),
        ("y", "Identity"),
        ("", ""),
    ];
    const COMMON: [&str; 8] =
        ["Via", "From", "To", "Call-ID", "CSeq", "Content-Length", "Content-Type", "Timestamp"];
    let compact = COMPACT.iter().find(|(short, _)| name.eq_ignore_ascii_case(short));
    let common = COMMON.into_iter().find(|common| name.eq_ignore_ascii_case(common));
    compact.map(|(_, long)| *long).or(common).unwrap_or(name)
}
