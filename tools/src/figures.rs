//! Figures of several repeats, and their place in a document.

use std::path::Path;

use anyhow::{Context as _, anyhow};

/// The middle of those that are numbers.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[half]),
        _ => Some(f64::midpoint(sorted[half - 1], sorted[half])),
    }
}

/// Median, and the range where there is one.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let Some(middle) = median(values) else { return "-".to_owned() };
    let (least, most) =
        values.iter().fold((f64::MAX, f64::MIN), |(least, most), &value| (least.min(value), most.max(value)));
    if least == most {
        return format!("{middle:.digits$}");
    }
    format!("{middle:.digits$} ({least:.digits$} to {most:.digits$})")
}

/// Replaces what is between two markers of a document.
pub(crate) fn put_between(path: &Path, begin: &str, end: &str, text: &str) -> anyhow::Result<()> {
    let old = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let broken = || anyhow!("{} has no {begin} with {end} behind it", path.display());
    let (head, rest) = old.split_once(begin).ok_or_else(broken)?;
    let (_, tail) = rest.split_once(end).ok_or_else(broken)?;
    std::fs::write(path, format!("{head}{begin}\n\n{text}\n{end}{tail}"))
        .with_context(|| format!("cannot write {}", path.display()))
}
