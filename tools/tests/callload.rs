//! callload against SIPp, and against faults of known size.

mod support;

use std::{sync::atomic::Ordering, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use support::{Callload, Forwarder, Impairment, Sipp, callload, count, free_port, ms, sipp_is_there};

/// What is left of the scheduler on a busy machine, in milliseconds.
const SLACK_MS: f64 = 3.0;

#[test]
fn counts_equal_those_of_sipp() {
    if !sipp_is_there("counts_equal_those_of_sipp") {
        return;
    }
    let sipp = Sipp::answering(None);
    let target = sipp.target();
    let (code, report) =
        callload(&["--target", &target, "-n", "10", "-d", "4", "--ramp", "0.5", "--dtmf", "12"]);
    let figures = sipp.figures();
    println!("{figures:?}");
    assert_eq!(code, 0, "{report:#}");
    assert_eq!((figures.created, figures.successful, figures.failed), (10, 10, 0));
    assert_eq!(count(&report, "calls_answered"), 10);
    assert_eq!(count(&report, "calls_ended_cleanly"), 10);
    assert_eq!(count(&report, "rtp_sent"), figures.echoed, "SIPp counted other packets than we sent");
    assert_eq!(count(&report, "rtp_received"), figures.echoed, "SIPp echoed other packets than we received");
    assert_eq!(count(&report, "rtp_telephone_events"), 10 * 2 * 10);
    assert_eq!(count(&report, "calls_reflected"), 10);
    for nothing in
        ["rtp_lost", "rtp_reordered", "rtp_duplicate", "audio_different", "markers_lost", "clock_errors"]
    {
        assert_eq!(count(&report, nothing), 0, "{nothing}");
    }
    // 50 packets/s each for between 3.5 and 4 seconds.
    assert!((1_600..=2_010).contains(&count(&report, "rtp_sent")), "{report:#}");
}

#[test]
fn introduced_loss_repetition_and_reordering_are_reported_exactly() {
    if !sipp_is_there("introduced_loss_repetition_and_reordering_are_reported_exactly") {
        return;
    }
    for impairment in [
        Impairment { lost_per_mille: 30, delay: Duration::from_millis(5), ..Impairment::default() },
        Impairment { repeat_every: 20, swap_every: 33, ..Impairment::default() },
    ] {
        // SIPp does the signalling and the echo; the forwarder sits in front of its echo.
        let echo = Sipp::answering(None);
        let forwarder = Forwarder::start(([127, 0, 0, 1], echo.media_port).into(), impairment);
        let sipp = Sipp::answering(Some(forwarder.port));
        let (_, report) = callload(&["--target", &sipp.target(), "-n", "10", "-d", "5", "--ramp", "0.5"]);
        let introduced = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let faults = &forwarder.faults;
        println!(
            "lost {} repeated {} swapped {} of {}",
            introduced(&faults.lost),
            introduced(&faults.repeated),
            introduced(&faults.swapped),
            introduced(&faults.received)
        );
        assert_eq!(count(&report, "rtp_sent"), introduced(&faults.received));
        assert_eq!(count(&report, "rtp_lost"), introduced(&faults.lost));
        assert_eq!(count(&report, "rtp_duplicate"), introduced(&faults.repeated));
        assert_eq!(count(&report, "rtp_reordered"), introduced(&faults.swapped));
        assert_eq!(count(&report, "audio_different"), 0, "lost or late audio is not wrong audio");
        assert!(introduced(&faults.lost) + introduced(&faults.repeated) > 40, "nothing was introduced");
    }
}

#[test]
fn introduced_delay_is_the_reported_latency() {
    if !sipp_is_there("introduced_delay_is_the_reported_latency") {
        return;
    }
    for delay_ms in [10, 150] {
        let echo = Sipp::answering(None);
        let impairment = Impairment { delay: Duration::from_millis(delay_ms), ..Impairment::default() };
        let forwarder = Forwarder::start(([127, 0, 0, 1], echo.media_port).into(), impairment);
        let sipp = Sipp::answering(Some(forwarder.port));
        let (code, report) =
            callload(&["--target", &sipp.target(), "-n", "5", "-d", "4", "--marker-ms", "200"]);
        assert_eq!(code, 0, "{report:#}");
        let held_ms = forwarder.median_hold_ms();
        let (audio_ms, packet_ms) =
            (ms(&report, "audio_latency", "p50_ms"), ms(&report, "packet_latency", "p50_ms"));
        println!("held {held_ms:.3} ms, reported audio {audio_ms:.3} ms, packets {packet_ms:.3} ms");
        for reported_ms in [audio_ms, packet_ms] {
            assert!(reported_ms > held_ms - 0.1 - held_ms * 0.001 && reported_ms < held_ms + SLACK_MS);
        }
        assert!(ms(&report, "audio_latency", "min_ms") >= delay_ms as f64 * 0.999);
    }
}

#[test]
fn a_transcoding_far_end_with_its_own_clock_is_measured_to_the_sample() {
    if !sipp_is_there("a_transcoding_far_end_with_its_own_clock_is_measured_to_the_sample") {
        return;
    }
    // 333 samples are 41.625 ms, no multiple of a packet.
    let impairment = Impairment {
        delay: Duration::from_millis(8),
        rewrite_and_shift_samples: Some(333),
        ..Impairment::default()
    };
    let forwarder = Forwarder::start(([127, 0, 0, 1], 9).into(), impairment);
    let sipp = Sipp::answering(Some(forwarder.port));
    let (code, report) = callload(&["--target", &sipp.target(), "-n", "5", "-d", "4", "--marker-ms", "200"]);
    assert_eq!(code, 0, "{report:#}");
    let expected_ms = forwarder.median_hold_ms() + 333.0 / 8.0;
    let (least_ms, median_ms) =
        (ms(&report, "audio_latency", "min_ms"), ms(&report, "audio_latency", "p50_ms"));
    println!("introduced {expected_ms:.3} ms, reported p50 {median_ms:.3} ms, least {least_ms:.3} ms");
    // The far end keeps its own clock, so a marker that left late seems to come back early by as much.
    let own_ms = ms(&report, "sender_lateness", "max_ms");
    assert!(
        least_ms > 49.5 - own_ms,
        "8 ms of delay and 333 samples are 49.625 ms, reported {least_ms}, own {own_ms}"
    );
    assert!(median_ms > expected_ms - 0.2 && median_ms < expected_ms + SLACK_MS);
    assert_eq!(count(&report, "calls_reflected"), 0);
    assert_eq!(count(&report, "rtp_lost"), 0);
    assert_eq!(count(&report, "markers_lost"), 0);
    assert_eq!(count(&report, "realignments"), 0);
    assert_eq!(report["histograms"]["packet_latency"]["count"], 0);
    let share = report["audio_percent"].as_f64().unwrap();
    assert!(share > 99.0, "{share} % of the audio is what was sent: {report:#}");
}

#[test]
fn set_ups_without_rtp_are_counted_as_sipp_counts_them() {
    if !sipp_is_there("set_ups_without_rtp_are_counted_as_sipp_counts_them") {
        return;
    }
    let sipp = Sipp::answering(None);
    let target = sipp.target();
    let (code, report) = callload(&[
        "--target", &target, "-n", "20", "--no-rtp", "--rate", "100", "--total", "300", "-d", "20",
    ]);
    let figures = sipp.figures();
    assert_eq!(code, 0, "{report:#}");
    assert_eq!((figures.created, figures.successful, figures.failed), (300, 300, 0));
    assert_eq!(count(&report, "calls_placed"), 300);
    assert_eq!(count(&report, "calls_ended_cleanly"), 300);
    // 100 a second: the last of 300 starts after 2.99 s.
    assert!(report["elapsed_s"].as_f64().unwrap() >= 2.9);
}

#[test]
fn an_interrupt_ends_every_call_with_bye() {
    if !sipp_is_there("an_interrupt_ends_every_call_with_bye") {
        return;
    }
    let sipp = Sipp::answering(None);
    let run = Callload::start(&["--target", &sipp.target(), "-n", "8", "-d", "60"]);
    thread::sleep(Duration::from_secs(2));
    kill(Pid::from_raw(run.child.id() as i32), Signal::SIGINT).unwrap();
    let (code, report) = run.finish();
    assert_eq!(code, 0);
    assert_eq!(count(&report, "calls_ended_cleanly"), 8);
    assert_eq!(sipp.figures().successful, 8);
    assert!(report["elapsed_s"].as_f64().unwrap() < 30.0);
}

#[test]
fn expectations_decide_the_exit_code() {
    if !sipp_is_there("expectations_decide_the_exit_code") {
        return;
    }
    let echo = Sipp::answering(None);
    let impairment =
        Impairment { lost_per_mille: 100, delay: Duration::from_millis(30), ..Impairment::default() };
    let forwarder = Forwarder::start(([127, 0, 0, 1], echo.media_port).into(), impairment);
    for (expectation, met) in [
        (["--expect-loss-below", "20"], true),
        (["--expect-loss-below", "2"], false),
        (["--check-latency-p99-below", "500"], true),
        (["--check-latency-p99-below", "25"], false),
        (["--expect-audio-above", "99"], true),
    ] {
        let sipp = Sipp::answering(Some(forwarder.port));
        let target = sipp.target();
        let arguments = [
            "--target",
            &target,
            "-n",
            "3",
            "-d",
            "2.5",
            "--marker-ms",
            "200",
            expectation[0],
            expectation[1],
        ];
        let (code, report) = callload(&arguments);
        if code == 3 {
            // A machine too busy to judge on: saying so is the right answer then.
            assert_eq!(report["instrument"]["trusted"], false);
            continue;
        }
        assert_eq!(code, i32::from(!met), "{expectation:?}: {:#}", report["missed"]);
    }
}

#[test]
fn nobody_there_fails_the_calls_in_the_time_given() {
    let port = free_port();
    let target = format!("sip:echo@127.0.0.1:{port}");
    let (code, report) = callload(&["--target", &target, "-n", "3", "-d", "10", "--answer-timeout", "1.2"]);
    assert_eq!(code, 1);
    assert_eq!(count(&report, "calls_failed"), 3);
    assert_eq!(report["failures"]["no response"], 3);
    assert_eq!(
        count(&report, "sip_retransmissions"),
        3,
        "timer A once at 500 ms, and not again before 1,500 ms"
    );
    assert!(report["elapsed_s"].as_f64().unwrap() < 5.0);
}
