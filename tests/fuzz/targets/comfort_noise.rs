//! Comfort noise payloads, one after another, never panic, and what they make is analysed without panic.
#![no_main]

use engine::codec::comfort_noise::{ComfortNoise, NoiseAnalysis};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut noise = ComfortNoise::new();
    let mut analysis = NoiseAnalysis::new(data.len());
    let mut pcm = [0; 160];
    for payload in data.split(|&octet| octet == 0xFF) {
        noise.handle_payload(payload);
        noise.fill(&mut pcm);
        analysis.handle_frame(&pcm[..data.len() % 161]);
        let mut written = [0xFF; 12];
        let length = analysis.write(&mut written);
        assert!(written[..length].iter().all(|&octet| octet < 0xFF) && written[0] < 128);
        assert!(written[length..].iter().all(|&octet| octet == 0xFF));
    }
});
