//! A capture: a device around a device that writes what goes in and out to a file, for tests and for finding faults.
//! What AF_XDP carries is seen by no packet socket, so tcpdump does not show it.
//!
//! A device has no frames, only datagrams, so Ethernet, IP and UDP headers are made up: locally administered MAC
//! addresses that say the direction (02:00:00:00:00:01 is this host), lengths and checksums as they should be. What the
//! kernel forwards by itself ([`Device::promote`]) does not come by here.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::wire::{HeaderTemplate, Hop, MAX_HEADER_BYTES, MIN_FRAME_BYTES, MacAddress};
use crate::{
    Datagram, Device, DeviceCounters, Doorbell, Flow, FlowCounters, Full, Handle, MAX_DATAGRAM_BYTES,
    Outgoing, PortIndex, Unpromoted,
};

/// See the module's documentation.
pub struct Capture {
    inner: Box<dyn Device>,
    file: PcapFile,
}

impl Capture {
    /// Wraps a device. The file holds at most `limit_bytes`; what would go beyond is not written any more.
    ///
    /// # Errors
    /// When `output` does not take the file's header.
    pub fn new(inner: Box<dyn Device>, output: Output, limit_bytes: u64) -> io::Result<Self> {
        Ok(Self { inner, file: PcapFile::new(output, limit_bytes)? })
    }
}

/// What a capture is written to.
pub type Output = Box<dyn Write + Send>;

/// A new file for [`Capture::new`].
///
/// # Errors
/// The operating system's.
pub fn file(path: &std::path::Path) -> io::Result<Output> {
    Ok(Box::new(BufWriter::new(File::create(path)?)))
}

impl Device for Capture {
    fn open(&mut self, local: SocketAddr) -> io::Result<PortIndex> {
        self.inner.open(local)
    }

    fn local_address(&self, port: PortIndex) -> Option<SocketAddr> {
        self.inner.local_address(port)
    }

    fn close(&mut self, port: PortIndex) {
        self.inner.close(port);
        self.file.flush();
    }

    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>) {
        self.inner.connect(port, remote);
    }

    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize {
        let Self { inner, file } = self;
        if file.left == 0 {
            return inner.receive(budget, handle);
        }
        // The inner device is busy while it hands out datagrams: the ports' addresses are looked up afterwards.
        let mut arrived = std::mem::take(&mut file.scratch);
        let taken = inner.receive(budget, &mut |datagram: Datagram<'_>| {
            let Datagram { port, remote, payload } = datagram;
            arrived.push(Direction::In, port, remote, payload);
            let on = handle(Datagram { port, remote, payload: &mut *payload });
            if let Some(Outgoing { path, len }) = on {
                arrived.push(Direction::Out, path.port, path.remote, &payload[..len.min(payload.len())]);
            }
            on
        });
        for (direction, port, remote, payload) in arrived.iter() {
            if let Some(local) = inner.local_address(port) {
                file.write(direction, local, remote, payload);
            }
        }
        arrived.clear();
        file.scratch = arrived;
        taken
    }

    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full> {
        let Self { inner, file } = self;
        if file.left == 0 {
            return inner.transmit(write);
        }
        let mut sent = std::mem::take(&mut file.scratch);
        let result = inner.transmit(&mut |buffer| {
            let outgoing = write(&mut *buffer)?;
            let len = outgoing.len.min(buffer.len());
            sent.push(Direction::Out, outgoing.path.port, outgoing.path.remote, &buffer[..len]);
            Some(outgoing)
        });
        for (direction, port, remote, payload) in sent.iter() {
            if let Some(local) = inner.local_address(port) {
                file.write(direction, local, remote, payload);
            }
        }
        sent.clear();
        file.scratch = sent;
        result
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn promote(&mut self, port: PortIndex, flow: &Flow) -> Result<(), Unpromoted> {
        self.inner.promote(port, flow)
    }

    fn demote(&mut self, port: PortIndex) -> Option<FlowCounters> {
        self.inner.demote(port)
    }

    fn flow_counters(&self, port: PortIndex) -> Option<FlowCounters> {
        self.inner.flow_counters(port)
    }

    fn wait(&mut self, timeout: Duration) {
        self.file.flush();
        self.inner.wait(timeout);
    }

    fn doorbell(&self) -> Doorbell {
        self.inner.doorbell()
    }

    fn counters(&self) -> Arc<DeviceCounters> {
        self.inner.counters()
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}

/// Which way a datagram went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

/// Datagrams that were seen while the inner device was busy.
#[derive(Debug, Default)]
struct Scratch {
    bytes: Vec<u8>,
    seen: Vec<(Direction, PortIndex, SocketAddr, usize)>,
}

impl Scratch {
    fn push(&mut self, direction: Direction, port: PortIndex, remote: SocketAddr, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.seen.push((direction, port, remote, payload.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (Direction, PortIndex, SocketAddr, &[u8])> {
        let mut rest = &self.bytes[..];
        self.seen.iter().map(move |(direction, port, remote, len)| {
            let (payload, after) = rest.split_at(*len);
            rest = after;
            (*direction, *port, *remote, payload)
        })
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.seen.clear();
    }
}

/// The file (draft-ietf-opsawg-pcap section 4), with nanoseconds.
struct PcapFile {
    output: Output,
    left: u64,
    scratch: Scratch,
}

impl PcapFile {
    fn new(mut output: Output, limit_bytes: u64) -> io::Result<Self> {
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC_NANOSECONDS.to_le_bytes());
        header.extend(2u16.to_le_bytes());
        header.extend(4u16.to_le_bytes());
        header.extend([0; 8]);
        header.extend((FRAME_BYTES as u32).to_le_bytes());
        header.extend(LINK_TYPE_ETHERNET.to_le_bytes());
        output.write_all(&header)?;
        let left = limit_bytes.saturating_sub(header.len() as u64);
        Ok(Self { output, left, scratch: Scratch::default() })
    }

    fn write(&mut self, direction: Direction, local: SocketAddr, remote: SocketAddr, payload: &[u8]) {
        let (local, remote) = of_one_family(local, remote);
        let (source, destination, hop) = match direction {
            Direction::In => (remote, local, Hop { source_mac: THERE, destination_mac: HERE, vlan: None }),
            Direction::Out => (local, remote, Hop { source_mac: HERE, destination_mac: THERE, vlan: None }),
        };
        let Some(template) = HeaderTemplate::new(&hop, source, destination, 0) else { return };
        let mut frame = [0; FRAME_BYTES];
        let at = template.len();
        let Some(room) = frame.get_mut(at..at + payload.len()) else { return };
        room.copy_from_slice(payload);
        let Some(len) = template.write(&mut frame, payload.len()) else { return };
        let record = RECORD_HEADER_BYTES + len as u64;
        if record > self.left {
            // Smaller ones would fit, but a gap is worse than an end.
            self.left = 0;
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut header = [0; RECORD_HEADER_BYTES as usize];
        let words = [now.as_secs() as u32, now.subsec_nanos(), len as u32, len as u32];
        for (bytes, word) in header.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.left -= record;
        // A file that cannot be written ends the capture, not the media.
        if self.output.write_all(&header).and_then(|()| self.output.write_all(&frame[..len])).is_err() {
            self.left = 0;
        }
    }

    fn flush(&mut self) {
        if self.output.flush().is_err() {
            self.left = 0;
        }
    }
}

impl Drop for PcapFile {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A port on all addresses has none in the family of its peer.
fn of_one_family(local: SocketAddr, remote: SocketAddr) -> (SocketAddr, SocketAddr) {
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let ip = match (local.ip().to_canonical(), remote.ip()) {
        (IpAddr::V6(ip), IpAddr::V4(_)) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0]),
        (ip, _) => ip,
    };
    (SocketAddr::new(ip, local.port()), remote)
}

const HERE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const THERE: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINK_TYPE_ETHERNET: u32 = 1;
const RECORD_HEADER_BYTES: u64 = 16;
const FRAME_BYTES: usize = MAX_HEADER_BYTES + MAX_DATAGRAM_BYTES;

const _: () = assert!(MIN_FRAME_BYTES < FRAME_BYTES);
