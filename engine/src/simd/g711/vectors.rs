//! The functions of this family for a table with vectors of its own.

/// The kernels by these functions on vectors, which the module that this stands in has:
///
/// - `ulaw`, `alaw`: samples to codes; `from_ulaw`, `from_alaw`: codes to samples;
/// - `ulaw_alaw`, `alaw_ulaw`: codes to the other law's;
/// - `amplified`: samples with a gain, the new ones at the end measured.
///
/// `$width` codes are one vector, and their samples two.
macro_rules! vectors {
    ($door:ident, $width:literal) => {
        use crate::simd::blocks::{convert, convert_in_place, visit};
        use crate::simd::scalar;
        use crate::simd::{G711, Loudness};

        /// The family in this table.
        pub(in crate::simd) const KERNELS: G711 = G711 {
            encode_ulaw,
            encode_alaw,
            decode_ulaw,
            decode_alaw,
            ulaw_to_alaw,
            alaw_to_ulaw,
            ulaw_to_alaw_in_place,
            alaw_to_ulaw_in_place,
            encode_ulaw_gain,
            encode_alaw_gain,
            decode_ulaw_gain,
            decode_alaw_gain,
            measure_ulaw,
            measure_alaw,
            peak_ulaw,
            peak_alaw,
        };

        $door! {
            fn encode_ulaw(pcm: &[i16], encoded: &mut [u8]) {
                convert(pcm, encoded, |pcm: [i16; $width], _| must_cast(ulaw(must_cast(pcm))));
            }

            fn encode_alaw(pcm: &[i16], encoded: &mut [u8]) {
                convert(pcm, encoded, |pcm: [i16; $width], _| must_cast(alaw(must_cast(pcm))));
            }

            fn encode_ulaw_gain(pcm: &[i16], gain: Gain, encoded: &mut [u8]) {
                convert(pcm, encoded, |pcm: [i16; $width], _| {
                    let [low, high] = must_cast(pcm);
                    must_cast(ulaw([apply(low, gain), apply(high, gain)]))
                });
            }

            fn encode_alaw_gain(pcm: &[i16], gain: Gain, encoded: &mut [u8]) {
                convert(pcm, encoded, |pcm: [i16; $width], _| {
                    let [low, high] = must_cast(pcm);
                    must_cast(alaw([apply(low, gain), apply(high, gain)]))
                });
            }

            fn decode_ulaw(encoded: &[u8], pcm: &mut [i16]) {
                convert(encoded, pcm, |codes: [u8; $width], _| must_cast(from_ulaw(must_cast(codes))));
            }

            fn decode_alaw(encoded: &[u8], pcm: &mut [i16]) {
                convert(encoded, pcm, |codes: [u8; $width], _| must_cast(from_alaw(must_cast(codes))));
            }

            fn decode_ulaw_gain(encoded: &[u8], gain: Gain, pcm: &mut [i16]) -> Loudness {
                let mut meter = Meter::new();
                convert(encoded, pcm, |codes: [u8; $width], new| {
                    must_cast(amplified(from_ulaw(must_cast(codes)), gain, new, &mut meter))
                });
                meter.level()
            }

            fn decode_alaw_gain(encoded: &[u8], gain: Gain, pcm: &mut [i16]) -> Loudness {
                let mut meter = Meter::new();
                convert(encoded, pcm, |codes: [u8; $width], new| {
                    must_cast(amplified(from_alaw(must_cast(codes)), gain, new, &mut meter))
                });
                meter.level()
            }

            fn measure_ulaw(encoded: &[u8]) -> Loudness {
                let mut meter = Meter::new();
                visit(encoded, |codes: [u8; $width], new| meter.add(from_ulaw(must_cast(codes)), new));
                meter.level()
            }

            fn measure_alaw(encoded: &[u8]) -> Loudness {
                let mut meter = Meter::new();
                visit(encoded, |codes: [u8; $width], new| meter.add(from_alaw(must_cast(codes)), new));
                meter.level()
            }

            fn peak_ulaw(encoded: &[u8]) -> u16 {
                scalar::g711::peak_ulaw(encoded)
            }

            fn peak_alaw(encoded: &[u8]) -> u16 {
                scalar::g711::peak_alaw(encoded)
            }

            fn ulaw_to_alaw(source: &[u8], target: &mut [u8]) {
                convert(source, target, |codes: [u8; $width], _| must_cast(ulaw_alaw(must_cast(codes))));
            }

            fn alaw_to_ulaw(source: &[u8], target: &mut [u8]) {
                convert(source, target, |codes: [u8; $width], _| must_cast(alaw_ulaw(must_cast(codes))));
            }

            fn ulaw_to_alaw_in_place(audio: &mut [u8]) {
                convert_in_place(audio, |codes: [u8; $width], _| must_cast(ulaw_alaw(must_cast(codes))));
            }

            fn alaw_to_ulaw_in_place(audio: &mut [u8]) {
                convert_in_place(audio, |codes: [u8; $width], _| must_cast(alaw_ulaw(must_cast(codes))));
            }
        }
    };
}

pub(in crate::simd) use vectors;
