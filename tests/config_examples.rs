//! The manual and the examples hold what they promise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use signaling::config::{Config, Kind, Sources, all_keys, load, plan};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Keys and defaults of the tables in docs/configuration.md.
fn documented() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("docs/configuration.md")).expect("the manual");
    let (_, keys) = text.split_once("## Keys").expect("a section with keys");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let key = cells.next()?.trim_end_matches('`').to_owned();
        Some((key, cells.next()?.trim_matches('`').to_owned()))
    };
    keys.lines().filter_map(row).collect()
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let documented = documented();
    let known: BTreeMap<String, Kind> = all_keys::<Config>().into_iter().collect();
    let missing: Vec<_> = known.keys().filter(|key| !documented.contains_key(*key)).collect();
    assert!(missing.is_empty(), "not in docs/configuration.md: {missing:?}");
    let stale: Vec<_> = documented.keys().filter(|key| !known.contains_key(*key)).collect();
    assert!(stale.is_empty(), "in docs/configuration.md but not a key: {stale:?}");
}

#[test]
fn documented_defaults_are_the_defaults() {
    let with = |variables: Vec<(String, String)>| {
        let sources = Sources { environment: variables, ..Sources::default() };
        format!("{:?}", load(&sources).expect("a good configuration").config)
    };
    // An agent and a route, so that their keys have somewhere to stand.
    let base = vec![
        ("SIDETONE_AGENTS_NAME_URL".to_owned(), String::new()),
        ("SIDETONE_ROUTES".to_owned(), "[{}]".to_owned()),
    ];
    let expected = with(base.clone());
    let mut checked = 0;
    for (key, default) in documented() {
        // A route's keys have no default of their own: they depend on its app.
        if default == "none" || key.starts_with("routes[]") {
            continue;
        }
        let default = default.replace("VERSION", env!("CARGO_PKG_VERSION"));
        let variable = format!("SIDETONE_{}", key.replace('.', "_").to_ascii_uppercase());
        let mut variables = base.clone();
        variables.push((variable, default.trim_matches('"').to_owned()));
        assert_eq!(with(variables), expected, "{key}: the manual says {default}");
        checked += 1;
    }
    assert!(checked > 30, "only {checked} defaults were found in the manual");
}

fn examples() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(root().join("deploy/examples")).expect("the examples");
    let files = folder.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    assert!(files.len() >= 14, "{files:?}");
    files
}

/// What the examples expect in the environment.
fn environment() -> Vec<(String, String)> {
    let names = [
        "AGENT_TOKEN",
        "AZURE_VOICELIVE_API_KEY",
        "DEEPGRAM_API_KEY",
        "ELEVENLABS_API_KEY",
        "GEMINI_API_KEY",
        "OPENAI_API_KEY",
    ];
    names.map(|name| (name.to_owned(), "example".to_owned())).into()
}

#[test]
fn every_example_is_accepted() {
    for file in examples() {
        let sources = Sources { file: Some(file.clone()), environment: environment(), flags: Vec::new() };
        let loaded = load(&sources).unwrap_or_else(|error| panic!("{error}"));
        let plan = plan(&loaded, &environment()).unwrap_or_else(|error| panic!("{error}"));
        assert!(plan.warnings.is_empty(), "{}: {:?}", file.display(), plan.warnings);
    }
}

#[test]
fn demo_example_is_what_runs_without_a_file() {
    let file = root().join("deploy/examples/demo.toml");
    let sources = Sources { file: Some(file), ..Sources::default() };
    let written = plan(&load(&sources).expect("good"), &[]).expect("a plan");
    let implied = plan(&load(&Sources::default()).expect("good"), &[]).expect("a plan");
    assert_eq!(written.data_dir, root().join("deploy/examples/sidetone-data"));
    let without_folder = |plan: &signaling::config::Plan| {
        let mut plan = plan.clone();
        plan.data_dir = PathBuf::new();
        format!("{plan:?}")
    };
    assert_eq!(without_folder(&written), without_folder(&implied));
}

#[test]
fn configurations_in_the_manuals_are_accepted() {
    let mut seen = 0;
    let pages =
        ["README.md", "user-guide.md", "operations.md", "configuration.md", "ng.md", "tuning.md", "tools.md"];
    for page in pages {
        let page = if page == "README.md" { page.to_owned() } else { format!("docs/{page}") };
        let text = std::fs::read_to_string(root().join(&page)).expect("a page");
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("sidetone.toml");
            std::fs::write(&file, block).expect("written");
            let sources = Sources { file: Some(file), ..Sources::default() };
            let loaded = load(&sources).unwrap_or_else(|error| panic!("{page}: {error}\n{block}"));
            // The others name files and variables of their readers.
            if page == "README.md" {
                plan(&loaded, &[]).unwrap_or_else(|error| panic!("{page}: {error}\n{block}"));
            }
            seen += 1;
        }
    }
    assert!(seen > 0, "no page has a configuration");
}
