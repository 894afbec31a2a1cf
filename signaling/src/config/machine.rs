//! Values that name parts of the machine: CPUs, queues, interfaces, priorities.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::types::deserialize_from_str;

deserialize_from_str!(CpuList, QueueList, InterfaceName);

/// CPU numbers, such as `0,2-3`; empty leaves the choice to the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        numbers(text, "CPU", HIGHEST_CPU).map(Self)
    }
}

const HIGHEST_CPU: usize = 1023;

/// Receive queues of a network interface, such as `0-3`; empty takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueList(pub Vec<u32>);

impl FromStr for QueueList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let queues = numbers(text, "queue", HIGHEST_QUEUE)?;
        Ok(Self(queues.into_iter().map(|queue| queue as u32).collect()))
    }
}

/// As many as the XDP program's map of sockets holds.
const HIGHEST_QUEUE: usize = 1023;

/// Numbers and ranges, none of them twice.
fn numbers(text: &str, what: &str, highest: usize) -> Result<Vec<usize>, String> {
    let wrong = || {
        format!(
            "`{text}` is not a list of {what}s up to {highest}; write numbers and ranges, such as `0,2-3`"
        )
    };
    let mut listed = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let low: usize = low.trim().parse().map_err(|_| wrong())?;
        let high: usize = high.trim().parse().map_err(|_| wrong())?;
        if high < low || high > highest {
            return Err(wrong());
        }
        for number in low..=high {
            if listed.contains(&number) {
                return Err(format!("`{text}` names {what} {number} twice"));
            }
            listed.push(number);
        }
    }
    Ok(listed)
}

/// The name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceName(pub String);

impl FromStr for InterfaceName {
    type Err = String;

    /// As `dev_valid_name()` of the kernel has it.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = text.is_empty()
            || text.len() > 15
            || [".", ".."].contains(&text)
            || text.bytes().any(|byte| byte == b'/' || byte == b':' || byte.is_ascii_whitespace());
        if wrong {
            return Err(format!("`{text}` is not the name of a network interface; `ip link` lists them"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A real-time priority (SCHED_FIFO), 1 to 99, or `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Priority(pub Option<u8>);

impl FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "off" => Ok(Self(None)),
            number => match number.parse() {
                Ok(priority @ 1..=99) => Ok(Self(Some(priority))),
                _ => Err(format!("`{text}` is not a priority; write 1 to 99 or `off`")),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrWord;
        impl Visitor<'_> for NumberOrWord {
            type Value = Priority;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("1 to 99 or `off`")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Priority, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Priority, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Priority, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrWord)
    }
}
