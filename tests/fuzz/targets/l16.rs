//! L16: any payload is whole samples or refused, and what was read is written again as it was in mono.
#![no_main]

use engine::codec::{Channels, l16};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let mut pcm = vec![0; payload.len() / 2];
    for channels in [Channels::Mono, Channels::Stereo] {
        let instants = payload.len() / l16::octets(channels);
        let whole = payload.len() == instants * l16::octets(channels);
        assert_eq!(
            l16::decode(channels, payload, &mut pcm),
            whole.then_some(instants).ok_or(l16::PartialSample)
        );
    }
    if let Ok(samples) = l16::decode(Channels::Mono, payload, &mut pcm) {
        let mut again = vec![0; payload.len()];
        assert_eq!(l16::encode(Channels::Mono, &pcm[..samples], &mut again), payload.len());
        assert_eq!(again, payload);
    }
});
