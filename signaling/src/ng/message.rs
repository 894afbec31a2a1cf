//! A datagram: a cookie, a blank, and a dictionary in one of two encodings.

use super::value::{Dictionary, Value};
use super::{bencode, json};

/// How a dictionary is written. The reply is written as the request was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Bencode; also what errors are told in when no encoding is known.
    #[default]
    Bencode,
    /// JSON.
    Json,
}

/// Why the payload is no dictionary; the texts are those that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Nothing follows the cookie.
    #[error("Invalid data (no payload)")]
    NoPayload,
    /// Not bencode.
    #[error("Could not decode bencode dictionary")]
    Bencode,
    /// Not JSON.
    #[error("Failed to parse JSON document")]
    Json,
    /// Neither `d` nor `{` begins it.
    #[error("Invalid NG data format")]
    Format,
}

/// Splits the cookie off; `None` when there is none, and nobody to answer.
#[must_use]
pub fn split_cookie(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = datagram.iter().take(MAX_COOKIE_BYTES + 1).position(|&byte| byte == b' ')?;
    let (cookie, payload) = datagram.split_at(at);
    (at > 0).then_some((cookie, payload.get(1..)?))
}

/// Reads a payload. What follows the dictionary is ignored.
///
/// # Errors
/// [`MessageError`], with the encoding that it is to be answered in.
pub fn parse(payload: &[u8]) -> Result<(Encoding, Dictionary), (Encoding, MessageError)> {
    match payload.first() {
        None => Err((Encoding::Bencode, MessageError::NoPayload)),
        Some(b'd') => match bencode::parse(payload) {
            Ok((Value::Dictionary(dictionary), _)) => Ok((Encoding::Bencode, dictionary)),
            _ => Err((Encoding::Bencode, MessageError::Bencode)),
        },
        Some(b'{') => match json::parse(payload) {
            Ok(Value::Dictionary(dictionary)) => Ok((Encoding::Json, dictionary)),
            _ => Err((Encoding::Json, MessageError::Json)),
        },
        Some(_) => Err((Encoding::Bencode, MessageError::Format)),
    }
}

/// Writes a message.
#[must_use]
pub fn write(cookie: &[u8], encoding: Encoding, dictionary: &Dictionary) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(cookie);
    out.push(b' ');
    match encoding {
        Encoding::Bencode => bencode::write_dictionary(dictionary, &mut out),
        Encoding::Json => json::write_dictionary(dictionary, &mut out),
    }
    out
}

/// Proxies use about 33.
const MAX_COOKIE_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_of_the_payload_picks_the_encoding() {
        let ping = Dictionary::default().with("command", "ping");
        assert_eq!(parse(b"d7:command4:pinge and more"), Ok((Encoding::Bencode, ping.clone())));
        assert_eq!(parse(br#"{"command":"ping"}"#), Ok((Encoding::Json, ping)));
        assert_eq!(parse(b""), Err((Encoding::Bencode, MessageError::NoPayload)));
        assert_eq!(parse(b" d"), Err((Encoding::Bencode, MessageError::Format)));
        assert_eq!(parse(b"d"), Err((Encoding::Bencode, MessageError::Bencode)));
        assert_eq!(parse(b"{"), Err((Encoding::Json, MessageError::Json)));
    }

    #[test]
    fn a_datagram_without_a_cookie_has_nobody_to_answer() {
        assert_eq!(split_cookie(b"a_1 d"), Some((&b"a_1"[..], &b"d"[..])));
        assert_eq!(split_cookie(b"a "), Some((&b"a"[..], &b""[..])));
        assert_eq!(split_cookie(b" d7:command4:pinge"), None);
        assert_eq!(split_cookie(b"d7:command4:pinge"), None);
        assert_eq!(split_cookie(&[b'x'; 400]), None);
    }

    #[test]
    fn a_reply_repeats_the_cookie() {
        let pong = Dictionary::default().with("result", "pong");
        assert_eq!(write(b"a_1", Encoding::Bencode, &pong), b"a_1 d6:result4:ponge");
        assert_eq!(write(b"a_1", Encoding::Json, &pong), b"a_1 {\"result\":\"pong\"}");
    }
}
