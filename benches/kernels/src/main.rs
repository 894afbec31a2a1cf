//! `bench-kernels`: right results first, then ours and theirs in turn; see docs/performance.md.

use std::process::{Command, ExitCode, Stdio};

use engine::simd;
use kernels_bench::pair::Pair;
use kernels_bench::{all_pairs, quality, report};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("bench-kernels: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(path) = &options.quality {
        return match quality::write(path) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("bench-kernels: {path}: {why}");
                ExitCode::FAILURE
            }
        };
    }
    if let Some(folder) = &options.talk_off {
        return match quality::talk_off::run(folder.as_ref()) {
            Ok(table) => {
                println!("{table}");
                ExitCode::SUCCESS
            }
            Err(why) => {
                eprintln!("bench-kernels: {why}");
                ExitCode::FAILURE
            }
        };
    }
    // Before anything has asked for a table.
    if let Some(Err(why)) = options.table.as_deref().map(simd::select) {
        eprintln!("bench-kernels: {why}");
        return ExitCode::from(2);
    }
    let mut pairs = all_pairs();
    pairs.retain(|pair| {
        options.names.is_empty() || options.names.iter().any(|name| pair.name.starts_with(name))
    });
    if options.criterion {
        report::criterion(pairs);
        return ExitCode::SUCCESS;
    }
    if let Some(table) = &options.table {
        return ours_by(table, pairs, options.rounds);
    }
    let names: Vec<_> = pairs.iter().filter(|pair| pair.uses_kernels).map(|pair| pair.name).collect();
    let mut outcomes: Vec<_> = pairs
        .into_iter()
        .map(|pair| {
            let outcome = pair.run(options.rounds);
            report::print(&outcome);
            outcome
        })
        .collect();
    let tables_agree = simd::available().all(|kernels| {
        let times = another_run(kernels.name, options.rounds, &names);
        for outcome in &mut outcomes {
            let time = times.iter().find(|(name, _)| name == outcome.name);
            outcome.tables.extend(time.map(|(_, time)| (kernels.name, *time)));
        }
        times.len() == names.len()
    });
    outcomes.iter().for_each(report::print_tables);
    let wrong = outcomes.iter().filter(|outcome| outcome.check.is_err()).count();
    if let Some(path) = &options.write
        && let Err(why) = report::write(path, &outcomes)
    {
        eprintln!("bench-kernels: {path}: {why}");
        return ExitCode::FAILURE;
    }
    if wrong > 0 || !tables_agree {
        eprintln!("bench-kernels: {wrong} wrong results{}", if tables_agree { "" } else { ", or a table's" });
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Checks and times ours with the table that was selected: `OURS name nanoseconds` for [`another_run`] to read.
fn ours_by(table: &str, pairs: Vec<Pair>, rounds: usize) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for pair in pairs {
        let name = pair.name;
        match pair.run_ours(rounds) {
            Ok(time) => println!("OURS {name} {time}"),
            Err(why) => {
                eprintln!("WRONG {name} with {table}: {why}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// The times of ours in a process of its own that has chosen another table: a process chooses once.
fn another_run(table: &str, rounds: usize, names: &[&str]) -> Vec<(String, f64)> {
    let Ok(program) = std::env::current_exe() else { return Vec::new() };
    let output = Command::new(program)
        .args(["--table", table, "--rounds", &rounds.to_string()])
        .args(names)
        .stderr(Stdio::inherit())
        .output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    let parse = |line: &str| {
        let (name, time) = line.strip_prefix("OURS ")?.split_once(' ')?;
        Some((name.to_owned(), time.parse().ok()?))
    };
    String::from_utf8_lossy(&output).lines().filter_map(parse).collect()
}

const USAGE: &str = "usage: bench-kernels [--quick | --criterion] [--write FILE] [NAME-PREFIX..]
       bench-kernels --quality FILE
       bench-kernels --talk-off FOLDER
  --quick       a few rounds: results are checked, times mean little
  --rounds N    so many rounds of 3 ms a side instead of 41
  --table NAME  times ours alone, with the kernels of that instruction set
  --criterion   absolute times of every side by criterion, no ratios
  --write FILE  puts the table between the kernel markers of FILE
  --quality FILE  measures no time but quality, and rewrites the tables of FILE and its plots
  --talk-off FOLDER  the digits that ours and spandsp hear in the WAV files of a folder; one of ours is a failure";

struct Options {
    rounds: usize,
    criterion: bool,
    write: Option<String>,
    quality: Option<String>,
    talk_off: Option<String>,
    table: Option<String>,
    names: Vec<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 41,
            criterion: false,
            write: None,
            quality: None,
            table: None,
            talk_off: None,
            names: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.rounds = 3,
                "--criterion" => options.criterion = true,
                "--write" => options.write = Some(arguments.next().ok_or("--write needs a file")?),
                "--rounds" => {
                    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok());
                    options.rounds = rounds.filter(|&rounds| rounds > 0).ok_or("--rounds needs a number")?;
                }
                "--table" => options.table = Some(arguments.next().ok_or("--table needs a name")?),
                "--quality" => options.quality = Some(arguments.next().ok_or("--quality needs a file")?),
                "--talk-off" => {
                    options.talk_off = Some(arguments.next().ok_or("--talk-off needs a folder")?);
                }
                flag if flag.starts_with('-') => return Err(format!("unknown option {flag}")),
                _ => options.names.push(argument),
            }
        }
        Ok(options)
    }
}
