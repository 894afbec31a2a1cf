//! The kernel's text files.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The file tree that facts are read from: `/`, or a recorded one.
#[derive(Clone, Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// The text of a file without the white space around it; `None` if it cannot be read.
    pub(super) fn text(&self, file: &str) -> Option<String> {
        let text = std::fs::read(self.path(file)).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    }

    pub(super) fn number<T: FromStr>(&self, file: &str) -> Option<T> {
        self.text(file)?.parse().ok()
    }

    pub(super) fn list(&self, file: &str) -> Option<Vec<usize>> {
        self.text(file).map(|text| list(&text))
    }

    /// The names in a folder, in order; none if it is not there.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// Numbers and ranges, such as `0-3,8`, as the kernel writes sets of CPUs. What is none is left out.
pub(super) fn list(text: &str) -> Vec<usize> {
    let mut numbers: Vec<usize> = ranges::<u32>(text)
        .into_iter()
        // No machine has more CPUs; a longer range is no set of CPUs.
        .filter(|range| range.end() - range.start() < 1 << 16)
        .flatten()
        .map(|number| number as usize)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Ranges, such as `20000-20010,30000`. What is none is left out.
pub(super) fn ranges<T: FromStr + Copy + PartialOrd>(text: &str) -> Vec<RangeInclusive<T>> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        (low <= high).then_some(low..=high)
    };
    text.split(',').filter_map(range).collect()
}

/// The value of a line such as `HugePages_Free:    12`.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_and_ranges_are_read_as_the_kernel_writes_them() {
        assert_eq!(list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(list(""), [0; 0]);
        assert_eq!(list("(null)"), [0; 0]);
        assert_eq!(list("3,1-2,2"), [1, 2, 3]);
        assert_eq!(ranges::<u16>("20000-20010,30000"), [20_000..=20_010, 30_000..=30_000]);
        assert_eq!(field("A: 1\nAB:  2 kB\n", "AB"), Some("2 kB"));
        assert_eq!(field("A: 1", "B"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[0-9,\\- a]{0,40}") {
            let numbers = list(&text);
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
            let _ = ranges::<u16>(&text);
        }
    }
}
