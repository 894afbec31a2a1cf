//! DTMF as telephone-events (RFC 4733), and as tones in audio ([`inband`]).

mod event;
pub mod inband;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use event::TelephoneEvent;
pub use receiver::{DtmfReceiver, ReceivedDigit};
pub use sender::{DtmfSender, EventPacket};
