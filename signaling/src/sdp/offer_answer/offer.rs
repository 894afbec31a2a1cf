//! Our own offers: to an INVITE without one, and to change a running session.

use engine::stream::{Direction, StreamParameters, TelephoneEventFormat};

use super::super::{MediaDescription, SessionDescription};
use super::formats::{self, Meaning};
use super::{LocalMedia, Refusal};

/// An offer of ours, until its answer comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// For the stream meanwhile: it receives whatever the peer sends early and sends nothing.
    pub stream: StreamParameters,
    pub(super) media: Vec<MediaDescription>,
    pub(super) audio: usize,
}

/// Offers all that we have. `previous` is what we last told the peer in the same session: the m-lines stay
/// the same in number and order, the payload types keep their meaning (RFC 3264 section 8).
#[must_use]
pub fn offer(local: &LocalMedia, previous: Option<&SessionDescription>) -> Offer {
    let ours = ours(local);
    let mut media: Vec<_> = previous.map(|previous| previous.media.clone()).unwrap_or_default();
    let audio = media.iter().position(|media| media.port != 0 && media.kind == "audio");
    let mut described = super::described("RTP/AVP", &ours, local.ptime, offered(local));
    if local.rtcp_mux == Some(true) {
        described.attributes.push(super::Attribute::RtcpMux);
    }
    let audio = match audio.and_then(|audio| media.get_mut(audio).map(|slot| (audio, slot))) {
        Some((audio, slot)) => {
            described.protocol.clone_from(&slot.protocol);
            described.attributes.extend(super::mid(slot));
            *slot = described;
            audio
        }
        None => {
            media.push(described);
            media.len() - 1
        }
    };
    Offer { stream: parameters(local, &ours, None), media, audio }
}

impl Offer {
    /// Takes the answer (RFC 3264 section 7).
    ///
    /// # Errors
    /// [`Refusal`] when the peer declined the audio or answered something else.
    pub fn apply_answer(
        &self,
        answer: &SessionDescription,
        local: &LocalMedia,
    ) -> Result<StreamParameters, Refusal> {
        if answer.media.is_empty() {
            return Err(Refusal::NoMedia);
        }
        let media = answer.media.get(self.audio).ok_or(Refusal::Mismatch)?;
        if media.kind != "audio" {
            return Err(Refusal::Mismatch);
        }
        if media.port == 0 {
            return Err(Refusal::NoAudio);
        }
        if !super::is_plain_rtp(&media.protocol) {
            return Err(Refusal::Transport);
        }
        let theirs = super::common_formats(media, local);
        let send = formats::first_codec(&theirs).ok_or(Refusal::Format)?;
        let remote = super::remote::remote(answer, media, local)?;
        let direction =
            super::without_sending(super::reverse(answer.direction_of(media)), remote.rtp.is_none());
        // Who answers a hold with both ways is not heard all the same.
        let direction = super::without_receiving(direction, local.held);
        let ours = ours(local);
        let offered_event = formats::payload_type_of(&ours, Meaning::TelephoneEvent);
        let their_event = formats::payload_type_of(&theirs, Meaning::TelephoneEvent);
        // The offer multiplexes only if the stream does already, so a yes changes nothing.
        let rtcp_mux = local.rtcp_mux == Some(true);
        Ok(StreamParameters {
            remote_rtp: remote.rtp,
            remote_rtcp: remote.rtcp,
            rtcp_mux,
            direction,
            send,
            ptime: super::remote::ptime(answer, media, local.ptime),
            telephone_event: offered_event
                .zip(their_event)
                .map(|(receive, send)| TelephoneEventFormat { receive, send }),
            comfort_noise: formats::payload_type_of(&theirs, Meaning::ComfortNoise),
            ..parameters(local, &ours, Some(send))
        })
    }
}

const fn offered(local: &LocalMedia) -> Direction {
    super::without_receiving(Direction::SendRecv, local.held)
}

/// What we offer, with the payload types we give it.
fn ours(local: &LocalMedia) -> Vec<(u8, Meaning)> {
    let mut codecs = local.codecs.clone();
    codecs.dedup();
    let mut dynamic = (formats::FIRST_DYNAMIC..=127).filter(|&number| number != formats::TELEPHONE_EVENT);
    let mut ours: Vec<_> = codecs
        .into_iter()
        .filter_map(|codec| {
            let payload_type = codec.static_payload_type().or_else(|| dynamic.next())?;
            Some((payload_type, Meaning::Codec(codec)))
        })
        .collect();
    ours.push((formats::COMFORT_NOISE, Meaning::ComfortNoise));
    ours.push((formats::TELEPHONE_EVENT, Meaning::TelephoneEvent));
    ours
}

/// The stream before an answer is known.
fn parameters(
    local: &LocalMedia,
    ours: &[(u8, Meaning)],
    send: Option<engine::stream::Format>,
) -> StreamParameters {
    let first = formats::first_codec(ours);
    let event = formats::payload_type_of(ours, Meaning::TelephoneEvent);
    StreamParameters {
        remote_rtp: None,
        remote_rtcp: None,
        rtcp_mux: local.rtcp_mux == Some(true),
        direction: offered(local),
        receive: super::receive_formats(ours),
        send: send.or(first).unwrap_or(engine::stream::Format {
            payload_type: formats::PCMU,
            codec: engine::stream::Codec::Pcmu,
        }),
        ptime: local.ptime,
        telephone_event: event.map(|event| TelephoneEventFormat { receive: event, send: event }),
        comfort_noise: formats::payload_type_of(ours, Meaning::ComfortNoise),
        source_policy: local.source_policy,
        media_timeout: local.media_timeout,
        hold_timeout: local.hold_timeout,
    }
}
