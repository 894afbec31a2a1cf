//! One call: a task that owns its parties and their relays, and takes commands one after the other.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use engine::relay::{RelayStatistics, Side};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::command::Command;
use super::options::Options;
use super::table::{Job, Shared};
use super::value::Dictionary;
use crate::call::{CallEntry, CallState};
use crate::exchange::sdp::{Body, BodyError};
use crate::exchange::{Description, ExchangeError, ports};
use crate::media::{MediaError, RelayEvent};

mod dialogue;
mod parties;
mod report;

use dialogue::Dialogue;
use parties::{Naming, Pair, Parties, PartyError, PartyId};

/// Why a command about a call failed; the texts are those that proxies know, where they know any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    NoSdp,
    NoCallId,
    NoFromTag,
    NoToTag,
    UnknownCall,
    NotFound,
    NoOffer,
    Exchange(ExchangeError),
    Party(PartyError),
}

impl From<BodyError> for CallError {
    fn from(error: BodyError) -> Self {
        Self::Exchange(error.into())
    }
}

impl From<ExchangeError> for CallError {
    fn from(error: ExchangeError) -> Self {
        Self::Exchange(error)
    }
}

impl From<PartyError> for CallError {
    fn from(error: PartyError) -> Self {
        Self::Party(error)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSdp => f.write_str("No SDP body in message"),
            Self::NoCallId => f.write_str("No call-id in message"),
            Self::NoFromTag => f.write_str("No from-tag in message"),
            Self::NoToTag => f.write_str("No to-tag in message"),
            Self::UnknownCall => f.write_str("Unknown call-id"),
            Self::NotFound => f.write_str(NOT_FOUND),
            Self::NoOffer => f.write_str("Invalid dialogue association: there was no offer to answer"),
            Self::Exchange(error) => error.fmt(f),
            Self::Party(error) => error.fmt(f),
        }
    }
}

/// A call's task and all it owns.
#[derive(Debug)]
pub(super) struct Call {
    shared: Arc<Shared>,
    call_id: String,
    entry: CallEntry,
    inbox: mpsc::Receiver<Job>,
    parties: Parties,
    created: SystemTime,
    last_signal: SystemTime,
    deletions: Vec<Deletion>,
    /// When silence is looked for again, because a relay could not say. Its event does not come twice.
    recheck: Option<Instant>,
}

/// A deletion that waits for its time.
#[derive(Clone, Copy, Debug)]
struct Deletion {
    at: Instant,
    /// `None` is the whole call.
    party: Option<PartyId>,
}

/// What the task wakes up for.
enum Wake {
    Job(Option<Job>),
    Relay(RelayEvent),
    Deletion,
    Recheck,
    HangUp,
}

/// Whether media flows in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    Yes,
    No,
    /// A relay could not say, and no other has media.
    Unknown,
}

impl Call {
    pub(super) fn new(
        shared: Arc<Shared>,
        call_id: String,
        entry: CallEntry,
        inbox: mpsc::Receiver<Job>,
    ) -> Self {
        let now = SystemTime::now();
        Self {
            shared,
            call_id,
            entry,
            inbox,
            parties: Parties::default(),
            created: now,
            last_signal: now,
            deletions: Vec::new(),
            recheck: None,
        }
    }

    /// Takes commands until the call is over.
    pub(super) async fn run(mut self) {
        let hang_up = self.entry.hang_up();
        let mut hang_up = pin!(hang_up);
        while !self.is_over() {
            let due = self.deletions.iter().map(|deletion| deletion.at).min();
            let wake = tokio::select! {
                job = self.inbox.recv() => Wake::Job(job),
                event = next_event(&mut self.parties.dialogues) => Wake::Relay(event),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Wake::Deletion,
                () = sleep_until(self.recheck.unwrap_or_else(Instant::now)), if self.recheck.is_some() => {
                    Wake::Recheck
                }
                _ = &mut hang_up => Wake::HangUp,
            };
            match wake {
                Wake::Job(Some(job)) => self.execute(job).await,
                Wake::Job(None) | Wake::HangUp => {
                    self.shared.counters.calls_ended.increment();
                    break;
                }
                Wake::Relay(event) => self.handle_event(event).await,
                Wake::Deletion => self.delete_due(),
                Wake::Recheck => self.drop_if_silent().await,
            }
        }
        self.leave();
    }

    /// Nobody talks with anybody, so the task has nothing to wait for.
    fn is_over(&self) -> bool {
        self.parties.dialogues.is_empty() && self.last_signal != self.created
    }

    /// Out of the table; what was sent meanwhile is for the next call of this name.
    fn leave(&mut self) {
        self.shared.remove(&self.call_id, self.entry.id());
        for dialogue in std::mem::take(&mut self.parties.dialogues) {
            self.shared.relaying.forget_ports(&dialogue_ports(&dialogue));
        }
        self.inbox.close();
        while let Ok(job) = self.inbox.try_recv() {
            Arc::clone(&self.shared).dispatch(job);
        }
    }

    async fn execute(&mut self, job: Job) {
        let Job { command, options, responder } = job;
        let done = match command {
            Command::Offer => self.describe(&options, false).await.map(Some),
            Command::Answer => self.describe(&options, true).await.map(Some),
            Command::Query => Ok(Some(self.query(&options).await)),
            Command::Delete => self.delete(&options).await.map(Some),
            // Not about one call.
            Command::Ping | Command::List | Command::Statistics => Ok(None),
        };
        self.last_signal = SystemTime::now().max(self.created + Duration::from_nanos(1));
        if self.is_over() {
            // Before the reply: whoever has it may make a new call of this name.
            self.leave();
        }
        match done {
            Ok(reply) => responder.succeed(reply.unwrap_or_default()),
            Err(error) => {
                tracing::debug!(call_id = self.call_id, command = command.name(), "{error}");
                responder.fail(&error.to_string());
            }
        }
    }

    async fn describe(&mut self, options: &Options, is_answer: bool) -> Result<Dictionary, CallError> {
        let body = Body::parse(options.sdp.as_deref().ok_or(CallError::NoSdp)?)?;
        let from = options.from_tag.as_deref().ok_or(CallError::NoFromTag)?;
        let shared = Arc::clone(&self.shared);
        // Checked first, so that a description that is refused leaves no trace.
        let mut description = Description {
            relaying: &shared.relaying,
            wishes: &options.wishes,
            body: &body,
            sender: Side::A,
            is_answer,
        };
        description.check()?;
        let naming = if is_answer {
            let to = options.to_tag.as_deref().ok_or(CallError::NoToTag)?;
            let via_branch = options.via_branch.as_deref();
            if self.parties.by_tag(from).is_none() {
                return Err(CallError::NoOffer);
            }
            Naming { sender: to, receiver: Some(from), via_branch, may_alias: !options.new_branch }
        } else {
            let via_branch = options.via_branch.as_deref();
            Naming { sender: from, receiver: options.to_tag.as_deref(), via_branch, may_alias: false }
        };
        let dialogues = self.parties.dialogues.len();
        let pair = self.parties.associate(naming, SystemTime::now())?;
        let is_new = self.parties.dialogues.len() > dialogues;
        self.deletions.retain(|deletion| {
            deletion.party.is_some_and(|party| party != pair.sender && party != pair.receiver)
        });
        let done = self.apply(&mut description, options, pair).await;
        match &done {
            Ok(_) if is_new => self.shared.counters.branches.increment(),
            // An offer that made nothing leaves nothing.
            Err(_) if is_new => self.remove_dialogue(pair),
            _ => {}
        }
        done
    }

    async fn apply(
        &mut self,
        description: &mut Description<'_>,
        options: &Options,
        pair: Pair,
    ) -> Result<Dictionary, CallError> {
        let found = self.parties.dialogue_index(pair.sender, pair.receiver);
        let dialogue = found.and_then(|index| self.parties.dialogues.get_mut(index));
        let dialogue = dialogue.ok_or(CallError::Party(PartyError::SameParty))?;
        description.sender = dialogue.side_of(pair.sender).unwrap_or(Side::A);
        if description.is_answer && dialogue.exchange.slots.is_empty() && !description.body.media.is_empty() {
            return Err(CallError::NoOffer);
        }
        let changes = description.apply(&mut dialogue.exchange).await?;
        dialogue.is_final |=
            description.is_answer && options.sip_code.is_some_and(|code| code >= 200) && !options.provisional;
        if description.is_answer {
            let first = dialogue.exchange.slots.first();
            let remote = first.and_then(|slot| slot.leg(Side::A).rtp);
            let local = first.and_then(|slot| slot.local(Side::A));
            self.entry.update(|summary| {
                summary.state = CallState::Answered;
                summary.answered.get_or_insert_with(SystemTime::now);
                (summary.remote_rtp, summary.local_rtp) = (remote, local);
            });
        }
        let receiver =
            self.parties.party_mut(pair.receiver).ok_or(CallError::Party(PartyError::SameParty))?;
        let text = description.write(&changes, &mut receiver.outgoing);
        Ok(Dictionary::default().with("sdp", text))
    }

    fn remove_dialogue(&mut self, pair: Pair) {
        if let Some(index) = self.parties.dialogue_index(pair.sender, pair.receiver) {
            let dialogue = self.parties.dialogues.remove(index);
            self.shared.relaying.forget_ports(&dialogue_ports(&dialogue));
        }
        let dialogues = &self.parties.dialogues;
        self.parties.parties.retain(|party| dialogues.iter().any(|dialogue| dialogue.has(party.id)));
    }

    async fn query(&mut self, options: &Options) -> Dictionary {
        let wanted = options.to_tag.as_deref().filter(|tag| !tag.is_empty()).or(options.from_tag.as_deref());
        let figures = self.figures().await;
        self.report(&figures, Which::Tag(wanted))
    }

    async fn delete(&mut self, options: &Options) -> Result<Dictionary, CallError> {
        // The to-tag counts if it is there, but a flag string must say so: that is what it can say.
        let to_tag = options.to_tag.as_deref().filter(|_| options.to_tag_counts || !options.has_rtpp_flags);
        let party = match options.from_tag.as_deref() {
            None => None,
            Some(from) => match self.parties.to_delete(from, to_tag, options.via_branch.as_deref()) {
                Some(party) => Some(party),
                None if options.fatal => return Err(CallError::NotFound),
                None => return Ok(Dictionary::default().with("warning", NOT_FOUND)),
            },
        };
        let delay = options.delete_delay.map_or(self.shared.delete_delay, Duration::from_secs);
        let whole = party.is_none_or(|party| self.ends_with(party, options.via_branch.is_some()));
        let reply = if options.fast {
            Dictionary::default()
        } else {
            let figures = self.figures().await;
            self.report(&figures, if whole { Which::Tag(None) } else { Which::Party(party) })
        };
        let party = party.filter(|_| !whole);
        if delay.is_zero() {
            self.delete_now(party);
        } else {
            self.deletions.retain(|deletion| deletion.party != party);
            self.deletions.push(Deletion { at: Instant::now() + delay.min(LONGEST_DELAY), party });
        }
        Ok(reply)
    }

    /// Whether nothing that matters is left without a party: nobody else talks, or the conversation is over and
    /// what is left are phones that rang with the one that was answered.
    fn ends_with(&self, party: PartyId, is_one_branch: bool) -> bool {
        let (mut with, mut without) = (false, Vec::new());
        for dialogue in &self.parties.dialogues {
            if dialogue.has(party) {
                with |= dialogue.exchange.is_answered;
            } else {
                without.push(dialogue.exchange.is_answered);
            }
        }
        without.is_empty() || with && !is_one_branch && without.iter().all(|is_answered| !is_answered)
    }

    fn delete_due(&mut self) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            self.deletions.iter().copied().partition(|deletion| deletion.at <= now);
        self.deletions = later;
        due.into_iter().for_each(|deletion| self.delete_now(deletion.party));
    }

    fn delete_now(&mut self, party: Option<PartyId>) {
        let removed = match party {
            Some(party) => self.parties.remove(party),
            None => {
                self.parties.parties.clear();
                std::mem::take(&mut self.parties.dialogues)
            }
        };
        // Their relays end with them.
        removed.iter().for_each(|dialogue| self.shared.relaying.forget_ports(&dialogue_ports(dialogue)));
        if self.parties.dialogues.is_empty() {
            self.shared.counters.calls_deleted.increment();
        }
    }

    async fn handle_event(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Timeout => self.drop_if_silent().await,
            RelayEvent::Lost => {
                tracing::warn!(call_id = self.call_id, "a relay was lost; the call is dropped");
                self.shared.counters.calls_ended.increment();
                self.drop_all();
            }
            RelayEvent::Latched { side, remote } => {
                tracing::debug!(call_id = self.call_id, ?side, %remote, "the source of media is known");
            }
            RelayEvent::Dtmf { .. } => {}
        }
    }

    /// Ends the call if nobody talks any more. Nobody is cut off while that is not known: it is looked at again.
    async fn drop_if_silent(&mut self) {
        self.recheck = None;
        match self.silence().await {
            Silence::No => {}
            Silence::Unknown => self.recheck = Some(Instant::now() + RECHECK_AFTER),
            Silence::Yes => {
                tracing::info!(call_id = self.call_id, "no media for too long; the call is dropped");
                self.shared.counters.calls_timed_out.increment();
                self.drop_all();
            }
        }
    }

    /// Ends the call without anybody having asked.
    fn drop_all(&mut self) {
        for dialogue in std::mem::take(&mut self.parties.dialogues) {
            self.shared.relaying.forget_ports(&dialogue_ports(&dialogue));
        }
        self.parties.parties.clear();
        self.last_signal = self.created + Duration::from_nanos(1);
    }

    /// Whether no relay of the call has media: one of several may rest, such as video that is not shown.
    async fn silence(&self) -> Silence {
        let mut silence = Silence::Yes;
        for dialogue in &self.parties.dialogues {
            for slot in &dialogue.exchange.slots {
                let Some(relay) = &slot.relay else { continue };
                let patience = slot
                    .parameters(dialogue.exchange.is_answered, self.shared.relaying.patience)
                    .media_timeout;
                match silence_of(relay.statistics().await, patience) {
                    Silence::No => return Silence::No,
                    Silence::Unknown => silence = Silence::Unknown,
                    Silence::Yes => {}
                }
            }
        }
        silence
    }

    /// The figures of all relays, by dialogue and slot.
    async fn figures(&self) -> Vec<Vec<Option<RelayStatistics>>> {
        let mut all = Vec::with_capacity(self.parties.dialogues.len());
        for dialogue in &self.parties.dialogues {
            let mut figures = Vec::with_capacity(dialogue.exchange.slots.len());
            for slot in &dialogue.exchange.slots {
                figures.push(match &slot.relay {
                    Some(relay) => relay.statistics().await.ok(),
                    None => None,
                });
            }
            all.push(figures);
        }
        all
    }
}

/// Whether a relay with these figures has had no media for `patience`.
fn silence_of(figures: Result<RelayStatistics, MediaError>, patience: Duration) -> Silence {
    match figures {
        Ok(figures) => {
            let ages = figures.sides.iter().filter_map(|side| side.last_packet_age);
            // A little less, because the event and this question are not of the same moment.
            let talks = ages.min().is_some_and(|age| age + TIMEOUT_TOLERANCE < patience);
            if talks { Silence::No } else { Silence::Yes }
        }
        Err(MediaError::Ended) => Silence::Yes,
        Err(_) => Silence::Unknown,
    }
}

/// Which parties a report is about.
#[derive(Clone, Copy, Debug)]
enum Which<'a> {
    /// The party with the tag and its peers, or all.
    Tag(Option<&'a str>),
    /// A party and its peers.
    Party(Option<PartyId>),
}

/// The next event of any relay. The receivers behind it remember their task, so asking each of them anew at
/// every wake-up loses none.
async fn next_event(dialogues: &mut [Dialogue]) -> RelayEvent {
    poll_fn(|context| {
        for relay in dialogues.iter_mut().flat_map(Dialogue::relays) {
            let event = pin!(relay.next_event());
            if let Poll::Ready(event) = event.poll(context) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    })
    .await
}

fn dialogue_ports(dialogue: &Dialogue) -> Vec<SocketAddr> {
    dialogue.exchange.slots.iter().flat_map(ports).collect()
}

/// The text for a delete or query that finds nobody.
pub(super) const NOT_FOUND: &str = "Call-ID not found or tags didn't match";
/// A day: no proxy means more, and clocks do not like everything.
const LONGEST_DELAY: Duration = Duration::from_secs(86_400);
const TIMEOUT_TOLERANCE: Duration = Duration::from_secs(1);
/// When a relay that could not say whether it has media is asked again.
const RECHECK_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
