//! What a worker counts.

use crate::time::Duration;

xdp::counters! {
    /// What a worker has done and refused. How many streams it has is `streams_added` less `streams_removed`
    /// and `streams_panicked`.
    pub struct WorkerCounters {
        loops: "Turns of the worker's loop",
        waits: "Turns that ended with waiting in the device",
        ticks: "Turns that ended with sleeping until the next tick, because much comes",
        packets: "Datagrams handed to a stream",
        packets_relays: "Datagrams handed to a relay",
        packets_unknown_port: "Datagrams dropped because no stream or relay owns the port",
        packets_unsent: "Packets dropped because the device's transmit queue was full",
        commands: "Commands taken",
        commands_unknown_stream: "Commands ignored because the stream or relay is gone",
        events_dropped: "Events dropped because the event ring was full",
        digits_unsent: "DTMF digits dropped because the stream's queue was full",
        streams_added: "Streams started",
        streams_failed: "Streams whose ports could not be opened",
        streams_removed: "Streams ended",
        streams_panicked: "Streams ended by a panic in their code",
        relays_added: "Relays started",
        relays_failed: "Relays whose ports could not be opened",
        relays_removed: "Relays ended",
        relays_panicked: "Relays ended by a panic in their code",
        flows_promoted: "Directions of relays given to the kernel",
        flows_demoted: "Directions of relays taken back from the kernel",
        flows_refused: "Directions of relays that the kernel's program did not take",
        rtcp_port_failed: "RTCP ports that could not be opened in a running stream or relay",
        deadlines: "Stream deadlines met",
        deadlines_late_nanos: "Sum of the nanoseconds by which deadlines were late",
        deadlines_late_250us: "Deadlines met more than 250 us late",
        deadlines_late_1ms: "Deadlines met more than 1 ms late",
        deadlines_late_4ms: "Deadlines met more than 4 ms late",
        deadlines_late_16ms: "Deadlines met more than 16 ms late",
    }
}

impl WorkerCounters {
    /// Counts a deadline that was met this late.
    pub(super) fn deadline(&self, late: Duration) {
        self.deadlines.increment();
        self.deadlines_late_nanos.add(late.as_nanos() as u64);
        let limits = [
            (250, &self.deadlines_late_250us),
            (1000, &self.deadlines_late_1ms),
            (4000, &self.deadlines_late_4ms),
            (16_000, &self.deadlines_late_16ms),
        ];
        for (limit_us, counter) in limits {
            if late > Duration::from_micros(limit_us) {
                counter.increment();
            }
        }
    }
}
