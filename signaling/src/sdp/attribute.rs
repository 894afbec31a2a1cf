//! The attributes that decide about media; others are kept as text.

use std::fmt;
use std::net::IpAddr;

use engine::stream::Direction;

use super::error::ParseErrorReason;
use super::{parse_network_address, write_network_address};

/// One `a=` line (RFC 8866 section 5.13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `a=rtpmap` (section 6.6): what an RTP payload type carries.
    RtpMap(RtpMap),
    /// `a=fmtp` (section 6.15): parameters of a format.
    Fmtp {
        /// The format, for RTP its payload type.
        format: String,
        /// What is said about it.
        parameters: String,
    },
    /// `a=ptime` (section 6.4): audio per packet in milliseconds.
    Ptime(u16),
    /// `a=maxptime` (section 6.5): the most audio per packet in milliseconds.
    MaxPtime(u16),
    /// `a=sendrecv` and its siblings (section 6.7), from the point of view of who wrote it.
    Direction(Direction),
    /// `a=rtcp` (RFC 3605).
    Rtcp {
        /// Where RTCP is received.
        port: u16,
        /// The address, if it is not that of the media.
        address: Option<IpAddr>,
    },
    /// `a=rtcp-mux` (RFC 5761).
    RtcpMux,
    /// `a=mid` (RFC 5888).
    Mid(String),
    /// Any other, or one of the above whose value means nothing.
    Other {
        /// The name.
        name: String,
        /// What follows the colon, if there is one.
        value: Option<String>,
    },
}

/// The value of `a=rtpmap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpMap {
    /// 0 to 127.
    pub payload_type: u8,
    /// Such as `PCMU`; compared without case.
    pub encoding: String,
    /// In hertz.
    pub clock_rate: u32,
    /// The channels, if given.
    pub channels: Option<u8>,
}

impl RtpMap {
    fn parse(value: &str) -> Result<Self, ParseErrorReason> {
        let (payload_type, mapping) = value.trim().split_once([' ', '\t']).ok_or(ParseErrorReason::RtpMap)?;
        let payload_type = parse_payload_type(payload_type)?;
        let mut fields = mapping.trim().split('/');
        let encoding = fields.next().filter(|name| is_token(name)).ok_or(ParseErrorReason::RtpMap)?;
        let clock_rate = fields.next().and_then(parse_number).ok_or(ParseErrorReason::RtpMap)?;
        let channels = match fields.next() {
            Some(channels) => Some(parse_number(channels).ok_or(ParseErrorReason::RtpMap)?),
            None => None,
        };
        if fields.next().is_some() {
            return Err(ParseErrorReason::RtpMap);
        }
        Ok(Self { payload_type, encoding: encoding.to_owned(), clock_rate, channels })
    }
}

impl Attribute {
    /// Parses what follows `a=`. Only for RTP does a wrong payload type make the whole description wrong.
    pub(super) fn parse(text: &str, rtp: bool) -> Result<Self, ParseErrorReason> {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let other = || Self::Other { name: name.to_owned(), value: value.map(str::to_owned) };
        Ok(match (name, value) {
            ("rtpmap", value) if rtp => Self::RtpMap(RtpMap::parse(value.unwrap_or_default())?),
            ("fmtp", value) if rtp => {
                let value = value.map(str::trim).filter(|value| !value.is_empty());
                let value = value.ok_or(ParseErrorReason::Fmtp)?;
                let (format, parameters) = value.split_once([' ', '\t']).unwrap_or((value, ""));
                parse_payload_type(format)?;
                Self::Fmtp { format: format.to_owned(), parameters: parameters.trim().to_owned() }
            }
            ("ptime", Some(value)) => parse_milliseconds(value).map_or_else(other, Self::Ptime),
            ("maxptime", Some(value)) => parse_milliseconds(value).map_or_else(other, Self::MaxPtime),
            ("sendrecv", None) => Self::Direction(Direction::SendRecv),
            ("sendonly", None) => Self::Direction(Direction::SendOnly),
            ("recvonly", None) => Self::Direction(Direction::RecvOnly),
            ("inactive", None) => Self::Direction(Direction::Inactive),
            ("rtcp-mux", None) => Self::RtcpMux,
            ("rtcp", Some(value)) => parse_rtcp(value).unwrap_or_else(other),
            ("mid", Some(value)) if is_token(value) => Self::Mid(value.to_owned()),
            _ => other(),
        })
    }
}

impl fmt::Display for Attribute {
    /// Writes what follows `a=`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RtpMap(RtpMap { payload_type, encoding, clock_rate, channels }) => {
                write!(f, "rtpmap:{payload_type} {encoding}/{clock_rate}")?;
                channels.map_or(Ok(()), |channels| write!(f, "/{channels}"))
            }
            Self::Fmtp { format, parameters } if parameters.is_empty() => write!(f, "fmtp:{format}"),
            Self::Fmtp { format, parameters } => write!(f, "fmtp:{format} {parameters}"),
            Self::Ptime(milliseconds) => write!(f, "ptime:{milliseconds}"),
            Self::MaxPtime(milliseconds) => write!(f, "maxptime:{milliseconds}"),
            Self::Direction(Direction::SendRecv) => f.write_str("sendrecv"),
            Self::Direction(Direction::SendOnly) => f.write_str("sendonly"),
            Self::Direction(Direction::RecvOnly) => f.write_str("recvonly"),
            Self::Direction(Direction::Inactive) => f.write_str("inactive"),
            Self::Rtcp { port, address: None } => write!(f, "rtcp:{port}"),
            Self::Rtcp { port, address: Some(address) } => {
                write!(f, "rtcp:{port} ")?;
                write_network_address(f, &address.to_string(), address.is_ipv6())
            }
            Self::RtcpMux => f.write_str("rtcp-mux"),
            Self::Mid(mid) => write!(f, "mid:{mid}"),
            Self::Other { name, value: None } => f.write_str(name),
            Self::Other { name, value: Some(value) } => write!(f, "{name}:{value}"),
        }
    }
}

fn parse_rtcp(value: &str) -> Option<Attribute> {
    let (port, address) = match value.trim().split_once(' ') {
        Some((port, address)) => (port, Some(parse_network_address(address)?.parse().ok()?)),
        None => (value.trim(), None),
    };
    Some(Attribute::Rtcp { port: parse_number(port)?, address })
}

/// An RTP payload type, 0 to 127.
pub(super) fn parse_payload_type(text: &str) -> Result<u8, ParseErrorReason> {
    parse_number(text).filter(|&payload_type: &u8| payload_type < 128).ok_or(ParseErrorReason::PayloadType)
}

/// A decimal number that fits; no sign, no blank, no more digits than a u64 can need.
pub(super) fn parse_number<N: TryFrom<u64>>(text: &str) -> Option<N> {
    if text.is_empty() || text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse::<u64>().ok().and_then(|number| N::try_from(number).ok())
}

/// Milliseconds above zero; RFC 8866 allows a fraction, which is cut.
fn parse_milliseconds(text: &str) -> Option<u16> {
    let whole = text.trim().split('.').next().unwrap_or_default();
    parse_number(whole).filter(|&milliseconds| milliseconds > 0)
}

/// A `token` of RFC 8866 section 9, of a length that is worth keeping.
pub(super) fn is_token(text: &str) -> bool {
    let is_token_byte = |byte: u8| {
        byte.is_ascii_graphic()
            && !matches!(byte, b'"' | b'(' | b')' | b',' | b'/' | b':'..=b'@' | b'['..=b']')
    };
    !text.is_empty() && text.len() <= 64 && text.bytes().all(is_token_byte)
}
