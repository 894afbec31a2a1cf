//! rtpload through a forwarder with faults of known number: what it reports is what was done.

#[path = "../../xdp/tests/netns/mod.rs"]
mod netns;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netns::{Cable, Options};
use serde_json::Value;

const CALLS: u16 = 4;
/// Seconds, and packets of a flow in them.
const SECONDS: u64 = 3;
const PACKETS: u64 = SECONDS * 50;

/// What a forwarder did.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    received: u64,
    lost: u64,
    repeated: u64,
    swapped: u64,
    damaged: u64,
    strayed: u64,
}

/// Forwards between the parties of some calls until it is stopped.
struct Forwarder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Faults>,
}

impl Forwarder {
    /// On `ip`, two ports for each call from 30000 on; with faults, or none. Called where it is to run.
    fn start(ip: IpAddr, parties: IpAddr, with_faults: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sockets: Vec<UdpSocket> = (0..2 * CALLS)
            .map(|socket| {
                let socket = UdpSocket::bind((ip, 30_000 + socket)).expect("a free port");
                socket.set_nonblocking(true).expect("a socket");
                socket
            })
            .collect();
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut faults = Faults::default();
            let mut waiting: HashMap<usize, Vec<u8>> = HashMap::new();
            let mut buffer = [0; 2_048];
            let begun = Instant::now();
            while !until.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(60) {
                let mut idle = true;
                for from in 0..sockets.len() {
                    let Ok((length, _)) = sockets[from].recv_from(&mut buffer) else { continue };
                    idle = false;
                    let to = from ^ 1;
                    let sink = SocketAddr::new(parties, port_of(to));
                    let send =
                        |bytes: &[u8]| sockets[to].send_to(bytes, sink).expect("sending to a neighbour");
                    let packet = &mut buffer[..length];
                    faults.received += 1;
                    match if with_faults { faults.received % 59 } else { 0 } {
                        7 => faults.lost += 1,
                        17 => {
                            faults.repeated += 1;
                            send(packet);
                            send(packet);
                        }
                        27 => {
                            faults.damaged += 1;
                            packet[length - 3] ^= 4;
                            send(packet);
                        }
                        37 if !waiting.contains_key(&from) => {
                            waiting.insert(from, packet.to_vec());
                        }
                        47 => {
                            // By the way of the other direction: it is lost to its own.
                            faults.strayed += 1;
                            let source = SocketAddr::new(parties, port_of(from));
                            sockets[from].send_to(packet, source).expect("sending to a neighbour");
                        }
                        _ => {
                            send(packet);
                            if let Some(before) = waiting.remove(&from) {
                                faults.swapped += 1;
                                send(&before);
                            }
                        }
                    }
                }
                if idle {
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
            // What still waits was never sent on.
            faults.lost += waiting.len() as u64;
            faults
        });
        Self { stop, thread }
    }

    fn stop(self) -> Faults {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the forwarder")
    }
}

/// The party behind a socket of the forwarder.
fn port_of(socket: usize) -> u16 {
    20_000 + socket as u16
}

/// The calls in a file, as rtpload wants them.
fn flows(relay: IpAddr, parties: IpAddr) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines: Vec<String> = (0..CALLS)
        .map(|call| {
            let (a, b) = (2 * call, 2 * call + 1);
            format!(
                "{parties}:{} {relay}:{} {parties}:{} {relay}:{}",
                20_000 + a,
                30_000 + a,
                20_000 + b,
                30_000 + b
            )
        })
        .collect();
    std::fs::write(file.path(), lines.join("\n")).expect("a file");
    file
}

/// Runs it to its end and reads the report.
fn rtpload(mut command: Command, flows: &tempfile::NamedTempFile, more: &[&str]) -> Value {
    command.args(["run", "--flows"]).arg(flows.path());
    command.args(["--quiet", "--json", "-", "--warmup", "0", "--duration", &SECONDS.to_string()]).args(more);
    let output = command.output().expect("rtpload runs");
    let text = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn check(report: &Value, faults: Faults) {
    let count = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).expect("a count");
    println!("{faults:?}\n{report:#}");
    let sent = 2 * u64::from(CALLS) * PACKETS;
    assert_eq!(count("/sent"), sent, "it keeps to its number");
    assert_eq!(faults.received, sent, "all of it came to the forwarder");
    assert_eq!(count("/received/duplicate"), faults.repeated);
    assert_eq!(count("/received/reordered"), faults.swapped);
    assert_eq!(count("/received/wrong"), faults.damaged);
    assert_eq!(count("/received/stray"), faults.strayed);
    assert_eq!(count("/all_lost"), faults.lost + faults.strayed);
    assert!(count("/lost") <= count("/all_lost"));
    let left_out = ["/instrument/left_out_sent", "/instrument/left_out_received"].map(count);
    assert!(left_out[0] <= sent && (count("/instrument/left_out") > 0 || left_out == [0, 0]));
    assert_eq!(count("/received/unique"), sent - faults.lost - faults.strayed - faults.damaged);
    assert_eq!(count("/silent_flows"), 0);
    assert_eq!(count("/latency/count") + left_out[1], count("/received/unique"));
}

#[test]
fn faults_are_reported_exactly_through_sockets() {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for with_faults in [true, false] {
        let forwarder = Forwarder::start(ip, ip, with_faults);
        let command = Command::new(env!("CARGO_BIN_EXE_rtpload"));
        let report = rtpload(command, &flows(ip, ip), &[]);
        let faults = forwarder.stop();
        check(&report, faults);
        assert_eq!(with_faults, faults.lost > 10 && faults.swapped > 10);
    }
}

#[test]
fn faults_are_reported_exactly_inside_the_kernel() {
    between_hosts("faults_are_reported_exactly_inside_the_kernel", "kernel");
}

#[test]
fn faults_are_reported_exactly_through_af_xdp() {
    between_hosts("faults_are_reported_exactly_through_af_xdp", "xdp");
}

fn between_hosts(name: &str, via: &str) {
    let Some(cable) = Cable::or_skip(name, Options::default()) else { return };
    if let Err(error) = xdp::bpf::probe() {
        netns::skip(name, &error.to_string());
        return;
    }
    // Frames that a program transmits are taken only so.
    cable.far.ethtool(&["-K", &cable.far.interface, "gro", "on"]).expect("ethtool");
    let (relay, parties) = (cable.far.ip(false), cable.near.ip(false));
    let forwarder = cable.far.run(|| Forwarder::start(relay, parties, true));
    let command = cable.near.command(env!("CARGO_BIN_EXE_rtpload"));
    let more = ["--via", via, "--interface", &cable.near.interface];
    let report = rtpload(command, &flows(relay, parties), &more);
    check(&report, forwarder.stop());
}

#[test]
fn bare_forwarding_sends_every_frame_back() {
    let name = "bare_forwarding_sends_every_frame_back";
    let Some(cable) = Cable::or_skip(name, Options::default()) else { return };
    if let Err(error) = xdp::bpf::probe() {
        netns::skip(name, &error.to_string());
        return;
    }
    let mut forward = cable.far.command(env!("CARGO_BIN_EXE_rtpload"));
    forward.args(["forward", "--interface", &cable.far.interface]);
    let mut forward = forward.spawn().expect("rtpload runs");
    std::thread::sleep(Duration::from_millis(500));
    let mut command = cable.near.command(env!("CARGO_BIN_EXE_rtpload"));
    command.args(["run", "--reflector", &cable.far.ipv4.to_string(), "--via", "xdp"]);
    command.args(["--interface", &cable.near.interface, "--calls", "10", "--warmup", "0", "-d", "1"]);
    let output = command.args(["--quiet", "--json", "-"]).output().expect("rtpload runs");
    forward.kill().expect("it runs");
    forward.wait().expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((&report["sent"], &report["all_lost"]), (&1_000.into(), &0.into()), "{report:#}");
    assert_eq!(report["received"]["wrong"], 0, "{report:#}");
}

#[test]
fn a_relay_that_is_not_there_is_loss_and_not_success() {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // Nobody listens: these are ours.
    let silent: Vec<UdpSocket> =
        (0..2 * CALLS).map(|socket| UdpSocket::bind((ip, 30_100 + socket)).expect("a free port")).collect();
    let file = flows(ip, ip);
    let text = std::fs::read_to_string(file.path())
        .expect("the file")
        .replace(":300", ":301")
        .replace(":200", ":201");
    std::fs::write(file.path(), text).expect("the file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtpload"));
    command.args(["run", "--flows"]).arg(file.path());
    let output = command.args(["--quiet", "--warmup", "0", "-d", "0.2", "--expect-loss-below", "1"]).output();
    let output = output.expect("rtpload runs");
    drop(silent);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("lost 80 (100.0000 %)") && text.contains("silent flows 8"), "{text}");
    // 3 if this machine was too busy to tell.
    assert!(matches!(output.status.code(), Some(1 | 3)), "{text}");
}
