//! What the demo agent says and when. Sans-IO: messages in, messages out; time is the caller's audio.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::ear::Ear;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Send this text message.
    Send(String),
    /// Close the stream normally, which hangs up.
    Close,
}

/// One call. After [`Conversation::handle_message`] the owner drains [`Conversation::poll_output`].
#[derive(Debug)]
pub(super) struct Conversation {
    state: State,
    stream_sid: Value,
    ear: Ear,
    /// What the caller says; before they do, the last moment, so that the first sound is not cut off.
    recording: Vec<u8>,
    /// Counts what was said; the name of the mark behind it.
    spoken: u64,
    /// Caller audio since the state began, in samples.
    elapsed: usize,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before `start`.
    Waiting,
    /// Until the mark of what is being said comes back.
    Speaking,
    Listening,
    /// The caller speaks.
    Recording,
    /// Until the goodbye was played.
    Leaving,
    Closed,
}

impl Conversation {
    pub(super) fn new() -> Self {
        Self {
            state: State::Waiting,
            stream_sid: Value::Null,
            ear: Ear::new(),
            recording: Vec::new(),
            spoken: 0,
            elapsed: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Takes a text message of the Twilio Media Streams protocol. What it does not understand it ignores.
    pub(super) fn handle_message(&mut self, text: &str) {
        let Ok(message) = serde_json::from_str::<Value>(text) else { return };
        match (self.state, message["event"].as_str().unwrap_or_default()) {
            (State::Closed, _) => {}
            (State::Waiting, "start") => {
                self.stream_sid = message["streamSid"].clone();
                self.say(GREETING, State::Speaking);
            }
            (_, "stop") => self.close(),
            (State::Waiting, _) => {}
            (_, "media") => {
                let payload = message["media"]["payload"].as_str().unwrap_or_default();
                if let Ok(audio) = BASE64.decode(payload) {
                    self.handle_audio(&audio);
                }
            }
            (State::Speaking | State::Leaving, "mark") => self.handle_mark(&message["mark"]["name"]),
            (state, "dtmf") if state != State::Leaving && message["dtmf"]["digit"] == "#" => {
                self.send(&json!({ "event": "clear", "streamSid": self.stream_sid }));
                self.say(GOODBYE, State::Leaving);
            }
            _ => {}
        }
    }

    #[must_use]
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    #[must_use]
    pub(super) fn has_started(&self) -> bool {
        self.state != State::Waiting
    }

    fn handle_audio(&mut self, audio: &[u8]) {
        // In slices, so that a long message is heard as well as many short ones.
        for slice in audio.chunks(160) {
            self.ear.listen(slice);
            self.recording.extend_from_slice(slice);
            self.elapsed += slice.len();
            match self.state {
                State::Speaking => {
                    self.keep_last_moment();
                    if self.ear.hears_interruption() {
                        self.send(&json!({ "event": "clear", "streamSid": self.stream_sid }));
                        self.enter(State::Recording);
                    }
                }
                State::Listening => {
                    self.keep_last_moment();
                    // The end of what was played may still echo.
                    let echo = self.elapsed < ECHO_SAMPLES;
                    if self.ear.hears_interruption() || !echo && self.ear.hears_speech() {
                        self.enter(State::Recording);
                    }
                }
                State::Recording => {
                    let quiet = self.ear.quiet_samples();
                    if quiet >= PAUSE_SAMPLES || self.recording.len() >= MAX_RECORDING_SAMPLES {
                        let end = self.recording.len()
                            - quiet.saturating_sub(TAIL_SAMPLES).min(self.recording.len());
                        let said = std::mem::take(&mut self.recording);
                        self.say(&said[..end], State::Speaking);
                    }
                }
                State::Leaving => {
                    self.recording.clear();
                    if self.elapsed >= LEAVING_SAMPLES {
                        self.close();
                    }
                }
                State::Waiting | State::Closed => self.recording.clear(),
            }
        }
    }

    /// Marks of what a `clear` cut off come back too; only the last one means anything.
    fn handle_mark(&mut self, name: &Value) {
        if name.as_str() != Some(self.spoken.to_string().as_str()) {
            return;
        }
        if self.state == State::Leaving {
            self.close();
        } else {
            self.recording.clear();
            self.ear.forget();
            self.enter(State::Listening);
        }
    }

    fn say(&mut self, audio: &[u8], then: State) {
        for chunk in audio.chunks(CHUNK_BYTES) {
            let media = json!({ "payload": BASE64.encode(chunk) });
            self.send(&json!({ "event": "media", "streamSid": self.stream_sid, "media": media }));
        }
        self.spoken += 1;
        let mark = json!({ "name": self.spoken.to_string() });
        self.send(&json!({ "event": "mark", "streamSid": self.stream_sid, "mark": mark }));
        self.ear.forget();
        self.enter(then);
    }

    fn send(&mut self, message: &Value) {
        self.outputs.push_back(Output::Send(message.to_string()));
    }

    fn close(&mut self) {
        self.outputs.push_back(Output::Close);
        self.enter(State::Closed);
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.elapsed = 0;
    }

    fn keep_last_moment(&mut self) {
        let excess = self.recording.len().saturating_sub(LAST_MOMENT_SAMPLES);
        self.recording.drain(..excess);
    }
}

const GREETING: &[u8] = include_bytes!("../../../../assets/demo-greeting.ulaw");
const GOODBYE: &[u8] = include_bytes!("../../../../assets/demo-goodbye.ulaw");

/// 400 ms per message.
const CHUNK_BYTES: usize = 3200;
/// Quiet for 700 ms ends what the caller says.
const PAUSE_SAMPLES: usize = 5600;
/// Of which 200 ms are repeated.
const TAIL_SAMPLES: usize = 1600;
/// 300 ms before speech was recognised.
const LAST_MOMENT_SAMPLES: usize = 2400;
/// 30 s.
const MAX_RECORDING_SAMPLES: usize = 240_000;
/// 200 ms.
const ECHO_SAMPLES: usize = 1600;
/// 10 s, should the mark of the goodbye never come.
const LEAVING_SAMPLES: usize = 80_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Phone {
        conversation: Conversation,
    }

    /// What the agent did: audio said, marks asked for, clears and the close, in order.
    #[derive(Debug, PartialEq, Eq)]
    enum Act {
        Said(Vec<u8>),
        Mark(String),
        Clear,
        Close,
    }

    impl Phone {
        fn started() -> (Self, String) {
            let mut phone = Self { conversation: Conversation::new() };
            assert_eq!(phone.tell(json!({"event": "connected", "protocol": "Call"})), []);
            let acts = phone.tell(json!({"event": "start", "streamSid": "MZ1", "start": {}}));
            let [Act::Said(greeting), Act::Mark(mark)] = acts.as_slice() else { panic!("{acts:?}") };
            assert_eq!(greeting, GREETING);
            (phone, mark.clone())
        }

        fn listening() -> Self {
            let (mut phone, mark) = Self::started();
            assert_eq!(phone.mark(&mark), []);
            assert_eq!(phone.hear(&[0xff; 4000]), []);
            phone
        }

        fn tell(&mut self, message: Value) -> Vec<Act> {
            self.conversation.handle_message(&message.to_string());
            self.acts()
        }

        fn mark(&mut self, name: &str) -> Vec<Act> {
            self.tell(json!({"event": "mark", "mark": {"name": name}}))
        }

        fn hear(&mut self, audio: &[u8]) -> Vec<Act> {
            for frame in audio.chunks(160) {
                let media = json!({"event": "media", "media": {"payload": BASE64.encode(frame)}});
                self.conversation.handle_message(&media.to_string());
            }
            self.acts()
        }

        fn acts(&mut self) -> Vec<Act> {
            let mut acts = Vec::new();
            while let Some(output) = self.conversation.poll_output() {
                let Output::Send(text) = output else {
                    acts.push(Act::Close);
                    continue;
                };
                let message: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(message["streamSid"], "MZ1");
                match message["event"].as_str() {
                    Some("media") => {
                        let payload = message["media"]["payload"].as_str().expect("a payload");
                        let audio = BASE64.decode(payload).expect("base64");
                        match acts.last_mut() {
                            Some(Act::Said(said)) => said.extend(audio),
                            _ => acts.push(Act::Said(audio)),
                        }
                    }
                    Some("mark") => {
                        acts.push(Act::Mark(message["mark"]["name"].as_str().expect("a name").into()))
                    }
                    Some("clear") => acts.push(Act::Clear),
                    other => panic!("{other:?}"),
                }
            }
            acts
        }
    }

    /// Two seconds of speech.
    fn speech() -> &'static [u8] {
        &GREETING[..16_000]
    }

    fn contains(hay: &[u8], needle: &[u8]) -> bool {
        hay.windows(needle.len()).any(|window| window == needle)
    }

    #[test]
    fn caller_is_repeated_after_a_pause() {
        let mut phone = Phone::listening();
        assert_eq!(phone.hear(speech()), []);
        assert_eq!(phone.hear(&[0xff; 4000]), []);
        let acts = phone.hear(&[0xff; 4000]);
        let [Act::Said(said), Act::Mark(mark)] = acts.as_slice() else { panic!("{acts:?}") };
        assert!(contains(said, speech()));
        assert!(said.len() < speech().len() + 6000, "{}", said.len());

        phone.mark(mark);
        assert_eq!(phone.hear(&[0xff; 8000]), []);
        phone.hear(speech());
        assert_eq!(phone.hear(&[0xff; 8000]).len(), 2);
    }

    #[test]
    fn agent_stops_when_the_caller_talks_over_the_greeting() {
        let (mut phone, mark) = Phone::started();
        assert_eq!(phone.hear(&[0xff; 8000]), []);
        assert_eq!(phone.hear(&speech()[2000..6000]), [Act::Clear]);
        // The mark of the greeting comes back because of the clear, and must not start anything.
        assert_eq!(phone.mark(&mark), []);
        let acts = phone.hear(&[0xff; 8000]);
        let [Act::Said(said), Act::Mark(_)] = acts.as_slice() else { panic!("{acts:?}") };
        assert!(contains(said, &speech()[2000..6000]), "the interruption itself is repeated");
    }

    #[test]
    fn agent_stops_when_the_caller_talks_over_a_repetition() {
        let mut phone = Phone::listening();
        phone.hear(speech());
        assert_eq!(phone.hear(&[0xff; 8000]).len(), 2);
        assert_eq!(phone.hear(&speech()[2000..6000]), [Act::Clear]);
    }

    #[test]
    fn interruption_is_noticed_within_a_fifth_of_a_second() {
        let (mut phone, _) = Phone::started();
        phone.hear(&[0xff; 8000]);
        let tone: Vec<u8> = (0..8000u32).map(|n| if n % 8 < 4 { 0x90 } else { 0x10 }).collect();
        assert_eq!(phone.hear(&tone[..800]), []);
        assert_eq!(phone.hear(&tone[800..1600]), [Act::Clear]);
    }

    #[test]
    fn silence_and_clicks_say_nothing() {
        let mut phone = Phone::listening();
        for _ in 0..20 {
            assert_eq!(phone.hear(&speech()[4000..4200]), []);
            assert_eq!(phone.hear(&[0xff; 8000]), []);
        }
    }

    #[test]
    fn endless_speech_is_repeated_in_parts() {
        let mut phone = Phone::listening();
        let mut acts = Vec::new();
        for _ in 0..20 {
            acts.extend(phone.hear(speech()));
        }
        let Some(Act::Said(said)) = acts.first() else { panic!("{acts:?}") };
        assert!(said.len() <= MAX_RECORDING_SAMPLES + 160);
    }

    #[test]
    fn hash_says_goodbye_and_hangs_up_when_it_was_heard() {
        let mut phone = Phone::listening();
        let digit = |digit| json!({"event": "dtmf", "dtmf": {"digit": digit}});
        assert_eq!(phone.tell(digit("5")), []);
        let acts = phone.tell(digit("#"));
        let [Act::Clear, Act::Said(said), Act::Mark(mark)] = acts.as_slice() else { panic!("{acts:?}") };
        assert_eq!(said, GOODBYE);
        assert_eq!(phone.hear(speech()), []);
        assert_eq!(phone.tell(digit("#")), []);
        assert_eq!(phone.mark("0"), []);
        assert_eq!(phone.mark(mark), [Act::Close]);
        assert_eq!(phone.hear(speech()), []);
    }

    #[test]
    fn goodbye_ends_even_without_its_mark() {
        let mut phone = Phone::listening();
        phone.tell(json!({"event": "dtmf", "dtmf": {"digit": "#"}}));
        assert_eq!(phone.hear(&vec![0xff; LEAVING_SAMPLES]), [Act::Close]);
    }

    #[test]
    fn stop_closes() {
        let mut phone = Phone::listening();
        assert_eq!(phone.tell(json!({"event": "stop"})), [Act::Close]);
        assert_eq!(phone.tell(json!({"event": "stop"})), []);
    }

    proptest! {
        #[test]
        fn garbage_is_ignored(texts in proptest::collection::vec(".{0,40}", 0..20)) {
            let (mut phone, _) = Phone::started();
            for text in texts {
                phone.conversation.handle_message(&text);
            }
            prop_assert_eq!(phone.acts(), []);
        }

        #[test]
        fn any_audio_leaves_memory_bounded(audio in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let (mut phone, _) = Phone::started();
            for _ in 0..3 {
                phone.hear(&audio);
            }
            prop_assert!(phone.conversation.recording.len() <= MAX_RECORDING_SAMPLES);
        }
    }
}
