//! Writes a compound packet into the caller's buffer: report, SDES with CNAME, perhaps BYE (RFC 3550
//! section 6.1).

use super::{BYE, RECEIVER_REPORT, ReportBlock, SENDER_REPORT, SOURCE_DESCRIPTION, SenderInfo};

/// Appends packets; what does not fit makes [`CompoundWriter::finish`] return `None`.
#[derive(Debug)]
pub struct CompoundWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
    overflow: bool,
}

impl<'a> CompoundWriter<'a> {
    /// Starts at the beginning of the buffer.
    #[must_use]
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0, overflow: false }
    }

    /// A sender report.
    #[must_use]
    pub fn sender_report(mut self, ssrc: u32, info: &SenderInfo, block: Option<&ReportBlock>) -> Self {
        let blocks = usize::from(block.is_some());
        self.header(blocks as u8, SENDER_REPORT, 4 + SenderInfo::BYTES + blocks * ReportBlock::BYTES);
        self.put(&ssrc.to_be_bytes());
        self.put(&info.write());
        self.report_block(block)
    }

    /// A receiver report; without a block it says that nothing was heard.
    #[must_use]
    pub fn receiver_report(mut self, ssrc: u32, block: Option<&ReportBlock>) -> Self {
        let blocks = usize::from(block.is_some());
        self.header(blocks as u8, RECEIVER_REPORT, 4 + blocks * ReportBlock::BYTES);
        self.put(&ssrc.to_be_bytes());
        self.report_block(block)
    }

    /// An SDES with one CNAME of at most 255 bytes (section 6.5.1).
    #[must_use]
    pub fn canonical_name(mut self, ssrc: u32, name: &[u8]) -> Self {
        let Ok(length) = u8::try_from(name.len()) else {
            self.overflow = true;
            return self;
        };
        // The item list ends with at least one zero octet, up to the next word.
        let item = 2 + name.len();
        let padding = 4 - item % 4;
        self.header(1, SOURCE_DESCRIPTION, 4 + item + padding);
        self.put(&ssrc.to_be_bytes());
        self.put(&[CNAME, length]);
        self.put(name);
        self.put([0; 4].get(..padding).unwrap_or_default());
        self
    }

    /// A BYE without reason.
    #[must_use]
    pub fn bye(mut self, ssrc: u32) -> Self {
        self.header(1, BYE, 4);
        self.put(&ssrc.to_be_bytes());
        self
    }

    /// The length of what was written, `None` if the buffer was too small.
    #[must_use]
    pub fn finish(self) -> Option<usize> {
        (!self.overflow).then_some(self.len)
    }

    fn report_block(mut self, block: Option<&ReportBlock>) -> Self {
        if let Some(block) = block {
            self.put(&block.write());
        }
        self
    }

    fn header(&mut self, count: u8, packet_type: u8, body_bytes: usize) {
        let [l0, l1] = ((body_bytes / 4) as u16).to_be_bytes();
        self.put(&[2 << 6 | count, packet_type, l0, l1]);
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.len..self.len + bytes.len()) {
            Some(target) => {
                target.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.overflow = true,
        }
    }
}

const CNAME: u8 = 1;
