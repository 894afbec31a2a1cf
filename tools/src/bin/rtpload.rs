//! Sends RTP through a two-party relay and checks every packet that comes back. See docs/tools.md.

use std::process::ExitCode;

use clap::Parser as _;
use sidetone_tools::rtpload::{Options, run};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rtpload: {error:#}");
            ExitCode::from(2)
        }
    }
}
