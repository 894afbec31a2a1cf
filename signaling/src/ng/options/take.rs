//! What each key and flag means.

use std::net::IpAddr;

use super::super::value::Value;
use super::rtpp_flags::{self, Token};
use super::{Options, Transport, normal, owned, unescaped};

impl Options {
    /// Takes one key, in its normal form.
    pub(super) fn take(&mut self, key: &str, value: &Value) {
        match key {
            "command" | "sip-message-type" | "template" => {}
            "sdp" => self.sdp = owned(value).or_else(|| self.sdp.take()),
            "call-id" => self.call_id = owned(value).or_else(|| self.call_id.take()),
            "from-tag" => self.from_tag = owned(value).or_else(|| self.from_tag.take()),
            "to-tag" => self.to_tag = owned(value).or_else(|| self.to_tag.take()),
            "via-branch" => self.via_branch = owned(value).or_else(|| self.via_branch.take()),
            "sip-code" | "sip-response-code" => self.sip_code = value.integer().or(self.sip_code),
            "supports" => self.supports_load_limit |= value.words().any(|word| normal(word) == "load-limit"),
            "received-from" => {
                // The family's word may be a question mark; the address tells it as well.
                self.wishes.received_from =
                    value.words().find_map(|word| word.parse().ok()).or(self.wishes.received_from);
            }
            "media-address" => match value.text().and_then(|text| text.parse::<IpAddr>().ok()) {
                Some(address) => self.wishes.media_address = Some(address),
                None => self.ignore(|| format!("media address {value:?}")),
            },
            "address-family" => match value.text().map(str::to_ascii_uppercase).as_deref() {
                Some("IP4") => self.wishes.ipv6 = Some(false),
                Some("IP6") => self.wishes.ipv6 = Some(true),
                _ => self.ignore(|| format!("address family {value:?}")),
            },
            "direction" | "from-interface" | "to-interface" | "interface" => {
                let room = MAX_INTERFACES.saturating_sub(self.interfaces.len());
                self.interfaces.extend(value.words().take(room).map(str::to_owned));
            }
            "transport-protocol" => match value.text() {
                Some(text) => self.transport(text),
                None => self.ignore(|| "transport protocol".to_owned()),
            },
            "rtcp-mux" => value.words().for_each(|word| self.rtcp_mux(word)),
            "replace" => value.words().for_each(|word| self.replace(word)),
            "ice" => value.words().for_each(|word| self.ice(word)),
            "osrtp" => value.words().for_each(|word| self.osrtp(word)),
            "codec" | "codecs" => {
                if let Value::Dictionary(members) = value {
                    for (member, value) in members.iter() {
                        let member = String::from_utf8_lossy(member);
                        value.words().for_each(|codec| self.codec(&normal(&member), codec));
                    }
                } else {
                    self.ignore(|| "codec".to_owned());
                }
            }
            "transcode" => value.words().for_each(|codec| self.codec("transcode", codec)),
            "ptime" | "repacketize" => {
                let milliseconds = value.integer().and_then(|number| u16::try_from(number).ok());
                self.wishes.ptime =
                    milliseconds.filter(|number| (1..=1000).contains(number)).or(self.wishes.ptime);
            }
            "delete-delay" => {
                self.delete_delay =
                    value.integer().and_then(|seconds| u64::try_from(seconds).ok()).or(self.delete_delay);
            }
            "limit" => self.limit = value.integer().or(self.limit),
            "endpoint-learning" => value.words().for_each(|word| self.learning(word)),
            "flags" => value.words().for_each(|flag| self.flag(flag)),
            "rtpp-flags" => {
                self.has_rtpp_flags = true;
                match value.lossy() {
                    Some(text) => self.flag_string(&text),
                    None => self.ignore(|| "rtpp-flags".to_owned()),
                }
            }
            // Switched off or to what happens anyway; anything else is not served yet.
            "dtls" | "dtls-reverse" | "sdes" | "t.38" | "t38" | "record-call"
                if value.words().all(|word| is_off(&normal(word))) => {}
            // Marking packets is the operator's choice (`media` section), not a caller's proxy's.
            "tos" => {}
            _ => self.ignore(|| format!("key {key}")),
        }
    }

    /// Takes one flag.
    fn flag(&mut self, flag: &str) {
        let name = normal(flag);
        match &*name {
            // What happens anyway, or says nothing for plain RTP.
            "trust-address" | "symmetric" | "no-rtcp-mux" | "port-latching" | "no-redis-update" | "debug"
            | "symmetric-codecs" | "asymmetric-codecs" | "reorder-codecs" | "allow-transcoding"
            | "loop-protect" | "unidirectional" | "reset" | "no-passthrough" | "no-tls-id" => {}
            "sip-source-address" => self.wishes.sip_source_address = true,
            "asymmetric" => self.wishes.asymmetric = true,
            "strict-source" => self.wishes.strict_source = true,
            "full-rtcp-attribute" => self.wishes.full_rtcp_attribute = true,
            "no-rtcp-attribute" => self.wishes.no_rtcp_attribute = true,
            "original-sendrecv" => self.wishes.original_direction = true,
            "new-branch" => self.new_branch = true,
            "provisional" => self.provisional = true,
            "fatal" => self.fatal = true,
            "fast" => self.fast = true,
            "to-tag" => self.to_tag_counts = true,
            "always-transcode" => self.codec("accept", "all"),
            "webrtc" => self.needs("WebRTC"),
            _ => self.prefixed_flag(flag, &name),
        }
    }

    /// `replace-origin` for `replace` with `origin`, and its like.
    fn prefixed_flag(&mut self, flag: &str, name: &str) {
        // Names are ASCII where they matter, so both have their parts at the same places.
        let rest =
            |prefix: &str| name.starts_with(prefix).then(|| flag.get(prefix.len()..).unwrap_or_default());
        for member in ["strip", "except", "offer", "mask", "transcode", "accept", "set", "consume", "ignore"]
        {
            if let Some(codec) = rest(&format!("codec-{member}-")) {
                return codec.split(',').for_each(|codec| self.codec(member, codec));
            }
        }
        if let Some(codec) = rest("transcode-") {
            codec.split(',').for_each(|codec| self.codec("transcode", codec));
        } else if let Some(word) = rest("replace-") {
            self.replace(word);
        } else if let Some(word) = rest("rtcp-mux-") {
            self.rtcp_mux(word);
        } else if let Some(word) = rest("endpoint-learning-") {
            self.learning(word);
        } else if let Some(word) = rest("osrtp-") {
            self.osrtp(word);
        } else if rest("sdes-").is_none_or(|word| !is_off(&normal(word))) {
            self.ignore(|| format!("flag {flag}"));
        }
    }

    fn flag_string(&mut self, text: &str) {
        let mut bits = None;
        for token in rtpp_flags::parse(text) {
            match token {
                Token::Flag(flag) => match flag.as_str() {
                    "RTP" => bits = Some(bits.unwrap_or(0) & !SECURE),
                    "AVP" => bits = Some(bits.unwrap_or(0) & !FEEDBACK),
                    "SRTP" => bits = Some(bits.unwrap_or(0) | SECURE),
                    "AVPF" => bits = Some(bits.unwrap_or(0) | FEEDBACK),
                    "DTLS" => bits = Some(bits.unwrap_or(0) | SECURE | DTLS),
                    "internal" | "external" => self.take("direction", &flag.into()),
                    // Named in full, it overrides the bits before it.
                    name if name.contains("RTP/") => {
                        bits = None;
                        self.transport(name);
                    }
                    _ => self.flag(&flag),
                },
                Token::Key(key, value) => match &*normal(&key) {
                    // A string within a string would be no end of it.
                    "rtpp-flags" => self.ignore(|| "rtpp-flags within rtpp-flags".to_owned()),
                    "to-tag" => {
                        self.to_tag_counts = true;
                        self.take("to-tag", &value);
                    }
                    "flags" => self.take("flags", &value),
                    name => {
                        let codec = CODEC_KEYS.iter().find(|(spelled, _)| *spelled == name);
                        match codec {
                            Some((_, member)) => value.words().for_each(|codec| self.codec(member, codec)),
                            None => self.take(name, &value),
                        }
                    }
                },
            }
        }
        match bits {
            None => {}
            Some(0) => self.transport("RTP/AVP"),
            Some(FEEDBACK) => self.transport("RTP/AVPF"),
            Some(_) => self.transport("RTP/SAVP"),
        }
    }

    fn transport(&mut self, name: &str) {
        match name.to_ascii_uppercase().as_str() {
            "RTP/AVP" => self.wishes.transport = Some(Transport::Protocol("RTP/AVP")),
            "RTP/AVPF" => self.wishes.transport = Some(Transport::Protocol("RTP/AVPF")),
            "ACCEPT" => self.wishes.transport = Some(Transport::Accept),
            "RTP/SAVP" | "RTP/SAVPF" | "UDP/TLS/RTP/SAVP" | "UDP/TLS/RTP/SAVPF" => {
                return self.needs("SRTP");
            }
            _ => return self.ignore(|| format!("transport protocol {name}")),
        }
        // The later of two transports wins.
        if self.wishes.unserved == Some("SRTP") {
            self.wishes.unserved = None;
        }
    }

    fn rtcp_mux(&mut self, word: &str) {
        let mux = &mut self.wishes.rtcp_mux;
        match &*normal(word) {
            "offer" => mux.offer = true,
            "require" => (mux.offer, mux.require) = (true, true),
            "demux" => mux.demux = true,
            "accept" => mux.accept = true,
            "reject" => mux.reject = true,
            _ => self.ignore(|| format!("rtcp-mux {word}")),
        }
    }

    fn replace(&mut self, word: &str) {
        let replace = &mut self.wishes.replace;
        match &*normal(word) {
            "origin" => replace.origin = true,
            "origin-full" => replace.origin_full = true,
            // Each media description has a `c=` of ours in any case.
            "session-connection" => {}
            "session-name" => replace.session_name = true,
            "sdp-version" => replace.version = true,
            "force-increment-sdp-ver" => (replace.version, replace.always_increment) = (true, true),
            "username" => replace.username = true,
            "zero-address" => replace.zero_address = true,
            _ => self.ignore(|| format!("replace {word}")),
        }
    }

    fn ice(&mut self, word: &str) {
        match &*normal(word) {
            "remove" | "default" | "optional" => {}
            "force" | "force-relay" => self.needs("ICE"),
            _ => self.ignore(|| format!("ICE {word}")),
        }
    }

    fn osrtp(&mut self, word: &str) {
        let name = normal(word);
        if name.starts_with("offer") { self.needs("OSRTP") } else { self.ignore(|| format!("OSRTP {word}")) }
    }

    fn learning(&mut self, word: &str) {
        match &*normal(word) {
            "off" => self.wishes.asymmetric = true,
            // One way of learning is served, which is believed at once only from where SDP says.
            "immediate" | "delayed" | "heuristic" => {}
            _ => self.ignore(|| format!("endpoint-learning {word}")),
        }
    }

    fn codec(&mut self, member: &str, codec: &str) {
        let codecs = &mut self.wishes.codec;
        let list = match member {
            "strip" => &mut codecs.strip,
            "except" => &mut codecs.except,
            "offer" => &mut codecs.offer,
            // Consuming is masking that turns transcoding on; here transcoding needs no turning on.
            "mask" | "consume" => &mut codecs.mask,
            "transcode" => &mut codecs.transcode,
            "accept" => &mut codecs.accept,
            _ => return self.ignore(|| format!("codec {member} {codec}")),
        };
        if list.len() < MAX_CODECS {
            list.push(unescaped(codec));
        }
    }
}

fn is_off(word: &str) -> bool {
    matches!(word, "off" | "no" | "disable" | "disabled")
}

const SECURE: u8 = 1;
const FEEDBACK: u8 = 2;
const DTLS: u8 = 4;
/// Codecs in one list of `codec`.
const MAX_CODECS: usize = 64;
const MAX_INTERFACES: usize = 8;

/// Keys of a flag string that are members of `codec`.
const CODEC_KEYS: [(&str, &str); 8] = [
    ("codec-strip", "strip"),
    ("codec-except", "except"),
    ("codec-offer", "offer"),
    ("codec-mask", "mask"),
    ("codec-transcode", "transcode"),
    ("codec-accept", "accept"),
    ("codec-consume", "mask"),
    ("codec-set", "set"),
];
