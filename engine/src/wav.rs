//! WAV files for [`crate::player::Player`]: read whole at load time, mixed down to mono, resampled to 8 kHz.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::f64::consts::PI;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::g711::{linear_from_alaw, linear_from_ulaw};
use crate::rtp::CLOCK_RATE_HZ;

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
#[error("cannot play {}: {reason}", path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub reason: LoadErrorReason,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum LoadErrorReason {
    /// The operating system's error.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// More than [`MAX_FILE_BYTES`].
    #[error("it has {0} bytes; at most {MAX_FILE_BYTES} are loaded into memory")]
    TooLarge(u64),
    /// Another kind of file.
    #[error("it is not a WAV file; convert it, for example with: sox FILE -r 8000 -c 1 -b 16 FILE.wav")]
    NotWav,
    /// The `fmt ` or `data` chunk is missing or cut short.
    #[error("its {0} chunk is missing or cut short")]
    Chunk(&'static str),
    /// An encoding that is not known here.
    #[error(
        "format tag {tag} with {bits} bits a sample is not supported; \
         use PCM of 8, 16, 24 or 32 bits, 32-bit float, A-law or mu-law"
    )]
    Encoding {
        /// The WAVE format tag.
        tag: u16,
        /// Bits per sample.
        bits: u16,
    },
    /// A sample rate outside 8 to 192 kHz.
    #[error("a sample rate of {0} Hz is not supported; use 8000 to 192000 Hz")]
    SampleRate(u32),
    /// No or too many channels.
    #[error("{0} channels are not supported; use 1 to 8")]
    Channels(u16),
    /// No audio at all.
    #[error("it has no samples")]
    Empty,
}

/// Loads a file: PCM, float or G.711, any rate from 8 kHz, any number of channels up to 8.
///
/// # Errors
/// When the file cannot be read or is of another kind; the message names it.
pub fn load(path: &Path) -> Result<Arc<[i16]>, LoadError> {
    read(path).map_err(|reason| LoadError { path: path.to_owned(), reason })
}

/// The same from memory, for audio that is part of the program.
///
/// # Errors
/// When it is not a WAV file that can be played.
pub fn parse(bytes: &[u8]) -> Result<Arc<[i16]>, LoadErrorReason> {
    let (format, data) = chunks(bytes)?;
    let mono = format.decode(data)?;
    if mono.is_empty() {
        return Err(LoadErrorReason::Empty);
    }
    let samples = if format.rate == CLOCK_RATE_HZ { mono } else { resample(&mono, format.rate) };
    Ok(samples.into_iter().map(|sample| (sample * 32_768.0).round() as i16).collect())
}

/// The samples of a file at their own rate.
pub(crate) fn samples(bytes: &[u8]) -> Result<(u32, Vec<i16>), LoadErrorReason> {
    let (format, data) = chunks(bytes)?;
    let mono = format.decode(data)?;
    Ok((format.rate, mono.into_iter().map(|sample| (sample * 32_768.0).round() as i16).collect()))
}

fn read(path: &Path) -> Result<Arc<[i16]>, LoadErrorReason> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_FILE_BYTES {
        return Err(LoadErrorReason::TooLarge(length));
    }
    parse(&std::fs::read(path)?)
}

#[derive(Clone, Copy, Debug)]
struct WaveFormat {
    tag: u16,
    channels: u16,
    rate: u32,
    bits: u16,
}

impl WaveFormat {
    fn parse(chunk: &[u8]) -> Result<Self, LoadErrorReason> {
        let cut = LoadErrorReason::Chunk("fmt");
        let Some(&[t0, t1, c0, c1, r0, r1, r2, r3, _, _, _, _, _, _, b0, b1]) = chunk.first_chunk::<16>()
        else {
            return Err(cut);
        };
        let mut tag = u16::from_le_bytes([t0, t1]);
        if tag == EXTENSIBLE {
            // The real tag begins the sub-format GUID.
            let Some(&[s0, s1]) = chunk.get(24..26).and_then(<[u8]>::first_chunk::<2>) else {
                return Err(cut);
            };
            tag = u16::from_le_bytes([s0, s1]);
        }
        let channels = u16::from_le_bytes([c0, c1]);
        let rate = u32::from_le_bytes([r0, r1, r2, r3]);
        if !(1..=8).contains(&channels) {
            return Err(LoadErrorReason::Channels(channels));
        }
        if !(CLOCK_RATE_HZ..=192_000).contains(&rate) {
            return Err(LoadErrorReason::SampleRate(rate));
        }
        Ok(Self { tag, channels, rate, bits: u16::from_le_bytes([b0, b1]) })
    }

    /// Mono samples from -1 to 1; a frame cut short at the end is left out.
    fn decode(&self, data: &[u8]) -> Result<Vec<f32>, LoadErrorReason> {
        let channels = usize::from(self.channels);
        Ok(match (self.tag, self.bits) {
            (PCM, 8) => mix(data, channels, |&[byte]| (f32::from(byte) - 128.0) / 128.0),
            (PCM, 16) => mix(data, channels, |&bytes| f32::from(i16::from_le_bytes(bytes)) / 32_768.0),
            (PCM, 24) => mix(data, channels, |&[b0, b1, b2]| {
                (i32::from_le_bytes([0, b0, b1, b2]) >> 8) as f32 / 8_388_608.0
            }),
            (PCM, 32) => mix(data, channels, |&bytes| i32::from_le_bytes(bytes) as f32 / 2_147_483_648.0),
            (FLOAT, 32) => mix(data, channels, |&bytes| {
                let sample = f32::from_le_bytes(bytes);
                if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
            }),
            (ALAW, 8) => mix(data, channels, |&[byte]| f32::from(linear_from_alaw(byte)) / 32_768.0),
            (ULAW, 8) => mix(data, channels, |&[byte]| f32::from(linear_from_ulaw(byte)) / 32_768.0),
            (tag, bits) => return Err(LoadErrorReason::Encoding { tag, bits }),
        })
    }
}

/// The `fmt ` and the `data` chunk of a RIFF file. A data chunk longer than the file, as a writer that was
/// stopped leaves it, ends with the file.
fn chunks(bytes: &[u8]) -> Result<(WaveFormat, &[u8]), LoadErrorReason> {
    let Some((&[b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'], mut rest)) =
        bytes.split_first_chunk::<12>()
    else {
        return Err(LoadErrorReason::NotWav);
    };
    let mut format = None;
    while let Some((&[i0, i1, i2, i3, l0, l1, l2, l3], body)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let own = body.get(..length).unwrap_or(body);
        match &[i0, i1, i2, i3] {
            b"fmt " => format = Some(WaveFormat::parse(own)?),
            b"data" => return Ok((format.ok_or(LoadErrorReason::Chunk("fmt"))?, own)),
            _ => {}
        }
        // Chunks begin at even offsets.
        rest = body.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    Err(LoadErrorReason::Chunk(if format.is_some() { "data" } else { "fmt" }))
}

fn mix<const BYTES: usize>(data: &[u8], channels: usize, decode: impl Fn(&[u8; BYTES]) -> f32) -> Vec<f32> {
    let frames = data.as_chunks::<BYTES>().0.chunks_exact(channels);
    frames.map(|frame| frame.iter().map(&decode).sum::<f32>() / channels as f32).collect()
}

/// Down to 8 kHz with a windowed sinc, one kernel per phase between the two sample grids.
fn resample(samples: &[f32], rate: u32) -> Vec<f32> {
    let divisor = gcd(rate, CLOCK_RATE_HZ);
    let (phases, step) = ((CLOCK_RATE_HZ / divisor) as usize, (rate / divisor) as usize);
    let ratio = f64::from(rate) / f64::from(CLOCK_RATE_HZ);
    let half = (f64::from(LOBES) * ratio).ceil() as usize;
    let kernels: Vec<Vec<f32>> = (0..phases).map(|n| kernel(n as f64 / phases as f64, half, ratio)).collect();
    let outputs = samples.len() * phases / step;
    (0..outputs)
        .map(|n| {
            let position = n * step;
            let (whole, phase) = (position / phases, position % phases);
            let Some(kernel) = kernels.get(phase) else { return 0.0 };
            // The first tap lies `half - 1` samples before the position.
            let skipped = (half - 1).saturating_sub(whole);
            let first = (whole + skipped + 1).saturating_sub(half);
            let taps = kernel.iter().skip(skipped);
            let sum: f32 = taps.zip(samples.iter().skip(first)).map(|(tap, sample)| tap * sample).sum();
            sum.clamp(-1.0, 1.0)
        })
        .collect()
}

/// The taps for a position `fraction` after a sample, adding up to one.
fn kernel(fraction: f64, half: usize, ratio: f64) -> Vec<f32> {
    let taps: Vec<f64> = (0..2 * half)
        .map(|n| {
            let distance = n as f64 - (half as f64 - 1.0) - fraction;
            let x = PI * distance * PASS_BAND / ratio;
            let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
            let window = 0.5 + 0.5 * (PI * distance / half as f64).clamp(-PI, PI).cos();
            sinc * window
        })
        .collect();
    let sum: f64 = taps.iter().sum();
    taps.into_iter().map(|tap| (tap / sum) as f32).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// About two hours of 8 kHz PCM.
pub const MAX_FILE_BYTES: u64 = 128 << 20;
const PCM: u16 = 1;
const FLOAT: u16 = 3;
const ALAW: u16 = 6;
const ULAW: u16 = 7;
const EXTENSIBLE: u16 = 0xFFFE;
/// Zero crossings on either side of the kernel, at 8 kHz.
const LOBES: u32 = 24;
/// The share of the 4 kHz band that is kept.
const PASS_BAND: f64 = 0.94;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn riff(tag: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&channels.to_le_bytes());
        bytes.extend_from_slice(&rate.to_le_bytes());
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(b"data");
        bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn tone(hertz: f64, rate: u32, seconds: f64) -> Vec<u8> {
        (0..(f64::from(rate) * seconds) as usize)
            .flat_map(|n| {
                let phase = n as f64 * hertz * std::f64::consts::TAU / f64::from(rate);
                ((phase.sin() * 16_000.0) as i16).to_le_bytes()
            })
            .collect()
    }

    fn level(samples: &[i16]) -> f64 {
        let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
        (middle.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>() / middle.len() as f64).sqrt()
    }

    #[test]
    fn pcm_of_8_khz_is_taken_as_it_is() {
        let samples = parse(&riff(1, 1, 8000, 16, &[0x34, 0x12, 0xFF, 0x7F, 0x00, 0x80])).expect("valid");
        assert_eq!(samples[..], [0x1234, 32_767, -32_768]);
    }

    #[test]
    fn every_encoding_is_read() {
        let cases: [(u16, u16, &[u8], i16); 6] = [
            (1, 8, &[192], 16_384),
            (1, 24, &[0, 0, 0x40], 16_384),
            (1, 32, &[0, 0, 0, 0xC0], -16_384),
            (3, 32, &[0, 0, 0, 0x3F], 16_384),
            (6, 8, &[0xAA], 32_256),
            (7, 8, &[0x00], -32_124),
        ];
        for (tag, bits, data, sample) in cases {
            assert_eq!(parse(&riff(tag, 1, 8000, bits, data)).expect("valid")[..], [sample], "{tag} {bits}");
        }
    }

    #[test]
    fn stereo_is_mixed_down() {
        let data = [0x00, 0x10, 0x00, 0x20, 0x00, 0x10];
        assert_eq!(parse(&riff(1, 2, 8000, 16, &data)).expect("valid")[..], [0x1800]);
    }

    #[test]
    fn resampling_keeps_the_level_and_length_of_speech_and_removes_what_would_alias() {
        for rate in [11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 8001] {
            for hertz in [300.0, 1000.0, 3000.0] {
                let samples = parse(&riff(1, 1, rate, 16, &tone(hertz, rate, 0.5))).expect("valid");
                assert!(samples.len().abs_diff(4000) <= 1, "{rate}: {}", samples.len());
                let expected = 16_000.0 / 2f64.sqrt();
                assert!(
                    (level(&samples) / expected - 1.0).abs() < 0.02,
                    "{rate} {hertz}: {}",
                    level(&samples)
                );
            }
        }
        let aliased = parse(&riff(1, 1, 16_000, 16, &tone(5000.0, 16_000, 0.5))).expect("valid");
        assert!(level(&aliased) < 50.0, "{}", level(&aliased));
    }

    #[test]
    fn errors_say_what_is_wrong_and_name_the_file() {
        let cases = [
            (b"RIFX".to_vec(), "it is not a WAV file"),
            (riff(1, 1, 4000, 16, &[0; 4]), "4000 Hz"),
            (riff(1, 0, 8000, 16, &[0; 4]), "0 channels"),
            (riff(2, 1, 8000, 4, &[0; 4]), "format tag 2 with 4 bits"),
            (riff(1, 1, 8000, 16, &[0; 1]), "no samples"),
            (riff(1, 1, 8000, 16, &[])[..30].to_vec(), "fmt chunk"),
            (riff(1, 1, 8000, 16, &[])[..48].to_vec(), "data chunk"),
        ];
        for (bytes, text) in cases {
            let error = parse(&bytes).expect_err(text).to_string();
            assert!(error.contains(text), "{error}");
        }
        let error = load(Path::new("/nonexistent/greeting.wav")).expect_err("no file").to_string();
        assert!(error.starts_with("cannot play /nonexistent/greeting.wav: No such file"), "{error}");
    }

    #[test]
    fn data_chunk_of_a_writer_that_was_stopped_ends_with_the_file() {
        let mut bytes = riff(1, 1, 8000, 16, &[1, 0, 2, 0]);
        let at = bytes.len() - 8;
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&bytes).expect("valid")[..], [1, 2]);
    }

    proptest! {
        #[test]
        fn parse_never_panics(tag in 0u16..9, channels in 0u16..10, bits in prop_oneof![Just(8u16), Just(16), Just(24), Just(32), any::<u16>()],
            rate in prop_oneof![Just(8000u32), 7000u32..50_000], data in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..300) {
            let mut bytes = riff(tag, channels, rate, bits, &data);
            bytes.truncate(cut);
            let _ = parse(&bytes);
        }
    }
}
