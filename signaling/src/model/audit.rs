//! Who changed what.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Access, Id, Moment, TenantId};

/// One change that was made through the API.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Ordered by time.
    pub id: Id,
    /// Whose thing was changed.
    pub tenant: TenantId,
    /// When.
    pub time: Moment,
    /// By whom: a user's name or a key's id.
    pub subject: String,
    /// The role that they had.
    pub role: String,
    /// The address that the request came from.
    pub source: String,
    /// What was done, such as `trunk.create`.
    pub action: String,
    /// To what: the id.
    pub target: String,
    /// How it was before, without secrets; absent for what is new.
    #[schema(value_type = Option<Object>)]
    pub before: Option<Value>,
    /// How it is now, without secrets; absent for what is gone.
    #[schema(value_type = Option<Object>)]
    pub after: Option<Value>,
}

impl AuditEntry {
    /// A change made now.
    #[must_use]
    pub fn new(access: &Access, source: impl ToString, action: &str, target: impl ToString) -> Self {
        Self {
            id: Id::new(),
            tenant: access.tenant.clone(),
            time: Moment::now(),
            subject: access.subject.clone(),
            role: access.role.name().to_owned(),
            source: source.to_string(),
            action: action.to_owned(),
            target: target.to_string(),
            before: None,
            after: None,
        }
    }

    /// How it was.
    #[must_use]
    pub fn before(mut self, thing: &impl Serialize) -> Self {
        self.before = shown(thing);
        self
    }

    /// How it is now.
    #[must_use]
    pub fn after(mut self, thing: &impl Serialize) -> Self {
        self.after = shown(thing);
        self
    }
}

/// A thing as JSON, its secrets replaced.
fn shown(thing: &impl Serialize) -> Option<Value> {
    let mut value = serde_json::to_value(thing).ok()?;
    hide(&mut value);
    Some(value)
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                // Whether there is one is worth knowing, and a flag like `password_set` is no secret.
                if is_secret(name) && !matches!(field, Value::Null | Value::Bool(_)) {
                    *field = Value::from("(hidden)");
                } else {
                    hide(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "token", "digest", "authorization", "credential"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Role;
    use super::*;

    #[test]
    fn secrets_never_reach_the_log_of_changes() {
        let access = Access { subject: "alice".into(), tenant: TenantId::default(), role: Role::Admin };
        let thing = json!({
            "name": "one", "password": "p", "password_set": true, "auth": { "api_token": "t", "user": "u" },
            "list": [{ "Secret": ["s"] }], "webhook_secret": null,
        });
        let entry = AuditEntry::new(&access, "192.0.2.1", "trunk.create", "one").before(&thing).after(&thing);
        let expected = json!({
            "name": "one", "password": "(hidden)", "password_set": true,
            "auth": { "api_token": "(hidden)", "user": "u" },
            "list": [{ "Secret": "(hidden)" }], "webhook_secret": null,
        });
        assert_eq!(entry.before.as_ref(), Some(&expected));
        assert_eq!(entry.after, Some(expected));
    }
}
