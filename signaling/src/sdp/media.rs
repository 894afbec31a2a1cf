//! One media description: an `m=` line and what belongs to it.

use std::fmt;

use engine::stream::Direction;

use super::attribute::{Attribute, RtpMap, is_token, parse_number, parse_payload_type};
use super::error::ParseErrorReason;
use super::{Connection, MAX_FORMATS};

/// One `m=` line and what belongs to it (RFC 8866 section 5.14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaDescription {
    /// Such as `audio`.
    pub kind: String,
    /// Where media is received; 0 refuses it.
    pub port: u16,
    /// How many consecutive port pairs, if said.
    pub port_count: Option<u16>,
    /// Such as `RTP/AVP`.
    pub protocol: String,
    /// Payload types, or whatever the protocol has instead.
    pub formats: Vec<String>,
    /// `c=`, if it has its own.
    pub connection: Option<Connection>,
    /// `a=` lines, in order.
    pub attributes: Vec<Attribute>,
}

impl MediaDescription {
    /// Parses what follows `m=`.
    pub(super) fn parse(text: &str) -> Result<Self, ParseErrorReason> {
        let mut fields = text.split_ascii_whitespace();
        let kind = fields.next().filter(|kind| is_token(kind)).ok_or(ParseErrorReason::Media)?;
        let port = fields.next().ok_or(ParseErrorReason::Media)?;
        let protocol = fields.next().filter(|protocol| protocol.split('/').all(is_token));
        let protocol = protocol.ok_or(ParseErrorReason::Media)?;
        let (port, port_count) = match port.split_once('/') {
            Some((port, count)) => (port, Some(parse_number::<u16>(count).ok_or(ParseErrorReason::Port)?)),
            None => (port, None),
        };
        let port = parse_number::<u16>(port).ok_or(ParseErrorReason::Port)?;
        if port_count.is_some_and(|count| count == 0 || u32::from(port) + 2 * u32::from(count) > 65536) {
            return Err(ParseErrorReason::Port);
        }
        let formats: Vec<_> = fields.by_ref().take(MAX_FORMATS).map(str::to_owned).collect();
        if fields.next().is_some() {
            return Err(ParseErrorReason::TooManyFormats);
        }
        let media = Self {
            kind: kind.to_owned(),
            port,
            port_count,
            protocol: protocol.to_owned(),
            formats,
            connection: None,
            attributes: Vec::new(),
        };
        if media.is_rtp_audio() {
            media.formats.iter().try_for_each(|format| parse_payload_type(format).map(drop))?;
        }
        Ok(media)
    }

    /// Whether formats are RTP payload types that we may come to use.
    pub(super) fn is_rtp_audio(&self) -> bool {
        self.kind == "audio" && self.protocol.starts_with("RTP/")
    }

    /// The payload types in order, most preferred first. Empty unless this is audio over RTP.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> + '_ {
        self.formats.iter().filter_map(|format| parse_payload_type(format).ok())
    }

    /// What `a=rtpmap` says about a payload type.
    #[must_use]
    pub fn rtpmap(&self, payload_type: u8) -> Option<&RtpMap> {
        self.attributes.iter().find_map(|attribute| match attribute {
            Attribute::RtpMap(map) if map.payload_type == payload_type => Some(map),
            _ => None,
        })
    }

    /// The direction, if the media description itself says one.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        super::direction(&self.attributes)
    }
}

impl fmt::Display for MediaDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {}", self.kind, self.port)?;
        if let Some(count) = self.port_count {
            write!(f, "/{count}")?;
        }
        write!(f, " {}", self.protocol)?;
        self.formats.iter().try_for_each(|format| write!(f, " {format}"))?;
        f.write_str("\r\n")?;
        if let Some(connection) = &self.connection {
            write!(f, "{connection}")?;
        }
        self.attributes.iter().try_for_each(|attribute| write!(f, "a={attribute}\r\n"))
    }
}
