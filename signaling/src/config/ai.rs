//! Values of `[agents.NAME]` parsed into types that cannot be wrong.

use std::str::FromStr;

use engine::ai::dialect::{AudioFormat, Encoding};
use serde::{Deserialize, Deserializer, de};

use super::types::deserialize_from_str;
use crate::sip::TransferTarget;

deserialize_from_str!(AudioName, OnFailure, AccountSid, TransferTarget);

/// How audio is written: `pcmu`, `pcma` or `l16/RATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioName(pub AudioFormat);

impl FromStr for AudioName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no audio format; write `pcmu`, `pcma`, `l16/8000`, `l16/16000`, `l16/24000` or `l16/48000`"
            )
        };
        let (encoding, rate) = match text.trim().split_once('/') {
            Some((encoding, rate)) => (encoding, Some(rate.parse::<u32>().map_err(|_| wrong())?)),
            None => (text.trim(), None),
        };
        match (encoding.to_ascii_lowercase().as_str(), rate) {
            ("pcmu", None | Some(8_000)) => Ok(Self(AudioFormat::PCMU)),
            ("pcma", None | Some(8_000)) => Ok(Self(AudioFormat::PCMA)),
            ("l16" | "pcm16", Some(rate @ (8_000 | 16_000 | 24_000 | 48_000))) => {
                Ok(Self(AudioFormat { encoding: Encoding::L16, rate }))
            }
            _ => Err(wrong()),
        }
    }
}

/// What happens to a call whose backend is lost for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// BYE.
    HangUp,
    /// The fallback prompt, then BYE.
    PlayFallback,
    /// Transfer by REFER.
    Transfer(TransferTarget),
}

impl FromStr for OnFailure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "hang_up" => Ok(Self::HangUp),
            "play_fallback" => Ok(Self::PlayFallback),
            address => address.parse().map(Self::Transfer).map_err(|_| {
                format!(
                    "`{text}` is neither `hang_up` nor `play_fallback` nor an address to transfer to, such as `sip:operator@example.com`"
                )
            }),
        }
    }
}

/// `AC` and 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSid(pub String);

impl FromStr for AccountSid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("AC").unwrap_or_default();
        if digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("`{text}` is no account; write `AC` and 32 hexadecimal digits"))
    }
}

/// A table whose content is the operator's and the vendor's business.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct FreeTable(pub toml::Table);

impl FreeTable {
    /// As JSON; a date becomes a string.
    #[must_use]
    pub fn json(&self) -> serde_json::Map<String, serde_json::Value> {
        self.0.iter().map(|(key, value)| (key.clone(), json(value))).collect()
    }
}

fn json(value: &toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(truth) => (*truth).into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(items) => items.iter().map(json).collect(),
        toml::Value::Table(table) => {
            serde_json::Value::Object(table.iter().map(|(key, value)| (key.clone(), json(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_formats_have_the_names_of_rtp() {
        for (text, format) in [
            ("pcmu", AudioFormat::PCMU),
            ("PCMA/8000", AudioFormat::PCMA),
            ("l16/16000", AudioFormat::l16(16_000)),
            ("pcm16/24000", AudioFormat::l16(24_000)),
        ] {
            assert_eq!(text.parse(), Ok(AudioName(format)), "{text}");
        }
        for bad in ["", "l16", "l16/11025", "pcmu/16000", "opus", "l16/x", "l16/-8000"] {
            assert!(bad.parse::<AudioName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn failure_ends_in_a_word_or_an_address() {
        assert_eq!("hang_up".parse(), Ok(OnFailure::HangUp));
        assert_eq!("play_fallback".parse(), Ok(OnFailure::PlayFallback));
        assert!(matches!("sip:operator@example.com".parse(), Ok(OnFailure::Transfer(_))));
        let error = "transfer".parse::<OnFailure>().expect_err("neither");
        assert!(error.contains("sip:operator@example.com"), "{error}");
    }

    #[test]
    fn tables_become_json() {
        let table: FreeTable = toml::from_str("a = 1\nb = [true, 0.5]\n[c]\nd = \"e\"\n").expect("a table");
        let json = serde_json::Value::Object(table.json());
        assert_eq!(json, serde_json::json!({ "a": 1, "b": [true, 0.5], "c": { "d": "e" } }));
    }
}
