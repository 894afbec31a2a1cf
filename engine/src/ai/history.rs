//! What was said in a call, for the next connection's backend to go on from.

use std::collections::VecDeque;

use super::dialect::Sender;

/// The newest texts, within limits.
#[derive(Debug, Default)]
pub(super) struct History {
    texts: VecDeque<(Sender, String)>,
    bytes: usize,
}

impl History {
    /// Remembers a text, already cleaned; the oldest go when there are too many.
    pub(super) fn add(&mut self, from: Sender, text: &str) {
        let text: String = text.chars().take(MAX_TEXT_CHARS).collect();
        if text.trim().is_empty() {
            return;
        }
        self.bytes += text.len();
        self.texts.push_back((from, text));
        while self.texts.len() > MAX_TEXTS || self.bytes > MAX_BYTES {
            let Some((_, oldest)) = self.texts.pop_front() else { return };
            self.bytes -= oldest.len();
        }
    }

    /// The texts, oldest first.
    pub(super) fn texts(&self) -> Vec<(Sender, String)> {
        self.texts.iter().cloned().collect()
    }
}

const MAX_TEXTS: usize = 40;
const MAX_BYTES: usize = 16 * 1024;
const MAX_TEXT_CHARS: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_texts_are_kept() {
        let mut history = History::default();
        for n in 0..100 {
            history.add(Sender::Caller, &n.to_string());
        }
        history.add(Sender::Bot, "  ");
        let texts = history.texts();
        assert_eq!(texts.len(), MAX_TEXTS);
        assert_eq!(texts[0], (Sender::Caller, "60".into()));
    }

    #[test]
    fn long_texts_push_out_more() {
        let mut history = History::default();
        for _ in 0..40 {
            history.add(Sender::Bot, &"é".repeat(5_000));
        }
        assert_eq!(history.texts().len(), MAX_BYTES / (2 * MAX_TEXT_CHARS));
        assert!(history.bytes <= MAX_BYTES);
    }
}
