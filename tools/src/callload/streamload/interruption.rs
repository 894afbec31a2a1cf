//! A caller who interrupts a bot that would talk on: how long it takes until the bot is not heard any more.
//!
//! ```text
//!  caller:  silence 2.0 s ............ | voice 0.4 s | silence ...
//!  bot:          four seconds of noise ~~~~~~~~~~~~~~|  (sidetone hears the voice and stops it)
//!                                      ^ first packet of voice sent   ^ last packet with bot audio received
//! ```
//!
//! Bot audio is noise without the code words of silence, so every packet that holds anything else than silence is the bot's, its
//! fading end included.

use std::f64::consts::TAU;

use super::{bot::Say, stats::StreamStats};
use crate::callload::{marker::SplitMix, speech::RATE_HZ};

/// One call's bot and caller.
pub(super) struct Interruption {
    seed: u64,
    turn: u64,
    /// When the bot begins to talk.
    next_ns: Option<u64>,
    voice_before: bool,
    last_heard_ns: u64,
    onset: Option<Onset>,
}

/// The caller has begun to speak while the bot was heard.
struct Onset {
    sent_ns: u64,
    packets_after: u64,
    last_heard_ns: u64,
}

impl Interruption {
    /// The bot begins at `begin_ns`.
    pub(super) fn new(seed: u64, begin_ns: u64) -> Self {
        Self { seed, turn: 0, next_ns: Some(begin_ns), voice_before: true, last_heard_ns: 0, onset: None }
    }

    /// What the bot says now.
    pub(super) fn poll(&mut self, now_ns: u64, stats: &mut StreamStats) -> Vec<Say> {
        if let Some(onset) = self.onset.take_if(|onset| now_ns >= onset.sent_ns + JUDGED_NS) {
            if onset.last_heard_ns + STILL_HEARD_NS > now_ns {
                stats.barge_ins_ignored += 1;
            } else {
                stats.barge_ins += 1;
                stats.barge_in.record_ns(onset.last_heard_ns.saturating_sub(onset.sent_ns));
                stats.barge_in_packets += onset.packets_after;
                stats.barge_ins_within_two_packets += u64::from(onset.packets_after <= 2);
            }
            self.next_ns = Some(now_ns + PAUSE_NS);
        }
        if self.next_ns.take_if(|next_ns| now_ns >= *next_ns).is_none() {
            return Vec::new();
        }
        self.turn += 1;
        stats.utterances += 1;
        let mut random = SplitMix(self.seed ^ (self.turn << 32));
        let noise = std::iter::repeat_with(|| (random.next() >> 32) as u8);
        vec![Say::Audio(noise.filter(|byte| byte & 0x7f != 0x7f).take(UTTERANCE).collect())]
    }

    /// The caller's packet left.
    pub(super) fn handle_sent(&mut self, payload: &[u8], sent_ns: u64) {
        let voice = payload.iter().any(|&byte| byte & 0x7f < LOUD);
        let bot_is_heard = self.last_heard_ns + STILL_HEARD_NS > sent_ns;
        if voice && !self.voice_before && bot_is_heard {
            self.onset = Some(Onset { sent_ns, packets_after: 0, last_heard_ns: self.last_heard_ns });
        } else if voice && !self.voice_before && self.next_ns.is_none() && self.onset.is_none() {
            // The bot has ended before; it begins anew.
            self.next_ns = Some(sent_ns + JUDGED_NS);
        }
        self.voice_before = voice;
    }

    /// A packet came.
    pub(super) fn handle_heard(&mut self, payload: &[u8], arrival_ns: u64) {
        if payload.iter().all(|&byte| byte & 0x7f == 0x7f) {
            return;
        }
        self.last_heard_ns = arrival_ns;
        if let Some(onset) = &mut self.onset {
            onset.packets_after += u64::from(arrival_ns > onset.sent_ns);
            onset.last_heard_ns = arrival_ns;
        }
    }
}

/// What the callers say: nothing but the noise of a line at -60 dBov, and a voice that is there from its first sample on, which
/// begins with a packet. Without any noise a detector would have only the voice to take for it.
pub(super) fn speech() -> Vec<i16> {
    let mut random = SplitMix(0x11e);
    let voice = (0..VOICE).map(|n| {
        let at = n as f64 / f64::from(RATE_HZ);
        let pitch_hz = 140.0 - 40.0 * at;
        let harmonics = (1..=12).map(|k| (TAU * pitch_hz * f64::from(k) * at).sin() / f64::from(k).sqrt());
        (2_500.0 * harmonics.sum::<f64>()).clamp(-30_000.0, 30_000.0) as i16
    });
    let line = std::iter::repeat_with(|| (random.next() % 101) as i16 - 50);
    std::iter::repeat_n(0, SILENCE).chain(voice).zip(line).map(|(voice, line)| voice + line).collect()
}

/// How loud a sample is that is voice: code words count down from silence.
const LOUD: u8 = 0x50;
/// Whole packets of 160 samples, and not whole seconds, so that calls and frames drift against each other.
const SILENCE: usize = 101 * 160;
const VOICE: usize = 20 * 160;
const UTTERANCE: usize = 4 * RATE_HZ as usize;
/// The bot is heard if it was so lately.
const STILL_HEARD_NS: u64 = 100_000_000;
/// By then an interruption has been obeyed or will not be.
const JUDGED_NS: u64 = 380_000_000;
const PAUSE_NS: u64 = 600_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callload::g711::Law;

    const MS: u64 = 1_000_000;

    /// A server that stops the bot `stop_ms` after the caller's first packet of voice arrived; what was counted in 30 s.
    fn interrupted_after(stop_ms: Option<u64>) -> StreamStats {
        let (mut stats, mut call) = (StreamStats::new(), Interruption::new(7, 1_000 * MS));
        let law = Law::Pcmu;
        let packets: Vec<Vec<u8>> = speech()
            .chunks(160)
            .map(|packet| packet.iter().map(|&sample| law.encode(sample)).collect())
            .collect();
        let (mut queue, mut stop_at) = (Vec::new(), None);
        let mut was_voice = false;
        for ms in 0..30_000u64 {
            for say in call.poll(ms * MS, &mut stats) {
                if let Say::Audio(audio) = say {
                    queue = audio;
                }
            }
            if ms % 20 == 0 {
                let packet = &packets[(ms / 20) as usize % packets.len()];
                call.handle_sent(packet, ms * MS);
                let voice = (ms / 20) as usize % packets.len() >= SILENCE / 160;
                if voice && !was_voice {
                    stop_at = stop_ms.map(|stop| ms + stop);
                }
                was_voice = voice;
            }
            if stop_at.is_some_and(|at| ms >= at) {
                queue.clear();
                stop_at = None;
            }
            if ms % 20 == 3 {
                let mut packet = vec![0xff; 160];
                let len = queue.len().min(160);
                packet[..len].copy_from_slice(&queue[..len]);
                queue.drain(..len);
                call.handle_heard(&packet, ms * MS);
            }
        }
        stats
    }

    #[test]
    fn the_time_to_the_last_packet_is_told() {
        for (stop_ms, packets, last_ms) in [(1, 0, 0.0), (5, 1, 3.0), (30, 2, 23.0), (70, 4, 63.0)] {
            let stats = interrupted_after(Some(stop_ms));
            assert!(stats.barge_ins >= 8, "{}", stats.barge_ins);
            assert_eq!(stats.barge_ins_ignored, 0);
            assert_eq!(stats.barge_in_packets, packets * stats.barge_ins, "{stop_ms}");
            assert!(
                (stats.barge_in.ms(99.0) - last_ms).abs() < 0.1,
                "{stop_ms}: {}",
                stats.barge_in.ms(99.0)
            );
            assert_eq!(stats.barge_ins_within_two_packets == stats.barge_ins, packets <= 2);
        }
    }

    #[test]
    fn a_bot_that_talks_on_is_seen() {
        let stats = interrupted_after(None);
        assert_eq!(stats.barge_ins, 0);
        assert!(stats.barge_ins_ignored >= 4, "{}", stats.barge_ins_ignored);
    }
}
