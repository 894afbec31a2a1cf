//! What calls are counted by.

use std::time::Duration;

use engine::Counter;
use engine::stream::StreamStatistics;

xdp::counters! {
    /// What became of calls.
    pub struct CallCounters {
        offered: "Calls that arrived",
        answered: "Calls answered with 200",
        cancelled: "Calls that the caller gave up before the answer",
        rejected_3xx: "Calls refused with a redirection",
        rejected_4xx: "Calls refused for a reason in the request",
        rejected_5xx: "Calls refused for a reason on this side",
        rejected_6xx: "Calls refused for good",
        refused_media: "Calls refused because no media could be agreed on (488)",
        refused_full: "Calls refused because there were as many as allowed (503)",
        refused_route: "Calls to users that no rule matches (404)",
        ended_by_caller: "Calls ended by the caller's BYE",
        ended_by_app: "Calls ended because their app was done",
        ended_by_backend: "Calls ended because their AI backend hung up or failed",
        ended_by_transfer: "Calls ended because the caller was transferred",
        ended_by_operator: "Calls ended through the API",
        ended_by_drain: "Calls cut at the end of a drain or at shutdown",
        ended_by_media_timeout: "Calls ended because no media came",
        ended_by_media_loss: "Calls ended because their stream failed",
        ended_without_ack: "Calls ended because the 200 was never acknowledged",
        ended_by_expiry: "Calls ended because the session was not refreshed",
        ended_by_lost_peer: "Calls ended because the peer no longer answered",
        ended_by_failed_offer: "Calls ended because the caller's answer to our offer did not fit",
        ai_connect_failed: "Calls whose AI backend could not be reached",
        ai_fallbacks: "Times that a fallback agent took a call over, or answered it",
        ai_requests_refused: "Requests of AI backends that could not be carried out, such as transfers to unknown places",
        ai_recordings_refused: "Requests of AI backends to record a call, which is not in this version",
        ai_tools: "Functions that AI backends called",
        fallback_prompts: "Calls that heard the fallback prompt",
        offers_accepted: "Changes of running sessions that were accepted",
        offers_refused: "Changes of running sessions that were refused",
        holds: "Times a caller put us on hold",
        digits_rtp: "DTMF digits received as RTP events",
        digits_inband: "DTMF digits received as tones in the audio",
        digits_info: "DTMF digits received by INFO",
        digits_repeated: "DTMF digits of ended calls that came in two ways and were told once",
        infos_refused: "INFO bodies without a DTMF digit",
        remote_rtcp_byes: "RTCP BYEs received",
        rtp_received_packets: "RTP packets of ended calls that were accepted",
        rtp_late_packets: "RTP packets of ended calls that came after their turn to be played",
        rtp_refused_packets: "Packets of ended calls that were no acceptable RTP or RTCP",
        rtp_stranger_packets: "Packets of ended calls from addresses that were not negotiated",
        rtp_sent_packets: "RTP packets sent in ended calls",
    }
}

impl CallCounters {
    /// Adds up the media of a call that has ended.
    pub(crate) fn count_media(&self, statistics: &StreamStatistics) {
        self.rtp_received_packets.add(statistics.received_packets);
        self.rtp_late_packets.add(statistics.late_packets);
        self.rtp_refused_packets.add(statistics.refused_packets);
        self.rtp_stranger_packets.add(statistics.stranger_packets);
        self.rtp_sent_packets.add(statistics.sent_packets);
        self.digits_repeated.add(statistics.digits_repeated);
    }

    /// Counts a refusal by the class of its status.
    pub(crate) fn count_rejection(&self, status: u16) {
        match status / 100 {
            3 => self.rejected_3xx.increment(),
            4 => self.rejected_4xx.increment(),
            5 => self.rejected_5xx.increment(),
            _ => self.rejected_6xx.increment(),
        }
    }
}

/// How long calls took from INVITE to 200, as a Prometheus histogram.
#[derive(Debug, Default)]
pub struct SetupTime {
    buckets: [Counter; Self::BOUNDS.len()],
    count: Counter,
    microseconds: Counter,
}

impl SetupTime {
    /// The upper bounds of the buckets.
    pub const BOUNDS: [Duration; 12] = [
        Duration::from_millis(2),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(20),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(200),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(5),
        Duration::from_secs(10),
    ];

    pub(crate) fn observe(&self, time: Duration) {
        for (bucket, bound) in self.buckets.iter().zip(Self::BOUNDS) {
            if time <= bound {
                bucket.increment();
            }
        }
        self.count.increment();
        self.microseconds.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The upper bound of each bucket and how many calls took no longer.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        Self::BOUNDS.into_iter().zip(self.buckets.iter().map(Counter::value))
    }

    /// How many calls.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.value()
    }

    /// The sum of their times.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.microseconds.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let setup = SetupTime::default();
        setup.observe(Duration::from_millis(5));
        setup.observe(Duration::from_millis(60));
        setup.observe(Duration::from_secs(60));
        let counts: Vec<_> = setup.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!((setup.count(), setup.sum()), (3, Duration::from_millis(60_065)));
    }
}
