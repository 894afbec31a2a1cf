//! `SIDETONE_SECTION_KEY` variables: every key of the configuration, by its path in capitals.
//!
//! `sip.via_address` is `SIDETONE_SIP_VIA_ADDRESS`, `agents.support.url` is `SIDETONE_AGENTS_SUPPORT_URL`,
//! the app of the first route is `SIDETONE_ROUTES_0_APP`. Parts may be joined by `_` or by `__`.

use toml::{Table, Value};

use super::schema::{Kind, all_keys, kind_at};
use super::sections::Config;

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "SIDETONE_";

/// Names the configuration file itself.
pub const CONFIG_FILE: &str = "SIDETONE_CONFIG";

/// Holds the key that passwords in the store are sealed with.
pub(super) const SECRET_KEY: &str = "SIDETONE_SECRET_KEY";

/// The path of the key that a variable sets. Names that operators chose are looked up in `table` first.
pub(super) fn key_of(variable: &str, table: &Table) -> Option<Vec<String>> {
    let rest = variable.strip_prefix(PREFIX)?;
    let mut path = Vec::new();
    find(&mut path, rest, Some(table)).then_some(path)
}

fn find(path: &mut Vec<String>, rest: &str, table: Option<&Table>) -> bool {
    let borrowed: Vec<&str> = path.iter().map(String::as_str).collect();
    match kind_at::<Config>(&borrowed) {
        Some(Kind::Table(fields)) => {
            fields.iter().any(|field| descend(path, field, &field.to_ascii_uppercase(), rest, table))
        }
        Some(Kind::Map) => {
            let existing = table.into_iter().flat_map(Table::keys);
            for name in existing {
                if descend(path, name, &spelled(name), rest, table) {
                    return true;
                }
            }
            // A new name: everything up to a known key below it, the longest name first.
            let splits = rest.rmatch_indices('_').map(|(at, _)| at);
            splits.into_iter().any(|at| {
                let name = rest[..at].trim_end_matches('_').to_ascii_lowercase();
                !name.is_empty() && descend(path, &name, &rest[..at], rest, table)
            })
        }
        Some(Kind::List) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            digits > 0 && descend(path, &rest[..digits], &rest[..digits], rest, None)
        }
        _ => false,
    }
}

/// Tries `key`, spelled `spelling` in the variable, as the next part of the path.
fn descend(path: &mut Vec<String>, key: &str, spelling: &str, rest: &str, table: Option<&Table>) -> bool {
    let Some(tail) = rest.strip_prefix(spelling) else { return false };
    path.push(key.to_owned());
    let borrowed: Vec<&str> = path.iter().map(String::as_str).collect();
    if tail.is_empty() && kind_at::<Config>(&borrowed).is_some_and(|kind| !matches!(kind, Kind::Table(_))) {
        return true;
    }
    if let Some(tail) = tail.strip_prefix("__").or_else(|| tail.strip_prefix('_')) {
        let below = table.and_then(|table| table.get(key)).and_then(Value::as_table);
        if find(path, tail, below) {
            return true;
        }
    }
    path.pop();
    false
}

fn spelled(name: &str) -> String {
    name.to_ascii_uppercase().replace(|character: char| !character.is_ascii_alphanumeric(), "_")
}

/// "environment variable SIDETONE_SIP_BND is not known; did you mean SIDETONE_SIP_BIND?"
pub(super) fn unknown_variable(name: &str) -> String {
    let known = all_keys::<Config>().into_iter().map(|(key, _)| {
        format!("{PREFIX}{}", key.replace("[]", ".0").replace('.', "_").to_ascii_uppercase())
    });
    let nearest = known
        .map(|known| (strsim::jaro_winkler(name, &known), known))
        .filter(|(score, _)| *score >= 0.93)
        .max_by(|one, two| one.0.total_cmp(&two.0));
    match nearest {
        Some((_, nearest)) => {
            format!("environment variable {name} is not known and has no effect; did you mean {nearest}?")
        }
        None => format!("environment variable {name} is not known and has no effect"),
    }
}
