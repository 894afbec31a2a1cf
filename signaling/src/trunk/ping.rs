//! Whether a trunk is there, by what it says to OPTIONS. No socket, no clock.

use std::time::Duration;

use crate::model::PingState;

/// Goes down after two misses and up after two answers, so that a lost packet changes nothing; the very first
/// word counts at once.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: PingState,
    /// Words in a row against the state.
    against: u32,
    /// How long the last answer took.
    latency: Option<Duration>,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: PingState::Unknown, against: 0, latency: None }
    }
}

impl Health {
    pub(crate) const fn state(&self) -> PingState {
        self.state
    }

    pub(crate) const fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// Takes an answer, whatever it said, or its absence; whether the state changed.
    pub(crate) fn heard(&mut self, answer: Option<Duration>) -> bool {
        self.latency = answer;
        let says = if answer.is_some() { PingState::Up } else { PingState::Down };
        if says == self.state {
            self.against = 0;
            return false;
        }
        self.against += 1;
        // A trunk that never answered is not down before it has missed as often as one that did.
        let enough = if self.state == PingState::Unknown && says == PingState::Up { 1 } else { WORDS };
        if self.against < enough {
            return false;
        }
        (self.state, self.against) = (says, 0);
        true
    }
}

/// How many it takes.
const WORDS: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_misses_take_it_down_and_two_answers_bring_it_back() {
        let mut health = Health::default();
        let (hit, miss) = (Some(Duration::from_millis(3)), None);
        let steps = [
            (miss, false, PingState::Unknown),
            (hit, true, PingState::Up),
            (miss, false, PingState::Up),
            (hit, false, PingState::Up),
            (miss, false, PingState::Up),
            (miss, true, PingState::Down),
            (hit, false, PingState::Down),
            (miss, false, PingState::Down),
            (hit, false, PingState::Down),
            (hit, true, PingState::Up),
        ];
        for (step, (answer, changed, state)) in steps.into_iter().enumerate() {
            assert_eq!((health.heard(answer), health.state()), (changed, state), "step {step}");
            assert_eq!(health.latency(), answer);
        }
        let mut never = Health::default();
        assert!(!never.heard(miss) && never.heard(miss));
        assert_eq!(never.state(), PingState::Down);
    }
}
