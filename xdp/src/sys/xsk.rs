//! Socket options of AF_XDP that have no safe wrapper elsewhere.
#![expect(unsafe_code, reason = "setsockopt and getsockopt take raw pointers")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many packets one system call may transmit in copy mode (`XDP_MAX_TX_SKB_BUDGET`, Linux 6.17; 32 before).
///
/// # Errors
/// `ENOPROTOOPT` from kernels that do not know it.
pub(crate) fn set_transmit_budget(socket: BorrowedFd<'_>, packets: u32) -> io::Result<()> {
    set(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, packets)
}

/// How many bytes of packets in copies of the kernel's may be under way; more than the system's limit with
/// CAP_NET_ADMIN.
///
/// # Errors
/// `EPERM` without it.
pub(crate) fn force_send_buffer(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
}

/// The queue of the driver that the socket is tied to for busy polling; 0 if there is none.
///
/// # Errors
/// The kernel's.
pub(crate) fn incoming_napi_id(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut value = 0u32;
    let mut len = size_of::<u32>() as libc::socklen_t;
    // SAFETY: `value` is as long as `len` says, and both live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_INCOMING_NAPI_ID,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel poll the driver's queue within our system calls instead of by interrupts (kernel documentation,
/// networking/napi, "Busy polling").
///
/// # Errors
/// The kernel's.
pub(crate) fn set_busy_poll(socket: BorrowedFd<'_>, microseconds: u32, budget: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)?;
    set(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, microseconds)?;
    set(socket, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, budget)
}

fn set(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: u32) -> io::Result<()> {
    // SAFETY: the pointer is to a live integer of the length said, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Of `linux/if_xdp.h`.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Of `asm-generic/socket.h`.
const SO_PREFER_BUSY_POLL: libc::c_int = 69;

/// Of `asm-generic/socket.h`.
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;
