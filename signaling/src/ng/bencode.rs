//! Bencode as NG speaks it: dictionaries keep their order and need not be sorted, keys may repeat.

use super::value::{Dictionary, MAX_NESTING, Value};

/// Why bytes are not one bencoded value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BencodeError {
    /// The bytes end within a value.
    #[error("the bytes end within a value")]
    Truncated,
    /// A byte that begins no value.
    #[error("a byte that begins no value")]
    Syntax,
    /// A number that is none, has leading zeros, or does not fit.
    #[error("not a number of 64 bits in its shortest form")]
    Number,
    /// Lists and dictionaries lie too deep in each other.
    #[error("nested deeper than {MAX_NESTING}")]
    Nesting,
}

/// Reads one value and gives what follows it. Never recurses deeper than [`MAX_NESTING`], never takes more
/// memory than a small multiple of the input.
///
/// # Errors
/// [`BencodeError`].
pub fn parse(bytes: &[u8]) -> Result<(Value, &[u8]), BencodeError> {
    value(bytes, 0)
}

/// Writes a value.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Integer(number) => {
            out.push(b'i');
            decimal(*number, out);
            out.push(b'e');
        }
        Value::Text(bytes) => string(bytes, out),
        Value::List(list) => {
            out.push(b'l');
            list.iter().for_each(|value| write(value, out));
            out.push(b'e');
        }
        Value::Dictionary(dictionary) => write_dictionary(dictionary, out),
    }
}

/// Writes a dictionary.
pub fn write_dictionary(dictionary: &Dictionary, out: &mut Vec<u8>) {
    out.push(b'd');
    for (key, value) in dictionary.iter() {
        string(key, out);
        write(value, out);
    }
    out.push(b'e');
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    decimal(i64::try_from(bytes.len()).unwrap_or(i64::MAX), out);
    out.push(b':');
    out.extend_from_slice(bytes);
}

fn decimal(number: i64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing to memory does not fail.
    let _ = write!(out, "{number}");
}

fn value(bytes: &[u8], depth: usize) -> Result<(Value, &[u8]), BencodeError> {
    match bytes.first().ok_or(BencodeError::Truncated)? {
        b'i' => {
            let (number, rest) = split(rest_of(bytes), b'e')?;
            Ok((Value::Integer(signed(number)?), rest))
        }
        b'0'..=b'9' => {
            let (text, rest) = text(bytes)?;
            Ok((Value::Text(text.to_vec()), rest))
        }
        b'l' => {
            let mut rest = deeper(bytes, depth)?;
            let mut list = Vec::new();
            while rest.first() != Some(&b'e') {
                let (item, after) = value(rest, depth + 1)?;
                list.push(item);
                rest = after;
            }
            Ok((Value::List(list), rest_of(rest)))
        }
        b'd' => {
            let mut rest = deeper(bytes, depth)?;
            let mut dictionary = Dictionary::default();
            while rest.first() != Some(&b'e') {
                let (key, after) = text(rest)?;
                let (item, after) = value(after, depth + 1)?;
                dictionary.push(key, item);
                rest = after;
            }
            Ok((Value::Dictionary(dictionary), rest_of(rest)))
        }
        _ => Err(BencodeError::Syntax),
    }
}

fn deeper(bytes: &[u8], depth: usize) -> Result<&[u8], BencodeError> {
    if depth >= MAX_NESTING { Err(BencodeError::Nesting) } else { Ok(rest_of(bytes)) }
}

fn rest_of(bytes: &[u8]) -> &[u8] {
    bytes.get(1..).unwrap_or_default()
}

/// What comes before and after the first `end`; a number is looked for, so not far away.
fn split(bytes: &[u8], end: u8) -> Result<(&[u8], &[u8]), BencodeError> {
    let near = bytes.get(..LONGEST_NUMBER.min(bytes.len())).unwrap_or_default();
    let Some(at) = near.iter().position(|&byte| byte == end) else {
        return Err(if near.len() < LONGEST_NUMBER { BencodeError::Truncated } else { BencodeError::Number });
    };
    let (before, after) = bytes.split_at(at);
    Ok((before, rest_of(after)))
}

fn text(bytes: &[u8]) -> Result<(&[u8], &[u8]), BencodeError> {
    if bytes.first().is_some_and(|byte| !byte.is_ascii_digit()) {
        return Err(BencodeError::Syntax);
    }
    let (length, rest) = split(bytes, b':')?;
    let length = usize::try_from(digits(length)?).map_err(|_| BencodeError::Number)?;
    rest.split_at_checked(length).ok_or(BencodeError::Truncated)
}

fn signed(text: &[u8]) -> Result<i64, BencodeError> {
    match text.split_first() {
        // `-0` is not the shortest form of anything.
        Some((b'-', b"0")) => Err(BencodeError::Number),
        Some((b'-', number)) => {
            let number = i128::from(digits(number)?);
            i64::try_from(-number).map_err(|_| BencodeError::Number)
        }
        _ => i64::try_from(digits(text)?).map_err(|_| BencodeError::Number),
    }
}

/// Digits without a leading zero.
fn digits(text: &[u8]) -> Result<u64, BencodeError> {
    let leading_zero = text.first() == Some(&b'0') && text.len() > 1;
    if text.is_empty() || leading_zero || !text.iter().all(u8::is_ascii_digit) {
        return Err(BencodeError::Number);
    }
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(BencodeError::Number)
}

/// The bytes of `-9223372036854775808` and what ends it.
const LONGEST_NUMBER: usize = 21;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::value::tests::values;
    use super::*;

    fn parsed(text: &str) -> Result<Value, BencodeError> {
        parse(text.as_bytes()).map(|(value, _)| value)
    }

    #[test]
    fn values_are_read_in_their_order() {
        let (value, rest) = parse(b"d1:zi-5e1:al0:2:hiee trailing").expect("bencode");
        let list = Value::List(vec!["".into(), "hi".into()]);
        assert_eq!(value, Dictionary::default().with("z", -5i64).with("a", list).into());
        assert_eq!(rest, b" trailing");
    }

    #[test]
    fn numbers_are_of_64_bits_and_in_their_shortest_form() {
        assert_eq!(parsed("i-9223372036854775808e"), Ok(Value::Integer(i64::MIN)));
        assert_eq!(parsed("i9223372036854775807e"), Ok(Value::Integer(i64::MAX)));
        for wrong in
            ["i9223372036854775808e", "i01e", "i-0e", "ie", "i-e", "i1.5e", "i99999999999999999999999e"]
        {
            assert_eq!(parsed(wrong), Err(BencodeError::Number), "{wrong}");
        }
    }

    #[test]
    fn what_ends_too_early_is_refused() {
        for wrong in ["", "d", "l", "i5", "5:abc", "d1:a", "d1:ae", "99999999999:x", "li1e"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parsed("x"), Err(BencodeError::Syntax));
        assert_eq!(parsed("di1ei2ee"), Err(BencodeError::Syntax));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "l".repeat(depth), "e".repeat(depth));
        assert!(parsed(&nested(MAX_NESTING)).is_ok());
        assert_eq!(parsed(&nested(MAX_NESTING + 1)), Err(BencodeError::Nesting));
        assert_eq!(parsed(&"l".repeat(1_000_000)), Err(BencodeError::Nesting));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_as_the_same(value in values()) {
            let mut bytes = Vec::new();
            write(&value, &mut bytes);
            prop_assert_eq!(parse(&bytes), Ok((value, &b""[..])));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn almost_bencode_never_panics(text in "[dlie0-9:x-]{0,60}") {
            let _ = parse(text.as_bytes());
        }
    }
}
