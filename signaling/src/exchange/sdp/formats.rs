//! The codecs of an offer and its answer, and what a relay does between them.

use engine::codec::Law;
use engine::relay::{Conversion, RelayFormat, RelayFormats};

use super::super::CodecOptions;
use super::body::{Line, Section};

/// One payload type of an RTP media description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) payload_type: u8,
    name: String,
    clock_rate: u32,
    channels: u32,
    /// The `a=` lines about it, without `a=`.
    pub(crate) attributes: Vec<String>,
}

impl Format {
    /// The formats of a media description with the attributes that name them; a payload type that is no number
    /// cannot be sent and is left out.
    pub(crate) fn all(section: &Section) -> Vec<Self> {
        let mut formats: Vec<Self> = Vec::with_capacity(section.formats.len());
        for payload_type in section.formats.iter().filter_map(|text| text.parse().ok()) {
            if payload_type < 128 && formats.iter().all(|known| known.payload_type != payload_type) {
                let (name, clock_rate, channels) = static_type(payload_type);
                formats.push(Self {
                    payload_type,
                    name: name.to_owned(),
                    clock_rate,
                    channels,
                    attributes: Vec::new(),
                });
            }
        }
        for line in &section.lines {
            let Some((name, value)) = line.attribute().filter(|(name, _)| is_of_format(name)) else {
                continue;
            };
            let Some((payload_type, rest)) = value.trim_start().split_once([' ', '\t']) else { continue };
            let Ok(payload_type) = payload_type.parse::<u8>() else { continue };
            let Some(format) = formats.iter_mut().find(|format| format.payload_type == payload_type) else {
                continue;
            };
            if name == "rtpmap" {
                let mut fields = rest.trim().split('/');
                format.name = fields.next().unwrap_or_default().to_owned();
                format.clock_rate = fields.next().and_then(|text| text.parse().ok()).unwrap_or(8000);
                format.channels = fields.next().and_then(|text| text.parse().ok()).unwrap_or(1);
            }
            format.attributes.push(line.value.clone());
        }
        formats
    }

    /// Such as `PCMA/8000`.
    pub(crate) fn description(&self) -> String {
        format!("{}/{}", self.name, self.clock_rate)
    }

    fn of_law(law: Law) -> Self {
        let (payload_type, name) = match law {
            Law::Mu => (0, "PCMU"),
            Law::A => (8, "PCMA"),
        };
        Self {
            payload_type,
            name: name.to_owned(),
            clock_rate: 8000,
            channels: 1,
            attributes: vec![format!("rtpmap:{payload_type} {name}/8000")],
        }
    }

    fn law(&self) -> Option<Law> {
        law_of(&self.name).filter(|_| self.clock_rate == 8000 && self.channels == 1)
    }

    fn is_same_codec(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
            && self.clock_rate == other.clock_rate
            && self.channels == other.channels
    }

    /// Events and comfort noise come beside a codec, not instead of one.
    fn is_supplemental(&self) -> bool {
        ["telephone-event", "CN"].iter().any(|name| self.name.eq_ignore_ascii_case(name))
    }

    /// Whether `NAME[/clock[/channels[/...]]]` means it; empty fields mean any.
    fn matches(&self, text: &str) -> bool {
        let mut fields = text.split('/');
        let name = fields.next().unwrap_or_default();
        let mut number =
            |own: u32| fields.next().is_none_or(|text| text.is_empty() || text.parse() == Ok(own));
        name.eq_ignore_ascii_case(&self.name) && number(self.clock_rate) && number(self.channels)
    }
}

/// What an offer's codecs were and what became of them, kept for the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Negotiation {
    /// As the offerer sent them.
    offered: Vec<Format>,
    /// Payload types of `offered` that the offerer may use whatever the answerer says.
    accepted: Vec<u8>,
}

/// What is told to one side, and what the relay does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// The formats, most preferred first.
    pub(crate) formats: Vec<Format>,
    /// What the offerer may send, by the answer.
    pub(crate) from_offerer: RelayFormats,
    /// What the answerer may send.
    pub(crate) from_answerer: RelayFormats,
    /// Codecs that would have to be transcoded in a way that is not served.
    pub(crate) refused: Vec<String>,
}

impl Negotiation {
    /// The codecs of an offer for its receiver.
    pub(crate) fn offer(offered: Vec<Format>, codecs: &CodecOptions) -> (Self, Sent) {
        let mut refused = Vec::new();
        let mut list = kept(&offered, codecs);
        list.retain(|format| !names(&codecs.mask, format) && !masks_all(codecs, format));
        for name in &codecs.offer {
            put_back(&mut list, &offered, name);
        }
        let strips_all = codecs.strip.iter().any(|name| is_all(name));
        for name in &codecs.transcode {
            if list.iter().any(|format| format.matches(name)) {
                continue;
            }
            let was_offered = offered.iter().any(|format| format.matches(name));
            if was_offered && !strips_all {
                put_back(&mut list, &offered, name);
                continue;
            }
            let added = law_of(name.split('/').next().unwrap_or_default()).map(Format::of_law);
            let from = added.as_ref().and_then(Format::law).map(other_law);
            match added {
                // What the offerer sends in the other law is turned into it.
                Some(added)
                    if offered.iter().any(|format| format.law().is_some_and(|law| Some(law) == from)) =>
                {
                    insert(&mut list, added);
                }
                _ => refused.push(name.clone()),
            }
        }
        if !list.iter().any(|format| !format.is_supplemental())
            && offered.iter().any(|format| !format.is_supplemental())
        {
            // A description without a codec helps nobody.
            list.clone_from(&offered);
        }
        let accepted = offered
            .iter()
            .filter(|format| {
                names(&codecs.mask, format)
                    || masks_all(codecs, format)
                    || codecs.accept.iter().any(|name| is_all(name) || format.matches(name))
            })
            .map(|format| format.payload_type)
            .collect();
        (Self { offered, accepted }, Sent { formats: list, refused, ..Sent::default() })
    }

    /// The codecs of the answer for the offerer.
    pub(crate) fn answer(&self, answered: &[Format], codecs: &CodecOptions) -> Sent {
        let mut answered_list = kept(answered, codecs);
        for name in &codecs.offer {
            put_back(&mut answered_list, answered, name);
        }
        let mut sent = Sent::default();
        (sent.from_offerer.others, sent.from_answerer.others) = (true, true);
        let (real, supplemental): (Vec<_>, Vec<_>) =
            answered_list.iter().partition(|format| !format.is_supplemental());
        for format in &real {
            let same = self.offered.iter().any(|offered| offered.is_same_codec(format));
            match self.in_other_law(format).filter(|_| !same) {
                Some(own) => {
                    convert(&mut sent.from_answerer, format, own);
                    self.take(&mut sent, own, format);
                }
                None => sent.formats.push((*format).clone()),
            }
        }
        for own in self.offered.iter().filter(|format| self.accepted.contains(&format.payload_type)) {
            let told = sent.formats.iter().any(|format| format.is_same_codec(own));
            let counterpart = real.iter().find(|format| format.law() == own.law().map(other_law));
            if let Some(counterpart) = counterpart.filter(|_| !told && own.law().is_some()) {
                self.take(&mut sent, own, counterpart);
            }
        }
        sent.formats.extend(supplemental.into_iter().cloned());
        sent
    }

    /// The offerer's own codec that becomes `format` by changing the law.
    fn in_other_law(&self, format: &Format) -> Option<&Format> {
        let wanted = other_law(format.law()?);
        self.offered.iter().find(|offered| offered.law() == Some(wanted))
    }

    /// Tells the offerer one of its own codecs, which goes on as `to`.
    fn take(&self, sent: &mut Sent, own: &Format, to: &Format) {
        if sent.formats.iter().all(|format| format.payload_type != own.payload_type) {
            sent.formats.push(own.clone());
            convert(&mut sent.from_offerer, own, to);
        }
    }
}

/// A list without what is stripped.
fn kept(formats: &[Format], codecs: &CodecOptions) -> Vec<Format> {
    let strips_all = codecs.strip.iter().any(|name| is_all(name));
    let keeps = |format: &&Format| {
        // Single names take no notice of the exceptions, and there is nothing to except them from.
        !names(&codecs.strip, format) && (!strips_all || names(&codecs.except, format))
    };
    formats.iter().filter(keeps).cloned().collect()
}

fn masks_all(codecs: &CodecOptions, format: &Format) -> bool {
    codecs.mask.iter().any(|name| is_all(name)) && !names(&codecs.except, format)
}

fn put_back(list: &mut Vec<Format>, from: &[Format], name: &str) {
    for format in from.iter().filter(|format| format.matches(name)) {
        if list.iter().all(|known| known.payload_type != format.payload_type) {
            insert(list, format.clone());
        }
    }
}

/// Adds a codec at the end, but before what only comes beside one.
fn insert(list: &mut Vec<Format>, format: Format) {
    let at = list.iter().position(Format::is_supplemental).filter(|_| !format.is_supplemental());
    list.insert(at.unwrap_or(list.len()), format);
}

fn convert(formats: &mut RelayFormats, from: &Format, to: &Format) {
    if let (Some(from_law), Some(to_law)) = (from.law(), to.law()) {
        // There are two laws, so there is room for both.
        let _ = formats.push(RelayFormat {
            receive: from.payload_type,
            send: to.payload_type,
            conversion: Conversion::Law { from: from_law, to: to_law },
        });
    }
}

fn names(list: &[String], format: &Format) -> bool {
    list.iter().any(|name| format.matches(name))
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case("full")
}

fn law_of(name: &str) -> Option<Law> {
    if name.eq_ignore_ascii_case("PCMU") {
        Some(Law::Mu)
    } else if name.eq_ignore_ascii_case("PCMA") {
        Some(Law::A)
    } else {
        None
    }
}

const fn other_law(law: Law) -> Law {
    match law {
        Law::Mu => Law::A,
        Law::A => Law::Mu,
    }
}

/// Attributes that begin with a payload type.
pub(super) fn is_of_format(name: &str) -> bool {
    matches!(name, "rtpmap" | "fmtp" | "rtcp-fb")
}

/// Whether a line is about a single format, which goes where the format goes.
pub(super) fn is_format_line(line: &Line) -> bool {
    line.attribute().is_some_and(|(name, value)| is_of_format(name) && !value.trim_start().starts_with('*'))
}

/// The payload types that need no `a=rtpmap` (RFC 3551 section 6): name, clock rate, channels.
const fn static_type(payload_type: u8) -> (&'static str, u32, u32) {
    match payload_type {
        0 => ("PCMU", 8000, 1),
        3 => ("GSM", 8000, 1),
        4 => ("G723", 8000, 1),
        5 => ("DVI4", 8000, 1),
        6 => ("DVI4", 16_000, 1),
        7 => ("LPC", 8000, 1),
        8 => ("PCMA", 8000, 1),
        9 => ("G722", 8000, 1),
        10 => ("L16", 44_100, 2),
        11 => ("L16", 44_100, 1),
        12 => ("QCELP", 8000, 1),
        13 => ("CN", 8000, 1),
        14 => ("MPA", 90_000, 1),
        15 => ("G728", 8000, 1),
        16 => ("DVI4", 11_025, 1),
        17 => ("DVI4", 22_050, 1),
        18 => ("G729", 8000, 1),
        26 => ("JPEG", 90_000, 1),
        31 => ("H261", 90_000, 1),
        32 => ("MPV", 90_000, 1),
        33 => ("MP2T", 90_000, 1),
        34 => ("H263", 90_000, 1),
        _ => ("", 0, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::Body;
    use super::*;

    fn formats(list: &str) -> Vec<Format> {
        let text = format!(
            "v=0\no=-\nm=audio 4 RTP/AVP {list}\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\n\
             a=rtpmap:96 opus/48000/2\na=rtcp-fb:* nack\n"
        );
        Format::all(&Body::parse(&text).expect("SDP").media[0])
    }

    fn codecs(change: impl FnOnce(&mut CodecOptions)) -> CodecOptions {
        let mut codecs = CodecOptions::default();
        change(&mut codecs);
        codecs
    }

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn types(formats: &[Format]) -> Vec<u8> {
        formats.iter().map(|format| format.payload_type).collect()
    }

    /// What the receiver of an offer gets.
    fn offered(received: &str, change: impl FnOnce(&mut CodecOptions)) -> Vec<u8> {
        types(&Negotiation::offer(formats(received), &codecs(change)).1.formats)
    }

    #[test]
    fn codecs_are_stripped_put_back_and_added_as_the_protocol_says() {
        let all = |codecs: &mut CodecOptions| codecs.strip = list(&["all"]);
        assert_eq!(offered("8 0 9 101", |codecs| codecs.strip = list(&["g722"])), [8, 0, 101]);
        assert_eq!(offered("8 0 9 101", |codecs| (all(codecs), codecs.offer = list(&["PCMU"])).1), [0]);
        let put_back = list(&["PCMU", "PCMA", "telephone-event"]);
        assert_eq!(
            offered("8 0 9 101", |codecs| (all(codecs), codecs.offer = put_back.clone()).1),
            [0, 8, 101]
        );
        assert_eq!(offered("8 0 9 101", |codecs| (all(codecs), codecs.except = put_back).1), [8, 0, 101]);
        assert_eq!(offered("0 101", |codecs| codecs.transcode = list(&["PCMA"])), [0, 8, 101]);
        assert_eq!(offered("9", |codecs| codecs.strip = list(&["PCMU"])), [9]);
        assert_eq!(offered("0 8", |codecs| codecs.accept = list(&["PCMU"])), [0, 8]);
        assert_eq!(
            offered("8 0 9 101", |codecs| codecs.strip = list(&["PCMA/8000", "PCMU/16000"])),
            [0, 9, 101]
        );
    }

    #[test]
    fn an_offer_is_never_left_without_a_codec() {
        assert_eq!(offered("0 101", |codecs| codecs.strip = list(&["PCMU"])), [0, 101]);
        assert_eq!(offered("0 101", |codecs| codecs.mask = list(&["all"])), [0, 101]);
    }

    #[test]
    fn transcoding_that_is_not_served_is_left_out_and_told() {
        let opus = codecs(|codecs| codecs.transcode = list(&["opus", "PCMU"]));
        let (_, sent) = Negotiation::offer(formats("8 101"), &opus);
        assert_eq!((types(&sent.formats), sent.refused), (vec![8, 0, 101], list(&["opus"])));
        let from_g722 = codecs(|codecs| codecs.transcode = list(&["PCMU"]));
        let (_, sent) = Negotiation::offer(formats("9 101"), &from_g722);
        assert_eq!((types(&sent.formats), sent.refused), (vec![9, 101], list(&["PCMU"])));
    }

    #[test]
    fn an_answer_in_the_other_law_becomes_the_offerers_own() {
        let add = codecs(|codecs| (codecs.mask, codecs.transcode) = (list(&["PCMU"]), list(&["PCMA"])));
        let (negotiation, sent) = Negotiation::offer(formats("0 101"), &add);
        assert_eq!(types(&sent.formats), [8, 101]);
        let answer = negotiation.answer(&formats("8 101"), &CodecOptions::default());
        assert_eq!(types(&answer.formats), [0, 101]);
        let conversions = |formats: RelayFormats| {
            formats.iter().map(|format| (format.receive, format.send)).collect::<Vec<_>>()
        };
        assert_eq!(conversions(answer.from_offerer), [(0, 8)]);
        assert_eq!(conversions(answer.from_answerer), [(8, 0)]);
        assert!(answer.from_offerer.others && answer.from_answerer.others);
    }

    #[test]
    fn an_accepted_codec_is_told_though_the_answerer_refuses_it() {
        let accept = codecs(|codecs| codecs.accept = list(&["PCMU"]));
        let (negotiation, _) = Negotiation::offer(formats("0 8"), &accept);
        let answer = negotiation.answer(&formats("8"), &CodecOptions::default());
        assert_eq!(types(&answer.formats), [8, 0]);
        assert_eq!(
            answer.from_offerer.iter().map(|format| (format.receive, format.send)).collect::<Vec<_>>(),
            [(0, 8)]
        );
        assert_eq!(answer.from_answerer.iter().count(), 0);
    }

    #[test]
    fn what_both_have_goes_through_with_its_attributes() {
        let (negotiation, sent) = Negotiation::offer(formats("96 0 101"), &CodecOptions::default());
        assert_eq!(sent.formats, formats("96 0 101"));
        let answer = negotiation.answer(&formats("96 101"), &CodecOptions::default());
        assert_eq!(answer.formats, formats("96 101"));
        assert_eq!(answer.formats[1].attributes, ["rtpmap:101 telephone-event/8000", "fmtp:101 0-15"]);
        assert_eq!(answer.from_offerer.iter().count(), 0);
    }
}
