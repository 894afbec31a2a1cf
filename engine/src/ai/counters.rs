//! What the AI streams counted. One set per [`super::AiRuntime`], shared by workers and AI threads.

use crate::time::Duration;

xdp::counters! {
    /// What AI streams have done, refused and dropped.
    pub struct AiCounters {
        connected: "AI streams connected",
        connect_attempts: "Attempts to connect to an AI backend",
        connect_failed: "AI backends given up on before the call was answered",
        connect_refused: "Attempts that ended in a transport error, such as a refused TCP connection",
        connect_timeout: "Attempts that got no answer in time",
        connect_tls: "Attempts that failed in TLS",
        connect_http_status: "Attempts answered by an HTTP status other than 101",
        connect_redirected: "Attempts answered by a redirect, which is never followed",
        connect_handshake: "Attempts whose WebSocket handshake was malformed",
        stopped: "AI streams ended by our side",
        closed_by_peer: "AI streams closed by the backend with a close frame",
        lost: "AI streams whose connection broke without a close frame",
        protocol_error: "AI streams ended because the backend broke the WebSocket protocol",
        message_too_large: "AI streams ended because of a message above the size limit",
        ping_timeout: "AI streams ended because the backend stayed silent for several pings",
        write_stalled: "AI streams ended because the backend did not read",
        messages_received: "WebSocket messages received from AI backends",
        bot_audio_bytes: "Bytes of bot audio received",
        bot_audio_overflow_bytes: "Bytes of bot audio dropped because the playout queue was full",
        bot_audio_cut_off_bytes: "Bytes of bot audio left out as the rest of what a caller interrupted",
        budget_exceeded: "Times that more bot audio was queued than a latency budget allows",
        budget_refused_bytes: "Bytes of bot audio refused beyond a latency budget",
        budget_left_out_bytes: "Bytes of bot audio left out at silences to keep a latency budget",
        interruptions: "Times that the engine's detector heard a caller interrupt the bot",
        marks_received: "Marks received from AI backends",
        marks_answered: "Marks reported to AI backends",
        marks_overflow: "Marks dropped because too many were waiting",
        clears: "Clears received from AI backends",
        clear_of_empty_queue: "Clears that found nothing to clear",
        underruns: "Gaps in the middle of a spurt of bot audio",
        unknown_event: "Messages with an unknown event",
        bad_json: "Messages that are not JSON of the expected shape",
        media_without_payload: "Media messages without a payload",
        bad_base64: "Media messages whose payload is not base64",
        mark_without_name: "Mark messages without a name",
        wrong_stream: "Messages that name another stream, which are obeyed all the same",
        binary_frame: "Binary messages, which the dialect does not use",
        text_frame: "Text messages that the dialect does not use or that are too long",
        stale_audio: "Messages with audio of a response that was cancelled",
        refused: "Messages, or parts of them, that the dialect does not allow where they came",
        media_sent: "Blocks of caller audio written to AI backends",
        digits_sent: "Digits written to AI backends",
        caller_audio_overflow: "Blocks of caller audio dropped between a worker and its AI thread",
        caller_audio_stale: "Blocks of caller audio dropped because the backend read too slowly",
        caller_audio_gaps: "Places where caller audio was not contiguous",
        digit_overflow: "Digits dropped between a worker and its AI thread",
        report_overflow: "Reports of the playout dropped between a worker and its AI thread",
        tap_blocks_sent: "Blocks of 20 ms that taps sent to their listeners",
        tap_blocks_stale: "Blocks of 20 ms that taps dropped because their listeners read too slowly",
        uplink_latency_le_500us: "Audio blocks written to the socket at most 0.5 ms after the worker queued them",
        uplink_latency_le_1ms: "Audio blocks written to the socket at most 1 ms after the worker queued them",
        uplink_latency_le_2ms: "Audio blocks written to the socket at most 2 ms after the worker queued them",
        uplink_latency_le_5ms: "Audio blocks written to the socket at most 5 ms after the worker queued them",
        uplink_latency_le_10ms: "Audio blocks written to the socket at most 10 ms after the worker queued them",
        uplink_latency_le_20ms: "Audio blocks written to the socket at most 20 ms after the worker queued them",
        uplink_latency_le_50ms: "Audio blocks written to the socket at most 50 ms after the worker queued them",
        uplink_latency_le_200ms: "Audio blocks written to the socket at most 200 ms after the worker queued them",
        uplink_latency_count: "Audio blocks whose time from worker to socket was measured",
        uplink_latency_sum_us: "Sum of the times from worker to socket, in microseconds",
    }
}

impl AiCounters {
    /// Records the time one block of caller audio took from the worker to the socket. The `_le_` counters
    /// are cumulative, as the buckets of a Prometheus histogram are.
    pub(crate) fn record_uplink_latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        for (bound_us, bucket) in [
            (500, &self.uplink_latency_le_500us),
            (1_000, &self.uplink_latency_le_1ms),
            (2_000, &self.uplink_latency_le_2ms),
            (5_000, &self.uplink_latency_le_5ms),
            (10_000, &self.uplink_latency_le_10ms),
            (20_000, &self.uplink_latency_le_20ms),
            (50_000, &self.uplink_latency_le_50ms),
            (200_000, &self.uplink_latency_le_200ms),
        ] {
            if micros <= bound_us {
                bucket.increment();
            }
        }
        self.uplink_latency_count.increment();
        self.uplink_latency_sum_us.add(micros);
    }
}
