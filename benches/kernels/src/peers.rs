//! The peers' libraries as safe functions on slices, over the shim `peers.c`.
//!
//! A state is made once, used by one thread and freed when dropped; lengths are checked here.
#![allow(unsafe_code, reason = "calls into C")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;

unsafe extern "C" {
    fn peer_ulaw_encode(pcm: *const i16, out: *mut u8, n: usize);
    fn peer_alaw_encode(pcm: *const i16, out: *mut u8, n: usize);
    fn peer_ulaw_decode(input: *const u8, pcm: *mut i16, n: usize);
    fn peer_alaw_decode(input: *const u8, pcm: *mut i16, n: usize);
    fn peer_table_convert(table: *const u8, input: *const u8, out: *mut u8, n: usize);
    safe fn peer_ulaw_to_alaw(code: u8) -> u8;
    safe fn peer_alaw_to_ulaw(code: u8) -> u8;
    safe fn peer_dtmf_new(filter_dial_tone: c_int) -> *mut c_void;
    fn peer_dtmf_process(state: *mut c_void, pcm: *const i16, n: usize);
    fn peer_dtmf_digits(state: *mut c_void, digits: *mut u8) -> usize;
    fn peer_dtmf_free(state: *mut c_void);
    fn peer_modem_tone_new(which: c_int) -> *mut c_void;
    fn peer_modem_tone_process(state: *mut c_void, pcm: *const i16, n: usize);
    fn peer_modem_tone_found(state: *mut c_void) -> c_int;
    fn peer_modem_tone_free(state: *mut c_void);
    safe fn peer_g722_encoder_new() -> *mut c_void;
    fn peer_g722_encode(state: *mut c_void, pcm: *const i16, n: usize, out: *mut u8) -> usize;
    fn peer_g722_encoder_free(state: *mut c_void);
    safe fn peer_g722_decoder_new() -> *mut c_void;
    fn peer_g722_decode(state: *mut c_void, input: *const u8, n: usize, pcm: *mut i16) -> usize;
    fn peer_g722_decoder_free(state: *mut c_void);
    safe fn peer_plc_new() -> *mut c_void;
    fn peer_plc_receive(state: *mut c_void, pcm: *mut i16, n: usize);
    fn peer_plc_conceal(state: *mut c_void, pcm: *mut i16, n: usize);
    fn peer_plc_free(state: *mut c_void);
    safe fn peer_resampler_new(
        kind: c_int,
        quality: c_int,
        from: c_int,
        to: c_int,
        room: usize,
    ) -> *mut c_void;
    fn peer_resampler_process(
        state: *mut c_void,
        input: *const i16,
        n: usize,
        out: *mut i16,
        room: usize,
    ) -> usize;
    fn peer_resampler_free(state: *mut c_void);
    fn peer_mix_minus_self(input: *const i16, out: *mut i16, sum: *mut i32, members: usize, frame: usize);
    safe fn peer_opus_encoder_new(rate: c_int, bitrate: c_int, complexity: c_int) -> *mut c_void;
    fn peer_opus_encode(state: *mut c_void, pcm: *const i16, n: usize, out: *mut u8, room: usize) -> c_int;
    fn peer_opus_encoder_free(state: *mut c_void);
    safe fn peer_opus_decoder_new(rate: c_int) -> *mut c_void;
    fn peer_opus_decode(
        state: *mut c_void,
        packet: *const u8,
        length: usize,
        pcm: *mut i16,
        room: usize,
    ) -> c_int;
    fn peer_opus_decoder_free(state: *mut c_void);
    fn peer_srtp_new(gcm: c_int, inbound: c_int, key_and_salt: *const u8) -> *mut c_void;
    fn peer_srtp_protect(session: *mut c_void, packet: *mut u8, length: c_int) -> c_int;
    fn peer_srtp_unprotect(session: *mut c_void, packet: *mut u8, length: c_int) -> c_int;
    fn peer_srtp_free(session: *mut c_void);
    safe fn peer_version(which: c_int) -> *const c_char;
}

/// spandsp's inline mu-law encoder over as many samples as both slices have.
pub fn ulaw_encode(pcm: &[i16], out: &mut [u8]) {
    let n = pcm.len().min(out.len());
    // SAFETY: both slices have n elements.
    unsafe { peer_ulaw_encode(pcm.as_ptr(), out.as_mut_ptr(), n) }
}

/// spandsp's inline A-law encoder.
pub fn alaw_encode(pcm: &[i16], out: &mut [u8]) {
    let n = pcm.len().min(out.len());
    // SAFETY: both slices have n elements.
    unsafe { peer_alaw_encode(pcm.as_ptr(), out.as_mut_ptr(), n) }
}

/// spandsp's inline mu-law decoder.
pub fn ulaw_decode(input: &[u8], pcm: &mut [i16]) {
    let n = input.len().min(pcm.len());
    // SAFETY: both slices have n elements.
    unsafe { peer_ulaw_decode(input.as_ptr(), pcm.as_mut_ptr(), n) }
}

/// spandsp's inline A-law decoder.
pub fn alaw_decode(input: &[u8], pcm: &mut [i16]) {
    let n = input.len().min(pcm.len());
    // SAFETY: both slices have n elements.
    unsafe { peer_alaw_decode(input.as_ptr(), pcm.as_mut_ptr(), n) }
}

/// The plain loop over a table that everyone writes.
pub fn table_convert(table: &[u8; 256], input: &[u8], out: &mut [u8]) {
    let n = input.len().min(out.len());
    // SAFETY: both slices have n elements, and the table has one for every byte.
    unsafe { peer_table_convert(table.as_ptr(), input.as_ptr(), out.as_mut_ptr(), n) }
}

/// spandsp's direct conversion of one code.
pub fn ulaw_to_alaw(code: u8) -> u8 {
    peer_ulaw_to_alaw(code)
}

/// spandsp's direct conversion of one code.
pub fn alaw_to_ulaw(code: u8) -> u8 {
    peer_alaw_to_ulaw(code)
}

/// A state of a C library that one function frees.
macro_rules! state {
    ($(#[$doc:meta])* $name:ident, $free:ident) => {
        $(#[$doc])*
        pub struct $name(NonNull<c_void>);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the pointer came from the matching constructor and is freed once.
                unsafe { $free(self.0.as_ptr()) }
            }
        }
    };
}

fn made(pointer: *mut c_void, what: &str) -> NonNull<c_void> {
    NonNull::new(pointer).unwrap_or_else(|| panic!("{what} could not be made"))
}

state!(
    /// spandsp's DTMF receiver.
    Dtmf, peer_dtmf_free
);

impl Dtmf {
    pub fn new(filter_dial_tone: bool) -> Self {
        Self(made(peer_dtmf_new(filter_dial_tone.into()), "spandsp's DTMF receiver"))
    }

    pub fn process(&mut self, pcm: &[i16]) {
        // SAFETY: the state lives; the slice has that many samples.
        unsafe { peer_dtmf_process(self.0.as_ptr(), pcm.as_ptr(), pcm.len()) }
    }

    /// The digits since the last call, at most 128.
    pub fn digits(&mut self) -> String {
        let mut digits = [0u8; 129];
        // SAFETY: the state lives; 129 bytes are what it needs.
        let n = unsafe { peer_dtmf_digits(self.0.as_ptr(), digits.as_mut_ptr()) };
        digits[..n.min(128)].iter().map(|&digit| char::from(digit)).collect()
    }
}

/// What spandsp's tone receiver listens for.
#[derive(Clone, Copy, Debug)]
pub enum ModemToneKind {
    FaxCalling = 0,
    Answer = 1,
    AnswerModulated = 2,
}

state!(
    /// spandsp's receiver of one fax or modem tone.
    ModemTone, peer_modem_tone_free
);

impl ModemTone {
    pub fn new(kind: ModemToneKind) -> Self {
        // SAFETY: the number is one of those that the shim knows.
        let state = unsafe { peer_modem_tone_new(kind as c_int) };
        Self(made(state, "spandsp's tone receiver"))
    }

    pub fn process(&mut self, pcm: &[i16]) {
        // SAFETY: the state lives; the slice has that many samples.
        unsafe { peer_modem_tone_process(self.0.as_ptr(), pcm.as_ptr(), pcm.len()) }
    }

    /// What was found since the last call; 0 is nothing.
    pub fn found(&mut self) -> i32 {
        // SAFETY: the state lives.
        unsafe { peer_modem_tone_found(self.0.as_ptr()) }
    }
}

state!(
    /// spandsp's G.722 encoder, 64 kbit/s.
    G722Encoder, peer_g722_encoder_free
);

impl Default for G722Encoder {
    fn default() -> Self {
        Self(made(peer_g722_encoder_new(), "spandsp's G.722 encoder"))
    }
}

impl G722Encoder {
    /// Two samples make a byte. The number of bytes.
    pub fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> usize {
        assert!(out.len() >= pcm.len().div_ceil(2));
        // SAFETY: the state lives; `out` has room for a byte for every two samples.
        unsafe { peer_g722_encode(self.0.as_ptr(), pcm.as_ptr(), pcm.len(), out.as_mut_ptr()) }
    }
}

state!(
    /// spandsp's G.722 decoder, 64 kbit/s.
    G722Decoder, peer_g722_decoder_free
);

impl Default for G722Decoder {
    fn default() -> Self {
        Self(made(peer_g722_decoder_new(), "spandsp's G.722 decoder"))
    }
}

impl G722Decoder {
    /// A byte makes two samples. The number of samples.
    pub fn decode(&mut self, input: &[u8], pcm: &mut [i16]) -> usize {
        assert!(pcm.len() >= input.len() * 2);
        // SAFETY: the state lives; `pcm` has room for two samples for every byte.
        unsafe { peer_g722_decode(self.0.as_ptr(), input.as_ptr(), input.len(), pcm.as_mut_ptr()) }
    }
}

state!(
    /// spandsp's concealment at 8 kHz.
    Plc, peer_plc_free
);

impl Default for Plc {
    fn default() -> Self {
        Self(made(peer_plc_new(), "spandsp's concealment"))
    }
}

impl Plc {
    /// A frame that arrived; its start may be blended with what was made up.
    pub fn receive(&mut self, pcm: &mut [i16]) {
        // SAFETY: the state lives; the slice has that many samples.
        unsafe { peer_plc_receive(self.0.as_ptr(), pcm.as_mut_ptr(), pcm.len()) }
    }

    /// Makes up a frame that did not arrive.
    pub fn conceal(&mut self, pcm: &mut [i16]) {
        // SAFETY: the state lives; the slice has that many samples.
        unsafe { peer_plc_conceal(self.0.as_ptr(), pcm.as_mut_ptr(), pcm.len()) }
    }
}

/// A resampler of others with its quality setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResamplerKind {
    /// speexdsp, quality 0 to 10.
    Speex(u8),
    /// soxr's recipes of 16 bits and below: `SoxrLow` is LQ, `SoxrMedium` is MQ.
    SoxrLow,
    SoxrMedium,
    /// libsamplerate's `SRC_SINC_FASTEST`.
    SampleRateFastest,
}

impl ResamplerKind {
    pub fn name(self) -> String {
        match self {
            Self::Speex(quality) => format!("speexdsp q{quality}"),
            Self::SoxrLow => "soxr LQ".to_owned(),
            Self::SoxrMedium => "soxr MQ".to_owned(),
            Self::SampleRateFastest => "libsamplerate fastest".to_owned(),
        }
    }
}

state!(
    /// A resampler of others, one channel of 16-bit samples.
    Resampler, peer_resampler_free
);

impl Resampler {
    /// The most samples in or out of one call.
    pub const ROOM: usize = 1 << 14;

    pub fn new(kind: ResamplerKind, from: u32, to: u32) -> Self {
        let (library, quality) = match kind {
            ResamplerKind::Speex(quality) => (0, c_int::from(quality.min(10))),
            ResamplerKind::SoxrLow => (1, 1),
            ResamplerKind::SoxrMedium => (1, 2),
            ResamplerKind::SampleRateFastest => (2, 2),
        };
        let state = peer_resampler_new(library, quality, from as c_int, to as c_int, Self::ROOM);
        Self(made(state, &kind.name()))
    }

    /// The number of samples that came out.
    pub fn process(&mut self, pcm: &[i16], out: &mut [i16]) -> usize {
        assert!(pcm.len() <= Self::ROOM && out.len() <= Self::ROOM);
        let (n, room) = (pcm.len(), out.len());
        // SAFETY: the state lives; the slices have that many samples.
        unsafe { peer_resampler_process(self.0.as_ptr(), pcm.as_ptr(), n, out.as_mut_ptr(), room) }
    }
}

/// Everyone hears the others, in plain C: frames of `sum.len()` samples lie one after another.
pub fn mix_minus_self(input: &[i16], out: &mut [i16], sum: &mut [i32]) {
    let frame = sum.len();
    let members = input.len() / frame;
    assert!(out.len() >= members * frame);
    // SAFETY: the input and the output hold that many frames, and the sum one.
    unsafe { peer_mix_minus_self(input.as_ptr(), out.as_mut_ptr(), sum.as_mut_ptr(), members, frame) }
}

state!(
    /// Debian's Opus encoder, one channel, for speech.
    OpusEncoder, peer_opus_encoder_free
);

impl OpusEncoder {
    pub fn new(rate: u32, bitrate: u32, complexity: u8) -> Self {
        let state = peer_opus_encoder_new(rate as c_int, bitrate as c_int, complexity.into());
        Self(made(state, "Debian's Opus encoder"))
    }

    /// The number of bytes; a negative number is libopus's error.
    pub fn encode(&mut self, pcm: &[i16], out: &mut [u8]) -> i32 {
        let (n, room) = (pcm.len(), out.len());
        // SAFETY: the state lives; the slices have that many elements.
        unsafe { peer_opus_encode(self.0.as_ptr(), pcm.as_ptr(), n, out.as_mut_ptr(), room) }
    }
}

state!(
    /// Debian's Opus decoder, one channel.
    OpusDecoder, peer_opus_decoder_free
);

impl OpusDecoder {
    pub fn new(rate: u32) -> Self {
        Self(made(peer_opus_decoder_new(rate as c_int), "Debian's Opus decoder"))
    }

    /// The number of samples; a negative number is libopus's error.
    pub fn decode(&mut self, packet: &[u8], pcm: &mut [i16]) -> i32 {
        let (n, room) = (packet.len(), pcm.len());
        // SAFETY: the state lives; the slices have that many elements.
        unsafe { peer_opus_decode(self.0.as_ptr(), packet.as_ptr(), n, pcm.as_mut_ptr(), room) }
    }
}

/// The two profiles that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrtpProfile {
    /// AES-CM-128 with HMAC-SHA1-80.
    AesCm,
    /// AES-128-GCM with 16 octets of tag.
    AesGcm,
}

state!(
    /// A session of libsrtp2 that takes every SSRC.
    Srtp, peer_srtp_free
);

impl Srtp {
    /// The most octets that protection adds.
    pub const TRAILER: usize = 16 + 128;

    /// The key is 16 octets; the salt behind it 14 (CM) or 12 (GCM).
    pub fn new(profile: SrtpProfile, inbound: bool, key_and_salt: &[u8; 30]) -> Self {
        let gcm = profile == SrtpProfile::AesGcm;
        // SAFETY: 30 octets are the longest of the two; the library copies them.
        let state = unsafe { peer_srtp_new(gcm.into(), inbound.into(), key_and_salt.as_ptr()) };
        Self(made(state, "libsrtp2's session"))
    }

    /// Protects the first `length` octets in place and gives the new length.
    pub fn protect(&mut self, packet: &mut [u8], length: usize) -> Option<usize> {
        assert!(length + Self::TRAILER <= packet.len());
        // SAFETY: the session lives; the packet has room for the longest trailer.
        let length = unsafe { peer_srtp_protect(self.0.as_ptr(), packet.as_mut_ptr(), length as c_int) };
        usize::try_from(length).ok()
    }

    /// Checks and decrypts the first `length` octets in place and gives the new length.
    pub fn unprotect(&mut self, packet: &mut [u8], length: usize) -> Option<usize> {
        assert!(length <= packet.len());
        // SAFETY: the session lives; the packet has that many octets.
        let length = unsafe { peer_srtp_unprotect(self.0.as_ptr(), packet.as_mut_ptr(), length as c_int) };
        usize::try_from(length).ok()
    }
}

/// What the libraries call themselves; spandsp and speexdsp do not say.
pub fn versions() -> String {
    let version = |which| {
        // SAFETY: the shim gives static strings, whatever the number.
        unsafe { CStr::from_ptr(peer_version(which)) }.to_string_lossy().into_owned()
    };
    [0, 1, 2, 3].map(version).join(", ")
}
