//! L16: linear 16-bit samples, the high octet first, in stereo left before right (RFC 3551 section 4.5.11).
//!
//! The RTP clock runs at the sampling rate, which SDP names; 44,100 Hz has the static payload types 10 (stereo)
//! and 11 (mono). The engine hears one channel: stereo is mixed down, and sent as the same signal twice.

use super::Channels;

/// Octets for one sampling instant.
#[must_use]
pub const fn octets(channels: Channels) -> usize {
    2 * channels.count()
}

/// Writes as many samples as `pcm` has and `payload` has room for, and gives the number of octets written.
pub fn encode(channels: Channels, pcm: &[i16], payload: &mut [u8]) -> usize {
    match channels {
        Channels::Mono => {
            for (octets, sample) in payload.as_chunks_mut().0.iter_mut().zip(pcm) {
                *octets = sample.to_be_bytes();
            }
        }
        Channels::Stereo => {
            for (octets, sample) in payload.as_chunks_mut().0.iter_mut().zip(pcm) {
                let [high, low] = sample.to_be_bytes();
                *octets = [high, low, high, low];
            }
        }
    }
    octets(channels) * pcm.len().min(payload.len() / octets(channels))
}

/// Reads as many samples as `payload` has and `pcm` has room for, and gives their number.
///
/// # Errors
///
/// When the payload is not made of whole samples: then it is not what was agreed on, and nothing is read.
pub fn decode(channels: Channels, payload: &[u8], pcm: &mut [i16]) -> Result<usize, PartialSample> {
    if !payload.len().is_multiple_of(octets(channels)) {
        return Err(PartialSample);
    }
    match channels {
        Channels::Mono => {
            for (sample, octets) in pcm.iter_mut().zip(payload.as_chunks().0) {
                *sample = i16::from_be_bytes(*octets);
            }
        }
        Channels::Stereo => {
            for (sample, &[a, b, c, d]) in pcm.iter_mut().zip(payload.as_chunks().0) {
                let [left, right] = [[a, b], [c, d]].map(i16::from_be_bytes).map(i32::from);
                *sample = ((left + right) >> 1) as i16;
            }
        }
    }
    Ok(pcm.len().min(payload.len() / octets(channels)))
}

/// A payload ends within a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialSample;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn high_octet_comes_first() {
        let mut payload = [0; 6];
        assert_eq!(encode(Channels::Mono, &[0x1234, -2, i16::MIN], &mut payload), 6);
        assert_eq!(payload, [0x12, 0x34, 0xFF, 0xFE, 0x80, 0x00]);
    }

    #[test]
    fn stereo_is_mixed_down_and_sent_twice() {
        let mut payload = [0; 8];
        assert_eq!(encode(Channels::Stereo, &[0x0102, -1], &mut payload), 8);
        assert_eq!(payload, [1, 2, 1, 2, 0xFF, 0xFF, 0xFF, 0xFF]);
        let mut pcm = [0; 3];
        let loud = [0x7F, 0xFF, 0x7F, 0xFF, 0x80, 0, 0x80, 0, 0x10, 0, 0xF0, 0];
        assert_eq!(decode(Channels::Stereo, &loud, &mut pcm), Ok(3));
        assert_eq!(pcm, [i16::MAX, i16::MIN, 0]);
    }

    #[test]
    fn payload_that_ends_within_a_sample_is_refused() {
        let mut pcm = [7; 4];
        assert_eq!(decode(Channels::Mono, &[0; 3], &mut pcm), Err(PartialSample));
        assert_eq!(decode(Channels::Stereo, &[0; 6], &mut pcm), Err(PartialSample));
        assert_eq!(pcm, [7; 4]);
        assert_eq!(decode(Channels::Mono, &[], &mut pcm), Ok(0));
    }

    proptest! {
        #[test]
        fn audio_survives(pcm in proptest::collection::vec(any::<i16>(), 0..300), room in 0..1300usize) {
            for channels in [Channels::Mono, Channels::Stereo] {
                let mut payload = vec![0; room];
                let written = encode(channels, &pcm, &mut payload);
                prop_assert_eq!(written, octets(channels) * pcm.len().min(room / octets(channels)));
                let mut back = vec![0; 400];
                let samples = decode(channels, &payload[..written], &mut back);
                let whole = written / octets(channels);
                prop_assert_eq!(samples, Ok(whole));
                prop_assert_eq!(&back[..whole], &pcm[..whole]);
            }
        }
    }
}
