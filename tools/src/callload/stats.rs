//! Everything one worker counts. Workers share nothing; `run` adds them up at the end.

use std::collections::BTreeMap;

use super::histogram::Histogram;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Plain counts.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(super) struct Counters { $($(#[doc = $doc])* pub(super) $name: u64,)* }

        impl Counters {
            pub(super) fn add(&mut self, other: &Self) { $(self.$name += other.$name;)* }
            pub(super) fn each(&self) -> Vec<(&'static str, u64)> { vec![$((stringify!($name), self.$name),)*] }
        }
    };
}

counters! {
    /// INVITEs of new calls.
    calls_placed,
    /// Calls answered by 200 with a usable answer.
    calls_answered,
    /// Calls refused, timed out or answered unusably.
    calls_failed,
    /// Answered calls that the far end took down before we did.
    calls_ended_by_peer,
    /// Answered calls whose BYE got its 200.
    calls_ended_cleanly,
    /// Requests sent again by timers A and E.
    sip_retransmissions,
    /// 2xx responses that came again and were acknowledged again.
    sip_repeated_answers,
    /// SIP messages that could not be parsed or belong to no call.
    sip_unexpected,
    /// RTP packets sent, telephone events included.
    rtp_sent,
    /// RTP packets the kernel refused to send.
    rtp_send_errors,
    /// Packets not sent because this program was more than 200 ms late.
    rtp_skipped,
    /// RTP packets received, duplicates included.
    rtp_received,
    /// Received once or more: duplicates not counted.
    rtp_received_unique,
    /// Packets that never came back: gaps of the returned sequence numbers and, where the far end reflects our own
    /// packets, everything sent and not returned.
    rtp_lost,
    /// Gaps of the returned sequence numbers only (RFC 3550 A.3).
    rtp_lost_in_sequence,
    /// Packets with a sequence number below one that came earlier (RFC 4737).
    rtp_reordered,
    /// Sequence numbers received again.
    rtp_duplicate,
    /// Datagrams on the RTP port that are not RTP.
    rtp_malformed,
    /// RTP from an address other than the one in the answer.
    rtp_other_source,
    /// RTP of a payload type that is neither G.711 nor telephone-event.
    rtp_other_payload,
    /// Telephone-event packets received.
    rtp_telephone_events,
    /// Changes of SSRC, or jumps of the sequence number, within a call.
    rtp_restarts,
    /// RTP that came while no call used the socket.
    rtp_stray,
    /// Calls whose far end sent our own SSRC back.
    calls_reflected,
    /// Calls that got no RTP at all.
    calls_without_rtp,
    /// RTCP datagrams received.
    rtcp_received,
    /// Datagrams our own socket buffers dropped (SO_RXQ_OVFL): the instrument's loss, not the far end's.
    instrument_drops,
    /// Packets or markers that came back before they left: the two clocks disagree.
    clock_errors,
    /// Packets without a kernel receive timestamp.
    user_timestamps,
    /// Markers sent in the audio.
    markers_sent,
    /// Markers found in the returned audio.
    markers_found,
    /// Markers that did not come back within three marker periods.
    markers_lost,
    /// Changes of the offset between sent and returned audio.
    realignments,
    /// Returned packets whose audio equals what was sent, sample by sample.
    audio_exact,
    /// Returned packets whose audio correlates with what was sent (0.95 and more).
    audio_correlated,
    /// Returned packets that are silent where silence was sent.
    audio_silent,
    /// Returned packets that hold something else.
    audio_different,
    /// Returned packets that could not be compared (no marker found around them).
    audio_unjudged,
}

/// Counts and distributions of one worker.
#[derive(Clone)]
pub(super) struct Stats {
    pub(super) counters: Counters,
    /// When the last call was answered (monotonic).
    pub(super) last_answer_ns: u64,
    /// Failed calls by reason.
    pub(super) failures: BTreeMap<String, u64>,
    /// INVITE to the first 18x.
    pub(super) ringing: Histogram,
    /// INVITE to 200.
    pub(super) setup: Histogram,
    /// INVITE to the first RTP packet.
    pub(super) first_rtp: Histogram,
    /// BYE to its 200.
    pub(super) teardown: Histogram,
    /// Audio out to the same audio back.
    pub(super) audio_latency: Histogram,
    /// The same since the last progress line; not part of the report.
    pub(super) recent_latency: Histogram,
    /// Packet out to the same packet back, reflecting far ends only.
    pub(super) packet_latency: Histogram,
    /// RFC 3550 interarrival jitter, sampled once a second and call.
    pub(super) jitter: Histogram,
    /// Deviation of the spacing of consecutive packets from their timestamps.
    pub(super) spacing: Histogram,
    /// How late this program sent, against its schedule.
    pub(super) lateness: Histogram,
}

impl Stats {
    pub(super) fn new() -> Self {
        Self {
            counters: Counters::default(),
            last_answer_ns: 0,
            failures: BTreeMap::new(),
            ringing: Histogram::new(),
            setup: Histogram::new(),
            first_rtp: Histogram::new(),
            teardown: Histogram::new(),
            audio_latency: Histogram::new(),
            recent_latency: Histogram::new(),
            packet_latency: Histogram::new(),
            jitter: Histogram::new(),
            spacing: Histogram::new(),
            lateness: Histogram::new(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.last_answer_ns = self.last_answer_ns.max(other.last_answer_ns);
        for (reason, count) in &other.failures {
            *self.failures.entry(reason.clone()).or_default() += count;
        }
        for (mine, (_, theirs)) in self.histograms_mut().into_iter().zip(other.histograms()) {
            mine.add(theirs);
        }
    }

    pub(super) fn fail(&mut self, reason: String) {
        self.counters.calls_failed += 1;
        // A server could answer every call with a different phrase.
        if self.failures.len() < 100 || self.failures.contains_key(&reason) {
            *self.failures.entry(reason).or_default() += 1;
        }
    }

    /// Name and histogram of everything timed.
    pub(super) fn histograms(&self) -> [(&'static str, &Histogram); 9] {
        [
            ("ringing", &self.ringing),
            ("setup", &self.setup),
            ("first_rtp", &self.first_rtp),
            ("teardown", &self.teardown),
            ("audio_latency", &self.audio_latency),
            ("packet_latency", &self.packet_latency),
            ("jitter", &self.jitter),
            ("spacing_deviation", &self.spacing),
            ("sender_lateness", &self.lateness),
        ]
    }

    fn histograms_mut(&mut self) -> [&mut Histogram; 9] {
        [
            &mut self.ringing,
            &mut self.setup,
            &mut self.first_rtp,
            &mut self.teardown,
            &mut self.audio_latency,
            &mut self.packet_latency,
            &mut self.jitter,
            &mut self.spacing,
            &mut self.lateness,
        ]
    }
}
