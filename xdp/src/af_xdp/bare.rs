//! Frames of one queue, in and out, and nothing in between: no addresses, ports, checks or counters. It is what measuring
//! needs: the least that AF_XDP costs, and a generator that is its own network stack.

use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::open::{interface_index, program_refused};
use super::rings::Rings;
use super::{Mode, Options, Refusal};
use crate::bpf::{
    self, Assembler, Condition, Helper, Link, Program, ProgramKind, Register, Size, SocketMap, Sockets,
    Verdict,
};
use crate::socket::{Config, Socket};
use crate::umem::Umem;

/// The first queue of an interface, opened for IPv4 datagrams to a range of ports. Everything else goes to the kernel.
#[derive(Debug)]
pub struct Bare {
    rings: Rings,
    _sockets: SocketMap,
    _link: Link,
}

impl Bare {
    /// Opens the interface in copy mode. Of the options, the interface, `frames`, `ring`, `hugepages` and
    /// `transmit_budget` count.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn open(options: &Options, ports: (u16, u16), mode: Mode) -> Result<Self, Refusal> {
        let interface = options.interface.as_str();
        let refused = |source| program_refused(interface, source);
        let index = interface_index(interface)?;
        let sockets = SocketMap::new("bare_sockets", 1, Sockets::Xdp).map_err(refused)?;
        let program = redirect(&sockets, ports).map_err(refused)?;
        let mode = match mode {
            Mode::Native => bpf::Mode::Native,
            Mode::Generic => bpf::Mode::Generic,
        };
        let link = program.attach(index, mode).map_err(refused)?;
        let (umem, _) = Umem::new(options.frames, options.hugepages)?;
        let config = Config {
            interface,
            index,
            queue: 0,
            ring: options.ring,
            zero_copy: false,
            busy_poll: None,
            transmit_budget: options.transmit_budget,
        };
        let socket = Socket::open(&config, &umem, None)?;
        sockets.set(0, socket.as_fd())?;
        Ok(Self { rings: Rings::new(umem, vec![socket], options.ring), _sockets: sockets, _link: link })
    }

    /// Takes at most `budget` frames. Those that `handle` answers with true are sent on with the next flush as it
    /// left them; if no more can be queued they are dropped. Returns how many there were.
    #[inline]
    pub fn receive(&mut self, budget: usize, mut handle: impl FnMut(&mut [u8]) -> bool) -> usize {
        let waiting = self.rings.waiting(0, budget);
        for _ in 0..waiting {
            let Some(mut packet) = self.rings.pop(0) else { continue };
            let bytes = self.rings.umem.bytes(&mut packet.frame);
            let goes_on = bytes.get_mut(packet.offset..packet.offset + packet.len).is_some_and(&mut handle);
            if goes_on && self.rings.may_queue() {
                self.rings.queue(packet.frame, packet.offset, packet.len);
            } else {
                self.rings.give(packet.frame);
            }
        }
        if waiting > 0 {
            self.rings.refill(0);
        }
        waiting
    }

    /// Queues a frame: `write` fills it and says how long it is. False, and `write` was not called, if none is free.
    #[inline]
    pub fn transmit(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let Some(mut frame) = self.rings.take() else { return false };
        let bytes = self.rings.umem.bytes(&mut frame);
        let len = write(bytes).min(bytes.len());
        self.rings.queue(frame, 0, len);
        true
    }

    /// Has the kernel send what was queued.
    #[inline]
    pub fn flush(&mut self) {
        self.rings.flush();
    }

    /// Sleeps until a frame waits or the time is over.
    pub fn wait(&mut self, timeout: Duration) {
        if self.rings.has_received() {
            return;
        }
        self.rings.wake_receivers();
        let Some(socket) = self.rings.sockets().first() else { return };
        let timeout = Timespec::try_from(timeout).ok();
        // Only the time matters.
        let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], timeout.as_ref());
    }

    /// Frames that the kernel dropped because we did not take them in time, since the socket was opened.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let statistics = self.rings.sockets().iter().filter_map(|socket| socket.statistics().ok());
        // In copy mode, what found the fill ring empty is among those dropped.
        statistics.map(|it| it.rx_dropped + it.rx_ring_full.unwrap_or(0)).sum()
    }
}

/// UDP in IPv4 without options or fragments to these ports goes to the socket of its queue.
fn redirect(sockets: &SocketMap, ports: (u16, u16)) -> Result<Program, bpf::Error> {
    use Register::{R0, R1, R2, R3, R6};
    let mut code = Assembler::new();
    let pass = code.label();
    code.mov(R6, R1).load(Size::Word, R2, R1, 0).load(Size::Word, R3, R1, 4);
    code.mov(R1, R2).add(R1, 42).branch(Condition::Greater, R1, R3, pass);
    code.load(Size::Half, R1, R2, 12).branch(Condition::NotEqual, R1, 0x0008, pass);
    code.load(Size::Byte, R1, R2, 14).branch(Condition::NotEqual, R1, 0x45, pass);
    code.load(Size::Half, R1, R2, 20).and(R1, 0xff3f).branch(Condition::NotEqual, R1, 0, pass);
    code.load(Size::Byte, R1, R2, 23).branch(Condition::NotEqual, R1, 17, pass);
    code.load(Size::Half, R1, R2, 36).big_endian(R1, 16);
    code.branch(Condition::Less, R1, i32::from(ports.0), pass);
    code.branch(Condition::Greater, R1, i32::from(ports.1), pass);
    code.load(Size::Word, R2, R6, 16).load_map(R1, sockets).mov(R3, Verdict::Pass as i32);
    code.call(Helper::RedirectMap).exit();
    code.bind(pass).mov(R0, Verdict::Pass as i32).exit();
    Program::load("bare", ProgramKind::Xdp, &code.build()?)
}
