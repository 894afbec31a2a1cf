//! The commands by name.

/// A command of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Is anybody there?
    Ping,
    /// A description goes from one party to another that may not be known yet.
    Offer,
    /// And back.
    Answer,
    /// A call, or a branch of it, is over.
    Delete,
    /// What is known about a call.
    Query,
    /// The calls.
    List,
    /// Figures of the whole server.
    Statistics,
}

impl Command {
    /// All that are served.
    pub const ALL: [Self; 7] =
        [Self::Ping, Self::Offer, Self::Answer, Self::Delete, Self::Query, Self::List, Self::Statistics];

    /// The name, as it is sent.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::Delete => "delete",
            Self::Query => "query",
            Self::List => "list",
            Self::Statistics => "statistics",
        }
    }

    /// Its place in arrays.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Reads a name.
    ///
    /// # Errors
    /// Whether anybody serves such a command.
    pub fn parse(name: &str) -> Result<Self, CommandError> {
        let served = Self::ALL.into_iter().find(|command| command.name() == name);
        served.ok_or_else(|| {
            if NOT_SERVED.contains(&name) {
                CommandError::NotServed(name.to_owned())
            } else {
                CommandError::Unknown
            }
        })
    }
}

/// Why a command is not executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nobody knows it.
    #[error("Unrecognized command")]
    Unknown,
    /// The protocol has it and this version does not.
    #[error("The command \"{0}\" is not served by this version")]
    NotServed(String),
}

/// Commands of the protocol that this version does not have.
const NOT_SERVED: [&str; 27] = [
    "start recording",
    "stop recording",
    "pause recording",
    "start forwarding",
    "stop forwarding",
    "block DTMF",
    "unblock DTMF",
    "block media",
    "unblock media",
    "silence media",
    "unsilence media",
    "play media",
    "stop media",
    "play DTMF",
    "publish",
    "subscribe request",
    "subscribe answer",
    "unsubscribe",
    "inject start",
    "inject stop",
    "connect",
    "cli",
    "CLI",
    "transform",
    "create",
    "create answer",
    "mesh",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for command in Command::ALL {
            assert_eq!(Command::parse(command.name()), Ok(command));
            assert_eq!(Command::ALL[command.index()], command);
        }
        assert_eq!(Command::parse("Offer"), Err(CommandError::Unknown));
        assert_eq!(Command::parse("play media"), Err(CommandError::NotServed("play media".to_owned())));
    }
}
