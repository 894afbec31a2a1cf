//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::callload::g711::Law;
use crate::callload::seconds;

/// Sends RTP of many two-party calls through a relay from one core and checks every packet that comes back: loss,
/// reordering, duplicates, damage, strays and latency, and whether this program itself kept its schedule.
///
/// Exit codes: 0 all expectations met; 1 an expectation was missed; 2 wrong use or no start; 3 the figures cannot be
/// judged because this program itself was the bottleneck.
#[derive(Clone, Debug, Parser)]
#[command(name = "rtpload", version)]
pub struct Options {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Send through a relay for a while.
    Run(RunOptions),
    /// Find the largest number of calls that lose less than a bound: short runs, and some more to confirm.
    Search(SearchOptions),
    /// Be a relay: send every frame back by AF_XDP, the least that such forwarding takes. Root.
    Forward(ForwardOptions),
}

#[derive(Clone, Debug, Args)]
pub(super) struct ForwardOptions {
    /// The interface; its first receive queue is taken.
    #[arg(long, value_name = "NAME")]
    pub(super) interface: String,
    /// UDP ports whose datagrams are sent back; everything else goes to the kernel.
    #[arg(long, value_name = "LO-HI", default_value = "27000-65534", value_parser = crate::callload::ports)]
    pub(super) ports: (u16, u16),
}

#[derive(Clone, Debug, Args)]
pub(super) struct RunOptions {
    #[command(flatten)]
    pub(super) load: Load,
    /// Length of the part that counts.
    #[arg(long, short = 'd', value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(super) duration: Duration,
    /// Length of the part before, which does not count.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(super) warmup: Duration,
    /// Exit with 1 unless the share of lost packets is below this, and no packet is wrong or a stray.
    #[arg(long, value_name = "PERCENT")]
    pub(super) expect_loss_below: Option<f64>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct SearchOptions {
    #[command(flatten)]
    pub(super) load: Load,
    /// Where to begin; --calls, or --rate-of, is the most that is tried. Default: half of it.
    #[arg(long, value_name = "N")]
    pub(super) guess: Option<u32>,
    /// The share of packets that is too much of those that are lost, or come 40 ms late and more.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.1)]
    pub(super) loss: f64,
    /// How close the answer is to be.
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0)]
    pub(super) precision: f64,
    /// Length of a run.
    #[arg(long, value_name = "SECONDS", default_value = "0.6", value_parser = seconds)]
    pub(super) step: Duration,
    /// How many more short runs confirm the answer: in all of them together no more than --loss. Short ones, because a
    /// kernel that lets starved threads run takes the core away for 50 ms each second of a busy run.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) confirm: u32,
}

/// What is sent, from where and to whom.
#[derive(Clone, Debug, Args)]
pub(super) struct Load {
    /// The relay's NG server, which is asked to set the calls up.
    #[arg(long, value_name = "IP:PORT", required_unless_present_any = ["flows", "reflector"])]
    pub(super) ng: Option<SocketAddr>,
    /// Calls that are set up already, one a line: PARTY-A RELAY-A PARTY-B RELAY-B [PCMU|PCMA [PCMU|PCMA]].
    #[arg(long, value_name = "FILE", conflicts_with = "ng")]
    pub(super) flows: Option<PathBuf>,
    /// A host that sends every datagram back, as rtpload forward does: flows go to its ports from 27000 on.
    #[arg(long, value_name = "IP", conflicts_with_all = ["ng", "flows"])]
    pub(super) reflector: Option<IpAddr>,
    /// Calls to set up by --ng or for --reflector; each is two flows of 50 packets/s.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32_000))]
    pub(super) calls: u32,
    /// Offer the packets of so many calls. What is more than --calls comes from these at a higher rate: ports and files
    /// are limited. Default: --calls.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) rate_of: Option<u32>,
    /// What the parties of a call speak.
    #[arg(long, value_enum, default_value = "pcmu")]
    pub(super) codecs: Codecs,
    /// Payload of a packet; a multiple of 8.
    #[arg(long, value_name = "BYTES", default_value_t = 160, value_parser = payload)]
    pub(super) payload: usize,
    /// Time between the packets of a flow.
    #[arg(long, value_name = "MS", default_value_t = 20.0, value_parser = crate::callload::positive)]
    pub(super) interval: f64,
    /// How packets are sent and received.
    #[arg(long, value_enum, default_value = "sockets")]
    pub(super) via: Via,
    /// The interface towards the relay, for --via kernel and xdp.
    #[arg(long, value_name = "NAME", required_if_eq_any([("via", "kernel"), ("via", "xdp")]))]
    pub(super) interface: Option<String>,
    /// Local address. Default: the one that routes to --ng.
    #[arg(long, value_name = "IP")]
    pub(super) local: Option<IpAddr>,
    /// First local port. The parties of all calls share a few, which are told apart by the relay's.
    #[arg(long, value_name = "PORT", default_value_t = 10_000)]
    pub(super) port: u16,
    /// Local ports, every second one; at least two, for the two parties. Default: 4, and 8192 without sockets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=20_000))]
    pub(super) ports: Option<u16>,
    /// Account the processor time of this process, and of its threads; several times for several.
    #[arg(long, value_name = "PID")]
    pub(super) watch: Vec<u32>,
    /// Write the report as JSON; - is standard output (and then nothing else goes there).
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// No progress lines.
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// What the parties of a call speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Codecs {
    /// Both PCMU.
    Pcmu,
    /// Both PCMA.
    Pcma,
    /// A PCMU, B PCMA: the relay transcodes.
    PcmuPcma,
}

impl Codecs {
    pub(super) fn laws(self) -> [Law; 2] {
        match self {
            Self::Pcmu => [Law::Pcmu; 2],
            Self::Pcma => [Law::Pcma; 2],
            Self::PcmuPcma => [Law::Pcmu, Law::Pcma],
        }
    }
}

/// How packets are sent and received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Via {
    /// Kernel sockets, a few with many destinations.
    Sockets,
    /// AF_XDP on --interface: this program is its own network stack. Root.
    Xdp,
    /// Programs inside the kernel on --interface, one end of a veth cable: millions of packets/s. Root.
    Kernel,
}

fn payload(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|bytes| (40..=1_400).contains(bytes) && bytes % 8 == 0)
        .ok_or_else(|| format!("{text} is no multiple of 8 between 40 and 1400"))
}
