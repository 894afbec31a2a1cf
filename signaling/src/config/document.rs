//! The configuration file as text: lines, unknown keys, paths relative to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::schema::{Kind, kind_at};
use super::sections::Config;

/// A configuration file that has been read and checked key by key.
pub(super) struct Document {
    pub(super) table: toml::Table,
    /// The line of every key that holds a value, such as `routes.0.app`.
    pub(super) lines: BTreeMap<String, usize>,
    pub(super) path: PathBuf,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let whole = || Origin::File(path.to_owned(), 0);
        let text = match std::fs::read(path) {
            Ok(bytes) if bytes.len() > LARGEST_BYTES => {
                return Err(ConfigError::one(whole(), "is larger than 1 MiB; that is no configuration file"));
            }
            Ok(bytes) => {
                String::from_utf8(bytes).map_err(|_| ConfigError::one(whole(), "is not UTF-8 text"))?
            }
            Err(error) => return Err(ConfigError::one(whole(), format!("cannot be read: {error}"))),
        };
        Self::parse(path, &text)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let line_at =
            |offset: usize| 1 + text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count();
        let at = |line: usize| Origin::File(path.to_owned(), line);
        let located = |error: &toml::de::Error| {
            let line = error.span().map_or(0, |span| line_at(span.start));
            ConfigError::one(at(line), error.message().trim().replace('\n', "; "))
        };

        let spanned = DeTable::parse(text).map_err(|error| located(&error))?;
        let mut walk = Walk { line_at: &line_at, lines: BTreeMap::new(), unknown: Vec::new() };
        walk.table(&mut Vec::new(), spanned.get_ref());
        if !walk.unknown.is_empty() {
            let mut errors = ConfigError::default();
            walk.unknown.sort();
            for (line, message) in walk.unknown {
                errors.push(at(line), message);
            }
            return Err(errors);
        }
        // The whole file at once: this is where a wrong value is found with its line.
        toml::from_str::<Config>(text).map_err(|error| {
            let mut located = located(&error);
            for problem in &mut located.problems {
                if let Origin::File(_, line) = &problem.origin
                    && let Some(key) = key_on(&walk.lines, *line)
                {
                    problem.message = format!("{key}: {}", problem.message);
                }
            }
            located
        })?;
        let mut table: toml::Table = toml::from_str(text).map_err(|error| located(&error))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        rebase(&mut table, &mut Vec::new(), folder);
        Ok(Self { table, lines: walk.lines, path: path.to_owned() })
    }
}

const LARGEST_BYTES: usize = 1 << 20;

struct Walk<'a> {
    line_at: &'a dyn Fn(usize) -> usize,
    lines: BTreeMap<String, usize>,
    unknown: Vec<(usize, String)>,
}

impl Walk<'_> {
    fn table(&mut self, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            let borrowed: Vec<&str> = path.iter().map(String::as_str).collect();
            if kind_at::<Config>(&borrowed).is_none() {
                let line = (self.line_at)(key.span().start);
                self.unknown.push((line, unknown_key(&borrowed)));
            } else {
                self.value(path, (self.line_at)(key.span().start), value);
            }
            path.pop();
        }
    }

    fn value(&mut self, path: &mut Vec<String>, line: usize, value: &Spanned<DeValue<'_>>) {
        self.lines.insert(path.join("."), line);
        match value.get_ref() {
            DeValue::Table(table) => self.table(path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    self.value(path, (self.line_at)(item.span().start), item);
                    path.pop();
                }
            }
            _ => {}
        }
    }
}

/// The key that is set on a line.
fn key_on(lines: &BTreeMap<String, usize>, line: usize) -> Option<String> {
    let mut keys =
        lines.iter().filter(|(_, at)| **at == line).map(|(key, _)| key.split('.').collect::<Vec<_>>());
    let is_index = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
    keys.find(|key| !key.last().is_some_and(is_index)).map(|key| display_path(&key))
}

/// "unknown key `sip.bnd`; did you mean `sip.bind`?"
pub(super) fn unknown_key(path: &[&str]) -> String {
    let (last, parent) = path.split_last().unwrap_or((&"", &[]));
    let shown = display_path(path);
    match nearest_key(parent, last) {
        Some(nearest) => format!("unknown key `{shown}`; did you mean `{nearest}`?"),
        None => match kind_at::<Config>(parent) {
            Some(Kind::Table(fields)) => {
                format!("unknown key `{shown}`; known here: {}", fields.join(", "))
            }
            _ => format!("unknown key `{shown}`"),
        },
    }
}

/// The known key most like `last`: in the same table, else of the same name anywhere.
fn nearest_key(parent: &[&str], last: &str) -> Option<String> {
    let closest = |candidates: &mut dyn Iterator<Item = String>| {
        candidates
            .map(|candidate| {
                let name = candidate.rsplit('.').next().unwrap_or_default();
                let mut score = strsim::jaro_winkler(last, name);
                // `ulr` for `url`.
                if strsim::damerau_levenshtein(last, name) <= 1 + last.len() / 6 {
                    score = score.max(0.85);
                }
                // `via_addr` for `via_address`.
                if name.contains(last) || last.contains(name) {
                    score = score.max(0.9);
                }
                (candidate.clone(), score)
            })
            .filter(|(_, score)| *score >= 0.8)
            .max_by(|one, two| one.1.total_cmp(&two.1))
            .map(|(candidate, _)| candidate)
    };
    if let Some(Kind::Table(fields)) = kind_at::<Config>(parent) {
        let mut siblings = fields.iter().map(|field| {
            let mut path = parent.to_vec();
            path.push(field);
            display_path(&path)
        });
        if let Some(found) = closest(&mut siblings) {
            return Some(found);
        }
    }
    let everywhere = super::schema::all_keys::<Config>();
    everywhere.into_iter().map(|(key, _)| key).find(|key| key.rsplit('.').next() == Some(last))
}

/// `routes.0.app` as people write it: `routes[0].app`.
pub(super) fn display_path(path: &[&str]) -> String {
    let mut shown = String::new();
    for part in path {
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            shown.push('[');
            shown.push_str(part);
            shown.push(']');
        } else {
            if !shown.is_empty() {
                shown.push('.');
            }
            shown.push_str(part);
        }
    }
    shown
}

/// Makes the paths in `table` relative to the file's folder.
fn rebase(table: &mut toml::Table, path: &mut Vec<String>, folder: &Path) {
    for (key, value) in table.iter_mut() {
        path.push(key.clone());
        rebase_value(value, path, folder);
        path.pop();
    }
}

fn rebase_value(value: &mut toml::Value, path: &mut Vec<String>, folder: &Path) {
    match value {
        toml::Value::Table(table) => rebase(table, path, folder),
        toml::Value::Array(items) => {
            for item in items {
                path.push("[]".to_owned());
                rebase_value(item, path, folder);
                path.pop();
            }
        }
        toml::Value::String(text) => {
            let borrowed: Vec<&str> = path.iter().map(String::as_str).collect();
            if kind_at::<Config>(&borrowed) == Some(Kind::Path)
                && let Some(joined) = folder.join(&*text).to_str()
            {
                *text = joined.to_owned();
            }
        }
        _ => {}
    }
}
