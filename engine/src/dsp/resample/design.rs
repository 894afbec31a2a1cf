//! The filters: one continuous impulse response for each purpose, sampled at the phases that a pair of rates needs.
//!
//! A response of length `T` (in samples of the lower rate) is `sum(b[j] * cos(2 pi (j + 1/2) t / T)) / T`, which is zero
//! at both ends and has the spectrum `sum(b[j] * (sinc(f T - j - 1/2) + sinc(f T + j + 1/2))) / 2`. The factors were
//! found by Lawson's method (least squares, weighted again and again by the errors), which gives the smallest
//! largest error relative to the limits of each band; the tests of the resampler hold the bands.

use std::f64::consts::PI;

use super::{Quality, SampleRate};
use crate::simd::FirBank;

/// What a pair of rates needs.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) bank: FirBank,
    /// Length of the response, in input samples, rounded up.
    pub(super) taps: usize,
    /// Delay in samples of the lower rate.
    pub(super) delay: usize,
}

impl Plan {
    pub(super) fn new(from: SampleRate, to: SampleRate, quality: Quality) -> Self {
        let divisor = gcd(from.hz(), to.hz());
        let (step, phases) = ((from.hz() / divisor) as usize, (to.hz() / divisor) as usize);
        let response = Response::new(from, to, quality);
        // Input samples for each sample of the lower rate, as a fraction.
        let (stretch, unit) = if from > to { (step, phases) } else { (1, 1) };
        let taps = (response.length * stretch).div_ceil(unit);
        let mut rows = Vec::with_capacity(phases * taps);
        for phase in 0..phases {
            // The last tap is on the input sample at or just before the time of the output.
            let newest = phase * step / phases;
            for tap in 0..taps {
                let age = (phase * step) as f64 / phases as f64 - (newest + tap) as f64 + (taps - 1) as f64;
                let scale = unit as f64 / stretch as f64;
                rows.push(response.at(age * scale) * scale);
            }
        }
        let gain = rows.iter().sum::<f64>() / phases as f64;
        rows.iter_mut().for_each(|coefficient| *coefficient /= gain);
        // Rounding errors of the coefficients add up in the stopband like noise. Its mean is to lie about 18 dB below the
        // lobes of the filter, so that its peaks raise them by a decibel or two.
        let deviation = 10f64.powf(-(response.stopband_db + 18.0) / 20.0);
        let errors = (12.0 * phases as f64 / taps as f64).sqrt();
        let fraction_bits = (deviation * errors).recip().log2().round() as u32;
        Self { bank: FirBank::new(phases, step, &rows, fraction_bits), taps, delay: response.length / 2 }
    }
}

/// A continuous impulse response.
struct Response {
    factors: &'static [f64],
    /// In samples of the lower rate.
    length: usize,
    /// What the design reaches, to be kept when coefficients are rounded.
    stopband_db: f64,
}

impl Response {
    fn new(from: SampleRate, to: SampleRate, quality: Quality) -> Self {
        let narrowband = from.min(to) == SampleRate::Hz8000;
        match quality {
            Quality::Speech if from < to => Self { factors: SPEECH_UP, length: 48, stopband_db: 100.0 },
            Quality::Speech => Self { factors: SPEECH_DOWN, length: 48, stopband_db: 94.0 },
            Quality::High if narrowband => Self { factors: HIGH_8K, length: 48, stopband_db: 105.0 },
            Quality::High => Self { factors: HIGH, length: 88, stopband_db: 108.0 },
        }
    }

    /// The response `age` samples of the lower rate after its beginning.
    fn at(&self, age: f64) -> f64 {
        let length = self.length as f64;
        if age <= 0.0 || age >= length {
            return 0.0;
        }
        // cos((j + 1/2) x) by recurrence.
        let x = 2.0 * PI * (age - length / 2.0) / length;
        let (mut previous, mut cosine, twice) = ((0.5 * x).cos(), (0.5 * x).cos(), 2.0 * x.cos());
        let mut sum = 0.0;
        for factor in self.factors {
            sum += factor * cosine;
            (previous, cosine) = (cosine, twice * cosine - previous);
        }
        sum / length
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// [`Quality::Speech`] to a higher rate.
static SPEECH_UP: &[f64] = &[
    1.999_830_939_92,
    2.000_017_694_43,
    2.000_053_891_98,
    1.999_893_503_99,
    2.000_150_266_93,
    1.999_813_056_96,
    2.000_216_712_03,
    1.999_754_883_05,
    2.000_262_296_58,
    1.999_722_417_03,
    2.000_290_205_88,
    1.999_705_962_47,
    2.000_296_640_34,
    1.999_701_950_92,
    2.000_298_152_94,
    1.999_702_844_40,
    2.000_294_098_70,
    1.999_740_480_59,
    2.000_093_864_39,
    2.000_229_415_85,
    1.923_393_780_34,
    1.422_296_026_93,
    0.579_953_394_23,
    0.083_046_700_74,
    -0.000_158_207_71,
    0.000_081_174_98,
    0.000_009_635_44,
    -0.000_044_139_02,
    0.000_056_060_66,
    -0.000_050_203_84,
];

/// [`Quality::Speech`] to a lower rate.
static SPEECH_DOWN: &[f64] = &[
    2.001_409_445_33,
    2.000_085_644_38,
    1.999_119_991_33,
    2.001_477_572_21,
    1.998_088_674_99,
    2.002_232_442_28,
    1.997_531_589_14,
    2.002_568_675_75,
    1.997_445_798_40,
    2.002_470_235_54,
    1.997_756_019_28,
    2.001_972_697_87,
    1.998_355_619_38,
    2.001_284_272_92,
    1.999_055_859_99,
    2.000_677_065_42,
    1.999_475_300_96,
    2.000_673_361_15,
    1.998_404_584_89,
    2.005_689_044_06,
    1.804_187_396_25,
    1.002_531_714_26,
    0.232_112_582_28,
    0.010_085_671_77,
    0.000_028_186_81,
    -0.000_027_897_16,
    -0.000_020_300_26,
    0.000_040_762_92,
    -0.000_047_311_11,
    0.000_041_912_67,
];

/// [`Quality::High`] when one rate is 8,000 Hz, where 3 ms are 48 samples.
static HIGH_8K: &[f64] = &[
    1.989_976_664_96,
    1.992_997_091_78,
    2.015_999_583_09,
    1.979_841_336_92,
    2.020_464_615_89,
    1.983_109_637_58,
    2.011_089_738_65,
    1.996_274_006_97,
    1.995_972_964_19,
    2.010_906_215_26,
    1.983_661_249_30,
    2.019_799_793_60,
    1.979_110_982_43,
    2.019_187_021_22,
    1.984_673_557_93,
    2.009_775_064_63,
    1.996_731_954_28,
    1.996_858_020_98,
    2.007_870_049_47,
    1.991_719_721_75,
    1.950_844_386_15,
    1.210_671_950_48,
    0.321_673_766_64,
    0.021_962_275_51,
    -0.000_016_042_50,
    -0.000_015_226_16,
    0.000_003_397_48,
    0.000_007_514_59,
    -0.000_009_897_22,
    0.000_009_984_64,
];

/// [`Quality::High`] between higher rates.
static HIGH: &[f64] = &[
    2.000_004_395_40,
    1.999_998_968_54,
    1.999_999_689_76,
    2.000_001_292_41,
    1.999_997_914_92,
    2.000_002_750_79,
    1.999_996_675_61,
    2.000_003_995_45,
    1.999_995_546_22,
    2.000_004_904_72,
    1.999_994_718_67,
    2.000_005_717_45,
    1.999_993_939_64,
    2.000_006_328_97,
    1.999_993_479_63,
    2.000_006_745_04,
    1.999_993_097_65,
    2.000_007_105_18,
    1.999_992_764_92,
    2.000_007_330_28,
    1.999_992_655_19,
    2.000_007_402_80,
    1.999_992_600_34,
    2.000_007_439_97,
    1.999_992_580_60,
    2.000_007_443_46,
    1.999_992_588_19,
    2.000_007_428_30,
    1.999_992_750_37,
    2.000_007_016_37,
    1.999_993_345_42,
    2.000_005_960_17,
    1.999_995_186_50,
    2.000_002_653_61,
    2.000_000_911_16,
    1.999_994_004_23,
    2.000_005_555_52,
    1.999_940_822_67,
    1.981_551_414_60,
    1.791_757_106_97,
    1.216_085_605_11,
    0.489_859_842_33,
    0.087_346_664_89,
    0.003_223_813_35,
    -0.000_001_477_29,
    -0.000_004_624_25,
    -0.000_003_786_79,
    0.000_006_650_83,
    -0.000_004_857_04,
    0.000_005_227_24,
    -0.000_005_179_79,
    0.000_005_225_29,
];
