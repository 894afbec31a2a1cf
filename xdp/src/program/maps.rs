//! The maps of the XDP program.

use std::sync::Arc;

use super::counters::EVENTS;
use super::entry::FLOOD_WORDS;
use super::{Options, PortTable};
use crate::bpf::{Error, Hash, Overflow, PerCpuArray, SocketMap, Sockets};

#[derive(Debug)]
pub(super) struct Maps {
    pub(super) ports: Arc<PortTable>,
    /// AF_XDP sockets by receive queue.
    pub(super) sockets: SocketMap,
    /// How often each event happened, in one entry.
    pub(super) events: PerCpuArray<[u64; EVENTS]>,
    /// Senders to ports that are not connected: when their second began, packets since.
    pub(super) floods: Hash<u64, [u64; FLOOD_WORDS]>,
}

impl Maps {
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let sources = if options.flood_limit.is_some() { options.flood_sources.max(1) } else { 1 };
        Ok(Self {
            ports: Arc::new(PortTable::new()?),
            sockets: SocketMap::new("sidetone_xsks", options.queues.max(1), Sockets::Xdp)?,
            events: PerCpuArray::new("sidetone_events", 1)?,
            floods: Hash::new("sidetone_floods", sources, Overflow::Forget)?,
        })
    }
}
