//! Owns: the question what a message to a worker costs, while it is awake and across its sleep.
//!
//! Must never: lose one; each that is sent is taken.
//!
//! Diagnostics: `cargo bench --bench mailbox`; under `cargo test --benches` each runs once.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mio::{Events, Poll, Token};
use rohrpost_reactor::{Rest, mailbox};

const FAILED: &str = "a poll, its waker and its mailbox work";

fn awake(criterion: &mut Criterion) {
    let poll = Poll::new().expect(FAILED);
    let (sender, mut mailbox) = mailbox(poll.registry(), Token(0), 1_024).expect(FAILED);
    criterion.bench_function("send to and take by an awake owner", |bencher| {
        bencher.iter(|| {
            sender.send(1_u64).expect(FAILED);
            assert_eq!(mailbox.take(), Some(1));
        });
    });
    assert_eq!(mailbox.wakeups(), 0);
}

fn asleep(criterion: &mut Criterion) {
    let mut poll = Poll::new().expect(FAILED);
    let mut events = Events::with_capacity(4);
    let (sender, mut mailbox) = mailbox(poll.registry(), Token(0), 1_024).expect(FAILED);
    criterion.bench_function("send to, wake up, and take by a sleeping owner", |bencher| {
        bencher.iter(|| {
            assert_eq!(mailbox.lie_down(), Rest::Sound);
            sender.send(1_u64).expect(FAILED);
            poll.poll(&mut events, Some(Duration::ZERO)).expect(FAILED);
            assert!(!events.is_empty());
            mailbox.get_up();
            assert_eq!(mailbox.take(), Some(1));
        });
    });
}

criterion_group!(benches, awake, asleep);
criterion_main!(benches);
