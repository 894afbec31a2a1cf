//! The four rings of an AF_XDP socket (kernel documentation, networking/af_xdp, "Rings"): single producer, single
//! consumer, in memory shared with the kernel. The producer's and the consumer's index run freely modulo 2^32; an
//! entry is published by a store with release of one and taken by a load with acquire of the other.
//!
//! Ends are made over any memory of that form, so the tests run both of them over plain memory, where miri can
//! follow (it is not part of the stable toolchain: `rustup +nightly component add miri`, then
//! `cargo +nightly miri test -p sidetone-xdp --lib ring::tests::plain`).
#![expect(unsafe_code, reason = "the entries lie in memory that the kernel reads and writes")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rustix::net::xdp::XdpRingOffset;

/// What lies in receive and transmit rings (`struct xdp_desc`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Where the packet begins, counted from the beginning of the area.
    pub(crate) address: u64,
    /// How many bytes it has.
    pub(crate) len: u32,
    pub(crate) options: u32,
}

/// What a ring may hold.
///
/// # Safety
/// Any bytes are a valid value, and reading one that is being written harms nothing but its value.
pub(crate) unsafe trait Entry: Copy {}

// SAFETY: integers.
unsafe impl Entry for Descriptor {}
// SAFETY: an integer.
unsafe impl Entry for u64 {}

/// The end that entries are put in by: of the fill and the transmit ring.
#[derive(Debug)]
pub(crate) struct Producer<T> {
    memory: Memory<T>,
    /// The next entry to write; those before it may not be published yet.
    next: u32,
    published: u32,
    /// The consumer's index when it was last looked at.
    consumed: u32,
}

/// The end that entries are taken out by: of the receive and the completion ring.
#[derive(Debug)]
pub(crate) struct Consumer<T> {
    memory: Memory<T>,
    /// The next entry to read; those before it may not be released yet.
    next: u32,
    released: u32,
    /// The producer's index when it was last looked at.
    produced: u32,
}

impl<T: Entry> Producer<T> {
    fn new(memory: Memory<T>) -> Self {
        let next = memory.producer().load(Ordering::Relaxed);
        let consumed = memory.consumer().load(Ordering::Acquire);
        Self { memory, next, published: next, consumed }
    }

    /// How many entries there is room for; looks at the other end only if it is fewer than `wanted`.
    #[inline]
    pub(crate) fn room(&mut self, wanted: u32) -> u32 {
        let room = |ring: &Self| {
            ring.memory.capacity - ring.next.wrapping_sub(ring.consumed).min(ring.memory.capacity)
        };
        if room(self) < wanted {
            self.consumed = self.memory.consumer().load(Ordering::Acquire);
        }
        room(self)
    }

    /// Writes an entry; false, and nothing done, if the ring is full. It is published by [`Producer::submit`].
    #[inline]
    pub(crate) fn push(&mut self, entry: T) -> bool {
        if self.room(1) == 0 {
            return false;
        }
        // SAFETY: the slot lies within the ring, and until the index is published it belongs to this end.
        unsafe { self.memory.slot(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Publishes what was written; returns how many entries.
    pub(crate) fn submit(&mut self) -> u32 {
        let count = self.next.wrapping_sub(self.published);
        if count > 0 {
            self.memory.producer().store(self.next, Ordering::Release);
            self.published = self.next;
        }
        count
    }

    /// How many published entries the kernel has not taken yet.
    pub(crate) fn waiting(&mut self) -> u32 {
        self.consumed = self.memory.consumer().load(Ordering::Acquire);
        self.published.wrapping_sub(self.consumed)
    }

    /// Whether the kernel asks to be woken (`XDP_RING_NEED_WAKEUP`) for what was submitted.
    pub(crate) fn needs_wakeup(&self) -> bool {
        // The store of the index must not pass the load of the flag: the kernel does them the other way round.
        fence(Ordering::SeqCst);
        self.memory.flags().is_some_and(|flags| flags.load(Ordering::Relaxed) & NEED_WAKEUP != 0)
    }
}

impl<T: Entry> Consumer<T> {
    fn new(memory: Memory<T>) -> Self {
        let next = memory.consumer().load(Ordering::Relaxed);
        let produced = memory.producer().load(Ordering::Acquire);
        Self { memory, next, released: next, produced }
    }

    /// How many entries wait; looks at the other end only if it knows of fewer than `wanted`.
    #[inline]
    pub(crate) fn waiting(&mut self, wanted: u32) -> u32 {
        if self.produced.wrapping_sub(self.next) < wanted {
            self.produced = self.memory.producer().load(Ordering::Acquire);
        }
        self.produced.wrapping_sub(self.next).min(self.memory.capacity)
    }

    /// Reads the entry `ahead` of the next without taking it, if it is known to be there.
    #[inline]
    pub(crate) fn peek(&self, ahead: u32) -> Option<T> {
        if ahead >= self.produced.wrapping_sub(self.next) {
            return None;
        }
        // SAFETY: the slot lies within the ring, and the producer published it before the index that was loaded
        // with acquire.
        Some(unsafe { self.memory.slot(self.next.wrapping_add(ahead)).read() })
    }

    /// Has the processor fetch an entry further back, which the other end wrote on another core.
    #[inline]
    pub(crate) fn prefetch(&self, ahead: u32) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let slot = self.memory.slot(self.next.wrapping_add(ahead)).as_ptr();
            // SAFETY: a prefetch touches nothing, wherever it points.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(slot.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = ahead;
    }

    /// Takes the next entry. Its slot is given back by [`Consumer::release`].
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.waiting(1) == 0 {
            return None;
        }
        let entry = self.peek(0);
        self.next = self.next.wrapping_add(1);
        entry
    }

    /// Gives the slots of what was taken back to the producer.
    pub(crate) fn release(&mut self) {
        if self.next != self.released {
            self.memory.consumer().store(self.next, Ordering::Release);
            self.released = self.next;
        }
    }
}

/// Maps a ring of a socket for its producing end.
///
/// # Errors
/// The kernel's.
pub(crate) fn map_producer<T: Entry>(
    socket: BorrowedFd<'_>,
    offset: &XdpRingOffset,
    page: u64,
    capacity: u32,
) -> io::Result<Producer<T>> {
    Ok(Producer::new(Memory::map(socket, offset, page, capacity)?))
}

/// Maps a ring of a socket for its consuming end.
///
/// # Errors
/// The kernel's.
pub(crate) fn map_consumer<T: Entry>(
    socket: BorrowedFd<'_>,
    offset: &XdpRingOffset,
    page: u64,
    capacity: u32,
) -> io::Result<Consumer<T>> {
    Ok(Consumer::new(Memory::map(socket, offset, page, capacity)?))
}

/// Where the parts of a ring are. The pointers stay valid as long as `owner` lives.
#[derive(Debug)]
struct Memory<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: Option<NonNull<AtomicU32>>,
    slots: NonNull<T>,
    /// A power of two.
    capacity: u32,
    _owner: Arc<Owner>,
}

// SAFETY: an end of a ring belongs to one thread at a time; the indexes are atomic, and the protocol says which slots
// are whose. What the owner holds knows no threads.
unsafe impl<T: Entry> Send for Memory<T> {}

impl<T: Entry> Memory<T> {
    fn map(socket: BorrowedFd<'_>, offset: &XdpRingOffset, page: u64, capacity: u32) -> io::Result<Self> {
        let slots = capacity as usize * size_of::<T>();
        let len = usize::try_from(offset.desc).map_err(|_| io::ErrorKind::InvalidData)? + slots;
        // SAFETY: a new mapping at a place of the kernel's choosing touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                libc::off_t::try_from(page).map_err(|_| io::ErrorKind::InvalidData)?,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::<u8>::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let owner = Arc::new(Owner::Mapping { start, len });
        let at = |offset: u64| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            assert!(offset < len && offset % 4 == 0, "the kernel's own offsets are inside its ring");
            // SAFETY: just checked to lie within the mapping.
            unsafe { start.add(offset) }
        };
        Ok(Self {
            producer: at(offset.producer).cast(),
            consumer: at(offset.consumer).cast(),
            flags: offset.flags.map(|flags| at(flags).cast()),
            slots: at(offset.desc).cast(),
            capacity,
            _owner: owner,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: points to an aligned u32 of the ring, which lives as long as `self` and is only used atomically.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> Option<&AtomicU32> {
        // SAFETY: as above.
        self.flags.map(|flags| unsafe { flags.as_ref() })
    }

    fn slot(&self, index: u32) -> NonNull<T> {
        // SAFETY: masked to less than `capacity`, and that many slots follow `slots`.
        unsafe { self.slots.add((index & (self.capacity - 1)) as usize) }
    }
}

/// What a ring lies in.
#[derive(Debug)]
enum Owner {
    Mapping {
        start: NonNull<u8>,
        len: usize,
    },
    #[cfg(test)]
    Plain(Box<[std::cell::UnsafeCell<u64>]>),
}

// SAFETY: it only frees its memory, which may be done anywhere.
unsafe impl Send for Owner {}
// SAFETY: shared, it does nothing.
unsafe impl Sync for Owner {}

impl Drop for Owner {
    fn drop(&mut self) {
        #[cfg_attr(not(test), expect(irrefutable_let_patterns, reason = "tests have plain memory, too"))]
        if let Self::Mapping { start, len } = self {
            // SAFETY: the range was mapped by `Memory::map`, and both ends of it are gone.
            unsafe { libc::munmap(start.as_ptr().cast(), *len) };
        }
    }
}

/// Both ends of a ring in plain memory whose indexes begin at `start`.
#[cfg(test)]
fn plain<T: Entry>(capacity: u32, start: u32) -> (Producer<T>, Consumer<T>) {
    let words = 8 + capacity as usize * size_of::<T>() / 8;
    let cells: Box<[std::cell::UnsafeCell<u64>]> =
        (0..words).map(|_| std::cell::UnsafeCell::new(0)).collect();
    let owner = Arc::new(Owner::Plain(cells));
    let Owner::Plain(cells) = &*owner else { unreachable!("just made") };
    let first = NonNull::from(&cells[..]).cast::<u8>();
    // SAFETY: the offsets lie within the cells, each index has a word of its own.
    let at = |offset: usize| unsafe { first.add(offset) };
    let memory = || Memory::<T> {
        producer: at(0).cast(),
        consumer: at(16).cast(),
        flags: Some(at(32).cast()),
        slots: at(64).cast(),
        capacity,
        _owner: Arc::clone(&owner),
    };
    memory().producer().store(start, Ordering::Relaxed);
    memory().consumer().store(start, Ordering::Relaxed);
    (Producer::new(memory()), Consumer::new(memory()))
}

/// `XDP_RING_NEED_WAKEUP` of `linux/if_xdp.h`.
const NEED_WAKEUP: u32 = 1;

#[cfg(test)]
mod tests;
