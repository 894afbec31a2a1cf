//! The few lines of SDP (RFC 8866) that a plain call takes.

use std::net::{IpAddr, SocketAddr};

use crate::callload::g711::Law;

pub(super) fn write(media: SocketAddr, law: Law, ptime_ms: u32) -> String {
    let family = if media.is_ipv4() { "IP4" } else { "IP6" };
    let (ip, port, name, payload_type) = (media.ip(), media.port(), law.name(), law.payload_type());
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP {payload_type}\r\n\
         a=rtpmap:{payload_type} {name}/8000\r\na=sendrecv\r\na=ptime:{ptime_ms}\r\n"
    )
}

/// Where the first medium goes, and its payload types.
pub(super) fn parse(text: &str) -> Option<(SocketAddr, Vec<u8>)> {
    let (mut ip, mut media) = (None, None);
    for line in text.lines() {
        if let Some(connection) = line.strip_prefix("c=IN ") {
            // The medium's own line follows that of the session.
            ip = Some(connection.split_whitespace().nth(1)?.parse::<IpAddr>().ok()?);
        } else if let Some(audio) = line.strip_prefix("m=") {
            if media.is_some() {
                break;
            }
            let mut words = audio.split_whitespace().skip(1);
            let port: u16 = words.next()?.parse().ok()?;
            media = Some((port, words.skip(1).filter_map(|word| word.parse().ok()).collect()));
        }
    }
    let (port, payload_types) = media?;
    (port != 0).then_some((SocketAddr::new(ip?, port), payload_types))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_read_as_it_was_written() {
        for media in ["192.0.2.1:20000", "[2001:db8::1]:20000"] {
            let media: SocketAddr = media.parse().unwrap();
            assert_eq!(parse(&write(media, Law::Pcma, 20)), Some((media, vec![8])));
        }
        assert_eq!(parse(&write(([192, 0, 2, 1], 0).into(), Law::Pcmu, 20)), None, "a refused medium");
        let own =
            "c=IN IP4 192.0.2.1\r\nm=audio 7 RTP/AVP 0 101\r\nc=IN IP4 192.0.2.2\r\nm=video 9 RTP/AVP 99\r\n";
        assert_eq!(parse(own), Some((([192, 0, 2, 2], 7).into(), vec![0, 101])));
    }
}
