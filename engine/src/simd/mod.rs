//! Kernels: the loops over samples that are worth vector instructions.
//!
//! ```text
//!   scalar/  what each kernel means, in plain Rust      avx2/  avx512/  neon/  the same, faster
//!                        \________________________________/
//!                           Kernels: one table per instruction set, chosen once at start
//! ```
//!
//! Every table gives the same bits as [`scalar`](Kernels) for every input; one test body holds each to it.
//! Callers take [`kernels`] and never ask for the CPU themselves. A kernel works on slices, keeps no state of
//! its own, allocates nothing and panics at no input; what it does when lengths differ stands at its field.

/// The table of the module that this stands in: every family's `KERNELS` there.
macro_rules! table {
    ($name:literal) => {
        crate::simd::Kernels {
            name: $name,
            correlate: correlate::KERNELS,
            fir: fir::KERNELS,
            g711: g711::KERNELS,
            g722: g722::KERNELS,
            level: level::KERNELS,
            mix: mix::KERNELS,
            tones: tones::KERNELS,
            vad: vad::KERNELS,
        }
    };
}

mod blocks;
mod correlate;
mod door;
mod fir;
mod g711;
pub mod g722;
pub(crate) mod law;
mod level;
pub(crate) mod mix;
mod scalar;
mod tones;
mod vad;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use std::sync::OnceLock;

pub use correlate::Correlate;
pub use fir::{Fir, FirBank};
pub use g711::G711;
pub use g722::G722;
pub use level::{Gain, Levels, Loudness};
pub use mix::{Block, CEILING, KNEE, Mix, limit};
pub use tones::{
    DTMF_WINDOW_STEPS, DtmfLimits, DtmfStep, DtmfWindow, TONE_FREQUENCIES, TONE_STEP_SAMPLES, ToneBank,
    ToneSums, Tones,
};
pub use vad::{NO_LEVEL, VAD_LANES, Vad, VadLane, VadLanes, VadTiming};

/// The kernels for one instruction set, by family.
#[derive(Debug)]
pub struct Kernels {
    /// `scalar`, `avx2`, `avx512` or `neon`.
    pub name: &'static str,
    /// Sums of products over lags.
    pub correlate: Correlate,
    /// Filters for resampling.
    pub fir: Fir,
    /// Companding.
    pub g711: G711,
    /// Loudness.
    pub level: Levels,
    /// Mixing.
    pub mix: Mix,
    /// Wideband ADPCM.
    pub g722: G722,
    /// Correlation with tones.
    pub tones: Tones,
    /// Voice activity.
    pub vad: Vad,
}

/// The table in use: the fastest that this CPU runs, unless [`select`] named another before.
#[must_use]
pub fn kernels() -> &'static Kernels {
    CHOSEN.get_or_init(|| available().next_back().unwrap_or(&scalar::KERNELS))
}

/// All tables that this CPU runs, the fastest last. The first is the scalar one.
pub fn available() -> impl DoubleEndedIterator<Item = &'static Kernels> {
    TABLES.iter().filter(|table| (table.runs_here)()).map(|table| table.kernels)
}

/// Makes [`kernels`] give the table of that name.
///
/// # Errors
///
/// When no such table runs here, or another is in use already.
pub fn select(name: &str) -> Result<(), SelectError> {
    let kernels = available().find(|kernels| kernels.name == name).ok_or_else(|| {
        let names: Vec<&str> = available().map(|kernels| kernels.name).collect();
        SelectError::NotHere { name: name.to_owned(), available: names.join(", ") }
    })?;
    let chosen = CHOSEN.get_or_init(|| kernels);
    if chosen.name == name { Ok(()) } else { Err(SelectError::InUse { name: chosen.name }) }
}

/// Why a table cannot be selected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No table of this name, or the CPU lacks it.
    #[error("no SIMD kernels '{name}' on this CPU; it runs: {available}")]
    NotHere {
        /// What was asked for.
        name: String,
        /// What there is, with commas between.
        available: String,
    },
    /// The choice is made once.
    #[error("SIMD kernels '{name}' are already in use")]
    InUse {
        /// The table in use.
        name: &'static str,
    },
}

struct Table {
    kernels: &'static Kernels,
    runs_here: fn() -> bool,
}

static CHOSEN: OnceLock<&'static Kernels> = OnceLock::new();

/// From the slowest to the fastest.
static TABLES: &[Table] = &[
    Table { kernels: &scalar::KERNELS, runs_here: || true },
    #[cfg(target_arch = "x86_64")]
    Table { kernels: &avx2::KERNELS, runs_here: avx2::runs_here },
    #[cfg(target_arch = "x86_64")]
    Table { kernels: &avx512::KERNELS, runs_here: avx512::runs_here },
    #[cfg(target_arch = "aarch64")]
    Table { kernels: &neon::KERNELS, runs_here: || true },
];
