//! Audio of the line as a backend wants it, and a backend's audio as the line carries it.

use super::dialect::{AudioFormat, Encoding};
use crate::codec::g711;
use crate::dsp::rate::SampleRate;
use crate::dsp::resample::{Quality, Resampler};

/// Converts one direction of a stream. Chunks may end anywhere, inside a sample too.
#[derive(Debug)]
pub(super) struct Converter {
    way: Way,
    /// What the last chunk became.
    converted: Vec<u8>,
}

#[derive(Debug)]
enum Way {
    /// G.711 of the same law: the bytes as they are.
    Same,
    /// G.711 of the other law.
    Law(fn(&[u8], &mut [u8])),
    Linear(Box<Linear>),
}

#[derive(Debug)]
struct Linear {
    from: Encoding,
    to: Encoding,
    resampler: Resampler,
    /// The first half of a sample whose second half is still to come.
    half: Option<u8>,
    samples: Vec<i16>,
    resampled: Vec<i16>,
}

impl Converter {
    /// A converter at rest; `None` if a rate is none of [`SampleRate`], or G.711 is not at 8 kHz.
    pub(super) fn new(from: AudioFormat, to: AudioFormat) -> Option<Self> {
        let (from_rate, to_rate) = (rate(from)?, rate(to)?);
        let way = match (from.encoding, to.encoding) {
            (Encoding::Pcmu, Encoding::Pcmu) | (Encoding::Pcma, Encoding::Pcma) => Way::Same,
            (Encoding::Pcmu, Encoding::Pcma) => Way::Law(g711::ulaw_to_alaw),
            (Encoding::Pcma, Encoding::Pcmu) => Way::Law(g711::alaw_to_ulaw),
            (from, to) => Way::Linear(Box::new(Linear {
                from,
                to,
                resampler: Resampler::new(from_rate, to_rate, Quality::Speech),
                half: None,
                samples: Vec::new(),
                resampled: Vec::new(),
            })),
        };
        Some(Self { way, converted: Vec::new() })
    }

    /// Converts the next chunk. The samples of all chunks together are those of the input times the ratio of
    /// the rates, rounded down.
    pub(super) fn convert<'a>(&'a mut self, audio: &'a [u8]) -> &'a [u8] {
        self.converted.clear();
        self.converted.shrink_to(KEPT_BYTES);
        match &mut self.way {
            Way::Same => return audio,
            Way::Law(table) => {
                self.converted.resize(audio.len(), 0);
                table(audio, &mut self.converted);
            }
            Way::Linear(linear) => linear.convert(audio, &mut self.converted),
        }
        &self.converted
    }

    /// Forgets what it holds of the past: the next chunk is of something else.
    pub(super) fn reset(&mut self) {
        if let Way::Linear(linear) = &mut self.way {
            linear.resampler.reset();
            linear.half = None;
        }
    }
}

impl Linear {
    fn convert(&mut self, mut audio: &[u8], out: &mut Vec<u8>) {
        if let (Encoding::L16, Some(first), Some((second, rest))) =
            (self.from, self.half, audio.split_first())
        {
            self.half = None;
            self.samples.clear();
            self.samples.push(i16::from_le_bytes([first, *second]));
            self.resample(out);
            audio = rest;
        }
        for piece in audio.chunks(PIECE_BYTES) {
            self.samples.clear();
            match self.from {
                Encoding::L16 => {
                    let pairs = piece.chunks_exact(2);
                    self.half = pairs.remainder().first().copied();
                    self.samples.extend(pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
                }
                Encoding::Pcmu => {
                    self.samples.resize(piece.len(), 0);
                    g711::decode_ulaw(piece, &mut self.samples);
                }
                Encoding::Pcma => {
                    self.samples.resize(piece.len(), 0);
                    g711::decode_alaw(piece, &mut self.samples);
                }
            }
            self.resample(out);
        }
    }

    fn resample(&mut self, out: &mut Vec<u8>) {
        let len = self.resampler.output_len(self.samples.len());
        self.resampled.resize(len, 0);
        let len = self.resampler.process(&self.samples, &mut self.resampled);
        let resampled = self.resampled.get(..len).unwrap_or_default();
        let start = out.len();
        match self.to {
            Encoding::L16 => out.extend(resampled.iter().flat_map(|sample| sample.to_le_bytes())),
            Encoding::Pcmu => {
                out.resize(start + len, 0);
                g711::encode_ulaw(resampled, out.get_mut(start..).unwrap_or_default());
            }
            Encoding::Pcma => {
                out.resize(start + len, 0);
                g711::encode_alaw(resampled, out.get_mut(start..).unwrap_or_default());
            }
        }
    }
}

fn rate(format: AudioFormat) -> Option<SampleRate> {
    match format.encoding {
        Encoding::Pcmu | Encoding::Pcma if format.rate != 8_000 => None,
        _ => SampleRate::from_hz(format.rate),
    }
}

/// An even number: what is converted at once, so that a long message needs no long scratch.
const PIECE_BYTES: usize = 4096;
/// Memory kept between chunks.
const KEPT_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tone(rate: u32, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| ((n as f64 * 440.0 * std::f64::consts::TAU / f64::from(rate)).sin() * 12_000.0) as i16)
            .collect()
    }

    fn bytes(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    fn converter(from: AudioFormat, to: AudioFormat) -> Converter {
        Converter::new(from, to).expect("known rates")
    }

    #[test]
    fn the_same_law_is_passed_through_without_a_copy() {
        let audio: Vec<u8> = (0..=255).collect();
        for format in [AudioFormat::PCMU, AudioFormat::PCMA] {
            let mut same = converter(format, format);
            assert!(std::ptr::eq(same.convert(&audio), audio.as_slice()));
        }
    }

    #[test]
    fn the_other_law_is_the_table() {
        let audio: Vec<u8> = (0..=255).collect();
        let mut to_alaw = converter(AudioFormat::PCMU, AudioFormat::PCMA);
        assert_eq!(to_alaw.convert(&audio), g711::ULAW_TO_ALAW);
        let mut to_ulaw = converter(AudioFormat::PCMA, AudioFormat::PCMU);
        assert_eq!(to_ulaw.convert(&audio), g711::ALAW_TO_ULAW);
    }

    #[test]
    fn linear_audio_at_the_lines_rate_is_exact() {
        let speech = tone(8_000, 1_000);
        let mut to_line = converter(AudioFormat::l16(8_000), AudioFormat::PCMA);
        let coded = to_line.convert(&bytes(&speech)).to_vec();
        let expected: Vec<u8> = speech.iter().map(|&sample| g711::alaw_from_linear(sample)).collect();
        assert_eq!(coded, expected);
        let mut to_backend = converter(AudioFormat::PCMA, AudioFormat::l16(8_000));
        let decoded: Vec<i16> = coded.iter().map(|&code| g711::linear_from_alaw(code)).collect();
        assert_eq!(to_backend.convert(&coded), bytes(&decoded));
    }

    #[test]
    fn lengths_are_exact_at_every_rate() {
        for rate in [8_000, 16_000, 24_000, 48_000] {
            let block = converter(AudioFormat::PCMU, AudioFormat::l16(rate)).convert(&[0xff; 160]).len();
            assert_eq!(block, 2 * rate as usize / 50);
            let second = bytes(&tone(rate, rate as usize));
            let line = converter(AudioFormat::l16(rate), AudioFormat::PCMU).convert(&second).len();
            assert_eq!(line, 8_000);
        }
    }

    #[test]
    fn a_tone_keeps_its_level_and_pitch() {
        let mut to_line = converter(AudioFormat::l16(24_000), AudioFormat::l16(8_000));
        let narrow = to_line.convert(&bytes(&tone(24_000, 24_000))).to_vec();
        let narrow: Vec<i16> =
            narrow.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        let peak = narrow[800..].iter().map(|sample| sample.unsigned_abs()).max();
        assert!(peak.is_some_and(|peak| (11_800..12_200).contains(&peak)), "{peak:?}");
        // 0.9 s of 440 Hz.
        let crossings = narrow[800..].windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        assert!((395..=397).contains(&crossings), "{crossings}");
    }

    #[test]
    fn unknown_rates_are_refused() {
        assert!(Converter::new(AudioFormat::l16(11_025), AudioFormat::PCMU).is_none());
        assert!(
            Converter::new(AudioFormat { rate: 16_000, ..AudioFormat::PCMU }, AudioFormat::PCMU).is_none()
        );
    }

    #[test]
    fn a_reset_forgets_half_a_sample_and_the_past() {
        let speech = bytes(&tone(16_000, 640));
        let mut used = converter(AudioFormat::l16(16_000), AudioFormat::PCMU);
        used.convert(&speech[..333]);
        used.reset();
        let mut fresh = converter(AudioFormat::l16(16_000), AudioFormat::PCMU);
        assert_eq!(used.convert(&speech), fresh.convert(&speech));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            cuts in proptest::collection::vec(0usize..9_000, 0..20),
            rate in prop_oneof![Just(8_000u32), Just(16_000), Just(24_000), Just(44_100), Just(48_000)],
        ) {
            let speech = bytes(&tone(rate, 4_444));
            let whole = converter(AudioFormat::l16(rate), AudioFormat::PCMU).convert(&speech).to_vec();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(speech.len())).collect();
            cuts.extend([0, speech.len()]);
            cuts.sort_unstable();
            let mut pieces = converter(AudioFormat::l16(rate), AudioFormat::PCMU);
            let joined: Vec<u8> =
                cuts.windows(2).flat_map(|cut| pieces.convert(&speech[cut[0]..cut[1]]).to_vec()).collect();
            prop_assert_eq!(joined.len(), 4_444 * 8_000 / rate as usize);
            prop_assert_eq!(joined, whole);
        }
    }
}
