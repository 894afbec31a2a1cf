//! SIP messages as text (RFC 3261 7): a start line, header fields in order, a body.
//!
//! This is our own strict reader, run before anything else sees a byte, so that there is only one opinion
//! about where a header begins and which of two contradicting ones counts.

mod body;
mod list;
mod parse;
#[cfg(test)]
mod tests;
mod uri;

pub(crate) use body::{Content, session_description};
pub(crate) use list::{Params, parse_params, split_list, split_quoted, unquote};
pub(crate) use parse::{Frame, Malformed, Unparsable, frame, head_end, parse};
pub(crate) use uri::{NameAddr, Uri, Via, bracketed, host_and_port};

/// The first line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartLine {
    Request { method: String, uri: String, version: String },
    Response { status: u16, reason: String },
}

/// One header field: its long name and its trimmed, unfolded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderField {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// A SIP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) start: StartLine,
    pub(crate) headers: Vec<HeaderField>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn request(method: &str, uri: &str) -> Self {
        let (method, uri, version) = (method.to_owned(), uri.to_owned(), SIP_VERSION.to_owned());
        Self { start: StartLine::Request { method, uri, version }, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn response(status: u16, reason: &str) -> Self {
        let reason = if reason.is_empty() { reason_phrase(status).to_owned() } else { one_line(reason) };
        Self { start: StartLine::Response { status, reason }, headers: Vec::new(), body: Vec::new() }
    }

    /// A response with the headers that RFC 3261 8.2.6.2 copies, and with `to_tag` added to To when the
    /// request had none.
    pub(crate) fn response_to(request: &Self, status: u16, reason: &str, to_tag: Option<&str>) -> Self {
        let mut response = Self::response(status, reason);
        for field in &request.headers {
            match field.name.as_str() {
                "Via" | "From" | "Call-ID" | "CSeq" => response.headers.push(field.clone()),
                "Timestamp" if status == 100 => response.headers.push(field.clone()),
                "To" => {
                    let tagged = NameAddr::parse(&field.value).is_some_and(|to| to.tag().is_some());
                    let value = match to_tag {
                        Some(tag) if !tagged => format!("{};tag={tag}", field.value),
                        _ => field.value.clone(),
                    };
                    response.push("To", value);
                }
                _ => {}
            }
        }
        response
    }

    pub(crate) fn push(&mut self, name: &str, value: impl Into<String>) {
        self.headers.push(HeaderField { name: name.to_owned(), value: value.into() });
    }

    pub(crate) fn set_body(&mut self, content_type: &str, body: impl Into<Vec<u8>>) {
        self.push("Content-Type", content_type);
        self.body = body.into();
    }

    /// Adds what is needed to understand it to an answer.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.push(name, value);
        self
    }

    pub(crate) fn method(&self) -> &str {
        match &self.start {
            StartLine::Request { method, .. } => method,
            StartLine::Response { .. } => "",
        }
    }

    pub(crate) fn uri(&self) -> &str {
        match &self.start {
            StartLine::Request { uri, .. } => uri,
            StartLine::Response { .. } => "",
        }
    }

    /// The status code; zero for a request.
    pub(crate) fn status(&self) -> u16 {
        match self.start {
            StartLine::Request { .. } => 0,
            StartLine::Response { status, .. } => status,
        }
    }

    pub(crate) fn reason(&self) -> &str {
        match &self.start {
            StartLine::Request { .. } => "",
            StartLine::Response { reason, .. } => reason,
        }
    }

    pub(crate) fn is_request(&self) -> bool {
        matches!(self.start, StartLine::Request { .. })
    }

    /// The first header field of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(&field.value)
    }

    /// All header fields of that name, as written.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
    }

    /// All values of a header whose fields may be joined by commas (RFC 3261 7.3.1).
    pub(crate) fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values(name).flat_map(split_list).filter(|value| !value.is_empty())
    }

    /// Whether an option tag, method or the like is in a list header.
    pub(crate) fn lists(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|value| value.eq_ignore_ascii_case(token))
    }

    pub(crate) fn call_id(&self) -> &str {
        self.header("Call-ID").unwrap_or_default()
    }

    pub(crate) fn from(&self) -> Option<NameAddr> {
        NameAddr::parse(self.header("From")?)
    }

    pub(crate) fn to(&self) -> Option<NameAddr> {
        NameAddr::parse(self.header("To")?)
    }

    pub(crate) fn sender_tag(&self) -> Option<String> {
        self.from()?.tag().map(str::to_owned)
    }

    pub(crate) fn to_tag(&self) -> Option<String> {
        self.to()?.tag().map(str::to_owned)
    }

    /// The number and method of CSeq; the number is below 2^31 (RFC 3261 8.1.1.5).
    pub(crate) fn cseq(&self) -> Option<(u32, &str)> {
        let (number, method) = self.header("CSeq")?.split_once([' ', '\t'])?;
        let number = decimal(number).filter(|n| *n < 1 << 31)?;
        let method = method.trim();
        (!method.is_empty() && method.bytes().all(is_token_byte)).then_some((number as u32, method))
    }

    pub(crate) fn top_via(&self) -> Option<Via> {
        Via::parse(self.list("Via").next()?)
    }

    /// Notes in the topmost Via where a request came from (RFC 3261 18.2.1). `false` without a usable Via.
    pub(crate) fn note_source(&mut self, source: std::net::SocketAddr) -> bool {
        let Some(field) = self.headers.iter_mut().find(|field| field.name == "Via") else { return false };
        let mut values = split_list(&field.value);
        let Some(mut via) = values.next().and_then(Via::parse) else { return false };
        via.set_source(source);
        let rest: Vec<_> = values.map(str::to_owned).collect();
        field.value = std::iter::once(via.write()).chain(rest).collect::<Vec<_>>().join(", ");
        true
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.headers.iter().map(|field| field.name.len() + field.value.len() + 4).sum::<usize>()
            + self.body.len()
            + self.uri().len()
    }

    /// Writes the message; Content-Length is computed (RFC 3261 20.14).
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + self.body.len());
        match &self.start {
            StartLine::Request { method, uri, version } => {
                out.extend_from_slice(format!("{method} {uri} {version}\r\n").as_bytes());
            }
            StartLine::Response { status, reason } => {
                out.extend_from_slice(format!("{SIP_VERSION} {status:03} {reason}\r\n").as_bytes());
            }
        }
        for field in self.headers.iter().filter(|field| field.name != "Content-Length") {
            for part in [field.name.as_str(), ": ", field.value.as_str(), "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        out.extend_from_slice(&self.body);
        out
    }
}

pub(crate) const SIP_VERSION: &str = "SIP/2.0";

/// Digits only: `u64::from_str` would take a sign.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 19 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// RFC 3261 25.1 `token`.
pub(crate) fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b)
}

/// Text for a header or reason phrase of ours: no line can be broken with it.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(256).collect()
}

/// The usual reason phrase (RFC 3261 21 and the registry).
pub(crate) fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        _ => match status / 100 {
            1 => "Session Progress",
            2 => "OK",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}
