//! A small SIP phone over UDP: one call with real RTP at 50 packets/s in both directions.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::rtp::{Header, Heard, telephone_event};
use super::sip::{Message, sdp, token};
use super::wav::{decode_mu_law, encode_mu_law};

/// How to call.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) server: SocketAddr,
    pub(crate) user: String,
    /// Our address; the server's family.
    pub(crate) local_ip: IpAddr,
    /// Header lines to add.
    pub(crate) headers: Vec<String>,
    /// Give up when there is no final answer by then.
    pub(crate) patience: Duration,
    /// The body instead of our own offer.
    pub(crate) offer: Option<String>,
    /// Whether our own offer has telephone-event.
    pub(crate) telephone_event: bool,
    /// Whether to send RTP at all.
    pub(crate) silent: bool,
}

impl Dial {
    pub(crate) fn new(server: SocketAddr, user: &str) -> Self {
        let local_ip = match server.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => "::1".parse().expect("loopback"),
        };
        Self {
            server,
            user: user.to_owned(),
            local_ip,
            headers: Vec::new(),
            patience: Duration::from_secs(20),
            offer: None,
            telephone_event: true,
            silent: false,
        }
    }
}

/// An answered call. Dropping it hangs up.
pub(crate) struct Phone {
    shared: Arc<Shared>,
    responses: mpsc::Receiver<Message>,
    threads: Vec<JoinHandle<()>>,
    /// The final response to our INVITE.
    pub(crate) answer: Message,
    /// When it came.
    pub(crate) answered: Instant,
    /// Provisional responses before it.
    pub(crate) ringing: Vec<u16>,
}

struct Shared {
    dial: Dial,
    sip: UdpSocket,
    rtp: UdpSocket,
    call_id: String,
    from: String,
    to: Mutex<String>,
    target: Mutex<String>,
    cseq: AtomicU32,
    remote_rtp: Mutex<SocketAddr>,
    outgoing: Mutex<VecDeque<Vec<u8>>>,
    keys: Mutex<VecDeque<char>>,
    heard: Mutex<Vec<Heard>>,
    sent: AtomicU32,
    requests: Mutex<Vec<(Instant, Message)>>,
    muted: AtomicBool,
    stop: AtomicBool,
}

impl Phone {
    /// Calls `user` and waits for the answer.
    ///
    /// # Errors
    /// The refusal, or `None` when nothing final came in time.
    pub(crate) fn dial(server: SocketAddr, user: &str) -> Result<Self, Option<Message>> {
        Self::dial_with(Dial::new(server, user))
    }

    pub(crate) fn dial_with(dial: Dial) -> Result<Self, Option<Message>> {
        let bind = || UdpSocket::bind(SocketAddr::new(dial.local_ip, 0)).expect("a free port");
        let (sip, rtp) = (bind(), bind());
        for socket in [&sip, &rtp] {
            socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        }
        let local = sip.local_addr().expect("bound");
        let shared = Shared {
            call_id: token(),
            from: format!("<sip:caller@{local}>;tag={}", token()),
            to: Mutex::new(format!("<sip:{}@{}>", dial.user, dial.server)),
            target: Mutex::new(format!("sip:{}@{}", dial.user, dial.server)),
            cseq: AtomicU32::new(0),
            remote_rtp: Mutex::new(SocketAddr::new(dial.local_ip, 0)),
            outgoing: Mutex::default(),
            keys: Mutex::default(),
            heard: Mutex::default(),
            sent: AtomicU32::new(0),
            requests: Mutex::default(),
            muted: AtomicBool::new(dial.silent),
            stop: AtomicBool::new(false),
            dial,
            sip,
            rtp,
        };
        let body = shared.dial.offer.clone().unwrap_or_else(|| shared.sdp("sendrecv"));
        let invite = shared.request("INVITE", &shared.dial.headers.clone(), &body);
        let (answer, ringing) = shared.invite(&invite)?;
        if answer.status() != Some(200) {
            return Err(Some(answer));
        }
        let answered = Instant::now();
        *shared.to.lock().expect("lock") = answer.header("To").expect("To").to_owned();
        if let Some(contact) = answer.header("Contact") {
            let uri =
                contact.split_once('<').map_or(contact, |(_, rest)| rest.split('>').next().unwrap_or(rest));
            *shared.target.lock().expect("lock") = uri.to_owned();
        }
        shared.follow(&answer);
        shared.ack(&answer);
        let shared = Arc::new(shared);
        let (sender, responses) = mpsc::channel();
        let threads = vec![
            spawn(&shared, move |shared| shared.signal(&sender)),
            spawn(&shared, |shared| shared.listen()),
            spawn(&shared, |shared| shared.speak()),
        ];
        Ok(Self { shared, responses, threads, answer, answered, ringing })
    }

    /// Speaks these samples (8 kHz) after what is queued already; silence follows.
    pub(crate) fn play(&self, samples: &[i16]) {
        let mut outgoing = self.shared.outgoing.lock().expect("lock");
        for block in samples.chunks(160) {
            let mut payload: Vec<u8> = block.iter().map(|&sample| encode_mu_law(sample)).collect();
            payload.resize(160, 0xFF);
            outgoing.push_back(payload);
        }
    }

    /// Sends these mu-law payloads, one per 20 ms.
    pub(crate) fn play_payloads(&self, payloads: Vec<Vec<u8>>) {
        self.shared.outgoing.lock().expect("lock").extend(payloads);
    }

    /// Whether everything queued was sent.
    pub(crate) fn has_spoken(&self) -> bool {
        self.shared.outgoing.lock().expect("lock").is_empty()
    }

    /// How many queued packets were not sent yet.
    pub(crate) fn unspoken(&self) -> usize {
        self.shared.outgoing.lock().expect("lock").len()
    }

    /// Sends these bytes from the media socket, valid RTP or not.
    pub(crate) fn send_raw_media(&self, bytes: &[u8]) {
        let _ = self.shared.rtp.send_to(bytes, self.remote_media());
    }

    /// Presses a key for 100 ms (RFC 4733).
    pub(crate) fn press(&self, key: char) {
        self.shared.keys.lock().expect("lock").push_back(key);
    }

    /// Stops or resumes sending RTP.
    pub(crate) fn mute(&self, muted: bool) {
        self.shared.muted.store(muted, Ordering::Relaxed);
    }

    /// All packets heard so far, in the order of arrival.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().expect("lock").clone()
    }

    pub(crate) fn heard_count(&self) -> usize {
        self.shared.heard.lock().expect("lock").len()
    }

    /// Audio packets sent so far.
    pub(crate) fn sent_count(&self) -> u32 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// The audio that arrived, placed by its timestamps; what did not arrive is silence.
    pub(crate) fn audio(&self) -> Vec<i16> {
        let heard = self.heard();
        let Some(first) = heard.iter().find(|packet| packet.payload_type == 0) else { return Vec::new() };
        let mut samples = Vec::new();
        for packet in heard.iter().filter(|packet| packet.payload_type == 0 && packet.ssrc == first.ssrc) {
            let at = packet.timestamp.wrapping_sub(first.timestamp) as usize;
            if at > 8000 * 600 {
                continue;
            }
            if samples.len() < at + packet.payload.len() {
                samples.resize(at + packet.payload.len(), 0);
            }
            for (sample, &byte) in samples[at..].iter_mut().zip(&packet.payload) {
                *sample = decode_mu_law(byte);
            }
        }
        samples
    }

    /// Requests that the other side sent within the dialog.
    pub(crate) fn requests(&self) -> Vec<(Instant, Message)> {
        self.shared.requests.lock().expect("lock").clone()
    }

    /// When the other side hung up.
    pub(crate) fn ended(&self) -> Option<Instant> {
        self.requests().iter().find(|(_, request)| request.method() == "BYE").map(|(at, _)| *at)
    }

    /// Our media address.
    pub(crate) fn media_address(&self) -> SocketAddr {
        self.shared.rtp.local_addr().expect("bound")
    }

    /// Where the server wants our media.
    pub(crate) fn remote_media(&self) -> SocketAddr {
        *self.shared.remote_rtp.lock().expect("lock")
    }

    /// A request within the dialog; its final response. A 2xx to INVITE is acknowledged and its SDP followed.
    pub(crate) fn request(&self, method: &str, headers: &[String], body: &str) -> Option<Message> {
        while self.responses.try_recv().is_ok() {}
        let text = self.shared.request(method, headers, body);
        let cseq = self.shared.cseq.load(Ordering::Relaxed);
        for _ in 0..8 {
            self.shared.send(&text);
            let end = Instant::now() + Duration::from_millis(700);
            while let Ok(response) =
                self.responses.recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                let own = response.header("CSeq").is_some_and(|value| value.starts_with(&format!("{cseq} ")));
                if !own || response.status().is_none_or(|status| status < 200) {
                    continue;
                }
                if response.status() == Some(200) && ["INVITE", "UPDATE"].contains(&method) {
                    self.shared.follow(&response);
                }
                return Some(response);
            }
        }
        None
    }

    /// Hangs up; the status that came back.
    pub(crate) fn hang_up(&self) -> Option<u16> {
        self.request("BYE", &[], "")?.status()
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        if self.ended().is_none() && !std::thread::panicking() {
            let text = self.shared.request("BYE", &[], "");
            self.shared.send(&text);
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(shared: &Arc<Shared>, run: impl FnOnce(&Shared) + Send + 'static) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || run(&shared))
}

impl Shared {
    fn sdp(&self, direction: &str) -> String {
        let sdp = sdp(self.rtp.local_addr().expect("bound"), direction);
        if self.dial.telephone_event {
            return sdp;
        }
        let lines =
            sdp.lines().filter(|line| !line.contains("telephone-event") && !line.contains("fmtp:101"));
        lines.map(|line| line.replace("RTP/AVP 0 101", "RTP/AVP 0") + "\r\n").collect()
    }

    fn send(&self, text: &str) {
        let _ = self.sip.send_to(text.as_bytes(), self.dial.server);
    }

    fn request(&self, method: &str, headers: &[String], body: &str) -> String {
        let cseq = match method {
            "ACK" => self.cseq.load(Ordering::Relaxed),
            _ => self.cseq.fetch_add(1, Ordering::Relaxed) + 1,
        };
        self.numbered_request(method, cseq, headers, body)
    }

    fn numbered_request(&self, method: &str, cseq: u32, headers: &[String], body: &str) -> String {
        let local = self.sip.local_addr().expect("bound");
        let (target, to) = (self.target.lock().expect("lock").clone(), self.to.lock().expect("lock").clone());
        let mut text = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bK{}\r\nMax-Forwards: 70\r\n\
             From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:caller@{local}>\r\n",
            token(),
            self.from,
            self.call_id
        );
        for line in headers {
            text += &format!("{line}\r\n");
        }
        if body.starts_with("v=0") {
            text += "Content-Type: application/sdp\r\n";
        }
        text + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Sends the INVITE until something comes, then waits for the final response.
    fn invite(&self, invite: &str) -> Result<(Message, Vec<u16>), Option<Message>> {
        let start = Instant::now();
        let mut ringing = Vec::new();
        let mut next_send = start;
        while start.elapsed() < self.dial.patience {
            if ringing.is_empty() && Instant::now() >= next_send {
                self.send(invite);
                next_send += Duration::from_millis(500);
            }
            let Some(response) = self.receive() else { continue };
            match response.status() {
                Some(status @ 100..200) => ringing.push(status),
                Some(200) => return Ok((response, ringing)),
                Some(_) => {
                    *self.to.lock().expect("lock") = response.header("To").unwrap_or_default().to_owned();
                    self.ack_refusal(invite, &response);
                    return Ok((response, ringing));
                }
                None => {}
            }
        }
        Err(None)
    }

    fn receive(&self) -> Option<Message> {
        let mut buffer = [0; 8192];
        let (size, _) = self.sip.recv_from(&mut buffer).ok()?;
        Message::parse(&buffer[..size]).filter(|message| message.header("Call-ID") == Some(&self.call_id))
    }

    /// The ACK of a 2xx is a request of its own, with the CSeq number of its INVITE.
    fn ack(&self, answer: &Message) {
        let cseq = answer.header("CSeq").and_then(|value| value.split(' ').next()?.parse().ok()).unwrap_or(1);
        let text = self.numbered_request("ACK", cseq, &[], "");
        self.send(&text);
    }

    /// The ACK of a refusal has the branch of its INVITE (RFC 3261 section 17.1.1.3).
    fn ack_refusal(&self, invite: &str, response: &Message) {
        let via = invite.lines().find(|line| line.starts_with("Via:")).unwrap_or_default();
        let line = invite.lines().next().unwrap_or_default().replacen("INVITE", "ACK", 1);
        let to = response.header("To").unwrap_or_default();
        self.send(&format!(
            "{line}\r\n{via}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: 1 ACK\r\n\
             Content-Length: 0\r\n\r\n",
            self.from, self.call_id
        ));
    }

    /// Sends media to where an SDP says.
    fn follow(&self, message: &Message) {
        if let Some(address) = message.audio_address() {
            *self.remote_rtp.lock().expect("lock") = address;
        }
    }

    /// The signalling thread: answers requests, hands responses over.
    fn signal(&self, responses: &mpsc::Sender<Message>) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some(message) = self.receive() else { continue };
            match (message.status(), message.method()) {
                (Some(200), "INVITE") => {
                    self.ack(&message);
                    let _ = responses.send(message);
                }
                (Some(_), _) => {
                    let _ = responses.send(message);
                }
                (None, "ACK") => {}
                (None, method) => {
                    let local = self.sip.local_addr().expect("bound");
                    let mut extra = vec![format!("Contact: <sip:caller@{local}>")];
                    let mut body = String::new();
                    if method == "INVITE" || method == "UPDATE" && !message.body.is_empty() {
                        extra.push("Content-Type: application/sdp".to_owned());
                        body = self.sdp("sendrecv");
                        self.follow(&message);
                    }
                    let response = message.response("200 OK", &extra, &body);
                    self.send(&response);
                    self.requests.lock().expect("lock").push((Instant::now(), message));
                }
            }
        }
    }

    /// The thread that hears.
    fn listen(&self) {
        let mut buffer = [0; 2048];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((size, _)) = self.rtp.recv_from(&mut buffer) else { continue };
            if let Some(packet) = Heard::parse(Instant::now(), &buffer[..size]) {
                self.heard.lock().expect("lock").push(packet);
            }
        }
    }

    /// The thread that speaks: one packet per 20 ms of real time, whatever the scheduler does.
    fn speak(&self) {
        let start = Instant::now();
        let mut header = Header {
            payload_type: 0,
            marker: true,
            sequence_number: 1,
            timestamp: 160,
            ssrc: std::process::id(),
        };
        header.ssrc ^=
            (start.elapsed().subsec_nanos() << 12) ^ u32::from(self.rtp.local_addr().expect("bound").port());
        let mut event: VecDeque<[u8; 4]> = VecDeque::new();
        let mut event_timestamp = 0;
        for tick in 1u32.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep((start + PTIME * tick).saturating_duration_since(Instant::now()));
            header.timestamp = tick.wrapping_mul(160);
            if self.muted.load(Ordering::Relaxed) {
                continue;
            }
            if event.is_empty()
                && let Some(key) = self.keys.lock().expect("lock").pop_front()
            {
                event.extend(telephone_event(key));
                event_timestamp = header.timestamp;
            }
            let packet = if let Some(payload) = event.pop_front() {
                let marker = payload[2..] == [0, 160];
                Header { payload_type: 101, marker, timestamp: event_timestamp, ..header }.packet(&payload)
            } else {
                let payload = self.outgoing.lock().expect("lock").pop_front();
                self.sent.fetch_add(1, Ordering::Relaxed);
                let packet = header.packet(&payload.unwrap_or_else(|| vec![0xFF; 160]));
                header.marker = false;
                packet
            };
            header.sequence_number = header.sequence_number.wrapping_add(1);
            let _ = self.rtp.send_to(&packet, *self.remote_rtp.lock().expect("lock"));
        }
    }
}

const PTIME: Duration = Duration::from_millis(20);
