//! bpf(2) and maps in memory. Every function owns or borrows what it points the kernel to.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper; it takes structs with pointers in them")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use std::{ptr, thread};

/// How long an interrupted load is tried again, besides the time that the tries take.
const LOAD_PATIENCE: Duration = Duration::from_millis(200);

/// The longest name of a map or a program that the kernel keeps.
const NAME_BYTES: usize = 16;

/// What a map is made of; numbers are those of linux/bpf.h.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapShape {
    pub(crate) kind: u32,
    pub(crate) key_bytes: u32,
    pub(crate) value_bytes: u32,
    pub(crate) entries: u32,
    pub(crate) flags: u32,
}

/// Makes a map.
pub(crate) fn map_create(name: &str, shape: MapShape) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_bytes: u32,
        value_bytes: u32,
        entries: u32,
        flags: u32,
        inner_map: u32,
        numa_node: u32,
        name: [u8; NAME_BYTES],
    }
    let mut attributes = Attributes {
        kind: shape.kind,
        key_bytes: shape.key_bytes,
        value_bytes: shape.value_bytes,
        entries: shape.entries,
        flags: shape.flags,
        inner_map: 0,
        numa_node: 0,
        name: short(name),
    };
    // SAFETY: BPF_MAP_CREATE takes these attributes, none of which is a pointer.
    descriptor(unsafe { bpf(0, &mut attributes) }?)
}

/// The attributes of the commands on one entry of a map.
#[repr(C)]
struct Entry {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Entry {
    fn new(map: BorrowedFd<'_>, key: &[u8], value: *const u8, flags: u64) -> Self {
        Self { map: raw(map), padding: 0, key: address(key.as_ptr()), value: address(value), flags }
    }
}

/// Reads one entry. `key` and `value` are as long as the map says, the value of a per-CPU map once per possible CPU.
pub(crate) fn map_lookup(
    map: BorrowedFd<'_>,
    shape: MapShape,
    key: &[u8],
    value: &mut [u8],
) -> io::Result<()> {
    check(shape, key, value)?;
    let mut attributes = Entry::new(map, key, value.as_mut_ptr(), 0);
    // SAFETY: BPF_MAP_LOOKUP_ELEM reads the key and writes the value, whose lengths were checked.
    unsafe { bpf(1, &mut attributes) }.map(drop)
}

/// Writes one entry.
pub(crate) fn map_update(map: BorrowedFd<'_>, shape: MapShape, key: &[u8], value: &[u8]) -> io::Result<()> {
    check(shape, key, value)?;
    let mut attributes = Entry::new(map, key, value.as_ptr(), 0);
    // SAFETY: BPF_MAP_UPDATE_ELEM reads the key and the value, whose lengths were checked.
    unsafe { bpf(2, &mut attributes) }.map(drop)
}

/// Removes one entry.
pub(crate) fn map_delete(map: BorrowedFd<'_>, shape: MapShape, key: &[u8]) -> io::Result<()> {
    if key.len() != shape.key_bytes as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut attributes = Entry::new(map, key, ptr::null(), 0);
    // SAFETY: BPF_MAP_DELETE_ELEM reads the key, whose length was checked.
    unsafe { bpf(3, &mut attributes) }.map(drop)
}

/// The first key, or the one after `key`, or `None` at the end.
pub(crate) fn map_next_key(
    map: BorrowedFd<'_>,
    shape: MapShape,
    key: Option<&[u8]>,
    next: &mut [u8],
) -> io::Result<bool> {
    let bytes = shape.key_bytes as usize;
    if next.len() != bytes || key.is_some_and(|key| key.len() != bytes) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut attributes = Entry::new(map, &[], next.as_mut_ptr(), 0);
    attributes.key = key.map_or(0, |key| address(key.as_ptr()));
    // SAFETY: BPF_MAP_GET_NEXT_KEY reads the key unless it is null and writes the next one; their lengths were
    // checked.
    match unsafe { bpf(4, &mut attributes) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Programs that can be loaded: (BPF_PROG_TYPE, expected attach type) of linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Xdp,
    SocketLookup,
}

/// Loads a program. The verifier's text goes to `log` if that is not empty.
pub(crate) fn program_load(name: &str, kind: Kind, slots: &[[u8; 8]], log: &mut [u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        slot_count: u32,
        slots: u64,
        licence: u64,
        log_level: u32,
        log_bytes: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; NAME_BYTES],
        interface: u32,
        attach_type: u32,
    }
    let (kind, attach_type) = match kind {
        Kind::Xdp => (6, ATTACH_XDP),
        Kind::SocketLookup => (30, ATTACH_SK_LOOKUP),
    };
    let length =
        |bytes: usize| u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let mut attributes = Attributes {
        kind,
        slot_count: length(slots.len())?,
        slots: address(slots.as_ptr()),
        licence: address(LICENCE.as_ptr()),
        log_level: u32::from(!log.is_empty()),
        log_bytes: length(log.len())?,
        log: if log.is_empty() { 0 } else { address(log.as_mut_ptr()) },
        kernel_version: 0,
        flags: 0,
        name: short(name),
        interface: 0,
        attach_type,
    };
    // The verifier gives up with EAGAIN when a signal waits, for whomever and whatever it is.
    let mut patience = LOAD_PATIENCE;
    loop {
        // SAFETY: BPF_PROG_LOAD reads the instructions and the licence, which ends with a zero, and writes the log,
        // all with their lengths.
        match unsafe { bpf(5, &mut attributes) } {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && !patience.is_zero() => {
                let pause = Duration::from_millis(1).min(patience);
                thread::sleep(pause);
                patience -= pause;
            }
            loaded => return descriptor(loaded?),
        }
    }
}

/// Attaches a program: XDP to an interface index, sk_lookup to the descriptor of a network namespace. It is detached
/// when the descriptor that this returns is closed.
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    kind: Kind,
    target: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
    }
    let attach_type = match kind {
        Kind::Xdp => ATTACH_XDP,
        Kind::SocketLookup => ATTACH_SK_LOOKUP,
    };
    let mut attributes = Attributes { program: raw(program), target, attach_type, flags };
    // SAFETY: BPF_LINK_CREATE takes these attributes, none of which is a pointer.
    descriptor(unsafe { bpf(28, &mut attributes) }?)
}

/// Takes a link's program off although the link stays open.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = raw(link);
    // SAFETY: BPF_LINK_DETACH takes the link's descriptor.
    unsafe { bpf(34, &mut attributes) }.map(drop)
}

/// What a test run is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TestRun<'a> {
    /// The frame; the kernel wants at least 14 bytes for XDP.
    pub(crate) data: &'a [u8],
    /// `struct xdp_md` or `struct bpf_sk_lookup`, or nothing.
    pub(crate) context: &'a [u8],
    pub(crate) repeat: u32,
    pub(crate) flags: u32,
    pub(crate) batch: u32,
}

/// What a test run gave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TestRan {
    pub(crate) verdict: u32,
    /// How much of the output buffer is filled.
    pub(crate) data_bytes: usize,
    /// Nanoseconds per repetition.
    pub(crate) duration: u32,
}

/// Runs a program. What became of the data goes to `data`, what became of the context to `context`; either may be empty.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    run: &TestRun<'_>,
    data: &mut [u8],
    context: &mut [u8],
) -> io::Result<TestRan> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        verdict: u32,
        data_in_bytes: u32,
        data_out_bytes: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        context_in_bytes: u32,
        context_out_bytes: u32,
        context_in: u64,
        context_out: u64,
        flags: u32,
        cpu: u32,
        batch: u32,
        padding: u32,
    }
    let length =
        |bytes: usize| u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let input = |bytes: &[u8]| if bytes.is_empty() { 0 } else { address(bytes.as_ptr()) };
    let output = |bytes: &mut [u8]| if bytes.is_empty() { 0 } else { address(bytes.as_mut_ptr()) };
    let mut attributes = Attributes {
        program: raw(program),
        verdict: 0,
        data_in_bytes: length(run.data.len())?,
        data_out_bytes: length(data.len())?,
        data_in: input(run.data),
        data_out: output(data),
        repeat: run.repeat,
        duration: 0,
        context_in_bytes: length(run.context.len())?,
        context_out_bytes: length(context.len())?,
        context_in: input(run.context),
        context_out: output(context),
        flags: run.flags,
        cpu: 0,
        batch: run.batch,
        padding: 0,
    };
    // SAFETY: BPF_PROG_TEST_RUN reads the two inputs and writes the two outputs, all with their lengths or null.
    unsafe { bpf(10, &mut attributes) }?;
    Ok(TestRan {
        verdict: attributes.verdict,
        data_bytes: (attributes.data_out_bytes as usize).min(data.len()),
        duration: attributes.duration,
    })
}

/// The values of an array map in this process's memory, shared with programs and the kernel.
#[derive(Debug)]
pub(crate) struct Mapping {
    words: *mut AtomicU64,
    count: usize,
    bytes: usize,
}

// SAFETY: the memory is only reached as atomics, and unmapped when the only owner is dropped.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps an array map that was made with BPF_F_MMAPABLE. A value takes its length, rounded up to words.
    pub(crate) fn new(map: BorrowedFd<'_>, shape: MapShape) -> io::Result<Self> {
        let count = (shape.value_bytes as usize).div_ceil(8) * shape.entries as usize;
        let page = rustix::param::page_size();
        let bytes = (count * 8).next_multiple_of(page);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours; the kernel refuses a
        // length beyond the map's.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { words: memory.cast(), count, bytes })
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `count` words fit into the mapping, which begins at a page and lives as long as `self`; whoever else
        // writes them is outside of this process or uses this slice.
        unsafe { std::slice::from_raw_parts(self.words, self.count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.words.cast(), self.bytes) };
    }
}

/// The call itself.
///
/// # Safety
/// `attributes` must be what the command takes: pointers in it must be valid for the lengths beside them.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes `attributes` up to its size; the rest is the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>() as libc::c_uint)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Owns the descriptor that a command has returned.
fn descriptor(number: libc::c_long) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn check(shape: MapShape, key: &[u8], value: &[u8]) -> io::Result<()> {
    let expected = if shape.kind == PERCPU_ARRAY {
        (shape.value_bytes as usize).next_multiple_of(8) * possible_cpus()?
    } else {
        shape.value_bytes as usize
    };
    if key.len() == shape.key_bytes as usize && value.len() == expected {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// How many CPUs this machine may ever have: that many values a per-CPU map holds per key.
pub(crate) fn possible_cpus() -> io::Result<usize> {
    static COUNT: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    if let Some(count) = COUNT.get() {
        return Ok(*count);
    }
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let count = last_cpu(&text).ok_or_else(|| {
        io::Error::other("/sys/devices/system/cpu/possible cannot be read as a list of CPUs")
    })? + 1;
    Ok(*COUNT.get_or_init(|| count))
}

/// The highest number in a list such as `0-3,8-11`.
fn last_cpu(list: &str) -> Option<usize> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

fn raw(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// A name as the kernel keeps it: letters, digits, `_` and `.`, with a zero at the end.
fn short(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    for (to, from) in bytes[..NAME_BYTES - 1].iter_mut().zip(name.bytes()) {
        *to = if from.is_ascii_alphanumeric() || from == b'.' { from } else { b'_' };
    }
    bytes
}

pub(crate) const PERCPU_ARRAY: u32 = 6;
const ATTACH_SK_LOOKUP: u32 = 36;
const ATTACH_XDP: u32 = 37;
/// Helpers are only for programs that call themselves compatible with the GPL.
const LICENCE: &[u8] = b"Dual MIT/GPL\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_and_made_acceptable() {
        assert_eq!(&short("ports-1.x"), b"ports_1.x\0\0\0\0\0\0\0");
        assert_eq!(short("a name that is far too long")[15], 0);
    }

    #[test]
    fn the_highest_cpu_of_a_list_is_its_last() {
        assert_eq!(last_cpu("0\n"), Some(0));
        assert_eq!(last_cpu("0-3\n"), Some(3));
        assert_eq!(last_cpu("0-3,8-11"), Some(11));
        assert_eq!(last_cpu("none"), None);
    }
}
