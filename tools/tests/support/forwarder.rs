//! A UDP forwarder with known faults, on real sockets. It counts what it does to the packets and how long it really
//! held them, so that a busy machine does not spoil the comparison.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// What happens on the way from the caller to the far end. The way back is left alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Impairment {
    /// Packets lost of 1,000, at random with a fixed seed.
    pub(crate) lost_per_mille: u64,
    pub(crate) delay: Duration,
    /// Every n-th packet of a call is sent twice; 0 for none.
    pub(crate) repeat_every: u64,
    /// Every n-th packet of a call changes places with the next one; 0 for none.
    pub(crate) swap_every: u64,
    /// Echo here instead of forwarding, with new SSRC, sequence numbers and timestamps, in the other G.711 law and
    /// shifted by so many samples.
    pub(crate) rewrite_and_shift_samples: Option<usize>,
}

/// Counts and hold times of a forwarder.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) received: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) swapped: AtomicU64,
    held: Mutex<Vec<Duration>>,
}

/// Runs until dropped.
pub(crate) struct Forwarder {
    pub(crate) port: u16,
    pub(crate) faults: Arc<Faults>,
    stop: Arc<AtomicBool>,
}

struct Held {
    received: Instant,
    bytes: Vec<u8>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

/// What the forwarder knows of one caller.
struct Caller {
    upstream: Arc<UdpSocket>,
    packets: u64,
    waiting: Option<Held>,
    line: Vec<u8>,
}

impl Forwarder {
    /// Listens on a free port and forwards to `far`.
    pub(crate) fn start(far: SocketAddr, impairment: Impairment) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let forwarder =
            Self { port: socket.local_addr().unwrap().port(), faults: Arc::default(), stop: Arc::default() };
        let (queue, queued) = mpsc::channel::<Held>();
        let faults = Arc::clone(&forwarder.faults);
        thread::spawn(move || {
            // A fixed delay keeps the order, so a queue is enough.
            for held in queued {
                thread::sleep((held.received + impairment.delay).saturating_duration_since(Instant::now()));
                faults.held.lock().unwrap().push(held.received.elapsed());
                let _ = held.socket.send_to(&held.bytes, held.to);
            }
        });
        let (faults, stop) = (Arc::clone(&forwarder.faults), Arc::clone(&forwarder.stop));
        thread::spawn(move || receive(&socket, far, impairment, &queue, &faults, &stop));
        forwarder
    }

    /// Median of the time that packets were really held, in milliseconds.
    pub(crate) fn median_hold_ms(&self) -> f64 {
        let mut held = self.faults.held.lock().unwrap().clone();
        held.sort();
        held[held.len() / 2].as_secs_f64() * 1e3
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn receive(
    socket: &Arc<UdpSocket>,
    far: SocketAddr,
    impairment: Impairment,
    queue: &mpsc::Sender<Held>,
    faults: &Faults,
    stop: &Arc<AtomicBool>,
) {
    let mut callers: HashMap<SocketAddr, Caller> = HashMap::new();
    let mut buffer = [0; 2_048];
    let mut random = 0x1234_5678_9abc_def0u64;
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, source)) = socket.recv_from(&mut buffer) else { continue };
        let received = Instant::now();
        let bytes = buffer[..len].to_vec();
        faults.received.fetch_add(1, Ordering::Relaxed);
        let caller = callers.entry(source).or_insert_with(|| Caller::new(socket, source, stop));
        caller.packets += 1;
        // xorshift64
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if random % 1_000 < impairment.lost_per_mille {
            faults.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let held = match impairment.rewrite_and_shift_samples {
            Some(shift) => {
                let bytes = caller.rewrite(&bytes, shift);
                Held { received, bytes, socket: Arc::clone(socket), to: source }
            }
            None => Held { received, bytes, socket: Arc::clone(&caller.upstream), to: far },
        };
        let nth = |every: u64| every > 0 && caller.packets.is_multiple_of(every);
        if nth(impairment.repeat_every) {
            faults.repeated.fetch_add(1, Ordering::Relaxed);
            let again = Held { bytes: held.bytes.clone(), socket: Arc::clone(&held.socket), ..held };
            queue.send(again).unwrap();
        }
        if nth(impairment.swap_every) {
            caller.waiting = Some(held);
            continue;
        }
        queue.send(held).unwrap();
        if let Some(waited) = caller.waiting.take() {
            faults.swapped.fetch_add(1, Ordering::Relaxed);
            queue.send(waited).unwrap();
        }
    }
}

impl Caller {
    fn new(socket: &Arc<UdpSocket>, source: SocketAddr, stop: &Arc<AtomicBool>) -> Self {
        let upstream = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        upstream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (back, down, stop) = (Arc::clone(&upstream), Arc::clone(socket), Arc::clone(stop));
        thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((len, _)) = back.recv_from(&mut buffer) {
                    let _ = down.send_to(&buffer[..len], source);
                }
            }
        });
        Self { upstream, packets: 0, waiting: None, line: Vec::new() }
    }

    /// The packet as another stream: the audio shifted and in the other law.
    fn rewrite(&mut self, bytes: &[u8], shift: usize) -> Vec<u8> {
        let is_mu = bytes[1] & 0x7f == 0;
        if self.line.is_empty() {
            self.line = vec![if is_mu { 0xff } else { 0xd5 }; shift];
        }
        self.line.extend_from_slice(&bytes[12..]);
        let audio: Vec<u8> = self.line.drain(..bytes.len() - 12).collect();
        let number = self.packets as u32;
        let mut out = vec![0x80, if is_mu { 8 } else { 0 }];
        out.extend((number as u16).wrapping_add(65_500).to_be_bytes());
        out.extend((number.wrapping_mul(160)).wrapping_sub(5_000).to_be_bytes());
        out.extend([9, 9, 9, 9]);
        let other_law = if is_mu { &*MU_TO_A } else { &*A_TO_MU };
        out.extend(audio.iter().map(|&byte| other_law[usize::from(byte)]));
        out
    }
}

// The other law by its definition: the code word whose level is nearest, apart from callload's code.

fn decode_mu(byte: u8) -> i32 {
    let code = u32::from(!byte);
    let magnitude = (((((code & 15) << 3) + 132) << ((code >> 4) & 7)) - 132) as i32;
    if code & 128 != 0 { -magnitude } else { magnitude }
}

fn decode_a(byte: u8) -> i32 {
    let code = i32::from(byte ^ 0x55);
    let (segment, step) = ((code >> 4) & 7, (code & 15) << 4);
    let magnitude = if segment == 0 { step + 8 } else { (step + 264) << (segment - 1) };
    if code & 128 != 0 { magnitude } else { -magnitude }
}

fn nearest(level: i32, decode: fn(u8) -> i32) -> u8 {
    (0..=255).min_by_key(|&byte| (decode(byte) - level).abs()).expect("256 code words")
}

static MU_TO_A: LazyLock<[u8; 256]> =
    LazyLock::new(|| std::array::from_fn(|byte| nearest(decode_mu(byte as u8), decode_a)));
static A_TO_MU: LazyLock<[u8; 256]> =
    LazyLock::new(|| std::array::from_fn(|byte| nearest(decode_a(byte as u8), decode_mu)));
