//! G.722: any payload decodes, alone, in pieces and in a pool to the same audio, which encodes again.
#![no_main]

use engine::codec::g722::batch::Decoders;
use engine::codec::g722::{Decoder, Encoder, Mode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, payload)) = data.split_first() else { return };
    let mut whole = vec![0; 2 * payload.len()];
    assert_eq!(Decoder::new().decode(payload, &mut whole), whole.len());

    let (mut decoder, mut pieces) = (Decoder::new(), vec![0; whole.len()]);
    let (first, second) = payload.split_at(payload.len().min(usize::from(cut)));
    let samples = decoder.decode(first, &mut pieces);
    decoder.decode(second, &mut pieces[samples..]);
    assert_eq!(whole, pieces);

    let mut pool = Decoders::new(1, payload.len());
    let call = pool.add().expect("a place in a new pool");
    assert_eq!(pool.put(call, payload), whole.len());
    pool.decode();
    pool.take(call, &mut pieces);
    assert_eq!(whole, pieces);

    for mode in [Mode::Kbps56, Mode::Kbps48] {
        Decoder::with_mode(mode).decode(payload, &mut pieces);
    }
    let mut octets = vec![0; payload.len()];
    assert_eq!(Encoder::new().encode(&whole, &mut octets), octets.len());
});
