//! Vendors that misbehave in the middle of a call: our binary between a phone and the fakes of OpenAI Realtime and Azure Voice
//! Live, which lag, stall, fail, flood and vanish at the press of a key.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::audio::{rms, tone};
use support::phone::Phone;
use support::server::{Server, Setup};
use support::vendors::Fakes;
use support::wav::{decode_mu_law, encode_mu_law};
use support::within;

/// The 2 of the fakes: 3 s of answer at 0.9 of real time.
#[test]
fn an_answer_slower_than_time_is_heard_whole_with_gaps_that_are_counted() {
    let Some(call) = Call::open("openai", "") else { return };
    call.press("2");
    let item = call.item(1);
    assert!(within(SOON, || call.done(1) == Some("completed".to_owned())), "the answer is sent");
    std::thread::sleep(Duration::from_millis(700));
    let said = loud(&call.fakes.item(&item));
    assert!(said.len() > 20_000, "{}", said.len());
    let heard = loud(&call.heard());
    let missing = said.len().saturating_sub(heard.len());
    assert!(missing * 200 < said.len(), "{missing} of {} samples are missing", said.len());
    assert!(call.counted("underruns") > 0.0, "gaps are counted");
    assert_eq!(call.counted("bot_audio_overflow_bytes"), 0.0);
    call.goes_on(1);
}

/// The 8: it says a second and does not read for five.
#[test]
fn what_the_caller_says_during_a_stall_arrives_after_it() {
    let Some(call) = Call::open("openai", "") else { return };
    call.press("8");
    assert!(within(SOON, || call.done(1) == Some("completed".to_owned())), "the answer is sent");
    std::thread::sleep(Duration::from_millis(1500));
    let question = tone(700.0, 600, 8000.0);
    call.phone.play(&question);
    let spoken: Vec<u8> = question.iter().map(|&sample| encode_mu_law(sample)).collect();
    let arrived = || call.fakes.caller(1).windows(spoken.len()).any(|window| window == spoken);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!arrived(), "the fake reads all the same");
    assert!(within(SOON, arrived), "the question arrives byte by byte");
    assert_eq!(call.counted("caller_audio_stale"), 0.0);
    assert!(within(SOON, || call.done(2).is_some()), "and is answered");
    call.ends_well(1);
}

/// The 7: an answer of three minutes in one frame of 2 MB. Two minutes may wait.
#[test]
fn three_minutes_in_one_frame_are_cut_and_can_be_interrupted() {
    let Some(call) = Call::open("openai", "") else { return };
    call.press("7");
    let item = call.item(1);
    assert!(
        within(SOON, || call.counted("bot_audio_overflow_bytes") > 400_000.0),
        "what is too much is counted"
    );
    assert!(call.log_has("more audio than may be queued"), "{}", call.server.log());
    assert!(within(SOON, || rms(&call.phone.audio()) > 50.0), "the answer is heard");
    std::thread::sleep(Duration::from_millis(1000));
    call.phone.play(&tone(700.0, 400, 8000.0));
    let truncated = || call.fakes.messages("out", "conversation.item.truncated");
    assert!(within(SOON, || !truncated().is_empty()), "it is cut off");
    assert_eq!(truncated()[0]["item_id"], item.as_str());
    let end_ms = truncated()[0]["audio_end_ms"].as_u64().expect("an integer") as usize;
    // Nothing of two minutes is left in the way of the next answer.
    assert!(within(SOON, || call.done(2).is_some()), "the interruption is answered");
    let next = loud(&call.fakes.item(&call.item(2)));
    let begin = &next[..200];
    assert!(
        within(SOON, || loud(&call.heard()).windows(begin.len()).any(|window| window == begin)),
        "and the answer heard"
    );
    let carried = common(&call.fakes.item(&item), &call.heard());
    assert!((carried / 8).abs_diff(end_ms) <= 1, "{carried} samples were carried, truncated at {end_ms} ms");
    call.ends_well(1);
}

/// The 6: response.done with the status failed.
#[test]
fn a_response_that_fails_is_logged_and_the_next_one_heard() {
    for dialect in ["openai", "azure_voice_live"] {
        let Some(call) = Call::open(dialect, "") else { return };
        call.press("6");
        assert!(within(SOON, || call.done(1) == Some("failed".to_owned())), "{dialect}: it fails");
        assert!(within(SOON, || call.log_has("rate_limit_exceeded")), "{}", call.server.log());
        assert!(rms(&call.phone.audio()) < 50.0, "{dialect}: nothing is heard");
        call.goes_on(1);
    }
}

#[test]
fn a_truncation_that_the_vendor_refuses_changes_nothing_for_the_caller() {
    let Some(call) = Call::open("openai", "truncate_error=1") else { return };
    call.phone.play(&tone(700.0, 400, 8000.0));
    let item = call.item(1);
    assert!(within(SOON, || rms(&call.phone.audio()) > 50.0), "the answer is heard");
    std::thread::sleep(Duration::from_millis(800));
    call.phone.play(&tone(700.0, 300, 8000.0));
    assert!(within(SOON, || !call.fakes.messages("out", "error").is_empty()), "the refusal of {item}");
    assert!(within(SOON, || call.done(2).is_some()), "the interruption is answered");
    assert_eq!(call.phone.hang_up(), Some(200));
}

/// 01, 06, 11 and 40, in the middle of an answer: an error and close 1001, RST, close 1011, an error and close 4000.
#[test]
fn a_connection_that_ends_in_mid_answer_is_made_anew() {
    for (keys, counter, reason) in [
        ("01", "rejected", "session_expired"),
        ("06", "lost", "AI backend was lost"),
        ("11", "closed_by_peer", "1011"),
        ("40", "rejected", "beta_api_shape_disabled"),
    ] {
        let Some(call) = Call::open("openai", "") else { return };
        call.press(keys);
        let item = call.item(1);
        call.is_connected_again();
        assert_eq!(call.counted(counter), 1.0, "{keys}: {}", call.server.metrics_like("sidetone_ai"));
        assert!(call.log_has(reason), "{keys}: {}", call.server.log());
        // What had come of the answer is heard to its end, and no more.
        std::thread::sleep(Duration::from_millis(1500));
        let said = loud(&call.fakes.item(&item));
        let heard = loud(&call.heard());
        let missing = said.len().abs_diff(heard.len());
        assert!(missing * 20 < said.len(), "{keys}: {} of {} samples are heard", heard.len(), said.len());
        call.goes_on(2);
    }
}

const SOON: Duration = Duration::from_secs(25);

/// A call that has been answered and whose session is set up.
struct Call {
    fakes: Fakes,
    server: Server,
    phone: Phone,
}

impl Call {
    fn open(dialect: &str, query: &str) -> Option<Self> {
        let fakes = Fakes::start()?;
        let url = if dialect == "openai" { fakes.openai(query) } else { fakes.voice_live(query) };
        let server = Server::start(&Setup::new(&format!(
            "[agents.bot]\ndialect = \"{dialect}\"\nurl = \"{url}\"\nauth_token_file = \"{}\"\n\
             [[routes]]\nregex = '\\d+'\napp = \"agent\"\nagent = \"bot\"\n",
            fakes.token_path().display()
        )));
        let phone = Phone::dial(server.sip, "4930123").expect("the call is answered");
        let call = Self { fakes, server, phone };
        assert!(within(SOON, || !call.fakes.messages("out", "session.updated").is_empty()), "the session");
        assert!(within(SOON, || !call.fakes.caller(1).is_empty()), "caller audio");
        Some(call)
    }

    /// Has the fake do what these keys mean.
    fn press(&self, keys: &str) {
        keys.chars().chain(['#']).for_each(|key| self.phone.press(key));
    }

    /// The id of the item that is the nth to be begun, once it is.
    fn item(&self, number: usize) -> String {
        let added = || self.fakes.messages("out", "response.output_item.added");
        assert!(within(SOON, || added().len() >= number), "item {number}");
        added()[number - 1]["item"]["id"].as_str().expect("an id").to_owned()
    }

    /// How the nth response ended, if it has.
    fn done(&self, number: usize) -> Option<String> {
        let done = self.fakes.messages("out", "response.done");
        Some(done.get(number - 1)?["response"]["status"].as_str()?.to_owned())
    }

    fn connections(&self) -> usize {
        self.fakes.log().iter().filter(|entry| entry["event"] == "upgrade").count()
    }

    fn is_connected_again(&self) {
        assert!(within(SOON, || self.connections() == 2), "a second connection: {}", self.server.log());
        assert!(within(SOON, || self.fakes.messages("out", "session.updated").len() == 2), "its session");
        assert!(within(SOON, || self.counted("reconnected") > 0.0), "{}", self.server.log());
    }

    fn counted(&self, name: &str) -> f64 {
        self.server.metric(&format!("sidetone_ai_{name}_total"), "").unwrap_or_else(|| panic!("no {name}"))
    }

    fn log_has(&self, text: &str) -> bool {
        self.server.log().contains(text)
    }

    /// The audio that came, byte by byte.
    fn heard(&self) -> Vec<u8> {
        let heard = self.phone.heard().into_iter();
        heard.filter(|packet| packet.payload_type == 0).flat_map(|packet| packet.payload).collect()
    }

    /// A question on this connection is answered and heard; then the call ends.
    fn goes_on(&self, connection: u32) {
        let (items, heard) =
            (self.fakes.messages("out", "response.output_item.added").len(), self.heard().len());
        self.phone.play(&tone(700.0, 400, 8000.0));
        let item = self.item(items + 1);
        assert!(item.starts_with(&format!("item_{connection}_")), "{item} of connection {connection}");
        let is_heard = || rms(&decoded(&self.heard()[heard..])) > 50.0;
        assert!(within(SOON, is_heard), "the next answer is heard");
        self.ends_well(connection);
    }

    /// The caller hangs up, and nobody ever said what the vendor would have refused.
    fn ends_well(&self, connection: u32) {
        assert!(self.phone.ended().is_none(), "{}", self.server.log());
        assert_eq!(self.phone.hang_up(), Some(200));
        let closed = |entry: &Value| entry["event"] == "closed" && entry["conn"] == connection;
        assert!(within(SOON, || self.fakes.log().iter().any(closed)), "the WebSocket is closed");
        assert_eq!(self.fakes.faults(), [] as [Value; 0]);
    }
}

fn decoded(audio: &[u8]) -> Vec<i16> {
    audio.iter().map(|&byte| decode_mu_law(byte)).collect()
}

/// What is no silence.
fn loud(audio: &[u8]) -> Vec<u8> {
    audio.iter().copied().filter(|byte| byte & 0x7f != 0x7f).collect()
}

/// How many bytes of `item` follow where it begins in what was heard.
fn common(item: &[u8], heard: &[u8]) -> usize {
    let head = &item[..400.min(item.len())];
    let begins = heard.windows(head.len()).position(|window| window == head).expect("the item is heard");
    item.iter().zip(&heard[begins..]).take_while(|(said, heard)| said == heard).count()
}
