use engine::Engine;
use engine::ai::AiRuntime;
use engine::config::EngineConfig;
use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::*;
use crate::call::{CallConfig, CallContext, CallSummary, CallVia, Identity};
use crate::exchange::Slot;
use crate::media::{Media, MediaRelay};

fn context() -> Arc<CallContext> {
    let ai = AiRuntime::start(&[]).expect("AI threads");
    let (engine, events) = Engine::start_with(EngineConfig::default(), ai.doorbells()).expect("an engine");
    CallContext::new(CallConfig::default(), Media::start(engine, events, ai).expect("media"))
}

fn summary() -> CallSummary {
    CallSummary {
        id: 0,
        identity: Identity::default(),
        call_id: "one".to_owned(),
        call_sid: None,
        from: String::new(),
        to: String::new(),
        app: "relay",
        agent: None,
        via: CallVia::Ng,
        state: CallState::Ringing,
        since: SystemTime::now(),
        answered: None,
        codec: None,
        remote_sip: Some(([127, 0, 0, 1], 5060).into()),
        remote_rtp: None,
        local_rtp: None,
        gathered: None,
    }
}

/// A call of one relay, and what keeps it from being over for want of commands.
async fn call(context: &CallContext) -> (Call, mpsc::Sender<Job>) {
    let shared = Arc::new(Shared::new(context, Duration::ZERO, Vec::new()));
    let entry = context.table.admit(summary()).expect("room for a call");
    let (jobs, inbox) = mpsc::channel(1);
    let mut call = Call::new(Arc::clone(&shared), "one".to_owned(), entry, inbox);
    let naming = Naming { sender: "a", receiver: Some("b"), via_branch: None, may_alias: false };
    call.parties.associate(naming, SystemTime::now()).expect("two parties");
    let mut slot = Slot::default();
    let parameters = slot.parameters(false, shared.relaying.patience);
    let relay = shared.relaying.media.add_relay([[127, 0, 0, 1].into(); 2], parameters).await;
    slot.relay = Some(relay.expect("a relay"));
    call.parties.dialogues[0].exchange.slots.push(slot);
    (call, jobs)
}

fn relay(call: &Call) -> &MediaRelay {
    call.parties.dialogues[0].exchange.slots[0].relay.as_ref().expect("a relay")
}

/// The event of a relay's silence comes once, and just then its figures may not be had.
#[tokio::test]
async fn a_silent_call_whose_relay_could_not_say_is_looked_at_again_and_dropped() {
    let context = context();
    let (mut call, _jobs) = call(&context).await;
    let shared = Arc::clone(&call.shared);
    // As many questions as may wait; nobody answers before this task rests.
    let handle = relay(&call).handle();
    let mut questions = Box::pin(join_all((0..20).map(|_| handle.statistics())));
    assert!(questions.as_mut().now_or_never().is_none());
    call.handle_event(RelayEvent::Timeout).await;
    assert_eq!(shared.counters.calls_timed_out.value(), 0, "nobody knew");
    assert!(!call.is_over() && call.recheck.is_some());
    drop(questions);
    tokio::time::timeout(RECHECK_AFTER * 5, call.run()).await.expect("it ends by itself");
    assert_eq!(shared.counters.calls_timed_out.value(), 1);
}
