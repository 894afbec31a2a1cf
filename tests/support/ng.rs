//! A SIP proxy as the NG protocol sees it: a client that speaks bencode or JSON, and phones with bare RTP.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ports::{free_loopback_port, free_media_ports};

/// A client with its own socket.
pub(crate) struct Ng {
    pub(crate) socket: UdpSocket,
    sent: u32,
}

impl Ng {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.connect(server).expect("an address");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("an option");
        Self { socket, sent: 0 }
    }

    /// A command in bencode; the reply.
    pub(crate) fn command(&mut self, name: &str, keys: Value) -> Value {
        let cookie = self.cookie();
        let mut payload = cookie.clone().into_bytes();
        payload.push(b' ');
        encode(&with_command(name, keys), &mut payload);
        let reply = self.exchange(&cookie, &payload);
        decode(&reply).expect("bencode").0
    }

    /// The same in JSON.
    pub(crate) fn json_command(&mut self, name: &str, keys: Value) -> Value {
        let cookie = self.cookie();
        let payload = format!("{cookie} {}", with_command(name, keys));
        serde_json::from_slice(&self.exchange(&cookie, payload.as_bytes())).expect("JSON")
    }

    /// Sends a datagram as it is, again each second, until a reply with the cookie comes; what follows it.
    pub(crate) fn exchange(&self, cookie: &str, datagram: &[u8]) -> Vec<u8> {
        for _ in 0..5 {
            let _ = self.socket.send(datagram);
            while let Some(reply) = self.receive() {
                if let Some(rest) = reply.strip_prefix(format!("{cookie} ").as_bytes()) {
                    return rest.to_vec();
                }
            }
        }
        panic!("no reply to {}", String::from_utf8_lossy(datagram));
    }

    /// The next datagram within a second.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let length = self.socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    pub(crate) fn cookie(&mut self) -> String {
        self.sent += 1;
        format!("{}_{}", std::process::id(), self.sent)
    }

    /// Offer and answer between two phones; what each is told.
    pub(crate) fn connect(&mut self, call_id: &str, a: &Media, b: &Media) -> (String, String) {
        let offer = self.command("offer", keys(call_id, "a", None, &a.sdp("0 8 101")));
        let answer = self.command("answer", keys(call_id, "a", Some("b"), &b.sdp("0 101")));
        (sdp_of(&offer), sdp_of(&answer))
    }
}

fn with_command(name: &str, mut keys: Value) -> Value {
    keys["command"] = name.into();
    keys
}

/// The keys of an offer or answer, as Kamailio would send them.
pub(crate) fn keys(call_id: &str, from: &str, to: Option<&str>, sdp: &str) -> Value {
    let mut keys = json!({
        "supports": ["load limit"],
        "sdp": sdp,
        "ICE": "remove",
        "replace": ["origin", "session-connection"],
        "received-from": ["IP4", "127.0.0.1"],
        "call-id": call_id,
        "from-tag": from,
    });
    if let Some(to) = to {
        keys["to-tag"] = to.into();
    }
    keys
}

/// The description of a reply that must have one.
pub(crate) fn sdp_of(reply: &Value) -> String {
    assert_eq!(reply["result"], "ok", "{reply}");
    reply["sdp"].as_str().expect("a description").to_owned()
}

/// The lines of a description that begin so.
pub(crate) fn lines<'a>(sdp: &'a str, start: &'a str) -> Vec<&'a str> {
    sdp.split("\r\n").filter(|line| line.starts_with(start)).collect()
}

/// Where a description wants the RTP of its media description number `index`.
pub(crate) fn target(sdp: &str, index: usize) -> SocketAddr {
    let media = lines(sdp, "m=")[index];
    let port: u16 = media.split(' ').nth(1).expect("a port").parse().expect("a port");
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A phone's sockets for one media description.
pub(crate) struct Media {
    pub(crate) rtp: UdpSocket,
    pub(crate) rtcp: UdpSocket,
}

impl Media {
    /// Two ports in a row, the first one even.
    pub(crate) fn new() -> Self {
        for _ in 0..100 {
            let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
            let port = rtp.local_addr().expect("an address").port();
            if !port.is_multiple_of(2) {
                continue;
            }
            if let Ok(rtcp) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port + 1)) {
                for socket in [&rtp, &rtcp] {
                    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("an option");
                }
                return Self { rtp, rtcp };
            }
        }
        panic!("no two ports in a row");
    }

    pub(crate) fn port(&self) -> u16 {
        self.rtp.local_addr().expect("an address").port()
    }

    /// A description with these payload types.
    pub(crate) fn sdp(&self, formats: &str) -> String {
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {} RTP/AVP {formats}\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=x-vendor:kept\r\na=sendrecv\r\na=ptime:20\r\n",
            self.port()
        )
    }

    /// Sends packets to `to` and gives what arrives at `other`, one by one.
    pub(crate) fn send_through(&self, to: SocketAddr, other: &Self, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        packets.iter().filter_map(|packet| pass(&self.rtp, to, &other.rtp, packet)).collect()
    }

    /// The same with RTCP.
    pub(crate) fn send_rtcp_through(&self, to: SocketAddr, other: &Self, packet: &[u8]) -> Option<Vec<u8>> {
        pass(&self.rtcp, to, &other.rtcp, packet)
    }
}

fn pass(from: &UdpSocket, to: SocketAddr, at: &UdpSocket, packet: &[u8]) -> Option<Vec<u8>> {
    from.send_to(packet, to).expect("sent");
    let mut buffer = [0; 2048];
    let (length, _) = at.recv_from(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

/// RTP packets in sequence with payloads that no codec would make.
pub(crate) fn packets(payload_type: u8, ssrc: u32, first: u16, count: u16) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| {
            let sequence = first.wrapping_add(number);
            let mut packet = vec![0x80, payload_type];
            packet.extend(sequence.to_be_bytes());
            packet.extend((u32::from(sequence) * 160).to_be_bytes());
            packet.extend(ssrc.to_be_bytes());
            packet.extend((0..160u32).map(|at| (at * 7 + u32::from(sequence) * 13 + ssrc) as u8));
            packet
        })
        .collect()
}

/// A sender report with one SDES item behind it (RFC 3550 section 6).
pub(crate) fn sender_report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xE0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 10, 0, 0, 6, 0x40]);
    packet.extend([0x81, 202, 0, 3]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([1, 3, b'a', b'@', b'b', 0, 0, 0]);
    packet
}

/// Bencode; what begins with `{` or is a number, a string or a list in JSON.
pub(crate) fn encode(value: &Value, out: &mut Vec<u8>) {
    let string = |text: &str, out: &mut Vec<u8>| {
        out.extend(format!("{}:", text.len()).bytes());
        out.extend(text.bytes());
    };
    match value {
        Value::String(text) => string(text, out),
        Value::Array(list) => {
            out.push(b'l');
            list.iter().for_each(|item| encode(item, out));
            out.push(b'e');
        }
        Value::Object(object) => {
            out.push(b'd');
            for (key, item) in object {
                string(key, out);
                encode(item, out);
            }
            out.push(b'e');
        }
        number => out.extend(format!("i{number}e").bytes()),
    }
}

/// Reads one value; what follows it.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match first {
        b'i' => {
            let end = rest.iter().position(|&byte| byte == b'e')?;
            let number: i64 = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
            Some((number.into(), &rest[end + 1..]))
        }
        b'l' => {
            let (mut list, mut rest) = (Vec::new(), rest);
            while rest.first()? != &b'e' {
                let (item, after) = decode(rest)?;
                list.push(item);
                rest = after;
            }
            Some((list.into(), &rest[1..]))
        }
        b'd' => {
            let (mut object, mut rest) = (serde_json::Map::new(), rest);
            while rest.first()? != &b'e' {
                let (key, after) = decode(rest)?;
                let (item, after) = decode(after)?;
                object.insert(key.as_str()?.to_owned(), item);
                rest = after;
            }
            Some((object.into(), &rest[1..]))
        }
        _ => {
            let colon = bytes.iter().position(|&byte| byte == b':')?;
            let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
            let (text, rest) = bytes.get(colon + 1..)?.split_at_checked(length)?;
            Some((String::from_utf8_lossy(text).into(), rest))
        }
    }
}

/// A child process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let kill = format!("kill -TERM {} 2>/dev/null", self.0.id());
        let _ = Command::new("sh").args(["-c", &kill]).status();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The field's own server in userspace mode; `None` skips the test by name.
pub(crate) fn rtpengine() -> Option<(Process, SocketAddr)> {
    if !super::program("rtpengine") {
        return None;
    }
    // A port that was free may be another test's by the time that a child process binds it.
    let started = (0..3).find_map(|_| start_rtpengine());
    assert!(started.is_some(), "rtpengine does not answer");
    started
}

fn start_rtpengine() -> Option<(Process, SocketAddr)> {
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, free_loopback_port()).into();
    let first = free_media_ports(200);
    let child = Command::new("rtpengine")
        .args(["--table=-1", "--foreground", "--log-stderr", "--log-level=3", "--interface=127.0.0.1"])
        .arg(format!("--listen-ng={address}"))
        .args([format!("--port-min={first}"), format!("--port-max={}", first + 199)])
        .args(["--num-threads=1", "--media-num-threads=1", "--delete-delay=0", "--timeout=120"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("rtpengine starts");
    let mut process = Process(child);
    let client = Ng::new(address);
    client.socket.set_read_timeout(Some(Duration::from_millis(100))).expect("an option");
    let mut answers = false;
    super::within(Duration::from_secs(10), || {
        let _ = client.socket.send(b"up d7:command4:pinge");
        answers = client.receive().is_some_and(|reply| reply.starts_with(b"up d"));
        answers || !matches!(process.0.try_wait(), Ok(None))
    });
    answers.then_some((process, address))
}
