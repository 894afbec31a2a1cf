//! AI streams whose connection is lost, refused, or near the end of its session.

mod ai_support;

use std::time::Duration;

use ai_support::{Bot, Call, Worker, eventually, listen, meta, ramp, realtime, soon};
use engine::ai::dialect::{AgentSettings, Dialect};
use engine::ai::{AiConfig, AiEnd, AiEvent, AiFailure, AiNotice, AiRuntime, ConnectError, Reconnect};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

fn quick() -> Reconnect {
    Reconnect {
        backoff: Duration::from_millis(10),
        longest_backoff: Duration::from_millis(50),
        attempts: 100,
        window: Duration::from_secs(20),
        ..Reconnect::default()
    }
}

/// A call whose backend's listener stays, so that it can be reached again.
struct Kept {
    call: Call,
    listener: TcpListener,
}

impl Kept {
    async fn open(change: impl FnOnce(&mut AiConfig)) -> Self {
        let (listener, address) = listen().await;
        let mut config = AiConfig::new(format!("ws://{address}/stream"));
        config.reconnect = Some(quick());
        change(&mut config);
        let runtime = AiRuntime::start(&[]).expect("a runtime");
        let (opened, mut bot) = tokio::join!(runtime.connect(config, meta()), Bot::accept(&listener));
        let (port, session) = opened.expect("a stream");
        assert_eq!(bot.event().await["event"], "connected");
        assert_eq!(bot.event().await["event"], "start");
        let call = Call { worker: Worker::new(port, &runtime), runtime, session, bot };
        Self { call, listener }
    }

    async fn event(&mut self) -> AiEvent {
        soon("an event", self.call.session.next_event()).await.expect("an event")
    }

    async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "because".into() };
        self.call.bot.socket.close(Some(frame)).await.expect("closed");
    }

    async fn accept_again(&mut self) -> Bot {
        Bot::accept(&self.listener).await
    }
}

fn reconnecting(event: &AiEvent) -> bool {
    matches!(event, AiEvent::Notice(AiNotice::Reconnecting { .. }))
}

fn reconnected(fallback: Option<usize>) -> AiEvent {
    AiEvent::Notice(AiNotice::Reconnected { fallback })
}

#[tokio::test]
async fn a_reset_connection_is_replaced_and_audio_is_right_before_and_after() {
    let mut kept = Kept::open(|_| ()).await;
    let sid = kept.call.session.stream_sid().to_owned();
    kept.call.bot.say(&ramp(8000)).await;
    kept.call.bot.mark("old").await;
    let counters = kept.call.runtime.counters();
    eventually("the mark", || counters.marks_received.value() == 1).await;
    kept.call.bot.socket.get_ref().set_zero_linger().expect("linger");
    // Replacing it drops the old one, which resets its connection.
    let abandoned = ai_support::loose_end().await;
    kept.call.bot.socket = abandoned;
    let mut bot = kept.accept_again().await;
    assert!(reconnecting(&kept.event().await));
    assert_eq!(bot.event().await["event"], "connected");
    let start = bot.event().await;
    assert_ne!(start["streamSid"], sid.as_str());
    assert!(start["start"]["callSid"].as_str().is_some_and(|sid| sid.starts_with("CA")));
    assert_eq!(kept.event().await, reconnected(None));

    // What had come is played to its end, and what comes now follows.
    bot.say(&ramp(3000)).await;
    bot.mark("new").await;
    let heard = kept.call.worker.hear_until(|heard| heard.len() >= 11_000).await;
    assert_eq!(heard[..8000], ramp(8000));
    assert_eq!(heard[8000..], ramp(3000));
    // The new backend hears of its own mark only, and its time begins at zero.
    kept.call.worker.frames(3).await;
    let mut timestamps = Vec::new();
    loop {
        let event = bot.event().await;
        match event["event"].as_str() {
            Some("media") => timestamps.push(event["media"]["timestamp"].as_str().map(str::to_owned)),
            Some("mark") => {
                assert_eq!(event["mark"]["name"], "new");
                break;
            }
            _ => panic!("{event}"),
        }
    }
    assert_eq!(timestamps[0].as_deref(), Some("0"));
    assert_eq!(kept.call.session.figures().reconnects, 1);
    assert_eq!(kept.call.runtime.counters().reconnected.value(), 1);
}

#[tokio::test]
async fn a_second_of_what_the_caller_said_meanwhile_is_passed_on() {
    let mut kept = Kept::open(|_| ()).await;
    kept.close(1011).await;
    assert!(reconnecting(&kept.event().await));
    // Nothing is accepted yet: three seconds pass, by the worker's clock.
    for n in 0..150u8 {
        kept.call.worker.say(&[n; 160]);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut bot = kept.accept_again().await;
    assert_eq!(kept.event().await, reconnected(None));
    let mut first = None;
    for n in 0..50 {
        let media = bot.event_named("media").await;
        assert_eq!(media["media"]["timestamp"], (n * 20).to_string());
        first.get_or_insert_with(|| ai_support::payload(&media));
    }
    assert_eq!(first, Some(vec![100; 160]));
    let session = &kept.call.session;
    let dropped = || session.figures().caller_audio_dropped == Duration::from_secs(2);
    eventually("the figure", dropped).await;
}

#[tokio::test]
async fn close_codes_decide_what_follows() {
    for (code, again) in
        [(1001, true), (1011, true), (1012, true), (1000, false), (4000, false), (1008, false)]
    {
        let mut kept = Kept::open(|_| ()).await;
        kept.close(code).await;
        let event = kept.event().await;
        if again {
            assert!(reconnecting(&event), "{code}: {event:?}");
            kept.accept_again().await.event_named("start").await;
            assert_eq!(kept.event().await, reconnected(None), "{code}");
        } else {
            let end = AiEnd::Closed { code, reason: "because".into() };
            assert_eq!(event, AiEvent::Ended(end), "{code}");
        }
    }
}

#[tokio::test]
async fn without_reconnect_a_lost_connection_is_the_end() {
    let mut kept = Kept::open(|config| config.reconnect = None).await;
    kept.close(1011).await;
    assert_eq!(kept.event().await, AiEvent::Ended(AiEnd::Closed { code: 1011, reason: "because".into() }));
}

#[tokio::test]
async fn a_half_open_connection_is_replaced() {
    let mut kept = Kept::open(|config| config.ping_interval = Duration::from_millis(100)).await;
    // The old one is never read again, so that no ping is answered.
    let mut bot = kept.accept_again().await;
    bot.event_named("start").await;
    assert!(reconnecting(&kept.event().await));
    assert_eq!(kept.event().await, reconnected(None));
    assert_eq!(kept.call.runtime.counters().ping_timeout.value(), 1);
}

/// Answers one upgrade by a status.
async fn refuse(listener: &TcpListener, answer: &str) {
    let (mut tcp, _) = soon("an attempt", listener.accept()).await.expect("a connection");
    let mut request = [0; 4096];
    let _ = tcp.read(&mut request).await;
    tcp.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes())
        .await
        .expect("written");
}

#[tokio::test]
async fn a_refused_upgrade_goes_to_the_fallback_with_its_own_dialect() {
    let (second, address) = listen().await;
    let mut kept = Kept::open(|config| {
        let mut fallback = AiConfig::new(format!("ws://{address}/v1/realtime"));
        fallback.dialect = Dialect::OpenAi;
        config.fallbacks.push(fallback);
    })
    .await;
    kept.close(1011).await;
    refuse(&kept.listener, "401 Unauthorized").await;
    let mut bot = Bot::accept(&second).await;
    realtime::set_up(&mut bot, json!({})).await;
    assert!(reconnecting(&kept.event().await));
    assert_eq!(kept.event().await, reconnected(Some(0)));
    realtime::say(&mut bot, "r1", "i1", &ramp(1600)).await;
    let heard = kept.call.worker.hear_until(|heard| heard.len() >= 1600).await;
    assert_eq!(heard, ramp(1600));
    let appended = bot.typed("input_audio_buffer.append").await;
    assert_eq!(realtime::audio(&appended), [0x7e; 160]);
    assert_eq!(kept.call.runtime.counters().fell_back.value(), 1);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let mut kept = Kept::open(|_| ()).await;
    kept.close(1013).await;
    refuse(&kept.listener, "429 Too Many Requests\r\nRetry-After: 1").await;
    let refused = tokio::time::Instant::now();
    kept.accept_again().await.event_named("start").await;
    // An early one would be some milliseconds later.
    assert!(refused.elapsed() >= Duration::from_millis(900), "{:?}", refused.elapsed());
}

#[tokio::test]
async fn a_policy_violation_goes_to_the_fallback_at_once() {
    let (second, address) = listen().await;
    let mut kept =
        Kept::open(|config| config.fallbacks.push(AiConfig::new(format!("ws://{address}/")))).await;
    kept.close(4001).await;
    let mut bot = Bot::accept(&second).await;
    bot.event_named("start").await;
    assert!(reconnecting(&kept.event().await));
    assert_eq!(kept.event().await, reconnected(Some(0)));
}

#[tokio::test]
async fn a_backend_that_stays_away_is_given_up_at_last() {
    let mut kept = Kept::open(|config| {
        config.reconnect = Some(Reconnect { attempts: 3, ..quick() });
    })
    .await;
    kept.close(1011).await;
    let Kept { call: Call { runtime, worker, mut session, .. }, listener } = kept;
    drop(listener);
    let mut last = None;
    while let Some(event) = soon("an event", session.next_event()).await {
        last = Some(event);
    }
    assert!(matches!(last, Some(AiEvent::Ended(AiEnd::Failed(AiFailure::GivenUp { .. })))), "{last:?}");
    assert_eq!(runtime.counters().reconnect_attempts.value(), 3);
    eventually("the port is closed", || worker.port.is_closed()).await;
}

#[tokio::test]
async fn a_backend_that_flaps_is_given_up() {
    let mut kept = Kept::open(|config| {
        config.reconnect = Some(Reconnect { attempts: 3, ..quick() });
    })
    .await;
    kept.close(1011).await;
    for _ in 0..3 {
        let mut bot = kept.accept_again().await;
        bot.event_named("start").await;
        bot.socket
            .close(Some(CloseFrame { code: CloseCode::Error, reason: "".into() }))
            .await
            .expect("closed");
    }
    assert_eq!(kept.call.end().await, AiEnd::Closed { code: 1011, reason: String::new() });
}

#[tokio::test]
async fn the_caller_hears_the_filler_until_there_is_a_backend_again() {
    let tune: Vec<i16> = (0..1000).map(|n| (n % 100) * 300).collect();
    let filler = tune.clone();
    let mut kept = Kept::open(move |config| {
        config.reconnect = Some(Reconnect { filler: Some(filler.into()), ..quick() });
    })
    .await;
    kept.call.bot.say(&ramp(1600)).await;
    kept.call.worker.wait_for_audio().await;
    kept.close(1012).await;
    assert!(reconnecting(&kept.event().await));
    let heard = kept.call.worker.hear_until(|heard| heard.len() >= 6400).await;
    assert_eq!(heard[..1600], ramp(1600));
    let coded: Vec<u8> = tune.iter().map(|&sample| engine::codec::g711::ulaw_from_linear(sample)).collect();
    for (at, byte) in heard[1600..].iter().enumerate() {
        assert_eq!(*byte, coded[at % 1000], "{at}");
    }
    // Cut as soon as there is a backend.
    let mut bot = kept.accept_again().await;
    assert_eq!(kept.event().await, reconnected(None));
    bot.say(&[9; 1600]).await;
    let rest = kept.call.worker.hear_until(|heard| heard.ends_with(&[9; 1600])).await;
    assert!(rest.len() <= 1600 + 3200, "{}", rest.len());
}

#[tokio::test]
async fn a_first_backend_that_is_away_is_replaced_by_its_fallback() {
    let (gone, address) = listen().await;
    drop(gone);
    let (listener, second) = listen().await;
    let mut config = AiConfig::new(format!("ws://{address}/"));
    config.connect_window = Duration::from_millis(100);
    config.fallbacks.push(AiConfig::new(format!("ws://{second}/")));
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let (opened, mut bot) = tokio::join!(runtime.connect(config, meta()), Bot::accept(&listener));
    let (_port, mut session) = opened.expect("a stream");
    bot.event_named("start").await;
    assert_eq!(soon("an event", session.next_event()).await, Some(reconnected(Some(0))));
}

#[tokio::test]
async fn a_session_near_its_end_is_renewed_in_a_silence_with_its_history() {
    let (listener, address) = listen().await;
    let mut config = AiConfig::new(format!("ws://{address}/v1/realtime"));
    config.dialect = Dialect::OpenAi;
    config.reconnect = Some(Reconnect { renew_before: Duration::from_secs(60), ..quick() });
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let set_up = async {
        let mut bot = Bot::accept(&listener).await;
        realtime::set_up(&mut bot, json!({ "expires_at": realtime::unix_now() + 63 })).await;
        bot
    };
    let (opened, mut old) = tokio::join!(runtime.connect(config, meta()), set_up);
    let (port, mut session) = opened.expect("a stream");
    let mut worker = Worker::new(port, &runtime);
    // The bot speaks, so the renewal waits.
    realtime::say(&mut old, "r1", "i1", &ramp(16_000)).await;
    realtime::transcript(&mut old, "i1", "Good morning").await;
    worker.wait_for_audio().await;
    let early = tokio::time::timeout(Duration::from_millis(3500), listener.accept()).await;
    let early = early.is_ok();
    let heard = worker.hear_until(|heard| heard.len() >= 16_000).await;
    assert_eq!(heard, ramp(16_000));
    assert!(!early, "renewed while the bot was speaking");

    let mut new = Bot::accept(&listener).await;
    realtime::set_up(&mut new, json!({ "expires_at": realtime::unix_now() + 3600 })).await;
    let item = soon("the history", async {
        loop {
            let item = new.typed("conversation.item.create").await;
            if item.to_string().contains("Good morning") {
                return item;
            }
        }
    })
    .await;
    assert_eq!(item["item"]["role"], "assistant");
    assert_eq!(old.close_frame().await.map(|frame| frame.code), Some(CloseCode::Normal));
    let events = [session.next_event().await, session.next_event().await];
    assert!(matches!(&events[0], Some(AiEvent::Notice(AiNotice::Transcript { .. }))), "{events:?}");
    assert_eq!(events[1], Some(reconnected(None)));
    assert_eq!(runtime.counters().renewed.value(), 1);

    realtime::say(&mut new, "r2", "i2", &ramp(800)).await;
    assert_eq!(worker.hear_until(|heard| heard.len() >= 800).await, ramp(800));
}

#[tokio::test]
async fn a_session_that_expires_is_replaced() {
    let (listener, address) = listen().await;
    let mut config = AiConfig::new(format!("ws://{address}/v1/realtime"));
    config.dialect = Dialect::OpenAi;
    config.reconnect = Some(quick());
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let set_up = async {
        let mut bot = Bot::accept(&listener).await;
        realtime::set_up(&mut bot, json!({})).await;
        bot
    };
    let (opened, mut old) = tokio::join!(runtime.connect(config, meta()), set_up);
    let (_port, mut session) = opened.expect("a stream");
    let error = json!({ "type": "error", "error": { "type": "invalid_request_error",
        "code": "session_expired", "message": "Your session hit the maximum duration of 60 minutes." } });
    old.send(error).await;
    let mut new = Bot::accept(&listener).await;
    realtime::set_up(&mut new, json!({})).await;
    let events = [session.next_event().await, session.next_event().await, session.next_event().await];
    assert!(
        matches!(&events[0], Some(AiEvent::Notice(AiNotice::Error { code, .. })) if code == "session_expired")
    );
    assert!(events[1].as_ref().is_some_and(reconnecting), "{events:?}");
    assert_eq!(events[2], Some(reconnected(None)));
    assert_eq!(runtime.counters().rejected.value(), 1);
}

/// A realtime backend that answers the set-up by what `answer` sends.
async fn open_realtime<F: Future<Output = ()>>(
    change: impl FnOnce(&mut AiConfig),
    answer: impl FnOnce(Bot) -> F,
) -> Result<(), ConnectError> {
    let (listener, address) = listen().await;
    let mut config = AiConfig::new(format!("ws://{address}/v1/realtime"));
    config.dialect = Dialect::OpenAi;
    config.settings = AgentSettings { greeting: Some("Hello".into()), ..AgentSettings::default() }.into();
    change(&mut config);
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let answering = async { answer(Bot::accept(&listener).await).await };
    let (opened, ()) = tokio::join!(runtime.connect(config, meta()), answering);
    opened.map(drop)
}

#[tokio::test]
async fn a_set_up_answered_by_an_error_is_refused_with_its_words() {
    let result = open_realtime(
        |_| (),
        |mut bot| async move {
            bot.typed("session.update").await;
            bot.send(json!({ "type": "error", "error": { "type": "invalid_request_error",
                "code": "invalid_value", "message": "no such\r\nvoice" } }))
                .await;
            let _ = bot.close_frame().await;
        },
    )
    .await;
    let Err(ConnectError::Rejected { code, text, .. }) = result else { panic!("{result:?}") };
    assert_eq!(code, "invalid_value");
    assert!(text.starts_with("no such") && !text.contains(['\r', '\n']), "{text}");
}

#[tokio::test]
async fn a_set_up_answered_by_a_close_is_told_with_its_code() {
    let result = open_realtime(
        |_| (),
        |mut bot| async move {
            bot.typed("session.update").await;
            let frame = CloseFrame { code: CloseCode::Policy, reason: "no credit".into() };
            bot.socket.close(Some(frame)).await.expect("closed");
        },
    )
    .await;
    assert!(matches!(&result, Err(ConnectError::Closed { code: 1008, reason, .. }) if reason == "no credit"));
}

#[tokio::test]
async fn a_set_up_that_is_never_answered_runs_into_the_window() {
    let result = open_realtime(
        |config| config.connect_window = Duration::from_millis(300),
        |mut bot| async move {
            bot.typed("session.update").await;
            while let Some(Ok(message)) = bot.socket.next().await {
                assert!(!matches!(message, Message::Text(_)), "no audio before the session is ready");
            }
        },
    )
    .await;
    assert!(matches!(result, Err(ConnectError::Timeout { .. })), "{result:?}");
}

#[tokio::test]
async fn a_slow_set_up_is_waited_for() {
    let result = open_realtime(
        |config| config.connect_window = Duration::from_secs(10),
        |mut bot| async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            realtime::set_up(&mut bot, json!({})).await;
            bot.typed("response.create").await;
        },
    )
    .await;
    result.expect("a stream");
}

#[tokio::test]
async fn a_flood_before_the_set_up_is_refused() {
    let result = open_realtime(
        |_| (),
        |mut bot| async move {
            let delta = realtime::delta("r", "i", &ramp(30_000));
            while bot.socket.feed(Message::text(delta.to_string())).await.is_ok() {}
        },
    )
    .await;
    assert!(matches!(result, Err(ConnectError::Closed { code: 1006, .. })), "{result:?}");
}
