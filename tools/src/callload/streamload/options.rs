//! The command line of `streamload`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Parser;

use crate::callload::options::{self, Codec, ports, positive, seconds};

/// Places N concurrent SIP calls to an agent and is the AI backend of that agent itself (a WebSocket server that
/// speaks Twilio Media Streams): so it sees both ends and measures how long audio takes in between.
///
/// With --start BINARY it starts a sidetone with a configuration of its own and stops it at the end. Without, point
/// the agent at it: url = "ws://ADDR:PORT/" of --listen, and parameters = { call_id = "{call_id}" }, by which it
/// knows whose audio it gets.
///
/// Exit codes: 0 all expectations met; 1 a call failed or an expectation was missed; 2 wrong use or no start;
/// 3 the expectations cannot be judged because this program itself was the bottleneck.
#[derive(Clone, Debug, Parser)]
#[command(name = "streamload", version)]
pub struct StreamOptions {
    /// Whom to call, as sip:USER@HOST[:PORT]. With --start: agent at the server that was started.
    #[arg(long, value_name = "URI", default_value = "sip:agent@127.0.0.1:5060", conflicts_with = "start")]
    pub target: String,
    /// Where the WebSocket server listens; port 0 takes a free one (with --start only).
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9099")]
    pub listen: SocketAddr,
    /// Start this sidetone, on free ports of 127.0.0.1 and with a folder of its own, and stop it at the end. Its
    /// environment is ours: SIDETONE_ variables that the written file does not set (such as
    /// SIDETONE_MEDIA_CPUS=0) reach it.
    #[arg(long, value_name = "BINARY")]
    pub start: Option<PathBuf>,
    /// RTP ports of the sidetone that is started.
    #[arg(long, value_name = "LO-HI", default_value = "16000-19999", value_parser = ports)]
    pub server_ports: (u16, u16),
    /// Write what the started sidetone logs into this file.
    #[arg(long, value_name = "FILE", requires = "start")]
    pub server_log: Option<PathBuf>,
    /// Write the metrics of the started sidetone, read at the end of the run, into this file.
    #[arg(long, value_name = "FILE", requires = "start")]
    pub server_metrics: Option<PathBuf>,
    /// Concurrent calls.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub calls: u32,
    /// New calls per second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0, value_parser = positive)]
    pub rate: f64,
    /// Length of the run: then the calls end.
    #[arg(long, short = 'd', value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration: Duration,
    /// Length of a call; a call that ended is followed by a new one. Default: until the end of the run.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub hold: Option<Duration>,
    /// Packets of the first seconds of a call are not timed.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub settle: Duration,
    /// The bot says nothing: caller audio only.
    #[arg(long)]
    pub no_bot: bool,
    /// Measure how fast callers interrupt: they are silent for two seconds, then speak for 0.4; the bot talks on. With --start
    /// the agent has barge_in.mode = "engine".
    #[arg(long, conflicts_with_all = ["no_bot", "wav"])]
    pub barge_in: bool,
    /// Exit with 1 unless the 99th percentile of the time from a caller's first packet of voice to the last packet with bot
    /// audio is below this, and no bot talked on.
    #[arg(long, value_name = "MS", requires = "barge_in")]
    pub check_barge_in_p99_below: Option<f64>,
    /// Speech to send: a WAV file of any rate. Default: ten generated seconds that sound like a voice.
    #[arg(long, value_name = "FILE")]
    pub wav: Option<PathBuf>,
    /// Local address for SIP and RTP. Default: the one that routes to the target.
    #[arg(long, value_name = "ADDR")]
    pub local: Option<IpAddr>,
    /// Local RTP ports; each call takes an even one and RTCP the next.
    #[arg(long, value_name = "LO-HI", default_value = "30000-60999", value_parser = ports)]
    pub ports: (u16, u16),
    /// Give a call up when it is not answered in this time.
    #[arg(long, value_name = "SECONDS", default_value = "32", value_parser = seconds)]
    pub answer_timeout: Duration,
    /// Write the report as JSON; - is standard output (and then nothing else goes there).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write each distribution as PREFIX-name.hgrm, for HdrHistogram plotters.
    #[arg(long, value_name = "PREFIX")]
    pub hgrm: Option<PathBuf>,
    /// No progress lines.
    #[arg(long, short)]
    pub quiet: bool,
    /// Exit with 1 unless the 99th percentile of the time that caller audio takes beyond its packet time is below
    /// this, measured on at least one packet.
    #[arg(long, value_name = "MS")]
    pub check_uplink_p99_below: Option<f64>,
    /// Exit with 1 unless less than this share of the caller's audio was missing at the backend.
    #[arg(long, value_name = "PERCENT")]
    pub expect_uplink_loss_below: Option<f64>,
    /// Exit with 1 when bot audio was interrupted more often than this.
    #[arg(long, value_name = "N")]
    pub max_bot_gaps: Option<u64>,
    /// A packet sent later than this counts as late; with more than 0.1 % late packets the run is not to be trusted.
    #[arg(long, value_name = "MS", default_value_t = 5)]
    pub late_ms: u64,
    /// Failed calls to tolerate.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_failed: u64,
}

impl StreamOptions {
    /// The same as options of `callload`, which places the calls.
    pub(super) fn callload(&self, target: String, wav: Option<PathBuf>) -> options::Options {
        options::Options {
            target,
            calls: self.calls,
            rate: self.rate,
            duration: self.duration,
            hold: self.hold,
            wav,
            codec: Codec::Pcmu,
            local: self.local,
            ports: self.ports,
            marker_ms: 0,
            answer_timeout: self.answer_timeout,
            json: self.json.clone(),
            hgrm: self.hgrm.clone(),
            quiet: self.quiet,
            late_ms: self.late_ms,
            max_failed: self.max_failed,
            from: "streamload".to_owned(),
            ..options::Options::parse_from(["streamload"])
        }
    }
}
