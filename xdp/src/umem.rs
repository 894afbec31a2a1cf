//! The memory that AF_XDP packets lie in (kernel documentation, networking/af_xdp, "UMEM"): one mapping, cut into
//! chunks of [`CHUNK_BYTES`]. A [`Frame`] is the right to one chunk: it is moved, never copied, so that a chunk cannot
//! be handed to the kernel twice. Debug builds also keep where each chunk is.
#![expect(unsafe_code, reason = "the chunks are a mapping that the kernel writes to while it has them")]

use std::io;
use std::ptr::NonNull;

/// The size of a chunk: the smallest that AF_XDP takes, and room for an Ethernet frame behind its 256 bytes of headroom.
pub(crate) const CHUNK_BYTES: usize = 2048;

/// The right to one chunk of its [`Umem`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    chunk: u32,
}

impl Frame {
    /// Where the chunk begins, as descriptors say it.
    pub(crate) fn address(&self) -> u64 {
        u64::from(self.chunk) * CHUNK_BYTES as u64
    }
}

/// The chunks of one worker, and those of them that are free.
#[derive(Debug)]
pub(crate) struct Umem {
    area: Area,
    free: Vec<u32>,
    places: Places,
}

/// Which way a chunk goes through the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Fill ring to receive ring.
    Receive,
    /// Transmit ring to completion ring.
    Transmit,
}

impl Umem {
    /// Maps `frames` chunks, in huge pages if `huge` says so and the system has them. With it comes why it
    /// has not.
    ///
    /// # Errors
    /// When there is not that much memory.
    pub(crate) fn new(frames: u32, huge: bool) -> io::Result<(Self, Option<io::Error>)> {
        let frames = frames.max(1);
        let (area, refused) = Area::new(frames as usize * CHUNK_BYTES, huge)?;
        let umem = Self {
            area,
            // The lowest is taken first, and what was used last next: it is in the cache.
            free: (0..frames).rev().collect(),
            places: Places::new(frames),
        };
        Ok((umem, refused))
    }

    /// Address and length for `XDP_UMEM_REG`.
    pub(crate) fn area(&self) -> (u64, u64) {
        (self.area.start.as_ptr().expose_provenance() as u64, self.area.frames_len as u64)
    }

    /// How many chunks there are.
    pub(crate) fn frames(&self) -> usize {
        self.area.frames_len / CHUNK_BYTES
    }

    /// How many chunks are free.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a free chunk.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Frame> {
        let chunk = self.free.pop()?;
        self.places.go(chunk, Place::Free, Place::Held);
        Some(Frame { chunk })
    }

    /// Gives a chunk back.
    #[inline]
    pub(crate) fn give(&mut self, frame: Frame) {
        self.places.go(frame.chunk, Place::Held, Place::Free);
        self.free.push(frame.chunk);
    }

    /// The bytes of a chunk.
    #[inline]
    pub(crate) fn bytes(&mut self, frame: &mut Frame) -> &mut [u8; CHUNK_BYTES] {
        let offset = frame.chunk as usize * CHUNK_BYTES;
        assert!(offset < self.area.frames_len, "a frame of another area");
        // SAFETY: the chunk lies within the mapping, which lives as long as `self`.
        let chunk = unsafe { self.area.start.add(offset) };
        // SAFETY: it is 2048 readable and writable bytes, any of which are valid; `self` is borrowed mutably, so no
        // other reference into the area exists, and the kernel does not touch a chunk whose frame is in our hands.
        unsafe { chunk.cast::<[u8; CHUNK_BYTES]>().as_mut() }
    }

    /// Gives up a frame to the kernel; returns where its chunk begins.
    #[inline]
    pub(crate) fn lend(&mut self, frame: Frame, way: Way) -> u64 {
        self.places.go(frame.chunk, Place::Held, Place::Lent(way));
        frame.address()
    }

    /// A free chunk straight to the kernel, as [`Umem::take`] and [`Umem::lend`].
    #[inline]
    pub(crate) fn lend_free(&mut self, way: Way) -> Option<u64> {
        let frame = self.take()?;
        Some(self.lend(frame, way))
    }

    /// The frame that an address from the kernel lies in, with the offset in it; `None` if it is outside the area.
    #[inline]
    pub(crate) fn taken_back(&mut self, address: u64, way: Way) -> Option<(Frame, usize)> {
        let (chunk, offset) = (address / CHUNK_BYTES as u64, address % CHUNK_BYTES as u64);
        if address >= self.area.frames_len as u64 {
            return None;
        }
        let chunk = chunk as u32;
        self.places.go(chunk, Place::Lent(way), Place::Held);
        Some((Frame { chunk }, offset as usize))
    }

    /// Has the processor fetch the headers and the beginning of the payload of a packet that will be looked at soon.
    #[inline]
    pub(crate) fn prefetch(&self, address: u64) {
        #[cfg(target_arch = "x86_64")]
        for line in 0..PREFETCHED_LINES {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = self.area.start.as_ptr().wrapping_add(address as usize + 64 * line);
            // SAFETY: a prefetch touches nothing, wherever it points.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }

    /// Debug builds: no chunk is lost or there twice, with `held` frames in hand and so many lent each way.
    pub(crate) fn check(&self, held: usize, receive: usize, transmit: usize) {
        self.places.check(self.free.len(), held, receive, transmit);
    }
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    Held,
    Lent(Way),
}

/// Where all chunks are, in debug builds.
#[derive(Debug)]
struct Places(#[cfg(debug_assertions)] Vec<Place>);

#[cfg(debug_assertions)]
impl Places {
    fn new(frames: u32) -> Self {
        Self(vec![Place::Free; frames as usize])
    }

    fn go(&mut self, chunk: u32, from: Place, to: Place) {
        let place = &mut self.0[chunk as usize];
        assert_eq!(*place, from, "chunk {chunk} goes to {to:?}");
        *place = to;
    }

    fn check(&self, free: usize, held: usize, receive: usize, transmit: usize) {
        let count = |place| self.0.iter().filter(|&&at| at == place).count();
        let counted =
            [Place::Free, Place::Held, Place::Lent(Way::Receive), Place::Lent(Way::Transmit)].map(count);
        assert_eq!(counted, [free, held, receive, transmit], "free, held, receiving, transmitting");
        assert_eq!(counted.iter().sum::<usize>(), self.0.len());
    }
}

#[cfg(not(debug_assertions))]
impl Places {
    fn new(_frames: u32) -> Self {
        Self()
    }

    #[expect(clippy::unused_self, reason = "the same form as in debug builds")]
    fn go(&mut self, _chunk: u32, _from: Place, _to: Place) {}

    #[expect(clippy::unused_self, reason = "the same form as in debug builds")]
    fn check(&self, _free: usize, _held: usize, _receive: usize, _transmit: usize) {}
}

/// An anonymous mapping.
#[derive(Debug)]
struct Area {
    /// What was mapped; the frames begin at `start` in it.
    mapping: NonNull<u8>,
    start: NonNull<u8>,
    /// The bytes of whole chunks that were asked for.
    frames_len: usize,
    /// The bytes mapped: whole pages of their kind.
    mapped_len: usize,
}

// SAFETY: the mapping belongs to this value alone, and memory knows no threads.
unsafe impl Send for Area {}

impl Area {
    fn new(len: usize, huge: bool) -> io::Result<(Self, Option<io::Error>)> {
        let refused = if huge {
            // Populated at once, or refused at once.
            let flags = libc::MAP_HUGETLB | libc::MAP_POPULATE;
            match Self::map(len.next_multiple_of(HUGE_PAGE_BYTES), flags) {
                Ok((start, mapped_len)) => {
                    return Ok((Self { mapping: start, start, frames_len: len, mapped_len }, None));
                }
                Err(refused) => Some(refused),
            }
        } else {
            None
        };
        // Transparent huge pages do nearly as well, if the area begins at the bounds of one: with 4 KiB pages, a
        // quarter of our time per packet went into page walks (virtual machine, 16 MiB).
        let (mapping, mapped_len) = Self::map(len.next_multiple_of(HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES, 0)?;
        let skipped = mapping.as_ptr().align_offset(HUGE_PAGE_BYTES).min(HUGE_PAGE_BYTES);
        // SAFETY: one huge page more than needed was mapped.
        let start = unsafe { mapping.add(skipped) };
        let area = Self { mapping, start, frames_len: len, mapped_len };
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_POPULATE_WRITE] {
            // A kernel that does not take the advice populates page by page when the area is registered.
            // SAFETY: advice about a part of what was just mapped; it changes no contents.
            unsafe { libc::madvise(start.as_ptr().cast(), len, advice) };
        }
        Ok((area, refused))
    }

    fn map(len: usize, flags: libc::c_int) -> io::Result<(NonNull<u8>, usize)> {
        // SAFETY: a new mapping at a place of the kernel's choosing touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok((NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?, len))
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` and nobody refers to it any more; pages that the kernel still
        // writes to are pinned by it.
        unsafe { libc::munmap(self.mapping.as_ptr().cast(), self.mapped_len) };
    }
}

/// An Ethernet frame of 20 ms of G.711 has 214 bytes.
#[cfg(target_arch = "x86_64")]
const PREFETCHED_LINES: usize = 4;

/// The default size of huge pages on x86-64, and on AArch64 with pages of 4 KiB.
const HUGE_PAGE_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Take,
        Give,
        Lend(Way),
        Back(Way),
    }

    fn step() -> impl Strategy<Value = Step> {
        let way = || prop_oneof![Just(Way::Receive), Just(Way::Transmit)];
        prop_oneof![
            Just(Step::Take),
            Just(Step::Give),
            way().prop_map(Step::Lend),
            way().prop_map(Step::Back)
        ]
    }

    proptest! {
        #[test]
        fn frames_are_neither_lost_nor_doubled(steps in prop::collection::vec(step(), 0..200)) {
            let (mut umem, _) = Umem::new(8, false).expect("memory");
            let mut held = Vec::new();
            let mut lent: [Vec<u64>; 2] = Default::default();
            for step in steps {
                match step {
                    Step::Take => held.extend(umem.take()),
                    Step::Give => {
                        if let Some(frame) = held.pop() {
                            umem.give(frame);
                        }
                    }
                    Step::Lend(way) => {
                        if let Some(frame) = held.pop() {
                            lent[way as usize].push(umem.lend(frame, way));
                        }
                    }
                    Step::Back(way) => {
                        if let Some(address) = lent[way as usize].pop() {
                            let (frame, offset) = umem.taken_back(address + 300, way).expect("our own");
                            prop_assert_eq!(offset, 300);
                            held.push(frame);
                        }
                    }
                }
                umem.check(held.len(), lent[0].len(), lent[1].len());
                prop_assert_eq!(umem.free() + held.len() + lent[0].len() + lent[1].len(), umem.frames());
            }
        }
    }

    #[test]
    fn each_frame_has_its_own_bytes() {
        let (mut umem, _) = Umem::new(4, false).expect("memory");
        let mut frames: Vec<Frame> = std::iter::from_fn(|| umem.take()).collect();
        assert_eq!(frames.len(), 4);
        for (number, frame) in frames.iter_mut().enumerate() {
            umem.bytes(frame).fill(number as u8);
        }
        for (number, frame) in frames.iter_mut().enumerate() {
            assert!(umem.bytes(frame).iter().all(|&byte| byte == number as u8));
        }
    }

    #[test]
    fn an_address_outside_the_area_is_no_frame() {
        let (mut umem, _) = Umem::new(4, false).expect("memory");
        for address in [4 * 2048, u64::MAX, 1 << 43] {
            assert_eq!(umem.taken_back(address, Way::Receive), None);
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "chunk 0 goes to")]
    fn a_chunk_that_comes_back_twice_is_found_out() {
        let (mut umem, _) = Umem::new(1, false).expect("memory");
        let address = umem.lend_free(Way::Transmit).expect("free");
        assert!(umem.taken_back(address, Way::Transmit).is_some());
        let _ = umem.taken_back(address, Way::Transmit);
    }

    #[test]
    fn huge_pages_that_are_not_there_are_reported_and_done_without() {
        // One tebibyte of huge pages is nowhere; this asks for little and takes either answer.
        let (mut umem, refused) = Umem::new(1024, true).expect("memory");
        let mut frame = umem.take().expect("free");
        umem.bytes(&mut frame)[7] = 7;
        assert_eq!(umem.bytes(&mut frame)[7], 7);
        if let Some(refused) = refused {
            assert!(refused.raw_os_error().is_some());
        }
    }
}
