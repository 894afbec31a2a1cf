//! Ours and theirs in one run: the result first, then times in turn.

use std::time::{Duration, Instant};

/// How long one batch takes: long against the clock, short against the neighbours on the machine.
const BATCH: Duration = Duration::from_millis(3);

/// One kernel and what it is compared with.
pub struct Pair {
    /// The name in the goals, and in `RATIO name value`.
    pub name: &'static str,
    /// How many times faster than the fastest of theirs ours should be.
    pub goal: f64,
    /// How many frames one call of a side handles.
    pub frames: usize,
    /// Whether ours is right, with a word on how that was seen.
    pub check: Box<dyn FnOnce() -> Result<String, String>>,
    /// As the product calls it, with the table that it chose.
    pub ours: Side,
    pub theirs: Vec<Side>,
    /// Whether the choice of a table changes anything.
    pub uses_kernels: bool,
}

/// One implementation; a call handles [`Pair::frames`] frames.
pub struct Side {
    pub name: String,
    pub run: Box<dyn FnMut()>,
}

impl Side {
    pub fn new(name: impl Into<String>, run: impl FnMut() + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// What a pair came to.
pub struct Outcome {
    pub name: &'static str,
    pub goal: f64,
    pub check: Result<String, String>,
    /// None when the result was wrong.
    pub times: Option<Times>,
    /// Ours by instruction set, in runs of their own.
    pub tables: Vec<(&'static str, f64)>,
}

/// Nanoseconds per frame are medians over the rounds; the ratio is the median of the rounds' ratios.
pub struct Times {
    pub ours: f64,
    pub theirs: Vec<(String, f64)>,
    /// The fastest of theirs.
    pub peer: usize,
    pub ratio: f64,
}

impl Pair {
    /// Checks, then times ours alone.
    pub fn run_ours(mut self, rounds: usize) -> Result<f64, String> {
        (self.check)()?;
        let times = interleave(&mut [&mut self.ours], rounds, self.frames);
        Ok(median(times.into_iter().flatten().collect()))
    }

    /// Checks, then times in `rounds` rounds, each of one batch of every side.
    pub fn run(mut self, rounds: usize) -> Outcome {
        let check = (self.check)();
        let times = check.is_ok().then(|| {
            let mut sides: Vec<&mut Side> = Vec::new();
            sides.push(&mut self.ours);
            sides.extend(&mut self.theirs);
            let per_round = interleave(&mut sides, rounds, self.frames);
            let median_of = |side: usize| median(per_round.iter().map(|round| round[side]).collect());
            let named = |(at, side): (usize, &Side)| (side.name.clone(), median_of(1 + at));
            let theirs: Vec<(String, f64)> = self.theirs.iter().enumerate().map(named).collect();
            let peer = (0..theirs.len()).min_by(|&a, &b| theirs[a].1.total_cmp(&theirs[b].1)).unwrap_or(0);
            let ratio = median(per_round.iter().map(|round| round[1 + peer] / round[0]).collect());
            Times { ours: median_of(0), theirs, peer, ratio }
        });
        Outcome { name: self.name, goal: self.goal, check, times, tables: Vec::new() }
    }
}

/// Nanoseconds per frame, by round and side. Every other round goes backwards, so that no side always runs
/// behind the same one.
fn interleave(sides: &mut [&mut Side], rounds: usize, frames: usize) -> Vec<Vec<f64>> {
    let calls: Vec<u32> = sides.iter_mut().map(|side| calibrate(&mut side.run)).collect();
    (0..rounds)
        .map(|round| {
            let mut nanoseconds = vec![0.0; sides.len()];
            for step in 0..sides.len() {
                let at = if round % 2 == 0 { step } else { sides.len() - 1 - step };
                let elapsed = time(&mut sides[at].run, calls[at]);
                nanoseconds[at] = elapsed.as_secs_f64() * 1e9 / f64::from(calls[at]) / frames as f64;
            }
            nanoseconds
        })
        .collect()
}

/// How many calls fill a batch.
fn calibrate(run: &mut dyn FnMut()) -> u32 {
    let mut calls = 1;
    loop {
        let elapsed = time(run, calls);
        if elapsed >= BATCH / 2 || calls >= 1 << 24 {
            return ((f64::from(calls) * BATCH.as_secs_f64() / elapsed.as_secs_f64()) as u32).max(1);
        }
        calls *= 2;
    }
}

fn time(run: &mut dyn FnMut(), calls: u32) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        run();
    }
    start.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
