//! A leg: the offer/answer state of a dialog and the stream that it decides about.

use std::net::{IpAddr, SocketAddr};

use engine::stream::{Codec, StreamParameters};

use super::CallContext;
use crate::media::{Media, MediaError, MediaStream, is_on_every_address};
use crate::sdp::offer_answer::{self, Families, LocalMedia, LocalSession, Offer, Refusal};
use crate::sdp::{ParseError, SessionDescription};
use crate::sip::{InviteInfo, Rejection};

/// A leg: the offer/answer state of a dialog and the stream that it decides about.
#[derive(Debug)]
pub(crate) struct Leg {
    local: LocalMedia,
    session: LocalSession,
    /// What the peer is told; differs from the stream's own behind NAT.
    advertised: SocketAddr,
    parameters: StreamParameters,
    stream: MediaStream,
    /// Our offer, until its answer comes.
    pending: Option<Offer>,
    /// Whether the peer was on hold before the last offer to change that.
    held_before: bool,
    media: Media,
}

/// Where the signalling of a leg runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// Our address.
    pub(crate) local: SocketAddr,
    /// The peer's, which its media is probably near.
    pub(crate) peer: IpAddr,
}

/// Why an offer or answer of the peer changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NegotiationError {
    /// Not a session description.
    #[error("{0}")]
    Parse(#[from] ParseError),
    /// Nothing fits.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The engine does not take it.
    #[error("{0}")]
    Media(#[from] MediaError),
    /// No media address of the family.
    #[error("there is no way to the media address {0}; give a --media-address of its family")]
    NoAddress(IpAddr),
    /// An answer without an offer.
    #[error("an answer came and no offer of ours waits for one")]
    NoOffer,
}

impl NegotiationError {
    /// Whether somebody on this side should look into it.
    pub(crate) const fn is_ours(&self) -> bool {
        matches!(self, Self::Media(_) | Self::NoAddress(_))
    }

    /// What SIP answers.
    pub(crate) fn rejection(&self, context: &CallContext) -> Rejection {
        match self {
            Self::Parse(error) => Rejection {
                reason: "Bad Session Description".to_owned(),
                warning: Some(format!("399 {error}")),
                ..Rejection::new(400)
            },
            Self::Refused(refusal) => {
                Rejection { warning: Some(refusal.warning_text()), ..Rejection::new(488) }
            }
            Self::NoAddress(_) => {
                let warning = Refusal::AddressFormat.warning_text();
                Rejection { warning: Some(warning), ..Rejection::new(488) }
            }
            Self::Media(MediaError::Socket { .. }) | Self::NoOffer => Rejection::new(500),
            Self::Media(_) => {
                Rejection { retry_after: Some(context.config.retry_after), ..Rejection::new(503) }
            }
        }
    }
}

impl Leg {
    /// Answers the offer of an INVITE, or makes ours if it has none, and starts the stream. Returns the
    /// description for the 200 as well.
    pub(crate) async fn new(
        context: &CallContext,
        info: &InviteInfo,
        offer: Option<&str>,
    ) -> Result<(Self, String), NegotiationError> {
        let ends = Ends { local: info.local, peer: info.remote.ip() };
        let Some(offer) = offer else { return Self::offering(context, ends, None).await };
        let local = local_media(context, ends);
        let mut session = LocalSession::new(getrandom::u64().unwrap_or_default());
        let offer = SessionDescription::parse(offer)?;
        let answer = offer_answer::answer(&offer, &local)?;
        check_control(&local, &answer.stream)?;
        let peer = answer.stream.remote_rtp.map_or(ends.peer, |remote| remote.ip());
        let (stream, advertised) =
            start_stream(context, Ends { peer, ..ends }, answer.ipv6, answer.stream).await?;
        let sdp = session.describe_answer(&answer, advertised).to_string();
        let parameters = answer.stream;
        let media = context.media.clone();
        let leg =
            Self { local, session, advertised, parameters, stream, pending: None, held_before: false, media };
        // Only now are the ports known that a caller may have guessed.
        leg.check_loop(&parameters)?;
        Ok((leg.fixed(), sdp))
    }

    /// Makes the offer of a call, with these codecs if there are any that we have, and starts the stream. Returns the
    /// description as well.
    pub(crate) async fn offering(
        context: &CallContext,
        ends: Ends,
        codecs: Option<&[Codec]>,
    ) -> Result<(Self, String), NegotiationError> {
        let mut local = local_media(context, ends);
        if let Some(codecs) = codecs {
            let common: Vec<Codec> =
                codecs.iter().copied().filter(|codec| local.codecs.contains(codec)).collect();
            if !common.is_empty() {
                local.codecs = common;
            }
        }
        let mut session = LocalSession::new(getrandom::u64().unwrap_or_default());
        let ours = offer_answer::offer(&local, None);
        let ipv6 = context.addresses.preferred_family(ends.local.ip());
        let (stream, advertised) = start_stream(context, ends, ipv6, ours.stream).await?;
        let sdp = session.describe_offer(&ours, advertised).to_string();
        let parameters = ours.stream;
        let (pending, media) = (Some(ours), context.media.clone());
        let leg = Self { local, session, advertised, parameters, stream, pending, held_before: false, media };
        Ok((leg.fixed(), sdp))
    }

    /// Takes an answer to our offer that is not the last word: what the peer says about media before it answers.
    pub(crate) async fn handle_early_answer(&mut self, answer: &str) -> Result<(), NegotiationError> {
        let offer = self.pending.clone().ok_or(NegotiationError::NoOffer)?;
        let answer = SessionDescription::parse(answer)?;
        let parameters = offer.apply_answer(&answer, &self.local)?;
        self.apply(parameters).await
    }

    /// From now on the stream has its sockets: their family and number stay.
    fn fixed(mut self) -> Self {
        self.local.families = Families::of(self.advertised.ip());
        self.local.rtcp_mux = Some(self.parameters.rtcp_mux);
        self
    }

    /// Takes a new offer of the peer (RFC 3264 section 8): changes the running stream and answers.
    pub(crate) async fn handle_offer(&mut self, offer: &str) -> Result<String, NegotiationError> {
        let offer = SessionDescription::parse(offer)?;
        let answer = offer_answer::answer(&offer, &self.local)?;
        self.apply(answer.stream).await?;
        Ok(self.session.describe_answer(&answer, self.advertised).to_string())
    }

    /// Makes an offer: the peer sent a re-INVITE without one.
    pub(crate) fn make_offer(&mut self) -> String {
        let offer = offer_answer::offer(&self.local, self.session.last());
        let sdp = self.session.describe_offer(&offer, self.advertised).to_string();
        self.pending = Some(offer);
        sdp
    }

    /// Makes an offer that puts the peer on hold, or takes it back.
    pub(crate) fn hold(&mut self, on: bool) -> String {
        self.held_before = self.local.held;
        self.local.held = on;
        self.make_offer()
    }

    /// The peer did not take the last [`Self::hold`].
    pub(crate) fn withdraw_hold(&mut self) {
        self.local.held = self.held_before;
        self.pending = None;
    }

    /// Whether we have put the peer on hold.
    pub(crate) const fn holds(&self) -> bool {
        self.local.held
    }

    /// Whether an offer of ours waits for its answer.
    pub(crate) const fn is_offering(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes the answer to our offer.
    pub(crate) async fn handle_answer(&mut self, answer: &str) -> Result<(), NegotiationError> {
        let offer = self.pending.take().ok_or(NegotiationError::NoOffer)?;
        let answer = SessionDescription::parse(answer)?;
        let parameters = offer.apply_answer(&answer, &self.local)?;
        self.apply(parameters).await
    }

    async fn apply(&mut self, parameters: StreamParameters) -> Result<(), NegotiationError> {
        // A session refresh repeats what holds already.
        if parameters != self.parameters {
            check_control(&self.local, &parameters)?;
            self.check_loop(&parameters)?;
            self.stream.update(parameters).await?;
            self.parameters = parameters;
        }
        Ok(())
    }

    /// Media of ours must not come back to a stream of ours.
    fn check_loop(&self, parameters: &StreamParameters) -> Result<(), Refusal> {
        let own = &self.local.own_addresses;
        let looped = parameters.remote_rtp.is_some_and(|target| self.media.receives_at(target, own));
        if looped { Err(Refusal::ForbiddenAddress) } else { Ok(()) }
    }

    /// Whether the peer has put us on hold: it does not want to hear us.
    pub(crate) const fn is_held(&self) -> bool {
        !self.parameters.direction.sends()
    }

    pub(crate) const fn parameters(&self) -> &StreamParameters {
        &self.parameters
    }

    pub(crate) const fn advertised(&self) -> SocketAddr {
        self.advertised
    }

    pub(crate) const fn stream(&self) -> &MediaStream {
        &self.stream
    }

    pub(crate) const fn stream_mut(&mut self) -> &mut MediaStream {
        &mut self.stream
    }

    pub(crate) fn into_stream(self) -> MediaStream {
        self.stream
    }
}

/// Media must not go to control sockets of ours that listen on every address, by none of them.
fn check_control(local: &LocalMedia, parameters: &StreamParameters) -> Result<(), Refusal> {
    let mut targets = [parameters.remote_rtp, parameters.remote_rtcp].into_iter().flatten();
    let hit = targets.any(|target| is_on_every_address(&local.control_addresses, target));
    if hit { Err(Refusal::ForbiddenAddress) } else { Ok(()) }
}

fn local_media(context: &CallContext, ends: Ends) -> LocalMedia {
    let config = &context.config;
    let sip_local = ends.local.ip().to_canonical();
    let mut own_addresses = config.media_addresses.clone();
    own_addresses.push(sip_local);
    let mut control_addresses = config.control_addresses.clone();
    control_addresses.push(SocketAddr::new(sip_local, ends.local.port()));
    LocalMedia {
        codecs: config.codecs.clone(),
        ptime: config.ptime,
        families: Families {
            ipv4: context.addresses.has_family(false),
            ipv6: context.addresses.has_family(true),
        },
        rtcp_mux: None,
        held: false,
        control_addresses,
        own_addresses,
        source_policy: config.source_policy,
        media_timeout: config.media_timeout,
        hold_timeout: config.hold_timeout,
    }
}

/// Starts a stream; returns it and the address for SDP.
async fn start_stream(
    context: &CallContext,
    ends: Ends,
    ipv6: bool,
    parameters: StreamParameters,
) -> Result<(MediaStream, SocketAddr), NegotiationError> {
    let address = context.addresses.choose(ipv6, ends.local.ip(), ends.peer);
    let address = address.ok_or(NegotiationError::NoAddress(ends.peer))?;
    let stream = context.media.add_stream(address.bind, parameters).await?;
    let advertised = SocketAddr::new(address.advertised, stream.local().port());
    Ok((stream, advertised))
}
