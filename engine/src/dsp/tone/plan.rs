//! The tones of national networks, as played to callers.
//!
//! Frequencies and times are facts of ITU-T E.180 supplement 2 and of the ITU's list of 2003 ("Various tones used in
//! national networks"), as two tables made from them give them, with which every entry was compared: `global-tones.xml`
//! of spandsp 0.0.6 and the sample `indications.conf` of Asterisk. Networks often have several tones of one meaning;
//! here is one, the usual one. Where the tables differ or only one has an entry it is Asterisk's, the younger; the rest is
//! said beside the entry.

/// What a tone says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToneKind {
    /// Dial now.
    Dial,
    /// The called phone rings.
    Ringback,
    /// The called line is in use.
    Busy,
    /// The network has no way there; also called reorder.
    Congestion,
    /// Another call knocks.
    CallWaiting,
    /// An announcement follows: three rising tones (E.180 section 10).
    SpecialInformation,
}

/// One sound of a cadence and the pause after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToneBurst {
    /// What sounds together, in Hz. Modulated tones stand here as carrier and two side tones.
    pub frequencies_hz: &'static [f64],
    /// How long; [`ToneBurst::ENDLESS`] never ends.
    pub on_ms: u32,
    /// How long it is silent then.
    pub off_ms: u32,
}

impl ToneBurst {
    /// The length of a tone that sounds until it is stopped.
    pub const ENDLESS: u32 = u32::MAX;
}

/// The tones of one country.
#[derive(Debug)]
pub struct TonePlan {
    /// ISO 3166 code, lower case.
    pub country: &'static str,
    dial: &'static [ToneBurst],
    ringback: &'static [ToneBurst],
    busy: &'static [ToneBurst],
    congestion: &'static [ToneBurst],
    call_waiting: &'static [ToneBurst],
}

impl TonePlan {
    /// The plan of a country, by its ISO 3166 code in any case.
    #[must_use]
    pub fn of(country: &str) -> Option<&'static Self> {
        PLANS.iter().find(|plan| plan.country.eq_ignore_ascii_case(country))
    }

    /// Every plan there is.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        PLANS.iter()
    }

    /// The bursts of a tone, which repeat without end; the special information tone is played once.
    #[must_use]
    pub fn cadence(&self, kind: ToneKind) -> &'static [ToneBurst] {
        match kind {
            ToneKind::Dial => self.dial,
            ToneKind::Ringback => self.ringback,
            ToneKind::Busy => self.busy,
            ToneKind::Congestion => self.congestion,
            ToneKind::CallWaiting => self.call_waiting,
            ToneKind::SpecialInformation => SPECIAL_INFORMATION,
        }
    }
}

const fn burst(frequencies_hz: &'static [f64], on_ms: u32, off_ms: u32) -> ToneBurst {
    ToneBurst { frequencies_hz, on_ms, off_ms }
}

const fn endless(frequencies_hz: &'static [f64]) -> ToneBurst {
    burst(frequencies_hz, ToneBurst::ENDLESS, 0)
}

const SPECIAL_INFORMATION: &[ToneBurst] =
    &[burst(&[950.0], 330, 0), burst(&[1400.0], 330, 0), burst(&[1800.0], 330, 1000)];

const PLANS: &[TonePlan] = &[
    TonePlan {
        country: "us",
        dial: &[endless(&[350.0, 440.0])],
        ringback: &[burst(&[440.0, 480.0], 2000, 4000)],
        busy: &[burst(&[480.0, 620.0], 500, 500)],
        congestion: &[burst(&[480.0, 620.0], 250, 250)],
        call_waiting: &[burst(&[440.0], 300, 10_000)],
    },
    TonePlan {
        country: "gb",
        dial: &[endless(&[350.0, 440.0])],
        ringback: &[burst(&[400.0, 450.0], 400, 200), burst(&[400.0, 450.0], 400, 2000)],
        busy: &[burst(&[400.0], 375, 375)],
        congestion: &[burst(&[400.0], 400, 350), burst(&[400.0], 225, 525)],
        call_waiting: &[burst(&[400.0], 100, 4000)],
    },
    TonePlan {
        country: "de",
        dial: &[endless(&[425.0])],
        ringback: &[burst(&[425.0], 1000, 4000)],
        busy: &[burst(&[425.0], 480, 480)],
        congestion: &[burst(&[425.0], 240, 240)],
        call_waiting: &[burst(&[425.0], 200, 200), burst(&[425.0], 200, 5000)],
    },
    TonePlan {
        country: "fr",
        dial: &[endless(&[440.0])],
        ringback: &[burst(&[440.0], 1500, 3500)],
        busy: &[burst(&[440.0], 500, 500)],
        congestion: &[burst(&[440.0], 250, 250)],
        call_waiting: &[burst(&[440.0], 300, 10_000)],
    },
    TonePlan {
        country: "it",
        dial: &[burst(&[425.0], 200, 200), burst(&[425.0], 600, 1000)],
        ringback: &[burst(&[425.0], 1000, 4000)],
        // 200 ms in spandsp's table, which is congestion here.
        busy: &[burst(&[425.0], 500, 500)],
        congestion: &[burst(&[425.0], 200, 200)],
        call_waiting: &[burst(&[425.0], 400, 100), burst(&[425.0], 250, 100), burst(&[425.0], 150, 14_000)],
    },
    TonePlan {
        country: "es",
        dial: &[endless(&[425.0])],
        ringback: &[burst(&[425.0], 1500, 3000)],
        busy: &[burst(&[425.0], 200, 200)],
        congestion: &[burst(&[425.0], 200, 200), burst(&[425.0], 200, 200), burst(&[425.0], 200, 600)],
        call_waiting: &[burst(&[425.0], 175, 175), burst(&[425.0], 175, 3500)],
    },
    TonePlan {
        country: "at",
        dial: &[endless(&[420.0])],
        ringback: &[burst(&[420.0], 1000, 5000)],
        busy: &[burst(&[420.0], 400, 400)],
        congestion: &[burst(&[420.0], 200, 200)],
        call_waiting: &[burst(&[420.0], 40, 1950)],
    },
    TonePlan {
        country: "ch",
        dial: &[endless(&[425.0])],
        ringback: &[burst(&[425.0], 1000, 4000)],
        busy: &[burst(&[425.0], 500, 500)],
        congestion: &[burst(&[425.0], 200, 200)],
        call_waiting: &[burst(&[425.0], 200, 200), burst(&[425.0], 200, 4000)],
    },
    TonePlan {
        country: "nl",
        dial: &[endless(&[425.0])],
        ringback: &[burst(&[425.0], 1000, 4000)],
        busy: &[burst(&[425.0], 500, 500)],
        congestion: &[burst(&[425.0], 250, 250)],
        call_waiting: &[burst(&[425.0], 500, 9500)],
    },
    TonePlan {
        country: "pl",
        dial: &[endless(&[425.0])],
        ringback: &[burst(&[425.0], 1000, 4000)],
        busy: &[burst(&[425.0], 500, 500)],
        // The same as busy.
        congestion: &[burst(&[425.0], 500, 500)],
        call_waiting: &[burst(&[425.0], 150, 150), burst(&[425.0], 150, 4000)],
    },
    TonePlan {
        country: "jp",
        dial: &[endless(&[400.0])],
        ringback: &[burst(&[400.0, 384.0, 416.0], 1000, 2000)],
        busy: &[burst(&[400.0], 500, 500)],
        // The same as busy.
        congestion: &[burst(&[400.0], 500, 500)],
        call_waiting: &[burst(&[400.0, 384.0, 416.0], 500, 8000)],
    },
    TonePlan {
        country: "au",
        // 425 Hz modulated with 25 Hz. The tables have two lines for it: 413 + 438, 400 + 450 or 383 + 417 Hz; and 400 Hz
        // beside 425 Hz for busy.
        dial: &[endless(&[425.0, 400.0, 450.0])],
        ringback: &[burst(&[425.0, 400.0, 450.0], 400, 200), burst(&[425.0, 400.0, 450.0], 400, 2000)],
        busy: &[burst(&[425.0], 375, 375)],
        // The same times as busy; every other burst is softer.
        congestion: &[burst(&[425.0], 375, 375)],
        call_waiting: &[burst(&[425.0], 200, 200), burst(&[425.0], 200, 4400)],
    },
    TonePlan {
        country: "in",
        dial: &[endless(&[400.0, 375.0, 425.0])],
        ringback: &[burst(&[400.0, 375.0, 425.0], 400, 200), burst(&[400.0, 375.0, 425.0], 400, 2000)],
        busy: &[burst(&[400.0], 750, 750)],
        congestion: &[burst(&[400.0], 250, 250)],
        call_waiting: &[burst(&[400.0], 200, 100), burst(&[400.0], 200, 7500)],
    },
    TonePlan {
        country: "br",
        dial: &[endless(&[425.0])],
        ringback: &[burst(&[425.0], 1000, 4000)],
        busy: &[burst(&[425.0], 250, 250)],
        // Spandsp's table has it for numbers that do not exist, and none for congestion.
        congestion: &[burst(&[425.0], 250, 250), burst(&[425.0], 750, 250)],
        call_waiting: &[burst(&[425.0], 50, 1000)],
    },
    TonePlan {
        country: "cn",
        dial: &[endless(&[450.0])],
        ringback: &[burst(&[450.0], 1000, 4000)],
        busy: &[burst(&[450.0], 350, 350)],
        congestion: &[burst(&[450.0], 700, 700)],
        call_waiting: &[burst(&[450.0], 400, 4000)],
    },
];
