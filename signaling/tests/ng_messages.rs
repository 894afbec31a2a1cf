//! Requests as two proxies send them, byte for byte (the seeds of the fuzz target), and as JSON.

use sidetone_signaling::ng::command::{Command, CommandError};
use sidetone_signaling::ng::message::{self, Encoding};
use sidetone_signaling::ng::options::Options;
use sidetone_signaling::ng::{fuzz_datagram, json};

fn examples() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/seeds/ng");
    let files = std::fs::read_dir(folder).expect("the seeds");
    let mut examples: Vec<_> = files
        .map(|file| {
            let file = file.expect("a file");
            let bytes = std::fs::read(file.path()).expect("readable");
            (file.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    examples.sort();
    examples
}

#[test]
fn requests_of_proxies_are_read_and_their_twins_in_json_are_the_same() {
    let mut count = 0;
    for (name, datagram) in examples() {
        let (_, payload) = message::split_cookie(&datagram).expect("a cookie");
        let (encoding, dictionary) =
            message::parse(payload).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let mut twin = Vec::new();
        json::write_dictionary(&dictionary, &mut twin);
        assert_eq!(message::parse(&twin), Ok((Encoding::Json, dictionary.clone())), "{name}");
        let again = message::write(b"x", encoding, &dictionary);
        assert_eq!(message::parse(&again[2..]), Ok((encoding, dictionary.clone())), "{name}");
        let command = dictionary.value("command").and_then(|value| value.text()).expect("a command");
        assert_ne!(Command::parse(command), Err(CommandError::Unknown), "{name}: {command}");
        fuzz_datagram(&datagram);
        count += 1;
    }
    assert!(count >= 38, "only {count} examples");
}

#[test]
fn flags_of_proxies_mean_what_they_say() {
    let read = |name: &str| {
        let (_, datagram) = examples().into_iter().find(|(known, _)| known == name).expect("an example");
        let (_, payload) = message::split_cookie(&datagram).expect("a cookie");
        Options::read(&message::parse(payload).expect("a dictionary").1)
    };
    for name in ["kamailio_02", "opensips_02"] {
        let offer = read(name);
        assert!(offer.wishes.replace.origin && offer.wishes.rtcp_mux.demux, "{name}");
        assert_eq!(offer.wishes.codec.strip, ["G722"], "{name}");
        assert_eq!(offer.interfaces.len(), 2, "{name}");
        assert_eq!(offer.wishes.received_from, Some([192, 0, 2, 1].into()), "{name}");
        assert_eq!((offer.ignored_count, offer.wishes.unserved), (0, None), "{name}: {:?}", offer.ignored);
    }
    assert!(read("kamailio_04").has_rtpp_flags && read("kamailio_04").wishes.replace.origin);
    assert_eq!(read("kamailio_07").delete_delay, Some(5));
    assert!(read("kamailio_07").fatal);
    assert_eq!(read("opensips_03").wishes.codec.offer, ["PCMU"]);
    assert_eq!((read("opensips_05").from_tag, read("opensips_05").call_id.as_deref()), (None, Some("c1")));
    assert_eq!(read("opensips_06").delete_delay, Some(5));
}

#[test]
fn requests_with_wrong_bytes_never_panic() {
    // The fuzz target looks deeper; this is what every run looks at.
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let examples = examples();
    for round in 0..20_000 {
        let mut datagram = examples[round % examples.len()].1.clone();
        for _ in 0..1 + random(4) {
            let at = random(datagram.len());
            match random(4) {
                0 => datagram[at] = random(256) as u8,
                1 => drop(datagram.remove(at)),
                2 => datagram.insert(at, b"d:le0i9[]= \r\n"[random(13)]),
                _ => datagram.truncate(at.max(8)),
            }
        }
        fuzz_datagram(&datagram);
    }
}
