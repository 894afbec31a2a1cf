//! Where a worker's thread runs, and with which right of way.

use std::io;

/// A worker's place in the machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seat {
    /// The CPU that it is pinned to.
    pub(crate) cpu: Option<usize>,
    /// Its real-time priority.
    pub(crate) priority: Option<u8>,
}

impl Seat {
    /// Gives it to the calling thread. Without permission for the priority the thread has the ordinary one, and the
    /// error is in the answer.
    ///
    /// # Errors
    /// The CPU cannot be had.
    pub(super) fn take(self) -> io::Result<Option<io::Error>> {
        if let Some(cpu) = self.cpu {
            xdp::thread::pin(&[cpu])?;
        }
        xdp::thread::be_punctual();
        Ok(self.priority.and_then(|priority| xdp::thread::be_real_time(priority).err()))
    }
}

/// What to do about a priority that was refused.
pub(super) fn refused_priority(priority: u8, error: &io::Error) -> String {
    let advice = if error.kind() == io::ErrorKind::PermissionDenied {
        format!(
            "give the process CAP_SYS_NICE (systemd: AmbientCapabilities=CAP_SYS_NICE) or RLIMIT_RTPRIO {priority} \
             (systemd: LimitRTPRIO={priority})"
        )
    } else {
        error.to_string()
    };
    format!("media.priority {priority} was refused, workers run at the ordinary priority: {advice}")
}

/// Keeps the memory of the process in RAM, or says why not and what to do.
pub(crate) fn lock_memory() -> Option<String> {
    let error = xdp::thread::lock_memory().err()?;
    Some(format!(
        "media.lock_memory was refused ({error}), memory may be paged out: give the process CAP_IPC_LOCK (systemd: \
         AmbientCapabilities=CAP_IPC_LOCK) or an unlimited RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)"
    ))
}
