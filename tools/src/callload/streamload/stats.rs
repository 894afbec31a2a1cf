//! What is counted and timed beside what `callload` counts.

use crate::callload::histogram::Histogram;

macro_rules! stats {
    (counters { $($(#[doc = $doc:literal])* $count:ident,)* } histograms { $($(#[doc = $text:literal])* $histogram:ident,)* }) => {
        /// Counts and distributions of all streams.
        #[derive(Clone)]
        pub(in crate::callload) struct StreamStats {
            $($(#[doc = $doc])* pub(super) $count: u64,)*
            $($(#[doc = $text])* pub(super) $histogram: Histogram,)*
        }

        impl StreamStats {
            pub(super) fn new() -> Self {
                Self { $($count: 0,)* $($histogram: Histogram::new(),)* }
            }

            pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($count), self.$count),)*]
            }

            pub(super) fn histograms(&self) -> Vec<(&'static str, &Histogram)> {
                vec![$((stringify!($histogram), &self.$histogram),)*]
            }
        }
    };
}

stats! {
    counters {
        /// WebSocket connections that named a call of ours.
        streams_started,
        /// Connections that named none: the agent's parameters lack `{call_id}`.
        streams_unknown,
        /// Connections that broke the protocol or were lost in mid-call.
        streams_broken,
        /// Messages that are not what Media Streams allows.
        messages_wrong,
        /// `media` messages.
        uplink_messages,
        /// `media` messages whose timestamp is not 20 ms after the one before.
        uplink_timestamp_jumps,
        /// Packets found byte by byte in what arrived; only these are timed.
        uplink_found,
        /// Of those, packets that end where a message ends.
        uplink_on_boundary,
        /// Packets of silence, which cannot be told apart.
        uplink_silent,
        /// Packets that did not arrive, or not as they were sent.
        uplink_missing,
        /// Changes of the offset between what was sent and what arrived.
        uplink_realignments,
        /// Things that happened before their cause: the clocks disagree.
        clock_errors,
        /// Utterances begun.
        utterances,
        /// Utterances that were heard to their end, with all their marks back.
        utterances_complete,
        /// Samples of bot audio heard, as they were sent.
        bot_samples,
        /// Samples of bot audio that were never heard although nothing cleared them.
        bot_samples_missing,
        /// Samples heard that nobody sent.
        bot_samples_wrong,
        /// Interruptions of bot audio by silence.
        bot_gaps,
        /// Marks that came back.
        marks_echoed,
        /// Marks that did not come back.
        marks_lost,
        /// Marks that came back before the packet with the last sample before them.
        marks_early,
        /// Clears sent while bot audio was heard.
        clears,
        /// Packets of old audio after a clear.
        clear_packets,
        /// Bots that were silent soon after their callers began to speak.
        barge_ins,
        /// Bots that talked on.
        barge_ins_ignored,
        /// Packets with bot audio that came after the caller's first packet of voice had left.
        barge_in_packets,
        /// Interruptions with at most two of those.
        barge_ins_within_two_packets,
    }
    histograms {
        /// First sample of a packet spoken (20 ms before the packet left) to its last sample at the backend.
        uplink_total,
        /// Packet left to its last sample at the backend: what is added to the packet time.
        uplink_added,
        /// Deviation of consecutive `media` messages from 20 ms.
        uplink_spacing,
        /// Audio sent in one piece into an empty queue, to the first RTP packet that carries it.
        start_burst,
        /// The same, audio sent in pieces of 20 ms every 20 ms.
        start_paced,
        /// Length of an interruption of bot audio.
        bot_gap,
        /// RTP packet with the last sample before a mark, to the mark's echo.
        mark_after,
        /// How much before that packet a mark was echoed.
        mark_before,
        /// Clear sent to the last RTP packet with old audio; 0 if none came after the clear.
        clear_audio,
        /// Clear sent to the echo of a mark behind the point of the clear.
        clear_mark,
        /// First packet of the caller's voice sent, to the last packet with bot audio.
        barge_in,
        /// How late this program sent bot audio, against its schedule.
        bot_lateness,
    }
}
