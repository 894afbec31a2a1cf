//! What a backend is told about the call, as names and values. Most values come from the peer: cleaned and bounded.

use std::collections::BTreeMap;

use super::{AudioFormat, Encoding, Incoming, Sender, StreamStart};
use crate::dsp::rate::SampleRate;

/// The caller, the called, the call's id and the operator's own parameters, which win.
pub(super) fn details(start: &StreamStart) -> BTreeMap<String, String> {
    let known = [
        ("call_id", &start.call_id),
        ("from", &start.from),
        ("from_name", &start.from_name),
        ("to", &start.to),
    ];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    let known = known.map(|(name, value)| (name.to_owned(), clean(value)));
    let own = start.custom_parameters.iter().map(|(name, value)| (name.clone(), clean(value)));
    known.chain(own).collect()
}

/// What was said so far, to be read by a model.
pub(super) fn told(history: &[(Sender, String)]) -> String {
    let mut text = String::from("The connection was lost and is back. What was said so far:");
    for (from, said) in history {
        let who = match from {
            Sender::Caller => "Caller",
            Sender::Bot => "You",
            Sender::System => "Note",
        };
        text.push_str(&format!("\n{who}: {said}"));
    }
    text
}

/// The format, if it can be converted from and to the line's.
pub(super) fn convertible(format: AudioFormat) -> Option<AudioFormat> {
    let g711 = format.encoding != Encoding::L16;
    SampleRate::from_hz(format.rate).filter(|_| !g711 || format.rate == 8_000).map(|_| format)
}

/// The backend speaks or wants a format that cannot be converted. The session is of no use.
pub(super) fn unsupported_format(format: &str, advice: &str) -> Incoming {
    Incoming::Error {
        fatal: true,
        code: "unsupported_format".to_owned(),
        text: format!("the audio format {format} is not supported; {advice}"),
    }
}

fn clean(value: &str) -> String {
    value.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect()
}

const MAX_CHARS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cleaned_and_the_operators_win() {
        let start = StreamStart {
            call_id: "a84b4c".into(),
            from: "+49\r\n30".into(),
            from_name: "é".repeat(10_000),
            custom_parameters: [("to".to_owned(), "sales".to_owned())].into(),
            to: "agent".into(),
            ..StreamStart::default()
        };
        let details = details(&start);
        assert_eq!(details["call_id"], "a84b4c");
        assert_eq!(details["from"], "+4930");
        assert_eq!(details["from_name"].chars().count(), 500);
        assert_eq!(details["to"], "sales");
    }
}
