//! `rtpload forward`: the least that forwarding by AF_XDP takes. A frame goes back to where it came from, with addresses and ports
//! changed over, which leaves all checksums right; nothing is looked at.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use xdp::af_xdp::{Bare, Mode, Options};

use super::options::ForwardOptions;
use crate::callload::clock;

/// Forwards until SIGTERM or SIGINT.
pub(super) fn run(options: &ForwardOptions) -> anyhow::Result<ExitCode> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGINT);
    mask.add(Signal::SIGTERM);
    mask.thread_block()?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = mask.wait();
        stopped.store(true, Ordering::Relaxed);
    });
    let ports = (options.ports.0, options.ports.1);
    let mut bare = Bare::open(&Options::new(&options.interface), ports, Mode::Native)
        .with_context(|| format!("cannot forward on {}", options.interface))?;
    let (mut forwarded, mut idle_since_ns) = (0u64, clock::now_ns());
    while !stop.load(Ordering::Relaxed) {
        let taken = bare.receive(BUDGET, |frame| {
            turn(frame);
            true
        });
        bare.flush();
        forwarded += taken as u64;
        if taken > 0 {
            idle_since_ns = 0;
        } else if idle_since_ns == 0 {
            idle_since_ns = clock::now_ns();
        } else if clock::now_ns() - idle_since_ns > SPIN_NS {
            bare.wait(Duration::from_millis(10));
        }
    }
    println!("forwarded {forwarded} frames, {} came too fast", bare.dropped());
    Ok(ExitCode::SUCCESS)
}

/// Changes source and destination over: Ethernet, IPv4, UDP. The program passes nothing shorter.
#[inline]
fn turn(frame: &mut [u8]) {
    let Some(head) = frame.first_chunk_mut::<38>() else { return };
    let [ethernet, ip, udp] = [(0, 6), (26, 4), (34, 2)];
    for (at, length) in [ethernet, ip, udp] {
        let (first, second) = head[at..at + 2 * length].split_at_mut(length);
        first.swap_with_slice(second);
    }
}

const BUDGET: usize = 64;
/// As long as an adaptive worker looks before it sleeps.
const SPIN_NS: u64 = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_change_over_on_every_layer() {
        let mut frame: Vec<u8> = (0..60).collect();
        turn(&mut frame);
        assert_eq!(frame[..14], [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 12, 13]);
        assert_eq!(frame[26..38], [30, 31, 32, 33, 26, 27, 28, 29, 36, 37, 34, 35]);
        assert_eq!(frame[38..], (38..60).collect::<Vec<u8>>());
        turn(&mut frame[..20]);
    }
}
