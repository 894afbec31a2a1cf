//! A phone made of two UDP sockets, and the real thing for it to call: endpoint, engine, AI threads.
#![allow(dead_code, reason = "every test uses its own part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use engine::ai::AiRuntime;
use engine::config::EngineConfig;
use sidetone_signaling::apps::{Apps, AppsConfig, serve};
use sidetone_signaling::call::{CallConfig, CallContext};
use sidetone_signaling::media::Media;
use sidetone_signaling::record::{Recorder, RecorderConfig};
use sidetone_signaling::sip::{SipConfig, SipEndpoint};
use sidetone_signaling::store::{Store, StoreConfig};
use sidetone_signaling::trunk::{TrunkConfig, Trunks, UnknownCallers};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until, timeout};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Everything behind the SIP port.
pub(crate) struct House {
    pub(crate) sip: SipEndpoint,
    pub(crate) context: Arc<CallContext>,
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    _folder: tempfile::TempDir,
}

impl House {
    pub(crate) async fn open(apps: AppsConfig, calls: CallConfig) -> Self {
        let ai = AiRuntime::start(&[]).expect("AI threads");
        let engine = EngineConfig { streams_per_worker: 64, ..EngineConfig::default() };
        let (engine, events) = Engine::start_with(engine, ai.doorbells()).expect("an engine");
        let media = Media::start(engine, events, ai).expect("media");
        let bind = vec!["127.0.0.1:0".parse().expect("an address")];
        let (sip, incoming) =
            SipEndpoint::start(SipConfig { bind, ..SipConfig::default() }).await.expect("an endpoint");
        let (_, address) = sip.local_addrs()[0];
        let context = CallContext::new(calls, media);
        let apps = Arc::new(Apps::load(apps).expect("apps"));
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&StoreConfig::embedded(folder.path())).await.expect("a store");
        let recording = RecorderConfig { data_dir: folder.path().to_owned(), spool_bytes: 1 << 20 };
        let recorder = Recorder::start(&store, &recording, &Arc::default()).await.expect("a recorder");
        let trunks = TrunkConfig {
            node: "house".to_owned(),
            unknown_callers: UnknownCallers::Accept,
            realm: "sidetone".to_owned(),
            poll: Duration::from_secs(2),
        };
        let trunks = Trunks::start(store.clone(), sip.handle(), trunks).await.expect("no trunks");
        tokio::spawn(serve(Arc::clone(&context), apps, recorder, trunks, None, incoming));
        Self { sip, context, address, store, _folder: folder }
    }

    /// Waits until all calls have left the table and all streams the engine.
    pub(crate) async fn is_quiet(&self) {
        let quiet = async {
            while !self.context.table.is_empty() || self.context.media.streams() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, quiet).await.expect("all calls and streams have ended");
    }
}

/// A SIP message, as far as a phone reads it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Message {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        Self { start, headers: headers.collect(), body: body.to_owned() }
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> Option<&str> {
        if self.status().is_some() { None } else { self.start.split(' ').next() }
    }

    /// Where the SDP in it wants audio.
    pub(crate) fn media(&self) -> SocketAddr {
        let line = |prefix: &str| self.body.lines().find_map(|line| line.strip_prefix(prefix));
        let host = match line("c=IN IP6 ") {
            Some(host) => format!("[{}]", host.trim()),
            None => line("c=IN IP4 ").expect("c= in the SDP").trim().to_owned(),
        };
        let port = line("m=audio ").and_then(|media| media.split(' ').next()).expect("m= in the SDP");
        format!("{host}:{port}").parse().expect("a media address")
    }
}

/// One call of a phone.
pub(crate) struct Phone {
    sip: UdpSocket,
    pub(crate) rtp: UdpSocket,
    house: SocketAddr,
    user: String,
    call_id: String,
    to: String,
    cseq: u32,
    invite_cseq: u32,
    sequence: u16,
    timestamp: u32,
    /// Requests of the house that came while something else was awaited; answered with 200 already.
    pub(crate) requests: Vec<Message>,
}

impl Phone {
    pub(crate) async fn new(house: &House, user: &str) -> Self {
        let local = "127.0.0.1:0";
        Self {
            sip: UdpSocket::bind(local).await.expect("a SIP socket"),
            rtp: UdpSocket::bind(local).await.expect("an RTP socket"),
            house: house.address,
            user: user.to_owned(),
            call_id: format!("{:016x}", getrandom::u64().expect("random")),
            to: String::new(),
            cseq: 0,
            invite_cseq: 0,
            sequence: 0,
            timestamp: 0,
            requests: Vec::new(),
        }
    }

    /// An offer of PCMU and telephone-event, with more lines at its end.
    pub(crate) fn offer(&self, lines: &str) -> String {
        self.offer_to(self.rtp.local_addr().expect("an address").port(), lines)
    }

    pub(crate) fn offer_to(&self, port: u16, lines: &str) -> String {
        format!(
            "v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n{lines}"
        )
    }

    /// Sends a request; `Content-Type` goes with the body.
    pub(crate) async fn request(&mut self, method: &str, headers: &str, body: &str) {
        if !matches!(method, "ACK" | "CANCEL") {
            self.cseq += 1;
        }
        if method == "INVITE" {
            self.invite_cseq = self.cseq;
        }
        let cseq = if matches!(method, "ACK" | "CANCEL") { self.invite_cseq } else { self.cseq };
        let local = self.sip.local_addr().expect("an address");
        let Self { user, call_id, house, to, .. } = self;
        // The ACK of a 200 is a transaction of its own, CANCEL shares the INVITE's.
        let branch =
            if method == "ACK" { format!("z9hG4bKack{cseq}") } else { format!("z9hG4bK{call_id}{cseq}") };
        let message = format!(
            "{method} sip:{user}@{house} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch={branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: \"Phone\" <sip:1234567@{local}>;tag=phone\r\nTo: <sip:{user}@{house}>{to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:1234567@{local}>\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.sip.send_to(message.as_bytes(), self.house).await.expect("sent");
    }

    pub(crate) async fn invite(&mut self, sdp: Option<&str>) {
        let headers = sdp.map_or("", |_| "Content-Type: application/sdp\r\n");
        self.request("INVITE", headers, sdp.unwrap_or_default()).await;
    }

    pub(crate) async fn ack(&mut self, sdp: Option<&str>) {
        let headers = sdp.map_or("", |_| "Content-Type: application/sdp\r\n");
        self.request("ACK", headers, sdp.unwrap_or_default()).await;
    }

    /// Calls with an offer and acknowledges the 200, which comes back.
    pub(crate) async fn call(&mut self) -> Message {
        let offer = self.offer("");
        self.invite(Some(&offer)).await;
        let answer = self.final_response().await;
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        self.ack(None).await;
        answer
    }

    /// Changes the session and acknowledges the 200, which comes back.
    pub(crate) async fn reinvite(&mut self, sdp: &str) -> Message {
        self.invite(Some(sdp)).await;
        let answer = self.final_response().await;
        self.ack(None).await;
        answer
    }

    pub(crate) async fn bye(&mut self) {
        self.request("BYE", "", "").await;
        let answer = self.final_response().await;
        assert_eq!(answer.status(), Some(200), "{answer:?}");
    }

    /// The final response to what was sent last.
    pub(crate) async fn final_response(&mut self) -> Message {
        loop {
            let message = self.message().await;
            let mine =
                message.header("CSeq").is_some_and(|cseq| cseq.starts_with(&format!("{} ", self.cseq)));
            match message.status() {
                Some(status) if status >= 200 && mine => {
                    if let Some((_, tag)) = message.header("To").and_then(|to| to.split_once(";tag=")) {
                        self.to = format!(";tag={tag}");
                    }
                    return message;
                }
                _ => {}
            }
        }
    }

    /// The next request of this method that the house sends, such as its BYE.
    pub(crate) async fn house_request(&mut self, method: &str) -> Message {
        loop {
            if let Some(at) = self.requests.iter().position(|request| request.method() == Some(method)) {
                return self.requests.remove(at);
            }
            self.message().await;
        }
    }

    /// The next message. Requests are answered with 200 and kept.
    pub(crate) async fn message(&mut self) -> Message {
        let mut buffer = vec![0; 65536];
        let received =
            timeout(PATIENCE, self.sip.recv_from(&mut buffer)).await.expect("a SIP message in time");
        let (len, from) = received.expect("received");
        let message = Message::parse(std::str::from_utf8(&buffer[..len]).expect("UTF-8"));
        if message.method().is_some_and(|method| method != "ACK") {
            let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
            for (name, value) in &message.headers {
                if ["via", "from", "to", "call-id", "cseq"].contains(&name.to_ascii_lowercase().as_str()) {
                    answer += &format!("{name}: {value}\r\n");
                }
            }
            answer += "Content-Length: 0\r\n\r\n";
            self.sip.send_to(answer.as_bytes(), from).await.expect("sent");
            self.requests.push(message.clone());
        }
        message
    }

    /// Sends one RTP packet of 20 ms.
    pub(crate) async fn send_rtp(&mut self, to: SocketAddr, payload: &[u8]) {
        let mut packet = vec![0x80, 0x00];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(0x1234_5678_u32.to_be_bytes());
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
        self.rtp.send_to(&packet, to).await.expect("sent");
    }

    /// Presses a key (RFC 4733): three packets while it is down, three at its end.
    pub(crate) async fn press(&mut self, to: SocketAddr, event: u8) {
        for packet in 0..6_u8 {
            let end = packet >= 3;
            let duration = 160 * (u16::from(packet.min(3)) + 1);
            let mut bytes = vec![0x80, if packet == 0 { 0x80 | 101 } else { 101 }];
            bytes.extend(self.sequence.to_be_bytes());
            bytes.extend(self.timestamp.to_be_bytes());
            bytes.extend(0x1234_5678_u32.to_be_bytes());
            bytes.extend([event, if end { 0x8A } else { 0x0A }]);
            bytes.extend(duration.to_be_bytes());
            self.sequence = self.sequence.wrapping_add(1);
            self.rtp.send_to(&bytes, to).await.expect("sent");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.timestamp = self.timestamp.wrapping_add(960);
    }

    /// Sends numbered frames, one each 20 ms, and returns the payloads that came back meanwhile and shortly
    /// after, without RTCP.
    pub(crate) async fn talk(&mut self, to: SocketAddr, frames: usize) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        let start = Instant::now();
        for frame in 0..frames + 20 {
            if frame < frames {
                self.send_rtp(to, &numbered(frame)).await;
            }
            let due = start + Duration::from_millis(20) * (frame as u32 + 1);
            while let Some((_, payload)) = self.hear_until(due).await {
                heard.push(payload);
            }
        }
        heard
    }

    /// The next RTP packet's payload type and payload; `None` at `due`.
    pub(crate) async fn hear_until(&mut self, due: Instant) -> Option<(u8, Vec<u8>)> {
        let mut buffer = [0; 2048];
        loop {
            tokio::select! {
                received = self.rtp.recv_from(&mut buffer) => {
                    let (len, _) = received.expect("received");
                    // RTCP has 200 to 204 there.
                    if len > 12 && !(200..=204).contains(&buffer[1]) {
                        return Some((buffer[1] & 0x7F, buffer[12..len].to_vec()));
                    }
                }
                () = sleep_until(due) => return None,
            }
        }
    }

    /// Hears audio that is not silence.
    pub(crate) async fn hears_audio(&mut self) {
        let due = Instant::now() + PATIENCE;
        while let Some((payload_type, payload)) = self.hear_until(due).await {
            if payload_type == 0 && payload.iter().any(|byte| byte & 0x7F < 0x60) {
                return;
            }
        }
        panic!("no audio came");
    }

    /// How many RTP packets come in this time.
    pub(crate) async fn packets_in(&mut self, time: Duration) -> usize {
        let due = Instant::now() + time;
        let mut packets = 0;
        while self.hear_until(due).await.is_some() {
            packets += 1;
        }
        packets
    }
}

/// A frame that no other number has, of values that mu-law gives back exactly.
pub(crate) fn numbered(frame: usize) -> Vec<u8> {
    (0..160).map(|index| (((frame * 7 + index * 3) % 100) + 1) as u8).collect()
}

/// How many of the frames `0..frames` came back whole and in order.
pub(crate) fn returned(heard: &[Vec<u8>], frames: usize) -> usize {
    let mut next = 0;
    let mut found = 0;
    for payload in heard {
        if let Some(frame) = (next..frames).find(|&frame| numbered(frame) == *payload) {
            found += 1;
            next = frame + 1;
        }
    }
    found
}
