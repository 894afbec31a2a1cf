//! The command line.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Places N concurrent SIP calls with real RTP, 50 packets/s each, and reports set-up time, loss, reordering,
/// jitter and round-trip audio latency.
///
/// The far end should return the audio it gets (an echo): bit-exactly, transcoded, delayed or with rewritten RTP
/// headers. Without an echo everything but the latency and the audio check is still reported.
///
/// Exit codes: 0 all expectations met; 1 a call failed or an expectation was missed; 2 wrong use or no start;
/// 3 the expectations cannot be judged because this program itself was the bottleneck.
#[derive(Clone, Debug, Parser)]
#[command(name = "callload", version)]
pub struct Options {
    /// Whom to call, as sip:USER@HOST[:PORT].
    #[arg(long, value_name = "URI", default_value = "sip:echo@127.0.0.1:5060")]
    pub target: String,
    /// Concurrent calls.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=30_000))]
    pub calls: u32,
    /// New calls per second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0, value_parser = positive)]
    pub rate: f64,
    /// Place the first N calls within this time, instead of --rate.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "rate")]
    pub ramp: Option<Duration>,
    /// Length of the run: then no new calls, and the running ones end.
    #[arg(long, short = 'd', value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration: Duration,
    /// Length of a call; a call that ended is followed by a new one. Default: until the end of the run, with
    /// --no-rtp at once.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub hold: Option<Duration>,
    /// Calls to place at most. Default: N, or no limit with --hold or --no-rtp.
    #[arg(long, value_name = "N")]
    pub total: Option<u64>,
    /// Speech to send: a WAV file of any rate. Default: ten generated seconds that sound like a voice.
    #[arg(long, value_name = "FILE")]
    pub wav: Option<PathBuf>,
    /// What to offer.
    #[arg(long, value_enum, default_value = "both")]
    pub codec: Codec,
    /// Local address for SIP and RTP. Default: the one that routes to the target.
    #[arg(long, value_name = "ADDR")]
    pub local: Option<IpAddr>,
    /// Local RTP ports; each call takes an even one and RTCP the next.
    #[arg(long, value_name = "LO-HI", default_value = "30000-60999", value_parser = ports)]
    pub ports: (u16, u16),
    /// SIP transport.
    #[arg(long, value_enum, default_value = "udp")]
    pub transport: Transport,
    /// Worker threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Send no RTP: signalling only, for set-ups per second.
    #[arg(long)]
    pub no_rtp: bool,
    /// DTMF digits to send one second into each call (RFC 4733).
    #[arg(long, value_name = "DIGITS", default_value = "", value_parser = digits)]
    pub dtmf: String,
    /// A marker replaces one packet of speech this often; 0 sends none and measures no audio latency.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    pub marker_ms: u64,
    /// Every packet of PCMU begins with its send time, for programs that look for it at the far end; then the check of
    /// the audio means nothing.
    #[arg(long)]
    pub stamp: bool,
    /// Time to listen after the last packet and before BYE, for what is still on its way.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub linger_ms: u64,
    /// Give a call up when it is not answered in this time.
    #[arg(long, value_name = "SECONDS", default_value = "32", value_parser = seconds)]
    pub answer_timeout: Duration,
    /// User part of our own address.
    #[arg(long, value_name = "USER", default_value = "callload")]
    pub from: String,
    /// Write the report as JSON; - is standard output (and then nothing else goes there).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write each distribution as PREFIX-name.hgrm, for HdrHistogram plotters.
    #[arg(long, value_name = "PREFIX")]
    pub hgrm: Option<PathBuf>,
    /// Write the counters of every second as CSV.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// No progress lines.
    #[arg(long, short)]
    pub quiet: bool,
    /// Exit with 1 unless the share of lost packets is below this.
    #[arg(long, value_name = "PERCENT")]
    pub expect_loss_below: Option<f64>,
    /// Exit with 1 unless the 99th percentile of the round-trip audio latency is below this.
    #[arg(long, value_name = "MS")]
    pub check_latency_p99_below: Option<f64>,
    /// Exit with 1 unless at least this share of the returned audio is what was sent.
    #[arg(long, value_name = "PERCENT")]
    pub expect_audio_above: Option<f64>,
    /// A packet sent later than this counts as late; with more than 0.1 % late packets the run is not to be trusted.
    #[arg(long, value_name = "MS", default_value_t = 5)]
    pub late_ms: u64,
    /// Failed calls to tolerate.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_failed: u64,
}

/// Codecs of the offer, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// PCMU only.
    Pcmu,
    /// PCMA only.
    Pcma,
    /// PCMU, then PCMA.
    Both,
}

/// SIP transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// One UDP socket per worker thread.
    Udp,
    /// One TCP connection per worker thread.
    Tcp,
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text} is no number of seconds"))?;
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|d| d.as_secs() < 1_000_000)
        .ok_or_else(|| format!("{text} is out of range"))
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value: &f64| *value > 0.0 && value.is_finite())
        .ok_or_else(|| format!("{text} is not above 0"))
}

pub(crate) fn ports(text: &str) -> Result<(u16, u16), String> {
    let parsed =
        text.split_once('-').and_then(|(lo, hi)| Some((lo.parse::<u16>().ok()?, hi.parse::<u16>().ok()?)));
    parsed
        .filter(|(lo, hi)| *lo > 0 && lo < hi)
        .ok_or_else(|| format!("{text} is not LO-HI with LO below HI"))
}

fn digits(text: &str) -> Result<String, String> {
    match text.chars().find(|digit| super::rtp::event_of_digit(*digit).is_none()) {
        Some(wrong) => Err(format!("{wrong} is no DTMF digit; use 0-9 * # A-D")),
        None => Ok(text.to_owned()),
    }
}
