//! Speech is no digit: what espeak-ng says in many languages and voices. The long run over recordings of people is
//! `tests/talk_off`.

use std::path::Path;
use std::process::Command;

use engine::dtmf::inband::{InbandDetectors, InbandEvent};
use engine::wav;

/// Sentences with many open vowels, numbers and letters.
const TEXT: &str = "Two nine six four, please hold the line. We are always looking for a good way home. \
    Oh, you are early! One, three, five, seven, eleven and forty thousand. Alpha, echo, uniform, oscar. \
    How are you, where are you, who are you? Mama, banana, papaya, aurora, yoyo, hello, hallo, ciao.";

const VOICES: [&str; 12] = [
    "en-us+m3",
    "en-gb+f2",
    "de+m1",
    "fr+f4",
    "es+m7",
    "it+f1",
    "nl+m2",
    "pl+f3",
    "pt-br+m5",
    "hi+f5",
    "sv+croak",
    "tr+whisper",
];

#[test]
fn no_digit_is_heard_in_synthetic_speech_of_twelve_languages() {
    if Command::new("espeak-ng").arg("--version").output().is_err() {
        skip("no_digit_is_heard_in_synthetic_speech_of_twelve_languages: espeak-ng is not installed");
        return;
    }
    let mut samples = 0;
    let mut heard = Vec::new();
    for (n, voice) in VOICES.iter().enumerate() {
        let pitch = (20 + n * 23 % 70).to_string();
        let spoken = Command::new("espeak-ng")
            .args(["-v", voice, "-p", &pitch, "--stdout", TEXT])
            .output()
            .expect("espeak-ng runs");
        let pcm = wav::parse(&spoken.stdout).expect("a WAV file");
        samples += pcm.len();
        let mut detectors = InbandDetectors::new(1);
        for (frame, pcm) in pcm.chunks(160).enumerate() {
            detectors.process(&[(0, pcm)], |_, event| {
                if let InbandEvent::Start { digit, .. } = event {
                    heard.push((*voice, frame / 50, digit));
                }
            });
        }
    }
    assert!(samples > 8000 * 120, "only {} s", samples / 8000);
    assert_eq!(heard, []);
}

/// Names what could not be tested where `tests/run` collects it; a failure where all peers must be there.
fn skip(why: &str) {
    assert!(std::env::var_os("SIDETONE_REQUIRE_PEERS").is_none(), "{why}");
    if let Some(file) = std::env::var_os("SIDETONE_SKIP_FILE") {
        let mut skips = std::fs::read_to_string(&file).unwrap_or_default();
        skips.push_str(why);
        skips.push('\n');
        std::fs::write(Path::new(&file), skips).expect("the list of skips");
    }
}
