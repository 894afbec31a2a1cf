//! The client: a few requests in flight, each repeated until it is answered.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};

use super::bencode::{Value, text_of};
use super::sdp;
use crate::callload::g711::Law;

/// Speaks NG with one server.
pub(in crate::rtpload) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    /// Begins every cookie and Call-ID, so that two runs do not meet.
    run: String,
    next_cookie: u64,
}

/// A call that the relay has set up.
#[derive(Clone, Debug)]
pub(in crate::rtpload) struct Call {
    id: String,
    /// Where parties A and B send to.
    pub(in crate::rtpload) relay: [SocketAddr; 2],
}

/// What a call is to be.
#[derive(Clone, Copy)]
pub(in crate::rtpload) struct Wanted {
    pub(in crate::rtpload) parties: [SocketAddr; 2],
    pub(in crate::rtpload) laws: [Law; 2],
    pub(in crate::rtpload) ptime_ms: u32,
}

impl Client {
    pub(in crate::rtpload) fn connect(server: SocketAddr) -> anyhow::Result<Self> {
        let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).context("cannot open a UDP socket")?;
        socket.connect(server).with_context(|| format!("no route to {server}"))?;
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let run = format!("{:x}{:x}", std::process::id(), since.as_micros());
        Ok(Self { socket, server, run, next_cookie: 0 })
    }

    /// Our address as the server sees it.
    pub(in crate::rtpload) fn local(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Waits until the server answers.
    pub(in crate::rtpload) fn ping(&mut self, patience: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + patience;
        loop {
            let request = vec![("command", "ping".into())];
            match self.exchange(vec![request], Duration::from_millis(200)) {
                Ok(answers) if text_of(&answers[0], "result") == Some("pong") => return Ok(()),
                Ok(_) => bail!("{} does not answer ping with pong", self.server),
                Err(error) if Instant::now() > until => {
                    return Err(error.context(format!("is an NG server listening on {}?", self.server)));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Sets calls up: all offers, then all answers.
    pub(in crate::rtpload) fn set_up(&mut self, wanted: &[Wanted]) -> anyhow::Result<Vec<Call>> {
        let ids: Vec<String> = (0..wanted.len()).map(|call| format!("{}-{call}", self.run)).collect();
        let request = |command: &str, id: &str, sdp: String| -> Vec<(&'static str, Value)> {
            vec![
                ("command", command.into()),
                ("call-id", id.into()),
                ("from-tag", "a".into()),
                ("sdp", Value::Text(sdp)),
                ("replace", Value::list(&["origin", "session-connection"])),
                ("ICE", "remove".into()),
            ]
        };
        let offers = ids.iter().zip(wanted).map(|(id, wanted)| {
            let [law, other] = wanted.laws;
            let mut offer = request("offer", id, sdp::write(wanted.parties[0], law, wanted.ptime_ms));
            if law != other {
                let transcode = ("transcode", Value::list(&[other.name()]));
                let mask = ("mask", Value::list(&[law.name()]));
                offer.push(("codec", Value::Dictionary(vec![transcode, mask])));
            }
            offer
        });
        let offered = self.exchange(offers.collect(), PATIENCE)?;
        let towards_b = offered.iter().zip(wanted).map(|(offered, wanted)| media(offered, wanted.laws[1]));
        // What the offer comes back with is for party B, the answer is for A.
        let towards_b: Vec<SocketAddr> = towards_b.collect::<anyhow::Result<_>>().context("offer")?;
        let answers = ids.iter().zip(wanted).map(|(id, wanted)| {
            let mut answer =
                request("answer", id, sdp::write(wanted.parties[1], wanted.laws[1], wanted.ptime_ms));
            answer.push(("to-tag", "b".into()));
            answer
        });
        let answered = self.exchange(answers.collect(), PATIENCE)?;
        let towards_a = answered.iter().zip(wanted).map(|(answered, wanted)| media(answered, wanted.laws[0]));
        let towards_a: Vec<SocketAddr> = towards_a.collect::<anyhow::Result<_>>().context("answer")?;
        let relays = towards_a.into_iter().zip(towards_b);
        Ok(ids.into_iter().zip(relays).map(|(id, (a, b))| Call { id, relay: [a, b] }).collect())
    }

    /// Ends calls.
    pub(in crate::rtpload) fn delete(&mut self, calls: &[Call]) -> anyhow::Result<()> {
        let deletes = calls.iter().map(|call| {
            vec![
                ("command", "delete".into()),
                ("call-id", call.id.as_str().into()),
                ("from-tag", "a".into()),
                ("delete-delay", Value::Integer(0)),
            ]
        });
        self.exchange(deletes.collect(), PATIENCE).map(|_| ())
    }

    /// Sends requests, a few at a time, and returns the answers in their order.
    fn exchange(
        &mut self,
        requests: Vec<Vec<(&'static str, Value)>>,
        patience: Duration,
    ) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut answers = vec![Vec::new(); requests.len()];
        let mut waiting: VecDeque<(usize, Vec<u8>)> = requests
            .into_iter()
            .enumerate()
            .map(|(at, request)| {
                self.next_cookie += 1;
                let mut bytes = format!("{}_{} ", self.run, self.next_cookie).into_bytes();
                Value::Dictionary(request).write(&mut bytes);
                (at, bytes)
            })
            .collect();
        let mut flying: HashMap<Vec<u8>, (usize, Vec<u8>, Instant, Instant)> = HashMap::new();
        let mut buffer = vec![0; 65_536];
        self.socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        while !waiting.is_empty() || !flying.is_empty() {
            while flying.len() < IN_FLIGHT
                && let Some((at, bytes)) = waiting.pop_front()
            {
                // A server that is not there yet refuses by ICMP, which shows at the next call.
                let _ = self.socket.send(&bytes);
                let cookie = bytes.split(|&byte| byte == b' ').next().unwrap_or_default().to_vec();
                let now = Instant::now();
                flying.insert(cookie, (at, bytes, now, now + AGAIN));
            }
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let Some(space) = buffer[..length].iter().position(|&byte| byte == b' ') else {
                        continue;
                    };
                    let Some((at, ..)) = flying.remove(&buffer[..space]) else { continue };
                    answers[at] = buffer[space + 1..length].to_vec();
                }
                Err(error) if timed_out(&error) => {
                    let now = Instant::now();
                    for (_, bytes, first, again) in flying.values_mut() {
                        ensure!(now - *first < patience, "{} does not answer", self.server);
                        if now > *again {
                            let _ = self.socket.send(bytes);
                            *again = now + AGAIN;
                        }
                    }
                }
                Err(error) => return Err(error).context(format!("no answer from {}", self.server)),
            }
        }
        Ok(answers)
    }
}

/// Where the relay wants a party's media, from the answer to an offer or answer.
fn media(answer: &[u8], law: Law) -> anyhow::Result<SocketAddr> {
    let shown = || String::from_utf8_lossy(answer).into_owned();
    ensure!(text_of(answer, "result") == Some("ok"), "the relay refused: {}", shown());
    let text = text_of(answer, "sdp").ok_or_else(|| anyhow!("no SDP in {}", shown()))?;
    let (media, payload_types) = sdp::parse(text).ok_or_else(|| anyhow!("no audio in {text}"))?;
    ensure!(payload_types.contains(&law.payload_type()), "{} is not offered in {text}", law.name());
    Ok(media)
}

fn timed_out(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted | ConnectionRefused)
}

const IN_FLIGHT: usize = 16;
const AGAIN: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);
