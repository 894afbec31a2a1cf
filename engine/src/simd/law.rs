//! ITU-T G.711 for one sample: the definition that the kernels are held to. Bit for bit as the G.191 reference
//! (the software tool library) does it: 16-bit linear with the 14 (mu-law) or 13 (A-law) significant bits on top,
//! negative samples by ones' complement.

/// One sample to mu-law.
#[must_use]
pub const fn ulaw_from_linear(sample: i16) -> u8 {
    let positive = sample >= 0;
    let magnitude = if positive { sample } else { !sample } >> 2;
    // 33 moves every segment to a power of two (G.711 table 2).
    let biased = magnitude + 33;
    let biased = if biased > 0x1FFF { 0x1FFF } else { biased } as u16;
    let segment = 11 - biased.leading_zeros();
    let step = (biased >> segment) & 0x0F;
    let code = (((8 - segment) << 4) as u8) | (0x0F - step as u8);
    if positive { code | 0x80 } else { code }
}

/// One mu-law byte to linear.
#[must_use]
pub const fn linear_from_ulaw(byte: u8) -> i16 {
    let inverted = !byte;
    let segment = (inverted >> 4) & 7;
    let step = (inverted & 0x0F) as i16;
    let magnitude = (((step << 3) + 0x84) << segment) - 0x84;
    if byte & 0x80 == 0 { -magnitude } else { magnitude }
}

/// One sample to A-law.
#[must_use]
pub const fn alaw_from_linear(sample: i16) -> u8 {
    let positive = sample >= 0;
    let magnitude = (if positive { sample } else { !sample } >> 4) as u16;
    let code = if magnitude < 32 {
        magnitude as u8
    } else {
        let segment = 11 - magnitude.leading_zeros();
        ((segment << 4) as u8) + (magnitude >> segment) as u8
    };
    (if positive { code | 0x80 } else { code }) ^ 0x55
}

/// One A-law byte to linear.
#[must_use]
pub const fn linear_from_alaw(byte: u8) -> i16 {
    let toggled = byte ^ 0x55;
    let segment = (toggled >> 4) & 7;
    let step = ((toggled & 0x0F) as i16) << 4;
    let magnitude = if segment == 0 { step + 8 } else { (step + 0x108) << (segment - 1) };
    if toggled & 0x80 == 0 { -magnitude } else { magnitude }
}

/// Every mu-law byte's linear value.
pub static ULAW_TO_LINEAR: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = linear_from_ulaw(byte as u8);
        byte += 1;
    }
    table
};

/// Every A-law byte's linear value.
pub static ALAW_TO_LINEAR: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = linear_from_alaw(byte as u8);
        byte += 1;
    }
    table
};

/// Every mu-law byte in A-law, by the conversion that G.711 itself prescribes (table 3). It is not quite
/// expanding and compressing again: at the edges of segments it takes the neighbour that a second
/// conversion brings back.
pub static ULAW_TO_ALAW: [u8; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 128 {
        let value = ULAW_VALUE_TO_ALAW[n] - 1;
        table[0xFF - n] = (value | 0x80) ^ 0x55;
        table[0x7F - n] = value ^ 0x55;
        n += 1;
    }
    table
};

/// Every A-law byte in mu-law (G.711 table 4).
pub static ALAW_TO_ULAW: [u8; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 128 {
        let value = ALAW_VALUE_TO_ULAW[n];
        table[(n | 0x80) ^ 0x55] = 0xFF - value;
        table[n ^ 0x55] = 0x7F - value;
        n += 1;
    }
    table
};

/// G.711 table 3: mu-law values from zero outwards, to A-law values numbered from one.
#[rustfmt::skip]
const ULAW_VALUE_TO_ALAW: [u8; 128] = [
    1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8,
    9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
    25, 27, 29, 31, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44,
    46, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62,
    64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79,
    80, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96,
    97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112,
    113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128,
];

/// G.711 table 4: A-law values from zero outwards, to mu-law values numbered from zero.
#[rustfmt::skip]
const ALAW_VALUE_TO_ULAW: [u8; 128] = [
    1, 3, 5, 7, 9, 11, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23,
    24, 25, 26, 27, 28, 29, 30, 31, 32, 32, 33, 33, 34, 34, 35, 35,
    36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 48, 49, 49,
    50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 64,
    65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80,
    80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95,
    96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
    112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127,
];
