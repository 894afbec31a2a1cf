//! RTCP of a relay: carried as it is, but for the numbers that [`super::Rewriting`] changes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::Rewriting;

/// What changes in RTCP of one party.
#[derive(Clone, Copy, Debug)]
pub(super) struct Translation {
    /// What changes in the RTP that it sends.
    pub(super) sent: Rewriting,
    /// What changed in the RTP that it reports on.
    pub(super) heard: Rewriting,
    /// The SSRC of that RTP before it was changed.
    pub(super) heard_ssrc: u32,
}

impl Translation {
    /// Whether nothing changes.
    pub(super) fn is_identity(&self) -> bool {
        self.sent == Rewriting::default() && self.heard == Rewriting::default()
    }

    /// Translates a compound packet that has been checked, in place.
    pub(super) fn apply(&self, compound: &mut [u8]) {
        let mut rest = compound;
        while let Some((header, after)) = rest.split_first_chunk_mut::<4>() {
            let &mut [first, packet_type, l0, l1] = header;
            let length = usize::from(u16::from_be_bytes([l0, l1])) * 4;
            let Some((body, next)) = after.split_at_mut_checked(length) else { return };
            self.apply_one(packet_type, usize::from(first & 0x1F), body);
            rest = next;
        }
    }

    fn apply_one(&self, packet_type: u8, count: usize, body: &mut [u8]) {
        let own = |word: &mut [u8; 4]| {
            if let Some(ssrc) = self.sent.ssrc {
                *word = ssrc.to_be_bytes();
            }
        };
        match packet_type {
            SENDER_REPORT | RECEIVER_REPORT => {
                let Some((sender, mut rest)) = body.split_first_chunk_mut::<4>() else { return };
                own(sender);
                if packet_type == SENDER_REPORT {
                    let Some((info, blocks)) = rest.split_first_chunk_mut::<SENDER_INFO_BYTES>() else {
                        return;
                    };
                    let [_, _, _, _, _, _, _, _, t0, t1, t2, t3, ..] = info;
                    let timestamp = u32::from_be_bytes([*t0, *t1, *t2, *t3]);
                    [*t0, *t1, *t2, *t3] = timestamp.wrapping_add(self.sent.timestamp_offset).to_be_bytes();
                    rest = blocks;
                }
                for block in rest.as_chunks_mut::<REPORT_BLOCK_BYTES>().0.iter_mut().take(count) {
                    self.apply_block(block);
                }
            }
            SOURCE_DESCRIPTION | FEEDBACK_TRANSPORT | FEEDBACK_PAYLOAD | EXTENDED_REPORT => {
                if let Some(sender) = body.first_chunk_mut() {
                    own(sender);
                }
            }
            BYE => body.as_chunks_mut::<4>().0.iter_mut().take(count).for_each(own),
            _ => {}
        }
    }

    /// A report block is about the other party's RTP as this one got it.
    fn apply_block(&self, block: &mut [u8; REPORT_BLOCK_BYTES]) {
        let [s0, s1, s2, s3, _, _, _, _, h0, h1, h2, h3, ..] = block;
        if self.heard.ssrc.is_some_and(|ssrc| ssrc == u32::from_be_bytes([*s0, *s1, *s2, *s3])) {
            [*s0, *s1, *s2, *s3] = self.heard_ssrc.to_be_bytes();
        }
        let highest = u32::from_be_bytes([*h0, *h1, *h2, *h3]);
        [*h0, *h1, *h2, *h3] = highest.wrapping_sub(u32::from(self.heard.sequence_offset)).to_be_bytes();
    }
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
/// RFC 4585.
const FEEDBACK_TRANSPORT: u8 = 205;
const FEEDBACK_PAYLOAD: u8 = 206;
/// RFC 3611.
const EXTENDED_REPORT: u8 = 207;
const SENDER_INFO_BYTES: usize = 20;
const REPORT_BLOCK_BYTES: usize = 24;
