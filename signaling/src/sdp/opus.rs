//! What `a=fmtp` says of Opus (RFC 7587 section 6.1).

use std::fmt;
use std::ops::RangeInclusive;

use engine::codec::opus::{BITRATES_BPS, Settings};

/// What one side wishes to receive, and what it is likely to send. The default is what an absent `a=fmtp` says.
///
/// ```
/// use sidetone_signaling::sdp::OpusParameters;
///
/// let chrome = OpusParameters::parse("minptime=10;useinbandfec=1");
/// assert!(chrome.use_inband_fec && !chrome.stereo);
/// assert_eq!(chrome.to_string(), "useinbandfec=1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusParameters {
    /// `maxplaybackrate`: the highest sampling rate that it can play, 8,000 to 48,000.
    pub max_playback_rate_hz: u32,
    /// `sprop-maxcapturerate`: the highest that it is likely to send, 8,000 to 48,000.
    pub max_capture_rate_hz: u32,
    /// `maxaveragebitrate`: the most that it wishes to receive on average, 6,000 to 510,000.
    pub max_average_bitrate_bps: Option<u32>,
    /// `stereo`: it prefers to receive stereo.
    pub stereo: bool,
    /// `sprop-stereo`: it is likely to send stereo.
    pub sends_stereo: bool,
    /// `cbr`: it wishes a constant bit rate.
    pub cbr: bool,
    /// `useinbandfec`: it makes use of redundancy.
    pub use_inband_fec: bool,
    /// `usedtx`: it prefers nothing to be sent in silence.
    pub use_dtx: bool,
}

impl Default for OpusParameters {
    fn default() -> Self {
        Self {
            max_playback_rate_hz: *RATES_HZ.end(),
            max_capture_rate_hz: *RATES_HZ.end(),
            max_average_bitrate_bps: None,
            stereo: false,
            sends_stereo: false,
            cbr: false,
            use_inband_fec: false,
            use_dtx: false,
        }
    }
}

impl OpusParameters {
    /// Reads what stands behind the format. A number out of range becomes the nearest one within; a parameter
    /// that is unknown or means nothing is passed over, as the RFC asks; of two the last counts.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parameters = Self::default();
        for parameter in text.split(';') {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            parameters.set(name.trim(), value.trim());
        }
        parameters
    }

    /// How to encode for the side that said this: as `ours`, but no more than it wishes to receive.
    #[must_use]
    pub fn limit(&self, ours: Settings) -> Settings {
        let limited = Settings {
            max_playback_rate_hz: ours.max_playback_rate_hz.min(self.max_playback_rate_hz),
            fec: ours.fec && self.use_inband_fec,
            dtx: ours.dtx && self.use_dtx,
            cbr: ours.cbr || self.cbr,
            ..ours
        };
        let most = self.max_average_bitrate_bps.filter(|&most| most < limited.bitrate_bps());
        Settings { bitrate_bps: most.or(limited.bitrate_bps), ..limited }
    }

    fn set(&mut self, name: &str, value: &str) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("maxplaybackrate") {
            set_number(&mut self.max_playback_rate_hz, value, &RATES_HZ);
        } else if is("sprop-maxcapturerate") {
            set_number(&mut self.max_capture_rate_hz, value, &RATES_HZ);
        } else if is("maxaveragebitrate") {
            let mut bitrate = self.max_average_bitrate_bps.unwrap_or(*BITRATES_BPS.end());
            if set_number(&mut bitrate, value, &BITRATES_BPS) {
                self.max_average_bitrate_bps = Some(bitrate);
            }
        } else if is("stereo") {
            set_flag(&mut self.stereo, value);
        } else if is("sprop-stereo") {
            set_flag(&mut self.sends_stereo, value);
        } else if is("cbr") {
            set_flag(&mut self.cbr, value);
        } else if is("useinbandfec") {
            set_flag(&mut self.use_inband_fec, value);
        } else if is("usedtx") {
            set_flag(&mut self.use_dtx, value);
        }
    }
}

impl fmt::Display for OpusParameters {
    /// Only what differs from the default; nothing at all needs no `a=fmtp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set: bool| set.then_some(1);
        let rate = |hz: u32| (hz != *RATES_HZ.end()).then_some(hz);
        let mut separator = "";
        for (name, value) in [
            ("maxplaybackrate", rate(self.max_playback_rate_hz)),
            ("sprop-maxcapturerate", rate(self.max_capture_rate_hz)),
            ("maxaveragebitrate", self.max_average_bitrate_bps),
            ("stereo", flag(self.stereo)),
            ("sprop-stereo", flag(self.sends_stereo)),
            ("cbr", flag(self.cbr)),
            ("useinbandfec", flag(self.use_inband_fec)),
            ("usedtx", flag(self.use_dtx)),
        ] {
            if let Some(value) = value {
                write!(f, "{separator}{name}={value}")?;
                separator = ";";
            }
        }
        Ok(())
    }
}

/// Takes a number over; one of more digits than fit is large, not meaningless.
fn set_number(target: &mut u32, value: &str, range: &RangeInclusive<u32>) -> bool {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    *target = value.parse().unwrap_or(u32::MAX).clamp(*range.start(), *range.end());
    true
}

fn set_flag(target: &mut bool, value: &str) {
    match value {
        "0" => *target = false,
        "1" => *target = true,
        _ => {}
    }
}

/// The rates that parameters name.
const RATES_HZ: RangeInclusive<u32> = 8_000..=48_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_of_phones_and_browsers_are_read() {
        let default = OpusParameters::default();
        for (text, expected) in [
            ("", default),
            ("minptime=10;useinbandfec=1", OpusParameters { use_inband_fec: true, ..default }),
            (
                "maxplaybackrate=16000; sprop-maxcapturerate=16000; maxaveragebitrate=20000; stereo=1; \
                 useinbandfec=1; usedtx=0",
                OpusParameters {
                    max_playback_rate_hz: 16_000,
                    max_capture_rate_hz: 16_000,
                    max_average_bitrate_bps: Some(20_000),
                    stereo: true,
                    use_inband_fec: true,
                    ..default
                },
            ),
            ("STEREO=1;Sprop-Stereo=1", OpusParameters { stereo: true, sends_stereo: true, ..default }),
            ("cbr = 1 ;usedtx=1;", OpusParameters { cbr: true, use_dtx: true, ..default }),
        ] {
            assert_eq!(OpusParameters::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_brought_into_range_and_nonsense_is_passed_over() {
        let number = |text| OpusParameters::parse(text).max_average_bitrate_bps;
        assert_eq!(number("maxaveragebitrate=1"), Some(6_000));
        assert_eq!(number("maxaveragebitrate=99999999999999999999"), Some(510_000));
        assert_eq!(number("maxaveragebitrate=-1"), None);
        assert_eq!(number("maxaveragebitrate=+20000"), None);
        assert_eq!(number("maxaveragebitrate="), None);
        assert_eq!(number("maxaveragebitrate=20000;maxaveragebitrate=x"), Some(20_000));
        for (text, hz) in [("0", 8_000), ("44100", 44_100), ("192000", 48_000), ("16k", 48_000)] {
            let parameters = OpusParameters::parse(&format!("maxplaybackrate={text}"));
            assert_eq!(parameters.max_playback_rate_hz, hz, "{text}");
        }
        for text in ["stereo=2", "stereo", "stereo=yes", "=1", ";;", "stereo=1;stereo=0"] {
            assert_eq!(OpusParameters::parse(text), OpusParameters::default(), "{text}");
        }
    }

    #[test]
    fn encoder_keeps_to_what_the_peer_wishes() {
        let ours = Settings { fec: true, dtx: true, ..Settings::default() };
        let silent = OpusParameters::default().limit(ours);
        assert_eq!(silent, Settings { fec: false, dtx: false, ..ours });
        let text = "maxplaybackrate=16000;maxaveragebitrate=15000;useinbandfec=1;usedtx=1;cbr=1;stereo=1";
        let limited = OpusParameters::parse(text).limit(ours);
        assert!(limited.fec && limited.dtx && limited.cbr);
        assert_eq!((limited.max_playback_rate_hz, limited.bitrate_bps()), (16_000, 15_000));
        let generous = OpusParameters::parse("maxaveragebitrate=510000").limit(ours);
        assert_eq!(generous.bitrate_bps(), ours.bitrate_bps(), "a limit is no wish");
    }

    fn any_parameters() -> impl Strategy<Value = OpusParameters> {
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        (RATES_HZ, RATES_HZ, prop::option::of(BITRATES_BPS), flags).prop_map(
            |(playback, capture, bitrate, (stereo, sends_stereo, cbr, fec, dtx))| OpusParameters {
                max_playback_rate_hz: playback,
                max_capture_rate_hz: capture,
                max_average_bitrate_bps: bitrate,
                stereo,
                sends_stereo,
                cbr,
                use_inband_fec: fec,
                use_dtx: dtx,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(parameters in any_parameters()) {
            prop_assert_eq!(OpusParameters::parse(&parameters.to_string()), parameters);
        }

        #[test]
        fn any_text_gives_parameters_within_bounds(
            text in "(([a-z-]{0,9}|maxplaybackrate|maxaveragebitrate|stereo|cbr)[ =;]{0,2}[0-9x]{0,12}[; ]){0,6}",
        ) {
            let parameters = OpusParameters::parse(&text);
            prop_assert!(RATES_HZ.contains(&parameters.max_playback_rate_hz));
            prop_assert!(parameters.max_average_bitrate_bps.is_none_or(|bps| BITRATES_BPS.contains(&bps)));
            prop_assert_eq!(OpusParameters::parse(&parameters.to_string()), parameters);
            let limited = parameters.limit(Settings::default());
            prop_assert!(limited.bitrate_bps() <= parameters.max_average_bitrate_bps.unwrap_or(u32::MAX));
        }
    }
}
