//! Bot audio on its way to the worker: what waits, where everything is, what was left out.

mod backlog;
mod marks;
mod positions;

pub(super) use backlog::Backlog;
#[cfg(test)]
pub(super) use backlog::KEPT_BYTES;
#[cfg(test)]
pub(super) use marks::MAX_MARKS;
pub(super) use marks::Marks;
pub(super) use positions::Positions;
