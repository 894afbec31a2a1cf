//! Medians, spread, ratios, and the table in docs/performance.md.

use std::fmt::Write as _;
use std::path::Path;

use super::run::FLOWS;
use super::subject::Subject;
use crate::figures::{median, put_between, spread};

/// What was measured of one relay, a value for each repeat; not a number where something failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// Calls on one core at under 0.1 % loss.
    pub(super) calls: Vec<f64>,
    /// The same with PCMU on one side and PCMA on the other.
    pub(super) transcoded: Vec<f64>,
    pub(super) cores_per_thousand: Vec<f64>,
    /// p50, p99, p99.9 at half the calls.
    pub(super) latency_us: Vec<[f64; 3]>,
    /// Nanoseconds of the core for a packet, by [`FLOWS`].
    pub(super) flow_costs_ns: Vec<[f64; FLOWS.len()]>,
    /// While the calls were confirmed: slots that were left out because the generator was held up, in percent, and what was lost with them.
    pub(super) left_out_percent: Vec<f64>,
    pub(super) all_loss_percent: Vec<f64>,
    /// Calls that were set up to find the calls on one core in the last repeat.
    pub(super) set_up: u32,
    repeats: usize,
}

impl Figures {
    /// Ends a repeat: what failed leaves a gap, so that values of the same place belong to the same repeat.
    pub(super) fn fill_up(&mut self) {
        self.repeats += 1;
        for values in [
            &mut self.calls,
            &mut self.transcoded,
            &mut self.cores_per_thousand,
            &mut self.left_out_percent,
            &mut self.all_loss_percent,
        ] {
            values.resize(self.repeats, f64::NAN);
        }
        self.latency_us.resize(self.repeats, [f64::NAN; 3]);
        self.flow_costs_ns.resize(self.repeats, [f64::NAN; FLOWS.len()]);
    }

    /// The cost of a packet with the most flows by that with the fewest: 1 is flat.
    fn flatness(&self) -> Option<f64> {
        let each = self.flow_costs_ns.iter().map(|costs| costs[FLOWS.len() - 1] / costs[0]);
        median(&each.collect::<Vec<_>>())
    }

    /// The newest of everything.
    pub(super) fn last_line(&self) -> String {
        let number = |values: &[f64], digits: usize| {
            let last = values.last().filter(|value| value.is_finite());
            last.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let [p50, p99, p99_9] = self.latency_us.last().copied().unwrap_or([f64::NAN; 3]);
        format!(
            "{} calls (left out {} % of the slots, lost {} % with them), {} cores for 1,000, \
             {p50:.0} / {p99:.0} / {p99_9:.0} us, transcoded {}",
            number(&self.calls, 0),
            number(&self.left_out_percent, 1),
            number(&self.all_loss_percent, 3),
            number(&self.cores_per_thousand, 3),
            number(&self.transcoded, 0)
        )
    }
}

/// Everything.
pub(super) struct Report {
    figures: Vec<(Subject, Figures)>,
    pub(super) failures: Vec<(Subject, String)>,
    /// What to know of the figures.
    pub(super) notes: Vec<(Subject, String)>,
}

impl Report {
    pub(super) fn new(subjects: &[Subject]) -> Self {
        let figures = subjects.iter().map(|&subject| (subject, Figures::default())).collect();
        Self { figures, failures: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn figures(&mut self, subject: Subject) -> &mut Figures {
        let at = self.figures.iter().position(|(other, _)| *other == subject);
        let at = at.unwrap_or_else(|| {
            self.figures.push((subject, Figures::default()));
            self.figures.len() - 1
        });
        &mut self.figures[at].1
    }

    fn of(&self, subject: Subject) -> Option<&Figures> {
        self.figures.iter().find(|(other, _)| *other == subject).map(|(_, figures)| figures)
    }

    /// Ours by theirs, the median over the repeats; latencies the other way round, so that more is better. `cost_flat` is ours alone.
    pub(super) fn ratios(&self) -> Vec<(&'static str, f64)> {
        let mut ratios = Vec::new();
        let none = Figures::default();
        let theirs = self.of(Subject::Rtpengine).unwrap_or(&none);
        let mut add = |name, ours: &[f64], theirs: &[f64]| {
            let each = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>();
            ratios.extend(median(&each).map(|ratio| (name, ratio)));
        };
        for (subject, figures) in &self.figures {
            if let Some(name) = subject.ratio() {
                add(name, &figures.calls, &theirs.calls);
            }
        }
        if let Some(ours) = self.of(Subject::AfXdp) {
            add("transcode_afxdp", &ours.transcoded, &theirs.transcoded);
            let at =
                |figures: &Figures, at: usize| figures.latency_us.iter().map(|us| us[at]).collect::<Vec<_>>();
            if let Some(ceiling) = self.of(Subject::Ceiling) {
                add("ceiling_share", &ours.calls, &ceiling.calls);
            }
            add("latency_p50", &at(theirs, 0), &at(ours, 0));
            add("latency_p99", &at(theirs, 1), &at(ours, 1));
        }
        for (subject, name) in [(Subject::AfXdp, "cost_flat"), (Subject::InKernel, "cost_flat_inkernel")] {
            let flatness = self.of(subject).and_then(Figures::flatness);
            ratios.extend(flatness.map(|ratio| (name, ratio)));
        }
        ratios
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| relay | calls on one core | cores for 1,000 calls | added latency at half, us: p50 | p99 | p99.9 | PCMU to PCMA, calls | slots left out, % | loss with them, % |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for (subject, figures) in &self.figures {
            let us = |at: usize| {
                let values: Vec<f64> = figures.latency_us.iter().map(|us| us[at]).collect();
                spread(&values, 0)
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                subject.title(),
                spread(&figures.calls, 0),
                spread(&figures.cores_per_thousand, 3),
                us(0),
                us(1),
                us(2),
                spread(&figures.transcoded, 0),
                spread(&figures.left_out_percent, 1),
                spread(&figures.all_loss_percent, 3)
            );
        }
        let flat = self.figures.iter().filter(|(_, figures)| figures.flatness().is_some());
        for (at, (subject, figures)) in flat.enumerate() {
            if at == 0 {
                let flows = FLOWS.map(|flows| flows.to_string()).join(" | ");
                let _ = writeln!(
                    text,
                    "\n| ns for a packet, flows: | {flows} |\n|---|{}",
                    "---|".repeat(FLOWS.len())
                );
            }
            let _ = write!(text, "| {} |", subject.title());
            for flows in 0..FLOWS.len() {
                let costs: Vec<f64> = figures.flow_costs_ns.iter().map(|costs| costs[flows]).collect();
                let _ = write!(text, " {} |", spread(&costs, 0));
            }
            text.push('\n');
        }
        text
    }

    /// Puts table and ratios between the markers of a document.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let ratios = self.ratios();
        let ratios: Vec<String> = ratios.iter().map(|(name, value)| format!("`{name}` {value:.2}")).collect();
        let text = format!("{}\nRatios, ours by theirs: {}.\n", self.table(), ratios.join(", "));
        put_between(path, BEGIN, END, &text)
    }
}

const BEGIN: &str = "<!-- relay:begin -->";
const END: &str = "<!-- relay:end -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_medians_of_what_was_measured_together() {
        let mut report = Report::new(&[Subject::Rtpengine, Subject::AfXdp]);
        report.figures(Subject::Rtpengine).calls = vec![1_000.0, 2_000.0, 1_000.0];
        report.figures(Subject::AfXdp).calls = vec![6_000.0, 10_000.0, 4_000.0];
        report.figures(Subject::Rtpengine).latency_us = vec![[100.0, 300.0, 500.0]];
        report.figures(Subject::AfXdp).latency_us = vec![[20.0, 100.0, 500.0]];
        assert_eq!(report.ratios(), [("relay_afxdp", 5.0), ("latency_p50", 5.0), ("latency_p99", 3.0)]);
        assert!(
            report
                .table()
                .contains("| rtpengine, user space | 1000 (1000 to 2000) | - | 100 | 300 | 500 | - |")
        );
    }

    #[test]
    fn what_failed_leaves_a_gap_and_the_rest_still_belongs_together() {
        let mut report = Report::new(&[Subject::Rtpengine, Subject::AfXdp]);
        let theirs = report.figures(Subject::Rtpengine);
        theirs.fill_up();
        theirs.calls.push(2_000.0);
        theirs.fill_up();
        let ours = report.figures(Subject::AfXdp);
        ours.calls.push(6_000.0);
        ours.flow_costs_ns.push([1_000.0, 1_100.0, 1_200.0]);
        ours.fill_up();
        ours.calls.push(8_000.0);
        ours.fill_up();
        assert_eq!(report.ratios(), [("relay_afxdp", 4.0), ("cost_flat", 1.2)]);
        let table = report.table();
        assert!(table.contains("| rtpengine, user space | 2000 | - |"), "{table}");
        assert!(table.contains("| sidetone, `af_xdp` | 1000 | 1100 | 1200 |"), "{table}");
        assert!(!table.contains("NaN"), "{table}");
    }

    #[test]
    fn the_table_goes_between_its_markers() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("before\n{BEGIN}\nold\n{END}\nafter\n")).unwrap();
        Report::new(&[Subject::Udp]).write(file.path()).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(text.starts_with("before\n") && text.ends_with(&format!("{END}\nafter\n")));
        assert!(text.contains("`udp`") && !text.contains("old"));
        std::fs::write(file.path(), "no marker").unwrap();
        assert!(Report::new(&[]).write(file.path()).is_err());
    }
}
