//! What the media path costs, piece by piece. Every bench first checks that the piece gives the right result.

mod packets;
mod relays;
mod streams;
mod worker;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    // Short, so that all of them take about a minute; the spread is in what criterion prints.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700))
        .sample_size(40)
        .without_plots()
        .configure_from_args();
    packets::benches(&mut criterion);
    relays::benches(&mut criterion);
    streams::benches(&mut criterion);
    worker::benches(&mut criterion);
    criterion.final_summary();
}
