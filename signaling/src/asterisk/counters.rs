//! What the listeners for Asterisk have done.

xdp::counters! {
    /// What the listeners for Asterisk have done; what became of calls is counted with all others.
    pub struct AsteriskCounters {
        accepted: "Connections accepted",
        forbidden: "Connections closed because their network is not allowed",
        crowded: "Connections closed because too many were introducing their call",
        upgrades_refused: "WebSocket upgrades refused: path, token, or no place for a call",
        upgrades_broken: "WebSocket upgrades that were malformed or took too long",
        not_introduced: "Connections that did not introduce a call in time or in order",
        calls: "Calls introduced",
    }
}
