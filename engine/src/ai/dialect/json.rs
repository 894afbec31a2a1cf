//! What JSON of backends has in common.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

/// A string that is borrowed unless it has escapes, as PHP writes the `/` of base64.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Reads a message that must be a JSON object: an array would do for a struct too.
pub(super) fn object<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Option<T> {
    let first = message.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(message).ok()
}

/// A string as JSON, quotes included.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
