//! The command line of `bench-ai`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;

use super::processor::cpus;
use crate::callload::options::{ports, positive, seconds};

/// Starts sidetone with one media CPU and one stream CPU, places calls to an AI agent, is that agent in a process of its own that
/// counts and echoes, and tells what a call costs.
///
/// Exit codes: 0 everything was measured; 1 something could not be; 2 wrong use or something is missing.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-ai", version, args_override_self = true)]
pub struct AiBenchOptions {
    /// What is measured.
    #[arg(long, value_name = "FILE", default_value = "target/release/sidetone")]
    pub(super) sidetone: PathBuf,
    /// Calls whose processor time is measured, and the first number that must hold.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(super) calls: u32,
    /// The most that are tried.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(super) most: u32,
    /// How often processor time is measured.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(super) repeats: u32,
    /// How long each time.
    #[arg(long, short = 'd', value_name = "SECONDS", default_value = "8", value_parser = seconds)]
    pub(super) duration: Duration,
    /// How long calls run before anything counts.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub(super) settle: Duration,
    /// New calls per second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 200.0, value_parser = positive)]
    pub(super) rate: f64,
    /// A number of streams holds if nothing is lost and the 99th percentile of what is added on the way up is below this.
    #[arg(long, value_name = "MS", default_value_t = 20.0)]
    pub(super) hold_p99_ms: f64,
    /// One repeat, short, and no search for the most.
    #[arg(long)]
    pub(super) quick: bool,
    /// Lines of the agent's configuration for wide-band audio, such as 'dialect = "openai"'; the peer echoes OpenAI's events and
    /// binary audio too. Nothing wide is measured if empty.
    #[arg(long, value_name = "TOML", default_value = "dialect = \"raw\"\nformat = \"l16/24000\"")]
    pub(super) wide: String,
    /// Calls of that kind.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(super) wide_calls: u32,
    /// The Python that has Pipecat, which is measured as another who serves such streams; left out if it is missing.
    #[arg(long, value_name = "FILE", default_value = ".venv/bin/python")]
    pub(super) pipecat: PathBuf,
    /// Calls that Pipecat gets.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) pipecat_calls: u32,
    /// Measure instead what ten calls whose backends misbehave do to this many beside them; 0 does not.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=2_000))]
    pub(super) bystanders: u32,
    /// CPU of sidetone's media thread.
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    pub(super) media_cpu: usize,
    /// CPU of sidetone's AI thread.
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    pub(super) stream_cpu: usize,
    /// CPU of the peer. Default: 2 where there are four, else that of the media thread.
    #[arg(long, value_name = "CPU")]
    pub(super) peer_cpu: Option<usize>,
    /// CPU of the generator and of sidetone's signalling. Default: 3 where there are four, else that of the AI thread.
    #[arg(long, value_name = "CPU")]
    pub(super) generator_cpu: Option<usize>,
    /// RTP ports of sidetone.
    #[arg(long, value_name = "LO-HI", default_value = "12000-22999", value_parser = ports)]
    pub(super) server_ports: (u16, u16),
    /// RTP ports of the generator; two for a call.
    #[arg(long, value_name = "LO-HI", default_value = "33000-60999", value_parser = ports)]
    pub(super) ports: (u16, u16),
    /// Put the table between the AI markers of this file.
    #[arg(long, value_name = "FILE")]
    pub(super) write: Option<PathBuf>,
    /// Write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Be the peer, on this address: tells where it listens, and on each line of standard input what it counted since the last.
    #[arg(long, value_name = "ADDR:PORT", hide = true)]
    pub(super) peer: Option<SocketAddr>,
    /// Be the backends that misbehave, on this address.
    #[arg(long, value_name = "ADDR:PORT", hide = true)]
    pub(super) hostile: Option<SocketAddr>,
}

impl AiBenchOptions {
    pub(super) fn peer_cpu(&self) -> usize {
        self.peer_cpu.unwrap_or_else(|| if cpus() >= 4 { 2 } else { self.media_cpu })
    }

    pub(super) fn generator_cpu(&self) -> usize {
        self.generator_cpu.unwrap_or_else(|| if cpus() >= 4 { 3 } else { self.stream_cpu })
    }
}
