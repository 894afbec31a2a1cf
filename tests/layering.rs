//! The import order of ARCHITECTURE.md as tables: left may use right, never back. Change a table only
//! together with ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates a crate may depend on, tests included.
const CRATES: &[(&str, &[&str])] = &[
    // Of xdp only facts about the machine and the placing of threads.
    ("sidetone", &["sidetone-signaling", "sidetone-engine", "sidetone-xdp"]),
    // Of xdp only the counters, see PLACES.
    ("sidetone-signaling", &["sidetone-engine", "sidetone-xdp"]),
    ("sidetone-engine", &["sidetone-xdp"]),
    ("sidetone-xdp", &[]),
    ("sidetone-tools", &["sidetone-signaling", "sidetone-engine", "sidetone-xdp"]),
];

/// The modules of one crate, from the top layer to the bottom. A module may use its own layer (without
/// cycles) and the ones below. `data` is used by all and may name what it carries.
struct Layers {
    source: &'static str,
    layers: &'static [&'static [&'static str]],
    data: &'static [&'static str],
}

/// Plain data and errors that one layer defines and another carries.
const CARRIED: &[&str] =
    &["crate::stream::PlayoutReport", "crate::engine::StartError", "crate::apps::AppConfig"];

const LAYERS: &[Layers] = &[
    Layers {
        source: "engine/src",
        layers: &[
            &["engine"],
            &["worker"],
            &["stream", "relay", "mixer", "player", "recorder", "ai"],
            &["jitter", "dtmf", "source"],
            &["rtp", "srtp", "codec", "dsp", "wav"],
            &["simd"],
        ],
        data: &["command", "event", "config", "time"],
    },
    Layers {
        source: "signaling/src",
        layers: &[
            &["server"],
            &["config"],
            &["asterisk"],
            &["api", "ng"],
            &["apps", "sms"],
            &["trunk", "routing", "registrar", "event"],
            &["record", "access", "exchange"],
            &["call"],
            &["route"],
            &["media", "store"],
            &["sdp", "sip"],
            &["telemetry"],
            &["model"],
        ],
        data: &[],
    },
    Layers {
        source: "xdp/src",
        layers: &[
            &["netem", "pcap"],
            &["af_xdp", "sk_lookup", "io_uring", "udp", "loopback"],
            &["next_hop", "host"],
            &["program", "socket", "port_socket"],
            &["bpf", "ring", "umem", "wire", "netlink", "doorbell", "thread"],
            &["sys"],
            &["counters"],
        ],
        data: &["flow"],
    },
];

/// Words that only some files may hold: (where, word, the files or folders that may, why).
const PLACES: &[(&str, &str, &[&str], &str)] = &[
    (
        "engine/src",
        "xdp::",
        &["engine/src/worker", "engine/src/engine", "engine/src/lib.rs"],
        "only the worker uses xdp",
    ),
    ("signaling/src/sdp", "sip::", &[], "SDP knows nothing of SIP"),
    ("signaling/src", "xdp::", &[], "signaling knows no packets"),
    ("signaling/src", "engine::Engine", &["signaling/src/media"], "only media talks to the engine"),
    ("signaling/src", "engine::engine", &["signaling/src/media"], "only media talks to the engine"),
    ("signaling/src", "engine::command::Command", &["signaling/src/media"], "only media talks to the engine"),
    ("signaling/src", "rsipstack", &["signaling/src/sip"], "the SIP stack is behind signaling/src/sip"),
    (
        "signaling/src",
        "UdpSocket",
        // Media binds, and sends nothing, to see which addresses are local.
        &["signaling/src/sip", "signaling/src/ng", "signaling/src/media"],
        "only transports do network input and output",
    ),
    (
        "signaling/src",
        "TcpListener",
        &[
            "signaling/src/sip",
            "signaling/src/api",
            "signaling/src/asterisk",
            "signaling/src/ng",
            "signaling/src/apps",
        ],
        "only transports do network input and output",
    ),
];

/// What may be used from a crate in spite of [`PLACES`]: names that are plain data or counters.
const EVERYWHERE: &[&str] = &["xdp::counters!", "xdp::Counter", "xdp::Doorbell", "xdp::thread"];

/// The only files that may hold `unsafe`.
const UNSAFE_FILES: &[&str] = &[
    "xdp/src/sys/bpf.rs",
    "xdp/src/sys/ethtool.rs",
    "xdp/src/sys/memory.rs",
    "xdp/src/sys/mmsg.rs",
    "xdp/src/sys/raw.rs",
    "xdp/src/sys/schedule.rs",
    "xdp/src/sys/uring.rs",
    "xdp/src/sys/xsk.rs",
    "xdp/src/ring.rs",
    "xdp/src/umem.rs",
    // The macros by which code for one instruction set is entered.
    "engine/src/simd/door.rs",
    // The counting allocator of the zero-allocation tests.
    "engine/tests/counting/mod.rs",
    // Calls into the C libraries that the kernels are compared with; the product links none of them.
    "benches/kernels/src/peers.rs",
];

const LONGEST_FILE_LINES: usize = 600;

#[test]
fn crates_depend_in_one_direction_only() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let ours: BTreeMap<&str, &[&str]> = CRATES.iter().copied().collect();
    let packages = metadata["packages"].as_array().expect("packages");
    assert_eq!(packages.len(), ours.len(), "a crate is missing in the table of this test");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let allowed = ours.get(name).unwrap_or_else(|| panic!("{name} is not in the table of this test"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            // Benches may reach below what the product itself uses.
            let is_bench = name == "sidetone" && dependency["kind"] == "dev";
            let dependency = dependency["name"].as_str().expect("a name");
            let may = allowed.contains(&dependency) || is_bench && dependency == "sidetone-xdp";
            assert!(!ours.contains_key(dependency) || may, "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn modules_import_downwards_only() {
    let mut wrong = Vec::new();
    for table in LAYERS {
        let rank: BTreeMap<&str, usize> = table
            .layers
            .iter()
            .rev()
            .enumerate()
            .flat_map(|(rank, modules)| modules.iter().map(move |module| (*module, rank)))
            .collect();
        let mut edges: BTreeSet<(String, String)> = BTreeSet::new();
        for file in rust_files(table.source) {
            let relative = file.strip_prefix(root().join(table.source)).expect("below the source folder");
            let module = module_path(relative);
            let Some(from) = module.first() else { continue };
            if !rank.contains_key(from.as_str()) && !table.data.contains(&from.as_str()) {
                wrong.push(format!("{}: module `{from}` is not in the table of this test", shown(&file)));
                continue;
            }
            let code = CARRIED.iter().fold(product_code(&file), |code, item| code.replace(item, ""));
            for to in imports(&code, &module) {
                if to == *from || table.data.contains(&to.as_str()) {
                    continue;
                }
                let Some(&to_rank) = rank.get(to.as_str()) else { continue };
                // Plain data may name the objects it carries, but nothing above them.
                let highest = rank.get(from.as_str()).copied().unwrap_or(table.layers.len() - 3);
                if to_rank > highest {
                    wrong.push(format!("{}: `{from}` must not use `{to}`", shown(&file)));
                }
                if rank.get(from.as_str()) == Some(&to_rank) {
                    edges.insert((from.clone(), to));
                }
            }
        }
        wrong.extend(
            edges
                .iter()
                .filter(|(from, to)| reaches(&edges, to, from))
                .map(|(from, to)| format!("{}: `{from}` and `{to}` use each other", table.source)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn words_stay_in_their_places() {
    let mut wrong = Vec::new();
    for (folder, word, allowed, why) in PLACES {
        for file in rust_files(folder) {
            let name = shown(&file);
            if allowed.iter().any(|place| name.starts_with(place)) {
                continue;
            }
            let code = EVERYWHERE.iter().fold(product_code(&file), |code, free| code.replace(free, ""));
            if code.match_indices(word).any(|(at, _)| is_word_start(&code, at)) {
                wrong.push(format!("{name}: `{word}`: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_is_confined_to_its_files() {
    let wrong: Vec<String> = all_files()
        .into_iter()
        .filter(|file| !UNSAFE_FILES.contains(&shown(file).as_str()))
        .filter(|file| {
            let code = without_comments_and_strings(&read(file));
            code.match_indices("unsafe").any(|(at, word)| {
                is_word_start(&code, at)
                    && !code[at + word.len()..]
                        .starts_with(|next: char| next == '_' || next.is_alphanumeric())
            })
        })
        .map(|file| shown(&file))
        .collect();
    assert!(wrong.is_empty(), "unsafe outside its files: {wrong:?}");
}

#[test]
fn files_stay_short() {
    let long: Vec<String> = all_files()
        .into_iter()
        .map(|file| (read(&file).lines().count(), file))
        .filter(|(lines, _)| *lines > LONGEST_FILE_LINES)
        .map(|(lines, file)| format!("{}: {lines} lines", shown(&file)))
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST_FILE_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn imports_are_found_in_every_form() {
    let module = vec!["stream".to_owned(), "receive".to_owned()];
    let code = without_comments_and_strings(
        "use crate::{jitter::Buffer, rtp::{Packet, rtcp}, Doorbell};\n// crate::worker\n\
         fn f() -> crate::codec::Pcm { super::super::dsp::mix(\"crate::engine\") } use super::send;\n\
         pub(crate) use self::inner::X; let c = '\"'; /* crate::simd */ crate::time::now();",
    );
    let found: Vec<String> = imports(&code, &module).into_iter().collect();
    assert_eq!(found, ["codec", "dsp", "jitter", "rtp", "stream", "time"]);
}

fn reaches(edges: &BTreeSet<(String, String)>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            open.extend(edges.iter().filter(|(start, _)| start == module).map(|(_, end)| end.as_str()));
        }
    }
    false
}

/// `stream/receive.rs` is `[stream, receive]`, `stream/mod.rs` is `[stream]`, `lib.rs` is the root.
fn module_path(relative: &Path) -> Vec<String> {
    let mut path: Vec<String> = relative
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        path.pop();
    }
    path
}

/// The top modules of this crate that `code` names by `crate::` or `super::`.
fn imports(code: &str, module: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| is_word_start(code, *at)) {
        found.extend(first_segments(&code[at + "crate::".len()..]));
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| is_word_start(code, *at)) {
        if code[..at].ends_with("super::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut depth = module.len();
        while let Some(tail) = rest.strip_prefix("super::") {
            rest = tail;
            depth = depth.saturating_sub(1);
        }
        match module[..depth].first() {
            Some(top) => found.insert(top.clone()),
            None => {
                found.extend(first_segments(rest));
                true
            }
        };
    }
    found.retain(|name| name.starts_with(|first: char| first.is_ascii_lowercase()));
    found
}

/// The first path segments after `crate::`, also of a group in braces.
fn first_segments(rest: &str) -> Vec<String> {
    let identifier = |text: &str| -> String {
        text.trim_start().chars().take_while(|next| *next == '_' || next.is_alphanumeric()).collect()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![identifier(rest)] };
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for next in group.chars() {
        match next {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("never empty").push(next);
    }
    parts.iter().map(|part| identifier(part)).filter(|name| !name.is_empty()).collect()
}

fn is_word_start(code: &str, at: usize) -> bool {
    !code[..at].ends_with(|before: char| before == '_' || before.is_alphanumeric())
}

/// The code of a file up to its test module.
fn product_code(file: &Path) -> String {
    let code = without_comments_and_strings(&read(file));
    let end = code.find("#[cfg(test)]\nmod ").unwrap_or(code.len());
    code[..end].to_owned()
}

/// Comments, strings and character literals become spaces.
fn without_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with('"') {
            quoted_length(rest, '"')
        } else if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') && rest.starts_with('\'') {
            quoted_length(rest, '\'')
        } else {
            0
        };
        if skipped > 0 {
            code.push(' ');
            at += skipped;
        } else {
            let next = rest.chars().next().expect("not at the end");
            code.push(next);
            at += next.len_utf8();
        }
    }
    code
}

fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, next) in text.char_indices().skip(1) {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if next == quote => return at + next.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn all_files() -> Vec<PathBuf> {
    ["src", "xdp", "engine", "signaling", "tools", "benches", "tests"]
        .into_iter()
        .flat_map(rust_files)
        .collect()
}

/// All Rust files below a folder of the project, `tests.rs` left out in product folders; none if it is not there.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(path) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&path) else { continue };
        for entry in entries.map(|entry| entry.expect("a readable folder").path()) {
            // What tests do is their own affair, in a file or in a folder.
            let of_tests = folder.contains("/src") && entry.file_stem().is_some_and(|stem| stem == "tests");
            if entry.is_dir() {
                if !entry.ends_with("target") && !of_tests {
                    open.push(entry);
                }
            } else if entry.extension().is_some_and(|extension| extension == "rs") && !of_tests {
                files.push(entry);
            }
        }
    }
    files.sort();
    files
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
