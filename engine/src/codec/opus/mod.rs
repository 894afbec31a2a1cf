//! Opus (RFC 6716) by libopus, and what RTP needs to know of its packets (RFC 7587).

mod packet;
#[cfg(test)]
mod tests;

use std::fmt;

use opusic_c::{Application, Bandwidth, Bitrate, ErrorCode, InbandFec};

use super::{Channels, CoderError, DecodeError, EncodeError, SampleRate};

pub use packet::{has_fec, ticks};

/// How to encode, and the shape of the audio on our side. The default is what an `a=fmtp` that says nothing
/// means (RFC 7587 section 6.1), in mono.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of our linear audio, encoded and decoded: 8, 12, 16, 24 or 48 kHz, whatever the peer chose for its own.
    pub rate: SampleRate,
    /// Of our linear audio.
    pub channels: Channels,
    /// Bits per second, 6,000 to 510,000; `None` is what RFC 7587 section 3.1.1 recommends for speech.
    pub bitrate_bps: Option<u32>,
    /// The highest rate that the peer can play; nothing above half of it is encoded.
    pub max_playback_rate_hz: u32,
    /// 0 to 10: processor time for quality.
    pub complexity: u8,
    /// Packets repeat the one before them, coarsely, as soon as the peer reports loss.
    pub fec: bool,
    /// Nothing is sent in silence, but for a packet every 400 ms.
    pub dtx: bool,
    /// All packets are of one length.
    pub cbr: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate: SampleRate::Hz48000,
            channels: Channels::Mono,
            bitrate_bps: None,
            max_playback_rate_hz: 48_000,
            complexity: 5,
            fec: false,
            dtx: false,
            cbr: false,
        }
    }
}

impl Settings {
    /// The bit rate in force.
    #[must_use]
    pub fn bitrate_bps(&self) -> u32 {
        let speech = match self.max_playback_rate_hz.min(self.rate.hz()) {
            ..12_000 => 12_000,
            12_000..16_000 => 16_000,
            16_000..24_000 => 20_000,
            24_000..48_000 => 28_000,
            48_000.. => 36_000,
        };
        let bitrate = self.bitrate_bps.unwrap_or_else(|| speech * self.channels.count() as u32);
        bitrate.clamp(*BITRATES_BPS.start(), *BITRATES_BPS.end())
    }

    const fn bandwidth(&self) -> Bandwidth {
        match self.max_playback_rate_hz {
            ..12_000 => Bandwidth::Narrow,
            12_000..16_000 => Bandwidth::Medium,
            16_000..24_000 => Bandwidth::Wide,
            24_000..48_000 => Bandwidth::Superwide,
            48_000.. => Bandwidth::Full,
        }
    }
}

/// Encodes one stream.
pub struct Encoder {
    library: opusic_c::Encoder,
    rate: SampleRate,
    channels: Channels,
    dtx: bool,
}

impl Encoder {
    /// Takes all the memory it will need.
    ///
    /// # Errors
    /// [`CoderError::Rate`] for a rate that is not one of Opus.
    pub fn new(settings: &Settings) -> Result<Self, CoderError> {
        let library = encoder(settings, library_rate(settings.rate)?).map_err(|_| CoderError::Library)?;
        Ok(Self { library, rate: settings.rate, channels: settings.channels, dtx: settings.dtx })
    }

    /// The rate of the audio it takes.
    #[must_use]
    pub const fn sample_rate(&self) -> SampleRate {
        self.rate
    }

    /// The channels of the audio it takes.
    #[must_use]
    pub const fn channels(&self) -> Channels {
        self.channels
    }

    /// See [`super::Encoder::encode`]. A short `payload` limits the bit rate.
    ///
    /// # Errors
    /// As there.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> Result<usize, EncodeError> {
        let milliseconds = FRAMES_MS.iter().find(|&&ms| self.samples(ms) == pcm.len());
        if milliseconds.is_none() {
            return Err(EncodeError::FrameLength);
        }
        if payload.len() < SHORTEST_ROOM {
            return Err(EncodeError::Room);
        }
        let len = match self.library.encode_to_slice(bytemuck::must_cast_slice(pcm), payload) {
            Ok(len) => len,
            Err(ErrorCode::BufferTooSmall) => return Err(EncodeError::Room),
            Err(_) => return Err(EncodeError::Library),
        };
        // One byte of contents, or none: the decoder does the same without (RFC 7587 section 3.1.3).
        Ok(if self.dtx && len <= 2 { 0 } else { len })
    }

    /// The peer reports so many percent of our packets lost.
    pub fn set_packet_loss(&mut self, percent: u8) {
        // Fails only above 100.
        let _ = self.library.set_packet_loss(percent.min(100));
    }

    /// Limits or raises the bit rate from the next frame on.
    pub fn set_bitrate(&mut self, bps: u32) {
        let bps = bps.clamp(*BITRATES_BPS.start(), *BITRATES_BPS.end());
        // Fails only below 1.
        let _ = self.library.set_bitrate(Bitrate::Value(bps));
    }

    /// Forgets what was encoded, not the settings.
    pub fn reset(&mut self) {
        // Has no way to fail.
        let _ = self.library.reset();
    }

    fn samples(&self, milliseconds: u32) -> usize {
        self.rate.samples(milliseconds) * self.channels.count()
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { library: _, rate, channels, dtx } = self;
        formatter
            .debug_struct("opus::Encoder")
            .field("rate", rate)
            .field("channels", channels)
            .field("dtx", dtx)
            .finish_non_exhaustive()
    }
}

/// Decodes one stream, whatever rate, bandwidth and channels each packet has.
pub struct Decoder {
    library: opusic_c::Decoder,
    rate: SampleRate,
    channels: Channels,
}

impl Decoder {
    /// Takes all the memory it will need.
    ///
    /// # Errors
    /// [`CoderError::Rate`] for a rate that is not one of Opus.
    pub fn new(settings: &Settings) -> Result<Self, CoderError> {
        let (rate, channels) = (settings.rate, settings.channels);
        let library = opusic_c::Decoder::new(library_channels(channels), library_rate(rate)?)
            .map_err(|_| CoderError::Library)?;
        Ok(Self { library, rate, channels })
    }

    /// The rate of the audio it gives.
    #[must_use]
    pub const fn sample_rate(&self) -> SampleRate {
        self.rate
    }

    /// The channels of the audio it gives.
    #[must_use]
    pub const fn channels(&self) -> Channels {
        self.channels
    }

    /// See [`super::Decoder::decode`].
    ///
    /// # Errors
    /// As there.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> Result<usize, DecodeError> {
        if payload.is_empty() {
            return Err(DecodeError::Empty);
        }
        let ticks = ticks(payload).ok_or(DecodeError::Malformed)?;
        if pcm.len() < self.samples_in_ticks(ticks) {
            return Err(DecodeError::Room);
        }
        self.run(payload, pcm, false)
    }

    /// See [`super::Decoder::decode_fec`].
    ///
    /// # Errors
    /// As there.
    pub fn decode_fec(&mut self, next: &[u8], pcm: &mut [i16]) -> Result<usize, DecodeError> {
        if !has_fec(next) {
            return Ok(0);
        }
        let whole = self.whole(pcm.len());
        if whole == 0 { Ok(0) } else { self.run(next, &mut pcm[..whole], true) }
    }

    /// See [`super::Decoder::conceal`]. In steps of 2.5 ms.
    pub fn conceal(&mut self, pcm: &mut [i16]) -> usize {
        let whole = self.whole(pcm.len());
        if whole == 0 {
            return 0;
        }
        self.run(&[], &mut pcm[..whole], false).unwrap_or(0)
    }

    /// Forgets what was decoded.
    pub fn reset(&mut self) {
        // Has no way to fail.
        let _ = self.library.reset();
    }

    /// No payload means a loss of all of `pcm`.
    fn run(&mut self, payload: &[u8], pcm: &mut [i16], fec: bool) -> Result<usize, DecodeError> {
        match self.library.decode_to_slice(payload, bytemuck::must_cast_slice_mut(pcm), fec) {
            Ok(samples) => Ok(samples * self.channels.count()),
            Err(ErrorCode::InvalidPacket) => Err(DecodeError::Malformed),
            Err(ErrorCode::BufferTooSmall) => Err(DecodeError::Room),
            Err(_) => Err(DecodeError::Library),
        }
    }

    /// The whole steps of concealment in so many samples.
    const fn whole(&self, samples: usize) -> usize {
        let step = self.rate.hz() as usize / STEPS_PER_SECOND * self.channels.count();
        samples - samples % step
    }

    const fn samples_in_ticks(&self, ticks: u32) -> usize {
        ticks as usize * self.rate.hz() as usize / 48_000 * self.channels.count()
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { library: _, rate, channels } = self;
        formatter
            .debug_struct("opus::Decoder")
            .field("rate", rate)
            .field("channels", channels)
            .finish_non_exhaustive()
    }
}

/// The version of the library, for the log.
#[must_use]
pub fn library_version() -> &'static str {
    opusic_c::version()
}

fn encoder(settings: &Settings, rate: opusic_c::SampleRate) -> Result<opusic_c::Encoder, ErrorCode> {
    let channels = library_channels(settings.channels);
    let mut encoder = opusic_c::Encoder::new(channels, rate, Application::Voip)?;
    encoder.set_bitrate(Bitrate::Value(settings.bitrate_bps()))?;
    encoder.set_max_bandwidth(settings.bandwidth())?;
    encoder.set_complexity(settings.complexity.min(10))?;
    encoder.set_inband_fec(if settings.fec { InbandFec::Mode1 } else { InbandFec::Off })?;
    encoder.set_dtx(settings.dtx)?;
    encoder.set_vbr(!settings.cbr)?;
    Ok(encoder)
}

const fn library_rate(rate: SampleRate) -> Result<opusic_c::SampleRate, CoderError> {
    match rate {
        SampleRate::Hz8000 => Ok(opusic_c::SampleRate::Hz8000),
        SampleRate::Hz16000 => Ok(opusic_c::SampleRate::Hz16000),
        SampleRate::Hz24000 => Ok(opusic_c::SampleRate::Hz24000),
        SampleRate::Hz48000 => Ok(opusic_c::SampleRate::Hz48000),
        SampleRate::Hz32000 | SampleRate::Hz44100 => Err(CoderError::Rate),
    }
}

const fn library_channels(channels: Channels) -> opusic_c::Channels {
    match channels {
        Channels::Mono => opusic_c::Channels::Mono,
        Channels::Stereo => opusic_c::Channels::Stereo,
    }
}

/// The bit rates that Opus has (RFC 7587 section 6.1, `maxaveragebitrate`).
pub const BITRATES_BPS: std::ops::RangeInclusive<u32> = 6_000..=510_000;
/// The packets that we send.
const FRAMES_MS: [u32; 4] = [10, 20, 40, 60];
/// Below this libopus sends frames without contents.
const SHORTEST_ROOM: usize = 64;
/// Opus frames are multiples of 2.5 ms.
const STEPS_PER_SECOND: usize = 400;
