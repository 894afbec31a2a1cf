use serde_json::{Value, json};

use crate::ai::dialect::telephony::tests::{digit, heard, meant, opening, said, shown, with};
use crate::ai::dialect::{
    AudioFormat, Codec, Dialect, Formats, Ignored, Incoming, Kind, Outbox, Outgoing, QueueStatus, StreamStart,
};
use crate::time::Duration;

const SID: &str = "MZ18ad3ab5a668481ce02b83e70000fb6e";

fn asterisk(control: &str) -> Box<dyn Codec> {
    let session = json!({"control": control, "channel_variables": {"TENANT": "acme"}});
    Dialect::Asterisk.codec(StreamStart { stream_sid: SID.into(), ..with(None, session, &[("k", "v")]) })
}

fn app(session: Value) -> Box<dyn Codec> {
    Dialect::AsteriskApp.codec(with(None, session, &[]))
}

fn mark(name: &str, complete: bool) -> Outgoing<'_> {
    Outgoing::MarkPlayed { name, complete }
}

const STATUS: QueueStatus = QueueStatus {
    queued: Duration::from_millis(240),
    high_at: Duration::from_secs(18),
    low_at: Duration::from_secs(16),
    high: false,
    paused: false,
};

/// The channel's id: the second of the stream's start, and the end of its id as a number.
const ID: &str = "1700000000.64366";

#[test]
fn events_are_the_documented_lines() {
    let mut codec = asterisk("json");
    let codec = &mut *codec;
    assert_eq!(Dialect::Asterisk.handshake(&Default::default()).subprotocol, Some("media"));
    assert_eq!(
        opening(codec),
        [json!({"event":"MEDIA_START","connection_id":"18ad3ab5a668481ce02b83e70000fb6e",
            "channel":"WebSocket/INCOMING/0xfb6e","channel_id":ID,"format":"ulaw","optimal_frame_size":160,
            "ptime":20,"channel_variables":{"MEDIA_WEBSOCKET_OPTIMAL_FRAME_SIZE":"160",
            "MEDIA_WEBSOCKET_CONNECTION_ID":"18ad3ab5a668481ce02b83e70000fb6e","k":"v","TENANT":"acme"}})]
    );
    assert_eq!(meant(codec, r#"{"command":"START_MEDIA_BUFFERING"}"#), []);
    for (event, line) in [
        (Outgoing::Audio { timestamp: 0, audio: &[1, 2] }, json!({"binary": [1, 2]})),
        (digit('5', 100), json!({"event":"DTMF_END","channel_id":ID,"digit":"5"})),
        (Outgoing::Pressure { high: true }, json!({"event":"MEDIA_XOFF","channel_id":ID})),
        (Outgoing::Pressure { high: false }, json!({"event":"MEDIA_XON","channel_id":ID})),
        (
            mark("bc1", true),
            json!({"event":"MEDIA_BUFFERING_COMPLETED","channel_id":ID,"correlation_id":"c1"}),
        ),
        (mark("mm1", true), json!({"event":"MEDIA_MARK_PROCESSED","channel_id":ID,"correlation_id":"m1"})),
        (Outgoing::Drained, json!({"event":"QUEUE_DRAINED","channel_id":ID})),
        (
            Outgoing::Status(STATUS),
            json!({"event":"STATUS","channel_id":ID,"queue_length":12,"xon_level":800,"xoff_level":900,
                "queue_full":false,"bulk_media":true,"media_paused":false}),
        ),
    ] {
        assert_eq!(said(codec, event), [line]);
    }
    for event in [mark("mm1", false), mark("bc1", false), Outgoing::Cleared, Outgoing::Stop] {
        assert_eq!(said(codec, event), [Value::Null; 0], "{event:?} has no word");
    }
}

#[test]
fn plain_text_events_are_the_documented_lines() {
    let mut codec = asterisk("text");
    let codec = &mut *codec;
    let start = format!(
        "MEDIA_START connection_id:18ad3ab5a668481ce02b83e70000fb6e channel:WebSocket/INCOMING/0xfb6e \
         channel_id:{ID} format:ulaw optimal_frame_size:160 ptime:20"
    );
    assert_eq!(opening(codec), [json!(start)]);
    for (event, line) in [
        (digit('5', 100), format!("DTMF_END digit:5 channel_id:{ID}")),
        (Outgoing::Pressure { high: true }, "MEDIA_XOFF".into()),
        (mark("bc1", true), "MEDIA_BUFFERING_COMPLETED c1".into()),
        (mark("b", true), "MEDIA_BUFFERING_COMPLETED".into()),
        (mark("mm1", true), "MEDIA_MARK_PROCESSED m1".into()),
        (Outgoing::Drained, "QUEUE_DRAINED".into()),
        (
            Outgoing::Status(QueueStatus { high: true, paused: true, ..STATUS }),
            format!(
                "STATUS channel_id:{ID} queue_length:12 xon_level:800 xoff_level:900 queue_full:true \
                 bulk_media:false media_paused:true"
            ),
        ),
    ] {
        assert_eq!(said(codec, event), [json!(line)]);
    }
}

#[test]
fn commands_mean_the_same_in_both_forms() {
    for (command, id, meaning) in [
        ("ANSWER", None, vec![]),
        ("HANGUP", None, vec![Incoming::HangUp { reason: "HANGUP".into() }]),
        ("START_MEDIA_BUFFERING", None, vec![]),
        ("STOP_MEDIA_BUFFERING", Some("c1"), vec![Incoming::AudioEnd, Incoming::Mark("bc1".into())]),
        ("STOP_MEDIA_BUFFERING", None, vec![Incoming::AudioEnd, Incoming::Mark("b".into())]),
        ("MARK_MEDIA", Some("m1"), vec![Incoming::Mark("mm1".into())]),
        ("FLUSH_MEDIA", None, vec![Incoming::Clear]),
        ("PAUSE_MEDIA", None, vec![Incoming::Pause]),
        ("CONTINUE_MEDIA", None, vec![Incoming::Continue]),
        ("REPORT_QUEUE_DRAINED", None, vec![Incoming::ReportDrained]),
        ("GET_STATUS", None, vec![Incoming::ReportStatus]),
    ] {
        let in_json = match id {
            Some(id) => json!({"command": command, "correlation_id": id}).to_string(),
            None => json!({"command": command}).to_string(),
        };
        let in_text = id.map_or_else(|| command.to_owned(), |id| format!("{command} {id}\n"));
        assert_eq!(meant(&mut *asterisk("json"), &in_json), meaning, "{in_json}");
        assert_eq!(meant(&mut *asterisk("text"), &in_text), meaning, "{in_text}");
    }
}

#[test]
fn case_matters_and_unknown_commands_are_ignored() {
    for (control, text) in
        [("json", r#"{"command":"answer"}"#), ("json", "{}"), ("text", "flush_media"), ("text", "")]
    {
        let (result, decoded) = heard(&mut *asterisk(control), Kind::Text, text.as_bytes());
        assert_eq!((result, decoded.replies.is_empty()), (Err(Ignored::UnknownEvent), true), "{text}");
    }
}

#[test]
fn json_that_cannot_be_read_is_answered_with_an_error_a_few_times() {
    let mut codec = asterisk("json");
    let (result, decoded) = heard(&mut *codec, Kind::Text, b"ANSWER");
    assert_eq!(result, Err(Ignored::BadJson));
    assert_eq!(
        shown(&decoded.replies),
        [json!({"event":"ERROR","channel_id":ID,"error_text":"Unable to parse JSON command"})]
    );
    let more: usize =
        (0..100).map(|_| heard(&mut *codec, Kind::Text, b"?").1.replies.messages().count()).sum();
    assert_eq!(more, 15);
}

#[test]
fn a_text_of_more_than_128_bytes_is_ignored() {
    let command = |length: usize| {
        let frame = r#"{"command":"MARK_MEDIA","correlation_id":""}"#.len();
        json!({"command": "MARK_MEDIA", "correlation_id": "m".repeat(length - frame)}).to_string()
    };
    assert_eq!(heard(&mut *asterisk("json"), Kind::Text, command(128).as_bytes()).0, Ok(()));
    let (result, decoded) = heard(&mut *asterisk("json"), Kind::Text, command(129).as_bytes());
    assert_eq!((result, decoded.events), (Err(Ignored::TextFrame), vec![]));
}

#[test]
fn without_buffering_only_whole_frames_are_played() {
    let mut codec = asterisk("json");
    let codec = &mut *codec;
    for (sent, result, played) in [
        (160, Ok(()), 160),
        (480, Ok(()), 480),
        (500, Err(Ignored::Refused), 480),
        (7, Err(Ignored::Refused), 0),
    ] {
        let (answer, decoded) = heard(codec, Kind::Binary, &vec![1; sent]);
        assert_eq!((answer, decoded.audio.len()), (result, played), "{sent} bytes");
    }
    meant(codec, r#"{"command":"START_MEDIA_BUFFERING"}"#);
    assert_eq!(heard(codec, Kind::Binary, &[1; 7]).1.audio.len(), 7, "any length while buffering");
    for end in ["STOP_MEDIA_BUFFERING", "FLUSH_MEDIA"] {
        meant(codec, r#"{"command":"START_MEDIA_BUFFERING"}"#);
        meant(codec, &json!({"command": end}).to_string());
        assert_eq!(heard(codec, Kind::Binary, &[1; 7]).0, Err(Ignored::Refused), "after {end}");
    }
}

#[test]
fn the_direction_switches_audio_off() {
    let mut codec = asterisk("json");
    let codec = &mut *codec;
    let set = |direction: &str| json!({"command":"SET_MEDIA_DIRECTION","direction":direction}).to_string();
    let audio = Outgoing::Audio { timestamp: 0, audio: &[1] };
    assert_eq!(meant(codec, &set("in")), []);
    assert_eq!(heard(codec, Kind::Binary, &[1; 160]).0, Err(Ignored::Refused));
    assert_eq!(said(codec, audio).len(), 1, "the caller is heard");
    let (result, decoded) = heard(codec, Kind::Text, br#"{"command":"MARK_MEDIA","correlation_id":"m"}"#);
    assert_eq!(result, Err(Ignored::Refused));
    assert_eq!(shown(&decoded.replies)[0]["event"], "ERROR");

    assert_eq!(meant(codec, &set("out")), [Incoming::Mute(true)]);
    assert_eq!(said(codec, audio), [Value::Null; 0]);
    assert_eq!(heard(codec, Kind::Binary, &[1; 160]).0, Ok(()));
    assert_eq!(meant(codec, &set("both")), [Incoming::Mute(false)]);
    assert_eq!(said(codec, audio).len(), 1);
    assert_eq!(heard(codec, Kind::Text, set("up").as_bytes()).0, Err(Ignored::UnknownEvent));
}

#[test]
fn formats_have_asterisks_names_and_frame_sizes() {
    for (format, name, frame) in [
        (AudioFormat::PCMU, "ulaw", 160),
        (AudioFormat::PCMA, "alaw", 160),
        (AudioFormat::l16(8_000), "slin", 320),
        (AudioFormat::l16(16_000), "slin16", 640),
        (AudioFormat::l16(24_000), "slin24", 960),
        (AudioFormat::l16(44_100), "slin44", 1764),
        (AudioFormat::l16(48_000), "slin48", 1920),
    ] {
        let formats = Formats { caller: format, bot: format };
        let mut channel = Dialect::Asterisk.codec(with(Some(formats), json!({}), &[]));
        let start = opening(&mut *channel).remove(0);
        assert_eq!((&start["format"], &start["optimal_frame_size"]), (&json!(name), &json!(frame)));
        // The application takes the format that it is told.
        let mut app = app(json!({}));
        assert_eq!(meant(&mut *app, &start.to_string()), [Incoming::Ready]);
        assert_eq!(app.formats(), formats);
    }
    let line = StreamStart { line: AudioFormat::PCMA, ..with(None, json!({}), &[]) };
    assert_eq!(Dialect::Asterisk.codec(line).formats().bot, AudioFormat::PCMA, "the line's law");
}

const JSON_START: &str = r#"{"event":"MEDIA_START","connection_id":"fb6e","channel":"WebSocket/INCOMING/0x7f","channel_id":"1752000000.5","format":"slin16","optimal_frame_size":640,"ptime":20,"channel_variables":{"MEDIA_WEBSOCKET_OPTIMAL_FRAME_SIZE":"640"}}"#;
const TEXT_START: &str = "MEDIA_START connection_id:fb6e channel:WebSocket/INCOMING/0x7f channel_id:1752000000.5 format:slin16 optimal_frame_size:640 ptime:20";

#[test]
fn the_application_answers_in_the_form_it_hears() {
    for (start, answer, buffering, hang_up) in [
        (
            JSON_START,
            json!({"command":"ANSWER"}),
            json!({"command":"START_MEDIA_BUFFERING"}),
            json!({"command":"HANGUP"}),
        ),
        (TEXT_START, json!("ANSWER"), json!("START_MEDIA_BUFFERING"), json!("HANGUP")),
    ] {
        let mut app = app(json!({"answer": true}));
        let mut out = Outbox::default();
        app.open(&mut out);
        assert!(out.is_empty() && out.take_events().is_empty(), "Asterisk speaks first");
        let audio = Outgoing::Audio { timestamp: 0, audio: &[1] };
        assert_eq!(said(&mut *app, audio), [Value::Null; 0], "nothing before MEDIA_START");
        let (result, decoded) = heard(&mut *app, Kind::Text, start.as_bytes());
        assert_eq!((result, decoded.events), (Ok(()), vec![Incoming::Ready]));
        assert_eq!(shown(&decoded.replies), [answer, buffering]);
        assert_eq!(app.formats().caller, AudioFormat::l16(16_000));
        assert_eq!(said(&mut *app, audio), [json!({"binary": [1]})]);
        assert_eq!(said(&mut *app, Outgoing::Stop), [hang_up]);
    }
}

#[test]
fn the_application_understands_the_documented_events() {
    let mut app = app(json!({}));
    let app = &mut *app;
    meant(app, JSON_START);
    for (text, meaning) in [
        (
            r#"{"event":"DTMF_END","channel_id":"1752000000.5","digit":"5"}"#,
            vec![Incoming::SendDigits("5".into())],
        ),
        ("DTMF_END digit:# channel_id:1752000000.5", vec![Incoming::SendDigits("#".into())]),
        (r#"{"event":"MEDIA_XON","channel_id":"1752000000.5"}"#, vec![]),
        (r#"{"event":"MEDIA_MARK_PROCESSED","channel_id":"1","correlation_id":"m1"}"#, vec![]),
        ("QUEUE_DRAINED", vec![]),
        (
            "ERROR channel_id:1752000000.5 error_text:a b:c",
            vec![Incoming::Error { fatal: false, code: "ERROR".into(), text: "a b:c".into() }],
        ),
        (
            r#"{"event":"ERROR","channel_id":"1","error_text":"…"}"#,
            vec![Incoming::Error { fatal: false, code: "ERROR".into(), text: "…".into() }],
        ),
    ] {
        assert_eq!(meant(app, text), meaning, "{text}");
    }
    let (_, decoded) = heard(app, Kind::Text, br#"{"event":"MEDIA_XOFF","channel_id":"1752000000.5"}"#);
    let commands = [json!({"command":"FLUSH_MEDIA"}), json!({"command":"START_MEDIA_BUFFERING"})];
    assert_eq!(shown(&decoded.replies), commands, "old speech makes room for new");
    assert_eq!(heard(app, Kind::Text, b"HELLO").0, Err(Ignored::UnknownEvent));
    assert_eq!(heard(app, Kind::Binary, &[1, 2]).1.audio, [1, 2]);
}

#[test]
fn a_format_that_cannot_be_cut_is_refused() {
    let opus = JSON_START.replace("slin16", "opus");
    let events = meant(&mut *app(json!({})), &opus);
    assert!(matches!(&events[..], [Incoming::Error { fatal: true, .. }]), "{events:?}");
    let events = meant(&mut *app(json!({})), "MEDIA_START format:g729 optimal_frame_size:0");
    assert!(matches!(&events[..], [Incoming::Error { fatal: true, .. }]), "{events:?}");
}

#[test]
fn both_sides_understand_each_other() {
    for control in ["json", "text"] {
        let (mut channel, mut app) = (asterisk(control), app(json!({"answer": true})));
        let mut out = Outbox::default();
        channel.open(&mut out);
        channel.encode(digit('7', 100), &mut out);
        let mut events = Vec::new();
        let mut replies = Vec::new();
        for (kind, message) in out.messages() {
            let (result, decoded) = heard(&mut *app, kind, message);
            assert_eq!(result, Ok(()));
            events.extend(decoded.events);
            replies.extend(decoded.replies.messages().map(|(kind, message)| (kind, message.to_vec())));
        }
        assert_eq!(events, [Incoming::Ready, Incoming::SendDigits("7".into())]);
        assert_eq!(replies.len(), 2);
        for (kind, message) in replies {
            assert_eq!(heard(&mut *channel, kind, &message).0, Ok(()));
        }
        // It buffers now, as the application asked.
        assert_eq!(heard(&mut *channel, Kind::Binary, &[1; 7]).0, Ok(()));
    }
}
