//! Session descriptions (RFC 8866) and the offer/answer model (RFC 3264). Knows nothing of SIP.
//!
//! The parser is strict where a number decides about media and tolerant where phones in the field differ:
//! line ends may be LF, lines may come in another order, `s=` and `t=` may be missing. What we never use
//! (`b=`, `i=`, `k=`, times) is skipped.
#![deny(clippy::indexing_slicing)]

use std::fmt;
use std::net::IpAddr;

use engine::stream::Direction;

mod attribute;
mod error;
mod media;
pub mod offer_answer;
mod opus;

pub use attribute::{Attribute, RtpMap};
pub use error::{ParseError, ParseErrorReason};
pub use media::MediaDescription;
pub use opus::OpusParameters;

/// The largest description that is looked at.
pub const MAX_BYTES: usize = 32 * 1024;
/// The most `m=` lines of a description.
pub const MAX_MEDIA: usize = 32;
/// The most formats of an `m=` line.
pub const MAX_FORMATS: usize = 64;
/// The most attributes of the session, and of each media description.
pub const MAX_ATTRIBUTES: usize = 256;

/// A session description (RFC 8866).
///
/// ```
/// use sidetone_signaling::sdp::SessionDescription;
///
/// let text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
///             m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n";
/// let description = SessionDescription::parse(text)?;
/// assert_eq!(description.media[0].port, 4000);
/// assert_eq!(description.to_string(), text);
/// # Ok::<(), sidetone_signaling::sdp::ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDescription {
    /// `o=`.
    pub origin: Origin,
    /// `s=`; `-` if it says nothing.
    pub session_name: String,
    /// `c=` for all media that have none of their own.
    pub connection: Option<Connection>,
    /// `a=` lines before the first `m=`.
    pub attributes: Vec<Attribute>,
    /// The media descriptions, in order.
    pub media: Vec<MediaDescription>,
}

/// `o=` (RFC 8866 section 5.2): who made the description, and which edition it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `-` if there is none.
    pub username: String,
    /// Digits of any length, and in the field sometimes not even that.
    pub session_id: String,
    /// Like the id; grows with every change.
    pub session_version: String,
    /// The host that made it.
    pub address: String,
    /// Whether the address is of IP6.
    pub ipv6: bool,
}

/// `c=` (RFC 8866 section 5.7): where media is received. The TTL and count of multicast are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// An address.
    Address(IpAddr),
    /// A host name, which we do not resolve.
    Name {
        /// The name.
        name: String,
        /// Whether it is of IP6.
        ipv6: bool,
    },
}

impl Connection {
    /// The address, unless it is a name.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Name { .. } => None,
        }
    }

    fn parse(text: &str) -> Result<Self, ParseErrorReason> {
        let host = parse_network_address(text).ok_or(ParseErrorReason::Connection)?;
        let ipv6 = is_ip6(text);
        let host = host.split('/').next().unwrap_or_default();
        match host.parse::<IpAddr>() {
            Ok(address) if address.is_ipv6() == ipv6 => Ok(Self::Address(address)),
            Err(_) if is_host_name(host) => Ok(Self::Name { name: host.to_owned(), ipv6 }),
            _ => Err(ParseErrorReason::Connection),
        }
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("c=")?;
        match self {
            Self::Address(address) => write_network_address(f, &address.to_string(), address.is_ipv6())?,
            Self::Name { name, ipv6 } => write_network_address(f, name, *ipv6)?,
        }
        f.write_str("\r\n")
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, ParseErrorReason> {
        let (owner, address) = {
            // The user name may hold blanks in the field, so the fields are counted from the end.
            let fields: Vec<_> = text.split_ascii_whitespace().collect();
            let (owner, address) =
                fields.len().checked_sub(5).filter(|&names| names > 0).map_or((None, None), |names| {
                    (fields.get(..names).map(|names| names.join("_")), fields.get(names..))
                });
            (owner.ok_or(ParseErrorReason::Origin)?, address.unwrap_or_default().to_vec())
        };
        let [session_id, session_version, network, family, host] =
            <[&str; 5]>::try_from(address).map_err(|_| ParseErrorReason::Origin)?;
        if !network.eq_ignore_ascii_case("IN") {
            return Err(ParseErrorReason::Origin);
        }
        Ok(Self {
            username: owner,
            session_id: session_id.to_owned(),
            session_version: session_version.to_owned(),
            address: host.to_owned(),
            ipv6: family.eq_ignore_ascii_case("IP6"),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "o={} {} {} ", self.username, self.session_id, self.session_version)?;
        write_network_address(f, &self.address, self.ipv6)?;
        f.write_str("\r\n")
    }
}

impl SessionDescription {
    /// Parses a description.
    ///
    /// # Errors
    /// [`ParseError`], which names the line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let whole = |reason| ParseError { line: 0, reason };
        if text.len() > MAX_BYTES {
            return Err(whole(ParseErrorReason::TooLarge));
        }
        let mut draft = Draft::default();
        // Some phones send the end of their C string along.
        for (index, line) in text.trim_end_matches('\0').split('\n').enumerate() {
            let line = line.trim_end_matches(['\r', ' ', '\t']);
            if !line.is_empty() {
                draft.take(line).map_err(|reason| ParseError { line: index + 1, reason })?;
            }
        }
        let (Some(()), Some(origin)) = (draft.version, draft.origin) else {
            return Err(whole(ParseErrorReason::Incomplete));
        };
        Ok(Self {
            origin,
            session_name: draft.session_name.unwrap_or_else(|| "-".to_owned()),
            connection: draft.connection,
            attributes: draft.attributes,
            media: draft.media,
        })
    }

    /// The direction of a media description: its own, else the session's, else both ways.
    #[must_use]
    pub fn direction_of(&self, media: &MediaDescription) -> Direction {
        media.direction().or_else(|| direction(&self.attributes)).unwrap_or_default()
    }

    /// Where a media description is received: its own `c=`, else the session's.
    #[must_use]
    pub fn connection_of<'a>(&'a self, media: &'a MediaDescription) -> Option<&'a Connection> {
        media.connection.as_ref().or(self.connection.as_ref())
    }
}

impl fmt::Display for SessionDescription {
    /// Writes the description, with CRLF line ends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=0\r\n{}s={}\r\n", self.origin, self.session_name)?;
        if let Some(connection) = &self.connection {
            write!(f, "{connection}")?;
        }
        f.write_str("t=0 0\r\n")?;
        self.attributes.iter().try_for_each(|attribute| write!(f, "a={attribute}\r\n"))?;
        self.media.iter().try_for_each(|media| write!(f, "{media}"))
    }
}

/// What has been read so far.
#[derive(Default)]
struct Draft {
    version: Option<()>,
    origin: Option<Origin>,
    session_name: Option<String>,
    connection: Option<Connection>,
    attributes: Vec<Attribute>,
    media: Vec<MediaDescription>,
}

impl Draft {
    /// Takes one line, without its end and not empty. Of lines that may come once the first counts.
    fn take(&mut self, line: &str) -> Result<(), ParseErrorReason> {
        if line.chars().any(|character| character.is_control() && character != '\t') {
            return Err(ParseErrorReason::ControlCharacter);
        }
        let (field, value) = line.split_once('=').ok_or(ParseErrorReason::NotALine)?;
        let value = value.trim_start_matches([' ', '\t']);
        match field {
            "v" if value == "0" => self.version = Some(()),
            "v" => return Err(ParseErrorReason::Version),
            "o" if self.origin.is_none() => self.origin = Some(Origin::parse(value)?),
            "s" if self.session_name.is_none() && !value.is_empty() => {
                self.session_name = Some(value.to_owned());
            }
            "c" => {
                let connection =
                    self.media.last_mut().map_or(&mut self.connection, |media| &mut media.connection);
                if connection.is_none() {
                    *connection = Some(Connection::parse(value)?);
                }
            }
            "m" if self.media.len() == MAX_MEDIA => return Err(ParseErrorReason::TooManyMedia),
            "m" => self.media.push(MediaDescription::parse(value)?),
            "a" => {
                let rtp = self.media.last().is_some_and(MediaDescription::is_rtp_audio);
                let attribute = Attribute::parse(value, rtp)?;
                let attributes =
                    self.media.last_mut().map_or(&mut self.attributes, |media| &mut media.attributes);
                if attributes.len() == MAX_ATTRIBUTES {
                    return Err(ParseErrorReason::TooManyAttributes);
                }
                attributes.push(attribute);
            }
            _ if field.len() == 1 && field.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) => {}
            _ => return Err(ParseErrorReason::NotALine),
        }
        Ok(())
    }
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().rev().find_map(|attribute| match attribute {
        Attribute::Direction(direction) => Some(*direction),
        _ => None,
    })
}

/// The host of `IN IP4 host` or `IN IP6 host`.
fn parse_network_address(text: &str) -> Option<&str> {
    let mut fields = text.split_ascii_whitespace();
    let (network, family, host) = (fields.next()?, fields.next()?, fields.next()?);
    let known = network.eq_ignore_ascii_case("IN")
        && (family.eq_ignore_ascii_case("IP4") || family.eq_ignore_ascii_case("IP6"));
    (known && fields.next().is_none()).then_some(host)
}

fn is_ip6(text: &str) -> bool {
    text.split_ascii_whitespace().nth(1).is_some_and(|family| family.eq_ignore_ascii_case("IP6"))
}

fn write_network_address(f: &mut fmt::Formatter<'_>, host: &str, ipv6: bool) -> fmt::Result {
    write!(f, "IN {} {host}", if ipv6 { "IP6" } else { "IP4" })
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        && !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}
