//! Calls to agents of OpenAI Realtime and Azure Voice Live: our binary between a phone and fakes of the vendors, which
//! the vendors' own clients prove.

mod support;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::audio::{align_in_parts, rms, silence, tone};
use support::fixture;
use support::phone::{Dial, Phone};
use support::server::{Server, Setup};
use support::vendors::{Fakes, python};
use support::wav::{decode_mu_law, encode_mu_law};
use support::within;

/// openai-agents and the Azure SDK talk to the fakes, are answered, and interrupt.
#[test]
fn real_clients_prove_the_fakes() {
    let Some(fakes) = Fakes::start() else { return };
    let output = Command::new(python().expect("the fakes run with it"))
        .arg(fixture("vendors/clients.py"))
        .arg(fakes.log_path())
        .arg(fakes.port().to_string())
        .output()
        .expect("python starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.trim_end().ends_with("ok"), "{text}");
}

#[test]
fn openai_item_is_truncated_where_the_callers_packets_ended() {
    let Some(fakes) = Fakes::start() else { return };
    let server = server(&fakes, "openai", "", "");
    let phone = call(&server);
    set_up(&fakes);
    let question = tone(700.0, 400, 8000.0);
    phone.play(&question);
    let item = answer_begins(&fakes, &phone);
    std::thread::sleep(Duration::from_millis(1200));
    phone.play(&tone(700.0, 300, 8000.0));
    let truncated = one(&fakes, "out", "conversation.item.truncated");
    assert_eq!(truncated["item_id"], item.as_str());
    std::thread::sleep(Duration::from_millis(500));
    // Mu-law went through untouched: the packets hold the item's own bytes, up to where it was cut off.
    let heard = payload(&phone);
    let (begins, carried) = carried(&fakes.item(&item), &heard);
    let end_ms = truncated["audio_end_ms"].as_u64().expect("an integer") as usize;
    // By chance a sample of the fading end may equal the item's next.
    assert!((carried / 8).abs_diff(end_ms) <= 1, "{carried} samples were carried, truncated at {end_ms} ms");
    assert!((800..4_500).contains(&end_ms), "{end_ms}");
    // The caller's interruption is answered a second later.
    let after = heard[begins + carried..].iter().take(4000).map(|&byte| decode_mu_law(byte));
    let after: Vec<i16> = after.collect();
    assert!(after.len() > 800 && rms(&after[80..]) < 50.0, "silence after it: {}", rms(&after));
    // And so did the caller's voice.
    let spoken: Vec<u8> = question.iter().map(|&sample| encode_mu_law(sample)).collect();
    let (_, arrived) = carried_whole(&spoken, &fakes.caller(1));
    assert_eq!(arrived, spoken.len(), "the caller's question arrives byte by byte");
    ends_well(&fakes, &phone);
}

#[test]
fn voice_live_greets_hears_and_is_interrupted_at_24_khz() {
    let Some(fakes) = Fakes::start() else { return };
    let more = "format = \"l16/24000\"\ngreeting = \"Welcome to Example Ltd.\"\n";
    let server = server(&fakes, "azure_voice_live", "", more);
    let phone = call(&server);
    set_up(&fakes);
    let greeting = one(&fakes, "in", "response.create");
    let message = &greeting["response"]["pre_generated_assistant_message"];
    assert_eq!(message["content"][0]["text"], "Welcome to Example Ltd.");
    let item = answer_begins(&fakes, &phone);
    std::thread::sleep(Duration::from_millis(1600));
    let found = align_in_parts(&at_8_khz(&fakes.item(&item)), &phone.audio());
    assert!(found.correlation > 0.9, "the greeting is heard: {found:?}");
    let question = tone(700.0, 400, 8000.0);
    phone.play(&question);
    assert!(within(SOON, || fakes.messages("out", "response.created").len() == 2), "the answer");
    std::thread::sleep(Duration::from_millis(1200));
    phone.play(&tone(700.0, 300, 8000.0));
    let truncated = one(&fakes, "out", "conversation.item.truncated");
    std::thread::sleep(Duration::from_millis(500));
    let item = fakes.item(truncated["item_id"].as_str().expect("an id"));
    let end_ms = truncated["audio_end_ms"].as_u64().expect("an integer") as usize;
    // Everything up to there was heard, and what is next was not.
    let said = at_8_khz(&item);
    let found = align_in_parts(&said[..end_ms * 8], &phone.audio());
    assert!(found.correlation > 0.9, "up to the end: {found:?}");
    let audio = phone.audio();
    // The caller's interruption is answered a second later.
    let next = &audio[(found.offset + end_ms * 8 + 800).min(audio.len())..];
    let next = &next[..next.len().min(2400)];
    assert!(next.len() > 800 && rms(next) < 50.0, "silence after it: {}", rms(next));
    let arrived = align_in_parts(&question, &at_8_khz(&fakes.caller(1)));
    assert!(arrived.correlation > 0.9, "the question is heard: {arrived:?}");
    ends_well(&fakes, &phone);
}

/// The voice gateway of the README: no file, no subcommand, the environment alone.
#[test]
fn the_environment_alone_takes_calls_to_voice_live() {
    let Some(fakes) = Fakes::start() else { return };
    let mut setup = Setup::new("");
    for (name, value) in [
        ("AZURE_VOICELIVE_ENDPOINT", fakes.voice_live("")),
        ("AZURE_VOICELIVE_API_KEY", "secret".to_owned()),
        ("REGISTER_WITH_SIP_SERVER", "false".to_owned()),
    ] {
        setup.environment.push((name.to_owned(), value));
    }
    let server = Server::start(&setup);
    let phone =
        Phone::dial(server.sip, "test").unwrap_or_else(|refusal| panic!("{refusal:?}\n{}", server.log()));
    set_up(&fakes);
    let session = one(&fakes, "in", "session.update")["session"].take();
    assert_eq!(session["turn_detection"]["type"], "azure_semantic_vad", "{session}");
    assert_eq!(session["input_audio_noise_reduction"]["type"], "azure_deep_noise_suppression", "{session}");
    assert_eq!(session["input_audio_echo_cancellation"]["type"], "server_echo_cancellation", "{session}");
    let item = answer_begins(&fakes, &phone);
    std::thread::sleep(Duration::from_millis(1200));
    let (_, carried) = carried(&fakes.item(&item), &payload(&phone));
    assert!(carried > 4_000, "the greeting goes through untouched: {carried} samples");
    ends_well(&fakes, &phone);
}

#[test]
fn goodbye_is_heard_to_its_end_before_the_function_hangs_up() {
    for dialect in ["openai", "azure_voice_live"] {
        let Some(fakes) = Fakes::start() else { return };
        let tools = "[[agents.bot.tools]]\nname = \"end_call\"\naction = \"hang_up\"\n\
                     description = \"Ends the call. Say goodbye before.\"\n";
        let server = server(&fakes, dialect, "", tools);
        let phone = call(&server);
        set_up(&fakes);
        phone.press('3');
        phone.press('#');
        assert!(within(SOON, || phone.ended().is_some()), "{dialect}: the function hangs up");
        let added = one(&fakes, "out", "response.output_item.added");
        let item = fakes.item(added["item"]["id"].as_str().expect("an id"));
        let (_, carried) = carried(&item, &payload(&phone));
        assert_eq!(carried, item.len(), "{dialect}: the goodbye was heard to its end");
        assert_eq!(fakes.faults(), [] as [Value; 0], "{dialect}");
    }
}

#[test]
fn what_comes_of_a_cancelled_response_is_not_heard() {
    let Some(fakes) = Fakes::start() else { return };
    let server = server(&fakes, "openai", "", "");
    let phone = call(&server);
    set_up(&fakes);
    phone.press('9');
    phone.press('#');
    let item = answer_begins(&fakes, &phone);
    phone.play(&tone(700.0, 300, 8000.0));
    let truncated = one(&fakes, "out", "conversation.item.truncated");
    assert!(within(SOON, || !fakes.messages("out", "response.done").is_empty()), "its end");
    let done = one(&fakes, "out", "response.done");
    assert_eq!(done["response"]["status"], "cancelled");
    std::thread::sleep(Duration::from_millis(300));
    let sent = fakes.item(&item);
    assert_eq!(sent.len(), 16_000, "all of it was sent in spite of the cancellation");
    let (_, carried) = carried(&sent, &payload(&phone));
    let end_ms = truncated["audio_end_ms"].as_u64().expect("an integer") as usize;
    assert!((carried / 8).abs_diff(end_ms) <= 1, "{carried} samples, truncated at {end_ms} ms");
    ends_well(&fakes, &phone);
}

#[test]
fn refused_upgrade_or_session_refuses_the_call() {
    let Some(fakes) = Fakes::start() else { return };
    for query in ["refuse=401", "refuse=429", "refuse=302", "session_error=1"] {
        let server = server(&fakes, "openai", query, "");
        let refused = Phone::dial_with(Dial::new(server.sip, "4930123"));
        let status = refused.err().flatten().and_then(|response| response.status());
        assert!(status.is_some_and(|status| status >= 400), "{query}: {status:?}");
    }
}

const SOON: Duration = Duration::from_secs(20);

/// A server whose calls all go to a fake.
fn server(fakes: &Fakes, dialect: &str, query: &str, more: &str) -> Server {
    let url = if dialect == "openai" { fakes.openai(query) } else { fakes.voice_live(query) };
    Server::start(&Setup::new(&format!(
        "[agents.bot]\ndialect = \"{dialect}\"\nurl = \"{url}\"\nauth_token_file = \"{}\"\n{more}\
         [[routes]]\nregex = '\\d+'\napp = \"agent\"\nagent = \"bot\"\n",
        fakes.token_path().display()
    )))
}

fn call(server: &Server) -> Phone {
    Phone::dial(server.sip, "4930123").expect("the call is answered")
}

fn set_up(fakes: &Fakes) {
    assert!(within(SOON, || !fakes.messages("out", "session.updated").is_empty()), "the session");
    assert!(within(SOON, || !fakes.caller(1).is_empty()), "caller audio");
}

/// The one message of a type, once it has come.
fn one(fakes: &Fakes, direction: &str, kind: &str) -> Value {
    assert!(within(SOON, || !fakes.messages(direction, kind).is_empty()), "{kind}");
    let mut messages = fakes.messages(direction, kind);
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

/// The id of the item that is begun, once the caller hears it.
fn answer_begins(fakes: &Fakes, phone: &Phone) -> String {
    let added = one(fakes, "out", "response.output_item.added");
    assert!(within(SOON, || rms(&phone.audio()) > 50.0), "the answer is heard");
    added["item"]["id"].as_str().expect("an id").to_owned()
}

/// The audio that came, byte by byte.
fn payload(phone: &Phone) -> Vec<u8> {
    phone
        .heard()
        .into_iter()
        .filter(|packet| packet.payload_type == 0)
        .flat_map(|packet| packet.payload)
        .collect()
}

/// Where `item` begins in what was heard, and how many of its bytes follow there.
fn carried(item: &[u8], heard: &[u8]) -> (usize, usize) {
    let head = &item[..400.min(item.len())];
    let begins = heard.windows(head.len()).position(|window| window == head).expect("the item is heard");
    let same = item.iter().zip(&heard[begins..]).take_while(|(sent, heard)| sent == heard);
    (begins, same.count())
}

/// As [`carried`], for what has to be found as a whole.
fn carried_whole(item: &[u8], heard: &[u8]) -> (usize, usize) {
    heard.windows(item.len()).position(|window| window == item).map_or((0, 0), |at| (at, item.len()))
}

/// 16 bits at 24 kHz as the phone would hear it.
fn at_8_khz(audio: &[u8]) -> Vec<i16> {
    let samples: Vec<i32> =
        audio.chunks_exact(2).map(|pair| i32::from(i16::from_le_bytes([pair[0], pair[1]]))).collect();
    samples.chunks_exact(3).map(|three| (three.iter().sum::<i32>() / 3) as i16).collect()
}

/// Nothing was said that the vendor would have refused, and the caller's end is the session's.
fn ends_well(fakes: &Fakes, phone: &Phone) {
    phone.play(&silence(100));
    assert_eq!(phone.hang_up(), Some(200));
    let closed = || fakes.log().iter().any(|entry| entry["event"] == "closed");
    assert!(within(SOON, closed), "the WebSocket is closed");
    assert_eq!(fakes.faults(), [] as [Value; 0]);
    assert_eq!(fakes.messages("out", "error"), [] as [Value; 0]);
}
