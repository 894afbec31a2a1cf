//! An io_uring of datagrams, with the memory that the kernel writes to and reads from.
//!
//! A buffer is a move-only token ([`Received`], [`Transmit`]). Who has it owns the bytes; [`Uring::send`] takes it
//! and a [`Completion`] gives it back, so nobody touches what the kernel may still read or write.
#![expect(unsafe_code, reason = "the kernel is told addresses of memory that it uses until a completion")]

use std::io;
use std::mem::{self, ManuallyDrop};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use ::io_uring::types::{BufRingEntry, CancelBuilder, Fd, SubmitArgs, Timespec};
use ::io_uring::{IoUring, cqueue, opcode, squeue};

use super::mmsg::{NO_ADDRESS, from_system, to_system};
use crate::MAX_DATAGRAM_BYTES;

/// A buffer with a received datagram.
#[derive(Debug)]
pub(crate) struct Received(u16);

/// A buffer for a datagram of our own.
#[derive(Debug)]
pub(crate) struct Transmit(u16);

/// A buffer that can be sent.
#[derive(Debug)]
pub(crate) enum Buffer {
    /// It goes on from where it lies.
    Received(Received),
    /// It was written.
    Transmit(Transmit),
}

/// What a received buffer holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The sender; `None` for an address family that is not IP.
    pub(crate) remote: Option<SocketAddr>,
    /// How many bytes, at most [`MAX_DATAGRAM_BYTES`].
    pub(crate) len: usize,
    /// Whether there were more.
    pub(crate) truncated: bool,
}

/// Which request to receive: what [`Uring::receive`] was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The port.
    pub(crate) port: u32,
    /// Its owner's count, modulo 2^24.
    pub(crate) generation: u32,
}

/// What the kernel has done.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A datagram has come. Without `more`, the request has ended.
    Datagram { tag: Tag, buffer: Received, more: bool },
    /// A request to receive has ended with an error number.
    Ended { tag: Tag, error: i32 },
    /// A datagram was sent, or was not, with an error number.
    Sent { buffer: Buffer, error: Option<i32> },
    /// The descriptor given to [`Uring::listen`] is readable; it is not listened to any more.
    Readable,
}

/// How much memory a ring has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Requests that are queued for one call.
    pub(crate) requests: u32,
    /// Buffers for received datagrams, a power of two up to 32,768.
    pub(crate) received: u16,
    /// Buffers for datagrams of our own.
    pub(crate) transmit: u16,
}

/// The ring. It belongs to the thread that first calls anything that enters the kernel.
pub(crate) struct Uring {
    ring: ManuallyDrop<IoUring>,
    memory: ManuallyDrop<Memory>,
    sizes: Sizes,
    /// Requests that the kernel may still answer.
    in_flight: usize,
    /// Transmit buffers, until they are taken.
    untaken: u16,
    /// Our end of the ring of provided buffers.
    tail: u16,
    enabled: bool,
}

/// All that the kernel knows by address. Nothing here moves or is freed while a request is in flight.
struct Memory {
    /// The ring of provided buffers, page-aligned.
    provided: *mut [Page],
    received: *mut [ReceiveBuffer],
    transmit: *mut [[u8; MAX_DATAGRAM_BYTES]],
    /// Where each buffer is sent to, received ones first.
    destinations: *mut [libc::sockaddr_in6],
    /// How long the sender's address may be.
    header: *mut libc::msghdr,
}

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Page([u8; 4096]);

/// `io_uring_recvmsg_out` (16 bytes), the sender's address, the payload.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct ReceiveBuffer([u8; RECEIVE_BUFFER_BYTES]);

// SAFETY: the memory behind the pointers belongs to this value alone, and the kernel does not care which thread
// has it.
unsafe impl Send for Uring {}

impl Uring {
    /// Makes a ring. The thread that uses it may be another one.
    ///
    /// # Errors
    /// `io_uring_setup`'s (EPERM: forbidden, ENOSYS: not there, EINVAL: older than Linux 6.1) and those of
    /// `io_uring_register`.
    pub(crate) fn new(sizes: Sizes) -> io::Result<Self> {
        if !sizes.received.is_power_of_two() || sizes.transmit > u16::MAX - sizes.received {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut builder = IoUring::builder();
        builder
            // Who makes it is not who uses it: the first user enables it and is its single issuer.
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // Says in memory whether there is anything to come for.
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(2 * (u32::from(sizes.received) + u32::from(sizes.transmit) + sizes.requests));
        let ring = builder.build(sizes.requests)?;
        let mut uring = Self {
            ring: ManuallyDrop::new(ring),
            memory: ManuallyDrop::new(Memory::new(sizes)),
            sizes,
            in_flight: 0,
            untaken: sizes.transmit,
            tail: 0,
            enabled: false,
        };
        let address = uring.memory.provided.cast::<u8>() as u64;
        // SAFETY: the pages hold `sizes.received` entries and outlive the ring.
        unsafe {
            uring.ring.submitter().register_buf_ring_with_flags(address, sizes.received, GROUP, 0)?;
        }
        for index in 0..sizes.received {
            uring.recycle(Received(index));
        }
        Ok(uring)
    }

    /// The transmit buffers, all of them the first time and none after.
    pub(crate) fn transmit_buffers(&mut self) -> Vec<Transmit> {
        let count = mem::take(&mut self.untaken);
        let mut buffers = Vec::with_capacity(count.into());
        buffers.extend((0..count).rev().map(Transmit));
        buffers
    }

    /// A number of its own for every buffer of either kind, below `received + transmit`.
    pub(crate) fn slot(&self, buffer: &Buffer) -> usize {
        match buffer {
            Buffer::Received(Received(index)) => usize::from(*index),
            Buffer::Transmit(Transmit(index)) => usize::from(self.sizes.received) + usize::from(*index),
        }
    }

    /// Receives all that comes to a socket, until a completion says that it has ended. False if the queue is full.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, tag: Tag) -> bool {
        let entry = opcode::RecvMsgMulti::new(Fd(socket.as_raw_fd()), self.memory.header, GROUP)
            .build()
            .user_data(pack(RECEIVE, tag));
        self.push(&entry)
    }

    /// Ends a [`Uring::receive`]; its completion says when. False if the queue is full.
    pub(crate) fn cancel(&mut self, tag: Tag) -> bool {
        let entry = opcode::AsyncCancel::new(pack(RECEIVE, tag)).build().user_data(CANCEL << KIND_SHIFT);
        self.push(&entry)
    }

    /// Watches a descriptor once. False if the queue is full.
    pub(crate) fn listen(&mut self, to: BorrowedFd<'_>) -> bool {
        let entry = opcode::PollAdd::new(Fd(to.as_raw_fd()), libc::POLLIN as u32)
            .build()
            .user_data(READABLE << KIND_SHIFT);
        self.push(&entry)
    }

    /// Queues the first `len` bytes of a buffer's payload. `to` is none for a connected socket. The completion gives
    /// the buffer back; it comes back at once if the queue is full.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        ipv6: bool,
        to: Option<SocketAddr>,
        buffer: Buffer,
        len: usize,
    ) -> Result<(), Buffer> {
        let slot = self.slot(&buffer);
        let payload = match &buffer {
            Buffer::Received(Received(index)) => {
                self.memory.received(*index).wrapping_byte_add(PAYLOAD).cast()
            }
            Buffer::Transmit(Transmit(index)) => self.memory.transmit(*index).cast::<u8>(),
        };
        let len = len.min(MAX_DATAGRAM_BYTES) as u32;
        let mut entry = opcode::Send::new(Fd(socket.as_raw_fd()), payload.cast_const(), len)
            // Done or refused within the call, as with a socket that does not block.
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        if let Some(to) = to {
            let mut address = NO_ADDRESS;
            let address_len = to_system(to, ipv6, &mut address);
            let destination = self.memory.destination(slot);
            // SAFETY: the slot's element is in its allocation, and its buffer, which we have, is not being sent.
            unsafe { destination.write(address) };
            entry = entry.dest_addr(destination.cast_const().cast()).dest_addr_len(address_len);
        }
        let entry = entry.build().user_data(SEND << KIND_SHIFT | slot as u64);
        if self.push(&entry) { Ok(()) } else { Err(buffer) }
    }

    /// What a received buffer holds, and its payload.
    pub(crate) fn datagram(&mut self, buffer: &mut Received) -> (Head, &mut [u8]) {
        let start = self.memory.received(buffer.0);
        // SAFETY: the token says that the kernel has given this buffer up, and borrows of it go through the token.
        let bytes = unsafe { &mut (*start).0 };
        let (head, rest) = bytes.split_at_mut(HEAD);
        let (address, payload) = rest.split_at_mut(NAME);
        let number = |at: usize| {
            head.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_ne_bytes)
        };
        // struct io_uring_recvmsg_out: namelen, controllen, payloadlen, flags.
        let (name_len, payload_len, flags) = (number(0) as usize, number(8) as usize, number(12));
        let len = payload_len.min(MAX_DATAGRAM_BYTES);
        let mut system = NO_ADDRESS;
        if name_len <= size_of::<libc::sockaddr_in6>() {
            // SAFETY: the length fits both, and any bytes are a sockaddr_in6.
            unsafe { ptr::copy_nonoverlapping(address.as_ptr(), (&raw mut system).cast(), name_len) };
        }
        let truncated = payload_len > len || flags & libc::MSG_TRUNC as u32 != 0;
        (Head { remote: from_system(&system), len, truncated }, &mut payload[..len])
    }

    /// Gives a received buffer back to the kernel.
    pub(crate) fn recycle(&mut self, buffer: Received) {
        let mask = self.sizes.received - 1;
        let entry = self.memory.provided(self.tail & mask);
        let start = self.memory.received(buffer.0);
        // SAFETY: an entry of the ring of provided buffers beyond the kernel's tail is ours to write.
        let entry = unsafe { &mut *entry };
        entry.set_addr(start as u64);
        entry.set_len(RECEIVE_BUFFER_BYTES as u32);
        entry.set_bid(buffer.0);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the first entry of the ring, which was zeroed, holds the tail.
        let tail = unsafe { BufRingEntry::tail(self.memory.provided(0)) };
        // SAFETY: the tail is two bytes, as aligned, in memory that the kernel only reads; all accesses are atomic.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// A transmit buffer's bytes.
    pub(crate) fn transmit(&mut self, buffer: &mut Transmit) -> &mut [u8; MAX_DATAGRAM_BYTES] {
        let start = self.memory.transmit(buffer.0);
        // SAFETY: the token says that the kernel does not have this buffer, and borrows of it go through the token.
        unsafe { &mut *start }
    }

    /// Whether a call would find anything to do: requests that wait, or completions that the kernel holds back.
    pub(crate) fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Hands queued requests to the kernel, and lets it do what it holds back. Does not wait.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        self.enable()?;
        self.ring.submit().map(|_| ())
    }

    /// The same, and waits for a completion.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.enable()?;
        let timeout = Timespec::from(timeout);
        let arguments = SubmitArgs::new().timespec(&timeout);
        self.ring.submitter().submit_with_args(1, &arguments).map(|_| ())
    }

    /// The next completion that has come.
    pub(crate) fn complete(&mut self) -> Option<Completion> {
        loop {
            let entry = self.ring.completion().next()?;
            let (data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
            let more = cqueue::more(flags);
            self.in_flight -= usize::from(!more);
            match data >> KIND_SHIFT {
                RECEIVE => {
                    let tag = unpack(data);
                    return Some(match cqueue::buffer_select(flags) {
                        Some(index) if index < self.sizes.received => {
                            Completion::Datagram { tag, buffer: Received(index), more }
                        }
                        _ => Completion::Ended { tag, error: -result.min(0) },
                    });
                }
                SEND => {
                    let slot = (data & SLOT_MASK) as u16;
                    let buffer = match slot.checked_sub(self.sizes.received) {
                        None => Buffer::Received(Received(slot)),
                        Some(index) => Buffer::Transmit(Transmit(index)),
                    };
                    return Some(Completion::Sent { buffer, error: (result < 0).then_some(-result) });
                }
                READABLE => return Some(Completion::Readable),
                _ => {}
            }
        }
    }

    /// The first thread that comes is the one.
    fn enable(&mut self) -> io::Result<()> {
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: all that an entry names is in `self.memory`, which outlives it, or is a descriptor.
        let pushed = unsafe { self.ring.submission().push(entry) }.is_ok();
        self.in_flight += usize::from(pushed);
        pushed
    }

    /// Ends all requests; false if some did not end.
    fn finish(&mut self) -> bool {
        if self.submit().is_err() {
            return self.in_flight == 0;
        }
        for _ in 0..LAST_LOOKS {
            while self.complete().is_some() {}
            if self.in_flight == 0 {
                return true;
            }
            let timeout = Some(Timespec::from(Duration::from_secs(1)));
            // Their completions follow.
            let _ = self.ring.submitter().register_sync_cancel(timeout, CancelBuilder::any());
            let _ = self.wait(Duration::from_millis(1));
        }
        false
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let finished = self.finish();
        // SAFETY: nothing uses the ring after its owner's drop.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        // What the kernel may still write to is leaked.
        if finished {
            // SAFETY: no request is in flight, the ring is closed, and nothing uses the memory any more.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Uring").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

impl Memory {
    fn new(sizes: Sizes) -> Self {
        let received = usize::from(sizes.received);
        let transmit = usize::from(sizes.transmit);
        let pages = (received * size_of::<BufRingEntry>()).div_ceil(size_of::<Page>()).max(1);
        // SAFETY: msghdr is plain integers and pointers, for which zero is a valid value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_namelen = NAME as libc::socklen_t;
        Self {
            provided: Box::into_raw(vec![Page([0; 4096]); pages].into_boxed_slice()),
            received: Box::into_raw(
                vec![ReceiveBuffer([0; RECEIVE_BUFFER_BYTES]); received].into_boxed_slice(),
            ),
            transmit: Box::into_raw(vec![[0; MAX_DATAGRAM_BYTES]; transmit].into_boxed_slice()),
            destinations: Box::into_raw(vec![NO_ADDRESS; received + transmit].into_boxed_slice()),
            header: Box::into_raw(Box::new(header)),
        }
    }

    fn provided(&self, index: u16) -> *mut BufRingEntry {
        debug_assert!(
            usize::from(index) * size_of::<BufRingEntry>() < self.provided.len() * size_of::<Page>()
        );
        self.provided.cast::<BufRingEntry>().wrapping_add(index.into())
    }

    fn received(&self, index: u16) -> *mut ReceiveBuffer {
        debug_assert!(usize::from(index) < self.received.len());
        self.received.cast::<ReceiveBuffer>().wrapping_add(index.into())
    }

    fn transmit(&self, index: u16) -> *mut [u8; MAX_DATAGRAM_BYTES] {
        debug_assert!(usize::from(index) < self.transmit.len());
        self.transmit.cast::<[u8; MAX_DATAGRAM_BYTES]>().wrapping_add(index.into())
    }

    fn destination(&self, slot: usize) -> *mut libc::sockaddr_in6 {
        debug_assert!(slot < self.destinations.len());
        self.destinations.cast::<libc::sockaddr_in6>().wrapping_add(slot)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it came from a box in `new` and goes back into one only here.
        drop(unsafe { Box::from_raw(self.provided) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.received) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.transmit) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.destinations) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.header) });
    }
}

fn pack(kind: u64, tag: Tag) -> u64 {
    kind << KIND_SHIFT | u64::from(tag.generation & GENERATION_MASK) << 32 | u64::from(tag.port)
}

fn unpack(data: u64) -> Tag {
    Tag { port: data as u32, generation: (data >> 32) as u32 & GENERATION_MASK }
}

/// Bits of [`Tag::generation`] that survive.
pub(crate) const GENERATION_MASK: u32 = (1 << 24) - 1;

/// The kinds of requests, in the highest byte of what names them.
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const READABLE: u64 = 3;
const CANCEL: u64 = 4;
const KIND_SHIFT: u32 = 56;

const SLOT_MASK: u64 = 0xffff;

/// The only group of provided buffers.
const GROUP: u16 = 0;

/// The parts of a receive buffer: `io_uring_recvmsg_out`, the address (more than a `sockaddr_in6`, so that the
/// payload is aligned), the payload.
const HEAD: usize = 16;
const NAME: usize = 32;
const PAYLOAD: usize = HEAD + NAME;

/// One byte more than the largest datagram shows that there was more; the rest is for the alignment.
const RECEIVE_BUFFER_BYTES: usize = 1600;

const _: () = assert!(RECEIVE_BUFFER_BYTES > PAYLOAD + MAX_DATAGRAM_BYTES);

/// How many milliseconds the end waits for requests that were cancelled.
const LAST_LOOKS: usize = 1000;
