//! One place for a call: its dialog, its sockets and both directions of its media. Used again and again.

use std::{net::SocketAddr, net::UdpSocket, sync::Arc};

use super::{
    clock,
    g711::Law,
    receiver::{Arrival, Receiver},
    rtp::{HEADER_LEN, Packet},
    sdp::RemoteMedia,
    sender::{PACKET_LEN, Sender, Speech},
    sip::{Uac, UacConfig},
    stamp::Stamp,
    stats::Stats,
    track::{SentAudio, Track},
};

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    /// INVITE sent; early media counts.
    Setup,
    /// Answered: packets go out.
    Talking,
    /// Nothing goes out any more, what is on its way is still welcome.
    Lingering,
    /// BYE or CANCEL sent.
    Leaving,
}

/// RTP and RTCP sockets of a call.
pub(super) struct MediaSockets {
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
    pub(super) local: SocketAddr,
    pub(super) dropped: u32,
}

/// A packet that left.
pub(super) struct SentPacket {
    packet: [u8; PACKET_LEN],
    len: usize,
    /// Its first sample in everything the call sent.
    pub(super) index: i64,
    pub(super) sent_ns: u64,
}

impl SentPacket {
    /// Audio, or four bytes of a telephone event.
    pub(super) fn payload(&self) -> &[u8] {
        &self.packet[HEADER_LEN..self.len]
    }
}

pub(super) struct Call {
    pub(super) uac: Uac,
    pub(super) phase: Phase,
    pub(super) number: u64,
    pub(super) media: Option<MediaSockets>,
    pub(super) remote: Option<RemoteMedia>,
    pub(super) sdp_version: u32,
    pub(super) invite_ns: u64,
    pub(super) bye_ns: u64,
    /// End of the present phase.
    pub(super) until_ns: u64,
    pub(super) ringing: bool,
    /// Packets carry their send time.
    pub(super) stamped: bool,
    first_rtp: bool,
    sender: Sender,
    sent_audio: SentAudio,
    /// Send time by sequence number, for far ends that reflect packets.
    sent_ns: Vec<(u16, u64)>,
    receiver: Receiver,
    track: Track,
    sent: u64,
    unique: u64,
    /// Gaps seen in this call before its last restart.
    lost_in_sequence: u64,
    foreign: bool,
}

impl Call {
    pub(super) fn new(config: Arc<UacConfig>, speech: Arc<Speech>, media: Option<MediaSockets>) -> Self {
        Self {
            uac: Uac::new(config),
            phase: Phase::Free,
            number: 0,
            remote: None,
            sdp_version: 1,
            invite_ns: 0,
            bye_ns: 0,
            until_ns: u64::MAX,
            ringing: false,
            stamped: false,
            first_rtp: false,
            sender: Sender::new(speech, 0, 0, ""),
            sent_audio: SentAudio::new(),
            sent_ns: if media.is_some() { vec![(0, 0); SENT_TIMES] } else { Vec::new() },
            media,
            receiver: Receiver::default(),
            track: Track::new(),
            sent: 0,
            unique: 0,
            lost_in_sequence: 0,
            foreign: false,
        }
    }

    /// Makes the place ready for call `number`.
    pub(super) fn begin(&mut self, now_ns: u64, number: u64, sender: Sender) {
        self.phase = Phase::Setup;
        self.number = number;
        self.remote = None;
        self.sdp_version = 1;
        self.invite_ns = now_ns;
        self.until_ns = u64::MAX;
        self.ringing = false;
        self.first_rtp = false;
        self.sender = sender;
        self.sent_audio.reset();
        self.sent_ns.fill((0, 0));
        self.sent = 0;
        self.unique = 0;
        self.lost_in_sequence = 0;
        self.foreign = false;
    }

    pub(super) fn adopt(&mut self, remote: RemoteMedia) {
        self.sender.adopt(&remote);
        self.remote = Some(remote);
    }

    /// Law of the stream we send, for the answer to a re-offer.
    pub(super) fn law(&self) -> Law {
        self.sender.law
    }

    /// Sends the packet that was due at `due_ns`.
    pub(super) fn send(&mut self, due_ns: u64, stats: &mut Stats) -> Option<SentPacket> {
        let (Some(media), Some(remote)) = (&self.media, self.remote.filter(|remote| remote.send)) else {
            return None;
        };
        let mut packet = [0; PACKET_LEN];
        let before_ns = clock::now_ns();
        if before_ns.saturating_sub(due_ns) > SKIP_NS {
            // A burst of old packets would be lost in the far end's jitter buffer and look like its fault.
            stats.counters.rtp_skipped += 1;
            self.sender.skip(&mut self.sent_audio);
            return None;
        }
        let index = self.sent_audio.end();
        let sequence_number = self.sender.next_sequence_number();
        let (len, marker) = self.sender.write_next(&mut self.sent_audio, &mut packet);
        let now_ns = clock::now_ns();
        if self.stamped && len == PACKET_LEN {
            Stamp { sent_ns: now_ns, number: self.sent as u32 }.write(&mut packet[HEADER_LEN..]);
        }
        stats.lateness.record_ns(now_ns.saturating_sub(due_ns));
        if media.rtp.send_to(&packet[..len], remote.address).is_err() {
            stats.counters.rtp_send_errors += 1;
            return None;
        }
        stats.counters.rtp_sent += 1;
        self.sent += 1;
        if let Some(entry) = self.sent_ns.get_mut(usize::from(sequence_number) % SENT_TIMES) {
            *entry = (sequence_number, now_ns);
        }
        if let Some(marker) = marker {
            self.track.expect_marker(marker.template, marker.index, now_ns, stats);
        }
        Some(SentPacket { packet, len, index, sent_ns: now_ns })
    }

    /// A datagram on the RTP socket. Returns the audio in it that did not come before.
    pub(super) fn handle_rtp<'a>(
        &mut self,
        arrival_ns: u64,
        source: SocketAddr,
        datagram: &'a [u8],
        speech: &Speech,
        stats: &mut Stats,
    ) -> Option<&'a [u8]> {
        match self.phase {
            Phase::Setup | Phase::Talking | Phase::Lingering => {}
            Phase::Leaving => return None,
            Phase::Free => {
                stats.counters.rtp_stray += 1;
                return None;
            }
        }
        let Some(packet) = Packet::parse(datagram) else {
            stats.counters.rtp_malformed += 1;
            return None;
        };
        if self.remote.is_some_and(|remote| remote.address != source) {
            stats.counters.rtp_other_source += 1;
        }
        if !self.first_rtp {
            self.first_rtp = true;
            stats.first_rtp.record_ns(arrival_ns.saturating_sub(self.invite_ns));
        }
        let law = Law::from_payload_type(packet.payload_type);
        let is_event = law.is_none()
            && packet.payload.len() == 4
            && (packet.payload_type == super::sdp::TELEPHONE_EVENT
                || self.remote.is_some_and(|remote| remote.telephone_event == Some(packet.payload_type)));
        stats.counters.rtp_telephone_events += u64::from(is_event);
        stats.counters.rtp_other_payload += u64::from(law.is_none() && !is_event);
        let lost_before = stats.counters.rtp_lost_in_sequence;
        let arrival = self.receiver.handle_packet(arrival_ns, &packet, law.is_some(), stats);
        self.lost_in_sequence += stats.counters.rtp_lost_in_sequence - lost_before;
        let timestamp = match arrival {
            Arrival::Duplicate => return None,
            Arrival::Start { timestamp } => {
                self.track.restart(timestamp, stats);
                timestamp
            }
            Arrival::New { timestamp } => timestamp,
        };
        self.unique += 1;
        if packet.ssrc == self.sender.ssrc {
            let (number, sent_ns) = self.sent_ns[usize::from(packet.sequence_number) % SENT_TIMES];
            if number == packet.sequence_number && sent_ns != 0 {
                stats.counters.clock_errors += u64::from(arrival_ns < sent_ns);
                stats.packet_latency.record_ns(arrival_ns.saturating_sub(sent_ns));
            }
        } else {
            self.foreign = true;
        }
        if let Some(law) = law {
            let table = speech.table(law);
            let audio = packet.payload.iter().map(|&byte| table[usize::from(byte)]);
            self.track.handle_audio(timestamp, arrival_ns, audio, &self.sent_audio, stats);
        }
        law.map(|_| packet.payload)
    }

    /// Once a second.
    pub(super) fn sample_jitter(&self, stats: &mut Stats) {
        if let Some(jitter_ns) = self.receiver.jitter_ns() {
            stats.jitter.record_ns(jitter_ns);
        }
    }

    /// Adds up the media of the call; what comes later is not counted.
    pub(super) fn finish_media(&mut self, now_ns: u64, complete: bool, stats: &mut Stats) {
        self.sample_jitter(stats);
        let lost_before = stats.counters.rtp_lost_in_sequence;
        let reflected = self.receiver.ssrc().is_some() && !self.foreign;
        self.receiver.finish(stats);
        self.lost_in_sequence += stats.counters.rtp_lost_in_sequence - lost_before;
        // A far end that hung up in the middle owes nothing for what was on its way.
        let lost =
            if reflected && complete { self.sent.saturating_sub(self.unique) } else { self.lost_in_sequence };
        let nothing_came = self.sent > 0 && self.unique == 0;
        stats.counters.rtp_lost += if nothing_came { self.sent } else { lost };
        stats.counters.calls_reflected += u64::from(reflected);
        stats.counters.calls_without_rtp += u64::from(nothing_came);
        self.track.finish(now_ns, &self.sent_audio, stats);
    }
}

/// Later than this a packet is not sent at all.
const SKIP_NS: u64 = 200_000_000;
/// 20 s of packets.
const SENT_TIMES: usize = 1_024;
