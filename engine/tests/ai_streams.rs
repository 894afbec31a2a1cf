//! Running AI streams against backends that behave well, badly and not at all.

mod ai_support;

use std::time::Duration;

use ai_support::{Call, Worker, eventually, ramp, soon};
use engine::ai::{AiEnd, AiEvent, AiFailure};
use engine::command::Digit;
use futures_util::SinkExt as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

#[tokio::test]
async fn stream_opens_with_connected_and_start() {
    let mut call = Call::open(|config| {
        config.custom_parameters.insert("from_number".into(), "{from_number}".into());
        config.custom_parameters.insert("fixed".into(), "a b".into());
    })
    .await;
    assert_eq!(call.bot.event().await, json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}));
    let start = call.bot.event().await;
    assert_eq!(start["event"], "start");
    assert_eq!(start["sequenceNumber"], "1");
    assert_eq!(start["streamSid"], call.session.stream_sid());
    assert_eq!(start["start"]["customParameters"], json!({"from_number": "+4930123", "fixed": "a b"}));
    let sid_is = |value: &serde_json::Value, prefix: &str| {
        let sid = value.as_str().expect("a string");
        sid.len() == 34 && sid.starts_with(prefix) && sid[2..].bytes().all(|b| b.is_ascii_hexdigit())
    };
    assert!(sid_is(&start["start"]["streamSid"], "MZ"));
    assert!(sid_is(&start["start"]["callSid"], "CA"));
    assert!(sid_is(&start["start"]["accountSid"], "AC"));
}

#[tokio::test]
async fn caller_audio_and_digits_arrive_clocked_and_numbered() {
    let mut call = Call::started().await;
    call.worker.frames(50).await;
    call.worker.port.push_digit(8000, Digit::from_char('7').expect("a digit"), Duration::from_millis(100));
    call.worker.frames(1).await;
    for n in 0..50 {
        let media = call.bot.event().await;
        assert_eq!(media["event"], "media");
        assert_eq!(media["sequenceNumber"], (n + 2).to_string());
        assert_eq!(media["media"]["chunk"], (n + 1).to_string());
        assert_eq!(media["media"]["timestamp"], (n * 20).to_string());
        assert_eq!(media["media"]["payload"].as_str().map(str::len), Some(216));
    }
    assert_eq!(call.bot.event().await["dtmf"]["digit"], "7");
    let counters = call.runtime.counters();
    assert_eq!(counters.caller_audio_overflow.value(), 0);
    assert_eq!(call.runtime.histograms().uplink_latency.count(), counters.media_sent.value());
}

#[tokio::test]
async fn mark_comes_back_only_after_its_audio() {
    let mut call = Call::started().await;
    call.bot.mark("nothing queued").await;
    assert_eq!(call.bot.event_named("mark").await["mark"]["name"], "nothing queued");

    call.bot.say(&ramp(8000)).await;
    call.bot.mark("end").await;
    call.worker.wait_for_audio().await;
    let heard = call.worker.hear_until(|heard| heard.len() >= 7840).await;
    assert_eq!(heard, ramp(7840));
    // Digits and marks share a queue, so a digit sent now would come before an early mark.
    call.worker.port.push_digit(0, Digit::from_char('1').expect("a digit"), Duration::ZERO);
    call.worker.hear_until(|heard| heard.len() >= 160).await;
    loop {
        let event = call.bot.event().await;
        if event["event"] == "dtmf" {
            break;
        }
        assert_eq!(event["event"], "media");
    }
    assert_eq!(call.bot.event_named("mark").await["mark"]["name"], "end");
}

#[tokio::test]
async fn a_minute_sent_at_once_is_played_in_full() {
    let mut call = Call::started().await;
    let speech = ramp(60 * 8000);
    for part in speech.chunks(100_003) {
        call.bot.say(part).await;
    }
    let total = speech.len();
    let heard = call.worker.hear_until(|heard| heard.len() >= total).await;
    assert_eq!(heard, speech);
    assert_eq!(call.runtime.counters().bot_audio_overflow_bytes.value(), 0);
}

#[tokio::test]
async fn clear_silences_at_once_and_returns_all_marks() {
    let mut call = Call::started().await;
    for n in 0..20 {
        call.bot.say(&[5; 16_000]).await;
        call.bot.mark(&n.to_string()).await;
    }
    call.worker.hear_until(|heard| heard.len() >= 20_000).await;
    assert_eq!(call.bot.event_named("mark").await["mark"]["name"], "0");

    call.bot.clear().await;
    call.bot.say(&[9; 1600]).await;
    let counters = call.runtime.counters();
    eventually("the new audio", || counters.bot_audio_bytes.value() == 20 * 16_000 + 1600).await;
    let heard = call.worker.hear_until(|heard| heard.len() >= 1600).await;
    assert_eq!(heard, [9; 1600]);
    for n in 1..20 {
        assert_eq!(call.bot.event_named("mark").await["mark"]["name"], n.to_string());
    }
    assert_eq!(counters.clears.value(), 1);
}

#[tokio::test]
async fn hanging_up_says_stop_and_closes_normally() {
    let Call { runtime, worker, mut session, mut bot } = Call::started().await;
    drop(worker);
    let stop = bot.event_named("stop").await;
    assert_eq!(stop["streamSid"], session.stream_sid());
    assert_eq!(bot.close_frame().await.map(|frame| frame.code), Some(CloseCode::Normal));
    assert_eq!(soon("the end", session.next_event()).await, Some(AiEvent::Ended(AiEnd::Stopped)));
    assert_eq!(session.next_event().await, None);
    eventually("the stream is gone", || runtime.streams() == 0 || bot_closes(&mut bot)).await;
}

/// The server end must read to finish its closing handshake.
fn bot_closes(bot: &mut ai_support::Bot) -> bool {
    use futures_util::{FutureExt as _, StreamExt as _};
    let _ = bot.socket.next().now_or_never();
    false
}

#[tokio::test]
async fn stop_does_the_same_while_the_port_lives() {
    let mut call = Call::started().await;
    call.session.stop("test");
    call.bot.event_named("stop").await;
    assert_eq!(call.end().await, AiEnd::Stopped);
    let Call { mut bot, worker, runtime, .. } = call;
    eventually("the port is closed", || worker.port.is_closed() || bot_closes(&mut bot)).await;
    drop(runtime);
}

#[tokio::test]
async fn goodbye_is_played_before_the_hang_up_is_reported() {
    let mut call = Call::started().await;
    call.bot.say(&ramp(16_000)).await;
    call.bot.socket.close(None).await.expect("closed");
    let Call { mut session, mut worker, runtime, .. } = call;
    worker.wait_for_audio().await;
    let early = tokio::time::timeout(Duration::from_millis(200), session.next_event()).await;
    assert!(early.is_err(), "{early:?}");
    let heard = worker.hear_until(|heard| heard.len() >= 16_000).await;
    assert_eq!(heard, ramp(16_000));
    let end = soon("the end", session.next_event()).await;
    let Some(AiEvent::Ended(end)) = end else { panic!("{end:?}") };
    assert_eq!(end, AiEnd::Closed { code: 1005, reason: String::new() });
    assert!(end.is_normal());
    assert_eq!(runtime.counters().closed_by_peer.value(), 1);
}

#[tokio::test]
async fn close_with_an_error_code_is_reported_at_once() {
    let mut call = Call::started().await;
    call.bot.say(&ramp(80_000)).await;
    let frame = CloseFrame { code: CloseCode::Error, reason: "model\r\nfailed".into() };
    call.bot.socket.close(Some(frame)).await.expect("closed");
    let end = call.end().await;
    assert_eq!(end, AiEnd::Closed { code: 1011, reason: "modelfailed".into() });
    assert!(!end.is_normal());
}

#[tokio::test]
async fn garbage_is_counted_and_the_stream_lives() {
    let mut call = Call::started().await;
    for text in [
        "",
        "garbage",
        "{\"event\":",
        "[[[[[",
        "null",
        "\u{0}\u{feff}",
        r#"{"event":"dance"}"#,
        r#"{"event":"media"}"#,
        r#"{"event":"media","media":{"payload":"*"}}"#,
        r#"{"event":"mark"}"#,
    ] {
        call.bot.socket.send(Message::text(text)).await.expect("sent");
    }
    call.bot.socket.send(Message::binary(vec![0; 1000])).await.expect("sent");
    call.bot.mark("still here").await;
    assert_eq!(call.bot.event_named("mark").await["mark"]["name"], "still here");
    let counters = call.runtime.counters();
    assert_eq!(counters.bad_json.value(), 6);
    for counter in [
        &counters.unknown_event,
        &counters.media_without_payload,
        &counters.bad_base64,
        &counters.mark_without_name,
        &counters.binary_frame,
    ] {
        assert_eq!(counter.value(), 1);
    }
}

#[tokio::test]
async fn ten_megabytes_in_one_message_end_the_stream_with_1009() {
    let mut call = Call::started().await;
    call.bot.say(&ramp(1600)).await;
    call.worker.wait_for_audio().await;
    let huge = Message::text("x".repeat(10 << 20));
    let (sent, end) = tokio::join!(
        async {
            let _ = call.bot.socket.send(huge).await;
            call.bot.close_frame().await
        },
        call.session.next_event()
    );
    assert_eq!(sent.map(|frame| frame.code), Some(CloseCode::Size));
    assert!(matches!(end, Some(AiEvent::Ended(AiEnd::Failed(AiFailure::MessageTooLarge(_))))), "{end:?}");
    eventually("silence", || call.worker.port.is_closed()).await;
    assert!(call.worker.frame().is_empty());
    assert_eq!(call.runtime.counters().message_too_large.value(), 1);
}

#[tokio::test]
async fn ten_megabytes_of_audio_are_queued_up_to_the_limit() {
    let mut call = Call::open(|config| config.max_queue = Duration::from_secs(1)).await;
    for _ in 0..13 {
        call.bot.say(&ramp(780_000)).await;
    }
    call.bot.mark("end").await;
    // The minimum of 60 s holds whatever is configured. What is played meanwhile makes room for more.
    let Call { runtime, mut worker, mut bot, session: _session } = call;
    let mark = tokio::spawn(async move { bot.event_named("mark").await });
    let mut heard = Vec::new();
    soon("the mark", async {
        while !mark.is_finished() {
            heard.extend(worker.frame());
            if !worker.port.is_speaking() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
    assert_eq!(mark.await.expect("no panic")["mark"]["name"], "end");
    assert!(heard.len() >= 480_000, "{}", heard.len());
    assert_eq!(heard[..480_000], ramp(480_000));
    let dropped = runtime.counters().bot_audio_overflow_bytes.value();
    assert_eq!(dropped as usize, 13 * 780_000 - heard.len());
}

#[tokio::test]
async fn reset_connection_is_a_failure_and_the_port_falls_silent() {
    let mut call = Call::started().await;
    call.bot.say(&ramp(16_000)).await;
    call.worker.wait_for_audio().await;
    call.bot.socket.get_ref().set_zero_linger().expect("linger");
    let Call { runtime, mut worker, mut session, bot } = call;
    drop(bot);
    let end = soon("the end", session.next_event()).await;
    assert!(matches!(end, Some(AiEvent::Ended(AiEnd::Failed(AiFailure::Lost(_))))), "{end:?}");
    eventually("silence", || worker.port.is_closed()).await;
    assert!(worker.frame().is_empty());
    assert_eq!(runtime.counters().lost.value(), 1);
}

#[tokio::test]
async fn broken_frames_are_a_failure() {
    let mut call = Call::started().await;
    // Reserved bits and a reserved opcode (RFC 6455 section 5.2).
    call.bot.socket.get_mut().write_all(&[0xff, 0x05, 1, 2, 3, 4, 5]).await.expect("written");
    assert_eq!(call.bot.close_frame().await.map(|frame| frame.code), Some(CloseCode::Protocol));
    assert!(matches!(call.end().await, AiEnd::Failed(AiFailure::Protocol(_))));
    assert_eq!(call.runtime.counters().protocol_error.value(), 1);
}

#[tokio::test]
async fn backend_that_answers_no_ping_is_given_up() {
    // Never reads, so never sees a ping.
    let mut call = Call::open(|config| config.ping_interval = Duration::from_millis(100)).await;
    assert_eq!(call.end().await, AiEnd::Failed(AiFailure::PingTimeout));
    assert_eq!(call.runtime.counters().ping_timeout.value(), 1);
}

#[tokio::test]
async fn backend_that_answers_pings_is_kept() {
    let mut call = Call::open(|config| config.ping_interval = Duration::from_millis(50)).await;
    let reader = tokio::time::timeout(Duration::from_millis(700), async {
        loop {
            call.bot.message().await;
        }
    })
    .await;
    assert!(reader.is_err());
    assert_eq!(call.runtime.counters().ping_timeout.value(), 0);
    assert_eq!(call.runtime.streams(), 1);
}

#[tokio::test]
async fn backend_that_does_not_read_is_given_up_and_costs_no_memory() {
    let mut call = Call::open(|config| config.write_stall = Duration::from_millis(300)).await;
    let counters = call.runtime.counters();
    let mut frames = 0u64;
    let end = soon("the stall", async {
        loop {
            for _ in 0..50 {
                call.worker.frame();
                frames += 1;
            }
            tokio::select! {
                end = call.session.next_event() => return end,
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
    })
    .await;
    assert_eq!(end, Some(AiEvent::Ended(AiEnd::Failed(AiFailure::WriteStalled))));
    assert_eq!(counters.write_stalled.value(), 1);
    assert!(counters.caller_audio_stale.value() > 0, "{frames} frames");
}

#[tokio::test]
async fn flood_of_marks_from_a_backend_that_does_not_read_is_bounded() {
    let mut call = Call::open(|config| config.write_stall = Duration::from_secs(5)).await;
    let counters = call.runtime.counters();
    let name = "m".repeat(1000);
    let overflow = async {
        while counters.marks_overflow.value() == 0 {
            call.bot.mark(&name).await;
        }
    };
    soon("the overflow", overflow).await;
}

#[tokio::test]
async fn flooding_backend_leaves_the_others_alone() {
    let mut quiet = Call::started().await;
    let mut flood = {
        let (listener, address) = ai_support::listen().await;
        let config = engine::ai::AiConfig::new(format!("ws://{address}/"));
        let (opened, bot) = tokio::join!(
            quiet.runtime.connect(config, ai_support::meta()),
            ai_support::Bot::accept(&listener)
        );
        let (port, session) = opened.expect("a stream");
        (Worker::new(port, &quiet.runtime), session, bot)
    };
    let flooding = tokio::spawn(async move {
        while flood.2.socket.send(Message::text(r#"{"event":"noise"}"#)).await.is_ok() {}
        drop((flood.0, flood.1));
    });
    for n in 0..20 {
        quiet.bot.mark(&n.to_string()).await;
        assert_eq!(quiet.bot.event_named("mark").await["mark"]["name"], n.to_string());
    }
    assert!(quiet.runtime.counters().unknown_event.value() > 0);
    flooding.abort();
}

#[tokio::test]
async fn end_of_the_runtime_stops_its_streams() {
    let Call { runtime, mut session, mut bot, worker } = Call::started().await;
    let ending = tokio::task::spawn_blocking(move || drop(runtime));
    bot.event_named("stop").await;
    assert_eq!(bot.close_frame().await.map(|frame| frame.code), Some(CloseCode::Normal));
    assert_eq!(soon("the end", session.next_event()).await, Some(AiEvent::Ended(AiEnd::Stopped)));
    soon("the runtime's end", ending).await.expect("no panic");
    assert!(worker.port.is_closed());
}
