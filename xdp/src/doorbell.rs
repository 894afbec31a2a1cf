//! A wake-up call across threads: an eventfd that is written at most once until it is heard.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes a sleeping thread or task. Ringing an already rung bell costs one atomic, no system call.
///
/// The listener calls [`Doorbell::hear`] first and looks for work afterwards, so no work is missed.
#[derive(Clone, Debug)]
pub struct Doorbell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    eventfd: OwnedFd,
    rung: AtomicBool,
}

impl Doorbell {
    /// Makes a silent bell.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Inner { eventfd, rung: AtomicBool::new(false) })))
    }

    /// Wakes the listener, now or when it next waits.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // Fails only if the counter would overflow, and then the listener is awake already.
            let _ = rustix::io::write(&self.0.eventfd, &1u64.to_ne_bytes());
        }
    }

    /// Silences the bell; returns whether it had rung.
    pub fn hear(&self) -> bool {
        let mut count = [0; 8];
        // Drain before the flag falls: a ring between the two costs one extra wake-up, never a lost one.
        let _ = rustix::io::read(&self.0.eventfd, &mut count);
        self.0.rung.swap(false, Ordering::AcqRel)
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.eventfd.as_fd()
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.eventfd.as_raw_fd()
    }
}
