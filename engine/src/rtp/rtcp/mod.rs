//! RTCP compound packets (RFC 3550 section 6): sender and receiver reports, SDES CNAME, BYE.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod interval;
mod report;
#[cfg(test)]
mod tests;
mod writer;

pub use interval::{first_interval, report_interval};
pub use report::{ReportBlock, SenderInfo};
pub use writer::CompoundWriter;

use super::RejectReason;

/// A compound packet whose lengths add up (RFC 3550 appendix A.2). Reduced-size ones (RFC 5506), which do
/// not begin with a report, are accepted.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |V=2|P|  count  |      PT       |     length (words - 1)        |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                 body, by packet type                          |
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a>(&'a [u8]);

impl<'a> Compound<'a> {
    /// Walks all headers once.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RejectReason> {
        let mut rest = datagram;
        if rest.len() < HEADER_BYTES {
            return Err(RejectReason::TooShort);
        }
        while !rest.is_empty() {
            let (header, body) = split(rest)?;
            if !(192..=223).contains(&header.packet_type) {
                return Err(RejectReason::RtcpType);
            }
            // Only the last packet may be padded (section 6.4.1).
            if header.padding && !body.rest.is_empty() {
                return Err(RejectReason::Padding);
            }
            rest = body.rest;
        }
        Ok(Self(datagram))
    }

    /// The packets in order; those of unknown type or with a body too short for their count are left out.
    pub fn packets(self) -> impl Iterator<Item = Packet<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                let (header, body) = split(rest).ok()?;
                rest = body.rest;
                if let Some(packet) = Packet::read(header, body.own) {
                    return Some(packet);
                }
            }
        })
    }
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// SR (section 6.4.1).
    SenderReport {
        /// Who reports.
        ssrc: u32,
        /// What it sent.
        info: SenderInfo,
        /// What it heard.
        blocks: ReportBlocks<'a>,
    },
    /// RR (section 6.4.2).
    ReceiverReport {
        /// Who reports.
        ssrc: u32,
        /// What it heard.
        blocks: ReportBlocks<'a>,
    },
    /// SDES (section 6.5), not looked into: a voice call needs nobody's CNAME.
    SourceDescription,
    /// BYE (section 6.6).
    Bye {
        /// Who leaves.
        sources: Sources<'a>,
    },
}

impl<'a> Packet<'a> {
    fn read(header: PacketHeader, body: &'a [u8]) -> Option<Self> {
        let count = usize::from(header.count);
        match header.packet_type {
            SENDER_REPORT => {
                let (ssrc, rest) = body.split_first_chunk::<4>()?;
                let (info, rest) = rest.split_first_chunk::<{ SenderInfo::BYTES }>()?;
                let blocks = ReportBlocks(rest.get(..count * ReportBlock::BYTES)?);
                let ssrc = u32::from_be_bytes(*ssrc);
                Some(Self::SenderReport { ssrc, info: SenderInfo::parse(info), blocks })
            }
            RECEIVER_REPORT => {
                let (ssrc, rest) = body.split_first_chunk::<4>()?;
                let blocks = ReportBlocks(rest.get(..count * ReportBlock::BYTES)?);
                Some(Self::ReceiverReport { ssrc: u32::from_be_bytes(*ssrc), blocks })
            }
            SOURCE_DESCRIPTION => Some(Self::SourceDescription),
            BYE => Some(Self::Bye { sources: Sources(body.get(..count * 4)?) }),
            _ => None,
        }
    }
}

/// The report blocks of one report, at most 31.
#[derive(Clone, Copy, Debug)]
pub struct ReportBlocks<'a>(&'a [u8]);

impl ReportBlocks<'_> {
    /// The blocks in order.
    pub fn iter(&self) -> impl Iterator<Item = ReportBlock> + '_ {
        self.0.as_chunks::<{ ReportBlock::BYTES }>().0.iter().map(ReportBlock::parse)
    }
}

/// The sources of a BYE, at most 31.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a>(&'a [u8]);

impl Sources<'_> {
    /// Whether a source is among them.
    #[must_use]
    pub fn contains(&self, ssrc: u32) -> bool {
        self.0.as_chunks::<4>().0.iter().any(|source| u32::from_be_bytes(*source) == ssrc)
    }
}

#[derive(Clone, Copy)]
struct PacketHeader {
    padding: bool,
    count: u8,
    packet_type: u8,
}

struct Body<'a> {
    own: &'a [u8],
    rest: &'a [u8],
}

/// Splits off the first packet.
fn split(bytes: &[u8]) -> Result<(PacketHeader, Body<'_>), RejectReason> {
    let (&[first, packet_type, l0, l1], rest) =
        bytes.split_first_chunk::<HEADER_BYTES>().ok_or(RejectReason::RtcpLength)?;
    if first >> 6 != 2 {
        return Err(RejectReason::Version);
    }
    let length = usize::from(u16::from_be_bytes([l0, l1])) * 4;
    let (own, rest) = rest.split_at_checked(length).ok_or(RejectReason::RtcpLength)?;
    let header = PacketHeader { padding: first & 0x20 != 0, count: first & 0x1F, packet_type };
    Ok((header, Body { own, rest }))
}

const HEADER_BYTES: usize = 4;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
