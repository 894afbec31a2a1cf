//! The command line.

use std::path::PathBuf;

use clap::Parser;

use super::subject::Subject;

/// Measures rtpengine and sidetone as relays, side by side on one core, in network namespaces of their own. Root.
///
/// Exit codes: 0 everything was measured; 1 something could not be; 2 wrong use or something is missing.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-relay", version, args_override_self = true)]
pub struct Options {
    /// The load generator.
    #[arg(long, value_name = "FILE", default_value = "target/release/rtpload")]
    pub(super) rtpload: PathBuf,
    /// The relay that is ours.
    #[arg(long, value_name = "FILE", default_value = "target/release/sidetone")]
    pub(super) sidetone: PathBuf,
    /// Begins the names of the two namespaces.
    #[arg(long, value_name = "NAME", default_value = "bench-relay")]
    pub(super) name: String,
    /// What is measured; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) only: Vec<Subject>,
    /// How often everything is measured, in turn.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(super) repeats: u32,
    /// Short and coarse, for a look.
    #[arg(long)]
    pub(super) quick: bool,
    /// Offer no more than so many calls: a check that everything works, no measurement.
    #[arg(long, value_name = "N")]
    pub(super) most: Option<u32>,
    /// Put the table between the relay markers of this file.
    #[arg(long, value_name = "FILE")]
    pub(super) write: Option<PathBuf>,
    /// How long an end of the cable gathers packets under load, in microseconds, as a card does.
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    pub(super) moderation: u64,
    /// Leave other processes on the relay's core: what is measured then is they, too.
    #[arg(long)]
    pub(super) with_neighbours: bool,
    /// `media.tick` of ours: how long a loaded worker lets packets gather.
    #[arg(long, value_name = "TIME", default_value = "1ms")]
    pub(super) tick: String,
    /// Only keep the other programs off a core until the input ends.
    #[arg(long, value_name = "CPU", hide = true)]
    pub(super) guard: Option<usize>,
    /// The relay's core; the parties' is the next one.
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    pub(super) core: usize,
}
