//! DTMF in the body of an INFO request.

use std::time::Duration;

use engine::command::Digit;

/// The key in a body of `application/dtmf-relay` (`Signal=5`, `Duration=160`) or `application/dtmf` (`5`).
pub(super) fn parse_dtmf(content_type: &str, body: &[u8]) -> Option<(Digit, Duration)> {
    let text = std::str::from_utf8(body.get(..body.len().min(MAX_BYTES))?).ok()?;
    match content_type {
        "application/dtmf-relay" => {
            let field = |wanted: &str| {
                text.lines().find_map(|line| {
                    let (name, value) = line.split_once('=')?;
                    name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
                })
            };
            let digit = parse_digit(field("signal")?)?;
            let milliseconds = field("duration").and_then(|duration| duration.parse().ok());
            let duration = milliseconds.map_or(DEFAULT_DURATION, |milliseconds: u32| {
                Duration::from_millis(milliseconds.into()).clamp(MIN_DURATION, MAX_DURATION)
            });
            Some((digit, duration))
        }
        "application/dtmf" => Some((parse_digit(text.trim())?, DEFAULT_DURATION)),
        _ => None,
    }
}

/// A key as itself, or as its telephone-event code (10 is `*`).
fn parse_digit(text: &str) -> Option<Digit> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(digit), None) => Digit::from_char(digit),
        _ if text.len() == 2 => Digit::from_event(text.parse().ok()?),
        _ => None,
    }
}

const DEFAULT_DURATION: Duration = Duration::from_millis(160);
const MIN_DURATION: Duration = Duration::from_millis(40);
const MAX_DURATION: Duration = Duration::from_secs(8);
/// What follows is not looked at.
const MAX_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(content_type: &str, body: &str) -> Option<(char, u128)> {
        parse_dtmf(content_type, body.as_bytes())
            .map(|(digit, duration)| (digit.as_char(), duration.as_millis()))
    }

    #[test]
    fn relayed_keys_are_understood() {
        for (body, key) in [
            ("Signal=5\r\nDuration=200\r\n", Some(('5', 200))),
            ("Signal= *\nDuration= 100", Some(('*', 100))),
            ("signal=11", Some(('#', 160))),
            ("Signal=d\r\nDuration=x\r\n", Some(('D', 160))),
            ("Signal=1\r\nDuration=4294967295\r\n", Some(('1', 8000))),
            ("Signal=1\r\nDuration=0\r\n", Some(('1', 40))),
            ("Signal=16\r\n", None),
            ("Signal=hf\r\n", None),
            ("Signal=\r\n", None),
            ("Duration=100\r\n", None),
            ("", None),
        ] {
            assert_eq!(parsed("application/dtmf-relay", body), key, "{body:?}");
        }
        assert_eq!(parsed("application/dtmf", "7\r\n"), Some(('7', 160)));
        assert_eq!(parsed("application/dtmf", "77\r\n"), None);
        assert_eq!(parsed("text/plain", "7"), None);
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_dtmf("application/dtmf-relay", &body);
            let _ = parse_dtmf("application/dtmf", &body);
        }
    }
}
