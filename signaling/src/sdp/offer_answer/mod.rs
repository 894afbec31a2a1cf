//! The offer/answer model (RFC 3264) for one audio stream.
//!
//! ```text
//! offer -> answer(..) -> Answer { stream parameters, m-lines } -> LocalSession::describe(address) -> text
//! LocalSession::offer(..) -> Offer -> text ... answer text -> Offer::apply_answer(..) -> stream parameters
//! ```
//! The answer and the stream parameters come out as one value, so that what the peer is told and what the
//! engine does cannot differ.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use engine::stream::{Codec, Direction, Formats, SourcePolicy, StreamParameters, TelephoneEventFormat};

use super::{Attribute, MediaDescription, SessionDescription};
use formats::Meaning;

mod formats;
mod offer;
mod refusal;
mod remote;
mod session;

pub use offer::{Offer, offer};
pub use refusal::Refusal;
pub use session::LocalSession;

/// The address families that we have media addresses of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// IP4.
    pub ipv4: bool,
    /// IP6.
    pub ipv6: bool,
}

impl Families {
    /// Both.
    pub const BOTH: Self = Self { ipv4: true, ipv6: true };

    /// Only that of `address`, as for a stream that has its local address already.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        Self { ipv4: address.is_ipv4(), ipv6: address.is_ipv6() }
    }

    const fn contains(self, ipv6: bool) -> bool {
        if ipv6 { self.ipv6 } else { self.ipv4 }
    }
}

/// What this side can do, and what it will not do.
#[derive(Clone, Debug)]
pub struct LocalMedia {
    /// The codecs that we have, most preferred first. The order decides in our offers; in our answers that of
    /// the offerer does (RFC 3264 section 6.1).
    pub codecs: Vec<Codec>,
    /// Audio per packet if the peer does not say.
    pub ptime: Duration,
    /// The families of our media addresses.
    pub families: Families,
    /// Whether the stream that is running has one port for RTP and RTCP; `None` before there is one.
    pub rtcp_mux: Option<bool>,
    /// Whether we have put the peer on hold: we do not want to hear it.
    pub held: bool,
    /// Our own control sockets, which media is never sent to.
    pub control_addresses: Vec<SocketAddr>,
    /// Our own addresses, for control sockets that listen on all of them.
    pub own_addresses: Vec<IpAddr>,
    /// Passed on to the stream.
    pub source_policy: SourcePolicy,
    /// Passed on to the stream.
    pub media_timeout: Duration,
    /// Passed on to the stream.
    pub hold_timeout: Duration,
}

impl Default for LocalMedia {
    fn default() -> Self {
        Self {
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            ptime: Duration::from_millis(20),
            families: Families::BOTH,
            rtcp_mux: None,
            held: false,
            control_addresses: Vec::new(),
            own_addresses: Vec::new(),
            source_policy: SourcePolicy::Latch,
            media_timeout: Duration::from_secs(60),
            hold_timeout: Duration::from_secs(3600),
        }
    }
}

/// What was agreed on: what the engine does, and what the peer is told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For the engine.
    pub stream: StreamParameters,
    /// Whether our media address must be of IP6: the family of the offer.
    pub ipv6: bool,
    /// The m-lines of the answer; the port of the accepted one is filled in when it is known.
    pub(super) media: Vec<MediaDescription>,
    pub(super) accepted: usize,
}

/// Answers an offer (RFC 3264 section 6): the first audio m-line that we can use is accepted, every other one
/// is refused with port 0.
///
/// # Errors
/// [`Refusal`] when there is no such m-line.
pub fn answer(offer: &SessionDescription, local: &LocalMedia) -> Result<Answer, Refusal> {
    let mut refusal = if offer.media.is_empty() { Refusal::NoMedia } else { Refusal::NoAudio };
    for (index, media) in offer.media.iter().enumerate() {
        match accept(offer, media, local) {
            Ok((stream, ipv6, accepted)) => {
                let mut answered: Vec<_> = offer.media.iter().map(refused).collect();
                if let Some(slot) = answered.get_mut(index) {
                    *slot = accepted;
                }
                return Ok(Answer { stream, ipv6, media: answered, accepted: index });
            }
            Err(Refusal::NoAudio) => {}
            // The first audio that was tried tells most about what is wrong.
            Err(other) if refusal == Refusal::NoAudio => refusal = other,
            Err(_) => {}
        }
    }
    Err(refusal)
}

fn accept(
    offer: &SessionDescription,
    media: &MediaDescription,
    local: &LocalMedia,
) -> Result<(StreamParameters, bool, MediaDescription), Refusal> {
    if media.kind != "audio" || media.port == 0 {
        return Err(Refusal::NoAudio);
    }
    if !is_plain_rtp(&media.protocol) {
        return Err(Refusal::Transport);
    }
    let formats: Vec<_> = common_formats(media, local);
    let send = formats::first_codec(&formats).ok_or(Refusal::Format)?;
    let remote = remote::remote(offer, media, local)?;
    let offered = offer.direction_of(media);
    // RFC 3264 section 8.4: the old way to hold is a direction in disguise.
    let direction = without_sending(reverse(offered), remote.rtp.is_none());
    let direction = without_receiving(direction, local.held);
    let ptime = remote::ptime(offer, media, local.ptime);

    let mut answered = described(&media.protocol, &formats, ptime, direction);
    let rtcp_mux = local.rtcp_mux.unwrap_or(remote.rtcp_mux);
    if rtcp_mux && remote.rtcp_mux {
        answered.attributes.push(Attribute::RtcpMux);
    } else if rtcp_mux {
        // The peer stopped multiplexing, but the stream has only one port: tell it (RFC 3605).
        answered.attributes.push(Attribute::Rtcp { port: PORT_TO_FILL_IN, address: None });
    }
    answered.attributes.extend(mid(media));

    let event = formats::payload_type_of(&formats, Meaning::TelephoneEvent);
    let stream = StreamParameters {
        remote_rtp: remote.rtp,
        // Their RTCP port while we do not accept their multiplexing is the next one (RFC 5761 section 5.1.1).
        remote_rtcp: if remote.rtcp_mux && !rtcp_mux { next_port(remote.rtp) } else { remote.rtcp },
        rtcp_mux,
        direction,
        receive: receive_formats(&formats),
        send,
        ptime,
        telephone_event: event.map(|event| TelephoneEventFormat { receive: event, send: event }),
        comfort_noise: formats::payload_type_of(&formats, Meaning::ComfortNoise),
        source_policy: local.source_policy,
        media_timeout: local.media_timeout,
        hold_timeout: local.hold_timeout,
    };
    Ok((stream, remote.ipv6, answered))
}

/// The profiles of RFC 3551 and 4585; the feedback of the latter is optional to send.
fn is_plain_rtp(protocol: &str) -> bool {
    matches!(protocol, "RTP/AVP" | "RTP/AVPF")
}

/// What `media` has and we have too, in its order. As many codecs as a stream can hold, and telephone-event
/// and comfort noise once each.
fn common_formats(media: &MediaDescription, local: &LocalMedia) -> Vec<(u8, Meaning)> {
    let mut common: Vec<(u8, Meaning)> = Vec::new();
    for (payload_type, meaning) in formats::known_formats(media) {
        let wanted = match meaning {
            Meaning::Codec(codec) => local.codecs.contains(&codec) && common.len() < Formats::CAPACITY,
            Meaning::TelephoneEvent | Meaning::ComfortNoise => {
                common.iter().all(|&(_, earlier)| earlier != meaning)
            }
        };
        if wanted {
            common.push((payload_type, meaning));
        }
    }
    common
}

fn receive_formats(formats: &[(u8, Meaning)]) -> Formats {
    let mut receive = Formats::default();
    for &(payload_type, meaning) in formats {
        if let Meaning::Codec(codec) = meaning {
            receive.push(engine::stream::Format { payload_type, codec });
        }
    }
    receive
}

/// An m-line of ours, its port still to be filled in.
fn described(
    protocol: &str,
    formats: &[(u8, Meaning)],
    ptime: Duration,
    direction: Direction,
) -> MediaDescription {
    let mut media = MediaDescription {
        kind: "audio".to_owned(),
        port: PORT_TO_FILL_IN,
        port_count: None,
        protocol: protocol.to_owned(),
        formats: Vec::new(),
        connection: None,
        attributes: Vec::new(),
    };
    for &(payload_type, meaning) in formats {
        formats::write_format(&mut media, payload_type, meaning);
    }
    let milliseconds = u16::try_from(ptime.as_millis()).unwrap_or(u16::MAX);
    media.attributes.push(Attribute::Ptime(milliseconds));
    media.attributes.push(Attribute::Direction(direction));
    media
}

/// An m-line refused: port 0, and of the formats, which say nothing now, only the first (RFC 3264 section 6).
fn refused(media: &MediaDescription) -> MediaDescription {
    MediaDescription {
        kind: media.kind.clone(),
        port: 0,
        port_count: None,
        protocol: media.protocol.clone(),
        formats: vec![media.formats.first().map_or_else(|| "0".to_owned(), Clone::clone)],
        connection: None,
        attributes: mid(media).into_iter().collect(),
    }
}

fn mid(media: &MediaDescription) -> Option<Attribute> {
    media.attributes.iter().find(|attribute| matches!(attribute, Attribute::Mid(_))).cloned()
}

/// The same direction seen from the other side.
const fn reverse(direction: Direction) -> Direction {
    match direction {
        Direction::SendOnly => Direction::RecvOnly,
        Direction::RecvOnly => Direction::SendOnly,
        both @ (Direction::SendRecv | Direction::Inactive) => both,
    }
}

/// `direction`, sending taken away if the peer has nowhere to receive.
const fn without_sending(direction: Direction, nowhere: bool) -> Direction {
    match direction {
        Direction::SendRecv if nowhere => Direction::RecvOnly,
        Direction::SendOnly if nowhere => Direction::Inactive,
        direction => direction,
    }
}

/// `direction`, receiving taken away if the peer is on hold.
const fn without_receiving(direction: Direction, held: bool) -> Direction {
    match direction {
        Direction::SendRecv if held => Direction::SendOnly,
        Direction::RecvOnly if held => Direction::Inactive,
        direction => direction,
    }
}

fn next_port(address: Option<SocketAddr>) -> Option<SocketAddr> {
    let address = address?;
    Some(SocketAddr::new(address.ip(), address.port().checked_add(1)?))
}

/// Stands for the local port until [`LocalSession::describe`] fills it in.
const PORT_TO_FILL_IN: u16 = 9;
