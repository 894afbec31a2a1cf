//! A relay: the packets of two parties go on to each other without being decoded (architecture D7).

mod parameters;

pub use parameters::{Conversion, RelayFormat, RelayFormats, RelayLeg, RelayParameters, RelayTaps, Side};
