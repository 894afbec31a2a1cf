//! A description for the other side.

use std::fmt::Write as _;
use std::net::IpAddr;

use engine::stream::Direction;

use super::super::Replace;
use super::body::{Body, Line, Section, direction_of};
use super::formats::{Format, is_format_line};
use super::origin::Outgoing;

/// What becomes of one media description.
#[derive(Clone, Debug)]
pub(crate) enum MediaChange {
    /// Port 0: refused, or switched off.
    Rejected,
    /// Nothing of ours: not RTP.
    Untouched,
    /// It goes through us.
    Relayed(RelayedMedia),
}

/// A media description that goes through us.
#[derive(Clone, Debug)]
pub(crate) struct RelayedMedia {
    /// What `c=` says; the zero address of its family for the hold of RFC 2543.
    pub(crate) address: IpAddr,
    /// Our RTP port.
    pub(crate) port: u16,
    /// Our RTCP port.
    pub(crate) rtcp_port: u16,
    /// `a=rtcp-mux` is written.
    pub(crate) rtcp_mux: bool,
    /// How `a=rtcp` is written.
    pub(crate) rtcp: RtcpAttribute,
    /// Instead of the sender's protocol.
    pub(crate) protocol: Option<String>,
    /// Instead of the sender's formats.
    pub(crate) formats: Vec<Format>,
    /// `None` writes none.
    pub(crate) direction: Option<Direction>,
    /// Instead of the sender's `a=ptime`.
    pub(crate) ptime: Option<u16>,
}

/// How `a=rtcp` is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RtcpAttribute {
    /// The port.
    #[default]
    Port,
    /// The port and the address.
    Full,
    /// Not at all.
    None,
}

/// Writes a description for a receiver.
pub(crate) fn write(
    body: &Body,
    changes: &[MediaChange],
    replace: Replace,
    outgoing: &mut Outgoing,
) -> String {
    let mut rest = String::with_capacity(1024);
    session(&mut rest, body, replace, outgoing);
    for (section, change) in body.media.iter().zip(changes) {
        match change {
            MediaChange::Rejected => rejected(&mut rest, body, section),
            MediaChange::Untouched => untouched(&mut rest, body, section),
            MediaChange::Relayed(relayed) => self::relayed(&mut rest, section, relayed),
        }
    }
    let ours = changes.iter().find_map(|change| match change {
        MediaChange::Relayed(relayed) => Some(relayed.address).filter(|address| !address.is_unspecified()),
        _ => None,
    });
    let origin = body.session.iter().find(|line| line.kind == 'o').map(|line| line.value.as_str());
    let origin = outgoing.origin(origin.unwrap_or_default(), replace, ours, &rest);
    format!("v=0\r\no={origin}\r\n{rest}")
}

fn session(out: &mut String, body: &Body, replace: Replace, outgoing: &mut Outgoing) {
    let name = body.session.iter().find(|line| line.kind == 's').map_or("-", |line| &line.value);
    let _ = write!(out, "s={}\r\n", outgoing.session_name(name, replace));
    let mut has_time = false;
    for line in &body.session {
        // Each media description has its own connection and direction.
        let is_written = match line.kind {
            'v' | 'o' | 's' | 'c' => false,
            'a' => !line.attribute().is_some_and(|(name, _)| is_ours(name) || name == "group"),
            _ => true,
        };
        if line.kind == 'a' && !has_time {
            has_time = true;
            if body.session.iter().all(|line| line.kind != 't') {
                out.push_str("t=0 0\r\n");
            }
        }
        has_time |= line.kind == 't';
        if is_written {
            push(out, line);
        }
    }
    if !has_time {
        out.push_str("t=0 0\r\n");
    }
}

fn relayed(out: &mut String, section: &Section, media: &RelayedMedia) {
    let protocol = media.protocol.as_deref().unwrap_or(&section.protocol);
    let _ = write!(out, "m={} {} {protocol}", section.kind, media.port);
    for format in &media.formats {
        let _ = write!(out, " {}", format.payload_type);
    }
    out.push_str("\r\n");
    section.lines.iter().filter(|line| line.kind == 'i').for_each(|line| push(out, line));
    connection(out, media.address);
    for line in section.lines.iter().filter(|line| !matches!(line.kind, 'i' | 'c' | 'a')) {
        push(out, line);
    }
    for attribute in media.formats.iter().flat_map(|format| &format.attributes) {
        let _ = write!(out, "a={attribute}\r\n");
    }
    for line in section.lines.iter().filter(|line| !is_format_line(line)) {
        let replaced = |name: &str| is_ours(name) || media.ptime.is_some() && name == "ptime";
        if line.attribute().is_some_and(|(name, _)| !replaced(name)) {
            push(out, line);
        }
    }
    if let Some(direction) = media.direction {
        let _ = write!(out, "a={}\r\n", direction_name(direction));
    }
    let rtcp_port = media.rtcp_port;
    match media.rtcp {
        RtcpAttribute::Port => {
            let _ = write!(out, "a=rtcp:{rtcp_port}\r\n");
        }
        RtcpAttribute::Full => {
            let _ = write!(out, "a=rtcp:{rtcp_port} {}\r\n", network_address(media.address));
        }
        RtcpAttribute::None => {}
    }
    if media.rtcp_mux {
        out.push_str("a=rtcp-mux\r\n");
    }
    if let Some(ptime) = media.ptime {
        let _ = write!(out, "a=ptime:{ptime}\r\n");
    }
}

fn rejected(out: &mut String, body: &Body, section: &Section) {
    let _ = write!(out, "m={} 0 {} {}\r\n", section.kind, section.protocol, section.formats.join(" "));
    let ipv6 = body.address(section).is_ok_and(|address| address.is_ipv6());
    connection(out, if ipv6 { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) });
    for line in &section.lines {
        if line.attribute().is_some_and(|(name, _)| matches!(name, "mid" | "label")) {
            push(out, line);
        }
    }
}

/// With the session's connection, which is not written there any more.
fn untouched(out: &mut String, body: &Body, section: &Section) {
    let _ = write!(
        out,
        "m={} {} {} {}\r\n",
        section.kind,
        section.port,
        section.protocol,
        section.formats.join(" ")
    );
    if section.lines.iter().all(|line| line.kind != 'c') {
        body.session.iter().filter(|line| line.kind == 'c').for_each(|line| push(out, line));
    }
    section.lines.iter().for_each(|line| push(out, line));
}

fn push(out: &mut String, line: &Line) {
    let _ = write!(out, "{}={}\r\n", line.kind, line.value);
}

fn connection(out: &mut String, address: IpAddr) {
    let _ = write!(out, "c={}\r\n", network_address(address));
}

fn network_address(address: IpAddr) -> String {
    format!("IN {} {address}", if address.is_ipv6() { "IP6" } else { "IP4" })
}

const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    }
}

/// Attributes that say something about the sender's own sockets: never copied. ICE, SRTP and bundles end here.
fn is_ours(name: &str) -> bool {
    direction_of(name).is_some()
        || matches!(
            name,
            "rtcp"
                | "rtcp-mux"
                | "crypto"
                | "setup"
                | "fingerprint"
                | "tls-id"
                | "candidate"
                | "ice-ufrag"
                | "ice-pwd"
                | "ice-options"
                | "ice-lite"
                | "ice-mismatch"
                | "remote-candidates"
                | "end-of-candidates"
                | "bundle-only"
                | "rtpengine"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "v=0\r\no=bob 7 3 IN IP4 192.0.2.10\r\ns=call\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\na=tool:x\r\n\
        a=group:BUNDLE 0\r\na=sendonly\r\nm=audio 4000 RTP/AVP 8 101\r\nb=AS:80\r\na=mid:0\r\na=rtpmap:8 PCMA/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=silenceSupp:off - - - -\r\na=candidate:1 1 UDP 1 192.0.2.10 4000 typ host\r\n\
        a=ptime:20\r\nm=image 4004 udptl t38\r\na=T38FaxVersion:0\r\nm=video 0 RTP/AVP 96\r\na=mid:2\r\n";

    fn relayed_media(body: &Body) -> RelayedMedia {
        RelayedMedia {
            address: [203, 0, 113, 5].into(),
            port: 30_000,
            rtcp_port: 30_001,
            rtcp_mux: false,
            rtcp: RtcpAttribute::Port,
            protocol: None,
            formats: Format::all(&body.media[0]),
            direction: Some(Direction::SendOnly),
            ptime: None,
        }
    }

    #[test]
    fn what_is_not_ours_stays_and_what_is_ours_is_replaced() {
        let body = Body::parse(SENT).expect("SDP");
        let changes =
            [MediaChange::Relayed(relayed_media(&body)), MediaChange::Untouched, MediaChange::Rejected];
        let replace = Replace { origin: true, ..Replace::default() };
        let written = write(&body, &changes, replace, &mut Outgoing::default());
        let expected = "v=0\r\no=bob 7 3 IN IP4 203.0.113.5\r\ns=call\r\nt=0 0\r\na=tool:x\r\n\
            m=audio 30000 RTP/AVP 8 101\r\nc=IN IP4 203.0.113.5\r\nb=AS:80\r\na=rtpmap:8 PCMA/8000\r\n\
            a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=mid:0\r\na=silenceSupp:off - - - -\r\na=ptime:20\r\n\
            a=sendonly\r\na=rtcp:30001\r\n\
            m=image 4004 udptl t38\r\nc=IN IP4 192.0.2.10\r\na=T38FaxVersion:0\r\n\
            m=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\n";
        assert_eq!(written, expected);
        assert!(Body::parse(&written).is_ok());
    }

    #[test]
    fn rtcp_and_ptime_are_written_as_asked() {
        let body = Body::parse(SENT).expect("SDP");
        let relayed = RelayedMedia {
            rtcp_mux: true,
            rtcp: RtcpAttribute::Full,
            protocol: Some("RTP/AVPF".to_owned()),
            direction: None,
            ptime: Some(30),
            ..relayed_media(&body)
        };
        let changes = [MediaChange::Relayed(relayed), MediaChange::Rejected, MediaChange::Rejected];
        let written = write(&body, &changes, Replace::default(), &mut Outgoing::default());
        let audio = Body::parse(&written).expect("SDP").media.remove(0);
        assert_eq!(audio.protocol, "RTP/AVPF");
        assert_eq!(audio.attribute("rtcp"), Some("30001 IN IP4 203.0.113.5"));
        assert_eq!((audio.attribute("rtcp-mux"), audio.attribute("ptime")), (Some(""), Some("30")));
        assert!(!written.contains("ptime:20") && !written.contains("sendonly"));
    }
}
