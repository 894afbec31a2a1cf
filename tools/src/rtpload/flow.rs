//! The flows of a run: two for each call, one in each direction.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use crate::callload::g711::Law;

/// Packets of one direction: from `local` to `relay`, and back from `source` to `sink`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// Where we send from.
    pub(super) local: SocketAddr,
    /// The relay's address for this party.
    pub(super) relay: SocketAddr,
    /// The relay's address for the other party, from which the packets come back.
    pub(super) source: SocketAddr,
    /// Our address as the other party.
    pub(super) sink: SocketAddr,
    pub(super) law_sent: Law,
    pub(super) law_received: Law,
}

impl Flow {
    /// The two directions of a call.
    pub(super) fn pair(parties: [SocketAddr; 2], relay: [SocketAddr; 2], laws: [Law; 2]) -> [Self; 2] {
        [(0, 1), (1, 0)].map(|(here, there)| Self {
            local: parties[here],
            relay: relay[here],
            source: relay[there],
            sink: parties[there],
            law_sent: laws[here],
            law_received: laws[there],
        })
    }
}

/// Flows to a host that sends every datagram back.
pub(super) fn reflected(
    locals: impl IntoIterator<Item = SocketAddr>,
    reflector: IpAddr,
    law: Law,
) -> Vec<Flow> {
    let relays = (FIRST_REFLECTED..=u16::MAX).map(|port| SocketAddr::new(reflector, port));
    let pairs = locals.into_iter().zip(relays);
    pairs
        .map(|(local, relay)| Flow {
            local,
            relay,
            source: relay,
            sink: local,
            law_sent: law,
            law_received: law,
        })
        .collect()
}

/// Reads flows from a file, a call a line: `PARTY-A RELAY-A PARTY-B RELAY-B [PCMU|PCMA [PCMU|PCMA]]`, each address as
/// IP:PORT. What party A sends to RELAY-A comes to party B from RELAY-B, and the other way round. Empty lines and those that
/// begin with # are skipped.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Flow>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut flows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            let call = parse(line).with_context(|| format!("{}, line {}", path.display(), number + 1))?;
            flows.extend(call);
        }
    }
    ensure!(!flows.is_empty(), "{} names no call", path.display());
    Ok(flows)
}

fn parse(line: &str) -> anyhow::Result<[Flow; 2]> {
    let words: Vec<&str> = line.split_whitespace().collect();
    ensure!((4..=6).contains(&words.len()), "a call is PARTY-A RELAY-A PARTY-B RELAY-B [LAW-A [LAW-B]]");
    let address =
        |at: usize| words[at].parse::<SocketAddr>().with_context(|| format!("{} is not IP:PORT", words[at]));
    let law = |at: usize| match words.get(at) {
        None => Ok(None),
        Some(&"PCMU") => Ok(Some(Law::Pcmu)),
        Some(&"PCMA") => Ok(Some(Law::Pcma)),
        Some(other) => bail!("{other} is neither PCMU nor PCMA"),
    };
    let first = law(4)?.unwrap_or(Law::Pcmu);
    let laws = [first, law(5)?.unwrap_or(first)];
    Ok(Flow::pair([address(0)?, address(2)?], [address(1)?, address(3)?], laws))
}

const FIRST_REFLECTED: u16 = 27_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_call_of_two_flows() {
        let line = "192.0.2.1:20000 192.0.2.9:30000 192.0.2.1:20002 192.0.2.9:30002 PCMU PCMA";
        let [there, back] = parse(line).unwrap();
        assert_eq!(there.relay.port(), 30_000);
        assert_eq!((there.source.port(), there.sink.port()), (30_002, 20_002));
        assert_eq!((there.law_sent, there.law_received), (Law::Pcmu, Law::Pcma));
        assert_eq!((back.local, back.relay, back.source), (there.sink, there.source, there.relay));
        assert_eq!((back.law_sent, back.law_received), (Law::Pcma, Law::Pcmu));
        assert!(parse("192.0.2.1:20000 192.0.2.9:30000").is_err());
        assert!(parse("192.0.2.1 192.0.2.9:30000 192.0.2.1:20002 192.0.2.9:30002").is_err());
        assert!(parse(&format!("{line} x")).is_err());
    }
}
