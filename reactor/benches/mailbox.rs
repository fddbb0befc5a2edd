//! Owns: the question what a message to a worker costs, while it is awake and across its sleep, beside the
//! same channel with a waker used plainly, and beside tokio's.
//!
//! - `plain` is a bounded crossbeam channel and a mio waker that each sender uses: what is written first.
//! - `tokio` is its bounded `mpsc` on a runtime of one thread. Asleep, the receiver has found the channel
//!   empty, and is sent to from outside of the runtime; that then polls before the receiver runs again.
//!
//! Both sides of each are on one thread: what passes between two processors is the same for all, and no
//! scheduler is measured.
//!
//! Must never: lose one; each that is sent is taken.
//!
//! Diagnostics: `cargo bench --bench mailbox`; under `cargo test --benches` each runs once.

use std::future::poll_fn;
use std::task::Poll as Polled;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Events, Poll, Token, Waker};
use rohrpost_reactor::{Rest, mailbox};
use tokio::sync::mpsc;

const FAILED: &str = "a poll, its waker and its mailbox work";

const MAIL_MAX: usize = 1_024;
/// Messages for one sleep: one, and what a busy commit thread has for a worker.
const COMPANIES: [u64; 2] = [1, 16];

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// A channel whose senders wake the owner, whatever it does.
struct Plain {
    sender: Sender<u64>,
    receiver: Receiver<u64>,
    waker: Waker,
}

impl Plain {
    fn new(poll: &Poll) -> Plain {
        let (sender, receiver) = bounded(MAIL_MAX);
        let waker = Waker::new(poll.registry(), Token(0)).expect(FAILED);
        Plain { sender, receiver, waker }
    }

    fn send(&self, mail: u64) {
        self.sender.try_send(mail).expect(FAILED);
        self.waker.wake().expect(FAILED);
    }
}

fn awake(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mailbox of an awake owner");
    group.bench_function("ours", |bencher| {
        let poll = Poll::new().expect(FAILED);
        let (sender, mut mailbox) = mailbox(poll.registry(), Token(0), MAIL_MAX).expect(FAILED);
        bencher.iter(|| {
            sender.send(1_u64).expect(FAILED);
            assert_eq!(mailbox.take(), Some(1));
        });
        assert_eq!(mailbox.wakeups(), 0);
    });
    group.bench_function("plain", |bencher| {
        let poll = Poll::new().expect(FAILED);
        let plain = Plain::new(&poll);
        bencher.iter(|| {
            plain.send(1);
            assert_eq!(plain.receiver.try_recv(), Ok(1));
        });
    });
    group.bench_function("crossbeam-channel alone", |bencher| {
        let (sender, receiver) = bounded(MAIL_MAX);
        bencher.iter(|| {
            sender.try_send(1_u64).expect(FAILED);
            assert_eq!(receiver.try_recv(), Ok(1));
        });
    });
    group.bench_function("tokio mpsc", |bencher| {
        let (sender, mut receiver) = mpsc::channel(MAIL_MAX);
        bencher.iter(|| {
            sender.try_send(1_u64).expect(FAILED);
            assert_eq!(receiver.try_recv(), Ok(1));
        });
    });
    group.finish();
}

fn asleep(criterion: &mut Criterion) {
    for company in COMPANIES {
        let title = format!("mailbox of a sleeping owner, {company} at a time");
        let mut group = criterion.benchmark_group(title);
        group.throughput(criterion::Throughput::Elements(company));
        asleep_ours(&mut group, company);
        asleep_plain(&mut group, company);
        asleep_tokio(&mut group, company);
        group.finish();
    }
}

fn asleep_ours(group: &mut Group<'_>, company: u64) {
    group.bench_function("ours", |bencher| {
        let mut poll = Poll::new().expect(FAILED);
        let mut events = Events::with_capacity(4);
        let (sender, mut mailbox) = mailbox(poll.registry(), Token(0), MAIL_MAX).expect(FAILED);
        bencher.iter(|| {
            assert_eq!(mailbox.lie_down(), Rest::Sound);
            (0..company).for_each(|mail| sender.send(mail).expect(FAILED));
            poll.poll(&mut events, Some(Duration::ZERO)).expect(FAILED);
            assert!(!events.is_empty());
            mailbox.get_up();
            (0..company).for_each(|mail| assert_eq!(mailbox.take(), Some(mail)));
        });
    });
}

fn asleep_plain(group: &mut Group<'_>, company: u64) {
    group.bench_function("plain", |bencher| {
        let mut poll = Poll::new().expect(FAILED);
        let mut events = Events::with_capacity(4);
        let plain = Plain::new(&poll);
        bencher.iter(|| {
            (0..company).for_each(|mail| plain.send(mail));
            poll.poll(&mut events, Some(Duration::ZERO)).expect(FAILED);
            assert!(!events.is_empty());
            (0..company).for_each(|mail| assert_eq!(plain.receiver.try_recv(), Ok(mail)));
        });
    });
}

fn asleep_tokio(group: &mut Group<'_>, company: u64) {
    group.bench_function("tokio mpsc", |bencher| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.expect("the system has a poll");
        let (sender, mut receiver) = mpsc::channel(MAIL_MAX);
        bencher.iter(|| {
            runtime.block_on(poll_fn(|context| {
                assert!(receiver.poll_recv(context).is_pending());
                Polled::Ready(())
            }));
            (0..company).for_each(|mail| sender.try_send(mail).expect(FAILED));
            let mut has_polled = false;
            runtime.block_on(poll_fn(|context| {
                if !std::mem::replace(&mut has_polled, true) {
                    context.waker().wake_by_ref();
                    return Polled::Pending;
                }
                for mail in 0..company {
                    assert_eq!(receiver.poll_recv(context), Polled::Ready(Some(mail)));
                }
                Polled::Ready(())
            }));
        });
    });
}

criterion_group!(benches, awake, asleep);
criterion_main!(benches);
