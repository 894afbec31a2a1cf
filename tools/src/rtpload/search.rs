//! The largest number of calls that loses less than a bound.

use std::rc::Rc;

use serde_json::{Value, json};

use super::plan::Outcome;

/// What a run with some number of calls said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    Good,
    /// Too much was lost, in percent, or something was wrong with what came.
    Bad(f64),
}

/// How runs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// One run.
    Look,
    /// Several.
    Confirm,
}

/// What came of the runs with one number of calls.
#[derive(Clone, Default)]
pub(super) struct Step {
    runs: u32,
    sent: u64,
    all_lost: u64,
    seconds: f64,
    call_seconds: f64,
    /// The sum over the runs.
    loss_percent: f64,
    pub(super) slots: usize,
    pub(super) left_out: usize,
    broken: bool,
    /// This program could not send as many as it should have.
    pub(super) too_slow: bool,
    pub(super) trusted: bool,
    pub(super) last: Option<Rc<Outcome>>,
}

impl Step {
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.trusted = !outcome.is_spoiled() && (self.runs == 0 || self.trusted);
        self.runs += 1;
        self.sent += outcome.sent;
        self.all_lost += outcome.all_lost();
        self.seconds += outcome.seconds();
        self.call_seconds += outcome.offered_calls() * outcome.seconds();
        self.loss_percent += outcome.useless_percent();
        self.slots += outcome.account.slots;
        self.left_out += outcome.account.left_out;
        self.broken |= !outcome.is_intact() || outcome.silent > 0;
        self.too_slow |= outcome.is_too_slow();
        self.last = Some(Rc::new(outcome));
    }

    pub(super) fn is_good(&self, bound_percent: f64) -> bool {
        !self.broken && self.loss_percent() < bound_percent
    }

    /// Lost or late, without the slots that are left out.
    pub(super) fn loss_percent(&self) -> f64 {
        self.loss_percent / f64::from(self.runs.max(1))
    }

    /// All that was lost.
    pub(super) fn all_loss_percent(&self) -> f64 {
        100.0 * self.all_lost as f64 / (self.sent as f64).max(1.0)
    }

    /// The calls whose packets were really offered.
    pub(super) fn offered_calls(&self) -> f64 {
        self.call_seconds / self.seconds.max(1e-9)
    }

    pub(super) fn json(&self, calls: u32, good: bool) -> Value {
        json!({
            "calls": calls, "offered_calls": self.offered_calls(), "runs": self.runs, "good": good,
            "loss_percent": self.loss_percent(), "all_loss_percent": self.all_loss_percent(),
            "slots": self.slots, "left_out": self.left_out, "intact": !self.broken,
            "too_slow": self.too_slow, "trusted": self.trusted,
        })
    }
}

/// Begins at `guess`, goes up or down by steps that grow until a good and a bad number are known, halves what is between until it is within
/// `precision` (0.03 is 3 %), and confirms by more runs, stepping down where that fails. 0 if even one call is too much.
pub(crate) fn largest(
    most: u32,
    guess: u32,
    precision: f64,
    mut run: impl FnMut(u32, Purpose) -> anyhow::Result<Verdict>,
) -> anyhow::Result<u32> {
    // On a shared machine some loss may be a neighbour's doing: it counts when it comes twice.
    let mut is_good = |calls: u32, purpose: Purpose| -> anyhow::Result<bool> {
        Ok(match run(calls, purpose)? {
            Verdict::Good => true,
            Verdict::Bad(percent) if percent < SOME_PERCENT => run(calls, purpose)? == Verdict::Good,
            Verdict::Bad(_) => false,
        })
    };
    let (mut good, mut bad) = (0, most + 1);
    let (mut next, mut stride) = (guess.clamp(1, most), FIRST_STRIDE);
    while bad - good > 1 && f64::from(bad - good) > precision * f64::from(good) {
        if is_good(next, Purpose::Look)? {
            good = next;
        } else {
            bad = next;
        }
        let step = (f64::from(next) * stride).ceil() as u32;
        stride = (2.0 * stride).min(LONGEST_STRIDE);
        next = match (good, bad) {
            (0, bad) => bad.saturating_sub(step).max(1),
            (good, bad) if bad > most => (good + step).min(most),
            (good, bad) => good.midpoint(bad),
        };
        if good == most || bad == 1 {
            break;
        }
    }
    for _ in 0..CONFIRMATIONS {
        if good == 0 || is_good(good, Purpose::Confirm)? {
            return Ok(good);
        }
        good -= ((f64::from(good) * precision).ceil() as u32).min(good);
    }
    Ok(0)
}

/// What is known from the time before is near; else it is soon far away.
const FIRST_STRIDE: f64 = 0.08;
const LONGEST_STRIDE: f64 = 0.32;
/// A core that is taken away for 50 ms in a run of 0.6 s.
const SOME_PERCENT: f64 = 10.0;
const CONFIRMATIONS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn find(limit: u32, most: u32, guess: u32) -> (u32, usize) {
        let mut runs = 0;
        let found = largest(most, guess, 0.03, |calls, _| {
            runs += 1;
            Ok(if calls <= limit { Verdict::Good } else { Verdict::Bad(50.0) })
        });
        (found.unwrap(), runs)
    }

    #[test]
    fn the_limit_is_found_from_any_guess_in_few_runs() {
        for limit in [1, 7, 100, 1_700, 17_000] {
            for guess in [1, limit, limit * 3] {
                let (found, runs) = find(limit, 20_000, guess);
                assert!(
                    found <= limit && f64::from(limit - found) <= 0.031 * f64::from(limit),
                    "{limit} {found}"
                );
                let near = guess == limit;
                assert!(runs <= if near { 9 } else { 60 }, "{runs} runs from {guess} to {limit}");
            }
        }
        assert_eq!(find(5_000, 2_000, 1_000).0, 2_000);
        assert_eq!(find(0, 2_000, 1_000).0, 0);
    }

    #[test]
    fn loss_that_does_not_come_again_is_not_the_relays() {
        let mut calls_seen = Vec::new();
        let found = largest(1_000, 500, 0.03, |calls, _| {
            let first = !calls_seen.contains(&calls);
            calls_seen.push(calls);
            Ok(if first { Verdict::Bad(0.5) } else { Verdict::Good })
        });
        assert_eq!(found.unwrap(), 1_000);
    }

    #[test]
    fn what_more_runs_do_not_confirm_is_lowered() {
        let found = largest(1_000, 900, 0.03, |calls, purpose| {
            Ok(if calls <= 950 && (purpose == Purpose::Look || calls <= 800) {
                Verdict::Good
            } else {
                Verdict::Bad(90.0)
            })
        });
        assert!((770..=800).contains(&found.unwrap()));
    }
}
