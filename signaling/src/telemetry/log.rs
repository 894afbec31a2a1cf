//! Structured logs, as lines for people or as JSON objects.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

/// Why the log did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither one nor a filter.
    #[error(
        "`{0}` is neither a log level (error, warn, info, debug, trace) nor a filter such as `info,signaling::sip=debug`"
    )]
    Level(String),
    /// There is a log already.
    #[error("the log was started twice")]
    Twice,
}

/// Checks a level or filter.
///
/// # Errors
/// [`LogError::Level`]
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(|_| ())
}

/// Starts the process's log on standard error.
///
/// # Errors
/// See [`LogError`].
pub fn start_log(level: &str, format: LogFormat) -> Result<(), LogError> {
    let registry = tracing_subscriber::registry().with(filter(level)?);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(layer.with_ansi(colour)).try_init()
        }
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
    .map_err(|_| LogError::Twice)
}

/// The parts that we use speak only when something is wrong, unless the filter names them.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let wrong = || LogError::Level(level.to_owned());
    let is_word = |part: &str| {
        !part.is_empty()
            && part.chars().all(|character| !character.is_whitespace() && !character.is_control())
    };
    if !level.split(',').all(|part| is_word(part.trim())) {
        return Err(wrong());
    }
    // A bare word that is no level would be taken for a module's name, and everything else silenced.
    let bare = level.split(',').map(str::trim).filter(|part| !part.contains(['=', ':', '[']));
    for word in bare {
        if word.parse::<tracing::level_filters::LevelFilter>().is_err() {
            return Err(wrong());
        }
    }
    // Our crates are known by their folders, whatever their full name is.
    let full = level.split(',').map(|part| {
        let part = part.trim();
        let ours =
            OURS.iter().any(|name| part.strip_prefix(name).is_some_and(|rest| rest.starts_with([':', '='])));
        if ours { format!("{part},sidetone_{part}") } else { part.to_owned() }
    });
    let full: Vec<_> = full.collect();
    EnvFilter::try_new(format!("info,{QUIET},{}", full.join(","))).map_err(|_| wrong())
}

const OURS: [&str; 3] = ["signaling", "engine", "xdp"];

const QUIET: &str =
    "rsipstack=warn,hyper=warn,hyper_util=warn,tungstenite=warn,tokio_tungstenite=warn,rustls=warn";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_stand_for_crates() {
        let shown = filter("warn,signaling::sip=debug").expect("good").to_string();
        assert!(
            shown.contains("sidetone_signaling::sip=debug") && shown.contains("rsipstack=warn"),
            "{shown}"
        );
    }

    #[test]
    fn levels_and_filters_are_told_from_typing_errors() {
        for good in ["info", "DEBUG", "off", "warn,signaling::sip=debug", "signaling=trace"] {
            assert!(check_level(good).is_ok(), "{good}");
        }
        for bad in ["", "infos", "info,", "signaling=loud", "a b", "info,debg"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }
}
