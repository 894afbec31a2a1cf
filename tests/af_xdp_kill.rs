//! `kill -9` of sidetone while it runs on AF_XDP: the host goes on as if nothing had been there.

#[path = "../xdp/tests/netns/mod.rs"]
mod netns;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use netns::{Cable, Host, Options};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket, sockopt};

/// A running `sidetone` on a host; killed when the test ends.
struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts it on AF_XDP and waits until it is ready.
    fn start(host: &Host) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("sidetone.toml");
        std::fs::write(&config, CONFIG).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log file");
        // `ip netns exec` becomes the process itself.
        let child = host
            .command(env!("CARGO_BIN_EXE_sidetone"))
            .args(["--device", "af_xdp", "--interface", &host.interface])
            .args(["--sip-bind", &format!("{}:5060", host.ipv4), "--http-bind", &HTTP.to_string()])
            .arg("--config")
            .arg(&config)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let mut server = Self { child, folder };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !get(host, "/readyz").starts_with("HTTP/1.1 200") {
            let ended = server.child.try_wait().expect("a child").is_some();
            assert!(!ended && Instant::now() < deadline, "it is not ready:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the HTTP port of a host answers; nothing while nobody listens.
fn get(host: &Host, path: &str) -> String {
    host.run(|| {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(HTTP) {
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    })
}

/// Sends an echo request (RFC 792) and waits for the answer.
fn ping(to: Ipv4Addr) {
    let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).expect("root may");
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_secs(5)))
        .expect("a timeout");
    // Type 8, code 0, the checksum, identifier 0x5354, sequence number 1.
    let sum: u16 = !(0x0800 + 0x5354 + 1);
    let [high, low] = sum.to_be_bytes();
    let request = [8, 0, high, low, 0x53, 0x54, 0, 1];
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrV4::new(to, 0)).expect("sent");
    loop {
        let mut packet = [0; 64];
        let (len, _) = recv(&socket, &mut packet, RecvFlags::empty()).expect("an answer to the ping");
        // Behind the IPv4 header: type 0 with our identifier.
        if len == 28 && packet[20] == 0 && packet[24..26] == [0x53, 0x54] {
            return;
        }
    }
}

/// Ping, TCP and UDP between the hosts, the latter also to a port that was for media.
fn the_host_works(cable: &Cable) {
    let (near, far) = (&cable.near, &cable.far);
    far.run(|| ping(near.ipv4));

    let listener = near.run(|| TcpListener::bind((near.ipv4, 0))).expect("free");
    let address = listener.local_addr().expect("bound");
    let mut there = far.run(|| TcpStream::connect(address)).expect("TCP");
    let (mut here, _) = listener.accept().expect("TCP");
    here.write_all(b"hello").expect("TCP");
    there.read_exact(&mut [0; 5]).expect("TCP");

    for port in [7000, 20_000] {
        let receiver = near.run(|| UdpSocket::bind((near.ipv4, port))).expect("free");
        receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let sender = far.run(|| UdpSocket::bind((far.ipv4, 0))).expect("free");
        sender.send_to(b"hello", SocketAddr::from((near.ipv4, port))).expect("sent");
        receiver.recv(&mut [0; 8]).expect("UDP");
    }
}

/// What `ip link` says of a host's interface.
fn link(host: &Host) -> String {
    let output = host.command("ip").args(["-d", "link", "show", &host.interface]).output();
    String::from_utf8_lossy(&output.expect("ip runs").stdout).into_owned()
}

#[test]
fn after_kill_9_the_host_goes_on_and_a_restart_works() {
    let test = "after_kill_9_the_host_goes_on_and_a_restart_works";
    let Some(cable) = Cable::or_skip(test, Options::default()) else { return };
    if let Err(error) = cable.near.run(xdp::bpf::probe) {
        return netns::skip(test, &error.to_string());
    }
    the_host_works(&cable);
    for _ in 0..2 {
        let mut server = Server::start(&cable.near);
        assert!(link(&cable.near).contains("xdp"), "{}", link(&cable.near));
        let device = get(&cable.near, "/v1/device");
        assert!(device.contains("\"device\":\"af_xdp native copy\""), "{device}");
        let sentence = format!("AF_XDP on {}, native mode, copy", cable.near.interface);
        assert!(device.contains(&sentence) && server.log().contains(&sentence), "{device}\n{}", server.log());
        let metrics = get(&cable.near, "/metrics");
        for line in [
            "sidetone_device_in_use{worker=\"0\",device=\"af_xdp native copy\"} 1".to_owned(),
            format!("sidetone_xdp_dropped_strangers_total{{interface=\"{}\"}} 0", cable.near.interface),
            format!("sidetone_xdp_dropped_floods_total{{interface=\"{}\"}} 0", cable.near.interface),
            format!("sidetone_next_hop_errors_total{{interface=\"{}\"}} 0", cable.near.interface),
        ] {
            assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
        }
        server.kill();
        let deadline = Instant::now() + Duration::from_secs(5);
        while link(&cable.near).contains("xdp") {
            // The kernel lets go of a dead process's program a moment later.
            assert!(Instant::now() < deadline, "{}", link(&cable.near));
            std::thread::sleep(Duration::from_millis(10));
        }
        the_host_works(&cable);
    }
}

const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

const CONFIG: &str = "[media]\nframes = 512\nring = 256\ncpus = \"0\"\n[drain]\ntimeout = \"1s\"\n";
