//! Keys of the caller's phone, for backends that can only read.

use crate::command::Digit;

/// Collects keys to one sentence, so that the model hears of a number and not of ten keys. Its clock is the caller's
/// audio.
#[derive(Debug, Default)]
pub(super) struct Keypad {
    keys: String,
    /// The audio's position at the last key; `None` until the next audio tells.
    pressed_at: Option<u64>,
}

impl Keypad {
    /// Takes a key; gives the sentence if it was the last one.
    pub(super) fn press(&mut self, digit: Digit) -> Option<String> {
        self.keys.push(digit.as_char());
        self.pressed_at = None;
        let last = digit.as_char() == '#' || self.keys.len() >= MAX_KEYS;
        last.then(|| self.take())
    }

    /// Takes the position of the caller's audio, at 8 kHz; gives the sentence if no key has come for long.
    pub(super) fn pass(&mut self, timestamp: u64) -> Option<String> {
        if self.keys.is_empty() {
            return None;
        }
        let pressed_at = *self.pressed_at.get_or_insert(timestamp);
        (timestamp.saturating_sub(pressed_at) >= PAUSE_SAMPLES).then(|| self.take())
    }

    fn take(&mut self) -> String {
        self.pressed_at = None;
        format!("The caller pressed {}.", std::mem::take(&mut self.keys))
    }
}

/// Two seconds without a key end a number.
const PAUSE_SAMPLES: u64 = 16_000;
const MAX_KEYS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn digit(key: char) -> Digit {
        Digit::from_char(key).expect("a key")
    }

    #[test]
    fn keys_become_one_sentence_at_the_hash_or_after_two_seconds() {
        let mut keypad = Keypad::default();
        assert_eq!(keypad.pass(0), None);
        assert_eq!(keypad.press(digit('4')), None);
        assert_eq!(keypad.press(digit('2')), None);
        assert_eq!(keypad.press(digit('#')).as_deref(), Some("The caller pressed 42#."));
        assert_eq!(keypad.press(digit('5')), None);
        assert_eq!(keypad.pass(1_000), None);
        assert_eq!(keypad.pass(16_999), None);
        assert_eq!(keypad.pass(17_000).as_deref(), Some("The caller pressed 5."));
        assert_eq!(keypad.pass(90_000), None);
    }

    #[test]
    fn every_key_starts_the_pause_anew() {
        let mut keypad = Keypad::default();
        keypad.press(digit('1'));
        assert_eq!(keypad.pass(0), None);
        keypad.press(digit('2'));
        assert_eq!(keypad.pass(15_000), None);
        assert_eq!(keypad.pass(20_000), None);
        assert_eq!(keypad.pass(31_000).as_deref(), Some("The caller pressed 12."));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut keypad = Keypad::default();
        let sentences = (0..100).filter_map(|_| keypad.press(digit('7'))).count();
        assert_eq!(sentences, 3);
    }
}
