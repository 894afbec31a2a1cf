//! Dialects without a peer by others: applications written by hand, as the documentation has them, over real sockets.

mod ai_support;

use std::sync::Arc;

use ai_support::{Call, Worker, ramp, soon};
use engine::ai::dialect::{AgentSettings, AudioFormat, Dialect, Formats};
use engine::ai::{AiEnd, AiEvent, AiRequest, LatencyBudget, LatencyPolicy};
use engine::codec::g711;
use serde_json::{Value, json};

async fn open(dialect: Dialect, format: Option<AudioFormat>, session: Value) -> Call {
    let Value::Object(session) = session else { panic!("an object") };
    let formats = format.map(|format| Formats { caller: format, bot: format });
    Call::open(|config| {
        config.dialect = dialect;
        config.settings = Arc::new(AgentSettings { formats, session, ..AgentSettings::default() });
        config.latency = LatencyBudget { limit: SECOND, policy: LatencyPolicy::BackPressure };
    })
    .await
}

/// Mu-law codes as 16-bit samples.
fn linear(codes: &[u8]) -> Vec<u8> {
    codes.iter().flat_map(|&code| g711::linear_from_ulaw(code).to_le_bytes()).collect()
}

/// Codes that survive the way over 16 bits: all but the negative zero.
fn codes(len: usize) -> Vec<u8> {
    ramp(len).into_iter().map(|code| if code == 0x7f { 0xff } else { code }).collect()
}

async fn hears(worker: &mut Worker, expected: &[u8]) {
    let heard = worker.hear_until(|heard| heard.len() >= expected.len()).await;
    assert_eq!(heard.len(), expected.len());
    assert!(heard == expected, "sample for sample");
}

async fn request(call: &mut Call) -> AiRequest {
    loop {
        let event = soon("a request", call.session.next_event()).await.expect("an event");
        if let AiEvent::Request(request) = event {
            return request;
        }
    }
}

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

#[tokio::test]
async fn raw_audio_goes_both_ways_untouched() {
    let mut call = open(Dialect::Raw, None, json!({"metadata": true})).await;
    let start = call.bot.json().await;
    assert_eq!((&start["event"], &start["from"]), (&json!("start"), &json!("+4930123")));
    let audio = ramp(4001);
    for piece in audio.chunks(333) {
        call.bot.send_binary(piece).await;
    }
    // A text means nothing here, and harms nothing.
    call.bot.send_text("hello").await;
    call.worker.wait_for_audio().await;
    // The last frame is not whole, so that its rest comes with the end of the connection.
    hears(&mut call.worker, &audio[..4000]).await;
    for _ in 0..5 {
        assert_eq!(call.bot.binary().await, [0x7e; 160]);
    }
    call.session.stop("the test is over");
    assert_eq!(call.end().await, AiEnd::Stopped);
    assert!(call.bot.close_frame().await.is_some());
}

#[tokio::test]
async fn sixteen_bits_are_the_law_by_table() {
    for dialect in [Dialect::Raw, Dialect::AudioFork, Dialect::AudioStream, Dialect::Jambonz] {
        let mut call = open(dialect, Some(AudioFormat::l16(8_000)), json!({})).await;
        let audio = codes(1600);
        for piece in linear(&audio).chunks(777) {
            call.bot.send_binary(piece).await;
        }
        call.worker.wait_for_audio().await;
        hears(&mut call.worker, &audio).await;
        assert_eq!(call.bot.binary().await, linear(&[0x7e; 160]), "{dialect:?}");
    }
}

#[tokio::test]
async fn an_asterisk_application_buffers_marks_and_asks_for_the_end_of_the_queue() {
    let mut call = open(Dialect::Asterisk, None, json!({})).await;
    let start = call.bot.json().await;
    assert_eq!((&start["event"], &start["format"]), (&json!("MEDIA_START"), &json!("ulaw")));
    let id = start["channel_id"].clone();
    let audio = ramp(1600);
    call.bot.send(json!({"command": "START_MEDIA_BUFFERING"})).await;
    for piece in audio.chunks(77) {
        call.bot.send_binary(piece).await;
    }
    call.bot.send(json!({"command": "STOP_MEDIA_BUFFERING", "correlation_id": "c1"})).await;
    call.bot.send(json!({"command": "MARK_MEDIA", "correlation_id": "m1"})).await;
    call.bot.send(json!({"command": "REPORT_QUEUE_DRAINED"})).await;
    call.bot.send(json!({"command": "GET_STATUS"})).await;
    let status = call.bot.json().await;
    assert_eq!((&status["event"], &status["queue_length"]), (&json!("STATUS"), &json!(10)), "200 ms wait");
    assert_eq!((&status["queue_full"], &status["bulk_media"]), (&json!(false), &json!(false)));
    call.worker.wait_for_audio().await;
    hears(&mut call.worker, &audio).await;
    call.worker.frames(3).await;
    assert_eq!(
        call.bot.json().await,
        json!({"event": "MEDIA_BUFFERING_COMPLETED", "channel_id": id, "correlation_id": "c1"})
    );
    assert_eq!(
        call.bot.json().await,
        json!({"event": "MEDIA_MARK_PROCESSED", "channel_id": id, "correlation_id": "m1"})
    );
    assert_eq!(call.bot.json().await, json!({"event": "QUEUE_DRAINED", "channel_id": id}));
    call.bot.send(json!({"command": "HANGUP"})).await;
    assert_eq!(request(&mut call).await, AiRequest::HangUp { reason: "HANGUP".into() });
}

#[tokio::test]
async fn an_asterisk_flush_drops_marks_silently() {
    for control in ["json", "text"] {
        let mut call = open(Dialect::Asterisk, None, json!({"control": control})).await;
        call.bot.text().await;
        let say = |command: &str, id: &str| match (control, id) {
            ("json", "") => json!({"command": command}).to_string(),
            ("json", _) => json!({"command": command, "correlation_id": id}).to_string(),
            (_, "") => command.to_owned(),
            _ => format!("{command} {id}"),
        };
        call.bot.send_binary(&ramp(4000)).await;
        call.bot.send_text(&say("MARK_MEDIA", "lost")).await;
        call.worker.wait_for_audio().await;
        assert!(!call.worker.frames(5).await.is_empty());
        call.bot.send_text(&say("FLUSH_MEDIA", "")).await;
        ai_support::eventually("the flush", || {
            call.worker.frame();
            !call.worker.port.is_speaking()
        })
        .await;
        call.worker.frames(3).await;
        call.bot.send_text(&say("GET_STATUS", "")).await;
        let status = call.bot.text().await;
        assert!(status.contains("STATUS") && status.contains("queue_length"), "{control}: {status}");
        assert!(!status.contains("queue_length:1") && !status.contains("queue_length\":1"), "{status}");
        // What comes now is new, and its mark is told.
        call.bot.send_binary(&ramp(160)).await;
        call.bot.send_text(&say("MARK_MEDIA", "new")).await;
        call.worker.wait_for_audio().await;
        call.worker.hear_until(|heard| heard.len() >= 160).await;
        call.worker.frames(3).await;
        let told = call.bot.text().await;
        assert!(told.contains("MEDIA_MARK_PROCESSED") && told.contains("new"), "{told}");
    }
}

#[tokio::test]
async fn an_asterisk_application_is_asked_to_wait_and_to_go_on() {
    let mut call = open(Dialect::Asterisk, None, json!({})).await;
    call.bot.json().await;
    call.bot.send_binary(&vec![0x20; 8000 * 3]).await;
    assert_eq!(call.bot.json().await["event"], "MEDIA_XOFF", "three seconds where one is allowed");
    call.bot.send(json!({"command": "GET_STATUS"})).await;
    let status = call.bot.json().await;
    assert_eq!((&status["queue_full"], &status["xoff_level"]), (&json!(true), &json!(50)), "{status}");
    let heard = call.worker.hear_until(|heard| heard.len() >= 8000 * 3).await;
    assert_eq!(heard.len(), 24_000, "nothing is lost");
    assert_eq!(call.bot.json().await["event"], "MEDIA_XON");
}

#[tokio::test]
async fn a_pause_keeps_what_is_queued() {
    let mut call = open(Dialect::Asterisk, None, json!({})).await;
    call.bot.json().await;
    let audio = ramp(3200);
    call.bot.send(json!({"command": "PAUSE_MEDIA"})).await;
    call.bot.send_binary(&audio).await;
    call.bot.send(json!({"command": "GET_STATUS"})).await;
    assert_eq!(call.bot.json().await["media_paused"], true);
    assert_eq!(call.worker.frames(20).await, [0; 0], "nothing is played");
    call.bot.send(json!({"command": "CONTINUE_MEDIA"})).await;
    hears(&mut call.worker, &audio).await;
}

#[tokio::test]
async fn a_jambonz_application_plays_clips_and_is_told_what_became_of_marks() {
    let mut call = open(Dialect::Jambonz, None, json!({"customKey": "custom"})).await;
    let metadata = call.bot.json().await;
    assert_eq!((&metadata["sampleRate"], &metadata["customKey"]), (&json!(8000), &json!("custom")));
    let audio = codes(1600);
    call.bot.send_binary(&linear(&audio[..800])).await;
    call.bot.send(json!({"type": "mark", "data": {"name": "m1"}})).await;
    let clip = base64(&linear(&audio[800..]));
    let data = json!({"audioContent": clip, "audioContentType": "raw", "sampleRate": 8000, "id": "p1", "queuePlay": true});
    call.bot.send(json!({"type": "playAudio", "data": data})).await;
    call.worker.wait_for_audio().await;
    hears(&mut call.worker, &audio).await;
    call.worker.frames(3).await;
    let told = |name: &str, event: &str| json!({"type": "mark", "data": {"name": name, "event": event}});
    assert_eq!(call.bot.json().await, told("m1", "playout"));
    assert_eq!(call.bot.json().await, json!({"type": "playDone", "data": {"id": "p1"}}));

    call.bot.send_binary(&linear(&codes(16_000))).await;
    call.bot.send(json!({"type": "mark", "data": {"name": "m2"}})).await;
    call.bot.send(json!({"type": "mark", "data": {"name": "m3"}})).await;
    call.worker.wait_for_audio().await;
    call.bot.send(json!({"type": "clearMarks"})).await;
    assert_eq!(call.bot.json().await, told("m2", "cleared"));
    assert_eq!(call.bot.json().await, told("m3", "cleared"));
    call.bot.send(json!({"type": "mark", "data": {"name": "m4"}})).await;
    call.bot.send(json!({"type": "killAudio"})).await;
    ai_support::eventually("the clear", || {
        call.worker.frame();
        !call.worker.port.is_speaking()
    })
    .await;
    assert_eq!(call.bot.json().await, told("m4", "cleared"));
    call.bot.send(json!({"type": "disconnect"})).await;
    assert_eq!(request(&mut call).await, AiRequest::HangUp { reason: "disconnect".into() });
    call.session.stop("as asked");
    // Caller audio ends with an empty message.
    let mut last = call.bot.binary().await;
    while !last.is_empty() {
        last = call.bot.binary().await;
    }
    assert_eq!(call.end().await, AiEnd::Stopped);
}

#[tokio::test]
async fn audio_stream_plays_pieces_of_speech() {
    let mut call = open(Dialect::AudioStream, None, json!({"metadata": "hello"})).await;
    assert_eq!(call.bot.text().await, "hello");
    let audio = codes(1600);
    for piece in audio.chunks(123) {
        let data = json!({"audioDataType": "pcmu", "sampleRate": 8000, "audioData": base64(piece)});
        call.bot.send(json!({"type": "streamAudio", "data": data})).await;
    }
    call.worker.wait_for_audio().await;
    hears(&mut call.worker, &audio).await;
    let data = json!({"audioDataType": "mp3", "sampleRate": 8000, "audioData": base64(&audio)});
    call.bot.send(json!({"type": "streamAudio", "data": data})).await;
    let notice = soon("a notice", call.session.next_event()).await.expect("an event");
    let AiEvent::Notice(engine::ai::AiNotice::Error { code, .. }) = notice else { panic!("{notice:?}") };
    assert_eq!(code, "unsupported_audio");
}

#[tokio::test]
async fn the_channel_of_an_asterisk_is_the_bot() {
    // The application's side connects and waits for MEDIA_START, so the Asterisk here speaks while it is opened.
    let (listener, address) = ai_support::listen().await;
    let mut config = engine::ai::AiConfig::new(format!("ws://{address}/media/fb6e"));
    config.dialect = Dialect::AsteriskApp;
    let runtime = engine::ai::AiRuntime::start(&[]).expect("a runtime");
    let asterisk = async {
        let mut asterisk = ai_support::Bot::accept(&listener).await;
        asterisk
            .send(
                json!({"event": "MEDIA_START", "connection_id": "fb6e", "channel": "WebSocket/INCOMING/0x7f",
                "channel_id": "1752000000.5", "format": "slin", "optimal_frame_size": 320, "ptime": 20,
                "channel_variables": {"MEDIA_WEBSOCKET_OPTIMAL_FRAME_SIZE": "320"}}),
            )
            .await;
        assert_eq!(asterisk.json().await, json!({"command": "START_MEDIA_BUFFERING"}));
        asterisk
    };
    let (opened, bot) = tokio::join!(runtime.connect(config, ai_support::meta()), asterisk);
    let (port, session) = opened.expect("a stream");
    let mut call = Call { worker: Worker::new(port, &runtime), runtime, session, bot };
    let audio = codes(800);
    call.bot.send_binary(&linear(&audio)).await;
    call.worker.wait_for_audio().await;
    hears(&mut call.worker, &audio).await;
    assert_eq!(call.bot.binary().await, linear(&[0x7e; 160]));
    call.bot.send(json!({"event": "DTMF_END", "channel_id": "1752000000.5", "digit": "5"})).await;
    assert_eq!(request(&mut call).await, AiRequest::SendDigits("5".into()));
    call.session.stop("the caller hung up");
    assert_eq!(call.bot.json().await, json!({"command": "HANGUP"}));
}

fn base64(bytes: &[u8]) -> String {
    ::base64::Engine::encode(&::base64::prelude::BASE64_STANDARD, bytes)
}
