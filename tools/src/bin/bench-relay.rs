//! rtpengine and sidetone side by side as relays on one core. See docs/performance.md.

use std::process::ExitCode;

use clap::Parser as _;
use sidetone_tools::relaybench::{Options, run};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-relay: {error:#}");
            ExitCode::from(2)
        }
    }
}
