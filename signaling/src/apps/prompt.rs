//! Recordings that calls play, read from WAV files at start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::stream::Codec;

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
#[error("cannot play {}: {reason}", .path.display())]
pub struct PromptError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: PromptErrorReason,
}

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum PromptErrorReason {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is larger than anybody would listen to.
    #[error("it is larger than {} MB", MAX_BYTES >> 20)]
    TooLarge,
    /// It is no WAV file, or a damaged one.
    #[error("it is not a WAV file")]
    NotWav,
    /// Another kind of audio.
    #[error(
        "it must be 8000 Hz mono 16-bit PCM, A-law or mu-law; convert it: sox in.wav -r 8000 -c 1 -b 16 out.wav"
    )]
    Format,
    /// There is nothing to hear.
    #[error("it holds no audio")]
    Empty,
}

/// Reads a recording. Blocks; for the start of the process.
pub(super) fn load(path: &Path) -> Result<Arc<[i16]>, PromptError> {
    let failed = |reason| PromptError { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|error| failed(error.into()))?.len();
    if size > MAX_BYTES {
        return Err(failed(PromptErrorReason::TooLarge));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(error.into()))?;
    parse(&bytes).map_err(failed)
}

/// The samples of a WAV file.
fn parse(bytes: &[u8]) -> Result<Arc<[i16]>, PromptErrorReason> {
    let (riff, mut rest) = bytes.split_at_checked(12).ok_or(PromptErrorReason::NotWav)?;
    if !riff.starts_with(b"RIFF") || !riff.ends_with(b"WAVE") {
        return Err(PromptErrorReason::NotWav);
    }
    let mut encoding = None;
    while let Some((header, body)) = rest.split_at_checked(8) {
        let (name, size) = header.split_at(4);
        let size = size.try_into().map_or(0, u32::from_le_bytes) as usize;
        // A recorder that was interrupted, or a pipe, leaves a size beyond the end of the file.
        let chunk = body.get(..size.min(body.len())).unwrap_or_default();
        match name {
            b"fmt " => encoding = Some(Encoding::parse(chunk)?),
            b"data" => {
                let samples = encoding.ok_or(PromptErrorReason::NotWav)?.decode(chunk);
                return if samples.is_empty() { Err(PromptErrorReason::Empty) } else { Ok(samples.into()) };
            }
            _ => {}
        }
        // Chunks begin at even positions.
        rest = body.get(size.saturating_add(size % 2)..).unwrap_or_default();
    }
    Err(if encoding.is_some() { PromptErrorReason::Empty } else { PromptErrorReason::NotWav })
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    Pcm16,
    G711(Codec),
}

impl Encoding {
    /// Parses a `fmt ` chunk: format tag, channels, rate, bytes per second, block size, bits.
    fn parse(chunk: &[u8]) -> Result<Self, PromptErrorReason> {
        let word =
            |at: usize| chunk.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_le_bytes(*bytes));
        let rate = chunk.get(4..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_le_bytes(*bytes));
        let (Some(tag), Some(channels), Some(rate), Some(bits)) = (word(0), word(2), rate, word(14)) else {
            return Err(PromptErrorReason::NotWav);
        };
        // The extensible form has the real tag in front of its subformat.
        let tag = if tag == EXTENSIBLE { word(24).ok_or(PromptErrorReason::NotWav)? } else { tag };
        if rate != 8000 || channels != 1 {
            return Err(PromptErrorReason::Format);
        }
        match (tag, bits) {
            (1, 16) => Ok(Self::Pcm16),
            (6, 8) => Ok(Self::G711(Codec::Pcma)),
            (7, 8) => Ok(Self::G711(Codec::Pcmu)),
            _ => Err(PromptErrorReason::Format),
        }
    }

    fn decode(self, audio: &[u8]) -> Vec<i16> {
        match self {
            Self::Pcm16 => audio.as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect(),
            Self::G711(codec) => {
                let mut samples = vec![0; audio.len()];
                codec.decode(audio, &mut samples);
                samples
            }
        }
    }
}

const EXTENSIBLE: u16 = 0xFFFE;
/// About an hour of 16-bit audio.
const MAX_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wav(tag: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        file.extend(tag.to_le_bytes());
        file.extend(channels.to_le_bytes());
        file.extend(rate.to_le_bytes());
        file.extend([0; 6]);
        file.extend(bits.to_le_bytes());
        file.extend(b"data");
        file.extend((data.len() as u32).to_le_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn sixteen_bit_pcm_is_read() {
        let samples = parse(&wav(1, 1, 8000, 16, &[1, 0, 0xFF, 0xFF, 9])).expect("samples");
        assert_eq!(&*samples, [1, -1]);
    }

    #[test]
    fn companded_audio_is_read() {
        assert_eq!(&*parse(&wav(7, 1, 8000, 8, &[0xFF, 0x80])).expect("samples"), [0, 32124]);
        assert_eq!(parse(&wav(6, 1, 8000, 8, &[0xD5; 3])).expect("samples").len(), 3);
    }

    #[test]
    fn size_of_an_interrupted_recording_is_not_believed() {
        let mut file = wav(1, 1, 8000, 16, &[]);
        let at = file.len() - 4;
        file[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        file.extend([5, 0]);
        assert_eq!(&*parse(&file).expect("samples"), [5]);
    }

    #[test]
    fn other_audio_is_refused_with_the_way_to_convert_it() {
        for file in
            [wav(1, 2, 8000, 16, &[0; 4]), wav(1, 1, 16000, 16, &[0; 4]), wav(3, 1, 8000, 32, &[0; 4])]
        {
            let error = parse(&file).expect_err("refused");
            assert!(matches!(error, PromptErrorReason::Format) && error.to_string().contains("sox "));
        }
        assert!(matches!(parse(b"ID3"), Err(PromptErrorReason::NotWav)));
        assert!(matches!(parse(b"RIFF\0\0\0\0WAVEdata\0\0\0\0"), Err(PromptErrorReason::NotWav)));
        assert!(matches!(parse(&wav(1, 1, 8000, 16, &[])), Err(PromptErrorReason::Empty)));
        assert!(matches!(
            load(Path::new("/nonexistent.wav")),
            Err(PromptError { reason: PromptErrorReason::Io(_), .. })
        ));
    }

    proptest! {
        #[test]
        fn any_file_is_survived(mut file in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..60) {
            let _ = parse(&file);
            let mut real = wav(1, 1, 8000, 16, &[0; 8]);
            real.truncate(cut);
            real.append(&mut file);
            let _ = parse(&real);
        }
    }
}
