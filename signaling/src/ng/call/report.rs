//! What is known about a call, for `query` and `delete`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::relay::{RelaySideStatistics, RelayStatistics, Side};
use engine::stream::{Direction, SourcePolicy};

use super::super::value::{Dictionary, Value};
use super::dialogue::Dialogue;
use super::parties::{Party, PartyId};
use super::{Call, Which};
use crate::exchange::{Leg, Slot};

/// Figures of all relays, by dialogue and slot.
type Figures = [Vec<Option<RelayStatistics>>];

/// Sums over streams.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    packets: u64,
    bytes: u64,
    errors: u64,
}

impl Total {
    fn value(self) -> Dictionary {
        Dictionary::default()
            .with("packets", self.packets)
            .with("bytes", self.bytes)
            .with("errors", self.errors)
    }
}

impl Call {
    /// The report of a query or delete.
    pub(super) fn report(&self, figures: &Figures, which: Which<'_>) -> Dictionary {
        let matched = match which {
            Which::Tag(None) | Which::Party(None) => None,
            Which::Tag(Some(tag)) => Some(self.parties.by_tag(tag)),
            Which::Party(party) => Some(party),
        };
        let listed = |party: &&Party| match matched {
            None => true,
            Some(None) => false,
            Some(Some(wanted)) => {
                wanted == party.id || self.parties.peers(wanted).any(|peer| peer == party.id)
            }
        };
        let (mut rtp, mut rtcp) = (Total::default(), Total::default());
        let mut ssrcs = Dictionary::default();
        let mut tags = Dictionary::default();
        for (index, party) in self.parties.parties.iter().enumerate().filter(|(_, party)| listed(party)) {
            let name = party.tag.clone().unwrap_or_else(|| format!("<untagged {index}>"));
            tags.push(name, self.party(party, figures));
            for received in self.received_from(party.id, figures) {
                rtp.packets += received.received_packets;
                rtp.bytes += received.received_bytes;
                rtp.errors += received.refused_packets;
                rtcp.packets += received.received_rtcp_packets;
                if let Some(ssrc) = received.ssrc {
                    ssrcs.push(ssrc.to_string(), ssrc_figures(received));
                }
            }
        }
        let created = self.created.duration_since(UNIX_EPOCH).unwrap_or_default();
        Dictionary::default()
            .with("created", created.as_secs())
            .with("created_us", u64::from(created.subsec_micros()))
            .with("created_ts", u64::try_from(created.as_micros()).unwrap_or_default())
            .with("last signal", seconds(self.last_signal))
            .with("last redis update", 0u64)
            .with("SSRC", ssrcs)
            .with("tags", tags)
            .with("totals", Dictionary::default().with("RTP", rtp.value()).with("RTCP", rtcp.value()))
    }

    /// What was received from a party, over all its dialogues.
    fn received_from<'a>(
        &'a self,
        party: PartyId,
        figures: &'a Figures,
    ) -> impl Iterator<Item = &'a RelaySideStatistics> {
        self.parties.dialogues.iter().zip(figures).flat_map(move |(dialogue, figures)| {
            let side = dialogue.side_of(party);
            figures.iter().flatten().filter_map(move |figures| figures.sides.get(side?.index()))
        })
    }

    fn party(&self, party: &Party, figures: &Figures) -> Dictionary {
        let mut out = Dictionary::default();
        if let Some(tag) = &party.tag {
            out.push("tag", tag.clone());
        }
        if let Some(via_branch) = &party.via_branch {
            out.push("via-branch", via_branch.clone());
        }
        if !party.aliases.is_empty() {
            let aliases: Vec<Value> = party.aliases.iter().cloned().map(Value::from).collect();
            out.push("tag-aliases", aliases);
        }
        let peers: Vec<Value> = self
            .parties
            .peers(party.id)
            .filter_map(|peer| self.parties.party(peer))
            .map(|peer| {
                let tag = peer.tag.clone().unwrap_or_default();
                Dictionary::default().with("tag", tag).with("type", "offer/answer").into()
            })
            .collect();
        // A forked caller has several dialogues; the one that was answered is the one that is meant.
        let of_party = || self.parties.dialogues.iter().zip(figures).filter(|(known, _)| known.has(party.id));
        let current =
            of_party().rfind(|(known, _)| known.exchange.is_answered).or_else(|| of_party().next_back());
        let medias: Vec<Value> =
            current.map_or_else(Vec::new, |(dialogue, figures)| medias(dialogue, figures, party.id));
        out.with("created", seconds(party.created))
            .with("subscriptions", peers.clone())
            .with("subscribers", peers)
            .with("medias", medias)
            .with("VSC", Vec::new())
    }
}

fn medias(dialogue: &Dialogue, figures: &[Option<RelayStatistics>], party: PartyId) -> Vec<Value> {
    let Some(side) = dialogue.side_of(party) else { return Vec::new() };
    let slots = dialogue.exchange.slots.iter().zip(figures).enumerate();
    let live = slots.filter(|(_, (slot, _))| slot.relay.is_some());
    live.map(|(index, (slot, figures))| media(index, slot, figures.as_ref(), side).into()).collect()
}

fn media(index: usize, slot: &Slot, figures: Option<&RelayStatistics>, side: Side) -> Dictionary {
    let (leg, none) = (slot.leg(side), RelaySideStatistics::default());
    let received = figures.and_then(|figures| figures.sides.get(side.index())).unwrap_or(&none);
    let mut out = Dictionary::default().with("index", index as u64 + 1).with("type", slot.kind.clone());
    out.push("protocol", leg.protocol.clone());
    if let Some(codec) = &leg.codec {
        out.push("codec", codec.clone());
    }
    let ingress = received.ssrc.map(|ssrc| {
        let mut figures = Dictionary::default().with("SSRC", u64::from(ssrc));
        ssrc_figures(received).iter().for_each(|(key, value)| figures.push(key, value.clone()));
        Value::from(figures)
    });
    let mut flags = vec!["initialized"];
    flags.extend((leg.source_policy == SourcePolicy::Strict).then_some("asymmetric"));
    flags.extend(matches!(leg.direction, Direction::SendRecv | Direction::SendOnly).then_some("send"));
    flags.extend(matches!(leg.direction, Direction::SendRecv | Direction::RecvOnly).then_some("recv"));
    flags.extend(leg.rtcp_mux.then_some("rtcp-mux"));
    flags.extend((leg.receive.iter().next().is_some()).then_some("transcoding"));
    out.with(
        "streams",
        vec![rtp_stream(slot, leg, received, side).into(), rtcp_stream(slot, leg, received, side).into()],
    )
    .with("flags", words(&flags))
    .with("ingress SSRCs", ingress.into_iter().collect::<Vec<_>>())
    .with("egress SSRCs", Vec::new())
}

fn rtp_stream(slot: &Slot, leg: &Leg, figures: &RelaySideStatistics, side: Side) -> Dictionary {
    let endpoint = figures.latched.or(leg.rtp);
    let mut out = stream(slot.local(side), 0, endpoint, leg.rtp);
    let last = figures.last_packet_age.map_or(0, |age| seconds(SystemTime::now() - age));
    out = out
        .with("last packet", last)
        .with("last kernel packet", if figures.in_kernel { last } else { 0 })
        .with("last user packet", if figures.in_kernel { 0 } else { last });
    if let Some(ssrc) = figures.ssrc {
        out.push("SSRC", u64::from(ssrc));
    }
    let mut flags = vec!["RTP", "filled"];
    flags.extend(figures.latched.is_some().then_some("confirmed"));
    flags.extend(figures.in_kernel.then_some("kernelized"));
    flags.extend((leg.source_policy == SourcePolicy::Strict).then_some("strict source address"));
    let total = Total {
        packets: figures.received_packets,
        bytes: figures.received_bytes,
        errors: figures.refused_packets,
    };
    let sent = Total { packets: figures.sent_packets, bytes: figures.sent_bytes, errors: 0 };
    out.with("flags", words(&flags)).with("stats", total.value()).with("stats_out", sent.value())
}

fn rtcp_stream(slot: &Slot, leg: &Leg, figures: &RelaySideStatistics, side: Side) -> Dictionary {
    let (offset, endpoint) = if leg.rtcp_mux { (0, leg.rtp) } else { (1, leg.rtcp) };
    let received = Total { packets: figures.received_rtcp_packets, ..Total::default() };
    let sent = Total { packets: figures.sent_rtcp_packets, ..Total::default() };
    stream(slot.local(side), offset, endpoint, endpoint)
        .with("last packet", 0u64)
        .with("flags", words(&["RTCP", "filled"]))
        .with("stats", received.value())
        .with("stats_out", sent.value())
}

fn stream(
    local: Option<std::net::SocketAddr>,
    offset: u16,
    endpoint: Option<std::net::SocketAddr>,
    advertised: Option<std::net::SocketAddr>,
) -> Dictionary {
    let mut out = Dictionary::default();
    if let Some(local) = local {
        out = out
            .with("local port", u64::from(local.port().saturating_add(offset)))
            .with("local address", local.ip().to_string())
            .with("family", family(local));
    }
    out.with("endpoint", address(endpoint)).with("advertised endpoint", address(advertised))
}

fn address(address: Option<std::net::SocketAddr>) -> Dictionary {
    address.map_or_else(Dictionary::default, |address| {
        Dictionary::default()
            .with("family", family(address))
            .with("address", address.ip().to_string())
            .with("port", u64::from(address.port()))
    })
}

const fn family(address: std::net::SocketAddr) -> &'static str {
    if address.is_ipv6() { "IPv6" } else { "IPv4" }
}

fn ssrc_figures(figures: &RelaySideStatistics) -> Dictionary {
    Dictionary::default()
        .with("bytes", figures.received_bytes)
        .with("packets", figures.received_packets)
        .with("last RTP timestamp", u64::from(figures.last_timestamp.unwrap_or_default()))
        .with("last RTP seq", u64::from(figures.last_sequence.unwrap_or_default()))
        .with("cumulative loss", figures.lost_packets.max(0))
}

fn words(words: &[&str]) -> Vec<Value> {
    words.iter().map(|&word| word.into()).collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since: Duration| since.as_secs())
}
