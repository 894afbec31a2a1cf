//! Logs, metrics and readiness: what the outside may know about a running process.

mod exposition;
mod log;
mod process;
mod readiness;

pub use exposition::{Exposition, Labels, MetricKind, Number, Registry};
pub use log::{LogError, LogFormat, check_level, start_log};
pub use process::{collect_process, open_files_limit, open_files_wanted, raise_open_files_limit};
pub use readiness::{Phase, Readiness};
