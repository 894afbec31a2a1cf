//! What both sides can send and receive.

use engine::stream::{Codec, Format};

use super::super::{Attribute, MediaDescription, RtpMap};

/// What one payload type of an audio `m=` line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Speech.
    Codec(Codec),
    /// DTMF (RFC 4733) on the 8 kHz clock.
    TelephoneEvent,
    /// Comfort noise (RFC 3389).
    ComfortNoise,
}

/// The payload types of `media` that mean something to us, in its order, each once.
pub(super) fn known_formats(media: &MediaDescription) -> Vec<(u8, Meaning)> {
    let mut known: Vec<(u8, Meaning)> = Vec::new();
    for payload_type in media.payload_types() {
        if known.iter().all(|&(earlier, _)| earlier != payload_type)
            && let Some(meaning) = meaning(media, payload_type)
        {
            known.push((payload_type, meaning));
        }
    }
    known
}

/// `a=rtpmap` decides, else the static assignment of RFC 3551 section 6.
fn meaning(media: &MediaDescription, payload_type: u8) -> Option<Meaning> {
    let Some(RtpMap { encoding, clock_rate, channels, .. }) = media.rtpmap(payload_type) else {
        return match payload_type {
            COMFORT_NOISE => Some(Meaning::ComfortNoise),
            _ => Codec::from_static_payload_type(payload_type).map(Meaning::Codec),
        };
    };
    let channels = channels.unwrap_or(1);
    if let Some(codec) = Codec::from_rtpmap(encoding, *clock_rate, channels) {
        return Some(Meaning::Codec(codec));
    }
    if *clock_rate != EVENT_CLOCK_RATE_HZ || channels != 1 {
        return None;
    }
    match encoding.to_ascii_lowercase().as_str() {
        "telephone-event" => Some(Meaning::TelephoneEvent),
        "cn" => Some(Meaning::ComfortNoise),
        _ => None,
    }
}

/// Appends a payload type and its lines to a description of ours.
pub(super) fn write_format(media: &mut MediaDescription, payload_type: u8, meaning: Meaning) {
    let (encoding, clock_rate, channels) = match meaning {
        Meaning::Codec(codec) => (codec.name(), codec.clock_rate_hz(), codec.rtpmap_channels()),
        Meaning::TelephoneEvent => ("telephone-event", EVENT_CLOCK_RATE_HZ, 1),
        Meaning::ComfortNoise => ("CN", EVENT_CLOCK_RATE_HZ, 1),
    };
    media.formats.push(payload_type.to_string());
    media.attributes.push(Attribute::RtpMap(RtpMap {
        payload_type,
        encoding: encoding.to_owned(),
        clock_rate,
        channels: (channels != 1).then_some(channels),
    }));
    if meaning == Meaning::TelephoneEvent {
        // RFC 4733 section 7.1.1: the keys, and 16 for the hook flash.
        media
            .attributes
            .push(Attribute::Fmtp { format: payload_type.to_string(), parameters: "0-16".into() });
    }
}

/// The first codec among `formats`.
pub(super) fn first_codec(formats: &[(u8, Meaning)]) -> Option<Format> {
    formats.iter().find_map(|&(payload_type, meaning)| match meaning {
        Meaning::Codec(codec) => Some(Format { payload_type, codec }),
        _ => None,
    })
}

/// The first payload type among `formats` with this meaning.
pub(super) fn payload_type_of(formats: &[(u8, Meaning)], wanted: Meaning) -> Option<u8> {
    formats.iter().find(|&&(_, meaning)| meaning == wanted).map(|&(payload_type, _)| payload_type)
}

pub(super) const PCMU: u8 = 0;
pub(super) const COMFORT_NOISE: u8 = 13;
/// The payload type of telephone-event in our offers; the one most phones use.
pub(super) const TELEPHONE_EVENT: u8 = 101;
/// Payload types from here on mean what an `a=rtpmap` says (RFC 3551 section 6).
pub(super) const FIRST_DYNAMIC: u8 = 96;
const EVENT_CLOCK_RATE_HZ: u32 = 8000;
