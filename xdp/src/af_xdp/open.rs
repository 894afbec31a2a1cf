//! Opening an interface: the program on it, a socket on each of its queues, a device for each worker.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketType, netdevice};

use super::addresses::Addresses;
use super::handover::Handover;
use super::health::Health;
use super::poller::Poller;
use super::ports::{MAX_WORKERS, Owners};
use super::promote::Promoted;
use super::rings::Rings;
use super::ways::Ways;
use super::{AfXdpDevice, Core, Shared, Tally};
use crate::Device as _;
use crate::bpf::{self, Link};
use crate::netlink::Netlink;
use crate::next_hop::{AddressKeeper as _, NextHops};
use crate::program::{self, XdpProgram};
use crate::socket::{BUSY_FOR, BUSY_PAUSE, BusyPoll, Config, Socket, SocketError};
use crate::udp::{self, UdpDevice};
use crate::umem::{CHUNK_BYTES, Umem};

/// How an interface is opened. The defaults run on a laptop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The interface's name. Ports on addresses of other interfaces work, too, through the kernel.
    pub interface: String,
    /// The receive queues that are ours. What arrives on others goes through the kernel.
    pub queues: Queues,
    /// Where the program runs.
    pub mode: ModeWanted,
    /// Whether the driver uses our memory itself.
    pub zero_copy: ZeroCopy,
    /// Frames of 2 KiB per worker: half of them receive and half transmit. At least 64.
    pub frames: u32,
    /// Entries of each ring, a power of two: how many packets a worker may be late by.
    pub ring: u32,
    /// Whether the frames shall lie in huge pages (`vm.nr_hugepages`); ordinary ones do if there are none.
    pub hugepages: bool,
    /// Has system calls poll the driver instead of waiting for its interrupts; only where the driver can
    /// (zero-copy).
    pub busy_poll: Option<BusyPoll>,
    /// Packets per second of one source that no port is connected to; more are dropped before they cost anything.
    /// `None` for no limit.
    pub flood_limit: Option<u32>,
    /// Ports of the kernel, such as those of SIP, whose senders are held to the flood limit, too.
    pub guarded_ports: Vec<u16>,
    /// Packets that one system call may transmit in copy mode (Linux 6.17; 32 before).
    pub transmit_budget: u32,
    /// Bytes of each ring between two workers.
    pub handover_bytes: usize,
    /// The CPUs of the workers: the thread that knows the next hops keeps away from them.
    pub media_cpus: Vec<usize>,
}

impl Options {
    /// The defaults for an interface.
    #[must_use]
    pub fn new(interface: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            queues: Queues::All,
            mode: ModeWanted::Auto,
            zero_copy: ZeroCopy::Auto,
            frames: 4096,
            ring: 2048,
            hugepages: false,
            busy_poll: None,
            flood_limit: None,
            guarded_ports: Vec::new(),
            transmit_budget: 256,
            handover_bytes: 256 * 1024,
            media_cpus: Vec::new(),
        }
    }
}

/// Which receive queues are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queues {
    /// All that the interface has.
    All,
    /// These.
    List(Vec<u32>),
}

/// Where the program shall run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeWanted {
    /// In the driver, else behind it.
    Auto,
    /// In the driver.
    Native,
    /// Behind the driver, which works with every one.
    Generic,
}

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// Behind the driver.
    Generic,
}

/// Whether the driver shall use our memory itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopy {
    /// If it can.
    Auto,
    /// No: the kernel copies.
    Never,
    /// Yes, or not at all.
    Require,
}

/// What [`open`] took, and why not something better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The interface.
    pub interface: String,
    /// Where the program runs.
    pub mode: Mode,
    /// Whether the driver uses our memory itself.
    pub zero_copy: bool,
    /// The queues that are ours.
    pub queues: Vec<u32>,
    /// A sentence for each better way that was refused.
    pub refused: Vec<String>,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Native => "native",
            Mode::Generic => "generic",
        };
        let copy = if self.zero_copy { "zero-copy" } else { "copy" };
        write!(f, "AF_XDP on {}, {mode} mode, {copy}, {} queue(s)", self.interface, self.queues.len())?;
        self.refused.iter().try_for_each(|refused| write!(f, "; {refused}"))
    }
}

/// Why an interface cannot be opened for AF_XDP.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such interface.
    #[error("there is no interface {0}; `ip link` shows what there is")]
    Interface(String),
    /// An option has no meaning.
    #[error("{0}")]
    Options(&'static str),
    /// The program cannot be loaded or attached.
    #[error("the XDP program on {interface}: {source}")]
    Program {
        /// The interface.
        interface: String,
        /// Why.
        source: bpf::Error,
    },
    /// A socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The system is out of something.
    #[error("AF_XDP: {0}")]
    System(#[from] io::Error),
}

/// Opens an interface for `workers` workers: loads the program, attaches it (native, else generic), and makes a device
/// for each worker with the sockets of its queues (zero-copy, else copy). [`AfXdpDevice::taken`] says what it came to.
///
/// # Errors
/// [`Refusal`]; nothing is left behind then.
pub fn open(options: &Options, workers: usize, udp: &udp::Options) -> Result<Vec<AfXdpDevice>, Refusal> {
    if !options.ring.is_power_of_two() || options.ring > MAX_RING {
        return Err(Refusal::Options("`ring` must be a power of two, at most 65536"));
    }
    if options.frames < MIN_FRAMES || options.frames > MAX_FRAMES {
        return Err(Refusal::Options("`frames` must be from 64 to 1048576"));
    }
    if workers == 0 || workers > MAX_WORKERS {
        return Err(Refusal::Options("an interface has from 1 to 254 workers"));
    }
    let interface = interface_index(&options.interface)?;
    let mut taken = Taken {
        interface: options.interface.clone(),
        mode: Mode::Native,
        zero_copy: false,
        queues: Vec::new(),
        refused: Vec::new(),
    };
    let queues = match &options.queues {
        Queues::All => MAX_QUEUES as u32,
        Queues::List(list) => list.iter().max().map_or(1, |last| last.saturating_add(1)),
    };
    let settings =
        program::Options { queues, flood_limit: options.flood_limit, ..program::Options::default() };
    let program = XdpProgram::load(settings)
        .map_err(|source| Refusal::Program { interface: options.interface.clone(), source })?;
    let hops = Arc::new(NextHops::start(&options.interface, &options.media_cpus)?);
    let mut netlink = Netlink::new()?;
    // Once before the program works; from then on by the thread that hears of changes.
    let mut addresses = Addresses::new(Arc::clone(program.ports()));
    let known: Vec<_> = netlink.addresses()?.into_iter().map(|address| address.ip).collect();
    addresses.addresses_are(&known, hops.mac())?;
    hops.keep_addresses(Box::new(addresses));
    for port in &options.guarded_ports {
        let guarded = program.ports().guard(*port);
        guarded.map_err(|_| Refusal::Options("`guarded_ports` must be from 1 to 65535, each once"))?;
    }
    let link = attach(options, &program, interface, &mut taken)?;
    let mut memories: Vec<Memory> = Vec::new();
    memories.resize_with(workers, Memory::default);
    open_queues(options, interface, &mut memories, &mut taken)?;
    for (memory, worker) in memories.iter().zip(0..) {
        for (socket, queue) in memory.sockets.iter().zip(taken.queues.iter().skip(worker).step_by(workers)) {
            program.set_socket(*queue, socket.as_fd())?;
        }
    }
    let inners: Vec<UdpDevice> = (0..workers).map(|_| UdpDevice::new(udp)).collect::<io::Result<_>>()?;
    let doorbells: Vec<_> = inners.iter().map(crate::Device::doorbell).collect();
    let senders = workers.min(taken.queues.len());
    // From now on it is missed when it goes.
    if let Some(found) = netlink.link(interface)?
        && let Some(id) = found.programs.into_iter().find(|id| *id != 0)
    {
        hops.expect_program(id);
    }
    let shared = Arc::new(Shared {
        owners: Owners::new(),
        taken,
        program,
        hops: Arc::clone(&hops),
        link: Mutex::new(Some(link)),
        fallen: (0..workers).map(|_| AtomicBool::new(false)).collect(),
        forwards_in_vain: AtomicBool::new(false),
    });
    let handovers = Handover::between(&doorbells, options.handover_bytes);
    let parts = inners.into_iter().zip(handovers).zip(memories).enumerate();
    parts
        .map(|(worker, ((inner, handover), Memory { umem, sockets }))| {
            let poller = Poller::new(&inner, &sockets)?;
            let rings = umem.filter(|_| !sockets.is_empty());
            let core = Core {
                worker,
                rings: rings.map(|umem| Rings::new(umem, sockets, options.ring)),
                ways: Ways::new(udp.ports, Arc::clone(&hops)),
                handover,
                sender: worker % senders.max(1),
                scratch: Box::new([0; CHUNK_BYTES]),
                letter: Some(Box::new([0; CHUNK_BYTES])),
                counters: inner.counters(),
                tally: Tally::default(),
                promoted: Promoted::new(udp.ports),
                health: Health::new(),
                poller,
                next_look: Instant::now(),
                shared: Arc::clone(&shared),
            };
            Ok(AfXdpDevice { inner, core })
        })
        .collect()
}

/// A worker's frames and sockets.
#[derive(Default)]
struct Memory {
    umem: Option<Umem>,
    sockets: Vec<Socket>,
}

pub(super) fn interface_index(name: &str) -> Result<u32, Refusal> {
    // Any socket will do to ask by.
    let socket =
        rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(io::Error::from)?;
    netdevice::name_to_index(&socket, name).map_err(|_| Refusal::Interface(name.to_owned()))
}

/// The refusal of a program.
pub(super) fn program_refused(interface: &str, source: bpf::Error) -> Refusal {
    Refusal::Program { interface: interface.to_owned(), source }
}

fn attach(
    options: &Options,
    program: &XdpProgram,
    interface: u32,
    taken: &mut Taken,
) -> Result<Link, Refusal> {
    let refusal = |source| Refusal::Program { interface: options.interface.clone(), source };
    if options.mode != ModeWanted::Generic {
        match attach_in(program, interface, bpf::Mode::Native) {
            Ok(link) => return Ok(link),
            Err(error) if options.mode == ModeWanted::Native => return Err(refusal(error)),
            Err(error) => taken.refused.push(format!("native mode: {error}")),
        }
    }
    taken.mode = Mode::Generic;
    attach_in(program, interface, bpf::Mode::Generic).map_err(refusal)
}

/// A predecessor's program is taken off some time after its end.
fn attach_in(program: &XdpProgram, interface: u32, mode: bpf::Mode) -> Result<Link, bpf::Error> {
    let deadline = Instant::now() + BUSY_FOR;
    loop {
        match program.attach(interface, mode) {
            Err(error) if is_busy(&error) && Instant::now() < deadline => std::thread::sleep(BUSY_PAUSE),
            result => return result,
        }
    }
}

fn is_busy(error: &bpf::Error) -> bool {
    let busy = [libc::EBUSY, libc::EEXIST];
    error.source().and_then(io::Error::raw_os_error).is_some_and(|code| busy.contains(&code))
}

/// Opens the queues one after the other, each for its worker.
fn open_queues(
    options: &Options,
    index: u32,
    memories: &mut [Memory],
    taken: &mut Taken,
) -> Result<(), Refusal> {
    if taken.mode == Mode::Generic && options.zero_copy == ZeroCopy::Require {
        return Err(Refusal::Options("zero-copy needs native mode; set `zero_copy` to auto or never"));
    }
    // The first queue shows whether the driver can.
    let mut zero_copy = taken.mode == Mode::Native && options.zero_copy != ZeroCopy::Never;
    let listed: Option<&[u32]> = match &options.queues {
        Queues::All => None,
        Queues::List(list) => Some(list),
    };
    for number in 0..listed.map_or(MAX_QUEUES, <[u32]>::len) {
        let queue = listed.map_or(number as u32, |list| list[number]);
        let workers = memories.len();
        let memory = &mut memories[number % workers];
        if memory.umem.is_none() {
            let (umem, refused) = Umem::new(options.frames, options.hugepages)?;
            if let Some(refused) = refused {
                taken.refused.push(format!("huge pages: {refused}; `sysctl vm.nr_hugepages` reserves some"));
            }
            memory.umem = Some(umem);
        }
        let Some(umem) = &mut memory.umem else { continue };
        let shared = memory.sockets.first().map(Socket::as_fd);
        let mut config = Config {
            interface: &options.interface,
            index,
            queue,
            ring: options.ring,
            zero_copy,
            busy_poll: options.busy_poll,
            transmit_budget: options.transmit_budget,
        };
        let opened = match Socket::open(&config, umem, shared) {
            Err(error @ SocketError::ZeroCopy { .. })
                if zero_copy && options.zero_copy == ZeroCopy::Auto && number == 0 =>
            {
                taken.refused.push(error.to_string());
                zero_copy = false;
                config.zero_copy = false;
                Socket::open(&config, umem, shared)
            }
            opened => opened,
        };
        match opened {
            Ok(socket) => {
                taken.queues.push(queue);
                taken.zero_copy = socket.zero_copy();
                memory.sockets.push(socket);
            }
            // There are no more.
            Err(SocketError::Queue { .. }) if listed.is_none() && number > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    if taken.queues.is_empty() {
        return Err(Refusal::Options("`queues` lists none"));
    }
    Ok(())
}

/// What the kernel takes as entries of a ring.
const MAX_RING: u32 = 1 << 16;

const MIN_FRAMES: u32 = 64;

/// 2 GiB.
const MAX_FRAMES: u32 = 1 << 20;

/// The most queues that are looked for.
const MAX_QUEUES: usize = 1024;
