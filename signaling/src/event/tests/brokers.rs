//! A NATS server and a RabbitMQ of our own, killed and started again in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;

use super::super::{AmqpConfig, BusConfig, Events, EventsConfig, NatsConfig, SecretUrl};
use super::{emit, emit_calls, quick, tenant, until};
use crate::model::EventKind;
use crate::store::testing::{postgres, sqlite};

/// What came: the event and the id beside it, in order.
type Came = Vec<(Value, String)>;

#[tokio::test(flavor = "multi_thread")]
async fn jetstream_gets_every_event_once_with_its_id_though_it_is_killed_in_between() {
    if !is_here("nats-server") {
        return;
    }
    let store = sqlite().await;
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let mut server = nats(folder.path(), port);
    let events = Events::start(store.clone(), to_nats(port)).expect("started");
    until("it is connected", async || events.buses[0].1.is_connected()).await;
    let mut told = BTreeMap::new();
    for round in 0..3 {
        told.extend(emit_calls(&store, &tenant("acme"), 40).await);
        if round < 2 {
            server.kill();
            told.extend(emit_calls(&store, &tenant("a.b"), 10).await);
            server = nats(folder.path(), port);
        }
    }
    let events_told = 4 * told.len();
    until("all came", async || ids(&nats_stream(port).await).len() == events_told).await;
    let came = nats_stream(port).await;
    assert_eq!(lanes(&came), told);
    assert!(came.iter().all(|(event, id)| event["id"] == **id));
    // JetStream leaves repetitions out within its window.
    assert_eq!(came.len(), events_told);
    until("nothing waits", async || store.cursor_backlog("nats").await.expect("counted").pending == 0).await;
    events.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_one_database_take_turns_at_a_broker() {
    if !is_here("nats-server") {
        return;
    }
    let Some(store) = postgres().await else { return };
    let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
    let _server = nats(folder.path(), port);
    let first = Events::start(store.clone(), to_nats(port)).expect("started");
    until("it is connected", async || first.buses[0].1.is_connected()).await;
    let second = Events::start(store.clone(), to_nats(port)).expect("started");
    let mut told = emit_calls(&store, &tenant("acme"), 10).await;
    until("all came", async || lanes(&nats_stream(port).await) == told).await;
    assert_eq!(second.buses[0].1.delivered.value(), 0, "the first one has the lease");
    first.shutdown().await;
    told.extend(emit_calls(&store, &tenant("acme"), 10).await);
    until("all came", async || lanes(&nats_stream(port).await) == told).await;
    assert_eq!(nats_stream(port).await.len(), 80);
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_gets_every_event_with_its_id_though_it_is_killed_in_between() {
    if !is_here("epmd") || !Path::new(RABBITMQ).exists() {
        is_here("rabbitmq-server");
        return;
    }
    let store = sqlite().await;
    let (folder, ports) = (tempfile::tempdir().expect("a folder"), [free_port(), free_port(), free_port()]);
    let mut server = rabbitmq(folder.path(), ports);
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", ports[0]);
    let config = EventsConfig {
        buses: vec![BusConfig::Amqp(AmqpConfig {
            url: SecretUrl::new(url.clone()),
            exchange: "sidetone".to_owned(),
            prefix: "sidetone".to_owned(),
            queue: Some("all-events".to_owned()),
            ca_file: None,
        })],
        ..quick()
    };
    let events = Events::start(store.clone(), config).expect("started");
    until("it is connected", async || events.buses[0].1.is_connected()).await;
    let mut told = emit_calls(&store, &tenant("acme"), 40).await;
    until("some came", async || events.buses[0].1.delivered.value() > 0).await;
    server.kill();
    told.extend(emit_calls(&store, &tenant("acme"), 40).await);
    until("it is missed", async || events.buses[0].1.failures.value() > 0).await;
    server = rabbitmq(folder.path(), ports);
    until("nothing waits", async || store.cursor_backlog("amqp").await.expect("counted").pending == 0).await;
    let came = rabbitmq_queue(&url, 4 * told.len()).await;
    assert_eq!(lanes(&came), told);
    assert!(came.iter().all(|(event, id)| event["id"] == **id));
    assert_eq!(events.buses[0].1.unroutable.value(), 0);

    // Nobody has bound a queue for these.
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    let unbind = channel.queue_unbind(
        "all-events".into(),
        "sidetone".into(),
        "sidetone.#".into(),
        FieldTable::default(),
    );
    unbind.await.expect("unbound");
    emit(&store, &tenant("acme"), EventKind::TrunkState, "t").await;
    until("it came back", async || events.buses[0].1.unroutable.value() == 1).await;
    until("nothing waits", async || store.cursor_backlog("amqp").await.expect("counted").pending == 0).await;
    events.shutdown().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_loses_nothing_and_its_password_is_not_told() {
    let store = sqlite().await;
    let port = free_port();
    let config = BusConfig::Nats(NatsConfig {
        url: SecretUrl::new(format!("nats://someone:very-secret@127.0.0.1:{port}")),
        stream: "SIDETONE".to_owned(),
        prefix: "sidetone".to_owned(),
        authorities: Vec::new(),
    });
    assert!(!format!("{config:?}").contains("secret"));
    let events =
        Events::start(store.clone(), EventsConfig { buses: vec![config], ..quick() }).expect("started");
    until("it was tried", async || events.buses[0].1.failures.value() > 1).await;
    emit_calls(&store, &tenant("acme"), 5).await;
    until("they wait", async || store.cursor_backlog("nats").await.expect("counted").pending == 20).await;
    events.shutdown().await;
}

fn to_nats(port: u16) -> EventsConfig {
    let url = SecretUrl::new(format!("nats://127.0.0.1:{port}"));
    let (stream, prefix) = ("SIDETONE".to_owned(), "sidetone".to_owned());
    EventsConfig {
        buses: vec![BusConfig::Nats(NatsConfig { url, stream, prefix, authorities: Vec::new() })],
        ..quick()
    }
}

/// Everything in the stream.
async fn nats_stream(port: u16) -> Came {
    let Ok(client) = async_nats::connect(format!("127.0.0.1:{port}")).await else { return Vec::new() };
    let Ok(mut stream) = jetstream::new(client).get_stream("SIDETONE").await else { return Vec::new() };
    let Ok(info) = stream.info().await else { return Vec::new() };
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    let mut came = Vec::new();
    for sequence in first.max(1)..=last {
        let Ok(message) = stream.get_raw_message(sequence).await else { return Vec::new() };
        let event: Value = serde_json::from_slice(&message.payload).expect("JSON");
        let kind = event["type"].as_str().expect("text");
        let owner = event["tenant"].as_str().expect("text").replace('.', "_");
        assert_eq!(message.subject.as_str(), format!("sidetone.{owner}.{kind}"));
        let id = message.headers.get("Nats-Msg-Id").map(ToString::to_string).unwrap_or_default();
        came.push((event, id));
    }
    came
}

/// Takes everything from the queue, `count` different events at least.
async fn rabbitmq_queue(url: &str, count: usize) -> Came {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    let mut came = Vec::new();
    let began = Instant::now();
    while ids(&came).len() < count && began.elapsed() < Duration::from_secs(20) {
        let Ok(Some(message)) = channel.basic_get("all-events".into(), BasicGetOptions::default()).await
        else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let event: Value = serde_json::from_slice(&message.data).expect("JSON");
        let kind = event["type"].as_str().expect("text").to_owned();
        assert_eq!(message.routing_key.as_str(), format!("sidetone.acme.{kind}"));
        assert_eq!(message.properties.delivery_mode(), &Some(2));
        assert_eq!(message.properties.kind().as_ref().map(ToString::to_string), Some(kind));
        let id = message.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
        message.ack(BasicAckOptions::default()).await.expect("acknowledged");
        came.push((event, id));
    }
    came
}

fn ids(came: &Came) -> BTreeSet<String> {
    came.iter().map(|(_, id)| id.clone()).collect()
}

/// The events of each subject in the order in which they first came.
fn lanes(came: &Came) -> BTreeMap<String, Vec<String>> {
    let mut lanes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (event, id) in came {
        let lane = lanes.entry(event["subject"].as_str().expect("text").to_owned()).or_default();
        if !lane.contains(id) {
            lane.push(id.clone());
        }
    }
    lanes
}

/// Whether a program is installed; says so on the terminal if a test is left out for want of it.
fn is_here(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|path| path.join(program).exists()));
    if !found {
        assert!(
            std::env::var_os("SIDETONE_REQUIRE_PEERS").is_none(),
            "{program} is missing; run `make setup`"
        );
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        // Not eprintln!: the harness would keep it from the reader.
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {program} is missing");
    }
    found
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// A server that ends, by SIGKILL, when this is dropped or this process ends in whatever way.
struct Server {
    child: Child,
    /// While it is open the server runs.
    life: Option<ChildStdin>,
}

impl Server {
    fn start(command: &str, after: &str, environment: &[(&str, String)], port: u16) -> Self {
        let script = format!(
            "{command} >/dev/null 2>&1 </dev/null & server=$!; read -r _; kill -9 $server; wait; {after}"
        );
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let life = child.stdin.take();
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not start: {command}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { child, life }
    }

    /// kill -9, and waits for its end.
    fn kill(&mut self) {
        self.life = None;
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn nats(folder: &Path, port: u16) -> Server {
    let folder = folder.display();
    Server::start(&format!("nats-server -js -a 127.0.0.1 -p {port} -sd {folder}"), "", &[], port)
}

const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// `ports`: for AMQP, for Erlang's distribution, and for its port mapper, which is our own, too.
fn rabbitmq(folder: &Path, ports: [u16; 3]) -> Server {
    let [amqp, distribution, mapper] = ports;
    let file = |name: &str| folder.join(name).display().to_string();
    let configuration = format!("listeners.tcp.1 = 127.0.0.1:{amqp}\n");
    std::fs::write(folder.join("rabbitmq.conf"), configuration).expect("written");
    let environment = [
        ("HOME", folder.display().to_string()),
        ("ERL_EPMD_PORT", mapper.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        ("RABBITMQ_NODENAME", format!("sidetone-{amqp}@localhost")),
        ("RABBITMQ_MNESIA_BASE", file("data")),
        ("RABBITMQ_LOG_BASE", file("log")),
        ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins")),
        ("RABBITMQ_PID_FILE", file("pid")),
    ];
    // The server is a shell with the machine below it, which has written its own id. The mapper ends only when it has
    // seen that nobody is left.
    let after = format!(
        "kill -9 $(cat {}); for try in 1 2 3 4 5 6 7 8 9; do epmd -port {mapper} -names || break; \
         epmd -port {mapper} -kill; sleep 0.2; done >/dev/null 2>&1",
        file("pid")
    );
    Server::start(RABBITMQ, &after, &environment, amqp)
}
