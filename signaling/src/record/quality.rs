//! How a leg sounded, from what its stream measured.
//!
//! The mean opinion score is estimated by the E-model (ITU-T G.107) with its default values, which leave 93.2 of the transmission
//! rating; from that the impairment by delay (Idd) and by loss (Ie-eff, with the values of G.113 appendix I for G.711 with
//! concealment: Ie 0, Bpl 25.1) are taken off. docs/api.md has the formulas.

use std::time::Duration;

use engine::stream::StreamStatistics;

use crate::call::milliseconds;
use crate::model::Quality;

/// What the figures of a stream say.
pub(crate) fn quality(statistics: &StreamStatistics) -> Quality {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    // Without a report of the peer nothing is known of what it received.
    let heard_of = statistics.round_trip.is_some() || statistics.remote_lost_packets != 0;
    Quality {
        received_packets: number(statistics.received_packets),
        lost_packets: statistics.lost_packets.max(0),
        sent_packets: number(statistics.sent_packets),
        jitter_ms: milliseconds(statistics.jitter),
        round_trip_ms: statistics.round_trip.map(milliseconds),
        remote_lost_packets: heard_of.then_some(statistics.remote_lost_packets),
        mos: (statistics.received_packets >= ENOUGH).then(|| mos(rating(statistics))),
    }
}

/// The transmission rating R.
fn rating(statistics: &StreamStatistics) -> f64 {
    // A packet that came after its turn was not heard either.
    let lost = statistics.lost_packets.max(0) as f64 + statistics.late_packets as f64;
    let expected = statistics.received_packets as f64 + statistics.lost_packets.max(0) as f64;
    let lost_percent = (100.0 * lost / expected.max(1.0)).min(100.0);
    // Half of the way there and back, the packet itself, and what a jitter buffer has to hold back.
    let way = statistics.round_trip.unwrap_or_default() / 2;
    let delay = way + PACKET + statistics.jitter * 2;
    DEFAULT_RATING - delay_impairment(delay) - loss_impairment(lost_percent)
}

/// Idd (G.107 section 7.4); echo is not measured and taken to be cancelled.
fn delay_impairment(delay: Duration) -> f64 {
    let milliseconds = milliseconds(delay);
    if milliseconds <= 100.0 {
        return 0.0;
    }
    let x = (milliseconds / 100.0).log2();
    25.0 * ((1.0 + x.powi(6)).powf(1.0 / 6.0) - 3.0 * (1.0 + (x / 3.0).powi(6)).powf(1.0 / 6.0) + 2.0)
}

/// Ie-eff (G.107 section 7.5) for random loss.
fn loss_impairment(percent: f64) -> f64 {
    EQUIPMENT + (95.0 - EQUIPMENT) * percent / (percent + ROBUSTNESS)
}

/// From R to the mean opinion score (G.107 annex B), to two digits.
fn mos(rating: f64) -> f64 {
    let mos = if rating <= 0.0 {
        1.0
    } else if rating >= 100.0 {
        4.5
    } else {
        1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6
    };
    (mos.clamp(1.0, 4.5) * 100.0).round() / 100.0
}

/// A second of packets; less tells nothing.
const ENOUGH: u64 = 50;
const PACKET: Duration = Duration::from_millis(20);
const DEFAULT_RATING: f64 = 93.2;
/// Ie of G.711.
const EQUIPMENT: f64 = 0.0;
/// Bpl of G.711 with concealment.
const ROBUSTNESS: f64 = 25.1;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(received: u64, lost: i64, round_trip_ms: u64) -> StreamStatistics {
        StreamStatistics {
            received_packets: received,
            lost_packets: lost,
            round_trip: Some(Duration::from_millis(round_trip_ms)),
            ..StreamStatistics::default()
        }
    }

    #[test]
    fn the_score_is_that_of_the_e_model() {
        // By G.107 annex B: R 93.2 is 4.41, 80 is 4.02, 70 is 3.60, 60 is 3.10, 50 is 2.58.
        for (rating, score) in
            [(93.2, 4.41), (80.0, 4.02), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58), (-5.0, 1.0)]
        {
            assert!((mos(rating) - score).abs() < 0.011, "R {rating}: {}", mos(rating));
        }
        let score = |received, lost, round_trip| quality(&stream(received, lost, round_trip)).mos;
        assert_eq!(score(1000, 0, 20), Some(4.41));
        // 5 % of loss take off 15.8.
        assert_eq!(score(950, 50, 20), Some(mos(93.2 - 95.0 * 5.0 / 30.1)));
        // 400 ms one way: Idd is about 24.
        let far = score(1000, 0, 760).expect("a score");
        assert!((3.4..3.7).contains(&far), "{far}");
        assert_eq!(score(49, 0, 0), None);
    }

    #[test]
    fn worse_never_scores_better() {
        let mut last = 5.0;
        for lost in 0..=100 {
            let score = quality(&stream(1000 - lost * 10, i64::try_from(lost * 10).expect("small"), 50)).mos;
            let Some(score) = score else { break };
            assert!(score <= last, "{lost} %: {score} after {last}");
            last = score;
        }
        last = 5.0;
        for round_trip in (0..4_000).step_by(20) {
            let score = quality(&stream(1000, 0, round_trip)).mos.expect("a score");
            assert!(score <= last, "{round_trip} ms: {score} after {last}");
            last = score;
        }
    }

    #[test]
    fn figures_that_cannot_be_are_taken_for_none() {
        let odd = StreamStatistics { lost_packets: -3, late_packets: u64::MAX, ..stream(u64::MAX, -3, 0) };
        let quality = quality(&odd);
        assert_eq!((quality.lost_packets, quality.received_packets), (0, i64::MAX));
        assert!(quality.mos.is_some_and(|mos| (1.0..=4.5).contains(&mos)));
    }
}
