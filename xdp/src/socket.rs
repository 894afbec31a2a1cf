//! An AF_XDP socket on one queue of an interface, by plain system calls (kernel documentation, networking/af_xdp).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING,
    XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpOptionsFlags, XdpStatistics, XdpUmemReg,
    XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};

use crate::ring::{self, Consumer, Descriptor, Producer};
use crate::sys::xsk;
use crate::umem::{CHUNK_BYTES, Umem};

/// How a [`Socket`] is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config<'a> {
    /// The interface's name, for messages.
    pub(crate) interface: &'a str,
    pub(crate) index: u32,
    pub(crate) queue: u32,
    /// Entries of the receive, fill and transmit ring: a power of two.
    pub(crate) ring: u32,
    /// Whether the driver shall use our memory itself.
    pub(crate) zero_copy: bool,
    pub(crate) busy_poll: Option<BusyPoll>,
    /// Packets that one system call may transmit in copy mode, where the kernel lets us say.
    pub(crate) transmit_budget: u32,
}

/// See [`crate::af_xdp::Options::busy_poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long one system call may poll, in microseconds.
    pub microseconds: u32,
    /// How many packets it may take.
    pub budget: u32,
}

/// Why there is no AF_XDP socket on a queue.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The process lacks a capability.
    #[error(
        "this process may not open AF_XDP sockets; give it CAP_NET_RAW (with CAP_BPF, CAP_NET_ADMIN and \
         CAP_PERFMON for the program), for instance by AmbientCapabilities= in its unit"
    )]
    Permission,
    /// The kernel was built without.
    #[error("this kernel has no AF_XDP; it needs CONFIG_XDP_SOCKETS")]
    Kernel,
    /// The limit on locked memory.
    #[error(
        "{bytes} bytes of packet memory exceed the limit on locked memory; raise it (LimitMEMLOCK=infinity in the \
         unit, or `ulimit -l unlimited`), give the process CAP_IPC_LOCK, or ask for fewer `frames`"
    )]
    Memory {
        /// How much was asked for.
        bytes: u64,
    },
    /// Somebody else has the queue.
    #[error(
        "queue {queue} of {interface} belongs to another AF_XDP socket; stop that program (`ss --xdp -p` shows it) or \
         leave the queue out of `queues`"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// The driver does not do it.
    #[error(
        "the driver of {interface} has no zero-copy AF_XDP on queue {queue}; set `zero_copy` to auto or never"
    )]
    ZeroCopy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// The interface has fewer queues.
    #[error("{interface} has no queue {queue}; `ethtool -l {interface}` shows how many it has")]
    Queue {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// Something else.
    #[error("AF_XDP on queue {queue} of {interface}: {step}: {source}")]
    Other {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What became of a [`Socket::kick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kicked {
    /// The kernel has taken all.
    All,
    /// It takes the rest at the next kick.
    Later,
    /// The socket is not bound to an interface any more.
    Gone,
}

/// An AF_XDP socket with its four rings.
#[derive(Debug)]
pub(crate) struct Socket {
    // Before the rings: the queue is free again only when the descriptor is closed and all rings are unmapped.
    fd: OwnedFd,
    pub(crate) receive: Consumer<Descriptor>,
    pub(crate) fill: Producer<u64>,
    pub(crate) transmit: Producer<Descriptor>,
    pub(crate) completion: Consumer<u64>,
    zero_copy: bool,
    busy_polls: bool,
}

impl Socket {
    /// Makes a socket on the memory of `umem`, or on that of another socket of the same memory (`shared`), and binds
    /// it. A queue that is busy is tried again for some seconds: a predecessor's sockets
    /// are released some time after its end.
    ///
    /// # Errors
    /// [`SocketError`].
    pub(crate) fn open(
        config: &Config<'_>,
        umem: &Umem,
        shared: Option<BorrowedFd<'_>>,
    ) -> Result<Self, SocketError> {
        let deadline = Instant::now() + BUSY_FOR;
        loop {
            match Self::try_open(config, umem, shared) {
                Err(SocketError::Busy { .. }) if Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
                result => return result,
            }
        }
    }

    fn try_open(
        config: &Config<'_>,
        umem: &Umem,
        shared: Option<BorrowedFd<'_>>,
    ) -> Result<Self, SocketError> {
        let other = |step| move |source: Errno| config.other(step, source.into());
        let fd = rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map_err(|error| match error {
                Errno::PERM | Errno::ACCESS => SocketError::Permission,
                Errno::AFNOSUPPORT => SocketError::Kernel,
                error => config.other("socket", error.into()),
            })?;
        if shared.is_none() {
            let (addr, len) = umem.area();
            let registration = XdpUmemReg {
                addr,
                len,
                chunk_size: CHUNK_BYTES as u32,
                headroom: 0,
                flags: XdpUmemRegFlags::empty(),
                tx_metadata_len: 0,
            };
            sockopt::set_xdp_umem_reg(&fd, registration).map_err(|error| match error {
                Errno::NOBUFS => SocketError::Memory { bytes: len },
                Errno::PERM => SocketError::Permission,
                error => config.other("XDP_UMEM_REG", error.into()),
            })?;
        }
        sockopt::set_xdp_umem_fill_ring_size(&fd, config.ring).map_err(other("fill ring"))?;
        // No more are under way than the transmit ring holds, so it is never full.
        sockopt::set_xdp_umem_completion_ring_size(&fd, config.ring).map_err(other("completion ring"))?;
        sockopt::set_xdp_rx_ring_size(&fd, config.ring).map_err(other("receive ring"))?;
        sockopt::set_xdp_tx_ring_size(&fd, config.ring).map_err(other("transmit ring"))?;
        let offsets = sockopt::xdp_mmap_offsets(&fd).map_err(other("XDP_MMAP_OFFSETS"))?;
        let map = |source| config.other("mapping a ring", source);
        let (at, ring) = (fd.as_fd(), config.ring);
        let receive = ring::map_consumer(at, &offsets.rx, XDP_PGOFF_RX_RING, ring).map_err(map)?;
        let transmit = ring::map_producer(at, &offsets.tx, XDP_PGOFF_TX_RING, ring).map_err(map)?;
        let fill = ring::map_producer(at, &offsets.fr, XDP_UMEM_PGOFF_FILL_RING, ring).map_err(map)?;
        let completion =
            ring::map_consumer(at, &offsets.cr, XDP_UMEM_PGOFF_COMPLETION_RING, ring).map_err(map)?;
        // Both are limits that only make us slower if they stay as they are.
        let _ = xsk::set_transmit_budget(at, config.transmit_budget);
        let _ = xsk::force_send_buffer(at, config.ring.saturating_mul(2 * CHUNK_BYTES as u32));
        let mut socket =
            Self { fd, receive, fill, transmit, completion, zero_copy: false, busy_polls: false };
        socket.bind(config, shared)?;
        let options = sockopt::xdp_options(&socket.fd).map_err(other("XDP_OPTIONS"))?;
        socket.zero_copy = options.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY);
        if let Some(BusyPoll { microseconds, budget }) = config.busy_poll {
            // Without a queue to poll (copy mode, veth) the options are taken and do nothing.
            let polled = xsk::incoming_napi_id(socket.as_fd()).is_ok_and(|id| id != 0);
            socket.busy_polls = polled && xsk::set_busy_poll(socket.as_fd(), microseconds, budget).is_ok();
        }
        Ok(socket)
    }

    fn bind(&self, config: &Config<'_>, shared: Option<BorrowedFd<'_>>) -> Result<(), SocketError> {
        let address = |flags| SocketAddrXdp::new(flags, config.index, config.queue);
        let bound = match shared {
            // It takes over how the other socket was bound.
            Some(shared_umem_fd) => {
                let addr = address(SocketAddrXdpFlags::XDP_SHARED_UMEM);
                rustix::net::bind(&self.fd, &SocketAddrXdpWithSharedUmem { addr, shared_umem_fd })
            }
            None => {
                let copies = if config.zero_copy {
                    SocketAddrXdpFlags::XDP_ZEROCOPY
                } else {
                    SocketAddrXdpFlags::XDP_COPY
                };
                rustix::net::bind(&self.fd, &address(copies | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP))
            }
        };
        let (interface, queue) = (config.interface.to_owned(), config.queue);
        bound.map_err(|error| match error {
            Errno::BUSY => SocketError::Busy { interface, queue },
            Errno::OPNOTSUPP | Errno::PROTONOSUPPORT => SocketError::ZeroCopy { interface, queue },
            Errno::INVAL => SocketError::Queue { interface, queue },
            Errno::PERM => SocketError::Permission,
            Errno::NOBUFS => SocketError::Memory { bytes: u64::from(config.ring) * CHUNK_BYTES as u64 },
            error => config.other("bind", error.into()),
        })
    }

    /// Whether the driver uses our memory itself.
    pub(crate) fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether the driver's queue is polled by [`Socket::poll_driver`].
    pub(crate) fn busy_polls(&self) -> bool {
        self.busy_polls
    }

    /// Has the kernel poll the driver's queue.
    pub(crate) fn poll_driver(&self) {
        // Only the call matters: such a socket has nothing to read.
        let _ = rustix::net::recv(&self.fd, &mut [0u8; 0], rustix::net::RecvFlags::DONTWAIT);
    }

    /// Wakes the driver if it asked to be, for frames that it may fill.
    pub(crate) fn wake_receiver(&self) {
        if self.fill.needs_wakeup() {
            self.poll_driver();
        }
    }

    /// Publishes what was queued for transmission and has the kernel take it. In copy mode it takes 32 packets per
    /// call (more with the budget option) and says EAGAIN if there are more.
    pub(crate) fn kick(&mut self) -> Kicked {
        self.transmit.submit();
        let mut before = self.transmit.waiting();
        if before == 0 {
            return Kicked::All;
        }
        if !self.transmit.needs_wakeup() {
            return Kicked::Later;
        }
        for _ in 0..KICKS {
            match rustix::net::send(&self.fd, &[], SendFlags::DONTWAIT) {
                Err(Errno::NXIO | Errno::NODEV | Errno::BADF) => return Kicked::Gone,
                // Down is not gone: what is queued leaves when it is up again, or never.
                Err(Errno::NETDOWN) => return Kicked::Later,
                // EAGAIN: the budget is used up, or the kernel's buffers are.
                Ok(_) | Err(_) => {}
            }
            let left = self.transmit.waiting();
            if left == 0 {
                return Kicked::All;
            }
            if left == before {
                return Kicked::Later;
            }
            before = left;
        }
        Kicked::Later
    }

    /// The kernel's figures of this socket.
    pub(crate) fn statistics(&self) -> io::Result<XdpStatistics> {
        Ok(sockopt::xdp_statistics(&self.fd)?)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Config<'_> {
    fn other(&self, step: &'static str, source: io::Error) -> SocketError {
        SocketError::Other { interface: self.interface.to_owned(), queue: self.queue, step, source }
    }
}

/// How long what a predecessor may still hold is tried again. On a loaded machine more than a second has been seen.
pub(crate) const BUSY_FOR: Duration = Duration::from_secs(3);

/// The pause between two tries.
pub(crate) const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How many system calls one flush makes at most.
const KICKS: u32 = 1024;
