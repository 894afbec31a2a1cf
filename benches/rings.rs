//! The bounded rings between control and media: rtrb beside crossbeam's queues, for an item of the size of a
//! command. The figures decide docs/decisions/0002.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_queue::ArrayQueue;

type Item = [u64; 16];

const CAPACITY: usize = 1024;

/// Push and pop on one thread: the cost of the ring itself.
fn same_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_same_thread");
    group.throughput(Throughput::Elements(1));
    let (mut producer, mut consumer) = rtrb::RingBuffer::<Item>::new(CAPACITY);
    group.bench_function("rtrb", |bencher| {
        bencher.iter(|| {
            producer.push(black_box([1; 16])).expect("room");
            black_box(consumer.pop().expect("an item"))
        });
    });
    let queue = ArrayQueue::<Item>::new(CAPACITY);
    group.bench_function("crossbeam ArrayQueue", |bencher| {
        bencher.iter(|| {
            queue.push(black_box([1; 16])).expect("room");
            black_box(queue.pop().expect("an item"))
        });
    });
    let (sender, receiver) = crossbeam_channel::bounded::<Item>(CAPACITY);
    group.bench_function("crossbeam channel", |bencher| {
        bencher.iter(|| {
            sender.try_send(black_box([1; 16])).expect("room");
            black_box(receiver.try_recv().expect("an item"))
        });
    });
    group.finish();
}

/// From one thread to another, which polls, as a worker does.
fn across_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_across_threads");
    group.throughput(Throughput::Elements(1));
    group.bench_function("rtrb", |bencher| {
        bencher.iter_custom(|count| {
            let (mut producer, mut consumer) = rtrb::RingBuffer::<Item>::new(CAPACITY);
            transfer(count, move |item| producer.push(item).is_ok(), move || consumer.pop().ok())
        });
    });
    group.bench_function("crossbeam ArrayQueue", |bencher| {
        bencher.iter_custom(|count| {
            let queue = Arc::new(ArrayQueue::<Item>::new(CAPACITY));
            let other = Arc::clone(&queue);
            transfer(count, move |item| queue.push(item).is_ok(), move || other.pop())
        });
    });
    group.bench_function("crossbeam channel", |bencher| {
        bencher.iter_custom(|count| {
            let (sender, receiver) = crossbeam_channel::bounded::<Item>(CAPACITY);
            transfer(count, move |item| sender.try_send(item).is_ok(), move || receiver.try_recv().ok())
        });
    });
    group.finish();
}

/// Moves `count` items and checks that they arrive in order.
fn transfer(
    count: u64,
    mut push: impl FnMut(Item) -> bool + Send + 'static,
    mut pop: impl FnMut() -> Option<Item>,
) -> Duration {
    let start = Instant::now();
    let producer = std::thread::spawn(move || {
        for number in 0..count {
            while !push([number; 16]) {
                std::hint::spin_loop();
            }
        }
    });
    for expected in 0..count {
        let item = loop {
            if let Some(item) = pop() {
                break item;
            }
            std::hint::spin_loop();
        };
        assert_eq!(item[0], expected);
    }
    producer.join().expect("the producer does not panic");
    start.elapsed()
}

criterion_group! {
    name = rings;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = same_thread, across_threads
}
criterion_main!(rings);
