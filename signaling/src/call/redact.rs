//! Numbers and names in logs and lists.

use std::time::Duration;

/// All but the last two characters masked; all of what has no more than three.
pub(crate) fn redacted(text: &str, show: bool) -> String {
    let clean = text.chars().filter(|character| !character.is_control()).take(MAX_CHARS);
    if show {
        return clean.collect();
    }
    let clean: Vec<char> = clean.collect();
    let shown = if clean.len() > 3 { 2 } else { 0 };
    let masked = clean.len() - shown;
    clean.iter().enumerate().map(|(index, character)| if index < masked { '*' } else { *character }).collect()
}

/// For a log or a list: to the microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// An identifier that the peer chose, cut to what a line can hold.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_IDENTIFIER_CHARS).collect()
}

const MAX_CHARS: usize = 64;
const MAX_IDENTIFIER_CHARS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_number_is_shown() {
        assert_eq!(redacted("+4930123456", false), "*********56");
        assert_eq!(redacted("eve", false), "***");
        assert_eq!(redacted("", false), "");
        assert_eq!(redacted("+4930123456", true), "+4930123456");
    }

    #[test]
    fn durations_are_told_to_the_microsecond() {
        assert_eq!(milliseconds(Duration::from_nanos(477_639)).to_string(), "0.477");
    }

    #[test]
    fn control_characters_and_excess_are_cut() {
        assert_eq!(redacted("a\r\nb\u{1b}[2J", true), "ab[2J");
        assert_eq!(redacted(&"é".repeat(1000), true).chars().count(), 64);
    }
}
