//! The ADPCM coders of one band for many calls: one text for all tables.

/// Defines `lower_encoder`, `higher_encoder`, `lower_decoder`, `higher_decoder`, `encode` and `decode` with the
/// door `$door`, for the vector type `V` of `WIDTH` words and the functions on it that are in scope:
///
/// - `splat`, `load`, `store`; `add`, `sub` (which wrap), `adds`, `subs` (which saturate), `min`, `max`, `and`,
///   `xor`, `shift_left::<N>`, `shift_right::<N>` (of signed words);
/// - `above(a, b)` gives a mask `M`; `select(mask, yes, no)`; `negative(a)` the mask of signs;
/// - `multiply`: the product of fractions, rounded down; `decay_7`, `decay_8`: less a 128th or 256th, rounded down;
/// - `add_signed(a, b, sign)`: a plus b with the sign of another;
/// - `shift_right_by(a, counts)`: of a up to 2^13, by 0 to 11;
/// - `lookup(&[i16; 32], indices)`.
macro_rules! lanes {
    ($door:ident) => {
        use crate::simd::g722::tables::*;
        use crate::simd::g722::*;

        $door! {
            fn encode(state: &mut StateLanes, active: &Lane, signals: &[[Lane; 2]], octets: &mut [Lane]) {
                let StateLanes { lower, higher } = state;
                for at in (0..LANES).step_by(WIDTH) {
                    crate::simd::g722::band!(lower, active, at, 9, LOWER_SCALE_LIMIT, |estimate, scale| {
                        for ([signal, _], octet) in signals.iter().zip(octets.iter_mut())
                    } {
                        let difference = subs(load(signal, at), estimate);
                        let below = negative(difference);
                        let magnitude = select(below, xor(difference, splat(-1)), difference);
                        // How many decision levels are not above the magnitude, by halving.
                        let mut interval = splat(0);
                        for half in [16, 8, 4, 2, 1] {
                            let next = add(interval, splat(half));
                            let level = multiply(lookup(&LOWER_LEVELS, next), scale);
                            interval = select(above(level, magnitude), interval, next);
                        }
                        let interval = min(interval, splat(29));
                        // Tables 13 and 14: the two innermost negative intervals are set apart.
                        let first = select(above(splat(2), interval), splat(63), splat(33));
                        let code = sub(select(below, first, splat(61)), interval);
                        store(octet, at, code);
                        let adapting = shift_right::<2>(code);
                        let difference = multiply(scale, lookup(&LOWER_OUTPUT, adapting));
                        (difference, lookup(&LOWER_STEP, adapting))
                    });
                    crate::simd::g722::band!(higher, active, at, 11, HIGHER_SCALE_LIMIT, |estimate, scale| {
                        for ([_, signal], octet) in signals.iter().zip(octets.iter_mut())
                    } {
                        let difference = subs(load(signal, at), estimate);
                        let below = negative(difference);
                        let magnitude = select(below, xor(difference, splat(-1)), difference);
                        let inner = above(multiply(splat(8 * Q2), scale), magnitude);
                        let code = add(select(below, splat(0), splat(128)), select(inner, splat(64), splat(0)));
                        store(octet, at, add(load(octet, at), code));
                        let output = select(inner, splat(HIGHER_OUTPUT[3]), splat(HIGHER_OUTPUT[2]));
                        let output = select(below, sub(splat(0), output), output);
                        let step = select(inner, splat(HIGHER_SCALE_STEP[3]), splat(HIGHER_SCALE_STEP[2]));
                        (multiply(scale, output), step)
                    });
                }
            }

            fn decode(state: &mut StateLanes, active: &Lane, octets: &[Lane], signals: &mut [[Lane; 2]]) {
                let StateLanes { lower, higher } = state;
                for at in (0..LANES).step_by(WIDTH) {
                    crate::simd::g722::band!(lower, active, at, 9, LOWER_SCALE_LIMIT, |estimate, scale| {
                        for (octet, [signal, _]) in octets.iter().zip(signals.iter_mut())
                    } {
                        let code = and(load(octet, at), splat(63));
                        let index = and(code, splat(31));
                        let below = lookup(&LOWER_OUTPUT_BELOW, index);
                        let output = select(above(code, splat(31)), lookup(&LOWER_OUTPUT_ABOVE, index), below);
                        let heard = adds(estimate, multiply(scale, output));
                        store(signal, at, max(min(heard, splat(16_383)), splat(-16_384)));
                        let adapting = shift_right::<2>(code);
                        let difference = multiply(scale, lookup(&LOWER_OUTPUT, adapting));
                        (difference, lookup(&LOWER_STEP, adapting))
                    });
                    crate::simd::g722::band!(higher, active, at, 11, HIGHER_SCALE_LIMIT, |estimate, scale| {
                        for (octet, [_, signal]) in octets.iter().zip(signals.iter_mut())
                    } {
                        let code = load(octet, at);
                        let inner = above(and(code, splat(64)), splat(0));
                        let below = above(splat(128), code);
                        let output = select(inner, splat(HIGHER_OUTPUT[3]), splat(HIGHER_OUTPUT[2]));
                        let output = select(below, sub(splat(0), output), output);
                        let difference = multiply(scale, output);
                        let heard = adds(estimate, difference);
                        store(signal, at, max(min(heard, splat(16_383)), splat(-16_384)));
                        let step = select(inner, splat(HIGHER_SCALE_STEP[3]), splat(HIGHER_SCALE_STEP[2]));
                        (difference, step)
                    });
                }
            }
        }
    };
}

/// One band over time: `$body` gives the quantized difference and the step of the logarithmic scale from the
/// estimate and the scale; here is what follows from them. See `codec::g722::band` for the same in words.
macro_rules! band {
    (
        $state:ident, $active:ident, $at:ident, $exponent:literal, $limit:ident,
        |$estimate:ident, $scale:ident| { for $item:pat in $items:expr } $body:block
    ) => {{
        let mut $estimate = load(&$state.estimate, $at);
        let mut $scale = load(&$state.scale, $at);
        let mut log_scale = load(&$state.log_scale, $at);
        let mut zero_estimate = load(&$state.zero_estimate, $at);
        let mut reconstructed = load(&$state.reconstructed, $at);
        let mut partials = $state.partials.each_ref().map(|lane| load(lane, $at));
        let mut poles = $state.poles.each_ref().map(|lane| load(lane, $at));
        let mut differences = $state.differences.each_ref().map(|lane| load(lane, $at));
        let mut zeros = $state.zeros.each_ref().map(|lane| load(lane, $at));
        for $item in $items {
            let (difference, step) = $body;
            // LOGSCL and SCALEL.
            log_scale = add(decay_7(log_scale), step);
            log_scale = max(min(log_scale, splat($limit)), splat(0));
            let fraction = lookup(&ILB, and(shift_right::<6>(log_scale), splat(31)));
            let count = sub(splat($exponent), shift_right::<11>(log_scale));
            $scale = shift_left::<2>(shift_right_by(shift_left::<1>(fraction), count));
            // PARREC, RECONS.
            let partial = adds(difference, zero_estimate);
            let signal = adds($estimate, difference);
            // UPZERO, FILTEZ.
            let amount = select(above(difference, splat(0)), splat(128), splat(0));
            let amount = select(negative(difference), splat(-128), amount);
            for (zero, past) in zeros.iter_mut().zip(differences) {
                *zero = add_signed(decay_8(*zero), amount, past);
            }
            let [d1, d2, d3, d4, d5, _] = differences;
            differences = [add(difference, difference), d1, d2, d3, d4, d5];
            zero_estimate = multiply(differences[5], zeros[5]);
            for i in [4, 3, 2, 1, 0] {
                zero_estimate = adds(zero_estimate, multiply(differences[i], zeros[i]));
            }
            // UPPOL2, UPPOL1.
            let turn = xor(partial, partials[0]);
            let twice = adds(poles[0], poles[0]);
            let cross = adds(twice, twice);
            let cross = shift_right::<7>(select(negative(turn), cross, subs(splat(0), cross)));
            let second = add_signed(add(decay_7(poles[1]), cross), splat(128), xor(partial, partials[1]));
            let second = max(min(second, splat(12_288)), splat(-12_288));
            let bound = sub(splat(15_360), second);
            let first = add_signed(decay_8(poles[0]), splat(192), turn);
            poles = [max(min(first, bound), sub(splat(0), bound)), second];
            partials = [partial, partials[0]];
            // FILTEP, PREDIC.
            let newest = adds(signal, signal);
            let pole_estimate = adds(multiply(poles[0], newest), multiply(poles[1], reconstructed));
            reconstructed = newest;
            $estimate = adds(pole_estimate, zero_estimate);
        }
        let on = negative(load($active, $at));
        let keep = |lane: &mut Lane, new: V| store(lane, $at, select(on, new, load(lane, $at)));
        keep(&mut $state.estimate, $estimate);
        keep(&mut $state.scale, $scale);
        keep(&mut $state.log_scale, log_scale);
        keep(&mut $state.zero_estimate, zero_estimate);
        keep(&mut $state.reconstructed, reconstructed);
        for i in 0..2 {
            keep(&mut $state.partials[i], partials[i]);
            keep(&mut $state.poles[i], poles[i]);
        }
        for i in 0..6 {
            keep(&mut $state.differences[i], differences[i]);
            keep(&mut $state.zeros[i], zeros[i]);
        }
    }};
}

pub(in crate::simd) use {band, lanes};
