//! The C text of the program does the same as the program, frame by frame, on the same tables.

use xdp::FlowCounters;
use xdp::bpf::{Mode, Program, ProgramKind};
use xdp::program::{Event, KernelFlow, Options};

use crate::corpus::{corpus, opened};
use crate::forward::{cases, flow, frame};
use crate::frames::rtp;
use crate::{Bench, netns, object};

/// The program and its C text; `None` if the test is skipped.
fn both(test: &str, flood_limit: Option<u32>, mode: Mode) -> Option<(Bench, Program)> {
    let bench = opened(test, Options { flood_limit, ..Options::default() })?;
    let limit = format!("-DFLOOD_LIMIT={}", flood_limit.unwrap_or(0));
    let generic = format!("-DGENERIC={}", u8::from(mode == Mode::Generic));
    match object::load("xdp", ProgramKind::Xdp, &[&limit, &generic], &bench.program.maps()) {
        Ok(golden) => Some((bench, golden)),
        Err(reason) => {
            netns::skip(test, &reason);
            None
        }
    }
}

#[test]
fn the_c_text_says_the_same_of_every_frame() {
    let test = "the_c_text_says_the_same_of_every_frame";
    for mode in [Mode::Native, Mode::Generic] {
        let Some((bench, golden)) = both(test, None, mode) else { return };
        let counts = || {
            let counters = bench.program.counters().unwrap();
            Event::ALL.iter().map(|event| counters.count(*event)).collect::<Vec<_>>()
        };
        let difference = |from: &[u64], to: &[u64]| -> Vec<u64> {
            from.iter().zip(to).map(|(from, to)| to - from).collect()
        };
        let same = |name: &dyn std::fmt::Debug, frame: &[u8]| {
            let ours = bench.program.test(mode, frame, None).unwrap();
            let between = counts();
            let theirs = golden.test(frame).unwrap();
            assert_eq!((ours.verdict, &ours.frame), (theirs.verdict, &theirs.frame), "{name:?}");
            between
        };
        let same_counts = |name: &str, frame: &[u8]| {
            let before = counts();
            let between = same(&name, frame);
            assert_eq!(difference(&before, &between), difference(&between, &counts()), "{name}");
        };
        for (name, frame, _) in corpus() {
            same_counts(name, &frame);
        }
        for ipv6 in [false, true] {
            let ports = bench.program.ports();
            ports.close(30_000);
            ports.open(30_000, if ipv6 { "2001:db8::1" } else { "192.0.2.1" }.parse().unwrap()).unwrap();
            for (flow, frames) in cases(ipv6) {
                ports.promote(30_000, &flow).unwrap();
                for (sent, _) in frames {
                    same(&(&sent, &flow), &sent.bytes());
                }
            }
            ports.promote(30_000, &flow(ipv6)).unwrap();
            for (name, frame, _) in crate::forward::not_covered(ipv6) {
                same_counts(name, &frame.bytes());
            }
        }
    }
}

#[test]
fn the_c_text_keeps_the_same_figures_of_a_flow() {
    let Some((bench, golden)) = both("the_c_text_keeps_the_same_figures_of_a_flow", None, Mode::Native)
    else {
        return;
    };
    let ports = bench.program.ports();
    let figures = |run: &dyn Fn(&[u8])| {
        ports.promote(30_000, &KernelFlow { vlan: None, ..flow(false) }).unwrap();
        for (sequence, ssrc) in
            [(65_534, 9), (65_535, 9), (1, 9), (0, 9), (1, 9), (32_000, 9), (3, 10), (2, 10), (9, 10)]
        {
            run(&frame(false).with(|frame| frame.payload = rtp(0, 7, sequence, 0, ssrc, 99)).bytes());
        }
        ports.demote(30_000).unwrap()
    };
    let timeless = |counters| FlowCounters { last_seen: None, jitter: 0, ..counters };
    let ours = figures(&|frame| drop(bench.program.test(Mode::Native, frame, None).unwrap()));
    let theirs = figures(&|frame| drop(golden.test(frame).unwrap()));
    assert_eq!(timeless(ours), timeless(theirs));
    assert!(ours.jitter.abs_diff(theirs.jitter) < 100, "{ours:?} {theirs:?}");
    assert!(ours.last_seen <= theirs.last_seen);
}

#[test]
fn the_c_text_limits_senders_by_the_same_table() {
    let Some((bench, golden)) = both("the_c_text_limits_senders_by_the_same_table", Some(50), Mode::Native)
    else {
        return;
    };
    for ipv6 in [false, true] {
        let (source, open) = if ipv6 {
            ("[2001:db8:7::7]:4000", "[2001:db8::1]:30002")
        } else {
            ("198.51.100.7:4000", "192.0.2.1:30000")
        };
        let frame = crate::frames::Frame::new(source, open).bytes();
        let before = bench.program.counters().unwrap();
        for _ in 0..100 {
            bench.program.test(Mode::Native, &frame, None).unwrap();
            golden.test(&frame).unwrap();
        }
        let after = bench.program.counters().unwrap();
        let passed = after.count(Event::Redirected) - before.count(Event::Redirected);
        let dropped = after.count(Event::DroppedFloods) - before.count(Event::DroppedFloods);
        assert_eq!(passed + dropped, 200);
        // One more second may have begun.
        assert!((50..=100).contains(&passed), "{passed}");
    }
}
