//! The figures at the end, for people, for JSON and for plotters, and the exit code.

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufWriter, Write as _},
    net::{IpAddr, SocketAddr},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde_json::{Map, Value, json};

use super::{clock, histogram::Histogram, options::Options, stats::Stats};

/// What a tool that runs the load for more than `callload` reports adds to the report.
pub(super) struct Addition {
    /// Name of the tool.
    pub(super) tool: &'static str,
    pub(super) text: String,
    pub(super) json: Value,
    /// Name and distribution of everything timed.
    pub(super) histograms: Vec<(&'static str, Histogram)>,
    /// Expectations that were given, and those that were missed.
    pub(super) asked: bool,
    pub(super) missed: Vec<String>,
    pub(super) doubts: Vec<String>,
}

/// What came of a run.
pub(super) struct Report {
    destination: SocketAddr,
    local: IpAddr,
    stats: Stats,
    start_ns: u64,
    elapsed_s: f64,
    cpu_s: f64,
    max_rss_kib: i64,
    /// Expectations that were missed.
    missed: Vec<String>,
    /// What another tool adds.
    addition: Option<Addition>,
    /// Why the instrument itself cannot be trusted in this run.
    doubts: Vec<String>,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        destination: SocketAddr,
        local: IpAddr,
        stats: Stats,
        start_ns: u64,
    ) -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let cpu_us =
            usage.map_or(0, |u| u.user_time().num_microseconds() + u.system_time().num_microseconds());
        let mut report = Self {
            destination,
            local,
            stats,
            start_ns,
            elapsed_s: (clock::now_ns() - start_ns) as f64 / 1e9,
            cpu_s: cpu_us as f64 / 1e6,
            max_rss_kib: usage.map_or(0, |u| u.max_rss()),
            missed: Vec::new(),
            addition: None,
            doubts: Vec::new(),
        };
        report.doubts = report.find_doubts(options.late_ms);
        report.missed = report.find_missed(options);
        report
    }

    /// What was counted.
    pub(super) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Why the run cannot be trusted.
    pub(super) fn doubts(&self) -> &[String] {
        &self.doubts
    }

    pub(super) fn add(&mut self, mut addition: Addition) {
        self.missed.append(&mut addition.missed);
        self.doubts.append(&mut addition.doubts);
        self.addition = Some(addition);
    }

    pub(super) fn write(&self, options: &Options) -> anyhow::Result<()> {
        let to_stdout = options.json.as_deref() == Some(Path::new("-"));
        if let Some(path) = &options.json {
            let text = serde_json::to_string_pretty(&self.json(options))?;
            if to_stdout {
                println!("{text}");
            } else {
                std::fs::write(path, text + "\n")
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        if let Some(prefix) = &options.hgrm {
            let added = self.addition.iter().flat_map(|addition| &addition.histograms);
            let added = added.map(|(name, histogram)| (*name, histogram));
            for (name, histogram) in
                self.stats.histograms().into_iter().chain(added).filter(|(_, h)| h.len() > 0)
            {
                let path = format!("{}-{name}.hgrm", prefix.display());
                let mut out =
                    BufWriter::new(File::create(&path).with_context(|| format!("cannot write {path}"))?);
                histogram.write_hgrm(&mut out)?;
                out.flush()?;
            }
        }
        if to_stdout {
            eprint!("{}", self.text());
        } else {
            print!("{}", self.text());
        }
        Ok(())
    }

    pub(super) fn exit_code(&self, options: &Options) -> ExitCode {
        let asked = options.expect_loss_below.is_some()
            || options.check_latency_p99_below.is_some()
            || options.expect_audio_above.is_some()
            || self.addition.as_ref().is_some_and(|addition| addition.asked);
        match (self.missed.is_empty(), self.doubts.is_empty()) {
            (_, false) if asked => ExitCode::from(3),
            (false, _) => ExitCode::from(1),
            (true, _) => ExitCode::SUCCESS,
        }
    }

    /// Lost of what was to come back, in percent.
    fn loss_percent(&self) -> f64 {
        let c = &self.stats.counters;
        100.0 * c.rtp_lost as f64 / ((c.rtp_received_unique + c.rtp_lost) as f64).max(1.0)
    }

    /// Returned packets that hold what was sent, in percent of those that could be compared.
    fn audio_percent(&self) -> Option<f64> {
        let c = &self.stats.counters;
        let good = c.audio_exact + c.audio_correlated + c.audio_silent;
        let judged = good + c.audio_different;
        (judged > 0).then(|| 100.0 * good as f64 / judged as f64)
    }

    fn find_doubts(&self, late_ms: u64) -> Vec<String> {
        let c = &self.stats.counters;
        let mut doubts = Vec::new();
        let late = self.stats.lateness.above_ms(late_ms);
        // A handful is one preemption, not a bottleneck.
        if late > self.stats.lateness.len() / 1_000 + 5 {
            doubts.push(format!(
                "{late} of {} packets left more than {late_ms} ms late (99.9th percentile {:.1} ms)",
                self.stats.lateness.len(),
                self.stats.lateness.ms(99.9)
            ));
        }
        for (count, what) in [
            (c.rtp_skipped, "packets were skipped because this program was over 200 ms late"),
            (c.instrument_drops, "packets were dropped by this program's own socket buffers"),
            (c.clock_errors, "packets or markers came back before they were sent: the clocks disagree"),
            (c.rtp_send_errors, "packets were refused by the kernel when sent"),
        ] {
            if count > 0 {
                doubts.push(format!("{count} {what}"));
            }
        }
        doubts
    }

    fn find_missed(&self, options: &Options) -> Vec<String> {
        let c = &self.stats.counters;
        let mut missed = Vec::new();
        if c.calls_failed > options.max_failed {
            missed.push(format!("{} calls failed, {} tolerated", c.calls_failed, options.max_failed));
        }
        if c.calls_answered == 0 {
            missed.push("no call was answered".to_owned());
        }
        if let Some(bound) = options.expect_loss_below {
            let loss = self.loss_percent();
            if loss >= bound || c.rtp_received == 0 {
                missed.push(format!("{loss:.4} % lost, below {bound} % expected"));
            }
        }
        if let Some(bound) = options.check_latency_p99_below {
            let histogram = &self.stats.audio_latency;
            if histogram.len() == 0 {
                missed.push("no audio latency was measured: no marker came back".to_owned());
            } else if histogram.ms(99.0) >= bound {
                missed.push(format!(
                    "audio latency p99 {:.3} ms, below {bound} ms expected",
                    histogram.ms(99.0)
                ));
            }
        }
        if let Some(bound) = options.expect_audio_above {
            match self.audio_percent() {
                Some(share) if share >= bound => {}
                Some(share) => {
                    missed.push(format!("{share:.2} % of the audio came back right, {bound} % expected"))
                }
                None => missed.push("no returned audio could be compared".to_owned()),
            }
        }
        missed
    }

    fn json(&self, options: &Options) -> Value {
        let counters: Map<String, Value> = self
            .stats
            .counters
            .each()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        let histograms: Map<String, Value> =
            self.stats.histograms().into_iter().map(|(name, h)| (name.to_owned(), h.json())).collect();
        let mut report = json!({
            "tool": self.tool(),
            "version": env!("CARGO_PKG_VERSION"),
            "options": {
                "target": options.target, "calls": options.calls, "rate_per_s": options.rate,
                "duration_s": options.duration.as_secs_f64(), "hold_s": options.hold.map(|d| d.as_secs_f64()),
                "transport": format!("{:?}", options.transport).to_lowercase(),
                "codec": format!("{:?}", options.codec).to_lowercase(),
                "rtp": !options.no_rtp, "marker_ms": options.marker_ms, "threads": options.threads,
            },
            "destination": self.destination.to_string(),
            "local": self.local.to_string(),
            "elapsed_s": self.elapsed_s,
            "answered_per_s": self.answered_per_s(),
            "loss_percent": self.loss_percent(),
            "audio_percent": self.audio_percent(),
            "counters": counters,
            "failures": self.stats.failures,
            "histograms": histograms,
            "instrument": {
                "trusted": self.doubts.is_empty(), "doubts": self.doubts,
                "cpu_cores": self.cpu_s / self.elapsed_s.max(1e-9), "max_rss_kib": self.max_rss_kib,
                "late_packets": self.stats.lateness.above_ms(options.late_ms), "late_above_ms": options.late_ms,
                "receive_time": if self.stats.counters.user_timestamps == 0 { "kernel" } else { "mixed" },
            },
            "missed": self.missed,
        });
        if let Some(addition) = &self.addition {
            report["streams"] = addition.json.clone();
        }
        report
    }

    fn tool(&self) -> &'static str {
        self.addition.as_ref().map_or("callload", |addition| addition.tool)
    }

    fn answered_per_s(&self) -> f64 {
        // From the start to the last answer: the tail of a run places no calls.
        let span_ns = self.stats.last_answer_ns.saturating_sub(self.start_ns);
        self.stats.counters.calls_answered as f64 / (span_ns as f64 / 1e9).max(1e-3)
    }

    fn text(&self) -> String {
        let c = &self.stats.counters;
        let mut text = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| writeln!(text, "{args}").expect("a string takes it");
        line(format_args!(
            "\n{} {} -> {}, {:.1} s",
            self.tool(),
            self.local,
            self.destination,
            self.elapsed_s
        ));
        line(format_args!(
            "calls      placed {}, answered {} ({:.1}/s), failed {}, ended by the far end {}, BYE answered {}",
            c.calls_placed,
            c.calls_answered,
            self.answered_per_s(),
            c.calls_failed,
            c.calls_ended_by_peer,
            c.calls_ended_cleanly
        ));
        for (reason, count) in &self.stats.failures {
            line(format_args!("           {count} x {reason}"));
        }
        line(format_args!(
            "sip        {} requests and {} answers repeated, {} unexpected messages",
            c.sip_retransmissions, c.sip_repeated_answers, c.sip_unexpected
        ));
        if c.rtp_sent > 0 || c.rtp_received > 0 {
            line(format_args!(
                "rtp        sent {}, received {} ({} reflected calls of {}), lost {} ({:.4} %), gaps {}, reordered {}, duplicate {}",
                c.rtp_sent,
                c.rtp_received,
                c.calls_reflected,
                c.calls_answered,
                c.rtp_lost,
                self.loss_percent(),
                c.rtp_lost_in_sequence,
                c.rtp_reordered,
                c.rtp_duplicate
            ));
            line(format_args!(
                "           calls without rtp {}, restarts {}, other source {}, malformed {}, events {}, rtcp {}",
                c.calls_without_rtp,
                c.rtp_restarts,
                c.rtp_other_source,
                c.rtp_malformed,
                c.rtp_telephone_events,
                c.rtcp_received
            ));
        }
        if c.markers_sent > 0 {
            let share = self.audio_percent().map_or_else(|| "-".to_owned(), |share| format!("{share:.3} %"));
            line(format_args!(
                "audio      {share} as sent: exact {}, correlated {}, silent {}, different {}, not compared {}; \
                 markers {} of {} found, {} lost, {} realignments",
                c.audio_exact,
                c.audio_correlated,
                c.audio_silent,
                c.audio_different,
                c.audio_unjudged,
                c.markers_found,
                c.markers_sent,
                c.markers_lost,
                c.realignments
            ));
        }
        line(format_args!(
            "\n{:<19}{:>9} {:>9} {:>9} {:>9} {:>9}  {:>9}",
            "ms", "p50", "p90", "p99", "p99.9", "max", "count"
        ));
        for (name, histogram) in self.stats.histograms() {
            line(format_args!("{:<19}{}", name.replace('_', " "), histogram.line()));
        }
        if let Some(addition) = &self.addition {
            line(format_args!("{}", addition.text.trim_end()));
        }
        line(format_args!(
            "\ninstrument {:.2} cores, {} MiB, receive times from the {}; {}",
            self.cpu_s / self.elapsed_s.max(1e-9),
            self.max_rss_kib / 1_024,
            if c.user_timestamps == 0 { "kernel" } else { "kernel and, for some packets, from this program" },
            if self.doubts.is_empty() { "kept its schedule" } else { "WAS THE BOTTLENECK:" }
        ));
        self.doubts.iter().for_each(|doubt| line(format_args!("           {doubt}")));
        self.missed.iter().for_each(|missed| line(format_args!("MISSED     {missed}")));
        text
    }
}
