//! Bencode: strings, lists and dictionaries to write; everything to read.

/// A value to write.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    List(Vec<Self>),
    Dictionary(Vec<(&'static str, Self)>),
    Integer(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Value {
    pub(super) fn list(texts: &[&str]) -> Self {
        Self::List(texts.iter().map(|&text| text.into()).collect())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let string = |text: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(text.len().to_string().as_bytes());
            out.push(b':');
            out.extend_from_slice(text.as_bytes());
        };
        match self {
            Self::Text(text) => string(text, out),
            Self::Integer(number) => out.extend_from_slice(format!("i{number}e").as_bytes()),
            Self::List(values) => {
                out.push(b'l');
                values.iter().for_each(|value| value.write(out));
                out.push(b'e');
            }
            Self::Dictionary(pairs) => {
                out.push(b'd');
                for (key, value) in pairs {
                    string(key, out);
                    value.write(out);
                }
                out.push(b'e');
            }
        }
    }
}

/// The string under `key` of a bencoded dictionary; `None` if it has none or is no dictionary.
pub(super) fn text_of<'a>(dictionary: &'a [u8], key: &str) -> Option<&'a str> {
    let mut rest = dictionary.strip_prefix(b"d")?;
    while rest.first() != Some(&b'e') {
        let (name, after) = string(rest)?;
        if name == key.as_bytes() {
            return std::str::from_utf8(string(after)?.0).ok();
        }
        rest = after_value(after, 0)?;
    }
    None
}

/// A string and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().take(12).position(|&byte| byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    bytes[colon + 1..].split_at_checked(length)
}

/// What follows the first value.
fn after_value(bytes: &[u8], depth: usize) -> Option<&[u8]> {
    match bytes.first()? {
        b'i' => Some(&bytes[bytes.iter().position(|&byte| byte == b'e')? + 1..]),
        b'l' | b'd' if depth < 32 => {
            let mut rest = &bytes[1..];
            while rest.first()? != &b'e' {
                rest = after_value(rest, depth + 1)?;
            }
            Some(&rest[1..])
        }
        b'0'..=b'9' => Some(string(bytes)?.1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_again() {
        let value = Value::Dictionary(vec![
            ("flags", Value::list(&["a", "bc"])),
            ("number", Value::Integer(-7)),
            ("codec", Value::Dictionary(vec![("transcode", Value::list(&["PCMA"]))])),
            ("sdp", "v=0\r\n".into()),
        ]);
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(text, "d5:flagsl1:a2:bce6:numberi-7e5:codecd9:transcodel4:PCMAee3:sdp5:v=0\r\ne");
        assert_eq!(text_of(&bytes, "sdp"), Some("v=0\r\n"));
        assert_eq!(text_of(&bytes, "other"), None);
    }

    #[test]
    fn damaged_bytes_are_no_dictionary() {
        for bytes in ["", "d", "d3:ab", "d3:sdp9999999999999:xe", "d3:sdpi1", "l3:sdpe", "d3:abcle3:sdp"] {
            assert_eq!(text_of(bytes.as_bytes(), "sdp"), None, "{bytes}");
        }
        let deep = format!("d1:a{}3:sdp1:xe", "l".repeat(10_000));
        assert_eq!(text_of(deep.as_bytes(), "sdp"), None);
    }
}
