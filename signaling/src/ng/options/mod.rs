//! The keys and flags of a command, read tolerantly: names are compared without case, with `_` and blanks as
//! `-`; the later of two scalars wins, lists add up; what is unknown or not served is noted and ignored.

use std::borrow::Cow;

use super::value::{Dictionary, Value};

pub use crate::exchange::{CodecOptions, Replace, RtcpMux, Transport, Wishes};

mod rtpp_flags;
mod take;

/// What a command asks for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `call-id`.
    pub call_id: Option<String>,
    /// `from-tag`.
    pub from_tag: Option<String>,
    /// `to-tag`.
    pub to_tag: Option<String>,
    /// `via-branch`.
    pub via_branch: Option<String>,
    /// `sdp`.
    pub sdp: Option<String>,
    /// `supports` lists `load limit`.
    pub supports_load_limit: bool,
    /// What is to be done about the media.
    pub wishes: Wishes,
    /// Interface names, of `direction` and its like.
    pub interfaces: Vec<String>,
    /// Flag `new branch`: an answer with another tag is another party.
    pub new_branch: bool,
    /// Flag `provisional`: an answer is not the last word.
    pub provisional: bool,
    /// `SIP code`.
    pub sip_code: Option<i64>,
    /// `delete delay` in seconds.
    pub delete_delay: Option<u64>,
    /// Flag `fatal`: what is not found is an error.
    pub fatal: bool,
    /// Flag `fast`: no statistics.
    pub fast: bool,
    /// Flag `to-tag`: the to-tag of a delete counts.
    pub to_tag_counts: bool,
    /// Whether `rtpp-flags` is there.
    pub has_rtpp_flags: bool,
    /// `limit` of a list.
    pub limit: Option<i64>,
    /// Keys, flags and values that had no effect, at most [`MAX_IGNORED`] of them.
    pub ignored: Vec<String>,
    /// How many there were.
    pub ignored_count: u64,
}

impl Options {
    /// Reads all keys of a command.
    #[must_use]
    pub fn read(dictionary: &Dictionary) -> Self {
        let mut options = Self::default();
        for (key, value) in dictionary.iter() {
            options.take(&normal(&String::from_utf8_lossy(key)), value);
        }
        options
    }

    fn ignore(&mut self, what: impl FnOnce() -> String) {
        self.ignored_count += 1;
        if self.ignored.len() < MAX_IGNORED {
            let mut what = what();
            // A log line, not a copy of somebody's message.
            if let Some((end, _)) = what.char_indices().nth(64) {
                what.truncate(end);
            }
            self.ignored.push(what);
        }
    }

    fn needs(&mut self, what: &'static str) {
        self.wishes.unserved.get_or_insert(what);
    }
}

/// A key or flag in the one form that it is compared in.
fn normal(text: &str) -> Cow<'_, str> {
    let is_normal = |byte: u8| !byte.is_ascii_uppercase() && byte != b'_' && byte != b' ';
    if text.bytes().all(is_normal) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.to_ascii_lowercase().replace(['_', ' '], "-"))
}

/// The escapes of codec strings.
fn unescaped(text: &str) -> String {
    text.replace("--", "=").replace("..", " ")
}

fn owned(value: &Value) -> Option<String> {
    value.lossy().map(Cow::into_owned)
}

/// How many names of what had no effect are kept for the log.
pub const MAX_IGNORED: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::message;
    use super::*;

    fn read(payload: &str) -> Options {
        Options::read(&message::parse(payload.as_bytes()).expect("a dictionary").1)
    }

    #[test]
    fn keys_are_known_by_all_their_spellings() {
        for key in ["call-id", "call-ID", "call id", "Call_ID"] {
            let payload =
                format!("{{\"{key}\":\"c\",\"to_tag\":\"t\",\"SDP\":\"v\",\"media address\":\"192.0.2.1\"}}");
            let options = read(&payload);
            assert_eq!((options.call_id.as_deref(), options.to_tag.as_deref()), (Some("c"), Some("t")));
            assert_eq!(options.sdp.as_deref(), Some("v"));
            assert_eq!(options.wishes.media_address, Some([192, 0, 2, 1].into()));
            assert_eq!(options.ignored_count, 0);
        }
    }

    #[test]
    fn later_scalars_win_and_lists_add_up() {
        let options = read(
            r#"{"from-tag":"a","from-tag":"b","flags":["asymmetric"],"flags":"strict source, codec-strip-G722",
            "codec":{"strip":"PCMA"},"codec":{"strip":["opus"]},"replace":["origin"],"replace":"session-connection"}"#,
        );
        assert_eq!(options.from_tag.as_deref(), Some("b"));
        assert!(options.wishes.asymmetric && options.wishes.strict_source && options.wishes.replace.origin);
        assert_eq!(options.wishes.codec.strip, ["G722", "PCMA", "opus"]);
        assert_eq!(options.ignored_count, 0, "{:?}", options.ignored);
    }

    #[test]
    fn unknown_names_are_noted_and_ignored() {
        let options = read(
            r#"{"frobnicate":1,"flags":["wat",7],"replace":["nothing"],"direction":["priv","pub"],"T.38":["decode"]}"#,
        );
        assert_eq!(options.ignored_count, 4, "{:?}", options.ignored);
        assert_eq!(options.interfaces, ["priv", "pub"]);
    }

    #[test]
    fn received_from_is_a_list_or_an_address() {
        for value in [r#"["IP4","192.0.2.1"]"#, r#""192.0.2.1""#, r#"["?","192.0.2.1"]"#] {
            let options = read(&format!("{{\"received-from\":{value}}}"));
            assert_eq!(options.wishes.received_from, Some([192, 0, 2, 1].into()), "{value}");
        }
    }

    #[test]
    fn delete_delay_comes_twice_and_in_two_types() {
        assert_eq!(read("d12:delete delayi5e12:delete-delay1:5e").delete_delay, Some(5));
        assert_eq!(read(r#"{"delete_delay":"0"}"#).delete_delay, Some(0));
        assert_eq!(read(r#"{"delete-delay":-1}"#).delete_delay, None);
    }

    #[test]
    fn a_flag_string_is_read_like_keys_and_flags() {
        let options = read(
            r#"{"rtpp-flags":"replace-origin ICE=remove codec=[strip=[all] offer=[PCMA telephone-event]] AVPF direction=priv external transcode=PCMU rtcp-mux-demux via-branch=z9 ptime=30"}"#,
        );
        assert!(options.wishes.replace.origin && options.wishes.rtcp_mux.demux && options.has_rtpp_flags);
        assert_eq!(options.wishes.codec.strip, ["all"]);
        assert_eq!(options.wishes.codec.offer, ["PCMA", "telephone-event"]);
        assert_eq!(options.wishes.codec.transcode, ["PCMU"]);
        assert_eq!(options.wishes.transport, Some(Transport::Protocol("RTP/AVPF")));
        assert_eq!(options.interfaces, ["priv", "external"]);
        assert_eq!((options.via_branch.as_deref(), options.wishes.ptime), (Some("z9"), Some(30)));
        assert_eq!(options.ignored_count, 0, "{:?}", options.ignored);
    }

    #[test]
    fn what_needs_encryption_or_ice_is_named() {
        for payload in [
            r#"{"transport-protocol":"RTP/SAVP"}"#,
            r#"{"ICE":"force"}"#,
            r#"{"flags":["WebRTC"]}"#,
            r#"{"OSRTP":["offer"]}"#,
            r#"{"rtpp-flags":"SRTP"}"#,
            r#"{"rtpp-flags":"DTLS"}"#,
        ] {
            assert!(read(payload).wishes.unserved.is_some(), "{payload}");
        }
        for payload in [
            r#"{"ICE":"remove","DTLS":"off","SDES":["off"],"transport protocol":"rtp/avp"}"#,
            r#"{"rtpp-flags":"SRTP RTP/AVP"}"#,
        ] {
            assert_eq!(read(payload).wishes.unserved, None, "{payload}");
        }
    }
}
