//! Values parsed into types that cannot be wrong.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use crate::route::UserPattern;

/// Implements `Deserialize` by `FromStr<Err = String>`.
macro_rules! deserialize_from_str {
    ($($name:ty),* $(,)?) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
pub(super) use deserialize_from_str;

deserialize_from_str!(Span, PortRange, Pattern, MediaAddress, Host, BindAddress, OptionalAddress, Network);

/// A duration with its unit: `500ms`, `20s`, `1m30s`, `1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// A span of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a duration; write a number with its unit, such as `500ms`, `20s`, `1m30s` or `1h`"
            )
        };
        let mut rest = text.trim();
        let mut milliseconds = 0u64;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at(letters);
            let factor = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(wrong()),
            };
            let number: u64 = number.parse().map_err(|_| wrong())?;
            milliseconds = number
                .checked_mul(factor)
                .and_then(|part| milliseconds.checked_add(part))
                .filter(|&total| total <= LONGEST_MS)
                .ok_or_else(|| format!("`{text}` is longer than a year"))?;
            rest = tail.trim_start();
        }
        Ok(Self(Duration::from_millis(milliseconds)))
    }
}

const LONGEST_MS: u64 = 366 * 86_400_000;

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        match milliseconds {
            0 => f.write_str("0s"),
            n if n % 3_600_000 == 0 => write!(f, "{}h", n / 3_600_000),
            n if n % 60_000 == 0 => write!(f, "{}m", n / 60_000),
            n if n % 1000 == 0 => write!(f, "{}s", n / 1000),
            n => write!(f, "{n}ms"),
        }
    }
}

/// UDP ports, `LOW-HIGH`, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(pub RangeInclusive<u16>);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a port range; write `LOW-HIGH`, such as `20000-29999`");
        let (low, high) = text.split_once('-').ok_or_else(wrong)?;
        let low: u16 = low.trim().parse().map_err(|_| wrong())?;
        let high: u16 = high.trim().parse().map_err(|_| wrong())?;
        if low < 1024 {
            return Err(format!("`{text}` begins below 1024, where ports are reserved for system services"));
        }
        // One stream takes an even port for RTP and the next for RTCP.
        if high <= low || (low % 2 == 1 && high - low < 2) {
            return Err(format!("`{text}` has no room for one call, which takes an even port and the next"));
        }
        Ok(Self(low..=high))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

/// A regular expression that the whole dialled user must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The expression, without the anchors that it gets when it is used.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match UserPattern::matching(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => {
                let error = error.to_string();
                let cause = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Err(format!("`{text}` is not a regular expression: {cause}"))
            }
        }
    }
}

/// An address that SDP can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaAddress(pub IpAddr);

impl FromStr for MediaAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: IpAddr = text.trim().parse().map_err(|_| {
            format!("`{text}` is not an IP address; write one such as `192.0.2.10` or `2001:db8::10`, without a port")
        })?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(format!(
                "`{text}` is not an address that a peer can send media to; name one of this host, or its public one behind NAT"
            ));
        }
        Ok(Self(address))
    }
}

impl fmt::Display for MediaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A host name or address with an optional port, as it appears in Via and Contact: `HOST` or `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub name: String,
    /// The port, if it differs from the one bound.
    pub port: Option<u16>,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a host; write `192.0.2.10`, `sip.example.com`, `192.0.2.10:5060` or `[2001:db8::1]:5060`"
            )
        };
        let text = text.trim();
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self {
                name: address.ip().to_string(),
                port: Some(address.port()).filter(|&port| port > 0),
            });
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self { name: address.to_string(), port: None });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A name of digits and dots alone is a mistyped address.
        if name.len() > 253
            || !name.split('.').all(is_label)
            || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.name.contains(':')) {
            (Some(port), true) => write!(f, "[{}]:{port}", self.name),
            (Some(port), false) => write!(f, "{}:{port}", self.name),
            (None, _) => f.write_str(&self.name),
        }
    }
}

/// A local address and port to listen on; port 0 takes any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress(pub SocketAddr);

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.trim().parse().map(Self).map_err(|_| {
            format!("`{text}` is not an address with a port; write `127.0.0.1:5060`, `0.0.0.0:5060` or `[::1]:5060`")
        })
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A local address and port, or nothing where something is not served at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptionalAddress(pub Option<SocketAddr>);

impl FromStr for OptionalAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        text.parse::<BindAddress>().map(|address| Self(Some(address.0)))
    }
}

/// A network, such as `192.0.2.0/24`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| {
            format!("`{text}` is not a network; write `192.0.2.0/24`, `192.0.2.7` or `2001:db8::/32`")
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A SIP status that refuses a call, 400 to 699.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub struct RefusalStatus(u16);

impl RefusalStatus {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for RefusalStatus {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        if (400..=699).contains(&status) {
            Ok(Self(status))
        } else {
            Err(format!(
                "{status} does not refuse a call; use 400 to 699, such as 486 (busy) or 603 (declined)"
            ))
        }
    }
}

impl Default for RefusalStatus {
    /// 603 Decline.
    fn default() -> Self {
        Self(603)
    }
}

/// A path. One that stands in the configuration file is relative to that file's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct FilePath(pub PathBuf);

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Something that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `secret`.
    #[must_use]
    pub const fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
