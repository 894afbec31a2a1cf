//! Backends that a call should not have: each connection gets the next of [`Behaviour::ALL`].

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::callload::{
    marker::SplitMix,
    streamload::{
        encoding::base64,
        websocket::{Message, WebSocket},
    },
};

/// What a backend does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Takes the connection and never reads from it.
    NeverReads,
    /// Takes the TCP connection and never answers the upgrade.
    IsDead,
    /// Reads, and never says a word.
    IsSilent,
    /// Thirty seconds of audio at once, every two seconds.
    Bursts,
    /// What is no message, fifty times a second.
    Garbage,
    /// A message of two megabytes.
    HugeFrame,
    /// Closes half a second after it was reached, in order or not.
    Reopens,
    /// Marks and clears for audio that never came, events that are not its to send, and other streams' names.
    Lies,
    /// Audio as fast as it is read.
    FloodsAudio,
    /// Pings and empty messages as fast as they are read.
    FloodsPings,
}

impl Behaviour {
    pub(super) const ALL: [Self; 10] = [
        Self::NeverReads,
        Self::IsDead,
        Self::IsSilent,
        Self::Bursts,
        Self::Garbage,
        Self::HugeFrame,
        Self::Reopens,
        Self::Lies,
        Self::FloodsAudio,
        Self::FloodsPings,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NeverReads => "never_reads",
            Self::IsDead => "is_dead",
            Self::IsSilent => "is_silent",
            Self::Bursts => "bursts",
            Self::Garbage => "garbage",
            Self::HugeFrame => "huge_frame",
            Self::Reopens => "reopens",
            Self::Lies => "lies",
            Self::FloodsAudio => "floods_audio",
            Self::FloodsPings => "floods_pings",
        }
    }
}

/// Connections so far and bytes that were taken from each kind.
#[derive(Default)]
struct Tally {
    connections: [AtomicU64; Behaviour::ALL.len()],
    bytes: [AtomicU64; Behaviour::ALL.len()],
}

impl Tally {
    fn report(&self) -> Value {
        let each = |counts: &[AtomicU64]| -> Map<String, Value> {
            let names = Behaviour::ALL.iter().map(|behaviour| behaviour.name().to_owned());
            names.zip(counts.iter().map(|count| json!(count.load(Ordering::Relaxed)))).collect()
        };
        json!({ "connections": each(&self.connections), "bytes": each(&self.bytes) })
    }
}

/// Serves until standard input ends; tells on each line of it what there was so far.
pub(super) fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    println!("{}", listener.local_addr()?);
    let tally = Arc::new(Tally::default());
    let counted = Arc::clone(&tally);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let place = number % Behaviour::ALL.len();
            counted.connections[place].fetch_add(1, Ordering::Relaxed);
            let tally = Arc::clone(&counted);
            thread::spawn(move || {
                let mut victim =
                    Victim { stream, websocket: WebSocket::default(), stream_sid: String::new() };
                let bytes = &tally.bytes[place];
                // Its end is the connection's, whatever it was.
                let _ = victim.suffer(Behaviour::ALL[place], number as u64, bytes);
            });
        }
    });
    for _ in io::stdin().lock().lines().map_while(Result::ok) {
        println!("{}", tally.report());
    }
    Ok(())
}

/// One connection.
struct Victim {
    stream: TcpStream,
    websocket: WebSocket,
    stream_sid: String,
}

impl Victim {
    fn suffer(&mut self, behaviour: Behaviour, number: u64, bytes: &AtomicU64) -> io::Result<()> {
        let _ = self.stream.set_nodelay(true);
        if behaviour == Behaviour::IsDead {
            thread::sleep(LIFE);
            return Ok(());
        }
        self.await_start()?;
        let until = Instant::now() + LIFE;
        let mut random = SplitMix(number);
        let second: Vec<u8> = (0..8_000).map(|_| random.next() as u8).collect();
        match behaviour {
            Behaviour::NeverReads | Behaviour::IsDead => thread::sleep(LIFE),
            Behaviour::IsSilent => self.read_for(LIFE)?,
            Behaviour::Bursts => {
                while Instant::now() < until {
                    for _ in 0..30 {
                        let text = self.audio(&second);
                        self.write(&text, bytes)?;
                    }
                    self.read_for(Duration::from_secs(2))?;
                }
            }
            Behaviour::Garbage => {
                let long = "[".repeat(20_000);
                let nonsense = [
                    "",
                    "{",
                    "null",
                    "\"media\"",
                    "{\"event\":7}",
                    "{\"event\":\"dance\"}",
                    &long,
                    "{\"event\":\"media\"}",
                ];
                for text in nonsense.iter().cycle().take_while(|_| Instant::now() < until) {
                    self.websocket.send_binary(&second[..1_000]);
                    self.websocket.send(r#"{"event":"media","media":{"payload":"not base64 at all !!"}}"#);
                    self.write(text, bytes)?;
                    self.read_for(Duration::from_millis(20))?;
                }
            }
            Behaviour::HugeFrame => {
                let text = self.audio(&second.repeat(200));
                self.write(&text, bytes)?;
                self.read_for(LIFE)?;
            }
            Behaviour::Reopens => {
                self.read_for(Duration::from_millis(500))?;
                if number % 20 < 10 {
                    self.stream.write_all(&[0x88, 2, 0x03, 0xf3])?;
                    self.read_for(Duration::from_millis(200))?;
                }
            }
            Behaviour::Lies => {
                for mark in 0.. {
                    if Instant::now() >= until {
                        break;
                    }
                    let sid = self.stream_sid.clone();
                    let say = |event: &str, sid: &str| {
                        format!(
                            r#"{{"event":"{event}","streamSid":"{sid}","{event}":{{"name":"m{mark}","digit":"5","reason":"x"}}}}"#
                        )
                    };
                    for text in [
                        say("mark", &sid),
                        say("mark", "MZ00000000000000000000000000000000"),
                        say("clear", &sid),
                        say("stop", &sid),
                        say("start", "MZ00000000000000000000000000000000"),
                        say("dtmf", &sid),
                        r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#.to_owned(),
                    ] {
                        self.write(&text, bytes)?;
                    }
                    self.read_for(Duration::from_millis(5))?;
                }
            }
            Behaviour::FloodsAudio => {
                self.listen_elsewhere()?;
                let text = self.audio(&second[..160]);
                for _ in 0..100 {
                    self.websocket.send(&text);
                }
                self.pour(until, bytes)?;
            }
            Behaviour::FloodsPings => {
                self.listen_elsewhere()?;
                for _ in 0..500 {
                    self.websocket.send("");
                    self.websocket.outgoing.extend_from_slice(&[0x89, 0]);
                }
                self.pour(until, bytes)?;
            }
        }
        Ok(())
    }

    /// Reads up to the message that begins the stream.
    fn await_start(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16_384];
        loop {
            let len = self.stream.read(&mut buffer)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.websocket.handle_bytes(&buffer[..len]).map_err(io::Error::other)?;
            self.flush()?;
            while let Some(message) = self.websocket.poll().map_err(io::Error::other)? {
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).unwrap_or_default();
                if message["event"] == "start" {
                    self.stream_sid = message["streamSid"].as_str().unwrap_or_default().to_owned();
                    return Ok(());
                }
            }
        }
    }

    /// Reads what comes and thinks nothing of it.
    fn read_for(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        let mut buffer = [0; 16_384];
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// So that nothing holds the flood up.
    fn listen_elsewhere(&self) -> io::Result<()> {
        let mut stream = self.stream.try_clone()?;
        thread::spawn(move || {
            let mut buffer = [0; 16_384];
            while stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
        });
        Ok(())
    }

    /// Writes what is queued again and again.
    fn pour(&mut self, until: Instant, bytes: &AtomicU64) -> io::Result<()> {
        while Instant::now() < until {
            self.stream.write_all(&self.websocket.outgoing)?;
            bytes.fetch_add(self.websocket.outgoing.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write(&mut self, text: &str, bytes: &AtomicU64) -> io::Result<()> {
        self.websocket.send(text);
        let len = self.websocket.outgoing.len() as u64;
        self.flush()?;
        bytes.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(&self.websocket.outgoing);
        self.websocket.outgoing.clear();
        written
    }

    fn audio(&self, mu_law: &[u8]) -> String {
        let mut text =
            format!(r#"{{"event":"media","streamSid":"{}","media":{{"payload":""#, self.stream_sid);
        base64(mu_law, &mut text);
        text.push_str(r#""}}"#);
        text
    }
}

/// Longer than any call.
const LIFE: Duration = Duration::from_secs(600);
