//! What an AI stream does with a backend that has items, tools and audio of its own formats.

mod ai_support;

use std::time::Duration;

use ai_support::{Bot, Worker, eventually, listen, meta, ramp, realtime, soon};
use engine::ai::dialect::{AgentSettings, AudioFormat, Dialect, Formats, Sender, ToolCall, ToolResult};
use engine::ai::{
    AiConfig, AiEnd, AiEvent, AiNotice, AiRequest, AiRuntime, AiSession, CommandError, Reconnect,
};
use engine::codec::g711;
use engine::command::Digit;
use engine::dsp::resample::{Quality, Resampler, SampleRate};
use futures_util::SinkExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

struct Session {
    runtime: AiRuntime,
    worker: Worker,
    session: AiSession,
    bot: Bot,
    listener: TcpListener,
}

impl Session {
    async fn open(change: impl FnOnce(&mut AiConfig, &mut AgentSettings)) -> Self {
        let (listener, address) = listen().await;
        let mut config = AiConfig::new(format!("ws://{address}/v1/realtime"));
        config.dialect = Dialect::OpenAi;
        let mut settings = AgentSettings { flush_on_speech: true, ..AgentSettings::default() };
        change(&mut config, &mut settings);
        config.settings = settings.into();
        let runtime = AiRuntime::start(&[]).expect("a runtime");
        let (opened, bot) = tokio::join!(runtime.connect(config, meta()), Self::accept(&listener));
        let (port, session) = opened.expect("a stream");
        Self { worker: Worker::new(port, &runtime), runtime, session, bot, listener }
    }

    async fn accept(listener: &TcpListener) -> Bot {
        let mut bot = Bot::accept(listener).await;
        realtime::set_up(&mut bot, json!({})).await;
        bot
    }

    async fn event(&mut self) -> AiEvent {
        soon("an event", self.session.next_event()).await.expect("an event")
    }

    /// The bot's audio is queued, all of it.
    async fn queued(&self, bytes: u64) {
        let counters = self.runtime.counters();
        eventually("the bot's audio", || counters.bot_audio_bytes.value() >= bytes).await;
    }
}

/// Frames until the clear has worked; then `ms` of what the backend was told.
async fn truncation(session: &mut Session) -> (String, u64) {
    let Session { worker, bot, .. } = session;
    let told = bot.typed("conversation.item.truncate");
    tokio::pin!(told);
    soon("the truncation", async {
        loop {
            tokio::select! {
                event = &mut told => {
                    return (
                        event["item_id"].as_str().expect("an item").to_owned(),
                        event["audio_end_ms"].as_u64().expect("milliseconds"),
                    );
                }
                () = tokio::time::sleep(Duration::from_millis(2)) => drop(worker.frame()),
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_interrupted_item_is_truncated_at_what_was_heard() {
    let mut session = Session::open(|_, _| ()).await;
    realtime::say(&mut session.bot, "r1", "i1", &ramp(8000)).await;
    realtime::say(&mut session.bot, "r2", "i2", &[5; 8000]).await;
    session.queued(16_000).await;
    // A frame may be a part of one, because this worker is faster than time.
    let heard = session.worker.hear_until(|heard| heard.len() >= 11_200).await;
    assert_eq!(heard[..8000], ramp(8000));
    assert!(heard[8000..].iter().all(|&byte| byte == 5));

    session.bot.send(json!({ "type": "input_audio_buffer.speech_started" })).await;
    let counters = session.runtime.counters();
    eventually("the clear", || counters.clears.value() == 1).await;
    assert!(session.worker.frame().is_empty());
    // The first item was heard in full; the second began at 8000.
    assert_eq!(truncation(&mut session).await, ("i2".into(), (heard.len() as u64 - 8000) / 8));
    let event = session.event().await;
    let AiEvent::Notice(AiNotice::Interrupted { report, by_engine: false }) = event else {
        panic!("{event:?}")
    };
    assert_eq!((report.played_samples, report.complete), (heard.len() as u64, false));
    assert_eq!(session.session.figures().barge_ins, 1);

    // What comes after is heard from its beginning, and truncated by its own length.
    session.bot.send(json!({ "type": "input_audio_buffer.speech_stopped" })).await;
    realtime::say(&mut session.bot, "r3", "i3", &ramp(8000)).await;
    session.queued(24_000).await;
    let heard = session.worker.hear_until(|heard| heard.len() >= 1600).await;
    assert_eq!(heard, ramp(heard.len()));
    session.session.interrupt().expect("taken");
    eventually("the clear", || counters.clears.value() == 2).await;
    assert_eq!(truncation(&mut session).await, ("i3".into(), heard.len() as u64 / 8));
}

#[tokio::test]
async fn items_that_were_not_begun_are_truncated_at_zero() {
    let mut session = Session::open(|_, _| ()).await;
    realtime::say(&mut session.bot, "r1", "i1", &ramp(4000)).await;
    realtime::say(&mut session.bot, "r2", "i2", &ramp(4000)).await;
    session.queued(8_000).await;
    let heard = session.worker.hear_until(|heard| heard.len() >= 800).await;
    session.session.interrupt().expect("taken");
    let counters = session.runtime.counters();
    eventually("the clear", || counters.clears.value() == 1).await;
    assert_eq!(truncation(&mut session).await, ("i1".into(), heard.len() as u64 / 8));
    assert_eq!(truncation(&mut session).await, ("i2".into(), 0));
}

#[tokio::test]
async fn the_callers_hang_up_tells_how_far_the_bot_was_heard() {
    let mut session = Session::open(|_, _| ()).await;
    realtime::say(&mut session.bot, "r1", "i1", &ramp(8000)).await;
    session.queued(8000).await;
    let heard = session.worker.hear_until(|heard| heard.len() >= 4000).await;
    let Session { worker, mut bot, mut session, .. } = session;
    drop(worker);
    let truncated = bot.typed("conversation.item.truncate").await;
    assert_eq!(truncated["item_id"], "i1");
    assert_eq!(truncated["audio_end_ms"], heard.len() / 8);
    assert_eq!(session.next_event().await, Some(AiEvent::Ended(AiEnd::Stopped)));
}

/// A tone of the caller's or the bot's, as it is at any rate.
fn tone(rate: usize, samples: usize) -> Vec<i16> {
    (0..samples)
        .map(|n| ((n as f64 / rate as f64 * 440.0 * std::f64::consts::TAU).sin() * 9000.0) as i16)
        .collect()
}

fn resample(from: SampleRate, to: SampleRate, samples: &[i16]) -> Vec<i16> {
    let mut resampler = Resampler::new(from, to, Quality::Speech);
    let mut out = vec![0; resampler.output_len(samples.len())];
    resampler.process(samples, &mut out);
    out
}

fn little_endian(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// 24 kHz both ways: what the caller hears and what the backend hears is what the resampler makes of it, whatever
/// the chunks.
async fn wideband_is_exact(worker: &mut Worker, bot: &mut Bot, item: &str) {
    let speech = tone(24_000, 24_000);
    realtime::say(bot, item, item, &little_endian(&speech)).await;
    let expected: Vec<u8> = resample(SampleRate::Hz24000, SampleRate::Hz8000, &speech)
        .into_iter()
        .map(g711::ulaw_from_linear)
        .collect();
    let heard = worker.hear_until(|heard| heard.len() >= 8000).await;
    assert_eq!(heard.len(), 8000);
    assert!(heard == expected, "the caller hears something else");
}

async fn backend_hears(bot: &mut Bot, samples: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < 2 * samples {
        let block = realtime::audio(&bot.typed("input_audio_buffer.append").await);
        assert_eq!(block.len(), 960);
        heard.extend(block);
    }
    heard
}

#[tokio::test]
async fn audio_of_another_rate_is_resampled_exactly_before_and_after_a_reconnection() {
    let mut session = Session::open(|config, settings| {
        let wide = AudioFormat::l16(24_000);
        settings.formats = Some(Formats { caller: wide, bot: wide });
        config.max_outbound = Duration::from_secs(10);
        config.write_stall = Duration::from_secs(20);
        config.reconnect = Some(Reconnect { backoff: Duration::from_millis(5), ..Reconnect::default() });
    })
    .await;
    // The caller says a tone of 1.6 s.
    let caller: Vec<u8> = tone(8_000, 12_800).into_iter().map(g711::ulaw_from_linear).collect();
    let linear: Vec<i16> = caller.iter().map(|&code| g711::linear_from_ulaw(code)).collect();
    let expected = little_endian(&resample(SampleRate::Hz8000, SampleRate::Hz24000, &linear));
    for block in caller.chunks(160) {
        session.worker.say(block.try_into().expect("a block"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(backend_hears(&mut session.bot, 38_400).await == expected, "the backend hears something else");
    wideband_is_exact(&mut session.worker, &mut session.bot, "i1").await;

    // The same again, from the beginning, on another connection.
    let frame = CloseFrame { code: CloseCode::Error, reason: "".into() };
    session.bot.socket.close(Some(frame)).await.expect("closed");
    assert!(matches!(session.event().await, AiEvent::Notice(AiNotice::Reconnecting { .. })));
    session.bot = Session::accept(&session.listener).await;
    assert_eq!(session.event().await, AiEvent::Notice(AiNotice::Reconnected { fallback: None }));
    // The frames that pulled the bot's audio pushed the caller's, some of it during the outage.
    let Session { worker, bot, .. } = &mut session;
    let resting = [g711::ulaw_from_linear(0); 160];
    soon("silence", async {
        worker.say(&resting);
        while realtime::audio(&bot.typed("input_audio_buffer.append").await) != [0; 960] {
            worker.say(&resting);
        }
    })
    .await;
    for block in caller.chunks(160) {
        worker.say(block.try_into().expect("a block"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut heard = Vec::new();
    while heard.len() < 2 * 38_400 {
        let block = realtime::audio(&bot.typed("input_audio_buffer.append").await);
        if !heard.is_empty() || block != [0; 960] {
            heard.extend(block);
        }
    }
    assert!(heard == expected, "the new backend hears something else");
    wideband_is_exact(worker, bot, "i2").await;
}

#[tokio::test]
async fn an_alaw_line_is_passed_through_and_converted_where_it_must() {
    let alaw = AudioFormat::PCMA;
    let mut same = Session::open(|config, _| config.line = alaw).await;
    realtime::say(&mut same.bot, "r", "i", &ramp(1600)).await;
    assert_eq!(same.worker.hear_until(|heard| heard.len() >= 1600).await, ramp(1600));
    assert_eq!(realtime::audio(&same.bot.typed("input_audio_buffer.append").await), [0x7e; 160]);

    let mut other = Session::open(|config, settings| {
        config.line = alaw;
        settings.formats = Some(Formats::default());
    })
    .await;
    realtime::say(&mut other.bot, "r", "i", &ramp(1600)).await;
    let expected: Vec<u8> = ramp(1600).iter().map(|&code| g711::ULAW_TO_ALAW[usize::from(code)]).collect();
    assert_eq!(other.worker.hear_until(|heard| heard.len() >= 1600).await, expected);
    let expected = [g711::ALAW_TO_ULAW[0x7e]; 160];
    assert_eq!(realtime::audio(&other.bot.typed("input_audio_buffer.append").await), expected);
}

#[tokio::test]
async fn functions_are_called_and_answered() {
    let mut session = Session::open(|_, _| ()).await;
    session.bot.send(json!({ "type": "response.created", "response": { "id": "r1" } })).await;
    session
        .bot
        .send(json!({ "type": "response.function_call_arguments.done", "response_id": "r1", "item_id": "f1",
            "call_id": "call_1", "name": "weather", "arguments": "{\n\"town\":\"Kiel\"}" }))
        .await;
    session
        .bot
        .send(json!({ "type": "response.done", "response": { "id": "r1", "status": "completed" } }))
        .await;
    let call =
        ToolCall { id: "call_1".into(), name: "weather".into(), arguments: "{\"town\":\"Kiel\"}".into() };
    assert_eq!(session.event().await, AiEvent::Request(AiRequest::Tool(call)));
    let result = ToolResult {
        id: "call_1".into(),
        name: "weather".into(),
        output: "{\"rain\":true}".into(),
        is_error: false,
    };
    session.session.tool_result(result).expect("taken");
    let item = session.bot.typed("conversation.item.create").await;
    let item = if item["item"]["type"] == "function_call_output" {
        item
    } else {
        session.bot.typed("conversation.item.create").await
    };
    assert_eq!(item["item"]["call_id"], "call_1");
    assert_eq!(item["item"]["output"], "{\"rain\":true}");
    session.bot.typed("response.create").await;
}

#[tokio::test]
async fn a_function_call_too_large_is_answered_by_an_error() {
    let mut session = Session::open(|_, _| ()).await;
    session
        .bot
        .send(json!({ "type": "response.function_call_arguments.done", "response_id": "r1", "item_id": "f1",
            "call_id": "call_1", "name": "weather", "arguments": "x".repeat(100_000) }))
        .await;
    let item = soon("the answer", async {
        loop {
            let item = session.bot.typed("conversation.item.create").await;
            if item["item"]["type"] == "function_call_output" {
                return item;
            }
        }
    })
    .await;
    assert!(item["item"]["output"].as_str().is_some_and(|output| output.contains("error")), "{item}");
    assert_eq!(session.runtime.counters().tool_calls_refused.value(), 1);
}

#[tokio::test]
async fn a_muted_caller_is_silence_to_the_backend() {
    let mut session = Session::open(|_, _| ()).await;
    session.worker.frame();
    assert_eq!(realtime::audio(&session.bot.typed("input_audio_buffer.append").await), [0x7e; 160]);
    session.session.mute(true).expect("taken");
    soon("silence", async {
        loop {
            session.worker.frame();
            if realtime::audio(&session.bot.typed("input_audio_buffer.append").await) == [0xff; 160] {
                return;
            }
        }
    })
    .await;
    session.session.mute(false).expect("taken");
    soon("speech", async {
        loop {
            session.worker.frame();
            if realtime::audio(&session.bot.typed("input_audio_buffer.append").await) == [0x7e; 160] {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_paused_bot_keeps_its_words() {
    let mut session = Session::open(|_, _| ()).await;
    realtime::say(&mut session.bot, "r1", "i1", &ramp(3200)).await;
    session.queued(3200).await;
    let mut heard = session.worker.hear_until(|heard| heard.len() >= 1600).await;
    session.session.pause(true).expect("taken");
    soon("the pause", async {
        loop {
            let frame = session.worker.frame();
            if frame.is_empty() {
                return;
            }
            heard.extend(frame);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(heard.len() < 3200, "the pause came too late to be seen");
    session.session.pause(false).expect("taken");
    heard.extend(session.worker.hear_until(|rest| rest.len() >= 3200 - heard.len()).await);
    assert_eq!(heard, ramp(3200));
}

#[tokio::test]
async fn texts_and_digits_reach_the_model() {
    let mut session = Session::open(|_, _| ()).await;
    session.session.say(Sender::System, "The caller is on hold.", true).expect("taken");
    let item = soon("the text", async {
        loop {
            let item = session.bot.typed("conversation.item.create").await;
            if item.to_string().contains("on hold") {
                return item;
            }
        }
    })
    .await;
    assert_eq!(item["item"]["role"], "system");
    session.bot.typed("response.create").await;
    session.worker.port.push_digit(0, Digit::from_char('#').expect("a digit"), Duration::from_millis(100));
    session.worker.frame();
    assert!(session.bot.typed("conversation.item.create").await.to_string().contains('#'));
}

#[tokio::test]
async fn transcripts_and_errors_are_told() {
    let mut session = Session::open(|_, _| ()).await;
    session
        .bot
        .send(json!({ "type": "conversation.item.input_audio_transcription.completed", "item_id": "u1",
            "transcript": "Good\u{7} morning" }))
        .await;
    let event = session.event().await;
    let AiEvent::Notice(AiNotice::Transcript { from: Sender::Caller, text }) = event else {
        panic!("{event:?}")
    };
    assert!(!text.contains('\u{7}') && text.starts_with("Good"), "{text}");
    session
        .bot
        .send(json!({ "type": "error", "error": { "type": "server_error", "code": "odd", "message": "m" } }))
        .await;
    let error = AiNotice::Error { code: "odd".into(), text: "m".into() };
    assert_eq!(session.event().await, AiEvent::Notice(error));
}

#[tokio::test]
async fn figures_are_kept() {
    let mut session = Session::open(|_, _| ()).await;
    assert!(session.session.figures().connect > Duration::ZERO);
    assert_eq!(session.session.figures().first_audio, None);
    realtime::say(&mut session.bot, "r1", "i1", &ramp(1600)).await;
    session.worker.hear_until(|heard| heard.len() >= 1600).await;
    let first_audio = || session.session.figures().first_audio.is_some();
    eventually("the first audio", first_audio).await;
    let figures = session.session.figures();
    assert_eq!(figures.queue.count, 1);
    assert!(figures.queue.max >= Duration::from_millis(190), "{figures:?}");
    assert_eq!(session.runtime.histograms().connect.count(), 1);
    assert_eq!(session.runtime.histograms().first_audio.count(), 1);
}

#[tokio::test]
async fn commands_to_an_ended_stream_are_refused() {
    let mut session = Session::open(|_, _| ()).await;
    session.session.stop("test");
    assert_eq!(session.event().await, AiEvent::Ended(AiEnd::Stopped));
    soon("the end", async {
        while session.session.mute(true) != Err(CommandError::Ended) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A call whose backend speaks as an application of Asterisk's `chan_websocket`.
async fn asterisk() -> (AiRuntime, Worker, AiSession, Bot) {
    let (listener, address) = listen().await;
    let mut config = AiConfig::new(format!("ws://{address}/media"));
    config.dialect = Dialect::Asterisk;
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let (opened, bot) = tokio::join!(runtime.connect(config, meta()), Bot::accept_media(&listener));
    let (port, session) = opened.expect("a stream");
    let worker = Worker::new(port, &runtime);
    (runtime, worker, session, bot)
}

#[tokio::test]
async fn a_requested_hang_up_waits_for_the_goodbye() {
    let (_runtime, mut worker, mut session, mut bot) = asterisk().await;
    bot.socket.send(Message::binary(ramp(4000))).await.expect("sent");
    bot.socket.send(Message::text(r#"{"command":"HANGUP"}"#)).await.expect("sent");
    worker.wait_for_audio().await;
    let mut heard = worker.hear_until(|heard| heard.len() >= 3200).await;
    let early = tokio::time::timeout(Duration::from_millis(300), session.next_event()).await;
    assert!(early.is_err(), "{early:?}");
    heard.extend(worker.hear_until(|rest| rest.len() >= 800).await);
    assert_eq!(heard, ramp(4000));
    worker.frame();
    let event = soon("the request", session.next_event()).await;
    assert!(matches!(event, Some(AiEvent::Request(AiRequest::HangUp { .. }))), "{event:?}");
}

#[tokio::test]
async fn a_drained_queue_is_reported_once() {
    let (_runtime, mut worker, _session, mut bot) = asterisk().await;
    bot.socket.send(Message::binary(ramp(1600))).await.expect("sent");
    bot.socket.send(Message::text(r#"{"command":"REPORT_QUEUE_DRAINED"}"#)).await.expect("sent");
    worker.hear_until(|heard| heard.len() >= 1600).await;
    worker.frame();
    soon("the report", async {
        loop {
            match bot.message().await {
                Message::Text(text) if text.contains("QUEUE_DRAINED") => return,
                _ => {}
            }
        }
    })
    .await;
}
