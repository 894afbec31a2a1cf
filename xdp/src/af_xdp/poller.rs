//! Waiting for rings, kernel sockets and the doorbell at once.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::socket::Socket;
use crate::udp::UdpDevice;

/// An epoll set of the inner device's own and the AF_XDP sockets.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Events {
    /// Anything but the timeout.
    pub(super) any: bool,
    /// The inner device has something to look at.
    pub(super) inner: bool,
    /// An AF_XDP socket has lost its interface.
    pub(super) failed: bool,
}

impl Poller {
    pub(super) fn new(inner: &UdpDevice, sockets: &[Socket]) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, inner.as_fd(), epoll::EventData::new_u64(INNER), epoll::EventFlags::IN)?;
        for socket in sockets {
            // A closed one leaves the set by itself.
            epoll::add(&epoll, socket.as_fd(), epoll::EventData::new_u64(RINGS), epoll::EventFlags::IN)?;
        }
        Ok(Self { epoll })
    }

    pub(super) fn wait(&self, timeout: Duration) -> Events {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, Some(&timeout)) else {
            // Interrupted, by io_uring work of the same thread, say: the caller looks at the clock and goes on.
            return Events::default();
        };
        let mut seen = Events { any: !events.is_empty(), ..Events::default() };
        for event in events {
            // A copy: the kernel's struct is packed.
            let flags = event.flags;
            match event.data.u64() {
                INNER => seen.inner = true,
                _ => seen.failed |= flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP),
            }
        }
        seen
    }
}

const INNER: u64 = 0;
const RINGS: u64 = 1;

/// Events taken at once; a queue that is not among them is among the next.
const EVENTS: usize = 16;
