//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use signaling::config::{CONFIG_FILE, Setting, Sources};

/// A voice media engine: answers SIP calls and connects them to AI agents, recordings or an echo, and relays media.
#[derive(Debug, Parser)]
#[command(
    name = "sidetone",
    version,
    about = "A voice media engine: answers SIP calls and connects them to AI agents, recordings or an echo, and\n\
             relays media for SIP proxies (NG). Without a subcommand it runs until SIGTERM or SIGINT.",
    after_help = QUICK_STARTS,
    args_conflicts_with_subcommands = true,
    next_line_help = true
)]
pub(crate) struct Cli {
    /// What to do instead of running.
    #[command(subcommand)]
    pub(crate) command: Option<Subcommands>,
    /// How to run.
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Subcommands {
    /// Checks the configuration, prints what would run and ends: 0 if it would start, 1 with the errors if not
    CheckConfig(Box<RunFlags>),
    /// Says how well this host is set up for media and what to do about it: 0 unless there is a problem
    Doctor(Box<DoctorFlags>),
    /// Runs as a voice gateway: every call reaches Azure Voice Live (AZURE_VOICELIVE_ENDPOINT, AZURE_VOICELIVE_API_KEY),
    /// directly or through a SIP server (REGISTER_WITH_SIP_SERVER, SIP_SERVER, SIP_USER, AUTH_PASSWORD ..)
    ///
    /// With `status`: how the trunks of the running process stand
    Gateway(Box<GatewayFlags>),
    /// Lets the running process make a call and waits for its end: 0 if it was answered, 3 busy, 4 no answer, 5 cancelled, else 1.
    /// Example: sidetone originate skyetel_main/+60123456789 echo
    Originate(Box<OriginateFlags>),
    /// Makes a token for the API on the store directly and prints it: for who has lost the admin's
    Token(Box<TokenFlags>),
    /// Prints the version and ends
    Version,
}

/// Flags of `gateway`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct GatewayFlags {
    /// What to do instead of running.
    #[command(subcommand)]
    pub(crate) command: Option<GatewayCommand>,
    /// How to run.
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// What else `gateway` does.
#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Prints how the trunks of the running process stand: a line each, NAME STATE and the cause; with a NAME it ends with 0
    /// only if that trunk can be used
    Status(Box<StatusFlags>),
}

/// Flags of `originate`.
#[derive(Debug, Args)]
pub(crate) struct OriginateFlags {
    /// GATEWAY/NUMBER, a NUMBER for the routes to decide about, or a sip: URI
    pub(crate) target: String,
    /// What answers here: echo, wait, what a route of the configuration names, or agent:NAME
    pub(crate) app: String,
    /// The calling number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) from: Option<String>,
    /// How long it may ring, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    /// Ends as soon as it is answered; the call goes on
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) client: ClientFlags,
}

/// Flags of `gateway status`.
#[derive(Debug, Args)]
pub(crate) struct StatusFlags {
    /// The trunk; all without one
    pub(crate) name: Option<String>,
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) client: ClientFlags,
}

/// Flags of what asks a running process.
#[derive(Debug, Args)]
pub(crate) struct ClientFlags {
    /// Where its API is. Default: http.bind of the configuration. Example: --api http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    pub(crate) api: Option<String>,
    /// The token to ask with; others on this host can see it, a file is better
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// The file with the token. Default: admin-token in the data folder
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Whose things; the token's own tenant without it
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// Where its configuration is.
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorFlags {
    /// Prints JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// What would run.
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// Flags of `token`.
#[derive(Debug, Args)]
pub(crate) struct TokenFlags {
    /// What it may do: viewer, operator, tenant_admin or admin
    #[arg(long, default_value = "admin", value_name = "ROLE")]
    pub(crate) role: String,
    /// Whose things it sees
    #[arg(long, default_value = "default", value_name = "TENANT")]
    pub(crate) tenant: String,
    /// What it is for, as the list of keys shows it
    #[arg(long, default_value = "made by sidetone token", value_name = "TEXT")]
    pub(crate) name: String,
    /// How long it is good, in hours. Default: for ever; a JSON Web Token: one hour
    #[arg(long, value_name = "HOURS")]
    pub(crate) hours: Option<u32>,
    /// Makes a JSON Web Token for this user instead of an API key; needs access.jwt_secret_env or access.jwt_secret_file
    #[arg(long, value_name = "USER")]
    pub(crate) jwt: Option<String>,
    /// Where the store is.
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// Flags of a run. Each overrides the environment, the file and the default, in this order.
#[derive(Debug, Default, Args)]
pub(crate) struct RunFlags {
    /// Configuration file (TOML). Without one everything has a default that runs on a laptop.
    /// Environment: SIDETONE_CONFIG. Example: --config /etc/sidetone/sidetone.toml
    #[arg(long, verbatim_doc_comment, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Local address and port for SIP over UDP and TCP; repeatable; port 0 takes a free one.
    /// Default: 127.0.0.1:5060. Example: --sip-bind 0.0.0.0:5060 --sip-bind [::]:5060
    #[arg(long, verbatim_doc_comment, value_name = "ADDR:PORT")]
    sip_bind: Vec<String>,

    /// Local address and port for health, metrics and the API; port 0 takes a free one.
    /// Default: 127.0.0.1:8080. Example: --http-bind 127.0.0.1:9090
    #[arg(long, verbatim_doc_comment, value_name = "ADDR:PORT")]
    http_bind: Option<String>,

    /// Local address and port for the NG protocol (relays for SIP proxies); empty does not serve it.
    /// Default: 127.0.0.1:2223. Example: --ng-bind 127.0.0.1:22222
    #[arg(long, verbatim_doc_comment, value_name = "ADDR:PORT")]
    ng_bind: Option<String>,

    /// IP address that SDP names for media; repeatable (IPv4 and IPv6); behind NAT the public one.
    /// Default: the address that the INVITE came in on. Example: --media-address 192.0.2.10
    #[arg(long, verbatim_doc_comment, value_name = "ADDR")]
    media_address: Vec<String>,

    /// UDP ports for RTP and RTCP, both ends included: two for a SIP call, four for a relayed one.
    /// Default: 20000-29999. Example: --media-ports 40000-49999
    #[arg(long, verbatim_doc_comment, value_name = "LO-HI")]
    media_ports: Option<String>,

    /// How packets come in and go out: auto, af_xdp (needs --interface), sk_lookup, io_uring or udp.
    /// Default: auto, the best that this host allows; the log says which and why. Example: --device udp
    #[arg(long, verbatim_doc_comment, value_name = "DEVICE")]
    device: Option<String>,

    /// Network interface that media comes in on, for AF_XDP; everything but media still goes to the kernel.
    /// Default: none, and no AF_XDP. Example: --interface eth0
    #[arg(long, verbatim_doc_comment, value_name = "NAME")]
    interface: Option<String>,

    /// Vector instructions for the kernels that work on samples: auto, scalar, avx2, avx512 or neon.
    /// Default: auto, the fastest that this CPU runs; the log says which. Example: --simd avx2
    #[arg(long, verbatim_doc_comment, value_name = "TABLE")]
    simd: Option<String>,

    /// CPU numbers for media workers, one pinned thread each.
    /// Default: one unpinned worker per two CPUs; with --interface as the machine suggests. Example: --media-cpus 0,2-3
    #[arg(long, verbatim_doc_comment, value_name = "LIST")]
    media_cpus: Option<String>,

    /// CPU numbers for AI stream threads, one pinned thread each.
    /// Default: one unpinned thread. Example: --stream-cpus 1
    #[arg(long, verbatim_doc_comment, value_name = "LIST")]
    stream_cpus: Option<String>,

    /// CPU numbers for SIP, NG, HTTP and calls, one pinned thread each.
    /// Default: a thread per CPU, away from pinned media workers. Example: --signaling-cpus 0-1
    #[arg(long, verbatim_doc_comment, value_name = "LIST")]
    signaling_cpus: Option<String>,

    /// What a media worker does with nothing to do: busy (never sleeps), adaptive (sleeps; gathers under load) or sleep.
    /// Default: adaptive; busy is for CPUs that nothing else uses. Example: --wait busy
    #[arg(long, verbatim_doc_comment, value_name = "POLICY")]
    wait: Option<String>,

    /// Folder for everything that is kept; made if it is not there.
    /// Default: ./sidetone-data. Example: --data-dir /var/lib/sidetone
    #[arg(long, verbatim_doc_comment, value_name = "DIR")]
    data_dir: Option<String>,

    /// Log level (error, warn, info, debug, trace) or a filter by module.
    /// Default: info. Example: --log-level info,signaling::sip=debug
    #[arg(long, verbatim_doc_comment, value_name = "LEVEL")]
    log_level: Option<String>,

    /// Log form: text (a line each, for people) or json (an object each, for machines).
    /// Default: text. Example: --log-format json
    #[arg(long, verbatim_doc_comment, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl RunFlags {
    /// Where the configuration comes from, with the process's environment.
    pub(crate) fn sources(&self, environment: Vec<(String, String)>) -> Sources {
        let file = self.config.clone().or_else(|| {
            let named = environment.iter().find(|(name, _)| name == CONFIG_FILE);
            named.map(|(_, path)| PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty())
        });
        let mut flags = Vec::new();
        let mut give = |flag, key, values: Vec<String>| {
            if !values.is_empty() {
                flags.push(Setting { flag, key, values });
            }
        };
        let one = |value: &Option<String>| value.iter().cloned().collect();
        give("--sip-bind", "sip.bind", self.sip_bind.clone());
        give("--http-bind", "http.bind", one(&self.http_bind));
        give("--ng-bind", "ng.bind", one(&self.ng_bind));
        give("--media-address", "media.address", self.media_address.clone());
        give("--media-ports", "media.ports", one(&self.media_ports));
        give("--device", "media.device", one(&self.device));
        give("--interface", "media.interface", one(&self.interface));
        give("--simd", "media.simd", one(&self.simd));
        give("--media-cpus", "media.cpus", one(&self.media_cpus));
        give("--stream-cpus", "media.stream_cpus", one(&self.stream_cpus));
        give("--signaling-cpus", "signaling.cpus", one(&self.signaling_cpus));
        give("--wait", "media.wait", one(&self.wait));
        give("--data-dir", "data_dir", one(&self.data_dir));
        give("--log-level", "log.level", one(&self.log_level));
        give("--log-format", "log.format", one(&self.log_format));
        Sources { file, environment, flags }
    }
}

const QUICK_STARTS: &str = "\
Quick start on this machine:
  sidetone
  then call sip:echo@127.0.0.1:5060 or sip:agent@127.0.0.1:5060 with a softphone

Quick start for a trunk that sends calls to an AI backend:
  sidetone --config sidetone.toml --sip-bind 0.0.0.0:5060 --media-address 192.0.2.10
  with in sidetone.toml:
    [agents.support]
    url = \"wss://agent.example.com/media\"
    [[routes]]
    regex = '\\+?\\d+'
    app = \"agent\"
    agent = \"support\"

Quick start for Kamailio or OpenSIPS on this machine, media relayed by NG:
  sidetone
  with in kamailio.cfg: modparam(\"rtpengine\", \"rtpengine_sock\", \"udp:127.0.0.1:2223\")

Every key of the file can be set by an environment variable: sip.bind is SIDETONE_SIP_BIND.
To see what this host is good for: sidetone doctor --interface eth0
Signals: SIGTERM or SIGINT lets calls end (drain.timeout), a second one ends them at once.";
