//! Packets in and out. This crate moves UDP datagrams between a worker and the network and refuses to
//! know what is in them: no RTP, no audio, no calls.
//!
//! A [`Device`] belongs to one worker thread and is driven by its loop:
//!
//! ```text
//! loop { receive(budget) -> handle each datagram in place; transmit(..)*; flush(); wait(until) }
//! ```
//!
//! Every queue inside a device is bounded; what does not fit is dropped and counted by name in
//! [`DeviceCounters`].
#![warn(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub mod af_xdp;
pub mod bpf;
mod counters;
mod doorbell;
mod flow;
pub mod host;
pub mod io_uring;
pub mod loopback;
pub mod netem;
pub mod netlink;
#[cfg(test)]
#[path = "../tests/netns/mod.rs"]
mod netns;
pub mod next_hop;
pub mod pcap;
mod port_socket;
pub mod program;
mod ring;
pub mod sk_lookup;
mod socket;
mod sys;
pub mod thread;
pub mod udp;
mod umem;
pub mod wire;

pub use counters::Counter;
pub use doorbell::Doorbell;
pub use flow::{Flow, FlowCounters, PayloadTypes, Rewriting, Unpromoted};

/// A local UDP port that a device has opened. Only meaningful to the device that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortIndex(pub u32);

/// One received UDP datagram, borrowed in place from the device's buffer.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// The local port it arrived on.
    pub port: PortIndex,
    /// Who sent it.
    pub remote: SocketAddr,
    /// The UDP payload. Mutable, so that it can be decrypted or rewritten where it lies.
    pub payload: &'a mut [u8],
}

/// Where a datagram goes: out of this local port, to this remote address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The local port it leaves from.
    pub port: PortIndex,
    /// Who gets it.
    pub remote: SocketAddr,
}

/// One datagram to send, already written to the device's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it goes.
    pub path: Path,
    /// How many bytes of the buffer.
    pub len: usize,
}

/// The transmit queue is full; nothing was taken, and that has been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transmit queue is full")]
pub struct Full;

/// The largest datagram a device sends or receives, in bytes (Ethernet MTU; media is never fragmented).
pub const MAX_DATAGRAM_BYTES: usize = 1500;

/// What is done with each received datagram: kept (`None`), or sent on (see [`Device::receive`]).
pub type Handle<'a> = dyn FnMut(Datagram<'_>) -> Option<Outgoing> + 'a;

/// A way in and out for UDP datagrams, owned and driven by one worker.
pub trait Device: Send {
    /// Opens a local address for receiving and sending. Indexes are small: the lowest that is free.
    ///
    /// # Errors
    /// The operating system's, such as `AddrInUse`; the caller tries another port.
    fn open(&mut self, local: SocketAddr) -> io::Result<PortIndex>;

    /// The address of an open port, with the number that the system chose if it was opened with port 0.
    fn local_address(&self, port: PortIndex) -> Option<SocketAddr>;

    /// Sends what the port has queued and closes it; what it still had to receive is gone. An unknown port
    /// is ignored.
    fn close(&mut self, port: PortIndex);

    /// Tells the device that this port now talks to one remote address only (after latching), or to
    /// anyone again (`None`). A hint: the caller still checks the source of every datagram.
    fn connect(&mut self, port: PortIndex, remote: Option<SocketAddr>);

    /// Takes at most `budget` waiting datagrams and hands them to `handle`, in order of arrival per port.
    /// What `handle` answers with is sent on with the next flush, from where it lies: the first
    /// [`Outgoing::len`] bytes of the payload, which it may have rewritten. Returns how many it took, with those
    /// that it dropped itself. Never blocks.
    fn receive(&mut self, budget: usize, handle: &mut Handle<'_>) -> usize;

    /// Queues one datagram: `write` fills the buffer (of [`MAX_DATAGRAM_BYTES`]) and says where it goes, or
    /// has nothing to send. Returns whether there was one.
    ///
    /// # Errors
    /// [`Full`] when no transmit buffer is free even after a flush; `write` was then not called.
    fn transmit(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<bool, Full>;

    /// Sends what was queued.
    fn flush(&mut self);

    /// Has the kernel forward what arrives on `port` from now on, without waking this thread, as `flow` says.
    /// What the flow does not cover (RTCP, other payload types) still comes through [`Device::receive`].
    ///
    /// # Errors
    /// [`Unpromoted`]; everything goes on through [`Device::receive`] then.
    fn promote(&mut self, port: PortIndex, flow: &Flow) -> Result<(), Unpromoted> {
        let _ = (port, flow);
        Err(Unpromoted::Device)
    }

    /// Ends what [`Device::promote`] began and returns the last figures. Each datagram is forwarded by the kernel
    /// or comes through [`Device::receive`], none by both. `None` if the port was not promoted.
    fn demote(&mut self, port: PortIndex) -> Option<FlowCounters> {
        let _ = port;
        None
    }

    /// The figures of a promoted port, without a system call.
    fn flow_counters(&self, port: PortIndex) -> Option<FlowCounters> {
        let _ = port;
        None
    }

    /// Sleeps until a datagram waits, the [`Doorbell`] rings or `timeout` has passed.
    fn wait(&mut self, timeout: Duration);

    /// What wakes [`Device::wait`] from another thread.
    fn doorbell(&self) -> Doorbell;

    /// The device's counters, shared with whoever reports them.
    fn counters(&self) -> Arc<DeviceCounters>;

    /// The name used in logs, metrics and `--device`.
    fn name(&self) -> &'static str;
}

counters! {
    /// What a device has moved and dropped.
    pub struct DeviceCounters {
        received_datagrams: "Datagrams received",
        received_bytes: "UDP payload bytes received",
        receive_truncated: "Datagrams dropped because they were larger than a buffer",
        receive_full: "Datagrams dropped because the device's own receive queue was full",
        receive_strangers: "Datagrams dropped because their port is connected to another address (those the kernel drops are not seen)",
        receive_overflows: "Datagrams the kernel dropped because a receive buffer that many ports share was full",
        receive_fallback: "Datagrams that came by their port's own socket, because the device's way in did not take them",
        receive_errors: "Receive calls that failed",
        transmitted_datagrams: "Datagrams handed to the network",
        transmitted_bytes: "UDP payload bytes handed to the network",
        transmit_full: "Datagrams dropped because the transmit queue was full",
        transmit_errors: "Datagrams the network refused",
        receive_rejected: "Frames dropped because they were no whole datagrams for us (see the wire formats)",
        receive_checksum_errors: "Datagrams dropped because of a wrong UDP checksum",
        receive_other_mac: "Frames dropped because they were sent to another MAC address",
        receive_closed_port: "Datagrams dropped because their port or address is not open",
        handed_over: "Datagrams handed to another worker, because they arrived on its queue or leave by it",
        handover_full: "Datagrams dropped because the other worker did not take them in time",
        transmit_no_route: "Datagrams that left through a kernel socket, because no way through the rings was known",
        ring_receive_dropped: "Packets the kernel dropped for want of a frame or a slot (AF_XDP rx_dropped)",
        ring_receive_full: "Packets the kernel dropped because a receive ring was full",
        ring_fill_empty: "Times the kernel found a fill ring empty; in copy mode each is in ring_receive_dropped, too",
        ring_receive_invalid: "Fill ring entries the kernel refused",
        ring_transmit_invalid: "Transmit ring entries the kernel refused",
        forwarding_ended: "Times the kernel was told to forward no more flows, because what it forwarded did not leave",
        fallbacks: "Times a device went on through kernel sockets, because its interface or its program was gone",
    }
}
