//! Asterisk's channel driver `chan_websocket`, both its sides.
//!
//! Audio goes in binary messages, in the codec of the channel both ways. Control is JSON, or the plain text that came
//! first and is deprecated.

mod app;
mod channel;
mod command;
mod event;
mod line;
#[cfg(test)]
mod tests;

pub(super) use app::App;
pub(super) use channel::Asterisk;
pub(super) use line::Line;

use super::{AudioFormat, Encoding};
use crate::time::Duration;

/// How control messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Control {
    #[default]
    Json,
    /// What Asterisk speaks unless it is told otherwise.
    Text,
}

/// Asterisk's names of the formats that can be cut at any sample.
fn format_name(format: AudioFormat) -> String {
    match (format.encoding, format.rate) {
        (Encoding::Pcmu, _) => "ulaw".into(),
        (Encoding::Pcma, _) => "alaw".into(),
        (Encoding::L16, 8_000) => "slin".into(),
        (Encoding::L16, rate) => format!("slin{}", rate / 1000),
    }
}

fn format_named(name: &str) -> Option<AudioFormat> {
    Some(match name {
        "ulaw" => AudioFormat::PCMU,
        "alaw" => AudioFormat::PCMA,
        "slin" => AudioFormat::l16(8_000),
        "slin16" => AudioFormat::l16(16_000),
        "slin24" => AudioFormat::l16(24_000),
        "slin32" => AudioFormat::l16(32_000),
        "slin44" => AudioFormat::l16(44_100),
        "slin48" => AudioFormat::l16(48_000),
        _ => return None,
    })
}

const PTIME_MS: u64 = 20;
const PTIME: Duration = Duration::from_millis(PTIME_MS);
/// A longer text message is ignored.
const MAX_TEXT_BYTES: usize = 128;
