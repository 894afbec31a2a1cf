use std::time::Duration;

use super::*;

const ALL: [Codec; 7] = [
    Codec::Pcmu,
    Codec::Pcma,
    Codec::G722,
    Codec::L16 { rate: SampleRate::Hz8000, channels: Channels::Mono },
    Codec::L16 { rate: SampleRate::Hz44100, channels: Channels::Mono },
    Codec::L16 { rate: SampleRate::Hz44100, channels: Channels::Stereo },
    Codec::Opus,
];

#[test]
fn rtpmap_and_static_payload_types_lead_back_to_the_codec() {
    for codec in ALL {
        let (name, clock, channels) = (codec.name(), codec.clock_rate_hz(), codec.rtpmap_channels());
        assert_eq!(Codec::from_rtpmap(name, clock, channels), Some(codec));
        assert_eq!(Codec::from_rtpmap(&name.to_ascii_lowercase(), clock, channels), Some(codec));
        if let Some(payload_type) = codec.static_payload_type() {
            assert_eq!(Codec::from_static_payload_type(payload_type), Some(codec));
        }
        assert_eq!(codec.law().map_or(codec, Codec::from), codec);
    }
    let given = (0..=255).filter(|&payload_type| Codec::from_static_payload_type(payload_type).is_some());
    assert_eq!(given.collect::<Vec<u8>>(), [0, 8, 9, 10, 11]);
}

#[test]
fn rtpmap_with_another_clock_or_other_channels_is_another_codec() {
    for (name, clock, channels) in [
        ("PCMU", 16_000, 1),
        ("PCMA", 8_000, 2),
        ("G722", 16_000, 1),
        ("opus", 48_000, 1),
        ("opus", 16_000, 2),
        ("L16", 0, 1),
        ("L16", 11_025, 1),
        ("L16", 8_000, 0),
        ("L16", 8_000, 3),
        ("G729", 8_000, 1),
        ("", 8_000, 1),
    ] {
        assert_eq!(Codec::from_rtpmap(name, clock, channels), None, "{name}/{clock}/{channels}");
    }
}

#[test]
fn ticks_follow_the_rtp_clock_not_the_audio() {
    let frame = Duration::from_millis(20);
    assert_eq!(ALL.map(|codec| codec.ticks_in(frame)), [160, 160, 160, 160, 882, 882, 960]);
    let payload = [0; 160];
    assert_eq!(Codec::Pcmu.ticks(&payload), Some(160));
    assert_eq!(Codec::G722.ticks(&payload), Some(160), "320 samples of 16 kHz");
    let l16 = |channels| Codec::L16 { rate: SampleRate::Hz16000, channels };
    assert_eq!(l16(Channels::Mono).ticks(&payload), Some(80));
    assert_eq!(l16(Channels::Stereo).ticks(&payload), Some(40));
    assert_eq!(l16(Channels::Mono).ticks(&payload[..3]), None);
    assert_eq!(l16(Channels::Stereo).ticks(&payload[..6]), None);
    assert_eq!(Codec::Opus.ticks(&[0b0000_1000]), Some(960));
    for codec in ALL {
        assert_eq!(codec.ticks(&[]), None);
    }
}

#[test]
fn g711_coders_are_the_law() {
    let pcm: Vec<i16> = (0..160).map(|n| n * 200 - 16_000).collect();
    for (codec, law) in [(Codec::Pcmu, Law::Mu), (Codec::Pcma, Law::A)] {
        let mut encoder = Encoder::new(codec, &Settings::default()).expect("valid");
        let mut decoder = Decoder::new(codec, &Settings::default()).expect("valid");
        assert_eq!((encoder.sample_rate(), encoder.channels()), (SampleRate::Hz8000, Channels::Mono));
        assert_eq!((decoder.sample_rate(), decoder.channels()), (SampleRate::Hz8000, Channels::Mono));
        let (mut payload, mut expected) = ([0; 200], [0; 160]);
        law.encode(&pcm, &mut expected);
        assert_eq!(encoder.encode(&pcm, &mut payload), Ok(160));
        assert_eq!(payload[..160], expected);
        assert_eq!(encoder.encode(&pcm, &mut payload[..159]), Err(EncodeError::Room));

        let (mut decoded, mut expected) = ([0; 160], [0; 160]);
        law.decode(&payload[..160], &mut expected);
        assert_eq!(decoder.decode(&payload[..160], &mut decoded), Ok(160));
        assert_eq!(decoded, expected);
        assert_eq!(decoder.decode(&payload[..161], &mut decoded), Err(DecodeError::Room));
        assert_eq!(decoder.decode(&[], &mut decoded), Err(DecodeError::Empty));
        assert_eq!(decoder.conceal(&mut decoded), 0);
        assert_eq!(decoder.decode_fec(&payload, &mut decoded), Ok(0));
    }
}

#[test]
fn every_codec_carries_audio_at_its_rate_and_keeps_within_the_room() {
    for codec in ALL {
        let mut encoder = Encoder::new(codec, &Settings::default()).expect("defaults are valid");
        let mut decoder = Decoder::new(codec, &Settings::default()).expect("defaults are valid");
        assert_eq!((encoder.sample_rate(), encoder.channels()), (codec.sample_rate(), Channels::Mono));
        assert_eq!((decoder.sample_rate(), decoder.channels()), (codec.sample_rate(), Channels::Mono));
        let samples = codec.sample_rate().samples(20);
        let hertz = 440.0 * std::f32::consts::TAU / codec.sample_rate().hz() as f32;
        let (mut payload, mut heard) = ([0; 4000], [0; 2000]);
        let mut loudest = 0;
        for frame in 0..10 {
            let pcm: Vec<i16> = (frame * samples..(frame + 1) * samples)
                .map(|n| (10_000.0 * (n as f32 * hertz).sin()) as i16)
                .collect();
            let len = encoder.encode(&pcm, &mut payload).expect("a whole frame fits");
            let payload = &payload[..len];
            assert_eq!(codec.ticks(payload), Some(codec.ticks_in(codec.default_ptime())), "{codec:?}");
            assert_eq!(decoder.decode(payload, &mut heard[..samples - 1]), Err(DecodeError::Room));
            assert_eq!(decoder.decode(payload, &mut heard), Ok(samples), "{codec:?}");
            assert_eq!(decoder.decode(&[], &mut heard), Err(DecodeError::Empty));
            loudest = heard[..samples].iter().copied().max().unwrap_or(0);
        }
        assert!((9_000..11_000).contains(&loudest), "{codec:?}: {loudest}");
        encoder.set_packet_loss(10);
        encoder.reset();
        decoder.reset();
        assert_eq!(encoder.encode(&vec![0; samples], &mut []), Err(EncodeError::Room), "{codec:?}");
    }
}

#[test]
fn what_is_not_whole_is_refused() {
    let (mut payload, mut pcm) = ([0; 100], [0; 100]);
    let mut g722 = Encoder::new(Codec::G722, &Settings::default()).expect("valid");
    assert_eq!(g722.encode(&[0; 5], &mut payload), Err(EncodeError::FrameLength));
    for (channels, whole) in [(Channels::Mono, 2), (Channels::Stereo, 4)] {
        let codec = Codec::L16 { rate: SampleRate::Hz16000, channels };
        let mut l16 = Decoder::new(codec, &Settings::default()).expect("valid");
        assert_eq!(l16.decode(&payload[..whole + 1], &mut pcm), Err(DecodeError::Malformed));
        assert_eq!(l16.decode(&payload[..whole], &mut pcm), Ok(1));
    }
}
