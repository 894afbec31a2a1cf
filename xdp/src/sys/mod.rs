//! The system calls that have no safe wrapper elsewhere, each made safe here: one file per subject.

pub(crate) mod bpf;
pub(crate) mod ethtool;
pub(crate) mod mmsg;
pub(crate) mod raw;
pub(crate) mod schedule;
pub(crate) mod uring;
pub(crate) mod xsk;
