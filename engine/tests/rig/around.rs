//! For devices around devices: the methods that only pass on what they are asked.

#[allow(unused_macros, reason = "not every test wraps a device")]
/// Makes the named methods of [`xdp::Device`], each of which asks `self.inner`.
macro_rules! pass_on {
    (@open) => {
        fn open(&mut self, local: std::net::SocketAddr) -> std::io::Result<xdp::PortIndex> {
            self.inner.open(local)
        }
    };
    (@local_address) => {
        fn local_address(&self, port: xdp::PortIndex) -> Option<std::net::SocketAddr> {
            self.inner.local_address(port)
        }
    };
    (@close) => {
        fn close(&mut self, port: xdp::PortIndex) {
            self.inner.close(port);
        }
    };
    (@connect) => {
        fn connect(&mut self, port: xdp::PortIndex, remote: Option<std::net::SocketAddr>) {
            self.inner.connect(port, remote);
        }
    };
    (@receive) => {
        fn receive(&mut self, budget: usize, handle: &mut xdp::Handle<'_>) -> usize {
            self.inner.receive(budget, handle)
        }
    };
    (@transmit) => {
        fn transmit(
            &mut self,
            write: &mut dyn FnMut(&mut [u8]) -> Option<xdp::Outgoing>,
        ) -> Result<bool, xdp::Full> {
            self.inner.transmit(write)
        }
    };
    (@flush) => {
        fn flush(&mut self) {
            self.inner.flush();
        }
    };
    (@flows) => {
        fn promote(&mut self, port: xdp::PortIndex, flow: &xdp::Flow) -> Result<(), xdp::Unpromoted> {
            self.inner.promote(port, flow)
        }
        fn demote(&mut self, port: xdp::PortIndex) -> Option<xdp::FlowCounters> {
            self.inner.demote(port)
        }
        fn flow_counters(&self, port: xdp::PortIndex) -> Option<xdp::FlowCounters> {
            self.inner.flow_counters(port)
        }
    };
    (@wait) => {
        fn wait(&mut self, timeout: std::time::Duration) {
            self.inner.wait(timeout);
        }
    };
    (@rest) => {
        fn doorbell(&self) -> xdp::Doorbell {
            self.inner.doorbell()
        }
        fn counters(&self) -> std::sync::Arc<xdp::DeviceCounters> {
            self.inner.counters()
        }
        fn name(&self) -> &'static str {
            self.inner.name()
        }
    };
    ($($method:ident)+) => { $($crate::rig::pass_on!(@$method);)+ };
}

pub(crate) use pass_on;
