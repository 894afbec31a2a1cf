//! What a request of ours says about people, and headers of its owner's: safe to write once they exist.

use std::fmt;

use super::message::{NameAddr, Uri, bracketed, host_and_port, is_token_byte};

/// A From, To or the like of ours: a name that may be shown, and a `sip:`, `sips:` or `tel:` URI. No line or quote can
/// be broken with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    display: Option<String>,
    uri: String,
}

/// Why a text cannot be written into a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// A control character.
    #[error("{0} holds a control character; leave out line breaks and the like")]
    ControlCharacter(&'static str),
    /// More text than anybody needs.
    #[error("{0} is longer than {MAX_TEXT} bytes")]
    TooLong(&'static str),
    /// It is no host.
    #[error("`{0}` is no host name or address")]
    Host(String),
    /// It is no URI.
    #[error("`{0}` is no address; write one such as `sip:100@example.com`")]
    Uri(String),
    /// It is no header name.
    #[error("`{0}` is no name of a header")]
    HeaderName(String),
    /// The header is ours.
    #[error("the header {0} is written by the SIP side itself and cannot be given")]
    Reserved(String),
    /// Too many headers.
    #[error("more than {MAX_HEADERS} further headers")]
    TooManyHeaders,
}

impl Address {
    /// `sip:user@host[:port]`. What a user part cannot hold is escaped; without a user the host alone is meant.
    ///
    /// # Errors
    /// See [`InvalidAddress`].
    pub fn new(user: &str, host: &str) -> Result<Self, InvalidAddress> {
        let (user, host) = (plain("the user", user)?, plain("the host", host)?);
        let (name, port) = host_and_port(host)
            .or_else(|| host.parse::<std::net::Ipv6Addr>().ok().map(|_| (host.to_owned(), None)))
            .filter(|_| host.len() <= MAX_TEXT)
            .ok_or_else(|| InvalidAddress::Host(shown(host)))?;
        let at = if user.is_empty() { String::new() } else { escape_user(user) + "@" };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self { display: None, uri: format!("sip:{at}{}{port}", bracketed(&name)) })
    }

    /// Reads `sip:user@host`, or with a name `"Name" <sip:user@host>`. Parameters of a header are left out.
    ///
    /// # Errors
    /// See [`InvalidAddress`].
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let text = plain("the address", text)?.trim();
        let invalid = || InvalidAddress::Uri(shown(text));
        let address = NameAddr::parse(text).ok_or_else(invalid)?;
        let uri = Uri::parse(&address.uri).filter(|_| address.uri.is_ascii()).ok_or_else(invalid)?;
        let usable = match uri.scheme.as_str() {
            "sip" | "sips" => !uri.host.is_empty(),
            "tel" => uri.user.bytes().any(|byte| byte.is_ascii_digit()),
            _ => false,
        };
        if !usable {
            return Err(invalid());
        }
        Ok(Self { display: address.display, uri: address.uri })
    }

    /// `"Anonymous" <sip:anonymous@anonymous.invalid>` (RFC 3323 4.1.1.3).
    #[must_use]
    pub fn anonymous() -> Self {
        let uri = "sip:anonymous@anonymous.invalid".to_owned();
        Self { display: Some("Anonymous".to_owned()), uri }
    }

    /// With a name to show; an empty one takes it away.
    ///
    /// # Errors
    /// See [`InvalidAddress`].
    pub fn with_display(mut self, display: &str) -> Result<Self, InvalidAddress> {
        let display = plain("the display name", display)?.trim();
        self.display = (!display.is_empty()).then(|| display.to_owned());
        Ok(self)
    }

    /// The URI.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The name that is shown.
    #[must_use]
    pub fn display(&self) -> Option<&str> {
        self.display.as_deref()
    }

    /// The user part, or the number, as it is written.
    #[must_use]
    pub fn user(&self) -> String {
        Uri::parse(&self.uri).map(|uri| uri.user).unwrap_or_default()
    }
}

impl fmt::Display for Address {
    /// As a name-addr (RFC 3261 25.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "\"{}\" ", display.replace('\\', "\\\\").replace('"', "\\\""))?;
        }
        write!(f, "<{}>", self.uri)
    }
}

/// Header fields that the owner of a request or response adds, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(String, String)>,
    of_response: bool,
}

impl Headers {
    /// For a response to [`super::IncomingRequest`], which may also hold Contact, Expires, Path and the like.
    #[must_use]
    pub fn of_response() -> Self {
        Self { fields: Vec::new(), of_response: true }
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`InvalidAddress`] says what is wrong with the name or the value, or that the header is written by us.
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), InvalidAddress> {
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token_byte) {
            return Err(InvalidAddress::HeaderName(shown(name)));
        }
        let reserved = if self.of_response { RESERVED_IN_RESPONSES } else { RESERVED };
        if reserved.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) || name.len() == 1 {
            return Err(InvalidAddress::Reserved(name.to_owned()));
        }
        let value = plain("the header's value", value)?;
        if self.fields.len() >= MAX_HEADERS {
            return Err(InvalidAddress::TooManyHeaders);
        }
        self.fields.push((name.to_owned(), value.trim().to_owned()));
        Ok(())
    }

    /// [`Self::push`] for a chain.
    ///
    /// # Errors
    /// See [`Self::push`].
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, InvalidAddress> {
        self.push(name, value)?;
        Ok(self)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What only we write: it steers the message, or says who we are. Names of one letter are compact forms of those.
const RESERVED: &[&str] = &[
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Content-Length",
    "Content-Type",
    "Max-Forwards",
    "Route",
    "Record-Route",
    "Authorization",
    "Proxy-Authorization",
    "Require",
    "Supported",
    "Allow",
    "Session-Expires",
    "Min-SE",
    "RAck",
    "RSeq",
    "Path",
    "Expires",
    "User-Agent",
];
/// What a response copies from its request, and what its body decides.
const RESERVED_IN_RESPONSES: &[&str] =
    &["Via", "From", "To", "Call-ID", "CSeq", "Content-Length", "Content-Type", "Server"];
const MAX_HEADERS: usize = 64;
const MAX_TEXT: usize = 1024;

pub(super) fn plain<'a>(what: &'static str, text: &'a str) -> Result<&'a str, InvalidAddress> {
    if text.chars().any(char::is_control) {
        return Err(InvalidAddress::ControlCharacter(what));
    }
    if text.len() > MAX_TEXT {
        return Err(InvalidAddress::TooLong(what));
    }
    Ok(text)
}

/// Part of a text of strangers, for an error.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(80).collect()
}

/// RFC 3261 25.1, user; `%` is kept where it escapes already.
pub(super) fn escape_user(user: &str) -> String {
    let bytes = user.as_bytes();
    let mut out = String::with_capacity(user.len());
    for (at, byte) in bytes.iter().enumerate() {
        let escapes = *byte == b'%'
            && bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(byte) || escapes {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sip::message::{Message, parse};

    #[test]
    fn addresses_are_written_as_they_are_meant() {
        let address = Address::new("+15551234567", "sip.example.com:5080").unwrap();
        assert_eq!(address.to_string(), "<sip:+15551234567@sip.example.com:5080>");
        let named = address.with_display(r#"A "B" \C"#).unwrap();
        assert_eq!(named.to_string(), r#""A \"B\" \\C" <sip:+15551234567@sip.example.com:5080>"#);
        assert_eq!(Address::new("a b@c", "2001:db8::1").unwrap().uri(), "sip:a%20b%40c@[2001:db8::1]");
        assert_eq!(Address::new("a%20b%", "h").unwrap().uri(), "sip:a%20b%25@h");
        assert_eq!(Address::parse("\"N\" <sips:a@b>;tag=x").unwrap().to_string(), "\"N\" <sips:a@b>");
        assert_eq!(Address::parse("tel:+4930").unwrap().user(), "+4930");
    }

    #[test]
    fn what_would_break_a_line_is_refused() {
        assert!(Address::new("a\r\nX: y", "h").is_err());
        assert!(Address::new("a", "h\r\n").is_err() && Address::new("a", "h h").is_err());
        assert!(Address::new("a", "h").unwrap().with_display("x\ny").is_err());
        assert!(Address::parse("sip:a@h>\r\nX: y").is_err() && Address::parse("http://h").is_err());
        let mut headers = Headers::default();
        assert!(headers.push("X-A", "b\r\nVia: c").is_err());
        assert!(headers.push("X A", "b").is_err() && headers.push("", "b").is_err());
        for reserved in ["via", "f", "Route", "content-length", "Authorization"] {
            assert!(headers.push(reserved, "b").is_err(), "{reserved}");
        }
        headers.push("P-Asserted-Identity", "<sip:a@h>").unwrap();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("P-Asserted-Identity", "<sip:a@h>")]);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_one_header_of_a_message(user in ".{0,20}", display in ".{0,20}", value in ".{0,20}") {
            let address = Address::new(&user, "example.com").and_then(|address| address.with_display(&display));
            let mut message = Message::request("INVITE", "sip:example.com");
            let mut expected = 0;
            if let Ok(address) = address {
                message.push("From", address.to_string());
                expected += 1;
                prop_assert!(Address::parse(&address.to_string()).is_ok(), "{}", address);
            }
            let mut headers = Headers::default();
            if headers.push("X-Thing", &value).is_ok() {
                message.push("X-Thing", value);
                expected += 1;
            }
            let read = parse(&message.write()).unwrap();
            prop_assert_eq!(read.headers.iter().filter(|h| h.name != "Content-Length").count(), expected);
        }
    }
}
