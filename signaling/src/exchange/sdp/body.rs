//! A description as lines.

use std::net::{IpAddr, SocketAddr};

use engine::stream::Direction;

/// A description: the session's lines and those of each media description, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) session: Vec<Line>,
    pub(crate) media: Vec<Section>,
}

/// One line, `kind=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) kind: char,
    pub(crate) value: String,
}

/// A media description: its `m=` line and the lines that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: String,
    pub(crate) port: u16,
    pub(crate) protocol: String,
    pub(crate) formats: Vec<String>,
    pub(crate) lines: Vec<Line>,
}

/// Why a description is not understood; the texts are those that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("Failed to parse SDP")]
    Syntax,
    #[error("Incomplete SDP specification")]
    Incomplete,
}

impl Line {
    fn parse(text: &str) -> Result<Self, BodyError> {
        let (kind, value) = text.split_once('=').ok_or(BodyError::Syntax)?;
        let mut kinds = kind.chars();
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) if kind.is_ascii_alphabetic() => Ok(Self { kind, value: value.to_owned() }),
            _ => Err(BodyError::Syntax),
        }
    }

    /// The name and value of an `a=` line.
    pub(crate) fn attribute(&self) -> Option<(&str, &str)> {
        (self.kind == 'a').then(|| self.value.split_once(':').unwrap_or((&self.value, "")))
    }
}

impl Body {
    /// Reads a description. Line ends may be LF, empty lines are skipped.
    pub(crate) fn parse(text: &str) -> Result<Self, BodyError> {
        let mut body = Self::default();
        if text.len() > MAX_BYTES {
            return Err(BodyError::Syntax);
        }
        for text in text.trim_end_matches('\0').split('\n') {
            let text = text.trim_end_matches('\r');
            if text.is_empty() {
                continue;
            }
            // Such a line would be several when it is written again.
            if text.contains(['\r', '\0']) {
                return Err(BodyError::Syntax);
            }
            let line = Line::parse(text)?;
            if line.kind == 'm' {
                if body.media.len() == MAX_MEDIA {
                    return Err(BodyError::Syntax);
                }
                body.media.push(Section::parse(&line.value)?);
            } else {
                body.media.last_mut().map_or(&mut body.session, |section| &mut section.lines).push(line);
            }
        }
        let has = |kind| body.session.iter().any(|line| line.kind == kind);
        if !has('v') || !has('o') {
            return Err(BodyError::Incomplete);
        }
        Ok(body)
    }

    /// The address of a media description: its own `c=`, else the session's.
    pub(crate) fn address(&self, section: &Section) -> Result<IpAddr, BodyError> {
        let own = section.lines.iter().find(|line| line.kind == 'c');
        let line = own.or_else(|| self.session.iter().find(|line| line.kind == 'c'));
        connection(&line.ok_or(BodyError::Incomplete)?.value).ok_or(BodyError::Syntax)
    }

    /// The direction that a media description names, or the session for all of them.
    pub(crate) fn direction(&self, section: &Section) -> Option<Direction> {
        direction(&section.lines).or_else(|| direction(&self.session))
    }
}

impl Section {
    fn parse(text: &str) -> Result<Self, BodyError> {
        let mut fields = text.split_ascii_whitespace();
        let (Some(kind), Some(port), Some(protocol)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(BodyError::Syntax);
        };
        // Several pairs of ports (`4000/2`) are taken as one: nobody has been seen to use the others.
        let port = port.split('/').next().unwrap_or_default();
        let port = port.parse().map_err(|_| BodyError::Syntax)?;
        let formats: Vec<String> = fields.map(str::to_owned).collect();
        if formats.len() > MAX_FORMATS {
            return Err(BodyError::Syntax);
        }
        Ok(Self { kind: kind.to_owned(), port, protocol: protocol.to_owned(), formats, lines: Vec::new() })
    }

    /// Whether it is RTP, plain or not.
    pub(crate) fn is_rtp(&self) -> bool {
        let protocol = self.protocol.to_ascii_uppercase();
        protocol.starts_with("RTP/") || protocol.starts_with("UDP/TLS/RTP/")
    }

    /// Whether it is RTP without encryption.
    pub(crate) fn is_plain_rtp(&self) -> bool {
        ["RTP/AVP", "RTP/AVPF"].iter().any(|plain| plain.eq_ignore_ascii_case(&self.protocol))
    }

    /// The value of an attribute; empty if it has none.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.lines
            .iter()
            .filter_map(Line::attribute)
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// RTP and RTCP share a port (RFC 5761), or are said to be on the same one.
    pub(crate) fn rtcp_mux(&self) -> bool {
        let same_port = self.attribute("rtcp").and_then(port_of) == Some(self.port);
        self.attribute("rtcp-mux").is_some() || same_port && self.port != 0
    }

    /// Where RTCP goes when RTP goes to `rtp` and they are not multiplexed: `a=rtcp` (RFC 3605), else the next
    /// port.
    pub(crate) fn rtcp(&self, rtp: SocketAddr) -> Option<SocketAddr> {
        let Some(value) = self.attribute("rtcp") else {
            return Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?));
        };
        let port = port_of(value).filter(|&port| port != 0)?;
        let address = value.split_once(' ').and_then(|(_, address)| connection(address));
        let address =
            address.filter(|address| address.is_ipv6() == rtp.is_ipv6() && !address.is_unspecified());
        Some(SocketAddr::new(address.unwrap_or_else(|| rtp.ip()), port))
    }
}

fn port_of(rtcp: &str) -> Option<u16> {
    rtcp.split_ascii_whitespace().next()?.parse().ok()
}

/// The address of `IN IP4 192.0.2.1` or `IN IP6 2001:db8::1`; names are not looked up.
fn connection(text: &str) -> Option<IpAddr> {
    let mut fields = text.split_ascii_whitespace();
    let (network, family, address) = (fields.next()?, fields.next()?, fields.next()?);
    let address: IpAddr = address.split('/').next()?.parse().ok()?;
    let expected = if address.is_ipv6() { "IP6" } else { "IP4" };
    (network.eq_ignore_ascii_case("IN") && family.eq_ignore_ascii_case(expected)).then_some(address)
}

fn direction(lines: &[Line]) -> Option<Direction> {
    lines.iter().rev().filter_map(Line::attribute).find_map(|(name, _)| direction_of(name))
}

pub(super) fn direction_of(name: &str) -> Option<Direction> {
    match name {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    }
}

/// A datagram cannot hold more.
const MAX_BYTES: usize = 65_535;
/// The most `m=` lines.
pub(crate) const MAX_MEDIA: usize = 16;
const MAX_FORMATS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\na=sendonly\r\n\
                        m=audio 4000/2 RTP/AVP 0 101\r\na=rtcp:4007\r\nm=video 4002 RTP/AVP 96\nc=IN IP4 192.0.2.11/127\na=rtcp-mux\na=inactive\n\n\
                        m=image 0 udptl t38\r\n";

    #[test]
    fn lines_belong_to_the_session_or_to_their_media() {
        let body = Body::parse(CALL).expect("SDP");
        assert_eq!((body.session.len(), body.media.len()), (6, 3));
        let [audio, video, image] = body.media.as_slice() else { panic!("three") };
        assert_eq!((audio.port, audio.is_plain_rtp(), image.is_rtp()), (4000, true, false));
        assert_eq!(body.address(audio).ok(), Some([192, 0, 2, 10].into()));
        assert_eq!(body.address(video).ok(), Some([192, 0, 2, 11].into()));
        assert_eq!(body.direction(audio), Some(Direction::SendOnly));
        assert_eq!(body.direction(video), Some(Direction::Inactive));
    }

    #[test]
    fn rtcp_goes_where_it_is_said_or_to_the_next_port() {
        let body = Body::parse(CALL).expect("SDP");
        let rtcp = |index: usize, rtp: &str| body.media[index].rtcp(rtp.parse().expect("an address"));
        assert_eq!(rtcp(0, "192.0.2.10:4000"), "192.0.2.10:4007".parse().ok());
        assert_eq!(rtcp(1, "192.0.2.11:4002"), "192.0.2.11:4003".parse().ok());
        assert!(!body.media[0].rtcp_mux() && body.media[1].rtcp_mux());
        assert_eq!(rtcp(2, "192.0.2.11:65535"), None);
        let elsewhere = CALL.replace("a=rtcp:4007", "a=rtcp:4009 IN IP4 192.0.2.99");
        let body = Body::parse(&elsewhere).expect("SDP");
        let rtp = "192.0.2.10:4000".parse().expect("an address");
        assert_eq!(body.media[0].rtcp(rtp), "192.0.2.99:4009".parse().ok());
    }

    #[test]
    fn what_is_no_description_is_refused() {
        for (text, error) in [
            ("", BodyError::Incomplete),
            ("v=0\r\ns=-\r\n", BodyError::Incomplete),
            ("hello", BodyError::Syntax),
            ("v=0\r\no=-\r\nm=audio x RTP/AVP 0\r\n", BodyError::Syntax),
            ("v=0\r\no=-\r\nm=audio 99999 RTP/AVP 0\r\n", BodyError::Syntax),
            ("v=0\r\no=-\r\na=x\ra=y\r\n", BodyError::Syntax),
        ] {
            assert_eq!(Body::parse(text).map(drop), Err(error), "{text}");
        }
        let nowhere = Body::parse("v=0\no=-\nm=audio 4 RTP/AVP 0\n").expect("SDP");
        assert_eq!(nowhere.address(&nowhere.media[0]), Err(BodyError::Incomplete));
        let named = Body::parse("v=0\no=-\nc=IN IP4 host.example\nm=audio 4 RTP/AVP 0\n").expect("SDP");
        assert_eq!(named.address(&named.media[0]), Err(BodyError::Syntax));
    }
}
