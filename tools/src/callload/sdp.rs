//! The offer of one audio stream and what matters of an answer (RFC 3264, RFC 8866).

use std::net::{IpAddr, SocketAddr};

use super::g711::Law;

/// The far end of the audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RemoteMedia {
    pub(super) address: SocketAddr,
    pub(super) law: Law,
    pub(super) telephone_event: Option<u8>,
    /// The far end wants to hear us (it is not on hold).
    pub(super) send: bool,
    /// The far end talks to us.
    pub(super) receive: bool,
}

/// Writes an offer, or the answer to a re-offer. `mode` is `sendrecv`, `recvonly`, `sendonly` or `inactive`.
pub(super) fn write(local: SocketAddr, session: u64, version: u32, laws: &[Law], mode: &str) -> String {
    let family = if local.is_ipv4() { "IP4" } else { "IP6" };
    let ip = local.ip();
    let payload_types: String = laws.iter().map(|law| format!(" {}", law.payload_type())).collect();
    let maps: String =
        laws.iter().map(|law| format!("a=rtpmap:{} {}/8000\r\n", law.payload_type(), law.name())).collect();
    format!(
        "v=0\r\no=callload {session} {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {} RTP/AVP{payload_types} {TELEPHONE_EVENT}\r\n{maps}\
         a=rtpmap:{TELEPHONE_EVENT} telephone-event/8000\r\na=fmtp:{TELEPHONE_EVENT} 0-15\r\n\
         a=ptime:20\r\na={mode}\r\n",
        local.port()
    )
}

/// Reads the first audio stream. The error is a sentence for the report.
pub(super) fn parse(text: &str) -> Result<RemoteMedia, &'static str> {
    let mut session_ip = None;
    let mut media: Option<Media> = None;
    for line in text.lines() {
        let Some((kind, value)) = line.trim_end().split_once('=') else { continue };
        match (kind, &mut media) {
            ("m", Some(_)) => break,
            ("m", None) if value.starts_with("audio ") => {
                media = Some(Media::parse(value).ok_or("bad m= line in the answer")?)
            }
            ("c", None) => session_ip = connection(value),
            ("c", Some(media)) => media.ip = connection(value),
            ("a", Some(media)) => media.attribute(value),
            ("a", None) if matches!(value, "sendonly" | "recvonly" | "inactive") => {}
            _ => {}
        }
    }
    let media = media.ok_or("no audio in the answer")?;
    if media.port == 0 {
        return Err("audio refused with port 0");
    }
    let ip = media.ip.or(session_ip).ok_or("no usable c= line in the answer")?;
    let law = media
        .payload_types
        .iter()
        .find_map(|&payload_type| Law::from_payload_type(payload_type))
        .ok_or("neither PCMU nor PCMA in the answer")?;
    let held = ip.is_unspecified();
    Ok(RemoteMedia {
        address: SocketAddr::new(ip, media.port),
        law,
        telephone_event: media.telephone_event,
        send: !held && matches!(media.mode, "sendrecv" | "recvonly"),
        receive: matches!(media.mode, "sendrecv" | "sendonly"),
    })
}

struct Media {
    port: u16,
    payload_types: Vec<u8>,
    ip: Option<IpAddr>,
    telephone_event: Option<u8>,
    mode: &'static str,
}

impl Media {
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace().skip(1);
        let port = words.next()?.split('/').next()?.parse().ok()?;
        let _profile = words.next()?;
        let payload_types = words.filter_map(|word| word.parse().ok()).collect();
        Some(Self { port, payload_types, ip: None, telephone_event: None, mode: "sendrecv" })
    }

    fn attribute(&mut self, value: &str) {
        for mode in ["sendrecv", "sendonly", "recvonly", "inactive"] {
            if value == mode {
                self.mode = mode;
            }
        }
        if let Some((number, encoding)) = value.strip_prefix("rtpmap:").and_then(|map| map.split_once(' '))
            && encoding.to_ascii_lowercase().starts_with("telephone-event/8000")
        {
            self.telephone_event = number.parse().ok();
        }
    }
}

fn connection(value: &str) -> Option<IpAddr> {
    value.split_ascii_whitespace().nth(2)?.split('/').next()?.parse().ok()
}

/// Our payload type for telephone events.
pub(super) const TELEPHONE_EVENT: u8 = 101;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for local in ["192.0.2.1:4000", "[2001:db8::1]:4002"] {
            let local: SocketAddr = local.parse().unwrap();
            let media = parse(&write(local, 1, 1, &[Law::Pcma, Law::Pcmu], "sendrecv")).unwrap();
            let expected = RemoteMedia {
                address: local,
                law: Law::Pcma,
                telephone_event: Some(101),
                send: true,
                receive: true,
            };
            assert_eq!(media, expected);
        }
    }

    #[test]
    fn unusable_answers_say_why() {
        assert_eq!(parse("v=0\r\n"), Err("no audio in the answer"));
        let refused = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 0 RTP/AVP 0\r\n";
        assert_eq!(parse(refused), Err("audio refused with port 0"));
        let opus = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 96\r\n";
        assert_eq!(parse(opus), Err("neither PCMU nor PCMA in the answer"));
        assert_eq!(parse("m=audio 4000 RTP/AVP 0\r\n"), Err("no usable c= line in the answer"));
    }

    #[test]
    fn hold_is_seen_as_such() {
        let held = "c=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n";
        let media = parse(held).unwrap();
        assert!(!media.send && media.receive);
    }
}
