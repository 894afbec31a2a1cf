//! Maps: tables that programs and user space share.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::{fmt, io};

use super::Error;
use crate::sys::bpf::{self, MapShape, Mapping};

/// Keys and values: numbers and arrays of them, as they lie in memory.
pub trait Plain: Copy {
    /// How long it is.
    const BYTES: usize;
    /// Writes it to `bytes`, which is as long.
    fn write(self, bytes: &mut [u8]);
    /// Reads it from `bytes`, which is as long.
    fn read(bytes: &[u8]) -> Self;
}

impl Plain for u32 {
    const BYTES: usize = 4;
    fn write(self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.to_ne_bytes());
    }
    fn read(bytes: &[u8]) -> Self {
        bytes.first_chunk().map_or(0, |bytes| Self::from_ne_bytes(*bytes))
    }
}

impl Plain for u64 {
    const BYTES: usize = 8;
    fn write(self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.to_ne_bytes());
    }
    fn read(bytes: &[u8]) -> Self {
        bytes.first_chunk().map_or(0, |bytes| Self::from_ne_bytes(*bytes))
    }
}

impl<const N: usize> Plain for [u8; N] {
    const BYTES: usize = N;
    fn write(self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self);
    }
    fn read(bytes: &[u8]) -> Self {
        bytes.first_chunk().copied().unwrap_or([0; N])
    }
}

impl<const N: usize> Plain for [u64; N] {
    const BYTES: usize = N * 8;
    fn write(self, bytes: &mut [u8]) {
        for (to, from) in bytes.chunks_exact_mut(8).zip(self) {
            from.write(to);
        }
    }
    fn read(bytes: &[u8]) -> Self {
        let mut words = [0; N];
        for (to, from) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *to = u64::read(from);
        }
        words
    }
}

/// A map of any kind: what the typed ones below are made of.
struct Map {
    name: String,
    descriptor: OwnedFd,
    shape: MapShape,
}

impl fmt::Debug for Map {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} entries)", self.name, self.shape.entries)
    }
}

impl Map {
    fn new(name: &str, kind: u32, key: usize, value: usize, entries: u32, flags: u32) -> Result<Self, Error> {
        let shape = MapShape { kind, key_bytes: key as u32, value_bytes: value as u32, entries, flags };
        match bpf::map_create(name, shape) {
            Ok(descriptor) => Ok(Self { name: name.to_owned(), descriptor, shape }),
            Err(source) => Err(Error::Map { name: name.to_owned(), source }),
        }
    }

    fn value<V: Plain>(&self, key: impl Plain) -> io::Result<V> {
        let mut value = vec![0; V::BYTES];
        bpf::map_lookup(self.descriptor.as_fd(), self.shape, &to_bytes(key), &mut value)?;
        Ok(V::read(&value))
    }

    fn set(&self, key: impl Plain, value: impl Plain) -> io::Result<()> {
        bpf::map_update(self.descriptor.as_fd(), self.shape, &to_bytes(key), &to_bytes(value))
    }

    fn remove(&self, key: impl Plain) -> io::Result<()> {
        bpf::map_delete(self.descriptor.as_fd(), self.shape, &to_bytes(key))
    }
}

fn to_bytes<T: Plain>(plain: T) -> Vec<u8> {
    let mut bytes = vec![0; T::BYTES];
    plain.write(&mut bytes);
    bytes
}

/// Implements what all kinds have in common: the descriptor, for [`super::Assembler::load_map`].
macro_rules! is_a_map {
    ([$($generics:tt)*] $name:ty) => {
        impl<$($generics)*> AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.map.descriptor.as_fd()
            }
        }
    };
}

/// An ARRAY: as many values as it has entries, zero at first.
#[derive(Debug)]
pub struct Array<V> {
    map: Map,
    values: PhantomData<fn() -> V>,
}

impl<V: Plain> Array<V> {
    /// Makes one.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn new(name: &str, entries: u32) -> Result<Self, Error> {
        let map = Map::new(name, ARRAY, 4, V::BYTES, entries, 0)?;
        Ok(Self { map, values: PhantomData })
    }

    /// The value of an entry.
    ///
    /// # Errors
    /// The kernel's; `NotFound` beyond the end.
    pub fn value(&self, index: u32) -> io::Result<V> {
        self.map.value(index)
    }

    /// Sets an entry.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set(&self, index: u32, value: V) -> io::Result<()> {
        self.map.set(index, value)
    }
}

/// An ARRAY in this process's memory, too: entries of whole words, zero at first, that programs and user space read
/// and write without a system call.
#[derive(Debug)]
pub struct SharedArray<const WORDS: usize> {
    map: Map,
    mapping: Mapping,
}

impl<const WORDS: usize> SharedArray<WORDS> {
    /// Makes one and maps it.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn new(name: &str, entries: u32) -> Result<Self, Error> {
        let map = Map::new(name, ARRAY, 4, WORDS * 8, entries, FLAG_MMAPABLE)?;
        let mapping = Mapping::new(map.descriptor.as_fd(), map.shape)
            .map_err(|source| Error::Map { name: name.to_owned(), source })?;
        Ok(Self { map, mapping })
    }

    /// All entries, one behind the other.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.mapping.words()
    }

    /// One entry; `None` beyond the end.
    #[must_use]
    pub fn entry(&self, index: u32) -> Option<&[AtomicU64; WORDS]> {
        let start = (index as usize).checked_mul(WORDS)?;
        self.words().get(start..)?.first_chunk()
    }
}

/// A PERCPU_ARRAY: one value per entry and CPU, so that programs count without a lock.
#[derive(Debug)]
pub struct PerCpuArray<V> {
    map: Map,
    values: PhantomData<fn() -> V>,
}

impl<V: Plain> PerCpuArray<V> {
    /// Makes one.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn new(name: &str, entries: u32) -> Result<Self, Error> {
        let map = Map::new(name, bpf::PERCPU_ARRAY, 4, V::BYTES, entries, 0)?;
        Ok(Self { map, values: PhantomData })
    }

    /// The values of an entry, one per possible CPU.
    ///
    /// # Errors
    /// The kernel's; `NotFound` beyond the end.
    pub fn values(&self, index: u32) -> io::Result<Vec<V>> {
        let stride = V::BYTES.next_multiple_of(8);
        let mut bytes = vec![0; stride * bpf::possible_cpus()?];
        bpf::map_lookup(self.map.descriptor.as_fd(), self.map.shape, &index.to_ne_bytes(), &mut bytes)?;
        Ok(bytes.chunks_exact(stride).map(|value| V::read(&value[..V::BYTES])).collect())
    }

    /// Sets an entry to the same value on every CPU.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_all(&self, index: u32, value: V) -> io::Result<()> {
        let stride = V::BYTES.next_multiple_of(8);
        let mut bytes = vec![0; stride * bpf::possible_cpus()?];
        for each in bytes.chunks_exact_mut(stride) {
            value.write(&mut each[..V::BYTES]);
        }
        bpf::map_update(self.map.descriptor.as_fd(), self.map.shape, &index.to_ne_bytes(), &bytes)
    }
}

/// What a [`Hash`] does when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Refuses new keys (HASH).
    Refuse,
    /// Forgets keys that were not used for long (LRU_HASH).
    Forget,
}

/// A HASH or LRU_HASH.
#[derive(Debug)]
pub struct Hash<K, V> {
    map: Map,
    values: PhantomData<fn() -> (K, V)>,
}

impl<K: Plain, V: Plain> Hash<K, V> {
    /// Makes one.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn new(name: &str, entries: u32, overflow: Overflow) -> Result<Self, Error> {
        let kind = match overflow {
            Overflow::Refuse => HASH,
            Overflow::Forget => LRU_HASH,
        };
        let map = Map::new(name, kind, K::BYTES, V::BYTES, entries, 0)?;
        Ok(Self { map, values: PhantomData })
    }

    /// The value of a key, if there is one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn value(&self, key: K) -> io::Result<Option<V>> {
        found(self.map.value(key))
    }

    /// Sets a key.
    ///
    /// # Errors
    /// The kernel's; E2BIG if it is full.
    pub fn set(&self, key: K, value: V) -> io::Result<()> {
        self.map.set(key, value)
    }

    /// Removes a key; answers whether it was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, key: K) -> io::Result<bool> {
        Ok(found(self.map.remove(key))?.is_some())
    }

    /// The keys, in no order. Never more than there are entries, even while programs change the map.
    ///
    /// # Errors
    /// The kernel's.
    pub fn keys(&self) -> io::Result<Vec<K>> {
        let mut keys: Vec<K> = Vec::new();
        let mut next = vec![0; K::BYTES];
        while keys.len() < self.map.shape.entries as usize {
            let last = keys.last().map(|key| to_bytes(*key));
            let descriptor = self.map.descriptor.as_fd();
            if !bpf::map_next_key(descriptor, self.map.shape, last.as_deref(), &mut next)? {
                break;
            }
            keys.push(K::read(&next));
        }
        Ok(keys)
    }
}

/// Which sockets a [`SocketMap`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// XSKMAP: AF_XDP sockets, for [`super::Helper::RedirectMap`].
    Xdp,
    /// SOCKMAP: UDP and TCP sockets, for sk_lookup programs.
    Kernel,
}

/// An XSKMAP or SOCKMAP: sockets by number. A closed socket leaves it by itself.
#[derive(Debug)]
pub struct SocketMap {
    map: Map,
}

impl SocketMap {
    /// Makes one.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn new(name: &str, entries: u32, sockets: Sockets) -> Result<Self, Error> {
        let kind = match sockets {
            Sockets::Xdp => XSKMAP,
            Sockets::Kernel => SOCKMAP,
        };
        Ok(Self { map: Map::new(name, kind, 4, 4, entries, 0)? })
    }

    /// Puts a socket under a number.
    ///
    /// # Errors
    /// The kernel's: an AF_XDP socket must have its rings and be bound, a UDP socket must be bound.
    pub fn set(&self, index: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.map.set(index, socket.as_raw_fd().cast_unsigned())
    }

    /// Takes it away; answers whether one was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, index: u32) -> io::Result<bool> {
        // A SOCKMAP says EINVAL of a number without a socket.
        match self.map.remove(index) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && index < self.map.shape.entries => {
                Ok(false)
            }
            result => Ok(found(result)?.is_some()),
        }
    }
}

is_a_map!([V] Array<V>);
is_a_map!([const WORDS: usize] SharedArray<WORDS>);
is_a_map!([V] PerCpuArray<V>);
is_a_map!([K, V] Hash<K, V>);
is_a_map!([] SocketMap);

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

// linux/bpf.h, enum bpf_map_type and the flags of BPF_MAP_CREATE.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const LRU_HASH: u32 = 9;
const SOCKMAP: u32 = 15;
const XSKMAP: u32 = 17;
const FLAG_MMAPABLE: u32 = 1 << 10;
