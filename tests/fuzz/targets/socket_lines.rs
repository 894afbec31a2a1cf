//! What somebody sends who dials us by AudioSocket or chan_websocket never panics, and audio is what came, in whole samples.
//!
//! The input: a byte of options, then for AudioSocket the stream as it comes, cut where the second byte says; for
//! chan_websocket messages with a byte 0x1e between them, binary ones after a 0x01.
#![no_main]

use engine::ai::dialect::{AudioSocketFrames, Kind, LineCodec, LineHeard, LineProtocol, Outbox};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [options, cut, rest @ ..] = data else { return };
    if options & 1 == 0 {
        let largest = LineProtocol::AudioSocket.largest_message();
        let mut codec = LineProtocol::AudioSocket.codec();
        let mut frames = AudioSocketFrames::new(if options & 2 == 0 { largest } else { 1000 });
        if options & 4 == 0 {
            hear(&mut codec, Kind::Binary, &[&[1, 0, 16][..], &[7; 16]].concat());
        }
        for piece in rest.chunks(usize::from(*cut) + 1) {
            frames.push(piece);
            loop {
                match frames.cut() {
                    Ok(Some(frame)) => {
                        let frame = frame.to_vec();
                        hear(&mut codec, Kind::Binary, &frame);
                    }
                    Ok(None) => break,
                    Err(length) => {
                        assert!(length + 3 > 1000);
                        return;
                    }
                }
            }
        }
    } else {
        let mut codec = LineProtocol::ChanWebSocket.codec();
        if options & 4 == 0 {
            hear(&mut codec, Kind::Text, b"MEDIA_START format:slin optimal_frame_size:320");
        }
        for message in rest.split(|&byte| byte == 0x1e) {
            match message {
                [0x01, binary @ ..] => hear(&mut codec, Kind::Binary, binary),
                text if std::str::from_utf8(text).is_ok() => hear(&mut codec, Kind::Text, text),
                _ => {}
            }
        }
    }
});

fn hear(codec: &mut LineCodec, kind: Kind, message: &[u8]) {
    if let Ok(LineHeard::Audio { format, audio }) = codec.decode(kind, message) {
        assert!(!audio.is_empty() && audio.len() <= message.len());
        assert_eq!(audio.len() % format.encoding.sample_bytes(), 0);
        assert!(format.rate >= 8_000);
    }
    let mut out = Outbox::default();
    codec.audio(&[0; 320], &mut out);
    codec.flush(&mut out);
    codec.answer(&mut out);
    codec.hang_up(&mut out);
    for (kind, message) in out.messages() {
        assert!(kind == Kind::Binary || std::str::from_utf8(message).is_ok());
    }
}
