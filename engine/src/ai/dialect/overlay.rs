//! What operators write over a session's set-up message.

use serde_json::{Map, Value};

/// Merges `patch` over `target` as RFC 7396 has it: objects key by key, anything else replaces, `null` removes; but an
/// object of another `type` replaces the whole, since its keys are others.
pub(super) fn overlay(target: &mut Value, patch: &Map<String, Value>) {
    let other_type = patch.get("type").is_some_and(|kind| target.get("type").is_some_and(|old| old != kind));
    if !target.is_object() || other_type {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        merge(target, patch);
    }
}

/// As [`overlay`], for an object that stays one of its type.
pub(super) fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(inner) => overlay(target.entry(key).or_insert(Value::Null), inner),
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

/// Sets a key of an object.
pub(super) fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Object(object) = object {
        object.insert(key.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_patch_wins_key_by_key() {
        // The cases of RFC 7396 appendix A that have an object as the patch.
        for (mut target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (
                json!({"a": {"type": "x", "b": 1}}),
                json!({"a": {"type": "x", "c": 2}}),
                json!({"a": {"type": "x", "b": 1, "c": 2}}),
            ),
            (json!({"a": {"type": "x", "b": 1}}), json!({"a": {"type": "y"}}), json!({"a": {"type": "y"}})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let Value::Object(patch) = patch else { panic!("an object") };
            overlay(&mut target, &patch);
            assert_eq!(target, expected);
        }
    }
}
