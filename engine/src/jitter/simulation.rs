//! Whole calls over networks of every kind: nothing runs away, and what was disturbed becomes again as it was.

use super::*;

/// A call to be: who sends what, and what the network makes of it.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Samples per packet sent, and per frame played.
    packet: usize,
    frame: usize,
    /// By how much the sender's clock is faster, in millionths.
    drift: i64,
    /// Each packet is late by up to so many microseconds, and may overtake others.
    jitter_us: u64,
    overtaking: bool,
    /// Of 1000 packets so many: begin a loss of up to 5, come twice, begin a standstill of up to 400 ms, or are late by
    /// up to 200 ms alone.
    lost: u64,
    twice: u64,
    stalls: u64,
    spikes: u64,
    /// Pauses of the sender, announced with comfort noise, and restarts of its timestamps.
    pauses: u64,
    jumps: u64,
    /// How long the network is bad, in packets, and fine after that.
    bad: u64,
    fine: u64,
}

impl Weather {
    const FINE: Self = Self {
        packet: 160,
        frame: 160,
        drift: 0,
        jitter_us: 0,
        overtaking: false,
        lost: 0,
        twice: 0,
        stalls: 0,
        spikes: 0,
        pauses: 0,
        jumps: 0,
        bad: 0,
        fine: 1000,
    };

    fn random(random: &mut Random) -> Self {
        let often = |random: &mut Random, most| if random.below(2) == 0 { 0 } else { random.below(most) };
        Self {
            packet: [80, 160, 160, 240, 480][random.below(5) as usize],
            frame: [160, 160, 80, 240, 480][random.below(5) as usize],
            drift: random.below(401) as i64 - 200,
            jitter_us: [0, 3_000, 20_000, 60_000, 150_000][random.below(5) as usize],
            overtaking: random.below(2) == 0,
            lost: often(random, 60),
            twice: often(random, 60),
            stalls: often(random, 20),
            spikes: often(random, 40),
            pauses: often(random, 20),
            jumps: often(random, 3),
            bad: 300,
            fine: 900,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    at: Instant,
    sequence: u64,
    timestamp: u32,
    /// Of the audio in the source; `None` is comfort noise.
    from: Option<usize>,
    len: usize,
}

fn trace(weather: &Weather, random: &mut Random) -> (Vec<Datagram>, Instant) {
    let mut datagrams = vec![];
    let (mut sent, mut sequence, mut at_once) = (1_000_000_000u64, 1000u64, 0u64);
    let mut timestamp = random.next() as u32;
    let mut losing = 0;
    let mut fine_from = 0;
    let tick = |samples: usize| (samples as i64 * 125_000 * (1_000_000 - weather.drift) / 1_000_000) as u64;
    let mut from = 0;
    for n in 0..weather.bad + weather.fine {
        let bad = n < weather.bad;
        if n == weather.bad {
            fine_from = sent;
        }
        let happens = |random: &mut Random, chance| bad && random.below(1000) < chance;
        if happens(random, weather.jumps) {
            timestamp = random.next() as u32;
        }
        if happens(random, weather.pauses) {
            let at = Instant::from_nanos(sent);
            datagrams.push(Datagram { at, sequence, timestamp, from: None, len: 0 });
            sequence += 1;
            let pause = random.below(200) as usize * 160;
            timestamp = timestamp.wrapping_add(pause as u32);
            sent += tick(pause);
        }
        if happens(random, weather.lost) {
            losing = 1 + random.below(5);
        }
        if happens(random, weather.stalls) {
            at_once = sent + random.below(400) * 1_000_000;
        }
        let mut at = sent.max(at_once);
        if bad {
            at += random.below(weather.jitter_us + 1) * 1000;
            if happens(random, weather.spikes) {
                at += random.below(200) * 1_000_000;
            }
            if !weather.overtaking {
                at = at.max(datagrams.last().map_or(0, |last: &Datagram| last.at.as_nanos()));
            }
        }
        let datagram = Datagram {
            at: Instant::from_nanos(at),
            sequence,
            timestamp,
            from: Some(from),
            len: weather.packet,
        };
        if losing > 0 {
            losing -= 1;
        } else {
            datagrams.push(datagram);
            if happens(random, weather.twice) {
                datagrams
                    .push(Datagram { at: Instant::from_nanos(at + random.below(50_000_000)), ..datagram });
            }
        }
        sequence += 1;
        timestamp = timestamp.wrapping_add(weather.packet as u32);
        from += weather.packet;
        sent += tick(weather.packet);
    }
    datagrams.sort_by_key(|datagram| datagram.at);
    (datagrams, Instant::from_nanos(fine_from.max(at_once)))
}

/// What a call was like.
#[derive(Clone, Debug, Default)]
struct Outcome {
    frames: usize,
    concealed: usize,
    /// The longest delay, and that at the end.
    longest: Duration,
    last: Duration,
    /// How long the network was fine until the last frame that was not what the sender said next.
    restless: Duration,
    /// Samples left out or repeated since it was fine.
    changed: u64,
}

/// Plays a call the way that a stream does.
fn play(weather: &Weather, random: &mut Random) -> Outcome {
    let source = SPEECH;
    let (datagrams, fine_from) = trace(weather, random);
    let mut outcome = Outcome::default();
    let mut buffer = JitterBuffer::new();
    let frame_nanos = weather.frame as u64 * 125_000;
    let mut tick = Instant::from_nanos(1_000_000_000 - random.below(20_000_000));
    let (mut waiting, mut last_align) = (None, None::<Instant>);
    let mut expected = None::<usize>;
    let mut datagrams = datagrams.iter().peekable();
    let mut payload = [0; MAX_PAYLOAD_BYTES];
    while let Some(next) = datagrams.peek() {
        let due = waiting.unwrap_or(tick);
        if next.at <= due {
            let datagram = *next;
            datagrams.next();
            let now = datagram.at;
            for (n, byte) in payload[..datagram.len].iter_mut().enumerate() {
                *byte = source[(datagram.from.unwrap_or(0) + n) % source.len()];
            }
            let media = match datagram.from {
                Some(_) => Media::Audio(Law::Mu, &payload[..datagram.len]),
                None => Media::ComfortNoise(&[60]),
            };
            let arrived = if waiting.is_some() { now } else { now.min(tick) };
            let arrival =
                Arrival { at: arrived, sequence: datagram.sequence, timestamp: datagram.timestamp, media };
            let inserted = buffer.insert(&arrival, FrameClock { next: tick, samples: weather.frame });
            if waiting.is_some() && !buffer.is_short(now, weather.frame) {
                waiting = Some(now);
            }
            match inserted {
                Inserted::Align(moment) => {
                    if last_align
                        .is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(1))
                    {
                        last_align = Some(now);
                        (tick, waiting) = (moment, None);
                        buffer.align();
                    }
                }
                Inserted::Late | Inserted::Waiting | Inserted::Duplicate => {}
            }
            continue;
        }
        let now = due;
        let until = tick + Duration::from_millis(10).min(Duration::from_nanos(frame_nanos / 2));
        if now < until && waiting.is_none() && buffer.is_short(now, weather.frame) {
            waiting = Some(until);
            continue;
        }
        waiting = None;
        let before = buffer.position;
        let mut frame = [0; MAX_PAYLOAD_BYTES];
        let frame = &mut frame[..weather.frame];
        let pulled = buffer.pull(tick, Law::Mu, frame);
        let slew = buffer.slew(tick, weather.frame);
        assert!(slew.abs() <= MAX_SLEW, "{slew}");
        let delay = buffer.delay(tick + Duration::from_nanos(frame_nanos));
        assert!(delay.as_nanos() <= (MAX_BACKLOG + 2 * MAX_DELAY) as u128, "{delay:?} {weather:?}");
        outcome.frames += 1;
        outcome.concealed += usize::from(pulled == Pulled::Concealed);
        outcome.longest = outcome.longest.max(delay);
        outcome.last = delay;
        if tick > fine_from {
            outcome.changed += (buffer.position - before).abs_diff(weather.frame as i64);
        }
        let follows =
            |from: usize| frame.iter().enumerate().all(|(n, &b)| b == source[(from + n) % source.len()]);
        match expected {
            Some(from) if pulled == Pulled::Audio && follows(from) => {
                expected = Some((from + weather.frame) % source.len());
            }
            _ => {
                outcome.restless = tick.saturating_duration_since(fine_from);
                expected = match pulled {
                    Pulled::Audio => (0..source.len())
                        .find(|&from| follows(from))
                        .map(|from| (from + weather.frame) % source.len()),
                    _ => None,
                };
            }
        }
        tick = Instant::from_nanos((tick.as_nanos() + frame_nanos).saturating_add_signed(slew));
    }
    outcome
}

#[test]
fn whatever_the_network_did_it_is_forgotten_when_it_is_fine_again() {
    let mut random = Random(0x5EED_CAFE);
    for n in 0..CALLS {
        let weather = Weather::random(&mut random);
        let outcome = play(&weather, &mut random);
        // The estimator remembers so many packets; then the delay goes back.
        let memory = Duration::from_nanos(512 * weather.packet as u64 * 125_000) + Duration::from_secs(1);
        assert!(outcome.restless < memory, "{n}: {weather:?} {outcome:?}");
        let longest = Duration::from_nanos(weather.packet.max(weather.frame) as u64 * 125_000);
        assert!(outcome.last < longest + Duration::from_millis(10), "{n}: {weather:?} {outcome:?}");
    }
}

#[test]
fn fine_network_is_never_touched_however_the_clocks_differ() {
    let mut random = Random(77);
    for drift in [-200, 200] {
        let weather = Weather { drift, fine: PACKETS, ..Weather::FINE };
        let outcome = play(&weather, &mut random);
        assert_eq!((outcome.concealed, outcome.changed), (0, 0), "{weather:?}");
        assert!(outcome.restless < Duration::from_millis(100), "{weather:?} {outcome:?}");
        assert!(outcome.longest < Duration::from_millis(5), "{weather:?} {outcome:?}");
    }
}

/// Seven thousand were tried by hand, and clean calls of two hours.
const CALLS: usize = 8;
/// 40 s.
const PACKETS: u64 = 2000;

const SPEECH: &[u8] = include_bytes!("../../tests/fixtures/speech/english.ulaw");

/// Xorshift.
#[derive(Clone, Copy, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 20) % end.max(1)
    }
}
