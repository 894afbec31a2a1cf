//! Asks a running process over its API.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use signaling::config::Plan;

use crate::cli::ClientFlags;

/// The API of a running process.
pub(crate) struct Client {
    /// `host:port`.
    server: String,
    token: String,
    tenant: Option<String>,
}

impl Client {
    /// Finds the process and a token by the flags, or by what it was configured with.
    pub(crate) fn new(plan: &Plan, flags: &ClientFlags) -> Result<Self> {
        let server = match &flags.api {
            Some(url) => {
                let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
                if rest.is_empty() || rest.contains(['/', '@', ' ']) {
                    bail!(
                        "--api {url}: give an address such as http://127.0.0.1:8080; TLS is for a proxy in front"
                    );
                }
                rest.to_owned()
            }
            None => loopback(plan.http.bind.0).to_string(),
        };
        let token = match &flags.token {
            Some(token) => token.clone(),
            None => {
                let file = flags.token_file.clone().unwrap_or_else(|| plan.data_dir.join("admin-token"));
                std::fs::read_to_string(&file).with_context(|| {
                    format!(
                        "no token in {}; give --token or --token-file, or make one with `sidetone token`",
                        file.display()
                    )
                })?
            }
        };
        let token = token.trim().to_owned();
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain(&token) || flags.tenant.as_deref().is_some_and(|tenant| !plain(tenant)) {
            bail!("--token and --tenant must be plain text without spaces");
        }
        Ok(Self { server, token, tenant: flags.tenant.clone() })
    }

    /// The status and the body of an answer. `path` is written as it stands; see [`segment`].
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let reach = || format!("cannot reach {}; is sidetone running, and --api its http.bind?", self.server);
        let address =
            self.server.to_socket_addrs().ok().and_then(|mut found| found.next()).with_context(reach)?;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT).with_context(reach)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let body = body.map(ToString::to_string).unwrap_or_default();
        let tenant = self.tenant.as_ref().map(|tenant| format!("X-Tenant: {tenant}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n{tenant}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.server,
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).with_context(reach)?;
        let mut bytes = Vec::new();
        stream.take(MOST_BYTES).read_to_end(&mut bytes).with_context(reach)?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").with_context(reach)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(reach)?;
        Ok((status, serde_json::from_str(body).unwrap_or_default()))
    }

    /// The body of a good answer.
    pub(crate) fn expect(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = self.ask(method, path, body)?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let detail =
            answer["detail"].as_str().or_else(|| answer["title"].as_str()).unwrap_or("no reason given");
        bail!("{status}: {}", printable(detail))
    }
}

/// One segment of a path, escaped.
pub(crate) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |path, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path + char::from(byte).encode_utf8(&mut [0; 4])
        } else {
            format!("{path}%{byte:02X}")
        }
    })
}

/// Text from elsewhere, for a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn loopback(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(30);
const MOST_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_of_the_path() {
        assert_eq!(segment("skyetel_main"), "skyetel_main");
        assert_eq!(segment("a/../b?c#d e\r\n"), "a%2F..%2Fb%3Fc%23d%20e%0D%0A");
    }
}
