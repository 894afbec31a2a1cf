//! The JSON variant: the same dictionaries, in the same order. Numbers and booleans are integers, `null` is an
//! absent key, and what is no UTF-8 is replaced when writing.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserializer, Serialize, Serializer};

use super::value::{Dictionary, MAX_NESTING, Value};

/// Reads a JSON object; anything may follow it, as with bencode.
///
/// # Errors
/// What serde_json says, or that it is nested too deep.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut document = serde_json::Deserializer::from_slice(bytes);
    Ok(Nested { depth: 0 }.deserialize(&mut document)?.unwrap_or(Value::List(Vec::new())))
}

/// Writes a value, compactly.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    // Writing to memory does not fail, and keys are strings.
    let _ = serde_json::to_writer(out, value);
}

/// Writes a dictionary, compactly.
pub fn write_dictionary(dictionary: &Dictionary, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, dictionary);
}

/// Reads a value at a depth; `None` is `null`.
#[derive(Clone, Copy)]
struct Nested {
    depth: usize,
}

impl Nested {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_NESTING {
            return Err(E::custom(format_args!("nested deeper than {MAX_NESTING}")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a whole number, an array or an object")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
        Ok(Some(Value::Integer(on.into())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Value::Integer(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Value::from(number)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        // A cast saturates, and no key of ours has a fraction.
        Ok(Some(Value::Integer(number as i64)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(deeper)? {
            list.extend(item);
        }
        Ok(Some(Value::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let deeper = self.deeper()?;
        let mut dictionary = Dictionary::default();
        while let Some(key) = entries.next_key::<String>()? {
            if let Some(value) = entries.next_value_seed(deeper)? {
                dictionary.push(key, value);
            }
        }
        Ok(Some(Value::Dictionary(dictionary)))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Text(bytes) => serializer.serialize_str(&String::from_utf8_lossy(bytes)),
            Self::List(list) => {
                let mut items = serializer.serialize_seq(Some(list.len()))?;
                list.iter().try_for_each(|item| items.serialize_element(item))?;
                items.end()
            }
            Self::Dictionary(dictionary) => dictionary.serialize(serializer),
        }
    }
}

impl Serialize for Dictionary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            entries.serialize_entry(&*String::from_utf8_lossy(key), value)?;
        }
        entries.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::value::tests::values;
    use super::*;

    #[test]
    fn objects_keep_their_order_and_null_is_absent() {
        let value = parse(br#"{"z":1,"a":[true,null,"x"],"n":null,"z":2}"#).expect("JSON");
        let list = Value::List(vec![1i64.into(), "x".into()]);
        assert_eq!(value, Dictionary::default().with("z", 1i64).with("a", list).with("z", 2i64).into());
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_NESTING).as_bytes()).is_ok());
        assert!(parse(nested(MAX_NESTING + 1).as_bytes()).is_err());
        assert!(parse("[".repeat(1_000_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_as_the_same(value in values()) {
            let mut bytes = Vec::new();
            write(&value, &mut bytes);
            prop_assert_eq!(parse(&bytes).expect("JSON"), value);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
