//! Places N concurrent calls to an AI agent and is its backend too: measures both ways. See docs/tools.md.

use std::process::ExitCode;

use clap::Parser as _;
use sidetone_tools::callload::{StreamOptions, run_streams};

fn main() -> ExitCode {
    match run_streams(StreamOptions::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("streamload: {error:#}");
            ExitCode::from(2)
        }
    }
}
