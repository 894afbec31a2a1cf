//! How many AI streams a core carries. See docs/performance.md.

use std::process::ExitCode;

use clap::Parser as _;
use sidetone_tools::callload::{AiBenchOptions, run_ai_bench};

fn main() -> ExitCode {
    match run_ai_bench(&AiBenchOptions::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-ai: {error:#}");
            ExitCode::from(2)
        }
    }
}
