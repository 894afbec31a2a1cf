//! Sending and receiving by kernel sockets: a few, each with many destinations.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

use super::check::Checker;
use super::flow::Flow;
use super::packet::{HEADER_BYTES, STAMP_BYTES, Stamp, fixed_part, write_header};
use super::plan::Plan;
use super::transport::Transport;
use super::watch;
use crate::callload::clock;
use crate::callload::g711::Law;

/// A few sockets and the buffers for their batches.
pub(super) struct Sockets {
    sockets: Vec<Socket>,
    /// By flow: which socket, and where to.
    ways: Vec<(usize, Law, SockaddrStorage)>,
    packets: Vec<u8>,
    packet_bytes: usize,
    samples: u32,
    send_headers: MultiHeaders<SockaddrStorage>,
    receive_headers: MultiHeaders<SockaddrStorage>,
    receive_buffer: Vec<u8>,
}

struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    drops: u64,
}

impl Sockets {
    pub(super) fn open(flows: &[Flow], payload_bytes: usize) -> anyhow::Result<Self> {
        let mut locals: Vec<SocketAddr> = flows.iter().map(|flow| flow.local).collect();
        locals.sort_unstable();
        locals.dedup();
        let sockets: Vec<Socket> = locals.into_iter().map(Socket::open).collect::<anyhow::Result<_>>()?;
        let ways = flows.iter().map(|flow| {
            let socket = sockets.partition_point(|socket| socket.local < flow.local);
            (socket, flow.law_sent, SockaddrStorage::from(flow.relay))
        });
        let ways = ways.collect();
        let packet_bytes = HEADER_BYTES + payload_bytes;
        Ok(Self {
            ways,
            packets: vec![0; SEND_BATCH * packet_bytes],
            packet_bytes,
            samples: payload_bytes as u32,
            send_headers: MultiHeaders::preallocate(SEND_BATCH, None),
            receive_headers: MultiHeaders::preallocate(RECEIVE_BATCH, Some(cmsg_space!(TimeSpec))),
            receive_buffer: vec![0; RECEIVE_BATCH * BUFFER_BYTES],
            sockets,
        })
    }

    /// Packets that follow each other in the schedule and leave by one socket.
    fn batch(&self, plan: &Plan, from: u64, due: u64) -> usize {
        let socket_of = |number: u64| self.ways[plan.at(number).0 as usize].0;
        let first = socket_of(from);
        (from..due.min(from + SEND_BATCH as u64)).take_while(|&number| socket_of(number) == first).count()
    }
}

impl Transport for Sockets {
    fn send(&mut self, plan: &Plan, from: u64, due: u64) -> (u64, u64) {
        let count = self.batch(plan, from, due);
        let sent = clock::now_ns() as u32;
        let bytes = self.packet_bytes;
        let mut addresses = [None; SEND_BATCH];
        for (at, packet) in self.packets.chunks_exact_mut(bytes).enumerate().take(count) {
            let (flow, index) = plan.at(from + at as u64);
            let (_, law, address) = self.ways[flow as usize];
            let stamp = Stamp { flow, index, sent };
            let Some((header, payload)) = packet.split_first_chunk_mut() else { continue };
            write_header(header, law.payload_type(), stamp, self.samples);
            stamp.write(law, payload);
            let fixed = &FIXED[law as usize];
            let rest = payload.len() - STAMP_BYTES;
            payload[STAMP_BYTES..].copy_from_slice(&fixed[..rest]);
            addresses[at] = Some(address);
        }
        let socket = self.sockets[self.ways[plan.at(from).0 as usize].0].socket.as_raw_fd();
        let slices: Vec<[IoSlice<'_>; 1]> =
            self.packets.chunks_exact(bytes).take(count).map(|packet| [IoSlice::new(packet)]).collect();
        let addresses = &addresses[..count];
        match sendmmsg(socket, &mut self.send_headers, &slices, addresses, [], MsgFlags::MSG_DONTWAIT) {
            Ok(results) => (results.count() as u64, 0),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => (0, 0),
            // One packet was refused; the others are tried again.
            Err(_) => (0, 1),
        }
    }

    fn receive(&mut self, checker: &mut Checker) -> usize {
        let offset_ns = clock::realtime_offset_ns();
        let mut total = 0;
        for socket in &self.sockets {
            let mut taken = [(0, None, 0); RECEIVE_BATCH];
            let mut slices: Vec<[IoSliceMut<'_>; 1]> = self
                .receive_buffer
                .chunks_exact_mut(BUFFER_BYTES)
                .map(|buffer| [IoSliceMut::new(buffer)])
                .collect();
            let descriptor = socket.socket.as_raw_fd();
            let flags = MsgFlags::MSG_DONTWAIT;
            let Ok(results) = recvmmsg(descriptor, &mut self.receive_headers, &mut slices, flags, None)
            else {
                continue;
            };
            let now_ns = clock::now_ns();
            let mut count = 0;
            for (message, taken) in results.zip(&mut taken) {
                let kernel_ns = message.cmsgs().ok().and_then(|mut messages| {
                    messages.find_map(|message| match message {
                        ControlMessageOwned::ScmTimestampns(time) => {
                            let realtime_ns = time.tv_sec() * 1_000_000_000 + time.tv_nsec();
                            u64::try_from(realtime_ns - offset_ns).ok()
                        }
                        _ => None,
                    })
                });
                let source = message.address.as_ref().and_then(address);
                *taken = (message.bytes, source, kernel_ns.unwrap_or(now_ns));
                count += 1;
            }
            let buffers = self.receive_buffer.chunks_exact(BUFFER_BYTES);
            for ((bytes, source, arrival_ns), buffer) in taken.into_iter().zip(buffers).take(count) {
                if let Some(source) = source {
                    checker.handle(source, socket.local, &buffer[..bytes], arrival_ns);
                }
            }
            total += count;
        }
        total
    }

    fn own_drops(&mut self) -> u64 {
        self.sockets.iter_mut().map(Socket::new_drops).sum()
    }
}

impl Socket {
    fn open(local: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(local).with_context(|| format!("cannot open {local}"))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        // Beyond the system's limit only as root; what the buffer drops is reported anyway.
        if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &SOCKET_BUFFER_BYTES)?;
        }
        Ok(Self { socket, local, drops: 0 })
    }

    /// Drops since the last time.
    fn new_drops(&mut self) -> u64 {
        let now = watch::socket_drops(&[self.local.port()]);
        now.saturating_sub(std::mem::replace(&mut self.drops, now))
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|&address| SocketAddr::V4(address.into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|&address| SocketAddr::V6(address.into())))
}

static FIXED: std::sync::LazyLock<[Vec<u8>; 2]> =
    std::sync::LazyLock::new(|| [Law::Pcmu, Law::Pcma].map(|law| fixed_part(law, 1_400)));

const SEND_BATCH: usize = 16;
const RECEIVE_BATCH: usize = 64;
const BUFFER_BYTES: usize = 1_536;
const SOCKET_BUFFER_BYTES: usize = 64 << 20;
