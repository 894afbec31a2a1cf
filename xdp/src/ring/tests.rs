//! Both ends over plain memory: a ring is a queue, also where its indexes wrap.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u32),
    Submit,
    Pop(u32),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..6u32).prop_map(Step::Push),
        Just(Step::Submit),
        (1..6u32).prop_map(Step::Pop),
        Just(Step::Release)
    ]
}

proptest! {
    #[test]
    fn plain_a_ring_equals_a_queue(
        steps in prop::collection::vec(step(), 0..300),
        before_the_end in 0..40u32,
        bits in 0..5u32,
    ) {
        let capacity = 1 << bits;
        let (mut producer, mut consumer) = plain::<u64>(capacity, 0u32.wrapping_sub(before_the_end));
        // Written, published and taken, but not released.
        let (mut written, mut published, mut taken) = (VecDeque::new(), VecDeque::new(), 0);
        let mut next = 0u64;
        for step in steps {
            match step {
                Step::Push(count) => for _ in 0..count {
                    let full = written.len() + published.len() + taken == capacity as usize;
                    prop_assert_eq!(producer.push(next), !full);
                    if !full {
                        written.push_back(next);
                    }
                    next += 1;
                },
                Step::Submit => {
                    prop_assert_eq!(producer.submit() as usize, written.len());
                    published.append(&mut written);
                    prop_assert_eq!(producer.waiting() as usize, published.len() + taken);
                }
                Step::Pop(count) => for _ in 0..count {
                    prop_assert_eq!(consumer.waiting(capacity) as usize, published.len());
                    prop_assert_eq!(consumer.peek(0), published.front().copied());
                    prop_assert_eq!(consumer.peek(1), published.get(1).copied());
                    let popped = consumer.pop();
                    prop_assert_eq!(popped, published.pop_front());
                    taken += usize::from(popped.is_some());
                },
                Step::Release => {
                    consumer.release();
                    taken = 0;
                }
            }
        }
    }
}

#[test]
fn plain_a_ring_carries_descriptors_between_threads() {
    let (mut producer, mut consumer) = plain::<Descriptor>(8, u32::MAX - 100);
    let count = if cfg!(miri) { 300u32 } else { 100_000 };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut sent = 0;
            while sent < count {
                if producer.push(Descriptor { address: u64::from(sent) << 20, len: sent, options: !sent }) {
                    sent += 1;
                } else {
                    std::thread::yield_now();
                }
                producer.submit();
            }
        });
        let mut received = 0;
        while received < count {
            let Some(descriptor) = consumer.pop() else {
                consumer.release();
                std::thread::yield_now();
                continue;
            };
            let expected =
                Descriptor { address: u64::from(received) << 20, len: received, options: !received };
            assert_eq!(descriptor, expected);
            received += 1;
            if received % 3 == 0 {
                consumer.release();
            }
        }
    });
}

#[test]
fn plain_the_kernel_asks_to_be_woken_by_a_flag() {
    let (producer, _consumer) = plain::<u64>(4, 0);
    assert!(!producer.needs_wakeup());
    producer.memory.flags().expect("a ring with flags").store(NEED_WAKEUP, Ordering::Relaxed);
    assert!(producer.needs_wakeup());
}
