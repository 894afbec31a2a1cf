//! Keys for the caller's side, one after the other, with pauses.

use std::collections::VecDeque;
use std::time::Duration;

use engine::command::Digit;
use tokio::time::{Instant, sleep_until};

/// Keys that are still to be pressed.
#[derive(Debug, Default)]
pub(super) struct Keys {
    left: VecDeque<Step>,
    /// When the next step begins.
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Press(Digit),
    Pause(Duration),
}

impl Keys {
    /// Adds what `text` says: `0` to `9`, `*`, `#`, `A` to `D`; `,`, `w` and `p` pause for half a second, `W` for a
    /// second. Spaces and hyphens only group.
    ///
    /// # Errors
    /// What is wrong with it; nothing is added then.
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        let mut steps = Vec::new();
        for character in text.chars() {
            steps.push(match character {
                ' ' | '-' => continue,
                ',' | 'w' | 'p' => Step::Pause(HALF),
                'W' => Step::Pause(HALF * 2),
                _ => Step::Press(Digit::from_char(character).ok_or(
                    "only the keys 0 to 9, *, #, A to D can be pressed; a comma pauses for half a second",
                )?),
            });
        }
        if !steps.iter().any(|step| matches!(step, Step::Press(_))) {
            return Err("name at least one key".to_owned());
        }
        if self.left.len() + steps.len() > MOST {
            return Err(format!("at most {MOST} keys and pauses at a time"));
        }
        self.left.extend(steps);
        self.due.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// The next key, when its time has come. Cancel safe.
    pub(super) async fn next(&mut self) -> Digit {
        loop {
            let Some(due) = self.due else { return std::future::pending().await };
            sleep_until(due).await;
            match self.left.pop_front() {
                Some(Step::Press(digit)) => {
                    self.due = Some(due + KEY + GAP);
                    return digit;
                }
                Some(Step::Pause(pause)) => self.due = Some(due + pause),
                None => self.due = None,
            }
        }
    }
}

/// How long a key is down.
pub(super) const KEY: Duration = Duration::from_millis(160);
const GAP: Duration = Duration::from_millis(90);
const HALF: Duration = Duration::from_millis(500);
const MOST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_pressed_in_order_with_pauses() {
        let mut keys = Keys::default();
        keys.add("1-2,a").expect("keys");
        let begun = Instant::now();
        let mut pressed = Vec::new();
        for _ in 0..3 {
            let digit = keys.next().await;
            pressed.push((digit.as_char(), begun.elapsed().as_millis()));
        }
        let after: Vec<_> = pressed.iter().map(|(_, after)| *after).collect();
        assert_eq!(pressed.iter().map(|(key, _)| *key).collect::<String>(), "12A");
        assert!(after[1] >= 249 && after[2] >= 999, "a key takes 250 ms, a comma 500: {after:?}");
        let none = tokio::time::timeout(Duration::from_millis(300), keys.next()).await;
        assert!(none.is_err(), "nothing is left");
        keys.add("#").expect("a key");
        assert_eq!(keys.next().await.as_char(), '#');
    }

    #[test]
    fn what_is_no_key_is_refused_whole() {
        let mut keys = Keys::default();
        for bad in ["", " ", ",,", "12x", "+49", "１", &"1".repeat(129)] {
            assert!(keys.add(bad).is_err(), "{bad}");
        }
        assert!(keys.left.is_empty() && keys.due.is_none());
    }
}
