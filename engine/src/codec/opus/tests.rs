use super::*;
use crate::codec::Codec;
use proptest::prelude::*;

/// A voiced sound with moving pitch and level, full of harmonics up to `top_hz`; on the right another. The lowest
/// ones are left out: the high-pass filter of the encoder would turn their phase.
fn speech(settings: &Settings, milliseconds: u32, top_hz: f32) -> Vec<i16> {
    let (rate, channels) = (settings.rate.hz() as f32, settings.channels.count());
    let mut pcm = Vec::new();
    let mut phases = [0.0f32; 2];
    for n in 0..settings.rate.samples(milliseconds) {
        let t = n as f32 / rate;
        for (channel, phase) in phases.iter_mut().enumerate().take(channels) {
            let pitch = 130.0 + 60.0 * channel as f32 + 15.0 * (t * 5.0).sin();
            *phase += pitch / rate;
            let harmonics = ((top_hz / pitch) as u32).min(60);
            let sound: f32 = (1..=harmonics)
                .map(|k| (*phase * k as f32 * std::f32::consts::TAU).sin() / (k as f32).sqrt())
                .sum();
            pcm.push((sound * 4_000.0 * (0.6 + 0.4 * (t * 9.0).sin())) as i16);
        }
    }
    pcm
}

struct Link {
    encoder: Encoder,
    decoder: Decoder,
    frame: usize,
}

impl Link {
    fn new(settings: &Settings, milliseconds: u32) -> Self {
        Self {
            encoder: Encoder::new(settings).expect("valid"),
            decoder: Decoder::new(settings).expect("valid"),
            frame: settings.rate.samples(milliseconds) * settings.channels.count(),
        }
    }

    fn encode(&mut self, pcm: &[i16]) -> Vec<Vec<u8>> {
        let mut payload = [0; 1500];
        pcm.chunks_exact(self.frame)
            .map(|frame| {
                let len = self.encoder.encode(frame, &mut payload).expect("valid");
                payload[..len].to_vec()
            })
            .collect()
    }

    fn decode(&mut self, packets: &[Vec<u8>]) -> Vec<i16> {
        let mut pcm = vec![0; self.frame];
        let mut heard = Vec::new();
        for packet in packets {
            assert_eq!(self.decoder.decode(packet, &mut pcm), Ok(self.frame));
            heard.extend_from_slice(&pcm);
        }
        heard
    }
}

/// Signal to noise in decibels at the delay that fits best, of one channel.
fn snr_db(said: &[i16], heard: &[i16], channel: usize, channels: usize, rate: SampleRate) -> f64 {
    let of_channel = |pcm: &[i16]| -> Vec<f64> {
        pcm[channel..].iter().step_by(channels).map(|&s| f64::from(s)).collect()
    };
    let (said, heard) = (of_channel(said), of_channel(heard));
    let (begin, end) = (rate.samples(200), said.len() - rate.samples(40));
    (0..rate.samples(20))
        .map(|delay| {
            let (mut signal, mut noise) = (0.0, 0.0);
            for n in begin..end {
                signal += said[n] * said[n];
                noise += (said[n] - heard[n + delay]).powi(2);
            }
            10.0 * (signal / noise).log10()
        })
        .fold(f64::NEG_INFINITY, f64::max)
}

#[test]
fn library_is_the_new_one() {
    let version = library_version().trim_start_matches("libopus ");
    let (major, minor) = version.split_once('.').expect("valid");
    assert_eq!(major, "1");
    assert!(minor.starts_with(|digit: char| digit >= '6'), "{version}");
}

#[test]
fn speech_survives_at_every_rate_and_frame_length() {
    for (rate, bitrate, milliseconds, floor_db) in [
        (SampleRate::Hz8000, 16_000, 20, 6.0),
        (SampleRate::Hz16000, 24_000, 40, 6.0),
        (SampleRate::Hz24000, 32_000, 20, 6.0),
        (SampleRate::Hz48000, 64_000, 10, 6.0),
    ] {
        let settings = Settings { rate, bitrate_bps: Some(bitrate), ..Settings::default() };
        let mut link = Link::new(&settings, milliseconds);
        let said = speech(&settings, 600, 3_000.0);
        let packets = link.encode(&said);
        let seconds = packets.len() as f64 * f64::from(milliseconds) / 1000.0;
        let bits = packets.iter().map(Vec::len).sum::<usize>() as f64 * 8.0 / seconds;
        assert!((0.3..1.3).contains(&(bits / f64::from(bitrate))), "{rate:?}: {bits} bit/s");
        for packet in &packets {
            assert_eq!(Codec::Opus.ticks(packet), Some(48 * milliseconds));
        }
        let heard = link.decode(&packets);
        let snr = snr_db(&said, &heard, 0, 1, rate);
        assert!(snr > floor_db, "{rate:?}: {snr:.1} dB");
    }
}

#[test]
fn stereo_keeps_the_channels_apart() {
    let channels = Channels::Stereo;
    let settings = Settings { channels, bitrate_bps: Some(128_000), ..Settings::default() };
    let mut link = Link::new(&settings, 20);
    let said = speech(&settings, 500, 2_000.0);
    let packets = link.encode(&said);
    let heard = link.decode(&packets);
    for channel in 0..2 {
        let snr = snr_db(&said, &heard, channel, 2, settings.rate);
        assert!(snr > 6.0, "{channel}: {snr:.1} dB");
    }
    // The same packets for a listener with one ear and the rate of the telephone.
    let mono = Settings { rate: SampleRate::Hz8000, ..Settings::default() };
    let mut pcm = [0; 160];
    assert_eq!(Decoder::new(&mono).expect("valid").decode(&packets[10], &mut pcm), Ok(160));
    assert!(pcm.iter().any(|&sample| sample.unsigned_abs() > 1000));
}

#[test]
fn playback_rate_limits_the_bandwidth() {
    for (hz, configs) in [(8_000, 0..4), (12_000, 4..8), (16_000, 8..12), (24_000, 12..14), (48_000, 14..16)]
    {
        let settings =
            Settings { max_playback_rate_hz: hz, bitrate_bps: Some(40_000), ..Settings::default() };
        let said = speech(&settings, 400, 15_000.0);
        let packets = Link::new(&settings, 20).encode(&said);
        let config = packets[15][0] >> 3;
        assert!(configs.contains(&config), "{hz}: {config}");
    }
}

#[test]
fn constant_bit_rate_gives_packets_of_one_length() {
    let settings = Settings { cbr: true, bitrate_bps: Some(24_000), ..Settings::default() };
    let packets = Link::new(&settings, 20).encode(&speech(&settings, 400, 8_000.0));
    assert!(packets.iter().all(|packet| packet.len() == 60), "24,000 bit/s for 20 ms");
}

#[test]
fn redundancy_recovers_a_lost_packet_better_than_concealment() {
    let settings =
        Settings { rate: SampleRate::Hz16000, bitrate_bps: Some(32_000), fec: true, ..Settings::default() };
    let said = speech(&settings, 1_200, 3_500.0);
    let mut link = Link::new(&settings, 20);
    link.encoder.set_packet_loss(20);
    let packets = link.encode(&said);
    let with_fec = packets.iter().filter(|packet| has_fec(packet)).count();
    assert!(with_fec * 2 > packets.len(), "{with_fec} of {}", packets.len());

    let hear = |recover: bool| -> Vec<i16> {
        let mut decoder = Decoder::new(&settings).expect("valid");
        let mut heard = Vec::new();
        let mut pcm = [0; 320];
        for (number, packet) in packets.iter().enumerate() {
            if number % 6 != 4 {
                assert_eq!(decoder.decode(packet, &mut pcm), Ok(320));
            } else if !recover || decoder.decode_fec(&packets[number + 1], &mut pcm) == Ok(0) {
                assert_eq!(decoder.conceal(&mut pcm), 320);
            }
            heard.extend_from_slice(&pcm);
        }
        heard
    };
    let recovered = snr_db(&said, &hear(true), 0, 1, settings.rate);
    let concealed = snr_db(&said, &hear(false), 0, 1, settings.rate);
    assert!(recovered > concealed + 1.0, "{recovered:.1} dB against {concealed:.1} dB");
}

#[test]
fn redundancy_is_in_no_packet_unless_asked_for() {
    let settings = Settings { rate: SampleRate::Hz16000, ..Settings::default() };
    let mut link = Link::new(&settings, 20);
    link.encoder.set_packet_loss(20);
    let packets = link.encode(&speech(&settings, 400, 3_000.0));
    assert!(!packets.iter().any(|packet| has_fec(packet)));
    let mut pcm = [0; 320];
    assert_eq!(link.decoder.decode_fec(&packets[3], &mut pcm), Ok(0));
}

#[test]
fn discontinuous_transmission_sends_nothing_in_silence() {
    let settings = Settings { rate: SampleRate::Hz16000, dtx: true, ..Settings::default() };
    let mut pcm = speech(&settings, 400, 3_000.0);
    pcm.resize(pcm.len() + 16_000 * 3, 0);
    let talk = speech(&settings, 200, 3_000.0);
    pcm.extend_from_slice(&talk);
    let mut link = Link::new(&settings, 20);
    let packets = link.encode(&pcm);
    assert!(packets[2..20].iter().all(|packet| packet.len() > 2), "speech is sent");
    let silent = packets[60..170].iter().filter(|packet| packet.is_empty()).count();
    assert!((100..110).contains(&silent), "{silent} of 110 frames are left out, some refresh");
    assert!(packets[175..].iter().all(|packet| packet.len() > 2), "speech is sent again");

    // The gap is filled by the decoder, quietly.
    let mut pcm = [0; 320];
    for packet in &packets {
        let heard = if packet.is_empty() {
            link.decoder.conceal(&mut pcm)
        } else {
            link.decoder.decode(packet, &mut pcm).expect("valid")
        };
        assert_eq!(heard, 320);
    }

    let never = Settings { dtx: false, ..settings };
    let packets = Link::new(&never, 20).encode(&[0; 6_400]);
    assert!(packets.iter().all(|packet| !packet.is_empty()));
}

#[test]
fn concealment_goes_in_steps_and_fades() {
    let settings = Settings { rate: SampleRate::Hz8000, ..Settings::default() };
    let mut link = Link::new(&settings, 20);
    let packets = link.encode(&speech(&settings, 200, 3_000.0));
    link.decode(&packets);
    let mut pcm = [0; 480];
    assert_eq!(link.decoder.conceal(&mut pcm[..19]), 0);
    assert_eq!(link.decoder.conceal(&mut pcm[..39]), 20);
    assert_eq!(link.decoder.conceal(&mut pcm[..0]), 0);
    let loudest = |pcm: &[i16]| pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
    assert_eq!(link.decoder.conceal(&mut pcm), 480);
    assert!(loudest(&pcm[..80]) > 500);
    for _ in 0..40 {
        assert_eq!(link.decoder.conceal(&mut pcm), 480);
    }
    assert!(loudest(&pcm) < 200, "{}", loudest(&pcm));
}

#[test]
fn wrong_lengths_rates_and_rooms_are_refused() {
    for rate in [SampleRate::Hz32000, SampleRate::Hz44100] {
        let settings = Settings { rate, ..Settings::default() };
        assert_eq!(Encoder::new(&settings).err(), Some(CoderError::Rate));
        assert_eq!(Decoder::new(&settings).err(), Some(CoderError::Rate));
    }
    let settings = Settings { rate: SampleRate::Hz16000, ..Settings::default() };
    let mut link = Link::new(&settings, 20);
    let mut payload = [0; 1500];
    for len in [0, 1, 159, 161, 319, 480, 961, 1_920] {
        assert_eq!(link.encoder.encode(&vec![0; len], &mut payload), Err(EncodeError::FrameLength), "{len}");
    }
    assert_eq!(link.encoder.encode(&[0; 320], &mut payload[..63]), Err(EncodeError::Room));
    let len = link.encoder.encode(&[500; 320], &mut payload).expect("valid");
    let mut pcm = [0; 5_760];
    assert_eq!(link.decoder.decode(&payload[..len], &mut pcm[..319]), Err(DecodeError::Room));
    assert_eq!(link.decoder.decode(&[], &mut pcm), Err(DecodeError::Empty));
    // Three frames, but not three times anything; more than 120 ms; no frames.
    for garbage in [&[0x03, 0x03, 1, 2, 3, 4][..], &[0xFF, 0x3F, 0], &[0x1B, 0x07, 0], &[0x03, 0x00], &[0x03]]
    {
        assert_eq!(link.decoder.decode(garbage, &mut pcm), Err(DecodeError::Malformed), "{garbage:?}");
    }
    assert_eq!(link.decoder.decode(&payload[..len], &mut pcm), Ok(320), "and goes on");
}

#[test]
fn settings_are_kept_within_what_opus_has() {
    for (asked, given) in
        [(Some(0), 6_000), (Some(u32::MAX), 510_000), (Some(30_000), 30_000), (None, 36_000)]
    {
        let settings = Settings { bitrate_bps: asked, complexity: 200, ..Settings::default() };
        assert_eq!(settings.bitrate_bps(), given);
        let mut encoder = Encoder::new(&settings).expect("valid");
        encoder.set_packet_loss(255);
        encoder.set_bitrate(0);
        encoder.set_bitrate(u32::MAX);
    }
}

#[test]
fn reset_makes_the_coders_as_new() {
    let settings = Settings { rate: SampleRate::Hz16000, ..Settings::default() };
    let said = speech(&settings, 200, 3_000.0);
    let mut link = Link::new(&settings, 20);
    let packets = link.encode(&said);
    let heard = link.decode(&packets);
    link.encoder.reset();
    link.decoder.reset();
    assert_eq!(link.encode(&said), packets);
    assert_eq!(link.decode(&packets), heard);
}

proptest! {
    #[test]
    fn garbage_is_decoded_or_refused_and_its_length_is_what_ticks_say(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), any::<bool>()), 1..12),
    ) {
        let settings = Settings { channels: Channels::Stereo, ..Settings::default() };
        let mut decoder = Decoder::new(&settings).expect("valid");
        let mut pcm = vec![0; 11_520];
        for (packet, fec) in packets {
            if fec {
                let recovered = decoder.decode_fec(&packet, &mut pcm[..1920]);
                prop_assert!(!matches!(recovered, Err(DecodeError::Library | DecodeError::Room)));
            }
            match decoder.decode(&packet, &mut pcm) {
                Ok(samples) => prop_assert_eq!(Some(samples as u32 / 2), ticks(&packet)),
                Err(error) => prop_assert!(matches!(error, DecodeError::Empty | DecodeError::Malformed)),
            }
        }
    }
}
