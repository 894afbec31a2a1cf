//! The keys a configuration may have, read off the structs themselves.
//!
//! [`kind_at`] drives serde's derived code with a deserializer that holds no data: it walks one path and
//! notes what the type at its end asks for. So names, nesting and kinds are written once, as Rust structs,
//! and serve unknown-key errors, environment variables and the test of the manual.

use std::fmt;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A string, perhaps with a form of its own.
    Text,
    /// A path; relative to the configuration file when it stands there.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An array.
    List,
    /// A table with these keys.
    Table(&'static [&'static str]),
    /// A table whose keys are names that the operator chooses.
    Map,
}

/// The name serde sees for [`super::FilePath`].
pub(super) const PATH_TYPE: &str = "FilePath";
/// The name serde sees for [`super::FreeTable`], below which any key may stand.
pub(super) const FREE_TYPE: &str = "FreeTable";

/// What the configuration type `T` has at `path`; `None` when there is no such key.
#[must_use]
pub fn kind_at<'de, T: Deserialize<'de>>(path: &[&str]) -> Option<Kind> {
    let mut found = None;
    let _ = T::deserialize(Probe { path, found: &mut found });
    found
}

/// All keys of `T` that hold a value, with `NAME` where the operator chooses a name and `[]` after a list
/// of tables, such as `agents.NAME.url` or `routes[].app`.
#[must_use]
pub fn all_keys<'de, T: Deserialize<'de>>() -> Vec<(String, Kind)> {
    let mut keys = Vec::new();
    collect::<T>(&mut Vec::new(), &mut keys);
    keys
}

fn collect<'de, T: Deserialize<'de>>(path: &mut Vec<&'static str>, keys: &mut Vec<(String, Kind)>) {
    let Some(kind) = kind_at::<T>(path) else { return };
    let child = match kind {
        Kind::Table(fields) => {
            for field in fields {
                path.push(field);
                collect::<T>(path, keys);
                path.pop();
            }
            return;
        }
        Kind::Map => Some("NAME"),
        Kind::List => Some("[]"),
        _ => None,
    };
    if let Some(child) = child {
        path.push(child);
        let nested = matches!(kind_at::<T>(path), Some(Kind::Table(_)));
        if nested {
            collect::<T>(path, keys);
        }
        path.pop();
        if nested {
            return;
        }
    }
    keys.push((path.join(".").replace(".[]", "[]"), kind));
}

struct Probe<'a> {
    path: &'a [&'a str],
    found: &'a mut Option<Kind>,
}

impl Probe<'_> {
    fn leaf<T>(self, kind: Kind) -> Result<T, Stop> {
        if self.path.is_empty() {
            *self.found = Some(kind);
        }
        Err(Stop)
    }
}

macro_rules! leaves {
    ($($method:ident => $kind:expr),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> { self.leaf($kind) })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    leaves! {
        deserialize_bool => Kind::Bool,
        deserialize_i8 => Kind::Integer, deserialize_i16 => Kind::Integer,
        deserialize_i32 => Kind::Integer, deserialize_i64 => Kind::Integer,
        deserialize_u8 => Kind::Integer, deserialize_u16 => Kind::Integer,
        deserialize_u32 => Kind::Integer, deserialize_u64 => Kind::Integer,
        deserialize_f32 => Kind::Text, deserialize_f64 => Kind::Text,
        deserialize_char => Kind::Text, deserialize_str => Kind::Text, deserialize_string => Kind::Text,
        deserialize_bytes => Kind::Text, deserialize_byte_buf => Kind::Text,
        deserialize_any => Kind::Text, deserialize_unit => Kind::Text,
        deserialize_identifier => Kind::Text, deserialize_ignored_any => Kind::Text,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match (name, self.path) {
            (PATH_TYPE, _) => self.leaf(Kind::Path),
            (FREE_TYPE, []) => self.leaf(Kind::Map),
            (FREE_TYPE, _) => {
                *self.found = Some(Kind::Text);
                Err(Stop)
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, _: V) -> Result<V::Value, Stop> {
        self.leaf(Kind::Text)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let Some((_, rest)) = self.path.split_first() else { return self.leaf(Kind::List) };
        visitor.visit_seq(One { key: "", probe: Some(Probe { path: rest, found: self.found }) })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let Some((key, rest)) = self.path.split_first() else { return self.leaf(Kind::Map) };
        visitor.visit_map(One { key, probe: Some(Probe { path: rest, found: self.found }) })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let Some((key, rest)) = self.path.split_first() else { return self.leaf(Kind::Table(fields)) };
        if !fields.contains(key) {
            return Err(Stop);
        }
        visitor.visit_map(One { key, probe: Some(Probe { path: rest, found: self.found }) })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        self.leaf(Kind::Choice(variants))
    }
}

/// A map or a list with the one entry that the path names.
struct One<'a> {
    key: &'a str,
    probe: Option<Probe<'a>>,
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        if self.probe.is_none() {
            return Ok(None);
        }
        let key: StrDeserializer<'_, Stop> = self.key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        match self.probe.take() {
            Some(probe) => seed.deserialize(probe),
            None => seed.deserialize(StringDeserializer::<Stop>::new(String::new())),
        }
    }
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        self.probe.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

/// Ends a walk; what was found is in the probe.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("probe ended")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}
