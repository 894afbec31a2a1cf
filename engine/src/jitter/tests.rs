use proptest::prelude::*;

use super::*;

const FRAME: usize = 160;

/// A buffer on a clock of 20 ms; `tick` is the next frame's time.
struct Rig {
    buffer: JitterBuffer,
    tick: Instant,
}

impl Rig {
    fn new() -> Self {
        Self { buffer: JitterBuffer::new(), tick: Instant::from_millis(20) }
    }

    fn insert(&mut self, at: Instant, sequence: u64, timestamp: u32, media: Media<'_>) -> Inserted {
        let clock = FrameClock { next: self.tick, samples: FRAME };
        let inserted = self.buffer.insert(&Arrival { at, sequence, timestamp, media }, clock);
        if let Inserted::Align(moment) = inserted {
            self.tick = moment;
            self.buffer.align();
        }
        inserted
    }

    fn audio(&mut self, at_ms: u64, n: u64) -> Inserted {
        let payload = [n as u8 | 0x80; FRAME];
        let media = Media::Audio(Law::Mu, &payload);
        self.insert(Instant::from_millis(at_ms), 1000 + n, (n * 160) as u32, media)
    }

    fn pull(&mut self) -> (Pulled, [u8; FRAME]) {
        let mut frame = [0; FRAME];
        let pulled = self.buffer.pull(self.tick, Law::Mu, &mut frame);
        self.tick += Duration::from_millis(20);
        (pulled, frame)
    }
}

#[test]
fn first_packet_is_played_a_cushion_after_it_came() {
    let mut rig = Rig::new();
    assert_eq!(rig.audio(7, 0), Inserted::Align(Instant::from_nanos(8_500_000)));
    let (pulled, frame) = rig.pull();
    assert_eq!((pulled, frame), (Pulled::Audio, [0x80; FRAME]));
}

#[test]
fn empty_buffer_is_silent() {
    assert_eq!(Rig::new().pull(), (Pulled::Pause, [0xFF; FRAME]));
}

#[test]
fn lost_packet_is_concealed_and_the_next_one_fades_in() {
    let mut rig = Rig::new();
    for n in 0..20 {
        rig.audio(n * 20, n);
        assert_eq!(rig.pull().0, Pulled::Audio);
    }
    rig.audio(21 * 20, 21);
    assert_eq!(rig.pull().0, Pulled::Concealed);
    let (pulled, frame) = rig.pull();
    assert_eq!(pulled, Pulled::Audio);
    assert_eq!(frame[80..], [21 | 0x80; 80], "after 10 ms at most the audio is untouched");
}

#[test]
fn late_packet_is_dropped_when_a_later_one_was_played() {
    let mut rig = Rig::new();
    rig.audio(0, 0);
    rig.pull();
    rig.audio(40, 2);
    assert_eq!(rig.pull().0, Pulled::Concealed);
    rig.pull();
    assert_eq!(rig.audio(62, 1), Inserted::Late);
}

#[test]
fn late_packet_is_played_when_nothing_else_waits() {
    let mut rig = Rig::new();
    rig.audio(0, 0);
    rig.pull();
    assert_eq!(rig.pull().0, Pulled::Concealed);
    assert_eq!(rig.audio(30, 1), Inserted::Waiting);
    let (pulled, frame) = rig.pull();
    assert_eq!(pulled, Pulled::Audio);
    assert_eq!(frame[159], 0x81);
}

#[test]
fn packet_that_came_twice_waits_once() {
    let mut rig = Rig::new();
    rig.audio(0, 0);
    rig.audio(1, 1);
    assert_eq!(rig.audio(2, 1), Inserted::Duplicate);
}

#[test]
fn gap_without_a_missing_packet_is_a_pause() {
    let mut rig = Rig::new();
    rig.audio(0, 0);
    rig.pull();
    // The next number, but 40 ms later on the media timeline, and it is there in time.
    let payload = [0x90; FRAME];
    rig.insert(Instant::from_millis(1), 1001, 3 * 160, Media::Audio(Law::Mu, &payload));
    assert_eq!(rig.pull().0, Pulled::Pause);
    assert_eq!(rig.pull().0, Pulled::Pause);
    assert_eq!(rig.pull().0, Pulled::Audio);
}

#[test]
fn comfort_noise_is_heard_until_audio_comes() {
    let mut rig = Rig::new();
    rig.audio(0, 0);
    rig.pull();
    rig.insert(Instant::from_millis(20), 1001, 160, Media::ComfortNoise(&[40]));
    let mut noise = vec![];
    for _ in 0..10 {
        let (pulled, frame) = rig.pull();
        assert_eq!(pulled, Pulled::Pause);
        noise.extend_from_slice(&frame);
    }
    assert!(noise.iter().any(|&byte| byte != 0xFF && byte != 0x7F));
}

#[test]
fn long_silence_is_no_concealment() {
    let mut rig = Rig::new();
    rig.audio(0, 0);
    let kinds: Vec<_> = (0..100).map(|_| rig.pull().0).collect();
    assert_eq!(kinds.iter().filter(|&&kind| kind == Pulled::Concealed).count(), 25, "half a second");
    assert_eq!(kinds[99], Pulled::Pause);
}

#[test]
fn a_law_comes_out_as_mu_law_by_table() {
    let mut rig = Rig::new();
    let payload = [0x2A; FRAME];
    rig.insert(Instant::from_millis(7), 1000, 0, Media::Audio(Law::A, &payload));
    assert_eq!(rig.pull().1, [0x00; FRAME]);
}

#[test]
fn more_packets_than_slots_drop_the_oldest() {
    let mut rig = Rig::new();
    for n in 0..200 {
        rig.audio(0, n);
    }
    let (_, frame) = rig.pull();
    assert_ne!(frame[159], 0x80, "the first has gone");
    for _ in 0..100 {
        rig.pull();
    }
    assert_eq!(rig.pull().0, Pulled::Pause);
}

#[test]
fn packet_that_a_new_timeline_has_overtaken_says_nothing_of_the_delay() {
    for old in [0u64, 1 << 30, 3 << 30] {
        let mut rig = Rig::new();
        let payload = [0x90; FRAME];
        for n in 0..10 {
            rig.audio(n * 20, n);
            rig.pull();
        }
        let media = Media::Audio(Law::Mu, &payload);
        rig.insert(Instant::from_millis(220), 1011, 1 << 29, media);
        let delay = rig.buffer.delay(rig.tick);
        assert_eq!(rig.insert(Instant::from_millis(221), 1010, old as u32 + 1600, media), Inserted::Late);
        assert_eq!(rig.buffer.delay(rig.tick), delay);
    }
}

#[test]
fn event_of_another_timeline_does_not_hold_up_the_audio_behind_it() {
    let mut rig = Rig::new();
    for n in 0..10 {
        rig.audio(n * 20, n);
        rig.pull();
    }
    for n in 0..5 {
        rig.insert(Instant::from_millis(200 + n * 20), 1010 + n, 1 << 29, Media::Event);
        rig.pull();
    }
    rig.insert(Instant::from_millis(301), 1015, 15 * 160, Media::Audio(Law::Mu, &[0x90; FRAME]));
    assert!((0..3).any(|_| rig.pull().0 == Pulled::Audio));
}

#[test]
fn pauses_without_end_on_wild_timelines_move_nothing() {
    let mut rig = Rig::new();
    rig.audio(0, 0);
    for n in 1..100_000u64 {
        let timestamp = (n as u32).wrapping_mul(0x7FFF_0000);
        rig.insert(Instant::from_millis(1), 1000 + n, timestamp, Media::ComfortNoise(&[60]));
    }
    rig.insert(Instant::from_millis(2), 101_000, 160, Media::Audio(Law::Mu, &[0x90; FRAME]));
    assert!((0..3).any(|_| rig.pull().0 == Pulled::Audio));
    assert!(rig.buffer.delay(rig.tick) < Duration::from_millis(100));
}

#[derive(Clone, Debug)]
enum Step {
    Insert { delay_ms: u64, sequence: u64, timestamp: u32, kind: u8, len: usize },
    Pull { samples: usize, late_ms: u64, codec: Law },
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let near = (0u64..20, 1u64..500, 0u32..80_000, 0u8..6, 1usize..=480);
    let wild = (0u64..2000, 1u64..u64::from(u32::MAX) * 4, any::<u32>(), 0u8..6, 1usize..=480);
    let insert = prop_oneof![4 => near, 1 => wild].prop_map(|(delay_ms, sequence, timestamp, kind, len)| {
        Step::Insert { delay_ms, sequence, timestamp, kind, len }
    });
    let pull = (1usize..=480, 0u64..100, any::<bool>()).prop_map(|(samples, late_ms, alaw)| Step::Pull {
        samples,
        late_ms,
        codec: if alaw { Law::A } else { Law::Mu },
    });
    prop_oneof![8 => insert, 8 => pull, 1 => Just(Step::Reset)]
}

proptest! {
    #[test]
    fn never_panics_whatever_comes(steps in proptest::collection::vec(step(), 0..200)) {
        let mut buffer = JitterBuffer::new();
        let mut now = Instant::from_millis(1_000_000);
        let mut next = now;
        let mut samples = FRAME;
        for step in steps {
            match step {
                Step::Insert { delay_ms, sequence, timestamp, kind, len } => {
                    now += Duration::from_millis(delay_ms);
                    let payload = [0x55; MAX_PAYLOAD_BYTES];
                    let media = match kind {
                        0 => Media::ComfortNoise(&payload[..len % 4]),
                        1 => Media::Event,
                        2 => Media::Audio(Law::A, &payload[..len]),
                        _ => Media::Audio(Law::Mu, &payload[..len]),
                    };
                    let arrival = Arrival { at: now, sequence, timestamp, media };
                    if let Inserted::Align(moment) = buffer.insert(&arrival, FrameClock { next, samples }) {
                        next = moment;
                        buffer.align();
                    }
                }
                Step::Pull { samples: wanted, late_ms, codec } => {
                    samples = wanted;
                    let mut frame = [0; MAX_PAYLOAD_BYTES];
                    buffer.pull(next, codec, &mut frame[..samples]);
                    let slew = buffer.slew(next, samples);
                    prop_assert!(slew.abs() <= MAX_SLEW);
                    let nanos = (next + Duration::from_nanos(samples as u64 * TICK_NANOS)).as_nanos();
                    next = Instant::from_nanos(nanos.saturating_add_signed(slew));
                    now = now.max(next) + Duration::from_millis(late_ms);
                }
                Step::Reset => buffer.reset(),
            }
            prop_assert!(buffer.delay(next) < Duration::from_secs(100_000_000));
        }
    }

    /// With bounded jitter every frame is real after a while, in order, without repetition.
    #[test]
    fn bounded_jitter_ends_in_gapless_audio(jitter_ms in 0u64..60, seed: u64) {
        let mut random = seed | 1;
        let mut arrivals: Vec<(u64, u64)> = (0..600u64)
            .map(|n| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (n * 20 + random % (jitter_ms + 1), n)
            })
            .collect();
        arrivals.sort_unstable();
        let mut rig = Rig::new();
        let mut concealed = 0;
        let mut arrivals = arrivals.into_iter().peekable();
        for frame in 0..580 {
            while let Some((at, n)) = arrivals.next_if(|arrival| Instant::from_millis(arrival.0) <= rig.tick) {
                rig.audio(at, n);
            }
            let tick = rig.tick;
            let (pulled, _) = rig.pull();
            let slew = rig.buffer.slew(tick, FRAME);
            rig.tick = Instant::from_nanos(rig.tick.as_nanos().saturating_add_signed(slew));
            concealed += usize::from(frame > 200 && pulled != Pulled::Audio);
        }
        prop_assert!(concealed <= 4, "{}", concealed);
    }
}
