//! WebSocket libraries, base64 and JSON side by side on the messages of an AI stream, a connection in memory.

mod libraries;
mod loopback;
mod payload;
mod tape;

use std::time::Instant;

use libraries::{NAMES, read, write};

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let times = if quick { 2_000 } else { 100_000 };
    let repeats = if quick { 1 } else { 9 };
    let caller = twilio_media();
    let bot = bot_media(160);
    let long = bot_media(8_000);
    println!("a message to the backend {} bytes, from it {} and {}\n", caller.len(), bot.len(), long.len());
    println!(
        "| library | write, ns | calls of write | read, ns | read 1 s of audio, ns | write and read, ns |"
    );
    println!("|---|---|---|---|---|---|");
    let mut rows: Vec<[Vec<f64>; 3]> = NAMES.iter().map(|_| Default::default()).collect();
    let mut calls = [0.0; NAMES.len()];
    for repeat in 0..repeats {
        for turn in 0..NAMES.len() {
            let at = (turn + repeat) % NAMES.len();
            let name = NAMES[at];
            let begun = Instant::now();
            let done = write(name, caller.as_bytes(), times);
            rows[at][0].push(begun.elapsed().as_nanos() as f64 / times as f64);
            assert_eq!(done.first.as_deref(), Some(caller.as_bytes()), "{name}");
            assert!(done.bytes >= times * caller.len() as u64, "{name}");
            calls[at] = done.writes as f64 / times as f64;
            for (column, message, times) in [(1, &bot, times), (2, &long, times / 10)] {
                let begun = Instant::now();
                let done = read(name, message.as_bytes(), times);
                rows[at][column].push(begun.elapsed().as_nanos() as f64 / times as f64);
                assert_eq!(done.bytes, times * message.len() as u64, "{name}");
            }
        }
    }
    for (at, name) in NAMES.iter().enumerate() {
        let [write, read, long] = rows[at].each_ref().map(|values| median(values));
        println!("| {name} | {write:.0} | {:.1} | {read:.0} | {long:.0} | {:.0} |", calls[at], write + read);
    }
    on_loopback(&caller, if quick { 20 } else { 1_000 }, repeats.min(5));
    payloads(times, repeats);
}

fn on_loopback(message: &str, rounds: u64, repeats: usize) {
    println!("\n| over TCP on loopback | ns of the client's thread, a message out and one in |\n|---|---|");
    let mut costs: Vec<Vec<f64>> = loopback::NAMES.iter().map(|_| Vec::new()).collect();
    for repeat in 0..repeats {
        for turn in 0..costs.len() {
            let at = (turn + repeat) % costs.len();
            match loopback::cost(loopback::NAMES[at], message.as_bytes(), CONNECTIONS, rounds) {
                Ok(cost) => costs[at].push(cost),
                Err(error) => panic!("{}: {error}", loopback::NAMES[at]),
            }
        }
    }
    for (name, costs) in loopback::NAMES.iter().zip(&costs) {
        println!("| {name} | {:.0} |", median(costs));
    }
}

fn payloads(times: u64, repeats: usize) {
    println!("\n| ns, audio of | 160 bytes | 960 bytes | 8,000 bytes |\n|---|---|---|---|");
    for name in payload::NAMES {
        let costs = [(160, times), (960, times / 4), (8_000, times / 20)].map(|(bytes, times)| {
            let each: Vec<f64> = (0..repeats)
                .map(|_| {
                    let begun = Instant::now();
                    assert!(payload::run(name, bytes, times) > 0);
                    begun.elapsed().as_nanos() as f64 / times as f64
                })
                .collect();
            median(&each)
        });
        println!("| {name} | {:.0} | {:.0} | {:.0} |", costs[0], costs[1], costs[2]);
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Caller audio as the Twilio dialect sends it.
fn twilio_media() -> String {
    format!(
        r#"{{"event":"media","sequenceNumber":"1234","streamSid":"{SID}","media":{{"track":"inbound","chunk":"1233","timestamp":"24640","payload":"{}"}}}}"#,
        payload(160)
    )
}

/// Bot audio as such backends send it.
fn bot_media(bytes: usize) -> String {
    format!(r#"{{"event":"media","streamSid":"{SID}","media":{{"payload":"{}"}}}}"#, payload(bytes))
}

fn payload(bytes: usize) -> String {
    use base64::Engine as _;
    let audio: Vec<u8> = (0..bytes).map(|at| (at * 37 % 251) as u8).collect();
    base64::engine::general_purpose::STANDARD.encode(audio)
}

const CONNECTIONS: usize = 64;
const SID: &str = "MZ18ad3ab5a668481ce02b83e7395059f0";
