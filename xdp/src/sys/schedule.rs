//! The real-time priority of a thread.
#![expect(unsafe_code, reason = "sched_setscheduler(2) takes a raw pointer")]

use std::io;

/// Gives the calling thread the ordinary policy, SCHED_OTHER, whatever it has inherited.
pub(crate) fn set_ordinary() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters live through the call, which reads them; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives the calling thread the policy SCHED_FIFO with `priority`, 1 to 99; processes that it starts have the ordinary
/// one.
pub(crate) fn set_fifo(priority: u8) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: the parameters live through the call, which reads them; 0 is the calling thread.
    let result = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
