//! DTMF as telephone-events (RFC 4733).

mod event;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use event::TelephoneEvent;
pub use receiver::{DtmfReceiver, ReceivedDigit};
pub use sender::{DtmfSender, EventPacket};
