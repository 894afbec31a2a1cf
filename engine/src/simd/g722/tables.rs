//! The tables of ITU-T G.722, with the names that the Recommendation gives them (tables 11 to 21).
//!
//! Levels and outputs are kept as the Recommendation prints them; where a word of eight times the value is
//! meant, the code that multiplies says so.

/// Q6: decision levels of the 60-level quantizer of the lower band. The first is the interval at zero.
pub(crate) const Q6: [i16; 30] = [
    0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121,
    1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];

/// Q2: the decision level of the 4-level quantizer of the higher band.
pub(crate) const Q2: i16 = 564;

/// OQ4: outputs of the 15-level inverse quantizer of the lower band.
const OQ4: [i16; 8] = [0, 150, 323, 530, 786, 1121, 1612, 2557];

/// OQ5: outputs of the 30-level inverse quantizer (56 kbit/s), without the unused first.
const OQ5: [i16; 16] = [0, 35, 110, 190, 276, 370, 473, 587, 714, 858, 1023, 1219, 1458, 1765, 2195, 2919];

/// OQ6: outputs of the 60-level inverse quantizer (64 kbit/s), without the unused first.
const OQ6: [i16; 31] = [
    0, 17, 54, 91, 130, 170, 211, 254, 300, 347, 396, 447, 501, 558, 618, 682, 750, 822, 899, 982, 1072,
    1170, 1279, 1399, 1535, 1689, 1873, 2088, 2376, 2738, 3101,
];

/// WL: what a code adds to the logarithmic scale factor of the lower band.
const WL: [i16; 8] = [-60, -30, 58, 172, 334, 538, 1198, 3042];

/// By the 6-bit code: eight times the output of the inverse quantizer at 64 kbit/s.
pub(crate) const LOWER_OUTPUT_64: [i16; 64] = {
    let mut table = [0; 64];
    let mut code = 0;
    while code < 64 {
        table[code] = 8 * match code {
            // Codes that no encoder sends; they mean the innermost negative interval.
            0..4 => -OQ6[1],
            4..32 => -OQ6[34 - code],
            32..62 => OQ6[62 - code],
            _ => -OQ6[64 - code],
        };
        code += 1;
    }
    table
};

/// By the upper 5 bits of the code: eight times the output of the inverse quantizer at 56 kbit/s.
pub(crate) const LOWER_OUTPUT_56: [i16; 32] = {
    let mut table = [0; 32];
    let mut code = 0;
    while code < 32 {
        table[code] = 8 * match code {
            0..2 | 31 => -OQ5[1],
            2..16 => -OQ5[17 - code],
            _ => OQ5[31 - code],
        };
        code += 1;
    }
    table
};

/// By the upper 4 bits of the code: eight times the output of the inverse quantizer at 48 kbit/s, which is the
/// one that steers adaptation at every rate.
pub(crate) const LOWER_OUTPUT_48: [i16; 16] = {
    let mut table = [0; 16];
    let mut code = 0;
    while code < 16 {
        table[code] = 8 * match code {
            0 => 0,
            1..8 => -OQ4[8 - code],
            _ => OQ4[15 - code],
        };
        code += 1;
    }
    table
};

/// By the upper 4 bits of the code: what it adds to the logarithmic scale factor of the lower band.
pub(crate) const LOWER_SCALE_STEP: [i16; 16] = {
    let mut table = [0; 16];
    let mut code = 0;
    while code < 16 {
        table[code] = match code {
            0 => WL[0],
            1..8 => WL[8 - code],
            _ => WL[15 - code],
        };
        code += 1;
    }
    table
};

/// By the 2-bit code: eight times the output of the inverse quantizer of the higher band.
pub(crate) const HIGHER_OUTPUT: [i16; 4] = [8 * -926, 8 * -202, 8 * 926, 8 * 202];

/// WH by the 2-bit code: what it adds to the logarithmic scale factor of the higher band.
pub(crate) const HIGHER_SCALE_STEP: [i16; 4] = [798, -214, 798, -214];

/// ILB: 2048 times the powers of two by thirty-seconds, as the Recommendation rounds them.
pub(crate) const ILB: [i16; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// The largest logarithmic scale factor of the lower band.
pub(crate) const LOWER_SCALE_LIMIT: i16 = 18_432;
/// The largest logarithmic scale factor of the higher band.
pub(crate) const HIGHER_SCALE_LIMIT: i16 = 22_528;

/// H: the impulse response of both quadrature mirror filters, which reads the same backwards.
pub(crate) const QMF: [i16; 24] = [
    3, -11, -11, 53, 12, -156, 32, 362, -210, -805, 951, 3876, 3876, 951, -805, -210, 362, 32, -156, 12, 53,
    -11, -11, 3,
];

// The same once more for kernels that look up 32 words.

/// By the interval: eight times its lower decision level. The last two intervals are never left.
pub(crate) const LOWER_LEVELS: [i16; 32] = {
    let mut table = [8 * Q6[29]; 32];
    let mut interval = 0;
    while interval < 30 {
        table[interval] = 8 * Q6[interval];
        interval += 1;
    }
    table
};

/// [`LOWER_OUTPUT_64`] for codes under 32.
pub(crate) const LOWER_OUTPUT_BELOW: [i16; 32] = wide(&LOWER_OUTPUT_64, 0);
/// [`LOWER_OUTPUT_64`] for codes from 32.
pub(crate) const LOWER_OUTPUT_ABOVE: [i16; 32] = wide(&LOWER_OUTPUT_64, 32);
/// [`LOWER_OUTPUT_48`].
pub(crate) const LOWER_OUTPUT: [i16; 32] = wide(&LOWER_OUTPUT_48, 0);
/// [`LOWER_SCALE_STEP`].
pub(crate) const LOWER_STEP: [i16; 32] = wide(&LOWER_SCALE_STEP, 0);

const fn wide(table: &[i16], from: usize) -> [i16; 32] {
    let mut wide = [0; 32];
    let mut index = 0;
    while index < 32 && from + index < table.len() {
        wide[index] = table[from + index];
        index += 1;
    }
    wide
}
