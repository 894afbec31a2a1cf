//! `bench-kernels`: right results first, then ours and theirs in turn; see docs/performance.md.

use std::process::ExitCode;

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
    let mut pairs = all_pairs();
    pairs.retain(|pair| {
        options.names.is_empty() || options.names.iter().any(|name| pair.name.starts_with(name))
    });
    if options.criterion {
        report::criterion(pairs);
        return ExitCode::SUCCESS;
    }
    let outcomes: Vec<_> = pairs
        .into_iter()
        .map(|pair| {
            let outcome = pair.run(options.rounds);
            report::print(&outcome);
            outcome
        })
        .collect();
    let wrong = outcomes.iter().filter(|outcome| outcome.check.is_err()).count();
    if let Some(path) = &options.write
        && let Err(why) = report::write(path, &outcomes)
    {
        eprintln!("bench-kernels: {path}: {why}");
        return ExitCode::FAILURE;
    }
    if wrong > 0 {
        eprintln!("bench-kernels: {wrong} wrong results");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

const USAGE: &str = "usage: bench-kernels [--quick | --criterion] [--write FILE] [NAME-PREFIX..]
       bench-kernels --quality FILE
       bench-kernels --talk-off FOLDER
  --quick       a few rounds: results are checked, times mean little
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
    names: Vec<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 41,
            criterion: false,
            write: None,
            quality: None,
            talk_off: None,
            names: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.rounds = 3,
                "--criterion" => options.criterion = true,
                "--write" => options.write = Some(arguments.next().ok_or("--write needs a file")?),
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
