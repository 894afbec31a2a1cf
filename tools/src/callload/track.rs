//! The returned audio of a call: finds the markers in it and compares it with what was sent.
//!
//! ```text
//!  sent:      ....speech....[marker k]....speech....      index of a sample in everything sent
//!  returned:          ....speech....[marker k]....        extended RTP timestamp of the returned stream
//!                                   ^ p
//!  latency   = arrival of the packet that holds p + offset of p in it - time the marker's packet was sent
//!  alignment = p - index of the marker; returned packets around p must equal the sent audio at that offset
//! ```
//!
//! Packets are judged when the next marker is found, with the alignment before it and after it, so that a
//! jitter buffer that stretches or skips in between is not taken for damage.

use std::collections::VecDeque;

use super::{
    marker::{BLOCK, FOUND, Template, correlation, energy},
    stats::Stats,
};

/// The last [`Self::KEPT`] samples a call sent, by index.
pub(super) struct SentAudio {
    ring: Vec<i16>,
    end: i64,
}

impl SentAudio {
    /// 4.1 s: longer than any marker stays outstanding.
    const KEPT: i64 = 32_768;

    pub(super) fn new() -> Self {
        Self { ring: vec![0; Self::KEPT as usize], end: 0 }
    }

    pub(super) fn reset(&mut self) {
        self.end = 0;
    }

    pub(super) fn push(&mut self, block: &[i16; BLOCK]) {
        let at = (self.end % Self::KEPT) as usize;
        // KEPT is no multiple of BLOCK.
        let first = BLOCK.min(self.ring.len() - at);
        self.ring[at..at + first].copy_from_slice(&block[..first]);
        self.ring[..BLOCK - first].copy_from_slice(&block[first..]);
        self.end += BLOCK as i64;
    }

    pub(super) fn end(&self) -> i64 {
        self.end
    }

    fn copy(&self, index: i64, out: &mut [i16]) -> bool {
        let there = index >= 0 && index >= self.end - Self::KEPT && index + out.len() as i64 <= self.end;
        if there {
            for (i, sample) in out.iter_mut().enumerate() {
                *sample = self.ring[((index + i as i64) % Self::KEPT) as usize];
            }
        }
        there
    }
}

/// Returned audio on the clock of the returned stream.
pub(super) struct Track {
    samples: Vec<i16>,
    /// Timestamp of `samples[0]`, and of the first sample not there yet.
    start: i64,
    head: i64,
    /// Windows that begin before this were searched.
    searched: i64,
    running: bool,
    packets: VecDeque<Returned>,
    outstanding: VecDeque<Outstanding>,
    alignment: Option<i64>,
}

#[derive(Clone, Copy)]
struct Returned {
    timestamp: i64,
    len: i64,
    arrival_ns: u64,
    judged: bool,
}

struct Outstanding {
    template: Template,
    index: i64,
    sent_ns: u64,
}

impl Track {
    pub(super) fn new() -> Self {
        Self {
            samples: vec![0; CAPACITY],
            start: 0,
            head: 0,
            searched: 0,
            running: false,
            packets: VecDeque::with_capacity(MAX_PACKETS + 1),
            outstanding: VecDeque::with_capacity(MAX_OUTSTANDING + 1),
            alignment: None,
        }
    }

    /// A marker went out at `sent_ns`; `index` is its first sample in everything sent.
    pub(super) fn expect_marker(&mut self, template: Template, index: i64, sent_ns: u64, stats: &mut Stats) {
        stats.counters.markers_sent += 1;
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
            stats.counters.markers_lost += 1;
        }
        self.outstanding.push_back(Outstanding { template, index, sent_ns });
    }

    /// The returned stream began, or began again with another clock. Says nothing about audio yet.
    pub(super) fn restart(&mut self, timestamp: i64, stats: &mut Stats) {
        self.drop_packets(stats);
        self.start = timestamp;
        self.head = timestamp;
        self.searched = timestamp;
        self.alignment = None;
        self.running = true;
    }

    /// Audio of one returned packet.
    pub(super) fn handle_audio(
        &mut self,
        timestamp: i64,
        arrival_ns: u64,
        audio: impl ExactSizeIterator<Item = i16>,
        sent: &SentAudio,
        stats: &mut Stats,
    ) {
        let len = audio.len().min(MAX_PACKET_SAMPLES) as i64;
        if !self.running || timestamp - self.head > KEPT as i64 {
            self.restart(timestamp, stats);
        }
        if timestamp < self.start {
            return;
        }
        let end = timestamp + len;
        self.make_room(end, stats);
        if end > self.head {
            let (from, to) = (self.at(self.head), self.at(end));
            self.samples[from..to].fill(0);
            self.head = end;
        }
        let at = self.at(timestamp);
        self.samples[at..at + len as usize].iter_mut().zip(audio).for_each(|(slot, sample)| *slot = sample);
        self.packets.push_back(Returned { timestamp, len, arrival_ns, judged: false });
        if self.packets.len() > MAX_PACKETS {
            let oldest = self.packets.pop_front().expect("not empty");
            stats.counters.audio_unjudged += u64::from(!oldest.judged);
        }
        // A late packet fills a hole that was searched as silence.
        let from = self.searched.min(timestamp - BLOCK as i64).max(self.start);
        // The last window is left for the next packet, so that a peak's right neighbour exists.
        let to = self.head - BLOCK as i64;
        while let Some(found) = self.search(from, to) {
            self.settle(found, sent, stats);
        }
        self.searched = self.searched.max(to);
    }

    /// The call is over: judges what is left. Markers younger than a second are neither found nor lost.
    pub(super) fn finish(&mut self, now_ns: u64, sent: &SentAudio, stats: &mut Stats) {
        if self.alignment.is_some() {
            self.judge(i64::MAX, self.alignment, sent, stats);
        }
        self.drop_packets(stats);
        let old =
            self.outstanding.iter().filter(|m| now_ns.saturating_sub(m.sent_ns) > 1_000_000_000).count();
        stats.counters.markers_lost += old as u64;
        self.outstanding.clear();
        self.running = false;
        self.alignment = None;
    }

    /// The best match of any outstanding marker that begins in `from..to`: which one, and where.
    fn search(&self, from: i64, to: i64) -> Option<(usize, f64)> {
        if self.outstanding.is_empty() || from >= to {
            return None;
        }
        let window = |position: i64| {
            let at = self.at(position);
            &self.samples[at..at + BLOCK]
        };
        let mut power = energy(window(from));
        let mut best: Option<(usize, i64, f32)> = None;
        for position in from..to {
            if power > QUIET_ENERGY {
                for (which, marker) in self.outstanding.iter().enumerate() {
                    let found = marker.template.correlation(window(position), power as f32);
                    if found >= FOUND && best.is_none_or(|(.., so_far)| found > so_far) {
                        best = Some((which, position, found));
                    }
                }
            }
            let (leaving, entering) = (self.sample(position), self.sample(position + BLOCK as i64));
            power += entering * entering - leaving * leaving;
        }
        let (which, mut position, _) = best?;
        let template = &self.outstanding[which].template;
        let value = |position: i64| match position {
            _ if position < self.start || position + BLOCK as i64 > self.head => 0.0,
            _ => f64::from(template.correlation(window(position), energy(window(position)) as f32)),
        };
        if value(position + 1) > value(position) {
            position += 1;
        }
        // A parabola through the peak and its neighbours; a peak at a whole sample is symmetric enough to stay.
        let (left, peak, right) = (value(position - 1), value(position), value(position + 1));
        let curve = left - 2.0 * peak + right;
        let shift =
            if peak > 0.97 || curve >= 0.0 { 0.0 } else { (0.5 * (left - right) / curve).clamp(-0.5, 0.5) };
        Some((which, position as f64 + shift))
    }

    fn settle(&mut self, (which, position): (usize, f64), sent: &SentAudio, stats: &mut Stats) {
        // Audio comes back in order: a marker before a found one did not come back.
        for _ in 0..which {
            self.outstanding.pop_front();
            stats.counters.markers_lost += 1;
        }
        let marker = self.outstanding.pop_front().expect("the marker was found in this queue");
        let whole = position.round() as i64;
        let holder = self.packets.iter().rev().find(|p| (p.timestamp..p.timestamp + p.len).contains(&whole));
        let Some(holder) = holder else {
            stats.counters.markers_lost += 1;
            return;
        };
        let offset_ns = (position - holder.timestamp as f64) * NS_PER_SAMPLE;
        let latency_ns = holder.arrival_ns as f64 + offset_ns - marker.sent_ns as f64;
        stats.counters.markers_found += 1;
        stats.counters.clock_errors += u64::from(latency_ns < 0.0);
        stats.audio_latency.record_ns(latency_ns.max(0.0) as u64);
        stats.recent_latency.record_ns(latency_ns.max(0.0) as u64);
        let alignment = whole - marker.index;
        let before = self.alignment.replace(alignment);
        if before.is_some_and(|before| before != alignment) {
            stats.counters.realignments += 1;
        }
        self.judge(whole, before, sent, stats);
    }

    /// Compares every packet before `until` that was not compared yet.
    fn judge(&mut self, until: i64, before: Option<i64>, sent: &SentAudio, stats: &mut Stats) {
        let mut packets = std::mem::take(&mut self.packets);
        for packet in packets.iter_mut().filter(|p| !p.judged && p.timestamp < until) {
            packet.judged = true;
            if packet.timestamp < self.start {
                stats.counters.audio_unjudged += 1;
                continue;
            }
            let at = self.at(packet.timestamp);
            let returned = &self.samples[at..at + packet.len as usize];
            let verdict = [self.alignment, before]
                .into_iter()
                .flatten()
                .map(|alignment| compare(returned, packet.timestamp - alignment, sent))
                .max()
                .unwrap_or(Verdict::Unjudged);
            match verdict {
                Verdict::Unjudged => stats.counters.audio_unjudged += 1,
                Verdict::Different => stats.counters.audio_different += 1,
                Verdict::Silent => stats.counters.audio_silent += 1,
                Verdict::Correlated => stats.counters.audio_correlated += 1,
                Verdict::Exact => stats.counters.audio_exact += 1,
            }
        }
        self.packets = packets;
    }

    fn drop_packets(&mut self, stats: &mut Stats) {
        stats.counters.audio_unjudged += self.packets.iter().filter(|p| !p.judged).count() as u64;
        self.packets.clear();
    }

    /// Shifts the buffer so that `end` fits.
    fn make_room(&mut self, end: i64, stats: &mut Stats) {
        if end - self.start <= CAPACITY as i64 {
            return;
        }
        let keep_from = (self.head - KEPT as i64 / 2).max(self.start);
        let from = self.at(keep_from);
        let to = self.at(self.head);
        self.samples.copy_within(from..to, 0);
        self.start = keep_from;
        self.searched = self.searched.max(keep_from);
        if end - self.start > CAPACITY as i64 {
            self.restart(self.head, stats);
        }
    }

    fn at(&self, timestamp: i64) -> usize {
        (timestamp - self.start) as usize
    }

    fn sample(&self, timestamp: i64) -> i64 {
        self.samples.get(self.at(timestamp)).copied().map_or(0, i64::from)
    }
}

/// In order of how good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Unjudged,
    Different,
    Silent,
    Correlated,
    Exact,
}

fn compare(returned: &[i16], index: i64, sent: &SentAudio) -> Verdict {
    let mut buffer = [0i16; MAX_PACKET_SAMPLES];
    let expected = &mut buffer[..returned.len()];
    if returned.is_empty() || !sent.copy(index, expected) {
        return Verdict::Unjudged;
    }
    let quiet = SILENCE_RMS * SILENCE_RMS * returned.len() as i64;
    if returned == expected {
        Verdict::Exact
    } else if energy(returned) < quiet && energy(expected) < quiet {
        Verdict::Silent
    } else if correlation(returned, expected) >= 0.95 {
        Verdict::Correlated
    } else {
        Verdict::Different
    }
}

const CAPACITY: usize = 48_000;
const KEPT: usize = 24_000;
const MAX_PACKETS: usize = 256;
const MAX_OUTSTANDING: usize = 3;
const MAX_PACKET_SAMPLES: usize = 960;
const QUIET_ENERGY: i64 = 500 * 500 * BLOCK as i64;
const SILENCE_RMS: i64 = 64;
const NS_PER_SAMPLE: f64 = 125_000.0;

#[cfg(test)]
mod tests;
