//! The layers of a configuration: defaults, file, environment, flags, each over the one before.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Value;

use super::document::{Document, display_path};
use super::environment;
use super::error::{ConfigError, Origin};
use super::gateway;
use super::schema::{Kind, kind_at};
use super::sections::Config;

/// Where a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file, if any.
    pub file: Option<PathBuf>,
    /// The environment: names and values.
    pub environment: Vec<(String, String)>,
    /// The flags that were given.
    pub flags: Vec<Setting>,
}

/// One key set from outside the file.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The flag, such as `--sip-bind`.
    pub flag: &'static str,
    /// The key, such as `sip.bind`.
    pub key: &'static str,
    /// The values; more than one only for a list.
    pub values: Vec<String>,
}

/// A configuration and how it came about.
#[derive(Debug)]
pub struct Loaded {
    /// The merged configuration.
    pub config: Config,
    /// What the operator should know but what does not keep us from starting.
    pub warnings: Vec<String>,
    origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Where the value of `key` (such as `routes.0.app`) came from: its own origin, or that of the nearest
    /// table around it.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return origin.clone();
            }
            match key.rsplit_once('.') {
                Some((parent, _)) => key = parent,
                None => return Origin::Default,
            }
        }
    }
}

/// Reads and merges all layers.
///
/// # Errors
/// Unknown keys, values of the wrong form, an unreadable file: each with its place and what to write
/// instead.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut layers = Layers { table: toml::Table::new(), origins: BTreeMap::new() };
    let mut errors = ConfigError::default();
    let mut warnings = Vec::new();
    if let Some(path) = &sources.file {
        let document = Document::read(path)?;
        layers.table = document.table;
        for (key, line) in document.lines {
            layers.origins.insert(key, Origin::File(document.path.clone(), line));
        }
    }

    let has_calls = ["agents", "routes"].iter().any(|key| layers.table.contains_key(*key));
    if let Some(table) = gateway::voice_live(&sources.environment).filter(|_| !has_calls) {
        for key in table.keys() {
            layers.origins.insert(key.clone(), Origin::Environment(gateway::AZURE_ENDPOINT.to_owned()));
        }
        layers.table.extend(table);
    }
    match gateway::settings(&sources.environment) {
        Ok(settings) => {
            for (name, key, value) in settings {
                layers.set(Origin::Environment(name.to_owned()), &path_of(key), &[value], &mut errors);
            }
        }
        Err(error) => errors.problems.extend(error.problems),
    }
    let mut variables: Vec<_> =
        sources.environment.iter().filter(|(name, _)| name.starts_with(environment::PREFIX)).collect();
    variables.sort();
    let mut unknown = Vec::new();
    for (name, value) in variables {
        match environment::key_of(name, &layers.table) {
            Some(path) => {
                layers.set(
                    Origin::Environment(name.clone()),
                    &path,
                    std::slice::from_ref(value),
                    &mut errors,
                );
            }
            None if [environment::CONFIG_FILE, environment::SECRET_KEY].contains(&name.as_str()) => {}
            None => unknown.push(name),
        }
    }
    for setting in &sources.flags {
        layers.set(
            Origin::Flag(setting.flag.to_owned()),
            &path_of(setting.key),
            &setting.values,
            &mut errors,
        );
    }

    if !errors.problems.is_empty() {
        return Err(errors);
    }
    let config = Config::deserialize(Value::Table(layers.table))
        .map_err(|error| ConfigError::one(Origin::Default, error.message()))?;
    // Not an error: orchestrators put variables of their own beside ours (`SIDETONE_SERVICE_HOST`).
    for name in unknown {
        let holds_token = config
            .agents
            .values()
            .flat_map(|agent| [&agent.auth_token_env, &agent.signing_token_env])
            .any(|variable| variable.as_ref() == Some(name));
        if !holds_token {
            warnings.push(environment::unknown_variable(name));
        }
    }
    Ok(Loaded { config, warnings, origins: layers.origins })
}

fn path_of(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

struct Layers {
    table: toml::Table,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    /// Sets one key and looks at once whether the configuration still makes sense, so that the error names
    /// whoever set it.
    fn set(&mut self, origin: Origin, path: &[String], values: &[String], errors: &mut ConfigError) {
        let borrowed: Vec<&str> = path.iter().map(String::as_str).collect();
        let value = match typed(&borrowed, values) {
            Ok(value) => value,
            Err(message) => return errors.push(origin, format!("{}: {message}", display_path(&borrowed))),
        };
        let mut table = self.table.clone();
        if !insert(&mut table, path, value) {
            let message = format!("{}: there is no such entry to change", display_path(&borrowed));
            return errors.push(origin, message);
        }
        match Config::deserialize(Value::Table(table.clone())) {
            Ok(_) => {
                self.table = table;
                let key = path.join(".");
                let below = format!("{key}.");
                self.origins.retain(|known, _| !known.starts_with(&below));
                self.origins.insert(key, origin);
            }
            Err(error) => {
                let message = error.message().trim().replace('\n', "; ");
                errors.push(origin, format!("{}: {message}", display_path(&borrowed)));
            }
        }
    }
}

/// The TOML value that text from outside stands for, by the kind of its key.
fn typed(path: &[&str], values: &[String]) -> Result<Value, String> {
    let single = || match values {
        [value] => Ok(value.clone()),
        _ => Err("takes one value".to_owned()),
    };
    match kind_at::<Config>(path) {
        Some(Kind::Bool) => match single()?.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Ok(Value::Boolean(false)),
            other => Err(format!("`{other}` is neither true nor false")),
        },
        Some(Kind::Integer) => {
            let text = single()?;
            text.trim().parse().map(Value::Integer).map_err(|_| format!("`{text}` is not a whole number"))
        }
        Some(Kind::List) => list(path, values),
        Some(Kind::Map | Kind::Table(_)) => inline(&single()?),
        _ => Ok(Value::String(single()?)),
    }
}

/// A list: one value per flag, or one text with TOML (`["a", "b"]`) or commas.
fn list(path: &[&str], values: &[String]) -> Result<Value, String> {
    if let [text] = values
        && text.trim_start().starts_with('[')
        && let Ok(array @ Value::Array(_)) = inline(text)
    {
        return Ok(array);
    }
    let mut element = path.to_vec();
    element.push("[]");
    if matches!(kind_at::<Config>(&element), Some(Kind::Table(_))) {
        return Err(
            "write a list of tables in TOML, such as `[{ match = \"echo\", app = \"echo\" }]`".to_owned()
        );
    }
    let parts =
        values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| typed(&element, &[part.to_owned()])).collect::<Result<_, _>>().map(Value::Array)
}

fn inline(text: &str) -> Result<Value, String> {
    let document: Result<toml::Table, _> = toml::from_str(&format!("value = {text}"));
    match document {
        Ok(mut table) if table.len() == 1 => {
            table.remove("value").ok_or_else(|| format!("`{text}` is not a TOML value"))
        }
        _ => Err(format!("`{text}` is not a TOML value, such as `{{ name = \"value\" }}`")),
    }
}

/// Puts `value` at `path`, making tables on the way; false when a list on the way has no such element.
fn insert(table: &mut toml::Table, path: &[String], value: Value) -> bool {
    let Some((key, rest)) = path.split_first() else { return false };
    if rest.is_empty() {
        table.insert(key.clone(), value);
        return true;
    }
    match table.entry(key.clone()).or_insert_with(|| Value::Table(toml::Table::new())) {
        Value::Table(inner) => insert(inner, rest, value),
        Value::Array(items) => {
            let Some((index, rest)) = rest.split_first() else { return false };
            let item = index.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            item.and_then(Value::as_table_mut).is_some_and(|inner| insert(inner, rest, value))
        }
        _ => false,
    }
}
