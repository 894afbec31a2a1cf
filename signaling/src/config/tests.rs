//! Layers, errors and the plan, through the public functions.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::document::Document;
use super::*;
use crate::apps::{AgentConfig, AppConfig};
use crate::call::CallConfig;
use crate::sip::SipConfig;

mod gateway;

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A folder with `sidetone.toml` in it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn with(text: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique =
            format!("sidetone-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let mut file = std::fs::File::create(folder.join("sidetone.toml")).expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        Self(folder)
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.join("sidetone.toml")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let folder = Folder::with(text);
    load(&Sources { file: Some(folder.file()), environment: variables(environment), flags: Vec::new() })
}

fn load_environment(environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    load(&Sources { file: None, environment: variables(environment), flags: Vec::new() })
}

fn plan_text(text: &str, environment: &[(&str, &str)]) -> Result<Plan, ConfigError> {
    plan(&load_text(text, environment)?, &variables(environment))
}

/// The one problem of a faulty configuration, without the folder.
fn problem(result: Result<Plan, ConfigError>) -> String {
    let error = result.expect_err("a faulty configuration");
    assert_eq!(error.problems.len(), 1, "{error}");
    let text = error.to_string();
    match text.split_once("sidetone.toml") {
        Some((_, rest)) => format!("sidetone.toml{rest}"),
        None => text,
    }
}

#[test]
fn nothing_at_all_is_a_good_configuration() {
    let loaded = load(&Sources::default()).expect("defaults");
    let plan = plan(&loaded, &[]).expect("a plan");
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let reached: Vec<_> = plan.apps.routes.iter().map(|route| route.app.clone()).collect();
    assert_eq!(reached, [AppConfig::Agent("demo".into()), AppConfig::Echo]);
    assert_eq!(plan.sip.bind, ["127.0.0.1:5060".parse().expect("an address")]);
    assert_eq!(plan.http.bind.0, "127.0.0.1:8080".parse().expect("an address"));
    assert_eq!(plan.data_dir, Path::new("sidetone-data"));
}

#[test]
fn defaults_are_those_of_the_parts() {
    let loaded = load(&Sources::default()).expect("defaults");
    let plan = plan(&loaded, &[]).expect("a plan");
    assert_eq!(format!("{:?}", plan.sip), format!("{:?}", SipConfig::default()));
    assert_eq!(format!("{:?}", plan.engine), format!("{:?}", engine::config::EngineConfig::default()));
    let control_addresses = plan.call.control_addresses.clone();
    let call = CallConfig { control_addresses, ..CallConfig::default() };
    assert_eq!(format!("{:?}", plan.call), format!("{call:?}"));
    let agent = AgentConfig { name: "demo".into(), ..AgentConfig::default() };
    assert_eq!(plan.apps.agents, [agent]);

    let given = plan_text("[agents.demo]\nurl = \"\"\n", &[]).expect("a plan");
    assert_eq!(given.apps.agents, plan.apps.agents, "an empty section changes nothing");
}

#[test]
fn tones_are_heard_as_configured() {
    use engine::config::InbandDtmf;
    for (word, expected) in
        [("auto", InbandDtmf::Auto), ("always", InbandDtmf::Always), ("off", InbandDtmf::Off)]
    {
        let plan = plan_text(&format!("[media]\ninband_dtmf = \"{word}\"\n"), &[]).expect("a plan");
        assert_eq!(plan.engine.inband_dtmf, expected);
    }
}

#[test]
fn later_layers_win() {
    let text = "[sip]\nbind = [\"127.0.0.1:1111\"]\n[calls]\nmax = 1\n[log]\nlevel = \"warn\"\n";
    let folder = Folder::with(text);
    let sources = Sources {
        file: Some(folder.file()),
        environment: variables(&[
            ("SIP_LOCAL_ADDRESS", "127.0.0.2"),
            ("SIDETONE_SIP_BIND", "127.0.0.3:3333,127.0.0.4:4444"),
            ("SIDETONE_CALLS_MAX", "2"),
        ]),
        flags: vec![Setting { flag: "--sip-bind", key: "sip.bind", values: vec!["127.0.0.5:5555".into()] }],
    };
    let loaded = load(&sources).expect("good");
    assert_eq!(loaded.config.sip.bind[0].to_string(), "127.0.0.5:5555");
    assert_eq!(loaded.config.sip.bind.len(), 1);
    assert_eq!(loaded.config.calls.max, 2);
    assert_eq!(loaded.config.log.level, "warn");
    assert_eq!(loaded.origin("sip.bind"), Origin::Flag("--sip-bind".into()));
    assert_eq!(loaded.origin("calls.max"), Origin::Environment("SIDETONE_CALLS_MAX".into()));
    assert_eq!(loaded.origin("log.level"), Origin::File(folder.file(), 6));

    let without_flag = load(&Sources { flags: Vec::new(), ..sources.clone() }).expect("good");
    assert_eq!(without_flag.config.sip.bind.len(), 2);
    let gateway_only =
        Sources { environment: sources.environment[..1].to_vec(), flags: Vec::new(), ..sources };
    assert_eq!(load(&gateway_only).expect("good").config.sip.bind[0].to_string(), "127.0.0.2:5060");
}

#[test]
fn every_key_has_a_variable_that_finds_it() {
    let names = toml::Table::new();
    for (key, _) in all_keys::<Config>() {
        let path = key.replace("[]", ".0").replace("NAME", "name");
        let variable = format!("SIDETONE_{}", path.replace('.', "_").to_ascii_uppercase());
        let found = environment::key_of(&variable, &names).map(|path| path.join("."));
        assert_eq!(found.as_deref(), Some(path.as_str()), "{variable}");
        let doubled = format!("SIDETONE_{}", path.replace('.', "__").to_ascii_uppercase());
        let found = environment::key_of(&doubled, &names).map(|path| path.join("."));
        assert_eq!(found.as_deref(), Some(path.as_str()), "{doubled}");
    }
}

#[test]
fn keys_are_read_off_the_structs() {
    let keys: Vec<_> = all_keys::<Config>().into_iter().map(|(key, _)| key).collect();
    for key in ["data_dir", "sip.bind", "sip.limits.tcp_idle", "agents.NAME.parameters", "routes[].match"] {
        assert!(keys.iter().any(|known| known == key), "{key} is missing in {keys:?}");
    }
    assert_eq!(kind_at::<Config>(&["calls", "max"]), Some(Kind::Integer));
    assert_eq!(kind_at::<Config>(&["log", "redact"]), Some(Kind::Bool));
    assert_eq!(kind_at::<Config>(&["routes", "0", "file"]), Some(Kind::Path));
    assert_eq!(kind_at::<Config>(&["log", "format"]), Some(Kind::Choice(&["text", "json"])));
    assert_eq!(kind_at::<Config>(&["agents", "a", "http_headers", "x"]), Some(Kind::Text));
    assert_eq!(kind_at::<Config>(&["sip", "nothing"]), None);
    assert_eq!(kind_at::<Config>(&["sip", "bind", "0", "nothing"]), None);
}

#[test]
fn variables_reach_named_tables_and_lists() {
    let text = "[agents.my-bot]\nurl = \"ws://192.0.2.1/\"\n[[routes]]\nmatch = \"a\"\napp = \"echo\"\n";
    let loaded = load_text(
        text,
        &[
            ("SIDETONE_AGENTS_MY_BOT_URL", "ws://192.0.2.2/"),
            ("SIDETONE_AGENTS_NEW_CONNECT_TIMEOUT", "3s"),
            ("SIDETONE_AGENTS_NEW_PARAMETERS", "{ a = \"1\" }"),
            ("SIDETONE_ROUTES_0_MATCH", "b"),
        ],
    )
    .expect("good");
    assert_eq!(loaded.config.agents["my-bot"].url, "ws://192.0.2.2/");
    assert_eq!(loaded.config.agents["new"].connect_timeout, Span::seconds(3));
    assert_eq!(loaded.config.agents["new"].parameters["a"], "1");
    assert_eq!(loaded.config.routes[0].user.as_deref(), Some("b"));

    let whole =
        load_environment(&[("SIDETONE_ROUTES", "[{ match = \"x\", app = \"echo\" }]")]).expect("good");
    assert_eq!(whole.config.routes.len(), 1);
    let missing = load_environment(&[("SIDETONE_ROUTES_3_APP", "echo")]).expect_err("no fourth route");
    assert!(missing.to_string().contains("SIDETONE_ROUTES_3_APP"), "{missing}");
}

#[test]
fn unknown_key_is_refused_with_its_line_and_the_nearest_key() {
    let cases = [
        ("[sip]\n\nbnd = []\n", "sidetone.toml:3: unknown key `sip.bnd`; did you mean `sip.bind`?"),
        ("[spi]\nbind = []\n", "sidetone.toml:1: unknown key `spi`; did you mean `sip`?"),
        ("[sip]\nports = \"1\"\n", "sidetone.toml:2: unknown key `sip.ports`; did you mean `media.ports`?"),
        (
            "routes = [{ mtch = \"x\" }]",
            "sidetone.toml:1: unknown key `routes[0].mtch`; did you mean `routes[0].match`?",
        ),
        (
            "[agents.a]\nulr = \"x\"",
            "sidetone.toml:2: unknown key `agents.a.ulr`; did you mean `agents.a.url`?",
        ),
        ("[drain]\nzzzzz = 1", "sidetone.toml:2: unknown key `drain.zzzzz`; known here: timeout"),
    ];
    for (text, expected) in cases {
        assert_eq!(problem(plan_text(text, &[])), expected);
    }
}

#[test]
fn wrong_value_is_refused_with_its_line_and_what_to_write() {
    let cases = [
        ("[media]\nports = \"20000\"", "sidetone.toml:2: media.ports: `20000` is not a port range"),
        ("[drain]\ntimeout = \"20\"", "sidetone.toml:2: drain.timeout: `20` is not a duration"),
        (
            "[drain]\ntimeout = 20",
            "sidetone.toml:2: drain.timeout: invalid type: integer `20`, expected a string",
        ),
        ("[calls]\nmax = -1", "sidetone.toml:2: calls.max: invalid value: integer `-1`"),
        (
            "[media]\ndevice = \"xdp\"",
            "sidetone.toml:2: media.device: unknown variant `xdp`, expected one of `auto`",
        ),
        ("[media]\ncpus = \"3-1\"", "sidetone.toml:2: media.cpus: `3-1` is not a list of CPUs"),
        (
            "[media]\naddress = [\"0.0.0.0\"]",
            "sidetone.toml:2: media.address: `0.0.0.0` is not an address that a peer",
        ),
        ("[sip]\nvia_address = \"10.0.0\"", "sidetone.toml:2: sip.via_address: `10.0.0` is not a host"),
        (
            "[[routes]]\nmatch = \"x\"\napp = \"reject\"\nstatus = 200",
            "sidetone.toml:4: routes[0].status: 200 does not refuse",
        ),
        (
            "[[routes]]\nregex = \"(\"\napp = \"echo\"",
            "sidetone.toml:2: routes[0].regex: `(` is not a regular expression: unclosed group",
        ),
        ("[sip\n", "sidetone.toml:1: "),
        ("a = 1\na = 2\n", "sidetone.toml:2: "),
    ];
    for (text, expected) in cases {
        let found = problem(plan_text(text, &[]));
        assert!(found.starts_with(expected), "{found}\nshould begin with\n{expected}");
    }
}

#[test]
fn kernels_that_this_cpu_does_not_run_are_refused_with_those_that_it_runs() {
    let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    let found = problem(plan_text(&format!("[media]\nsimd = \"{foreign}\""), &[]));
    let expected =
        format!("sidetone.toml:2: media.simd: this CPU does not run `{foreign}`; use auto, scalar");
    assert!(found.starts_with(&expected), "{found}");
    for kernels in engine::simd::available() {
        let plan = plan_text(&format!("[media]\nsimd = \"{}\"", kernels.name), &[]).expect("runs here");
        assert_eq!(plan.simd.name(), kernels.name);
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let cases = [
        ("[media]\ndevice = \"af_xdp\"", ":2: media.device: `af_xdp` needs media.interface (--interface)"),
        ("[[routes]]\nmatch = \"x\"", ":1: routes[0].app: missing"),
        ("[[routes]]\napp = \"echo\"", ":1: routes[0]: say whose calls it takes"),
        (
            "[[routes]]\nmatch = \"x\"\nregex = \"x\"\napp = \"echo\"",
            ":1: routes[0]: has `match` and `regex`",
        ),
        (
            "[[routes]]\nmatch = \"x\"\napp = \"echo\"\nrepeat = true",
            ":4: routes[0].repeat: belongs to app `play`, not to `echo`",
        ),
        (
            "[[routes]]\nmatch = \"x\"\napp = \"agent\"\nagent = \"suport\"\n[agents.support]\nurl = \"ws://h\"",
            ":4: routes[0].agent: there is no [agents.suport]; did you mean `support`?",
        ),
        ("[[routes]]\nmatch = \"x\"\napp = \"play\"\nfile = \"none.wav\"", ":4: routes[0].file: "),
        ("[agents.a]\nurl = \"http://h\"", ":2: agents.a.url: `http://h` is not a WebSocket address"),
        ("[agents.a]", ":1: agents.a.url: missing"),
        ("[agents.a]\nurl = \"ws://h\"\nplayout_limit = \"5s\"", ":3: agents.a.playout_limit: at least 60s"),
        (
            "[agents.a]\nurl = \"ws://h\"\nauth_token_env = \"NO_SUCH\"",
            ":3: agents.a.auth_token_env: the environment variable `NO_SUCH` is not set",
        ),
        (
            "[agents.a]\nurl = \"ws://h\"\non_close = \"play_fallback\"",
            ":3: agents.a.on_close: `play_fallback` needs agents.a.fallback_prompt",
        ),
        ("[media]\nptime = \"25ms\"", ":2: media.ptime: must be 10ms"),
        ("[sip]\nbind = []", ":2: sip.bind: name at least one address"),
        ("[sip]\nmin_session_expires = \"60s\"", ":2: sip.min_session_expires: at least 90s"),
        ("[log]\nlevel = \"loud\"", ":2: log.level: `loud` is neither"),
    ];
    for (text, expected) in cases {
        let found = problem(plan_text(text, &[]));
        assert!(
            found.starts_with(&format!("sidetone.toml{expected}")),
            "{found}\nshould begin with\n{expected}"
        );
    }
}

#[test]
fn all_problems_of_a_file_are_reported_at_once() {
    let error =
        plan_text("[calls]\nmax = 0\n[media]\nptime = \"1s\"\ncodecs = []\n", &[]).expect_err("faulty");
    assert_eq!(error.problems.len(), 3, "{error}");
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = "data_dir = \"kept\"\n[[routes]]\nmatch = \"x\"\napp = \"play\"\nfile = \"a.wav\"\n";
    let folder = Folder::with(text);
    std::fs::write(folder.0.join("a.wav"), b"").expect("written");
    let sources = Sources { file: Some(folder.file()), ..Sources::default() };
    let plan = plan(&load(&sources).expect("good"), &[]).expect("a plan");
    assert_eq!(plan.data_dir, folder.0.join("kept"));
    assert!(matches!(&plan.apps.routes[0].app, AppConfig::Play(play) if play.file == folder.0.join("a.wav")));
    let from_outside = Sources { environment: variables(&[("SIDETONE_DATA_DIR", "elsewhere")]), ..sources };
    assert_eq!(load(&from_outside).expect("good").config.data_dir.0, Path::new("elsewhere"));
}

#[test]
fn unknown_variable_is_a_warning_and_not_an_error() {
    let loaded = load_environment(&[("SIDETONE_SIP_BNID", "x"), ("SIDETONE_SERVICE_HOST", "192.0.2.1")])
        .expect("good");
    assert_eq!(loaded.warnings.len(), 2);
    assert!(loaded.warnings.iter().any(|warning| warning.contains("did you mean SIDETONE_SIP_BIND?")));
    let used = load_text(
        "[agents.a]\nurl = \"ws://h\"\nauth_token_env = \"SIDETONE_TOKEN\"\n",
        &[("SIDETONE_TOKEN", "x"), ("SIDETONE_CONFIG", "y")],
    );
    assert!(used.expect("good").warnings.is_empty());
}

#[test]
fn token_stays_where_it_is_and_is_not_reported() {
    let text = "[agents.a]\nurl = \"wss://user:pass@h/p?key=secret\"\nauth_token_env = \"TOKEN\"\n\
                [[routes]]\nmatch = \"a\"\napp = \"agent\"\nagent = \"a\"\n";
    let plan = plan_text(text, &[("TOKEN", " abc123\n")]).expect("a plan");
    assert_eq!(plan.apps.agents[0].bearer_token, Some(engine::ai::Secret::Env("TOKEN".into())));
    let printed = report(&plan);
    for secret in ["abc123", "user:pass", "key=secret"] {
        assert!(!printed.contains(secret), "{secret} in\n{printed}");
    }
    assert!(printed.contains("wss://h/p, with a token"), "{printed}");
}

#[test]
fn token_file_is_checked_at_start() {
    let folder = Folder::with("[agents.a]\nurl = \"ws://h\"\nauth_token_file = \"token\"\n");
    std::fs::write(folder.0.join("token"), "from-file\n").expect("written");
    let loaded = load(&Sources { file: Some(folder.file()), ..Sources::default() }).expect("good");
    let plan = plan(&loaded, &[]).expect("a plan");
    let place = engine::ai::Secret::File(folder.0.join("token"));
    assert_eq!(plan.apps.agents[0].bearer_token, Some(place));
    std::fs::write(folder.0.join("token"), " \n").expect("written");
    let error = super::plan(&loaded, &[]).expect_err("an empty token").to_string();
    assert!(error.contains("agents.a.auth_token_file: the token is empty"), "{error}");
}

#[test]
fn unknown_template_is_warned_about() {
    let text = "[agents.a]\nurl = \"ws://h\"\nparameters = { x = \"{from} {form} {header:X-A} {1}\" }\n\
                [[routes]]\nmatch = \"a\"\napp = \"agent\"\nagent = \"a\"\n";
    let plan = plan_text(text, &[]).expect("a plan");
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    assert!(plan.warnings[0].starts_with("agents.a.parameters.x: `{form}` is sent as it stands"));
}

#[test]
fn durations_are_read_with_their_units() {
    for (text, ms) in
        [("500ms", 500), ("20s", 20_000), ("1m30s", 90_000), ("1h", 3_600_000), ("0s", 0), ("2 s", 0)]
    {
        let parsed = text.parse::<Span>();
        if text == "2 s" {
            assert!(parsed.is_err());
        } else {
            assert_eq!(parsed.expect("good").0, Duration::from_millis(ms), "{text}");
        }
    }
    for bad in ["", "20", "s", "1x", "-1s", "99999999999999999999s", "400d", "1.5s"] {
        assert!(bad.parse::<Span>().is_err(), "{bad}");
    }
}

#[test]
fn hosts_are_names_or_addresses_with_an_optional_port() {
    for good in [
        "sip.example.com",
        "sip.example.com:5080",
        "192.0.2.1",
        "192.0.2.1:5060",
        "2001:db8::1",
        "[2001:db8::1]:5060",
    ] {
        assert_eq!(good.parse::<Host>().expect("good").to_string(), good);
    }
    for bad in ["", "a b", "-x", "x-", "host:99999", "192.0.2.999", "a..b", "sip:me@h", "h\r\nVia: x"] {
        assert!(bad.parse::<Host>().is_err(), "{bad}");
    }
}

#[test]
fn signing_token_stays_where_it_is() {
    let text =
        "[agents.a]\nurl = \"ws://h\"\nsigning_token_env = \"TOKEN\"\ntls_server_name = \"h.example.com\"\n";
    let plan = plan_text(text, &[("TOKEN", "abc123")]).expect("a plan");
    assert_eq!(plan.apps.agents[0].signing_token, Some(engine::ai::Secret::Env("TOKEN".into())));
    assert_eq!(plan.apps.agents[0].tls_server_name.as_deref(), Some("h.example.com"));
    assert!(!format!("{plan:?}").contains("abc123"));
}

#[test]
fn later_route_for_the_same_user_is_warned_about() {
    let text = "routes = [{ regex = \".*\", app = \"echo\" }, { match = \"x\", app = \"echo\" }]";
    let plan = plan_text(text, &[]).expect("a plan");
    assert_eq!(plan.warnings, ["routes[1] is never reached: route 0 already takes `x`"]);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,200}") {
        let _ = Document::parse(Path::new("x"), &text);
    }

    #[test]
    fn any_lines_of_keys_are_read_or_refused_without_panic(
        lines in prop::collection::vec("(\\[{0,2})(sip|media|routes|agents\\.a|log)(\\]{0,2})( = )?[a-z0-9\"\\[\\]{}.]{0,12}", 0..6)
    ) {

        let _ = Document::parse(Path::new("x"), &lines.join("\n"));
    }

    #[test]
    fn any_variable_is_taken_or_refused_without_panic(name in "SIDETONE_[A-Z0-9_]{0,40}", value in "\\PC{0,40}") {
        let _ = load_environment(&[(&name, &value)]);
    }

    #[test]
    fn printed_values_read_back_the_same(ms in 0u64..10_000_000, low in 1024u16..60000, more in 2u16..5000) {
        let span = Span(Duration::from_millis(ms));
        prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        let range = PortRange(low..=low.saturating_add(more));
        prop_assert_eq!(range.to_string().parse::<PortRange>(), Ok(range.clone()));
    }
}

#[test]
fn the_fast_path_is_configured_end_to_end() {
    use engine::config::{AfXdpConfig, DeviceKind, Want, XdpMode};
    let text = "[media]\ndevice = \"af_xdp\"\ninterface = \"eth1\"\nqueues = \"0,2-3\"\nxdp_mode = \"native\"\n\
                zero_copy = \"never\"\nframes = 4096\nring = 1024\nhugepages = \"require\"\nbusy_poll = true\n\
                flood_limit = 5000\nsteering = \"hash\"\nkernel_relay = false\ntick = \"2ms\"\npriority = 50\nlock_memory = true\n\
                cpus = \"2,3\"\n[signaling]\ncpus = \"0-1\"\n";
    let plan = plan_text(text, &[("SIDETONE_MEDIA_PRIORITY", "60")]).expect("a plan");
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    assert_eq!(plan.engine.device, DeviceKind::AfXdp);
    let expected = AfXdpConfig {
        interface: Some("eth1".into()),
        queues: vec![0, 2, 3],
        mode: XdpMode::Native,
        zero_copy: Want::Never,
        frames: 4096,
        ring: 1024,
        hugepages: Want::Require,
        busy_poll: true,
        flood_limit: 5000,
        guarded_ports: Vec::new(),
    };
    assert_eq!(plan.engine.af_xdp, expected);
    assert!(!plan.engine.kernel_relay && plan.engine.lock_memory);
    assert_eq!(plan.engine.steering, engine::config::PortSteering::Hash);
    assert_eq!(plan.engine.tick, Duration::from_millis(2));
    assert_eq!(plan.engine.priority, Some(60));
    assert_eq!(plan.signaling_cpus, [0, 1]);
    let printed = report(&plan);
    for words in [
        "AF_XDP on eth1: queue 0, 2, 3, native XDP, no zero-copy, huge pages or nothing, 4096 frames",
        "busy polling, 5000 packets/s from unknown sources",
        "SCHED_FIFO 60, memory locked",
        "signaling  threads on CPU 0, 1",
    ] {
        assert!(printed.contains(words), "{words} is missing in\n{printed}");
    }
    assert_eq!(plan_text("[media]\npriority = \"off\"\n", &[]).expect("a plan").engine.priority, None);
}

#[test]
fn sip_falls_under_the_flood_limit_only_if_that_is_said() {
    let guarded = |keys: &str| -> (Vec<u16>, String) {
        let bind =
            "[sip]\nbind = [\"192.0.2.1:5060\", \"192.0.2.2:5060\", \"192.0.2.1:5080\", \"127.0.0.1:0\"]\n";
        let plan = plan_text(&format!("{bind}[media]\n{keys}"), &[]).expect("a plan");
        (plan.engine.af_xdp.guarded_ports.clone(), report(&plan))
    };
    assert_eq!(guarded("interface = \"eth1\"\nflood_limit = 500\n").0, Vec::<u16>::new());
    assert_eq!(
        guarded("interface = \"eth1\"\nflood_limit_sip = true\n").0,
        Vec::<u16>::new(),
        "there is no limit"
    );
    let (ports, printed) = guarded("interface = \"eth1\"\nflood_limit = 500\nflood_limit_sip = true\n");
    assert_eq!(ports, [5060, 5080]);
    assert!(printed.contains("500 packets/s from unknown sources and to SIP ports 5060, 5080"), "{printed}");
}

#[test]
fn settings_of_the_fast_path_that_exclude_each_other_are_refused() {
    let cases = [
        ("ring = 1000", ":2: media.ring: must be a power of two from 64 to 32768"),
        ("frames = 3000", ":2: media.frames: 3000 is too few for rings of 2048: at least 4096"),
        ("frames = 64", ":2: media.frames: must be 128 to 1048576"),
        (
            "zero_copy = \"require\"\nxdp_mode = \"generic\"",
            ":2: media.zero_copy: `require` and media.xdp_mode `generic`",
        ),
        ("priority = 100", ":2: media.priority: `100` is not a priority; write 1 to 99 or `off`"),
        ("queues = \"1024\"", ":2: media.queues: `1024` is not a list of queues up to 1023"),
        ("interface = \"a b\"", ":2: media.interface: `a b` is not the name of a network interface"),
        ("tick = \"11ms\"", ":2: media.tick: must be 0ms to 10ms"),
        (
            "stream_cpus = \"1\"\ncpus = \"1\"\nwait = \"busy\"",
            ":2: media.stream_cpus: CPU 1 is one of media.cpus",
        ),
        (
            "cpus = \"1\"\npriority = 1\n[signaling]\ncpus = \"0-1\"",
            ":5: signaling.cpus: CPU 1 is one of media.cpus",
        ),
    ];
    for (keys, expected) in cases {
        let problem = problem(plan_text(&format!("[media]\n{keys}\n"), &[]));
        assert!(problem.starts_with(&format!("sidetone.toml{expected}")), "{problem}");
    }
    let shared = plan_text("[media]\ncpus = \"1\"\n[signaling]\ncpus = \"1\"\n", &[]).expect("a plan");
    assert!(shared.warnings[0].contains("media will be late when it is busy"), "{:?}", shared.warnings);
    let unused = plan_text("[media]\ninterface = \"eth1\"\ndevice = \"udp\"\n", &[]).expect("a plan");
    assert!(unused.warnings[0].contains("`udp` is not bound to an interface"), "{:?}", unused.warnings);
}
