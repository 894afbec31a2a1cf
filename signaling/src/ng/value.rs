//! What a message holds, whichever way it was written.

use std::borrow::Cow;

/// How deep lists and dictionaries may lie in each other.
pub const MAX_NESTING: usize = 16;

/// One value of a message. Strings are bytes: bencode carries anything, SDP is text of unknown encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A whole number. JSON's booleans are 0 and 1.
    Integer(i64),
    /// A string.
    Text(Vec<u8>),
    /// A list.
    List(Vec<Self>),
    /// A dictionary.
    Dictionary(Dictionary),
}

impl Value {
    /// The number; a string that holds one counts (proxies send both), in decimal.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(_) => self.text()?.trim().parse().ok(),
            _ => None,
        }
    }

    /// The string, if it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The string, whatever its bytes are; what is no UTF-8 is replaced.
    #[must_use]
    pub fn lossy(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(bytes) => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        }
    }

    /// The strings of a list, or the parts of a single string, which is split at commas.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let (list, text) = match self {
            Self::List(list) => (list.as_slice(), None),
            _ => (Default::default(), self.text()),
        };
        let parts = text.into_iter().flat_map(|text| text.split(','));
        list.iter().filter_map(Self::text).chain(parts).map(str::trim).filter(|word| !word.is_empty())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into_bytes())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<Vec<Self>> for Value {
    fn from(list: Vec<Self>) -> Self {
        Self::List(list)
    }
}

impl From<Dictionary> for Value {
    fn from(dictionary: Dictionary) -> Self {
        Self::Dictionary(dictionary)
    }
}

/// Keys and values in the order they were written. A key may come twice: [`Dictionary::value`] sees the first,
/// [`Dictionary::iter`] all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dictionary {
    entries: Vec<(Vec<u8>, Value)>,
}

impl Dictionary {
    /// The first value of a key, matched exactly.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(known, _)| known == key.as_bytes()).map(|(_, value)| value)
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Value>) {
        self.entries.push((key.into(), value.into()));
    }

    /// The same, for building in one expression.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.push(key, value);
        self
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_slice(), value))
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Any value that JSON can carry, too.
    pub(crate) fn values() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![any::<i64>().prop_map(Value::Integer), "[ -~äß\\r\\n]{0,12}".prop_map(Value::from),];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Value::List),
                vec(("[a-zA-Z -]{0,9}", inner), 0..5).prop_map(|entries| {
                    let mut dictionary = Dictionary::default();
                    entries.into_iter().for_each(|(key, value)| dictionary.push(key, value));
                    Value::Dictionary(dictionary)
                }),
            ]
        })
    }

    #[test]
    fn numbers_are_read_from_strings_in_decimal() {
        assert_eq!(Value::from("010").integer(), Some(10));
        assert_eq!(Value::from("x").integer(), None);
        assert_eq!(Value::from(-5i64).integer(), Some(-5));
    }

    #[test]
    fn a_single_string_is_split_at_commas_and_a_list_is_not() {
        assert_eq!(Value::from("a, b,,c").words().collect::<Vec<_>>(), ["a", "b", "c"]);
        let list = Value::List(vec!["a,b".into(), Value::Integer(1), "c".into()]);
        assert_eq!(list.words().collect::<Vec<_>>(), ["a,b", "c"]);
    }

    #[test]
    fn of_duplicate_keys_a_look_up_sees_the_first() {
        let twice = Dictionary::default().with("k", "1").with("k", "2");
        assert_eq!(twice.value("k"), Some(&Value::from("1")));
        assert_eq!(twice.iter().count(), 2);
    }
}
