//! Audio that comes with a format of its own, turned into the bot's.

use super::{AudioFormat, Encoding};
use crate::codec::g711;
use crate::dsp::resample::{Quality, Resampler, SampleRate};

/// Converts clips. One after the other of the same format are one stream of audio.
#[derive(Debug)]
pub(super) struct Clips {
    target: AudioFormat,
    source: AudioFormat,
    /// From the rate of `source` to that of `target`.
    resampler: Option<Resampler>,
    /// Half a sample of the clip before.
    odd: Option<u8>,
}

impl Clips {
    pub(super) fn new(target: AudioFormat) -> Self {
        Self { target, source: target, resampler: None, odd: None }
    }

    /// Appends a clip to `audio`; answers how many bytes it has become, or `None` if its rate is none that we know.
    pub(super) fn append(&mut self, source: AudioFormat, clip: &[u8], audio: &mut Vec<u8>) -> Option<usize> {
        if source == self.target {
            audio.extend_from_slice(clip);
            return Some(clip.len());
        }
        let samples = match source.encoding {
            Encoding::L16 => self.samples(clip),
            Encoding::Pcmu => decoded(clip, g711::decode_ulaw),
            Encoding::Pcma => decoded(clip, g711::decode_alaw),
        };
        self.append_samples(source, &samples, audio)
    }

    /// The same for samples that are decoded already.
    pub(super) fn append_samples(
        &mut self,
        source: AudioFormat,
        samples: &[i16],
        audio: &mut Vec<u8>,
    ) -> Option<usize> {
        if source.rate != self.source.rate || self.resampler.is_none() {
            let (from, to) = (SampleRate::from_hz(source.rate)?, SampleRate::from_hz(self.target.rate)?);
            self.resampler = Some(Resampler::new(from, to, Quality::Speech));
        }
        self.source = source;
        let resampler = self.resampler.as_mut()?;
        let mut resampled = vec![0; resampler.output_len(samples.len())];
        let len = resampler.process(samples, &mut resampled);
        resampled.truncate(len);
        let before = audio.len();
        match self.target.encoding {
            Encoding::L16 => audio.extend(resampled.iter().flat_map(|sample| sample.to_le_bytes())),
            Encoding::Pcmu => encoded(&resampled, audio, g711::encode_ulaw),
            Encoding::Pcma => encoded(&resampled, audio, g711::encode_alaw),
        }
        Some(audio.len() - before)
    }

    /// Forgets what the next clip would go on with.
    pub(super) fn reset(&mut self) {
        self.resampler = None;
        self.odd = None;
    }

    /// Whole samples; half of one waits for the next clip.
    fn samples(&mut self, clip: &[u8]) -> Vec<i16> {
        let mut samples = Vec::with_capacity(clip.len() / 2 + 1);
        let mut rest = clip;
        if let Some((&second, after)) = clip.split_first()
            && let Some(first) = self.odd.take()
        {
            samples.push(i16::from_le_bytes([first, second]));
            rest = after;
        }
        let (pairs, odd) = rest.as_chunks::<2>();
        samples.extend(pairs.iter().map(|&pair| i16::from_le_bytes(pair)));
        self.odd = odd.first().copied().or(self.odd);
        samples
    }
}

fn decoded(clip: &[u8], decode: fn(&[u8], &mut [i16])) -> Vec<i16> {
    let mut samples = vec![0; clip.len()];
    decode(clip, &mut samples);
    samples
}

fn encoded(samples: &[i16], audio: &mut Vec<u8>, encode: fn(&[i16], &mut [u8])) {
    let before = audio.len();
    audio.resize(before + samples.len(), 0);
    encode(samples, audio.get_mut(before..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const L16: AudioFormat = AudioFormat::l16(8_000);

    #[test]
    fn the_law_changes_sample_by_sample() {
        let clip: Vec<u8> = (0..=255).collect();
        let mut audio = vec![1, 2, 3];
        let len = Clips::new(L16).append(AudioFormat::PCMU, &clip, &mut audio).expect("a known rate");
        assert_eq!(len, 512);
        let expected: Vec<u8> =
            clip.iter().flat_map(|&code| g711::linear_from_ulaw(code).to_le_bytes()).collect();
        assert_eq!(audio[3..], expected);
        let mut back = Vec::new();
        assert_eq!(Clips::new(AudioFormat::PCMU).append(L16, &expected, &mut back), Some(256));
        // 0x7f is the negative zero of mu-law, which comes back as the positive one.
        let positive: Vec<u8> = clip.iter().map(|&code| if code == 0x7f { 0xff } else { code }).collect();
        assert_eq!(back, positive);
    }

    #[test]
    fn another_rate_gives_the_same_time() {
        let mut audio = Vec::new();
        let mut clips = Clips::new(AudioFormat::l16(16_000));
        assert_eq!(clips.append(L16, &[0; 320], &mut audio), Some(640));
        assert_eq!(clips.append(AudioFormat::l16(48_000), &[0; 1920], &mut audio), Some(640));
        assert_eq!(clips.append(AudioFormat::l16(11_025), &[0; 320], &mut audio), None);
        assert_eq!(audio.len(), 1280);
    }

    proptest! {
        #[test]
        fn borders_of_clips_do_not_matter(clip in proptest::collection::vec(any::<u8>(), 0..500), piece in 1..60usize) {
            for (target, source) in [(AudioFormat::PCMA, L16), (L16, AudioFormat::l16(24_000))] {
                let (mut whole, mut parts) = (Vec::new(), Vec::new());
                Clips::new(target).append(source, &clip, &mut whole).expect("a known rate");
                let mut clips = Clips::new(target);
                for piece in clip.chunks(piece) {
                    clips.append(source, piece, &mut parts).expect("a known rate");
                }
                prop_assert_eq!(&parts, &whole);
            }
        }
    }
}
