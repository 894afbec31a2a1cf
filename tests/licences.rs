//! Every crate we link has a licence from the list in `deny.toml` and comes from the registry.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_dependency_has_an_allowed_licence() {
    let allowed = allowed_licences();
    let refused: Vec<String> = packages()
        .iter()
        .filter_map(|package| {
            let name = package["name"].as_str().expect("a package has a name");
            match package["license"].as_str() {
                None => Some(format!("{name}: no licence named")),
                Some(text) if Expression::parse(text).is_allowed(&allowed) => None,
                Some(text) => Some(format!("{name}: {text}")),
            }
        })
        .collect();
    assert!(refused.is_empty(), "not in deny.toml's list:\n{}", refused.join("\n"));
}

#[test]
fn every_dependency_comes_from_the_registry_or_this_tree() {
    let strangers: Vec<String> = packages()
        .iter()
        .filter_map(|package| package["source"].as_str())
        .filter(|source| !source.starts_with("registry+https://github.com/rust-lang/crates.io-index"))
        .map(str::to_owned)
        .collect();
    assert!(strangers.is_empty(), "unknown sources: {strangers:?}");
}

#[test]
fn licence_expressions_mean_what_spdx_says() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned(), "A WITH x".to_owned()]);
    for (text, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT AND ISC", true),
        ("(GPL-3.0 OR ISC) AND MIT", true),
        ("MIT AND GPL-3.0 OR ISC", true),
        ("MIT AND (GPL-3.0 OR LGPL-2.1)", false),
        ("A WITH x", true),
        ("A", false),
    ] {
        assert_eq!(Expression::parse(text).is_allowed(&allowed), expected, "{text}");
    }
}

/// An SPDX licence expression; AND binds closer than OR, the old `/` means OR.
enum Expression {
    Licence(String),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Expression {
    fn parse(text: &str) -> Self {
        let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let tokens: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = tokens.as_slice();
        let expression = Self::any(&mut rest);
        assert!(rest.is_empty(), "cannot read the licence expression {text:?}");
        expression
    }

    fn any(rest: &mut &[&str]) -> Self {
        let mut alternatives = vec![Self::all(rest)];
        while let Some((&"OR", tail)) = rest.split_first() {
            *rest = tail;
            alternatives.push(Self::all(rest));
        }
        Self::Any(alternatives)
    }

    fn all(rest: &mut &[&str]) -> Self {
        let mut parts = vec![Self::one(rest)];
        while let Some((&"AND", tail)) = rest.split_first() {
            *rest = tail;
            parts.push(Self::one(rest));
        }
        Self::All(parts)
    }

    fn one(rest: &mut &[&str]) -> Self {
        let (first, tail) = rest.split_first().expect("a licence or a parenthesis");
        *rest = tail;
        if *first == "(" {
            let inner = Self::any(rest);
            let (close, tail) = rest.split_first().expect("a closing parenthesis");
            assert_eq!(*close, ")");
            *rest = tail;
            return inner;
        }
        match rest {
            [with, exception, tail @ ..] if *with == "WITH" => {
                *rest = tail;
                Self::Licence(format!("{first} WITH {exception}"))
            }
            _ => Self::Licence((*first).to_owned()),
        }
    }

    fn is_allowed(&self, allowed: &BTreeSet<String>) -> bool {
        match self {
            Self::Licence(name) => allowed.contains(name),
            Self::All(parts) => parts.iter().all(|part| part.is_allowed(allowed)),
            Self::Any(parts) => parts.iter().any(|part| part.is_allowed(allowed)),
        }
    }
}

fn allowed_licences() -> BTreeSet<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).expect("deny.toml");
    let (_, list) = text.split_once("allow = [").expect("the list of licences");
    let (list, _) = list.split_once(']').expect("the end of the list");
    let licences: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split('"').next().map(str::to_owned))
        .collect();
    assert!(licences.contains("MIT"), "the list could not be read");
    licences
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    metadata["packages"].as_array().expect("packages").clone()
}
