//! A second observer of the packets that a worker sends and receives; `streamload` measures with it.

/// Called by the worker's thread. `at` is the place of the call: its number modulo the number of places.
pub(super) trait Tap: Send {
    /// Every tick, before packets are read. `offset_ns` is [`super::clock::realtime_offset_ns`].
    fn poll(&mut self, offset_ns: i64) -> anyhow::Result<()>;

    /// A call begins.
    fn placed(&mut self, at: usize, number: u64);

    /// An audio packet left at `sent_ns`. `index` is its first sample in everything this call sent.
    fn sent(&mut self, at: usize, index: i64, payload: &[u8], sent_ns: u64);

    /// Audio came that did not come before.
    fn received(&mut self, at: usize, payload: &[u8], arrival_ns: u64);

    /// The media of a call is over.
    fn ended(&mut self, at: usize);
}
