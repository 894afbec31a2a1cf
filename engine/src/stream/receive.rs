//! From a believed packet to the jitter buffer: payload type, SSRC, sequence.

use super::refusal::Refusal;
use super::{StreamParameters, StreamStatistics};
use crate::codec::{Codec, Law};
use crate::command::Digit;
use crate::dtmf::{DtmfReceiver, ReceivedDigit, TelephoneEvent};
use crate::jitter::{Arrival, FrameClock, Inserted, JitterBuffer, MAX_PAYLOAD_BYTES, Media, Pulled};
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::{Header, Packet, Reception, Sequence, SequenceTracker};
use crate::time::{Duration, Instant};

/// The receiving half of a stream.
#[derive(Debug)]
pub(super) struct Receiver {
    jitter: JitterBuffer,
    dtmf: DtmfReceiver,
    reception: Option<Reception>,
    /// Another SSRC of the same source, which takes over after some packets in a row.
    contender: Option<(u32, SequenceTracker)>,
    /// Losses of sources before the present one.
    lost_before: i64,
    packets: u64,
    bytes: u64,
    duplicates: u64,
    reordered: u64,
    late: u64,
    concealed: u64,
}

/// A payload type, looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Audio(Law),
    ComfortNoise,
    Event,
}

impl Payload {
    /// What a payload type was negotiated to be.
    pub(super) fn of(payload_type: u8, parameters: &StreamParameters) -> Option<Self> {
        if let Some(law) = parameters.receive.codec(payload_type).and_then(Codec::law) {
            Some(Self::Audio(law))
        } else if parameters.telephone_event.is_some_and(|event| event.receive == payload_type) {
            Some(Self::Event)
        } else if parameters.comfort_noise == Some(payload_type) {
            Some(Self::ComfortNoise)
        } else {
            None
        }
    }
}

/// What a packet gave.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    pub(super) digits: [Option<ReceivedDigit>; 2],
    pub(super) align: Option<Instant>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            jitter: JitterBuffer::new(),
            dtmf: DtmfReceiver::default(),
            reception: None,
            contender: None,
            lost_before: 0,
            packets: 0,
            bytes: 0,
            duplicates: 0,
            reordered: 0,
            late: 0,
            concealed: 0,
        }
    }

    /// Takes a packet of the believed source, which `arrived` at the latest then. `restart` says that the source itself is new.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        arrived: Instant,
        packet: &Packet<'_>,
        payload: Payload,
        clock: FrameClock,
        restart: bool,
    ) -> Result<Received, Refusal> {
        let bytes = packet.payload();
        let header = packet.header();
        let media = match payload {
            Payload::Audio(_) if bytes.is_empty() || bytes.len() > MAX_PAYLOAD_BYTES => {
                self.handle_useless(&header);
                return Err(Refusal::PayloadLength);
            }
            Payload::Audio(law) => Media::Audio(law, bytes),
            Payload::ComfortNoise => Media::ComfortNoise(bytes),
            Payload::Event => Media::Event,
        };
        let event = match payload {
            Payload::Event => Some(TelephoneEvent::parse(bytes).ok_or(Refusal::PayloadLength)?),
            Payload::Audio(_) | Payload::ComfortNoise => None,
        };
        let sequence = self.place(&header, restart)?;
        self.packets += 1;
        self.bytes += bytes.len() as u64;
        let mut received = Received::default();
        match event {
            Some(event) => {
                received.digits = self.dtmf.handle_packet(now, header.timestamp, header.marker, event);
            }
            None => {
                if let Some(reception) = &mut self.reception {
                    reception.measure_jitter(now, header.timestamp);
                }
            }
        }
        let arrival = Arrival { at: arrived, sequence, timestamp: header.timestamp, media };
        match self.jitter.insert(&arrival, clock) {
            Inserted::Align(moment) => received.align = Some(moment),
            Inserted::Late if matches!(media, Media::Audio(..)) => self.late += 1,
            Inserted::Late | Inserted::Waiting | Inserted::Duplicate => {}
        }
        Ok(received)
    }

    /// Counts a packet of the source that cannot be used, so that it does not count as lost.
    pub(super) fn handle_useless(&mut self, header: &Header) {
        if let Some(reception) = self.reception.as_mut().filter(|source| source.ssrc() == header.ssrc) {
            reception.update(header.sequence_number);
        }
    }

    /// The audio of one frame, and what it was made of.
    pub(super) fn pull(&mut self, tick: Instant, law: Law, frame: &mut [u8]) -> Pulled {
        let pulled = self.jitter.pull(tick, law, frame);
        if pulled == Pulled::Concealed {
            self.concealed += 1;
        }
        if self.dtmf.is_active() {
            frame.fill(law.silence());
            return Pulled::Pause;
        }
        pulled
    }

    /// The key that is down by telephone-events.
    pub(super) fn key_down(&self) -> Option<Digit> {
        self.dtmf.key_down()
    }

    /// Whether the audio of the next frame may still be on its way.
    pub(super) fn is_short(&self, now: Instant, samples: usize) -> bool {
        self.jitter.is_short(now, samples)
    }

    /// Leaves out what belongs to frames that are not made.
    pub(super) fn skip(&mut self, samples: u64) {
        self.jitter.skip(samples);
    }

    /// A key whose packets have ceased.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<ReceivedDigit> {
        self.dtmf.handle_timeout(now)
    }

    /// Media stops for now, by negotiation.
    pub(super) fn hold(&mut self) {
        self.jitter.reset();
    }

    /// The tick has moved to where the jitter buffer wanted it.
    pub(super) fn align(&mut self) {
        self.jitter.align();
    }

    pub(super) fn slew(&self, tick: Instant, samples: usize) -> i64 {
        self.jitter.slew(tick, samples)
    }

    pub(super) fn handle_sender_report(&mut self, now: Instant, ssrc: u32, middle_of_ntp: u32) {
        if let Some(reception) = self.reception.as_mut().filter(|source| source.ssrc() == ssrc) {
            reception.handle_sender_report(now, middle_of_ntp);
        }
    }

    pub(super) fn take_report(&mut self, now: Instant) -> Option<ReportBlock> {
        self.reception.as_mut().map(|reception| reception.take_report(now))
    }

    /// The SSRC that is heard.
    pub(super) fn ssrc(&self) -> Option<u32> {
        self.reception.map(|reception| reception.ssrc())
    }

    pub(super) fn fill(&self, statistics: &mut StreamStatistics, next_tick: Option<Instant>) {
        statistics.received_packets = self.packets;
        statistics.received_bytes = self.bytes;
        statistics.lost_packets = self.lost_before + self.reception.map_or(0, |source| source.lost());
        statistics.duplicate_packets = self.duplicates;
        statistics.reordered_packets = self.reordered;
        statistics.late_packets = self.late;
        statistics.jitter = self.reception.map_or(Duration::ZERO, |source| source.jitter());
        statistics.concealed_frames = self.concealed;
        statistics.jitter_buffer = next_tick.map_or(Duration::ZERO, |tick| self.jitter.delay(tick));
    }

    /// The extended sequence number of a packet, if it is to be heard.
    fn place(&mut self, header: &Header, restart: bool) -> Result<u64, Refusal> {
        let Some(reception) = &mut self.reception else { return Ok(self.restart(header)) };
        if reception.ssrc() != header.ssrc {
            if restart {
                return Ok(self.restart(header));
            }
            return self.contend(header);
        }
        self.contender = None;
        match reception.update(header.sequence_number) {
            Sequence::InOrder(number) => Ok(number),
            Sequence::Reordered(number) => {
                self.reordered += 1;
                Ok(number)
            }
            Sequence::Duplicate => {
                self.duplicates += 1;
                Err(Refusal::Duplicate)
            }
            Sequence::Probation => Err(Refusal::Probation),
            Sequence::Jump => Err(Refusal::SequenceJump),
            Sequence::Restarted(number) => {
                self.jitter.reset();
                Ok(number)
            }
        }
    }

    /// Another SSRC of the same address: heard when some packets in a row have come and none of the old
    /// source between them, so that two at once do not tear the audio.
    fn contend(&mut self, header: &Header) -> Result<u64, Refusal> {
        match &mut self.contender {
            Some((ssrc, tracker)) if *ssrc == header.ssrc => match tracker.update(header.sequence_number) {
                Sequence::InOrder(_) => Ok(self.restart(header)),
                _ => Err(Refusal::Probation),
            },
            _ => {
                self.contender = Some((header.ssrc, SequenceTracker::on_probation(header.sequence_number)));
                Err(Refusal::Probation)
            }
        }
    }

    fn restart(&mut self, header: &Header) -> u64 {
        if let Some(before) = self.reception {
            self.lost_before += before.lost();
            self.jitter.reset();
        }
        self.contender = None;
        let reception = Reception::new(header);
        self.reception = Some(reception);
        reception.highest()
    }
}
