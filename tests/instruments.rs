//! The instruments that the end-to-end tests measure with measure right.

mod support;

use support::audio::{align, align_in_parts, share_at, tone};
use support::rtp::{noise_payloads, telephone_event};
use support::wav::{Wav, decode_mu_law, encode_mu_law};

#[test]
fn a_delayed_scaled_copy_correlates_at_its_place() {
    let reference: Vec<i16> = noise(1).take(8000).collect();
    let mut recording: Vec<i16> = noise(2).take(1237).map(|sample| sample / 8).collect();
    recording.extend(reference.iter().map(|sample| sample / 3));
    recording.extend(noise(3).take(500));
    let found = align(&reference, &recording);
    assert_eq!(found.offset, 1237);
    assert!(found.correlation > 0.999, "{found:?}");
}

#[test]
fn different_audio_does_not_correlate() {
    let reference: Vec<i16> = noise(1).take(8000).collect();
    let recording: Vec<i16> = noise(5).take(16_000).collect();
    assert!(align(&reference, &recording).correlation < 0.2);
    assert!(align(&reference, &[]).correlation <= 0.0);
    assert!(align(&reference, &reference[..5000]).correlation < 0.95, "a part is not the whole");
}

#[test]
fn a_moved_part_correlates_in_parts_and_a_missing_one_does_not() {
    let reference: Vec<i16> = noise(1).take(16_000).collect();
    let mut recording = reference[..8000].to_vec();
    recording.extend([0; 320]);
    recording.extend(&reference[8000..]);
    assert!(align(&reference, &recording).correlation < 0.9);
    assert!(align_in_parts(&reference, &recording).correlation > 0.95);
    let mut swapped = reference[8000..].to_vec();
    swapped.extend(&reference[..8000]);
    assert!(align_in_parts(&reference, &swapped).correlation < 0.7);
    assert!(align_in_parts(&reference, &reference[..12_000]).correlation < 0.9);
}

#[test]
fn a_tone_has_its_energy_at_its_frequency() {
    let samples = tone(440.0, 500, 8000.0);
    assert!(share_at(440.0, &samples) > 0.98);
    assert!(share_at(880.0, &samples) < 0.02);
}

#[test]
fn mu_law_round_trip_is_identity_on_its_own_values() {
    for byte in 0..=255u8 {
        let sample = decode_mu_law(byte);
        assert_eq!(decode_mu_law(encode_mu_law(sample)), sample, "{byte:#x}");
    }
    assert_eq!(encode_mu_law(0), 0xFF);
    assert_eq!(decode_mu_law(0x80), 32_124);
    assert_eq!(decode_mu_law(0x00), -32_124);
}

#[test]
fn wav_files_come_back_as_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a.wav");
    let samples: Vec<i16> = noise(9).take(777).collect();
    Wav { rate_hz: 8000, samples: samples.clone() }.write(&path);
    let wav = Wav::read(&path);
    assert_eq!((wav.rate_hz, wav.samples), (8000, samples));
    assert!(Wav::parse(b"RIFF").is_none());
}

#[test]
fn noise_payloads_survive_decoding_and_differ() {
    let payloads = noise_payloads(1, 500);
    for payload in &payloads {
        let again: Vec<u8> = payload.iter().map(|&byte| encode_mu_law(decode_mu_law(byte))).collect();
        assert_eq!(&again, payload);
    }
    let different: std::collections::HashSet<_> = payloads.iter().collect();
    assert_eq!(different.len(), payloads.len());
}

#[test]
fn a_key_is_seven_packets_with_three_ends() {
    let packets = telephone_event('#');
    assert_eq!(packets.len(), 7);
    assert_eq!(packets.iter().filter(|packet| packet[1] & 0x80 != 0).count(), 3);
    assert!(packets.iter().all(|packet| packet[0] == 11));
    assert_eq!(packets[6][2..], [3, 32]);
}

/// Noise with most energy at low frequencies, like speech.
fn noise(seed: u64) -> impl Iterator<Item = i16> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut low = 0.0f64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        low = low * 0.8 + ((state >> 40) as f64 - 8_388_608.0) * 0.0005;
        low as i16
    })
}
