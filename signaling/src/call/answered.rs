//! An answered call, as the task that runs its app sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::command::Digit;
use engine::stream::{App, PlayoutReport, StreamStatistics};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::end::CallEnd;
use super::leg::Leg;
use super::request::{CallRequest, Gathered};
use super::table::{CallEntry, CallState, CallSummary, HangUp};
use super::{CallContext, Quiet, info, milliseconds};
use crate::media::{MediaError, MediaEvent};
use crate::sip::{
    OfferRequest, OfferWanted, RequestError, Session, SessionEvent, TransferError, TransferTarget,
    Transferred,
};

/// An answered call. Its owner calls [`Call::next`] and gives the result to [`Call::handle`], over and over,
/// until that tells the end, and then calls [`Call::finish`].
pub(crate) struct Call {
    context: Arc<CallContext>,
    entry: CallEntry,
    leg: Leg,
    session: Session,
    hang_up: Pin<Box<dyn Future<Output = HangUp> + Send>>,
    /// Whether media has been agreed on once; a later offer that fails changes nothing.
    agreed: bool,
}

/// Something that happened and is still to be handled.
#[derive(Debug)]
pub(crate) enum Signal {
    Sip(SessionEvent),
    Media(MediaEvent),
    HangUp(HangUp),
    Request(CallRequest),
}

/// What an app wants to know.
#[derive(Debug)]
pub(crate) enum CallEvent {
    /// The answer to our offer has come; until then no audio flows.
    MediaAgreed,
    /// The caller pressed a key.
    Digit(Digit),
    /// A player is done, or was replaced.
    PlayFinished(PlayoutReport),
    /// Somebody outside wants something of the app.
    Requested(CallRequest),
    /// Nothing more will happen.
    Ended(CallEnd),
}

impl Call {
    pub(crate) fn new(context: Arc<CallContext>, entry: CallEntry, leg: Leg, session: Session) -> Self {
        let hang_up = Box::pin(entry.hang_up());
        let agreed = !leg.is_offering();
        let call = Self { context, entry, leg, session, hang_up, agreed };
        call.tell_table();
        call
    }

    /// Waits for the next thing that happens. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            event = self.session.next_event() => Signal::Sip(event),
            event = self.leg.stream_mut().next_event() => Signal::Media(event),
            wanted = &mut self.hang_up => Signal::HangUp(wanted),
            request = self.entry.next_request() => Signal::Request(request),
        }
    }

    /// Does what is to be done about it. Not cancel safe, and never waits for the peer.
    pub(crate) async fn handle(&mut self, signal: Signal) -> Option<CallEvent> {
        match signal {
            Signal::Sip(event) => self.handle_session(event).await,
            Signal::Media(event) => self.handle_media(event),
            Signal::Request(request) => Some(CallEvent::Requested(request)),
            Signal::HangUp(wanted) => Some(CallEvent::Ended(CallEnd::HungUp(wanted))),
        }
    }

    /// Whether media has been agreed on.
    pub(crate) const fn has_media(&self) -> bool {
        self.agreed
    }

    /// Changes what the caller hears and who hears the caller.
    pub(crate) async fn attach(&mut self, app: App) -> Result<(), MediaError> {
        self.leg.stream().attach(app).await
    }

    /// Presses a key at the caller's side.
    pub(crate) async fn press(&mut self, digit: Digit, duration: Duration) -> Result<(), MediaError> {
        self.leg.stream().send_dtmf(digit, duration).await
    }

    /// Asks the caller's phone to call `target` instead of us, and tells what became of that.
    pub(crate) fn transfer(
        &self,
        target: TransferTarget,
    ) -> impl Future<Output = Result<Transferred, TransferError>> + Send + use<> {
        let session = self.session.handle();
        info!(%target, "the call is being transferred");
        async move { session.refer(target, TRANSFER_PATIENCE).await }
    }

    /// Offers the peer to be put on hold or taken back; [`Self::settle`] takes what becomes of that.
    pub(crate) fn hold(
        &mut self,
        on: bool,
    ) -> impl Future<Output = Result<String, RequestError>> + Send + use<> {
        let sdp = self.leg.hold(on);
        let session = self.session.handle();
        async move { session.reinvite(sdp).await }
    }

    /// Takes the answer to an offer of ours in the session, or that there is none.
    pub(crate) async fn settle(&mut self, answer: Result<String, RequestError>) -> Result<(), String> {
        let settled = match answer {
            Ok(answer) => self.leg.handle_answer(&answer).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if settled.is_err() {
            self.leg.withdraw_hold();
        }
        self.tell_table();
        settled
    }

    /// Tells which keys were collected.
    pub(crate) fn tell_gathered(&self, gathered: Gathered) {
        self.entry.update(|summary| summary.gathered = Some(gathered));
    }

    /// Says whose part the call has now.
    pub(crate) fn tell_agent(&self, name: &str) {
        self.entry.update(|summary| summary.agent = Some(name.to_owned()));
    }

    /// Hangs up if the session still runs, ends the stream, and leaves the table. Returns what is known of it then.
    pub(crate) async fn finish(self, end: &CallEnd) -> (Option<CallSummary>, Option<StreamStatistics>) {
        let Self { context, entry, leg, mut session, .. } = self;
        entry.update(|summary| summary.state = CallState::Ending);
        end.count(context.counters());
        entry.set_stream(None);
        let mut session_ended = false;
        if end.follows_audio() {
            session_ended = timeout(PLAYOUT_TAIL, ended(&mut session)).await.is_ok();
        }
        let bye = async {
            let Some(reason) = end.bye_reason().filter(|_| !session_ended) else { return };
            session.handle().bye(Some(reason)).await;
            // The session goes on repeating the BYE without us.
            let _ = timeout(BYE_PATIENCE, ended(&mut session)).await;
        };
        let ((), statistics) = tokio::join!(bye, leg.into_stream().remove());
        let statistics = statistics.ok();
        if let Some(statistics) = &statistics {
            context.counters().count_media(statistics);
        }
        log_end(end, statistics.as_ref());
        (context.table.call(entry.id()), statistics)
    }

    async fn handle_session(&mut self, event: SessionEvent) -> Option<CallEvent> {
        match event {
            SessionEvent::Confirmed { answer } => self.handle_confirmed(answer).await,
            SessionEvent::Offer(offer) => {
                self.handle_offer(offer).await;
                None
            }
            SessionEvent::OfferWanted(wanted) => {
                self.handle_offer_wanted(wanted);
                None
            }
            SessionEvent::Info { content_type, body } => self.handle_info(&content_type, &body).await,
            SessionEvent::Ended { cause } => Some(CallEvent::Ended(CallEnd::Session(cause))),
        }
    }

    async fn handle_confirmed(&mut self, answer: Option<String>) -> Option<CallEvent> {
        match answer {
            None if !self.agreed => {
                if let Some(suppressed) = NO_ANSWER.allows(Instant::now()) {
                    warn!(suppressed, "the caller acknowledged without an answer to our offer; hanging up");
                }
                Some(CallEvent::Ended(CallEnd::OfferFailed))
            }
            None => None,
            Some(answer) => match self.leg.handle_answer(&answer).await {
                Ok(()) => {
                    self.agreed = true;
                    self.tell_table();
                    Some(CallEvent::MediaAgreed)
                }
                Err(error) if !self.agreed => {
                    if let Some(suppressed) = NO_ANSWER.allows(Instant::now()) {
                        warn!(%error, suppressed, "the caller's answer to our offer does not fit; hanging up");
                    }
                    Some(CallEvent::Ended(CallEnd::OfferFailed))
                }
                Err(error) => {
                    info!(%error, "the caller's answer to our offer does not fit; the call goes on as it was");
                    self.context.counters().offers_refused.increment();
                    None
                }
            },
        }
    }

    async fn handle_offer(&mut self, offer: OfferRequest) {
        let was_held = self.leg.is_held();
        match self.leg.handle_offer(offer.sdp()).await {
            Ok(sdp) => {
                offer.answer(sdp);
                self.context.counters().offers_accepted.increment();
                if self.leg.is_held() && !was_held {
                    self.context.counters().holds.increment();
                }
                let parameters = self.leg.parameters();
                debug!(
                    remote_rtp = ?parameters.remote_rtp, direction = ?parameters.direction, codec = parameters.send.codec.name(),
                    "the session was changed"
                );
                self.tell_table();
            }
            Err(error) => {
                if let Some(suppressed) = OFFER_REFUSED.allows(Instant::now()) {
                    info!(%error, suppressed, "an offer was refused; the call goes on as it was");
                }
                self.context.counters().offers_refused.increment();
                let rejection = error.rejection(&self.context);
                // Inside a session a description that makes no sense is refused like one that does not fit.
                let status = if rejection.status == 400 { 488 } else { rejection.status };
                offer.reject(crate::sip::Rejection { status, ..rejection });
            }
        }
    }

    fn handle_offer_wanted(&mut self, wanted: OfferWanted) {
        let sdp = self.leg.make_offer();
        wanted.offer(sdp);
    }

    async fn handle_info(&mut self, content_type: &str, body: &[u8]) -> Option<CallEvent> {
        let Some((digit, duration)) = info::parse_dtmf(content_type, body) else {
            self.context.counters().infos_refused.increment();
            debug!(content_type, "an INFO without a DTMF digit");
            return None;
        };
        self.context.counters().digits_info.increment();
        // Which key it was may be part of a PIN.
        debug!(?duration, "a key was pressed, by INFO");
        if let Err(error) = self.leg.stream().relay_dtmf(digit, duration).await {
            warn!(%error, "a key did not reach the app");
        }
        Some(CallEvent::Digit(digit))
    }

    fn handle_media(&mut self, event: MediaEvent) -> Option<CallEvent> {
        match event {
            MediaEvent::Latched(remote) => {
                debug!(%remote, "media comes from the caller");
                self.entry.update(|summary| summary.remote_rtp = Some(remote));
                None
            }
            MediaEvent::Dtmf { digit, duration, inband } => {
                let counters = self.context.counters();
                if inband { &counters.digits_inband } else { &counters.digits_rtp }.increment();
                debug!(?duration, inband, "a key was pressed, by RTP");
                Some(CallEvent::Digit(digit))
            }
            MediaEvent::PlayFinished(report) => Some(CallEvent::PlayFinished(report)),
            MediaEvent::Timeout => Some(CallEvent::Ended(CallEnd::MediaTimeout)),
            MediaEvent::RemoteBye => {
                // SIP decides about the call; many senders say BYE in RTCP when they only change their SSRC.
                self.context.counters().remote_rtcp_byes.increment();
                debug!("RTCP BYE came");
                None
            }
            MediaEvent::Lost => Some(CallEvent::Ended(CallEnd::MediaLost)),
        }
    }

    fn tell_table(&self) {
        let parameters = *self.leg.parameters();
        let state = if self.has_media() && (self.leg.is_held() || self.leg.holds()) {
            CallState::Held
        } else {
            CallState::Answered
        };
        let local = self.leg.advertised();
        self.entry.update(|summary| {
            summary.state = state;
            summary.codec = Some(parameters.send.codec);
            summary.remote_rtp = parameters.remote_rtp;
            summary.local_rtp = Some(local);
        });
        self.entry.set_stream(Some(self.leg.stream().handle()));
    }
}

async fn ended(session: &mut Session) {
    while !matches!(session.next_event().await, SessionEvent::Ended { .. }) {}
}

fn log_end(end: &CallEnd, statistics: Option<&StreamStatistics>) {
    let Some(statistics) = statistics else {
        info!(cause = end.name(), "call ended");
        return;
    };
    info!(
        cause = end.name(),
        received_packets = statistics.received_packets,
        lost_packets = statistics.lost_packets,
        late_packets = statistics.late_packets,
        stranger_packets = statistics.stranger_packets,
        jitter_ms = milliseconds(statistics.jitter),
        sent_packets = statistics.sent_packets,
        remote_lost_packets = statistics.remote_lost_packets,
        round_trip_ms = statistics.round_trip.map(milliseconds),
        "call ended"
    );
}

/// How long the phone may take to reach the target: it rings there.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(60);

/// How long a call that hangs up stays in the table for its BYE to be answered.
const BYE_PATIENCE: Duration = Duration::from_secs(4);

/// How long the last sample is ahead of the caller's ear: the network and the phone's jitter buffer. A phone that
/// gets BYE plays nothing any more.
const PLAYOUT_TAIL: Duration = Duration::from_millis(200);

static NO_ANSWER: Quiet = Quiet::warnings();
static OFFER_REFUSED: Quiet = Quiet::new(100, Duration::from_millis(100));
