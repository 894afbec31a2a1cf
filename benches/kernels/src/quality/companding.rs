//! G.711 and G.722: which bits differ.

use std::fmt::Write as _;

use engine::codec::g711;

use crate::{g722, peers};

pub fn report(_: &mut Vec<(String, String)>) -> String {
    let samples: Vec<i16> = (i16::MIN..=i16::MAX).collect();
    let codes: Vec<u8> = (0..=255).collect();
    let mut text = String::from("| kernel | compared | differing from spandsp |\n|---|---|---|\n");
    let mut line = |what: &str, of: &str, differing: usize| {
        let _ = writeln!(text, "| {what} | {of} | {differing} |");
    };
    let encoded = |encode: fn(&[i16], &mut [u8])| {
        let mut encoded = vec![0; samples.len()];
        encode(&samples, &mut encoded);
        encoded
    };
    let decoded = |decode: fn(&[u8], &mut [i16])| {
        let mut pcm = vec![0; codes.len()];
        decode(&codes, &mut pcm);
        pcm
    };
    let converted = |convert: fn(&[u8], &mut [u8])| {
        let mut converted = vec![0; codes.len()];
        convert(&codes, &mut converted);
        converted
    };
    let one_by_one = |convert: fn(u8) -> u8| codes.iter().map(|&code| convert(code)).collect::<Vec<_>>();
    let (all_samples, all_codes) = ("all 65,536 samples", "all 256 codes");
    line(
        "mu-law encoding",
        all_samples,
        differing(&encoded(g711::encode_ulaw), &encoded(peers::ulaw_encode)),
    );
    line("A-law encoding", all_samples, differing(&encoded(g711::encode_alaw), &encoded(peers::alaw_encode)));
    line("mu-law decoding", all_codes, differing(&decoded(g711::decode_ulaw), &decoded(peers::ulaw_decode)));
    line("A-law decoding", all_codes, differing(&decoded(g711::decode_alaw), &decoded(peers::alaw_decode)));
    line(
        "mu-law to A-law",
        all_codes,
        differing(&converted(g711::ulaw_to_alaw), &one_by_one(peers::ulaw_to_alaw)),
    );
    line(
        "A-law to mu-law",
        all_codes,
        differing(&converted(g711::alaw_to_ulaw), &one_by_one(peers::alaw_to_ulaw)),
    );
    let (pcm, octets, audio) = (g722::speech(), g722::encoded(), g722::decoded());
    let mut ours = vec![0; octets.len()];
    engine::codec::g722::Encoder::new().encode(&pcm, &mut ours);
    line("G.722 encoding, 64 kbit/s", "five seconds of speech", differing(&ours, &octets));
    let mut ours = vec![0; audio.len()];
    engine::codec::g722::Decoder::new().decode(&octets, &mut ours);
    line("G.722 decoding, 64 kbit/s", "five seconds of speech", differing(&ours, &audio));
    text.push_str(
        "\nIn mu-law spandsp takes the two's complement of a negative sample where G.191 takes the ones' complement, so that samples at \
         the edges of intervals get the neighbouring code.\n",
    );
    text
}

fn differing<T: PartialEq>(ours: &[T], theirs: &[T]) -> usize {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs).count()
}
