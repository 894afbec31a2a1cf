//! What a body holds: SDP, alone or as a part of a multipart (RFC 3261 7.4, RFC 2046 5.1).

use super::Message;

/// A body as far as calls care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    None,
    Sdp(String),
    /// A type or encoding we do not take: 415.
    Unsupported,
    /// It says that it is SDP and is no text: 400.
    Broken,
}

/// At most this much SDP is handed up.
const MAX_SDP_BYTES: usize = 32 * 1024;
/// Parts looked at in a multipart.
const MAX_PARTS: usize = 16;

/// The media type in lower case without parameters, and its parameters.
pub(crate) fn media_type(value: &str) -> (String, super::Params) {
    let (name, params) = value.split_once(';').unwrap_or((value, ""));
    let name: String = name.chars().filter(|c| !c.is_whitespace()).collect();
    (name.to_ascii_lowercase(), super::parse_params(params).unwrap_or_default())
}

/// Finds the session description.
pub(crate) fn session_description(message: &Message) -> Content {
    if message.body.iter().all(u8::is_ascii_whitespace) {
        return Content::None;
    }
    let encoded = message.list("Content-Encoding").any(|encoding| !encoding.eq_ignore_ascii_case("identity"));
    if encoded {
        return Content::Unsupported;
    }
    // Without a type there is nothing else that it could be (RFC 3261 20.15 makes it mandatory).
    let (name, params) = media_type(message.header("Content-Type").unwrap_or("application/sdp"));
    match name.as_str() {
        "application/sdp" => sdp(&message.body),
        "multipart/mixed" | "multipart/alternative" | "multipart/related" => {
            let boundary = params.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("boundary"));
            match boundary.and_then(|(_, value)| value).filter(|b| !b.is_empty() && b.len() <= 70) {
                Some(boundary) => multipart(&message.body, &boundary),
                None => Content::Broken,
            }
        }
        // A part that may be ignored is (RFC 3261 20.11).
        _ if optional(message.header("Content-Disposition")) => Content::None,
        _ => Content::Unsupported,
    }
}

fn optional(disposition: Option<&str>) -> bool {
    disposition.is_some_and(|value| {
        let (_, params) = media_type(value);
        params.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("handling")
                && value.as_deref().is_some_and(|v| v.eq_ignore_ascii_case("optional"))
        })
    })
}

fn sdp(body: &[u8]) -> Content {
    match std::str::from_utf8(body) {
        Ok(text) if text.len() <= MAX_SDP_BYTES && !text.contains('\0') => Content::Sdp(text.to_owned()),
        _ => Content::Broken,
    }
}

fn multipart(body: &[u8], boundary: &str) -> Content {
    let delimiter = format!("--{boundary}");
    let mut found = Content::None;
    let mut rest = body;
    for _ in 0..MAX_PARTS {
        let Some(start) = find(rest, delimiter.as_bytes()) else { return found };
        let Some(part) = rest.get(start + delimiter.len()..) else { return found };
        if part.starts_with(b"--") {
            return found;
        }
        let end = find(part, delimiter.as_bytes()).unwrap_or(part.len());
        let (this, next) = part.split_at(end);
        rest = next;
        match (part_content(this), &found) {
            (Content::Sdp(text), Content::None) => found = Content::Sdp(text),
            (content @ (Content::Unsupported | Content::Broken), _) => return content,
            _ => {}
        }
    }
    found
}

fn part_content(part: &[u8]) -> Content {
    let part = part.strip_prefix(b"\r\n").unwrap_or(part);
    let (head, body) = match (part.strip_prefix(b"\r\n"), super::head_end(part)) {
        (Some(body), _) => (&[][..], body),
        (None, Some(end)) => part.split_at(end),
        (None, None) => return Content::Broken,
    };
    let Ok(head) = std::str::from_utf8(head) else { return Content::Broken };
    let header = |name: &str| {
        head.split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find_map(|(n, value)| n.trim().eq_ignore_ascii_case(name).then(|| value.trim()))
    };
    let (name, _) = media_type(header("Content-Type").unwrap_or("text/plain"));
    if name == "application/sdp" {
        return sdp(body.strip_suffix(b"\r\n").unwrap_or(body));
    }
    // Parts are required unless they say otherwise (RFC 3261 20.11), but what belongs to signatures,
    // locations and the like is never ours to act on and never changes the media.
    Content::None
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
