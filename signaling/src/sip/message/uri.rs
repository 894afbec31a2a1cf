//! URIs, name-addr and Via (RFC 3261 19.1, 20.10, 20.42).

use std::net::IpAddr;

use super::list::{Params, parse_params, unquote};
use super::{SIP_VERSION, decimal, is_token_byte};

/// A URI, taken apart as far as routing needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    /// In lower case.
    pub(crate) scheme: String,
    pub(crate) user: String,
    /// Without brackets; empty for schemes other than sip and sips.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) params: Params,
}

impl Uri {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        let scheme_ok = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme_ok || rest.is_empty() {
            return None;
        }
        if rest.bytes().any(|b| b <= b' ' || b == b'<' || b == b'>' || b == b'"' || b == 0x7f) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "sip" && scheme != "sips" {
            return Some(Self {
                scheme,
                user: rest.to_owned(),
                host: String::new(),
                port: None,
                params: vec![],
            });
        }
        // A user part may hold `;` and `?` (RFC 3261 25.1), so the last `@` comes first.
        let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
        let user = user.split(':').next().unwrap_or_default();
        let rest = rest.split('?').next().unwrap_or_default();
        let (host_port, params) = rest.split_once(';').unwrap_or((rest, ""));
        let (host, port) = host_and_port(host_port)?;
        Some(Self { scheme, user: user.to_owned(), host, port, params: parse_params(params)? })
    }

    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let param = self.params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(param.1.as_deref().unwrap_or_default())
    }
}

/// `host[:port]` with a host name, an IPv4 address or an IPv6 reference; the brackets are removed.
pub(crate) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = rest.trim();
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.trim_end(), Some(port)),
            None => (text, None),
        },
    };
    let named = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    if host.is_empty() || !host.bytes().all(named) {
        return None;
    }
    let port = match port {
        Some(port) => Some(decimal(port.trim()).filter(|p| (1..=65535).contains(p))? as u16),
        None => None,
    };
    Some((host.to_owned(), port))
}

/// The value of From, To, Contact, Route and Record-Route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameAddr {
    pub(crate) display: Option<String>,
    /// As written.
    pub(crate) uri: String,
    pub(crate) params: Params,
}

impl NameAddr {
    /// Parses one value; of several the first.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = super::split_list(text).next()?;
        let open = if text.starts_with('"') {
            let close = closing_quote(text)?;
            Some(close + text.get(close..)?.find('<')?)
        } else {
            text.find('<')
        };
        let Some(open) = open else {
            // addr-spec: parameters belong to the header (RFC 3261 20).
            let (uri, params) = text.split_once(';').unwrap_or((text, ""));
            let uri = uri.trim();
            Uri::parse(uri)?;
            return Some(Self { display: None, uri: uri.to_owned(), params: parse_params(params)? });
        };
        let (display, rest) = (text.get(..open)?.trim(), text.get(open + 1..)?);
        let (uri, params) = rest.split_once('>')?;
        let uri = uri.trim();
        Uri::parse(uri)?;
        let params = params.trim();
        if !params.is_empty() && !params.starts_with(';') {
            return None;
        }
        let display = match display {
            "" => None,
            quoted if quoted.starts_with('"') => Some(unquote(quoted)?),
            words => {
                let word = |b: u8| is_token_byte(b) || b == b' ' || b == b'\t' || b >= 0x80;
                Some(words.bytes().all(word).then(|| words.to_owned())?)
            }
        };
        Some(Self { display, uri: uri.to_owned(), params: parse_params(params)? })
    }

    /// In one form without optional white space.
    pub(crate) fn write(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let display = self.display.as_deref().map(|text| quoted(text) + " ").unwrap_or_default();
        format!("{display}<{}>{}", self.uri, write_params(&self.params))
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        let tag = self.params.iter().find(|(name, _)| name.eq_ignore_ascii_case("tag"))?;
        tag.1.as_deref().filter(|tag| !tag.is_empty())
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at),
            _ => {}
        }
    }
    None
}

/// One Via value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Via {
    /// In upper case.
    pub(crate) transport: String,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) params: Params,
}

impl Via {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (protocol, params) = text.split_once(';').unwrap_or((text, ""));
        let mut parts = protocol.splitn(3, '/');
        let (name, version, rest) = (parts.next()?.trim(), parts.next()?.trim(), parts.next()?.trim());
        if !name.eq_ignore_ascii_case("SIP") || version != "2.0" {
            return None;
        }
        let (transport, sent_by) = rest.split_once([' ', '\t'])?;
        if !transport.bytes().all(is_token_byte) {
            return None;
        }
        let (host, port) = host_and_port(sent_by)?;
        let params = parse_params(params)?;
        Some(Self { transport: transport.to_ascii_uppercase(), host, port, params })
    }

    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let param = self.params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(param.1.as_deref().unwrap_or_default())
    }

    pub(crate) fn branch(&self) -> Option<&str> {
        self.param("branch").filter(|branch| !branch.is_empty())
    }

    /// Notes where the request really came from (RFC 3261 18.2.1, RFC 3581 4).
    ///
    /// The port is noted even when `rport` was not asked for; `source` is then where the answer has to go.
    pub(crate) fn set_source(&mut self, source: std::net::SocketAddr) {
        self.params.retain(|(name, _)| !["received", "rport"].iter().any(|n| name.eq_ignore_ascii_case(n)));
        let ip = source.ip().to_canonical();
        self.params.push(("received".to_owned(), Some(ip.to_string())));
        self.params.push(("rport".to_owned(), Some(source.port().to_string())));
    }

    pub(crate) fn write(&self) -> String {
        let mut out = format!("{SIP_VERSION}/{} {}", self.transport, bracketed(&self.host));
        if let Some(port) = self.port {
            out.push_str(&format!(":{port}"));
        }
        out + &write_params(&self.params)
    }
}

fn write_params(params: &Params) -> String {
    let mut out = String::new();
    for (name, value) in params {
        match value {
            Some(value) if value.bytes().all(|b| is_token_byte(b) || b"[]:".contains(&b)) => {
                out.push_str(&format!(";{name}={value}"));
            }
            Some(value) => {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                out.push_str(&format!(";{name}=\"{value}\""));
            }
            None => out.push_str(&format!(";{name}")),
        }
    }
    out
}

/// IPv6 addresses need brackets wherever a port may follow.
pub(crate) fn bracketed(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{host}]"),
        _ => host.to_owned(),
    }
}
