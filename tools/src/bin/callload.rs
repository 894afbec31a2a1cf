//! Places N concurrent SIP calls with real RTP and reports what came back. See docs/tools.md.

use std::process::ExitCode;

use clap::Parser as _;
use sidetone_tools::callload::{Options, run};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("callload: {error:#}");
            ExitCode::from(2)
        }
    }
}
