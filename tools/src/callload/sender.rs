//! The outgoing RTP of a call: speech with a marker now and then, and telephone events when asked for.

use std::sync::Arc;

use super::{
    g711::Law,
    marker::{BLOCK, Template, waveform},
    rtp::{HEADER_LEN, event_of_digit, telephone_event, write_header},
    sdp::RemoteMedia,
    track::SentAudio,
};

/// Speech in both laws, cut into packets; all calls share it.
pub(super) struct Speech {
    blocks: [Vec<[u8; BLOCK]>; 2],
    tables: [[i16; 256]; 2],
}

impl Speech {
    pub(super) fn new(samples: &[i16]) -> Self {
        let encode = |law: Law| {
            let cut = samples.chunks_exact(BLOCK);
            cut.map(|block| std::array::from_fn(|i| law.encode(block[i]))).collect()
        };
        Self {
            blocks: [encode(Law::Pcmu), encode(Law::Pcma)],
            tables: [Law::Pcmu.table(), Law::Pcma.table()],
        }
    }

    pub(super) fn table(&self, law: Law) -> &[i16; 256] {
        &self.tables[usize::from(law == Law::Pcma)]
    }

    fn block(&self, law: Law, number: u64) -> &[u8; BLOCK] {
        let blocks = &self.blocks[usize::from(law == Law::Pcma)];
        &blocks[(number % blocks.len() as u64) as usize]
    }
}

/// A marker that is in the packet just written.
pub(super) struct SentMarker {
    pub(super) template: Template,
    /// Index of its first sample in everything this call sent.
    pub(super) index: i64,
}

/// Writes the packets of one call, one per 20 ms.
pub(super) struct Sender {
    speech: Arc<Speech>,
    pub(super) law: Law,
    pub(super) ssrc: u32,
    seed: u64,
    telephone_event: Option<u8>,
    sequence_number: u16,
    first_timestamp: u32,
    block: u64,
    marker_every: u64,
    digits: Vec<u8>,
    /// Packets into the digits; each digit takes [`DIGIT_STEPS`].
    digit_step: usize,
    event_timestamp: u32,
    talkspurt: bool,
}

impl Sender {
    pub(super) fn new(speech: Arc<Speech>, seed: u64, marker_every: u64, digits: &str) -> Self {
        Self {
            speech,
            law: Law::Pcmu,
            ssrc: (seed >> 32) as u32,
            seed,
            telephone_event: None,
            sequence_number: (seed >> 16) as u16,
            first_timestamp: seed as u32,
            block: 0,
            marker_every,
            digits: digits.chars().filter_map(event_of_digit).collect(),
            digit_step: 0,
            event_timestamp: 0,
            talkspurt: true,
        }
    }

    /// What the far end asked for.
    pub(super) fn adopt(&mut self, remote: &RemoteMedia) {
        self.law = remote.law;
        self.telephone_event = remote.telephone_event;
    }

    /// The next packet is never sent: its time passes as silence, its sequence number is kept for the next one.
    pub(super) fn skip(&mut self, sent: &mut SentAudio) {
        sent.push(&[0; BLOCK]);
        self.block += 1;
        self.talkspurt = true;
    }

    /// Sequence number of the packet that [`Self::write_next`] will write.
    pub(super) fn next_sequence_number(&self) -> u16 {
        self.sequence_number
    }

    /// Writes the next packet and returns its length.
    pub(super) fn write_next(
        &mut self,
        sent: &mut SentAudio,
        out: &mut [u8; PACKET_LEN],
    ) -> (usize, Option<SentMarker>) {
        let (header, payload) = out.split_first_chunk_mut::<HEADER_LEN>().expect("the packet is longer");
        let timestamp = self.first_timestamp.wrapping_add((self.block as u32).wrapping_mul(BLOCK as u32));
        let sequence_number = self.sequence_number;
        self.sequence_number = sequence_number.wrapping_add(1);
        let event = self.event(timestamp);
        self.block += 1;
        if let Some((payload_type, start, bytes)) = event {
            write_header(header, start, payload_type, sequence_number, self.event_timestamp, self.ssrc);
            payload[..4].copy_from_slice(&bytes);
            sent.push(&[0; BLOCK]);
            self.talkspurt = true;
            return (HEADER_LEN + 4, None);
        }
        write_header(header, self.talkspurt, self.law.payload_type(), sequence_number, timestamp, self.ssrc);
        self.talkspurt = false;
        let number = self.block - 1;
        let table = self.speech.table(self.law);
        let is_marker =
            self.marker_every > 0 && number % self.marker_every == FIRST_MARKER % self.marker_every;
        if is_marker {
            let samples = waveform(self.seed, number as u32);
            payload.iter_mut().zip(samples).for_each(|(byte, sample)| *byte = self.law.encode(sample));
        } else {
            // Every call begins somewhere else, so that audio of another call is seen as such.
            payload.copy_from_slice(self.speech.block(self.law, number + (self.seed >> 8) % 9_973));
        }
        let decoded: [i16; BLOCK] = std::array::from_fn(|i| table[usize::from(payload[i])]);
        let marker = is_marker.then(|| SentMarker { template: Template::new(&decoded), index: sent.end() });
        sent.push(&decoded);
        (PACKET_LEN, marker)
    }

    /// RFC 4733: eight packets of one event with growing duration, the end three times, then 100 ms of speech.
    fn event(&mut self, timestamp: u32) -> Option<(u8, bool, [u8; 4])> {
        let payload_type = self.telephone_event?;
        if self.block < DIGITS_BEGIN {
            return None;
        }
        let digit = *self.digits.get(self.digit_step / DIGIT_STEPS)?;
        let step = self.digit_step % DIGIT_STEPS;
        self.digit_step += 1;
        if step == 0 {
            self.event_timestamp = timestamp;
        }
        let duration = (step + 1).min(EVENT_PACKETS) * BLOCK;
        (step < EVENT_PACKETS + 2).then(|| {
            (payload_type, step == 0, telephone_event(digit, step + 1 >= EVENT_PACKETS, duration as u16))
        })
    }
}

/// Bytes of an audio packet.
pub(super) const PACKET_LEN: usize = HEADER_LEN + BLOCK;
const FIRST_MARKER: u64 = 10;
const DIGITS_BEGIN: u64 = 50;
const EVENT_PACKETS: usize = 8;
const DIGIT_STEPS: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callload::{rtp::Packet, speech};

    #[test]
    fn packets_are_continuous_and_digits_are_events_of_rfc_4733() {
        let speech = Arc::new(Speech::new(&speech::generated()));
        let (mut sender, mut sent) = (Sender::new(speech, 0xfff0_0000_fffe_fff0, 50, "5#"), SentAudio::new());
        let remote = RemoteMedia {
            address: "192.0.2.1:4000".parse().unwrap(),
            law: Law::Pcma,
            telephone_event: Some(96),
            send: true,
            receive: true,
        };
        sender.adopt(&remote);
        let (mut buffer, mut events, mut markers) = ([0; PACKET_LEN], Vec::new(), 0);
        for n in 0..200u32 {
            let (len, marker) = sender.write_next(&mut sent, &mut buffer);
            let packet = Packet::parse(&buffer[..len]).unwrap();
            assert_eq!(packet.sequence_number, 0xfffeu16.wrapping_add(n as u16));
            markers += usize::from(marker.is_some());
            if packet.payload_type == 96 {
                events.push((packet.payload[0], packet.payload[1] >> 7, packet.timestamp));
            } else {
                assert_eq!(packet.timestamp, 0xfffe_fff0u32.wrapping_add(n * 160));
                assert_eq!((packet.payload_type, packet.payload.len()), (8, 160));
            }
        }
        assert_eq!(events.len(), 20);
        assert_eq!(events.iter().map(|e| e.0).collect::<Vec<_>>(), [[5; 10], [11; 10]].concat());
        assert_eq!(events.iter().filter(|e| e.1 == 1).count(), 6);
        assert!(events[..10].iter().all(|e| e.2 == events[0].2), "one timestamp for one event");
        assert_eq!(markers, 4, "digits leave markers alone in their pauses");
        assert_eq!(sent.end(), 200 * 160);
    }
}
