//! Sending and receiving by AF_XDP on one interface: this program writes and checks Ethernet, IPv4 and UDP itself.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::ensure;
use xdp::af_xdp::{Bare, Mode, Options};

use super::check::Checker;
use super::flow::Flow;
use super::link::{self, Header, PAYLOAD};
use super::packet::{HEADER_BYTES, STAMP_BYTES, Stamp, fixed_part, write_header};
use super::plan::Plan;
use super::transport::Transport;
use crate::callload::clock;
use crate::callload::g711::Law;

/// The interface's first queue.
pub(super) struct Xdp {
    bare: Bare,
    ways: Vec<(Header, Law)>,
    fixed: [Vec<u8>; 2],
    payload_bytes: usize,
    dropped: u64,
}

impl Xdp {
    pub(super) fn open(interface: &str, flows: &[Flow], payload_bytes: usize) -> anyhow::Result<Self> {
        let (_, own_mac) = link::interface(interface)?;
        let relay = link::v4(flows[0].relay)?;
        ensure!(
            flows.iter().all(|flow| flow.relay.ip() == *relay.ip()),
            "--via xdp sends to one address only"
        );
        let mac = link::neighbour(*relay.ip())?;
        let headers = flows.iter().map(|flow| {
            let (local, relay) = (link::v4(flow.local)?, link::v4(flow.relay)?);
            Ok((Header::new([own_mac, mac], local, relay, HEADER_BYTES + payload_bytes), flow.law_sent))
        });
        let ways = headers.collect::<anyhow::Result<_>>()?;
        let ports = flows.iter().map(|flow| flow.sink.port());
        let ports = (ports.clone().min().unwrap_or(0), ports.max().unwrap_or(0));
        let options = Options { frames: 8_192, ..Options::new(interface) };
        let bare = Bare::open(&options, ports, Mode::Native)?;
        let fixed = [Law::Pcmu, Law::Pcma].map(|law| fixed_part(law, payload_bytes));
        Ok(Self { bare, ways, fixed, payload_bytes, dropped: 0 })
    }
}

impl Transport for Xdp {
    fn send(&mut self, plan: &Plan, from: u64, due: u64) -> (u64, u64) {
        let Self { bare, ways, fixed, payload_bytes, .. } = self;
        let sent = clock::now_ns() as u32;
        let mut count = 0;
        for number in from..due.min(from + BATCH) {
            let (flow, index) = plan.at(number);
            let (header, law) = &ways[flow as usize];
            let stamp = Stamp { flow, index, sent };
            let queued = bare.transmit(|frame| {
                let frame = &mut frame[..PAYLOAD + HEADER_BYTES + *payload_bytes];
                if let Some((rtp, payload)) = frame[PAYLOAD..].split_first_chunk_mut() {
                    write_header(rtp, law.payload_type(), stamp, *payload_bytes as u32);
                    stamp.write(*law, payload);
                    payload[STAMP_BYTES..].copy_from_slice(&fixed[*law as usize]);
                }
                header.write(frame);
                frame.len()
            });
            if !queued {
                break;
            }
            count += 1;
        }
        bare.flush();
        (count, 0)
    }

    fn receive(&mut self, checker: &mut Checker) -> usize {
        let now_ns = clock::now_ns();
        self.bare.receive(BATCH as usize, |frame| {
            let address = |ip: [u8; 4], port: [u8; 2]| {
                SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(ip), u16::from_be_bytes(port)))
            };
            if let Some(&[a, b, c, d, e, f, g, h, i, j, k, l]) = frame.get(26..).and_then(<[u8]>::first_chunk)
            {
                let (source, sink) = (address([a, b, c, d], [i, j]), address([e, f, g, h], [k, l]));
                match link::datagram(frame) {
                    Some(datagram) => checker.handle(source, sink, datagram, now_ns),
                    None => checker.handle_damaged(),
                }
            }
            false
        })
    }

    fn own_drops(&mut self) -> u64 {
        let now = self.bare.dropped();
        now - std::mem::replace(&mut self.dropped, now)
    }
}

const BATCH: u64 = 64;
