//! The C texts of the programs: compiled by clang, read from its object file, loaded onto tables that are there.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use xdp::bpf::{Code, Program, ProgramKind};

/// Compiles `xdp/bpf/NAME.c` and loads its program. An error says that clang is missing, or cannot do it.
pub(crate) fn load(
    name: &str,
    kind: ProgramKind,
    defines: &[&str],
    maps: &[(&str, BorrowedFd<'_>)],
) -> Result<Program, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf").join(format!("{name}.c"));
    let object = object_file(name);
    let output = Command::new("clang")
        .args([
            "-target",
            "bpf",
            "-O2",
            "-nostdinc",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-variable",
            "-c",
        ])
        .args(defines)
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .output()
        .map_err(|error| format!("clang cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // Without a target for eBPF it cannot do it; any other complaint is about our text.
        assert!(said.contains("target"), "{said}");
        return Err(format!("clang does not compile eBPF: {said}"));
    }
    let bytes = std::fs::read(&object).expect("the object file");
    std::fs::remove_file(&object).expect("it is ours");
    let (slots, places) = read(&bytes, if kind == ProgramKind::Xdp { "xdp" } else { "sk_lookup" });
    let places = places.into_iter().map(|(place, symbol)| {
        let (_, map) = maps.iter().find(|(name, _)| *name == symbol).unwrap_or_else(|| panic!("{symbol}"));
        (place, *map)
    });
    let code = Code::from_slots(slots, places).expect("a program");
    Ok(Program::load("golden", kind, &code).unwrap_or_else(|error| panic!("{name}.c: {error}")))
}

fn object_file(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}.o", std::process::id()))
}

/// The instructions of a section of an ELF64 file, and which of them name which symbol.
fn read(elf: &[u8], wanted: &str) -> (Vec<[u8; 8]>, Vec<(usize, String)>) {
    let number = |at: usize, bytes: usize| {
        elf[at..at + bytes].iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    // Per section: name, type, offset, size, link, info.
    let (table, each, count, names) = (number(40, 8), number(58, 2), number(60, 2), number(62, 2));
    let section = |index: usize| {
        let at = table + index * each;
        [
            number(at, 4),
            number(at + 4, 4),
            number(at + 24, 8),
            number(at + 32, 8),
            number(at + 40, 4),
            number(at + 44, 4),
        ]
    };
    let text = |table: usize, offset: usize| {
        let bytes = &elf[section(table)[2] + offset..];
        let end = bytes.iter().position(|byte| *byte == 0).expect("a string");
        String::from_utf8(bytes[..end].to_vec()).expect("a name")
    };
    let index = (0..count).find(|index| text(names, section(*index)[0]) == wanted).expect("the section");
    let [_, _, offset, size, ..] = section(index);
    let slots = elf[offset..offset + size].chunks_exact(8).map(|slot| slot.try_into().expect("8")).collect();
    let relocations = (0..count).map(section).find(|section| section[1] == 9 && section[5] == index);
    let [_, _, offset, size, symbols, _] = relocations.expect("maps are named");
    let [_, _, symbols_at, _, strings, _] = section(symbols);
    let places = (offset..offset + size)
        .step_by(16)
        .map(|at| {
            let symbol = number(at + 12, 4);
            (number(at, 8) / 8, text(strings, number(symbols_at + symbol * 24, 4)))
        })
        .collect();
    (slots, places)
}
