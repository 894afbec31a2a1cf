//! What every call needs to know.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use engine::stream::{Codec, SourcePolicy};

/// What every call needs to know. The defaults run on a laptop.
#[derive(Clone, Debug)]
pub struct CallConfig {
    /// The media addresses to advertise in SDP (`--media-address`), best first; of these the one nearest to
    /// the address that the INVITE came in on is taken. An address that is not local to this host (NAT) is
    /// advertised while media is received on all addresses. Empty uses the address that the INVITE came in on.
    pub media_addresses: Vec<IpAddr>,
    /// The codecs, most preferred first.
    pub codecs: Vec<Codec>,
    /// Audio per packet if the peer does not say, 10 to 60 ms.
    pub ptime: Duration,
    /// Whose packets to believe.
    pub source_policy: SourcePolicy,
    /// How long to let it ring before the answer.
    pub answer_delay: Duration,
    /// Ends a call from which no media comes for so long; zero never does.
    pub media_timeout: Duration,
    /// The same while on hold.
    pub hold_timeout: Duration,
    /// How long audio that an agent queued before it hung up is still played.
    pub goodbye_limit: Duration,
    /// Calls at once; further ones get 503 with Retry-After.
    pub max_calls: usize,
    /// The Retry-After of a 503.
    pub retry_after: Duration,
    /// Our own control sockets (SIP, HTTP); SDP that asks to send media there is refused.
    pub control_addresses: Vec<SocketAddr>,
    /// Writes whole numbers and names to logs and the list of calls; else all but the last two characters
    /// are masked.
    pub show_numbers: bool,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            media_addresses: Vec::new(),
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            ptime: Duration::from_millis(20),
            source_policy: SourcePolicy::Latch,
            answer_delay: Duration::ZERO,
            media_timeout: Duration::from_secs(60),
            hold_timeout: Duration::from_secs(3600),
            goodbye_limit: Duration::from_secs(10),
            max_calls: 2000,
            retry_after: Duration::from_secs(10),
            control_addresses: Vec::new(),
            show_numbers: false,
        }
    }
}
