//! A capture shows what went in and out, and changes nothing of it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use xdp::loopback::LoopbackNetwork;
use xdp::pcap::Capture;
use xdp::wire::{UdpChecksum, UdpFrame};
use xdp::{Device, Outgoing, Path};

/// A file in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    /// The frames of the file.
    fn frames(&self) -> Vec<Vec<u8>> {
        let bytes = self.0.lock().expect("no panic");
        let (header, mut rest) = bytes.split_at(24);
        assert_eq!(header[..8], [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0]);
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let len = u32::from_le_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
            assert_eq!(rest[8..12], rest[12..16]);
            frames.push(rest[16..16 + len].to_vec());
            rest = &rest[16 + len..];
        }
        frames
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn send(device: &mut dyn Device, path: Path, payload: &[u8]) {
    let sent = device.transmit(&mut |buffer| {
        buffer[..payload.len()].copy_from_slice(payload);
        Some(Outgoing { path, len: payload.len() })
    });
    assert_eq!(sent, Ok(true));
    device.flush();
}

/// Two devices, the first captured: it sends "hello", and sends "echo" of what it hears back with its first byte changed.
fn conversation(near: &str, far: &str, output: xdp::pcap::Output, limit_bytes: u64) {
    let network = LoopbackNetwork::new();
    let inner = Box::new(network.device(64).expect("a device"));
    let mut captured = Capture::new(inner, output, limit_bytes).expect("a file");
    let mut other = network.device(64).expect("a device");
    let (near, far) = (address(near), address(far));
    let (port, far_port) = (captured.open(near).expect("free"), other.open(far).expect("free"));
    assert_eq!(captured.name(), "loopback");
    send(&mut captured, Path { port, remote: far }, b"hello");
    send(&mut other, Path { port: far_port, remote: near }, b"echo");
    let taken = captured.receive(8, &mut |datagram| {
        assert_eq!((datagram.port, datagram.remote, &*datagram.payload), (port, far, &b"echo"[..]));
        datagram.payload[0] = b'E';
        Some(Outgoing { path: Path { port, remote: far }, len: 3 })
    });
    assert_eq!(taken, 1);
    captured.flush();
    let mut heard = Vec::new();
    other.receive(8, &mut |datagram| {
        heard.push(datagram.payload.to_vec());
        None
    });
    assert_eq!(heard, [b"hello".to_vec(), b"Ech".to_vec()]);
    // Nothing to send is nothing captured.
    assert_eq!(captured.transmit(&mut |_| None), Ok(false));
}

#[test]
fn a_capture_shows_what_went_in_and_out() {
    for (near, far) in [("192.0.2.1:4000", "192.0.2.2:5000"), ("[2001:db8::1]:4000", "[2001:db8::2]:5000")] {
        let memory = Memory::default();
        conversation(near, far, Box::new(memory.clone()), u64::MAX);
        let (near, far) = (address(near), address(far));
        let expected = [(near, far, &b"hello"[..]), (far, near, b"echo"), (near, far, b"Ech")];
        let frames = memory.frames();
        assert_eq!(frames.len(), expected.len());
        for (frame, (source, destination, payload)) in frames.iter().zip(expected) {
            let parsed = UdpFrame::parse(frame).expect("a whole frame");
            assert_eq!((parsed.source, parsed.destination), (source, destination));
            assert_eq!(parsed.checksum, UdpChecksum::Full);
            assert_eq!(&frame[parsed.payload], payload);
        }
    }
}

#[test]
fn a_capture_ends_at_its_limit_and_the_media_goes_on() {
    let frame = 16 + 60;
    for (limit, frames) in [(0, 0), (24 + frame - 1, 0), (24 + frame, 1), (24 + 3 * frame - 1, 2)] {
        let memory = Memory::default();
        conversation("192.0.2.1:4000", "192.0.2.2:5000", Box::new(memory.clone()), limit);
        assert_eq!(memory.frames().len(), frames, "{limit} bytes");
    }
}

#[test]
fn tshark_reads_a_capture() {
    if Command::new("tshark").arg("--version").output().is_err() {
        netns::skip("tshark_reads_a_capture", "tshark is missing; run `make setup`");
        return;
    }
    let path = std::env::temp_dir().join(format!("sidetone-capture-{}.pcap", std::process::id()));
    conversation("192.0.2.1:4000", "192.0.2.2:5000", xdp::pcap::file(&path).expect("a file"), u64::MAX);
    let fields = ["ip.src", "udp.dstport", "ip.checksum.status", "udp.checksum.status", "udp.payload"];
    let output = Command::new("tshark")
        .args(["-n", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields"])
        .args(fields.iter().flat_map(|field| ["-e", field]))
        .arg("-r")
        .arg(&path)
        .output()
        .expect("tshark runs");
    let _ = std::fs::remove_file(&path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    // 1 is "good" in both.
    let expected = [
        ["192.0.2.1", "5000", "1", "1", "68656c6c6f"],
        ["192.0.2.2", "4000", "1", "1", "6563686f"],
        ["192.0.2.1", "5000", "1", "1", "456368"],
    ];
    assert_eq!(lines, expected);
}

mod netns;
