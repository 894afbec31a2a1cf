//! Opus: any packets in any order, lost ones between them, at any rate. What the first bytes say of a packet's
//! length is what comes out of it, and nothing is decoded that was not there.
#![no_main]

use engine::codec::opus::{Decoder, Settings, has_fec, ticks};
use engine::codec::{Channels, DecodeError, SampleRate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&shape, mut rest)) = data.split_first() else { return };
    let rates = [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000];
    let rate = rates.get(usize::from(shape & 7)).copied().unwrap_or(SampleRate::Hz48000);
    let channels = if shape & 8 == 0 { Channels::Mono } else { Channels::Stereo };
    let settings = Settings { rate, channels, ..Settings::default() };
    let mut decoder = Decoder::new(&settings).expect("a rate of Opus");
    let frame = rate.samples(20) * channels.count();
    let mut pcm = vec![0; rate.samples(120) * channels.count()];
    // Each packet behind a byte of length and one that says what happens before it.
    while let [len, fate, tail @ ..] = rest {
        let (packet, after) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = after;
        match fate & 3 {
            1 => assert_eq!(decoder.conceal(&mut pcm[..frame]), frame),
            2 => match decoder.decode_fec(packet, &mut pcm[..frame]) {
                Ok(samples) => assert!(samples == frame || (samples == 0 && !has_fec(packet))),
                Err(error) => assert_eq!(error, DecodeError::Malformed),
            },
            3 => decoder.reset(),
            _ => {}
        }
        let said = ticks(packet).map(|ticks| ticks as usize * frame / 960);
        match decoder.decode(packet, &mut pcm) {
            Ok(samples) => assert_eq!(Some(samples), said),
            Err(error) => assert!(matches!(error, DecodeError::Empty | DecodeError::Malformed)),
        }
    }
});
