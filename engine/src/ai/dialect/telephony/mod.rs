//! What the relatives of Twilio Media Streams have in common: base64 audio in JSON events.

#[cfg(test)]
pub(super) mod tests;

use serde::Deserialize;
use serde_json::Value;

use super::json::{self, Text};
use super::{Ignored, base64};

/// A message from the backend. Everything is optional, so that what is missing can be told apart; the names of all
/// relatives are known, since each has its own for the stream.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub(super) event: Text<'a>,
    #[serde(borrow, default, alias = "streamId", alias = "streamSid", alias = "stream_sid")]
    stream_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    media: Option<Media<'a>>,
    #[serde(borrow, default)]
    mark: Option<Mark<'a>>,
    /// Plivo's name of a checkpoint.
    #[serde(borrow, default)]
    pub(super) name: Option<Text<'a>>,
    /// Plivo's digits.
    #[serde(default)]
    pub(super) dtmf: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct Media<'a> {
    #[serde(borrow, default)]
    payload: Option<Text<'a>>,
    #[serde(borrow, default, rename = "contentType")]
    pub(super) content_type: Option<Text<'a>>,
    /// A number, or one in a string.
    #[serde(default, rename = "sampleRate")]
    pub(super) sample_rate: Option<Value>,
}

#[derive(Deserialize)]
struct Mark<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
}

impl<'a> Message<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Ignored> {
        json::object(message).ok_or(Ignored::BadJson)
    }

    /// Whether it names another stream.
    pub(super) fn is_for_another_than(&self, stream_id: &str) -> bool {
        self.stream_id.as_ref().is_some_and(|id| id.0 != stream_id)
    }

    pub(super) fn media(&self) -> Option<&Media<'a>> {
        self.media.as_ref()
    }

    /// Appends the audio; answers how much it was.
    pub(super) fn append_audio(&self, audio: &mut Vec<u8>) -> Result<usize, Ignored> {
        let payload = self.media.as_ref().and_then(|media| media.payload.as_ref());
        base64::append_decoded(&payload.ok_or(Ignored::MediaWithoutPayload)?.0, audio)
    }

    pub(super) fn mark_name(self) -> Result<String, Ignored> {
        let name = self.mark.and_then(|mark| mark.name).ok_or(Ignored::MarkWithoutName)?;
        Ok(name.0.into_owned())
    }
}

/// Samples of the timestamps of the model per millisecond.
pub(super) const SAMPLES_PER_MS: u64 = 8;

/// Turns 16-bit samples of the other byte order into ours and back, over the borders of messages.
#[derive(Debug, Default)]
pub(super) struct Swap {
    odd: Option<u8>,
}

impl Swap {
    /// Swaps what was appended to `audio` from `start` on. A byte without its other half waits for the next time.
    pub(super) fn from(&mut self, start: usize, audio: &mut Vec<u8>) {
        if audio.len() == start {
            return;
        }
        if let Some(odd) = self.odd.take() {
            audio.insert(start, odd);
        }
        if !(audio.len() - start).is_multiple_of(2) {
            self.odd = audio.pop();
        }
        for [first, second] in audio.get_mut(start..).unwrap_or_default().as_chunks_mut::<2>().0 {
            std::mem::swap(first, second);
        }
    }

    /// Forgets what waits.
    pub(super) fn reset(&mut self) {
        self.odd = None;
    }
}

/// A moment in UTC as RFC 3339 section 5.6 writes it, to the millisecond.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Years from March on, so that the leap day is the last; 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1000 % 60,
        ms % 1000
    )
}
