//! Flows that the kernel forwards by itself.

use super::Core;
use crate::{Flow, FlowCounters, PortIndex, Unpromoted};

impl Core {
    pub(super) fn promote(&mut self, port: PortIndex, flow: &Flow) -> Result<(), Unpromoted> {
        let _ = (port, flow);
        Err(Unpromoted::Device)
    }

    pub(super) fn demote(&mut self, port: PortIndex) -> Option<FlowCounters> {
        let _ = port;
        None
    }

    pub(super) fn flow_counters(&self, port: PortIndex) -> Option<FlowCounters> {
        let _ = port;
        None
    }
}
