//! Comparing audio: normalised cross-correlation with a search for the best alignment, levels, tones.

/// The best alignment of a reference in a recording.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alignment {
    /// Where in the recording the reference starts, in samples.
    pub(crate) offset: usize,
    /// Normalised cross-correlation there, -1 to 1.
    pub(crate) correlation: f64,
}

/// Finds `reference` in `recording`. Both need the same rate. The whole reference has to be covered: where
/// the recording ends early, its missing part counts as silence.
pub(crate) fn align(reference: &[i16], recording: &[i16]) -> Alignment {
    let mut padded = recording.to_vec();
    // The end of a recording may be cut by a few packets; half the reference must be there anyway.
    padded.resize(recording.len() + reference.len() / 2, 0);
    let coarse_reference = decimate(reference);
    let coarse_recording = decimate(&padded);
    let last = coarse_recording.len().saturating_sub(coarse_reference.len());
    let mut candidates: Vec<(f64, usize)> =
        (0..=last).map(|lag| (correlation_at(&coarse_reference, &coarse_recording, lag), lag)).collect();
    candidates.sort_by(|one, two| two.0.total_cmp(&one.0));
    let reference: Vec<f32> = reference.iter().map(|&sample| f32::from(sample)).collect();
    let recording: Vec<f32> = padded.iter().map(|&sample| f32::from(sample)).collect();
    let mut best = Alignment { offset: 0, correlation: -1.0 };
    for (_, lag) in candidates.into_iter().take(CANDIDATES) {
        let middle = lag * DECIMATION;
        for offset in middle.saturating_sub(DECIMATION * 2)..=middle + DECIMATION * 2 {
            let correlation = correlation_at(&reference, &recording, offset);
            if correlation > best.correlation {
                best = Alignment { offset, correlation };
            }
        }
    }
    best
}

/// Like [`align`], but each 200 ms of the reference may lie up to 100 ms off the first alignment: an adaptive
/// jitter buffer, or a backend that talks in bursts, moves audio by some frames in mid-speech. What is missing
/// or in the wrong order does not correlate all the same.
pub(crate) fn align_in_parts(reference: &[i16], recording: &[i16]) -> Alignment {
    let whole = align(reference, recording);
    let as_floats =
        |samples: &[i16]| -> Vec<f32> { samples.iter().map(|&sample| f32::from(sample)).collect() };
    let (reference, mut recording) = (as_floats(reference), as_floats(recording));
    recording.resize(recording.len() + reference.len(), 0.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    for (number, part) in reference.chunks(PART).enumerate() {
        let energy: f64 = part.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        let middle = whole.offset + number * PART;
        let best = (middle.saturating_sub(LARGEST_MOVE)..=middle + LARGEST_MOVE)
            .map(|lag| correlation_at(part, &recording, lag))
            .fold(-1.0, f64::max);
        sum += best * energy;
        weight += energy;
    }
    Alignment { offset: whole.offset, correlation: if weight == 0.0 { 0.0 } else { sum / weight } }
}

/// Root mean square of the samples; 0 for none.
pub(crate) fn rms(samples: &[i16]) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let sum: f64 = samples.iter().map(|&sample| f64::from(sample).powi(2)).sum();
    (sum / samples.len() as f64).sqrt()
}

/// Silence, `ms` milliseconds of it at 8 kHz.
pub(crate) fn silence(ms: usize) -> Vec<i16> {
    vec![0; ms * 8]
}

/// A sine of `ms` milliseconds at 8 kHz.
pub(crate) fn tone(frequency_hz: f64, ms: usize, amplitude: f64) -> Vec<i16> {
    (0..ms * 8)
        .map(|at| (amplitude * (std::f64::consts::TAU * frequency_hz * at as f64 / 8000.0).sin()) as i16)
        .collect()
}

/// A key of a telephone (ITU-T Q.23), each of its two tones as loud as that.
pub(crate) fn key(key: char, ms: usize, amplitude: f64) -> Vec<i16> {
    let place = "123A456B789C*0#D".find(key).unwrap_or_else(|| panic!("{key} is not a key"));
    let row = tone([697.0, 770.0, 852.0, 941.0][place / 4], ms, amplitude);
    let column = tone([1209.0, 1336.0, 1477.0, 1633.0][place % 4], ms, amplitude);
    row.iter().zip(column).map(|(row, column)| row + column).collect()
}

/// The share of a block's energy at one frequency (Goertzel), 0 to 1.
pub(crate) fn share_at(frequency_hz: f64, samples: &[i16]) -> f64 {
    let omega = std::f64::consts::TAU * frequency_hz / 8000.0;
    let (mut real, mut imaginary, mut energy) = (0.0, 0.0, 0.0);
    for (at, &sample) in samples.iter().enumerate() {
        let value = f64::from(sample);
        real += value * (omega * at as f64).cos();
        imaginary += value * (omega * at as f64).sin();
        energy += value * value;
    }
    if energy == 0.0 {
        return 0.0;
    }
    (real * real + imaginary * imaginary) * 2.0 / (energy * samples.len() as f64)
}

fn correlation_at(reference: &[f32], recording: &[f32], lag: usize) -> f64 {
    let Some(window) = recording.get(lag..lag + reference.len()) else { return -1.0 };
    let (mut product, mut one, mut two) = (0f64, 0f64, 0f64);
    // Blocks in f32 for speed, their sums in f64 for accuracy.
    for (reference, window) in reference.chunks(256).zip(window.chunks(256)) {
        let (mut block_product, mut block_one, mut block_two) = (0f32, 0f32, 0f32);
        for (a, b) in reference.iter().zip(window) {
            block_product += a * b;
            block_one += a * a;
            block_two += b * b;
        }
        product += f64::from(block_product);
        one += f64::from(block_one);
        two += f64::from(block_two);
    }
    if one == 0.0 || two == 0.0 { 0.0 } else { product / (one * two).sqrt() }
}

/// Averages of neighbours: enough of the speech stays below 1 kHz to find the place.
fn decimate(samples: &[i16]) -> Vec<f32> {
    samples
        .chunks_exact(DECIMATION)
        .map(|block| block.iter().map(|&sample| f32::from(sample)).sum::<f32>() / DECIMATION as f32)
        .collect()
}

const PART: usize = 1600;
const LARGEST_MOVE: usize = 800;
const DECIMATION: usize = 4;
const CANDIDATES: usize = 12;
