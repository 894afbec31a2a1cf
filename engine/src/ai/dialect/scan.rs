//! The message that comes fifty times a second, read without a JSON parser.
//!
//! What is not exactly as most backends write it is left to the parser: other keys, a key twice, escapes, anything but ASCII.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

/// A `media` message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Media<'a> {
    pub(super) stream: Option<&'a [u8]>,
    pub(super) payload: &'a [u8],
}

/// Reads `{"event":"media",STREAM:"...","media":{"payload":"..."}}` with its keys in any order and spaces between its parts;
/// `stream_key` may be missing. Strings come without quotes, and their content is not looked at.
pub(super) fn media<'a>(message: &'a [u8], stream_key: &[u8]) -> Option<Media<'a>> {
    let mut rest = Rest(message);
    let (mut event, mut stream, mut payload) = (false, None, None);
    rest.token(b'{')?;
    loop {
        let key = rest.string()?;
        rest.token(b':')?;
        if key == b"event" && !event {
            event = rest.string()? == b"media";
            if !event {
                return None;
            }
        } else if key == stream_key && stream.is_none() {
            stream = Some(rest.string()?);
        } else if key == b"media" && payload.is_none() {
            rest.token(b'{')?;
            if rest.string()? != b"payload" {
                return None;
            }
            rest.token(b':')?;
            payload = Some(rest.string()?);
            rest.token(b'}')?;
        } else {
            return None;
        }
        if rest.token(b',').is_none() {
            break;
        }
    }
    rest.token(b'}')?;
    rest.spaces();
    (event && rest.0.is_empty()).then_some(Media { stream, payload: payload? })
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn spaces(&mut self) {
        while let [b' ', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    fn token(&mut self, token: u8) -> Option<()> {
        self.spaces();
        let (&first, rest) = self.0.split_first()?;
        (first == token).then(|| self.0 = rest)
    }

    /// A string of printable ASCII without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.token(b'"')?;
        let end = memchr::memchr(b'"', self.0)?;
        let (string, rest) = self.0.split_at(end);
        self.0 = rest.get(1..)?;
        // Without a branch for each byte, so that the compiler does many at once.
        let strange = |byte: u8| !(0x20..0x7f).contains(&byte) | (byte == b'\\');
        (!string.iter().fold(false, |found, &byte| found | strange(byte))).then_some(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str) -> Option<(Option<&str>, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).expect("ASCII");
        media(message.as_bytes(), b"streamSid").map(|media| (media.stream.map(text), text(media.payload)))
    }

    #[test]
    fn the_usual_message_is_read() {
        let expected = Some((Some("MZ1"), "//////8="));
        for message in [
            r#"{"event":"media","streamSid":"MZ1","media":{"payload":"//////8="}}"#,
            r#"{"event": "media", "streamSid": "MZ1", "media": {"payload": "//////8="}}"#,
            r#" { "media" : { "payload" : "//////8=" } , "streamSid":"MZ1" , "event":"media" } "#,
        ] {
            assert_eq!(read(message), expected, "{message}");
        }
        assert_eq!(read(r#"{"event":"media","media":{"payload":""}}"#), Some((None, "")));
    }

    #[test]
    fn what_is_unusual_is_left_to_the_parser() {
        for message in [
            "",
            "{",
            "{}",
            r#"{"event":"mark","mark":{"name":"m"}}"#,
            r#"{"event":"media","media":{"payload":"a"}"#,
            r#"{"event":"media","media":{"payload":"a"}}x"#,
            r#"{"event":"media","media":{"payload":"a"},}"#,
            r#"{"event":"media","media":{"payload":"\/"}}"#,
            r#"{"event":"media","media":{"payload":"a","track":"x"}}"#,
            r#"{"event":"media","media":{"payload":"é"}}"#,
            r#"{"event":"media","media":{"payload":null}}"#,
            r#"{"event":"media","event":"media","media":{"payload":"a"}}"#,
            r#"{"event":"media","media":{"payload":"a"},"media":{"payload":"b"}}"#,
            r#"{"media":{"payload":"a"}}"#,
            "{\"event\":\"media\",\"media\":{\"payload\":\"a\nb\"}}",
            "{\n\"event\":\"media\",\"media\":{\"payload\":\"a\"}}",
        ] {
            assert_eq!(read(message), None, "{message}");
        }
    }
}
