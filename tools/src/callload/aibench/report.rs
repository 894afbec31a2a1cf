//! Medians, ratios, and the table in docs/performance.md.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use super::{options::AiBenchOptions, processor::cpus, round::Outcome};
use crate::figures::{median, put_between, spread};

/// Everything that was measured.
pub(super) struct Report {
    rounds: Vec<(&'static str, Vec<Outcome>)>,
    pub(super) failures: Vec<(&'static str, String)>,
    /// The most streams that held.
    pub(super) most: Option<u32>,
    hold_p99_ms: f64,
    layout: String,
}

impl Report {
    pub(super) fn new(options: &AiBenchOptions) -> Self {
        let layout = format!(
            "{} CPUs: media thread on {}, AI thread on {}, peer on {}, generator and signalling on {}",
            cpus(),
            options.media_cpu,
            options.stream_cpu,
            options.peer_cpu(),
            options.generator_cpu()
        );
        Self {
            rounds: Vec::new(),
            failures: Vec::new(),
            most: None,
            hold_p99_ms: options.hold_p99_ms,
            layout,
        }
    }

    pub(super) fn add(&mut self, what: &'static str, outcome: anyhow::Result<Outcome>) {
        match outcome {
            Ok(outcome) => match self.rounds.iter_mut().find(|(known, _)| *known == what) {
                Some((_, outcomes)) => outcomes.push(outcome),
                None => self.rounds.push((what, vec![outcome])),
            },
            Err(error) => self.failures.push((what, format!("{error:#}"))),
        }
    }

    pub(super) fn outcomes(&self, what: &str) -> &[Outcome] {
        self.rounds.iter().find(|(known, _)| *known == what).map_or(&[], |(_, outcomes)| outcomes)
    }

    /// More is better in all of them.
    fn ratios(&self) -> Vec<(String, f64)> {
        let mut ratios = Vec::new();
        let mut add = |name: &str, values: Vec<f64>| {
            ratios.extend(median(&values).map(|value| (name.to_owned(), value)));
        };
        for (what, outcomes) in &self.rounds {
            let each = |figure: fn(&Outcome) -> f64| outcomes.iter().map(figure).collect::<Vec<_>>();
            match *what {
                "streams" => {
                    add("calls_per_media_core", each(|o| o.carried / o.media));
                    add("calls_per_stream_core", each(|o| o.carried / o.stream));
                    add("stream_core_vs_echo", each(|o| o.peer / o.stream));
                }
                "wide" => {
                    add("calls_per_media_core_pcm24", each(|o| o.carried / o.media));
                    add("calls_per_stream_core_pcm24", each(|o| o.carried / o.stream));
                }
                // What the same call costs there and here, in the same seconds.
                _ => add("calls_per_core_vs_peer", each(|o| o.peer / (o.media + o.stream))),
            }
        }
        if let Some(most) = self.most {
            add("concurrent_streams", vec![f64::from(most)]);
        }
        ratios
    }

    fn table(&self) -> String {
        let mut text = String::from(
            "| streams | calls | of them carried | media thread, cores | AI thread, cores | the rest of sidetone | backend, cores | added, ms: p50 | p99 | p99.9 | there and back, ms: p50 | p99 | lost up, down | MiB |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for (what, outcomes) in &self.rounds {
            let each = |figure: &dyn Fn(&Outcome) -> f64, digits: usize| {
                spread(&outcomes.iter().map(figure).collect::<Vec<_>>(), digits)
            };
            let title = match *what {
                "streams" => "PCMU, Twilio dialect, a backend that counts and echoes",
                "wide" => "PCM16 at 24 kHz, the same backend",
                _ => "PCMU, Twilio dialect, Pipecat's echo as the backend",
            };
            let _ = writeln!(
                text,
                "| {title} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {}, {} | {} |",
                each(&|o| o.calls, 0),
                each(&|o| o.carried, 0),
                each(&|o| o.media, 3),
                each(&|o| o.stream, 3),
                each(&|o| o.others, 3),
                each(&|o| o.peer, 3),
                each(&|o| o.added_ms[0], 2),
                each(&|o| o.added_ms[1], 2),
                each(&|o| o.added_ms[2], 2),
                each(&|o| o.back_ms[0], 1),
                each(&|o| o.back_ms[1], 1),
                outcomes.iter().map(|o| o.lost_up).sum::<u64>(),
                outcomes.iter().map(|o| o.lost_down).sum::<u64>(),
                each(&|o| o.memory_mib, 0),
            );
        }
        let _ = writeln!(text, "\n{}.", self.layout);
        if let Some(most) = self.most {
            let _ = writeln!(
                text,
                "{most} streams at once held: nothing lost, p99 of what is added below {} ms.",
                self.hold_p99_ms
            );
        }
        let doubts =
            self.rounds.iter().flat_map(|(_, outcomes)| outcomes).filter(|o| !o.doubts.is_empty()).count();
        if doubts > 0 {
            let _ = writeln!(text, "Rounds in which the generator did not keep its own schedule: {doubts}.");
        }
        text
    }

    pub(super) fn print(&self) {
        println!("\n{}", self.table());
        self.ratios().iter().for_each(|(name, value)| println!("RATIO {name} {}", rounded(*value)));
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let ratios: Vec<String> =
            self.ratios().iter().map(|(name, value)| format!("`{name}` {}", rounded(*value))).collect();
        put_between(path, BEGIN, END, &format!("{}\nFigures: {}.\n", self.table(), ratios.join(", ")))
    }

    pub(super) fn json(&self) -> Value {
        let rounds: Vec<Value> = self
            .rounds
            .iter()
            .flat_map(|(what, outcomes)| outcomes.iter().map(move |outcome| (what, outcome)))
            .map(|(what, outcome)| outcome.json(what))
            .collect();
        let ratios = self.ratios().into_iter().map(|(name, value)| (name, json!(value)));
        json!({ "rounds": rounds, "most": self.most, "ratios": ratios.collect::<serde_json::Map<_, _>>() })
    }
}

/// Calls as a whole number, shares with two digits.
fn rounded(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

const BEGIN: &str = "<!-- ai:begin -->";
const END: &str = "<!-- ai:end -->";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn ratios_are_calls_by_shares_of_a_core() {
        let mut report = Report::new(&AiBenchOptions::parse_from(["bench-ai"]));
        for media in [0.25, 0.5, 0.2] {
            let outcome = Outcome {
                calls: 1_000.0,
                carried: 1_000.0,
                media,
                stream: 0.5,
                peer: 0.1,
                ..Outcome::default()
            };
            report.add("streams", Ok(outcome));
        }
        let pipecat = Outcome {
            calls: 20.0,
            carried: 20.0,
            media: 0.02,
            stream: 0.03,
            peer: 0.6,
            ..Outcome::default()
        };
        report.add("pipecat", Ok(pipecat));
        report.add("wide", Err(anyhow::anyhow!("no such dialect")));
        report.most = Some(1_250);
        let ratios: Vec<(String, String)> =
            report.ratios().into_iter().map(|(name, value)| (name, rounded(value))).collect();
        let expected = [
            ("calls_per_media_core", "4000"),
            ("calls_per_stream_core", "2000"),
            ("stream_core_vs_echo", "0.20"),
            ("calls_per_core_vs_peer", "12.00"),
            ("concurrent_streams", "1250"),
        ];
        assert_eq!(ratios, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(report.failures, [("wide", "no such dialect".to_owned())]);
        assert!(report.table().contains("1250 streams at once held"));
    }

    #[test]
    fn a_number_holds_if_nothing_is_lost_and_little_is_added() {
        let good = Outcome { added_ms: [1.0, 19.0, 40.0], ..Outcome::default() };
        assert!(good.holds(20.0) && !good.holds(19.0));
        for bad in [
            Outcome { lost_up: 1, ..good.clone() },
            Outcome { lost_down: 1, ..good.clone() },
            Outcome { failed: 1, ..good.clone() },
            Outcome { calls: 100.0, carried: 90.0, ..good.clone() },
            Outcome { added_ms: [f64::NAN; 3], ..good.clone() },
        ] {
            assert!(!bad.holds(20.0), "{bad:?}");
        }
    }
}
