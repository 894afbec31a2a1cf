//! The state of one direction of one stream.

use super::{Channels, Codec, Law, SampleRate, g722, l16, opus};

/// What a codec leaves open. Only Opus leaves anything open; the rest are what their name says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// For [`Codec::Opus`].
    pub opus: opus::Settings,
}

/// Turns linear audio into payloads.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "230 bytes in a stream are better than a pointer to them")]
pub enum Encoder {
    /// G.711.
    G711(Law),
    /// G.722.
    G722(g722::Encoder),
    /// Linear PCM.
    L16 {
        /// Of the audio.
        rate: SampleRate,
        /// Of the payload; the audio is mono.
        channels: Channels,
    },
    /// Opus.
    Opus(opus::Encoder),
}

/// Turns payloads into linear audio.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "230 bytes in a stream are better than a pointer to them")]
pub enum Decoder {
    /// G.711.
    G711(Law),
    /// G.722.
    G722(g722::Decoder),
    /// Linear PCM.
    L16 {
        /// Of the audio.
        rate: SampleRate,
        /// Of the payload; the audio is mono.
        channels: Channels,
    },
    /// Opus.
    Opus(opus::Decoder),
}

/// Why there is no coder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoderError {
    /// The audio rate of the settings is not one of the codec's.
    #[error("the codec has no mode for this sampling rate")]
    Rate,
    /// The library refused a setting or had no memory.
    #[error("the codec library could not make a coder")]
    Library,
}

/// Why audio was not encoded. Nothing is written then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EncodeError {
    /// Not a frame length that the codec has.
    FrameLength,
    /// The output has too little room.
    Room,
    /// The library gave an error that arguments of ours cannot cause.
    Library,
}

/// Why a payload was not decoded. What the output holds then means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeError {
    /// No bytes.
    Empty,
    /// The bytes are not of this codec.
    Malformed,
    /// More audio than the output has room for.
    Room,
    /// The library gave an error that arguments of ours cannot cause.
    Library,
}

impl Encoder {
    /// Takes all the memory it will need.
    ///
    /// # Errors
    /// [`CoderError`] when the settings ask for what the codec does not have.
    pub fn new(codec: Codec, settings: &Settings) -> Result<Self, CoderError> {
        match codec {
            Codec::Pcmu => Ok(Self::G711(Law::Mu)),
            Codec::Pcma => Ok(Self::G711(Law::A)),
            Codec::G722 => Ok(Self::G722(g722::Encoder::new())),
            Codec::L16 { rate, channels } => Ok(Self::L16 { rate, channels }),
            Codec::Opus => Ok(Self::Opus(opus::Encoder::new(&settings.opus)?)),
        }
    }

    /// The rate of the audio it takes.
    #[must_use]
    pub const fn sample_rate(&self) -> SampleRate {
        match self {
            Self::G711(_) => SampleRate::Hz8000,
            Self::G722(_) => SampleRate::Hz16000,
            Self::L16 { rate, .. } => *rate,
            Self::Opus(encoder) => encoder.sample_rate(),
        }
    }

    /// The channels of the audio it takes.
    #[must_use]
    pub const fn channels(&self) -> Channels {
        match self {
            Self::G711(_) | Self::G722(_) | Self::L16 { .. } => Channels::Mono,
            Self::Opus(encoder) => encoder.channels(),
        }
    }

    /// Encodes one packet's audio, interleaved, and says how many bytes the payload has. Opus takes frames of
    /// 10, 20, 40 and 60 ms; the others any whole number of samples (of pairs for G.722). No bytes
    /// means that there is nothing to send for this frame: the timestamp moves on, the sequence number does
    /// not (DTX).
    ///
    /// # Errors
    /// [`EncodeError`]; the coder can go on with the next frame.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> Result<usize, EncodeError> {
        match self {
            Self::G711(law) => {
                let payload = payload.get_mut(..pcm.len()).ok_or(EncodeError::Room)?;
                law.encode(pcm, payload);
                Ok(pcm.len())
            }
            Self::G722(encoder) => {
                if !pcm.len().is_multiple_of(2) {
                    return Err(EncodeError::FrameLength);
                }
                let payload = payload.get_mut(..pcm.len() / 2).ok_or(EncodeError::Room)?;
                Ok(encoder.encode(pcm, payload))
            }
            Self::L16 { channels, .. } => {
                let octets = pcm.len() * l16::octets(*channels);
                let payload = payload.get_mut(..octets).ok_or(EncodeError::Room)?;
                Ok(l16::encode(*channels, pcm, payload))
            }
            Self::Opus(encoder) => encoder.encode(pcm, payload),
        }
    }

    /// The peer reports so many percent of our packets lost: Opus adapts its redundancy, the others cannot.
    pub fn set_packet_loss(&mut self, percent: u8) {
        match self {
            Self::G711(_) | Self::G722(_) | Self::L16 { .. } => {}
            Self::Opus(encoder) => encoder.set_packet_loss(percent),
        }
    }

    /// Forgets what was encoded: the next frame begins another signal.
    pub fn reset(&mut self) {
        match self {
            Self::G711(_) | Self::L16 { .. } => {}
            Self::G722(encoder) => encoder.reset(),
            Self::Opus(encoder) => encoder.reset(),
        }
    }
}

impl Decoder {
    /// Takes all the memory it will need.
    ///
    /// # Errors
    /// [`CoderError`] when the settings ask for what the codec does not have.
    pub fn new(codec: Codec, settings: &Settings) -> Result<Self, CoderError> {
        match codec {
            Codec::Pcmu => Ok(Self::G711(Law::Mu)),
            Codec::Pcma => Ok(Self::G711(Law::A)),
            Codec::G722 => Ok(Self::G722(g722::Decoder::new())),
            Codec::L16 { rate, channels } => Ok(Self::L16 { rate, channels }),
            Codec::Opus => Ok(Self::Opus(opus::Decoder::new(&settings.opus)?)),
        }
    }

    /// The rate of the audio it gives.
    #[must_use]
    pub const fn sample_rate(&self) -> SampleRate {
        match self {
            Self::G711(_) => SampleRate::Hz8000,
            Self::G722(_) => SampleRate::Hz16000,
            Self::L16 { rate, .. } => *rate,
            Self::Opus(decoder) => decoder.sample_rate(),
        }
    }

    /// The channels of the audio it gives.
    #[must_use]
    pub const fn channels(&self) -> Channels {
        match self {
            Self::G711(_) | Self::G722(_) | Self::L16 { .. } => Channels::Mono,
            Self::Opus(decoder) => decoder.channels(),
        }
    }

    /// Decodes a payload and says how many samples there are, those of all channels counted.
    ///
    /// # Errors
    /// [`DecodeError`]; the packet then counts as lost.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> Result<usize, DecodeError> {
        if payload.is_empty() {
            return Err(DecodeError::Empty);
        }
        match self {
            Self::G711(law) => {
                let pcm = pcm.get_mut(..payload.len()).ok_or(DecodeError::Room)?;
                law.decode(payload, pcm);
                Ok(pcm.len())
            }
            Self::G722(decoder) => {
                let pcm = pcm.get_mut(..2 * payload.len()).ok_or(DecodeError::Room)?;
                Ok(decoder.decode(payload, pcm))
            }
            Self::L16 { channels, .. } => {
                if pcm.len() < payload.len() / l16::octets(*channels) {
                    return Err(DecodeError::Room);
                }
                l16::decode(*channels, payload, pcm).map_err(|l16::PartialSample| DecodeError::Malformed)
            }
            Self::Opus(decoder) => decoder.decode(payload, pcm),
        }
    }

    /// Fills `pcm`, the audio of lost packets, from the redundancy in the packet after them, which is to be
    /// decoded next as usual. Zero samples if that packet has none (or the codec never has); then
    /// [`Decoder::conceal`] is next.
    ///
    /// # Errors
    /// [`DecodeError`] when that packet is unusable.
    pub fn decode_fec(&mut self, next: &[u8], pcm: &mut [i16]) -> Result<usize, DecodeError> {
        match self {
            Self::G711(_) | Self::G722(_) | Self::L16 { .. } => Ok(0),
            Self::Opus(decoder) => decoder.decode_fec(next, pcm),
        }
    }

    /// Makes up audio for lost packets, and comfort noise for those that DTX left out; says for how much of
    /// `pcm`. Zero if the codec has no means of its own, so that the engine's concealment has to do.
    pub fn conceal(&mut self, pcm: &mut [i16]) -> usize {
        match self {
            Self::G711(_) | Self::G722(_) | Self::L16 { .. } => 0,
            Self::Opus(decoder) => decoder.conceal(pcm),
        }
    }

    /// Forgets what was decoded: the next payload begins another signal.
    pub fn reset(&mut self) {
        match self {
            Self::G711(_) | Self::L16 { .. } => {}
            Self::G722(decoder) => decoder.reset(),
            Self::Opus(decoder) => decoder.reset(),
        }
    }
}
