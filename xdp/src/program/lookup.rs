//! The sk_lookup program: which worker's socket gets a datagram, by its destination port.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::{fmt, fs};

use super::entry::{wire, words};
use crate::bpf::Register::{R0, R1, R2, R3, R6, R7, R9, R10};
use crate::bpf::{
    Assembler, Atomic, BuildError, Code, Condition, Error, Helper, Link, Program, ProgramKind, SharedArray,
    Size, SocketMap, Sockets, Width,
};

/// The program, attached to this thread's network namespace, with its table: 65,536 entries, one per local UDP port.
///
/// It chooses a socket only for datagrams to ports that were opened here, and drops only what strangers send to ports
/// that are connected here. Sockets that are connected by the kernel come before it, programs of other processes beside
/// it. It is gone with this value, and with the process.
///
/// Methods are safe from any thread and no system calls; a port is changed by its owner only.
pub struct LookupTable {
    entries: SharedArray<WORDS>,
    sockets: SocketMap,
    program: Program,
    /// Detaches when dropped.
    _link: Link,
}

impl LookupTable {
    /// Loads the program and attaches it. `receivers` are the sockets of the workers in their order, for IPv4 and then
    /// for IPv6 each; both may be the same socket. They must be bound and not connected.
    ///
    /// # Errors
    /// [`Error`], a sentence for the log.
    pub fn load<'s>(receivers: impl IntoIterator<Item = Option<BorrowedFd<'s>>>) -> Result<Self, Error> {
        let receivers: Vec<_> = receivers.into_iter().collect();
        let entries = SharedArray::new("sidetone_lookup", 1 << 16)?;
        let sockets = SocketMap::new("sidetone_socks", (receivers.len() as u32).max(1), Sockets::Kernel)?;
        for (number, socket) in receivers.iter().enumerate() {
            let Some(socket) = socket else { continue };
            sockets
                .set(number as u32, *socket)
                .map_err(|source| Error::Map { name: "sidetone_socks".to_owned(), source })?;
        }
        let program =
            Program::load("sidetone_sklook", ProgramKind::SocketLookup, &text(&entries, &sockets)?)?;
        let namespace =
            fs::File::open("/proc/thread-self/ns/net").map_err(|source| Error::Attach { source })?;
        let link = program.attach_to_namespace(namespace.as_fd())?;
        Ok(Self { entries, sockets, program, _link: link })
    }

    /// Puts another socket in a worker's place.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_socket(&self, worker: u32, ipv6: bool, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.sockets.set(socket_number(worker, ipv6), socket)
    }

    /// Has datagrams to this address and port go to the worker's socket: to any address if it is unspecified (of IPv4
    /// if it is 0.0.0.0). Answers false, and changes nothing, if the port is open or 0.
    pub fn open(&self, local: SocketAddr, worker: u32) -> bool {
        let entry = self.entry(local.port());
        if local.port() == 0 || entry[0].load(Relaxed) & OPEN != 0 {
            return false;
        }
        let ip = local.ip().to_canonical();
        store(&entry[1..3], ip);
        let any = if ip.is_unspecified() { ANY } else { 0 };
        let family = if ip.is_ipv6() { LOCAL_IPV6 } else { 0 };
        entry[0].store(OPEN | any | family | u64::from(worker as u16) << WORKER, Release);
        true
    }

    /// Has datagrams to this port go their usual way again.
    pub fn close(&self, port: u16) {
        self.entry(port)[0].store(0, Release);
    }

    /// Has the program drop what comes to an open port from anyone but `remote`, or take it from anyone again.
    pub fn connect(&self, port: u16, remote: Option<SocketAddr>) {
        let entry = self.entry(port);
        let head = entry[0].load(Relaxed) & !(CONNECTED | REMOTE_IPV6 | 0xffff << REMOTE_PORT);
        if head & OPEN == 0 {
            return;
        }
        entry[0].store(head, Release);
        let Some(remote) = remote else { return };
        let ip = remote.ip().to_canonical();
        store(&entry[3..5], ip);
        let family = if ip.is_ipv6() { REMOTE_IPV6 } else { 0 };
        entry[0].store(head | CONNECTED | family | wire(remote.port()) << REMOTE_PORT, Release);
    }

    /// How many datagrams of others the program has dropped for this port, whoever had it open.
    #[must_use]
    pub fn strangers(&self, port: u16) -> u64 {
        self.entry(port)[5].load(Relaxed)
    }

    /// The tables by the names that `xdp/bpf/sk_lookup.c` has for them.
    #[must_use]
    pub fn maps(&self) -> [(&'static str, BorrowedFd<'_>); 2] {
        [("ports", self.entries.as_fd()), ("sockets", self.sockets.as_fd())]
    }

    /// Runs the program on a `struct bpf_sk_lookup`, for tests: its verdict, and whether it chose a socket.
    ///
    /// # Errors
    /// The kernel's.
    pub fn test(&self, context: &[u8]) -> io::Result<(u32, bool)> {
        self.program.test_lookup(context)
    }

    fn entry(&self, port: u16) -> &[AtomicU64; WORDS] {
        self.entries.entry(port.into()).expect("the table has an entry for every port")
    }
}

impl fmt::Debug for LookupTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LookupTable").finish_non_exhaustive()
    }
}

/// Writes an address that the head does not name yet.
fn store(to: &[AtomicU64], ip: IpAddr) {
    for (word, value) in to.iter().zip(words(ip)) {
        word.store(value, Release);
    }
}

const fn socket_number(worker: u32, ipv6: bool) -> u32 {
    worker * 2 + ipv6 as u32
}

// An entry is a cache line:
//  0  flags | worker (2) | remote port (2)
//  1  local address as IPv6, IPv4 mapped; 2 ..
//  3  remote address; 4 ..
//  5  strangers
const WORDS: usize = 8;
const OPEN: u64 = 1;
const ANY: u64 = 2;
const LOCAL_IPV6: u64 = 4;
const CONNECTED: u64 = 8;
const REMOTE_IPV6: u64 = 16;
const WORKER: u32 = 16;
const REMOTE_PORT: u32 = 32;
const LOCAL_AT: i16 = 8;
const REMOTE_AT: i16 = 24;
const STRANGERS_AT: i16 = 40;

// struct bpf_sk_lookup of linux/bpf.h; addresses and the remote port as on the wire, the local port as a number.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const REMOTE_IP4: i16 = 16;
const REMOTE_IP6: i16 = 20;
const REMOTE_PORT_IN: i16 = 36;
const LOCAL_IP4: i16 = 40;
const LOCAL_IP6: i16 = 44;
const LOCAL_PORT: i16 = 60;

/// The verdicts.
const DROP: i32 = 0;
const PASS: i32 = 1;

/// The program; `xdp/bpf/sk_lookup.c` says the same in C. `R6` is the context, `R9` the entry, `R7` the head.
fn text<'m>(entries: &'m SharedArray<WORDS>, sockets: &'m SocketMap) -> Result<Code<'m>, BuildError> {
    let mut code = Assembler::new();
    let [pass, ipv6, choose, stranger] = std::array::from_fn(|_| code.label());
    code.mov(R6, R1).load(Size::Word, R1, R6, PROTOCOL).branch(Condition::NotEqual, R1, 17, pass);
    code.load(Size::Word, R1, R6, LOCAL_PORT).store(Size::Word, R10, -4, R1).address(R2, R10, -4);
    code.load_map(R1, entries).call(Helper::MapLookup).branch(Condition::Equal, R0, 0, pass);
    code.mov(R9, R0).load(Size::Double, R7, R9, 0);
    code.mov(R1, R7).and(R1, OPEN as i32).branch(Condition::Equal, R1, 0, pass);
    code.load(Size::Word, R1, R6, FAMILY).branch(Condition::Equal, R1, libc::AF_INET6, ipv6);
    for is_ipv6 in [false, true] {
        let [right, local] = std::array::from_fn(|_| code.label());
        if is_ipv6 {
            code.bind(ipv6);
        }
        // Whom it is for: IPv6 only to a port of IPv6, IPv4 also to one that is open on any address of IPv6.
        if is_ipv6 {
            code.mov(R1, R7).and(R1, LOCAL_IPV6 as i32).branch(Condition::Equal, R1, 0, pass);
        }
        code.branch(Condition::AnyBit, R7, ANY as i32, local);
        if !is_ipv6 {
            code.branch(Condition::AnyBit, R7, LOCAL_IPV6 as i32, pass);
        }
        compare(&mut code, is_ipv6, if is_ipv6 { LOCAL_IP6 } else { LOCAL_IP4 }, LOCAL_AT, pass);
        // Whom it is from.
        code.bind(local).mov(R1, R7).and(R1, (CONNECTED | REMOTE_IPV6) as i32);
        code.branch(Condition::Equal, R1, 0, right);
        let expected = if is_ipv6 { CONNECTED | REMOTE_IPV6 } else { CONNECTED };
        code.branch(Condition::NotEqual, R1, expected as i32, stranger);
        compare(&mut code, is_ipv6, if is_ipv6 { REMOTE_IP6 } else { REMOTE_IP4 }, REMOTE_AT, stranger);
        code.load(Size::Half, R1, R6, REMOTE_PORT_IN).mov(R2, R7).shr(R2, REMOTE_PORT as i32);
        code.and(R2, 0xffff).branch(Condition::NotEqual, R1, R2, stranger);
        code.bind(right).mov(R1, i32::from(is_ipv6)).jump(choose);
    }
    code.bind(choose).shr(R7, WORKER as i32).and(R7, 0xffff).shl(R7, 1).or(R7, R1);
    code.store(Size::Word, R10, -4, R7).address(R2, R10, -4).load_map(R1, sockets).call(Helper::MapLookup);
    code.branch(Condition::Equal, R0, 0, pass).mov(R7, R0);
    // If it cannot be assigned, because another program has chosen or the family differs, the rest of the way is usual.
    code.mov(R1, R6).mov(R2, R7).mov(R3, 0).call(Helper::SocketAssign);
    code.mov(R1, R7).call(Helper::SocketRelease);
    code.bind(pass).mov(R0, PASS).exit();
    code.bind(stranger).mov(R1, 1).atomic(Width::Bits64, Atomic::Add, R9, STRANGERS_AT, R1);
    code.mov(R0, DROP).exit();
    code.build()
}

/// Goes to `different` unless the address in the context is that of the entry.
fn compare(code: &mut Assembler<'_>, is_ipv6: bool, place: i16, offset: i16, different: crate::bpf::Label) {
    let (words, offset) = if is_ipv6 { (4, offset) } else { (1, offset + 12) };
    for word in 0..words {
        code.load(Size::Word, R1, R6, place + word * 4).load(Size::Word, R2, R9, offset + word * 4);
        code.branch(Condition::NotEqual, R1, R2, different);
    }
}
