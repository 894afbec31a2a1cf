//! When to report (RFC 3550 sections 6.2 and 6.3.1). With two participants the 5 % bandwidth share never
//! binds, so the interval is the fixed minimum, randomised.

use crate::time::Duration;

/// The interval to the next report: 5 s times a factor of 0.5 to 1.5, divided by e - 3/2 as section 6.3.1
/// asks. `random` is any uniform number.
#[must_use]
pub fn report_interval(random: u64) -> Duration {
    let factor_x1000 = 500 + random % 1001;
    Duration::from_micros(MINIMUM_US * factor_x1000 / COMPENSATION_X1000)
}

/// The interval to the first report: about 2.5 s, half of the minimum (section 6.2), within a tenth.
#[must_use]
pub fn first_interval(random: u64) -> Duration {
    Duration::from_micros(MINIMUM_US / 2 * (900 + random % 201) / 1000)
}

const MINIMUM_US: u64 = 5_000_000;
const COMPENSATION_X1000: u64 = 1218;
